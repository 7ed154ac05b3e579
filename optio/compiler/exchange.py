"""Write findings in the formats of other programs: SARIF 2.1.0, annotations of GitHub Actions, and JUnit XML. Used by `optio
check --format` and, for JUnit, by `optio test`."""

import json
from collections.abc import Iterator, Mapping, Sequence
from urllib.parse import quote
from xml.etree.ElementTree import Element, SubElement, tostring

from optio.compiler.diagnostics import Diagnostic, Severity
from optio.compiler.report import printable_path
from optio.compiler.rules.codes import RULES
from optio.compiler.rules.rule import PROVES, Rule
from optio.compiler.source import Span
from optio.version import __version__

_SARIF_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_LEVELS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "note"}
_COMMANDS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "notice"}
# Characters that XML 1.0 does not allow; a message may hold control characters.
_NO_XML = dict.fromkeys([*range(9), 11, 12, *range(14, 32), 0xFFFE, 0xFFFF], "\ufffd")


def sarif(diagnostics: Sequence[Diagnostic], *, manual: str | None = None) -> str:
    """Return a SARIF 2.1.0 log with one run, the rules that occur in it, and the safe fixes. `manual` is the address of the
    built pages, to which each rule then links."""
    codes = sorted({d.code for d in diagnostics})
    driver = {
        "name": "optio",
        "version": __version__,
        **({} if manual is None else {"informationUri": f"{manual}/"}),
        "rules": [_rule(RULES[code], manual) for code in codes],
    }
    results = [_result(d, codes.index(d.code)) for d in diagnostics]
    run = {"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": results}
    return json.dumps({"$schema": _SARIF_SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2, ensure_ascii=False)


def manual_url(environ: Mapping[str, str]) -> str | None:
    """Return the address of the pages that the server of `OPTIO_URL` shows; None where that is not set."""
    url = environ.get("OPTIO_URL", "").rstrip("/")
    return f"{url}/docs" if url else None


def _rule(rule: Rule, manual: str | None) -> dict[str, object]:
    link = {} if manual is None else {"helpUri": f"{manual}/reference/rules/#{rule.code.lower()}"}
    examples = [("Wrong", rule.wrong), ("Right", rule.right)] if rule.wrong else []
    blocks = [f"{heading}:\n\n````yaml\n{text.rstrip()}\n````" for heading, text in examples]
    return {
        "id": rule.code,
        "name": "".join(word.capitalize() for word in rule.name.split("-")),
        "shortDescription": {"text": rule.title},
        "fullDescription": {"text": rule.why},
        "help": {
            "text": "\n\n".join([rule.why, *(f"{heading}:\n{text.rstrip()}" for heading, text in examples)]),
            "markdown": "\n\n".join([rule.why, *blocks]),
        },
        **link,
        "defaultConfiguration": {"level": _LEVELS[Severity(rule.severity)]},
        # GitHub shows the more precise rules first.
        "properties": {"precision": "very-high" if rule.certainty is PROVES else "medium"},
    }


def _result(d: Diagnostic, index: int) -> dict[str, object]:
    result: dict[str, object] = {
        "ruleId": d.code,
        "ruleIndex": index,
        "level": _LEVELS[d.severity],
        "message": {"text": _text(d)},
        "locations": [{"physicalLocation": _place(d.path, d.span)}],
    }
    if d.more:
        result["occurrenceCount"] = d.more
    if d.related:
        result["relatedLocations"] = [
            {"physicalLocation": _place(r.path, r.span), "message": {"text": r.message}} for r in d.related
        ]
    if d.fix is not None and d.fix.safe:
        replacements = [{"deletedRegion": _region(e.span), "insertedContent": {"text": e.text}} for e in d.fix.edits]
        change = {"artifactLocation": {"uri": _uri(d.path)}, "replacements": replacements}
        result["fixes"] = [{"description": {"text": d.hint or d.message}, "artifactChanges": [change]}]
    return result


def _place(path: str, span: Span) -> dict[str, object]:
    return {"artifactLocation": {"uri": _uri(path)}, "region": _region(span)}


def _uri(path: str) -> str:
    """Return the path as a URI reference; blanks, colons and other special characters are escaped."""
    return ("file://" if path.startswith("/") else "") + quote(path, errors="surrogateescape")


def _region(span: Span) -> dict[str, int]:
    (line, column), (end_line, end_column) = span
    return {"startLine": line, "startColumn": column, "endLine": end_line, "endColumn": end_column}


def github(diagnostics: Sequence[Diagnostic]) -> Iterator[str]:
    """Yield a workflow command for each finding, which GitHub shows beside the line of a pull request."""
    for d in diagnostics:
        (line, column), (end_line, end_column) = d.span
        place = {"file": d.path, "line": line, "endLine": end_line, "title": f"{d.code} {d.rule}"}
        if line == end_line:
            place |= {"col": column, "endColumn": max(column, end_column - 1)}
        shown_text = ",".join(f"{name}={_property(str(value))}" for name, value in place.items())
        yield f"::{_COMMANDS[d.severity]} {shown_text}::{_data(_text(d))}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(printable_path(text)).replace(":", "%3A").replace(",", "%2C")


def junit(diagnostics: Sequence[Diagnostic], paths: Sequence[str]) -> str:
    """Return JUnit XML with a test case for each file. Errors are its failure, and all other findings its output."""
    names = sorted({*paths, *(d.path for d in diagnostics)})
    failed = sum(any(d.path == name and d.severity is Severity.ERROR for d in diagnostics) for name in names)
    suite = Element("testsuite", name="optio check", tests=str(len(names)), failures=str(failed), errors="0", skipped="0")
    for name in names:
        case = SubElement(suite, "testcase", classname="optio", name=printable(name), file=printable(name))
        mine = [d for d in diagnostics if d.path == name]
        errors = [d for d in mine if d.severity is Severity.ERROR]
        if errors:
            failure = SubElement(case, "failure", message=printable(_text(errors[0])), type=errors[0].code)
            failure.text = printable("\n".join(map(_line, errors)))
        rest = [d for d in mine if d.severity is not Severity.ERROR]
        if rest:
            SubElement(case, "system-out").text = printable("\n".join(map(_line, rest)))
    return as_xml([suite])


def as_xml(suites: Sequence[Element]) -> str:
    """Return a JUnit document of these suites, with the sums of their counts at its root."""
    counts = {name: sum(int(suite.get(name, "0")) for suite in suites) for name in ("tests", "failures", "errors")}
    root = Element("testsuites", {name: str(count) for name, count in counts.items()})
    root.extend(suites)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + tostring(root, encoding="unicode")


def _line(d: Diagnostic) -> str:
    return f"{d.path}:{d.span.start.line}:{d.span.start.column}: {d.severity.value}: {_text(d)} [{d.code}]"


def printable(text: str) -> str:
    """Return the text with U+FFFD in the place of each character that XML 1.0 cannot hold."""
    return text.translate(_NO_XML)


def _text(d: Diagnostic) -> str:
    return d.message if d.hint is None else f"{d.message}: {d.hint}"
