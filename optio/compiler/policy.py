"""Read `_policy.yaml` at the top of the tree, and check each task against it. The check applies to the final task, after
templates and defaults, so no file can opt out."""

import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Any

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
    **dict.fromkeys(("agents", "agent", "engines", "agentruntimes", "tools"), "runtimes"),
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
    found = [*_effects(document, spec), *_rules(document, spec)]
    return (None if found else spec), [*found, *_never_reached(document, spec)]


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


def _word(misfit: ValidationIssue) -> str:
    """Return the cure for a word that is none of the allowed ones."""
    value, allowed = str(misfit.value), f"allowed: {', '.join(misfit.wanted)}"
    if misfit.route[0] == "require" and value in names_of(Ceilings):
        limit = '"5.00"' if value.endswith("Usd") else 3
        return f"delete it here, and write `ceilings: {{{value}: {limit}}}`, which every task must then set; {allowed}"
    suggestion = suggest(value, misfit.wanted)
    return f"did you mean `{suggestion}`? {allowed}" if suggestion else allowed


def _wrong(document: Document, misfit: ValidationIssue) -> Diagnostic:
    route, name = misfit.route, show(misfit.route)
    span = document.key_span(route) if misfit.kind == "unknown" else document.span(route)
    message, hint = f"`{name}` cannot be read" if route else "a policy is a mapping", "see `optio explain OPT121`"
    if misfit.kind == "missing":
        message, hint = f"`{name}` is missing", "add `type: policy`"
    elif misfit.kind == "unknown":
        known = _keys(route[:-1])
        below = [name for name, model in _PARTS.items() if len(route) == 1 and route[0] in names_of(model)]
        advice = _FOREIGN.get(str(route[-1]).lower())
        suggestion = None if below or advice else suggest(str(route[-1]), known)
        if route[0] == "allow":
            suggestion = suggestion or _ALLOWED.get(str(route[-1]).lower())
        if route[0] == "ceilings" and str(route[-1]).lower().replace("_", "") in _COSTS:
            suggestion = "budgetUsd"
        hint = (
            f"did you mean `{suggestion}`?"
            if suggestion
            else f"no key here means the same; allowed: {', '.join(known)}: write one"
        )
        message, hint = f"unknown key `{name}`", hint if suggestion else f"{hint} of these, or delete it"
        hint = f"write it below {' or '.join(f'`{each}:`' for each in below)}" if below else advice or hint
    elif misfit.kind == "word":
        hint = _word(misfit)
    elif route and str(route[-1]).endswith("Usd"):
        suggestion = suggest_amount(str(misfit.value))
        hint = f'write the amount as text{"" if suggestion else ", such as"} "{suggestion or "5.00"}"'
    elif misfit.kind == "type" and misfit.wanted == LIST and isinstance(misfit.value, str):
        hint = f"write a list: [{misfit.value}]"
    elif route[-1:] in (("timeout",), ("keepFailed",)) and type(misfit.value) is int:
        hint = unit_hint(misfit.value)
    elif misfit.kind == "type":
        hint = _form(misfit)
    elif route[:1] == ("namespaces",) and misfit.kind == "blank":
        message, hint = "a pattern of `namespaces` is blank", "write a path below the task directory, such as `team-a/*`"
    elif route[:1] == ("namespaces",) and misfit.kind == "pattern":
        message = f"`{misfit.value}` is not a Kubernetes namespace"
        hint = "write up to 63 lower-case letters, digits and `-`, with a letter or digit at both ends"
        hint = f"write `{suggestion}`" if 0 < len(suggestion := slug(str(misfit.value))) <= _MAX_NAMESPACE else hint
    elif route[-1:] == ("timeout",):
        suggestion = suggest_duration(str(misfit.value))
        hint = f"write `{suggestion}`" if suggestion else "write hours, minutes and seconds: `90s`, `20m` or `1h30m`"
    return diagnostic("OPT121", message, path=document.path, span=span, route=route, hint=hint)


