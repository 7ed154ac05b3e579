"""Check what a task and its connections say together. What a connection's own file says is checked in
`compiler.connection_document`."""

from collections.abc import Iterator
from fnmatch import fnmatchcase

from optio.compiler.checks.untrusted_input import untrusted_parameters
from optio.compiler.diagnostics import Diagnostic
from optio.compiler.resolved_task import ResolvedTask
from optio.model.connection import Connection, HttpConnection, McpConnection, ModelConnection
from optio.model.route import Route
from optio.model.runtimes import key_variables


def check(task: ResolvedTask) -> Iterator[Diagnostic]:
    """Report connections that the task cannot use, or that strangers could use through it."""
    yield from _pins(task)
    yield from _models(task)
    yield from _variables(task)
    yield from _writes(task)


def route_of(task: ResolvedTask, connection: Connection) -> Route:
    """Return the place where the task names a connection."""
    uses = (use if isinstance(use, str) else use.id for use in task.spec.connections)
    return ("connections", next(index for index, name in enumerate(uses) if name == connection.id))


def _pins(task: ResolvedTask) -> Iterator[Diagnostic]:
    """Report tools without a pin in a file that has some: the gateway refuses a run that may call one."""
    for connection in task.connections:
        pins = connection.spec.pin if isinstance(connection.spec, McpConnection) else None
        unpinned = [tool for tool in connection.tools if pins is not None and tool not in pins]
        if unpinned:
            message = f"`{unpinned[0]}` has no pin in `{connection.id}`, so no run of this task begins"
            hint = f"run `optio connection pin {connection.id}`"
            yield task.at("OPT542", message, route_of(task, connection), hint=hint)


def _models(task: ResolvedTask) -> Iterator[Diagnostic]:
    """Report a second model service, and one that the agent cannot be led to or that has not its model."""
    runtime, model = task.spec.agent_runtime, task.spec.model
    services = [each for each in task.connections if isinstance(each.spec, ModelConnection)]
    for other in services[1:]:
        message = f"`{services[0].id}` is the model service of this task, so `{other.id}` has no effect"
        yield task.at("OPT544", message, route_of(task, other), hint="delete one of both")
    if not services or not task.is_known(("agentRuntime",)) or not task.is_known(("model",)):
        return
    service = services[0]
    if not key_variables(runtime, model):
        message = f"`{runtime}` cannot be led to the model service `{service.id}`"
        hint = "delete it: a program calls no model through the gateway"
        if runtime != "command":
            hint = "write a `model:` whose maker it names, or use another agent" if model is None else "use another agent"
        yield task.at("OPT544", message, route_of(task, service), hint=hint)
    allowed = service.spec.models if isinstance(service.spec, ModelConnection) else []
    if allowed and model is not None and not any(fnmatchcase(model, pattern) for pattern in allowed):
        message = f"the connection `{service.id}` does not allow the model `{model}`"
        yield task.at("OPT544", message, ("model",), hint=f"write one that fits {', '.join(allowed)}")


def _variables(task: ResolvedTask) -> Iterator[Diagnostic]:
    """Report a variable of the task's own with the name of one that leads to an HTTP service."""
    environment = task.spec.environment
    for connection in task.connections:
        if not isinstance(connection.spec, HttpConnection):
            continue
        name = connection.variable
        places: list[Route] = [("environment", "env", name)] if name in environment.env else []
        if name in environment.secrets:
            places.append(("environment", "secrets", environment.secrets.index(name)))
        for place in places:
            message = f"`{name}` is the address of the connection `{connection.id}`, and the task sets it, too"
            yield task.at("OPT545", message, place, key=place[1] == "env", hint="delete it here, or name it differently")


def _writes(task: ResolvedTask) -> Iterator[Diagnostic]:
    """Report what may be changed by an agent that reads text by strangers."""
    writing = [connection for connection in task.connections if connection.writes]
    path = next(iter(untrusted_parameters(task).values()), None) if writing else None
    for connection in writing if path is not None else ():
        writes = connection.writes
        count_text = f" (of {len(writes)})" if len(writes) > 1 else ""
        message = f"`{writes[0]}`{count_text} of `{connection.id}` meets text from strangers (`{path}`) in this task"
        hint = "leave it out, or let a task that a person starts do it"
        if not isinstance(connection.spec, HttpConnection):
            reads = [tool for tool in connection.tools if tool not in writes]
            hint = f"write `{{id: {connection.id}, tools: [{', '.join(reads)}]}}`; {hint}" if reads else hint
        yield task.at("OPT543", message, route_of(task, connection), hint=hint)
