"""The compiler: `compile_tree` runs the stages parse, merge, shape, resolve, check and emit for each file, and then checks all
files together. It never raises for what a file says; every mistake is a finding. `compile_file` and `check_results` are the
halves that the parallel check and the incremental compiler run separately."""

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from optio.compiler import checks, text_hygiene
from optio.compiler.checks.across import check_across
from optio.compiler.diagnostics import (
    Diagnostic,
    Severity,
    apply_severities,
    asks_advice,
    diagnostic,
    fold_excess,
    sort_diagnostics,
)
from optio.compiler.emit import emit
from optio.compiler.facts import TaskFacts, connection_facts, task_facts
from optio.compiler.ignores import IgnoreComment, drop_ignored, find_ignores
from optio.compiler.layers import (
    POLICY,
    Bases,
    MergedDocument,
    check_base_keys,
    inherited_values,
    is_base,
    is_connection,
    is_removal,
    merge_layers,
    read_layers,
    suggest_base_name,
)
from optio.compiler.resolved_task import ResolvedTask
from optio.compiler.shape.decode import decode_task
from optio.compiler.shape.resolve import resolve
from optio.compiler.source import SourceFile
from optio.compiler.source_tree import OverlayTree, SourceTree, Unreadable
from optio.compiler.suggest import suggestion_budget
from optio.compiler.suggest_path import suggest_connection, suggest_template
from optio.compiler.token_shapes import find_tokens
from optio.compiler.yaml.document import Document, parse
from optio.model.credential import lacks_credential
from optio.model.isolation import POD, not_applied
from optio.model.registry import CompiledTask, Registry
from optio.model.route import show, value_at

if TYPE_CHECKING:
    from optio.model.policy import PolicySpec

# Of these nearly each task has one.
_COMMON = frozenset({"name", "agentRuntime", "promptTemplate", "promptFile", "triggers", "type", "extends"})
# Rules about the executor, which is one for the tree.
_OF_EXECUTOR = frozenset({"OPT523"})
# Rules that ask for a key of `environment`, which only matters if the executor applies it.
_ASKED_FOR = {"OPT510": "network"}
# Rules that another rule may report as well.
_REPEATS = frozenset({"OPT503", "OPT616"})
NO_LEVELS: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class Compilation:
    """The result for a tree: the registry of tasks without errors, the paths of files with errors, and all findings."""

    registry: Registry
    broken: frozenset[str]
    diagnostics: tuple[Diagnostic, ...]
    files: int

    @property
    def ok(self) -> bool:
        """Return True if no finding is an error."""
        return not has_errors(self.diagnostics)


