"""Writes through the API: a requested change becomes the same change in the task files, so that git stays the source of truth.

The resulting tree is compiled first, and a file is written only if that succeeds, in one atomic step. Comments and untouched
lines stay as they are.
"""

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import stat
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from optio.compiler.diagnostics import Diagnostic, Severity
from optio.compiler.edits.edit_yaml import CannotEdit, rewrite_file
from optio.compiler.incremental import IncrementalCompiler
from optio.compiler.pipeline import Compilation
from optio.compiler.source import SourceFile
from optio.compiler.source_tree import MAX_FILE_BYTES, DirectoryTree, OverlayTree
from optio.compiler.yaml.document import Document, parse
from optio.compiler.yaml.emit import dump
from optio.errors import Conflict, Invalid, NotFound, OptioError, Problem, StoreUnavailable, WritesDenied
from optio.model.registry import CompiledTask, Registry, canonical
from optio.model.route import Route, pointer
from optio.model.text import slug
from optio.model.trigger import WebhookConfig
from optio.runs import signature
from optio.secrets.base import Secrets
from optio.tree.scan import MissingDirectory, scan_directory

_ID = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_MAX_ID_LENGTH = 80
_MAX_SECRET_NAME_LENGTH = 128
_SCHEMA = Path("schemas", "task.schema.json")
_NO_RIGHT = (errno.EACCES, errno.EPERM, errno.EROFS)


class StaleTask(OptioError):
    """Raised if the task's digest is none of those that the caller has seen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteResult:
    """The result of a write: the task, its file, and the compiler's warnings, with pointers into the request."""

    task_id: str
    path: str
    warnings: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class _RequestBody:
    """The body of a request, and where it goes in the task: positions of diagnostics become pointers into it."""

    value: Any
    at: Route = ()

    def pointer(self, route: Route) -> str:
        if route[: len(self.at)] != self.at:
            return ""
        parts: list[str | int] = []
        value = self.value
        for step in route[len(self.at) :]:
            if not isinstance(value, (dict, list)):
                break
            parts.append(step)
            if (step not in value) if isinstance(value, dict) else not (isinstance(step, int) and step < len(value)):
                break
            value = value[step]  # type: ignore[index]
        return pointer(tuple(parts))


class _WholeText(_RequestBody):
    """The text of a file as the body of a request: positions of diagnostics are positions in the file."""

    def pointer(self, route: Route) -> str:
        return pointer(route)


@dataclass(slots=True)
class _ExtractedSecrets:
    """Literal secrets from a request: the values go to the secret store, their names into the file."""

    values: dict[str, str] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)
    warnings: list[Problem] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class TaskFile:
    """A task file as it is on disk."""

    path: str
    data: bytes

    @property
    def digest(self) -> str:
        """The SHA-256 digest of its bytes."""
        return f"sha256:{hashlib.sha256(self.data).hexdigest()}"


