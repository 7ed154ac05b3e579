"""Ways of an attempt to its model: through the gateway, with a key of its own in place of the credential, or by itself.

An agent is led through the gateway if its runtime asks a service whose protocol that speaks, by an API key, and if the task
names no service of its own. Used by `runs.execute`.
"""

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Literal

from optio.errors import LaunchFailed
from optio.model.model_call import KEY_MARK, AttemptKey, CallTotals, key_digest
from optio.model.money import RunBudget, dollars
from optio.model.registry import CompiledTask
from optio.model.run import Outcome, Run
from optio.model.runtimes import key_pattern, service_of
from optio.model.usage import CostSource, Meter

GatewayMode = Literal["off", "preferred", "required"]
_MODEL_PATH = "/model"
_API_KEY = re.compile(r"\w+_(?:API_KEY|AUTH_TOKEN)")
_MAX_DIFFERENCE_SHARE = Decimal("0.01")


@dataclass(frozen=True, slots=True)
class GatewayRoute:
    """The gateway as agents reach it, and whether they must. `url` has no path."""

    url: str
    mode: GatewayMode


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelAccess:
    """An attempt's way to its model: the endpoint for its program, the variables that hold its key, and that key as the store
    gets it."""

    endpoint: str
    variables: Mapping[str, str]
    key: AttemptKey


def find_access(
    route: GatewayRoute | None,
    run: Run,
    task: CompiledTask,
    budget: RunBudget,
    names: list[str],
    endpoints: Mapping[str, str],
) -> ModelAccess | None:
    """Return the way through the gateway; None for an agent that calls its model by itself. `names` are the secrets of the run.
    Raises LaunchFailed for an agent that must be led through the gateway and cannot be."""
    if route is None or route.mode == "off" or task.spec.agent_runtime == "command":
        return None
    runtime, environment = task.spec.agent_runtime, task.spec.environment
    service = service_of(runtime, task.spec.model)
    upstream = endpoints.get(runtime) or (None if service is None else service.url)
    pattern = key_pattern(runtime, task.spec.model)
    fitting = sorted(name for name in names if pattern and re.match(pattern, name) and _API_KEY.fullmatch(name))
    is_elsewhere = service is not None and any(re.fullmatch(service.elsewhere, name) for name in (*names, *environment.env))
    if upstream is None or not fitting or is_elsewhere:
        if route.mode == "required":
            raise LaunchFailed("not_metered", _why_not(runtime, upstream, is_elsewhere=is_elsewhere))
        return None
    token = KEY_MARK.decode() + secrets.token_urlsafe(32)  # as KEY_PATTERN finds it
    key = AttemptKey(
        digest=key_digest(token),
        run_id=run.id,
        attempt=run.attempt,
        upstream=upstream,
        credential=fitting[0],
        limit=budget.limit,
        spent=budget.spent,
        is_priced=budget.is_enforced,
    )
    return ModelAccess(endpoint=route.url.rstrip("/") + _MODEL_PATH, variables=dict.fromkeys(fitting, token), key=key)


def _why_not(runtime: str, upstream: str | None, *, is_elsewhere: bool) -> str:
    problem = "it has no API key that the gateway could add for it: name one in `environment.secrets`"
    if is_elsewhere:
        problem = "the task names a model service of its own: take its variable out of the task"
    elif upstream is None:
        problem = "no endpoint of its models is known: set one with OPTIO_ENDPOINT_" + runtime.upper().replace("-", "_")
    return f"OPTIO_GATEWAY=required, and `{runtime}` cannot be led through the gateway: {problem}"


def metered(meter: Meter, totals: CallTotals) -> Meter:
    """Return what an attempt has used by the gateway's figures, with turns and tool calls as the agent tells them."""
    source = None if totals.cost is None else CostSource.PRICES
    return replace(meter, usage=totals.usage, cost=totals.cost, cost_source=source)


def notes(meter: Meter, totals: CallTotals) -> list[str]:
    """Return lines for the log about the difference between the agent's figure and the gateway's, and about estimates."""
    texts = []
    if totals.is_estimate and totals.cost is not None:
        texts.append(f"a model call broke off, so the cost of {dollars(totals.cost, exact=True)} is partly an estimate")
    told, cost = meter.cost, totals.cost
    if told is not None and cost is not None and abs(told - cost) > _MAX_DIFFERENCE_SHARE * max(told, cost):
        texts.append(
            f"the agent tells a cost of {dollars(told, exact=True)}, and by the gateway it is {dollars(cost, exact=True)}"
        )
    return texts


def judge(outcome: Outcome, totals: CallTotals) -> Outcome:
    """Return the outcome, or that the gateway refused a call without which the agent could not go on."""
    if outcome.ok or totals.refusal is None:
        return outcome
    return replace(outcome, reason=totals.refusal.reason, message=totals.refusal.message, again=False)
