"""The errors that Optio raises on purpose, and one table of what they are outside: `answer_to` gives HTTP status and exit code.

    OptioError
    ├── NotFound            no task, run, hook or definition has this id
    ├── Conflict            the state does not allow it (already finished, same key with another body)
    │   └── Duplicate       another run holds the business key
    ├── Invalid             the request does not fit: one `Problem` per fault
    ├── Malformed           the request cannot be read: not JSON, or headers that contradict each other
    │   └── Unsupported     its body is declared as something other than JSON
    ├── Unauthorized        no credential, or an unknown one
    ├── Forbidden           the credential's role does not allow it
    ├── TooManyRequests     a rate window is full
    │   ├── QueueFull       too many runs are queued already
    │   └── TooManyUnsigned one address sends too many requests without a valid signature
    ├── WritesDenied        the API may not change task files here
    ├── StoreUnavailable    the database cannot be reached, is locked, full or read-only
    │   ├── CommitUnknown   the connection ended during a commit
    │   └── StoreFull       its disk is full: no new work is accepted, running work goes on
    ├── StoreMismatch       the database was written by a newer Optio
    ├── LeaseLost           another worker has taken the run over
    ├── LaunchFailed        an agent process could not be started
    ├── SecretUnavailable   the program or directory of secrets cannot be read now
    └── SettingsError       a setting, flag or argument cannot be used

A mistake in a task file is a `Diagnostic`, never an exception.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal, NamedTuple


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault in a request: an RFC 6901 pointer into its body, a sentence, and a machine code and a cure where there are
    such."""

    pointer: str
    message: str
    code: str | None = None
    hint: str | None = None


class OptioError(Exception):
    """Base of all errors that Optio raises on purpose. Its text is written for the user, and shown to him as it is."""


class NotFound(OptioError):
    """No task, run, hook or definition has this id. `hint` suggests the id that was probably meant."""

    def __init__(self, kind: str, key: str, hint: str | None = None) -> None:
        self.kind, self.key, self.hint = kind, key, hint
        super().__init__(f"no {kind} `{key}`" + (f" ({hint})" if hint else ""))


class Conflict(OptioError):
    """The present state does not allow the request: a run is finished, a task changed meanwhile, a key was used with another
    body."""


class Duplicate(Conflict):
    """Another run holds the business key, and the task rejects duplicates (`onDuplicate: reject`)."""

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        super().__init__(f"run {run_id} has the same key")


class Invalid(OptioError):
    """A request that can be read and does not fit; `problems` has one entry for each fault."""

    def __init__(self, message: str, problems: Sequence[Problem] = ()) -> None:
        self.problems = tuple(problems)
        super().__init__(message)


class Malformed(OptioError):
    """A request that cannot be read: it is not JSON, or its headers contradict each other."""


class Unsupported(Malformed):
    """A request body that declares itself as something other than plain JSON: another content type, or a compressed body."""


class Unauthorized(OptioError):
    """The request carries no credential, or one that is not known."""


class Forbidden(OptioError):
    """The credential is known, and its role does not allow the request."""


class TooManyRequests(OptioError):
    """A rate window is full; `retry_after` is the time until the next request may come."""

    def __init__(self, message: str, retry_after: timedelta) -> None:
        self.retry_after = retry_after
        super().__init__(message)


class QueueFull(TooManyRequests):
    """The queue holds `OPTIO_MAX_QUEUED` runs, so no further trigger is accepted; `retry_after` says when to try again."""


class TooManyUnsigned(TooManyRequests):
    """A client has sent too many requests whose signature is missing or wrong."""

    def __init__(self, retry_after: timedelta) -> None:
        super().__init__("too many requests whose signature is missing or wrong", retry_after)


class WritesDenied(OptioError):
    """The API may not change task files here; `document` is the YAML to commit instead, `path` its place in the tree."""

    def __init__(self, message: str, *, path: str, document: str) -> None:
        self.path, self.document = path, document
        super().__init__(message)


class StoreUnavailable(OptioError):
    """The database cannot be used now, and nothing was changed. `temporary` says that it may come back without a change of
    settings."""

    def __init__(self, message: str, *, temporary: bool = False) -> None:
        self.temporary = temporary
        super().__init__(message)


class CommitUnknown(StoreUnavailable):
    """The connection ended during a commit, so that nobody can tell whether the change was stored."""


class StoreFull(StoreUnavailable):
    """The database's disk is full: new work is refused until there is space, while running work may end."""


class StoreMismatch(OptioError):
    """The database needs another version of Optio, or, if `temporary`, a migration that another process may be running."""

    def __init__(self, message: str, *, temporary: bool = False) -> None:
        self.temporary = temporary
        super().__init__(message)


class LeaseLost(OptioError):
    """Another worker has taken the run over: stop acting on it."""

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        super().__init__(f"run `{run_id}` is owned by another worker")


class LaunchFailed(OptioError):
    """The agent's process could not be started; `reason` is the machine-readable reason that the run gets. The text is the
    message, and the `cure` if there is one. A `temporary` refusal concerns other runs too, so the run waits; with `again` a
    retry may help."""

    def __init__(
        self, reason: str, message: str, *, cure: str | None = None, temporary: bool = False, again: bool = False
    ) -> None:
        self.reason, self.message, self.cure, self.temporary, self.again = reason, message, cure, temporary, again
        super().__init__(message if cure is None else f"{message}: {cure}")


