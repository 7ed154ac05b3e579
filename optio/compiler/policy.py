"""Read `_policy.yaml` at the top of the tree, and check each task against it. The check applies to the final task, after
templates and defaults, so no file can opt out."""

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from optio.compiler import spending
from optio.compiler.checks.namespaces import pattern_of
from optio.compiler.conversions.quantities import number_in, suggest_amount, suggest_duration, unit_hint
from optio.compiler.diagnostics import Diagnostic, diagnostic
from optio.compiler.facts import SpendCap, TaskFacts, ValuePlace
from optio.compiler.json_schema_texts import EXAMPLES
from optio.compiler.layers import POLICY
from optio.compiler.resolved_task import ResolvedTask
from optio.compiler.suggest import suggest
from optio.compiler.validation import LIST, WHOLE, ValidationIssue, find_issues
from optio.compiler.yaml.document import Document
from optio.compiler.yaml.emit import flow
from optio.model import runtimes
from optio.model.isolation import ISOLATED, POD, requested_keys
from optio.model.policy import EFFECTS, Allow, Ceilings, Fleet, PolicySpec
from optio.model.route import Route, show
from optio.model.spec import Spec, keys_of, names_of
from optio.model.task import TaskSpec
from optio.model.text import parse_duration, parse_money, slug

if TYPE_CHECKING:
    from optio.model.connection import Connection

_MAX_NAMESPACE = 63
_FORMS: dict[str, list[Any]] = {
    "ceilings": [{"budgetUsd": "5.00"}],
    "fleet": [{"monthUsd": "1000.00"}],
    "allow": [{"models": ["sonnet"]}],
    "rules": [{"OPT601": "error"}],
}


# Keys of other systems, in lower case, with what to do.
_FOREIGN = {
    **dict.fromkeys(
        ("maxtokens", "max_tokens", "tokens", "tokenlimit"),
        "no ceiling bounds tokens: `budgetUsd` and `maxTurns` do; delete it",
    ),
    **dict.fromkeys(
        ("deny", "denied", "block", "blocked", "forbid"), "what `allow` does not list is refused anyway: delete it"
    ),
    **dict.fromkeys(("limits", "limit", "max", "maximum", "maximums", "caps", "quota", "quotas"), "write `ceilings:`"),
}
# Names of others for the most that a run may cost.
_COSTS = frozenset({"costusd", "cost", "maxcost", "maxcostusd", "maxbudget", "budget", "usd", "maxusd", "spendusd"})
_SEVERE = ("high", "critical", "severe", "error", "errors", "major", "blocker", "fatal")
_MILD = ("medium", "moderate", "low", "minor", "warning", "warnings", "warn", "any", "all")
_ALLOWED = {
    **dict.fromkeys(("hosts", "host", "domains", "network", "networks", "urls", "outbound"), "egress"),
    **dict.fromkeys(("agents", "agent", "engines", "agentruntimes"), "runtimes"),
    **dict.fromkeys(("services", "servers", "mcp", "mcpservers"), "connections"),
    **dict.fromkeys(("registries", "registry", "containers"), "images"),
}
_PARTS: dict[str, type[Spec]] = {"ceilings": Ceilings, "fleet": Fleet, "allow": Allow}


def read_policy(document: Document) -> tuple[PolicySpec | None, list[Diagnostic]]:
    """Return the policy and the findings about it; the policy is None if it cannot be decoded."""
    try:
        spec = PolicySpec.of(document.value)
    except ValueError:
        spec = None
    if spec is None or not all(runtimes.is_known(name) for name in spec.allow.runtimes or ()):
        return None, [_wrong(document, misfit) for misfit in find_issues(document.value, PolicySpec)]
    findings = [*_effects(document, spec), *_rules(document, spec)]
    return (None if findings else spec), [*findings, *_never_reached(document, spec)]


