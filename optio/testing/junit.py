"""Test results as JUnit XML: a suite for each task file, a case for each test."""

from collections.abc import Callable, Sequence
from typing import NamedTuple
from xml.etree.ElementTree import Element, SubElement

from optio.compiler.diagnostics import Diagnostic
from optio.compiler.exchange import as_xml, printable
from optio.compiler.report import render_concise
from optio.testing.run import ExampleFailure, ExampleResult, TreeReport


class SuiteInput(NamedTuple):
    """The results of one tree, a function that shows its paths relative to the working directory, and its errors with such
    paths."""

    report: TreeReport
    path: Callable[[str], str]
    errors: Sequence[Diagnostic]


def junit(seen: Sequence[SuiteInput]) -> str:
    """Return the XML document for the results of one or more trees; files with errors become suites with one failing case."""
    return as_xml([suite for each in seen for suite in _suites(each)])


def _suites(seen: SuiteInput) -> list[Element]:
    suites = [
        _suite(seen.path(each.task.path), each.task.id, each.results, seen.path) for each in seen.report.tested if each.results
    ]
    by_file = {path: [each for each in seen.errors if each.path == path] for path in sorted({d.path for d in seen.errors})}
    return [*(_broken(path, errors) for path, errors in by_file.items()), *suites]


def _suite(path: str, task_id: str, results: Sequence[ExampleResult], seen: Callable[[str], str]) -> Element:
    broken = sum(any(failure.broken for failure in result.failures) for result in results)
    failed = sum(not result.passed for result in results) - broken
    suite = Element(
        "testsuite", name=printable(path), tests=str(len(results)), failures=str(failed), errors=str(broken), skipped="0"
    )
    for result in results:
        case = SubElement(
            suite,
            "testcase",
            classname=printable(task_id),
            name=printable(result.name),
            file=printable(path),
            line=str(result.line),
        )
        if result.failures:
            first = result.failures[0]
            wrong = SubElement(case, "error" if first.broken else "failure", message=printable(first.message))
            wrong.text = printable("\n\n".join(_text(failure, seen) for failure in result.failures))
    return suite


def _broken(path: str, errors: Sequence[Diagnostic]) -> Element:
    suite = Element("testsuite", name=printable(path), tests="1", failures="0", errors="1", skipped="0")
    line = str(errors[0].span.start.line)
    case = SubElement(suite, "testcase", classname="optio", name="the file compiles", file=printable(path), line=line)
    wrong = SubElement(case, "error", message=printable(errors[0].message))
    wrong.text = printable("\n".join(render_concise(errors)))
    return suite


def _text(failure: ExampleFailure, seen: Callable[[str], str]) -> str:
    return "\n".join([f"{seen(failure.path)}:{failure.line}: {failure.message}", *failure.diff])
