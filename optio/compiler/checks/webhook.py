"""Check webhooks: the path, the proof of the sender, the filter, and the mapping of the payload to parameters."""

import re
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from optio.compiler.diagnostics import Diagnostic
from optio.compiler.param_schema.declared import DeclaredParameters, declared_parameters, parameter_names
from optio.compiler.payloads import query_fast_path
from optio.compiler.resolved_task import ResolvedTask
from optio.compiler.suggest import suggest
from optio.compiler.yaml.emit import flow
from optio.compiler.yaml.scalars import single_quoted
from optio.model.route import Route
from optio.model.trigger import WebhookConfig, WebhookTrigger

if TYPE_CHECKING:  # the library of paths is loaded for a path that is not plain
    from optio.model.mapping import PathSyntax

MAX_PATH_LENGTH = 64
_MAX_NAMES = 5
RESERVED_PATHS = frozenset({"health", "sync"})
_PATH = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_PLAIN_NAME = r"(?a)[A-Za-z_]\w*"
# Names that other systems put around a payload, and senders that do have a field of that name.
_PATH_KEYS = frozenset(
    {"datakey", "path", "jsonpath", "json_path", "expr", "expression", "field", "key", "from", "source", "src"}
)
# The part of the webhook URL before the path.
_ADDRESS = r"(?i)\A(?:https?://[^/]*)?/*(?:(?:api/+)?(?:web)?hooks?(?:-test)?/+)?"
_PROOF_IN_URL = r"(?i)[?&#].*=|(?:token|secret|apikey|api-key|password|signature)[=:]"


def check(task: ResolvedTask) -> Iterator[Diagnostic]:
    """Report the findings of every webhook of the task, including a superfluous one."""
    for index, trigger in enumerate(task.spec.triggers):
        route: Route = ("triggers", index, "config")
        if isinstance(trigger, WebhookTrigger) and task.is_known(route):
            yield from _path(task, (*route, "path"), trigger.config.path)
            yield from _proof(task, route, trigger.config)
            if trigger.config.when is not None:
                yield from _when(task, (*route, "when"), trigger.config.when, trigger.config.scheme)
            if trigger.config.event_path is not None:
                yield from _event_path(task, (*route, "eventPath"), trigger.config.event_path, trigger.config.scheme)
            parameters = declared_parameters(task)
            if trigger.config.param_mapping is not None:
                yield from _mapping(task, (*route, "paramMapping"), trigger.config, parameters)
            elif parameters is not None and parameters.properties and task.is_known((*route, "paramMapping")):
                if any(sample.verdict == "accepted" for sample in task.samples):
                    continue  # a payload of the tests shows that the body is meant, and `samples` reports one that does not fit
                names = parameters.missing({}) or list(parameters.properties)[:1]
                # A sender of the author's own may send the parameters themselves; others have no field of such a name.
                own = trigger.config.scheme in ("optio", "hmac") and all(re.fullmatch(_PLAIN_NAME, name) for name in names)
                paths = (f"{name}: $.{name if own else 'path.in.the.body'}" for name in names[:_MAX_NAMES])
                hint = f"add `paramMapping: {{{', '.join(paths)}}}`"
                hint += ", or the paths by which the sender names them" if own else ""
                yield task.at("OPT417", "the whole body becomes the parameters", route, key=True, hint=hint)


