"""Bodies of requests: read by what their types declare, and refused with the places that do not fit."""

from typing import Any

import pytest

from optio.errors import Invalid
from optio.server.bodies.runs import ActOnRuns, BulkFilter
from optio.server.request_body import as_body


def test_a_body_has_the_members_of_its_object_and_defaults_for_the_others() -> None:
    body = as_body({"act": "retry", "where": {"minCost": "0.5"}}, ActOnRuns)

    assert body == ActOnRuns(act="retry", where=BulkFilter(min_cost="0.5"), dry_run=False)


@pytest.mark.parametrize(
    ("document", "problems"),
    [
        ({}, {"/act": "is required"}),
        ({"act": "retry", "dryrun": True}, {"/dryrun": "is unknown"}),
        ({"act": "retry", "dryRun": 1, "runs": {}}, {"/dryRun": "Expected `bool`, got `int`", "/runs": "Expected"}),
        ({"act": "retry", "where": {"status": "failed"}}, {"/where/status": "is unknown"}),
        ({"act": "retry", "where": {"minCost": "-1"}}, {"/where/minCost": "Expected `str` matching regex"}),
    ],
)
def test_every_member_that_does_not_fit_is_named_by_its_place(document: dict[str, Any], problems: dict[str, str]) -> None:
    with pytest.raises(Invalid) as refusal:
        as_body(document, ActOnRuns)

    assert {problem.pointer: problem.message for problem in refusal.value.problems}.keys() == problems.keys()
    assert all(problem.message.startswith(problems[problem.pointer]) for problem in refusal.value.problems)
