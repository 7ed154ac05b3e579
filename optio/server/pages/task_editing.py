"""Pages that write task files: a new task, the editor of one, and its removal. They write what the API writes, and check a text
by the same function. What somebody typed comes back with every answer: with findings, after a conflict, after a new login."""

import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

from litestar import Response, get, post
from litestar.params import FromPath, QueryParameter

from optio.compiler.source_tree import MAX_FILE_BYTES
from optio.errors import Conflict, Forbidden, Invalid, NotFound, OptioError, WritesDenied
from optio.model.registry import CompiledTask
from optio.model.run import RunState
from optio.secrets.base import is_missing
from optio.server import problems
from optio.server.answers.drafts import check_text
from optio.server.auth import role
from optio.server.dependencies import Hub, Incoming, InjectedHub
from optio.server.pages.login import keep_form, read_form
from optio.server.pages.rendering import Pages, page, redirect
from optio.server.pages.task_form import FormError, apply_fields, form_fields, read_fields
from optio.server.pages.task_presets import PRESETS
from optio.server.problems import HttpProblem
from optio.server.task_changes import delete_task, put_text, with_file
from optio.store.values import RunFilter
from optio.tree.drafts import Draft
from optio.tree.writer import TaskFile

_FIELD = "f."
_MAX_COUNTED = 200
# A form writes many characters of a file as three.
_MAX_DRAFT_BYTES = 4 * MAX_FILE_BYTES
Preset = Annotated[str, QueryParameter(name="preset", max_length=100)]


@dataclass(frozen=True, slots=True, kw_only=True)
class _EditState:
    """The state of the page: the text, the fields as they were shown last and as they are now, and the file that the text was
    read from (its task, and the digest of its bytes)."""

    text: str
    was: Mapping[str, str]
    now: Mapping[str, str]
    task_id: str | None = None
    digest: str = ""
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Theirs:
    """The file as somebody else has changed it meanwhile, and how the text here differs from it."""

    text: str
    diff: Sequence[str]


class TaskEditingPages(Pages):
    """Routes of `/tasks/new`, `/tasks/{id}/edit` and `/tasks/{id}/delete`."""

    @get("/tasks/new", opt=role("operator"))
    async def new_task(self, request: Incoming, hub: InjectedHub, preset: Preset = "blank") -> Response[str]:
        """Show the form of a new task, filled with a preset."""
        if preset not in PRESETS:
            raise NotFound("preset", preset)
        return await _show(request, hub, _fresh(PRESETS[preset].text), preset=preset)

    @post("/tasks/new", status_code=200, opt={**role("operator"), "keep_form": keep_form})
    async def submit_new_task(self, request: Incoming, hub: InjectedHub) -> Response[Any]:
        """Show the form again with the YAML, its findings and its effects, or write the task and lead to it."""
        form = await read_form(request, _MAX_DRAFT_BYTES)
        return await _submit(request, hub, form, _merge(form, None), None)

    @get("/tasks/{task_id:str}/edit", opt=role("operator"))
    async def edit_task(self, task_id: FromPath[str], request: Incoming, hub: InjectedHub) -> Response[str]:
        """Show the form of a task with the text of its file."""
        file = hub.task_writer.read_file(with_file(hub, task_id))
        return await _show(request, hub, replace(_fresh(_text(file)), task_id=task_id, digest=file.digest))

    @post("/tasks/{task_id:str}/edit", status_code=200, opt={**role("operator"), "keep_form": keep_form})
    async def submit_task(self, task_id: FromPath[str], request: Incoming, hub: InjectedHub) -> Response[Any]:
        """Show the form again with the YAML, its findings and its effects, or write the file and lead to the task."""
        form = await read_form(request, _MAX_DRAFT_BYTES)
        draft = _merge(form, task_id)
        try:
            file = hub.task_writer.read_file(with_file(hub, task_id))
        except (NotFound, Conflict) as err:
            # The file is gone; what was typed is not.
            new_draft = replace(draft, task_id=None, problem=f"{err}. Your text is kept: Write makes the file again.")
            return await _show(request, hub, new_draft, status=409)
        return await _submit(request, hub, form, draft, file)

    @get("/tasks/{task_id:str}/delete", opt=role("admin"))
    async def confirm_delete(self, task_id: FromPath[str], request: Incoming, hub: InjectedHub) -> Response[str]:
        """Ask whether the task is to be deleted, and say what becomes of its runs, its schedule and its webhook."""
        task = hub.snapshot.registry.task(task_id)
        return page(request, "task_delete.html", task=task, denied=is_denied(hub), **_run_counts(hub, task))

    @post("/tasks/{task_id:str}/delete", status_code=303, opt=role("admin"))
    async def delete_on_page(self, task_id: FromPath[str], request: Incoming, hub: InjectedHub) -> Response[Any]:
        """Delete the file of the task, unless it has changed since the question."""
        digest = (await read_form(request)).get("digest", "")
        await delete_task(hub, task_id, [digest], request.state.actor)
        return redirect("/tasks")


def _fresh(text: str) -> _EditState:
    values = read_fields(text) or {}
    return _EditState(text=text, was=values, now=values)


def _text(file: TaskFile) -> str:
    return file.data.decode("utf-8", "replace")


