"""The bodies of the API about the texts of task files: the file as it is, drafts, and what they would do."""

from optio.model.effect import EffectKind, EffectWeight
from optio.server.bodies import Body, DiagnosticBody


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


class DraftEffectBody(Body, frozen=True, kw_only=True):
    """One difference in behaviour between what is served and the draft."""

    kind: EffectKind
    """The sort of difference."""
    weight: EffectWeight
    """How much attention it deserves."""
    text: str
    """The difference in a line."""
    lines: list[str]
    """The same in more lines, such as the next times of a schedule."""
    diff: list[str]
    """A unified diff of a long text."""
    pointer: str
    """A JSON Pointer to the key that causes it."""
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