class SecretUnavailable(OptioError):
    """The value of a secret cannot be read now: the program that reads it (`OPTIO_SECRET_COMMAND`) gave no answer, or the
    directory of secrets is away. The text holds what the program complained about, with known values masked."""


class SettingsError(OptioError):
    """A setting, flag or argument that cannot be used; the text names it and its value."""


# The verdict on a refused webhook request, as stored and counted.
RefusalVerdict = Literal[
    "unknown",  # no webhook has this path
    "conflict",  # its id came before with another body
    "duplicate",  # another run holds the business key (without a refusal: the request was joined to that run)
    "invalid",  # the body does not give the task's parameters
    "unreadable",  # the body is not JSON
    "unsupported",  # the body declares itself as something else
    "unsigned",  # the signature is missing or wrong
    "rate",  # beyond the rate of the path
    "unsigned_rate",  # beyond the limits of requests without a valid signature
    "full",  # the queue has too many runs
    "unavailable",  # the store cannot be used, or a secret cannot be read
    "error",  # anything else
]


# The type of a problem (RFC 9457), which clients may rely on: `urn:optio:problem:TYPE`.
ProblemType = Literal[
    "malformed",  # the request cannot be read
    "bad-host",  # the server does not serve this host name
    "unauthorized",  # the token or signature is missing, unknown, expired or revoked
    "forbidden",  # the token's role is not sufficient, or the request comes from a page of another site
    "not-found",  # no object has this id
    "method-not-allowed",  # the path does not have this method
    "too-slow",  # the body took too long
    "conflict",  # the present state does not allow it
    "duplicate",  # another run holds the business key: `runId` names it
    "writes-denied",  # the API may not change files here: `document` is the YAML to commit
    "stale-task",  # the task has another digest than `If-Match` names
    "too-large",  # the body is too large
    "unsupported",  # the body is not JSON, or is compressed
    "invalid",  # the request does not fit: `errors` has one entry for each fault
    "rate-limited",  # too many requests: see `Retry-After`
    "too-many-unsigned",  # too many requests without a valid signature: see `Retry-After`
    "queue-full",  # too many runs are queued: see `Retry-After`
    "store-unavailable",  # the database cannot be used, and nothing was changed
    "commit-unknown",  # it is unknown whether the change was stored: send the request again with its key
    "store-full",  # the disk is full, and nothing was changed
    "secret-unavailable",  # a secret cannot be read now, and nothing was changed
    "internal",  # a bug: see the server's log
]


class Answer(NamedTuple):
    """An error outside of Python: HTTP status, title and type of a problem, verdict on a webhook request, and exit code of a
    command."""

    status: int
    title: str
    type: ProblemType
    verdict: RefusalVerdict = "error"
    exit_code: int = 1


_UNKNOWN = Answer(500, "Internal error", "internal")
# The nearest base class counts.
_ANSWERS: dict[type[BaseException], Answer] = {
    NotFound: Answer(404, "Not found", "not-found", "unknown"),
    Conflict: Answer(409, "Conflict", "conflict", "conflict"),
    Duplicate: Answer(409, "Conflict", "duplicate", "duplicate"),
    WritesDenied: Answer(409, "Writes are denied here", "writes-denied"),
    Invalid: Answer(422, "Invalid", "invalid", "invalid"),
    Malformed: Answer(400, "Bad request", "malformed", "unreadable"),
    Unsupported: Answer(415, "Unsupported", "unsupported", "unsupported"),
    Unauthorized: Answer(401, "Not authenticated", "unauthorized", "unsigned"),
    Forbidden: Answer(403, "Forbidden", "forbidden"),
    TooManyRequests: Answer(429, "Too many requests", "rate-limited", "rate"),
    QueueFull: Answer(429, "Too many requests", "queue-full", "full"),
    TooManyUnsigned: Answer(429, "Too many requests", "too-many-unsigned", "unsigned_rate"),
    StoreUnavailable: Answer(503, "The store is unavailable", "store-unavailable", "unavailable", exit_code=2),
    CommitUnknown: Answer(503, "The store is unavailable", "commit-unknown", "unavailable", exit_code=2),
    StoreFull: Answer(503, "The store is unavailable", "store-full", "unavailable", exit_code=2),
    StoreMismatch: Answer(503, "The store is unavailable", "store-unavailable", exit_code=2),
    SecretUnavailable: Answer(503, "A secret cannot be read", "secret-unavailable", "unavailable"),
    SettingsError: _UNKNOWN._replace(exit_code=2),
}


def answer_to(error: OptioError) -> Answer:
    """Return the entry of the error's class, or of its nearest base class that has one."""
    return next((_ANSWERS[kind] for kind in type(error).__mro__ if kind in _ANSWERS), _UNKNOWN)


def problem_statuses() -> dict[ProblemType, int]:
    """Return the HTTP status of each type that an error of this module has."""
    return {answer.type: answer.status for answer in _ANSWERS.values()}