def _never_reached(document: Document, spec: PolicySpec) -> Iterator[Diagnostic]:
    """Report a limit above one of a longer time or of more tasks, which is reached first."""
    limits: dict[Route, str | None] = {
        ("ceilings", "budgetUsd"): spec.ceilings.budget_usd,
        ("ceilings", "dayUsd"): spec.ceilings.day_usd,
        ("ceilings", "monthUsd"): spec.ceilings.month_usd,
        ("fleet", "dayUsd"): spec.fleet.day_usd,
        ("fleet", "monthUsd"): spec.fleet.month_usd,
    }
    money = {route: parse_money(text) for route, text in limits.items() if text is not None}
    for low, high in (
        (("ceilings", "budgetUsd"), ("ceilings", "dayUsd")),
        (("ceilings", "dayUsd"), ("ceilings", "monthUsd")),
        (("fleet", "dayUsd"), ("fleet", "monthUsd")),
        (("ceilings", "dayUsd"), ("fleet", "dayUsd")),
        (("ceilings", "monthUsd"), ("fleet", "monthUsd")),
    ):
        if low in money and high in money and money[low] > money[high]:
            message = f"`{show(low)}` of {limits[low]} has no effect: `{show(high)}` of {limits[high]} is reached first"
            hint = f"write less than {limits[high]}, or more for `{show(high)}`"
            if low[0] == high[0]:
                hint += f'; if the two were exchanged, write `{low[-1]}: "{limits[high]}"` and `{high[-1]}: "{limits[low]}"`'
            yield diagnostic("OPT615", message, path=document.path, span=document.span(low), route=low, hint=hint)


def _wrong(document: Document, issue: ValidationIssue) -> Diagnostic:
    route = issue.route
    span = document.key_span(route) if issue.kind == "unknown" else document.span(route)
    message = f"`{show(route)}` cannot be read" if route else "a policy is a mapping"
    if issue.kind == "missing":
        message, hint = f"`{show(route)}` is missing", "add `type: policy`"
    elif issue.kind == "unknown":
        message, hint = f"unknown key `{show(route)}`", _hint_for_unknown_key(route)
    elif issue.kind == "word":
        hint = _hint_for_word(issue)
    elif route[:1] == ("namespaces",) and issue.kind == "blank":
        message, hint = "a pattern of `namespaces` is blank", "write a path below the task directory, such as `team-a/*`"
    elif route[:1] == ("namespaces",) and issue.kind == "pattern":
        message = f"`{issue.value}` is not a Kubernetes namespace"
        suggestion = slug(str(issue.value))
        hint = "write up to 63 lower-case letters, digits and `-`, with a letter or digit at both ends"
        hint = f"write `{suggestion}`" if 0 < len(suggestion) <= _MAX_NAMESPACE else hint
    else:
        hint = _hint_for_value(issue)
    return diagnostic("OPT121", message, path=document.path, span=span, route=route, hint=hint)


def _hint_for_word(issue: ValidationIssue) -> str:
    """Return the cure for a word that is none of the allowed ones."""
    value, allowed_text = str(issue.value), f"allowed: {', '.join(issue.wanted)}"
    if issue.route[0] == "require" and value in names_of(Ceilings):
        limit = '"5.00"' if value.endswith("Usd") else 3
        return f"delete it here, and write `ceilings: {{{value}: {limit}}}`, which every task must then set; {allowed_text}"
    suggestion = suggest(value, issue.wanted)
    return f"did you mean `{suggestion}`? {allowed_text}" if suggestion else allowed_text


def _hint_for_unknown_key(route: Route) -> str:
    """Return the cure for an unknown key: another system's key, the mapping that it belongs to, or a similar key."""
    key = str(route[-1])
    parts = [f"`{name}:`" for name, model in _PARTS.items() if len(route) == 1 and key in names_of(model)]
    if parts:
        return f"write it below {' or '.join(parts)}"
    if (advice := _FOREIGN.get(key.lower())) is not None:
        return advice
    known_names = _keys(route[:-1])
    suggestion = suggest(key, known_names)
    if route[0] == "allow":
        suggestion = suggestion or _ALLOWED.get(key.lower())
    if route[0] == "ceilings" and key.lower().replace("_", "") in _COSTS:
        suggestion = "budgetUsd"
    if suggestion is not None:
        return f"did you mean `{suggestion}`?"
    return f"no key here means the same; allowed: {', '.join(known_names)}: write one of these, or delete it"


def _hint_for_value(issue: ValidationIssue) -> str:
    """Return the cure for a value of a wrong type, or for an amount or a duration in another notation."""
    route, value = issue.route, issue.value
    last = str(route[-1]) if route else ""
    if last.endswith("Usd"):
        suggestion = suggest_amount(str(value))
        return f'write the amount as text{"" if suggestion else ", such as"} "{suggestion or "5.00"}"'
    if issue.kind == "type" and issue.wanted == LIST and isinstance(value, str):
        return f"write a list: [{value}]"
    if last in ("timeout", "keepFailed") and type(value) is int:
        return unit_hint(value)
    if issue.kind == "type":
        return _form(issue)
    if last == "timeout":
        suggestion = suggest_duration(str(value))
        return f"write `{suggestion}`" if suggestion else "write hours, minutes and seconds: `90s`, `20m` or `1h30m`"
    return "see `optio explain OPT121`"


