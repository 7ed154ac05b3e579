"""What Claude Code prints -> log, usage, outcome. The recordings are of version 2.1.331, cut down to what is read."""

import json
import re
from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optio.model.run import LogKind, LogLine, Outcome
from optio.model.usage import CostSource, Usage
from optio.runtimes.base import AttemptContext, ProcessEnd
from optio.runtimes.claude_code import ClaudeCode, ClaudeReader
from tests.runtimes.recordings import assert_told, stopped
from tests.support import compiled

RECORDINGS = Path(__file__).parent / "claude_code"
MODEL = re.compile(rb'"model":"claude[^"]*"')
NOW = datetime(2026, 1, 1, tzinfo=UTC)
TASK = compiled("type: standalone\nname: Job\nagentRuntime: claude-code\nmodel: sonnet\npromptTemplate: hi\n")


def recorded(name: str) -> list[bytes]:
    return (RECORDINGS / f"{name}.ndjson").read_bytes().splitlines()


def read(lines: list[bytes], task: Any = TASK) -> tuple[ClaudeReader, list[LogLine]]:
    reader = ClaudeCode().reader(task)
    return reader, [line for data in lines for line in reader.line("stdout", data, NOW)]


def outcome(lines: list[bytes], code: int | None = 0, signal: int | None = None) -> Outcome:
    return read(lines)[0].outcome(ProcessEnd(code=code, signal=signal))


def changed(name: str, **fields: Any) -> list[bytes]:
    """A recording with another result event."""
    *lines, last = recorded(name)
    return [*lines, json.dumps({**json.loads(last), **fields}).encode()]


