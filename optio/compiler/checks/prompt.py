"""Check the prompt: its size, and its placeholders against the declared parameters. Text in double braces that is not a
placeholder (`{{ NAME }}`, `{{#if NAME}}`) stays as it is, and is reported."""

import re
from collections.abc import Collection, Iterator
from functools import partial
from itertools import chain
from typing import Any

from optio.compiler.conversions.known_keys import CREDENTIAL_NAME
from optio.compiler.diagnostics import Diagnostic, report_first
from optio.compiler.param_schema.declared import DeclaredParameters, declared_parameters
from optio.compiler.resolved_task import ResolvedTask
from optio.compiler.suggest import suggest
from optio.compiler.text_hygiene import check_invisible
from optio.model.prompt import PLACEHOLDER, placeholders
from optio.model.trigger import Trigger, WebhookTrigger

MAX_PROMPT_BYTES = 256 * 1024
# Where expressions of other tools read the body of a delivery.
_OF_EVENTS = ("github.event.", "body.", "payload.", "event.", "trigger.body.")
# `{{ NAME }}`, `{{a-b}}`, `{{a.b}}`, `${{ a.b }}`, `{{$.a.b}}`, `{{#if x}}`, and `{{NAME` or `{{NAME}` that is not closed.
ALMOST_PLACEHOLDER = (
    r"(?:\$(?=\{\{[ \t]{0,20}[a-z]+\.))?\{\{(?![A-Za-z0-9_]+\}\})"
    r"(?:[ \t]{0,20}(?:[#/^>!&]|\$\.)?[ \t]{0,20}[A-Za-z0-9_][A-Za-z0-9_.\- ]{0,60}[ \t]{0,20}\}\}"
    r"|[A-Za-z0-9_]{1,60}(?![A-Za-z0-9_])\}?)"
)
# Any other text between the braces: a path, a filter, an expression.
_BRACED = r"\$?\{\{(?![A-Za-z0-9_]+\}\})(?=[^{}]{0,200}[^{}\s])[^{}]{1,200}\}\}"
_CODE = r"(?s)```.*?(?:```|\Z)|~~~.*?(?:~~~|\Z)|`[^`\n]*`"
_IN_WORDS = "describe the condition in words: only placeholders are filled in"
# What fills in a date in other systems.
_DATES = (
    "ds|ds_nodash|ts|ts_nodash|execution_date|logical_date|data_interval_start|data_interval_end|now|today|yesterday|ds_add"
)
# A one-word prompt with such an ending is the name of a file.
_FILES = (".md", ".mdx", ".markdown", ".txt", ".prompt", ".j2", ".jinja", ".jinja2", ".tmpl", ".tpl")


# A command of LaTeX, with its arguments so far, or a sign that raises or lowers what follows.
_LATEX = r"(?:\\[A-Za-z]{1,30}\*?(?:\[[^\[\]]{0,40}\]|\{{1,2}[^{}]{0,40}\}{1,2}){0,4}|[_^])\Z"
_MAX_LATEX = 200


def check(task: ResolvedTask) -> Iterator[Diagnostic]:
    """Report the findings of the prompt. Without a sound schema, nothing about placeholders is reported."""
    if not (task.is_known(("promptTemplate",)) and task.is_known(("promptFile",))):
        return
    size = len(task.prompt.encode("utf-8", "surrogatepass"))
    if size > MAX_PROMPT_BYTES:
        hint = "give the agent a file or a URL to read"
        yield task.at(
            "OPT218", f"the prompt has {size:,} bytes, more than {MAX_PROMPT_BYTES:,}", task.prompt_route, key=True, hint=hint
        )
        return
    if task.prompt_path is not None:
        yield from _prompt_file(task, task.prompt_path)
    parameters = declared_parameters(task)
    if parameters is None:
        return
    if "{" in task.prompt or "$" in task.prompt:
        yield from _syntax(task, parameters)
        yield from _names(task, parameters)
    if (path := _only_path(task)) is not None:
        hint = f"write `promptFile: {path}`, with the path relative to this file"
        yield task.at("OPT231", f"the whole prompt is `{path}`, the name of a file", task.prompt_route, hint=hint)
    yield from _unused(task, parameters)


