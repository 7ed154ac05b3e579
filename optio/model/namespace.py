"""Namespaces: the Kubernetes namespace that the policy gives a task's pods, and the worker that takes its runs."""

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
