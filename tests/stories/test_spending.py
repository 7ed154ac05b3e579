"""Twenty runs at once whose model would spend for ever, while their gateway is killed again and again: none exceeds its budget,
and each ends by it, with what its agent has said."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from optio.model.run import RunState
from optio.runs.execute import Execution
from optio.runs.gateway_access import GatewayRoute
from tests.runs.support import accept, claim, opened
from tests.runtimes.real_agents import KEY, environ_of, model_server, task
from tests.support import Dev, free_port

RUNS, KILLS = 20, 10
BUDGET = Decimal(1)
MODEL = "claude-sonnet-4-5-stub-spend"


@pytest.mark.heavy
@pytest.mark.timeout(600)
def test_no_run_exceeds_its_budget_though_its_gateway_is_killed_ten_times(tmp_path: Path) -> None:
    port = free_port()
    with model_server() as model:
        environ = environ_of(model.url) | {"OPTIO_DATA_DIR": str(tmp_path / "data"), "OPTIO_GATEWAY_PORT": str(port)}
        gateway = Dev(tmp_path, environ=environ, command="gateway")
        gateway.start(ready=False)
        with opened(tmp_path / "data", environ) as services:
            led = replace(services, gateway=GatewayRoute(f"http://127.0.0.1:{port}", "required"))
            # Patient, because a gateway is away for a second at a time.
            spender = task("claude-code", MODEL, f'budgetUsd: "{BUDGET}"\nmaxRetries: 0\n', CLAUDE_CODE_MAX_RETRIES="10")
            claims = [claim(led, accept(led, spender)) for _ in range(RUNS)]
            with ThreadPoolExecutor(RUNS) as pool:
                ends = [pool.submit(Execution(each, led.parts(), "tester")) for each in claims]
                for _ in range(KILLS):
                    time.sleep(1.5)
                    gateway.kill()
                    gateway.start(ready=False)
                for end in ends:
                    end.result(300)
            runs = [led.store.run(each.run.id) for each in claims]
            totals = [led.store.call_totals(run.id, run.attempt) for run in runs]
            logs = [led.store.log(run.id, limit=1000) for run in runs]
        gateway.stop()
        usages = [request["answer"]["usage"] for request in model.requests() if "usage" in request.get("answer", {})]
    for run, total in zip(runs, totals, strict=True):
        assert total is not None
        print(f"{run.reason:12} ${run.meter.cost} {total.calls} calls, {total.open} lost")

    assert [run.state for run in runs] == [RunState.FAILED] * RUNS
    assert {run.reason for run in runs} == {"budget"}
    assert all(run.meter.cost is not None and run.meter.cost <= BUDGET * Decimal("1.01") for run in runs)
    # All that was served is accounted for, also what came when its gateway had died.
    served = sum(Decimal(3 * usage["fresh"] + 15 * usage["output"]) / 1_000_000 for usage in usages)
    print(f"{len(usages)} answers of ${served}")
    assert sum(run.meter.cost or 0 for run in runs) >= served > 0
    assert all(logs)
    assert not any(KEY.encode() in line.data for log in logs for line in log)
