"""Markdown: texts of files in it, which may hold anything."""

import re

MAX_LENGTH = 4_000


def code_block(text: str, language: str = "") -> str:
    """A block of code. No text can end it before its own end."""
    if len(text) > MAX_LENGTH:
        text = text[:MAX_LENGTH] + "\n..."
    longest = max((len(ticks) for ticks in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.rstrip(chr(10))}\n{fence}"


def inline_code(text: str) -> str:
    """A word or a line as code."""
    one = " ".join(text.split())
    if len(one) > 200:
        one = one[:197] + "..."
    if "`" not in one:
        return f"`{one}`"
    longest = max(len(ticks) for ticks in re.findall("`+", one))
    fence = "`" * (longest + 1)
    return f"{fence} {one} {fence}"
