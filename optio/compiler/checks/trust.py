"""Check where values from outside would choose what runs: placeholders in a command, an image or a host, which are filled into
the prompt only, and parameters that a command runs by `eval` or `sh -c`."""

import re
from collections.abc import Iterator
from itertools import islice
from typing import Any

from optio.compiler.checks.environment import amounts
from optio.compiler.diagnostics import Diagnostic
from optio.compiler.param_schema.declared import ROUTE, declared_parameters
from optio.compiler.resolved_task import ResolvedTask
from optio.model.prompt import PLACEHOLDER
from optio.model.route import Route, show
from optio.model.untrusted import unbounded_params

_SHELLS = frozenset({"sh", "bash", "dash", "zsh", "ash", "/bin/sh", "/bin/bash", "/usr/bin/bash"})
# Each is looked for in the whole command, which a hostile author may make of thousands.
_MAX_RUN_TEXTS = 100
_FACT = "is not filled in: parameters are filled into the prompt only"


def check(task: ResolvedTask) -> Iterator[Diagnostic]:
    """Report placeholders outside the prompt. In a command only names of parameters count, because `{{.State}}` may be a
    template of the program itself."""
    yield from _evaluated(task)
    template = task.spec.prompt_template or ""
    if sum(text.count("{{") for _, text in task.document.texts) == template.count("{{"):
        return
    parameters = declared_parameters(task)
    names = set(parameters.properties) if parameters is not None else set()
    if task.spec.webhook is not None:
        names |= set(task.spec.webhook.config.param_mapping or {})
    spec, environment = task.spec, task.spec.environment
    shell: list[tuple[Route, Any]] = [
        (("environment", "setupCommands"), environment.setup_commands),
        (("command",), spec.command),
    ]
    shell.append((("promptFile",), spec.prompt_file))
    control: list[tuple[Route, Any]] = [
        (("model",), spec.model),
        (("environment", "image"), environment.image),
        (("environment", "network", "egress"), environment.network.egress if environment.network else None),
        *((route, value) for route, _, value in amounts(environment.resources)),
    ]
    command_names = set(re.findall(r"\{\{([A-Z][A-Z0-9_]*)\}\}", str(spec.command)))
    for route, name in (*_placeholders(shell, names), *_placeholders([(("command",), spec.command)], command_names - names)):
        hint = f"let the agent do it from the prompt, where `{{{{{name}}}}}` is plain text"
        if name in environment.secrets or name in environment.env:
            hint = f"write `${name}`" if route == ("command",) else f"let the program read its variable `{name}`"
        elif name not in names:
            hint = f"write the value itself, or declare `{name}` and let the program read it from `OPTIO_PARAMS_FILE`"
        elif spec.agent_runtime == "command":
            hint = f"delete it here, and let the program read `{name}` from the JSON file that `OPTIO_PARAMS_FILE` names"
        span = task.document.find(route, f"{{{{{name}}}}}")
        yield task.at("OPT415", f"`{{{{{name}}}}}` in `{show(route)}` {_FACT}", route, span=span, hint=hint)
    for route, name in _placeholders(control, None):
        span = task.document.find(route, f"{{{{{name}}}}}")
        from optio.compiler.conversions.entries import example_hint  # imported only for a file with a mistake

        hint = f"write a fixed value{example_hint(task.document.value, route)}, or one task for each"
        yield task.at("OPT416", f"`{{{{{name}}}}}` in `{show(route)}` {_FACT}", route, span=span, hint=hint)


def _evaluated(task: ResolvedTask) -> Iterator[Diagnostic]:
    """Report a parameter that a webhook fills, and that the command runs as a command."""
    if task.spec.command is None or not task.is_known(("command",)) or not task.is_known(ROUTE):
        return
    unbounded = unbounded_params(task.spec)
    from optio.compiler.checks import shell  # most tasks have no command

    for route, text in shell_texts(task.spec.command):
        for part in islice(shell.evaluated(text), _MAX_RUN_TEXTS):
            name = next((name for name in evaluated_names(part.source, text, task.prompt) if name in unbounded), None)
            if name is not None:
                message = f"the command runs `{name}`, and `{unbounded[name]}` of the payload may hold any command"
                hint = f"hand it to a program as an argument, or list its values: `enum` under `paramsSchema.properties.{name}`"
                span = task.document.inside(route, part.start, part.end)
                yield task.at("OPT415", message, route, hint=hint, span=span)


def evaluated_names(source: str, text: str, prompt: str) -> Iterator[str]:
    """Yield the parameters in a text that the command evaluates, which comes from the file of parameters, from standard input,
    or from a variable of the command that holds one of both."""
    variable = re.match(r"\$\{?(\w+)", source)
    if variable is not None:
        yield variable[1]
        assignment = re.search(rf"(?<!\w){variable[1]}=\"?(\$\([^\n]{{0,500}})", text)
        read_call = re.search(rf"(?<!\w)read[ \t]+(?:-\w+[ \t]+)*{variable[1]}(?!\w)", text)
        source = assignment[1] if assignment is not None else "$(cat)" if read_call is not None else ""
    if "OPTIO_PARAMS_FILE" in source and "@sh" not in source:
        yield from re.findall(r"\.([A-Za-z_]\w*)", source)
    elif re.match(r"\$\(\s*(?:cat(?:\s+-|\s+/dev/stdin)?|<\s*/dev/stdin)\s*\)", source):
        yield from PLACEHOLDER.findall(prompt)


def shell_texts(command: str | list[str] | None) -> Iterator[tuple[Route, str]]:
    """Yield the parts of `command` that a shell reads, with their routes."""
    if isinstance(command, str):
        yield ("command",), command
    elif command and command[0] in _SHELLS and "-c" in command[1:-1]:
        index = command.index("-c") + 1
        yield ("command", index), command[index]


def _placeholders(places: list[tuple[Route, Any]], names: set[str] | None) -> Iterator[tuple[Route, str]]:
    for route, value in places:
        texts = [(route, value)] if isinstance(value, str) else [((*route, i), item) for i, item in enumerate(value or [])]
        for place, text in texts:
            for name in dict.fromkeys(PLACEHOLDER.findall(text)):
                if names is None or name in names:
                    yield place, name
