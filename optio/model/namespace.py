"""Namespaces: the Kubernetes namespace that the policy gives a task's pods, and the worker that takes its runs."""

from collections.abc import Collection
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WorkerScope:
    """The runs that a worker takes: those of the tasks in `namespace`, where `""` means tasks without one, or of all tasks if
    it is None. Workers that run agents as processes take all."""

    namespace: str | None = None

    def includes(self, namespace: str | None) -> bool:
        """Return whether the worker takes runs of a task in this namespace (None: a task without one)."""
        return self.namespace is None or self.namespace == (namespace or "")


ALL_TASKS = WorkerScope()
# A problem, and its cure.
NO_WORKER = ("no worker is running", "start one with `optio worker`")


def is_served(namespace: str, patterns: Collection[str] | None) -> bool:
    """Return whether a worker takes runs of this namespace, by `Store.served_namespaces`. If no worker is known at all, one of
    an older version may take the runs of tasks without a namespace."""
    return patterns is None or namespace in patterns or not (namespace or patterns)


def unserved(namespace: str) -> tuple[str, str]:
    """Return what is wrong with a namespace that has no worker, and the cure."""
    if namespace:
        return f"no worker takes runs of the namespace `{namespace}`", f"start one with OPTIO_TEAM_NAMESPACE={namespace}"
    return "no worker takes runs of tasks without a namespace", "start one without OPTIO_TEAM_NAMESPACE"
