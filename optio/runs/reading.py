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
from optio.model.usage import Meter
from optio.runs.blame import ReadTrial, Turn
from optio.runs.output import Output
from optio.runs.runtime_guard import GuardedReader

# Output that comes faster than this is gathered into one commit.
GATHER_S = 0.02
# The longest wait for output: a lost wake-up costs no more than this.
_MAX_PATIENCE_S = 5.0


class Reading:
    """One attempt's output on its way into the log, and what was decided of the attempt meanwhile.

    `ended` is its end as the executor told it, `stopped` the outcome for which it was asked to stop, `kept` the meter as the
    store has it. `can_send_anywhere` says that the log has its first lines.
    """

    def __init__(
        self,
        handle: Handle,
        reader: GuardedReader,
        trial: ReadTrial,
        turn: Turn,
        *,
        offsets: Mapping[str, int],
        meter: Meter,
        stall: timedelta | None,
        adopted: bool,
    ) -> None:
        self.handle, self.reader, self.trial, self.turn = handle, reader, trial, turn
        self.output = Output(handle, reader, offsets)
        self.kept = meter
        self._stall = stall
        self.silence = Silence(stall if adopted else None)
        self.ended: Exit | None = None
        self.stopped: Outcome | None = None
        self.is_open = False
        self.is_hinted = adopted
        self.is_stop_asked = False
        self._is_settled = False
        self._last_line: LogLine | None = None

    @property
    def is_over(self) -> bool:
        """Return whether the attempt has ended and all that it wrote has been read."""
        return self.ended is not None and self.output.caught_up and self.output.drained

    def agent_began(self) -> None:
        """Measure silence from now on: the time that its place took to be made is none of the agent's."""
        self.silence = Silence(self._stall)

    def poll(self, is_leaving: Callable[[], bool]) -> bool:
        """Poll the attempt's end, and count a death of this reader from here on where an adopted attempt has unread output.

        Return False where the worker lets go of the run while it waits for its turn.
        """
        self.ended = self.ended or self.handle.exit()
        self._is_settled = self.handle.settled()
        if self.trial.is_open and (self.ended is not None or self.output.has_unread()):
            if self.trial.is_suspect:
                self.turn.take(is_leaving)
                if is_leaving():
                    return False
            self.trial.start_part()
        return True

    def take(self) -> list[LogLine]:
        """Take what came since the last round, and end the trial of an adopted attempt when its reader has survived it."""
        lines = self.output.take()
        self._last_line = lines[-1] if lines else self._last_line
        # An agent that only says that it calls its model again, which some do for ever, gets nowhere.
        if self.output.heard and not self.reader.is_retrying:
            self.silence.end()
        if self.trial.is_open and not self.is_over:
            if self.output.caught_up and (lines or (self.output.drained and self._is_settled)):
                self.trial.acquit()
            else:
                self.trial.end_part()
        return lines

    def stalled(self) -> Outcome | None:
        """Return the outcome of an attempt whose silence has lasted to the limit, with its last words; None while it has
        not."""
        quiet = self.silence.reached()
        if quiet is None:
            return None
        last = "" if self._last_line is None else self._last_line.text.strip().partition("\n")[0]
        what = "output but of failed model calls" if self.reader.is_retrying else "output"
        message = f"no {what} for {int(quiet)} s, the limit of `stallTimeout`: it may wait for an endpoint that does not answer"
        # Not cut here: secrets are masked before.
        return Outcome(ok=False, reason="stalled", message=f"{message}. The last line was: {last}" if last else message)


class Silence:
    """The time since the last output, held against the stall limit."""

    def __init__(self, limit: timedelta | None) -> None:
        self._limit = None if limit is None else limit.total_seconds()
        self._began = self._moved = time.monotonic()
        self._flows = False

    def end(self) -> None:
        """Note that output came."""
        now = time.monotonic()
        self._flows = self._moved > self._began and now - self._moved < GATHER_S
        self._moved = now

    def gather(self) -> float:
        """Return the seconds to leave output alone: the first of it is kept at once, the rest of a flow is gathered."""
        return GATHER_S if self._flows else 0.0

    @property
    def age(self) -> float:
        """Return the seconds since the measuring began."""
        return time.monotonic() - self._began

    def reached(self) -> float | None:
        """Return the seconds of silence once they have reached the limit; None before."""
        quiet = time.monotonic() - self._moved
        return None if self._limit is None or quiet < self._limit else quiet

    def patience(self) -> float:
        """Return the seconds to wait for output: until the stall limit, and never so long that a lost wake-up matters."""
        if self._limit is None:
            return _MAX_PATIENCE_S
        return max(0.01, min(_MAX_PATIENCE_S, self._moved + self._limit - time.monotonic()))
