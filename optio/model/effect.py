"""Effects: names for the ways in which a change of task files changes what the tasks do, such as `egress-opened`. `optio plan`
reports them, and a policy's `failOn` lists those that fail it."""

from enum import StrEnum


class EffectWeight(StrEnum):
    """The attention that an effect deserves from a reviewer: `failOn: [danger]` fails on every effect of that weight."""

    INFO = "info"  # no reader need act on it
    NOTICE = "notice"  # the task behaves differently
    DANGER = "danger"  # the task can reach, spend or receive more, or its callers break


class EffectKind(StrEnum):
    """The kinds of effects. Each member is its machine word, with one explaining sentence in `says`, which `optio explain` and
    the plan print."""

    says: str

    def __new__(cls, value: str, says: str) -> "EffectKind":
        """Make a member from its machine word and its sentence."""
        kind = str.__new__(cls, value)
        kind._value_ = value
        kind.says = says
        return kind

    TASK_ADDED = "task-added", "a new task"
    TASK_REMOVED = "task-removed", "a task is gone: its triggers end, and its URLs answer 404"
    TASK_RENAMED = "task-renamed", "a task has another id: its URLs change, and its history and a pause stay with the old one"
    TASK_BROKEN = "task-broken", "a file has errors, so its effects are unknown"
    NAME_CHANGED = "name-changed", "the name that people see"
    OWNER_CHANGED = "owner-changed", "the owner of the task"
    TASK_ENABLED = "task-enabled", "triggers may start the task now"
    TASK_DISABLED = "task-disabled", "no trigger may start the task any more"

    FIRES_CHANGED = "fires-changed", "the schedule starts at other times, or for the first or the last time"
    CATCH_UP_CHANGED = "catch-up-changed", "missed or overlapping times of the schedule are handled differently"
    SCHEDULE_PARAMS_CHANGED = "schedule-params-changed", "the schedule starts runs with other parameters"

    WEBHOOK_ADDED = "webhook-added", "a new URL starts runs"
    WEBHOOK_REMOVED = "webhook-removed", "a URL answers senders with 404"
    WEBHOOK_MOVED = "webhook-moved", "a webhook has another URL: requests to the old one are answered with 404"
    WEBHOOK_UNSIGNED = "webhook-unsigned", "anybody who knows the URL can start runs"
    SIGNATURE_CHANGED = "signature-changed", "deliveries must be signed differently, or with another secret"
    FILTER_CHANGED = "filter-changed", "other deliveries start runs"
    MAPPING_CHANGED = "mapping-changed", "deliveries give other parameters"
    STRANGERS_WORDS = "strangers-words", "text written by strangers now reaches the prompt"
    REPEATS_CHANGED = "repeats-changed", "repeated deliveries are recognised differently"

    CALLERS_BREAK = "callers-break", "parameters that were accepted are refused"
    PARAMS_WIDENED = "params-widened", "parameters that were refused are accepted"
    PARAMS_CHANGED = "params-changed", "the schema of the parameters differs, and it is undecidable whether callers break"
    DEFAULT_CHANGED = "default-changed", "a parameter has another default"

    PROMPT_CHANGED = "prompt-changed", "the agent gets other instructions"
    RUNTIME_CHANGED = "runtime-changed", "another agent"
    MODEL_CHANGED = "model-changed", "another model"
    COMMAND_CHANGED = "command-changed", "another program, or other arguments"
    RESULT_CHANGED = "result-changed", "other results of a run are valid"

    BUDGET_CHANGED = "budget-changed", "the most that one run may cost"
    TURNS_CHANGED = "turns-changed", "the most turns of an agent"
    TIME_CHANGED = "time-changed", "the time limits of an attempt"
    RETRIES_CHANGED = "retries-changed", "the number of retries of failed runs"
    CONCURRENCY_CHANGED = "concurrency-changed", "the most runs at the same time"
    PRIORITY_CHANGED = "priority-changed", "the order in which queued runs start"
    START_LIMIT_CHANGED = "start-limit-changed", "the most runs that may start in a window of time"
    DEDUPE_CHANGED = "dedupe-changed", "other runs count as duplicates"
    POOL_CHANGED = "pool-changed", "the number of warm pods"
    KEPT_CHANGED = "kept-changed", "how long pods of failed runs stay"

    SECRET_ADDED = "secret-added", "the task gets a further secret, or the gateway sends one to a further service for it"
    SECRET_REMOVED = "secret-removed", "the task no longer gets a secret, or the gateway no longer sends it to a service"
    EGRESS_OPENED = "egress-opened", "the agent can reach further hosts, by itself or through the gateway"
    EGRESS_CLOSED = "egress-closed", "the agent can no longer reach some hosts"
    IMAGE_CHANGED = "image-changed", "another container image"
    SETUP_CHANGED = "setup-changed", "other commands run before the agent"
    ENV_CHANGED = "env-changed", "other environment variables"
    RESOURCES_CHANGED = "resources-changed", "the CPU and memory of runs"
    NAMESPACE_CHANGED = (
        "namespace-changed",
        "pods run in another Kubernetes namespace, with the secrets and rights of its worker",
    )
    CONNECTIONS_CHANGED = "connections-changed", "other tools, requests or models behind the gateway"

    MONEY_UP = "money-up", "the worst-case spend of triggers is higher, no longer bounded, or beyond the policy"
    MONEY_DOWN = "money-down", "the worst-case spend of triggers is lower"
    POLICY_CHANGED = "policy-changed", "the policy of the tree"
