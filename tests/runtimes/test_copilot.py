"""What Copilot prints and keeps -> log, usage, outcome. The recordings are of version 1.0.102; of its telemetry only the model
calls."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from optio.model.agent_event import Retry, ToolCall, TurnEnd
from optio.model.run import LogKind, Outcome
from optio.model.usage import CostSource, Usage
from optio.runtimes.base import AttemptContext, ProcessEnd
from optio.runtimes.copilot import Copilot, CopilotReader
from tests.runtimes import recordings
from tests.runtimes.recordings import assert_told, feed
from tests.support import compiled

RECORDINGS = Path(__file__).parent / "copilot"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
HELLO, DONE = "Hello from the stub model.", "The command has run. Done."
RETRIED = "Failed to get response from the AI model; retried 5 times"
# recording -> exit code, reason, again, text or message begins, fresh, cached, output, turns, tools; None: nobody knows
GOLDEN: dict[str, tuple[int, str, bool, str, int, int, int, int | None, int]] = {
    "plain": (0, "ok", False, HELLO, 1200, 300, 40, 1, 0),
    "think": (0, "ok", False, HELLO, 1200, 300, 64, 1, 0),
    "json": (0, "ok", False, '{"status"', 1200, 300, 40, 1, 0),
    "tool": (0, "ok", False, DONE, 2400, 600, 80, 2, 1),
    "tool-3": (0, "ok", False, DONE, 4800, 1200, 160, 4, 3),
    "tool-fail": (0, "ok", False, DONE, 2400, 600, 80, 2, 1),
    "flaky-429": (0, "ok", False, HELLO, 1200, 300, 40, 1, 0),
    "empty": (1, "unproductive", True, "No response was returned.", 1200, 300, 0, 1, 0),
    "error-400": (1, "bad_request", False, "400 stub: scripted failure 400", 0, 0, 0, 0, 0),
    "error-401": (1, "auth", False, "Authentication failed with provider", 0, 0, 0, 0, 0),
    "error-403": (1, "auth", False, "Authentication failed with provider", 0, 0, 0, 0, 0),
    "error-404": (1, "model_not_found", False, "Model 'stub-error-404' not found", 0, 0, 0, 0, 0),
    "error-429": (1, "rate_limit", True, RETRIED, 0, 0, 0, 0, 0),
    "error-500": (1, "server_error", True, RETRIED, 0, 0, 0, 0, 0),
    "error-529": (1, "overloaded", True, RETRIED, 0, 0, 0, 0, 0),
    "late-500": (1, "server_error", True, RETRIED, 1200, 300, 40, 1, 1),
    "cut": (1, "network", True, RETRIED, 0, 0, 0, None, 0),
    "garbage": (1, "network", True, RETRIED, 0, 0, 0, None, 0),
    "truncated": (0, "truncated", False, "the answer was cut off by its token limit", 3600, 900, 120, 3, 0),
    "subagent": (0, "ok", False, "main answer", 2600, 620, 90, 4, 2),
    "subagent-failed": (0, "ok", False, "main answer", 2400, 600, 80, 2, 1),
    "refusal": (0, "refusal", False, "I cannot help with that.", 1200, 300, 40, 1, 0),
}
# Models whose name Copilot was given; the recordings are of none that has a price.
PRICED = "claude-sonnet-4-5"


def recorded(name: str) -> list[tuple[str, bytes]]:
    return recordings.recorded(RECORDINGS, name)


def task(extra: str = "", model: str = PRICED) -> Any:
    return compiled(f"type: standalone\nname: Job\nagentRuntime: copilot\nmodel: {model}\npromptTemplate: hi\n{extra}")


def read(lines: list[tuple[str, bytes]], of: Any = None) -> CopilotReader:
    return feed(Copilot().reader(of or task()), lines)


def event(kind: str, stream: str = "stdout", agent: str | None = None, **data: Any) -> tuple[str, bytes]:
    below = {} if agent is None else {"agentId": agent}
    return stream, json.dumps({"type": kind, "data": data, **below}).encode()


def call(tokens: int = 100, model: str = PRICED, *, by: str = "agent", finish: str = "stop", **usage: int) -> tuple[str, bytes]:
    """What the telemetry has of a model call."""
    told = {
        "gen_ai.operation.name": "chat",
        "gen_ai.response.model": model,
        "github.copilot.initiator": by,
        "gen_ai.usage.input_tokens": tokens,
        "gen_ai.usage.output_tokens": 1,
        "gen_ai.response.finish_reasons": [finish],
        **{f"gen_ai.usage.{name}.input_tokens": number for name, number in usage.items()},
    }
    return "telemetry", json.dumps({"type": "span", "attributes": told}).encode()


def answer(text: str = "", *, tools: int = 0, agent: str | None = None) -> list[tuple[str, bytes]]:
    """What the events have of a model call."""
    return [
        event("assistant.turn_start", agent=agent),
        event("model.call_start", agent=agent),
        event("model.call_finished", agent=agent, outcome="success"),
        event("assistant.message", agent=agent, content=text, toolRequests=[{}] * tools),
        event("assistant.turn_end", agent=agent),
    ]


def stopped(lines: list[tuple[str, bytes]], extra: str) -> Outcome | None:
    """How a run with these limits is stopped after these lines."""
    return recordings.stopped(task(extra), lines)


def ended(code: int = 0) -> tuple[str, bytes]:
    return "stdout", json.dumps({"type": "result", "exitCode": code}).encode()


@pytest.mark.parametrize("name", GOLDEN)
def test_each_recording_has_its_outcome_and_usage(name: str) -> None:
    assert_told(read(recorded(name)), GOLDEN[name])


def test_every_recording_is_in_the_table() -> None:
    assert recordings.names(RECORDINGS) == set(GOLDEN)


def test_a_cost_is_by_the_list_price_of_the_model_that_answered_and_without_one_unknown() -> None:
    listed = read([call(tokens=1000), call(tokens=1000, model="claude-haiku-4-5")]).meter
    unlisted = read([call(tokens=1000), call(tokens=1000, model="gpt-6-sol")]).meter

    assert (listed.cost, listed.cost_source) == (Decimal("0.004020"), CostSource.PRICES)
    assert (unlisted.cost, unlisted.cost_source) == (None, None)


def test_usage_that_no_record_tells_is_unknown_and_that_of_no_answer_is_none() -> None:
    unrecorded = read([line for line in recorded("plain") if line[0] == "stdout"]).meter
    refused, broken_off = read(recorded("error-400")).meter, read(recorded("cut")).meter

    begun = read([event("model.call_start")]).meter

    assert (unrecorded.usage, unrecorded.turns, unrecorded.cost) == (Usage(), None, None)
    assert (begun.usage, begun.turns, begun.cost) == (Usage(), None, None)
    assert (broken_off.usage, broken_off.turns, broken_off.cost) == (Usage(), None, None)
    assert (refused.usage, refused.turns, refused.cost) == (Usage(), 0, 0)


def test_a_summary_of_the_conversation_is_paid_and_no_turn() -> None:
    tokens = {"model": PRICED, "inputTokens": 7500, "outputTokens": 333, "cacheReadTokens": 500, "cacheWriteTokens": 0}
    summary = event("session.compaction_complete", "side", success=True, compactionTokensUsed=tokens)

    reader = read([call(), event("session.compaction_complete", "side", success=False)])
    (line,) = reader.line(*summary, NOW)
    meter = reader.meter

    assert line.text == "the conversation was summarised: read 7,500 tokens (500 from the cache), wrote 333, $0.026145"
    assert (meter.usage, meter.turns) == (Usage(fresh=7100, cached=500, output=334), 1)
    assert meter.cost == Decimal("0.026460")


def test_what_is_written_to_a_cache_is_no_fresh_input() -> None:
    record = call(tokens=1577, cache_read=300, cache_write=77)

    assert read([record]).meter.usage == Usage(fresh=1200, cached=300, cache_write=77, output=1)


def test_it_is_stopped_before_the_call_that_its_turns_forbid_and_not_after_its_last_answer() -> None:
    tool, last = answer(tools=1), answer("done")
    below = answer(agent="below")
    cases = (tool, [*tool, *tool], [*tool, *last], [*tool, *last, *last], [*tool, *below], [*tool, *tool, ended()])

    assert [getattr(stopped(list(lines), "maxTurns: 2\n"), "reason", None) for lines in cases] == [
        *(None, "max_turns", None, "max_turns", "max_turns", None),
    ]


def test_a_budget_stops_it_as_soon_as_the_telemetry_has_the_call() -> None:
    found = [stopped([*answer(tools=1), call(tokens)], 'budgetUsd: "0.01"\n') for tokens in (3_000, 4_000)]

    assert [each and each.reason for each in found] == [None, "budget"]


def test_calls_that_the_telemetry_does_not_have_stop_a_run_with_a_budget_at_the_second_one() -> None:
    uncounted = ("telemetry", call()[1].replace(b"gen_ai.usage", b"other"))
    one, two = answer(tools=1), [*answer(tools=1), *answer(tools=1)]

    assert stopped(one, 'budgetUsd: "9"\n') is None
    for lines in (two, [*answer(tools=1), uncounted, *answer(tools=1)]):
        found = stopped(lines, 'budgetUsd: "9"\n')
        assert found is not None
        assert (found.reason, found.again) == ("unpriced", False)
        assert found.message.endswith("its agent told no usage of a model call")
    assert stopped(two, 'budgetUsd: "9"\nbudget: report\n') is None


def test_a_call_of_a_model_without_a_price_stops_a_run_with_a_budget() -> None:
    found = stopped([*answer(tools=1), call(model="gpt-6-sol")], 'budgetUsd: "9"\n')

    assert found is not None
    assert (found.reason, found.message.endswith("a model without a known price answered, `gpt-6-sol`")) == ("unpriced", True)


def test_the_end_of_each_turn_is_logged_once_behind_that_turn_whichever_file_is_ahead() -> None:
    stdout, telemetry = (
        [line for line in recorded("tool-3") if (line[0] == "stdout") is is_stdout] for is_stdout in (True, False)
    )
    orders = ([*stdout, *telemetry], [*telemetry, *stdout], [*stdout[:9], *telemetry, *stdout[9:]])

    for order in orders:
        reader = Copilot().reader(task())
        lines = [line for stream, data in order for line in reader.line(stream, data, NOW)] + reader.closing(NOW)
        turns = [line.turn for line in lines if line.kind is LogKind.TURN]

        assert turns == [1, 2, 3, 4]
        assert [line.turn for line in lines] == sorted(line.turn or 0 for line in lines)
        assert all(later.turn != line.turn for line, later in pairwise(lines) if line.kind is LogKind.TURN)


def test_the_answer_is_that_of_the_last_turn_and_of_no_agent_below() -> None:
    reader = read(
        [
            event("assistant.turn_start"),
            event("assistant.message", content="first"),
            event("assistant.turn_start"),
            event("assistant.message", content="one"),
            event("assistant.turn_start", agent="below"),
            event("assistant.message", agent="below", content="not mine"),
            event("assistant.message", content="two"),
            event("assistant.turn_start"),
            event("assistant.message", content=""),
            call(),
            ended(),
        ]
    )

    assert reader.outcome(ProcessEnd(code=0, signal=None)).text == "one\n\ntwo"
    assert reader.text == "first\n\none\n\nnot mine\n\ntwo"


def test_how_an_agent_below_ended_decides_nothing() -> None:
    below = call(finish="content_filter", by="sub-agent")

    assert read([call(), below, ended()]).outcome(ProcessEnd(code=0, signal=None)).ok


@pytest.mark.parametrize(
    ("error", "reason", "again"),
    [
        ({"errorType": "quota", "errorCode": "quota_exceeded"}, "quota", False),
        ({"errorType": "authorization"}, "auth", False),
        ({"errorType": "rate_limit"}, "rate_limit", True),
        ({"errorType": "context_limit"}, "context_overflow", False),
        ({"statusCode": 400, "message": "the prompt exceeds the model's prompt budget"}, "context_overflow", False),
        ({"errorType": "query", "statusCode": True, "message": "of tomorrow"}, "no_result", True),
        ({}, "no_result", True),
    ],
)
def test_the_fields_of_an_error_name_the_reason(error: dict[str, Any], reason: str, again: bool) -> None:
    found = read([event("session.error", **error), ended(1)]).outcome(ProcessEnd(code=1, signal=None))

    assert (found.ok, found.reason, found.again) == (False, reason, again)


@pytest.mark.parametrize(
    ("status", "body"),
    [(429, '{"code": "insufficient_quota"}'), (400, '{"message": "Your credit balance is too low"}')],
)
def test_an_account_without_credit_is_told_by_the_provider_whatever_its_status(status: int, body: str) -> None:
    failed = event("model.call_failure", statusCode=status, errorMessage=body)
    error = event("session.error", errorType="query", statusCode=status, message="x")

    assert read([failed, error, ended(1)]).outcome(ProcessEnd(code=1, signal=None)).reason == "quota"


def test_exit_zero_is_no_success_after_an_error_or_an_interruption() -> None:
    error = read([event("session.error", errorType="query", statusCode=401, message="x"), ended(0)])
    interrupted = read([event("assistant.idle", aborted=True), ended(0)])
    own = read([ended(3)])

    outcomes = [reader.outcome(ProcessEnd(code=0, signal=None)) for reader in (error, interrupted, own)]

    assert [(each.ok, each.reason, each.again) for each in outcomes] == [
        (False, "auth", False),
        (False, "signal", True),
        (False, "no_result", True),
    ]


def test_without_a_credential_it_says_how_to_sign_in() -> None:
    reader = Copilot().reader(task())
    reader.line("stderr", b"Error: No authentication information found.", NOW)

    found = reader.outcome(ProcessEnd(code=1, signal=None))

    assert (found.reason, found.again) == ("auth", False)
    assert found.message.startswith("the run has no credential: name COPILOT_GITHUB_TOKEN")


def test_the_log_shows_calls_answers_and_words() -> None:
    reader = Copilot().reader(task())
    failing = [line for stream, data in recorded("tool-fail") for line in reader.line(stream, data, NOW)]
    failing += reader.closing(NOW)

    assert [(line.kind, line.text) for line in failing if line.kind is not LogKind.TURN] == [
        (LogKind.TOOL, 'bash {"command": "echo oops >&2; exit 3", "description": "stub"}'),
        (LogKind.RESULT, "error: oops"),
        (LogKind.TEXT, DONE),
    ]


def test_a_tool_of_a_server_is_named_with_it() -> None:
    started = event("tool.execution_start", toolCallId="1", toolName="docs-search", mcpServerName="docs", mcpToolName="search")

    (line,) = Copilot().reader(task()).line(*started, NOW)

    assert isinstance(line.event, ToolCall)
    assert (line.text, line.event.name, line.event.server) == ("docs.search null", "search", "docs")


def test_a_call_of_an_agent_below_is_told_as_one() -> None:
    reader = Copilot().reader(task())
    reader.line(*call(by="sub-agent"), NOW)

    (line,) = reader.closing(NOW)

    assert isinstance(line.event, TurnEnd)
    assert line.event.subagent


def test_a_tool_that_failed_by_itself_shows_its_error() -> None:
    failed = event("tool.execution_complete", toolCallId="1", success=False, error={"message": "no such tool"})

    assert [line.text for line in Copilot().reader(task()).line(*failed, NOW)] == ["error: no such tool"]


def test_the_log_says_why_a_model_call_failed() -> None:
    reader = Copilot().reader(task())
    lines = [line for stream, data in recorded("flaky-429") for line in reader.line(stream, data, NOW)]
    failed = [line for line in lines if isinstance(line.event, Retry)]

    assert [(line.event.status, line.event.attempt) for line in failed if isinstance(line.event, Retry)] == [(429, 1), (429, 2)]
    assert failed[0].text.startswith("model call failed: 429 ")
    assert "scripted failure 429" in failed[0].text


@pytest.mark.parametrize(
    ("endpoint", "extra", "offline"),
    [
        (None, "", False),
        (None, "environment: {secrets: [COPILOT_GITHUB_TOKEN]}\n", False),
        ("http://m/v1", "", True),
        (None, "environment: {env: {COPILOT_PROVIDER_BASE_URL: 'http://m/v1'}}\n", True),
    ],
)
def test_with_an_endpoint_it_asks_nothing_of_github(endpoint: str | None, extra: str, offline: bool) -> None:
    invocation = Copilot().invoke(task(extra), "hi", {}, AttemptContext(program="copilot", endpoint=endpoint))

    assert invocation.env.get("COPILOT_OFFLINE") == ("true" if offline else None)
    assert invocation.env.get("COPILOT_PROVIDER_BASE_URL") == endpoint
    assert invocation.argv[-2:] == ("--model", PRICED)


def test_a_prompt_is_no_command() -> None:
    assert Copilot().invoke(task(), " /compact now", {}, AttemptContext(program="copilot")).stdin == (
        b"The task is:\n /compact now"
    )
