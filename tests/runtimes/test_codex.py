"""What Codex prints and keeps -> log, usage, outcome. The recordings are of version 0.169.0; of its session file only the
records of usage."""

import json
import tomllib
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from optio.model.run import LogKind
from optio.model.usage import CostSource, Usage
from optio.runtimes.base import AttemptContext, ProcessEnd
from optio.runtimes.codex import Codex, CodexReader
from tests.runtimes import recordings
from tests.runtimes.recordings import assert_told, feed, stopped
from tests.support import compiled

RECORDINGS = Path(__file__).parent / "codex"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
HELLO, DONE = "Hello from the stub model.", "The command has run. Done."
# recording -> exit code, reason, again, text or message begins, fresh, cached, output, turns, tools; None: it kept no record
GOLDEN: dict[str, tuple[int, str, bool, str, int, int, int, int | None, int]] = {
    "plain": (0, "ok", False, HELLO, 1200, 300, 40, 1, 0),
    "think": (0, "ok", False, HELLO, 1200, 300, 64, 1, 0),
    "json": (0, "ok", False, '{"status"', 1200, 300, 40, 1, 0),
    "tool": (0, "ok", False, DONE, 2400, 600, 80, 2, 1),
    "tool-3": (0, "ok", False, DONE, 4800, 1200, 160, 4, 3),
    "tool-fail": (0, "ok", False, DONE, 2400, 600, 80, 2, 1),
    # After a tool call of another process, which the usage of `turn.completed` includes.
    "continued": (0, "ok", False, DONE, 2400, 600, 80, 2, 1),
    "flaky-429": (0, "ok", False, HELLO, 1200, 300, 40, 1, 0),
    "empty": (0, "ok", False, "", 1200, 300, 0, 1, 0),
    "error-400": (1, "bad_request", False, "stub: scripted failure 400", 0, 0, 0, None, 0),
    "error-401": (1, "auth", False, "unexpected status 401 Unauthorized", 0, 0, 0, None, 0),
    "error-403": (1, "auth", False, "unexpected status 403 Forbidden", 0, 0, 0, None, 0),
    "error-404": (1, "model_not_found", False, "unexpected status 404 Not Found", 0, 0, 0, None, 0),
    "error-429": (1, "rate_limit", True, "exceeded retry limit, last status: 429", 0, 0, 0, None, 0),
    "error-500": (1, "server_error", True, "We’re currently experiencing high demand", 0, 0, 0, None, 0),
    "error-529": (1, "overloaded", True, "unexpected status 529", 0, 0, 0, None, 0),
    "late-500": (1, "server_error", True, "We’re currently experiencing high demand", 1200, 300, 40, 1, 1),
    "cut": (1, "network", True, "stream disconnected", 0, 0, 0, None, 0),
    "garbage": (1, "network", True, "stream disconnected", 0, 0, 0, None, 0),
    "truncated": (1, "truncated", False, "Incomplete response returned", 1200, 300, 40, 1, 0),
    "refusal": (1, "refusal", False, "stream disconnected", 0, 0, 0, None, 0),
}


def recorded(name: str) -> list[tuple[str, bytes]]:
    return recordings.recorded(RECORDINGS, name)


def task(extra: str = "", model: str = "our-own-model") -> Any:
    return compiled(f"type: standalone\nname: Job\nagentRuntime: codex\nmodel: {model}\npromptTemplate: hi\n{extra}")


def read(lines: list[tuple[str, bytes]], of: Any = None) -> CodexReader:
    return feed(Codex().reader(of or task()), lines)


def event(stream: str = "stdout", **fields: Any) -> tuple[str, bytes]:
    return stream, json.dumps(fields).encode()


def call(answer: str, tokens: int = 100) -> list[tuple[str, bytes]]:
    """What the session file has of a model call."""
    usage = {"input_tokens": tokens, "cached_input_tokens": 0, "output_tokens": 1}
    return [
        event("side", type="response_item", payload={"type": answer}),
        event("side", type="token_usage_record", payload={"usage": usage}),
    ]


@pytest.mark.parametrize("name", GOLDEN)
def test_each_recording_has_its_outcome_and_usage(name: str) -> None:
    assert_told(read(recorded(name)), GOLDEN[name])


def test_every_recording_is_in_the_table() -> None:
    assert recordings.names(RECORDINGS) == set(GOLDEN)


def test_a_cost_is_by_list_price_and_without_a_price_or_a_record_unknown() -> None:
    listed, unlisted = (read(recorded("plain"), task(model=model)).meter for model in ("claude-sonnet-4-5", "our-own-model"))
    refused, broken_off = (read(recorded(name), task(model="claude-sonnet-4-5")).meter for name in ("error-500", "cut"))

    assert (listed.cost, listed.cost_source) == (Decimal("0.00429"), CostSource.PRICES)
    assert (unlisted.cost, unlisted.cost_source) == (None, None)
    assert (refused.cost, refused.turns, refused.usage) == (0, None, Usage())
    assert (broken_off.cost, broken_off.turns, broken_off.usage) == (None, None, Usage())


