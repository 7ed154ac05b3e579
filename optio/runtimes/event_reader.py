"""The reader that is common to agent CLIs that print events as lines of JSON. It keeps the end of standard error, passes on
what is no event, and remembers what the agent has said."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import Any

from optio.model import prices
from optio.model.registry import CompiledTask
from optio.model.run import AgentIdentity, LogKind, LogLine, Outcome
from optio.model.runtimes import declaration_of
from optio.model.usage import Usage
from optio.runtimes.base import ProcessEnd, end_text, no_result
from optio.runtimes.entries import Entry
from optio.runtimes.json_events import MAX_JSON_LINE_BYTES, LastTexts, event_of, first_line

DOUBTFUL_USAGE = "usage was ignored because it is not a whole number, or negative"
_STDERR_BYTES = 4096
_MAX_NAME_LENGTH = 200
# A longer line is not quoted: a cut could leave a part of a secret, which nobody masks.
_MAX_QUOTED_BYTES = 4096


class EventReader(ABC):
    """A reader of one attempt's events. `identity` is what the agent has told of itself, `_began` says whether it has printed
    an event that only a started agent prints, and `_turn` is the number of the model call whose events are read. `is_retrying`
    says that the last model call failed and no other has been answered since, `is_over` that the agent has told its end.
    `unpriced` is a model that answered and has no price, and `begun_turns` counts turns that the meter may not have yet."""

    plain = frozenset({"stderr"})
    longest = MAX_JSON_LINE_BYTES
    is_retrying = False
    is_over = False
    unpriced: str | None = None
    begun_turns = 0

    def __init__(self, task: CompiledTask) -> None:
        self._task = task
        self.identity = AgentIdentity()
        self._said = LastTexts()
        self._began = False
        self._turn = 0
        self._stderr = b""
        self._printed: bytes | None = None

    def line(self, stream: str, data: bytes, at: datetime) -> list[LogLine]:
        if stream == "stderr":
            self._keep_stderr(data)
            return [LogLine(kind=LogKind.STDERR, data=data, at=at)]
        if stream == "result":  # not the CLI's own words: `runs.runtime_guard` reads it
            return []
        if stream == "telemetry":
            return [self._line(entry, at) for entry in self._read_telemetry(data)]
        if self._printed is None and stream == "stdout" and data.strip():
            self._printed = data if len(data) <= _MAX_QUOTED_BYTES else f"a line of {len(data):,} bytes".encode()
        event = event_of(data)
        if event is None:
            return [LogLine(kind=LogKind.OUTPUT, data=data, at=at)] if stream != "side" and data.strip() else []
        entries = self._read_side(event) if stream == "side" else self._read(event)
        return [self._line(entry, at) for entry in entries]

    def _keep_stderr(self, data: bytes) -> None:
        """Keep the end of standard error, in whole lines: half of a secret would not be masked."""
        kept = self._stderr + data + b"\n"
        self._stderr = kept if len(kept) <= _STDERR_BYTES else kept[-_STDERR_BYTES:].partition(b"\n")[2]

    def _line(self, entry: Entry, at: datetime) -> LogLine:
        turn = entry.turn or self._turn or None
        data = entry.text.encode("utf-8", "replace")
        return LogLine(kind=entry.kind, data=data, at=at, turn=turn, event=entry.event)

    @abstractmethod
    def _read(self, event: dict[str, Any]) -> Iterator[Entry]:
        """Take in an event, and yield what the log shows of it."""

    def _read_side(self, event: dict[str, Any]) -> Iterator[Entry]:
        """Take in an entry of the session file, and yield what the log shows of it."""
        yield from ()

    def _read_telemetry(self, data: bytes) -> Iterator[Entry]:
        """Take in a line of the telemetry, and yield what the log shows of it."""
        yield from ()

    def _identify(self, *, version: Any = None, session: Any = None, model: Any = None) -> None:
        """Remember what the agent tells of itself. Anything but a short printable text counts as not told."""
        told = {"version": version, "session": session, "model": model}
        names = {
            key: name
            for key, name in told.items()
            if isinstance(name, str) and 0 < len(name) <= _MAX_NAME_LENGTH and name.isprintable()
        }
        self.identity = replace(self.identity, **names)

    def _price(self, model: str, used: Usage) -> Decimal | None:
        """Return the cost of a model call that was answered; None where nobody knows it."""
        if not used.total:
            return None
        cost = prices.cost(model, used)
        self.unpriced = model if cost is None else self.unpriced
        return cost

    @property
    def text(self) -> str | None:
        return self._said.joined

    def stop(self) -> Outcome | None:
        return None

    def closing(self, at: datetime) -> list[LogLine]:
        return []

    def _complaint(self) -> str:
        """Return the first line of what is kept of standard error."""
        return first_line(self._stderr.decode("utf-8", "replace"))

    def _no_result(self, ended: ProcessEnd) -> Outcome:
        declared = declaration_of(self._task.spec.agent_runtime)
        program = None if declared is None else declared.program
        text = (self._printed or b"").decode("utf-8", "replace").strip()
        printed = "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text)
        return no_result(ended, self._complaint(), began=self._began, printed=printed, program=program)

    def _success(self, ended: ProcessEnd, text: str, output: Any = None) -> Outcome:
        """Return the outcome of an agent that reported success: its exit code may say otherwise."""
        if ended.code != 0:
            message = f"reported success, then ended with {end_text(ended)}"
            return Outcome(ok=False, reason="no_result", message=message, again=True, text=text)
        return Outcome(ok=True, reason="ok", text=text, output=output)