class TreePolicy:
    """The policy of a tree (`_policy.yaml`), if it has one. A policy that cannot be read allows nothing."""

    def __init__(self, tree: SourceTree) -> None:
        self._spec: PolicySpec | None = None
        self.found: list[Diagnostic] = []
        self.facts: TaskFacts | None = None
        self.there = True
        try:
            document, wrong = parse(SourceFile(POLICY, tree.read(POLICY)))
        except Unreadable as err:
            self.there = err.code != "OPT115"
            return
        if document is not None:
            # Imported here: a tree without a policy does not pay for it.
            from optio.compiler.policy import facts_of_policy, read_policy

            self._spec, self.found = read_policy(document)
            if has_errors(wrong):  # a duplicate key: it is not clear which of both applies
                self._spec = None
            if self._spec is not None:
                self.facts = facts_of_policy(document, self._spec)

    @property
    def spec(self) -> "PolicySpec | None":
        """Return the policy, or None when there is none or it cannot be read."""
        return self._spec

    @property
    def unreadable(self) -> bool:
        """Return True if the file exists and cannot be read or decoded; every task then has an error."""
        return self.there and self._spec is None

    @property
    def levels(self) -> Mapping[str, str]:
        """Return the severities that the policy gives to rules, by code."""
        return NO_LEVELS if self._spec is None else self._spec.rules

    @property
    def asks_advice(self) -> bool:
        """Return whether the policy gives a severity to a rule that is otherwise checked only for `pedantic`."""
        return asks_advice(self.levels)

    def demands(self, task: ResolvedTask) -> tuple[str, ...]:
        """Return the keys that an executor must apply to run the task."""
        if self._spec is None:
            return ()
        from optio.compiler.policy import demands

        return demands(task, self._spec)

    def with_default(self, task: ResolvedTask) -> ResolvedTask:
        """Return the task with the value of `budget` that the policy gives to tasks with a `budgetUsd` and without one."""
        spec = task.spec
        if self._spec is None or self._spec.budget != "report" or spec.budget is not None or spec.budget_usd is None:
            return task
        return replace(task, spec=spec.replace(budget="report"))

    def allowed_secrets(self, task: ResolvedTask) -> tuple[str, ...] | None:
        """Return the patterns for secrets that a run gets by itself: those of the policy, for a task that may get one."""
        if self._spec is None or self._spec.allow.secrets is None or not lacks_credential(task.spec):
            return None
        return tuple(self._spec.allow.secrets)

    def namespace(self, path: str) -> str | None:
        """Return the Kubernetes namespace that the policy assigns to the task in this file, or None."""
        if self._spec is None or not self._spec.namespaces:
            return None
        from optio.compiler.policy import namespace

        return namespace(path, self._spec)

    def judge(self, task: ResolvedTask, tree: SourceTree) -> list[Diagnostic]:
        """Return findings for everything in the task that the policy does not allow."""
        if not self.there:
            return []
        with contextlib.suppress(Unreadable):
            tree.read(POLICY)  # so that a recording tree notes the policy as an input of the task
        if self._spec is None:
            message, hint = f"`{POLICY}` cannot be read, so it allows nothing", "correct it first"
            return [diagnostic("OPT121", message, path=task.path, hint=hint)]
        from optio.compiler.policy import check

        return list(check(task, self._spec))


@dataclass(frozen=True, slots=True)
class FileResult:
    """The result of one file by itself, as plain data for other processes. `facts` is what other files may
    contradict. Findings that `comments` silence are still in `diagnostics`, because a comment may also silence a finding across
    files."""

    path: str
    diagnostics: list[Diagnostic]
    facts: TaskFacts | None = None
    comments: tuple[IgnoreComment, ...] = ()


@dataclass(frozen=True, slots=True)
class CompiledFile(FileResult):
    """A file's result with its resolved task, and the compiled task to serve if no error is found. A file that is a `base` of
    others (template, defaults, policy) has neither."""

    task: ResolvedTask | None = None
    compiled: CompiledTask | None = None
    base: bool = False


class TreeResult(NamedTuple):
    """The combined result of all files: the paths of files with errors, and all findings in order."""

    broken: frozenset[str]
    diagnostics: tuple[Diagnostic, ...]


def compile_tree(
    tree: SourceTree, *, pedantic: bool = False, executor: str | None = None, is_whole: bool = True
) -> Compilation:
    """Compile every file of the tree. `pedantic` adds advice, and `executor` adds findings about keys that this executor does
    not apply. Pass `whole=False` for a selection of files; nothing is then reported as unused."""
    bases, policy = Bases(tree), TreePolicy(tree)
    files = (compile_file(path, tree, bases, policy, pedantic=pedantic, executor=executor) for path in tree.task_files())
    return assemble(files, levels=policy.levels, pedantic=pedantic, executor=executor, is_whole=is_whole)


def assemble(
    files: Iterable[CompiledFile],
    *,
    levels: Mapping[str, str] = NO_LEVELS,
    pedantic: bool = False,
    executor: str | None = None,
    is_whole: bool = True,
) -> Compilation:
    """Combine compiled files into one compilation, including the checks across files. `levels` are the severities of the
    policy."""
    compiled = list(files)
    broken_paths, diagnostics = check_results(compiled, levels=levels, pedantic=pedantic, executor=executor, is_whole=is_whole)
    tasks = {f.compiled.id: f.compiled for f in compiled if f.compiled is not None and f.path not in broken_paths}
    return Compilation(Registry.of(tasks), broken_paths, diagnostics, len(compiled))