def test_it_is_stopped_before_the_call_that_its_turns_forbid_and_not_after_its_last_answer() -> None:
    limited = task("maxTurns: 2\n")
    tool, answer = call("function_call"), call("message")

    assert [getattr(stopped(limited, lines), "reason", None) for lines in (tool, tool + tool, tool + answer)] == [
        None,
        "max_turns",
        None,
    ]
    assert stopped(limited, [*tool, *answer, *call("message")]) is not None


def test_a_budget_stops_it_while_it_runs() -> None:
    limited = task('budgetUsd: "0.01"\n', model="claude-sonnet-4-5")

    assert [getattr(stopped(limited, call("function_call", tokens)), "reason", None) for tokens in (3_000, 4_000)] == [
        None,
        "budget",
    ]


def test_a_refused_credential_ends_the_run_at_its_first_sign_and_other_errors_do_not() -> None:
    refused, busy = (
        read([event(type="error", message=f"Reconnecting... 1/2 (unexpected status {status} x)")]).stop()
        for status in (401, 429)
    )

    assert refused is not None
    assert (refused.reason, refused.again) == ("auth", False)
    assert busy is None


def test_an_endpoint_that_never_answers_is_given_up_after_some_tries_in_a_row() -> None:
    waiting = event(type="error", message="Reconnecting... waiting for network")
    item = event(type="item.completed", item={"type": "agent_message", "text": "x"})

    stop = read([waiting] * 5).stop()

    assert stop is not None
    assert (stop.reason, stop.again, stop.message) == ("network", True, "Reconnecting... waiting for network")
    assert read([*[waiting] * 4, item, *[waiting] * 4]).stop() is None


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ('{"error": {"code": "context_length_exceeded", "message": "too long"}}', "context_overflow"),
        ('{"error": {"code": "insufficient_quota", "message": "no credit"}}', "quota"),
        ("Quota exceeded. Check your plan", "quota"),
        ("Codex ran out of room in the model's context window.", "context_overflow"),
        ("Missing environment variable: `OPENAI_API_KEY`.", "auth"),
        ("[1, 2]", "bad_request"),
        ("something of tomorrow", "no_result"),
    ],
)
def test_the_words_of_codex_name_the_reason(message: str, reason: str) -> None:
    found = read([event(type="turn.failed", error={"message": message})]).outcome(ProcessEnd(code=1, signal=None))

    assert (found.ok, found.reason) == (False, reason)


def test_the_log_shows_calls_answers_and_words() -> None:
    reader = Codex().reader(task())
    failing = [line for stream, data in recorded("tool-fail") for line in reader.line(stream, data, NOW)]

    assert [(line.kind, line.text) for line in failing if line.kind not in (LogKind.SYSTEM, LogKind.TURN)] == [
        (LogKind.TOOL, """command_execution {"command": "/bin/bash -lc 'echo oops >&2; exit 3'"}"""),
        (LogKind.RESULT, "error: oops"),
        (LogKind.TEXT, DONE),
    ]


def test_a_tool_of_a_server_is_named_with_it_and_counted_once() -> None:
    item = {"id": "1", "type": "mcp_tool_call", "server": "docs", "tool": "search", "arguments": {"q": 1}}
    reader = Codex().reader(task())
    lines = [
        *reader.line(*event(type="item.started", item=item), NOW),
        *reader.line(*event(type="item.completed", item={**item, "status": "failed", "error": {"message": "gone"}}), NOW),
    ]

    assert [(line.kind, line.text) for line in lines] == [
        (LogKind.TOOL, 'docs.search {"q": 1}'),
        (LogKind.RESULT, 'error: {"message": "gone"}'),
    ]
    assert reader.meter.tool_calls == 1


@pytest.mark.parametrize(("secret", "key"), [("CODEX_API_KEY", "CODEX_API_KEY"), ("OPENAI_API_KEY", "OPENAI_API_KEY")])
def test_its_provider_is_our_own_with_the_key_that_the_task_names(secret: str, key: str) -> None:
    of = task(f"environment: {{secrets: [{secret}]}}\n")

    invocation = Codex().invoke(of, "hi", {}, AttemptContext(program="codex", endpoint='http://m/"v1'))

    config = tomllib.loads(invocation.files[".codex/config.toml"].decode())
    assert config["model_provider"] == "optio"
    assert (config["model_providers"]["optio"]["base_url"], config["model_providers"]["optio"]["env_key"]) == (
        'http://m/"v1',
        key,
    )
    assert invocation.argv[-3:] == ("-m", "our-own-model", "-")
