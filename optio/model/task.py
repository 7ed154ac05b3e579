"""TaskSpec: the keys of a task file, as types. They are also the JSON keys of the API, so its bodies are the same document.
Class and attribute texts below become the JSON Schema and editor hovers."""

from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal

from msgspec import Meta, field

from optio.model import runtimes, text
from optio.model.example import Example
from optio.model.spec import NOT_BLANK, Count, Duration, EnvName, Money, Positive, SecretName, Spec, Text
from optio.model.trigger import ScheduleTrigger, Trigger, WebhookTrigger

# A name that `runtimes.is_known`: which ones those are depends on what is installed.
Runtime = Annotated[str, Meta(extra={"words": runtimes.known_names, "is_word": runtimes.is_known})]
DEFAULT_MAX_CONCURRENT = 2
DEFAULT_MAX_RETRIES = 1


class ConnectionUse(Spec, frozen=True, kw_only=True):
    """A connection as a task names it, with the tools that it may call."""

    id: Text
    """The connection: the name of its file in `connections/`, without the ending."""
    tools: list[Text]
    """The tools of an MCP server that the run may call. By default those of class `read`."""


class Network(Spec, frozen=True, kw_only=True):
    """The hosts that the agent may reach. It can reach, and resolve the names of, nothing else."""

    egress: list[Text]
    """Host names such as `api.github.com` and `*.example.com`, or addresses such as `10.0.0.0/8`; at port 443 unless `:PORT` is
    added."""


class Amounts(Spec, frozen=True, kw_only=True):
    """Kubernetes quantities."""

    cpu: Text | None = None
    """CPU as a Kubernetes quantity: `"1"`, `500m`."""
    memory: Text | None = None
    """Memory as a Kubernetes quantity: `2Gi`, `512Mi`."""


class Resources(Spec, frozen=True, kw_only=True):
    """The CPU and memory that a run may use, and those that a node must have free for its pod."""

    cpu: Text | None = None
    """Short for `limits.cpu`: `"1"`, `500m`."""
    memory: Text | None = None
    """Short for `limits.memory`: `2Gi`, `512Mi`."""
    requests: Amounts | None = None
    """CPU and memory that a node must have free for the pod; by default a small part of the limit. Not applied to processes."""
    limits: Amounts | None = None
    """The most that the run may use. A run that needs more memory ends with the reason `oom`."""

    @property
    def limit(self) -> Amounts:
        """Return the limits, in whichever of the two forms the file writes them."""
        limits = self.limits or Amounts()
        return Amounts(cpu=self.cpu or limits.cpu, memory=self.memory or limits.memory)


class Environment(Spec, frozen=True, kw_only=True):
    """The environment of the agent: image, setup, variables, secrets, network and resources."""

    image: Text | None = None
    """Container image; pin it by digest (`@sha256:...`)."""
    setup_commands: list[Text] = []
    """Shell commands that run before the agent, in order; the first one that fails ends the attempt."""
    setup_ahead: bool = False
    """Run the setup commands while a pod waits in the warm pool, before it gets a run. They get only the variables of `env`,
    and neither secrets nor parameters, wherever they run."""
    env: dict[EnvName, str] = {}
    """Environment variables; values are text. Do not put secrets here: use `secrets`."""
    secrets: list[SecretName] = []
    """Names of secrets; each becomes an environment variable of the run. Task files never contain their values."""
    network: Network | None = None
    """The hosts that the agent may reach; by default, in a pod, all public addresses and no private ones."""
    resources: Resources | None = None
    """The limits and requests of a pod, and the limits of a process where its worker has a cgroup."""
    keep_failed: Duration | None = None
    """How long the pod of a failed run stays, so that you can examine it: `30m`. By default it is deleted at once."""

    @property
    def keep_failed_span(self) -> timedelta | None:
        """Return `keepFailed` as a duration; None where failed pods are not kept."""
        return None if self.keep_failed is None else text.parse_duration(self.keep_failed)


class StartLimit(Spec, frozen=True, kw_only=True):
    """A limit on starts within any window of that length; windows slide, and do not follow the calendar."""

    count: Annotated[int, Meta(ge=1, le=10_000)]
    """The most runs that may start within `per`. An automatic retry counts as a start."""
    per: Duration
    """The length of the window: `60s`, `1h`, `24h`."""

    @property
    def window(self) -> timedelta:
        """Return `per` as a duration: the length of the sliding window."""
        return text.parse_duration(self.per)


class Dedupe(Spec, frozen=True, kw_only=True):
    """A business key: of several requests with the same key only one runs."""

    key: Text
    """The key, with parameters filled in: `{{REPO}}#{{PR}}`. Two runs with equal keys are duplicates."""
    window: Duration | None = None
    """How long after it was accepted a run holds its key; by default for as long as it is queued or running."""
    on_duplicate: Literal["join", "reject", "replace"] = "join"
    """How a duplicate is handled: `join` answers with the first run, `reject` refuses it, `replace` cancels a queued one."""

    @property
    def window_span(self) -> timedelta | None:
        """Return `window` as a duration; None where a key counts only while its run is active."""
        return None if self.window is None else text.parse_duration(self.window)