class TaskFileWriter:
    """The writer of task files. A file lock allows one writer at a time on a machine. Every method may raise Invalid, Conflict,
    WritesDenied and StoreUnavailable; then nothing was changed."""

    def __init__(self, root: Path, secrets: Secrets, *, deny: bool, lock: Path) -> None:
        self._root, self._secrets, self._deny, self._lock = root, secrets, deny, lock
        self._compiler = IncrementalCompiler()

    def create(self, body: Mapping[str, Any], registry: Registry) -> WriteResult:
        """Write a file for a new task. Raises Conflict if the task or the file exists."""
        task = dict(body)
        task_id = id_of(task)
        path = f"{task_id or 'task'}.yaml"
        with self._turn():
            if task_id in registry.tasks:
                raise Conflict(f"the task `{task_id}` exists already: change it with PATCH /api/tasks/{task_id}")
            secrets = self._take_secrets(task, task_id, _RequestBody(body))
            if task_id and os.path.lexists(self._root / path):
                raise Conflict(
                    f"the file `{path}` exists already, and gives no such task: repair it, or give this task an `id`"
                )
            data = (self._modeline() + dump(task)).encode()
            document, _ = parse(SourceFile(path, data))
            if document is not None and canonical(document.value) != canonical(task):
                raise Invalid("the task holds a value that YAML cannot express", [Problem("", "cannot be written as YAML")])
            warnings = self._check(path, data, _RequestBody(body), self._compile({}))
            if task_id is None:
                raise Invalid("the name gives no id", [Problem("/name", "gives no id", hint="add `id`")])
            self._apply(path, None, data, secrets)
        return WriteResult(task_id=task_id, path=path, warnings=(*warnings, *secrets.warnings))

    def patch(self, task: CompiledTask, body: Mapping[str, Any], digests: Collection[str] | None) -> WriteResult:
        """Apply a merge patch (RFC 7396) to the task in its file. With `digests`, raises StaleTask unless the task's digest is
        one of them."""

        def change(value: dict[str, Any]) -> None:
            result = merge(value, body)
            value.clear()
            value.update(result)

        return self._edit(task, change, _RequestBody(body), digests)

    def add_trigger(self, task: CompiledTask, body: Mapping[str, Any]) -> WriteResult:
        """Add a trigger. Raises Conflict if there is one of its type."""
        kind = body.get("type")

        def change(value: dict[str, Any]) -> None:
            triggers = value.get("triggers") or []
            if isinstance(kind, str) and any(_has_type(trigger, kind) for trigger in triggers):
                cure = f"DELETE /api/tasks/{task.id}/triggers/{kind} first, or change it with PATCH /api/tasks/{task.id}"
                raise Conflict(f"the task `{task.id}` has a {kind} trigger already: {cure}")
            value["triggers"] = [*triggers, dict(body)]

        return self._edit(task, change, _RequestBody(body, ("triggers", -1)), None)

    def remove_trigger(self, task: CompiledTask, kind: str, digests: Collection[str] | None) -> WriteResult:
        """Remove a trigger. Raises NotFound if there is none of that type."""

        def change(value: dict[str, Any]) -> None:
            triggers = value.get("triggers") or []
            other_triggers = [trigger for trigger in triggers if not _has_type(trigger, kind)]
            if len(other_triggers) == len(triggers):
                raise NotFound("trigger", kind)
            value["triggers"] = other_triggers

        return self._edit(task, change, _RequestBody({}), digests)

    def enable_trigger(self, task: CompiledTask, kind: str, enabled: bool, digests: Collection[str] | None) -> WriteResult:
        """Turn a trigger on or off. Raises NotFound if there is none of that type."""

        def change(value: dict[str, Any]) -> None:
            triggers = value.get("triggers") or []
            if not any(_has_type(trigger, kind) for trigger in triggers):
                raise NotFound("trigger", kind)
            value["triggers"] = [_with_state(trigger, enabled) if _has_type(trigger, kind) else trigger for trigger in triggers]

        return self._edit(task, change, _RequestBody({}), digests)

    def read_file(self, task: CompiledTask) -> TaskFile:
        """Return the file of a task as it is on disk. Raises Conflict if it cannot be edited there."""
        path = task.origin.path
        return TaskFile(path, self._read(path))

    def create_file(self, task_id: str, text: str, registry: Registry) -> WriteResult:
        """Write the text as the file of a new task. Raises Conflict if the task or the file exists."""
        if _ID.fullmatch(task_id) is None or len(task_id) > _MAX_ID_LENGTH:
            hint = "use a-z, 0-9 and single dashes"
            raise Invalid("the task has no usable id", [Problem("/id", f"`{task_id[:80]}` cannot be an id", hint=hint)])
        path, data = f"{task_id}.yaml", text.encode("utf-8", "surrogatepass")
        with self._turn():
            if task_id in registry.tasks or os.path.lexists(self._root / path):
                raise Conflict(f"the task `{task_id}`, or its file `{path}`, exists already: choose another name, or edit it")
            warnings = self._check_text(task_id, path, data, self._compile({}))
            self._apply(path, None, data, _ExtractedSecrets())
        return WriteResult(task_id=task_id, path=path, warnings=warnings)

    def replace_file(self, task: CompiledTask, text: str, digests: Collection[str] | None) -> WriteResult:
        """Write the text as the task's file. With `seen`, raises StaleTask unless the digest of the file is one of them."""
        data = text.encode("utf-8", "surrogatepass")
        with self._turn():
            base = self._compile({})
            path = _current_task(base, task).origin.path
            before = TaskFile(path, self._read(path))
            if digests is not None and before.digest not in digests and "*" not in digests:
                raise StaleTask(f"the file `{path}` has been changed: its digest is {before.digest} now")
            warnings = self._check_text(task.id, path, data, base)
            if data != before.data:
                self._apply(path, before.data, data, _ExtractedSecrets())
        return WriteResult(task_id=task.id, path=path, warnings=warnings)

    def delete(self, task: CompiledTask, digests: Collection[str] | None) -> WriteResult:
        """Delete the task's file. With `digests`, raises StaleTask unless the task's digest is one of them."""
        with self._turn():
            base = self._compile({})
            path = _current_task(base, task).origin.path
            _check_digests(base, task, digests)
            data = self._read(path)
            if self._deny:
                raise WritesDenied(
                    f"this server does not write task files (OPTIO_WRITES): delete `{path}` in git", path=path, document=""
                )
            self._replace(path, data, None)
        return WriteResult(task_id=task.id, path=path)

    def _edit(self, task: CompiledTask, change: Any, body: _RequestBody, digests: Collection[str] | None) -> WriteResult:
        with self._turn():
            base = self._compile({})
            path = _current_task(base, task).origin.path
            _check_digests(base, task, digests)
            data = self._read(path)
            document = _document(path, data)
            new_value = dict(document.value)
            change(new_value)
            if body.at:
                body = _RequestBody(body.value, ("triggers", len(new_value["triggers"]) - 1))
            _refuse_moves(task, document.value, new_value)
            secrets = self._take_secrets(new_value, task.id, body)
            try:
                after = rewrite_file(path, data, new_value)
            except CannotEdit as err:
                raise Conflict(f"{path}:{err.line}: {err}: change this file by hand") from err
            warnings = self._check(path, after, body, base)
            if after != data or secrets.values:
                self._apply(path, data, after, secrets)
        return WriteResult(task_id=task.id, path=path, warnings=(*warnings, *secrets.warnings))

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        with _describe_os_error(self._lock):
            self._lock.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _compile(self, changes: Mapping[str, bytes | None]) -> Compilation:
        try:
            now = scan_directory(self._root, self._compiler.known())
        except MissingDirectory as err:
            raise Conflict(f"{err}: put it back first") from err
        stamps = {path: stamp for path, stamp in now.stamps.items() if path not in now.racy and path not in changes}
        return self._compiler.compile(OverlayTree(DirectoryTree(self._root), changes), stamps)

    def _check_text(self, task_id: str, path: str, data: bytes, base: Compilation) -> tuple[Problem, ...]:
        """Return warnings about the tree with this text. Raises Invalid with its errors, and if it gives another task."""
        warnings = self._check(path, data, _WholeText(None), base, only_new=False)
        document = _document(path, data)
        if (written_id := id_of(document.value)) != task_id:
            hint = f"write `id: {task_id}`" if written_id is not None else "write a `name`"
            raise Invalid("a task keeps its id", [Problem("/id", f"would be `{written_id or ''}`", hint=hint)])
        return warnings

    def _check(
        self, path: str, data: bytes, body: _RequestBody, base: Compilation, *, only_new: bool = True
    ) -> tuple[Problem, ...]:
        """Return warnings about the changed tree. Raises Invalid with errors that the tree did not have before, or without
        `only_new` with all of this file."""
        known_findings = {(d.path, d.code, d.message) for d in base.diagnostics if only_new or d.path != path}
        new_findings = [d for d in self._compile({path: data}).diagnostics if (d.path, d.code, d.message) not in known_findings]
        errors = [d for d in new_findings if d.severity is Severity.ERROR]
        duplicate = next((d for d in errors if d.code == "OPT701"), None)
        if duplicate is not None:
            raise Conflict(f"{duplicate.message}: {duplicate.hint}")
        if errors:
            raise Invalid("the task would have errors", [_problem(d, path, body) for d in errors])
        return tuple(_problem(d, path, body) for d in new_findings if d.severity is Severity.WARNING and d.path == path)

    def _take_secrets(self, task: dict[str, Any], task_id: str | None, body: _RequestBody) -> _ExtractedSecrets:
        secrets = _ExtractedSecrets()
        triggers = task.get("triggers")
        if not isinstance(triggers, list):
            return secrets
        task["triggers"] = triggers = list(triggers)
        for index, trigger in enumerate(triggers):
            config = trigger.get("config") if isinstance(trigger, dict) else None
            if not isinstance(config, dict) or not isinstance(config.get("secret"), str):
                continue
            name, value = _secret_name(task_id or "task", config.get("path")), config["secret"]
            place = body.pointer(("triggers", index, "config", "secret"))
            if not value.strip():
                raise Invalid("the secret is blank", [Problem(place, "is blank", hint="send a long random text")])
            _refuse_unusable(config, name, place)
            if value.endswith("..."):
                hint = "anybody can sign with it: send a random one before you use this webhook in production"
                secrets.warnings.append(Problem(place, "the secret is a placeholder", hint=hint))
            secrets.values[name] = value
            secrets.places[name] = place
            triggers[index] = {**trigger, "config": {**config, "secret": {"name": name}}}
        return secrets

    def _apply(self, path: str, before: bytes | None, after: bytes, secrets: _ExtractedSecrets) -> None:
        if self._deny:
            names = ", ".join(f"`{name}` ({self._secrets.where(name)})" for name in secrets.values)
            message = "this server does not write task files (OPTIO_WRITES): commit this document"
            raise WritesDenied(message + (f", and set the secret {names}" if names else ""), path=path, document=after.decode())
        former = {name: self._secrets.stored(name) for name in secrets.values}
        try:
            for name, value in secrets.values.items():
                with _describe_os_error(self._root):
                    self._secrets.put(name, value)
                if self._secrets.get(name) != value:
                    hint = f'{self._secrets.where(name)}, and send `{{"name": "{name}"}}`'
                    raise Invalid(
                        "the secret cannot be kept", [Problem(secrets.places[name], "cannot be kept here", hint=hint)]
                    )
            self._replace(path, before, after)
        except BaseException:
            for name, old in former.items():
                if old is not None:
                    self._secrets.put(name, old)
            raise

    def _read(self, path: str) -> bytes:
        """Return the bytes of a file that may be changed. Raises Conflict."""
        full = self._root / path
        parent = os.path.realpath(full.parent)
        root = os.path.realpath(self._root)
        try:
            status = os.lstat(full)
        except OSError as err:
            raise Conflict(f"`{path}` is gone: it was changed at the same time") from err
        if not stat.S_ISREG(status.st_mode) or (parent != root and not parent.startswith(root + os.sep)):
            raise Conflict(f"`{path}` is a link, or not a regular file: change it at its source")
        if status.st_size > MAX_FILE_BYTES:
            raise Conflict(f"`{path}` is too large")
        with _describe_os_error(full):
            return full.read_bytes()

    def _replace(self, path: str, before: bytes | None, after: bytes | None) -> None:
        """Replace a file as a whole; `None` stands for a missing file. Raises Conflict if somebody else was quicker."""
        full = self._root / path
        draft = full.with_name(f".{full.name}.optio")
        with _describe_os_error(full):
            try:
                if after is not None:
                    mode = 0o644 if before is None else stat.S_IMODE(os.stat(full).st_mode)
                    _write_whole(draft, after, mode)
                if before is None:
                    # A link fails where a file is: nobody's new file is overwritten.
                    _create_file(draft, full)
                elif self._read(path) != before:
                    raise Conflict(f"`{path}` was changed at the same time: send the request again")
                elif after is None:
                    full.unlink()
                else:
                    draft.replace(full)
            except FileExistsError as err:
                raise Conflict(f"the file `{path}` exists already") from err
            finally:
                draft.unlink(missing_ok=True)
            _sync(full.parent)

    def _modeline(self) -> str:
        if (self._root.absolute().parent / _SCHEMA).is_file():
            return f"# yaml-language-server: $schema=../{_SCHEMA.as_posix()}\n"
        return ""


