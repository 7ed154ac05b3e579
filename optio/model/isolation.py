"""The parts of a task's `environment` that each executor applies, as one table. The log of a run, `optio check`, the API and
policies all read it, so that they never disagree on what isolates an agent."""

from collections.abc import Iterable, Mapping

from optio.model.registry import CompiledTask
from optio.model.task import Amounts, Environment, Resources

POD = "pod"
"""What a policy demands with `executor: kubernetes`."""
ISOLATED = "isolated"
"""What a policy demands with `sandbox: isolated`: pods give it, and processes if their sandbox does."""
REQUESTS, KEEP_FAILED = "resources.requests", "keepFailed"
KEYS = ("image", "network", "resources", REQUESTS, KEEP_FAILED)
"""Keys of `environment` that say how an agent is isolated, `resources` without its requests, and what stays of its pod."""
NAMESPACE = "namespace"
"""What a policy gives a task with `namespaces`. It demands no pods by that: a tree with teams runs on one machine, too."""
NAMES = (POD, ISOLATED, *KEYS, NAMESPACE)
"""All that is told apart."""
APPLIED: Mapping[str, frozenset[str]] = {"process": frozenset(), "kubernetes": frozenset(NAMES)}


DEPENDS: Mapping[tuple[str, str], str] = {
    ("process", "network"): "applied by the process executor only to TCP ports, not to hosts",
    ("process", "resources"): "applied by the process executor only where its worker has a cgroup",
}
"""What an executor applies in part or on some machines only, as `optio check` says it: there the machine is not known."""


def requested_keys(environment: Environment) -> list[str]:
    """Return the isolation keys that an `environment` sets, in the order of `KEYS`."""
    resources = environment.resources or Resources()
    values = {
        "image": environment.image,
        "network": environment.network,
        "resources": resources.limit != Amounts(),
        REQUESTS: resources.requests,
        KEEP_FAILED: environment.keep_failed,
    }
    return [key for key in KEYS if values[key]]


def requested_isolation(task: CompiledTask) -> list[str]:
    """Return all that a task's file and the policy ask for, each once: keys of `environment`, `pod`, and `namespace`."""
    namespace = () if task.namespace is None else (NAMESPACE,)
    return list(dict.fromkeys((*requested_keys(task.spec.environment), *task.isolation, *namespace)))


def not_applied(executor: str, names: Iterable[str]) -> list[str]:
    """Return those of the names that an executor does not apply, in their order."""
    return [name for name in names if name not in APPLIED[executor]]


def cure(names: Iterable[str]) -> str:
    """Return what an operator sets so that these kinds of isolation are applied."""
    return "OPTIO_SANDBOX=namespaces or bwrap" if set(names) == {ISOLATED} else "OPTIO_EXECUTOR=kubernetes"


def notes(executor: str, names: Iterable[str], reasons: Mapping[str, str] | None = None) -> list[str]:
    """Return one sentence for each name that an executor does not apply, with the reasons that are known, for people."""
    texts = {
        POD: "run agents in pods",
        ISOLATED: "isolate agents",
        "network": "apply the hosts of environment.network",
        NAMESPACE: "apply the policy's `namespaces`",
    }
    reason_texts = {name: f": {reason}" for name, reason in (reasons or {}).items()}
    return [
        f"the {executor} executor does not {texts.get(name, f'apply environment.{name}')}{reason_texts.get(name, '')}"
        for name in not_applied(executor, names)
    ]
