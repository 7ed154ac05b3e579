"""What Gemini prints and keeps -> log, usage, outcome. The recordings are of version 0.61.0; of its session file and its
telemetry only the answers of the model."""

import json
import subprocess
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from optio.model.agent_event import ToolResult
from optio.model.run import LogKind
from optio.model.usage import CostSource, Usage
from optio.runtimes.base import AttemptContext, ProcessEnd
from optio.runtimes.gemini import Gemini, GeminiReader
from tests.runtimes import recordings
from tests.runtimes.recordings import assert_told, feed, stopped
from tests.support import compiled

RECORDINGS = Path(__file__).parent / "gemini"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
HELLO, DONE = "Hello from the stub model.", "The command has run. Done."
# recording -> exit code, reason, again, text or message begins, fresh, cached, output, turns, tools; None: it kept no answer
GOLDEN: dict[str, tuple[int, str, bool, str, int, int, int, int | None, int]] = {
    "plain": (0, "ok", False, HELLO, 1200, 300, 40, 1, 0),
    "think": (0, "ok", False, HELLO, 1200, 300, 64, 1, 0),
    "json": (0, "ok", False, '{"status"', 1200, 300, 40, 1, 0),
    "tool": (0, "ok", False, DONE, 2400, 600, 80, 2, 1),
    "tool-3": (0, "ok", False, DONE, 4800, 1200, 160, 4, 3),
    "tool-fail": (0, "ok", False, DONE, 2400, 600, 80, 2, 1),
    "flaky-429": (0, "ok", False, HELLO, 1200, 300, 40, 1, 0),
    # It asks three times.
    "empty": (0, "unproductive", True, "The model returned an empty response", 3600, 900, 0, None, 0),
    "error-400": (144, "bad_request", False, "[API Error: ", 0, 0, 0, 0, 0),
    "error-401": (145, "auth", False, "[API Error: ", 0, 0, 0, 0, 0),
    "error-403": (147, "auth", False, "[API Error: ", 0, 0, 0, 0, 0),
    # Of a 404 its events pass on the text alone, without the status.
    "error-404": (1, "no_result", True, "[API Error: ", 0, 0, 0, None, 0),
    "error-429": (173, "rate_limit", True, "[API Error: stub: scripted failure 429]", 0, 0, 0, 0, 0),
    "error-500": (244, "server_error", True, "[API Error: ", 0, 0, 0, 0, 0),
    "error-529": (17, "overloaded", True, "[API Error: ", 0, 0, 0, 0, 0),
    "late-500": (244, "server_error", True, "[API Error: ", 1200, 300, 40, 1, 1),
    "cut": (1, "network", True, "[API Error: terminated]", 0, 0, 0, None, 0),
    "garbage": (1, "network", True, "[API Error: Incomplete JSON", 0, 0, 0, None, 0),
    "max-turns": (53, "max_turns", False, "stopped after 3 turns", 3600, 900, 120, 3, 3),
    # Two calls that it broke off are in no figure of it.
    "loop": (0, "loop", False, "it repeated the same", 4800, 1200, 160, 4, 4),
    "truncated": (0, "truncated", False, "the answer was cut off", 1200, 300, 40, 1, 0),
    "refusal": (0, "refusal", False, "I cannot help with that.", 1200, 300, 40, 1, 0),
}


def recorded(name: str) -> list[tuple[str, bytes]]:
    return recordings.recorded(RECORDINGS, name)


def task(extra: str = "", model: str = "gemini-2.5-pro") -> Any:
    return compiled(f"type: standalone\nname: Job\nagentRuntime: gemini\nmodel: {model}\npromptTemplate: hi\n{extra}")


def read(lines: list[tuple[str, bytes]], of: Any = None) -> GeminiReader:
    return feed(Gemini().reader(of or task()), lines)


def event(stream: str = "stdout", **fields: Any) -> tuple[str, bytes]:
    return stream, json.dumps(fields).encode()


def answer(call: str, tokens: int = 100, **fields: Any) -> tuple[str, bytes]:
    """What the session file has of a model call."""
    used = {"input": tokens, "output": 1, "cached": 0, "thoughts": 0, "tool": 0, "total": tokens + 1}
    return event("side", id=call, type="gemini", tokens=used, model="claude-sonnet-4-5", **fields)


