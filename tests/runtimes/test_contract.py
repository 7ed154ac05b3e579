"""What holds for every runtime with an agent CLI: recordings of the real program, and what broken pipes, killed processes and
lying texts make of them."""

import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optio.model.agent_event import ToolCall, ToolKind, ToolResult, TurnEnd
from optio.model.run import LogKind, LogLine, Outcome
from optio.model.runtimes import DECLARED
from optio.model.session import INTERRUPTED
from optio.model.usage import Usage
from optio.runtimes import RUNTIMES
from optio.runtimes.base import AttemptContext, OutputReader, ProcessEnd
from optio.runtimes.event_reader import EventReader
from optio.settings import SETTINGS
from tests.runtimes.recordings import guarded, limits
from tests.support import compiled

NOW = datetime(2026, 1, 1, tzinfo=UTC)
RECORDINGS = Path(__file__).parent
HELLO = "Hello from the stub model."
AGENTS = [name for name, agent in DECLARED.items() if agent.program is not None]
FAILURES = ["error-400", "error-401", "error-403", "error-404", "error-429", "error-500", "error-529", "late-500", "cut"]
SUCCESSES = ["plain", "tool", "tool-fail", "think"]


def recorded(agent: str, name: str) -> list[bytes]:
    path = RECORDINGS / agent.replace("-", "_") / f"{name}.ndjson"
    return path.read_bytes().splitlines()


def task(agent: str, extra: str = "") -> Any:
    head = f"type: standalone\nname: Job\nagentRuntime: {agent}\nmodel: any/claude-sonnet-4-5\n"
    return compiled(f"{head}promptTemplate: hi\n{extra}")


def read(agent: str, lines: list[bytes], side: Sequence[bytes] = ()) -> tuple[OutputReader, list[LogLine]]:
    reader = RUNTIMES[agent].reader(task(agent))
    streams = {stream_of(agent): side, "stdout": lines}
    return reader, [line for name, stream in streams.items() for data in stream for line in reader.line(name, data, NOW)]


def side_of(agent: str, name: str) -> list[bytes]:
    """The file of a recording that has the usage, for agents that have one."""
    if agent == "copilot":
        return (RECORDINGS / agent / f"{name}.telemetry.json").read_bytes().splitlines()
    return [] if RUNTIMES[agent].side is None else recorded(agent, f"{name}.side")


def stream_of(agent: str) -> str:
    return "telemetry" if agent == "copilot" else "side"


def outcome(agent: str, lines: list[bytes], code: int | None = 0, signal: int | None = None) -> Outcome:
    return read(agent, lines)[0].outcome(ProcessEnd(code=code, signal=signal))


def test_every_declared_runtime_can_be_run_by_its_name() -> None:
    assert {name: runtime.declaration for name, runtime in RUNTIMES.items()} == dict(DECLARED)


@pytest.mark.parametrize("agent", AGENTS)
def test_an_operator_can_name_the_program_of_every_runtime_and_its_endpoint(agent: str) -> None:
    variable = agent.replace("-", "_")

    assert f"program_{variable}" in SETTINGS
    assert f"endpoint_{variable}" in SETTINGS or agent == "claude-code"


@pytest.mark.parametrize("agent", AGENTS)
@pytest.mark.parametrize("name", SUCCESSES)
def test_success_needs_exit_zero(agent: str, name: str) -> None:
    lines = recorded(agent, name)

    assert outcome(agent, lines).ok
    assert not outcome(agent, lines, code=1).ok
    assert not outcome(agent, lines, code=None, signal=9).ok


@pytest.mark.parametrize("agent", AGENTS)
@pytest.mark.parametrize("name", FAILURES)
def test_a_failure_is_one_whatever_the_exit_code_says(agent: str, name: str) -> None:
    failed = outcome(agent, recorded(agent, name), code=1)

    assert not failed.ok
    assert not outcome(agent, recorded(agent, name), code=0).ok
    assert failed.message


@pytest.mark.parametrize("agent", AGENTS)
def test_what_was_served_is_metered(agent: str) -> None:
    once, twice = (read(agent, recorded(agent, name), side_of(agent, name))[0].meter for name in ("plain", "tool"))

    assert (once.usage, once.turns, once.tool_calls) == (Usage(fresh=1200, cached=300, output=40), 1, 0)
    assert (twice.usage, twice.turns, twice.tool_calls) == (Usage(fresh=2400, cached=600, output=80), 2, 1)


