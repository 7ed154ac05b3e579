"""Check `result`: its schema must be valid JSON Schema 2020-12 that some value fits. It shares the checks of `paramsSchema`."""

import json
from collections.abc import Iterator
from typing import Any

from optio.compiler.checks.params import check_validity, check_values
from optio.compiler.checks.params_pedantic import check_keywords
from optio.compiler.diagnostics import Diagnostic
from optio.compiler.param_schema.keywords import repair_keywords, subschemas
from optio.compiler.resolved_task import ResolvedTask
from optio.compiler.suggest import suggest
from optio.model.route import Route

ROUTE: Route = ("result", "schema")
# The agent reads the schema with its prompt.
MAX_SCHEMA_BYTES = 64 * 1024
# With these a key may be declared elsewhere than in `properties`.
_ELSEWHERE = frozenset({"allOf", "anyOf", "oneOf", "$ref", "patternProperties", "if"})


def check(task: ResolvedTask) -> Iterator[Diagnostic]:
    """Report the mistakes of the schema, and nothing further about one that cannot be used."""
    if task.spec.result is None or not task.is_known(ROUTE):
        return
    schema = task.spec.result.schema
    bad = list(check_validity(task, ROUTE, schema))
    yield from bad
    if bad:
        return
    size = len(json.dumps(schema))
    if size > MAX_SCHEMA_BYTES:
        message = f"the schema has {size:,} bytes, more than {MAX_SCHEMA_BYTES:,}: the agent reads it with its prompt"
        yield task.at("OPT105", message, ROUTE, key=True, hint="describe less of the result, or share parts with `$defs`")
    yield from check_keywords(task, ROUTE, schema)
    yield from check_values(task, ROUTE, schema)
    for route, sub in subschemas(repair_keywords(schema), ROUTE):
        yield from _undeclared(task, route, sub)


def _undeclared(task: ResolvedTask, route: Route, sub: dict[str, Any]) -> Iterator[Diagnostic]:
    """Report required keys that `properties` beside them does not have: a misspelt one is never in a result."""
    if sub.get("type") != "object" or not _ELSEWHERE.isdisjoint(sub):
        return
    properties, required = sub.get("properties", {}), sub.get("required", [])
    for index, name in enumerate(required):
        if name not in properties:
            suggestion = suggest(name, properties)
            hint = f"add `{name}: {{type: string}}` below `properties`, or delete it here"
            if suggestion is not None:
                hint = f"did you mean `{suggestion}`?"
            yield task.at("OPT209", f"required `{name}` is not declared", (*route, "required", index), hint=hint)