def merge(value: Any, patch: Any) -> Any:
    """Return the result of a JSON Merge Patch (RFC 7396): members of the patch replace those of the value, null removes
    them."""
    if not isinstance(patch, Mapping):
        return patch
    result = dict(value) if isinstance(value, dict) else {}
    for name, change in patch.items():
        if change is None:
            result.pop(name, None)
        else:
            result[name] = merge(result.get(name), change)
    return result


def _has_type(trigger: Any, kind: str) -> bool:
    return isinstance(trigger, dict) and trigger.get("type") == kind


def _with_state(trigger: dict[str, Any], enabled: bool) -> dict[str, Any]:
    """Return a trigger that is on or off. The default is not written."""
    rest = {key: value for key, value in trigger.items() if key != "enabled"}
    return rest if enabled else {**rest, "enabled": False}


def id_of(document: Mapping[str, Any]) -> str | None:
    """Return the id that a task file gives its task, or None if it gives none that can be used."""
    declared_id, name = document.get("id"), document.get("name")
    task_id = declared_id if isinstance(declared_id, str) else slug(name) if isinstance(name, str) else ""
    return task_id if _ID.fullmatch(task_id) and len(task_id) <= _MAX_ID_LENGTH else None


def _secret_name(task_id: str, path: Any) -> str:
    """Return the name under which a webhook's secret is stored. Two underscores separate id and path, which contain no double
    dash, so different webhooks have different names."""
    words = [re.sub(r"[^A-Z0-9]+", "_", str(word).upper()) for word in (task_id, path or "")]
    name = "__".join(words)
    if len(name) >= _MAX_SECRET_NAME_LENGTH:
        name = f"{name[:100]}_{hashlib.sha256(name.encode()).hexdigest()[:16].upper()}"
    return name if name[0].isalpha() else f"_{name}"


