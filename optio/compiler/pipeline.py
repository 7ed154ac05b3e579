"""The compiler: `compile_tree` runs the stages parse, merge, shape, resolve, check and emit for each file, and then checks all
files together. It never raises for what a file says; every mistake is a finding. `compile_file` and `check_results` are the
halves that the parallel check and the incremental compiler run separately."""

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from optio.compiler import checks, text_hygiene
from optio.compiler.checks.across import check_across
from optio.compiler.diagnostics import (
    CauseKind,
    Diagnostic,
    Severity,
    apply_severities,
    asks_advice,
    diagnostic,
    fold_excess,
    sort_diagnostics,
)
from optio.compiler.emit import emit
from optio.compiler.facts import TaskFacts, task_facts
from optio.compiler.ignores import IgnoreComment, drop_ignored, find_ignores
from optio.compiler.layers import (
    POLICY,
    Bases,
    check_base_keys,
    inherited_values,
    is_base,
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
from optio.compiler.suggest_path import suggest_template
from optio.compiler.token_shapes import find_tokens
from optio.compiler.yaml.document import Document, parse
from optio.model.credential import lacks_credential
from optio.model.isolation import POD, not_applied
from optio.model.registry import CompiledTask, Registry
from optio.model.route import show

if TYPE_CHECKING:
    from optio.model.policy import PolicySpec

# Of these nearly each task has one.
_COMMON = frozenset({"name", "agentRuntime", "promptTemplate", "promptFile", "triggers", "type", "extends"})
# Rules about the executor, which is one for the tree.
_OF_EXECUTOR = frozenset({"OPT523"})
# Rules that ask for a key of `environment`, which only matters if the executor applies it.
_ASKED_FOR = {"OPT510": "network"}
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
    broken_paths, found = check_results(compiled, levels=levels, pedantic=pedantic, executor=executor, is_whole=is_whole)
    tasks = {f.compiled.id: f.compiled for f in compiled if f.compiled is not None and f.path not in broken_paths}
    return Compilation(Registry.of(tasks), broken_paths, found, len(compiled))


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
    across: dict[str, list[Diagnostic]] = {}
    claims = [file.facts for file in files if file.facts is not None]
    for each in check_across(claims, executor=executor, is_whole=is_whole):
        across.setdefault(each.path, []).append(each)
    findings: list[Diagnostic] = []
    broken_paths: set[str] = set()
    comments = {file.path: file.comments for file in files if file.comments}
    by_file = {f.path: f.diagnostics + across.get(f.path, []) for f in files if f.diagnostics or f.path in across}
    if executor is not None and (pedantic or asks_advice(levels)):
        vain = {rule for rule, key in _ASKED_FOR.items() if not_applied(executor, [key])}
        podded = {f.path for f in files if f.facts is not None and POD in f.facts.demands}
        by_file = {path: mine if path in podded else [d for d in mine if d.code not in vain] for path, mine in by_file.items()}
    if any(each.cause is not None for findings in by_file.values() for each in findings):
        paths = [file.path for file in files]
        by_file = {path: [_with_template(each, paths) for each in findings] for path, findings in by_file.items()}
    if levels:
        by_file = {path: apply_severities(mine, levels, pedantic=pedantic) for path, mine in by_file.items()}
    for path, mine in (drop_ignored(by_file, comments, pedantic=pedantic) if comments else by_file).items():
        findings += mine
        # An error in a prompt's own file, or in a template, breaks the task that uses it.
        if has_errors(mine):
            broken_paths.add(path)
    findings = sort_diagnostics(findings)
    if executor is not None:
        findings = _once_for_tree(findings)
    return TreeResult(frozenset(broken_paths), tuple(findings))


def _with_template(finding: Diagnostic, paths: Sequence[str]) -> Diagnostic:
    """Return the finding; one about a missing template names the most similar file of the tree."""
    cause = finding.cause
    is_missing = cause is not None and cause.kind is CauseKind.MISSING_FILE
    return suggest_template(finding, cause.name, paths) if cause is not None and is_missing else finding


def _once_for_tree(findings: Sequence[Diagnostic]) -> list[Diagnostic]:
    """Return the findings with one of those that say the same of the whole tree: the first, with the number of the others. An
    error concerns its own task, and stays."""
    first, *others = [
        finding for finding in findings if finding.code in _OF_EXECUTOR and finding.severity is not Severity.ERROR
    ] or (None,)
    if first is None or not others:
        return list(findings)
    files = len({finding.path for finding in others})
    more = f"{len(others)} more {'key' if len(others) == 1 else 'keys'} in {files} {'file' if files == 1 else 'files'}"
    more += f" {'is' if len(others) == 1 else 'are'} not applied, or not fully"
    names = ", ".join(sorted({f"`{show(finding.route)}`" for finding in others}))
    told = replace(first, message=f"{first.message}; {more} ({names})")
    left_out = {id(finding) for finding in others}
    return [told if finding is first else finding for finding in findings if id(finding) not in left_out]


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
        document, task, found = _compiled(path, tree, bases, policy, pedantic)
        if any(finding.fix is not None for finding in found):
            found = _proved(found, path, document, tree, bases, policy, pedantic)
    if document is None:
        return CompiledFile(path, fold_excess(found))
    said, compiled = (policy.facts if path == POLICY else None), None
    if task is not None:
        demands = policy.demands(task)
        # A policy that cannot be read may name the executor.
        runs_on = None if policy.unreadable else executor
        said = task_facts(task, executor=runs_on, priced=policy.facts is not None, demands=demands)
        compiled = emit(task, demands, policy.namespace(path), policy.allowed_secrets(task))
        if task.samples and not samples:
            task = replace(task, samples=())
    comments, more = find_ignores(document)
    document.release_nodes()
    return CompiledFile(path, fold_excess([*found, *more]), said, comments, task, compiled, is_base(document) or path == POLICY)


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
    for each in {finding.path for finding in findings if finding.fix is not None}:
        with contextlib.suppress(Unreadable):
            # Not read again where it is known: the file may be another one by now.
            is_own = each == path and document is not None
            contents[each] = document.text.encode() if is_own and document is not None else tree.read(each)

    def recheck(changes: Mapping[str, bytes]) -> Check:
        changed = OverlayTree(tree, changes)
        own_policy = TreePolicy(changed) if path == POLICY else policy
        after, _, left = _compiled(path, changed, bases, own_policy, pedantic)
        return Check(left, after is not None)

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
    if (suggestion := suggest_base_name(document)) is not None:
        hint = f"rename the file to `{suggestion}`, or write `name:` if it is a task"
        return (
            document,
            None,
            [*findings, diagnostic("OPT102", "`name` is missing: a file of this name is a task", path=path, hint=hint)],
        )
    if _is_of_another_program(document):
        hint = "move the file out of the task directory, or into a directory whose name begins with a dot"
        message = "no key of this file belongs to a task"
        return document, None, [*findings, diagnostic("OPT110", message, path=path, span=document.key_span(()), hint=hint)]
    lower_layers, missing = read_layers(document, tree, bases)
    if missing:  # findings about the rest would depend on the missing file
        return document, None, [*findings, *missing]
    whole = merge_layers(document, lower_layers)
    shape, more = decode_task(whole)
    findings = _with_text_checks(source, document, findings, more)
    if shape is None or ("extends",) in shape.gaps:
        return document, None, findings
    task, more = resolve(whole, shape, tree)
    findings += more
    task = policy.with_default(task)
    findings += checks.run(task, pedantic=pedantic)
    findings += policy.judge(task, tree)
    if any(d.code == "OPT616" for d in findings):
        # A model that is wrong has no price either.
        line = whole.span(("model",)).start.line if task.spec.model is not None else None
        others = [d for d in findings if d.code not in ("OPT608", "OPT616")]
        if any(d.code in ("OPT607", "OPT621") or d.span.start.line == line for d in others):
            findings = [d for d in findings if d.code != "OPT616"]
    if any(d.code == "OPT405" for d in findings):
        # A webhook's secret in plain text is reported by its own rule.
        known = {d.span.start.line for d in findings if d.code == "OPT405"}
        findings = [d for d in findings if d.code != "OPT503" or d.span.start.line not in known]
    return document, task, findings


def _is_of_another_program(document: Document) -> bool:
    if not isinstance(document.value, dict) or not document.value or not _COMMON.isdisjoint(document.value):
        return False
    from optio.compiler.conversions.foreign_keys import is_of_another_program  # imported only for such a file

    return is_of_another_program(map(str, document.value))


def _base_result(source: SourceFile, document: Document, findings: list[Diagnostic]) -> list[Diagnostic]:
    """Return the findings of a template or of defaults by itself. Missing keys are fine there, because the tasks have them."""
    bare = replace(document, value=inherited_values(document)) if isinstance(document.value, dict) else document
    _, more = decode_task(bare)
    more = [d for d in more if d.code != "OPT102" or len(d.route) > 1]
    more = [d for d in more if d.code in ("OPT101", "OPT102") or not is_removal(document, d.route)]
    return _with_text_checks(
        source, document, findings, [*check_base_keys(document), *more, *find_tokens(document.path, document.text)]
    )


def _with_text_checks(
    source: SourceFile, document: Document, findings: list[Diagnostic], more: list[Diagnostic]
) -> list[Diagnostic]:
    if findings:
        # A key that is not a text, or indented by an odd blank, is unknown as well: report it once.
        spans = {d.span for d in findings}
        more = [d for d in more if d.span not in spans]
    findings = findings + more
    places = {d.route for d in findings}
    return findings + [d for d in text_hygiene.check(source, document) if not d.route or d.route not in places]


def repeats_policy_error(finding: Diagnostic) -> bool:
    """Return whether a task's file repeats that the policy is unreadable."""
    return finding.code == "OPT121" and finding.path != POLICY


def has_errors(diagnostics: Iterable[Diagnostic]) -> bool:
    """Return True if one of the findings is an error, which keeps its task from being served."""
    return any(d.severity is Severity.ERROR for d in diagnostics)
