"""Prove the fixes of findings before they are shown: a fix is applied in memory and compiled, all fixes of a file together
first, and halves of them where that fails. A fix is proved if its finding is gone and no other is new, except those of
pedantic rules. One that fails is dropped, and its finding keeps the hint without a value (`unproved_hint`), if it has one."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from optio.compiler.diagnostics import Diagnostic, Edit, Fix, Severity, is_pedantic
from optio.compiler.edits.text_edits import apply_with_ranges, compatible_fixes, line_starts, offset_of
from optio.model.route import Route

# Each trial compiles the file once more.
MAX_TRIALS = 16
MAX_TRIAL_BYTES = 1 << 20
# The other keys of a trigger with an unknown type are not checked until it has one.
HIDES_SIBLINGS = frozenset({"OPT321"})
_FileFix = tuple[str, Fix]
_Identity = tuple[str, str, str, Route]


class Check(NamedTuple):
    """The findings of a file, and whether it could be read. Nothing but its syntax is checked in one that could not."""

    found: Sequence[Diagnostic]
    is_readable: bool


Recheck = Callable[[Mapping[str, bytes]], Check]


def prove_fixes(check: Check, contents: Mapping[str, bytes], recheck: Recheck) -> list[Diagnostic]:
    """Return the findings with the fixes that are proved. `contents` are the files that they edit, and `recheck` checks the
    file again with some of them replaced. A fix that was not tried is kept unchecked if it is safe, and dropped otherwise."""
    trials = _Trials(check, contents, recheck)
    proved, tried_fixes = set[_FileFix](), set[_FileFix]()
    groups = _compatible_groups(finding for finding in check.found if finding.fix is not None and finding.path in contents)
    while groups and trials.may_go_on():
        group = groups.pop(0)
        fixes = {(finding.path, finding.fix) for finding in group if finding.fix is not None}
        if trials.is_proof(group):
            proved |= fixes
            tried_fixes |= fixes
        elif len(fixes) == 1:
            tried_fixes |= fixes
        else:
            middle = len(group) // 2
            groups[:0] = [group[:middle], group[middle:]]
    return [_with_proof(finding, proved, tried_fixes) for finding in check.found]


def _with_proof(finding: Diagnostic, proved: set[_FileFix], tried_fixes: set[_FileFix]) -> Diagnostic:
    fix = finding.fix
    if fix is None:
        return finding
    if (finding.path, fix) in proved:
        return replace(finding, fix=fix._replace(checked=True), unproved_hint=None)
    if (finding.path, fix) not in tried_fixes and fix.safe:
        return finding
    return replace(finding, fix=None, hint=finding.unproved_hint or finding.hint)


def _compatible_groups(findings: Iterable[Diagnostic]) -> list[list[Diagnostic]]:
    """Return the findings in groups whose fixes can be applied together: nearly all of them in the first."""
    left, groups = list(findings), []
    while left:
        group = [each for path in {each.path: None for each in left} for each in _of_path(left, path)]
        groups.append(group)
        fixes = {(each.path, each.fix) for each in group}
        left = [each for each in left if (each.path, each.fix) not in fixes]
    return groups


def _of_path(findings: Iterable[Diagnostic], path: str) -> list[Diagnostic]:
    return compatible_fixes((finding for finding in findings if finding.path == path), unsafe=True)


class _Trials:
    """Trials of fixes against the findings before them, within bounds of number and size."""

    def __init__(self, check: Check, contents: Mapping[str, bytes], recheck: Recheck) -> None:
        self._check, self._contents, self._recheck = check, contents, recheck
        self._before = _counts(check.found)
        self._count = 0
        self._max_count = max(1, min(MAX_TRIALS, MAX_TRIAL_BYTES // max(1, sum(map(len, contents.values())))))

    def may_go_on(self) -> bool:
        return self._count < self._max_count

    def is_proof(self, group: Sequence[Diagnostic]) -> bool:
        """Return whether the fixes of these findings end all of them and bring no other error or warning."""
        self._count += 1
        edits: dict[str, list[Edit]] = {}
        for finding in group:
            edits.setdefault(finding.path, []).extend(finding.fix.edits if finding.fix is not None else ())
        try:
            changed = {path: _ChangedFile.of(self._contents[path], some) for path, some in edits.items()}
        except (ValueError, IndexError):  # the edits overlap, or the file is another one by now
            return False
        after = self._recheck({path: file.data for path, file in changed.items()})
        counts = _counts(after.found)
        if any(counts[_identity(finding)] >= self._before[_identity(finding)] for finding in group):
            return False
        if not self._check.is_readable:
            return True  # the values are the author's, and none of them was checked before
        hidden = _HiddenRoutes(group)
        return not any(
            (finding.path in changed and changed[finding.path].has_written(finding)) or not hidden.hold(finding)
            for finding in after.found
            if not is_pedantic(finding.code) and counts[_identity(finding)] > self._before[_identity(finding)]
        )


class _ChangedFile(NamedTuple):
    """A file after its edits, the offset of each of its lines, and the offsets of the characters that the edits wrote."""

    data: bytes
    starts: list[int]
    written: list[range]

    @classmethod
    def of(cls, data: bytes, edits: Iterable[Edit]) -> "_ChangedFile":
        changed, written = apply_with_ranges(data, edits)
        return cls(changed, line_starts(changed.decode()), written)

    def has_written(self, finding: Diagnostic) -> bool:
        """Return whether the finding is about text that the edits wrote."""
        start, end = (offset_of(self.starts, at) for at in finding.span)
        return any(start in each and end <= each.stop for each in self.written)


class _HiddenRoutes:
    """What the errors of a group kept from being checked: the values below a key that was not known, the other keys of a
    trigger without a type, and what a task without errors is warned about elsewhere."""

    def __init__(self, group: Iterable[Diagnostic]) -> None:
        errors = [finding for finding in group if finding.severity is Severity.ERROR]
        self._has_errors = bool(errors)
        self._below = [finding.route[:-1] if finding.code in HIDES_SIBLINGS else finding.route for finding in errors]
        for finding in errors:
            edits = finding.fix.edits if finding.fix is not None else ()
            self._below += [(*finding.route[:-1], edit.text) for edit in edits if edit.span == finding.span]

    def hold(self, finding: Diagnostic) -> bool:
        """Return whether the finding was hidden by an error of the group."""
        is_below = any(finding.route[: len(above)] == above for above in self._below if above)
        return is_below or (self._has_errors and finding.severity is not Severity.ERROR)


def _counts(findings: Iterable[Diagnostic]) -> Counter[_Identity]:
    return Counter(map(_identity, findings))


def _identity(finding: Diagnostic) -> _Identity:
    return finding.path, finding.code, finding.message, finding.route