def _form(misfit: ValidationIssue) -> str:
    """Return the hint for a value of a wrong type: the number that a text holds, or an example of the key."""
    route, number = misfit.route, number_in(str(misfit.value))
    if misfit.wanted == WHOLE and number is not None and number == int(number):
        return f"write {int(number)}"
    if not route:
        return "write keys and values, beginning with `type: policy`"
    model = "PolicySpec" if len(route) == 1 else str(route[0]).capitalize()
    examples = EXAMPLES.get(model, {}).get(str(route[-1]), _FORMS.get(str(route[0]), []) if len(route) == 1 else [])
    if route[:1] == ("namespaces",) and len(route) == 2:
        return f"write {misfit.wanted}, such as `{route[-1]}: runs-a`"
    return f"write {misfit.wanted}" + (f", such as `{route[-1]}: {flow(examples[0])}`" if examples else "")


def _keys(route: Route) -> list[str]:
    model = PolicySpec if not route else _PARTS.get(str(route[0])) if len(route) == 1 else None
    return [] if model is None else names_of(model)


def _effects(document: Document, spec: PolicySpec) -> Iterator[Diagnostic]:
    for index, name in enumerate(spec.fail_on):
        if name not in EFFECTS:
            route, suggestion = ("failOn", index), suggest(name, EFFECTS)
            suggestion = suggestion or ("danger" if name.lower() in _SEVERE else "notice" if name.lower() in _MILD else None)
            hint = (
                f"did you mean `{suggestion}`?"
                if suggestion
                else "write `danger`, `notice` or one that `optio plan --kinds` lists"
            )
            message = f"unknown effect `{name}`"
            yield diagnostic("OPT121", message, path=document.path, span=document.span(route), route=route, hint=hint)


def _rules(document: Document, spec: PolicySpec) -> Iterator[Diagnostic]:
    from optio.compiler.rules.codes import RETIRED, RULES, suggest_code

    for code, level in spec.rules.items():
        route = ("rules", code)
        if code in RETIRED:
            continue
        if code not in RULES:
            sure, near = suggest_code(code)
            hint = f"write `{sure}`" if sure else f"did you mean `{near}`?" if near else "`optio explain` lists all"
            message, key = f"unknown rule `{code}`", True
        elif RULES[code].severity == "error" and level != "error":
            message, key, hint = f"{code} is an error, and its severity cannot be changed", False, "delete the line"
        else:
            continue
        span = document.key_span(route) if key else document.span(route)
        yield diagnostic("OPT121", message, path=document.path, span=span, route=route, hint=hint)


def facts_of_policy(document: Document, policy: PolicySpec) -> TaskFacts | None:
    """Return the facts that the policy adds to the checks across files (spending caps, namespaces), or None."""
    caps = [
        None if cap is None else SpendCap(cap, ValuePlace(("fleet", key), document.span(("fleet", key))))
        for key, cap in (("dayUsd", policy.fleet.day_usd), ("monthUsd", policy.fleet.month_usd))
    ]
    routes: list[Route] = [("namespaces", pattern) for pattern in policy.namespaces]
    namespaces = tuple(ValuePlace(route, document.key_span(route)) for route in routes)
    return TaskFacts(POLICY, "", None, caps=(caps[0], caps[1]), namespaces=namespaces) if any(caps) or namespaces else None


def demands(task: ResolvedTask, policy: PolicySpec) -> tuple[str, ...]:
    """Return what an executor must apply to run the task: pods and isolation if the tree requires them, and images and hosts
    if the policy lists those."""
    limits = {"image": policy.allow.images, "network": policy.allow.egress}
    keys = [key for key in requested_keys(task.spec.environment) if limits.get(key) is not None]
    demanded = ((POD, policy.executor == "kubernetes"), (ISOLATED, policy.sandbox == "isolated"))
    return (*(name for name, holds in demanded if holds), *keys)