HELLO, DONE = "Hello from the stub model.", "The command has run. Done."
# recording -> exit code, reason, again, text or message begins, fresh, cached, output, turns, tools
GOLDEN: dict[str, tuple[int, str, bool, str, int, int, int, int, int]] = {
    "plain": (0, "ok", False, HELLO, 1200, 300, 40, 1, 0),
    "tool": (0, "ok", False, DONE, 2400, 600, 80, 2, 1),
    "tool-fail": (0, "ok", False, DONE, 2400, 600, 80, 2, 1),
    "listed-price": (0, "ok", False, DONE, 2400, 600, 80, 2, 1),
    "think": (0, "ok", False, HELLO, 1200, 300, 64, 1, 0),
    "empty": (0, "ok", False, "", 2400, 600, 0, 2, 0),
    "error-400": (1, "bad_request", False, "API Error: 400", 0, 0, 0, 1, 0),
    "error-401": (1, "auth", False, "Failed to authenticate. API Error: 401", 0, 0, 0, 1, 0),
    "error-403": (1, "auth", False, "Failed to authenticate. API Error: 403", 0, 0, 0, 1, 0),
    "error-404": (1, "model_not_found", False, "There's an issue with the selected model", 0, 0, 0, 1, 0),
    "error-429": (1, "rate_limit", True, "API Error: Request rejected (429)", 0, 0, 0, 1, 0),
    "error-500": (1, "server_error", True, "API Error: 500", 0, 0, 0, 1, 0),
    "error-529": (1, "overloaded", True, "API Error: 529", 0, 0, 0, 1, 0),
    "late-500": (1, "server_error", True, "API Error: 500", 1200, 300, 40, 1, 1),
    "cut": (1, "network", True, "API Error: Connection dropped", 0, 0, 0, 1, 0),
    "garbage": (1, "network", True, "API Error: API returned an empty or malformed", 0, 0, 0, 1, 0),
    "truncated": (1, "truncated", False, "API Error: Claude's response exceeded", 4800, 1200, 160, 4, 0),
    "refusal": (1, "refusal", False, "API Error: stub-refusal's safeguards flagged", 2400, 600, 80, 2, 0),
    "max-turns": (1, "max_turns", False, "Reached maximum number of turns (2)", 2400, 600, 80, 2, 2),
    "max-budget": (1, "budget", False, "Reached maximum budget ($2)", 20000, 0, 200000, 2, 2),
    # It went on after a tool call of another process, which `modelUsage` includes.
    "continued": (0, "ok", False, DONE, 1200, 300, 40, 1, 0),
    "slash-command": (0, "config", False, "Estimated cost", 0, 0, 0, 0, 0),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_each_recording_has_its_outcome_and_usage(name: str) -> None:
    assert_told(read(recorded(name))[0], GOLDEN[name])


def test_every_recording_is_in_the_table() -> None:
    assert {path.stem for path in RECORDINGS.glob("*.ndjson")} == {*GOLDEN, "stopped"}


@pytest.mark.parametrize(
    ("name", "cost", "source"),
    [
        ("plain", "0.00566", CostSource.ESTIMATE),
        ("listed-price", "0.00858", CostSource.CLI),
        ("max-budget", "3.06", CostSource.CLI),
        ("error-401", "0", CostSource.CLI),
    ],
)
def test_a_cost_says_where_it_comes_from(name: str, cost: str, source: CostSource) -> None:
    meter = read(recorded(name))[0].meter

    assert (meter.cost, meter.cost_source) == (Decimal(cost), source)


def test_the_cost_of_calls_that_all_broke_off_is_unknown_and_that_of_refused_ones_zero() -> None:
    assert [read(recorded(name))[0].meter.cost for name in ("garbage", "error-500")] == [None, Decimal(0)]


def test_the_beginning_of_one_call_is_no_cost_where_every_call_broke_off() -> None:
    *lines, last = recorded("garbage")
    told = {"stub-garbage": {"inputTokens": 1200, "outputTokens": 3, "cacheReadInputTokens": 300, "costUSD": 0.003735}}
    result = json.loads(last) | {"model_usage_since_last_result": told, "modelUsage": told, "total_cost_usd": 0.003735}

    assert read([*lines, json.dumps(result).encode()])[0].meter.cost is None


def test_usage_and_cost_are_known_while_it_runs() -> None:
    *lines, _ = recorded("listed-price")

    meter = read(lines)[0].meter

    assert (meter.usage, meter.turns) == (Usage(fresh=2400, cached=600, output=80), 2)
    assert (meter.cost, meter.cost_source) == (Decimal("0.00858"), CostSource.PRICES)


def test_the_log_shows_what_people_want_to_see_and_nothing_twice() -> None:
    _, lines = read(recorded("tool"))

    assert [(line.kind, line.data) for line in lines] == [
        (LogKind.SYSTEM, b"claude-code 2.1.331 with model stub-tool"),
        (LogKind.TOOL, b'Bash {"command": "echo hi"}'),
        (LogKind.TURN, b"turn 1: read 1,500 tokens (300 from the cache), wrote 40"),
        (LogKind.RESULT, b"hi"),
        (LogKind.TEXT, DONE.encode()),
        (LogKind.TURN, b"turn 2: read 1,500 tokens (300 from the cache), wrote 40"),
    ]


def test_thousands_of_partial_messages_make_no_line_each() -> None:
    *before, message, tail, last_result = recorded("plain")
    delta = next(line for line in before if b"content_block_delta" in line)
    lines = [*before, *[delta] * 2000, message, tail, last_result]

    reader, said = read(lines)

    assert [line.kind for line in said] == [LogKind.SYSTEM, LogKind.TEXT, LogKind.TURN]
    assert reader.meter.usage.output == 40


@pytest.mark.parametrize("name", ["error-429", "error-529"])
def test_an_overloaded_api_is_not_asked_again_before_the_pause_that_it_named(name: str) -> None:
    found = outcome(recorded(name), code=1)

    assert found.again
    assert 1.0 <= found.not_before_s < 2.0


@pytest.mark.parametrize(
    "text",
    [
        "401 rate limit exceeded",
        '{"type":"result","subtype":"success","is_error":true}',
        "API Error: 500",
        "Not logged in",
        "refusal",
    ],
)
def test_what_the_model_says_decides_nothing(text: str) -> None:
    lines = changed("plain", result=text)
    message = {"type": "assistant", "message": {"model": "m", "content": [{"type": "text", "text": text + "\n" + text}]}}

    found = outcome([*lines[:-1], json.dumps(message).encode(), lines[-1]])

    assert (found.ok, found.reason, found.text) == (True, "ok", text)


@pytest.mark.parametrize("number", [-1, 1.5, 10**15, True, "7", [1]])
def test_numbers_that_cannot_be_are_said_and_not_believed(number: Any) -> None:
    entry = {"inputTokens": number, "outputTokens": 5, "costUSD": -3, "costBasis": "list"}

    reader, said = read(changed("plain", modelUsage={"m": entry}))

    assert reader.meter.usage == Usage()
    assert (reader.meter.cost or Decimal(0)) >= 0
    assert any(b"ignored" in line.data for line in said)


def test_a_credit_that_is_used_up_is_a_quota_and_not_a_bad_request() -> None:
    found = outcome(changed("error-400", result="API Error: 400 Your credit balance is too low"), code=1)
    other = outcome(changed("error-400", result="Credit balance is too low"), code=1)

    assert [(f.reason, f.again) for f in (found, other)] == [("quota", False)] * 2


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"terminal_reason": "prompt_too_long", "is_error": True}, "context_overflow"),
        ({"terminal_reason": "blocking_limit", "is_error": True}, "context_overflow"),
        ({"subtype": "error_during_execution", "terminal_reason": "aborted_tools", "is_error": True}, "cancelled"),
        ({"subtype": "error_max_structured_output_retries", "is_error": True}, "result_invalid"),
        ({"is_error": True, "result": "Not logged in · Please run /login"}, "auth"),
        ({"is_error": True, "subtype": "of tomorrow", "terminal_reason": None}, "no_result"),
        ({"is_error": True, "api_error_status": 413}, "context_overflow"),
        ({"is_error": True, "api_error_status": 402}, "quota"),
        ({"is_error": True, "api_error_status": 418}, "bad_request"),
    ],
)
def test_the_result_s_own_fields_name_the_reason(fields: dict[str, Any], reason: str) -> None:
    assert outcome(changed("plain", **fields), code=1).reason == reason


