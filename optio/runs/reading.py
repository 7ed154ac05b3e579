"""The reading of one attempt: how far its output is read, whether it has fallen silent, and what its log has so far.

`runs.execute` drives it: each round polls the attempt's end, takes what came, and keeps it. Nothing here writes to the store.
The order within a round matters: the end is polled before the output is read, so that what was written before the end is
read in the same round.
"""

import time
from collections.abc import Callable, Mapping
from datetime import timedelta

from optio.executors.base import Exit, Handle
from optio.model.run import LogLine, Outcome
from optio.runs.blame import ReadTrial, Turn
from optio.runs.output import Output
from optio.runs.runtime_guard import GuardedReader

# Output that comes faster than this is gathered into one commit.
GATHER_S = 0.02
# The longest wait for output: a lost wake-up costs no more than this.
_MAX_PATIENCE_S = 5.0


class Reading:
    """One attempt's output on its way into the log.

    `exit` is the attempt's end as the executor reports it, and `last_lines` are those of the round that found out that all was
    read; they are not in the log yet.
    """

    def __init__(
        self,
        handle: Handle,
        reader: GuardedReader,
        trial: ReadTrial,
        turn: Turn,
        *,
        offsets: Mapping[str, int],
        stall: timedelta | None,
        is_adopted: bool,
    ) -> None:
        self.handle, self.reader, self.trial, self.turn = handle, reader, trial, turn
        self.output = Output(handle, reader, offsets)
        self._stall = stall
        self.silence = Silence(stall if is_adopted else None)
        self.exit: Exit | None = None
        self.last_lines: list[LogLine] = []
        self._is_settled = False
        self._newest_line: LogLine | None = None

    @property
    def is_over(self) -> bool:
        """Return whether the attempt has ended and all that it wrote has been read."""
        return self.exit is not None and self.output.caught_up and self.output.drained

    def agent_began(self) -> None:
        """Measure silence from now on: the time that its place took to be made is none of the agent's."""
        self.silence = Silence(self._stall)

    def poll(self, is_leaving: Callable[[], bool]) -> bool:
        """Poll the attempt's end, and count a death of this reader from here on where an adopted attempt has unread output.

        Return False where the worker lets go of the run while it waits for its turn.
        """
        self.exit = self.exit or self.handle.exit()
        self._is_settled = self.handle.settled()
        if self.trial.is_open and (self.exit is not None or self.output.has_unread()):
            if self.trial.is_suspect:
                self.turn.take(is_leaving)
                if is_leaving():
                    return False
            self.trial.start_part()
        return True

    def take(self) -> list[LogLine]:
        """Take what came since the last round, and end the trial of an adopted attempt when its reader has survived it."""
        lines = self.output.take()
        self._newest_line = lines[-1] if lines else self._newest_line
        # An agent that only says that it calls its model again, which some do for ever, gets nowhere.
        if self.output.has_words and not self.reader.is_retrying:
            self.silence.end()
        if self.trial.is_open and not self.is_over:
            if self.output.caught_up and (lines or (self.output.drained and self._is_settled)):
                self.trial.acquit()
            else:
                self.trial.end_part()
        return lines

    def stall(self) -> Outcome | None:
        """Return the outcome of an attempt whose silence has lasted to the limit, with its last words; None while it has
        not."""
        silence_s = self.silence.reached()
        if silence_s is None:
            return None
        words = "" if self._newest_line is None else self._newest_line.text.strip().partition("\n")[0]
        kind = "output but of failed model calls" if self.reader.is_retrying else "output"
        message = (
            f"no {kind} for {int(silence_s)} s, the limit of `stallTimeout`: it may wait for an endpoint that does not answer"
        )
        # Not cut here: secrets are masked before.
        return Outcome(ok=False, reason="stalled", message=f"{message}. The last line was: {words}" if words else message)


class Silence:
    """The time since the last output, held against the stall limit."""

    def __init__(self, limit: timedelta | None) -> None:
        self._limit = None if limit is None else limit.total_seconds()
        self._start = self._output_at = time.monotonic()
        self._flows = False

    def end(self) -> None:
        """Note that output came."""
        now = time.monotonic()
        self._flows = self._output_at > self._start and now - self._output_at < GATHER_S
        self._output_at = now

    def gather(self) -> float:
        """Return the seconds to leave output alone: the first of it is kept at once, the rest of a flow is gathered."""
        return GATHER_S if self._flows else 0.0

    @property
    def age(self) -> float:
        """Return the seconds since the measuring began."""
        return time.monotonic() - self._start

    def reached(self) -> float | None:
        """Return the seconds of silence once they have reached the limit; None before."""
        silence_s = time.monotonic() - self._output_at
        return None if self._limit is None or silence_s < self._limit else silence_s

    def patience(self) -> float:
        """Return the seconds to wait for output: until the stall limit, and never so long that a lost wake-up matters."""
        if self._limit is None:
            return _MAX_PATIENCE_S
        return max(0.01, min(_MAX_PATIENCE_S, self._output_at + self._limit - time.monotonic()))
