"""Effects: what a change of task files changes in what the tasks do, by name. A policy's `failOn` speaks of them."""

from enum import StrEnum


class EffectWeight(StrEnum):
    """How much somebody should look at an effect."""

    INFO = "info"
    NOTICE = "notice"
    DANGER = "danger"


class EffectKind(StrEnum):
    """What an effect is of, and what that means in a sentence."""

    says: str

    def __new__(cls, value: str, says: str) -> "EffectKind":
        """A name with its sentence."""
        kind = str.__new__(cls, value)
        kind._value_ = value
        kind.says = says
        return kind

    TASK_ADDED = "task-added", "a task that was not there"
    TASK_REMOVED = "task-removed", "a task that is gone: its triggers end, and its id answers nobody"
    TASK_RENAMED = "task-renamed", "a task has another id: its URLs change, and its history and a pause stay with the old one"
    TASK_BROKEN = "task-broken", "a file has errors, so what it will do cannot be told"
    NAME_CHANGED = "name-changed", "people see another name"
    OWNER_CHANGED = "owner-changed", "somebody else answers for the task"
    TASK_ENABLED = "task-enabled", "triggers may start the task, which they could not"
    TASK_DISABLED = "task-disabled", "no trigger starts the task any more"

    FIRES_CHANGED = "fires-changed", "the schedule starts at other times, or for the first or the last time"
    CATCH_UP_CHANGED = "catch-up-changed", "missed or overlapping times of the schedule are treated in another way"
    SCHEDULE_PARAMS_CHANGED = "schedule-params-changed", "the schedule starts runs with other parameters"

    WEBHOOK_ADDED = "webhook-added", "a URL that starts runs"
    WEBHOOK_REMOVED = "webhook-removed", "a URL that answers senders no more"
    WEBHOOK_MOVED = "webhook-moved", "a webhook has another URL: who sends to the old one is answered 404"
    WEBHOOK_UNSIGNED = "webhook-unsigned", "anybody who knows the URL may start runs"
    SIGNATURE_CHANGED = "signature-changed", "deliveries must be signed in another way, or with another secret"
    FILTER_CHANGED = "filter-changed", "other deliveries start a run"
    MAPPING_CHANGED = "mapping-changed", "deliveries become other parameters"
    STRANGERS_WORDS = "strangers-words", "what strangers write reaches the prompt, which it did not"
    REPEATS_CHANGED = "repeats-changed", "a delivery that is sent again is told from a new one in another way"

    CALLERS_BREAK = "callers-break", "parameters that were taken are refused"
    PARAMS_WIDENED = "params-widened", "parameters are taken that were refused"
    PARAMS_CHANGED = "params-changed", "the schema of the parameters differs, and whether callers break cannot be decided"
    DEFAULT_CHANGED = "default-changed", "a parameter that is left out has another value"

    PROMPT_CHANGED = "prompt-changed", "the agent is told something else"
    RUNTIME_CHANGED = "runtime-changed", "another agent"
    MODEL_CHANGED = "model-changed", "another model"
    COMMAND_CHANGED = "command-changed", "another program, or other arguments"

    BUDGET_CHANGED = "budget-changed", "one run may cost another amount"
    TURNS_CHANGED = "turns-changed", "an agent may take another number of turns"
    TIME_CHANGED = "time-changed", "an attempt may take, or be silent for, another time"
    RETRIES_CHANGED = "retries-changed", "failed runs are tried again another number of times"
    CONCURRENCY_CHANGED = "concurrency-changed", "another number of runs at one time"
    PRIORITY_CHANGED = "priority-changed", "its runs have another place in the line"
    START_LIMIT_CHANGED = "start-limit-changed", "another number of runs may start in a time"
    DEDUPE_CHANGED = "dedupe-changed", "other runs stand for the same thing"
    POOL_CHANGED = "pool-changed", "another number of pods is kept ready"
    KEPT_CHANGED = "kept-changed", "pods of failed runs stay for another time"

    SECRET_ADDED = "secret-added", "a secret that the task did not have"
    SECRET_REMOVED = "secret-removed", "a secret that the task has no more"
    EGRESS_OPENED = "egress-opened", "hosts that the agent could not reach"
    EGRESS_CLOSED = "egress-closed", "hosts that the agent reaches no more"
    IMAGE_CHANGED = "image-changed", "another container image"
    SETUP_CHANGED = "setup-changed", "other commands run before the agent"
    ENV_CHANGED = "env-changed", "other environment variables"
    RESOURCES_CHANGED = "resources-changed", "pods ask for another size"
    NAMESPACE_CHANGED = (
        "namespace-changed",
        "pods run in another Kubernetes namespace, with the secrets and rights of its worker",
    )
    CONNECTIONS_CHANGED = "connections-changed", "other external services"

    MONEY_UP = "money-up", "the worst case of what triggers may spend is higher, has no bound any more, or is beyond the policy"
    MONEY_DOWN = "money-down", "the worst case of what triggers may spend is lower"
    POLICY_CHANGED = "policy-changed", "the tree's policy asks for something else"
