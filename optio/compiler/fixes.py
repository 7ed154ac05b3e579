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
        if chosen := fixer.choose():
            fixer.attempt(chosen)
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
        chosen = {}
        for path, found in _by_file(self._fixed.compilation, self._unsafe, self._pedantic).items():
            if left := [finding for finding in found if _name(finding) not in self._refused]:
                chosen[path] = left[:1] if path in self._singly else left
        return dict(islice(chosen.items(), self._max_files))

    def retry_refused(self) -> bool:
        """Forget which fixes were refused, if others were applied since. Returns False if nothing is left to try."""
        if not self._refused or not self._has_changed:
            return False
        self._refused, self._singly, self._max_files, self._has_changed = set(), set(), None, False
        return True

    def attempt(self, chosen: Mapping[str, list[Diagnostic]]) -> None:
        """Apply the fixes of these findings, unless they make a file worse."""
        fixed = self._fixed
        now = OverlayTree(self._tree, dict(fixed.files))
        files = {path: _apply_fixes(now.read(path), found) for path, found in chosen.items()}
        after = self._compile({**fixed.files, **files}, self._tried | files.keys())
        self._tried = set(files)
        edits = {path: _edits(found) for path, found in chosen.items()}
        if worse := _worsened_files(fixed.compilation, after, now, files, edits):
            self._refuse(chosen, worse)
            return
        self._max_files = self._max_files and self._max_files * 2
        fixed.before = {path: self._tree.read(path) for path in files} | fixed.before
        fixed.files |= files
        fixed.counts.update({path: len(found) for path, found in chosen.items()})
        fixed.compilation, self._has_changed = after, True

    def _refuse(self, chosen: Mapping[str, list[Diagnostic]], worse: set[str]) -> None:
        is_own = bool(worse & chosen.keys())
        blamed = worse & chosen.keys() or chosen.keys()
        self._refused |= {
            _name(chosen[path][0]) for path in blamed if len(chosen[path]) == 1 and (path in worse or len(chosen) == 1)
        }
        self._singly |= blamed
        self._max_files = self._max_files if is_own else max(1, len(chosen) // 2)

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
    for path, found in last.items():
        old = first.get(path, [])
        if found == old or not _errors(found):
            continue
        if path not in files:
            if has_new_errors(old, found):
                worse.add(path)
            continue
        data = tree.read(path)
        is_readable, was_readable = _is_readable(path, files[path], found), _is_readable(path, data, old)
        # A file that could not be read may have had more errors than were reported.
        if was_readable and (
            not is_readable
            or _duplicate_count(found) > _duplicate_count(old)
            or _errors(found) > _errors(old)
            or has_new_errors(old, found, _text(data), edits[path])
        ):
            worse.add(path)
    return worse


def _text(data: bytes) -> str:
    return data.decode("utf-8").replace("\r\n", "\n").replace("\r", "\n")


def _edits(findings: Iterable[Diagnostic]) -> list[Edit]:
    return list({edit: None for finding in findings if finding.fix is not None for edit in finding.fix.edits})


def _by_file(compilation: Compilation, unsafe: bool, pedantic: bool) -> dict[str, list[Diagnostic]]:
    found = {path: compatible_fixes(mine, unsafe=unsafe) for path, mine in _by_path(compilation).items()}
    for each in compilation.diagnostics if pedantic else ():
        if each.code in _OF_BYTES:
            found.setdefault(each.path, []).append(each)
    return {path: mine for path, mine in found.items() if mine}


def _apply_fixes(data: bytes, findings: Iterable[Diagnostic]) -> bytes:
    findings = list(findings)
    data = apply_edits(data, _edits(findings))
    for finding in findings:
        if finding.code in _OF_BYTES:
            data = _OF_BYTES[finding.code](data)
    return data


def _by_path(compilation: Compilation) -> dict[str, list[Diagnostic]]:
    findings: dict[str, list[Diagnostic]] = {}
    for each in compilation.diagnostics:
        findings.setdefault(each.path, []).append(each)
    return findings


def _name(finding: Diagnostic) -> tuple[str, str, str]:
    return finding.path, finding.code, finding.message


def _unreadable(fixed: FixedTree) -> set[str]:
    found = _by_path(fixed.compilation)
    return {path for path, data in fixed.files.items() if not _is_readable(path, data, found.get(path, ()))}


def _is_readable(path: str, data: bytes, findings: Iterable[Diagnostic]) -> bool:
    if not path.endswith(SUFFIXES) or not any(d.code.startswith(_OF_FILES) for d in findings):
        return True
    return parse(SourceFile(path, data))[0] is not None


def _duplicate_count(findings: Iterable[Diagnostic]) -> int:
    return sum(d.code == "OPT004" for d in findings)


def _errors(findings: Iterable[Diagnostic]) -> int:
    return sum(d.severity is Severity.ERROR for d in findings)
