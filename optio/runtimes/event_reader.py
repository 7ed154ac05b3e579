"""The reader that is common to agent CLIs that print events as lines of JSON. It keeps the end of standard error, passes on
what is no event, and remembers what the agent has said."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import Any

from optio.model import prices
from optio.model.money import ZERO_USD
from optio.model.registry import CompiledTask
from optio.model.run import AgentIdentity, LogKind, LogLine, Outcome
from optio.model.runtimes import declaration_of
from optio.model.usage import Usage
from optio.runtimes.base import ProcessEnd, common_outcome, end_text, no_result
from optio.runtimes.entries import Entry, notice, turn
from optio.runtimes.json_events import MAX_JSON_LINE_BYTES, LastTexts, event_of, first_line, token_count

DOUBTFUL_USAGE = "usage was ignored because it is not a whole number, or negative"
_STDERR_BYTES = 4096
_MAX_NAME_LENGTH = 200
# A longer line is not quoted: a cut could leave a part of a secret, which nobody masks.
_MAX_QUOTED_BYTES = 4096


def usage_of(
    raw: Mapping[str, Any], names: Mapping[str, str], *, within_fresh: tuple[str, ...] = (), has_reasoning_apart: bool = False
) -> Usage | None:
    """Return the usage that an agent reports, or None if one of its numbers is not plausible. `names` are its keys by the
    fields of `Usage`. `within_fresh` are fields whose tokens it counts as fresh ones, too; with `has_reasoning_apart` it does
    not count reasoning as output."""
    counts: dict[str, int] = {}
    for name, key in names.items():
        count = 0 if raw.get(key) is None else token_count(raw[key])
        if count is None:
            return None
        counts[name] = count
    counts["fresh"] -= sum(counts[name] for name in within_fresh)
    if has_reasoning_apart:
        counts["output"] += counts["reasoning"]
    return Usage(**counts) if counts["fresh"] >= 0 else None


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
        self._usage = Usage()  # of the model calls that `_meter_call` has counted
        self._cost: Decimal | None = ZERO_USD  # of the same; None once one of them has no price
        self._began = False
        self._turn = 0
        self._open_tools: set[str] = set()  # tool calls without a result
        self._has_answers = False  # of tools, for the next model call
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
        stderr = self._stderr + data + b"\n"
        self._stderr = stderr if len(stderr) <= _STDERR_BYTES else stderr[-_STDERR_BYTES:].partition(b"\n")[2]

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

    def _begin_turn(self) -> None:
        """Count a model call by its events: the first one after the results of all tool calls is of a new call."""
        if self._has_answers and not self._open_tools:
            self._turn, self._has_answers = self._turn + 1, False

    def _end_tool(self, call_id: str) -> None:
        self._open_tools.discard(call_id)
        self._has_answers = True

    def _identify(self, *, version: Any = None, session: Any = None, model: Any = None) -> None:
        """Remember what the agent tells of itself. Anything but a short printable text counts as not told."""
        identity = {"version": version, "session": session, "model": model}
        names = {
            key: name
            for key, name in identity.items()
            if isinstance(name, str) and 0 < len(name) <= _MAX_NAME_LENGTH and name.isprintable()
        }
        self.identity = replace(self.identity, **names)

    def _price(self, model: str, usage: Usage) -> Decimal | None:
        """Return the cost of a model call that was answered; None where nobody knows it."""
        if not usage.total:
            return None
        cost = prices.cost(model, usage)
        self.unpriced = model if cost is None else self.unpriced
        return cost

    def _meter_call(
        self, number: int, model: str, usage: Usage | None, *, cost: Decimal | None = None, subagent: bool = False
    ) -> Iterator[Entry]:
        """Count a model call that was answered, and yield its entry. `usage` is None if its numbers are not plausible; without
        a `cost` the call is priced."""
        if usage is None:
            yield notice(DOUBTFUL_USAGE)
            usage = Usage()
        cost = cost or self._price(model, usage)
        self._usage += usage
        self._cost = None if self._cost is None or cost is None else self._cost + cost
        yield turn(number, model, usage, cost, subagent=subagent)

    @property
    def text(self) -> str | None:
        return self._said.joined

    def stop(self) -> Outcome | None:
        return None

    def closing(self, at: datetime) -> list[LogLine]:
        return []

    def outcome(self, end: ProcessEnd) -> Outcome:
        return common_outcome(end) or self._conclude(end)

    def _conclude(self, end: ProcessEnd) -> Outcome:
        """Return the outcome of an agent that has started."""
        return self._no_result(end)

    def _complaint(self) -> str:
        """Return the first line of what is kept of standard error."""
        return first_line(self._stderr.decode("utf-8", "replace"))

    def _no_result(self, end: ProcessEnd) -> Outcome:
        declaration = declaration_of(self._task.spec.agent_runtime)
        program = None if declaration is None else declaration.program
        text = (self._printed or b"").decode("utf-8", "replace").strip()
        printed = "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
        return no_result(end, self._complaint(), began=self._began, printed=printed, program=program)

    def _cut_off(self, finish: Any, answer: str) -> Outcome | None:
        """Return the outcome of an answer that its token limit or a filter has ended, by the model's finish reason."""
        if finish == "length":
            return Outcome(ok=False, reason="truncated", message="the answer was cut off by its token limit")
        if finish == "content_filter":
            return Outcome(ok=False, reason="refusal", message=first_line(answer) or "the model refused to answer")
        return None

    def _success(self, end: ProcessEnd, text: str, output: Any = None) -> Outcome:
        """Return the outcome of an agent that reported success: its exit code may say otherwise."""
        if end.code != 0:
            message = f"reported success, then ended with {end_text(end)}"
            return Outcome(ok=False, reason="no_result", message=message, again=True, text=text)
        return Outcome(ok=True, reason="ok", text=text, output=output)
