"""Values that a schema holds itself: do its defaults, its choices and its examples fit."""

from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

from optio.compiler.checks.contradictions import WORDS
from optio.compiler.checks.keywords import subschemas
from optio.compiler.diagnostics import Diagnostic
from optio.compiler.resolve import ResolvedTask
from optio.model.params import SchemaError, says, validator
from optio.model.route import Route

if TYPE_CHECKING:
    from optio.model.params import Validator


class _Held(NamedTuple):
    code: str
    called: str
    place: Route
    value: Any


class _Part(NamedTuple):
    """What the values that one schema holds are held against."""

    sub: dict[str, Any]
    bare: dict[str, Any]
    values: list[_Held]


def own_values(task: ResolvedTask, at: Route, schema: dict[str, Any], unfit: AbstractSet[Route]) -> Iterator[Diagnostic]:
    """Of a schema that is sound, but for what no value fits at the `unfit` places in it: that is told already."""
    parts = [
        part for route, sub in subschemas(schema, at) for part in _parts(task, route, sub, WORDS if route in unfit else ())
    ]
    refer = [_refers(part.bare) for part in parts]
    wrong = _misfits([part for part, refers in zip(parts, refer, strict=True) if not refers])
    more = _misfits_of_all([part for part, refers in zip(parts, refer, strict=True) if refers], schema)
    for sub, held, message in chain(wrong, more):
        yield task.at(held.code, f"{held.called} {message}", held.place, hint=_unquote(sub, held.value))


def _refers(schema: dict[str, Any]) -> bool:
    written = str(schema)
    return "$ref" in written or "$dynamicRef" in written


def _parts(task: ResolvedTask, route: Route, sub: dict[str, Any], left_out: Iterable[str]) -> Iterator[_Part]:
    """A list of values does not judge its own members."""
    default = [_Held("OPT207", "the default", (*route, "default"), sub["default"])] if "default" in sub else []
    members = [((*route, "const"), sub["const"])] if "const" in sub else []
    for word in ("enum", "examples"):
        if isinstance(sub.get(word), list):
            members += [((*route, word, index), value) for index, value in enumerate(sub[word])]
    listed = [_Held("OPT208", f"`{place[len(route)]}` holds a value that", place, value) for place, value in members]
    for held, without in ((default, ()), (listed, ("enum", "const"))):
        known = [each for each in held if not any(gap[: len(each.place)] == each.place for gap in task.gaps)]
        if known:
            drop = {*without, *left_out, "examples", "default", "$id", "$anchor"}
            yield _Part(sub, {word: value for word, value in sub.items() if word not in drop}, known)


def _misfits(parts: list[_Part]) -> Iterator[tuple[dict[str, Any], _Held, str]]:
    for sub, bare, values in parts:
        fits = _validator(bare)
        for held in values:
            wrong = None if fits is None else next(iter(fits.iter_errors(held.value)), None)
            if wrong is not None:
                yield sub, held, says(wrong)


def _misfits_of_all(parts: list[_Part], root: dict[str, Any]) -> Iterator[tuple[dict[str, Any], _Held, str]]:
    """Of those that refer to others, by one validator: each of its own would hold all that can be referred to."""
    there: dict[str, Any] = {word: root[word] for word in ("$defs", "definitions", "properties") if word in root}
    fits = _validator({**there, "prefixItems": [{"items": part.bare} for part in parts]}) if parts else None
    if fits is None:
        return
    told: set[Route] = set()
    for error in fits.iter_errors([[held.value for held in part.values] for part in parts]):
        part, index = parts[int(error.instance_path[0])], int(error.instance_path[1])
        at = part.values[index].place
        if at not in told:
            told.add(at)
            yield part.sub, part.values[index], says(error)


def _validator(schema: dict[str, Any]) -> "Validator | None":
    try:
        return validator(schema)
    except (SchemaError, ValueError):  # it refers to a place that only the whole schema has
        return None


def _unquote(sub: dict[str, Any], value: Any) -> str:
    wanted = sub.get("type")
    if wanted in ("integer", "number") and isinstance(value, str) and value.strip().lstrip("-").isdigit():
        return f"remove the quotes: {value.strip()}"
    if wanted == "string" and isinstance(value, (bool, int, float)):
        shown = str(value).lower() if isinstance(value, bool) else value
        return f"put quotes around it: '{shown}'"
    return "write a value that fits, or change the schema"
