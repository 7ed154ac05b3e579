"""Check webhooks: the path, the proof of the sender, the filter, and the mapping of the payload to parameters."""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from optio.compiler.checks.mapped_names import compare_names, report_unknown
from optio.compiler.diagnostics import Diagnostic
from optio.compiler.param_schema.declared import DeclaredParameters, declared_parameters, declared_types
from optio.compiler.payloads import query_fast_path
from optio.compiler.resolved_task import ResolvedTask
from optio.compiler.yaml.emit import flow
from optio.model.route import Route
from optio.model.trigger import WebhookConfig, WebhookTrigger

if TYPE_CHECKING:  # the library of paths is loaded for a path that is not plain
    from optio.model.mapping import PathSyntax

MAX_PATH_LENGTH = 64
_MAX_NAMES = 5
RESERVED_PATHS = frozenset({"health", "sync"})
_PATH = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
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
                yield from _event_path(task, (*route, "eventPath"), trigger.config.event_path)
            parameters = declared_parameters(task)
            if trigger.config.param_mapping is not None:
                yield from _mapping(task, (*route, "paramMapping"), trigger.config, parameters)
            elif parameters is not None and parameters.properties and task.is_known((*route, "paramMapping")):
                if any(sample.verdict == "accepted" for sample in task.samples):
                    continue  # a payload of the tests shows that the body is meant, and `samples` reports one that does not fit
                names = parameters.missing({}) or list(parameters.properties)[:1]
                paths = ", ".join(f"{name}: $.path.in.the.body" for name in names[:_MAX_NAMES])
                hint = f"add `paramMapping: {{{paths}}}`"
                yield task.at("OPT417", "the whole body becomes the parameters", route, key=True, hint=hint)


def _path(task: ResolvedTask, route: Route, path: str) -> Iterator[Diagnostic]:
    better = re.sub(r"[^a-z0-9]+", "-", re.sub(_ADDRESS, "", path).lower()).strip("-")[:MAX_PATH_LENGTH]
    if path in RESERVED_PATHS:
        yield task.at("OPT401", f"the path `{path}` is reserved", route, hint=f"write another one, such as `{path}-webhook`")
    elif len(path) > MAX_PATH_LENGTH:
        message = f"the path has {len(path)} characters, more than {MAX_PATH_LENGTH}"
        yield task.at("OPT401", message, route, hint=f"write `{better}`", value=better, safe=False)
    elif _PATH.fullmatch(path):
        return
    elif re.search(_PROOF_IN_URL, path):
        hint = "write the path alone, and sign deliveries: `secret: {name: NAME}`"
        yield task.at("OPT421", "the path carries a secret or a query", route, hint=hint)
    else:
        message = f"the path `{path}` has other characters than a-z, 0-9 and single dashes"
        yield task.at(
            "OPT401", message, route, hint=f"write `{better or task.id or 'my-path'}`", value=better or None, safe=False
        )


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

        better, event = suggest_filter(text, scheme), suggest_event(text)
        hint, fix = "a filter looks like `@.action == 'opened' && @.repository.private == false`", None
        if event is not None:
            hint = f"the event's name is in a header, which a filter does not see: write `events: [{event}]`"
        elif better is not None:
            styled = task.document.restyled(route, better)
            hint = f"write `{better if task.document.plain(route) is None else styled}`"
            fix = task.document.rewritten(route, styled, safe=False)
        span = task.document.inside(route, err.index, err.index + 1)
        message = f"the filter `{_short(text)}`: {explain_query_error(text, err)}"
        yield task.at("OPT407", message, route, span=span, hint=hint, fix=fix)


def _event_path(task: ResolvedTask, route: Route, source: str) -> Iterator[Diagnostic]:
    faults = list(_source(task, route, source, None))
    yield from faults
    if faults or query_fast_path.is_path(source):
        return
    from optio.model.mapping import compile_path

    if not compile_path(source).singular:
        message = f"`{_short(source)}` gives a list, but an event has one name"
        yield task.at("OPT408", message, route, hint="name one value, with `[0]` for the first of a list")