class ResultSpec(Spec, frozen=True, kw_only=True):
    """The result that a run must yield."""

    schema: dict[str, Any]
    """JSON Schema 2020-12 of the result. An agent is told it; a program finds it in the file OPTIO_RESULT_SCHEMA_FILE."""
    required: bool = True
    """Whether a run fails that yields no result. A result that does not fit the schema fails it in any case."""


class TaskSpec(Spec, frozen=True, kw_only=True):
    """A task as its file states it."""

    api_version: Literal["optio/v1"] | None = None
    """The version of this format."""
    type: Literal["standalone"] = "standalone"
    """The kind of document: `standalone` for a task, `template` for a file that tasks extend."""
    extends: Text | None = None
    """A template, relative to this file; its values apply where this file has none."""
    id: Annotated[str, Meta(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*\Z", max_length=80)] | None = None
    """The id of the task in URLs, logs and commands: a-z, 0-9 and single dashes."""
    name: Annotated[str, Meta(pattern=NOT_BLANK, max_length=200)]
    """The name of the task for people. Without `id`, the task's id is the slug of the name."""
    description: str = ""
    """The purpose of the task."""
    owner: Annotated[str, Meta(pattern=NOT_BLANK, max_length=200)] | None = None
    """The owner of the task: a team, a person, an address."""
    enabled: bool = True
    """Whether triggers may start the task."""
    agent_runtime: Runtime
    """The agent CLI that runs the prompt; `command` runs a program of your own."""
    model: Text | None = None
    """The agent's model."""
    command: list[Text] | str | None = None
    """With `agentRuntime: command`: program and arguments. The program reads the prompt from its standard input."""
    prompt_template: Text | None = None
    """The prompt; each `{{NAME}}` is replaced once by the parameter of that name."""
    prompt_file: Text | None = None
    """A file with the prompt, relative to this file; use it instead of `promptTemplate`."""
    params_schema: dict[str, Any] | None = None
    """JSON Schema 2020-12 of the parameters. Defaults are filled in, then all are validated, before a run is queued."""
    result: ResultSpec | None = None
    """The result that a run must yield. By default anything is a result."""
    max_turns: Positive | None = None
    """The most turns an agent may take."""
    budget_usd: Money | None = None
    """The most one run may cost in US dollars, as text: `"2.50"`. All its attempts share it. A model call that has begun is
    finished, so a run may cost one call more."""
    budget: Literal["enforce", "report"] | None = None
    """How `budgetUsd` holds where the cost of a run is unknown: `enforce` does not start or repeat such a run, `report` says so
    in its log. By default as the policy says, and else `enforce`."""
    max_concurrent: Positive = DEFAULT_MAX_CONCURRENT
    """The most runs of this task at the same time."""
    priority: Annotated[int, Meta(ge=-100, le=100)] = 0
    """When not all runs can start, tasks with a higher priority go first. Tasks of equal priority take turns."""
    start_limit: StartLimit | None = None
    """The most runs that may start in any window of time."""
    dedupe: Dedupe | None = None
    """A key by which duplicate runs are recognised; only one of them runs."""
    max_retries: Count = DEFAULT_MAX_RETRIES
    """How often a failed run is tried again, after 5 s, 10 s, 20 s and so on, while some of its budget is left."""
    timeout: Duration | None = None
    """The longest an attempt may take: `90s`, `20m`, `1h30m`."""
    stall_timeout: Duration | None = None
    """The longest an attempt may go without output."""
    warm_pool_size: Count = 0
    """The number of pods kept ready, so that runs need not wait for one."""
    environment: Environment = field(default_factory=Environment)
    """The environment of the agent: image, setup, variables, secrets, network and resources."""
    connections: list[str | ConnectionUse] = []
    """Services that the run reaches through the gateway: names of files in `connections/`, or `{id: NAME, tools: [...]}`."""
    triggers: list[Trigger] = []
    """The events that may start a run; at most one trigger of each type."""
    tests: list[Example] = []
    """Offline tests of the task; `optio test` runs them."""

    @property
    def budget_limit(self) -> Decimal | None:
        """Return `budgetUsd` as a decimal of US dollars; None for a task without a budget."""
        return None if self.budget_usd is None else text.parse_money(self.budget_usd)

    @property
    def timeout_span(self) -> timedelta | None:
        """Return `timeout` as a duration; None for attempts without a time limit."""
        return None if self.timeout is None else text.parse_duration(self.timeout)

    @property
    def stall_span(self) -> timedelta | None:
        """Return `stallTimeout` as a duration; None where attempts may be silent for any time."""
        return None if self.stall_timeout is None else text.parse_duration(self.stall_timeout)

    @property
    def schedule(self) -> ScheduleTrigger | None:
        """Return the schedule trigger, enabled or not; None where the task has none."""
        return next((t for t in self.triggers if isinstance(t, ScheduleTrigger)), None)

    @property
    def webhook(self) -> WebhookTrigger | None:
        """Return the webhook trigger, enabled or not; None where the task has none."""
        return next((t for t in self.triggers if isinstance(t, WebhookTrigger)), None)
