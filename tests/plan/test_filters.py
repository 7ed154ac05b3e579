"""Filters held against each other: what is called the same is the same, and what lets more pass is told."""

import random
from itertools import product
from typing import Any

import pytest

from optio.model.mapping import compile_when
from optio.plan.filters import compare_filters

OPENED = "@.action == 'opened'"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("@.a.b == 'x'", """( @["a"]['b']=="x" )"""),
        ("@.a == 'x'", "'x' == $[0].a"),
        ("@.a == 1", "@.a == 1.0"),
        ("@.n >= 5", "5 <= @.n"),
        ("@.n <= 5", "@.n < 5 || @.n == 5"),
        ("!(@.a == 1 || @.b)", "@.a != 1 && !@.b"),
        ("@.a == 1 && (@.b == 2 || @.c == 3)", "@.c == 3 && @.a == 1 || @.a == 1 && @.b == 2"),
        (OPENED, "match(@.action, 'opened')"),
        (OPENED, f"@.action && {OPENED}"),
        ("@.labels[?@.name == 'run']", "@['labels'][?'run' == @['name']]"),
        (None, "@"),
        (None, "@.a == 1 || @.a != 1"),
    ],
)
def test_what_says_the_same_is_the_same(old: str | None, new: str) -> None:
    assert compare_filters(old, new) is None
    assert compare_filters(new, old) is None


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (None, OPENED),
        (OPENED, f"{OPENED} && @.draft == false"),
        (OPENED, "@.action == 'closed'"),
        (OPENED, f"{OPENED} || @.action == 'reopened'"),
        (OPENED, f"{OPENED} && @.action == 'closed'"),
        (f"{OPENED} && @.draft == false", f"{OPENED} && @.draft != true"),
        ("@.action != 'closed'", OPENED),
        ("@.n > 5", "@.n > 10"),
        ("@.labels[?@.name == 'run']", "@.labels[?@.name == 'go']"),
    ],
)
def test_another_filter_is_no_danger_by_itself(old: str | None, new: str) -> None:
    found = compare_filters(old, new)

    assert found is not None
    assert found.danger is None


@pytest.mark.parametrize(
    ("old", "new", "danger"),
    [
        (OPENED, None, "without a filter, every delivery of these events starts a run"),
        (OPENED, "@", "the filter is always true"),
        (OPENED, f"{OPENED} || @.action != 'opened'", "the filter is always true"),
        (OPENED, "@.action != 'opened' || @.action != 'closed'", "the filter is always true"),
        (OPENED, f"{OPENED} || 1 == 1", "the filter is always true"),
        (OPENED, "@.action <= @.action", "the filter is always true"),
        (OPENED, "@.action", "every delivery that has `@.action` passes the filter"),
        (OPENED, f"{OPENED} || @.repository", "every delivery that has `@.repository` passes the filter"),
        (OPENED, "search(@.action, '.*')", "the filter is true for nearly every delivery"),
        (OPENED, "@.number > 0", "the filter is true for nearly every delivery"),
        ("@.labels[?@.name == 'run']", "@.labels[*]", "every delivery that has `@.labels[*]` passes the filter"),
        (OPENED, "@.action && @.repository", "the filter is true for nearly every delivery"),
        (OPENED, "@.action != 'opened'", "the condition on `@.action` is reversed"),
        (OPENED, f"!({OPENED})", "the condition on `@.action` is reversed"),
        (OPENED, "@.action != 'nothing'", "the condition on `@.action` is reversed"),
        ("@.action != 'closed'", "@.action == 'closed'", "the condition on `@.action` is reversed"),
        (f"{OPENED} && @.draft == false", f"{OPENED} && @.draft == true", "the condition on `@.draft` is reversed"),
        ("@.n > 5", "@.n < 5", "the condition on `@.n` is reversed"),
        ("@.pull_request", "!@.pull_request", "the condition on `@.pull_request` is reversed"),
        ("match(@['a b'], 'v.*')", "!match(@['a b'], 'v.*')", "the condition on `@['a b']` is reversed"),
        ("@.labels[?@.name == 'run']", "@.labels[?@.name != 'run']", "the condition on `@.labels[*].name` is reversed"),
        (f"{OPENED} && @.draft == false", OPENED, "the condition on `@.draft` is gone"),
        (f"{OPENED} && @.draft == false", "@.draft == false", "the condition on `@.action` is gone"),
        ("@.a != 'x' && @.a != 'y'", "@.a != 'x'", "the condition on `@.a` is gone"),
        ("@.a == 1 && @.b == 2", "@.a == 1 || @.b == 2", "the condition on `@.a` and `@.b` is no longer required"),
    ],
)
def test_what_lets_pass_what_was_kept_out_is_a_danger(old: str, new: str | None, danger: str) -> None:
    found = compare_filters(old, new)

    assert found is not None
    assert found.danger == danger


def test_a_filter_of_many_conditions_ends_soon_and_is_not_called_the_same() -> None:
    many = " || ".join(f"@.f{number} == {number}" for number in range(60))

    assert compare_filters(many, f"{many} || @.f0 == 1") is not None
    assert compare_filters(f"({many})", many) is None


ATOMS = ["@.a == 'x'", "@.a != 'x'", "'y' == @.a", "@.b", "$[0].b == 1", "@.b < 1", "@['b'] >= 1", "@.a == @.b", "!@.a"]
PAYLOADS = [
    {name: value for name, value in (("a", a), ("b", b)) if value is not ...}
    for a, b in product(("x", "y", "z", 1, None, ...), (0, 1, 1.0, 2, "x", True, None, ...))
]


def written(rng: random.Random, depth: int) -> str:
    if not depth or rng.random() < 0.3:
        return rng.choice(ATOMS)
    if rng.random() < 0.2:
        return f"!({written(rng, depth - 1)})"
    return f"({written(rng, depth - 1)} {rng.choice(['&&', '||'])} {written(rng, depth - 1)})"


def passing(text: str | None) -> list[Any]:
    return [text is None or compile_when(text).holds(payload) for payload in PAYLOADS]


@pytest.mark.parametrize("seed", range(20))
def test_what_is_called_the_same_lets_the_same_pass(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(60):
        old, new = written(rng, 3), rng.choice([written(rng, 3), None])
        if compare_filters(old, new) is None:
            assert passing(old) == passing(new), (old, new)
        if "always" in str(compare_filters(old, new)):
            assert all(passing(new)), (old, new)
