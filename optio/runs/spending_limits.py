"""The limits of an attempt that its usage is held to: `budgetUsd` of the run and `maxTurns` of the task. Pure.

They are held to here, for every runtime, and nowhere else: a reader only reports what its agent has used.
"""

from dataclasses import dataclass

from optio.model.model_call import CallTotals
from optio.model.money import RunBudget, dollars
from optio.model.registry import CompiledTask
from optio.model.run import Outcome
from optio.runs.runtime_guard import GuardedReader


@dataclass(frozen=True, slots=True)
class SpendingLimits:
    """The limits of what the agent of one attempt may use. The budget belongs to the run, so it counts what earlier attempts
    have spent. With `totals` the gateway holds the budget, before each call, and what the agent tells of its cost counts for
    nothing."""

    task: CompiledTask
    budget: RunBudget
    totals: CallTotals | None = None

    def stop_reason(self, reader: GuardedReader) -> Outcome | None:
        """Return the outcome of an agent that must not go on: its reader has failed or finds that pointless, or what it has
        used exceeds a limit, or cannot be counted. An agent that has told its end is not stopped by a limit."""
        outcome = reader.stop() or (None if reader.is_over else self._reached(reader))
        return reader.failure or outcome

    def _reached(self, reader: GuardedReader) -> Outcome | None:
        meter, budget = reader.meter, self.budget
        is_held = self.totals is not None
        if not is_held and budget.limit is not None and meter.cost is not None and budget.spent + meter.cost > budget.limit:
            spent = dollars(budget.spent + meter.cost, exact=True)
            return Outcome(ok=False, reason="budget", message=f"stopped at {spent} of {dollars(budget.limit)}")
        turns = self.task.spec.max_turns
        # A call that has begun is paid, so an agent that is about to make one too many is stopped before.
        if turns is not None and max(meter.turns or 0, reader.begun_turns) > turns:
            return Outcome(ok=False, reason="max_turns", message=f"stopped after {turns} turns")
        # A program of your own may report a turn before what that has cost.
        had_call = meter.turns and self.task.spec.agent_runtime != "command"
        if not is_held and budget.is_enforced and meter.cost is None and (had_call or meter.usage.total):
            message = f"stopped, because `budgetUsd` could not end it: {_why_unknown(reader.unpriced)}"
            return Outcome(ok=False, reason="unpriced", message=message)
        return None

    def unenforced(self, reader: GuardedReader) -> list[str]:
        """Return a sentence for each limit to which an attempt that has ended could not be held."""
        meter, sentences = reader.meter, []
        if self.totals is None and self.budget.limit is not None and meter.cost is None:
            problem = "what this attempt has cost is unknown" if self.budget.is_enforced else "budgetUsd was not enforced"
            sentences.append(f"{problem}: {_why_unknown(reader.unpriced)}")
        if self.task.spec.max_turns is not None and meter.turns is None:
            sentences.append("maxTurns was not enforced: its agent told no turn")
        return sentences


def _why_unknown(unpriced: str | None) -> str:
    """Return why the cost of an attempt is unknown. `unpriced` is a model that answered, and has no price."""
    if unpriced is None:
        return "its agent told no usage of a model call"
    return f"a model without a known price answered, `{unpriced}`" if unpriced else "a model that is not named answered"
