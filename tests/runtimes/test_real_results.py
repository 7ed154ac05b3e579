"""The real agent CLIs that hold a result to its schema by themselves, on a scripted model.

What becomes of a result that stays wrong is decided without the agent, so no other shows it. Each agent mends one in
`test_real_sessions.py`, and says that there is no work in `test_real_agents.py`.
"""

import json
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from optio.model.registry import CompiledTask
from optio.model.result import schema_for_cli
from optio.model.run import Run, RunState
from optio.wiring import Services
from tests.model_server import PLAIN_TEXT
from tests.runs.support import accept, execution, opened
from tests.runtimes.real_agents import environ_of, model_server, task

SCHEMA = {
    "type": "object",
    "required": ["status", "items"],
    "properties": {"status": {"type": "string"}, "items": {"type": "array", "items": {"type": "integer"}}},
    "additionalProperties": False,
}
# With a keyword that no agent's program takes.
OWN = {**SCHEMA, "$comment": "as others call it", "patternProperties": {}}
OTHER = {**OWN, "properties": {"status": {"type": "string"}, "items": {"type": "array", "items": {"type": "string"}}}}
HOLDS = ("claude-code", "codex")


# The model that each agent asks, and the schema that its task declares.
CASES: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "fits": ("fits-stub-json", SCHEMA),
    "prose": ("stub-plain", OWN),
    "of another form": ("other-stub-json", OTHER),
}
SIDE_BY_SIDE = 6
Runs = Mapping[tuple[str, str], "Future[Run]"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    """A run of each case with each of these agents, all begun."""
    with (
        model_server() as model,
        opened(tmp_path_factory.mktemp("results"), environ_of(model.url)) as services,
        ThreadPoolExecutor(SIDE_BY_SIDE) as pool,
    ):
        cells = [(agent, case) for case in CASES for agent in HOLDS]
        yield {cell: pool.submit(run_to_its_end, services, asked(*cell)) for cell in cells}
        pool.shutdown(cancel_futures=True)


def run_to_its_end(services: Services, asked: CompiledTask) -> Run:
    """All attempts of a run, of which each further one may begin at once."""
    run_id = accept(services, asked)
    while not (run := services.store.run(run_id)).state.terminal:
        execution(services, run_id)()
    return run


def asked(agent: str, case: str) -> CompiledTask:
    model, schema = CASES[case]
    return task(agent, model, f"maxRetries: 0\nresult: {{schema: {json.dumps(schema)}}}\n")


@pytest.mark.parametrize("agent", HOLDS)
def test_a_result_that_the_program_holds_to_its_schema_is_the_output_of_the_run(runs: Runs, agent: str) -> None:
    assert schema_for_cli(asked(agent, "fits").spec) is not None

    run = runs[agent, "fits"].result()

    assert (run.state, run.reason, run.attempt) == (RunState.COMPLETED, "ok", 1), run.message
    # The server fills in a schema that it is given.
    assert run.output == {"status": "stub", "items": []}


@pytest.mark.parametrize("agent", HOLDS)
def test_prose_is_no_result_and_the_agent_is_told_so_once_in_its_session(runs: Runs, agent: str) -> None:
    run = runs[agent, "prose"].result()

    assert (run.state, run.reason, run.text) == (RunState.FAILED, "result_invalid", PLAIN_TEXT)
    assert run.message.startswith(f"the answer is not JSON. It begins with: {PLAIN_TEXT}")
    assert (run.attempt, run.retries) == (2, 0)
    assert run.meter.usage.total == 1540 * run.attempt, "one model call each"


@pytest.mark.parametrize("agent", HOLDS)
def test_a_result_of_another_form_says_where(runs: Runs, agent: str) -> None:
    run = runs[agent, "of another form"].result()

    assert (run.state, run.reason) == (RunState.FAILED, "result_invalid")
    assert run.message.startswith("/items/0 must be a string; /items/1 must be a string; /items/2 must be a string")