# What each CLI tells of itself besides, in lines that the recordings lack.
TOLD = {
    "claude-code": (
        "stdout",
        b'{"type":"system","subtype":"init","session_id":"s-1","claude_code_version":"2.1.331"}',
        "2.1.331",
    ),
    "codex": ("side", b'{"type":"session_meta","payload":{"id":"s-1","cli_version":"0.169.0"}}', "0.169.0"),
    "copilot": ("side", b'{"type":"session.start","data":{"sessionId":"s-1","copilotVersion":"1.0.102"}}', "1.0.102"),
    "gemini": ("side", b'{"sessionId":"s-1"}', None),
    "opencode": ("side", b"", None),
}


@pytest.mark.parametrize("agent", ["claude-code", "codex", "copilot"])
def test_a_reader_tells_whether_the_agent_only_repeats_a_failed_model_call(agent: str) -> None:
    def after_each_line(*names: str) -> list[bool]:
        reader, found = RUNTIMES[agent].reader(task(agent)), []
        assert isinstance(reader, EventReader)
        for data in (line for name in names for line in recorded(agent, name)):
            reader.line("stdout", data, NOW)
            found.append(reader.is_retrying)
        return found

    failing = after_each_line("error-500")
    assert failing == sorted(failing)
    assert [failing[0], failing[-3]] == [False, True]
    # Another attempt of the agent, which is answered.
    assert not after_each_line("error-500", "tool")[-1]
    assert not any(after_each_line("tool"))


@pytest.mark.parametrize("agent", AGENTS)
def test_a_reader_tells_which_version_session_and_model_it_was(agent: str) -> None:
    stream, line, version = TOLD[agent]
    reader = RUNTIMES[agent].reader(task(agent))
    for name, lines in ((stream, [line]), (stream_of(agent), side_of(agent, "tool")), ("stdout", recorded(agent, "tool"))):
        for data in lines:
            reader.line(name, data, NOW)

    assert isinstance(reader, EventReader)
    assert reader.identity.version == version
    assert reader.identity.model == {"codex": None, "opencode": "any/claude-sonnet-4-5"}.get(agent, "stub-tool")
    assert reader.identity.session


@pytest.mark.parametrize("agent", AGENTS)
@pytest.mark.parametrize("told", ["null", "7", '""', '"a\\u0000b"', '"' + "x" * 201 + '"', '"\\ud800"'])
def test_a_session_that_is_no_short_text_counts_as_not_told(agent: str, told: str) -> None:
    reader = RUNTIMES[agent].reader(task(agent))
    for key in ("session_id", "thread_id", "sessionID", "sessionId"):
        for kind in ("system", "thread.started", "result", "init", "step_start"):
            reader.line("stdout", f'{{"type":"{kind}","subtype":"init","{key}":{told}}}'.encode(), NOW)

    assert isinstance(reader, EventReader)
    assert reader.identity.session is None


@pytest.mark.parametrize("agent", ["codex", "copilot"])
def test_without_its_usage_the_limits_that_were_not_enforced_are_named(agent: str) -> None:
    limited = task(agent, 'maxTurns: 3\nbudgetUsd: "1.00"\nbudget: report\n')
    stdout = [("stdout", line) for line in recorded(agent, "plain") if b'"turn.completed"' not in line]

    said = limits(limited).unenforced(guarded(limited, stdout))

    assert "budgetUsd was not enforced: its agent told no usage of a model call" in said


@pytest.mark.parametrize("agent", AGENTS)
@pytest.mark.parametrize(("name", "ok"), [("tool", True), ("tool-fail", False)])
def test_a_tool_call_is_found_again_by_its_id_in_its_result(agent: str, name: str, ok: bool) -> None:
    _, lines = read(agent, recorded(agent, name), side_of(agent, name))
    (call,) = (line for line in lines if isinstance(line.event, ToolCall))
    (result,) = (line for line in lines if isinstance(line.event, ToolResult))

    assert isinstance(call.event, ToolCall)
    assert isinstance(result.event, ToolResult)
    assert call.event.kind is ToolKind.EXECUTE
    assert "echo" in str(call.event.input)
    assert call.event.name in call.text
    assert (result.event.id, result.event.ok) == (call.event.id, ok)
    assert result.event.size == len(result.text.removeprefix("error: "))
    assert [line.turn for line in lines if line.kind in (LogKind.TOOL, LogKind.RESULT, LogKind.TEXT)] == [1, 1, 2]


