"""All effects of one task, in the order in which a reviewer asks: identity, starts, callers, prompt, trust, running, access,
money."""

from optio.model.registry import CompiledTask
from optio.plan import access, contract, fires, hooks, identity, money, prompt, running, strangers
from optio.plan.effect import Effect, Forecast


def between(before: CompiledTask | None, after: CompiledTask | None, outlook: Forecast) -> tuple[Effect, ...]:
    """Return the effects of one pair of tasks. Empty if the files differ and the behaviour does not."""
    return (
        *identity.effects(before, after),
        *fires.effects(before, after, outlook),
        *hooks.effects(before, after, outlook),
        *contract.effects(before, after),
        *prompt.effects(before, after),
        *strangers.effects(before, after),
        *running.effects(before, after),
        *access.effects(before, after),
        *money.effects(before, after, outlook),
    )
