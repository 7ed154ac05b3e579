"""TaskSpec: what a task file may say. The keys are the seed's JSON keys, so the API's bodies are the same document."""

from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from optio.model import text
from optio.model.trigger import ScheduleTrigger, Spec, Text, Trigger, WebhookTrigger

Runtime = Literal["claude-code", "codex", "copilot", "gemini", "opencode", "command"]
INT32 = 2**31 - 1
DEFAULT_MAX_CONCURRENT = 2
DEFAULT_MAX_RETRIES = 1


def _duration(value: str) -> str:
    text.duration(value)
    return value


def _money(value: str) -> str:
    text.money(value)
    return value


Duration = Annotated[str, AfterValidator(_duration)]
Money = Annotated[str, AfterValidator(_money)]
EnvName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]


class Network(Spec):
    """What the agent may reach: host names, or addresses in CIDR form."""

    egress: list[Text]


class Resources(Spec):
    """Kubernetes quantities."""

    cpu: Text | None = None
    memory: Text | None = None


class Environment(Spec):
    """Where the agent runs and what it finds there."""

    image: Text | None = None
    setup_commands: list[Text] = Field(default_factory=list)
    env: dict[EnvName, str] = Field(default_factory=dict)
    secrets: list[Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=128)]] = Field(default_factory=list)
    network: Network | None = None
    resources: Resources | None = None


class Example(Spec):
    """One offline test of a task: a payload file and what must come of it."""

    webhook: Text
    expect: dict[str, Any]


class TaskSpec(Spec):
    """A task as written."""

    type: Literal["standalone"] = "standalone"
    id: Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=80)] | None = None
    name: Annotated[Text, Field(max_length=200)]
    description: str = ""
    enabled: bool = True
    agent_runtime: Runtime
    model: Text | None = None
    command: list[Text] | Text | None = None
    prompt_template: Text | None = None
    prompt_file: Text | None = None
    params_schema: dict[str, Any] | None = None
    max_turns: Annotated[int, Field(ge=1, le=INT32)] | None = None
    budget_usd: Money | None = None
    max_concurrent: Annotated[int, Field(ge=1, le=INT32)] = DEFAULT_MAX_CONCURRENT
    max_retries: Annotated[int, Field(ge=0, le=INT32)] = DEFAULT_MAX_RETRIES
    timeout: Duration | None = None
    stall_timeout: Duration | None = None
    warm_pool_size: Annotated[int, Field(ge=0, le=INT32)] = 0
    environment: Environment = Environment()
    connections: list[Text] = Field(default_factory=list)
    triggers: list[Trigger] = Field(default_factory=list)
    tests: list[Example] = Field(default_factory=list)

    @property
    def budget(self) -> Decimal | None:
        """`budgetUsd` as money."""
        return None if self.budget_usd is None else text.money(self.budget_usd)

    @property
    def timeout_span(self) -> timedelta | None:
        """`timeout` as a duration."""
        return None if self.timeout is None else text.duration(self.timeout)

    @property
    def stall_span(self) -> timedelta | None:
        """`stallTimeout` as a duration."""
        return None if self.stall_timeout is None else text.duration(self.stall_timeout)

    @property
    def schedule(self) -> ScheduleTrigger | None:
        """The schedule trigger, if there is one."""
        return next((t for t in self.triggers if isinstance(t, ScheduleTrigger)), None)

    @property
    def webhook(self) -> WebhookTrigger | None:
        """The webhook trigger, if there is one."""
        return next((t for t in self.triggers if isinstance(t, WebhookTrigger)), None)
