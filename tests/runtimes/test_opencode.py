"""What OpenCode prints -> log, usage, outcome. The recordings are of version 1.18.33, which knew no price of the model."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from optio.model.run import LogKind
from optio.model.usage import CostSource, Usage
from optio.runtimes.base import AttemptContext, Invocation, ProcessEnd
from optio.runtimes.opencode import OpenCode, OpenCodeReader
from tests.runtimes.recordings import assert_told, stopped
from tests.support import compiled

RECORDINGS = Path(__file__).parent / "opencode"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
HELLO, DONE = "Hello from the stub model.", "The command has run. Done."
# recording -> exit code, reason, again, text or message begins, fresh, cached, output, turns, tools
GOLDEN: dict[str, tuple[int, str, bool, str, int, int, int, int, int]] = {
    "plain": (0, "ok", False, HELLO, 1200, 300, 40, 1, 0),
    "think": (0, "ok", False, HELLO, 1200, 300, 64, 1, 0),
    "json": (0, "ok", False, '{"status"', 1200, 300, 40, 1, 0),
    "tool": (0, "ok", False, DONE, 2400, 600, 80, 2, 1),
    "tool-3": (0, "ok", False, DONE, 4800, 1200, 160, 4, 3),
    "tool-fail": (0, "ok", False, DONE, 2400, 600, 80, 2, 1),
    "flaky-429": (0, "ok", False, HELLO, 1200, 300, 40, 1, 0),
    "empty": (0, "ok", False, "", 1200, 300, 0, 1, 0),
    "error-400": (1, "bad_request", False, "stub: scripted failure 400", 0, 0, 0, 0, 0),
    "error-401": (1, "auth", False, "stub: scripted failure 401", 0, 0, 0, 0, 0),
    "error-403": (1, "auth", False, "stub: scripted failure 403", 0, 0, 0, 0, 0),
    "error-404": (1, "model_not_found", False, "stub: scripted failure 404", 0, 0, 0, 0, 0),
    "error-429": (1, "rate_limit", True, "stub: scripted failure 429", 0, 0, 0, 0, 0),
    "error-500": (1, "server_error", True, "stub: scripted failure 500", 0, 0, 0, 0, 0),
    "error-529": (1, "overloaded", True, "stub: scripted failure 529", 0, 0, 0, 0, 0),
    "late-500": (1, "server_error", True, "stub: scripted failure 500", 1200, 300, 40, 1, 1),
    "cut": (1, "network", True, "", 0, 0, 0, None, 0),
    "truncated": (0, "truncated", False, "the answer was cut off by its token limit", 1200, 300, 40, 1, 0),
    "refusal": (1, "refusal", False, "The response was blocked", 1200, 300, 40, 1, 0),
}


def recorded(name: str) -> list[bytes]:
    return (RECORDINGS / f"{name}.ndjson").read_bytes().splitlines()


def task(extra: str = "", model: str = "stub/some-model") -> Any:
    return compiled(f"type: standalone\nname: Job\nagentRuntime: opencode\nmodel: {model}\npromptTemplate: hi\n{extra}")


def read(lines: list[bytes], of: Any = None) -> OpenCodeReader:
    reader = OpenCode().reader(of or task())
    for line in lines:
        reader.line("stdout", line, NOW)
    return reader


def step(reason: str, tokens: int) -> bytes:
    part = {"reason": reason, "tokens": {"input": tokens, "output": 0}, "cost": 0}
    return json.dumps({"type": "step_finish", "part": part}).encode()


@pytest.mark.parametrize("name", GOLDEN)
def test_each_recording_has_its_outcome_and_usage(name: str) -> None:
    assert_told(read(recorded(name)), GOLDEN[name])


def test_every_recording_is_in_the_table() -> None:
    assert {path.stem for path in RECORDINGS.glob("*.ndjson")} == set(GOLDEN)


def test_an_overloaded_api_is_not_asked_again_before_the_pause_that_it_named() -> None:
    assert read(recorded("error-429")).outcome(ProcessEnd(code=1, signal=None)).not_before_s == 1.0


def test_the_cost_of_opencode_counts_then_the_list_price_and_else_none_is_known() -> None:
    own = [line.replace(b'"cost":0}', b'"cost":0.00429}') for line in recorded("plain")]
    unknown, listed, told = (read(lines, task(model=model)).meter for lines, model in (
        (recorded("plain"), "stub/some-model"), (recorded("plain"), "anthropic/claude-sonnet-4-5"), (own, "stub/some-model"),
    ))  # fmt: skip

    assert (unknown.cost, unknown.cost_source) == (None, None)
    assert (listed.cost, listed.cost_source) == (Decimal("0.00429"), CostSource.PRICES)
    assert (told.cost, told.cost_source) == (Decimal("0.00429"), CostSource.CLI)


def test_the_cost_of_a_call_without_an_answer_is_unknown_and_that_of_a_refused_one_is_none() -> None:
    silent, refused = read([]).meter, read(recorded("error-401")).meter

    assert (silent.usage, silent.turns, silent.cost) == (Usage(), None, None)
    assert (refused.usage, refused.turns, refused.cost) == (Usage(), 0, 0)


def test_an_answer_without_usage_is_a_turn_of_unknown_cost() -> None:
    reader = read([step("tool-calls", 0)], task(model="anthropic/claude-sonnet-4-5"))

    assert (reader.meter.turns, reader.meter.cost, reader.stop()) == (1, None, None)


def test_it_is_stopped_before_the_call_that_its_turns_forbid_and_not_after_its_last_answer() -> None:
    limited = task("maxTurns: 2\n")
    calls, answer = step("tool-calls", 5), step("stop", 5)

    assert [
        getattr(stopped(limited, [("stdout", line) for line in lines]), "reason", None)
        for lines in ([calls], [calls, calls], [calls, answer])
    ] == [
        None,
        "max_turns",
        None,
    ]


def test_empty_answers_are_no_turns_and_the_third_in_a_row_ends_it() -> None:
    empty, real = step("unknown", 0), step("tool-calls", 5)

    patient, given_up = read([empty, empty, real, empty, empty]), read([real, empty, empty, empty])

    assert (patient.stop(), patient.meter.turns) == (None, 1)
    stop = given_up.stop()
    assert stop is not None
    assert (stop.reason, stop.again) == ("network", True)


@pytest.mark.parametrize(
    ("error", "reason", "again"),
    [
        ({"name": "APIError", "data": {"message": "x", "isRetryable": True}}, "network", True),
        ({"name": "ContextOverflowError", "data": {"message": "x"}}, "context_overflow", False),
        ({"name": "UnknownError", "data": {"message": "Unexpected server error"}}, "config", False),
        ({"name": "UnknownError", "data": {"message": "The operation timed out."}}, "network", True),
        ({"name": "APIError", "data": {"statusCode": 429, "responseBody": "insufficient_quota"}}, "quota", False),
        ({"name": "APIError", "data": {"statusCode": 400, "responseBody": "Your credit balance is too low"}}, "quota", False),
        ({"name": "ProviderAuthError", "data": {"message": "no key"}}, "auth", False),
    ],
)
def test_the_error_s_own_fields_name_the_reason(error: dict[str, Any], reason: str, again: bool) -> None:
    found = read([json.dumps({"type": "error", "error": error}).encode()]).outcome(ProcessEnd(code=1, signal=None))

    assert (found.reason, found.again) == (reason, again)


def test_a_tool_call_that_was_denied_at_the_end_is_told() -> None:
    denied = json.dumps(
        {"type": "tool_use", "part": {"tool": "bash", "state": {"status": "error", "error": "denied"}}}
    ).encode()

    found = read([denied, step("tool-calls", 5)]).outcome(ProcessEnd(code=0, signal=None))

    assert (found.ok, found.reason) == (False, "denied")


def test_the_log_shows_calls_answers_and_words() -> None:
    reader = OpenCode().reader(task())
    lines = [line for data in recorded("tool") for line in reader.line("stdout", data, NOW)]

    assert [(line.kind, line.text) for line in lines if line.kind is not LogKind.TURN] == [
        (LogKind.TOOL, 'bash {"command": "echo hi"}'),
        (LogKind.RESULT, "hi"),
        (LogKind.TEXT, DONE),
    ]


def test_the_cost_of_calls_that_all_broke_off_is_unknown_and_that_of_refused_ones_zero() -> None:
    assert [read(recorded(name)).meter.cost for name in ("cut", "error-500")] == [None, Decimal(0)]


@pytest.mark.parametrize(
    ("model", "provider"),
    [
        (
            "anthropic/claude-sonnet-4-5",
            {"anthropic": {"options": {"baseURL": "http://m"}, "models": {"claude-sonnet-4-5": {}}}},
        ),
        (
            "my-gateway/some/model",
            {
                "my-gateway": {
                    "npm": "@ai-sdk/openai-compatible",
                    "options": {"baseURL": "http://m", "apiKey": "{env:MY_GATEWAY_API_KEY}"},
                    "models": {"some/model": {"name": "some/model"}},
                }
            },
        ),
    ],
)
def test_an_endpoint_becomes_that_of_the_model_s_provider(model: str, provider: dict[str, Any]) -> None:
    call = OpenCode().invoke(task(model=model), "hi", {}, AttemptContext(program="opencode", endpoint="http://m"))

    assert config_of(call)["provider"] == provider
    assert call.argv[-2:] == ("-m", model)
    assert "provider" not in config_of(OpenCode().invoke(task(model=model), "hi", {}, AttemptContext()))


def test_it_finds_a_library_for_plugins_so_that_it_installs_none() -> None:
    call = OpenCode().invoke(task(), "hi", {}, AttemptContext())

    lock = json.loads(call.files[".config/opencode/package-lock.json"])
    assert lock["packages"][""]["dependencies"] == {"@opencode-ai/plugin": "*"}
    assert [name for name in call.files if name.startswith(".config/opencode/node_modules/")]


def config_of(call: Invocation) -> Any:
    return json.loads(call.files[call.file_env["OPENCODE_CONFIG"]])


@pytest.mark.parametrize(
    ("model", "keys"),
    [
        ("anthropic/claude-sonnet-4-5", "ANTHROPIC_API_KEY"),
        ("google/gemini-2.5-pro", "GEMINI_API_KEY GOOGLE_API_KEY GOOGLE_GENERATIVE_AI_API_KEY"),
        ("my-gateway/some/model", "MY_GATEWAY_API_KEY"),
    ],
)
def test_its_commands_do_not_have_the_key_of_its_model(model: str, keys: str) -> None:
    call = OpenCode().invoke(task(model=model), "hi", {}, AttemptContext())

    assert call.files[call.file_env["BASH_ENV"]].decode().startswith(f"unset {keys} 2>")


def test_a_task_that_has_a_script_for_bash_itself_keeps_it() -> None:
    call = OpenCode().invoke(task("environment: {env: {BASH_ENV: /dev/null}}\n"), "hi", {}, AttemptContext())

    assert "BASH_ENV" not in call.file_env
