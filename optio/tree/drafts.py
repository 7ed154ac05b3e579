"""Drafts: the text of a task file before it is written, compiled at its place in the tree, and what its effects would be.

Only the draft and the files that it is made from are read, so a check takes the time of one file, however large the tree is.
Checks that need all files, such as the budget of all tasks together, are left to the writer. Used by the API and the pages.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from optio.compiler.diagnostics import Diagnostic, Severity, diagnostic, sort_diagnostics
from optio.compiler.layers import Bases
from optio.compiler.pipeline import TreePolicy, assemble, compile_file
from optio.compiler.source import SourceFile
from optio.compiler.source_tree import DirectoryTree, OverlayTree
from optio.compiler.yaml.document import parse
from optio.model.registry import CompiledTask, Registry
from optio.plan.compare import Plan, compare_sides
from optio.plan.effect import Effect, Forecast
from optio.plan.side import Side
from optio.tree.writer import id_of

_UNNAMED = "new-task.yaml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A checked draft. `task` and `plan` are None while it has errors; the plan leads from what is served to the draft.
    `failing` are the effects that the policy's `failOn` names."""

    path: str
    diagnostics: tuple[Diagnostic, ...]
    task: CompiledTask | None = None
    plan: Plan | None = None
    failing: Collection[Effect] = ()

    @property
    def ok(self) -> bool:
        """Return whether the text could be written as it is."""
        return self.task is not None

    @property
    def effects(self) -> tuple[Effect, ...]:
        """Return all effects of writing it."""
        return () if self.plan is None else self.plan.effects


def check_draft(root: Path, text: str, registry: Registry, now: datetime, task: CompiledTask | None = None) -> Draft:
    """Check a text as the file of a new task, or as the new content of the file of `task`."""
    data = text.encode("utf-8", "surrogatepass")
    document, _ = parse(SourceFile(_UNNAMED, data))
    task_id = id_of(document.value) if document is not None and isinstance(document.value, dict) else None
    path = task.origin.path if task is not None else _UNNAMED if task_id is None else f"{task_id}.yaml"
    tree = OverlayTree(DirectoryTree(root), {path: data})
    bases, policy = Bases(tree), TreePolicy(tree)
    draft = compile_file(path, tree, bases, policy)
    # Others with the same id or webhook are compiled too, so that the rules across files see them.
    rival_paths = {rival.origin.path for rival in _rivals(draft.compiled, registry, task)} - {path}
    files = [draft, *(compile_file(rival_path, tree, bases, policy) for rival_path in sorted(rival_paths))]
    compilation = assemble(files, levels=policy.levels, is_whole=False)
    diagnostics = [finding for finding in compilation.diagnostics if finding.path == path or finding.severity is Severity.ERROR]
    if document is not None and (refusal := _refuse_id(path, task_id, registry, task)) is not None:
        diagnostics = sort_diagnostics([*diagnostics, refusal])
    compiled = draft.compiled
    if compiled is None or any(finding.severity is Severity.ERROR for finding in diagnostics):
        return Draft(path=path, diagnostics=tuple(diagnostics))
    before = Side(registry=Registry.of({} if task is None else {task.id: task}), policy=policy.spec)
    after = Side(registry=Registry.of({compiled.id: compiled}), policy=policy.spec)
    plan = compare_sides(before, after, Forecast(now=now.replace(second=0, microsecond=0)))
    failing = [effect for _, effect in plan.failing([] if policy.spec is None else policy.spec.fail_on)]
    return Draft(path=path, diagnostics=tuple(diagnostics), task=compiled, plan=plan, failing=failing)


def _rivals(compiled: CompiledTask | None, registry: Registry, task: CompiledTask | None) -> list[CompiledTask]:
    """Return the other tasks that have the id or the webhook of the draft of `task`."""
    if compiled is None:
        return []
    hook = compiled.spec.webhook
    rivals = [registry.tasks.get(compiled.id), None if hook is None else registry.hooks.get(hook.config.path)]
    return [rival for rival in rivals if rival is not None and (task is None or rival.id != task.id)]


def _refuse_id(path: str, task_id: str | None, registry: Registry, task: CompiledTask | None) -> Diagnostic | None:
    """Return a finding for a new task with an id that is in use, and for a text that would give its task another id."""
    if task_id is None:
        return None
    if task is None and task_id in registry.tasks:
        hint = "choose another name, or edit that task"
        return diagnostic("OPT701", f"the task `{task_id}` exists already", path=path, route=("name",), hint=hint)
    if task is not None and task_id != task.id:
        hint = f"write `id: {task.id}`, or make a new task and delete this one"
        return diagnostic(
            "OPT701", f"the task would become `{task_id}`: a task keeps its id", path=path, route=("name",), hint=hint
        )
    return None
