"""Decode bytes to text and reject what must not reach the YAML parser: other encodings, large files, control characters, and
merge conflict markers."""

import re
from collections.abc import Iterator

from optio.compiler.diagnostics import Diagnostic, diagnostic, report_first
from optio.compiler.source import Position, SourceFile, Span, position_at, span_at

MAX_BYTES = 1 << 20
# Texts, which `re` compiles where one is used first: most files have plain bytes alone.
_CONTROL = "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ufffe\uffff]"
_PLAIN_BYTES = bytes((*b"\t\n", *range(0x20, 0x7F)))
_CONFLICT = r"(?m)^(?:<{7}|>{7}|\|{7})(?=[ \n]|\Z)"
# Longer marks first, because one begins like a shorter one.
_OTHER_MARKS = {
    b"\xff\xfe\0\0": "UTF-32", b"\0\0\xfe\xff": "UTF-32", b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"
}  # fmt: skip


def decode(file: SourceFile) -> tuple[str | None, list[Diagnostic]]:
    """Return the text with LF line ends and without a byte order mark, or None with the findings."""
    if len(file.data) > MAX_BYTES:
        return None, [diagnostic("OPT014", f"is larger than {MAX_BYTES >> 20} MiB", path=file.path, hint="split the file")]
    try:
        text = file.data.decode("utf-8")
    except UnicodeDecodeError as err:
        return None, [_bad_encoding(file, err)]
    text = _normal(text)
    findings = list(_bad_characters(file, text))
    return (None if findings else text), findings


def _normal(text: str) -> str:
    text = text.removeprefix("\ufeff")
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def _bad_encoding(file: SourceFile, err: UnicodeDecodeError) -> Diagnostic:
    encoding = next((name for mark, name in _OTHER_MARKS.items() if file.data.startswith(mark)), None)
    if encoding is not None:
        return diagnostic("OPT002", f"{encoding}, not UTF-8", path=file.path, hint="save the file as UTF-8")
    before = _normal(file.data[: err.start].decode("utf-8"))
    at = position_at(before, len(before))
    byte = file.data[err.start]
    return diagnostic(
        "OPT002",
        f"byte 0x{byte:02X} at offset {err.start} is not UTF-8",
        path=file.path,
        span=Span(at, Position(at.line, at.column + 1)),
        hint="save the file as UTF-8",
    )


def _bad_characters(file: SourceFile, text: str) -> Iterator[Diagnostic]:
    path = file.path
    if file.data.translate(None, _PLAIN_BYTES) and re.search(_CONTROL, text):

        def tell(bad: re.Match[str]) -> Diagnostic:
            message = f"control character U+{ord(bad[0]):04X}"
            hint = "delete it; inside double quotes it can be written as an escape"
            return diagnostic("OPT015", message, path=path, span=span_at(text, bad.start(), bad.end()), hint=hint)

        yield from report_first(re.finditer(_CONTROL, text), tell)
    if "<<<<<<<" in text or ">>>>>>>" in text:
        marker = re.search(_CONFLICT, text)
        if marker:
            yield diagnostic(
                "OPT022",
                f"a merge conflict marker `{marker[0]}`",
                path=path,
                span=span_at(text, marker.start(), marker.end()),
                hint="finish the merge: keep one side, delete the lines with <<<<<<<, ======= and >>>>>>>",
            )
