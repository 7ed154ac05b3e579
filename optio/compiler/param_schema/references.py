"""Check the `$ref`s inside a schema: each must lead to a place inside it, make progress, and not multiply without end."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

from optio.compiler.conversions.schema_words import WORDS
from optio.compiler.diagnostics import Diagnostic
from optio.compiler.param_schema.keywords import suggest_keyword
from optio.compiler.resolved_task import ResolvedTask
from optio.compiler.suggest import suggest
from optio.model.route import Route

MAX_EXPANSIONS = 10_000
_REFS = ("$ref", "$dynamicRef")
# These apply to the same value, so a reference through them does not advance in the input.
_SAME_IN_LIST = ("allOf", "anyOf", "oneOf")
_SAME_ONE = ("not", "if", "then", "else")
_EVERY_KEY = (
    "items",
    "prefixItems",
    "contains",
    "additionalProperties",
    "propertyNames",
    "unevaluatedProperties",
    "unevaluatedItems",
)
MAX_INPUT_DEPTH = 64
_COUNT_CEILING = 10**9


def check_references(task: ResolvedTask, at: Route, schema: dict[str, Any]) -> Iterator[Diagnostic]:
    """Report broken and circular references, and schemas that expand too far. Nothing is fetched."""
    if not any(word in text for word in _REFS for _, text in task.document.texts):
        return
    places = list(_every_ref(schema))
    walk = _ReferenceGraph(schema)
    dangling: dict[str, list[Route]] = {}
    for route, ref in places:
        if walk.resolve(ref) is None:
            dangling.setdefault(ref, []).append(route)
    if dangling:
        yield from _misspelt(task, at, schema, walk, dangling)
        yield from _broken(task, at, schema, dangling)
        return
    circle = walk.circle([ref for _, ref in places])
    if circle is not None:
        route, ref = next((route, ref) for route, ref in places if ref == circle)
        yield task.at("OPT214", f"`{ref}` refers back to itself without consuming any input", at + route, hint="delete it")
        return
    if walk.expansions() > MAX_EXPANSIONS:
        route, ref = places[0]
        yield task.at(
            "OPT214", f"references expand to more than {MAX_EXPANSIONS:,} schemas", at + route, hint="write the schema out"
        )


def _misspelt(
    task: ResolvedTask, at: Route, schema: dict[str, Any], walk: "_ReferenceGraph", dangling: dict[str, list[Route]]
) -> Iterator[Diagnostic]:
    """Report a misspelt `$defs`, and remove from `broken` the references that fail because of it."""
    for word in (word for word in schema if word not in WORDS):
        suggestion = suggest_keyword(word, schema)
        if suggestion is None or suggestion in schema:
            continue
        start = f"#/{suggestion}/"
        into = [
            ref for ref in dangling if ref.startswith(start) and walk.resolve(f"#/{word}/{ref.removeprefix(start)}") is not None
        ]
        if into:
            other_count = sum(len(dangling.pop(ref)) for ref in into) - 1
            lead = f" and {other_count} more reference{'s'[: other_count > 1]} lead" if other_count else " leads"
            message = f"`{word}` is not a keyword of JSON Schema: `{into[0]}`{lead} nowhere"
            hint = f"did you mean `{suggestion}`?"
            yield task.at("OPT214", message, (*at, word), key=True, hint=hint, write=suggestion, safe=False)


def _broken(task: ResolvedTask, at: Route, schema: dict[str, Any], dangling: dict[str, list[Route]]) -> Iterator[Diagnostic]:
    """Report each missing target once, at the first reference to it."""
    targets = [f"#/{word}/{name}" for word in ("$defs", "definitions") for name in _names(schema.get(word))]
    for ref, routes in dangling.items():
        message = f"`{ref}` leads {'nowhere' if ref.startswith('#') else 'out of the schema'}"
        other_count = len(routes) - 1
        if other_count:
            message += f", here and at {other_count} more place{'s'[: other_count > 1]}"
        suggestion = suggest(ref, targets)
        hint = f"did you mean `{suggestion}`?" if suggestion else "put the schema under `$defs` and write `#/$defs/NAME`"
        yield task.at("OPT214", message, at + routes[0], hint=hint)


def _names(definitions: Any) -> list[str]:
    return list(definitions) if isinstance(definitions, dict) else []


def _every_ref(schema: Any) -> Iterator[tuple[Route, str]]:
    stack: list[tuple[Route, Any]] = [((), schema)]
    while stack:
        route, value = stack.pop()
        if isinstance(value, dict):
            for word, inner in reversed(value.items()):
                if word in _REFS and isinstance(inner, str) and (not route or route[-1] not in ("properties", "$defs")):
                    yield (*route, word), inner
                elif word not in ("const", "enum", "default", "examples"):
                    stack.append(((*route, word), inner))
        elif isinstance(value, list):
            stack.extend(((*route, index), value[index]) for index in reversed(range(len(value))))


class _ReferenceGraph:
    """The references of one schema, with memoised counts."""

    def __init__(self, root: dict[str, Any]) -> None:
        self._root = root
        self._anchors = {
            name: sub
            for sub in _dicts(root)
            for word in ("$anchor", "$dynamicAnchor")
            if isinstance(name := sub.get(word), str)
        }

    def resolve(self, ref: str) -> Any:
        """Return the schema that a reference names, or None."""
        if not ref.startswith("#"):
            return None
        fragment = unquote(ref[1:])
        if fragment and not fragment.startswith("/"):
            return self._anchors.get(fragment)
        value: Any = self._root
        for part in fragment.split("/")[1:] if fragment else []:
            step = part.replace("~1", "/").replace("~0", "~")
            if isinstance(value, dict) and step in value:
                value = value[step]
            elif isinstance(value, list) and step.isdigit() and int(step) < len(value):
                value = value[int(step)]
            else:
                return None
        return value if isinstance(value, (dict, bool)) else None

    def circle(self, refs: list[str]) -> str | None:
        """Return a reference that comes back to its own target without consuming any input, or None."""
        finished: set[int] = set()
        open_now: set[int] = set()
        for ref in refs:
            stack = [(self.resolve(ref), False)]
            while stack:
                sub, is_left = stack.pop()
                if is_left:
                    open_now.discard(id(sub))
                    finished.add(id(sub))
                elif id(sub) in open_now:
                    return next((r for r in refs if self.resolve(r) is sub), ref)
                elif isinstance(sub, dict) and id(sub) not in finished:
                    open_now.add(id(sub))
                    stack.append((sub, True))
                    stack.extend((part, False) for part in self._same_input(sub))
        return None

    def _same_input(self, sub: dict[str, Any]) -> Iterator[Any]:
        for word in _REFS:
            if isinstance(sub.get(word), str):
                yield self.resolve(sub[word])
        for word in _SAME_IN_LIST:
            if isinstance(sub.get(word), list):
                yield from sub[word]
        for word in _SAME_ONE:
            if isinstance(sub.get(word), dict):
                yield sub[word]

    def expansions(self) -> int:
        """Return the largest number of schemas that one value inside any input is compared with. Counting stops at the
        limit."""
        level: dict[int, tuple[Any, int]] = {id(self._root): (self._root, 1)}
        max_count = 0
        for _ in range(MAX_INPUT_DEPTH):
            counts = self._same_value(level)
            max_count = max(max_count, sum(count for _, count in counts.values()))
            if max_count > MAX_EXPANSIONS:
                return max_count
            level = _next_level(counts)
            if not level:
                break
        return max_count

    def _same_value(self, level: dict[int, tuple[Any, int]]) -> dict[int, tuple[Any, int]]:
        """Return the schemas of a level with everything that they apply to the same value, each with its count; no circles."""
        order: list[Any] = []
        visited: set[int] = set()
        stack = [(sub, False) for sub, _ in level.values()]
        while stack:
            sub, is_left = stack.pop()
            if is_left:
                order.append(sub)
            elif isinstance(sub, dict) and id(sub) not in visited:
                visited.add(id(sub))
                stack.append((sub, True))
                stack.extend((part, False) for part in self._same_input(sub))
        counts = {id(sub): level.get(id(sub), (sub, 0))[1] for sub in order}
        for sub in reversed(order):
            for part in self._same_input(sub):
                if id(part) in counts:
                    counts[id(part)] = min(_COUNT_CEILING, counts[id(part)] + counts[id(sub)])
        return {id(sub): (sub, counts[id(sub)]) for sub in order}


def _next_level(counts: dict[int, tuple[Any, int]]) -> dict[int, tuple[Any, int]]:
    """Return the schemas for the key that most schemas look at, with those that apply to every key."""
    every: list[tuple[Any, int]] = []
    by_key: dict[str, list[tuple[Any, int]]] = {}
    for sub, count in counts.values():
        for word, inner in sub.items():
            if word == "properties" and isinstance(inner, dict):
                for key, part in inner.items():
                    by_key.setdefault(key, []).append((part, count))
            elif word in ("patternProperties", "dependentSchemas") and isinstance(inner, dict):
                every += [(part, count) for part in inner.values()]
            elif word in _EVERY_KEY:
                every += [(part, count) for part in _inside(inner)]
    busiest = max(by_key.values(), key=lambda parts: sum(count for _, count in parts), default=[])
    level: dict[int, tuple[Any, int]] = {}
    for part, count in busiest + every:
        if isinstance(part, dict):
            level[id(part)] = (part, min(_COUNT_CEILING, level.get(id(part), (part, 0))[1] + count))
    return level


def _inside(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _dicts(value: Any) -> Iterator[dict[str, Any]]:
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            yield item
            stack.extend(item.values())
        elif isinstance(item, list):
            stack.extend(item)