def namespace(path: str, policy: PolicySpec) -> str | None:
    """Return the namespace of the task in this file, by the first pattern that matches, or None."""
    pattern = pattern_of(path, policy.namespaces)
    return None if pattern is None else policy.namespaces[pattern]


def check(task: ResolvedTask, policy: PolicySpec) -> Iterator[Diagnostic]:
    """Report everything in a resolved task that the policy does not allow, each at the value concerned."""
    findings = [*_ceilings(task, policy.ceilings), *spending.check(task, policy.ceilings), *_allowed(task, policy.allow)]
    if policy.budget == "enforce" and task.spec.budget == "report":
        hint = f"delete it, and name a model whose price is known; or ask the owner of `{POLICY}`"
        findings.append(task.at("OPT519", "the policy does not allow `budget: report`", ("budget",), hint=hint))
    reported_routes = {finding.route for finding in findings}
    # A key with a ceiling is required anyway, so it is reported once.
    for finding in (*findings, *(finding for finding in _required(task, policy) if finding.route not in reported_routes)):
        if task.is_known(finding.route):
            yield finding


def _ceilings(task: ResolvedTask, ceilings: Ceilings) -> Iterator[Diagnostic]:
    """Report values above the ceilings for single keys; spending per day and month is checked in `spending`."""
    reads: dict[str, Any] = {"budget_usd": parse_money, "timeout": parse_duration}
    most_kept, keep_failed = ceilings.keep_failed, task.spec.environment.keep_failed
    if most_kept is not None and keep_failed is not None and parse_duration(keep_failed) > parse_duration(most_kept):
        message = f"`environment.keepFailed` is {keep_failed}, but the policy allows at most {most_kept}"
        hint = f"write {most_kept} or less, or ask the owner of `{POLICY}`"
        yield task.at("OPT613", message, ("environment", "keepFailed"), hint=hint)
    task_keys = {key.name for key in keys_of(TaskSpec)}
    for key, name in ((ceiling_key.written, ceiling_key.name) for ceiling_key in keys_of(Ceilings)):
        ceiling, requested = getattr(ceilings, name), getattr(task.spec, name, None)
        if (
            ceiling is None
            or name not in task_keys
            or (name in ("budget_usd", "max_turns") and task.spec.agent_runtime == "command")
        ):
            continue
        parse_value = reads.get(name, int)
        if requested is None:
            message, entry = (
                f"no `{key}`: the policy allows at most {ceiling}",
                f'{key}: "{ceiling}"' if parse_value is parse_money else f"{key}: {ceiling}",
            )
            hint = f"add `{entry}`"
            if task.document.plain((key,)):  # `null`, which removes what is inherited
                hint = f"delete this line for what the template or the defaults say, or write `{entry}`"
            yield task.at("OPT613", message, (key,), key=True, hint=hint)
        elif parse_value(requested) > parse_value(ceiling):
            message = f"`{key}` is {requested}, but the policy allows at most {ceiling}"
            shown_text = f'"{ceiling}"' if parse_value is parse_money else ceiling
            yield task.at("OPT613", message, (key,), hint=f"write {shown_text} or less, or ask the owner of `{POLICY}`")


def _allowed(task: ResolvedTask, allow: Allow) -> Iterator[Diagnostic]:
    spec, environment = task.spec, task.spec.environment
    if allow.runtimes is not None and spec.agent_runtime not in allow.runtimes:
        yield _refused(task, ("agentRuntime",), spec.agent_runtime, allow.runtimes)
    if allow.models is not None and spec.agent_runtime != "command":
        if spec.model is None:
            hint = f"add `model:`; allowed: {', '.join(allow.models)}"
            yield task.at("OPT519", "no `model`, but the policy allows only some", ("model",), key=True, hint=hint)
        else:
            yield from _refusals(task, ("model",), [spec.model], allow.models)
    if environment.image is not None:
        yield from _refusals(task, ("environment", "image"), [environment.image], allow.images)
    if environment.network is not None:
        yield from _refusals(task, ("environment", "network", "egress"), environment.network.egress, allow.egress)
    elif allow.egress is not None:
        yield _no_hosts(task, allow.egress)
    yield from _refusals(task, ("environment", "secrets"), environment.secrets, allow.secrets)
    for connection in task.connections:
        yield from _refused_connection(task, connection, allow)


