"""Each real agent CLI at the limits of its task, with a model that answers soon and does not come to an end: it goes at most
one model call beyond them, or does not start, and its transcript has each turn once."""

from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple

import pytest

from optio.model.agent_event import TurnEnd
from optio.model.run import Attempt, LogLine, Run, RunState
from optio.runs.execute import Execution
from optio.server.read_models import transcript
from optio.wiring import Services
from tests.runs.support import accept, claim, opened
from tests.runtimes.real_agents import AGENTS, Model, environ_of, model_server, task

CALL_USD = Decimal("0.00429")  # 1,200 fresh tokens, 300 from the cache and 40 written, at the price of claude-sonnet-4-5
BUDGET_USD = Decimal("0.005")


@dataclass(frozen=True)
class Case:
    """A limit, the end of a model's name, the reason of the end, and the most requests that the model may have got."""

    limit: str
    scenario: str
    reason: str
    most_requests: int
    is_priced: bool = True


CASES: Mapping[str, Case] = {
    # Three turns, and one call that has begun.
    "turns": Case("maxTurns: 3\n", "loop-0.8", "max_turns", 4),
    # The second call crosses the budget.
    "budget": Case(f'budgetUsd: "{BUDGET_USD}"\n', "loop-0.8", "budget", 3),
    "unpriced": Case('budgetUsd: "2.00"\n', "loop-0.8", "unpriced", 0, is_priced=False),
    "uncounted": Case('budgetUsd: "2.00"\n', "uncounted", "unpriced", 2),
    # The agents repeat an answer that broke off by themselves; Optio does not begin another attempt.
    "cut": Case('budgetUsd: "2.00"\n', "cut", "network", 99),
}


class Ended(NamedTuple):
    """A run at its limit, with its attempts, its log, and the requests that the model answered."""

    run: Run
    attempts: list[Attempt]
    log: list[LogLine]
    requests: int


def model_of(agent: str, name: str) -> str:
    case = CASES[name]
    maker = "claude-sonnet-4-5" if case.is_priced else "our-own-model"
    return f"{maker}-{agent}-{name}-stub-{case.scenario}"


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[tuple[str, str], Future[Ended]]]:
    """All runs, four side by side."""
    with (
        model_server() as model,
        opened(tmp_path_factory.mktemp("limits"), environ_of(model.url)) as services,
        ThreadPoolExecutor(4) as pool,
    ):
        yield {(agent, name): pool.submit(run_at_limit, services, model, agent, name) for name in CASES for agent in AGENTS}
        pool.shutdown(cancel_futures=True)


def run_at_limit(services: Services, model: Model, agent: str, name: str) -> Ended:
    run_id = accept(services, task(agent, model_of(agent, name), "maxRetries: 2\n" + CASES[name].limit))
    Execution(claim(services, run_id), services.parts(), "tester")()
    log: list[LogLine] = []
    while page := services.store.log(run_id, after=log[-1].seq if log else 0, limit=1000):
        log += page
    asked = [each for each in model.requests() if each.get("model") == model_of(agent, name)]
    return Ended(services.store.run(run_id), services.store.attempts(run_id), log, len(asked))


@pytest.mark.parametrize("agent", AGENTS)
@pytest.mark.parametrize("name", CASES)
@pytest.mark.timeout(600)
def test_a_limit_holds_within_one_call_or_the_run_does_not_start(
    ended: Mapping[tuple[str, str], Future[Ended]], agent: str, name: str
) -> None:
    case, (run, attempts, log, requests) = CASES[name], ended[agent, name].result()
    turns = [line.turn for line in log if isinstance(line.event, TurnEnd)]
    print(f"{agent:12} {name:10} {run.reason:10} {requests} calls, {run.meter.turns} turns, ${run.meter.cost}, turns {turns}")

    assert (run.state, run.reason, len(attempts)) == (RunState.FAILED, case.reason, 1), run.message
    assert requests <= case.most_requests
    shown = [turn.number for turn in transcript.turns(log) if turn.number is not None]
    assert turns == sorted(set(turns)), "each turn ends once, in order"
    assert shown == sorted(set(shown)), "each turn is shown once, in order"
    if name == "turns":
        # Copilot's fourth call may be answered sooner than its process is stopped.
        assert run.meter.turns in ((3, 4) if agent == "copilot" else (3,))
    if name == "budget":
        assert run.meter.cost is not None
        # The call that crosses the budget, and with Copilot one that has begun before its usage is told.
        assert BUDGET_USD < run.meter.cost <= BUDGET_USD + CALL_USD * (2 if agent == "copilot" else 1)
    if name in ("unpriced", "uncounted", "cut"):
        assert run.meter.cost is None
    if name == "unpriced":
        assert (attempts[0].agent_started_at, log) == (None, [])
        assert "OPTIO_PRICES" in run.message
    if name == "cut":
        assert "no retry: nobody knows what the attempt has cost" in run.message
