"""The bodies of the API about the texts of task files: findings with their fixes, the file as it is, drafts and what they would
do, and trial deliveries."""

from typing import Any, Literal

from optio.server.bodies.base import Body, Usd
from optio.server.bodies.changes import EffectBody
from optio.server.bodies.registry import RemovalBody
from optio.server.bodies.runs import WaitingBody


class EditBody(Body, frozen=True, kw_only=True):
    """A range of a file to be replaced by a text, in lines and columns from 1."""

    line: int
    column: int
    end_line: int
    end_column: int
    text: str


class FixBody(Body, frozen=True, kw_only=True):
    """A cure that a program can apply."""

    safe: bool
    """Whether the file means the same after it."""
    edits: list[EditBody]


class RelatedBody(Body, frozen=True, kw_only=True):
    """A second place that belongs to a diagnostic."""

    message: str
    path: str
    line: int
    column: int


class DiagnosticBody(Body, frozen=True, kw_only=True):
    """A finding of the compiler, in lines and columns from 1."""

    code: str
    """The code of the rule, such as `OPT101`."""
    rule: str
    """The name of the rule."""
    severity: Literal["error", "warning", "info"]
    certainty: Literal["proves", "suspects"]
    """Whether the rule proves what it reports, or suspects it."""
    message: str
    path: str
    """The file, relative to the tree."""
    line: int
    column: int
    end_line: int
    end_column: int
    pointer: str
    """A JSON Pointer into the file."""
    hint: str | None
    """The cure."""
    more: int
    """The number of others that this one stands for."""
    related: list[RelatedBody]
    """Further places."""
    fix: FixBody | None


class DiagnosticListBody(Body, frozen=True, kw_only=True):
    """The compiler's findings about the tree on disk."""

    diagnostics: list[DiagnosticBody]
    stale: list[str]
    """Tasks whose files are broken: their last good definitions are served."""
    removal: RemovalBody | None
    """The removal that is held."""
    files: int
    """The number of files of the tree."""


class TaskFileBody(Body, frozen=True, kw_only=True):
    """A task file as it is on disk."""

    path: str
    """The file, relative to the tree."""
    text: str
    """Its content."""
    digest: str
    """The SHA-256 digest of its bytes, as in `ETag`."""


class WriteTaskFile(Body, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A text to write as a task file."""

    text: str
    """The whole content, as YAML."""


class TriggerPatch(Body, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A change of a trigger."""

    enabled: bool
    """Whether it may start runs."""


class CheckDraft(Body, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A text to check before it is written."""

    text: str
    """The whole content, as YAML."""
    task: str | None = None
    """The id of the task whose file it would replace; without it, it is the file of a new task."""


class DraftEffectBody(EffectBody, frozen=True, kw_only=True):
    """One difference in behaviour between what is served and the draft."""

    failing: bool
    """Whether the policy's `failOn` names it."""


class DraftBody(Body, frozen=True, kw_only=True):
    """A checked draft. Nothing was written."""

    path: str
    """The file that it would be."""
    task: str | None
    """The id of its task; null while the draft has errors."""
    ok: bool
    """Whether it could be written as it is."""
    diagnostics: list[DiagnosticBody]
    """The compiler's findings about it."""
    summary: str | None
    """The effects in a line; null while the draft has errors."""
    effects: list[DraftEffectBody]
    """What would change if it were written: times, money, secrets, hosts, prompts."""


class TrialPayload(Body, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A request that the server signs and delivers to a webhook of its own."""

    payload: dict[str, Any]
    """The body, as the sender would send it."""
    event: str | None = None
    """The event to name; by default the first of the trigger's `events`."""


class TrialDeliveryBody(Body, frozen=True, kw_only=True):
    """The answer of the webhook."""

    status: int
    """The HTTP status that the sender would get."""
    verdict: str
    """The decision: `accepted`, `filtered`, `duplicate`, `challenge` or `refused`."""
    run_id: str | None
    """The run that it started, or was joined to."""
    detail: str | None
    """Why it was refused or joined."""
    errors: list[str]
    """The faults of the parameters that it gave."""


class RunForecastBody(Body, frozen=True, kw_only=True):
    """The cost and the wait that a run of the task would meet if it was started now."""

    max_usd: Usd | None
    """The most that it may cost with all its attempts: its budget, and one call of the model. Null without a budget."""
    waiting: WaitingBody | None
    """Why it would wait; null if a worker would take it at once."""
