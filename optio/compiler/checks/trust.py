"""Check where placeholders stand. Parameters are filled into the prompt only: in a command, an image or a host, a value from
outside would choose what runs."""

import re
from collections.abc import Iterator
from typing import Any

from optio.compiler.checks.environment import amounts
from optio.compiler.diagnostics import Diagnostic
from optio.compiler.param_schema.declared import declared_parameters
from optio.compiler.resolved_task import ResolvedTask
from optio.model.prompt import PLACEHOLDER
from optio.model.route import Route, show

_FACT = "is not filled in: parameters are filled into the prompt only"


def check(task: ResolvedTask) -> Iterator[Diagnostic]:
    """Report placeholders outside the prompt. In a command only names of parameters count, because `{{.State}}` may be a
    template of the program itself."""
    template = task.spec.prompt_template or ""
    if sum(text.count("{{") for _, text in task.document.texts) == template.count("{{"):
        return
    known = declared_parameters(task)
    names = set(known.properties) if known is not None else set()
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
    own = set(re.findall(r"\{\{([A-Z][A-Z0-9_]*)\}\}", str(spec.command)))
    for route, name in (*_placeholders(shell, names), *_placeholders([(("command",), spec.command)], own - names)):
        hint = f"let the agent do it from the prompt, where `{{{{{name}}}}}` is plain text"
        if name not in names:
            hint = f"write the value itself, or declare `{name}` and let the program read it from `OPTIO_PARAMS_FILE`"
        elif spec.agent_runtime == "command":
            hint = f"let the program read `{name}` from the JSON file that `OPTIO_PARAMS_FILE` names"
        span = task.document.find(route, f"{{{{{name}}}}}")
        yield task.at("OPT415", f"`{{{{{name}}}}}` in `{show(route)}` {_FACT}", route, span=span, hint=hint)
    for route, name in _placeholders(control, None):
        span = task.document.find(route, f"{{{{{name}}}}}")
        from optio.compiler.conversions.entries import example_hint  # imported only for a file with a mistake

        hint = f"write a fixed value{example_hint(task.document.value, route)}, or one task for each"
        yield task.at("OPT416", f"`{{{{{name}}}}}` in `{show(route)}` {_FACT}", route, span=span, hint=hint)


def _placeholders(places: list[tuple[Route, Any]], names: set[str] | None) -> Iterator[tuple[Route, str]]:
    for route, value in places:
        texts = [(route, value)] if isinstance(value, str) else [((*route, i), item) for i, item in enumerate(value or [])]
        for place, text in texts:
            for name in dict.fromkeys(PLACEHOLDER.findall(text)):
                if names is None or name in names:
                    yield place, name
