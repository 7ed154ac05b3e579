"""Apply the fixes of findings to files, in memory. Bytes outside the edits stay as they are. After each round the tree is
compiled again, and a fix that would bring a new error to any file is left out. `optio check --fix` writes the result."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice

from optio.compiler.diagnostics import Diagnostic, Edit, Severity
from optio.compiler.edits.new_errors import has_new_errors
from optio.compiler.edits.text_edits import BOM, apply_edits, compatible_fixes
from optio.compiler.incremental import IncrementalCompiler
from optio.compiler.pipeline import Compilation
from optio.compiler.source import SourceFile
from optio.compiler.source_tree import SUFFIXES, OverlayTree, ReadOnceTree, SourceTree
from optio.compiler.yaml.document import parse

# Mistakes in the bytes have no place in the text. They are information only, so they are fixed only on demand.
_OF_BYTES: dict[str, Callable[[bytes], bytes]] = {
    "OPT003": lambda data: data.removeprefix(BOM.encode()),
    "OPT019": lambda data: data.replace(b"\r\n", b"\n").replace(b"\r", b"\n"),
}
# Some rules with this prefix mean that the file cannot be read.
_OF_FILES = "OPT0"
# A fix may reveal another finding, or make room for its fix.
_MAX_ROUNDS = 1_000


@dataclass(slots=True)
class FixedTree:
    """A tree after its fixes: the changed files before and after, the number of applied fixes by file, the findings that remain
    (`compilation`), and the number of fixes that were left out."""

    compilation: Compilation
    before: dict[str, bytes] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    left_out: int = 0

    @property
    def count(self) -> int:
        """Return the number of applied fixes in all files together."""
        return self.counts.total()


def fix_tree(tree: SourceTree, *, unsafe: bool, pedantic: bool = False) -> FixedTree:
    """Return the tree with every fix that makes no file worse; nothing is written to disk. Files that still cannot be parsed
    after their fixes keep their content. With `unsafe`, fixes that may change the meaning are applied, too."""
    fixer = _Fixer(ReadOnceTree(tree), unsafe, pedantic)
    for _ in range(_MAX_ROUNDS):
        if findings := fixer.choose():
            fixer.attempt(findings)
        elif not fixer.retry_refused():
            break
    return fixer.finish()


class _Fixer:
    """The rounds of fixes of one tree. Fixes that made a file worse are tried again after others were applied."""

    def __init__(self, tree: SourceTree, unsafe: bool, pedantic: bool) -> None:
        self._compiler = IncrementalCompiler(pedantic=pedantic)
        self._tree, self._unsafe, self._pedantic = tree, unsafe, pedantic
        self._fixed = FixedTree(self._compiler.compile(tree))
        # Findings whose fix alone makes a file worse, and files whose fixes are tried one by one to find such fixes.
        self._refused: set[tuple[str, str, str]] = set()
        self._singly: set[str] = set()
        # Files of the last attempt; those of a refused one have their old content again.
        self._tried: set[str] = set()
        # How many files are fixed at once: fewer where one of them makes another file worse.
        self._max_files: int | None = None
        self._has_changed = False

    def choose(self) -> dict[str, list[Diagnostic]]:
        """Return the findings to fix next, by file."""
        selection = {}
        for path, findings in _by_file(self._fixed.compilation, self._unsafe, self._pedantic).items():
            if untried := [finding for finding in findings if _name(finding) not in self._refused]:
                selection[path] = untried[:1] if path in self._singly else untried
        return dict(islice(selection.items(), self._max_files))

    def retry_refused(self) -> bool:
        """Forget which fixes were refused, if others were applied since. Returns False if nothing is left to try."""
        if not self._refused or not self._has_changed:
            return False
        self._refused, self._singly, self._max_files, self._has_changed = set(), set(), None, False
        return True

    def attempt(self, selection: Mapping[str, list[Diagnostic]]) -> None:
        """Apply the fixes of these findings, unless they make a file worse."""
        fixed = self._fixed
        now = OverlayTree(self._tree, dict(fixed.files))
        files = {path: _apply_fixes(now.read(path), findings) for path, findings in selection.items()}
        after = self._compile({**fixed.files, **files}, self._tried | files.keys())
        self._tried = set(files)
        edits = {path: _edits(findings) for path, findings in selection.items()}
        if worse := _worsened_files(fixed.compilation, after, now, files, edits):
            self._refuse(selection, worse)
            return
        self._max_files = self._max_files and self._max_files * 2
        fixed.before = {path: self._tree.read(path) for path in files} | fixed.before
        fixed.files |= files
        fixed.counts.update({path: len(findings) for path, findings in selection.items()})
        fixed.compilation, self._has_changed = after, True

    def _refuse(self, selection: Mapping[str, list[Diagnostic]], worse: set[str]) -> None:
        is_own = bool(worse & selection.keys())
        blamed = worse & selection.keys() or selection.keys()
        self._refused |= {
            _name(selection[path][0]) for path in blamed if len(selection[path]) == 1 and (path in worse or len(selection) == 1)
        }
        self._singly |= blamed
        self._max_files = self._max_files if is_own else max(1, len(selection) // 2)

    def finish(self) -> FixedTree:
        """Return the tree after its fixes, without those of files that still cannot be parsed."""
        fixed = self._fixed
        if unreadable := _unreadable(fixed):
            for path in unreadable:
                del fixed.files[path], fixed.before[path], fixed.counts[path]
            fixed.compilation = self._compile(fixed.files, self._tried | unreadable)
        fixed.left_out = sum(map(len, _by_file(fixed.compilation, self._unsafe, self._pedantic).values()))
        return fixed

    def _compile(self, files: Mapping[str, bytes], changed_paths: set[str]) -> Compilation:
        return self._compiler.compile(OverlayTree(self._tree, dict(files)), changed_paths=changed_paths)


def _worsened_files(
    before: Compilation, after: Compilation, tree: SourceTree, files: Mapping[str, bytes], edits: Mapping[str, list[Edit]]
) -> set[str]:
    """Return the files whose edits bring a new or additional error, or change nothing. `tree` is the tree before the edits."""
    first, last = _by_path(before), _by_path(after)
    worse = {path for path, data in files.items() if data == tree.read(path)}
    for path, findings in last.items():
        old = first.get(path, [])
        if findings == old or not _errors(findings):
            continue
        if path not in files:
            if has_new_errors(old, findings):
                worse.add(path)
            continue
        data = tree.read(path)
        is_readable, was_readable = _is_readable(path, files[path], findings), _is_readable(path, data, old)
        # A file that could not be read may have had more errors than were reported.
        if was_readable and (
            not is_readable
            or _duplicate_count(findings) > _duplicate_count(old)
            or _errors(findings) > _errors(old)
            or has_new_errors(old, findings, _text(data), edits[path])
        ):
            worse.add(path)
    return worse


def _text(data: bytes) -> str:
    return data.decode("utf-8").replace("\r\n", "\n").replace("\r", "\n")


def _edits(findings: Iterable[Diagnostic]) -> list[Edit]:
    return list({edit: None for finding in findings if finding.fix is not None for edit in finding.fix.edits})


def _by_file(compilation: Compilation, unsafe: bool, pedantic: bool) -> dict[str, list[Diagnostic]]:
    fixable = {path: compatible_fixes(findings, unsafe=unsafe) for path, findings in _by_path(compilation).items()}
    for finding in compilation.diagnostics if pedantic else ():
        if finding.code in _OF_BYTES:
            fixable.setdefault(finding.path, []).append(finding)
    return {path: findings for path, findings in fixable.items() if findings}


def _apply_fixes(data: bytes, findings: Iterable[Diagnostic]) -> bytes:
    findings = list(findings)
    data = apply_edits(data, _edits(findings))
    for finding in findings:
        if finding.code in _OF_BYTES:
            data = _OF_BYTES[finding.code](data)
    return data


def _by_path(compilation: Compilation) -> dict[str, list[Diagnostic]]:
    findings: dict[str, list[Diagnostic]] = {}
    for finding in compilation.diagnostics:
        findings.setdefault(finding.path, []).append(finding)
    return findings


def _name(finding: Diagnostic) -> tuple[str, str, str]:
    return finding.path, finding.code, finding.message


def _unreadable(fixed: FixedTree) -> set[str]:
    findings = _by_path(fixed.compilation)
    return {path for path, data in fixed.files.items() if not _is_readable(path, data, findings.get(path, ()))}


def _is_readable(path: str, data: bytes, findings: Iterable[Diagnostic]) -> bool:
    if not path.endswith(SUFFIXES) or not any(d.code.startswith(_OF_FILES) for d in findings):
        return True
    return parse(SourceFile(path, data))[0] is not None


def _duplicate_count(findings: Iterable[Diagnostic]) -> int:
    return sum(d.code == "OPT004" for d in findings)


def _errors(findings: Iterable[Diagnostic]) -> int:
    return sum(d.severity is Severity.ERROR for d in findings)