def _refuse_unusable(config: Mapping[str, Any], name: str, place: str) -> None:
    """Raise Invalid for a secret that the webhook's scheme cannot verify with."""
    try:
        webhook = WebhookConfig.of({**config, "secret": {"name": name}})
    except ValueError:
        return  # the compiler says what else is wrong with this configuration
    try:
        signature.signing_key(webhook, config["secret"])
    except signature.UnusableSecret as err:
        raise Invalid("the secret cannot be used", [Problem(place, str(err), hint="send a long random text")]) from err


def _current_task(base: Compilation, task: CompiledTask) -> CompiledTask:
    """Return the task as its file defines it now, or as it is served if the file is broken."""
    return base.registry.tasks.get(task.id, task)


def _check_digests(base: Compilation, task: CompiledTask, digests: Collection[str] | None) -> None:
    digest = _current_task(base, task).digest
    if digests is not None and digest not in digests and "*" not in digests:
        raise StaleTask(f"the task `{task.id}` has the digest {digest} now: fetch it again")


def _document(path: str, data: bytes) -> Document:
    document, diagnostics = parse(SourceFile(path, data))
    if document is None or not isinstance(document.value, dict):
        first = next((d for d in diagnostics if d.severity is Severity.ERROR), None)
        problem = f"{first.span.start.line}: {first.message}" if first else "1: holds no task"
        raise Conflict(f"the file is broken and must be repaired first: {path}:{problem}")
    return document


