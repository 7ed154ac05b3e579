"""Write values as YAML that YAML 1.1 and 1.2 readers read alike. The inverse of `document.parse`."""

import re
from collections.abc import Iterator
from typing import Any

from optio.compiler.yaml.scalars import scalar, yaml_1_1_reading

# Only texts that no reader can misread are written without quotes.
_PLAIN = r"[A-Za-z/$](?:[A-Za-z0-9_./$@*+()&=;,' -]*[A-Za-z0-9_./$@*+()&=;,'-])?"
_LETTERS_FOR_WORDS = ("y", "Y", "n", "N")
# Characters that a reader would change: control characters, other line breaks, byte order marks, surrogates.
_ODD = "[\x00-\t\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]"
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}


def dump(value: Any) -> str:
    """Return a whole document for a value of JSON types."""
    return "\n".join(block(value)) + "\n"


def block(value: Any) -> list[str]:
    """Return the lines of a value in block style, as they stand below a key."""
    if isinstance(value, dict) and value:
        return [line for key, inner in value.items() for line in entry(key, inner)]
    if isinstance(value, list) and value:
        return [line for inner in value for line in item(inner)]
    first, rest = inline(value)
    return [first, *rest]


def entry(key: str, value: Any) -> list[str]:
    """Return `key: value` as lines, with the key in the first column."""
    first, rest = inline(value)
    return [f"{_text(key)}:{first and ' ' + first}", *rest]


def item(value: Any) -> list[str]:
    """Return `- value` as lines, with the dash in the first column."""
    if isinstance(value, (dict, list)) and value:
        first, *rest = block(value)
        return [f"- {first}", *indented(rest, 2)]
    first, rest = inline(value)
    return [f"- {first}", *rest]


def inline(value: Any) -> tuple[str, list[str]]:
    """Return the text behind `key:`, and the lines below it, indented relative to the key."""
    if isinstance(value, (dict, list)) and value:
        return "", list(indented(block(value), 2))
    if isinstance(value, str):
        return _literal(value) or (_text(value), [])
    return flow(value), []


def flow(value: Any) -> str:
    """Return the value on one line, in flow style, so that it may also stand between braces."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_in_flow(key)}: {flow(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(flow(inner) for inner in value) + "]"
    if isinstance(value, str):
        return _in_flow(value)
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    # A YAML 1.1 reader reads 1e+16 without a point as text.
    return re.sub(r"^(-?\d+)e", r"\1.0e", repr(value))


def indented(lines: list[str], by: int) -> Iterator[str]:
    """Yield the lines moved to the right by `by` columns; empty lines stay empty."""
    return (" " * by + line if line else line for line in lines)


def _in_flow(text: str) -> str:
    return _text(text) if "," not in text else _quoted(text)


def _text(text: str) -> str:
    plain = (
        re.fullmatch(_PLAIN, text)
        and scalar(text) == text
        and yaml_1_1_reading(text) is None
        and text not in _LETTERS_FOR_WORDS
    )
    return text if plain else _quoted(text)


def _quoted(text: str) -> str:
    if "\n" in text or re.search(_ODD, text) or ("'" in text and '"' not in text and "\\" not in text):
        return '"' + "".join(_escape(c) for c in text) + '"'
    return "'" + text.replace("'", "''") + "'"


def _escape(character: str) -> str:
    if character in _ESCAPES:
        return _ESCAPES[character]
    if not re.match(_ODD, character):
        return character
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _literal(text: str) -> tuple[str, list[str]] | None:
    """Return `|` and the lines below it. Returns None for one line, and for a text that would not be read back unchanged."""
    body = text.rstrip("\n")
    lines = body.split("\n")
    if "\n" not in text or not body or re.search(_ODD, text) or any(line.isspace() for line in lines):
        return None
    ending = len(text) - len(body)
    indicator = "2" if text[0] in " \n" else ""
    chomping = {0: "-", 1: ""}.get(ending, "+")
    return f"|{indicator}{chomping}", [*indented(lines, 2), *[""] * (ending - 1)]
