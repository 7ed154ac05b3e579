"""Effects on trust: new ways for text written by outsiders into the prompt, whether or not a comment or the policy allows
them."""

from collections.abc import Iterator

from optio.model.effect import EffectKind, EffectWeight
from optio.model.registry import CompiledTask
from optio.model.untrusted import untrusted_params
from optio.plan import hooks, queries
from optio.plan.effect import Effect, trigger_route


def effects(before: CompiledTask | None, after: CompiledTask | None) -> Iterator[Effect]:
    """Yield one effect for each parameter that newly carries such text into the prompt."""
    old_paths = _untrusted_paths(before)
    for name, path in _untrusted_paths(after).items():
        if name not in old_paths or queries.normal_path(old_paths[name]) != queries.normal_path(path):
            text = f"`{{{{{name}}}}}` puts text by outsiders into the prompt: `{path}`"
            route = (*trigger_route(after, "webhook"), "paramMapping", name)
            yield Effect(
                kind=EffectKind.STRANGERS_WORDS,
                text=text,
                weight=EffectWeight.DANGER,
                before=old_paths.get(name),
                after=path,
                route=route,
            )


def _untrusted_paths(task: CompiledTask | None) -> dict[str, str]:
    return {} if task is None or hooks.config_of(task) is None else untrusted_params(task.spec, task.prompt)
