"""Turn drafts into files: each has a name of its own, and is compiled with all others before anybody sees it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from optio.compiler.diagnostics import Diagnostic, Severity
from optio.compiler.pipeline import compile_tree
from optio.compiler.source_tree import MemoryTree, OverlayTree, SourceTree
from optio.importing.draft import Note, TaskDraft
from optio.importing.formats import Format
from optio.model.text import slug


@dataclass(frozen=True)
class ImportedTask:
    """A task of a source: the text of its file, or None with the errors why there is none, and the notes."""

    name: str
    path: str
    text: str | None
    notes: tuple[Note, ...]
    errors: tuple[Diagnostic, ...] = ()


@dataclass(frozen=True)
class ImportedFile:
    """A source with its format and its tasks."""

    path: str
    format: Format
    tasks: tuple[ImportedTask, ...]

    @property
    def is_complete(self) -> bool:
        """Return whether the source gave at least one task, and no task of it has an error."""
        return any(task.text is not None for task in self.tasks) and not any(task.errors for task in self.tasks)


def compile_drafts(
    sources: Sequence[tuple[str, Format, list[TaskDraft]]], tree: SourceTree | None = None
) -> list[ImportedFile]:
    """Return the files of all drafts. They are compiled together, within `tree` where one is given, whose policy and defaults
    then hold; a draft whose file has an error, or brings one to a file of the tree, has no text."""
    existing = tree if tree is not None else MemoryTree({})
    reserved = _ids(existing)
    paths = _assign_paths([draft for *_, drafts in sources for draft in drafts if draft.is_writable], reserved)
    texts = {paths[id(draft)]: draft.text() for *_, drafts in sources for draft in drafts if draft.is_writable}
    errors = _errors(existing, texts)
    return [
        ImportedFile(path, kind, tuple(_imported(draft, paths.get(id(draft)), texts, errors) for draft in drafts))
        for path, kind, drafts in sources
    ]


def _imported(
    draft: TaskDraft, path: str | None, texts: Mapping[str, str], errors: Mapping[str, list[Diagnostic]]
) -> ImportedTask:
    if path is None:
        return ImportedTask(draft.name, "", None, tuple(draft.notes))
    text = texts[path] if path not in errors else None
    return ImportedTask(draft.name, path, text, tuple(draft.notes), tuple(errors.get(path, ())))


def _ids(tree: SourceTree) -> dict[str, str]:
    """Return the path of each task of a tree, by its id."""
    return {task.id: task.origin.path for task in compile_tree(tree).registry.tasks.values()}


def _assign_paths(drafts: Iterable[TaskDraft], reserved: Mapping[str, str]) -> dict[int, str]:
    """Return the path of each draft, by its identity. A draft whose name is in use gets a number. An id of the tree is free for
    the file of the same path, which is then replaced."""
    used: set[str] = {name for name, path in reserved.items() if path != f"{name}.yaml"}
    paths: dict[int, str] = {}
    for draft in drafts:
        base = slug(draft.name)[:80].strip("-") or "task"
        number, name = 1, base
        while name in used:
            number += 1
            name = f"{base[: 79 - len(str(number))]}-{number}"
        if name != slug(draft.name):
            draft.put("id", name)
        if number > 1:
            for trigger in draft.triggers:
                if trigger["type"] == "webhook":
                    trigger["config"]["path"] = name
        draft.name = " ".join("".join(c if c.isprintable() else " " for c in draft.name).split())[:200] or name
        used.add(name)
        paths[id(draft)] = f"{name}.yaml"
    return paths


def _errors(tree: SourceTree, texts: Mapping[str, str]) -> dict[str, list[Diagnostic]]:
    """Return the errors of the new files, by their paths, with those that they bring to other files of the tree."""
    old_findings = {(finding.path, finding.code, finding.message) for finding in compile_tree(tree).diagnostics}
    errors: dict[str, list[Diagnostic]] = {}
    compilation = compile_tree(OverlayTree(tree, {path: text.encode() for path, text in texts.items()}))
    for finding in compilation.diagnostics:
        if finding.severity is not Severity.ERROR:
            continue
        if finding.path in texts:
            errors.setdefault(finding.path, []).append(finding)
        elif (finding.path, finding.code, finding.message) not in old_findings:
            # The finding of a pair of files names the other one; where it names none, every new file may be the cause.
            for path in {related.path for related in finding.related} & texts.keys() or texts.keys():
                errors.setdefault(path, []).append(finding)
    return errors
