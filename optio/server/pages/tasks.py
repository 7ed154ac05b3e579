"""Pages of tasks: the list, one task, and the form that starts a run of it."""

import asyncio
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Annotated, Any, Literal, get_args

from litestar import Response, get, post
from litestar.params import FromPath, FromQuery, QueryParameter

from optio.broker.base import Topic
from optio.errors import Duplicate, Invalid
from optio.model.money import dollars, max_run_usd
from optio.model.registry import CompiledTask
from optio.runs.submit import prepare_run
from optio.scheduling import cron
from optio.server.answers.drafts import forecast_wait
from optio.server.auth import role
from optio.server.bodies.base import MAX_REASON_LENGTH
from optio.server.bodies.overview import TaskOrder, TaskState
from optio.server.dependencies import Hub, Incoming, InjectedHub
from optio.server.pages import charts
from optio.server.pages.login import keep_form, read_form
from optio.server.pages.rendering import Pages, Word, page, redirect
from optio.server.pages.task_editing import is_denied
from optio.server.pages.task_tabs import TABS, Tab, read_tab
from optio.server.pages.task_triggers import address_of
from optio.server.read_models.overview import TaskFilter
from optio.server.webhooks import PREFIX
from optio.store.values import RunFilter

_PAGE = 50
_ORDERS: Mapping[TaskOrder, str] = {"id": "Id", "name": "Name", "next": "Next time", "cost": "Cost"}
_NEXT_FIRES = 5
_KINDS = {"string": "text", "boolean": "boolean", "integer": "number", "number": "number"}
Search = Annotated[str, QueryParameter(name="q", max_length=200)]
# `state` itself is a reserved name of the framework.
State = Annotated[Literal["", TaskState], QueryParameter(name="state")]
After = Annotated[str, QueryParameter(name="after", max_length=200)]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Field:
    """A parameter in the form, with the text that stands in it and what is wrong with that."""

    name: str
    kind: str
    value: str
    choices: Sequence[str]
    required: bool
    note: str
    problem: str


