"""Runs of the real agent CLIs, recorded by the gateway and repeated from their recordings: without a model, without a key."""

import json
import subprocess
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from tests import forked
from tests.runtimes.real_agents import AGENTS, KEY, SPARED, environ_of, model_server, task_text
from tests.support import ROOT, Dev, free_port

RECORDING = {"OPTIO_GATEWAY": "required", "OPTIO_GATEWAY_RECORD": "runs", "OPTIO_MAX_WORKFLOW_CONCURRENT": "4"}
CELLS = [*((agent, "tool") for agent in AGENTS), ("claude-code", "cut"), ("codex", "cut")]


def text_of(agent: str, scenario: str, prompt: str = "hello") -> str:
    text = task_text(agent, f"claude-sonnet-4-5-stub-{scenario}", "maxRetries: 0\n", prompt, env=SPARED.get(agent))
    return f"id: {agent}-{scenario}\n{text}"


class Recorded:
    """A server whose runs were recorded, and whose model is gone."""

    def __init__(self, dev: Dev, runs: Mapping[tuple[str, str], str]) -> None:
        self.dev, self.runs = dev, runs

    def replay(self, run_id: str, *options: str) -> subprocess.CompletedProcess[str]:
        environment = {name: text for name, text in self.dev.environment().items() if not name.startswith("OPTIO_SECRET_")}
        return forked.run(("test", "--replay", run_id, *options), ROOT, environment, b"")


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorded]:
    directory = tmp_path_factory.mktemp("recorded")
    with model_server() as model:
        dev = Dev(directory, environ=environ_of(model.url) | RECORDING | {"OPTIO_GATEWAY_PORT": str(free_port())})
        for agent, scenario in CELLS:
            dev.write(f"{agent}-{scenario}.yaml", text_of(agent, scenario))
        dev.start()
        runs = {}
        for agent, scenario in CELLS:
            dev.until_served(f"{agent}-{scenario}")
            runs[agent, scenario] = dev.post(f"/api/tasks/{agent}-{scenario}/runs", {}).json["id"]
        for run_id in runs.values():
            dev.until_ended(run_id, within=400)
    try:
        yield Recorded(dev, runs)
    finally:
        dev.stop()


@pytest.fixture(scope="module")
def replayed(recorded: Recorded) -> Iterator[Mapping[tuple[str, str], Future[subprocess.CompletedProcess[str]]]]:
    with ThreadPoolExecutor(2) as pool:
        yield {cell: pool.submit(recorded.replay, run_id, "--format", "json") for cell, run_id in recorded.runs.items()}
        pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize(("agent", "scenario"), CELLS)
@pytest.mark.timeout(600)
def test_a_recorded_run_is_repeated_without_a_model(
    recorded: Recorded, replayed: Mapping[tuple[str, str], Future[subprocess.CompletedProcess[str]]], agent: str, scenario: str
) -> None:
    run = recorded.dev.get(f"/api/workflow-runs/{recorded.runs[agent, scenario]}").json
    answer = replayed[agent, scenario].result()
    print(answer.stdout, answer.stderr)

    assert answer.returncode == 0
    document = json.loads(answer.stdout)
    assert document["same"]
    assert document["result"]["after"]["reason"] == run["reason"]
    assert len(document["requests"]) == run["attempts"][0]["modelCalls"] > 0


@pytest.mark.timeout(600)
def test_a_changed_prompt_is_told_with_its_place(recorded: Recorded) -> None:
    recorded.dev.write("claude-code-tool.yaml", text_of("claude-code", "tool", "another prompt"))

    answer = recorded.replay(recorded.runs["claude-code", "tool"])
    print(answer.stdout, answer.stderr)

    assert answer.returncode == 1
    assert "request 1  differs from call 1 at messages[0].content" in answer.stdout
    assert "hello" in answer.stdout
    assert "another prompt" in answer.stdout
    assert "result     as recorded\nthe run differs from its recording" in answer.stdout


def test_the_key_is_in_no_file_of_the_installation(recorded: Recorded) -> None:
    holders = [path for path in recorded.dev.data.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]
    calls = recorded.dev.get(f"/api/workflow-runs/{recorded.runs['codex', 'tool']}/calls/1").json

    assert holders == []
    assert KEY not in json.dumps(calls)
    assert "optio_at_" not in json.dumps(calls)
