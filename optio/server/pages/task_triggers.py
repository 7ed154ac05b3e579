"""Pages of the triggers of a task: add one, turn it on or off, remove it, and send a trial delivery to its webhook."""

import json
from collections.abc import Mapping
from typing import Annotated, Any

from litestar import Response, get, post
from litestar.params import FromPath, QueryParameter

from optio.errors import Invalid, NotFound, OptioError, WritesDenied
from optio.model.registry import CompiledTask
from optio.model.senders import SENDERS
from optio.server import problems
from optio.server.answers.drafts import is_event
from optio.server.auth import role
from optio.server.bodies.drafts import TrialDeliveryBody
from optio.server.dependencies import Incoming, InjectedHub
from optio.server.pages.login import keep_form, read_form
from optio.server.pages.rendering import Pages, page, redirect
from optio.server.pages.task_editing import show_commit
from optio.server.pages.task_form import schedule_config, webhook_config
from optio.server.pages.task_presets import SCHEDULES
from optio.server.task_changes import with_file, write_file
from optio.server.trial_delivery import deliver, sample_payload
from optio.server.webhooks import PREFIX
from optio.settings import LOOPBACK
from optio.tree.writer import WriteResult

Kind = Annotated[str, QueryParameter(name="kind", max_length=20)]
_ACTS = ("enable", "disable", "remove")


class TriggerPages(Pages):
    """Routes of `/tasks/{id}/triggers`."""

    @get("/tasks/{task_id:str}/triggers/add", opt=role("admin"))
    async def trigger_form(
        self, task_id: FromPath[str], request: Incoming, hub: InjectedHub, kind: Kind = "schedule"
    ) -> Response[str]:
        """Show the form of a new schedule or webhook."""
        task = with_file(hub, task_id)
        return _form(request, task, {"kind": _check_kind(kind), "params": _missing(task, kind), "hookPath": task.id})

    @post("/tasks/{task_id:str}/triggers/add", status_code=200, opt={**role("admin"), "keep_form": keep_form})
    async def add_trigger_on_page(self, task_id: FromPath[str], request: Incoming, hub: InjectedHub) -> Response[Any]:
        """Write the trigger into the task's file, or show the form again with what is wrong."""
        form = await read_form(request)
        _check_kind(form.get("kind", ""))
        task = with_file(hub, task_id)
        if form.get("act", "add") != "add":
            return _form(request, task, form)
        try:
            body = _trigger(task, form)
            async with hub.write_lock:
                await write_file(hub, lambda: hub.task_writer.add_trigger(with_file(hub, task_id), body))
        except WritesDenied as err:
            return await show_commit(request, hub, task_id, err)
        except OptioError as err:
            status, _, document = problems.describe_error(err)
            return _form(request, task, form, status=status, problem=document)
        return redirect(f"/tasks/{task_id}#triggers")

    @post("/tasks/{task_id:str}/triggers/{kind:str}/{act:str}", status_code=303, opt=role("admin"))
    async def change_trigger_on_page(
        self, task_id: FromPath[str], kind: FromPath[str], act: FromPath[str], request: Incoming, hub: InjectedHub
    ) -> Response[Any]:
        """Turn a trigger on or off, or remove it, in the task's file."""
        if act not in _ACTS:
            raise NotFound("page", act[:200])

        def write() -> WriteResult:
            task = with_file(hub, task_id)
            if act == "remove":
                return hub.task_writer.remove_trigger(task, kind, None)
            return hub.task_writer.enable_trigger(task, kind, act == "enable", None)

        try:
            async with hub.write_lock:
                await write_file(hub, write)
        except WritesDenied as err:
            return await show_commit(request, hub, task_id, err)
        return redirect(f"/tasks/{task_id}#triggers")

    @get("/tasks/{task_id:str}/trial", opt=role("operator"))
    async def trial_form(self, task_id: FromPath[str], request: Incoming, hub: InjectedHub) -> Response[str]:
        """Show the form of a trial delivery, with a payload that has what the mapping reads."""
        task = hub.snapshot.registry.task(task_id)
        return _trial(request, task, sample_payload(task), "")

    @post("/tasks/{task_id:str}/trial", status_code=200, opt={**role("operator"), "keep_form": keep_form})
    async def send_trial(self, task_id: FromPath[str], request: Incoming, hub: InjectedHub) -> Response[Any]:
        """Sign the payload and deliver it, and show the answer; a run that it started is one click away."""
        form = await read_form(request)
        task = hub.snapshot.registry.task(task_id)
        payload, event = form.get("payload", "").replace("\r\n", "\n"), form.get("event", "").strip()
        if form.get("act", "send") != "send":
            return _trial(request, task, payload, event)
        if event and not is_event(event):
            return _trial(request, task, payload, event, status=422, problem="the event cannot be sent: write its name")
        try:
            answer = await deliver(hub, task, payload.encode("utf-8", "replace"), event or None, request.headers["host"])
        except NotFound:
            raise
        except OptioError as err:
            status, _, document = problems.describe_error(err)
            return _trial(request, task, payload, event, status=status, problem=document.detail)
        return _trial(request, task, payload, event, answer=answer)


