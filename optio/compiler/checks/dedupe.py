"""Check the key of `dedupe`: its placeholders must name parameters that every run has. A key without any placeholder is the
same for all runs, so each waiting run would make every other one a duplicate."""

import re
from collections.abc import Iterator
from itertools import chain

from optio.compiler.checks.prompt import ALMOST_PLACEHOLDER, almost_placeholders, parameter_of_path, sources_of
from optio.compiler.diagnostics import Diagnostic, report_first
from optio.compiler.param_schema.declared import DeclaredParameters, declared_parameters, parameter_names
from optio.compiler.resolved_task import ResolvedTask
from optio.compiler.suggest import suggest, suggest_by_parts
from optio.model.prompt import PLACEHOLDER, placeholders
from optio.model.route import Route
from optio.model.text import format_duration, parse_duration
from optio.model.trigger import ScheduleConfig

KEY: Route = ("dedupe", "key")
# `{NAME}`, `${NAME}` and `%{NAME}`.
_SINGLE_BRACES = r"(?<!\{)[$%]{0,2}\{([A-Za-z0-9_]+)\}(?!\})"
# A path into a payload, or a shell variable.
_DOLLAR = r"(?a)\$(?:\.[\w.]*\w|([A-Za-z_]\w*))"
# The end of a name or of a path that tells one thing from another.
_IDENTIFIES = r"(?i)(?:^|[._ ])(?:i?id|number|key|sha|uuid|guid)(?:$| )"
# A value below which numbers count anew.
_PLACE = r"(?i)(?:^|[._ ])(?:repo|repository|full_name|project|workspace|tenant|org)(?:$|[ _])|path_with_namespace"
WINDOW: Route = ("dedupe", "window")


def check(task: ResolvedTask) -> Iterator[Diagnostic]:
    """Report a constant key, unknown placeholders and a `window` without effect. Without a sound schema, nothing about
    parameters is reported."""
    rule = task.spec.dedupe
    if rule is None:
        return
    if rule.window is not None and rule.on_duplicate == "replace":
        hint = "delete `window`, or write `onDuplicate: join`"
        yield task.at("OPT229", "`window` has no effect with `onDuplicate: replace`", WINDOW, key=True, hint=hint)
    yield from _constant(task, rule.key)
    if rule.window is not None and rule.on_duplicate != "replace" and task.spec.schedule is not None:
        yield from _past_the_next_fire(task, rule.key, rule.window, task.spec.schedule.config)
    parameters = declared_parameters(task)
    if parameters is not None:
        yield from _placeholders(task, rule.key, parameters)


def _past_the_next_fire(task: ResolvedTask, key: str, written: str, config: ScheduleConfig) -> Iterator[Diagnostic]:
    """Report a window that is still open when the schedule fires next: its parameters are constant, and so is its key."""
    if (PLACEHOLDER.search(key) is None and re.search(r"[{}$]", key)) or not task.is_known(WINDOW):
        return  # what was meant as a placeholder is reported as such
    from optio.compiler.checks.schedule_pedantic import shortest_gap
    from optio.scheduling.cron import CronError

    try:
        gap, window = shortest_gap(config.cron_expression), parse_duration(written)
    except (CronError, ValueError):
        return  # reported by `schedule`
    if window >= gap:
        each = format_duration(gap)
        message = f"all fires of the schedule have one key, which `window: {written}` holds past the next fire, {each} later"
        message += ": that one starts no run"
        hint = f"write less than {each}, such as `window: {format_duration(gap / 2)}`, or delete it"
        yield task.at("OPT232", message, WINDOW, hint=hint)


def _constant(task: ResolvedTask, key: str) -> Iterator[Diagnostic]:
    """Report a key that has neither a placeholder nor text that was meant as one."""
    if PLACEHOLDER.search(key) or re.search(ALMOST_PLACEHOLDER, key) or re.search(r"[{}]", key):
        return
    parameters = declared_parameters(task)
    if parameters is not None and any(_dollars(key, parameters)):
        return
    if parameters is not None and not parameters.properties and not placeholders(task.prompt) and not _takes_bodies(task):
        return  # all runs are the same
    names = sorted(parameter_names(task, parameters) or ()) if parameters is not None else []
    word = next((name for name in names if name.casefold() in map(str.casefold, re.findall(r"\w+", key))), None)
    paths = {name: source for source, name in sources_of(task).items()}
    things = [name for name in names if re.search(_IDENTIFIES, f"{name} {paths.get(name, '')}")]
    places = [name for name in names if re.search(_PLACE, f"{name} {paths.get(name, '')}")]
    things = things or [name for name in names if name not in places]
    named = [word] if word is not None else list(dict.fromkeys([*places[:1], *things[:1]])) or ["NAME"]
    if word is not None and word in things[:1] and places:
        named = list(dict.fromkeys([*places[:1], word]))
    shown_text = "#".join(f"{{{{{name}}}}}" for name in named)
    hint = f'write `key: "{shown_text}"`' + ", with the values that make two runs the same"
    if word is None:
        hint += "; for one run at a time write `maxConcurrent: 1` instead of `dedupe`"
    yield task.at(
        "OPT230",
        f"every run has the key `{key}`: while one is queued or running, all others count as duplicates",
        KEY,
        hint=hint,
    )


