"""The business key: its placeholders must be parameters, for a key that says the same of everything makes all runs one."""

import re
from collections.abc import Iterator
from itertools import chain

from optio.compiler.checks.declared import Declared, declared, parameter_names
from optio.compiler.checks.prompt import ALMOST, SINGLE
from optio.compiler.diagnostics import Diagnostic, closest
from optio.compiler.resolve import ResolvedTask
from optio.model.prompt import PLACEHOLDER
from optio.model.route import Route

KEY: Route = ("dedupe", "key")
WINDOW: Route = ("dedupe", "window")


def check(task: ResolvedTask) -> Iterator[Diagnostic]:
    """Nothing is said about parameters when the schema itself is broken."""
    rule = task.spec.dedupe
    if rule is None:
        return
    if rule.window is not None and rule.on_duplicate == "replace":
        hint = "delete `window`, or write `onDuplicate: join`"
        yield task.at("OPT229", "`window` does nothing with `onDuplicate: replace`", WINDOW, key=True, hint=hint)
    known = declared(task)
    if known is not None:
        yield from _placeholders(task, rule.key, known)


def _placeholders(task: ResolvedTask, key: str, known: Declared) -> Iterator[Diagnostic]:
    names = parameter_names(task, known)
    for name in dict.fromkeys(found[1] for found in PLACEHOLDER.finditer(key)):
        shown = f"{{{{{name}}}}}"
        place = task.document.find(KEY, shown)
        if names is not None and name not in names:
            meant = next((each for each in names if each.casefold() == name.casefold()), None) or closest(name, sorted(names))
            hint = f"did you mean `{{{{{meant}}}}}`?" if meant else f"declare `{name}` under `paramsSchema.properties`"
            yield task.at("OPT227", f"`{shown}` in the key is no parameter", KEY, hint=hint, span=place)
        elif name in known.properties and name not in known.required and not known.has_default(name):
            hint = "add a default, or list it under `required`"
            yield task.at("OPT228", f"a run without `{name}` has no key and is refused", KEY, hint=hint, span=place)
    singles = (found for found in re.finditer(SINGLE, key) if found[1] in known.properties)
    for found in chain(re.finditer(ALMOST, key), singles):
        word = re.sub(r"[^A-Za-z0-9_]", "", found[0])
        message = f"`{found[0]}` in the key is no placeholder: it stands for itself"
        place = task.document.find(KEY, found[0])
        yield task.at("OPT227", message, KEY, hint=f"write `{{{{{word}}}}}`", span=place)