def _form(misfit: ValidationIssue) -> str:
    """Return the hint for a value of a wrong type: the number that a text holds, or an example of the key."""
    route, number = misfit.route, number_in(str(misfit.value))
    if misfit.wanted == WHOLE and number is not None and number == int(number):
        return f"write {int(number)}"
    if not route:
        return "write keys and values, beginning with `type: policy`"
    model = "PolicySpec" if len(route) == 1 else str(route[0]).capitalize()
    shown = EXAMPLES.get(model, {}).get(str(route[-1]), _FORMS.get(str(route[0]), []) if len(route) == 1 else [])
    if route[:1] == ("namespaces",) and len(route) == 2:
        return f"write {misfit.wanted}, such as `{route[-1]}: runs-a`"
    return f"write {misfit.wanted}" + (f", such as `{route[-1]}: {flow(shown[0])}`" if shown else "")


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
        None if most is None else SpendCap(most, ValuePlace(("fleet", key), document.span(("fleet", key))))
        for key, most in (("dayUsd", policy.fleet.day_usd), ("monthUsd", policy.fleet.month_usd))
    ]
    routes: list[Route] = [("namespaces", pattern) for pattern in policy.namespaces]
    namespaces = tuple(ValuePlace(route, document.key_span(route)) for route in routes)
    return TaskFacts(POLICY, "", None, caps=(caps[0], caps[1]), namespaces=namespaces) if any(caps) or namespaces else None


def demands(task: ResolvedTask, policy: PolicySpec) -> tuple[str, ...]:
    """Return what an executor must apply to run the task: pods and isolation if the tree requires them, and images and hosts
    if the policy lists those."""
    listed = {"image": policy.allow.images, "network": policy.allow.egress}
    named = [key for key in requested_keys(task.spec.environment) if listed.get(key) is not None]
    demanded = ((POD, policy.executor == "kubernetes"), (ISOLATED, policy.sandbox == "isolated"))
    return (*(name for name, holds in demanded if holds), *named)


def namespace(path: str, policy: PolicySpec) -> str | None:
    """Return the namespace of the task in this file, by the first pattern that matches, or None."""
    found = pattern_of(path, policy.namespaces)
    return None if found is None else policy.namespaces[found]


def check(task: ResolvedTask, policy: PolicySpec) -> Iterator[Diagnostic]:
    """Report everything in a resolved task that the policy does not allow, each at the value concerned."""
    found = [*_ceilings(task, policy.ceilings), *spending.check(task, policy.ceilings), *_allowed(task, policy.allow)]
    if policy.budget == "enforce" and task.spec.budget == "report":
        hint = f"delete it, and name a model whose price is known; or ask the owner of `{POLICY}`"
        found.append(task.at("OPT519", "the policy does not allow `budget: report`", ("budget",), hint=hint))
    told = {finding.route for finding in found}
    # A key with a ceiling is required anyway, so it is reported once.
    for finding in (*found, *(finding for finding in _required(task, policy) if finding.route not in told)):
        if task.is_known(finding.route):
            yield finding


def _ceilings(task: ResolvedTask, ceilings: Ceilings) -> Iterator[Diagnostic]:
    """Report values above the ceilings for single keys; spending per day and month is checked in `spending`."""
    reads: dict[str, Any] = {"budget_usd": parse_money, "timeout": parse_duration}
    most_kept, kept = ceilings.keep_failed, task.spec.environment.keep_failed
    if most_kept is not None and kept is not None and parse_duration(kept) > parse_duration(most_kept):
        message = f"`environment.keepFailed` is {kept}, but the policy allows at most {most_kept}"
        hint = f"write {most_kept} or less, or ask the owner of `{POLICY}`"
        yield task.at("OPT613", message, ("environment", "keepFailed"), hint=hint)
    own = {key.name for key in keys_of(TaskSpec)}
    for key, name in ((each.written, each.name) for each in keys_of(Ceilings)):
        most, asked = getattr(ceilings, name), getattr(task.spec, name, None)
        if most is None or name not in own or (name in ("budget_usd", "max_turns") and task.spec.agent_runtime == "command"):
            continue
        read = reads.get(name, int)
        if asked is None:
            message, entry = (
                f"no `{key}`: the policy allows at most {most}",
                f'{key}: "{most}"' if read is parse_money else f"{key}: {most}",
            )
            hint = f"add `{entry}`"
            if task.document.plain((key,)):  # `null`, which removes what is inherited
                hint = f"delete this line for what the template or the defaults say, or write `{entry}`"
            yield task.at("OPT613", message, (key,), key=True, hint=hint)
        elif read(asked) > read(most):
            message = f"`{key}` is {asked}, but the policy allows at most {most}"
            shown_text = f'"{most}"' if read is parse_money else most
            yield task.at("OPT613", message, (key,), hint=f"write {shown_text} or less, or ask the owner of `{POLICY}`")