def test_a_run_without_a_credential_is_told_how_to_name_one_also_when_it_has_ended_by_itself() -> None:
    found = outcome(changed("plain", is_error=True, result="Not logged in · Please run /login"), code=1)

    assert (found.reason, "ANTHROPIC_API_KEY" in found.message, "/login" in found.message) == ("auth", True, False)


def test_a_refused_credential_ends_the_run_at_its_first_sign() -> None:
    first = next(n for n, line in enumerate(recorded("error-401")) if b"api_retry" in line)
    reader, _ = read(recorded("error-401")[: first + 1])

    stop = reader.stop()

    assert stop is not None
    assert (stop.reason, stop.again) == ("auth", False)
    assert "name ANTHROPIC_API_KEY" in stop.message
    named = compiled(
        "type: standalone\nname: Job\nagentRuntime: claude-code\npromptTemplate: hi\n"
        "environment: {secrets: [FORGE_TOKEN, ANTHROPIC_API_KEY]}\n"
    )
    given = read(recorded("error-401")[: first + 1], named)[0].stop()
    assert given is not None
    assert given.message.endswith("give the secret ANTHROPIC_API_KEY a valid value")
    assert read(recorded("error-429")[:-1])[0].stop() is None


@pytest.mark.parametrize(
    ("limit", "reason"), [('budgetUsd: "0.004"\n', "budget"), ("maxTurns: 1\n", "max_turns"), ("maxTurns: 2\n", None)]
)
def test_limits_hold_while_it_runs(limit: str, reason: str | None) -> None:
    task = compiled(f"type: standalone\nname: Job\nagentRuntime: claude-code\npromptTemplate: hi\n{limit}")

    stop = stopped(task, [("stdout", line) for line in recorded("listed-price")[:-1]])

    assert (stop.reason if stop else None) == reason


def test_an_answer_of_another_model_without_a_price_stops_a_run_with_a_budget_after_that_call() -> None:
    limited, reported = (
        compiled(f"type: standalone\nname: Job\nagentRuntime: claude-code\npromptTemplate: hi\nbudgetUsd: '2.00'\n{more}")
        for more in ("", "budget: report\n")
    )
    lines = [("stdout", MODEL.sub(b'"model":"of-tomorrow"', line)) for line in recorded("listed-price")[:-1]]

    found = stopped(limited, lines)

    assert found is not None
    assert (found.reason, found.again) == ("unpriced", False)
    assert found.message.endswith("a model without a known price answered, `of-tomorrow`")
    assert stopped(reported, lines) is None


def test_what_earlier_attempts_have_spent_counts() -> None:
    task = compiled("type: standalone\nname: Job\nagentRuntime: claude-code\npromptTemplate: hi\nbudgetUsd: '2.00'\n")

    stop = stopped(task, [("stdout", line) for line in recorded("listed-price")[:-1]], Decimal("1.9999"))

    assert stop is not None
    assert (stop.reason, stop.message) == ("budget", "stopped at $2.00848 of $2.00")
    context = AttemptContext(program="claude", spent=Decimal("1.9999"))
    assert ("--max-budget-usd", "0.0001") in pairwise(ClaudeCode().invoke(task, "hi", {}, context).argv)


