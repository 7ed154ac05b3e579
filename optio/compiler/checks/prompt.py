"""Prompt: its size, and its placeholders against the declared parameters."""

import re
from collections.abc import Iterator

from optio.compiler.checks.declared import Declared, declared
from optio.compiler.diagnostics import Diagnostic, closest
from optio.compiler.resolve import ResolvedTask
from optio.model.prompt import PLACEHOLDER, placeholders

LARGEST = 256 * 1024
# `{{ NAME }}`, `{{a-b}}`, `{{a.b}}`, `{{#if x}}`, and `{{NAME` or `{{NAME}` that is not closed.
_ALMOST = re.compile(
    r"\{\{(?![A-Za-z0-9_]+\}\})"
    r"(?:[ \t]*[#/^>!&]?[ \t]*[A-Za-z0-9_][A-Za-z0-9_.\- ]{0,60}[ \t]*\}\}|[A-Za-z0-9_]{1,60}(?!\}|[A-Za-z0-9_]))"
)
_SINGLE = re.compile(r"(?<!\{)\$?\{([A-Za-z0-9_]+)\}(?!\})")


def check(task: ResolvedTask) -> Iterator[Diagnostic]:
    """Nothing is said about placeholders when the schema itself is broken."""
    if not (task.knows(("promptTemplate",)) and task.knows(("promptFile",))):
        return
    size = len(task.prompt.encode("utf-8", "surrogatepass"))
    if size > LARGEST:
        hint = "give the agent a file or a URL to read"
        yield task.at("OPT218", f"the prompt has {size:,} bytes, more than {LARGEST:,}", task.prompt_route, key=True, hint=hint)
        return
    if task.prompt_path is not None and not task.prompt.strip():
        yield task.at("OPT106", f"`{task.spec.prompt_file}` is empty", task.prompt_route, hint="write the prompt into it")
    known = declared(task)
    if known is None:
        return
    if "{{" in task.prompt or "{" in task.prompt:
        yield from _syntax(task, known)
        yield from _names(task, known)
    yield from _unused(task, known)


def _names(task: ResolvedTask, known: Declared) -> Iterator[Diagnostic]:
    if known.schema is None:
        return
    by_case = {name.casefold(): name for name in known.properties}
    seen: set[str] = set()
    for found in PLACEHOLDER.finditer(task.prompt):
        name = found[1]
        if name in seen:
            continue
        seen.add(name)
        shown = f"`{found[0]}`"
        if name in known.properties:
            if name not in known.required and not known.has_default(name):
                hint = "add a default, or list it under `required`"
                yield task.in_prompt("OPT217", f"{shown} stays as it is when nobody gives `{name}`", *found.span(), hint=hint)
        elif name.casefold() in by_case:
            right = by_case[name.casefold()]
            yield task.in_prompt(
                "OPT204", f"{shown} differs from `{right}` only by case", *found.span(), hint=f"write `{{{{{right}}}}}`"
            )
        elif known.complete:
            meant = closest(name, known.properties)
            hint = f"did you mean `{{{{{meant}}}}}`?" if meant else f"declare `{name}` under `paramsSchema.properties`"
            yield task.in_prompt("OPT201", f"{shown} has no parameter and stays as it is", *found.span(), hint=hint)


def _syntax(task: ResolvedTask, known: Declared) -> Iterator[Diagnostic]:
    for found in _ALMOST.finditer(task.prompt):
        word = re.sub(r"[^A-Za-z0-9_]", "", found[0].strip("{} #/^>!&"))
        hint = (
            f"write `{{{{{word}}}}}`"
            if word in known.properties
            else "write `{{NAME}}` with letters, digits and underscores only"
        )
        yield task.in_prompt("OPT203", f"`{found[0]}` is no placeholder and stays as it is", *found.span(), hint=hint)
    for found in _SINGLE.finditer(task.prompt):
        if found[1] in known.properties:
            hint = f"write `{{{{{found[1]}}}}}`"
            yield task.in_prompt("OPT203", f"`{found[0]}` is no placeholder and stays as it is", *found.span(), hint=hint)


def _unused(task: ResolvedTask, known: Declared) -> Iterator[Diagnostic]:
    if task.spec.agent_runtime == "command" and not task.prompt:
        return
    used = set(placeholders(task.prompt))
    folded = {name.casefold() for name in used}
    for name, sub in known.properties.items():
        marked = isinstance(sub, dict) and "x-optio-used-by" in sub
        if name not in used and name.casefold() not in folded and not marked and f"{{{name}}}" not in task.prompt:
            route = ("paramsSchema", "properties", name)
            yield task.at(
                "OPT202", f"the prompt does not use `{name}`", route, key=True, hint=f"use `{{{{{name}}}}}` or delete it"
            )
