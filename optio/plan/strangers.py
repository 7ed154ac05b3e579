"""Ways for strangers' words into the prompt that there were not, whatever a comment or the policy says of them."""

from collections.abc import Iterator

from optio.model.effect import EffectKind, EffectWeight
from optio.model.registry import CompiledTask
from optio.model.untrusted import untrusted_params
from optio.plan import hooks, queries
from optio.plan.effect import Effect


def effects(before: CompiledTask | None, after: CompiledTask | None) -> Iterator[Effect]:
    """One for each parameter."""
    known = _untrusted_paths(before)
    for name, path in _untrusted_paths(after).items():
        if name not in known or queries.normal_path(known[name]) != queries.normal_path(path):
            text = f"`{{{{{name}}}}}` puts into the prompt what a stranger has written: `{path}`"
            route = (*hooks.route_of(after), "paramMapping", name)
            yield Effect(
                kind=EffectKind.STRANGERS_WORDS,
                text=text,
                weight=EffectWeight.DANGER,
                before=known.get(name),
                after=path,
                route=route,
            )


def _untrusted_paths(task: CompiledTask | None) -> dict[str, str]:
    return {} if task is None or hooks.config_of(task) is None else untrusted_params(task.spec, task.prompt)
