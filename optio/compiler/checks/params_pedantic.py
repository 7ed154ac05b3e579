"""Advise on a valid `paramsSchema` that may not mean what its author thinks: misspelt keywords, formats that are not checked,
secrets as parameters, unbounded texts from webhooks."""

import re
from collections.abc import Iterator
from typing import Any

from optio.compiler.checks.params import ROUTE
from optio.compiler.checks.prompt import sources_of
from optio.compiler.conversions.schema_words import WORDS
from optio.compiler.diagnostics import Diagnostic
from optio.compiler.param_schema.declared import DeclaredParameters, declared_parameters
from optio.compiler.param_schema.keywords import subschemas, suggest_format, suggest_keyword
from optio.compiler.resolved_task import ResolvedTask
from optio.compiler.suggest import suggest
from optio.model.params import FORMATS
from optio.model.prompt import PLACEHOLDER, placeholders
from optio.model.route import Route

_BOUNDS = frozenset({"maxLength", "enum", "const", "pattern", "format", "$ref", "allOf", "anyOf", "oneOf"})
# Keywords of other schema languages without an equivalent.
_ADVICE = {
    "optional": "delete it: a parameter that `required` does not name is optional",
    "additionalItems": "delete it, or write `items: false` beside `prefixItems` to close a list",
    "nullable": 'write `type: [string, "null"]` in the place of `type`, and delete this line',
    **dict.fromkeys(
        ("sensitive", "secret", "masked", "isSecret", "noEcho", "NoEcho"),
        "parameters are stored and shown: name a secret under `environment.secrets`, and delete this key",
    ),
}
_NUMERIC = frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"})
_TEXTUAL = frozenset({"minLength", "maxLength", "pattern"})
_LISTED = frozenset({"minItems", "maxItems", "uniqueItems", "items", "prefixItems", "contains"})
_KEYED = frozenset({"minProperties", "maxProperties"})
# The keywords without effect on values of a type.
OF_OTHERS = {
    "string": _NUMERIC | _LISTED | _KEYED,
    **dict.fromkeys(("integer", "number"), _TEXTUAL | _LISTED | _KEYED),
    "boolean": _NUMERIC | _TEXTUAL | _LISTED | _KEYED,
    "array": _NUMERIC | _TEXTUAL | _KEYED,
    "object": _NUMERIC | _TEXTUAL | _LISTED,
}
_WITH_ARTICLE = {"string": "a string", "integer": "an integer", "number": "a number", "boolean": "true or false"}
_WITH_ARTICLE |= {"array": "a list", "object": "an object"}
# A pattern of plain characters and repeated classes without `^` and `$`, as one writes for a whole text.
_NO_ENDS = r"(?:\[[^\[\]]+\](?:[+*]|\{\d*,?\d*\})?|\\[dw.-](?:[+*]|\{\d*,?\d*\})?|[\w/#:@_-])+(?<=[+*}])"
# Parameters that hold what a person asks for.
_ASKED = r"(?i)(?:\A|_)(?:ask|instructions?|message|prompt|query|questions?|request|task)\Z"
_SECRET = re.compile(r"(?:^|_)(?:TOKEN|PASSWORD|PASSWD|SECRET|API_?KEY|PRIVATE_?KEY|CREDENTIALS?)(?:$|_)", re.IGNORECASE)


def check(task: ResolvedTask) -> Iterator[Diagnostic]:
    """Report the advice for the task's schema, and nothing where the schema itself is broken."""
    parameters = declared_parameters(task)
    if parameters is None or parameters.schema is None:
        return
    yield from check_keywords(task, ROUTE, task.spec.params_schema)
    used_names = set(placeholders(task.prompt))
    yield from _secrets(task, parameters, used_names)
    yield from _defaults(task, parameters)
    yield from _unbounded(task, parameters)
    yield from _rendered(task, parameters, used_names)
    yield from _owned(task, parameters)


