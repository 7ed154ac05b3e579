"""Check the sample payloads that a task's tests name against its mapping and schema, as a delivery would be."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from optio.compiler.diagnostics import Diagnostic
from optio.compiler.param_schema.declared import DeclaredParameters, declared_parameters, parameter_names
from optio.compiler.resolved_task import ResolvedTask, Sample
from optio.compiler.suggest import suggest
from optio.model.params import apply_defaults, iter_faults
from optio.model.route import Route, show

NOTHING = object()
_TYPES: dict[type, str] = {str: "string", int: "integer", float: "number", bool: "boolean"}


def check(task: ResolvedTask) -> Iterator[Diagnostic]:
    """Report a mapped path that no sample has, and a sample whose test expects acceptance but whose parameters are not
    valid."""
    index = next((i for i, t in enumerate(task.spec.triggers) if t.type == "webhook" and task.is_known(("triggers", i))), None)
    if not task.samples or index is None or task.spec.webhook is None:
        return
    route: Route = ("triggers", index, "config", "paramMapping")
    mapping, parameters = task.spec.webhook.config.param_mapping, declared_parameters(task)
    if not task.is_known(route) or parameters is None:
        return
    from optio.model.mapping import PathSyntax  # a tree without samples does not pay for it

    try:
        lost_paths = _lost_paths(task, mapping or {}, parameters)
        if lost_paths:
            paths = sorted({path for sample in task.samples for path in paths_of(sample.payload)})
            for name, text in lost_paths.items():
                yield _lost(task, (*route, name), text, sorted({sample.path for sample in task.samples}), paths)
        elif not _is_wrong(task, mapping or {}, parameters):
            yield from _refused(task, mapping, parameters)
    except PathSyntax:  # reported by another check
        return


def _lost_paths(task: ResolvedTask, mapping: Mapping[str, Any], parameters: DeclaredParameters) -> dict[str, str]:
    """Return the parameters whose path no sample has, with that path."""
    from optio.model.mapping import compile_path

    if not any(sample.verdict == "accepted" for sample in task.samples):
        return {}
    payloads = {sample.path: sample.payload for sample in task.samples}
    paths = {name: compile_path(source) for name, source in mapping.items() if isinstance(source, str) and source[:1] == "$"}
    return {
        name: path.text
        for name, path in paths.items()
        if path.singular and not any(path.values(payload) for payload in payloads.values())
        if not _is_left_to_default(task, name, parameters)
    }


def _is_wrong(task: ResolvedTask, mapping: Mapping[str, Any], parameters: DeclaredParameters) -> bool:
    """Return True for a mapping with a mistake of its own, which `webhook` reports."""
    names = parameter_names(task, parameters)
    return any((names is not None and name not in names) or not _is_source(source) for name, source in mapping.items())


def _refused(task: ResolvedTask, mapping: Mapping[str, Any] | None, parameters: DeclaredParameters) -> Iterator[Diagnostic]:
    """Report the samples that are expected to start a run and whose parameters are not valid."""
    from optio.model.mapping import MappingFailed, from_payload

    reasons: dict[str, list[tuple[str, str]]] = {}
    for sample in task.samples:
        if sample.verdict != "accepted" or (mapping is None and not isinstance(sample.payload, dict)):
            continue
        if sample.path not in reasons:
            try:
                params = sample.payload if mapping is None else from_payload(mapping, sample.payload)
                reasons[sample.path] = list(_invalid(task, sample, params, parameters))
            except MappingFailed as err:
                hint = "give a smaller payload, or expect `verdict: invalid`"
                reasons[sample.path] = [(f"`{sample.path}` would be refused: {err}", hint)]
        for message, hint in reasons[sample.path]:
            yield task.at("OPT424", message, sample.route, hint=hint)


def _is_source(source: Any) -> bool:
    return isinstance(source, str) or (isinstance(source, dict) and set(source) == {"literal"})


def _is_left_to_default(task: ResolvedTask, name: str, parameters: DeclaredParameters) -> bool:
    """Return whether a test expects the default of a parameter that its sample leaves out."""
    schema = parameters.properties.get(name)
    if not isinstance(schema, dict) or "default" not in schema:
        return False
    param_sets = (example.expect.params or {} for example in task.spec.tests if example.webhook is not None)
    return any(name in params and params[name] == schema["default"] for params in param_sets)


def _lost(task: ResolvedTask, route: Route, text: str, names: list[str], paths: list[str]) -> Diagnostic:
    last = text.rpartition(".")[2]
    namesakes = [path for path in paths if path.rpartition(".")[2] == last]
    suggestion = suggest(text, paths) or (namesakes[0] if len(namesakes) == 1 else None)
    place_text = f"`{names[0]}`" if len(names) == 1 else "any sample"
    hint = f"did you mean `{suggestion}`?" if suggestion else "find the right path in the sample"
    return task.at("OPT413", f"`{text}` finds nothing in {place_text}", route, hint=hint)


def _invalid(
    task: ResolvedTask, sample: Sample, params: dict[str, Any], parameters: DeclaredParameters
) -> Iterator[tuple[str, str]]:
    """Yield message and hint for each way in which the parameters of a sample do not fit."""
    for place, message, word in iter_faults(parameters.schema, apply_defaults(parameters.schema, params)):
        if place and (place[0] in parameters.undeclared or (place[0] not in params and word != "required")):
            continue  # an undeclared required name or a default, reported in the schema
        name = f"`{show(place)}`: it" if place else "parameters: what it gives"
        hint = "update the sample or the mapping"
        if len(place) == 1 and word == "type" and (sent_type := _TYPES.get(type(params.get(str(place[0]))))) is not None:
            from optio.compiler.checks.params_pedantic import declare  # imported only for a file with a mistake

            hint = f"write {declare(str(place[0]), sent_type)}, which is what the sender sends; or {hint}"
        yield f"`{sample.path}` gives no valid {name} {message}", hint


def find_in_samples(task: ResolvedTask, steps: tuple[str, ...]) -> Iterator[Any]:
    """Yield the values at these steps in the payloads that the task's tests name."""
    for sample in task.samples:
        value = value_of(sample.payload, steps)
        if value is not NOTHING:
            yield value


def value_of(payload: Any, steps: tuple[str, ...]) -> Any:
    """Return the value at the steps of a payload, and `NOTHING` where it has none."""
    for step in steps:
        if isinstance(payload, dict) and step in payload:
            payload = payload[step]
        elif isinstance(payload, list) and re.fullmatch("-?[0-9]{1,9}", step) and -len(payload) <= int(step) < len(payload):
            payload = payload[int(step)]
        else:
            return NOTHING
    return payload


def paths_of(payload: Any) -> Iterator[str]:
    """Yield the paths of a payload's members, up to a limit that is enough for suggestions."""
    stack: list[tuple[str, Any]] = [("$", payload)]
    count = 0
    while stack and count < 2_000:
        at, value = stack.pop()
        count += 1
        yield at
        if isinstance(value, dict):
            stack.extend((f"{at}.{key}" if key.isidentifier() else f"{at}['{key}']", inner) for key, inner in value.items())
        elif isinstance(value, list) and value:
            stack.append((f"{at}[0]", value[0]))
