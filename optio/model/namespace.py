"""Namespaces: where the policy puts the pods of tasks, and which worker takes their runs."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WorkerScope:
    """The runs that a worker takes: those of tasks in `namespace`, where `""` are the tasks without one; of all tasks without
    it. Workers whose agents are processes take all."""

    namespace: str | None = None

    def includes(self, namespace: str | None) -> bool:
        """Return whether a task of this namespace is in it."""
        return self.namespace is None or self.namespace == (namespace or "")


ALL_TASKS = WorkerScope()