def _path(task: ResolvedTask, route: Route, path: str) -> Iterator[Diagnostic]:
    is_sound = len(path) <= MAX_PATH_LENGTH and _PATH.fullmatch(path) is not None
    if not is_sound and len(path) <= MAX_PATH_LENGTH and re.search(_PROOF_IN_URL, path):
        bare = re.sub(_ADDRESS, "", re.split(r"[?&#]", path)[0])
        hint = f"write `{bare}`, and sign" if _PATH.fullmatch(bare) else "sign"
        yield task.at(
            "OPT421", "the path carries a secret or a query", route, hint=f"{hint} deliveries: `secret: {{name: NAME}}`"
        )
    elif path in RESERVED_PATHS:
        yield task.at("OPT401", f"the path `{path}` is reserved", route, hint=f"write another one, such as `{path}-webhook`")
    elif not is_sound:
        if len(path) > MAX_PATH_LENGTH:
            fact, better = f"the path has {len(path)} characters", re.sub(_ADDRESS, "", path)[:MAX_PATH_LENGTH]
        else:
            repeats = _PATH.fullmatch(re.sub(_ADDRESS, "", path)) and ("/hooks/" in f"/{path}" or "://" in path)
            fault = "repeats the address before it" if repeats else "has characters that change in a URL"
            fact, better = f"the path `{path}` {fault}", path
        better = re.sub(r"[^a-z0-9]+", "-", re.sub(_ADDRESS, "", better).lower()).strip("-")
        hint = f"write `{better}`" if better else f"use a-z, 0-9 and single dashes: `{task.id or 'my-path'}`"
        hint = f"{hint}; at most {MAX_PATH_LENGTH}" if len(path) > MAX_PATH_LENGTH else hint
        yield task.at("OPT401", fact, route, hint=hint, value=better or None, safe=False)


def _proof(task: ResolvedTask, route: Route, config: WebhookConfig) -> Iterator[Diagnostic]:
    for key, secret in (("secret", config.secret), ("previousSecret", config.previous_secret)):
        if secret is not None and (bare := secret.name.removeprefix("OPTIO_SECRET_")) != secret.name:
            message = f"`{secret.name}` begins as the server's variable, and the name of the secret stands behind that"
            yield task.at("OPT504", message, (*route, key, "name"), hint=f"write `{bare}`", value=bare, safe=False)
    if config.unsigned and config.secret is not None:
        yield task.at(
            "OPT108",
            "both `secret` and `unsigned: true`",
            (*route, "unsigned"),
            key=True,
            hint="delete it: a webhook with a secret is signed",
        )
    elif config.unsigned and config.signature_header is not None:
        message, place = "both `signatureHeader` and `unsigned: true`", (*route, "signatureHeader")
        yield task.at("OPT108", message, place, key=True, hint="delete it, or name a `secret:` and delete `unsigned`")
    elif (
        config.secret is None
        and not config.unsigned
        and task.is_known((*route, "secret"))
        and task.is_known((*route, "unsigned"))
    ):
        hint = "add `secret: {name: NAME}`, or `unsigned: true` to accept deliveries from anyone"
        yield task.at("OPT404", f"the webhook `{config.path}` has no secret", (*route, "secret"), key=True, hint=hint)
    if config.previous_secret is not None and config.secret is None and task.is_known((*route, "secret")):
        hint = "add `secret:`, or delete `previousSecret`"
        yield task.at("OPT102", "`previousSecret` without `secret`", (*route, "previousSecret"), key=True, hint=hint)


def _when(task: ResolvedTask, route: Route, text: str, scheme: str) -> Iterator[Diagnostic]:
    if query_fast_path.is_filter(text):
        return
    from optio.model.mapping import PathSyntax, compile_when

    try:
        compile_when(text)
    except PathSyntax as err:
        from optio.compiler.payloads.queries import explain_query_error, suggest_event, suggest_filter

        meant, event = suggest_filter(text, scheme) or _with_escapes(text), suggest_event(text)
        shown = meant if meant is None or task.document.plain(route) is None else task.document.restyled(route, meant)
        hint = f"write `{shown}`" if meant else "a filter looks like `@.action == 'opened' && @.repository.private == false`"
        if event is not None:
            hint = f"the event's name is in a header, which a filter does not see: write `events: [{event}]`"
        span = task.document.inside(route, err.index, err.index + 1)
        written = None if meant is None else task.document.rewritten(route, task.document.restyled(route, meant), safe=False)
        yield task.at(
            "OPT407", f"the filter `{_short(text)}`: {explain_query_error(text, err)}", route, span=span, hint=hint, fix=written
        )


def _with_escapes(text: str) -> str | None:
    """Return a filter whose patterns say `\\s` and the like without a backslash, which quotes would want twice, or None."""
    from optio.model.mapping import PathSyntax, compile_when

    classes = {"s": " ", "d": "[0-9]", "w": "[A-Za-z0-9_]"}
    better = re.sub(r"\\([sdw.()+*?$|{}-])", lambda match: classes.get(match[1], f"[{match[1]}]"), text)
    try:
        compile_when(better)
    except PathSyntax:
        return None
    return better if better != text else None


