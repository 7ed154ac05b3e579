"""Bodies of tasks: definitions, their triggers, values and tests, requests that write them, pauses and slots."""

from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType, defstruct, field

from optio.model.spec import keys_of
from optio.model.task import Runtime, TaskSpec
from optio.model.trigger import ManualTrigger, ScheduleTrigger, SecretRef, WebhookConfig, WebhookTrigger
from optio.server.bodies.base import MAX_REASON_LENGTH, Body, Cursor, Source, Time
from optio.store.values import SlotOutcome


class OriginBody(Body, frozen=True, kw_only=True):
    """The place of a task in the tree."""

    path: str
    line: int


class WebhookTriggerBody(WebhookTrigger, frozen=True, kw_only=True, tag="webhook"):
    """A webhook, with its URL."""

    url: str
    """The path of its URL."""
    unsigned: bool
    """Whether it takes requests without a signature."""


TriggerBody = ManualTrigger | ScheduleTrigger | WebhookTriggerBody


class DefinitionBody(TaskSpec, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """A task as its definition says: the keys of its file but `tests`, each default filled in, and what the compiler adds."""

    id: str
    """The id of the task."""
    priority: int
    """Its priority."""
    prompt_template: str
    """Its prompt, also where the file names another file with it."""
    triggers: list[TriggerBody]  # type: ignore[assignment]
    """Its triggers, at most one of each type."""
    digest: str
    """The digest of this definition."""
    namespace: str | None
    """The Kubernetes namespace of its pods, by the policy."""
    origin: OriginBody
    """Where it is written."""


class PauseBody(Body, frozen=True, kw_only=True):
    """A pause of a task, during which none of its runs starts."""

    reason: str
    by: Annotated[str, Source("actor")]
    """Who paused it."""
    since: Annotated[Time, Source("at")]


class TaskLinksBody(Body, frozen=True, kw_only=True):
    """Paths of what belongs to a task."""

    itself: str = field(name="self")
    runs: str


class TaskBody(DefinitionBody, frozen=True, kw_only=True):
    """A task as it is served."""

    stale: bool
    """Whether its file is broken, so that its last good definition is served."""
    held: bool
    """Whether its file is gone and its removal is held."""
    paused: PauseBody | None
    links: TaskLinksBody


class TaskPageBody(Body, frozen=True, kw_only=True):
    """All tasks of the served generation, by id."""

    items: list[TaskBody]
    next: Cursor
    """The `cursor` of the next page; null on the last one."""
    generation: int | None
    """The number of the served generation."""


class WarningBody(Body, frozen=True, kw_only=True):
    """A warning of the compiler about a request."""

    pointer: str
    """A JSON Pointer into the request."""
    message: str
    code: str | None
    """The code of the rule."""
    hint: str | None
    """The cure."""


class WrittenTaskBody(TaskBody, frozen=True, kw_only=True):
    """A task as it is served after a change of its file."""

    warnings: list[WarningBody]


class ManualTriggerWrittenBody(ManualTrigger, frozen=True, kw_only=True, tag="manual"):
    """A manual trigger after a change of its file."""

    warnings: list[WarningBody]


class ScheduleTriggerWrittenBody(ScheduleTrigger, frozen=True, kw_only=True, tag="schedule"):
    """A schedule after a change of its file."""

    warnings: list[WarningBody]


class WebhookTriggerWrittenBody(WebhookTriggerBody, frozen=True, kw_only=True, tag="webhook"):
    """A webhook after a change of its file."""

    warnings: list[WarningBody]


WrittenTriggerBody = ManualTriggerWrittenBody | ScheduleTriggerWrittenBody | WebhookTriggerWrittenBody


class TriggerListBody(Body, frozen=True, kw_only=True):
    """The triggers of a task, at most one of each type."""

    items: list[TriggerBody]
    next: None
    """Always null."""


class NewWebhookConfig(WebhookConfig, frozen=True, kw_only=True):
    """A webhook to be added. Its secret may be given as text, which is stored apart from the file."""

    secret: SecretRef | Annotated[str, Meta(min_length=1)] | None = None  # type: ignore[assignment]
    """The secret by which the sender signs: by name, or as text."""


class NewWebhook(WebhookTrigger, frozen=True, kw_only=True, tag="webhook"):
    """A webhook to be added."""

    config: NewWebhookConfig


NewTrigger = ManualTrigger | ScheduleTrigger | NewWebhook


class NewTask(TaskSpec, frozen=True, kw_only=True):
    """A task to be written: the keys of a task file."""

    agent_runtime: Runtime | UnsetType = UNSET  # type: ignore[assignment]
    """The agent CLI that runs the prompt; required, unless a template or the defaults have it."""
    triggers: list[NewTrigger] = []  # type: ignore[assignment]  # noqa: RUF012 - msgspec gives each value its own copy
    """The events that may start a run; at most one trigger of each type."""


def _in_a_patch(kind: Any) -> Any:
    """Return the type of a key in a merge patch: an object may be partial, and null removes the key."""
    is_object = isinstance(kind, type) and issubclass(kind, Struct)
    return (dict[str, Any] if is_object else kind) | None | UnsetType


TaskPatch: type[Struct] = defstruct(
    "TaskPatch",
    [(key.name, _in_a_patch(key.annotation), UNSET) for key in keys_of(NewTask)],
    rename="camel",
    kw_only=True,
    forbid_unknown_fields=True,
)
TaskPatch.__doc__ = "A JSON Merge Patch (RFC 7396) of a task's file: members replace those of the file, null removes them."


class PauseTask(Body, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A pause to be set."""

    reason: Annotated[str, Meta(max_length=MAX_REASON_LENGTH, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")] | None = None
    """A line of text that is shown to everybody who asks why a run waits."""


class PausedTaskBody(Body, frozen=True, kw_only=True):
    """A task that was paused or resumed."""

    id: str
    """The id of the task."""
    paused: PauseBody | None


class SlotBody(Body, frozen=True, kw_only=True):
    """The outcome of a slot, or of several missed slots in a row."""

    slot: Annotated[Time, Source("last")]
    """The slot, or the last of several."""
    first: Time
    """The first of several, or the same as `slot`."""
    slots: Annotated[int | None, Source("count")]
    """The number of slots; null where they were not counted."""
    verdict: SlotOutcome
    """The outcome."""
    run_id: str | None
    """The run that it started."""
    at: Time
    """When the outcome was recorded."""


class SlotPageBody(Body, frozen=True, kw_only=True):
    """A page of slots, newest first."""

    items: list[SlotBody]
    next: Cursor
    """The `cursor` of the next page; null on the last one."""


class ValueOriginBody(Body, frozen=True, kw_only=True):
    """A value of a task, and the line that sets it."""

    pointer: str
    """A JSON Pointer into the task."""
    value: Any
    path: str
    """The file: that of the task, a template, or the defaults of a directory; relative to the tree."""
    line: int


class ValueOriginListBody(Body, frozen=True, kw_only=True):
    """The values of a task by the files of the answering server."""

    items: list[ValueOriginBody]


class TestFailureBody(Body, frozen=True, kw_only=True):
    """A failure of a test."""

    path: str
    """The file, relative to the tree."""
    line: int
    message: str
    diff: list[str]
    """A unified diff of the prompt, where that differs."""


class TestResultBody(Body, frozen=True, kw_only=True):
    """The result of a test."""

    name: str
    line: int
    """The line of the test in the task's file."""
    passed: bool
    failures: list[TestFailureBody]


class TestListBody(Body, frozen=True, kw_only=True):
    """The results of the tests of a task, by the files of the answering server."""

    path: str
    """The file of the task, relative to the tree."""
    items: list[TestResultBody]
    left: int
    """How many tests were not run, because there are too many for one answer."""