def _takes_bodies(task: ResolvedTask) -> bool:
    """Return True if a webhook fills parameters from its payload, or takes the payload itself for them."""
    mapping = {} if task.spec.webhook is None else task.spec.webhook.config.param_mapping
    return mapping is None or bool(mapping)


def _placeholders(task: ResolvedTask, key: str, parameters: DeclaredParameters) -> Iterator[Diagnostic]:
    names, sources = parameter_names(task, parameters), sources_of(task)
    used = list(dict.fromkeys(found[1] for found in PLACEHOLDER.finditer(key)))

    def identifiers(near: list[str]) -> list[str]:
        """Return the parameters outside the key that are numbers or names of one thing, by their name or their path."""
        paths = {name: source for source, name in sources.items()}
        both = ((name, f"{name} {paths.get(name, '')}") for name in near if name not in used)
        return [name for name, words in both if re.search(_IDENTIFIES, words)]

    def unknown(name: str) -> Diagnostic:
        from optio.compiler.conversions.entries import declaration_hint  # imported only for a file with a mistake

        near = sorted(names or ())
        suggestion = next((each for each in near if each.casefold() == name.casefold()), None) or suggest(name, near)
        hint = (
            f"did you mean `{{{{{suggestion}}}}}`?" if suggestion else declaration_hint(task.document.value, name, default=True)
        )
        rest = [each for each in near if each not in used]
        if (
            suggestion is None
            and (likely := suggest_by_parts(name, near) or _only(rest) or _only(identifiers(near))) is not None
        ):
            hint = f"did you mean `{{{{{likely}}}}}`? else {hint}"
        return at("OPT227", f"`{{{{{name}}}}}` in the key names no parameter", f"{{{{{name}}}}}", hint)

    def unset(name: str) -> Diagnostic:
        from optio.compiler.conversions.entries import always_set_hint  # imported only for a file with a mistake

        hint = always_set_hint(name, parameters.properties.get(name))
        return at("OPT228", f"a run without `{name}` has no key and is refused", f"{{{{{name}}}}}", hint)

    def no_placeholder(written: str) -> Diagnostic:
        inner = written.strip("${} \t#/^>!&")
        word, addition = re.sub(r"[^A-Za-z0-9_]", "", inner), ""
        if (mapped := _mapped(written, sources)) is not None:
            word = mapped
        elif word not in parameters.properties and (
            named := [name for name in re.findall(r"\w+", inner) if name in parameters.properties]
        ):
            word = named[0]
        elif word not in parameters.properties and "." in inner:
            word = parameter_of_path(inner, parameters)
            addition = "" if word in parameters.properties else f", and declare `{word}` as a parameter"
        quote = '"' if written == key else ""  # braces begin a mapping where no quotes are around them
        hint = f"write `{quote}{{{{{word}}}}}{quote}`{addition}"
        return at("OPT227", f"`{written}` in the key is not a placeholder: it stays as it is", written, hint)

    def at(code: str, message: str, written: str, hint: str) -> Diagnostic:
        return task.at(code, message, KEY, hint=hint, span=task.document.find(KEY, written))

    yield from report_first((name for name in used if names is not None and name not in names), unknown)
    given = (name for name in used if name in parameters.properties)
    yield from report_first(
        (name for name in given if name not in parameters.required and not parameters.has_default(name)), unset
    )
    almost = list(almost_placeholders(key, parameters.properties))
    singles = (found for found in re.finditer(_SINGLE_BRACES, key) if found[1] in parameters.properties)
    others = chain(singles, _dollars(key, parameters))
    apart = [found for found in others if not any(each.start() <= found.start() < each.end() for each in almost)]
    yield from report_first((found[0] for found in (*almost, *apart)), no_placeholder)


def _only(names: list[str]) -> str | None:
    return names[0] if len(names) == 1 else None


def _mapped(written: str, sources: dict[str, str]) -> str | None:
    """Return the parameter that a webhook fills from the written path, or else from the only path with the same last step."""
    from optio.compiler.payloads.queries import suggest_query_path  # imported only for a file with a mistake

    path = written if written.startswith("$.") else suggest_query_path(written)
    if path is None or path in sources:
        return None if path is None else sources[path]
    ends = [name for source, name in sources.items() if source.rpartition(".")[2] == path.rpartition(".")[2]]
    return ends[0] if len(ends) == 1 else None


def _dollars(key: str, parameters: DeclaredParameters) -> Iterator[re.Match[str]]:
    """Find paths into a payload (`$.a.b`), and parameters written like shell variables (`$NAME`)."""
    return (match for match in re.finditer(_DOLLAR, key) if match[1] is None or match[1] in parameters.properties)
