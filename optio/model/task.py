"""TaskSpec: what a task file may say. The keys are the seed's JSON keys, so the API's bodies are the same document."""

from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal

from msgspec import Meta, field

from optio.model import text
from optio.model.example import Example
from optio.model.spec import NOT_BLANK, Count, Duration, EnvName, Money, Positive, SecretName, Spec, Text
from optio.model.trigger import ScheduleTrigger, Trigger, WebhookTrigger

Runtime = Literal["claude-code", "codex", "copilot", "gemini", "opencode", "command"]
DEFAULT_MAX_CONCURRENT = 2
DEFAULT_MAX_RETRIES = 1


class Network(Spec, frozen=True, kw_only=True):
    """What the agent may reach: what is listed, and nothing else; not even names are resolved for it."""

    egress: list[Text]
    """Host names such as `api.github.com`, `*.example.com`, or addresses such as `10.0.0.0/8`, each with `:PORT` or at 443."""


class Amounts(Spec, frozen=True, kw_only=True):
    """Kubernetes quantities."""

    cpu: Text | None = None
    """CPU as a Kubernetes quantity: `"1"`, `500m`."""
    memory: Text | None = None
    """Memory as a Kubernetes quantity: `2Gi`, `512Mi`."""


class Resources(Spec, frozen=True, kw_only=True):
    """What a run may use, and what a node must have free for its pod."""

    cpu: Text | None = None
    """Short for `limits.cpu`: `"1"`, `500m`."""
    memory: Text | None = None
    """Short for `limits.memory`: `2Gi`, `512Mi`."""
    requests: Amounts | None = None
    """What a node must have free for the pod; by default a small part of the limit. Not applied to processes."""
    limits: Amounts | None = None
    """What the run may use at most. A run that needs more memory ends with the reason `oom`."""

    @property
    def limit(self) -> Amounts:
        """The limits, in whichever form they are written."""
        limits = self.limits or Amounts()
        return Amounts(cpu=self.cpu or limits.cpu, memory=self.memory or limits.memory)


class Environment(Spec, frozen=True, kw_only=True):
    """Where the agent runs and what it finds there."""

    image: Text | None = None
    """Container image; pin it by digest (`@sha256:...`)."""
    setup_commands: list[Text] = []
    """Shell commands that run before the agent, in order; the first one that fails ends the attempt."""
    setup_ahead: bool = False
    """Run the set-up commands while a pod waits in the pool, before any run has come to it. They get the variables of `env`
    alone, and neither secrets nor parameters, wherever they run."""
    env: dict[EnvName, str] = {}
    """Environment variables; values are text. Secrets do not belong here."""
    secrets: list[SecretName] = []
    """Names of secrets; each is an environment variable of the run. Values never stand in a task file."""
    network: Network | None = None
    """What the agent may reach; by default, in a pod, public addresses and nothing private."""
    resources: Resources | None = None
    """What a pod may use and reserves, and the limits of a process where its worker has a cgroup."""
    keep_failed: Duration | None = None
    """How long the pod of a failed run stays for a look at what its agent left: `30m`. By default it goes at once."""

    @property
    def keep_failed_span(self) -> timedelta | None:
        """`keepFailed` as a duration."""
        return None if self.keep_failed is None else text.parse_duration(self.keep_failed)


class StartLimit(Spec, frozen=True, kw_only=True):
    """A quota of starts: counted in any window of that length, not by the calendar."""

    count: Annotated[int, Meta(ge=1, le=10_000)]
    """How many runs may start within `per`; an automatic retry is a start too."""
    per: Duration
    """The length of the window: `60s`, `1h`, `24h`."""

    @property
    def window(self) -> timedelta:
        """`per` as a duration."""
        return text.parse_duration(self.per)


class Dedupe(Spec, frozen=True, kw_only=True):
    """A business key: what stands for the same thing is run once."""

    key: Text
    """What makes two runs the same, with parameters: `{{REPO}}#{{PR}}`."""
    window: Duration | None = None
    """How long after its acceptance a run stands for its key; by default for as long as it is queued or running."""
    on_duplicate: Literal["join", "reject", "replace"] = "join"
    """What becomes of another run with the key: the first one is answered, or it is refused, or it replaces one that waits."""

    @property
    def window_span(self) -> timedelta | None:
        """`window` as a duration."""
        return None if self.window is None else text.parse_duration(self.window)


