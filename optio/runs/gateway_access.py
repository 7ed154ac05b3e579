"""Ways of an attempt through the gateway: to its model, with a key of its own in place of the credential, and to its
connections.

An agent calls its model through the gateway if its runtime asks a service whose protocol that speaks, by an API key, and if the
task names no service of its own. Connections are reached through the gateway alone. Used by `runs.execute`.
"""

import json
import re
import secrets
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Literal, NamedTuple

from optio.errors import LaunchFailed
from optio.model.connection import HttpConnection, McpConnection, ModelConnection
from optio.model.model_call import KEY_MARK, AttemptKey, CallTotals, key_digest
from optio.model.money import RunBudget, dollars
from optio.model.registry import CompiledTask
from optio.model.run import AttemptName, Outcome, Run
from optio.model.runtimes import Declaration, Enforcer, key_pattern, key_variables, service_of
from optio.model.usage import CostSource, Meter
from optio.runtimes.base import ToolServer

GatewayMode = Literal["off", "preferred", "required"]
_MODEL_PATH, _TOOLS_PATH, _HTTP_PATH, _CHECK_PATH = "/model", "/mcp", "/http", "/check"
# Servers of tools are reached side by side, each in ten seconds.
_CHECK_S = 40.0
_CONNECTION_FAILED = 424
_API_KEY = re.compile(r"\w+_(?:API_KEY|AUTH_TOKEN)")
_ENFORCERS: Mapping[Enforcer, str] = {
    "cli": "the agent",
    "meter": "Optio, after a call,",
    "report": "Optio, by what it reports,",
}
_MAX_DIFFERENCE_SHARE = Decimal("0.01")


@dataclass(frozen=True, slots=True)
class GatewayRoute:
    """The gateway as agents reach it, and whether they must. `url` has no path."""

    url: str
    mode: GatewayMode


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayAccess:
    """An attempt's way through the gateway: the endpoint of its model for its program, None for one that calls it by itself,
    the variables that it gets, the server of its tools, and its key, as `token` and as the store gets it."""

    endpoint: str | None
    variables: Mapping[str, str]
    tools: ToolServer | None
    token: str
    key: AttemptKey


class _UpstreamModel(NamedTuple):
    """Where a model is called, the secret that opens it, and the variables in which the agent's program expects the key."""

    upstream: str
    credential: str
    variables: Sequence[str]


def find_access(
    route: GatewayRoute | None,
    run: Run | AttemptName,
    task: CompiledTask,
    budget: RunBudget,
    names: list[str],
    endpoints: Mapping[str, str],
) -> GatewayAccess | None:
    """Return the way through the gateway; None for an agent that needs none. `names` are the secrets of the run. Raises
    LaunchFailed for an agent that must be led through the gateway and cannot be."""
    if route is None or route.mode == "off":
        if task.connections:
            message = "the task names connections, which only the gateway reaches, and OPTIO_GATEWAY is off"
            raise LaunchFailed("no_gateway", message, cure="set OPTIO_GATEWAY=preferred or required")
        return None
    service = _find_service(task, names, endpoints)
    if isinstance(service, str):
        if route.mode == "required":
            message = f"OPTIO_GATEWAY=required, and `{task.spec.agent_runtime}` cannot be led through it: {service}"
            raise LaunchFailed("not_metered", message)
        service = None
    if service is None and not task.connections:
        return None
    token = KEY_MARK.decode() + secrets.token_urlsafe(32)  # as KEY_PATTERN finds it
    key = AttemptKey(
        digest=key_digest(token),
        run_id=run.id,
        attempt=run.attempt,
        definition=run.digest,
        upstream=None if service is None else service.upstream,
        credential=None if service is None else service.credential,
        limit=budget.limit,
        spent=budget.spent,
        is_priced=budget.is_enforced,
        secrets=tuple(names),
    )
    url = route.url.rstrip("/")
    services = [each for each in task.connections if isinstance(each.spec, HttpConnection)]
    has_tools = any(isinstance(each.spec, McpConnection) for each in task.connections)
    return GatewayAccess(
        endpoint=None if service is None else url + _MODEL_PATH,
        variables={
            **({} if service is None else dict.fromkeys(service.variables, token)),
            **{each.variable: f"{url}{_HTTP_PATH}/{token}/{each.id}" for each in services},
        },
        tools=ToolServer(url=url + _TOOLS_PATH, key=token) if has_tools else None,
        token=token,
        key=key,
    )


