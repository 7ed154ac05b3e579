"""Results as programs of CI read them."""

from xml.etree.ElementTree import Element, fromstring

from optio.compiler.diagnostics import Severity
from optio.testing.junit import SuiteInput, junit
from optio.testing.run import TreeReport
from tests.testing.support import TRIAGE, delivery, report


def document(found: TreeReport) -> Element:
    errors = [d for d in found.compilation.diagnostics if d.severity is Severity.ERROR]
    return fromstring(junit([SuiteInput(found, lambda path: f"tasks.d/{path}", errors)]))  # noqa: S314 - our own


def counts(element: Element) -> tuple[str | None, ...]:
    return tuple(element.get(name) for name in ("tests", "failures", "errors"))


def test_a_file_is_a_suite_and_a_test_a_case() -> None:
    root = document(
        report(
            delivery(name="taken"),
            delivery(name="not so\ufffe named", expect={"params": {"NUMBER": 8}}),
            {"name": "too early", "schedule": "2026-01-05T02:29", "expect": {}},
        )
    )

    (suite,) = root
    assert counts(root) == counts(suite) == ("3", "1", "1")
    assert suite.get("name") == "tasks.d/triage.yaml"
    assert [case.get("name") for case in suite] == ["taken", "not so\ufffd named", "too early"]
    assert {case.get("classname") for case in suite} == {"triage"}
    assert [[wrong.tag for wrong in case] for case in suite] == [[], ["failure"], ["error"]]
    (failure,) = suite[1]
    assert failure.get("message") == "the parameters differ"
    assert failure.text is not None
    assert failure.text.startswith("tasks.d/triage.yaml:27: the parameters differ\n--- expected\n+++ got\n")
    assert '-  "NUMBER": 8' in failure.text


def test_a_file_with_errors_is_a_case_of_its_own() -> None:
    root = document(report(delivery(), task=TRIAGE.replace("type: integer", "type: number of it")))

    file, tests = root
    assert counts(root) == ("2", "0", "2")
    assert [case.get("name") for case in file] == ["the file compiles"]
    assert "[OPT205 invalid-schema]" in (file[0][0].text or "")
    assert tests[0][0].get("message") == "cannot be run: the file has errors"