def check_keywords(task: ResolvedTask, at: Route, schema: Any) -> Iterator[Diagnostic]:
    """Report keywords, formats and doubled values that have no effect, in the schema at a route and in those inside it."""
    for route, sub in subschemas(schema, at):
        yield from _words(task, at, route, sub)
        if "enum" in sub or "required" in sub:
            yield from _twice(task, route, sub)
        if "format" in sub:
            yield from _format(task, route, sub)
        if isinstance(kind := sub.get("type"), str) and not sub.keys().isdisjoint(OF_OTHERS.get(kind, ())):
            yield from _of_another_type(task, route, sub, kind)
        pattern = sub.get("pattern")
        if isinstance(pattern, str) and pattern[:1] != "^" and re.fullmatch(_NO_ENDS, pattern) and "enum" not in sub:
            message = f"`{pattern}` is found in any longer text, too: a pattern need not match the whole"
            better = f"^{pattern}$"
            hint = f"write `{better}`"
            yield task.at("OPT233", message, (*route, "pattern"), hint=hint, value=better, safe=False)


def _words(task: ResolvedTask, at: Route, route: Route, sub: dict[str, Any]) -> Iterator[Diagnostic]:
    """Report keys of a schema that are no keywords, where it is known what they are for."""
    for word in sub:
        if word in WORDS and word not in _ADVICE:
            continue
        similar, hint = suggest_keyword(word, sub), _ADVICE.get(word)
        if hint is None and similar is not None:
            hint = f"did you mean `{similar}`? a keyword of your own begins with `x-`"
        is_declaration = route == at and word not in WORDS and _is_schema(sub[word])
        if hint is None and is_declaration:
            hint = f"write it below `properties:` if it is a {'parameter' if at == ROUTE else 'key of the result'}"
        if hint is not None:
            message = f"`{word}` is not a keyword of JSON Schema and has no effect"
            write = similar if similar not in sub else None
            yield task.at("OPT221", message, (*route, word), key=True, hint=hint, write=write, safe=False)
        if hint is not None and is_declaration and "properties" not in sub:
            return  # the others are declarations, too


def _is_schema(value: Any) -> bool:
    return isinstance(value, dict) and not {"type", "enum"}.isdisjoint(value)


def _of_another_type(task: ResolvedTask, route: Route, sub: dict[str, Any], kind: str) -> Iterator[Diagnostic]:
    """Report the first keyword that restricts values of another type only, such as `maxLength` of an integer."""
    word = next(word for word in sub if word in OF_OTHERS[kind])
    message = f"`{word}` has no effect on {_WITH_ARTICLE.get(kind, kind)}"
    yield task.at("OPT221", message, (*route, word), key=True, hint="delete it, or correct the type")


def _format(task: ResolvedTask, route: Route, sub: dict[str, Any]) -> Iterator[Diagnostic]:
    name = sub.get("format")
    if not isinstance(name, str) or name in FORMATS or name == "password" or "pattern" in sub:
        return
    if (known_format := suggest_format(name)) is not None:
        message = f"`{name}` is not a format of JSON Schema and is not checked"
        place = (*route, "format")
        yield task.at("OPT221", message, place, hint=f"write `format: {known_format}`", value=known_format, safe=False)
        return
    suggestion = suggest(name, FORMATS)
    hint = f"did you mean `{suggestion}`?" if suggestion else "add a `pattern` that describes it"
    yield task.at(
        "OPT222", f"`{name}` is a format that is not checked", (*route, "format"), hint=hint, value=suggestion, safe=False
    )


def _twice(task: ResolvedTask, route: Route, sub: dict[str, Any]) -> Iterator[Diagnostic]:
    for word in ("enum", "required"):
        members = sub.get(word)
        seen: set[str] = set()
        for index, member in enumerate(members if isinstance(members, list) else ()):
            shown_text = repr(member)
            if shown_text in seen:
                place = (*route, word, index)
                from optio.compiler.edits import fix_edits

                fix = fix_edits.delete_item(task.document, place)
                yield task.at("OPT225", f"`{member}` appears twice in `{word}`", place, hint="delete one of them", fix=fix)
            seen.add(shown_text)


