"""The log of one attempt: what its first lines say, and when output, offsets and usage are stored. Used by `runs.execute`."""

from collections.abc import Callable
from datetime import UTC, datetime

from optio.executors.base import Executor
from optio.model.run import LogKind, LogLine
from optio.model.task import Environment
from optio.runs.attempt_record import AttemptRecord
from optio.runs.reading import Reading
from optio.runtimes.base import log_line

# The notes about an agent's confinement are logged after so many seconds, or before its first line.
_OPENING_S = 0.5


def system_lines(*texts: str) -> list[LogLine]:
    """Return lines of Optio's own for a log."""
    now = datetime.now(UTC)
    return [log_line(LogKind.SYSTEM, text, now) for text in texts]


class AttemptLog:
    """The log as one worker adds to it. `opening` returns the texts of its first lines; an adopted attempt has had the
    executor's hint already, if there was one."""

    def __init__(
        self,
        record: AttemptRecord,
        executor: Executor,
        environment: Environment,
        opening: Callable[[], list[str]],
        *,
        is_adopted: bool,
    ) -> None:
        self._record, self._executor, self._environment = record, executor, environment
        self._opening = opening
        self._meter = record.run.meter  # as the store has it
        self._is_open = False
        self._has_hint = is_adopted

    def add(self, reading: Reading, lines: list[LogLine], *, has_agent: bool) -> None:
        """Store what came in one round, and with a new usage or a new count also nothing. An agent that is silent for a while
        gets the first lines all the same."""
        lines = self._with_notes(lines, needs_opening=reading.silence.age > _OPENING_S and has_agent)
        if lines or reading.trial.is_changed or reading.reader.meter != self._meter:
            self._store(reading, lines)

    def close(self, reading: Reading, lines: list[LogLine], *, is_ok: bool) -> None:
        """Store the last lines. The usage is stored with the outcome. A short run that says nothing and does well needs no log:
        a commit for it alone would double its cost."""
        lines = self._with_notes(lines, needs_opening=not is_ok)
        if lines or reading.trial.is_changed:
            self._store(reading, lines)

    def store_count(self, reading: Reading) -> None:
        """Store the count of readers that died, if it has changed."""
        if reading.trial.is_changed:
            self._record.append([], {**reading.output.offsets, **reading.trial.entry()}, self._meter)

    def _store(self, reading: Reading, lines: list[LogLine]) -> None:
        self._meter = reading.reader.meter
        self._record.append(lines, {**reading.output.offsets, **reading.trial.entry()}, self._meter)

    def _with_notes(self, lines: list[LogLine], *, needs_opening: bool) -> list[LogLine]:
        """Return the lines with the log's first ones before them, and the executor's explanation of a refusal behind them."""
        if not self._is_open and (lines or needs_opening):
            self._is_open = True
            lines = [*system_lines(*self._opening()), *lines]
        hint = None if self._has_hint else self._refusal_hint(lines)
        if hint is not None:
            self._has_hint = True
            lines = [*lines, *system_lines(hint)]
        return lines

    def _refusal_hint(self, lines: list[LogLine]) -> str | None:
        printed = (line.data for line in lines if line.kind is not LogKind.SYSTEM)
        hints = (self._executor.refusal_hint(data, self._environment) for data in printed)
        return next((hint for hint in hints if hint is not None), None)