def _allowed(task: ResolvedTask, allow: Allow) -> Iterator[Diagnostic]:
    spec, environment = task.spec, task.spec.environment
    if allow.runtimes is not None and spec.agent_runtime not in allow.runtimes:
        yield _refused(task, ("agentRuntime",), spec.agent_runtime, allow.runtimes)
    if allow.models is not None and spec.agent_runtime != "command":
        if spec.model is None:
            hint = f"add `model:`; allowed: {', '.join(allow.models)}"
            yield task.at("OPT519", "no `model`, but the policy allows only some", ("model",), key=True, hint=hint)
        elif not _fits(spec.model, allow.models):
            yield _refused(task, ("model",), spec.model, allow.models)
    if allow.images is not None and environment.image is not None and not _fits(environment.image, allow.images):
        yield _refused(task, ("environment", "image"), environment.image, allow.images)
    if allow.egress is not None:
        route: Route = ("environment", "network", "egress")
        if environment.network is None:
            hosts = flow([each for each in allow.egress if "*" not in each] or allow.egress)
            inner = f"network: {{egress: {hosts}}}"
            write = f"`{inner}` below `environment`" if "environment" in task.document.value else f"`environment: {{{inner}}}`"
            hint = f"add {write}, with the hosts that it needs; allowed: {', '.join(allow.egress)}"
            yield task.at("OPT519", "no list of hosts, but the policy allows only some", route[:2], key=True, hint=hint)
        for index, host in enumerate(environment.network.egress if environment.network is not None else ()):
            if not _fits(host, allow.egress):
                yield _refused(task, (*route, index), host, allow.egress)
    for index, name in enumerate(environment.secrets if allow.secrets is not None else ()):
        if not _fits(name, allow.secrets or ()):
            yield _refused(task, ("environment", "secrets", index), name, allow.secrets or (), _named_secret(task, name, allow))


def _named_secret(task: ResolvedTask, name: str, allow: Allow) -> str | None:
    """Return the only allowed secret that the task's texts name and that has all words of the refused name."""
    texts = (task.prompt, str(task.spec.command), *task.spec.environment.setup_commands)
    words = {word for text in texts for word in re.findall(r"\$\{?([A-Z][A-Z0-9_]{2,60})", text)}
    fits = {word for word in words if _fits(word, allow.secrets or ()) and set(name.split("_")) <= set(word.split("_"))}
    return fits.pop() if len(fits) == 1 else None


# A model that an alias may stand for.
_WHOLE_NAMES = {"sonnet": "claude-sonnet-4-5", "opus": "claude-opus-4-5", "haiku": "claude-haiku-4-5"}


def _is_below(requested: str, allowed: str) -> bool:
    """Return True if a pattern without `*` names what stands above the value: a registry, a domain, or a family of models."""
    return requested.startswith((f"{allowed.rstrip('/')}/", f"{allowed}-")) or requested.endswith(f".{allowed}")


def _refused(
    task: ResolvedTask, route: Route, requested: str, allowed_values: Sequence[str], meant: str | None = None
) -> Diagnostic:
    hint = f"allowed: {', '.join(allowed_values) or 'none'}; or ask the owner of `{POLICY}`"
    if route == ("model",) and requested.isalpha() and any("*" in each for each in allowed_values):
        whole = _WHOLE_NAMES.get(requested)
        name_text = f"`{whole}`" if whole is not None and _fits(whole, allowed_values) else "the whole name of the model"
        hint = f"write {name_text}, because aliases are compared as they stand; {hint}, who can add `{requested}` to `models`"
    below = next((each for each in allowed_values if "*" not in each and _is_below(requested, each)), None)
    if below is not None:
        star = f"{below}/*" if "/" in below else f"*.{below}" if requested.endswith(f".{below}") else f"{below}*"
        hint = f"{hint}, who can write `{star}` for what is meant by `{below}`"
    bare = requested.removesuffix(":443")
    if bare != requested and _fits(bare, allowed_values):
        return task.at(
            "OPT519",
            f"the policy does not allow `{requested}`",
            route,
            hint=f"write `{bare}`, which means port 443",
            value=bare,
        )
    if meant is not None:
        hint = f"did you mean `{meant}`, which the task names? {hint}"
    return task.at("OPT519", f"the policy does not allow `{requested}`", route, hint=hint)


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
