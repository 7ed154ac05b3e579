"""What comes of one thing that happens."""

from datetime import UTC, datetime
from typing import Any

import pytest

from optio.model.example import Example
from optio.model.trigger import ScheduleConfig
from optio.testing.trial import ImpossibleTest, slot_of
from tests.testing.support import OPENED, TRIAGE, delivery, result


@pytest.mark.parametrize(
    ("test", "verdict"),
    [
        (delivery(), "accepted"),
        (delivery(signature="valid"), "accepted"),
        (delivery(signature="missing"), "unsigned"),
        (delivery(signature="wrong"), "unsigned"),
        (delivery(headers={}), "filtered"),
        (delivery(headers={"x-github-event": "push"}), "filtered"),
        (delivery(webhook="closed"), "filtered"),
        (delivery(webhook="untitled"), "invalid"),
        (delivery(webhook="torn"), "unreadable"),
        (delivery(headers={"X-GitHub-Event": "issues", "Content-Type": "text/plain"}), "unsupported"),
        (delivery(headers={"Content-Encoding": "gzip"}, signature="wrong"), "unsupported"),
        ({"params": {"NUMBER": 1, "TITLE": "a"}}, "accepted"),
        ({"params": {"NUMBER": "1", "TITLE": "a"}}, "invalid"),
        ({"params": {"NUMBER": 1, "TITLE": "a", "MORE": 1}}, "invalid"),
        ({"schedule": "2026-01-05T02:30"}, "accepted"),
    ],
)
def test_a_verdict_is_the_servers_word(test: dict[str, Any], verdict: str) -> None:
    payloads = {
        "closed": {**OPENED, "action": "closed"},
        "untitled": {**OPENED, "issue": {"number": 7}},
        "torn": b'{"action": "opened"',
    }

    tried = result({**test, "expect": {"verdict": verdict}}, **payloads)

    assert tried.failures == ()
    assert tried.trial is not None
    assert tried.trial.judgement.verdict == verdict


@pytest.mark.parametrize(
    ("test", "why"),
    [
        (delivery(headers={"X-GitHub-Event": "push"}), "the event is `push`, and `events` has issues"),
        (delivery(headers={}), "`X-GitHub-Event` names no event, and `events` has issues"),
        (delivery(webhook="closed"), 'the `when` filter does not hold: `@.action` is "closed"'),
        (delivery(webhook="empty"), "the `when` filter does not hold: `@.action` is missing"),
    ],
)
def test_what_is_filtered_says_what_came_and_what_is_asked_for(test: dict[str, Any], why: str) -> None:
    tried = result(
        {**test, "expect": {"verdict": "accepted"}}, closed={**OPENED, "action": "closed"}, empty={"issue": OPENED["issue"]}
    )

    assert [failure.message for failure in tried.failures] == [f"expected `accepted`, got `filtered`: {why}"]


def test_a_run_has_its_parameters_and_its_prompt() -> None:
    tried = result(delivery())

    assert tried.trial is not None
    assert tried.trial.judgement.params == {"NUMBER": 7, "TITLE": "Slow", "LABEL": "bug"}
    assert tried.trial.judgement.prompt == "#7 Slow (bug)"


@pytest.mark.parametrize("scheme", ["standard-webhooks", "optio", "slack", "stripe", "gitlab"])
@pytest.mark.parametrize("signature", ["valid", "missing", "wrong", "stale"])
def test_a_time_stamp_may_be_stale_where_the_scheme_has_one(scheme: str, signature: str) -> None:
    verdict = {"valid": "accepted", "stale": "stale"}.get(signature, "unsigned")
    payload = {**OPENED, "type": "issues", "event": {"type": "issues"}}
    headers = {"X-Optio-Event": "issues", "X-Gitlab-Event": "issues"}
    test = {"webhook": "named", "headers": headers, "signature": signature, "expect": {"verdict": verdict}}

    assert result(test, task=TRIAGE.replace("scheme: github", f"scheme: {scheme}"), named=payload).passed


def test_a_header_of_the_test_replaces_the_one_that_was_made() -> None:
    test = delivery(headers={"X-GitHub-Event": "issues", "X-Hub-Signature-256": "sha256=00"}, expect={"verdict": "unsigned"})

    assert result(test).passed


def test_a_trigger_that_is_switched_off_is_tried_as_if_it_were_on() -> None:
    off = TRIAGE.replace("  - type: webhook\n", "  - type: webhook\n    enabled: false\n")

    assert result(delivery(), task=off).passed


def slot(at: str, expression: str = "30 2 * * *", zone: str = "Europe/Berlin") -> datetime:
    config = ScheduleConfig.of({"cronExpression": expression, "timezone": zone})
    return slot_of(config, Example.of({"schedule": at, "expect": {}}))


@pytest.mark.parametrize(
    ("at", "expression", "utc"),
    [
        ("2026-01-05T02:30", "30 2 * * *", "2026-01-05T01:30"),
        ("2026-01-05T02:30+01:00", "30 2 * * *", "2026-01-05T01:30"),
        ("2026-01-05T01:30Z", "30 2 * * *", "2026-01-05T01:30"),
        ("2026-01-05", "@daily", "2026-01-04T23:00"),
        # The clocks skip 02:30 that night, and have it twice that one.
        ("2026-03-29T03:00", "30 2 * * *", "2026-03-29T01:00"),
        ("2026-10-25T02:30", "30 2 * * *", "2026-10-25T00:30"),
        ("2026-10-25T02:30", "30 * * * *", "2026-10-25T00:30"),
        ("2026-10-25T02:30+01:00", "30 * * * *", "2026-10-25T01:30"),
    ],
)
def test_a_time_is_read_on_the_clock_of_the_schedule(at: str, expression: str, utc: str) -> None:
    assert slot(at, expression) == datetime.fromisoformat(utc).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("at", "said"),
    [
        ("2026-01-05T02:31", "the next is 2026-01-06T02:30, a Tuesday"),
        ("2026-01-05T02:30Z", "the next is 2026-01-06T02:30, a Tuesday"),
        (
            "2026-03-29T02:30",
            "does not fire at `2026-03-29T02:30`: the clocks skip 02:30 then, and the next is 2026-03-29T03:00, a Sunday",
        ),
        ("2026-10-25T02:31", "`2026-10-25T02:31`: the next is 2026-10-26T02:30, a Monday"),
    ],
)
def test_a_time_at_which_nothing_fires_is_said_with_the_next_one(at: str, said: str) -> None:
    with pytest.raises(ImpossibleTest) as caught:
        slot(at)

    assert said in str(caught.value)