@pytest.mark.parametrize("name", GOLDEN)
def test_each_recording_has_its_outcome_and_usage(name: str) -> None:
    assert_told(read(recorded(name), task("maxTurns: 3\n")), GOLDEN[name])


def test_every_recording_is_in_the_table() -> None:
    assert recordings.names(RECORDINGS) == set(GOLDEN)


def test_reasoning_is_part_of_the_output_while_it_runs_and_at_its_end() -> None:
    lines = recorded("think")

    assert [read(part).meter.usage for part in (lines[:-1], lines)] == [
        Usage(fresh=1200, cached=300, output=64, reasoning=24)
    ] * 2


def test_a_cost_is_by_the_list_price_of_the_model_that_answered_and_without_one_unknown() -> None:
    call = answer("a", 1_000_000)
    other = event("side", id="b", type="gemini", tokens={"input": 1}, model="our-own-model")

    retried = telemetry(**{"event.name": "gemini_cli.network_retry_attempt", "error_type": "INCOMPLETE_JSON"})
    failed = recorded("error-500")
    known, partly, refused = (read(lines).meter for lines in ([call], [call, other], [*api_error(500), *failed]))

    assert (known.cost, known.cost_source) == (Decimal("3.000015"), CostSource.PRICES)
    assert (partly.cost, partly.cost_source) == (None, None)
    for nothing in (read([*broken_off, *failed]).meter for broken_off in (api_error(), retried)):
        assert (nothing.cost, nothing.turns, nothing.usage) == (None, None, Usage())
    assert (refused.cost, refused.turns, refused.usage) == (Decimal(0), 0, Usage())


def test_an_answer_that_the_session_file_repeats_is_counted_once() -> None:
    meter = read([answer("a"), answer("a", toolCalls=[]), answer("b")]).meter

    assert (meter.turns, meter.usage.fresh) == (2, 200)


def test_the_last_event_has_the_calls_of_subagents_too() -> None:
    figures = {"input_tokens": 900, "cached": 0, "output_tokens": 9, "total_tokens": 909}
    end = event(type="result", status="success", stats={"models": {"gemini-2.5-pro": figures, "gemini-2.5-flash": figures}})

    assert read([answer("a"), end]).meter.usage == Usage(fresh=1800, output=18)


def test_each_call_has_its_own_price_and_calls_beyond_the_session_file_are_added() -> None:
    def figures(tokens: int) -> dict[str, int]:
        return {"input_tokens": tokens, "cached": 0, "output_tokens": 0, "total_tokens": tokens}

    tokens = {"input": 150_000, "output": 0, "cached": 0}
    calls = [event("side", id=call, type="gemini", tokens=tokens, model="gemini-2.5-pro") for call in "ab"]
    ends = [
        event(type="result", status="success", stats={"models": models})
        for models in (
            {"gemini-2.5-pro": figures(300_000)},
            {"gemini-2.5-pro": figures(300_000), "gemini-2.5-flash": figures(100_000)},
            {"gemini-2.5-pro-001": figures(300_000)},
        )
    ]

    # None of them is a long call, though they are one together.
    assert [read([*calls, *more]).meter.cost for more in ([], *([end] for end in ends))] == [
        Decimal("0.375"),
        Decimal("0.375"),
        Decimal("0.405"),
        None,
    ]


def test_a_budget_stops_it_while_it_runs_and_not_after_its_last_event() -> None:
    limited = task('budgetUsd: "0.01"\n')
    end = event(type="result", status="success", stats={})

    found = [stopped(limited, [answer("a", tokens), *more]) for tokens, more in ((3_000, []), (4_000, []), (4_000, [end]))]

    assert [getattr(stop, "reason", None) for stop in found] == [None, "budget", None]


def test_its_own_limit_of_turns_is_set_and_held_against_settings_of_the_working_directory() -> None:
    limited = task("maxTurns: 2\n")
    calls = [answer("a"), answer("b"), answer("c")]

    settings = json.loads(Gemini().invoke(limited, "hi", {}, AttemptContext()).files[".gemini/settings.json"])

    assert settings["model"] == {"maxSessionTurns": 2}
    assert [getattr(stopped(limited, lines), "reason", None) for lines in (calls[:2], calls)] == [None, "max_turns"]