def _prompt_file(task: ResolvedTask, path: str) -> Iterator[Diagnostic]:
    if not task.prompt.strip():
        yield task.at("OPT106", f"`{task.spec.prompt_file}` is empty", task.prompt_route, hint="write the prompt into it")
    if (nul := task.prompt.find("\0")) >= 0:
        yield task.in_prompt("OPT015", "a NUL character", nul, nul + 1, hint="delete it: agents cannot handle it")
    if not task.prompt.isascii():
        yield from check_invisible(path, task.prompt)


def _only_path(task: ResolvedTask) -> str | None:
    """Return the name of a file that is the whole prompt, or None."""
    path = re.sub(r"^(?:file://|@(?=[\w./-]+$))", "", task.prompt.strip())
    is_path = path.endswith(_FILES) and len(path.split()) == 1 and not {"{", ":"} & set(path)
    return path if is_path and task.prompt_path is None and task.spec.agent_runtime != "command" else None


def _literal(
    task: ResolvedTask, match: re.Match[str], hint: str, write: str | None = None, *, safe: bool = False
) -> Diagnostic:
    """Report text that stays as it is: a mistake if it has a parameter's name in the braces of a placeholder."""
    parameters = declared_parameters(task)
    names = set() if parameters is None else _words(match) & set(parameters.properties)
    code = "OPT203" if names else "OPT234"
    message = f"`{match[0]}` is not a placeholder and stays as it is"
    return task.in_prompt(code, message, *match.span(), hint=hint, write=write, safe=safe)


def _names(task: ResolvedTask, parameters: DeclaredParameters) -> Iterator[Diagnostic]:
    """Report placeholders without a parameter, and those of parameters that a run may not have."""
    if parameters.schema is None:
        return
    by_case = {name.casefold(): name for name in parameters.properties}
    matches = _first_placeholders(task.prompt, parameters)
    if not parameters.undeclared:  # one of them may be this parameter by another name
        optional = (name for name in matches if name in parameters.properties and name not in parameters.required)
        unset = (name for name in optional if not parameters.has_default(name) and not _always_sent(task, parameters, name))
        yield from report_first(unset, lambda name: _unset(task, parameters, matches[name]))
    secrets = task.spec.environment.secrets  # reported by `secrets_use`
    given = parameters_of_triggers(task) if parameters.closed else set()  # reported as an error by the trigger's check
    stray = task.document.value.get("paramsSchema")  # one beside `properties` is reported there
    reported = {*parameters.properties, *secrets, *given, *(stray if isinstance(stray, dict) else ())}
    strange = [name for name in matches if name not in reported]
    other_case = (matches[name] for name in strange if name.casefold() in by_case)
    yield from report_first(other_case, lambda match: _other_case(task, match, by_case[match[1].casefold()]))
    if parameters.complete:
        undeclared = (matches[name] for name in strange if name.casefold() not in by_case)
        yield from report_first(undeclared, partial(_undeclared, task, parameters))


def _first_placeholders(prompt: str, parameters: DeclaredParameters) -> dict[str, re.Match[str]]:
    """Return the first placeholder of each name."""
    matches: dict[str, re.Match[str]] = {}
    for match in PLACEHOLDER.finditer(prompt):
        if match[1] in parameters.properties or not _is_other_syntax(prompt, *match.span()):
            matches.setdefault(match[1], match)
    return matches


def _unset(task: ResolvedTask, parameters: DeclaredParameters, match: re.Match[str]) -> Diagnostic:
    from optio.compiler.conversions.entries import always_set_hint  # imported only for a file with a mistake

    hint = always_set_hint(match[1], parameters.properties.get(match[1]), default_only=_is_left_out(task, match[1]))
    message = f"`{match[0]}` stays as it is when a run has no `{match[1]}`"
    return task.in_prompt("OPT217", message, *match.span(), hint=hint)


def _other_case(task: ResolvedTask, match: re.Match[str], right: str) -> Diagnostic:
    message, write = f"`{match[0]}` differs from `{right}` only by case", f"{{{{{right}}}}}"
    return task.in_prompt("OPT204", message, *match.span(), hint=f"write `{write}`", write=write, safe=False)


