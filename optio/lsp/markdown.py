"""Code in Markdown: text from files, which may hold any characters, in blocks and spans that it cannot end."""

import re

MAX_LENGTH = 4_000


def code_block(text: str, language: str = "") -> str:
    """Return a code block with a fence longer than any row of backquotes in the text; cut at `MAX_LENGTH` characters."""
    if len(text) > MAX_LENGTH:
        text = text[:MAX_LENGTH] + "\n..."
    longest = max((len(ticks) for ticks in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.rstrip(chr(10))}\n{fence}"


def inline_code(text: str) -> str:
    """Return a code span on one line, cut at 200 characters."""
    line = " ".join(text.split())
    if len(line) > 200:
        line = line[:197] + "..."
    if "`" not in line:
        return f"`{line}`"
    longest = max(len(ticks) for ticks in re.findall("`+", line))
    fence = "`" * (longest + 1)
    return f"{fence} {line} {fence}"