def _refused_connection(task: ResolvedTask, connection: "Connection", allow: Allow) -> Iterator[Diagnostic]:
    """Report what a connection opens and the policy does not allow, where the task names the connection."""
    from optio.compiler.checks.connections import route_of  # imported only for a task with connections
    from optio.model.connection import ModelConnection

    route, name = route_of(task, connection), connection.id
    models = connection.spec.models if isinstance(connection.spec, ModelConnection) else []
    demands: list[tuple[str, Sequence[str], Sequence[str] | None]] = [
        ("`{}`", [name], allow.connections),
        ("the tool `{}`", [f"{name}/{tool}" for tool in connection.tools], allow.tools),
        (f"the host `{{}}` of the connection `{name}`", [] if connection.egress is None else [connection.egress], allow.egress),
        (f"the secret `{{}}` of the connection `{name}`", connection.secrets, allow.secrets),
        (f"the model `{{}}` of the connection `{name}`", models, allow.models),
    ]
    for text, requested, allowed_values in demands:
        for value in requested if allowed_values is not None else ():
            if not _fits(value, allowed_values or ()):
                hint = f"allowed: {', '.join(allowed_values or ()) or 'none'}; or ask the owner of `{POLICY}`"
                yield task.at("OPT519", f"the policy does not allow {text.format(value)}", route, hint=hint)
    if connection.url is None and allow.egress is not None and allow.connections is None:
        message = f"`{name}` is a program, whose hosts are not known, but the policy allows only some"
        yield task.at("OPT519", message, route, hint=f"ask the owner of `{POLICY}` to name it in `allow.connections`")
    if isinstance(connection.spec, ModelConnection) and allow.models is not None and not models:
        message = f"`{name}` allows any model, but the policy only some"
        hint = f"write `models:` into its file; allowed: {', '.join(allow.models)}"
        yield task.at("OPT519", message, route, hint=hint)


def _refusals(
    task: ResolvedTask, route: Route, requested: Sequence[str], allowed_values: Sequence[str] | None
) -> Iterator[Diagnostic]:
    """Report each value, or item of a list, at the route that no pattern of the policy allows."""
    is_list = route[-1] in ("egress", "secrets")
    for index, name in enumerate(requested if allowed_values is not None else ()):
        if not _fits(name, allowed_values or ()):
            yield _refused(task, (*route, index) if is_list else route, name, allowed_values or ())


def _no_hosts(task: ResolvedTask, allowed_hosts: Sequence[str]) -> Diagnostic:
    hosts = flow([host for host in allowed_hosts if "*" not in host] or allowed_hosts)
    inner = f"network: {{egress: {hosts}}}"
    write = f"`{inner}` below `environment`" if "environment" in task.document.value else f"`environment: {{{inner}}}`"
    hint = f"add {write}, with the hosts that it needs; allowed: {', '.join(allowed_hosts)}"
    message = "no list of hosts, but the policy allows only some"
    return task.at("OPT519", message, ("environment", "network"), key=True, hint=hint)


def _refused(task: ResolvedTask, route: Route, requested: str, allowed_values: Sequence[str]) -> Diagnostic:
    message = f"the policy does not allow `{requested}`"
    bare = requested.removesuffix(":443")
    if bare != requested and _fits(bare, allowed_values):
        return task.at("OPT519", message, route, hint=f"write `{bare}`, which means port 443", value=bare)
    hint = f"allowed: {', '.join(allowed_values) or 'none'}; or ask the owner of `{POLICY}`"
    if route == ("model",) and requested.isalpha() and any("*" in pattern for pattern in allowed_values):
        hint = f"write the whole name of the model, because aliases are compared as they stand; {hint}"
    return task.at("OPT519", message, route, hint=hint)


def _fits(text: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(text, pattern) for pattern in patterns)


def _required(task: ResolvedTask, policy: PolicySpec) -> Iterator[Diagnostic]:
    names = {key.written: key.name for key in keys_of(TaskSpec)}
    for key in policy.require:
        if not getattr(task.spec, names[key]):
            hint = f"write a value for `{key}`"
            if task.document.plain((key,)) is None:
                from optio.compiler.conversions.entries import as_entry  # imported only for a file with a mistake

                hint = f"add `{as_entry(task.document.value, (key,), task.path)}`, with your own value"
                if key == "description" and task.spec.extends is not None:
                    hint += ": that of a template is about the template, and is not inherited"
            yield task.at("OPT713", f"the policy requires `{key}`", (key,), key=True, hint=hint)