def _undeclared(task: ResolvedTask, parameters: DeclaredParameters, match: re.Match[str]) -> Diagnostic:
    message = f"`{match[0]}` has no parameter and stays as it is"
    if (hint := _variable_hint(task, match[1])) is not None:
        return task.in_prompt("OPT201", message, *match.span(), hint=hint)
    from optio.compiler.conversions.entries import declaration_hint  # imported only for a file with a mistake

    similar = suggest(match[1], [name for name in parameters.properties if _is_name(name)])
    hint = f"did you mean `{{{{{similar}}}}}`?" if similar else declaration_hint(task.document.value, match[1], default=True)
    if similar is None and (left := _only_unused(task, parameters)) is not None and _is_name(left):
        hint = f"did you mean `{{{{{left}}}}}`, which the prompt does not use? else {hint}"
    write = f"{{{{{similar}}}}}" if similar else None
    return task.in_prompt("OPT201", message, *match.span(), hint=hint, write=write, safe=False)


def _is_other_syntax(prompt: str, start: int, end: int) -> bool:
    """Return True for `{{NAME}}` in a third pair of braces, as Mustache has it, and behind a command of LaTeX."""
    if prompt[start - 1 : start] == "{" or prompt[end : end + 1] == "}":
        return True
    return re.search(_LATEX, prompt[max(0, start - _MAX_LATEX) : start]) is not None


def _variable_hint(task: ResolvedTask, name: str) -> str | None:
    """Return the hint for a placeholder that names a variable or a secret, which the agent has as `$NAME`."""
    environment = task.spec.environment
    meant = next((each for each in (*environment.env, *environment.secrets) if each.casefold() == name.casefold()), None)
    if meant is not None:
        return f"write `${meant}`, the variable of the agent"
    if not re.search(CREDENTIAL_NAME + r"\Z", name):
        return None
    meant = suggest(name, environment.secrets)
    called = name.upper()
    cure = f"write `${called}`, and name `{called}` under `environment.secrets`: secrets never go into the prompt"
    return f"did you mean the variable `${meant}`? If not, {cure}" if meant else cure


def _is_name(name: str) -> bool:
    """Return True if a placeholder may have this name."""
    return PLACEHOLDER.fullmatch(f"{{{{{name}}}}}") is not None


def _only_unused(task: ResolvedTask, parameters: DeclaredParameters) -> str | None:
    """Return the only parameter that the prompt does not use, if exactly one placeholder has no parameter."""
    used_names = set(placeholders(task.prompt))
    left = [name for name in parameters.properties if name not in used_names]
    return left[0] if len(left) == 1 and len(used_names - set(parameters.properties)) == 1 else None


def _always_sent(task: ResolvedTask, parameters: DeclaredParameters, name: str) -> bool:
    """Return whether the task is started by webhooks alone, each of which sends the parameter, if only as null."""
    kinds = parameters.properties[name].get("type") if isinstance(parameters.properties[name], dict) else None
    hooks = [trigger for trigger in task.spec.triggers if isinstance(trigger, WebhookTrigger) and name in _mapping(trigger)]
    return isinstance(kinds, list) and "null" in kinds and 0 < len(hooks) == len(task.spec.triggers)


def parameters_of_triggers(task: ResolvedTask) -> set[str]:
    """Return the names of all parameters that the task's schedules and webhooks give."""
    return {name for trigger in task.spec.triggers for name in _mapping(trigger)}


def _mapping(trigger: Trigger) -> dict[str, Any]:
    return getattr(trigger.config, "param_mapping", None) or {}


def sources_of(task: ResolvedTask) -> dict[str, str]:
    """Return the parameter that each mapped path (`$.a.b`) fills, by path."""
    pairs = ((name, source) for trigger in task.spec.triggers for name, source in _mapping(trigger).items())
    return {source: name for name, source in pairs if isinstance(source, str) and source.startswith("$.")}


def is_inside(ranges: list[tuple[int, int]], at: int) -> bool:
    """Return True if the offset `at` lies in one of the half-open ranges."""
    return any(start <= at < end for start, end in ranges)


def code_ranges(text: str) -> list[tuple[int, int]]:
    """Return the ranges of a text between backquotes and in fences, where braces and `$` may be meant literally."""
    return [match.span() for match in re.finditer(_CODE, text)] if "`" in text or "~~~" in text else []