def test_it_has_subagents_only_without_a_budget() -> None:
    free, limited = (
        json.loads(Gemini().invoke(of, "hi", {}, AttemptContext()).files[".gemini/settings.json"])
        for of in (task(), task('budgetUsd: "1.00"\n'))
    )

    assert "tools" not in free
    assert limited["tools"] == {"exclude": ["invoke_agent"]}


@pytest.mark.parametrize("prompt", ["/help", " \n/memory add x", "write to a@note.txt", "@src", "x\n@y", " ?"])
def test_a_prompt_that_gemini_would_change_goes_through_a_command_of_our_own(prompt: str) -> None:
    call = Gemini().invoke(task(), prompt, {}, AttemptContext())

    assert call.stdin.decode() == f"/optio-task {prompt}"
    assert ".gemini/commands/optio-task.toml" in call.files


@pytest.mark.parametrize("prompt", ["say hello", "a/b", "-m x", ""])
def test_any_other_prompt_goes_in_as_it_is(prompt: str) -> None:
    call = Gemini().invoke(task(), prompt, {}, AttemptContext())

    assert call.stdin.decode() == prompt
    assert ".gemini/commands/optio-task.toml" not in call.files


@pytest.mark.parametrize(
    ("kind", "message", "reason"),
    [
        ("unknown", '[API Error: {"error":{"code":400,"message":"API key not valid. Please pass a valid API key."}}]', "auth"),
        ("unknown", '[API Error: {"error":{"code":400,"message":"The input token count (9) exceeds 8"}}]', "context_overflow"),
        ("unknown", '[API Error: {"error":{"code":503,"message":"terminated"}}]', "overloaded"),
        ("unknown", "[API Error: models/x is not found for API version v1beta]", "model_not_found"),
        ("unknown", "[API Error: You have exhausted your daily quota on this model.]", "quota"),
        ("unknown", "[API Error: exception TypeError: fetch failed sending request]", "network"),
        ("unknown", "The model response was blocked due to safety settings.", "refusal"),
        ("unknown", "Model response was truncated because it exceeded the token limit.", "truncated"),
        ("FatalAuthenticationError", "code 7", "auth"),
        ("unknown", "something of tomorrow", "no_result"),
    ],
)
def test_the_words_of_gemini_name_the_reason(kind: str, message: str, reason: str) -> None:
    end = event(type="result", status="error", error={"type": kind, "message": message}, stats={})

    found = read([end]).outcome(ProcessEnd(code=1, signal=None))

    assert (found.ok, found.reason) == (False, reason)


def test_the_report_on_standard_error_has_the_status_that_the_events_lack() -> None:
    report = [("stderr", line) for line in (b"... ModelNotFoundError: it is not here", b"    at retry {", b"  code: 404", b"}")]

    found = read([*report, *recorded("error-404")]).outcome(ProcessEnd(code=1, signal=None))

    assert (found.reason, found.again) == ("model_not_found", False)


def test_without_a_key_the_reason_is_that_and_the_message_is_its_own() -> None:
    reader = read([("stderr", b"YOLO mode is enabled. All tool calls"), ("stderr", b"When using Gemini API, you must specify")])

    found = reader.outcome(ProcessEnd(code=41, signal=None))

    assert (found.ok, found.reason, found.message) == (False, "auth", "When using Gemini API, you must specify")


def test_a_run_that_was_ended_by_a_signal_is_no_success_though_its_exit_code_is_zero() -> None:
    found = read(recorded("tool")[:-1]).outcome(ProcessEnd(code=0, signal=None))

    assert (found.ok, found.reason) == (False, "no_result")


def shown(lines: list[tuple[str, bytes]]) -> list[tuple[LogKind, str]]:
    """The log but for the ends of model calls."""
    reader = Gemini().reader(task())
    log = [line for stream, data in lines for line in reader.line(stream, data, NOW)]
    return [(line.kind, line.text) for line in log if line.kind is not LogKind.TURN]


def test_the_log_shows_calls_answers_and_words_as_one() -> None:
    assert shown([*recorded("tool-fail"), *recorded("plain")]) == [
        (LogKind.TOOL, 'run_shell_command {"command": "echo oops >&2; exit 3"}'),
        (LogKind.RESULT, "error: oops"),
        (LogKind.TEXT, DONE),
        (LogKind.TEXT, HELLO),
    ]