def _secrets(task: ResolvedTask, parameters: DeclaredParameters, used_names: set[str]) -> Iterator[Diagnostic]:
    sent = set(sources_of(task).values())  # another value with each delivery, such as the token of one answer in a form
    for name, sub in parameters.properties.items():
        if name in sent:
            continue
        hidden = isinstance(sub, dict) and sub.get("format") == "password"
        if name in used_names and (hidden or _SECRET.search(name)):
            hint = "name it under `environment.secrets`, where it is kept out of logs, prompts and the database"
            message = f"`{name}` looks like a secret and is written into the prompt"
            yield task.at("OPT220", message, (*ROUTE, "properties", name), key=True, hint=hint)


def _defaults(task: ResolvedTask, parameters: DeclaredParameters) -> Iterator[Diagnostic]:
    places = {name: index for index, name in reversed(list(enumerate((parameters.schema or {}).get("required", ()))))}
    for name in (name for name in parameters.required if parameters.has_default(name)):
        index = places.get(name, 0)
        message = f"`{name}` is required and has a default, so it is never missing"
        yield task.at("OPT210", message, (*ROUTE, "required", index), hint="delete it here, or delete the default")


def _unbounded(task: ResolvedTask, parameters: DeclaredParameters) -> Iterator[Diagnostic]:
    webhook = task.spec.webhook
    mapping = (webhook.config.param_mapping or {}) if webhook is not None else {}
    for name in (name for name, value in mapping.items() if isinstance(value, str) and value.startswith("$")):
        sub = parameters.properties.get(name)
        if isinstance(sub, dict) and sub.get("type") == "string" and not _BOUNDS & set(sub):
            message = f"the webhook fills `{name}` with a text of unlimited length"
            yield task.at("OPT216", message, (*ROUTE, "properties", name), key=True, hint="add `maxLength: 200`")


def _rendered(task: ResolvedTask, parameters: DeclaredParameters, used_names: set[str]) -> Iterator[Diagnostic]:
    for name in (name for name in parameters.properties if name in used_names):
        sub = parameters.properties[name]
        if not isinstance(sub, dict):
            continue
        if sub.get("type") in ("object", "array"):
            message = f"`{{{{{name}}}}}` is an {sub['type']}: the prompt holds it as JSON"
            yield task.at("OPT223", message, (*ROUTE, "properties", name), key=True, hint="describe its form in the prompt")
        default = sub.get("default")
        nested = PLACEHOLDER.search(default) if isinstance(default, str) else None
        if nested is not None:
            message = f"`{nested[0]}` in a default is not filled in: placeholders are filled in only once"
            hint = f"write it into the prompt, beside `{{{{{name}}}}}`"
            yield task.at("OPT224", message, (*ROUTE, "properties", name, "default"), hint=hint)


def _owned(task: ResolvedTask, parameters: DeclaredParameters) -> Iterator[Diagnostic]:
    if task.spec.agent_runtime == "command" or not task.is_known(("agentRuntime",)):
        return  # the prompt is the input of a program
    only = PLACEHOLDER.fullmatch(task.prompt.strip())
    if only is not None and task.spec.webhook is None and re.search(_ASKED, only[1]):
        return  # a person who may start the task asks, as in a chat
    if only is not None and only[1] in parameters.properties and task.is_known(task.prompt_route):
        hint = f"write the instructions, with `{only[0]}` where it belongs"
        yield task.at("OPT219", "the caller decides the whole prompt", task.prompt_route, key=True, hint=hint)


def declare(name: str, kind: str) -> str:
    """Return what to write under `paramsSchema` for a parameter of this type, and where."""
    return f"`type: {kind}` under `paramsSchema.properties.{name}`"