def _refuse_moves(task: CompiledTask, before: Mapping[str, Any], new_value: Mapping[str, Any]) -> None:
    if "promptTemplate" in new_value and "promptTemplate" not in before and "promptFile" in new_value:
        hint = f"change `{new_value['promptFile']}`, or send `promptFile: null` with it"
        raise Invalid("the prompt is in a file of its own", [Problem("/promptTemplate", "stands in `promptFile`", hint=hint)])
    new_id = id_of(new_value)
    if new_id is not None and new_id != task.id:
        key = "/id" if "id" in new_value else "/name"
        hint = f"send `id: {task.id}` with the new name" if key == "/name" else "create a new task and delete this one"
        raise Invalid("a task keeps its id", [Problem(key, f"would change the id to `{new_id}`", hint=hint)])


def _problem(diagnostic: Diagnostic, path: str, body: _RequestBody) -> Problem:
    if diagnostic.path != path:
        return Problem("", f"{diagnostic.path}: {diagnostic.message}", diagnostic.code, diagnostic.hint)
    place = body.pointer(diagnostic.route)
    is_seen = isinstance(body, _WholeText) or not (place or not diagnostic.route or not body.at)
    where = f"line {diagnostic.span.start.line}: " if is_seen else ""
    return Problem(place, where + diagnostic.message, diagnostic.code, diagnostic.hint)


@contextlib.contextmanager
def _describe_os_error(path: Path) -> Iterator[None]:
    """Turn errors of the file system into Conflict (no right to write) or StoreUnavailable."""
    try:
        yield
    except OSError as err:
        message = f"`{path.name}` cannot be written: {err.strerror}"
        if err.errno in _NO_RIGHT:
            raise Conflict(f"{message}; commit the change in git, or set OPTIO_WRITES=deny") from err
        raise StoreUnavailable(message) from err


def _write_whole(path: Path, data: bytes, mode: int) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path, flags, mode)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, mode)
        file.write(data)
        file.flush()
        os.fsync(descriptor)


def _create_file(draft: Path, full: Path) -> None:
    """Move a new file into place without overwriting: a hard link fails if the file exists. Some file systems have no links,
    and get a rename."""
    try:
        os.link(draft, full)
    except OSError as err:
        if err.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS) or os.path.lexists(full):
            raise
        draft.replace(full)


def _sync(directory: Path) -> None:
    """Flush a directory, so that a new name survives a power loss, where the file system can do that."""
    with contextlib.suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
