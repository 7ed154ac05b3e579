"""Check the key of `dedupe`: its placeholders must name parameters that every run has. A key without any placeholder is the
same for all runs, so each waiting run would make every other one a duplicate."""

import re
from collections.abc import Iterator
from itertools import chain

from optio.compiler.checks.prompt import ALMOST_PLACEHOLDER, almost_placeholders, is_inside, meant_parameter, sources_of
from optio.compiler.diagnostics import Diagnostic, report_first
from optio.compiler.param_schema.declared import DeclaredParameters, declared_parameters, parameter_names
from optio.compiler.resolved_task import ResolvedTask
from optio.compiler.suggest import suggest
from optio.model.prompt import PLACEHOLDER, placeholders
from optio.model.route import Route
from optio.model.text import format_duration, parse_duration
from optio.model.trigger import ScheduleConfig

KEY: Route = ("dedupe", "key")
# `{NAME}`, `${NAME}` and `%{NAME}`.
_SINGLE_BRACES = r"(?<!\{)[$%]{0,2}\{([A-Za-z0-9_]+)\}(?!\})"
# A path into a payload, or a shell variable.
_DOLLAR = r"(?a)\$(?:\.[\w.]*\w|([A-Za-z_]\w*))"
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


def _past_the_next_fire(task: ResolvedTask, key: str, window_text: str, config: ScheduleConfig) -> Iterator[Diagnostic]:
    """Report a window that is still open when the schedule fires next: its parameters are constant, and so is its key."""
    if (PLACEHOLDER.search(key) is None and re.search(r"[{}$]", key)) or not task.is_known(WINDOW):
        return  # what was meant as a placeholder is reported as such
    from optio.compiler.checks.schedule_pedantic import shortest_gap
    from optio.scheduling.cron import CronError

    try:
        gap, window = shortest_gap(config.cron_expression), parse_duration(window_text)
    except (CronError, ValueError):
        return  # reported by `schedule`
    if window >= gap:
        gap_text = format_duration(gap)
        message = f"`window: {window_text}` holds the key past the next fire, {gap_text} later: that one starts no run"
        hint = f"write less than {gap_text}, such as `window: {format_duration(gap / 2)}`, or delete it"
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
    message = f"every run has the key `{key}`: while one is queued or running, all others count as duplicates"
    hint = 'write `key: "{{NAME}}"` with the parameters that make two runs the same; for one run at a time write '
    yield task.at("OPT230", message, KEY, hint=hint + "`maxConcurrent: 1` instead of `dedupe`")


def _takes_bodies(task: ResolvedTask) -> bool:
    """Return True if a webhook fills parameters from its payload, or takes the payload itself for them."""
    mapping = {} if task.spec.webhook is None else task.spec.webhook.config.param_mapping
    return mapping is None or bool(mapping)


def _placeholders(task: ResolvedTask, key: str, parameters: DeclaredParameters) -> Iterator[Diagnostic]:
    """Report placeholders without a parameter, those that a run may lack, and text that only looks like a placeholder."""
    names, sources = parameter_names(task, parameters), sources_of(task)
    key_names = list(dict.fromkeys(PLACEHOLDER.findall(key)))

    def unknown(name: str) -> Diagnostic:
        from optio.compiler.conversions.entries import declaration_hint  # imported only for a file with a mistake

        similar = suggest(name, sorted(names or ()))
        hint = f"did you mean `{{{{{similar}}}}}`?" if similar else declaration_hint(task.document.value, name, default=True)
        return at("OPT227", f"`{{{{{name}}}}}` in the key names no parameter", f"{{{{{name}}}}}", hint)

    def unset(name: str) -> Diagnostic:
        from optio.compiler.conversions.entries import always_set_hint  # imported only for a file with a mistake

        hint = always_set_hint(name, parameters.properties.get(name))
        return at("OPT228", f"a run without `{name}` has no key and is refused", f"{{{{{name}}}}}", hint)

    def no_placeholder(text: str) -> Diagnostic:
        name = meant_parameter(text, parameters, sources) or "NAME"
        hint = f"write `{{{{{name}}}}}`"
        if text == key:  # braces begin a mapping where no quotes are around them
            hint = f'write `"{{{{{name}}}}}"`'
        hint += ", with the name of a parameter" if name == "NAME" else ""
        return at("OPT227", f"`{text}` in the key is not a placeholder: it stays as it is", text, hint)

    def at(code: str, message: str, text: str, hint: str) -> Diagnostic:
        return task.at(code, message, KEY, hint=hint, span=task.document.find(KEY, text))

    yield from report_first((name for name in key_names if names is not None and name not in names), unknown)
    optional = [name for name in key_names if name in parameters.properties and name not in parameters.required]
    yield from report_first((name for name in optional if not parameters.has_default(name)), unset)
    almost = list(almost_placeholders(key, parameters.properties))
    singles = (match for match in re.finditer(_SINGLE_BRACES, key) if match[1] in parameters.properties)
    dollar_matches = chain(singles, _dollars(key, parameters))
    almost_ranges = [match.span() for match in almost]
    literals = [match for match in dollar_matches if not is_inside(almost_ranges, match.start())]
    yield from report_first((match[0] for match in (*almost, *literals)), no_placeholder)


def _dollars(key: str, parameters: DeclaredParameters) -> Iterator[re.Match[str]]:
    """Find paths into a payload (`$.a.b`), and parameters written like shell variables (`$NAME`)."""
    return (match for match in re.finditer(_DOLLAR, key) if match[1] is None or match[1] in parameters.properties)
