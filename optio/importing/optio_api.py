"""Import requests to Optio's API: the JSON of tasks, or a record of requests (`POST /api/tasks` and a body). The keys of a task
are the same here, so they are carried as they are; values of secrets are not."""

import json
import re
from collections.abc import Iterator
from typing import Any

from optio.compiler.yaml.document import Document
from optio.importing.converters import as_text, ask_for_credential, webhook_secret
from optio.importing.draft import SourceKey, TaskDraft
from optio.importing.source import Section, SourceError, read_document
from optio.model.route import Route
from optio.model.spec import names_of
from optio.model.task import Environment, TaskSpec
from optio.model.text import slug
from optio.model.trigger import ScheduleConfig, WebhookConfig

_REQUEST = re.compile(r"(?m)^[ \t]*POST[ \t]+(?:https?://[^/\s]+)?(/api/tasks\S*)[ \t]*$")
_TRIGGERS = re.compile(r"/api/tasks/[^/\s]+/triggers/?")
_CONFIGS = {"schedule": names_of(ScheduleConfig), "webhook": names_of(WebhookConfig), "manual": []}
_REPOSITORY = ("repoUrl", "repoBranch", "repoId")


def is_optio_task(value: Any) -> bool:
    """Return whether a value is a task as the API takes it, or some of them."""
    if isinstance(value, dict) and isinstance(value.get("tasks"), list):
        value = value["tasks"]
    if isinstance(value, list):
        return bool(value) and all(map(is_optio_task, value))
    return isinstance(value, dict) and "name" in value and bool({"agentRuntime", "promptTemplate"} & value.keys())


def has_requests(text: str) -> bool:
    """Return whether a text records requests that create tasks."""
    return any(match[1].rstrip("/") == "/api/tasks" for match in _REQUEST.finditer(text))


def read_requests(path: str, text: str) -> Iterator[TaskDraft]:
    """Yield a draft for each task that a record of requests creates, with the triggers that later requests add to it."""
    drafts: list[TaskDraft] = []
    for match in _REQUEST.finditer(text):
        document = _read_body(path, text, match.end())
        if document is not None and match[1].rstrip("/") == "/api/tasks":
            drafts.append(_read_task(document, ()))
        elif document is not None and drafts and _TRIGGERS.fullmatch(match[1]):
            trigger = Section(document, (), drafts[-1], "optio-api.trigger")
            _put_trigger(trigger, drafts[-1])
            trigger.finish()
    yield from drafts


def _read_body(path: str, text: str, end: int) -> Document | None:
    """Return the JSON below the line of a request, with the lines of the whole text; None if there is none."""
    start = end + len(text[end:]) - len(text[end:].lstrip())
    if not text.startswith("{", start):
        return None
    try:
        _, stop = json.JSONDecoder().raw_decode(text, start)
    except (json.JSONDecodeError, RecursionError) as err:
        line = text.count("\n", 0, start) + 1
        raise SourceError("the body of the request is not JSON", "correct the body", line) from err
    return read_document(path, "\n" * text.count("\n", 0, start) + text[start:stop])


def read_tasks(_path: str, documents: list[Document]) -> Iterator[TaskDraft]:
    """Yield a draft for each task of the documents."""
    for document in documents:
        route: Route = ("tasks",) if isinstance(document.value, dict) and "tasks" in document.value else ()
        items = document.value["tasks"] if route else document.value
        routes = [(*route, index) for index in range(len(items))] if isinstance(items, list) else [route]
        yield from (_read_task(document, route) for route in routes)


def _read_task(document: Document, route: Route) -> TaskDraft:
    draft = TaskDraft("task")
    task = Section(document, route, draft, "optio-api")
    draft.name = task.text("name") or draft.name
    draft.carried(task.origin("name"), "name")
    if task.peek("type") not in (None, "standalone") or any(task.peek(key) for key in _REPOSITORY):
        draft.refuse(task.origin("type"), "a task has no checkout of its own: clone in `environment.setupCommands`")
        return draft
    triggers = task.sections("triggers", "optio-api.trigger")
    environment = task.section("environment")
    _ask_for_connections(task)
    _carry_keys(task, names_of(TaskSpec), "")
    _carry_keys(environment, names_of(Environment), "environment.")
    for trigger in triggers:
        _put_trigger(trigger, draft)
    task.finish()
    ask_for_credential(draft, task.origin("agentRuntime"))
    return draft


def _ask_for_connections(task: Section) -> None:
    """Ask for the files of connections, which the original keeps in its server: names of them alone would be an error."""
    value = task.take("connections")
    if not value:
        return
    items = value if isinstance(value, list) else [value]
    texts = [item.get("id") or item.get("name") if isinstance(item, dict) else item for item in items]
    names = ", ".join(dict.fromkeys(name for text in texts if (name := slug(as_text(text)))))
    text = f"describe each in `connections/ID.yaml`, then write `connections: [{names or 'ID'}]`"
    task.draft.block(task.origin("connections"), text)


def _carry_keys(section: Section, known: list[str], prefix: str) -> None:
    """Carry the keys that a task has, too. A null is the absence of a value."""
    for name in section.names():
        if section.peek(name) is None:
            section.take(name)
        elif name in known and name not in ("id", "type", "connections", "environment", "triggers"):
            value = section.take(name)
            is_amount = name == "budgetUsd" and isinstance(value, (int, float))
            section.draft.carry(section.origin(name), prefix + name, as_text(value) if is_amount else value)


def _put_trigger(trigger: Section, draft: TaskDraft) -> None:
    kind = trigger.text("type") or ""
    if kind not in _CONFIGS or any(other["type"] == kind for other in draft.triggers):
        reason = "a task has one trigger of each type" if kind in _CONFIGS else f"no trigger has the type `{kind}`"
        draft.decide(trigger.origin("type"), f"{reason}: copy the task for the others")
        trigger.drop()
        return
    config = trigger.section("config")
    values: dict[str, Any] = {}
    for name in config.names():
        if name in _CONFIGS[kind] and (value := config.take(name)) is not None:
            is_secret = name in ("secret", "previousSecret") and not isinstance(value, dict)
            values[name] = _secret_of(draft, config.origin(name), name) if is_secret else value
            draft.carried(config.origin(name), f"triggers[].config.{name}")
    if kind == "webhook" and not {"secret", "unsigned"} & values.keys():
        values["secret"] = _secret_of(draft, trigger.origin("config"), "secret")
        draft.decide(trigger.origin("config"), "the webhook had no secret: give the sender one, or write `unsigned: true`")
    enabled = {"enabled": False} if trigger.take("enabled") is False else {}
    draft.triggers.append({"type": kind, **enabled, **({} if kind == "manual" else {"config": values})})


def _secret_of(draft: TaskDraft, origin: SourceKey, key: str) -> dict[str, str]:
    """Return a reference to the secret of a webhook, whose value does not go into the file."""
    name = webhook_secret(draft, "_PREVIOUS" if key == "previousSecret" else "")
    draft.decide(origin, f"store its value as the secret `{name}`: a task file has names of secrets only")
    return {"name": name}
