"""The outcome of an attempt whose end was not decided here: by the agent, its supervisor, or the place where it ran. Pure."""

from collections.abc import Mapping

from optio.executors.base import Exit
from optio.model.run import Outcome
from optio.runs.runtime_guard import GuardedReader
from optio.runs.spending_limits import SpendingLimits
from optio.runtimes.base import ProcessEnd

# By `Exit.stopped_by`.
_STOPPED: Mapping[str, Outcome] = {
    "timeout": Outcome(ok=False, reason="timeout", message="the time limit was reached"),
    "disk_quota": Outcome(ok=False, reason="disk", message="it wrote more than OPTIO_ATTEMPT_DISK allows"),
    "disk_files": Outcome(ok=False, reason="disk", message="it made more files than OPTIO_ATTEMPT_FILES allows"),
    "processes": Outcome(
        ok=False, reason="processes", message="it had more processes and threads at once than OPTIO_ATTEMPT_PROCESSES allows"
    ),
    "disk_full": Outcome(ok=False, reason="disk", message="the disk was nearly full, and its own files filled it", again=True),
    "orphaned": Outcome(
        ok=False,
        reason="orphaned",
        message="no worker of its machine reached the store for too long",
        again=True,
        infrastructure=True,
    ),
}
_INTERRUPTED = Outcome(ok=False, reason="interrupted", message="it was stopped from outside", again=True, infrastructure=True)


def outcome_of(end: Exit, reader: GuardedReader, limits: SpendingLimits) -> Outcome:
    """Return the outcome of an attempt with this end, after all of its output was read."""
    if end.lost and end.by_agent:
        return Outcome(
            ok=False, reason="supervisor_killed", message="its supervisor was killed while the agent ran", again=True
        )
    if end.lost:
        return Outcome(ok=False, reason="lost", message="its supervisor was killed", again=True, infrastructure=True)
    if end.reason is not None:
        return Outcome(ok=False, reason=end.reason, message=end.message, again=end.temporary, infrastructure=end.temporary)
    if end.stopped_by is not None:
        # `stop`: a previous owner requested the stop and died before it recorded why.
        return _STOPPED.get(end.stopped_by) or limits.stop_reason(reader) or _INTERRUPTED
    return reader.outcome(ProcessEnd(code=end.code, signal=end.signal, phase=end.phase, error=end.error))