def check_results(
    files: Sequence[FileResult],
    *,
    levels: Mapping[str, str] = NO_LEVELS,
    pedantic: bool = False,
    executor: str | None = None,
    is_whole: bool = True,
) -> TreeResult:
    """Return the findings of all files together: each file's own, those across files, with severities and ignore comments
    applied."""
    facts = [file.facts for file in files if file.facts is not None]
    by_file = _with_findings_across(files, check_across(facts, executor=executor, is_whole=is_whole))
    if executor is not None and (pedantic or asks_advice(levels)):
        by_file = _without_vain_advice(by_file, facts, executor)
    if levels:
        by_file = {path: apply_severities(found, levels, pedantic=pedantic) for path, found in by_file.items()}
    comments = {file.path: file.comments for file in files if file.comments}
    if comments:
        by_file = drop_ignored(by_file, comments, pedantic=pedantic)
    # An error in a prompt's own file, or in a template, breaks the task that uses it.
    broken_paths = frozenset(path for path, found in by_file.items() if has_errors(found))
    findings = sort_diagnostics(chain.from_iterable(by_file.values()))
    return TreeResult(broken_paths, tuple(findings if executor is None else _once_for_tree(findings)))


def _without_vain_advice(
    by_file: Mapping[str, list[Diagnostic]], facts: Iterable[TaskFacts], executor: str
) -> dict[str, list[Diagnostic]]:
    """Return the findings without those that ask for a key which the executor does not apply to the task."""
    vain = {rule for rule, key in _ASKED_FOR.items() if not_applied(executor, [key])}
    in_pods = {fact.path for fact in facts if POD in fact.demands}
    return {
        path: findings if path in in_pods else [finding for finding in findings if finding.code not in vain]
        for path, findings in by_file.items()
    }


def _with_findings_across(files: Sequence[FileResult], across: Iterable[Diagnostic]) -> dict[str, list[Diagnostic]]:
    """Return the findings of each file with those across files. One about a missing template names the most similar file."""
    by_file = {file.path: list(file.diagnostics) for file in files}
    for finding in across:
        if finding.path in by_file:
            by_file[finding.path].append(finding)
    for findings in by_file.values():
        for index, finding in enumerate(findings):
            if finding.missing_file is not None:
                name_similar = suggest_connection if finding.code == "OPT541" else suggest_template
                findings[index] = name_similar(finding, finding.missing_file, list(by_file))
    return {path: findings for path, findings in by_file.items() if findings}


def _once_for_tree(findings: Sequence[Diagnostic]) -> list[Diagnostic]:
    """Return the findings with one of those that say the same of the whole tree: the first, with the number of the others. An
    error concerns its own task, and stays."""
    alike = [finding for finding in findings if finding.code in _OF_EXECUTOR and finding.severity is not Severity.ERROR]
    if len(alike) < 2:
        return list(findings)
    first, *repeats = alike
    files = len({finding.path for finding in repeats})
    keys = "key in" if len(repeats) == 1 else "keys in"
    summary_text = f"{len(repeats)} more {keys} {files} {'file' if files == 1 else 'files'}"
    summary_text += f" {'is' if len(repeats) == 1 else 'are'} not applied, or not fully"
    names = ", ".join(sorted({f"`{show(finding.route)}`" for finding in repeats}))
    summary = replace(first, message=f"{first.message}; {summary_text} ({names})")
    left_out = {id(finding) for finding in repeats}
    return [summary if finding is first else finding for finding in findings if id(finding) not in left_out]