def almost_placeholders(text: str, names: Collection[str]) -> Iterator[re.Match[str]]:
    """Find text that looks like a placeholder and is not one; inside code only where it names a parameter."""
    if text.count("{{") == len(PLACEHOLDER.findall(text)):
        return
    code, end = code_ranges(text), 0
    match = sorted(
        chain(re.finditer(ALMOST_PLACEHOLDER, text), re.finditer(_BRACED, text)), key=lambda each: (each.start(), -each.end())
    )
    for each in match:
        if each.start() >= end and (not is_inside(code, each.start()) or _words(each) & set(names)):
            end = each.end()
            yield each


def parameter_of_path(path: str, parameters: DeclaredParameters) -> str:
    """Return the parameter that a path of another template language stands for, or else a good name for a new one:
    `issue.htmlUrl` becomes `HTML_URL`."""
    last = path.rpartition(".")[2]
    folded = {name.casefold().replace("_", ""): name for name in parameters.properties}
    return folded.get(last.casefold().replace("_", "")) or re.sub(r"(?<=[a-z])(?=[A-Z])", "_", last).upper()


def _named_in(inner: str, parameters: DeclaredParameters) -> str | None:
    """Return the parameter that the last name of an expression stands for, regardless of case: `.Number`, `vars['team']`."""
    folded = {name.casefold().replace("_", ""): name for name in parameters.properties if _is_name(name)}
    words = re.findall(r"\w+", inner)
    return folded.get(words[-1].casefold().replace("_", "")) if words else None


def _given_by(path: str, name: str, parameters: DeclaredParameters) -> str:
    from optio.compiler.payloads.queries import suggest_query_path  # imported only for a file with a mistake

    if name in parameters.properties:
        return ""
    declared_as = f", add `{name}: {{type: string}}` below `paramsSchema.properties`"
    sent = suggest_query_path(path) if path.startswith(_OF_EVENTS) else None
    return f"{declared_as}, and map it by `{name}: {sent}`" if sent else f", and{declared_as[1:]}"


def _words(match: re.Match[str]) -> set[str]:
    return set(re.findall(r"\w+", match[0]))


def _read_braces(text: str, parameters: DeclaredParameters, sources: dict[str, str]) -> tuple[str | None, str]:
    """Return the parameter that a text in braces stands for, and the hint where that is not clear."""
    inner = text.strip("${} \t#/^>!&")
    if inner.startswith(".") and "$." in text:
        hint = f"write `{{{{NAME}}}}`, and for that parameter `NAME: ${inner}` under the webhook's `paramMapping`"
        return sources.get(f"${inner}"), hint
    for name in (re.sub(r"\W", "", inner), inner.rpartition(".")[2]):
        if name in parameters.properties and name.isascii():
            return name, ""
    same = [name for source, name in sources.items() if source.rpartition(".")[2] == inner.rpartition(".")[2]]
    if len(same) == 1 and inner.startswith(_OF_EVENTS):
        return same[0], ""
    named = [name for name in re.findall(r"\w+", inner) if name in parameters.properties]
    if len(named) == 1 and re.fullmatch(r"\{\{[\w ]+\}\}", text):
        return named[0], ""
    if re.match(r"[$\s{]*(?:[#/^]\s*(?:if|each|unless|with|else|end)\b|(?:end|else)\b)", text):
        return None, (f"write `{{{{{named[0]}}}}}`, and " if named else "delete it, and ") + _IN_WORDS
    if re.match(rf"(?:macros\.|cron\.)?(?:{_DATES})\b", inner):
        return None, "say in the prompt which day is meant, such as `today`: nothing fills in a date"
    is_path = re.fullmatch(r"\.?(?:\w+\.)*\w+(?:\[['\"]\w+['\"]\])?", inner)
    if is_path and "$." not in text and (only := _named_in(inner, parameters)) is not None:
        return only, ""
    return None, _braces_hint(text, inner, named, parameters)


def _braces_hint(text: str, inner: str, named: list[str], parameters: DeclaredParameters) -> str:
    hint = "write `{{NAME}}` with letters, digits and underscores only"
    if inner.startswith(".") or re.search(r"[^\w.\- \t${}#/^>!&]", text):
        if not named:
            return hint + "; put literal braces between backquotes"
        if re.match(rf"{named[0]}\s*(?:\|\s*default\b|:-?|\?\?|\|\||or\b)", inner):
            return f"write `{{{{{named[0]}}}}}`, and its default under `paramsSchema.properties.{named[0]}`"
        return f"write `{{{{{named[0]}}}}}`, and describe in words what to do with it"
    if re.fullmatch(r"[A-Za-z_]\w*(?:\.\w+)*", inner):
        name = parameter_of_path(inner, parameters)
        return f"write `{{{{{name}}}}}`" + _given_by(inner, name, parameters)
    return hint


