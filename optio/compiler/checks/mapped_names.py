"""Compare the names under `paramMapping` with the parameters of the task, for schedules and webhooks alike. A misspelt name and
the parameter that it leaves without a value are one mistake, which is reported at the name."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from optio.compiler.diagnostics import Diagnostic
from optio.compiler.param_schema.declared import DeclaredParameters, parameter_names
from optio.compiler.resolved_task import ResolvedTask
from optio.compiler.suggest import suggest
from optio.model.route import Route


class MappedNames(NamedTuple):
    """The names of a mapping against those of the task. `unknown` maps each name that the task does not have to the parameter
    that it resembles; `absent` lists parameters without a value, except those that an unknown name may stand for (`misspelt`).
    `is_open` says that any name is allowed."""

    unknown: dict[str, str | None]
    absent: list[str]
    misspelt: frozenset[str]
    is_open: bool


def compare_names(task: ResolvedTask, parameters: DeclaredParameters, mapping: Mapping[str, Any]) -> MappedNames:
    """Return how the names of a mapping differ from the parameters of the task."""
    names = parameter_names(task, parameters)
    unknown = {name: suggest(name, names or ()) for name in mapping if names is not None and name not in names}
    absent = parameters.missing(mapping)
    misspelt = {similar for similar in unknown.values() if similar is not None}
    if len(unknown) == len(absent) == 1:
        misspelt.add(absent[0])
    return MappedNames(unknown, [name for name in absent if name not in misspelt], frozenset(misspelt), names is None)


def report_unknown(
    task: ResolvedTask, code: str, route: Route, mapping: Mapping[str, Any], names: MappedNames
) -> Iterator[Diagnostic]:
    """Yield a finding for each name of the mapping at `route` that is no parameter of the task."""
    for name, similar in names.unknown.items():
        hint = f"did you mean `{similar}`?" if similar else "delete it, or declare it under `paramsSchema.properties`"
        write = similar if similar not in mapping else None
        message = f"`{name}` is not a parameter of this task"
        yield task.at(code, message, (*route, name), key=True, hint=hint, write=write, safe=False)