def _mapping(
    task: ResolvedTask, route: Route, config: WebhookConfig, parameters: DeclaredParameters | None
) -> Iterator[Diagnostic]:
    mapping = config.param_mapping or {}
    for name, source in mapping.items():
        if not (isinstance(source, str) and query_fast_path.is_path(source)) or source == "$":
            yield from _source(task, (*route, name), source, parameters)
    if parameters is None:
        return
    names = compare_names(task, parameters, mapping)
    yield from report_unknown(task, "OPT411", route, mapping, names)
    for name in names.absent:
        hint = f"add `{name}:` with its path in the body, such as `$.path`, or give `{name}` a `default`"
        yield task.at("OPT410", f"the webhook gives no value for `{name}`", (*route, name), key=True, hint=hint)


def _source(task: ResolvedTask, route: Route, source: Any, parameters: DeclaredParameters | None) -> Iterator[Diagnostic]:
    """Report what a parameter, or the event, is mapped to. Without `parameters` only the form counts."""
    name = str(route[-1])
    types = declared_types(parameters.properties.get(name)) if parameters is not None else None
    if isinstance(source, dict) and set(source) == {"literal"}:
        return
    if not isinstance(source, str):
        is_constant = isinstance(source, (bool, int, float))
        hint = f"write `{{literal: {flow(source)}}}`" if is_constant else "write a JSONPath such as `$.repository.name`"
        yield task.at("OPT409", f"`{name}` is not mapped to a JSONPath", route, hint=hint)
    elif not source.startswith("$"):
        yield _without_root(task, route, source)
    elif source == "$" and types is not None and {"object", "array"}.isdisjoint(types):
        message = f"`$` is the whole body, but `{name}` takes a single value: every delivery would be refused"
        yield task.at("OPT412", message, route, hint="map a field of it, such as `$.repository.name`")
    elif not query_fast_path.is_path(source):
        from optio.model.mapping import PathSyntax, compile_path

        try:
            path = compile_path(source)
        except PathSyntax as err:
            yield _bad_query(task, route, source, err)
            return
        if not path.singular and types is not None and "array" not in types:
            message = f"`{_short(source)}` gives a list, and `{name}` takes one value"
            first = re.sub(r"\[\*\]|\.\*|\[\?.*\]|\[-?\d*:-?\d*(?::\d*)?\]", "[0]", source)
            example = f", such as `{_short(first)}`" if query_fast_path.is_path(first) else ""
            hint = f"name one value{example}, or write `{name}: {{type: array}}` under `paramsSchema.properties`"
            yield task.at("OPT408", message, route, hint=hint)


def _without_root(task: ResolvedTask, route: Route, source: str) -> Diagnostic:
    from optio.compiler.payloads.queries import suggest_query_path

    rooted = suggest_query_path(source)
    hint = f"write `{_short(rooted or '$.path.in.the.body')}` for a path, `{{literal: {_short(flow(source))}}}` for the text"
    write = rooted if rooted is not None and ("." in source or source.endswith("]")) else None
    return task.at("OPT409", f"`{_short(source)}` does not begin with `$`", route, hint=hint, value=write, safe=False)


def _bad_query(task: ResolvedTask, route: Route, source: str, err: "PathSyntax") -> Diagnostic:
    from optio.compiler.payloads.queries import explain_query_error, suggest_query_path

    better = suggest_query_path(source)
    hint = f"write `{better}`" if better is not None else "paths follow RFC 9535: `$.a.b`, `$.list[0]`, `$['odd name']`"
    fix = None if better is None else task.document.rewritten(route, task.document.restyled(route, better), safe=False)
    span = task.document.inside(route, err.index, err.index + 1)
    return task.at("OPT407", f"`{_short(source)}`: {explain_query_error(source, err)}", route, span=span, hint=hint, fix=fix)


def _short(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= 80 else flat[:77] + "..."