def address_of(request: Incoming, path: str) -> str:
    """Return the whole address of a path of this server, for others. Outside of this machine, a proxy with a certificate is
    expected."""
    host = request.headers["host"]
    name = host.rpartition(":")[0] or host
    return f"http{'' if name.strip('[]').lower() in LOOPBACK else 's'}://{host}{path}"


def _check_kind(kind: str) -> str:
    if kind not in ("schedule", "webhook"):
        raise NotFound("trigger", kind[:200])
    return kind


def _form(
    request: Incoming, task: CompiledTask, values: Mapping[str, str], *, status: int = 200, problem: Any = None
) -> Response[str]:
    return page(
        request,
        "task_trigger.html",
        status=status,
        task=task,
        values=values,
        problem=problem,
        schedules=SCHEDULES,
        senders=SENDERS,
        address=address_of(request, PREFIX + (values.get("hookPath") or "PATH")),
    )


def _trial(
    request: Incoming,
    task: CompiledTask,
    payload: str,
    event: str,
    *,
    status: int = 200,
    problem: str = "",
    answer: TrialDeliveryBody | None = None,
) -> Response[str]:
    hook = task.spec.webhook
    if hook is None:
        raise NotFound("trigger", "webhook")
    return page(
        request,
        "task_trial.html",
        status=status,
        task=task,
        hook=hook,
        payload=payload,
        event=event,
        problem=problem,
        answer=answer,
    )


def _missing(task: CompiledTask, kind: str) -> str:
    """Return a line for each parameter that a run needs and that has no default."""
    schema = task.spec.params_schema or {}
    properties, names = schema.get("properties") or {}, schema.get("required") or []
    required = [name for name in names if "default" not in (properties.get(name) or {})]
    return "".join(f"{name} = {'$.' if kind == 'webhook' else ''}\n" for name in required)


def _trigger(task: CompiledTask, form: Mapping[str, str]) -> dict[str, Any]:
    """Return the trigger in the form, as the API takes it. Raises Invalid."""
    kind = form["kind"]
    config = schedule_config(form) if kind == "schedule" else webhook_config(form)
    if config is None:
        cure = "choose its times" if kind == "schedule" else "write the end of its address"
        raise Invalid(f"the {kind} is empty: {cure}")
    if kind == "webhook" and form.get("secretValue", "").strip():
        # Kept as a secret; its name goes into the file.
        config["secret"] = form["secretValue"].strip()
    mapping = _mapping(task, form.get("params", ""))
    return {"type": kind, "config": {**config, **({"paramMapping": mapping} if mapping else {})}}


def _mapping(task: CompiledTask, text: str) -> dict[str, Any]:
    properties = (task.spec.params_schema or {}).get("properties") or {}
    mapping: dict[str, Any] = {}
    for line in text.splitlines():
        name, equals, value = line.partition("=")
        name, value = name.strip(), value.strip()
        if not name and not equals:
            continue
        if not equals or not name:
            raise Invalid(f"the parameter `{line.strip()[:80]}` cannot be read: write NAME = VALUE")
        schema = properties.get(name)
        is_text = not isinstance(schema, dict) or schema.get("type", "string") == "string" or value.startswith("$")
        try:
            mapping[name] = value if is_text else json.loads(value)
        except (ValueError, RecursionError):
            mapping[name] = value
    return mapping
