"""All effects of one task, in the order in which a reviewer asks: identity, starts, callers, prompt, trust, running, access,
money."""

from collections.abc import Iterator

from optio.model.registry import CompiledTask
from optio.plan import access, contract, fires, hooks, identity, money, prompt, running, strangers
from optio.plan.effect import Effect, Forecast


def between(before: CompiledTask | None, after: CompiledTask | None, outlook: Forecast) -> tuple[Effect, ...]:
    """Return the effects of one pair of tasks. Empty if the files differ and the behaviour does not."""
    return tuple(_all(before, after, outlook))


def _all(before: CompiledTask | None, after: CompiledTask | None, outlook: Forecast) -> Iterator[Effect]:
    yield from identity.effects(before, after)
    yield from fires.effects(before, after, outlook)
    yield from hooks.effects(before, after, outlook)
    yield from contract.effects(before, after)
    yield from prompt.effects(before, after)
    yield from strangers.effects(before, after)
    yield from running.effects(before, after)
    yield from access.effects(before, after)
    yield from money.effects(before, after, outlook)
