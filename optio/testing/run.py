"""Run the tests of a tree of task files. Reads files and returns a report; snapshots are written by the caller."""

import posixpath
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from optio.compiler.emit import emit
from optio.compiler.layers import Bases, resolve_path
from optio.compiler.pipeline import Compilation, TreePolicy, assemble, compile_file
from optio.compiler.resolved_task import ResolvedTask
from optio.compiler.source_tree import SourceTree, Unreadable
from optio.model.example import Example
from optio.model.registry import CompiledTask
from optio.testing.compare import Mismatch, mismatches
from optio.testing.trial import ImpossibleTest, Trial, try_example

ExampleFilter = Callable[[str, str, Example], bool]


@dataclass(frozen=True, slots=True)
class ExampleFailure:
    """A failed test and the line of the expectation that did not hold. `broken` means the test could not be run at all."""

    path: str
    line: int
    message: str
    diff: tuple[str, ...] = ()
    broken: bool = False


@dataclass(frozen=True, slots=True)
class SnapshotUpdate:
    """A prompt to write to a snapshot file of the tree; `new` when the file does not exist yet."""

    path: str
    prompt: str
    new: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ExampleResult:
    """The outcome of one test. `update` is the snapshot to write if nothing but the prompt differs; `trial` is None if it was
    not run."""

    name: str
    line: int
    example: Example
    trial: Trial | None = None
    body: bytes | None = None
    failures: tuple[ExampleFailure, ...] = ()
    update: SnapshotUpdate | None = None

    @property
    def passed(self) -> bool:
        return not self.failures


@dataclass(frozen=True, slots=True)
class TaskResults:
    """The results of one task's chosen tests; `broken` when its file has errors, so that none was run."""

    task: ResolvedTask
    results: tuple[ExampleResult, ...]
    broken: bool = False


@dataclass(frozen=True, slots=True)
class TreeReport:
    """The compilation of a tree and the results of all its tasks, including tasks without tests."""

    compilation: Compilation
    tested: tuple[TaskResults, ...]

    @property
    def results(self) -> list[ExampleResult]:
        return [result for tested in self.tested for result in tested.results]


def _choose_all(task_id: str, path: str, example: Example) -> bool:
    return True


def run_tests(tree: SourceTree, is_chosen: ExampleFilter = _choose_all) -> TreeReport:
    """Run the tests for which `chosen(task id, path of its file, test)` holds. Compiles the whole tree first."""
    bases, policies = Bases(tree), TreePolicy(tree)
    files = [compile_file(path, tree, bases, policies) for path in tree.task_files()]
    compilation = assemble(files, levels=policies.levels)
    tested = [
        run_task_tests(file.task, tree, is_chosen, broken=file.path in compilation.broken)
        for file in files
        if file.task is not None
    ]
    return TreeReport(compilation, tuple(tested))


def run_task_tests(
    task: ResolvedTask, tree: SourceTree, is_chosen: ExampleFilter = _choose_all, *, broken: bool = False
) -> TaskResults:
    """Run the chosen tests of one task. If its file is `broken`, report each of them as a test that cannot be run."""
    results: list[ExampleResult] = []
    happens = _TrialRunner(emit(task), task.path, tree)
    for index, example in enumerate(task.spec.tests):
        if not is_chosen(task.id, task.path, example):
            continue
        if broken:
            line = task.span(("tests", index)).start.line
            failure = ExampleFailure(task.path, line, "cannot be run: the file has errors", broken=True)
            results.append(ExampleResult(name=example.label, line=line, example=example, failures=(failure,)))
        else:
            results.append(_run_test(task, index, example, tree, happens))
    return TaskResults(task, tuple(results), broken)


class _TrialRunner:
    """Runs tests of one task, reading each payload once and judging equal deliveries once."""

    def __init__(self, compiled: CompiledTask, path: str, tree: SourceTree) -> None:
        self._compiled, self._path, self._tree = compiled, path, tree
        self._bodies: dict[str, bytes] = {}
        self._trials: dict[tuple[object, ...], Trial] = {}

    def body(self, name: str) -> bytes:
        """Return the payload that a test names; raises Unreadable."""
        if name not in self._bodies:
            self._bodies[name] = self._tree.read(resolve_path(self._path, name))
        return self._bodies[name]

    def trial(self, example: Example) -> Trial:
        """Return the outcome of a test; raises ImpossibleTest and Unreadable."""
        if example.webhook is None:
            return try_example(self._compiled, example)
        delivery = (example.webhook, example.signature, *sorted(example.headers.items()))
        if delivery not in self._trials:
            self._trials[delivery] = try_example(self._compiled, example, self.body(example.webhook))
        return self._trials[delivery]


def _run_test(task: ResolvedTask, index: int, example: Example, tree: SourceTree, happens: _TrialRunner) -> ExampleResult:
    line = task.span(("tests", index)).start.line
    try:
        trial = happens.trial(example)
    except (ImpossibleTest, Unreadable) as err:
        key = "webhook" if example.webhook is not None else "schedule"
        line = task.span(("tests", index, key)).start.line
        failure = ExampleFailure(task.path, line, f"cannot be run: {err}", broken=True)
        return ExampleResult(name=example.label, line=line, example=example, failures=(failure,))

    def snapshot(name: str) -> str:
        return _read_snapshot(tree, snapshot_path(task.path, name))

    differences = list(mismatches(example.expect, trial.judgement, snapshot, trial.came))
    return ExampleResult(
        name=example.label,
        line=line,
        example=example,
        trial=trial,
        body=None if example.webhook is None else happens.body(example.webhook),
        failures=tuple(_failures(task, index, differences)),
        update=_update(task, example, trial, tree)
        if all(difference.route == ("prompt",) for difference in differences)
        else None,
    )


def _failures(task: ResolvedTask, index: int, differences: list[Mismatch]) -> Iterator[ExampleFailure]:
    for difference in differences:
        line = task.document.key_span(("tests", index, "expect", *difference.route)).start.line
        yield ExampleFailure(task.path, line, difference.message, difference.diff)


def _update(task: ResolvedTask, example: Example, trial: Trial, tree: SourceTree) -> SnapshotUpdate | None:
    """Return the snapshot to write if it is missing or out of date, and inside the tree."""
    name, prompt = example.expect.prompt, trial.judgement.prompt
    if name is None or prompt is None:
        return None
    try:
        path = snapshot_path(task.path, name)
    except Unreadable:
        return None
    try:
        return None if _read_snapshot(tree, path) == prompt else SnapshotUpdate(path, prompt, new=False)
    except Unreadable as err:
        return SnapshotUpdate(path, prompt, new=True) if err.code == "OPT115" else None


def snapshot_path(task_path: str, name: str) -> str:
    """Return the path of a snapshot in the tree; raises Unreadable if it leads outside or would be read as a task file."""
    path = resolve_path(task_path, name)
    if path.startswith(("/", "~")) or ".." in path.split("/"):
        raise Unreadable("OPT115", "leads out of the task tree", "give a path below the task file")
    if posixpath.splitext(path)[1] in (".yaml", ".yml"):
        raise Unreadable("OPT706", "would be read as a task", "give it another suffix, such as `.md`")
    return path


def _read_snapshot(tree: SourceTree, path: str) -> str:
    try:
        return tree.read(path).decode("utf-8")
    except UnicodeDecodeError:
        return ""
