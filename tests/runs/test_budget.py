"""A run's budget over all its attempts: what is left goes to the next one, and with nothing left there is none."""

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optio.model.money import RunBudget, dollars
from optio.model.registry import CompiledTask
from optio.model.retry import GiveUp, RetryAt, decide_retry
from optio.model.run import LogKind, LogLine, Outcome, Run, RunState
from optio.model.usage import CostSource, Meter, Usage
from optio.runs.execute import Execution
from optio.runs.runtime_guard import GuardedReader
from optio.runs.spending_limits import SpendingLimits
from optio.runtimes.base import AttemptContext, ProcessEnd
from optio.runtimes.command import Command
from optio.wiring import Services
from tests.runs.support import accept, claim, execute, execution, log_of
from tests.runs.test_execute import python_task
from tests.support import command_task

NOW = datetime(2026, 1, 5, 8, tzinfo=UTC)
LOST = Outcome(ok=False, reason="lost", again=True, infrastructure=True)
FAILED = Outcome(ok=False, reason="exit_code", again=True)
# Three calls of 50 cents, then a failure.
DEAR = """
for n in range(1, 4):
    print("call", n, "of", os.environ["OPTIO_BUDGET_USD"], flush=True)
    report(type="usage", model="m", output=n, costUsd=f"{n * 0.5:.2f}")
    time.sleep(0.3)
sys.exit(1)
"""

calls = st.lists(st.integers(0, 300), max_size=6)


@given(st.integers(0, 500), st.integers(0, 5), st.lists(st.tuples(calls, st.booleans()), min_size=1, max_size=12))
def test_attempts_spend_the_budget_and_one_call_at_most(
    budget: int, retries: int, attempts: Sequence[tuple[list[int], bool]]
) -> None:
    task = command_task("true", extra=f'budgetUsd: "{budget / 100:.2f}"\nmaxRetries: {retries}\n')
    run = Run(**{**dict.fromkeys(Run.__dataclass_fields__), "retries": 0, "max_retries": retries, "infrastructure_retries": 0})
    spent, reason = Decimal(0), ""
    for costs, is_lost in attempts:
        rest = RunBudget.of(task.spec, spent).left
        assert rest is not None
        assert Command().invoke(task, "", {}, AttemptContext(spent=spent)).env["OPTIO_BUDGET_USD"] == f"{rest:f}"
        made, outcome = attempt(task, costs, spent, LOST if is_lost else FAILED)
        spent += made
        decision = decide_retry(run, outcome, now=NOW, jitter=0, budget=RunBudget.of(task.spec, spent))
        if isinstance(decision, GiveUp):
            reason = decision.reason or outcome.reason
            break
        assert not RunBudget.of(task.spec, spent).is_spent
        run = again(run, outcome)

    dearest = max((cost for costs, _ in attempts for cost in costs), default=0)
    assert spent <= (Decimal(budget) + dearest) / 100
    if spent > Decimal(budget) / 100 and run.retries < retries and run.infrastructure_retries < 5:
        assert reason == "budget"


def attempt(task: Any, costs: Sequence[int], spent: Decimal, end: Outcome) -> tuple[Decimal, Outcome]:
    """What an attempt costs that makes these calls, and how it ends."""
    reader, limits, total = GuardedReader(Command(), task), SpendingLimits(task, RunBudget.of(task.spec, spent)), 0
    for cost in costs:
        total += cost
        entry = {"type": "usage", "model": "m", "output": total, "costUsd": f"{total / 100:.2f}"}
        reader.line("result", json.dumps(entry).encode(), NOW)
        stopped = limits.stop_reason(reader)
        if stopped is not None:
            return Decimal(total) / 100, stopped
    return Decimal(total) / 100, end


