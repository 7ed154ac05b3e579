"""The real Claude Code CLI against a model of ours: what it prints, spends and leaves is what we say it is."""

import os
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from optio.model.run import LogKind, Run, RunState
from optio.runs.execute import Execution
from optio.wiring import Services
from tests.executors.support import living
from tests.runs.support import accept, claim, execute, log_of, opened
from tests.stub_model import COSTLY, TEXT, USAGE, StubModel
from tests.support import ROOT, compiled, eventually

CLI = ROOT / ".tools" / "node_modules" / ".bin" / "claude"
TASK = """\
type: standalone
name: Job
agentRuntime: claude-code
model: {model}
promptTemplate: "{prompt}"
maxRetries: 1
timeout: 50s
environment:
  secrets: [ANTHROPIC_API_KEY]
  env: {{CLAUDE_CODE_MAX_RETRIES: "1"}}
{extra}"""


@pytest.fixture
def model() -> Iterator[StubModel]:
    with StubModel() as running:
        yield running


@pytest.fixture
def services(tmp_path: Path, model: StubModel) -> Iterator[Services]:
    with opened_for(tmp_path, model) as made:
        yield made


def opened_for(tmp_path: Path, model: StubModel, **more: str) -> AbstractContextManager[Services]:
    assert CLI.exists(), f"{CLI} is missing: run tests/setup.sh, which installs it"
    environ = {
        "OPTIO_PROGRAM_CLAUDE_CODE": str(CLI),
        "OPTIO_ANTHROPIC_BASE_URL": model.url,
        "OPTIO_SECRET_ANTHROPIC_API_KEY": "sk-test-canary-0123456789",
        **more,
    }
    return opened(tmp_path, environ)


def task(model: str, extra: str = "", prompt: str = "hello") -> object:
    return compiled(TASK.format(model=model, extra=extra, prompt=prompt))


def run(services: Services, model: str, extra: str = "", prompt: str = "hello") -> Run:
    return execute(services, task(model, extra, prompt))  # type: ignore[arg-type]


def test_a_tool_run_has_the_turns_tokens_and_cost_that_the_model_served(services: Services, model: StubModel) -> None:
    ended = run(services, "claude-sonnet-4-5-stub-tool", 'maxTurns: 5\nbudgetUsd: "1.00"\n', prompt="/cost of it, @/etc/passwd")

    assert (ended.state, ended.text) == (RunState.COMPLETED, TEXT)
    assert model.served == [USAGE, USAGE]
    usage = ended.meter.usage
    assert (usage.fresh, usage.cached, usage.output) == (2400, 600, 80)
    assert (ended.meter.turns, ended.meter.tool_calls) == (2, 1)
    assert ended.meter.cost == (Decimal(2400) * 3 + Decimal(600) * Decimal("0.3") + 80 * 15) / 1_000_000
    assert log_of(services, ended.id, LogKind.RESULT) == [b"from the tool"]
    assert "/cost of it, @/etc/passwd" in model.prompts[0]
    assert "root:x:0" not in model.prompts[0]


@pytest.mark.parametrize("sandbox", ["landlock", "bwrap"])
def test_it_works_in_each_sandbox(tmp_path: Path, model: StubModel, sandbox: str) -> None:
    with opened_for(tmp_path, model, OPTIO_SANDBOX=sandbox) as services:
        ended = run(services, "claude-sonnet-4-5-stub-tool")
        tools = log_of(services, ended.id, LogKind.RESULT)
        (note, *_) = log_of(services, ended.id, LogKind.SYSTEM)

    assert (ended.state, ended.text, tools) == (RunState.COMPLETED, TEXT, [b"from the tool"]), ended.message
    assert note.startswith(b"sandbox " + sandbox.encode())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root is refused")
def test_as_root_without_a_sandbox_it_says_what_it_wants(tmp_path: Path, model: StubModel) -> None:
    with opened_for(tmp_path, model, OPTIO_SANDBOX="none") as services:
        ended = run(services, "claude-sonnet-4-5-stub-tool")

    assert (ended.state, ended.reason) == (RunState.FAILED, "config")
    assert "OPTIO_SANDBOX" in ended.message


def test_a_refused_credential_is_not_tried_again(services: Services, model: StubModel) -> None:
    ended = run(services, "stub-401")

    assert (ended.state, ended.reason, ended.attempt) == (RunState.FAILED, "auth", 1)
    assert "sk-test-canary" not in str(ended) + str(log_of(services, ended.id))


def test_a_rate_limit_is_tried_again_and_not_before_its_time(services: Services) -> None:
    ended = run(services, "stub-429")

    assert (ended.state, ended.reason) == (RunState.QUEUED, "rate_limit")
    assert ended.not_before > ended.queued_at


def test_a_budget_stops_the_run_and_says_what_was_spent(services: Services, model: StubModel) -> None:
    ended = run(services, "claude-sonnet-4-5-stub-costly", 'budgetUsd: "2.00"\n')

    assert (ended.state, ended.reason) == (RunState.FAILED, "budget")
    assert ended.meter.cost is not None
    assert Decimal("2") < ended.meter.cost <= len(model.served) * COSTLY["output_tokens"] * Decimal(15) / 1_000_000
    assert len(model.served) <= 3


def test_the_second_attempt_gets_what_the_first_one_left(
    services: Services, model: StubModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("optio.model.retry.FIRST_DELAY", timedelta(0))
    first = run(services, "claude-sonnet-4-5-stub-late", 'budgetUsd: "0.0060"\n')
    call = first.meter.cost
    Execution(claim(services, first.id), services.parts(), "tester")()
    ended = services.store.run(first.id)

    assert (first.state, first.reason) == (RunState.QUEUED, "server_error")
    assert (ended.state, ended.reason, ended.attempt) == (RunState.FAILED, "budget", 2)
    assert call is not None
    assert ended.meter.cost is not None
    assert Decimal("0.0060") < ended.meter.cost <= Decimal("0.0060") + call


def test_a_cancelled_run_leaves_no_process(services: Services, model: StubModel) -> None:
    run_id = accept(services, task("stub-slow"))  # type: ignore[arg-type]
    execution = Execution(claim(services, run_id), services.parts(), "tester")
    thread = threading.Thread(target=execution)
    thread.start()
    eventually(lambda: model.prompts, within=40, what="a request to the model")
    before = living("--model\0stub-slow")

    services.store.cancel(run_id, "me")
    execution.cancel()
    thread.join(30)

    assert before
    assert services.store.run(run_id).state is RunState.CANCELLED
    assert living("--model\0stub-slow") == []