def compile_file(
    path: str,
    tree: SourceTree,
    bases: Bases,
    policy: "TreePolicy",
    *,
    pedantic: bool = False,
    executor: str | None = None,
    samples: bool = False,
) -> CompiledFile:
    """Parse, merge, shape, resolve and check one file. With `samples` the task keeps the payloads that it was checked with;
    decoded, they are ten times as large as their files."""
    pedantic = pedantic or policy.asks_advice
    with suggestion_budget():
        document, task, findings = _compiled(path, tree, bases, policy, pedantic)
        if any(finding.fix is not None for finding in findings):
            findings = _proved(findings, path, document, tree, bases, policy, pedantic)
    if document is None:
        return CompiledFile(path, fold_excess(findings))
    facts, compiled = (policy.facts if path == POLICY else None), None
    if task is not None:
        demands = policy.demands(task)
        # A policy that cannot be read may name the executor.
        runs_on = None if policy.unreadable else executor
        facts = task_facts(task, executor=runs_on, priced=policy.facts is not None, demands=demands)
        compiled = emit(task, demands, policy.namespace(path), policy.allowed_secrets(task))
        if task.samples and not samples:
            task = replace(task, samples=())
    is_a_connection = is_connection(document)
    if is_a_connection and not has_errors(findings):
        facts = connection_facts(document)
    comments, ignore_findings = find_ignores(document)
    document.release_nodes()
    is_no_task = is_a_connection or path == POLICY or is_base(document)
    return CompiledFile(path, fold_excess([*findings, *ignore_findings]), facts, comments, task, compiled, is_no_task)


def _proved(
    findings: list[Diagnostic],
    path: str,
    document: Document | None,
    tree: SourceTree,
    bases: Bases,
    policy: "TreePolicy",
    pedantic: bool,
) -> list[Diagnostic]:
    """Return the findings with the fixes that are proved for this file, and for the files that it is made of."""
    from optio.compiler.edits.proofs import Check, prove_fixes  # imported only for a file with a mistake

    contents: dict[str, bytes] = {}
    for edited_path in {finding.path for finding in findings if finding.fix is not None}:
        with contextlib.suppress(Unreadable):
            # Not read again where it is known: the file may be another one by now.
            is_own = edited_path == path and document is not None
            contents[edited_path] = document.text.encode() if is_own and document is not None else tree.read(edited_path)

    def recheck(changes: Mapping[str, bytes]) -> Check:
        changed_tree = OverlayTree(tree, changes)
        own_policy = TreePolicy(changed_tree) if path == POLICY else policy
        after, _, findings_left = _compiled(path, changed_tree, bases, own_policy, pedantic)
        return Check(findings_left, after is not None)

    return prove_fixes(Check(findings, document is not None), contents, recheck)


def _compiled(
    path: str, tree: SourceTree, bases: Bases, policy: "TreePolicy", pedantic: bool
) -> tuple[Document | None, ResolvedTask | None, list[Diagnostic]]:
    try:
        source = SourceFile(path, tree.read(path))
    except Unreadable as err:
        return None, None, [diagnostic(err.code, err.message, path=path, hint=err.hint)]
    document, findings = parse(source)
    if document is None:
        return None, None, findings
    if path == POLICY:
        return document, None, [*findings, *policy.found]
    if is_base(document):
        return document, None, _base_result(source, document, findings)
    if is_connection(document):
        from optio.compiler.connection_document import check_connection  # imported only for a tree with connections

        tokens = find_tokens(document.path, document.text, in_connection=True)
        further = [*check_connection(document, pedantic=pedantic), *tokens]
        return document, None, _with_text_checks(source, document, findings, further)
    if (refusal := _refuse_other_file(document)) is not None:
        return document, None, [*findings, refusal]
    lower_layers, missing = read_layers(document, tree, bases)
    if missing:  # findings about the rest would depend on the missing file
        return document, None, [*findings, *missing]
    merged_document = merge_layers(document, lower_layers)
    shape, further = decode_task(merged_document)
    findings = _with_text_checks(source, document, findings, further)
    if shape is None or ("extends",) in shape.gaps:
        return document, None, findings
    task, further = resolve(merged_document, shape, tree)
    findings += further
    task = policy.with_default(task)
    if task.spec.connections:
        from optio.compiler.connections import resolve_connections

        connections, further = resolve_connections(task, tree, bases)
        task, findings = replace(task, connections=connections), [*findings, *further]
    findings += checks.run(task, pedantic=pedantic)
    findings += policy.judge(task, tree)
    return document, task, _without_repeats(findings, merged_document)


