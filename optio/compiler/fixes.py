"""Fixes: the edits of findings, applied to files. What they do not name stays as it is, byte for byte."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import pairwise

from optio.compiler.diagnostics import Diagnostic, Edit, Severity
from optio.compiler.incremental import IncrementalCompiler
from optio.compiler.pipeline import Compilation
from optio.compiler.source import Position
from optio.compiler.tree import OverlayTree, SourceTree, SteadyTree

_BOM = "\ufeff"
# What is wrong with the bytes has no place in the text. It is information, so it is mended where somebody asks for that.
_OF_BYTES: dict[str, Callable[[bytes], bytes]] = {
    "OPT003": lambda data: data.removeprefix(_BOM.encode()),
    "OPT019": lambda data: data.replace(b"\r\n", b"\n").replace(b"\r", b"\n"),
}
_UNREADABLE = frozenset({"OPT001", "OPT005", "OPT007", "OPT009", "OPT010", "OPT013", "OPT014", "OPT017"})
# One fix may bring another to light, or make room for it.
_MOST_ROUNDS = 100


@dataclass(slots=True)
class Fixed:
    """A tree after its fixes: the files that change, as they were and as they become, how many findings of each that takes, and
    what is still found."""

    compilation: Compilation
    before: dict[str, bytes] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)

    @property
    def count(self) -> int:
        """Of all files together."""
        return self.counts.total()


def fixed(tree: SourceTree, *, unsafe: bool, careful: bool = False) -> Fixed:
    """Everything that can be fixed. Nothing is written; a fix that would bring an error to its file is left out."""
    compiler = IncrementalCompiler(careful=careful)
    tree = SteadyTree(tree)
    done = Fixed(compiler.compile(tree))
    # Findings whose fix alone makes their file worse, and files whose fixes are tried one by one, to find those out.
    refused: set[tuple[str, str, str]] = set()
    singly: set[str] = set()
    tried: set[str] = set()
    for _ in range(_MOST_ROUNDS):
        chosen = {}
        for path, found in _by_file(done.compilation, unsafe, careful).items():
            if left := [each for each in found if _name(each) not in refused]:
                chosen[path] = left[:1] if path in singly else left
        if not chosen:
            break
        now = OverlayTree(tree, dict(done.files))
        files = {path: _mended(now.read(path), found) for path, found in chosen.items()}
        # What was tried before, and refused, is as it was again.
        after = compiler.compile(OverlayTree(tree, {**done.files, **files}), changed=tried | files.keys())
        tried = set(files)
        before, now_found = _by_path(done.compilation), _by_path(after)
        worse = {path for path in files if _is_worse(now_found.get(path, []), before.get(path, []))}
        if worse:
            refused |= {_name(chosen[path][0]) for path in worse if len(chosen[path]) == 1}
            singly |= worse
            continue
        done.before = {path: tree.read(path) for path in files} | done.before
        done.files |= files
        done.counts.update({path: len(mine) for path, mine in chosen.items()})
        done.compilation = after
    return done


def _by_file(compilation: Compilation, unsafe: bool, careful: bool) -> dict[str, list[Diagnostic]]:
    found = {path: fixable(mine, unsafe=unsafe) for path, mine in _by_path(compilation).items()}
    for each in compilation.diagnostics if careful else ():
        if each.code in _OF_BYTES:
            found.setdefault(each.path, []).append(each)
    return {path: mine for path, mine in found.items() if mine}


def _mended(data: bytes, found: Iterable[Diagnostic]) -> bytes:
    found = list(found)
    data = apply(data, (edit for each in found if each.fix is not None for edit in each.fix.edits))
    for each in found:
        if each.code in _OF_BYTES:
            data = _OF_BYTES[each.code](data)
    return data


def _by_path(compilation: Compilation) -> dict[str, list[Diagnostic]]:
    found: dict[str, list[Diagnostic]] = {}
    for each in compilation.diagnostics:
        found.setdefault(each.path, []).append(each)
    return found


def _name(found: Diagnostic) -> tuple[str, str, str]:
    return found.path, found.code, found.message


def _is_worse(after: Iterable[Diagnostic], before: Iterable[Diagnostic]) -> bool:
    """More errors of a file than before, or one that keeps it from being read, or a key twice. What could not be read had more
    than it could say."""
    if _is_readable(after) != _is_readable(before):
        return _is_readable(before)
    if _twice(after) > _twice(before):
        return True
    return _errors(after) > _errors(before)


def _is_readable(found: Iterable[Diagnostic]) -> bool:
    return not any(d.code in _UNREADABLE for d in found)


def _twice(found: Iterable[Diagnostic]) -> int:
    return sum(d.code == "OPT004" for d in found)


def _errors(found: Iterable[Diagnostic]) -> int:
    return sum(d.severity is Severity.ERROR for d in found)


def fixable(found: Iterable[Diagnostic], *, unsafe: bool) -> list[Diagnostic]:
    """Those of one file whose fixes can be applied together, from top to bottom; where two meet, the first has the place. One
    fix may be that of several."""
    mine = [d for d in found if d.fix is not None and (d.fix.safe or unsafe)]
    chosen: list[Diagnostic] = []
    taken: list[Edit] = []
    for each in sorted(mine, key=lambda d: (d.span.start, d.code)):
        edits = each.fix.edits if each.fix is not None else ()
        if any(each.fix == other.fix for other in chosen) or not any(_meet(edit, other) for edit in edits for other in taken):
            chosen.append(each)
            taken += edits
    return chosen


def _meet(one: Edit, other: Edit) -> bool:
    if one == other:
        return True
    (start, end), (from_, to) = one.span, other.span
    return (start < to and from_ < end) or start == from_


def apply(data: bytes, edits: Iterable[Edit]) -> bytes:
    """The bytes with these edits; raises ValueError if they overlap. Their places count as findings do: in characters, without
    a byte order mark, lines ended by LF, CR LF or CR."""
    text = data.decode("utf-8")
    starts = _starts(text)
    newline = next((each for each in ("\r\n", "\n", "\r") if each in text), "\n")

    def offset(at: Position) -> int:
        return starts[at.line - 1] + at.column - 1

    splices = sorted((offset(e.span.start), offset(e.span.end), e.text.replace("\n", newline)) for e in set(edits))
    if any(first[1] > second[0] for first, second in pairwise(splices)):
        raise ValueError("edits overlap")
    parts, at = [], 0
    for start, end, new in splices:
        parts += [text[at:start], new]
        at = end
    return ("".join(parts) + text[at:]).encode("utf-8")


def _starts(text: str) -> list[int]:
    """Where each line begins. The mark before the first line counts to no line."""
    starts = [len(_BOM) if text.startswith(_BOM) else 0]
    for index, char in enumerate(text):
        if char == "\n" or (char == "\r" and text[index + 1 : index + 2] != "\n"):
            starts.append(index + 1)
    return starts