class TaskSpec(Spec, frozen=True, kw_only=True):
    """A task as written."""

    api_version: Literal["optio/v1"] | None = None
    """The version of this format."""
    type: Literal["standalone"] = "standalone"
    """The kind of document: `standalone` for a task; `template` for what tasks extend."""
    extends: Text | None = None
    """A template, relative to this file, whose values hold where this file has none."""
    id: Annotated[str, Meta(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*\Z", max_length=80)] | None = None
    """What URLs, logs and the command line call the task: a-z, 0-9 and single dashes."""
    name: Annotated[str, Meta(pattern=NOT_BLANK, max_length=200)]
    """What people call the task; its id is the slug of the name unless `id` is given."""
    description: str = ""
    """What the task is for."""
    owner: Annotated[str, Meta(pattern=NOT_BLANK, max_length=200)] | None = None
    """Who answers for the task: a team, a person, an address."""
    enabled: bool = True
    """Whether triggers may start it."""
    agent_runtime: Runtime
    """The agent CLI that runs the prompt; `command` runs a program of your own."""
    model: Text | None = None
    """The agent's model."""
    command: list[Text] | str | None = None
    """With `agentRuntime: command`: program and arguments. The prompt comes on its standard input."""
    prompt_template: Text | None = None
    """The prompt; each `{{NAME}}` is replaced once by the parameter of that name."""
    prompt_file: Text | None = None
    """A file that holds the prompt, relative to this file; instead of `promptTemplate`."""
    params_schema: dict[str, Any] | None = None
    """JSON Schema 2020-12 of the parameters; defaults are filled in, then all are validated, before a run exists."""
    max_turns: Positive | None = None
    """The most turns an agent may take."""
    budget_usd: Money | None = None
    """The most one run may cost in US dollars, as text: `"2.50"`. All its attempts draw from it; a call of the model that has
    begun is paid for, so a run may cost one call more."""
    max_concurrent: Positive = DEFAULT_MAX_CONCURRENT
    """Runs of this task at one time."""
    priority: Annotated[int, Meta(ge=-100, le=100)] = 0
    """Which task's runs start first when not all can: the highest. Tasks of one priority take turns."""
    start_limit: StartLimit | None = None
    """The most runs that may start in any window of time."""
    dedupe: Dedupe | None = None
    """A key that makes runs the same; of those one is run."""
    max_retries: Count = DEFAULT_MAX_RETRIES
    """How often a failed run is tried again, after 5 s, 10 s, 20 s and so on, as long as some of its budget is left."""
    timeout: Duration | None = None
    """The longest an attempt may take: `90s`, `20m`, `1h30m`."""
    stall_timeout: Duration | None = None
    """The longest an attempt may be silent."""
    warm_pool_size: Count = 0
    """Pods kept ready, so that a run need not wait for one."""
    environment: Environment = field(default_factory=Environment)
    """Where the agent runs and what it finds there."""
    connections: list[Text] = []
    """External services for the run; not supported yet."""
    triggers: list[Trigger] = []
    """What may start a run; at most one of each type."""
    tests: list[Example] = []
    """Offline tests, run by `optio test`."""

    @property
    def budget(self) -> Decimal | None:
        """`budgetUsd` as money."""
        return None if self.budget_usd is None else text.parse_money(self.budget_usd)

    @property
    def timeout_span(self) -> timedelta | None:
        """`timeout` as a duration."""
        return None if self.timeout is None else text.parse_duration(self.timeout)

    @property
    def stall_span(self) -> timedelta | None:
        """`stallTimeout` as a duration."""
        return None if self.stall_timeout is None else text.parse_duration(self.stall_timeout)

    @property
    def schedule(self) -> ScheduleTrigger | None:
        """The schedule trigger, if there is one."""
        return next((t for t in self.triggers if isinstance(t, ScheduleTrigger)), None)

    @property
    def webhook(self) -> WebhookTrigger | None:
        """The webhook trigger, if there is one."""
        return next((t for t in self.triggers if isinstance(t, WebhookTrigger)), None)
