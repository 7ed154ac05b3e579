"""Compare two `when` filters: are they equal, and does the newer one accept deliveries that the older one rejected?

Both become formulas over conditions such as `@.action == 'opened'`. With up to 12 conditions every possible case is tried,
which decides equality, tautologies and narrowing. Otherwise the form decides: a condition that is reversed, gone, or joined by
`or` with one that nearly always holds is a danger.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Any

from optio.model.mapping import MappingFailed, PathSyntax, compile_when
from optio.plan import queries
from optio.plan.queries import Normal

# Beyond this, trying all cases (2^n) takes too long.
_MAX_CONDITIONS = 12
# Typical texts of senders: a pattern that matches all of them does not select anything.
_PROBES = ("opened", "refs/heads/main", "a-b_C 9", "x")
_NARROWER = {(True, True), (True, False), (False, False)}
Case = Mapping[Normal, bool]


@dataclass(frozen=True, slots=True)
class FilterDifference:
    """The filters differ; `danger` says what the newer one newly accepts, if anything."""

    danger: str | None = None


def compare_filters(old: str | None, new: str | None) -> FilterDifference | None:
    """Return None if both filters accept the same deliveries. A missing filter accepts all."""
    if old == new:
        return None
    try:
        was, now = (True if expression is None else queries.normal_filter(expression) for expression in (old, new))
    except (PathSyntax, RecursionError):
        return FilterDifference()
    if was == now:
        return None
    cases = list(_possible_cases(was, now))
    outcomes = {(_holds(was, case), _holds(now, case)) for case in cases}
    if outcomes and outcomes <= {(True, True), (False, False)}:
        return None
    if new is None:
        return FilterDifference("without a filter, every delivery of these events starts a run")
    if now is True or (outcomes and all(passes for _, passes in outcomes)):
        return FilterDifference("the filter is always true")
    if now is False or (outcomes and outcomes <= _NARROWER):
        return FilterDifference()
    return FilterDifference(_loosened_text(was, now, cases))


def _loosened_text(was: Normal, now: Normal, cases: Sequence[Case]) -> str | None:
    """Describe what the newer filter gives up, judging by the form of both."""
    old, new = _subjects(was), _subjects(now)
    if turned := [
        condition
        for condition in old
        if condition in new and _is_negated(_requirements_of(was, condition), _requirements_of(now, condition))
    ]:
        return f"the condition on {_subjects_text(turned)} is reversed"
    if _is_selective(was) and not _is_selective(now):
        return _unselective_text(now)
    if dropped_conditions := [condition for condition in old if condition not in new] or _dropped_conditions(was, now):
        return f"the condition on {_subjects_text(dropped_conditions)} is gone"
    free = [condition for condition in old if _is_needed(was, condition, cases) and not _is_needed(now, condition, cases)]
    return f"the condition on {_subjects_text(free)} is no longer required" if free and set(old) == set(new) else None


def _unselective_text(now: Normal) -> str:
    """Describe a filter that a usual delivery passes: one that has its fields."""
    existence_tests = [_condition_parts(atom)[0] for atom, sign in _literals(now) if atom[0] == "exists" and sign]
    if len(existence_tests) == 1 and _is_selective(now, has_fields=False):
        return f"every delivery that has {_subjects_text(existence_tests)} passes the filter"
    return "the filter is true for nearly every delivery"


def _dropped_conditions(was: Normal, now: Normal) -> list[Normal]:
    """Return the subjects of conditions that were dropped from a conjunction, if nothing else changed."""
    parts = [set(formula[1]) if formula[0] == "and" else {formula} for formula in (was, now)]
    return [subject for part in was[1] if part not in parts[1] for subject in _subjects(part)] if parts[1] < parts[0] else []


def _is_needed(formula: Normal, subject: Normal, cases: Sequence[Case]) -> bool:
    """Return whether the formula is never true unless one of its conditions on the subject holds."""
    literals = [literal for literal in _literals(formula) if _condition_parts(literal[0])[0] == subject]
    without = (case for case in cases if all(case[atom] is not sign for atom, sign in literals))
    return bool(literals) and not any(_holds(formula, case) for case in without)


def _subjects_text(subjects: list[Normal]) -> str:
    return " and ".join(dict.fromkeys(f"`{_operand_text(subject)}`" for subject in subjects))


def _operand_text(operand: Normal) -> str:
    if operand[0] == "query":
        return queries.query_text(operand[1])
    if operand[0] == "call":
        return f"{operand[1]}({', '.join(_operand_text(argument) for argument in operand[2])})"
    return json.dumps(operand[2])


def _literals(formula: Normal) -> Iterator[tuple[Normal, bool]]:
    """Yield the formula's conditions, each with whether it must hold."""
    if isinstance(formula, bool):
        return
    if formula[0] == "is":
        yield formula[1:]
        return
    for part in formula[1]:
        yield from _literals(part)


def _holds(formula: Normal, case: Case) -> bool:
    if isinstance(formula, bool):
        return formula
    if formula[0] == "is":
        return case[formula[1]] is formula[2]
    outcomes = (_holds(part, case) for part in formula[1])
    return all(outcomes) if formula[0] == "and" else any(outcomes)


def _possible_cases(*formulas: Normal) -> Iterator[Case]:
    """Yield every consistent assignment of truth values; nothing if there are more than `_MAX_CONDITIONS` conditions."""
    atoms = sorted({atom for formula in formulas for atom, _ in _literals(formula)}, key=repr)
    if len(atoms) > _MAX_CONDITIONS:
        return
    for values in product((True, False), repeat=len(atoms)):
        case = dict(zip(atoms, values, strict=True))
        if _is_possible(case):
            yield case


