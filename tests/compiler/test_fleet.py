"""What all tasks come to together, and what each may spend under a policy."""

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optio.compiler.diagnostics import Diagnostic
from optio.compiler.incremental import IncrementalCompiler
from optio.compiler.pipeline import compile_tree
from optio.compiler.source_tree import MemoryTree

TASK = "name: {name}\nagentRuntime: claude-code\npromptTemplate: Say hello\n{more}"
SCHEDULE = 'triggers:\n  - type: schedule\n    config: {{cronExpression: "{cron}"{zone}}}\n'


def task(name: str, cron: str = "0 9 * * *", *, more: str = "", zone: str = "") -> str:
    return TASK.format(name=name, more=more) + SCHEDULE.format(cron=cron, zone=zone and f", timezone: {zone}")


def found(files: dict[str, str], code: str) -> list[Diagnostic]:
    return [d for d in compile_tree(MemoryTree(files)).diagnostics if d.code == code]


# Money


def policy(text: str) -> dict[str, str]:
    return {"_policy.yaml": f"type: policy\n{text}\n"}


@pytest.mark.parametrize(
    ("more", "cron", "day", "month"),
    [
        ('budgetUsd: "1.00"\n', "0 9 * * *", "1.00", "30.00"),
        ('budgetUsd: "1.00"\nmodel: claude-haiku-4-5\n', "0 9 * * *", "1.41", "42.30"),
        ('budgetUsd: "1.00"\nmaxRetries: 0\n', "0 9 * * 1", "1.00", "5.00"),
        ('budgetUsd: "0.10"\nmaxRetries: 2\n', "* * * * *", "144.00", "4320.00"),
        ('budgetUsd: "1.00"\nstartLimit: {count: 3, per: 24h}\n', "0 * * * *", "3.00", "90.00"),
        ('budgetUsd: "1.00"\nmaxRetries: 0\n', "0 0 29 2 *", "1.00", "1.00"),
    ],
)
def test_the_amount_that_is_just_enough_is_enough_and_a_cent_less_is_not(more: str, cron: str, day: str, month: str) -> None:
    for key, code, amount in (("dayUsd", "OPT603", day), ("monthUsd", "OPT313", month)):
        less = f"{Decimal(amount) - Decimal('0.01'):.2f}"
        for scope, its_code in (("ceilings", code), ("fleet", "OPT708")):
            enough, short = (policy(f'{scope}: {{{key}: "{most}"}}') for most in (amount, less))
            files = {"a.yaml": task("A", cron, more=more)}
            assert found({**files, **enough}, its_code) == []
            assert len(found({**files, **short}, its_code)) == 1


def test_the_limit_that_is_proposed_is_one_that_keeps_it_there() -> None:
    files = {"a.yaml": task("A", "*/10 * * * *", more='budgetUsd: "0.75"\n'), **policy('ceilings: {monthUsd: "100.00"}')}
    (diagnostic,) = found(files, "OPT313")
    assert diagnostic.hint is not None
    limit = diagnostic.hint.split("`")[1]

    assert limit == "startLimit: {count: 4, per: 24h}"
    assert found({**files, "a.yaml": files["a.yaml"] + limit + "\n"}, "OPT313") == []


def test_a_program_without_a_budget_need_not_cost_anything_and_an_agent_may() -> None:
    ceilings = policy('ceilings: {dayUsd: "1.00"}\nfleet: {dayUsd: "1.00"}')
    program = task("A").replace("agentRuntime: claude-code", 'agentRuntime: command\ncommand: ["true"]')

    assert found({"a.yaml": program, **ceilings}, "OPT603") == found({"a.yaml": program, **ceilings}, "OPT708") == []
    assert (
        len(found({"a.yaml": task("A"), **ceilings}, "OPT603")) == len(found({"a.yaml": task("A"), **ceilings}, "OPT708")) == 1
    )


def test_who_is_off_or_started_by_hand_spends_nothing() -> None:
    ceilings = policy('ceilings: {dayUsd: "0.01"}\nfleet: {dayUsd: "0.01"}')
    off = task("A", more="enabled: false\n")
    by_hand = TASK.format(name="B", more="triggers: [{type: manual}]\n")

    files = {"a.yaml": off, "b.yaml": by_hand, **ceilings}

    assert compile_tree(MemoryTree(files)).diagnostics == ()


def test_two_files_with_one_id_are_counted_once() -> None:
    one = task("A", more='budgetUsd: "1.00"\nmaxRetries: 0\n')

    assert found({"a.yaml": one, "b.yaml": one, **policy('fleet: {dayUsd: "1.00"}')}, "OPT708") == []


def test_a_task_that_may_spend_more_than_its_policy_allows_is_not_served() -> None:
    files = {"a.yaml": task("A", more='budgetUsd: "5.00"\n'), **policy('ceilings: {dayUsd: "1.00"}')}

    assert dict(compile_tree(MemoryTree(files)).registry.tasks) == {}


def test_all_tasks_together_over_the_cap_are_an_error_of_the_policy_and_served() -> None:
    files = {"a.yaml": task("A", more='budgetUsd: "5.00"\n'), **policy('fleet: {dayUsd: "1.00"}')}

    compilation = compile_tree(MemoryTree(files))

    assert (list(compilation.registry.tasks), compilation.ok) == (["a"], False)


def test_a_webhook_under_a_cap_needs_a_limit() -> None:
    hook = "triggers: [{type: webhook, config: {path: scan-4f1c, secret: {name: S}}}]\nparamsSchema: {type: object}\n"
    body = TASK.format(name="A", more='budgetUsd: "2.00"\n') + hook
    caps = policy('ceilings: {dayUsd: "9.00"}\nfleet: {dayUsd: "9.00"}')

    (own,) = found({"a.yaml": body, **caps}, "OPT603")
    (shared,) = found({"a.yaml": body, **caps}, "OPT708")

    assert own.hint is not None
    assert "`startLimit: {count: 4, per: 24h}`" in own.hint
    assert shared.message == "`a` has no `startLimit`, so the spending of all tasks has no limit"
    assert found({"a.yaml": body + "startLimit: {count: 4, per: 24h}\n", **caps}, "OPT603") == []


CRONS = st.sampled_from(["0 9 * * *", "*/5 * * * *", "0 9 * * 1", "0 0 31 * *", "61 * * * *"])
MORE = st.sampled_from(["", 'budgetUsd: "1.00"\n', 'budgetUsd: "9.99"\nmaxRetries: 0\n', "enabled: false\n"])
POLICIES = st.sampled_from(["", 'fleet: {dayUsd: "5.00"}', 'fleet: {monthUsd: "90.00"}\nceilings: {dayUsd: "2.00"}'])
TREES = st.tuples(st.lists(st.tuples(CRONS, MORE), max_size=4), POLICIES)


@given(st.lists(TREES, min_size=2, max_size=5))
@settings(max_examples=40, deadline=None)
def test_a_running_server_finds_the_same_after_any_change(trees: list[tuple[list[tuple[str, str]], str]]) -> None:
    compiler = IncrementalCompiler()
    for tasks, text in trees:
        files = {f"t{n}.yaml": task(f"T{n}", cron, more=more) for n, (cron, more) in enumerate(tasks)}
        tree = MemoryTree({**files, **(policy(text) if text else {})})

        assert compiler.compile(tree).diagnostics == compile_tree(tree).diagnostics