class TaskPages(Pages):
    """Routes of `/tasks`."""

    @get("/", opt=role("viewer"))
    async def front(self) -> Response[None]:
        """Lead to the tasks."""
        return redirect("/tasks")

    @get("/tasks", opt=role("viewer"))
    async def tasks_page(
        self,
        request: Incoming,
        hub: InjectedHub,
        search: Search = "",
        state_name: State = "",
        owner: Word = "",
        runtime: Word = "",
        order: FromQuery[TaskOrder] = "id",
        after: After = "",
    ) -> Response[str]:
        """Show the served tasks that fit the filters, in the order of ids, names, next fires or costs."""
        snapshot = hub.snapshot
        task_filter = TaskFilter(words=search, state=state_name or None, owner=owner or None, runtime=runtime or None)
        overview = await asyncio.to_thread(
            hub.overview.read, snapshot, task_filter, order=order, cursor=after or None, limit=_PAGE
        )
        owners, runtimes = hub.overview.choices(snapshot)
        return page(
            request,
            "tasks.html",
            found=overview,
            rows=[(task, charts.run_bars(task.last_runs)) for task in overview.items],
            filters={"q": search, "state": state_name, "owner": owner, "runtime": runtime, "order": order},
            choices={"state": get_args(TaskState), "owner": owners, "runtime": runtimes},
            orders=_ORDERS,
            snapshot=snapshot,
        )

    @get("/tasks/{task_id:str}", opt=role("viewer"))
    async def task_page(
        self,
        task_id: FromPath[str],
        request: Incoming,
        hub: InjectedHub,
        tab: FromQuery[Tab] = "overview",
        cursor: Word = "",
        run: FromQuery[Literal["", "yes"]] = "",
    ) -> Response[str]:
        """Show one task: its state, limits, triggers and last runs, or another part of its page. `run` runs its tests."""
        snapshot = hub.snapshot
        task = snapshot.registry.task(task_id)
        store = hub.services.store
        pauses = await asyncio.to_thread(store.pauses)
        fires = _fires(task, _NEXT_FIRES)
        values = await asyncio.to_thread(read_tab, hub, task, tab, cursor or None, fires, run=run == "yes")
        if tab == "overview":
            runs = await asyncio.to_thread(store.runs, RunFilter(task_id=task_id), limit=20)
            values = {
                "fires": fires,
                "words": None if task.spec.schedule is None else cron.explain(task.spec.schedule.config.cron_expression),
                "runs": runs.items,
                "definition": json.dumps(task.document["spec"], indent=2, ensure_ascii=False),
                "prompt": task.prompt,
                "address": None if task.spec.webhook is None else address_of(request, PREFIX + task.spec.webhook.config.path),
            }
        return page(
            request,
            "task.html",
            task=task,
            tab=tab,
            tabs=TABS,
            paused=pauses.get(task_id),
            stale=task_id in snapshot.kept,
            held=task_id in snapshot.held,
            denied=is_denied(hub),
            **values,
        )

    @post("/tasks/{task_id:str}/pause", status_code=303, opt=role("operator"))
    async def pause_on_page(self, task_id: FromPath[str], request: Incoming, hub: InjectedHub) -> Response[None]:
        """Start no more runs of the task for now."""
        reason = (await read_form(request)).get("reason", "")
        hub.snapshot.registry.task(task_id)
        printable = "".join(character for character in reason if character.isprintable())[:MAX_REASON_LENGTH]
        await asyncio.to_thread(hub.services.store.pause, task_id, printable, request.state.actor)
        return redirect(f"/tasks/{task_id}")

    @post("/tasks/{task_id:str}/resume", status_code=303, opt=role("operator"))
    async def resume_on_page(self, task_id: FromPath[str], hub: InjectedHub) -> Response[None]:
        """End the pause of the task."""
        hub.snapshot.registry.task(task_id)
        await asyncio.to_thread(hub.services.store.resume, task_id)
        hub.services.broker.tell(Topic.QUEUE)
        return redirect(f"/tasks/{task_id}")

    @get("/tasks/{task_id:str}/run", opt=role("operator"))
    async def run_form(self, task_id: FromPath[str], request: Incoming, hub: InjectedHub) -> Response[str]:
        """Show the form that starts a run."""
        task = hub.snapshot.registry.task(task_id)
        return await _form_page(hub, request, task, _fields(task, None, {}))

    @post("/tasks/{task_id:str}/run", status_code=303, opt={**role("operator"), "keep_form": keep_form})
    async def submit_run_form(self, task_id: FromPath[str], request: Incoming, hub: InjectedHub) -> Response[Any]:
        """Start a run and lead to it; or show its prompt, or the form again with what is wrong in it."""
        requested_at = datetime.now(UTC)
        form = await read_form(request)
        snapshot = hub.snapshot
        task = snapshot.registry.task(task_id)
        params, unread = _params(task, form)
        if unread:
            return await _form_page(hub, request, task, _fields(task, form, unread), status=422)
        try:
            run = prepare_run(
                task,
                params,
                new_id=hub.new_id(),
                trigger="manual",
                actor=request.state.actor,
                at=(),
                generation=snapshot.number,
            )
        except Invalid as err:
            wrong = {
                problem.pointer.split("/")[1] if "/" in problem.pointer else "": problem.message for problem in err.problems
            }
            return await _form_page(
                hub, request, task, _fields(task, form, wrong), status=422, problem=wrong.get("") or str(err)
            )
        if form.get("act", "run") != "run":
            return await _form_page(
                hub,
                request,
                task,
                _fields(task, form, {}),
                prompt=run.prompt,
                command=_command(task_id, params),
                curl=_curl(request, task_id, params),
            )
        try:
            accepted = await hub.start(run, None, requested_at)
        except Duplicate as err:
            return redirect(f"/runs/{err.run_id}")
        return redirect(f"/runs/{accepted.run_id}")