def _syntax(task: ResolvedTask, parameters: DeclaredParameters) -> Iterator[Diagnostic]:
    sources = sources_of(task)

    def almost(match: re.Match[str]) -> Diagnostic:
        variable = re.fullmatch(r"\$?\{\{\s*(?:env|vars)\.(\w+)\s*\}\}", match[0])
        if variable is not None and variable[1] in task.spec.environment.env:
            hint = f"write the value itself, or `${variable[1]}` between backquotes: the agent can read the variable"
            return _literal(task, match, hint)
        secret = re.fullmatch(r"\$?\{\{-?\s*(?:secrets?|vault)\.(\w+)\s*-?\}\}", match[0])
        if secret is not None and secret[1] not in parameters.properties:
            hint = f"name the variable for the agent to use: `${secret[1]}`"
            if secret[1] not in task.spec.environment.secrets:
                hint += f", and add `{secret[1]}` to `environment.secrets`"
            return _literal(task, match, hint)
        word, hint = _read_braces(match[0], parameters, sources)
        if word is None:
            return _literal(task, match, hint)
        if not word.isidentifier() and not word.replace("_", "a").isalnum():
            better = re.sub(r"\W+", "_", word)
            hint = f"call the parameter `{better}`, and write `{{{{{better}}}}}`: a name has letters, digits and `_`"
            return _literal(task, match, hint)
        write = f"{{{{{word}}}}}"
        is_same = word == re.sub(r"\W", "", match[0])
        return _literal(task, match, f"write `{write}`", write if match[0].endswith("}}") else None, safe=is_same)

    yield from report_first(almost_placeholders(task.prompt, parameters.properties), almost)


def _is_left_out(task: ResolvedTask, name: str) -> bool:
    """Return True if the schedule or the webhook gives no value for a parameter."""
    schedule, webhook = task.spec.schedule, task.spec.webhook
    mappings = [] if schedule is None else [schedule.config.param_mapping]
    mappings += [] if webhook is None or webhook.config.param_mapping is None else [webhook.config.param_mapping]
    return any(name not in mapping for mapping in mappings)


def _unused(task: ResolvedTask, parameters: DeclaredParameters) -> Iterator[Diagnostic]:
    if task.spec.agent_runtime == "command":
        return  # the program reads parameters from a file
    used_names = set(placeholders(task.prompt)) | set(placeholders(task.spec.dedupe.key if task.spec.dedupe else ""))
    folded = {name.casefold() for name in used_names}
    reported = _reported_elsewhere(task, parameters, used_names)
    for name, sub in parameters.properties.items():
        if name in reported or sub is False:  # with False no value is allowed, so it is not a usable parameter
            continue
        is_elsewhere = isinstance(sub, dict) and "x-optio-used-by" in sub
        if name.casefold() not in folded and not is_elsewhere:
            mapped = ", here and in `paramMapping`" if name in parameters_of_triggers(task) else ""
            used = name if _is_name(name) else re.sub(r"\W+", "_", name)
            hint = f"use `{{{{{used}}}}}` or delete it{mapped}"
            if used != name:
                hint = f"call it `{used}`, and use `{{{{{used}}}}}`, or delete it{mapped}"
            route = ("paramsSchema", "properties", name)
            yield task.at("OPT202", f"the prompt does not use `{name}`", route, key=True, hint=hint)


def _reported_elsewhere(task: ResolvedTask, parameters: DeclaredParameters, used_names: set[str]) -> set[str]:
    """Return the parameters that another finding may stand for: a misspelt placeholder or required name is one mistake, and is
    reported at that place."""
    names = [name for name in parameters.properties if name not in parameters.undeclared]
    strange = sorted(used_names.difference(names) | parameters.undeclared)
    reported = {*parameters.undeclared} | {_only_unused(task, parameters) or ""}
    reported |= {suggest(name, names) or "" for name in strange}
    return reported.union(*map(_words, almost_placeholders(task.prompt, parameters.properties)))