def _is_possible(case: Case) -> bool:
    equal: dict[Normal, Normal] = {}
    for atom, holds in case.items():
        if not holds:
            continue
        if atom[0] == "lt" and (case.get(("lt", atom[2], atom[1])) or case.get(_eq(atom[1], atom[2]))):
            return False
        subject, value = _condition_parts(atom)
        if atom[0] != "eq" or value is None:
            continue
        if subject in equal or (subject[0] == "query" and case.get(("exists", subject[1])) is False):
            return False
        equal[subject] = value
    return True


def _eq(left: Normal, right: Normal) -> Normal:
    return ("eq", *sorted((left, right), key=repr))


def _condition_parts(atom: Normal) -> tuple[Normal, Normal]:
    """Return the subject of a condition, and the literal value it is compared with, if any."""
    if atom[0] == "exists":
        return ("query", atom[1]), None
    if atom[0] == "call":
        return atom[2][0], None
    left, right = atom[1:]
    if right[0] == "value":
        return left, right
    return (right, left) if left[0] == "value" else (left, None)


def _conditions(formula: Normal) -> Iterator[tuple[Normal, bool]]:
    """Yield its conditions, including those of filters inside its queries, rebased onto the payload."""
    for atom, sign in _literals(formula):
        segments = atom[1][1] if atom[0] == "exists" and sign else ()
        places = [at for at, (_, selectors) in enumerate(segments) if selectors[0][0] == "filter"]
        if not places:
            yield atom, sign
        for at in places:
            parent = atom[1][0], segments[:at]
            yield ("exists", parent), True
            for inner, holds in _conditions(segments[at][1][0][1]):
                yield _nested_condition(parent, inner), holds


def _nested_condition(parent: Normal, part: Normal) -> Normal:
    """Return a condition of a nested filter as a condition on what stands below the outer query."""
    if part[0] == "exists":
        return "exists", _nested_condition(parent, ("query", part[1]))[1]
    if part[0] in ("eq", "lt"):
        return part[0], *(_nested_condition(parent, inner) for inner in part[1:])
    if part[0] == "call":
        return "call", part[1], tuple(_nested_condition(parent, inner) for inner in part[2])
    if part[0] == "query" and part[1][0] == queries.PAYLOAD:
        return "query", (parent[0], parent[1] + (("child", (("all",),)),) + part[1][1])
    return part


def _subjects(formula: Normal) -> list[Normal]:
    """Return the subjects of the conditions, in order and without repeats."""
    return list(dict.fromkeys(_condition_parts(atom)[0] for atom, _ in _conditions(formula)))


def _is_selective(formula: Normal, *, has_fields: bool = True) -> bool:
    """Return whether the filter asks a usual delivery for more than that fields exist and that values are not certain ones.
    `has_fields` says whether a usual delivery has the fields."""
    usual = {(atom, sign): _is_usual(atom, sign) and (has_fields or atom[0] != "exists") for atom, sign in _literals(formula)}

    def holds(part: Normal) -> bool:
        if isinstance(part, bool):
            return part
        if part[0] == "is":
            return usual[part[1:]]
        outcomes = (holds(inner) for inner in part[1])
        return all(outcomes) if part[0] == "and" else any(outcomes)

    return not holds(formula)


def _is_usual(atom: Normal, sign: bool) -> bool:
    if atom[0] == "exists":
        inner = (selector[1] for _, selectors in atom[1][1] for selector in selectors if selector[0] == "filter")
        return sign and not any(_is_selective(selector) for selector in inner)
    if atom[0] == "eq":
        value = _condition_parts(atom)[1]
        return not sign and value is not None and value[1] != "bool"
    if atom[0] == "lt":
        return True
    return sign and atom[2][1][:2] == ("value", "str") and _matches_all(atom[1], atom[2][1][2])


@lru_cache(maxsize=1024)
def _matches_all(name: str, pattern: str) -> bool:
    test = compile_when(f"{name}(@, {json.dumps(pattern)})")
    try:
        return all(test.holds(probe) for probe in _PROBES)
    except MappingFailed:
        return False


def _requirements_of(formula: Normal, subject: Normal) -> dict[str, set[Any]]:
    """Collect the demands on one subject: values to have or not to have, the side of a bound, and other conditions."""
    requirements: dict[str, set[Any]] = {"is": set(), "not": set(), "side": set(), "yes": set(), "no": set()}
    for atom, sign in _conditions(formula):
        about, value = _condition_parts(atom)
        if about != subject:
            continue
        if atom[0] == "eq" and value is not None:
            # Not true means false, and the reverse.
            opposite = ("value", "bool", not value[2]) if value[1] == "bool" and not sign else None
            requirements["is" if sign or opposite else "not"].add(opposite or value)
        elif atom[0] == "lt" and value is not None:
            requirements["side"].add((atom[1] == about) is sign)
        else:
            requirements["yes" if sign else "no"].add(atom)
    return requirements


def _is_negated(was: Mapping[str, set[Any]], now: Mapping[str, set[Any]]) -> bool:
    flipped = any((was[a] & now[b]) - was[b] - now[a] for a, b in (("is", "not"), ("not", "is"), ("yes", "no"), ("no", "yes")))
    sides = bool(was["side"] and now["side"] and not was["side"] & now["side"])
    excluded = bool(was["is"] and now["not"] and not now["is"])
    truths = _possible_outcomes(was), _possible_outcomes(now)
    return flipped or sides or excluded or bool(truths[0] and truths[1] and not truths[0] & truths[1])


def _possible_outcomes(requirements: Mapping[str, set[Any]]) -> set[bool]:
    return {value[2] for value in requirements["is"] if value[1] == "bool"}