def _event_path(task: ResolvedTask, route: Route, source: str, scheme: str) -> Iterator[Diagnostic]:
    faults = list(_source(task, route, source, None, scheme))
    yield from faults
    if faults:
        return
    if query_fast_path.is_path(source):
        return
    else:
        from optio.model.mapping import compile_path

        if not compile_path(source).singular:
            message = f"`{_short(source)}` gives a list, but an event has one name"
            yield task.at("OPT408", message, route, hint="name one value, with `[0]` for the first of a list")


def _mapping(
    task: ResolvedTask, route: Route, config: WebhookConfig, parameters: DeclaredParameters | None
) -> Iterator[Diagnostic]:
    mapping = config.param_mapping or {}
    names = None if parameters is None else parameter_names(task, parameters)
    unknown = [] if names is None else [name for name in mapping if name not in names]
    turned = {name: mapping[name] for name in unknown if names and _is_swapped(name, mapping[name], names)}
    for path, name in turned.items():
        from optio.compiler.payloads.queries import suggest_query_path  # imported only for a file with a mistake

        query = path if query_fast_path.is_path(path) else suggest_query_path(path) or path
        hint = f"write `{name}: {query}`: the parameter comes first"
        yield task.at("OPT411", f"`{_short(path)}` is not a parameter of this task", (*route, path), key=True, hint=hint)
    if turned:
        mapping = {name: source for name, source in mapping.items() if name not in turned}
        unknown = [name for name in unknown if name not in turned]
    for name, source in mapping.items():
        if not (isinstance(source, str) and query_fast_path.is_path(source)) or source == "$":
            yield from _source(task, (*route, name), source, parameters, config.scheme)
    if parameters is None:
        return
    absent = [name for name in parameters.missing(mapping) if name not in turned.values()]
    paired = absent[0] if len(unknown) == len(absent) == 1 else None
    for name in unknown:
        suggestion = suggest(name, names or ())
        hint = f"did you mean `{suggestion}`?" if suggestion else "delete it, or declare it under `paramsSchema.properties`"
        if suggestion is None and paired is not None:
            hint = f"did you mean `{paired}`, which nothing else gives? else {hint}"
        write = suggestion if suggestion not in mapping else None
        message = f"`{name}` is not a parameter of this task"
        yield task.at("OPT411", message, (*route, name), key=True, hint=hint, write=write, safe=False)
    open_names = (names or set()) - set(mapping)
    meant_by_typo = {suggest(name, open_names) for name in unknown} | {paired}
    for name in absent:
        if name not in meant_by_typo:
            hint = f"add `{name}:` with its path in the body, such as `$.path`, or give `{name}` a `default`"
            yield task.at("OPT410", f"the webhook gives no value for `{name}`", (*route, name), key=True, hint=hint)


def _is_swapped(name: str, source: Any, names: set[str]) -> bool:
    """Return True if a mapping has the path as its key and the parameter as its value."""
    return isinstance(source, str) and source in names and bool(re.match(r"\$|\w+\.", name))


def _source(
    task: ResolvedTask, route: Route, source: Any, parameters: DeclaredParameters | None, scheme: str
) -> Iterator[Diagnostic]:
    name = str(route[-1])
    if isinstance(source, dict) and set(source) == {"literal"}:
        return
    if not isinstance(source, str):
        yield task.at("OPT409", f"`{name}` is not mapped to a JSONPath", route, hint=_path_or_literal(name, source))
    elif not source.startswith("$"):
        yield _without_root(task, route, source, parameters)
    elif source == "$" and parameters is not None and not _takes_bodies(parameters.properties.get(name)):
        message = f"`$` is the whole body, but `{name}` takes a single value: every delivery would be refused"
        yield task.at("OPT412", message, route, hint="map a field of it, such as `$.repository.name`")
    elif not query_fast_path.is_path(source):
        from optio.model.mapping import PathSyntax, compile_path

        try:
            path = compile_path(source)
        except PathSyntax as err:
            yield _bad_query(task, route, source, err, scheme)
            return
        if not path.singular and parameters is not None and not _takes_lists(parameters.properties.get(name)):
            message = f"`{_short(source)}` gives a list, and `{name}` takes one value"
            yield task.at("OPT408", message, route, hint=_one_value_hint(task, name, source, scheme))


