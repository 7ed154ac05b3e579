"""Output: whoever reads an attempt, and however often it changes hands, every line is given once."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from optio.executors.base import STREAMS
from optio.model.agent_event import ToolCall, ToolKind
from optio.model.mask import Masker
from optio.model.run import LogKind, LogLine
from optio.runs import output
from optio.runs.output import Output, masked_line
from optio.runtimes.command import Command
from tests.support import command_task

TASK = command_task("true")
NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Memory:
    """The streams of an attempt that writes as fast as it is told to."""

    streams = STREAMS

    def __init__(self, whole: dict[str, bytes]) -> None:
        self._whole = whole
        self.written = dict.fromkeys(whole, 0)

    def read(self, stream: str, offset: int, limit: int) -> bytes:
        end = min(self.written.get(stream, 0), offset + limit)
        return self._whole.get(stream, b"")[offset:end]

    def settled(self) -> bool:
        return True

    def write(self, share: float) -> None:
        for stream, data in self._whole.items():
            self.written[stream] = max(self.written[stream], int(len(data) * share))


class OnItsWay(Memory):
    """The same for an owner to whom only a part has come yet."""

    def __init__(self, memory: Memory, share: float) -> None:
        super().__init__(memory._whole)
        self._there = memory.written
        self.written = {stream: int(size * share) for stream, size in self._there.items()}

    def settled(self) -> bool:
        return self.written == self._there

    def arrive(self) -> None:
        self.written = dict(self._there)


def by_kind(lines: list[LogLine]) -> dict[LogKind, list[bytes]]:
    return {kind: [line.data for line in lines if line.kind is kind] for kind in LogKind}


def read_all(memory: Memory, handovers: list[float]) -> list[LogLine]:
    """Read to the end by one owner after the other; each stops when a share of the output is there and read."""
    lines: list[LogLine] = []
    offsets: dict[str, int] = {}
    for share in [*sorted(handovers), 1.0]:
        memory.write(share)
        reading = Output(memory, Command().reader(TASK), offsets)  # type: ignore[arg-type]
        while True:
            lines += reading.take()
            if reading.drained:
                break
        offsets = reading.offsets
    return lines + reading.rest({})


text = st.lists(st.binary(max_size=12).map(lambda data: data.replace(b"\0", b"\n"))).map(b"\n".join)
results = st.lists(st.sampled_from([b'{"type": "turn"}', b"nonsense", b"", b'{"type": "result", "status": "ok"}'])).map(
    b"\n".join
)


@given(stdout=text, stderr=text, result=results, handovers=st.lists(st.floats(0, 1), max_size=4), full=st.booleans())
def test_however_often_a_run_changes_hands_its_log_is_the_same(
    stdout: bytes, stderr: bytes, result: bytes, handovers: list[float], full: bool
) -> None:
    whole = {"stdout": stdout, "stderr": stderr, "result": result}
    with pytest.MonkeyPatch.context() as patch:
        # Only one stream may reach the limit: which of two gets there first is a matter of time.
        if full and not stderr and not result:
            patch.setattr(output, "MAX_LOG_BYTES", 500)

        once = read_all(Memory(whole), [])
        often = read_all(Memory(whole), handovers)

    assert by_kind(often) == by_kind(once)


@given(stdout=text, stderr=text, share=st.floats(0, 1))
def test_what_was_kept_is_not_given_again_while_it_is_on_its_way_to_its_new_owner(
    stdout: bytes, stderr: bytes, share: float
) -> None:
    memory = Memory({"stdout": stdout, "stderr": stderr, "result": b""})
    once = read_all(memory, [])
    first = Output(memory, Command().reader(TASK), {})  # type: ignore[arg-type]
    lines: list[LogLine] = []
    while not first.drained:
        lines += first.take()

    coming = OnItsWay(memory, share)
    second = Output(coming, Command().reader(TASK), first.offsets)  # type: ignore[arg-type]
    for _ in range(3):
        lines += second.take()
    coming.arrive()
    lines += second.take()
    while not second.drained:
        lines += second.take()
    lines += second.rest({})

    assert by_kind(lines) == by_kind(once)


def test_one_look_is_bounded_whatever_is_there() -> None:
    memory = Memory({"stdout": b"\n" * 5_000_000, "stderr": b"x" * 9_000_000})
    memory.write(1.0)
    reading = Output(memory, Command().reader(TASK), {})  # type: ignore[arg-type]

    looks = []
    while not reading.drained:
        looks.append(len(reading.take()))

    assert max(looks) <= 65_536 + output.MAX_LINES
    assert len(looks) > 5


def test_a_secret_is_in_neither_the_text_nor_the_event_of_a_line() -> None:
    event = ToolCall(id="1", name="Bash", kind=ToolKind.EXECUTE, input={"command": "echo s3cret-value"})
    line = masked_line(LogLine(kind=LogKind.TOOL, data=b"Bash s3cret-value", at=NOW, event=event), Masker(["s3cret-value"]))

    assert (line.data, line.event) == (b"Bash ***", replace(event, input={"command": "echo ***"}))


@pytest.mark.parametrize(("size", "rest"), [(0, 0), (65_536, 65_536), (65_537, 65_536)])
def test_a_line_of_the_log_is_cut_at_64_kib(size: int, rest: int) -> None:
    line = masked_line(LogLine(kind=LogKind.OUTPUT, data=b"x" * size, at=NOW), Masker(())).data

    assert line[:rest] == b"x" * rest
    assert line[rest:] == (b"" if size == rest else b"... [1 bytes cut]")


def test_streams_are_read_up_to_a_limit_and_the_log_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "MAX_STREAM_BYTES", dict.fromkeys(STREAMS, 100_000))
    memory = Memory({"stdout": b"one\n" + b"\0" * 300_000, "stderr": b"two\n"})
    memory.write(1.0)
    reading = Output(memory, Command().reader(TASK), {})  # type: ignore[arg-type]

    lines: list[LogLine] = []
    while not reading.drained:
        lines += reading.take()
    lines += reading.rest({"stdout": 300_004, "stderr": 4})

    assert b"".join(by_kind(lines)[LogKind.OUTPUT]).startswith(b"one")
    assert by_kind(lines)[LogKind.SYSTEM] == [b"stdout is read up to byte 100,000: what comes after it is left out"]
    assert reading.offsets["stdout"] == 100_000


@pytest.mark.parametrize("stream", ["result", "side", "telemetry"])
def test_line_breaks_alone_are_read_as_one_line_and_hide_nothing(stream: str) -> None:
    turn = b'{"type": "turn"}'
    memory = Memory({stream: turn + b"\n" * 1_000_000 + turn + b"\n"})
    memory.write(1.0)
    counted = Counted()
    reading = Output(memory, counted, {})  # type: ignore[arg-type]

    while not reading.drained:
        reading.take()

    assert counted.calls < 150_000
    assert counted.turns == [turn, turn]


class Counted:
    """A reader that counts what it is asked to read."""

    plain: frozenset[str] = frozenset()

    def __init__(self) -> None:
        self.calls, self.turns = 0, list[bytes]()

    def line(self, stream: str, data: bytes, at: datetime) -> list[LogLine]:
        self.calls += 1
        self.turns += [data.strip()] if data.strip() else []
        return []
