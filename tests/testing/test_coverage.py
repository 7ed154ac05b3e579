"""What no test has tried."""

from typing import Any

import pytest

from optio.testing.coverage import Coverage, coverage, percentage
from tests.testing.support import OPENED, TRIAGE, delivery, report

BY_HAND = {"the manual trigger starts a run"}
BY_CLOCK = {"the schedule trigger starts a run", "`NUMBER` is filled by the schedule", "`TITLE` is filled by the schedule"}
DELIVERED = {
    "the webhook trigger starts a run",
    "`NUMBER` is filled by the webhook",
    "`TITLE` is filled by the webhook",
    "the event `issues` starts a run",
    "`when` lets a delivery through",
}
LABELLED = {"`LABEL` is filled by the webhook"}
DEFAULT = {"the default of `LABEL` is needed"}
REFUSED = {"a run without `NUMBER` is refused", "a run without `TITLE` is refused"}
FILTERED = {"`when` filters a delivery"}
OTHER_EVENT = {"an unlisted event is filtered"}
UNSIGNED = {"a delivery with a wrong signature is refused"}
ALL = BY_HAND | BY_CLOCK | DELIVERED | LABELLED | DEFAULT | REFUSED | FILTERED | OTHER_EVENT | UNSIGNED
RUN = {"NUMBER": 1, "TITLE": "a", "LABEL": "b"}


def of(*tests: dict[str, Any], task: str = TRIAGE) -> Coverage:
    payloads = {
        "closed": {**OPENED, "action": "closed"},
        "unlabelled": {**OPENED, "issue": {"number": 7, "title": "Slow"}},
        "untitled": {**OPENED, "issue": {"number": 7}},
    }
    (tested,) = report(*tests, task=task, **payloads).tested
    return coverage(tested)


@pytest.mark.parametrize(
    ("tests", "tried"),
    [
        ([], set()),
        ([{"params": RUN, "expect": {}}], BY_HAND),
        ([{"params": {"NUMBER": 1, "TITLE": "a"}, "expect": {}}], BY_HAND | DEFAULT),
        ([{"params": {}, "expect": {"verdict": "invalid"}}], REFUSED),
        ([{"params": {"NUMBER": "x"}, "expect": {"verdict": "invalid"}}], {"a run without `TITLE` is refused"}),
        ([{"schedule": "2026-01-05T02:30", "expect": {}}], BY_CLOCK | DEFAULT),
        ([{"schedule": "2026-01-05T02:31", "expect": {}}], set()),
        ([delivery()], DELIVERED | LABELLED),
        ([delivery(), delivery(webhook="unlabelled")], DELIVERED | LABELLED | DEFAULT),
        ([delivery(webhook="closed", expect={"verdict": "filtered"})], FILTERED | {"the event `issues` starts a run"}),
        ([delivery(headers={}, expect={"verdict": "filtered"})], OTHER_EVENT),
        ([delivery(signature="wrong", expect={"verdict": "unsigned"})], UNSIGNED),
        # It is tried also where it is not what was expected.
        ([delivery(expect={"params": {}})], DELIVERED | LABELLED),
    ],
)
def test_what_a_test_tries(tests: list[dict[str, Any]], tried: set[str]) -> None:
    found = of(*tests)

    assert {item.text for item in found.items} == ALL
    assert {item.text for item in found.items if item.tried} == tried


def test_a_payload_that_is_refused_tries_no_mapping() -> None:
    found = of(delivery(), delivery(webhook="untitled", expect={"error": "/params/TITLE"}))

    assert "a run without `TITLE` is refused" in {item.text for item in found.items if item.tried}


def test_an_item_stands_where_it_is_written() -> None:
    lines = TRIAGE.splitlines()

    stands = {item.text: lines[item.line - 1].strip() for item in of().items}

    assert stands["the schedule trigger starts a run"] == "- type: schedule"
    assert stands["the default of `LABEL` is needed"].startswith("LABEL: {type: string")
    assert stands["a run without `TITLE` is refused"] == "required: [NUMBER, TITLE]"
    assert stands["`when` filters a delivery"].startswith("when:")
    assert stands["an unlisted event is filtered"] == "events: [issues]"
    assert stands["`LABEL` is filled by the webhook"].startswith("paramMapping: {NUMBER: $.issue.number")


def test_a_default_inside_an_object_counts_once_the_object_came_without_it() -> None:
    task = """\
name: Nested
agentRuntime: command
command: [/bin/cat]
promptTemplate: "{{WHERE}}"
paramsSchema:
  type: object
  properties:
    WHERE: {type: object, properties: {ZONE: {type: string, default: UTC, maxLength: 20}}}
  additionalProperties: false
"""

    without = of({"params": {}, "expect": {}}, task=task)
    within = of({"params": {"WHERE": {}}, "expect": {}}, task=task)

    assert [(item.text, item.tried) for item in without.items] == [("the default of `WHERE.ZONE` is needed", False)]
    assert [item.tried for item in within.items] == [True]


def test_a_task_with_nothing_to_try_is_covered() -> None:
    bare = "name: Bare\nagentRuntime: command\ncommand: [/bin/true]\npromptTemplate: go\n"

    assert of(task=bare).items == ()
    assert percentage(()) == 100
