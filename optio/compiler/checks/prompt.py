"""Check the prompt: its size, and its placeholders against the declared parameters. Text in double braces that is not a
placeholder (`{{ NAME }}`, `{{#if NAME}}`) stays as it is, and is reported."""

import re
from collections.abc import Collection, Iterator, Mapping
from functools import partial
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
# Text in double braces that is not a placeholder (`{{ NAME }}`, `${{ a.b }}`, `{{#if x}}`), and `{{NAME` or `{{NAME}`.
ALMOST_PLACEHOLDER = (
    r"\$?\{\{(?![A-Za-z0-9_]+\}\})(?=[^{}]{0,200}[^{}\s])[^{}]{1,200}\}\}"
    r"|\{\{(?![A-Za-z0-9_]+\}\})[A-Za-z0-9_]{1,60}(?![A-Za-z0-9_])\}?"
)
_CODE = r"(?s)```.*?(?:```|\Z)|~~~.*?(?:~~~|\Z)|`[^`\n]*`"
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
    path = task.prompt.strip().removeprefix("file://").removeprefix("@")
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
    trigger_names = parameters_of_triggers(task) if parameters.closed else set()  # reported as an error by the trigger's check
    stray = task.document.value.get("paramsSchema")  # one beside `properties` is reported there
    reported = {*parameters.properties, *secrets, *trigger_names, *(stray if isinstance(stray, dict) else ())}
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

    hint = always_set_hint(match[1], parameters.properties.get(match[1]))
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
    write = f"{{{{{similar}}}}}" if similar else None
    return task.in_prompt("OPT201", message, *match.span(), hint=hint, write=write, safe=False)


def _is_other_syntax(prompt: str, start: int, end: int) -> bool:
    """Return True for `{{NAME}}` in a third pair of braces, as Mustache has it, and behind a command of LaTeX."""
    if prompt[start - 1 : start] == "{" or prompt[end : end + 1] == "}":
        return True
    return re.search(_LATEX, prompt[max(0, start - _MAX_LATEX) : start]) is not None


def _variable_hint(task: ResolvedTask, name: str) -> str | None:
    """Return the hint for a placeholder that names a variable or a secret, which the agent has as `$NAME`."""
    names = (*task.spec.environment.env, *task.spec.environment.secrets)
    variable = next((known_name for known_name in names if known_name.casefold() == name.casefold()), None)
    if variable is not None:
        return f"write `${variable}`, the variable of the agent"
    if not re.search(CREDENTIAL_NAME + r"\Z", name):
        return None
    return f"write `${name.upper()}`, and name `{name.upper()}` under `environment.secrets`: secrets never go into the prompt"


def _is_name(name: str) -> bool:
    """Return True if a placeholder may have this name."""
    return PLACEHOLDER.fullmatch(f"{{{{{name}}}}}") is not None


def _only_unused(task: ResolvedTask, parameters: DeclaredParameters) -> str | None:
    """Return the only parameter that the prompt does not use, if exactly one placeholder has no parameter."""
    used_names = set(placeholders(task.prompt))
    unused_names = [name for name in parameters.properties if name not in used_names]
    return unused_names[0] if len(unused_names) == 1 and len(used_names - set(parameters.properties)) == 1 else None


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
    code = code_ranges(text)
    for match in re.finditer(ALMOST_PLACEHOLDER, text):
        if not is_inside(code, match.start()) or _words(match) & set(names):
            yield match


def meant_parameter(text: str, parameters: DeclaredParameters, sources: Mapping[str, str]) -> str | None:
    """Return the only parameter that a text names, regardless of case and underscores, or that a webhook fills from the path in
    it; None where there is no such one."""
    names_by_fold = {_folded(name): name for name in parameters.properties if _is_name(name)}
    names = {names_by_fold[_folded(word)] for word in re.findall(r"\w+", text) if _folded(word) in names_by_fold}
    names = names or {name for source, name in sources.items() if re.search(rf"{re.escape(source)}(?![\w.\[])", text)}
    return names.pop() if len(names) == 1 else None


def _folded(name: str) -> str:
    return name.casefold().replace("_", "")


def _words(match: re.Match[str]) -> set[str]:
    return set(re.findall(r"\w+", match[0]))


def _syntax(task: ResolvedTask, parameters: DeclaredParameters) -> Iterator[Diagnostic]:
    sources, environment = sources_of(task), task.spec.environment
    variables = {*environment.secrets, *environment.env}

    def almost(match: re.Match[str]) -> Diagnostic:
        name = meant_parameter(match[0], parameters, sources)
        if name is not None:
            write = f"{{{{{name}}}}}"
            is_path = match[0].endswith("}}") and re.fullmatch(r"[\w.${} \t]+", match[0]) is not None
            is_same = name == re.sub(r"\W", "", match[0])
            return _literal(task, match, f"write `{write}`", write if is_path else None, safe=is_same)
        variable = next(iter(_words(match) & variables), None)
        if variable is not None:
            return _literal(task, match, f"name the variable for the agent to use: `${variable}`")
        hint = "write `{{NAME}}` with the name of a parameter; put literal braces between backquotes"
        return _literal(task, match, hint)

    yield from report_first(almost_placeholders(task.prompt, parameters.properties), almost)


def _unused(task: ResolvedTask, parameters: DeclaredParameters) -> Iterator[Diagnostic]:
    if task.spec.agent_runtime == "command":
        return  # the program reads parameters from a file
    used_names = set(placeholders(task.prompt)) | set(placeholders(task.spec.dedupe.key if task.spec.dedupe else ""))
    folded_names = {name.casefold() for name in used_names}
    reported = _reported_elsewhere(task, parameters, used_names)
    for name, sub in parameters.properties.items():
        if name in reported or sub is False:  # with False no value is allowed, so it is not a usable parameter
            continue
        is_elsewhere = isinstance(sub, dict) and "x-optio-used-by" in sub
        if name.casefold() not in folded_names and not is_elsewhere:
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