def _path_or_literal(name: str, source: Any) -> str:
    """Return the hint for a value that is neither a path nor `{literal: VALUE}`."""
    if isinstance(source, (bool, int, float)):
        return f"write `{{literal: {flow(source)}}}`"
    if isinstance(source, list) and source and isinstance(source[0], str) and query_fast_path.is_path(source[0]):
        return f"write `{name}: {_short(source[0])}`: a parameter has one path"
    if isinstance(source, dict):
        only = next(iter(source.values())) if len(source) == 1 else None
        if (leaf := _path_inside(source)) is not None:
            only = leaf
        if isinstance(only, str) and query_fast_path.is_path(only):
            return f"write `{name}: {_short(only)}`"
        if only is not None and next(iter(source)) in ("value", "const", "default", "static", "constant"):
            return f"write `{{literal: {_short(flow(only))}}}`"
    return "write a JSONPath such as `$.repository.name`, or `{literal: VALUE}`"


def _without_root(task: ResolvedTask, route: Route, source: str, parameters: DeclaredParameters | None) -> Diagnostic:
    from optio.compiler.payloads.queries import suggest_query_path

    rooted = suggest_query_path(source)
    text = source if re.fullmatch(r"[\w./-][\w./ -]*", source) else single_quoted(source)
    hint = f"write `{_short(rooted or '$.path.in.the.body')}` for a path, `{{literal: {_short(text)}}}` for the text"
    write = rooted if rooted is not None and ("." in source or source.endswith("]")) else None
    if source in _values(parameters, str(route[-1])):
        hint, write = f"write `{{literal: {_short(text)}}}`", None
    elif rooted is not None and "{{" in source:
        hint = f"write `{_short(rooted)}`"
    return task.at("OPT409", f"`{_short(source)}` does not begin with `$`", route, hint=hint, value=write, safe=False)


def _bad_query(task: ResolvedTask, route: Route, source: str, err: "PathSyntax", scheme: str) -> Diagnostic:
    from optio.compiler.payloads.queries import explain_query_error, first_alternative, suggest_query_path

    first = first_alternative(source)
    better = _with_brackets(source, err.index) or suggest_query_path(first or source)
    if better is None and first is not None and query_fast_path.is_path(first):
        better = first
    fix = None
    hint = f"write `{better}`" if better is not None else _path_hint(source)
    if better is not None and first is None:
        fix = task.document.rewritten(route, task.document.restyled(route, better), safe=False)
    elif better is not None and re.search(r"[|?]", source):
        hint += f": a parameter has one path, and `default` under `paramsSchema.properties.{route[-1]}` for where it is missing"
    elif better is not None:
        hint += ": nothing is computed; describe in the prompt what to do with it"
    span = task.document.inside(route, err.index, err.index + 1)
    return task.at("OPT407", f"`{_short(source)}`: {explain_query_error(source, err)}", route, span=span, hint=hint, fix=fix)


