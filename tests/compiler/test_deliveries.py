"""The table of what senders send is whole, and a dry run of a filter over it agrees with the query language."""

import json
from pathlib import Path
from typing import Any

import pytest

from optio.compiler.payloads import deliveries
from optio.compiler.payloads.deliveries import deliveries_of, event_names, read_type, table_of
from optio.compiler.payloads.filter_tests import leaf_tests, parse_filter, truths
from optio.compiler.payloads.near_paths import explain_missing_path

SENDERS: dict[str, Any] = json.loads(Path(deliveries.__file__).with_name("deliveries.json").read_text())


@pytest.mark.parametrize("sender", SENDERS)
def test_each_type_can_be_read_and_each_object_is_there(sender: str) -> None:
    objects = SENDERS[sender]["objects"]
    fields = [*objects.values()]
    for event in SENDERS[sender]["events"].values():
        if isinstance(event, dict):
            fields += [event["fields"], *event["actions"].values()]
        assert event is None or isinstance(event, dict) or event in objects

    types = [read_type(typed) for each in fields for typed in each.values()]
    items = [read_type(each.item) for each in types if each.kind == "array"]

    kinds = {"any", "array", "boolean", "integer", "number", "object", "string"}
    assert {each.kind for each in (*types, *items)} <= kinds
    assert {each.object for each in (*types, *items) if each.object} <= objects.keys()
    assert set(SENDERS[sender]["closed"]) <= objects.keys()


def starting(when: str, *events: str, scheme: str = "github") -> list[str | None]:
    part = parse_filter(when)
    return [each.action or each.event for each in deliveries_of(scheme, events) if True in truths(part, each)]


@pytest.mark.parametrize(
    ("when", "event", "actions"),
    [
        ("@.action == 'opened'", "issues", ["opened"]),
        ("@.action == 'opened' || @.action == 'closed'", "issues", ["closed", "opened"]),
        ("@.action == 'opened' && @.action == 'closed'", "issues", []),
        ("@.action == 'opened' && @.label.name == 'bug'", "issues", []),
        ("@.action == 'labeled' && @.label.name == 'bug'", "issues", ["labeled"]),
        ("@.ref == 'main'", "push", []),
        ("@.ref == 'refs/heads/main'", "push", ["push"]),
        ("match(@.ref, 'main')", "push", []),
        ("match(@.ref, 'refs/(heads|tags)/v.*')", "push", ["push"]),
        ("search(@.ref, '^v')", "push", []),
        ("@.deleted == 'false'", "push", []),
        ("!(@.deleted == true) && !@.release", "push", ["push"]),
        ("length(@.commits) > '20'", "push", []),
        ("@.head_commit == null", "push", ["push"]),
        ("@.commits[?@.message == 'x']", "push", ["push"]),
    ],
)
def test_a_filter_lets_through_the_deliveries_for_which_it_can_be_true(when: str, event: str, actions: list[str]) -> None:
    assert sorted(map(str, starting(when, event))) == actions


def test_of_an_open_table_only_what_it_shows_is_known() -> None:
    assert starting("@.object_attributes.action == 'opened'", "Merge Request Hook", scheme="gitlab") == []
    assert starting("@.object_attributes.brand_new == 'x'", "Merge Request Hook", scheme="gitlab") == ["Merge Request Hook"]


def test_a_number_is_not_true() -> None:
    assert starting("(@.a == 1 || @.b == 2) && @.a == true", scheme="") == [None]


@pytest.mark.parametrize(
    "text", ["(" * 3_000 + "@.a" + ")" * 3_000, "!" * 3_000 + "@.a", "@.a && " * 500 + "@.b", "((", "@.a &&", ""]
)
def test_a_hostile_filter_is_parsed_in_no_time(text: str) -> None:
    assert list(leaf_tests(parse_filter(text)))


@pytest.mark.parametrize(
    ("path", "event", "meant"),
    [
        ("issue.titel", "issues", "$.issue.title"),
        ("github.event.issue.title", "issues", "$.issue.title"),
        ("repo.name", "push", "$.repository.name"),
        ("issue.labels.name", "issues", "$.issue.labels[0].name"),
    ],
)
def test_a_path_that_finds_nothing_gets_the_path_that_is_meant(path: str, event: str, meant: str) -> None:
    near = explain_missing_path(tuple(path.split(".")), deliveries_of("github", (event,)))

    assert near is not None
    assert f"`{meant}`" in near.hint


def test_a_sender_of_your_own_has_no_table() -> None:
    assert table_of("hmac") is None
    assert list(event_names("optio")) == []
