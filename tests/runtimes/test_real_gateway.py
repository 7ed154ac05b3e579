"""Each real agent CLI through the gateway: it works as without, its cost is what the model served to the cent, it never has the
key, and a call that its budget does not allow is not made."""

from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NamedTuple

import pytest

from optio.model.run import LogLine, Run, RunState
from optio.runs.execute import Execution
from optio.wiring import Services
from tests.gateway.support import gateway
from tests.model_server import PLAIN_TEXT
from tests.runs.support import accept, claim, opened
from tests.runtimes.real_agents import AGENTS, DONE, KEY, Model, environ_of, model_server, task

CALL_USD = Decimal("0.00429")  # 1,200 fresh tokens, 300 from the cache and 40 written, at the price of claude-sonnet-4-5


@dataclass(frozen=True)
class Cell:
    """A scenario of the model, what the task adds, and the right end: reason, text, calls that the model answered."""

    scenario: str
    reason: str
    text: str | None
    calls: int
    extra: str = 'budgetUsd: "2.00"\n'


CELLS: Mapping[str, Cell] = {
    "tool": Cell("tool", "ok", DONE, 2),
    "variables": Cell("tool-env", "no_work", None, 2),
    "plain": Cell("plain", "ok", PLAIN_TEXT, 1),
    "slow": Cell("slow-2", "ok", PLAIN_TEXT, 1),
    "budget": Cell("tool", "budget", None, 0, 'budgetUsd: "0.005"\n'),
    "cut": Cell("cut", "network", None, 0),
}


class Ended(NamedTuple):
    """A run with its log, and the requests that the model got."""

    run: Run
    log: list[LogLine]
    requests: list[dict[str, Any]]


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[tuple[str, str], Future[Ended]]]:
    """All runs, four side by side."""
    with (
        model_server() as model,
        opened(tmp_path_factory.mktemp("gateway"), environ_of(model.url)) as services,
        gateway(services) as led,
        ThreadPoolExecutor(4) as pool,
    ):
        data = led.settings.data_dir
        yield {(agent, name): pool.submit(run_cell, led, model, agent, name) for name in CELLS for agent in AGENTS}
        pool.shutdown(cancel_futures=True)
        holders = [path for path in data.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]
        assert holders == [], "no file of the installation has the key"


def model_of(agent: str, name: str) -> str:
    return f"claude-sonnet-4-5-{agent}-{name}-stub-{CELLS[name].scenario}"


def run_cell(services: Services, model: Model, agent: str, name: str) -> Ended:
    run_id = accept(services, task(agent, model_of(agent, name), f"maxRetries: 0\n{CELLS[name].extra}"))
    Execution(claim(services, run_id), services.parts(), "tester")()
    log: list[LogLine] = []
    while page := services.store.log(run_id, after=log[-1].seq if log else 0, limit=1000):
        log += page
    return Ended(
        services.store.run(run_id),
        log,
        [request for request in model.requests() if request.get("model") == model_of(agent, name)],
    )


@pytest.mark.parametrize("agent", AGENTS)
@pytest.mark.parametrize("name", CELLS)
@pytest.mark.timeout(600)
def test_an_agent_works_through_the_gateway_and_costs_what_its_model_served(
    ended: Mapping[tuple[str, str], Future[Ended]], agent: str, name: str
) -> None:
    cell, (run, log, requests) = CELLS[name], ended[agent, name].result()
    # The model hangs up before its answer has begun, which only Claude Code tells from an answer that broke off.
    reason = "server_error" if (agent, name) == ("claude-code", "cut") else cell.reason
    print(f"{agent:12} {name:8} {run.reason:8} {len(requests)} calls, ${run.meter.cost}")

    assert (run.reason, run.state is RunState.COMPLETED) == (reason, reason in ("ok", "no_work")), run.message
    assert cell.text is None or (run.text or "").strip() == cell.text.strip()
    if name != "cut":
        assert len(requests) == cell.calls
        assert run.meter.cost == CALL_USD * cell.calls
    assert all(KEY in request["headers"].values() or f"Bearer {KEY}" in request["headers"].values() for request in requests)
    assert not any(KEY.encode() in line.data or b"optio_at_" in line.data for line in log)