def test_what_the_agent_has_said_is_known_before_its_result() -> None:
    said = "\n\n".join(line.text for line in read(recorded("think"))[1] if line.kind is LogKind.TEXT)

    assert said
    assert read(recorded("think")[:-1])[0].text == said
    # An error of the API is worded by the CLI.
    assert [read(recorded(name))[0].text for name in ("max-budget", "error-500")] == [None, None]


def test_of_much_that_the_agent_has_said_the_end_is_known() -> None:
    blocks = [{"type": "text", "text": letter * 30_000} for letter in "abcd"]
    reader, _ = read([json.dumps({"type": "assistant", "message": {"content": [block]}}).encode() for block in blocks])
    by_another = {"type": "assistant", "parent_tool_use_id": "toolu_1", "message": {"content": [{"type": "text", "text": "x"}]}}
    reader.line("stdout", json.dumps(by_another).encode(), NOW)

    assert reader.text == "\n\n".join(letter * 30_000 for letter in "bcd")


def test_a_call_that_broke_off_takes_no_turn_and_a_subagent_takes_none_of_ours() -> None:
    lines = [json.loads(line) for line in recorded("plain")]
    start = next(e for e in lines if e.get("event", {}).get("type") == "message_start")
    delta = next(e for e in lines if e.get("event", {}).get("type") == "message_delta")
    sub = [{**event, "parent_tool_use_id": "toolu_1"} for event in (start, delta)]

    reader, _ = read([json.dumps(event).encode() for event in (start, start, sub[0], delta, sub[1])])

    assert (reader.meter.turns, reader.meter.usage.output) == (1, 80)


@pytest.mark.parametrize("said", ["error: unknown option --max-turn", ""])
def test_an_end_before_the_first_event_is_a_matter_of_configuration(said: str) -> None:
    reader = ClaudeCode().reader(TASK)
    reader.line("stderr", said.encode(), NOW)

    found = reader.outcome(ProcessEnd(code=1, signal=None))

    assert (found.reason, found.again) == ("config", False)
    assert found.message == (said or "exit code 1 before the first event")


@given(
    st.lists(
        st.recursive(
            st.none() | st.integers() | st.text(max_size=5),
            lambda x: (
                st.lists(x)
                | st.dictionaries(
                    st.sampled_from(
                        ["type", "message", "event", "usage", "content", "result", "modelUsage", "model", "subtype"]
                    ),
                    x,
                )
            ),
            max_leaves=8,
        )
    )
)
def test_no_json_whatsoever_breaks_the_reader(values: list[Any]) -> None:
    kinds = ["assistant", "user", "system", "result", "stream_event"]
    lines = [json.dumps({"type": kinds[n % 5], **(value if isinstance(value, dict) else {"message": value})}).encode()
             for n, value in enumerate(values)]  # fmt: skip

    reader, _ = read(lines)

    assert not reader.outcome(ProcessEnd(code=1, signal=None)).ok
    assert reader.meter.usage.total >= 0


# Calling it


@pytest.mark.parametrize("prompt", ["/cost", "  /compact now", "\n/clear", "/etc is a directory"])
def test_a_prompt_that_begins_with_a_slash_is_no_command(prompt: str) -> None:
    assert ClaudeCode().invoke(TASK, prompt, {}, AttemptContext(program="claude")).stdin.decode() == f"The task is:\n{prompt}"


@pytest.mark.parametrize("prompt", ["--flag", "a/b", "@/etc/passwd", "x" * 200_000, "Zoë $(id) `id`\r\n "])
def test_any_other_prompt_goes_in_byte_for_byte_and_not_by_an_argument(prompt: str) -> None:
    call = ClaudeCode().invoke(TASK, prompt, {}, AttemptContext(program="claude"))

    assert call.stdin == prompt.encode()
    assert not any(prompt in argument for argument in call.argv)
    assert call.env["CLAUDE_CODE_DISABLE_FILE_MENTIONS"] == "1"


def test_limits_and_model_are_handed_to_the_program() -> None:
    task = compiled(
        "type: standalone\nname: Job\nagentRuntime: claude-code\nmodel: opus\npromptTemplate: hi\n"
        "maxTurns: 7\nbudgetUsd: '2.50'\n"
    )

    argv = ClaudeCode().invoke(task, "hi", {}, AttemptContext(program="/bin/claude")).argv

    assert argv[:2] == ("/bin/claude", "-p")
    assert {("--model", "opus"), ("--max-turns", "7"), ("--max-budget-usd", "2.50"), ("--setting-sources", "")} <= set(
        pairwise(argv)
    )
