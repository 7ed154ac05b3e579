"""The real agent CLIs and the results that tasks declare, on a scripted model."""

import json
from collections.abc import Iterator

import pytest

from optio.model.result import schema_for_cli, with_instructions
from optio.model.run import RunState
from optio.wiring import Services
from tests.model_server import IDLE_COMMAND, JSON_ANSWER, PLAIN_TEXT
from tests.runs.support import execute, opened
from tests.runtimes.real_agents import AGENTS, Model, environ_of, model_server, task, unpacked

SCHEMA = {
    "type": "object",
    "required": ["status", "items"],
    "properties": {"status": {"type": "string"}, "items": {"type": "array", "items": {"type": "integer"}}},
    "additionalProperties": False,
}
# With a keyword that no agent's program takes.
OWN = {**SCHEMA, "$comment": "as others call it", "patternProperties": {}}
HOLDS = {"claude-code", "codex"}


@pytest.fixture(scope="module")
def model() -> Iterator[Model]:
    with model_server() as server:
        yield server


@pytest.fixture(scope="module")
def services(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    cache = unpacked(tmp_path_factory.mktemp("copilot"))
    settings = environ_of(model.url) | {"OPTIO_SANDBOX_READ": str(cache)}
    with opened(tmp_path_factory.mktemp("results"), settings) as made:
        yield made


def declared(schema: object, extra: str = "maxRetries: 0\n") -> str:
    return f"result: {{schema: {json.dumps(schema)}}}\n{extra}"


@pytest.mark.parametrize("agent", AGENTS)
def test_a_result_that_fits_is_the_output_of_the_run(services: Services, model: Model, agent: str) -> None:
    for schema in (SCHEMA, OWN):
        held = agent in HOLDS and schema == SCHEMA
        asked = task(agent, f"{'held' if held else 'told'}-stub-json", declared(schema))
        assert (schema_for_cli(asked.spec) is not None) is held

        run = execute(services, asked)

        assert (run.state, run.reason) == (RunState.COMPLETED, "ok"), run.message
        # The server fills in a schema that it is given.
        assert run.output == ({"status": "stub", "items": []} if held else JSON_ANSWER)


@pytest.mark.parametrize("agent", AGENTS)
def test_prose_is_no_result(services: Services, agent: str) -> None:
    run = execute(services, task(agent, "stub-plain", declared(OWN)))

    assert (run.state, run.reason, run.text) == (RunState.FAILED, "result_invalid", PLAIN_TEXT)
    assert run.message.startswith(f"the answer is not JSON. It begins with: {PLAIN_TEXT}")


@pytest.mark.parametrize("agent", AGENTS)
def test_a_result_of_another_form_says_where(services: Services, agent: str) -> None:
    other = {**OWN, "properties": {**OWN["properties"], "items": {"type": "array", "items": {"type": "string"}}}}  # type: ignore[dict-item]

    run = execute(services, task(agent, "stub-json", declared(other)))

    assert (run.state, run.reason) == (RunState.FAILED, "result_invalid")
    assert run.message.startswith("/items/0 must be a string; /items/1 must be a string; /items/2 must be a string")


@pytest.mark.parametrize("agent", AGENTS)
def test_an_agent_reports_that_there_is_no_work_by_the_command_that_its_prompt_gives(services: Services, agent: str) -> None:
    asked = task(agent, "stub-tool-idle", declared(SCHEMA))
    assert IDLE_COMMAND in with_instructions("", asked.spec).splitlines()

    run = execute(services, asked)

    assert (run.state, run.reason, run.text) == (RunState.COMPLETED, "no_work", "WHY"), run.message
    assert run.meter.tool_calls == 1
