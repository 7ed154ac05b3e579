"""Contract of runtimes: tests that every runtime passes, those of other packages too. Give them what your agent CLI printed:

class TestAcme(RuntimeContract):
    runtime = Acme()
    recordings = (
        Recording("it answers", "ok", stdout=Path("answers.ndjson").read_bytes(), usage=Usage(fresh=1200, output=40)),
        Recording("a wrong key", "auth", stdout=Path("wrong-key.ndjson").read_bytes(), code=1),
    )
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ClassVar

from optio.model.agent_event import ToolCall, ToolResult
from optio.model.registry import CompiledTask, Origin
from optio.model.run import LogLine, Outcome
from optio.model.task import TaskSpec
from optio.model.usage import Usage
from optio.runtimes.base import AttemptContext, OutputReader, ProcessEnd, Runtime

_NOW = datetime(2026, 1, 1, tzinfo=UTC)
_DONE = ProcessEnd(code=0, signal=None)
_NOISE = (
    *(b"plain text", b"\0", b'{"type": "of tomorrow"}', b"[1]", b'"text"', b"{", b'{"no": "type"}', b"{" * 9_999, b"\xff", b""),
    *(b'{"type": null}', b'{"type": {"a": []}}', b"1e999", b"[" * 9_999),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Streams:
    """The streams of a recording. `side` is the session file, for a runtime that names one, `telemetry` the file that its
    invocation names."""

    stdout: bytes
    side: bytes = b""
    telemetry: bytes = b""
    stderr: bytes = b""
    result: bytes = b""


class Recording:
    """Streams of an agent CLI and its exit code, and what a run makes of them: the reason (`ok` for success), and the usage,
    where the CLI tells it."""

    def __init__(self, name: str, reason: str, *, code: int = 0, usage: Usage | None = None, **streams: bytes) -> None:
        self.name, self.reason, self.code, self.usage = name, reason, code, usage
        self.streams = _Streams(**streams)


class RuntimeContract:
    """Tests that pytest collects in a subclass. `task` has further keys of the task file, such as a model that the runtime
    accepts; `tells_end` says that the CLI's output has an end, without which a run is no success."""

    runtime: Runtime
    recordings: Sequence[Recording]
    task: ClassVar[Mapping[str, Any]] = {}
    tells_end: ClassVar[bool] = True

    def test_it_declares_what_it_is(self) -> None:
        declared = self.runtime.declaration
        assert declared.name
        assert declared.title
        assert {recording.reason == "ok" for recording in self.recordings} == {True, False}, "give a success and a failure"

    def test_the_same_task_is_called_in_the_same_way(self) -> None:
        calls = [self.runtime.invoke(self._task(), "hi", {"A": "b"}, AttemptContext(program="/bin/agent")) for _ in range(2)]
        assert calls[0] == calls[1]
        if self.runtime.declaration.program is not None:
            assert calls[0].argv[0] == "/bin/agent"

    def test_the_prompt_reaches_the_program_as_it_is_and_by_no_argument(self) -> None:
        prompt = "--flag $HOME `id` \r\n é \n"
        call = self.runtime.invoke(self._task(), prompt, {}, AttemptContext(program="/bin/agent"))
        assert prompt.encode() in (call.stdin, *call.files.values())
        assert not any(prompt.strip() in argument for argument in call.argv), "arguments are seen by every user of a machine"

    def test_a_session_is_continued_if_the_declaration_says_so(self) -> None:
        if not self.runtime.declaration.capabilities.resume:
            return
        new, again = (
            self.runtime.invoke(self._task(), "go on", {}, AttemptContext(program="/bin/agent", session=session))
            for session in (None, "session-0123")
        )
        assert any("session-0123" in argument for argument in again.argv)
        assert not any("session-0123" in argument for argument in new.argv)
        assert again.stdin == new.stdin

    def test_each_recording_has_its_outcome(self) -> None:
        for recording in self.recordings:
            found = self._outcome(recording, recording.code)
            assert (found.ok, found.reason) == (recording.reason == "ok", recording.reason), recording.name

    def test_an_exit_code_makes_no_success_of_a_failure_but_a_failure_of_a_success(self) -> None:
        for recording in self.recordings:
            for code in (1, 143):
                assert not self._outcome(recording, code).ok, recording.name
            if recording.reason != "ok" and self.tells_end:
                assert not self._outcome(recording, 0).ok, recording.name

    def test_output_that_breaks_off_is_no_success(self) -> None:
        for recording in self._successes() if self.tells_end else ():
            lines = recording.streams.stdout.splitlines()
            for end in range(len(lines)):
                assert not self._read(recording, lines[:end])[0].outcome(_DONE).ok, recording.name

    def test_noise_between_the_lines_changes_nothing(self) -> None:
        for recording in self._successes() if self.tells_end else ():
            lines = recording.streams.stdout.splitlines()
            plain = self._read(recording, lines)[0]
            for noise in _NOISE:
                for place in (0, len(lines) // 2, len(lines)):
                    reader = self._read(recording, [*lines[:place], noise, *lines[place:]])[0]
                    assert reader.outcome(_DONE) == plain.outcome(_DONE), noise
                    assert reader.meter == plain.meter, noise

    def test_nothing_that_a_program_writes_stops_the_reader(self) -> None:
        reader = self.runtime.reader(self._task())
        for stream in ("stdout", "stderr", "result", "side", "telemetry"):
            for noise in (*_NOISE, b"x" * 5_000_000):
                reader.line(stream, noise, _NOW)
        assert not reader.outcome(ProcessEnd(code=None, signal=9)).ok
        reader.closing(_NOW)

    def test_the_result_file_is_not_taken_for_what_the_program_printed(self) -> None:
        for recording in self._successes() if self.tells_end else ():
            reader = self.runtime.reader(self._task())
            for data in recording.streams.stdout.splitlines():
                reader.line("result", data, _NOW)
            assert not reader.outcome(_DONE).ok, recording.name

    def test_usage_grows_while_it_is_read_and_is_that_of_the_recording(self) -> None:
        for recording in self.recordings:
            reader = self.runtime.reader(self._task())
            seen = 0
            for stream in ("side", "telemetry", "result", "stdout"):
                for data in getattr(recording.streams, stream).splitlines():
                    reader.line(stream, data, _NOW)
                    assert reader.meter.usage.total >= seen, recording.name
                    seen = reader.meter.usage.total
            assert recording.usage is None or reader.meter.usage == recording.usage, recording.name

    def test_the_result_of_a_tool_belongs_to_a_call(self) -> None:
        for recording in self.recordings:
            lines = self._read(recording, recording.streams.stdout.splitlines())[1]
            called = [line.event.id for line in lines if isinstance(line.event, ToolCall)]
            answered = [line.event.id for line in lines if isinstance(line.event, ToolResult)]
            assert len(called) == len(set(called)), recording.name
            assert len(answered) == len(set(answered)), recording.name
            assert set(answered) <= set(called), recording.name

    def test_a_program_that_is_not_there_is_told_as_such(self) -> None:
        end = ProcessEnd(code=None, signal=None, error="ENOENT")
        assert self.runtime.reader(self._task()).outcome(end).reason == "command_not_found"

    def _task(self) -> CompiledTask:
        keys = {"name": "Job", "agentRuntime": self.runtime.declaration.name, "promptTemplate": "hi", **self.task}
        return CompiledTask(id="job", spec=TaskSpec.of(keys), prompt="hi", origin=Origin(path="job.yaml", line=1))

    def _successes(self) -> list[Recording]:
        return [recording for recording in self.recordings if recording.reason == "ok"]

    def _read(self, recording: Recording, lines: Sequence[bytes]) -> tuple[OutputReader, list[LogLine]]:
        reader = self.runtime.reader(self._task())
        for stream in ("side", "telemetry", "result", "stderr"):
            for data in getattr(recording.streams, stream).splitlines():
                reader.line(stream, data, _NOW)
        return reader, [line for data in lines for line in reader.line("stdout", data, _NOW)]

    def _outcome(self, recording: Recording, code: int) -> Outcome:
        reader, _ = self._read(recording, recording.streams.stdout.splitlines())
        return reader.outcome(ProcessEnd(code=code, signal=None))
