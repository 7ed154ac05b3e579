"""Compiled tasks, and the immutable registry that holds all tasks of one generation. Digests identify both, so that equal trees
are equal generations on every server."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from optio.errors import NotFound
from optio.model.spec import to_json
from optio.model.task import TaskSpec

if TYPE_CHECKING:
    from optio.model.connection import Connection

_MAX_ID_LENGTH = 80


def canonical(value: Any) -> str:
    """Return JSON with sorted keys and no blanks: equal values give equal text, on which digests are computed."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def digest_of(value: Any) -> str:
    """Return `sha256:` and the hex digest of a value's canonical JSON, the identity of tasks, generations and schedules."""
    return "sha256:" + hashlib.sha256(canonical(value).encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """The position of a task in the tree: the path of its file, and a 1-based line."""

    path: str
    line: int


@dataclass(frozen=True, kw_only=True)
class CompiledTask:
    """A task with all defaults, templates and prompt files resolved; a run needs nothing else of the tree.

    By the policy, `isolation` names what an executor must apply to run it, `namespace` is the Kubernetes namespace of its pods,
    and `allowed_secrets` are the patterns that a secret must fit which a run gets though the task does not name it; None allows
    all. `connections` are those that the task names, as their files stated them. The digest covers all but the origin.
    """

    id: str
    spec: TaskSpec
    prompt: str
    origin: Origin
    isolation: tuple[str, ...] = ()
    namespace: str | None = None
    allowed_secrets: tuple[str, ...] | None = None
    connections: "tuple[Connection, ...]" = ()

    @cached_property
    def document(self) -> dict[str, Any]:
        """Return the JSON form that the digest covers: defaults filled in, keys spelled as in the file."""
        spec = to_json(self.spec)
        spec.pop("promptFile", None)
        # Older versions, which may run beside this one, do not know these keys, so a key is left out while it has its default.
        if not self.spec.priority:
            spec.pop("priority", None)
        if not self.spec.environment.setup_ahead:
            spec["environment"].pop("setupAhead", None)
        if self.spec.environment.keep_failed is None:
            spec["environment"].pop("keepFailed", None)
        if self.spec.result is None:
            spec.pop("result", None)
        if self.spec.budget != "report":
            spec.pop("budget", None)
        isolation = {"isolation": list(self.isolation)} if self.isolation else {}
        namespace = {} if self.namespace is None else {"namespace": self.namespace}
        allowed_secrets = {} if self.allowed_secrets is None else {"allowedSecrets": list(self.allowed_secrets)}
        connections = {"connections": [each.to_json() for each in self.connections]} if self.connections else {}
        return {"id": self.id, "spec": spec, "prompt": self.prompt, **isolation, **namespace, **allowed_secrets, **connections}

    @cached_property
    def digest(self) -> str:
        """Return the content address of this definition, under which the store keeps it and runs refer to it."""
        return digest_of(self.document)

    def to_json(self) -> dict[str, Any]:
        """Return the document with its digest and origin, as `optio compile` writes it and the store keeps it."""
        return {**self.document, "digest": self.digest, "origin": {"path": self.origin.path, "line": self.origin.line}}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "CompiledTask":
        """Rebuild a task from `to_json`. A definition keeps the digest that it was given, also where this version would compute
        another."""
        origin = data.get("origin") or {"path": "", "line": 1}
        task = cls(
            id=data["id"],
            spec=TaskSpec.of(data["spec"]),
            prompt=data["prompt"],
            origin=Origin(**origin),
            isolation=tuple(data.get("isolation", ())),
            namespace=data.get("namespace"),
            allowed_secrets=None if data.get("allowedSecrets") is None else tuple(data["allowedSecrets"]),
            connections=_connections(data["connections"]) if data.get("connections") else (),
        )
        if "digest" in data:
            task.__dict__["digest"] = data["digest"]
        return task


def _connections(entries: list[dict[str, Any]]) -> "tuple[Connection, ...]":
    from optio.model.connection import Connection  # imported only for a task that has one

    return tuple(map(Connection.from_json, entries))


@dataclass(frozen=True, kw_only=True)
class Registry:
    """One immutable compiled tree, its tasks sorted by id. Its digest is computed from theirs, so equal trees are equal
    generations."""

    tasks: Mapping[str, CompiledTask] = field(default_factory=lambda: MappingProxyType({}))

    @classmethod
    def of(cls, tasks: Mapping[str, CompiledTask]) -> "Registry":
        """Return a registry over a copy of `tasks`, which callers may go on to change."""
        return cls(tasks=MappingProxyType({task_id: tasks[task_id] for task_id in sorted(tasks)}))

    def task(self, task_id: str) -> CompiledTask:
        """Return the task with this id; raise NotFound, which suggests the id that was probably meant."""
        task = self.tasks.get(task_id)
        if task is None:
            from difflib import get_close_matches  # slow to import, and needed for a mistake only

            near = get_close_matches(task_id, self.tasks, n=1) if len(task_id) <= _MAX_ID_LENGTH else []
            raise NotFound("task", task_id, f"did you mean `{near[0]}`?" if near else None)
        return task

    @cached_property
    def hooks(self) -> Mapping[str, CompiledTask]:
        """Return the tasks with an enabled webhook by its path. Disabled ones are left out, so that senders cannot tell them
        from unknown paths."""
        return MappingProxyType(
            {
                task.spec.webhook.config.path: task
                for task in self.tasks.values()
                if task.spec.enabled and task.spec.webhook is not None and task.spec.webhook.enabled
            }
        )

    @cached_property
    def has_connections(self) -> bool:
        """Return whether a task names a connection."""
        return any(task.connections for task in self.tasks.values())

    @cached_property
    def digest(self) -> str:
        """Return the content address of the whole generation, by which servers see whether they hold the same."""
        return digest_of([task.digest for task in self.tasks.values()])
