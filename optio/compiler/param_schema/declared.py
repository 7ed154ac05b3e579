"""Read which parameters a task's schema declares, as far as it can be read. Other checks ask here instead of reading the
schema."""

from functools import lru_cache
from typing import Any, NamedTuple

from optio.compiler.param_schema.keywords import repair_keywords
from optio.compiler.resolved_task import ResolvedTask
from optio.model.prompt import placeholders

ROUTE = ("paramsSchema",)
_OPEN_WORDS = frozenset(
    {"patternProperties", "$ref", "allOf", "anyOf", "oneOf", "if", "dependentSchemas", "unevaluatedProperties"}
)


class DeclaredParameters(NamedTuple):
    """The parameters of a task. `schema` is None when the task has none, and `complete` says that `properties` names every
    parameter. A required name without a declaration counts as declared (`undeclared`), so that it is reported only once."""

    schema: dict[str, Any] | None
    properties: dict[str, Any]
    required: frozenset[str]
    complete: bool
    undeclared: frozenset[str] = frozenset()

    @property
    def closed(self) -> bool:
        """Return True if a run with any other parameter is refused."""
        return self.schema is not None and self.schema.get("additionalProperties") is False

    def has_default(self, name: str) -> bool:
        """Return True if a run without this parameter still gets a value."""
        sub = self.properties.get(name)
        return isinstance(sub, dict) and "default" in sub

    def missing(self, given: Any) -> list[str]:
        """Return the declared required parameters that neither `given` nor a default provides."""
        names = sorted(self.required - self.undeclared)
        return [name for name in names if name not in given and not self.has_default(name)]


@lru_cache(maxsize=4)  # several checks ask about the same task
def declared_parameters(task: ResolvedTask) -> DeclaredParameters | None:
    """Return the declared parameters, or None when the schema is broken; callers then report nothing about parameters."""
    if not task.is_known(ROUTE):
        return None
    own_schema = task.spec.params_schema
    if own_schema is None:
        return DeclaredParameters(None, {}, frozenset(), complete=False)
    schema = repair_keywords(own_schema)
    properties, required = schema.get("properties", {}), schema.get("required", [])
    if not isinstance(properties, dict) or not isinstance(required, list):
        return None
    names = frozenset(name for name in required if isinstance(name, str))
    complete = not _OPEN_WORDS & set(schema)
    undeclared = names - set(properties) if complete else frozenset()
    return DeclaredParameters(schema, {**properties, **{name: {} for name in sorted(undeclared)}}, names, complete, undeclared)


def parameter_names(task: ResolvedTask, parameters: DeclaredParameters) -> set[str] | None:
    """Return every name that a mapping may give (declared parameters and the prompt's placeholders), or None when any is
    allowed."""
    if parameters.schema is not None and not parameters.complete:
        return None
    if parameters.schema is None and task.spec.agent_runtime == "command":
        return None
    names = set(parameters.properties)
    return names if parameters.closed else names | set(placeholders(task.prompt))


def declared_types(sub: Any) -> list[str] | None:
    """Return the types that a parameter accepts, or None where its schema does not restrict them."""
    types = sub.get("type") if isinstance(sub, dict) else None
    if isinstance(types, str):
        return [types]
    return [str(name) for name in types] if isinstance(types, list) and types else None
