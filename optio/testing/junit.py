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


def junit(inputs: Sequence[SuiteInput]) -> str:
    """Return the XML document for the results of one or more trees; files with errors become suites with one failing case."""
    return as_xml([suite for suite_input in inputs for suite in _suites(suite_input)])


def _suites(suite_input: SuiteInput) -> list[Element]:
    suites = [
        _suite(suite_input.path(tested.task.path), tested.task.id, tested.results, suite_input.path)
        for tested in suite_input.report.tested
        if tested.results
    ]
    by_file = {
        path: [tested for tested in suite_input.errors if tested.path == path]
        for path in sorted({d.path for d in suite_input.errors})
    }
    return [*(_broken(path, errors) for path, errors in by_file.items()), *suites]


def _suite(path: str, task_id: str, results: Sequence[ExampleResult], display_path: Callable[[str], str]) -> Element:
    broken_count = sum(any(failure.broken for failure in result.failures) for result in results)
    failed = sum(not result.passed for result in results) - broken_count
    suite = Element(
        "testsuite", name=printable(path), tests=str(len(results)), failures=str(failed), errors=str(broken_count), skipped="0"
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
            wrong.text = printable("\n\n".join(_text(failure, display_path) for failure in result.failures))
    return suite


def _broken(path: str, errors: Sequence[Diagnostic]) -> Element:
    suite = Element("testsuite", name=printable(path), tests="1", failures="0", errors="1", skipped="0")
    line = str(errors[0].span.start.line)
    case = SubElement(suite, "testcase", classname="optio", name="the file compiles", file=printable(path), line=line)
    wrong = SubElement(case, "error", message=printable(errors[0].message))
    wrong.text = printable("\n".join(render_concise(errors)))
    return suite


def _text(failure: ExampleFailure, display_path: Callable[[str], str]) -> str:
    return "\n".join([f"{display_path(failure.path)}:{failure.line}: {failure.message}", *failure.diff])
