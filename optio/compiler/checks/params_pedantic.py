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
from optio.compiler.yaml.scalars import single_quoted
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
    **dict.fromkeys(
        ("allowEmpty", "allowBlank", "notEmpty", "nonEmpty", "notBlank", "blank"),
        "write `minLength: 1` to refuse an empty text",
    ),
    **dict.fromkeys(
        ("multiple", "isArray", "multi", "list", "repeated"), "write `type: array`, and `items: {type: string}` beside it"
    ),
}
# Other systems' words for checks that JSON Schema expresses by keywords.
_CHECKED = r"(?i)(?:custom_?)?(?:validat|constrain|rules?\Z|conditions?\Z|check)\w{0,10}"
_IN_QUOTES = r"(?:regex|regexp|regex_?match(?:es)?|match(?:es)?|re\.match|pattern|test)\W{1,3}\s*r?(['\"/])(\^?.{1,200}?)\1"
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
_IN_ITS_PLACE = {
    **{("string", f"{end}imum"): f"{end}Length" for end in ("min", "max")},
    **{("string", f"{end}Items"): f"{end}Length" for end in ("min", "max")},
    **{("array", f"{end}{what}"): f"{end}Items" for end in ("min", "max") for what in ("Length", "imum", "Properties")},
    **{("object", f"{end}{what}"): f"{end}Properties" for end in ("min", "max") for what in ("Length", "imum", "Items")},
}
_WITH_ARTICLE = {"string": "a string", "integer": "an integer", "number": "a number", "boolean": "true or false"}
_WITH_ARTICLE |= {"array": "a list", "object": "an object"}
_MAX_DIGITS = 15
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
        hint, write = _cure_of_word(at, route, sub, word)
        if hint is not None:
            message = f"`{word}` is not a keyword of JSON Schema and has no effect"
            yield task.at("OPT221", message, (*route, word), key=True, hint=hint, write=write, safe=False)
        if hint is not None and route == at and "properties" not in sub and _declares(word, sub):
            return  # the hint is for all of them


def _cure_of_word(at: Route, route: Route, sub: dict[str, Any], word: str) -> tuple[str | None, str | None]:
    """Return the hint for a key that is no keyword, and the keyword to write in its place."""
    similar, check = suggest_keyword(word, sub), None if word in WORDS else _checked(word, sub[word])
    if similar is None and check is not None:
        return check, None
    if similar is not None or word in _ADVICE:
        hint = _ADVICE.get(word) or f"did you mean `{similar}`? a keyword of your own begins with `x-`"
        return hint, similar if similar not in sub else None
    if route == at and "properties" not in sub and _are_parameters(sub[word]):
        return "write `properties`" + (", with the parameters below it" if at == ROUTE else ""), "properties"
    if route == at and _declares(word, sub) and "properties" in sub:
        return f"write it below `properties:` if it is a {'parameter' if at == ROUTE else 'key of the result'}", None
    if route == at and _declares(word, sub):
        return _around_all(sub, "paramsSchema" if at == ROUTE else "schema"), None
    return None, None


def _declares(word: str, sub: dict[str, Any]) -> bool:
    """Return True if a key that is no keyword declares a parameter, or a key of the result."""
    return word not in WORDS and isinstance(sub[word], dict) and not {"type", "enum"}.isdisjoint(sub[word])


def _around_all(sub: dict[str, Any], above: str) -> str:
    """Return the hint for declarations that stand in a schema without `properties`."""
    names = [word for word in sub if _declares(word, sub)]
    *most, last = (f"`{name}`" for name in names)
    list_text = f"{', '.join(most)} and {last}" if most else last
    wanted = [name for name in names if "default" not in sub[name]]
    beside = [] if "required" in sub or not wanted else [f"`required: [{', '.join(wanted)}]`"]
    beside += [] if "additionalProperties" in sub else ["`additionalProperties: false`"]
    rest = f", and {' and '.join(beside)} beside it" if beside else ""
    return f"write `properties:` below `{above}:` with {list_text} below it{rest}"


def _of_another_type(task: ResolvedTask, route: Route, sub: dict[str, Any], kind: str) -> Iterator[Diagnostic]:
    """Report the first keyword that restricts values of another type only, such as `maxLength` of an integer."""
    word = next(each for each in sub if each in OF_OTHERS[kind])
    meant = _IN_ITS_PLACE.get((kind, word))
    hint = f"write `{meant}`" if meant is not None and meant not in sub else "delete it, or correct the type"
    if kind == "string" and word in _NUMERIC:
        hint = "write `type: integer` for a number" + (f", or `{meant}` for the length of the text" if meant else "")
    elif kind in ("integer", "number") and word in ("maxLength", "minLength") and isinstance(sub[word], int) and sub[word] > 0:
        digits = min(sub[word], _MAX_DIGITS)
        hint = f"write `maximum: {10**digits - 1}`" if word == "maxLength" else f"write `minimum: {10 ** (digits - 1)}`"
    message = f"`{word}` has no effect on {_WITH_ARTICLE.get(kind, kind)}"
    yield task.at("OPT221", message, (*route, word), key=True, hint=hint)


def _checked(word: str, value: Any) -> str | None:
    """Return the hint for a check in the words of another system: an equivalent `pattern`, or the bounds of a range."""
    if (
        word in ("range", "between")
        and isinstance(value, list)
        and [type(each) for each in value] in ([int, int], [float, float])
    ):
        return f"write `minimum: {value[0]}` and `maximum: {value[1]}`"
    if not re.fullmatch(_CHECKED, word):
        return None
    if isinstance(value, list) and value and isinstance(value[0], dict):
        value = value[0]
    if isinstance(value, str) and value.startswith("^"):
        return f"write `pattern: {single_quoted(value)}`"
    inside = value if isinstance(value, dict) else {}
    match = re.search(_IN_QUOTES, str(inside.get("condition", value)))
    inner = next((inside[key] for key in ("regex", "pattern") if isinstance(inside.get(key), str)), None)
    pattern = inner or (match[2] if match is not None else None)
    if pattern is None:
        return "write what it checks as `pattern`, `enum`, `minimum`, `maximum` or `maxLength`, and delete this line"
    return f"write `pattern: {single_quoted(pattern)}`"


def _are_parameters(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and bool(value)
        and all(isinstance(each, dict) and not {"type", "enum"}.isdisjoint(each) for each in value.values())
    )


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


def declare(task: ResolvedTask, name: str, kind: str) -> str:
    """Return what to write under `paramsSchema` for a parameter of this type, and where."""
    parameters = declared_parameters(task)
    other_keywords = keywords_of_others(parameters.properties.get(name) if parameters is not None else None, kind)
    write = f"`type: {kind}` under `paramsSchema.properties.{name}`"
    return f"{write}, and delete {', '.join(other_keywords)} there" if other_keywords else write


def keywords_of_others(sub: Any, kind: str) -> list[str]:
    """Return the keywords of a parameter that a value of this type cannot meet."""
    own = {*OF_OTHERS.get(kind, ()), "enum", "const", "default", "examples", *(() if kind == "string" else ("format",))}
    return [f"`{word}`" for word in sub if word in own] if isinstance(sub, dict) else []
