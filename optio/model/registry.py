"""What is served: compiled tasks, and the immutable generation that holds them."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any

from optio.errors import NotFound
from optio.model.spec import to_json
from optio.model.task import TaskSpec

_MAX_ID_LENGTH = 80


def canonical(value: Any) -> str:
    """JSON with sorted keys and no blanks: equal values, equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def digest_of(value: Any) -> str:
    """`sha256:` and the hex digest of the canonical JSON."""
    return "sha256:" + hashlib.sha256(canonical(value).encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a task stands: a path in the tree, and a 1-based line."""

    path: str
    line: int


@dataclass(frozen=True, kw_only=True)
class CompiledTask:
    """A task that needs nothing else: defaults and files resolved. `isolation` is what an executor must apply to run it, by the
    policy; `namespace` is the Kubernetes namespace of its pods, by the policy too. The digest covers all but the origin."""

    id: str
    spec: TaskSpec
    prompt: str
    origin: Origin
    isolation: tuple[str, ...] = ()
    namespace: str | None = None

    @cached_property
    def document(self) -> dict[str, Any]:
        """The JSON form that the digest covers: defaults filled in, keys in the file's own spelling."""
        spec = to_json(self.spec)
        spec.pop("promptFile", None)
        # Older versions, which may run beside this one, do not know these keys: they stand only where they say something.
        if not self.spec.priority:
            spec.pop("priority", None)
        if not self.spec.environment.setup_ahead:
            spec["environment"].pop("setupAhead", None)
        if self.spec.environment.keep_failed is None:
            spec["environment"].pop("keepFailed", None)
        isolation = {"isolation": list(self.isolation)} if self.isolation else {}
        namespace = {} if self.namespace is None else {"namespace": self.namespace}
        return {"id": self.id, "spec": spec, "prompt": self.prompt, **isolation, **namespace}

    @cached_property
    def digest(self) -> str:
        """Content address of this definition."""
        return digest_of(self.document)

    def to_json(self) -> dict[str, Any]:
        """The document with its digest and origin."""
        return {**self.document, "digest": self.digest, "origin": {"path": self.origin.path, "line": self.origin.line}}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "CompiledTask":
        """Inverse of `to_json`. A definition keeps the digest it was given, also when this version would compute another."""
        origin = data.get("origin") or {"path": "", "line": 1}
        task = cls(
            id=data["id"],
            spec=TaskSpec.of(data["spec"]),
            prompt=data["prompt"],
            origin=Origin(**origin),
            isolation=tuple(data.get("isolation", ())),
            namespace=data.get("namespace"),
        )
        if "digest" in data:
            task.__dict__["digest"] = data["digest"]
        return task


@dataclass(frozen=True, kw_only=True)
class Registry:
    """One immutable compiled tree. Its digest is that of its tasks, so equal trees are equal generations."""

    tasks: Mapping[str, CompiledTask] = field(default_factory=lambda: MappingProxyType({}))

    @classmethod
    def of(cls, tasks: Mapping[str, CompiledTask]) -> "Registry":
        """A registry over a copy of `tasks`."""
        return cls(tasks=MappingProxyType({task_id: tasks[task_id] for task_id in sorted(tasks)}))

    def task(self, task_id: str) -> CompiledTask:
        """Raises NotFound, which names the id that was probably meant."""
        found = self.tasks.get(task_id)
        if found is None:
            from difflib import get_close_matches  # only who made a mistake waits for it

            near = get_close_matches(task_id, self.tasks, n=1) if len(task_id) <= _MAX_ID_LENGTH else []
            raise NotFound("task", task_id, f"did you mean `{near[0]}`?" if near else None)
        return found

    @cached_property
    def hooks(self) -> Mapping[str, CompiledTask]:
        """Enabled webhook paths; what is disabled looks like what does not exist."""
        return MappingProxyType(
            {
                task.spec.webhook.config.path: task
                for task in self.tasks.values()
                if task.spec.enabled and task.spec.webhook is not None and task.spec.webhook.enabled
            }
        )

    @cached_property
    def digest(self) -> str:
        """Content address of the whole generation."""
        return digest_of([task.digest for task in self.tasks.values()])
