"""A plan as a whole: broken files, sums, words."""

import json
from datetime import UTC, datetime
from functools import cache

from hypothesis import example, given, settings
from hypothesis import strategies as st

from optio.compiler.source_tree import DirectoryTree, MemoryTree
from optio.model.effect import EffectKind
from optio.plan import document, markdown, report
from optio.plan.compare import Plan, compare_sides
from optio.plan.effect import Forecast
from optio.plan.side import Side, compile_side
from tests.plan.test_changes import CHANGES, NAMES, seen

NOW = datetime(2026, 1, 2, 12, tzinfo=UTC)
TASK = "name: {name}\nagentRuntime: claude-code\npromptTemplate: Say hello\n"


def task(name: str, more: str = "") -> str:
    return TASK.format(name=name) + more


def plan(before: dict[str, str], after: dict[str, str], now: datetime = NOW) -> Plan:
    return compare_sides(compile_side(MemoryTree(before)), compile_side(MemoryTree(after)), Forecast(now=now))


def statuses(before: dict[str, str], after: dict[str, str]) -> list[str]:
    return [f"{change.status} {change.task.id}" for change in plan(before, after).changes]


def test_a_broken_task_is_not_removed_though_its_file_has_moved() -> None:
    assert statuses({"a.yaml": task("Hello")}, {"b.yaml": task("Hello", "x: 1\n")}) == ["broken hello"]
    assert statuses({"a.yaml": task("Hello")}, {"b.yaml": task("Hello", "x: [\n")}) == ["broken hello"]

    (change,) = plan({"a.yaml": task("Hello")}, {"b.yaml": task("Hello", "x: 1\n")}).changes
    assert change.path(lambda path, gone=False: f"{'old' if gone else 'new'}/{path}") == "new/b.yaml"


def test_a_broken_task_is_not_added_when_it_is_mended_though_its_file_has_moved() -> None:
    assert statuses({"b.yaml": task("Hello", "x: [\n")}, {"a.yaml": task("Hello")}) == ["mended hello"]


def test_the_next_night_of_which_the_clocks_skip_a_time_is_told() -> None:
    schedule = "triggers: [{{type: schedule, config: {{cronExpression: '30 {hour} * * *', timezone: Europe/Berlin}}}}]\n"
    before, after = ({"a.yaml": task("A", schedule.format(hour=hour))} for hour in (1, 2))

    (change,) = plan(before, after, datetime(2026, 3, 15, 12, tzinfo=UTC)).changes

    assert "Sun 2026-03-29: the clocks of Europe/Berlin skip 02:30, so it starts at Sun 2026-03-29 03:00 CEST" in [
        line for effect in change.effects for line in effect.lines
    ]


def test_a_task_without_triggers_that_is_disabled_needs_no_review() -> None:
    (change,) = plan({"a.yaml": task("A")}, {"a.yaml": task("A", "enabled: false\n")}).changes

    assert [(effect.kind, effect.weight.value, effect.text) for effect in change.effects] == [
        (EffectKind.TASK_DISABLED, "info", "it has no schedule and no webhook: people start it as before")
    ]


def test_a_broken_template_breaks_what_extends_it_and_nothing_else() -> None:
    files = {"a.yaml": task("A", "extends: base.yaml\n"), "b.yaml": task("B"), "base.yaml": "type: template\nmaxTurns: 3\n"}

    assert statuses(files, {**files, "base.yaml": "type: template\nmaxTurn: 3\n"}) == ["broken a"]


def test_a_file_that_is_new_and_broken_changes_nothing() -> None:
    there = plan({"a.yaml": task("A")}, {"a.yaml": task("A"), "b.yaml": task("B", "x: 1\n")})

    assert there.summary == "no effect in the files without errors; 1 error"


def test_a_change_of_defaults_is_told_of_each_task() -> None:
    before = {"a.yaml": task("A"), "team/b.yaml": task("B")}

    assert statuses(before, {**before, "team/_defaults.yaml": "timeout: 5m\n"}) == ["changed b"]


def test_the_same_trees_have_no_effect_whatever_is_broken_in_them() -> None:
    files = {"a.yaml": task("A"), "b.yaml": task("B", "x: 1\n"), "_policy.yaml": "type: policy\nfailOn: [danger]\n"}

    same = plan(files, files)

    assert (same.summary, same.effects, same.cosmetic) == ("no effect in the files without errors; 1 error", (), ())


TREES = st.tuples(st.sampled_from(NAMES), st.sampled_from(["before", "after"]))


@cache
def known(name: str, which: str) -> Side:
    return compile_side(DirectoryTree(CHANGES / name / which))


def ids(plan: Plan, status: str) -> set[str]:
    return {change.task.id for change in plan.changes if change.status == status}


@given(TREES, TREES)
@example(("a-budget-of-a-program-taken-away", "before"), ("a-budget-of-a-program-taken-away", "after"))
@example(("a-file-with-errors", "before"), ("a-file-with-errors", "after"))
@example(("a-policy-that-cannot-be-read", "before"), ("a-policy-that-cannot-be-read", "after"))
@example(("a-new-task-beyond-a-ceiling", "before"), ("a-new-task-beyond-a-ceiling", "after"))
@settings(max_examples=100)
def test_any_tree_can_be_held_against_any_other_and_what_comes_goes_when_it_is_turned_round(
    one: tuple[str, str], other: tuple[str, str]
) -> None:
    there, back = (compare_sides(known(*a), known(*b), Forecast(now=NOW)) for a, b in ((one, other), (other, one)))

    for made in (there, back):
        first, *_ = report.render_lines(made, seen, verbose=True)
        assert first == made.summary
        assert markdown.render_markdown(made, seen).startswith(f"### {made.summary}\n")
        assert json.loads(json.dumps(document.plan_document(made, seen)))["summary"]["text"] == made.summary
    # A new task that is refused for its money is told, and nothing is lost when it goes again.
    if not any(effect.kind is EffectKind.MONEY_UP for made in (there, back) for effect in made.policy):
        assert there.summary.startswith("no effect") == back.summary.startswith("no effect")
    # Under a policy that cannot be read every task is broken, which is told once.
    if not ids(there, "broken") | ids(back, "broken") and not any(known(*each).policy_unreadable for each in (one, other)):
        assert ids(there, "added") == ids(back, "removed")
        assert (there.before, there.after) == (back.after, back.before)