def command(call: str = "a", output: str = "") -> tuple[tuple[str, bytes], tuple[str, bytes], tuple[str, bytes]]:
    """A command's call and result, and what the session file has of them."""
    told = [{"functionResponse": {"response": {"output": f"<untrusted_context>\n{output}\n</untrusted_context>"}}}]
    return (
        event(type="tool_use", tool_id=call, tool_name="run_shell_command", parameters={}),
        event(type="tool_result", tool_id=call, status="success", output="shown"),
        answer("1", toolCalls=[{"id": call, "name": "run_shell_command", "result": told}]),
    )


@pytest.mark.parametrize(
    ("output", "ok", "code"),
    [
        ("Output: x", True, None),
        ("Output: Exit Code: 1\nend", True, None),
        ("Output: Command was automatically cancelled because", True, None),
        ("Output: x\nExit Code: 2\nProcess Group PGID: 7", False, 2),
        ("Output: (empty)\nSignal: 9\nProcess Group PGID: 7", False, None),
        ("Command was automatically cancelled because it exceeded the timeout of 5.0 minutes without output.", False, None),
    ],
)
def test_whether_a_command_failed_is_what_the_model_is_told_of_it_and_not_what_it_prints(
    output: str, ok: bool, code: int | None
) -> None:
    reader = read(list(command(output=output)[:2]))
    (result,) = (line.event for line in reader.line(*command(output=output)[2], NOW) if line.kind is LogKind.RESULT)

    assert isinstance(result, ToolResult)
    assert (result.ok, result.exit_code, result.size) == (ok, code, len("shown"))


def test_the_log_waits_for_the_session_file_and_keeps_its_order() -> None:
    (first, result, told), (second, *others) = command("a", "Output: x\nExit Code: 2"), command("b", "Output: y")
    lines = [first, second, result, others[0], event(type="error", message="on")]

    assert shown(lines) == [(LogKind.TOOL, "run_shell_command {}")] * 2
    assert shown([*lines, others[1]])[2:] == []
    assert shown([*lines, others[1], told])[2:] == [
        (LogKind.RESULT, "error: shown"),
        (LogKind.RESULT, "shown"),
        (LogKind.SYSTEM, "on"),
    ]


def test_without_a_session_file_the_log_waits_no_longer_than_for_some_hundred_lines_and_the_end() -> None:
    call, result, _ = command()
    more = [event(type="error", message=f"{number}") for number in range(300)]

    assert len(shown([call, result, *more[:150]])) == 1
    assert shown([call, result, *more])[:3] == [
        (LogKind.TOOL, "run_shell_command {}"),
        (LogKind.RESULT, "shown"),
        (LogKind.SYSTEM, "0"),
    ]
    assert [line.text for line in read([call, result, more[0]]).closing(NOW)] == ["shown", "0"]


def test_a_tool_that_failed_is_said() -> None:
    (line,) = (
        Gemini()
        .reader(task())
        .line(*event(type="tool_result", tool_id="a", status="error", error={"type": "x", "message": "no such tool"}), NOW)
    )

    assert (line.kind, line.text) == (LogKind.RESULT, "error: no such tool")


def test_words_that_no_event_has_ended_are_in_the_log_at_the_end() -> None:
    reader = read([event(type="message", role="assistant", content="half an ans", delta=True)])

    assert reader.text == "half an ans"
    assert [line.text for line in reader.closing(NOW)] == ["half an ans"]


def test_in_a_session_that_it_continues_each_tool_result_is_once(tmp_path: Path) -> None:
    (command,) = Gemini().invoke(task(), "go on", {}, AttemptContext(session="session-0123")).setup
    assert Gemini().invoke(task(), "hi", {}, AttemptContext()).setup == ()
    result = (
        '{"id":"b-2","timestamp":"2026","type":"user","content":[{"functionResponse":{"response":{"output":"\\"user\\","}}}]}'
    )
    kept = [
        '{"id":"a-1","timestamp":"2026","type":"user","content":[{"text":"hello"}]}',
        '{"$set":{"messages":[{"id":"c-3","timestamp":"2026","type":"user","content":[{"functionResponse":{}}]}]}}',
        result,
        '{"id":"half',
    ]
    session = tmp_path / ".gemini" / "tmp" / "work" / "chats" / "session-1.jsonl"

    subprocess.run(["/bin/sh", "-ec", command], env={"HOME": str(tmp_path)}, check=True)
    session.parent.mkdir(parents=True)
    session.write_text("\n".join(kept))
    subprocess.run(["/bin/sh", "-ec", command], env={"HOME": str(tmp_path)}, check=True)

    added = '{"id":"b-2","timestamp":"2026","type":"info","content":""}'
    assert session.read_text() == "\n".join([*kept, added, ""])


