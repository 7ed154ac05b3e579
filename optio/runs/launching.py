"""The launch of an attempt: whether its task may start at all, the session that it continues, and its secrets."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from optio.errors import LaunchFailed
from optio.executors.base import Executor, Launch
from optio.model.isolation import cure
from optio.model.money import RunBudget, dollars, why_unpriced
from optio.model.registry import CompiledTask
from optio.model.result import with_instructions
from optio.model.run import Attempt, AttemptName, Outcome
from optio.model.session import UNFIT, Session, prompt_to_go_on, session_to_continue
from optio.runs.execution_context import ExecutionContext
from optio.runs.gateway_access import GatewayAccess, GatewayRoute, find_access
from optio.runs.runtime_guard import invoke
from optio.runtimes.base import AttemptContext, Runtime, ToolServer
from optio.secrets.base import Secrets, run_secrets
from optio.store.values import Claim


def find_refusal(task: CompiledTask, budget: RunBudget, executor: Executor) -> Outcome | None:
    """Return the outcome of an attempt that must not begin: nothing could limit what it spends, or nothing would isolate it."""
    if budget.limit is not None and budget.is_spent:
        # A retry decided by an older version, in which the budget belonged to an attempt.
        message = f"not begun: {dollars(budget.spent, exact=True)} of the run's budget of {dollars(budget.limit)} is spent"
        return Outcome(ok=False, reason="budget", message=message)
    unpriced = why_unpriced(task.spec)
    if unpriced is not None:
        return Outcome(ok=False, reason="unpriced", message=": ".join(unpriced))
    # The policy's demands hold for every worker that executes the task.
    gaps = executor.not_applied(task.isolation)
    if gaps:
        names = [name for name in task.isolation if executor.not_applied([name])]
        message = f"not isolated as the policy demands: {'; '.join(gaps)}: start workers with {cure(names)}"
        return Outcome(ok=False, reason="not_isolated", message=message)
    return None


class SessionChoice(NamedTuple):
    """The agent's session that an attempt continues, or why it begins a new one, where another was to go on."""

    session: Session | None = None
    obstacle: str = ""

    def note(self) -> list[str]:
        """Return what the log says of it."""
        session = self.session
        if session is None:
            return [self.obstacle] if self.obstacle else []
        calls = "1 tool call" if session.tool_calls == 1 else f"{session.tool_calls} tool calls"
        purpose = ", to mend its result" if session.reason in UNFIT else ""
        return [f"continues the session of attempt {session.last}, which had made {calls}{purpose}"]


def choose_session(claim: Claim, runtime: Runtime, executor: Executor, attempts: list[Attempt]) -> SessionChoice:
    """Return the session in which this attempt goes on, if it can. A retry by hand begins anew: it finds no files. Raises
    LaunchFailed."""
    run, agent = claim.run, runtime.declaration
    session = session_to_continue([attempt for attempt in attempts if attempt.number < run.attempt])
    if session is None or not (session.reason in UNFIT or run.retries + run.infrastructure_retries):
        return SessionChoice()
    if executor.can_continue(run.id, session.first, executor.program(agent.name)):
        return SessionChoice(session)
    return SessionChoice(obstacle=f"begins anew: the session of attempt {session.last} cannot be continued here")


def may_continue(claim: Claim, runtime: Runtime) -> bool:
    """Return whether the attempt could go on in the session of an earlier one, if that left one."""
    agent = runtime.declaration
    return agent.capabilities.resume and agent.program is not None and claim.run.attempt > 1


def read_secrets(names: list[str], secrets: Secrets) -> dict[str, str]:
    """Return the values of secrets by name. Raises LaunchFailed, with the place where one is to be set, and
    SecretUnavailable."""
    values = {}
    for name in names:
        value = secrets.get(name)
        if value is None:
            raise LaunchFailed("secret_missing", f"the secret `{name}` has no value: {secrets.where(name)}")
        values[name] = value
    return values


def check_lengths(secrets: Mapping[str, str], runtime: Runtime) -> None:
    """Raise LaunchFailed for a secret that is so short that the agent would mask other words."""
    agent = runtime.declaration
    short = next((name for name, value in secrets.items() if len(value) < agent.shortest_secret), None)
    if short is not None:
        problem = f"{agent.title} masks it in all that it prints: set one of {agent.shortest_secret} characters or more"
        raise LaunchFailed("config", f"the value of the secret `{short}` is too short: {problem}")


def planned_access(
    route: GatewayRoute | None, task: CompiledTask, credentials: Sequence[str], endpoints: Mapping[str, str]
) -> GatewayAccess | None:
    """Return the way through the gateway that attempts of the task will have, but with another key; None for those that have
    none, or that are refused."""
    try:
        return find_access(
            route, AttemptName("", 0, ""), task, RunBudget.of(task.spec), run_secrets(task, credentials), endpoints
        )
    except LaunchFailed:
        return None


def gateway_of(context: ExecutionContext, task: CompiledTask) -> str | None:
    """Return the URL of the gateway for launches of the task, None if they have no way through it."""
    route = context.gateway
    return route.url if route and planned_access(route, task, context.credentials, context.endpoints) else None


def build_launch(
    claim: Claim,
    task: CompiledTask,
    runtime: Runtime,
    context: ExecutionContext,
    *,
    session: Session | None,
    secrets: Mapping[str, str],
    endpoint: str | None,
    tools: ToolServer | None,
    gateway: str | None,
    leased_at: float,
) -> Launch:
    """Return the launch. `endpoint` is that of the model, None for the one that the agent knows. `tools` is the server of its
    tools, and `gateway` the URL of the gateway that leads to both. `leased_at` is when the lease was requested, by the clock of
    the executor. Raises LaunchFailed."""
    run, spec, agent = claim.run, task.spec, runtime.declaration
    call_context = AttemptContext(
        program="" if agent.program is None else context.executor.program(agent.name),
        endpoint=endpoint,
        tools=tools,
        spent=claim.spent,
        session=None if session is None else session.id,
    )
    prompt = with_instructions(claim.prompt, spec) if session is None else prompt_to_go_on(session)
    call = invoke(runtime, task, prompt, run.params, call_context)
    timeout = spec.timeout_span or context.default_timeout
    deadline = datetime.now(UTC) + timeout
    return Launch(
        run_id=run.id,
        attempt=run.attempt,
        argv=call.argv,
        stdin=call.stdin,
        env={
            **call.env,
            **context.telemetry.environment(run),
            **spec.environment.env,
            **secrets,
            "OPTIO_RUN_ID": run.id,
            "OPTIO_TASK_ID": run.task_id,
            "OPTIO_ATTEMPT": str(run.attempt),
            "OPTIO_DEADLINE": str(int(deadline.timestamp())),
        },
        files=call.files,
        file_env=call.file_env,
        file_options=call.file_options,
        side=runtime.side,
        telemetry=call.telemetry,
        # Whatever set-up commands made is in the working directory of the session already.
        setup=(*(spec.environment.setup_commands if session is None else ()), *call.setup),
        setup_env=spec.environment.env if spec.environment.setup_ahead else None,
        environment=spec.environment,
        runtime_program=agent.program is not None,
        warm=spec.warm_pool_size > 0,
        continues=None if session is None else session.first,
        gateway=gateway,
        timeout_s=timeout.total_seconds(),
        orphan_s=context.orphan_timeout.total_seconds(),
        leased_at=leased_at,
    )