def again(run: Run, outcome: Outcome) -> Run:
    if outcome.infrastructure:
        return replace(run, infrastructure_retries=run.infrastructure_retries + 1)
    return replace(run, retries=run.retries + 1)


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries need not wait."""
    monkeypatch.setattr("optio.model.retry.FIRST_DELAY", timedelta(0))


def test_attempts_of_a_dollar_and_a_half_end_at_two_dollars_and_one_call(services: Services, at_once: None) -> None:
    run_id = accept(services, python_task(DEAR, 'budgetUsd: "2.00"\nmaxRetries: 3\n'))
    states = []
    while not services.store.run(run_id).state.terminal:
        execution(services, run_id)()
        states.append(services.store.run(run_id).state)
    run = services.store.run(run_id)

    assert states == [RunState.QUEUED, RunState.FAILED]
    assert (run.reason, run.attempt) == ("budget", 2)
    assert run.meter.cost is not None
    assert Decimal("2.00") < run.meter.cost <= Decimal("2.50")
    assert run.message.startswith(f"stopped at {dollars(run.meter.cost)} of $2.00")
    assert log_of(services, run_id, LogKind.OUTPUT)[-1] == b"call 2 of 0.50"
    assert run.text == "call 1 of 0.50\ncall 2 of 0.50"


def test_an_attempt_that_ends_with_nothing_left_is_not_repeated(services: Services) -> None:
    source = 'report(type="usage", model="m", output=1, costUsd="2.00"); print("half"); sys.exit(1)'
    run = execute(services, python_task(source, 'budgetUsd: "2.00"\nmaxRetries: 3\n'))

    assert (run.state, run.reason, run.text) == (RunState.FAILED, "budget", "half")
    assert run.message == "exit code 1 (no retry: $2.00 of the run's budget of $2.00 is spent)"
    (attempt,) = services.store.attempts(run.id)
    assert attempt.reason == "exit_code"


def test_whoever_retries_by_hand_grants_the_budget_once_more(services: Services) -> None:
    run = execute(services, python_task(DEAR, 'budgetUsd: "1.00"\n'))
    services.store.retry(run.id, "me")
    granted = claim(services, run.id)
    Execution(granted, services.parts(), "tester")()
    ended = services.store.run(run.id)

    assert (run.reason, ended.reason, granted.spent) == ("budget", "budget", 0)
    assert log_of(services, run.id, LogKind.OUTPUT)[-3:] == [f"call {n} of 1.00".encode() for n in (1, 2, 3)]
    assert ended.meter.cost == Decimal("3.00")


def test_a_retry_that_was_queued_with_nothing_left_begins_no_agent(services: Services, at_once: None) -> None:
    run_id = accept(services, command_task("echo begun", extra='budgetUsd: "1.00"\nmaxRetries: 3\n'))
    first = claim(services, run_id)
    meter = Meter(cost=Decimal("1.00"))
    # As a version decides for which a budget is an attempt's.
    services.store.finish(first.run.lease, FAILED, meter, 1, None, lambda *_: RetryAt(NOW))
    execution(services, run_id)()
    run = services.store.run(run_id)

    assert (run.state, run.reason, run.meter.cost) == (RunState.FAILED, "budget", Decimal("1.00"))
    assert log_of(services, run_id, LogKind.OUTPUT) == []


@pytest.mark.parametrize(
    ("limit", "loop", "reason"),
    [
        ('budgetUsd: "0.05"\n', 'report(type="usage", model="m", output=n, costUsd=f"{n / 100:.2f}")', "budget"),
        ("maxTurns: 3\n", 'report(type="turn")', "max_turns"),
        ("timeout: 1s\n", "pass", "timeout"),
    ],
)
def test_what_an_agent_said_before_it_was_stopped_is_its_output(services: Services, limit: str, loop: str, reason: str) -> None:
    source = f"""
print("found so far", flush=True)
for n in range(1, 1000):
    {loop}
    time.sleep(0.05)
"""
    run = execute(services, python_task(source, limit))

    assert (run.reason, run.text) == (reason, "found so far")
    assert [attempt.text for attempt in services.store.attempts(run.id)] == ["found so far"]


class Reporting:
    """A reader of another package, which reports usage and knows nothing of limits: each line of output is a model call of 50
    cents."""

    plain: frozenset[str] = frozenset()
    longest = 1000
    text = None

    def __init__(self) -> None:
        self.meter = Meter(cost=Decimal(0), cost_source=CostSource.CLI, turns=0)

    def line(self, stream: str, data: bytes, at: datetime) -> list[LogLine]:
        cost, turns = self.meter.cost, self.meter.turns
        assert cost is not None
        assert turns is not None
        self.meter = replace(self.meter, cost=cost + Decimal("0.50"), turns=turns + 1, usage=Usage(output=turns + 1))
        return [LogLine(kind=LogKind.OUTPUT, data=data, at=at)]

    def stop(self) -> None:
        return None

    def closing(self, at: datetime) -> list[LogLine]:
        return []

    def outcome(self, ended: ProcessEnd) -> Outcome:
        return Outcome(ok=ended.code == 0, reason="ok" if ended.code == 0 else "signal")


class Plugin(Command):
    """A runtime of another package."""

    def reader(self, task: CompiledTask) -> Any:
        return Reporting()


@pytest.mark.parametrize(
    ("extra", "reason", "message", "calls"),
    [
        ('budgetUsd: "1.25"\n', "budget", "stopped at $1.50 of $1.25", 3),
        ("maxTurns: 2\n", "max_turns", "stopped after 2 turns", 3),
        ('budgetUsd: "9.00"\nmaxTurns: 9\n', "ok", "", 5),
    ],
)
def test_a_reader_that_only_reports_usage_is_held_to_the_limits_of_its_task(
    services: Services, extra: str, reason: str, message: str, calls: int
) -> None:
    task = command_task("for n in 1 2 3 4 5; do echo $n; sleep 0.3; done", extra=f"{extra}maxRetries: 0\n")

    run = execute(services, task, runtimes={"command": Plugin()})

    assert (run.reason, run.message.startswith(message)) == (reason, True)
    assert (run.meter.turns, run.meter.cost) == (calls, calls * Decimal("0.50"))