def test_a_task_may_send_the_telemetry_where_it_wants() -> None:
    own = 'environment: {env: {GEMINI_TELEMETRY_ENABLED: "true", GEMINI_TELEMETRY_OTLP_ENDPOINT: "http://collector:4317"}}\n'
    call = Gemini().invoke(task(own), "hi", {}, AttemptContext())

    assert call.telemetry is None
    assert (call.file_env, list(call.files)) == ({}, [".gemini/settings.json"])
    assert not [name for name in call.env if name.startswith("OTEL_")]


def telemetry(**attributes: Any) -> list[tuple[str, bytes]]:
    """An entry of the telemetry."""
    return [("telemetry", line) for line in json.dumps({"attributes": attributes}, indent=2).encode().splitlines()]


def entry(*reasons: Any, **attributes: Any) -> list[tuple[str, bytes]]:
    """An answer to the main agent."""
    return telemetry(**{"event.name": "gemini_cli.api_response", "role": "main", "finish_reasons": reasons} | attributes)


def api_error(status: int | None = None) -> list[tuple[str, bytes]]:
    """A model call that was refused, or without a status broken off."""
    return telemetry(**{"event.name": "gemini_cli.api_error"} | ({} if status is None else {"status_code": status}))


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ([*entry("length"), *entry("stop")], "ok"),
        ([*entry("stop"), *entry("length")], "truncated"),
        ([*entry("stop"), *entry("length"), *entry("stop", role="subagent")], "truncated"),
        ([*entry("stop"), *entry("length", role="utility_compressor")], "ok"),
        ([*entry("stop"), *entry("length", **{"event.name": "other"}, told="gemini_cli.api_response")], "ok"),
        ([*entry("stop"), *entry("content_filter")], "refusal"),
        ([*entry("length")[:-1]], "ok"),
        ([("telemetry", b"{"), ("telemetry", b"x" * 300_000), *entry("length")[1:], *entry("stop")], "ok"),
        (
            [*entry("length"), ("telemetry", b"{"), ("telemetry", b'"gemini_cli.api_response"'), ("telemetry", b"}")],
            "truncated",
        ),
        ([*entry(7), *entry(None), *entry({})], "ok"),
    ],
)
def test_the_last_answer_to_the_main_agent_says_how_it_ended(entries: list[tuple[str, bytes]], reason: str) -> None:
    found = read([*recorded("plain"), *entries]).outcome(ProcessEnd(code=0, signal=None))

    assert (found.ok, found.reason) == (reason == "ok", reason)


def test_without_telemetry_the_log_says_that_an_end_is_not_known() -> None:
    def said(stream: str) -> list[str]:
        return [line.text for line in read([line for line in recorded("tool") if line[0] != stream]).closing(NOW)]

    assert said("none") == []
    assert said("telemetry") == ["its telemetry does not say how the answer ended: it may have been cut off or refused"]


def test_it_asks_no_other_host_by_itself_and_takes_no_endpoint_from_the_working_directory() -> None:
    call = Gemini().invoke(task(), "hi", {}, AttemptContext(program="gemini"))

    settings = json.loads(call.files[".gemini/settings.json"])
    assert settings["privacy"] == {"usageStatisticsEnabled": False}
    assert settings["general"]["enableAutoUpdate"] is False
    assert settings["advanced"] == {"ignoreLocalEnv": True}
    assert (call.env["GEMINI_TELEMETRY_TARGET"], call.env["GEMINI_TELEMETRY_USE_COLLECTOR"]) == ("local", "false")
    assert call.file_env["GEMINI_TELEMETRY_OUTFILE"] == call.telemetry
    assert call.files[call.telemetry or ""] == b""
    assert call.env["GOOGLE_GEMINI_BASE_URL"] == "https://generativelanguage.googleapis.com"