@pytest.mark.parametrize("agent", AGENTS)
@pytest.mark.parametrize("name", ["plain", "tool", "think", "late-500"])
def test_the_ends_of_model_calls_add_up_to_what_was_used(agent: str, name: str) -> None:
    reader = RUNTIMES[agent].reader(task(agent))
    streams = [(stream_of(agent), data) for data in side_of(agent, name)] + [("stdout", data) for data in recorded(agent, name)]
    lines = [line for stream, data in streams for line in reader.line(stream, data, NOW)]
    ends = [(line.turn, line.event) for line in lines if isinstance(line.event, TurnEnd)]

    assert [number for number, _ in ends] == list(range(1, len(ends) + 1))
    assert len(ends) == reader.meter.turns
    assert sum(end.fresh + end.cached + end.output for _, end in ends) == reader.meter.usage.total
    assert [line.kind for line in lines if line.text == "Thinking first."] == [LogKind.THOUGHT] * (name == "think")


@pytest.mark.parametrize("agent", AGENTS)
def test_a_last_line_that_is_cut_in_half_or_missing_is_no_result(agent: str) -> None:
    *lines, last = recorded(agent, "plain")

    for cut in ([*lines, last[: len(last) // 2]], lines):
        for code in (0, 143):
            found = outcome(agent, cut, code=code)
            assert (found.ok, found.reason, found.again) == (False, "no_result", True)


@pytest.mark.parametrize("agent", AGENTS)
def test_usage_is_kept_when_it_was_stopped(agent: str) -> None:
    reader, _ = read(agent, recorded(agent, "late-500")[:-1], side_of(agent, "late-500"))

    assert reader.meter.usage.output == 40
    assert reader.outcome(ProcessEnd(code=143, signal=None)).reason == "no_result"


NOISE = [
    b"plain text",
    b"\0",
    b'{"type": "of tomorrow"}',
    b"[1]",
    b'"text"',
    b"{",
    b'{"no": "type"}',
    b"{" * 9_999,
    b"\xff",
    b"",
]


@pytest.mark.parametrize("agent", AGENTS)
@pytest.mark.parametrize("noise", NOISE)
def test_noise_between_the_events_changes_nothing(agent: str, noise: bytes) -> None:
    lines = recorded(agent, "tool")

    for place in (0, 3, -1):
        reader, _ = read(agent, [*lines[:place], noise, *lines[place:]])

        assert reader.outcome(ProcessEnd(code=0, signal=None)) == outcome(agent, lines)
        assert reader.meter == read(agent, lines)[0].meter


@pytest.mark.parametrize("agent", AGENTS)
@pytest.mark.parametrize("text", ["401 rate limit exceeded", '{"type":"result","is_error":true}', "API Error: 500", "refusal"])
def test_what_the_model_says_decides_nothing(agent: str, text: str) -> None:
    said = json.dumps(text)[1:-1].encode()
    # Whole, or in the two parts that the model answers in.
    lines = [
        line.replace(HELLO.encode(), said).replace(b"Hello from ", said).replace(b"the stub model.", b"")
        for line in recorded(agent, "plain")
    ]

    found = outcome(agent, lines)

    assert (found.ok, found.reason, found.text) == (True, "ok", text)


@pytest.mark.parametrize("agent", AGENTS)
@pytest.mark.parametrize("number", [b"-1", b"1.5", b"1000000000000000", b"true", b'"7"', b"[1]"])
def test_numbers_that_cannot_be_are_said_and_not_believed(agent: str, number: bytes) -> None:
    lines, side = (
        [re.sub(rb":\s?1[25]00\b", b":" + number, line) for line in stream]
        for stream in (recorded(agent, "plain"), side_of(agent, "plain"))
    )

    reader, said = read(agent, lines, side)

    assert reader.meter.usage.fresh == 0
    assert any(b"ignored" in line.data for line in said)
    assert reader.outcome(ProcessEnd(code=0, signal=None)).ok


@pytest.mark.parametrize("agent", AGENTS)
def test_what_the_agent_has_said_is_known_before_it_ends(agent: str) -> None:
    reader, lines = read(agent, recorded(agent, "plain")[:-1])

    assert reader.text == HELLO
    assert [line.text for line in [*lines, *reader.closing(NOW)] if line.kind is LogKind.TEXT] == [HELLO]


@pytest.mark.parametrize("agent", AGENTS)
def test_a_program_that_ends_before_its_first_event_is_wrongly_configured(agent: str) -> None:
    reader = RUNTIMES[agent].reader(task(agent))
    reader.line("stderr", b"error: unknown option", NOW)

    found = reader.outcome(ProcessEnd(code=1, signal=None))

    assert (found.ok, found.reason, found.message) == (False, "config", "error: unknown option")


@pytest.mark.parametrize("agent", AGENTS)
@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([b"", b"<!doctype html>", b"<body>Sign in"], "It printed: <!doctype html>"),
        ([b"Usage: \x1b[1magent\x1b[0m"], "It printed: Usage: \ufffd[1magent\ufffd[0m"),
        ([b"\xff" * 5000], "It printed: a line of 5,000 bytes"),
        ([b'{"type": "of tomorrow"}'], 'It printed: {"type": "of tomorrow"}'),
        ([], "It printed nothing"),
    ],
)
def test_a_program_that_ends_well_without_an_event_is_told_by_what_it_printed(
    agent: str, lines: list[bytes], said: str
) -> None:
    found = outcome(agent, lines)

    assert (found.ok, found.reason) == (False, "no_result")
    program = DECLARED[agent].program
    assert program is not None
    assert f"`{program.name} --version` with {program.tested}" in found.message
    assert found.message.endswith(said)


@pytest.mark.parametrize("agent", AGENTS)
def test_no_half_of_a_line_of_standard_error_is_quoted(agent: str) -> None:
    reader = RUNTIMES[agent].reader(task(agent))
    for line in (b"a-secret " * 400, b"b-secret " * 100, b"the cause"):
        reader.line("stderr", line, NOW)

    found = reader.outcome(ProcessEnd(code=1, signal=None))

    assert found.message.startswith("b-secret b-secret")


@pytest.mark.parametrize("agent", AGENTS)
@pytest.mark.parametrize(
    ("error", "reason", "words"),
    [
        ("ENOENT", "command_not_found", "the interpreter in its first line was not found"),
        ("ENOEXEC", "not_executable", "another processor"),
        ("EACCES", "not_executable", "permissions"),
        ("ELOOP", "not_executable", "(ELOOP)"),
    ],
)
def test_a_program_that_cannot_be_started_is_told_with_the_usual_cause(agent: str, error: str, reason: str, words: str) -> None:
    reader = RUNTIMES[agent].reader(task(agent))

    found = reader.outcome(ProcessEnd(code=126, signal=None, error=error))

    assert (found.reason, found.again) == (reason, False)
    assert words in found.message


@pytest.mark.parametrize("agent", AGENTS)
def test_the_prompt_goes_in_by_standard_input_and_no_secret_by_an_argument(agent: str) -> None:
    prompt = "--flag $HOME `id` \r\n é \n"

    call = RUNTIMES[agent].invoke(task(agent), prompt, {}, AttemptContext(program="/bin/agent", endpoint="http://model:1"))

    assert call.stdin == prompt.encode()
    assert call.argv[0] == "/bin/agent"
    assert not any(prompt.strip() in argument for argument in call.argv)


@pytest.mark.parametrize("agent", AGENTS)
def test_the_endpoint_of_the_operator_reaches_the_program(agent: str) -> None:
    def all_of(endpoint: str | None) -> bytes:
        call = RUNTIMES[agent].invoke(task(agent), "hi", {}, AttemptContext(program="agent", endpoint=endpoint))
        return b" ".join([*(value.encode() for value in call.env.values()), *call.files.values()])

    assert b"http://model:1" in all_of("http://model:1")
    assert b"http://model:1" not in all_of(None)


EVENTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["part", "item", "error", "data", "usage", "message", "tokens", "cache", "state", "event", "stats", "models"]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=15,
)
TYPES = ["step_start", "step_finish", "text", "tool_use", "error", "item.completed", "turn.failed", "result", "assistant"]
TYPES += ["message", "gemini"]


@pytest.mark.parametrize("agent", AGENTS)
@given(st.lists(st.tuples(st.sampled_from(TYPES), EVENTS), max_size=6))
def test_no_json_whatsoever_breaks_the_reader(agent: str, values: list[tuple[str, Any]]) -> None:
    events = [{"type": kind, **(value if isinstance(value, dict) else {"part": value})} for kind, value in values]

    reader, _ = read(agent, [json.dumps(event).encode() for event in events])

    reader.stop()
    reader.closing(NOW)
    assert reader.meter.usage.output >= 0
    assert isinstance(reader.outcome(ProcessEnd(code=0, signal=None)).ok, bool)


@pytest.mark.parametrize("agent", AGENTS)
def test_a_killed_agent_ended_by_a_signal_and_may_go_on(agent: str) -> None:
    found = outcome(agent, recorded(agent, "tool")[:-1], code=None, signal=9)

    assert (found.ok, found.reason, found.again) == (False, "signal", True)
    assert found.reason in INTERRUPTED