def _fires(task: CompiledTask, count: int) -> list[datetime]:
    trigger = task.spec.schedule
    if trigger is None or not trigger.enabled or not task.spec.enabled:
        return []
    return list(islice(cron.fires(trigger.config.cron_expression, trigger.config.timezone, datetime.now(UTC)), count))


async def _form_page(
    hub: Hub, request: Incoming, task: CompiledTask, fields: Sequence[_Field], *, status: int = 200, **values: Any
) -> Response[str]:
    budget = None if task.spec.budget_limit is None else dollars(task.spec.budget_limit)
    highest_cost = max_run_usd(task.spec)
    values = {
        "prompt": None,
        "command": None,
        "curl": None,
        "problem": None,
        "most": None if highest_cost is None or highest_cost == task.spec.budget_limit else dollars(highest_cost),
        "hold": await asyncio.to_thread(forecast_wait, hub, task),
        **values,
    }
    return page(request, "run_form.html", status=status, task=task, fields=fields, budget=budget, **values)


def _schemas(task: CompiledTask) -> Mapping[str, Any]:
    properties = (task.spec.params_schema or {}).get("properties")
    return properties if isinstance(properties, dict) else {}


def _kind(schema: Any) -> str:
    """Return how a parameter is entered: `text`, `choice`, or any other value as JSON."""
    if not isinstance(schema, dict):
        return "json"
    if isinstance(schema.get("enum"), list) and all(isinstance(choice, str) for choice in schema["enum"]):
        return "choice"
    return _KINDS.get(str(schema.get("type")), "json")


def _fields(task: CompiledTask, form: Mapping[str, str] | None, problems: Mapping[str, str]) -> list[_Field]:
    required = (task.spec.params_schema or {}).get("required") or []
    return [_field(name, schema, name in required, form, problems.get(name, "")) for name, schema in _schemas(task).items()]


def _field(name: str, schema: Any, required: bool, form: Mapping[str, str] | None, problem: str) -> _Field:
    kind = _kind(schema)
    properties = schema if isinstance(schema, dict) else {}
    default = properties.get("default")
    text = "" if default is None else default if kind in ("text", "choice") else json.dumps(default, ensure_ascii=False)
    choices = properties["enum"] if kind == "choice" else ["true", "false"] if kind == "boolean" else []
    return _Field(
        name=name,
        kind=kind,
        value=text if form is None else form.get(f"p.{name}", ""),
        choices=choices,
        required=required,
        note=str(properties.get("description", "")),
        problem=problem,
    )


def _params(task: CompiledTask, form: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the parameters that the form gives, and what could not be read. An empty field is not given."""
    params: dict[str, Any] = {}
    problems: dict[str, str] = {}
    for name, schema in _schemas(task).items():
        text = form.get(f"p.{name}", "").replace("\r\n", "\n")
        if not text:
            continue
        if _kind(schema) in ("text", "choice"):
            params[name] = text
            continue
        try:
            params[name] = json.loads(text)
        except (ValueError, RecursionError):
            problems[name] = "must be JSON: a number, true, a text in quotes, a list or an object"
    return params, problems


def _curl(request: Incoming, task_id: str, params: Mapping[str, Any]) -> str:
    """Return a curl command that starts the same run; it takes the token from `OPTIO_TOKEN`."""
    address = address_of(request, f"/api/tasks/{task_id}/runs")
    body = shlex.quote(json.dumps({"params": params}, ensure_ascii=False))
    headers = '-H "Authorization: Bearer $OPTIO_TOKEN" -H "Content-Type: application/json"'
    return f"curl -sSf -X POST {shlex.quote(address)} {headers} -d {body}"


def _command(task_id: str, params: Mapping[str, Any]) -> str:
    """Return the command that starts the same run."""
    words = ["optio", "run", task_id, "--wait"]
    for name, value in params.items():
        if isinstance(value, str):
            words += ["-p", f"{name}={'@' if value.startswith('@') else ''}{value}"]
        else:
            words += ["-P", f"{name}={json.dumps(value, ensure_ascii=False)}"]
    return shlex.join(words)