def direct_note(
    route: GatewayRoute | None,
    task: CompiledTask,
    budget: RunBudget,
    names: Sequence[str],
    endpoints: Mapping[str, str],
    declaration: Declaration,
) -> list[str]:
    """Return what the log says of an agent that calls its model by itself though a gateway is there: why, and who holds it to
    its budget."""
    problem = None if route is None or route.mode == "off" else _find_service(task, names, endpoints)
    if not isinstance(problem, str):
        return []
    text = f"not led through the gateway: {problem}"
    enforcer = _ENFORCERS[declaration.capabilities.budget]
    return [text if budget.limit is None else f"{text}; {enforcer} ends it at its budget of {dollars(budget.limit)}"]


def _find_service(task: CompiledTask, names: Sequence[str], endpoints: Mapping[str, str]) -> _UpstreamModel | str | None:
    """Return the model service that the gateway calls for the task, or why it cannot lead the agent to one; None for a program
    that calls what it likes. Raises LaunchFailed."""
    runtime, model, environment = task.spec.agent_runtime, task.spec.model, task.spec.environment
    service = service_of(runtime, model)
    pattern = key_pattern(runtime, model)
    fitting = sorted(name for name in names if pattern and re.match(pattern, name) and _API_KEY.fullmatch(name))
    own = next((each for each in task.connections if isinstance(each.spec, ModelConnection)), None)
    if own is not None and isinstance(own.spec, ModelConnection):
        variables = fitting or key_variables(runtime, model)
        if not variables:
            message = f"`{runtime}` cannot be led to the model service of the connection `{own.id}`"
            raise LaunchFailed("not_metered", message, cure="take the connection out of the task, or use another agent")
        return _UpstreamModel(own.spec.url, own.spec.key, variables)
    if runtime == "command":
        return None
    upstream = endpoints.get(runtime) or (None if service is None else service.url)
    if service is not None and any(re.fullmatch(service.elsewhere, name) for name in (*names, *environment.env)):
        return "the task names a model service of its own: take its variable out of the task"
    if upstream is None:
        return "no endpoint of its models is known: set one with OPTIO_ENDPOINT_" + runtime.upper().replace("-", "_")
    if not fitting:
        return "it has no API key that the gateway could add for it: name one in `environment.secrets`"
    return _UpstreamModel(upstream, fitting[0], fitting)


def check_connections(route: GatewayRoute, key: str) -> None:
    """Ask the gateway whether it reaches what an attempt needs, before its agent begins. Raises LaunchFailed: a server that is
    away may be there for a retry."""
    # No proxy: the address is for agents beside this process.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    request = urllib.request.Request(  # noqa: S310 - an address from the settings
        route.url.rstrip("/") + _CHECK_PATH, headers={"Authorization": f"Bearer {key}"}
    )
    try:
        with opener.open(request, timeout=_CHECK_S):
            return
    except urllib.error.HTTPError as err:
        error = _error_of(err)
        if err.code == _CONNECTION_FAILED and error is not None:
            reason, message = error
            raise LaunchFailed(reason, message, again=reason == "unreachable") from err
        message = f"the gateway at {route.url} answers with status {err.code}"
    except OSError as err:
        message = f"the gateway at {route.url} does not answer: {err}"
    raise LaunchFailed("gateway", message, temporary=True)


def _error_of(err: urllib.error.HTTPError) -> tuple[str, str] | None:
    try:
        error = json.loads(err.read())["error"]
        return str(error["type"]), str(error["message"])
    except (ValueError, KeyError, TypeError, OSError):
        return None


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