def _merge(form: Mapping[str, str], task_id: str | None) -> _EditState:
    """Return the draft that the form carries, with the changed fields put into its text."""
    text = form.get("text", "").replace("\r\n", "\n")
    now = {name.removeprefix(_FIELD): value.replace("\r\n", "\n") for name, value in form.items() if name.startswith(_FIELD)}
    was = _as_shown(form.get("was", ""))
    draft = _EditState(text=text, was=was, now=now, task_id=task_id, digest=form.get("digest", ""))
    try:
        return replace(_fresh(apply_fields(text, was, now)), task_id=task_id, digest=draft.digest)
    except FormError as err:
        return replace(draft, problem=str(err))


def _as_shown(text: str) -> dict[str, str]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return {str(name): str(value) for name, value in document.items()} if isinstance(document, dict) else {}


async def _submit(
    request: Incoming, hub: Hub, form: Mapping[str, str], draft: _EditState, file: TaskFile | None
) -> Response[Any]:
    if form.get("act") != "write" or draft.problem:
        return await _show(request, hub, draft, status=422 if draft.problem else 200)
    checked = await check_text(hub, draft.text, draft.task_id)
    if checked.task is None:
        return await _show(request, hub, draft, checked, status=422)
    if file is not None and file.digest != draft.digest:
        return await _show_conflict(request, hub, draft, file)
    if not is_denied(hub) and not request.state.who.may("admin"):
        raise Forbidden("writing task files needs the role admin: copy the YAML, and let an admin write it")
    text = draft.text.replace("\n", "\r\n") if file is not None and b"\r\n" in file.data else draft.text
    try:
        async with hub.write_lock:
            result = await put_text(hub, checked.task.id, text, None if file is None else [draft.digest])
    except WritesDenied as err:
        return await _show(request, hub, draft, checked, commit=err)
    except HttpProblem as err:
        if err.type != "stale-task":
            raise
        return await _show_conflict(request, hub, draft, hub.task_writer.read_file(with_file(hub, checked.task.id)))
    except Invalid as err:
        message = "; ".join(problem.message for problem in err.problems)
        return await _show(request, hub, replace(draft, problem=f"{err}: {message}"), checked, status=422)
    except OptioError as err:
        status, _, document = problems.describe_error(err)
        return await _show(request, hub, replace(draft, problem=document.detail), checked, status=status)
    return redirect(f"/tasks/{result.task_id}")


async def show_commit(request: Incoming, hub: Hub, task_id: str, denied: WritesDenied) -> Response[str]:
    """Show the changed file of a task with the commands to commit it, for a change that this server may not write."""
    file = hub.task_writer.read_file(with_file(hub, task_id))
    state = replace(_fresh(denied.document), task_id=task_id, digest=file.digest)
    return await _show(request, hub, state, commit=denied)


async def _show_conflict(request: Incoming, hub: Hub, draft: _EditState, file: TaskFile) -> Response[str]:
    """Show both versions. The draft goes on from the file as it is now, so a second write replaces it knowingly."""
    current_text = _text(file)
    lines = difflib.unified_diff(
        current_text.splitlines(),
        draft.text.splitlines(),
        f"{file.path} (in the file now)",
        f"{file.path} (yours)",
        lineterm="",
    )
    now = replace(draft, digest=file.digest)
    return await _show(request, hub, now, status=409, theirs=_Theirs(text=current_text, diff=list(lines)))


async def _show(
    request: Incoming,
    hub: Hub,
    draft: _EditState,
    checked: Draft | None = None,
    *,
    status: int = 200,
    preset: str = "",
    commit: WritesDenied | None = None,
    theirs: _Theirs | None = None,
) -> Response[str]:
    checked = checked or await check_text(hub, draft.text, draft.task_id)
    return page(
        request,
        "task_edit.html",
        status=status,
        draft=draft,
        was=json.dumps(dict(draft.was)),
        fields=form_fields(draft.now, draft.text),
        checked=checked,
        findings=[finding.to_json() for finding in checked.diagnostics],
        effects=checked.effects,
        failing=checked.failing,
        lacking=_lacking(hub, checked.task),
        presets=PRESETS,
        preset=preset,
        commit=commit,
        theirs=theirs,
        denied=is_denied(hub),
        may_write=request.state.who.may("admin"),
    )


def _lacking(hub: Hub, task: CompiledTask | None) -> list[str]:
    """Return the sentences about secrets of the task that have no value here, as far as that is known without waiting."""
    if task is None:
        return []
    hook = task.spec.webhook
    names = [*task.spec.environment.secrets, *([hook.config.secret.name] if hook is not None and hook.config.secret else [])]
    secrets = hub.services.secrets
    lacking = [name for name in dict.fromkeys(names) if is_missing(secrets, name)]
    return [f"the secret `{name}` has no value on this server: {secrets.where(name)}" for name in lacking]


def _run_counts(hub: Hub, task: CompiledTask) -> dict[str, Any]:
    """Return how many runs of the task wait and run, each at most as many as one page of the store has."""
    store = hub.services.store
    return {
        str(state): len(store.runs(RunFilter(task_id=task.id, state=state), limit=_MAX_COUNTED).items)
        for state in (RunState.QUEUED, RunState.RUNNING)
    }


def is_denied(hub: Hub) -> bool:
    """Return whether this server writes no task files."""
    return hub.services.settings.writes != "files"
