"""Everything Optio raises on purpose.

    OptioError
    ├── NotFound            no such task, run, hook, definition
    ├── Conflict            the state does not allow it (already finished, same key with another body): Duplicate
    ├── Invalid             what was sent is wrong: one `Problem` per fault
    ├── Malformed           what was sent cannot be read: no JSON, or headers that contradict each other
    │   └── Unsupported     it says itself that it is something else than JSON
    ├── Refused             who asks may not: Unauthorized, Forbidden
    ├── TooMany             a rate window is full
    │   └── QueueFull       too many runs wait already
    ├── WritesDenied        task files may not be changed through the API here
    ├── StoreUnavailable    the database cannot be reached, is locked, full or read-only
    │   ├── CommitUnknown   it went away during a commit
    │   └── StoreFull       its disk is full: no new work is accepted, what runs goes on
    ├── StoreMismatch       the database was written by a newer Optio
    ├── LeaseLost           another worker owns this run now
    ├── LaunchFailed        an agent process could not be started
    └── SettingsError       a setting, flag or argument cannot be honoured

A mistake in a task file is a `Diagnostic`, never an exception.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault in what was sent: an RFC 6901 pointer into the body, and a sentence."""

    pointer: str
    message: str
    code: str | None = None
    hint: str | None = None


class OptioError(Exception):
    """Base of all errors that are raised on purpose; its text is written for the user."""


class NotFound(OptioError):
    """Nothing has this name or id."""

    def __init__(self, kind: str, key: str, hint: str | None = None) -> None:
        self.kind, self.key, self.hint = kind, key, hint
        super().__init__(f"no {kind} `{key}`" + (f" ({hint})" if hint else ""))


class Conflict(OptioError):
    """The present state does not allow what was asked."""


class Duplicate(Conflict):
    """Another run stands for the same business key, and the task wants that to be refused."""

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        super().__init__(f"run {run_id} stands for the same key")


class Invalid(OptioError):
    """What was sent does not fit."""

    def __init__(self, message: str, problems: Sequence[Problem] = ()) -> None:
        self.problems = tuple(problems)
        super().__init__(message)


class Malformed(OptioError):
    """What was sent cannot be read."""


class Unsupported(Malformed):
    """What was sent says itself that it is something else than JSON."""


class Unauthorized(OptioError):
    """No credential, or one that is not known."""


class Forbidden(OptioError):
    """The credential is known and does not reach this far."""


class TooManyRequests(OptioError):
    """A rate window is full; `retry_after` says when a slot is free."""

    def __init__(self, message: str, retry_after: timedelta) -> None:
        self.retry_after = retry_after
        super().__init__(message)


class QueueFull(TooManyRequests):
    """So many runs wait that no further trigger is accepted."""


class WritesDenied(OptioError):
    """Task files are not written here; `document` is the YAML to commit instead, `path` its place in the tree."""

    def __init__(self, message: str, *, path: str, document: str) -> None:
        self.path, self.document = path, document
        super().__init__(message)


class StoreUnavailable(OptioError):
    """The database cannot be used now; nothing was accepted. `temporary`: it may come back while nobody changes a setting."""

    def __init__(self, message: str, *, temporary: bool = False) -> None:
        self.temporary = temporary
        super().__init__(message)


class CommitUnknown(StoreUnavailable):
    """The database went away while it committed: nobody can tell whether the change was kept."""


class StoreFull(StoreUnavailable):
    """The database's disk is full: new work is refused until there is space; what runs may end."""


class StoreMismatch(OptioError):
    """The database needs another version of Optio, or (`temporary`) a migration that another process may run."""

    def __init__(self, message: str, *, temporary: bool = False) -> None:
        self.temporary = temporary
        super().__init__(message)


class LeaseLost(OptioError):
    """The run belongs to another worker now: stop acting on it."""

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        super().__init__(f"run `{run_id}` is owned by another worker")


class LaunchFailed(OptioError):
    """The agent's process could not be started; `reason` is the run's machine-readable reason."""

    def __init__(self, reason: str, message: str, *, temporary: bool = False) -> None:
        self.reason, self.temporary = reason, temporary
        super().__init__(message)


class SettingsError(OptioError):
    """A setting, flag or argument cannot be honoured."""