def _without_repeats(findings: list[Diagnostic], document: Document | MergedDocument) -> list[Diagnostic]:
    """Return the findings without those that another rule reports as well: a model that is wrong has no price either, and a
    webhook's secret in plain text is reported by its own rule."""
    if _REPEATS.isdisjoint(finding.code for finding in findings):
        return findings
    model_line = document.span(("model",)).start.line if value_at(document.value, ("model",)) is not None else None
    secret_lines = {finding.span.start.line for finding in findings if finding.code == "OPT405"}
    is_wrong = any(
        finding.code in ("OPT607", "OPT621") or finding.span.start.line == model_line
        for finding in findings
        if finding.code not in ("OPT608", "OPT616")
    )
    return [
        finding
        for finding in findings
        if not (finding.code == "OPT616" and is_wrong)
        and not (finding.code == "OPT503" and finding.span.start.line in secret_lines)
    ]


def _refuse_other_file(document: Document) -> Diagnostic | None:
    """Return the finding for a file that is none of a task: misnamed defaults, or a file of another program."""
    if (suggestion := suggest_base_name(document)) is not None:
        message = "`name` is missing: a file of this name is a task"
        hint = f"rename the file to `{suggestion}`, or write `name:` if it is a task"
        return diagnostic("OPT102", message, path=document.path, hint=hint)
    if _is_of_another_program(document):
        message = "no key of this file belongs to a task"
        hint = "move the file out of the task directory, or into a directory whose name begins with a dot"
        return diagnostic("OPT110", message, path=document.path, span=document.key_span(()), hint=hint)
    return None


def _is_of_another_program(document: Document) -> bool:
    if not isinstance(document.value, dict) or not document.value or not _COMMON.isdisjoint(document.value):
        return False
    from optio.compiler.conversions.foreign_keys import is_of_another_program  # imported only for such a file

    return is_of_another_program(map(str, document.value))


def _base_result(source: SourceFile, document: Document, findings: list[Diagnostic]) -> list[Diagnostic]:
    """Return the findings of a template or of defaults by itself. Missing keys are fine there, because the tasks have them."""
    bare = replace(document, value=inherited_values(document)) if isinstance(document.value, dict) else document
    _, further = decode_task(bare)
    further = [d for d in further if d.code != "OPT102" or len(d.route) > 1]
    further = [d for d in further if d.code in ("OPT101", "OPT102") or not is_removal(document, d.route)]
    return _with_text_checks(
        source, document, findings, [*check_base_keys(document), *further, *find_tokens(document.path, document.text)]
    )


def _with_text_checks(
    source: SourceFile, document: Document, findings: list[Diagnostic], further: list[Diagnostic]
) -> list[Diagnostic]:
    if findings:
        # A key that is not a text, or indented by an odd blank, is unknown as well: report it once.
        spans = {d.span for d in findings}
        further = [d for d in further if d.span not in spans]
    findings = findings + further
    places = {d.route for d in findings}
    return findings + [d for d in text_hygiene.check(source, document) if not d.route or d.route not in places]


def repeats_policy_error(finding: Diagnostic) -> bool:
    """Return whether a task's file repeats that the policy is unreadable."""
    return finding.code == "OPT121" and finding.path != POLICY


def has_errors(diagnostics: Iterable[Diagnostic]) -> bool:
    """Return True if one of the findings is an error, which keeps its task from being served."""
    return any(d.severity is Severity.ERROR for d in diagnostics)