def _one_value_hint(task: ResolvedTask, name: str, source: str, scheme: str) -> str:
    cut = re.fullmatch(rf"({query_fast_path.PATH})\[-?\d*:-?\d*(?::\d*)?\]", source)
    if cut is not None:
        return f"write `{cut[1]}`: a path cannot take part of a text; for an item of a list write `{cut[1]}[0]`"
    if "[?" in source:
        place = _short(re.sub(r"\[\?.*\]", "[0]", source))
        return f"a filter gives a list: give the parameter `type: array`, or name the item by its place, as in `{place}`"
    if "[-1:]" in source:
        return f"write `{_short(source.replace('[-1:]', '[-1]'))}`"
    if (whole := _without_descent(task, source)) is not None:
        return f"write the whole path, such as `{_short(whole)}`, or give the parameter `type: array`"
    one = re.sub(r"\[\*\]|\.\*", "[0]", source)
    name_text = (
        f"`{_short(one)}` for the first of the list" if one != source else "one value, with `[0]` for the first of a list"
    )
    last = re.fullmatch(r"\$\.commits(?:\[\*\]|\.\*)((?:\.[a-z_]+)+)", source)
    if last is not None and scheme in ("github", "gitlab"):
        name_text = f"`{'$.head_commit' if scheme == 'github' else '$.commits[-1]'}{last[1]}` for the last commit"
    if name.lower().endswith("s"):
        listed = "{type: array, items: {type: string}}"
        return f"write `{name}: {listed}` under `paramsSchema.properties`, or name {name_text}"
    return (
        f"write {name_text}, or `{name}: {{type: array}}` under `paramsSchema.properties`"
        if "`$" in name_text
        else f"name {name_text}, or write `{name}: {{type: array}}` under `paramsSchema.properties`"
    )


def _without_descent(task: ResolvedTask, source: str) -> str | None:
    """Return the path of one value for a path such as `$..id`: below the place that the webhook's other queries name most."""
    match = re.fullmatch(rf"({query_fast_path.PATH})\.\.([A-Za-z_]\w*)", source)
    config = next((trigger.config for trigger in task.spec.triggers if isinstance(trigger, WebhookTrigger)), None)
    if match is None or config is None:
        return None
    queries = [
        trigger
        for trigger in (config.param_mapping or {}).values()
        if isinstance(trigger, str) and query_fast_path.is_path(trigger)
    ]
    queries += [f"${trigger}" for trigger in re.findall(r"@((?:\.[A-Za-z_]\w*)+)", config.when or "")]
    places = Counter(
        place for trigger in queries if (place := trigger.rpartition(".")[0]).startswith(match[1]) and "[" not in place
    )
    place = places.most_common(1)[0][0] if places else match[1] if match[1] != "$" else "$.path.in.the.body"
    return f"{place}.{match[2]}"


def _path_inside(source: dict[Any, Any]) -> str | None:
    """Return the path that a mapping of another system holds under `dataKey`, `jsonPath` and the like."""
    from optio.compiler.payloads.queries import suggest_query_path  # imported only for a file with a mistake

    for key, value in source.items():
        if isinstance(value, dict) and (found := _path_inside(value)) is not None:
            return found
        if isinstance(value, str) and str(key).lower() in _PATH_KEYS and not value.startswith("$"):
            return suggest_query_path(value)
    return None


def _with_brackets(source: str, index: int) -> str | None:
    """Return the path with a dashed name in brackets, which is the usual mistake: `$.a-b` becomes `$['a-b']`."""
    bare = re.search(r"\.([A-Za-z_][\w-]*-[\w-]*)", source)
    if bare and bare.start() <= index <= bare.end() and not re.search(r"[(\"\\]", source):
        return f"{source[: bare.start()]}['{bare[1]}']{source[bare.end() :]}"
    return None


def _path_hint(source: str) -> str:
    if source.count("..") > 1:
        return "name the steps between"
    return "paths follow RFC 9535: `$.a.b`, `$.list[0]`, `$['odd name']`"


def _values(parameters: DeclaredParameters | None, name: str) -> list[Any]:
    """Return the values that the schema lists for a parameter (`enum` or `const`), or an empty list."""
    sub = parameters.properties.get(name) if parameters is not None else None
    listed = sub.get("enum") if isinstance(sub, dict) else None
    return listed if isinstance(listed, list) else []


def _takes_bodies(sub: Any) -> bool:
    """Return True if the type of a parameter allows an object or a list."""
    types = sub.get("type") if isinstance(sub, dict) else None
    return types is None or not {"object", "array"}.isdisjoint([types] if isinstance(types, str) else types)


def _takes_lists(sub: Any) -> bool:
    if not isinstance(sub, dict) or "type" not in sub:
        return isinstance(sub, (dict, bool))
    types = sub["type"] if isinstance(sub["type"], list) else [sub["type"]]
    return "array" in types


def _short(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= 80 else flat[:77] + "..."
