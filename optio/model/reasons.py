"""The meanings of the reasons of failed attempts, and their cures: the tables of the manual's page of reasons."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ReasonMeaning:
    """The meaning of a reason, and its cure; empty where nothing is to be done."""

    meaning: str
    cure: str


_ROWS: tuple[tuple[str, str, str], ...] = (
    ("exit_code", "the program ended with another exit code than 0", "look at its log"),
    ("signal", "a signal ended the program", "look at its log and its memory"),
    ("temporary", "the program asked for another attempt (75)", "nothing"),
    ("failed", "the program reported an error without a reason", "look at its log"),
    ("setup", "a set-up command failed", "look at its log"),
    ("no_result", "the agent ended without a result", "look at its log"),
    ("rate_limit overloaded server_error", "the model's API refused for now", "wait"),
    (
        "network",
        "the model's API could not be reached, or no network policy holds in the pod",
        "look at `environment.network` and the cluster",
    ),
    ("result_missing", "the run yielded no result, which its task demands", "look at its log and at the prompt"),
    (
        "result_invalid",
        "its result is not JSON, or does not fit `result.schema`; the message says where",
        "make the prompt say what you expect; an agent that can go on may correct it once",
    ),
    ("unproductive", "the agent ended well, but called no tool and answered nothing", "look at its log and at the prompt"),
    ("disk", "the disk was nearly full", "make room"),
    ("auth", "the credential is missing or wrong", "set the secret"),
    ("secret_missing", "a secret that the task names has no value", "set it; the message says where"),
    ("quota", "the account at the model's provider has no credit", "pay, or use another key"),
    ("config", "the call or the configuration is wrong", "read the message"),
    (
        "bad_request model_not_found context_overflow",
        "the model's API does not accept the request",
        "change `model` or the prompt",
    ),
    ("refusal truncated", "the model refused, or its answer was too long", "change the prompt"),
    ("loop denied", "the program reported that it made no progress, or may not do this", "read its log"),
    ("budget max_turns timeout stalled", "a limit of the task ended it", "raise the limit, or ask for less"),
    (
        "unpriced",
        "`budgetUsd` cannot be enforced: nobody knows what the model costs, or what it has used",
        "name a model with a price, give the price by `OPTIO_PRICES`, or write `budget: report`",
    ),
    ("oom", "it used more memory than its limit", "raise `environment.resources`"),
    ("disk", "it wrote more than `OPTIO_ATTEMPT_DISK`, or more files than `OPTIO_ATTEMPT_FILES`", "write less, or raise it"),
    ("processes", "it had more processes at once than `OPTIO_ATTEMPT_PROCESSES`", "start fewer, or raise it"),
    ("command_not_found not_executable", "the program is not there, or cannot be executed", "install it; look at `PATH`"),
    ("runtime_missing", "the agent CLI is not installed on the worker", "install it, or set its path"),
    ("runtime_unavailable", "a worker of an older version does not know this agent", "upgrade the worker"),
    (
        "runtime_failed",
        "the code of the agent's runtime raised an exception, which the message quotes",
        "report it to the maker of the package that the message names",
    ),
    ("environment", "variables or arguments are too large or not allowed", "read the message"),
    (
        "pod_refused foreign_pod",
        "the cluster refuses the pod as it is, or a pod of another installation has its name",
        "read the message",
    ),
    ("sandbox", "the sandbox cannot be made", "read the message, run `optio doctor`"),
    (
        "not_isolated",
        "the policy demands isolation that this worker does not give",
        "use pods, or the sandbox that the message names",
    ),
    (
        "no_gateway",
        "the task names connections, and `OPTIO_GATEWAY` is off",
        "turn the gateway on",
    ),
    (
        "gateway",
        "the gateway does not answer; the run waits",
        "start it, look at `OPTIO_GATEWAY_URL`",
    ),
    (
        "unreachable unauthorized changed",
        "a connection cannot be reached, refuses its credential, or offers other tools than before; no model was called",
        "`optio connection test ID`",
    ),
    (
        "not_metered",
        "`OPTIO_GATEWAY=required`, and this agent cannot be led through the gateway",
        "read the message",
    ),
    ("worker_crash", "each worker that read the output died", "look at the output, report it"),
    ("cancelled superseded", "a person, or a newer run with its key, ended it", "nothing"),
    (
        "lost interrupted orphaned",
        "its supervisor was killed, it was stopped from outside, or no worker reached the database",
        "",
    ),
    ("evicted deleted rejected", "the node ended the pod, somebody deleted it, or the node refused it", ""),
    ("launch log_lost", "the pod took no launch, or its log could not be read", ""),
    ("supervisor cgroup", "the supervisor or the cgroup could not be made", ""),
    ("session_refused", "the agent could not continue its session; the next attempt begins anew", ""),
    ("worker_error", "a bug, or an error of the machine, in the worker: see its log", ""),
)


def meanings_of(reason: str) -> list[ReasonMeaning]:
    """Return the meanings of a reason: a few have two, and those that programs invent have none."""
    return [ReasonMeaning(meaning, cure) for reasons, meaning, cure in _ROWS if reason in reasons.split()]
