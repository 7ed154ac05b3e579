"""Import a flow of Kestra: its one task that runs commands or a script of a shell becomes a task of Optio."""

import re
from collections.abc import Iterator
from typing import Any

from optio.compiler.yaml.document import Document
from optio.importing.converters import complete_draft, put_command, put_parameters, webhook_secret
from optio.importing.draft import TaskDraft
from optio.importing.source import Section
from optio.model.text import slug

_SHELL_TASKS = re.compile(r"io\.kestra\.(?:plugin\.scripts\.shell|core\.tasks\.scripts)\.(?:Commands|Script|Bash)")
_TYPES = {"STRING": "string", "INT": "integer", "FLOAT": "number", "BOOLEAN": "boolean", "BOOL": "boolean", "SELECT": "string"}


def is_kestra(value: Any) -> bool:
    """Return whether a document is a flow: `id`, `namespace`, and tasks with types."""
    if not isinstance(value, dict) or not {"id", "namespace", "tasks"} <= value.keys() or not isinstance(value["tasks"], list):
        return False
    return any(isinstance(task, dict) and str(task.get("type", "")).startswith("io.kestra.") for task in value["tasks"])


def read_kestra(_path: str, documents: list[Document]) -> Iterator[TaskDraft]:
    """Yield a draft for each flow."""
    for document in documents:
        draft = TaskDraft("flow")
        flow = Section(document, (), draft, "kestra")
        flow.name_draft("id")
        tasks = flow.sections("tasks", "kestra.task")
        if len(tasks) == 1 and _SHELL_TASKS.fullmatch(str(tasks[0].peek("type"))):
            _put_task(tasks[0], draft)
            required = _put_inputs(flow, draft)
            _put_triggers(flow, draft, required)
            complete_draft(draft, flow.origin("tasks"))
            flow.finish()
        else:
            kinds = ", ".join(dict.fromkeys(str(task.peek("type")).rpartition(".")[2] for task in tasks))
            question = f"a task is one program of a shell, and this flow has {len(tasks)} tasks ({kinds}): write a program"
            draft.refuse(flow.origin("tasks"), question)
        yield draft


def _put_task(task: Section, draft: TaskDraft) -> None:
    name = "commands" if task.peek("commands") is not None else "script"
    origin, value = task.origin(name), task.take(name)
    lines = value if isinstance(value, list) else [value]
    if not all(isinstance(line, str) and line.strip() for line in lines):
        draft.refuse(origin, "the task has no commands: correct the file")
        return
    script = "\n".join(["set -e", *lines] if len(lines) > 1 else lines)
    if "{{" in script:
        question = "nothing fills in `{{ ... }}` here: let the program read parameters from the file of `OPTIO_PARAMS_FILE`"
        draft.block(origin, question)
    put_command(draft, origin, script)


def _put_inputs(flow: Section, draft: TaskDraft) -> list[str]:
    """Declare the parameters, and return the names of those that have no default."""
    properties: dict[str, Any] = {}
    required = []
    for entry in flow.sections("inputs", "kestra.input"):
        name, kind, default = entry.text("id") or "", entry.text("type") or "STRING", entry.take("defaults")
        origin = entry.origin()._replace(key=f"inputs.{name}")
        if kind not in _TYPES:
            draft.decide(origin, f"the type `{kind}` has no counterpart: write one in `paramsSchema`")
        values, text = entry.take("values"), entry.text("description")
        schema = {"type": _TYPES.get(kind), "default": default, "enum": values, "description": text}
        properties[name] = {key: value for key, value in schema.items() if value is not None}
        if entry.take("required") is not False and default is None:
            required.append(name)
        draft.carried(origin, f"paramsSchema.properties.{name}")
    put_parameters(draft, properties, [] if isinstance(flow.peek("triggers"), list) else required)
    return required


def _put_triggers(flow: Section, draft: TaskDraft, required: list[str]) -> None:
    sections = flow.sections("triggers", "kestra.schedule")
    if required and sections:
        listed = ", ".join(f"`{name}`" for name in required)
        draft.block(sections[0].origin(), f"a trigger must give {listed}: write `paramMapping`")
    kinds: set[str] = set()
    for section in sections:
        kind = str(section.take("type")).rpartition(".")[2].lower()
        if kind == "webhook" and kind not in kinds:
            section.place = "kestra.webhook"
            _put_webhook(section, draft)
        elif kind != "schedule" or kind in kinds:
            reason = "a task has one trigger of each type" if kind in kinds else f"a `{kind}` has no counterpart"
            draft.decide(section.origin(), f"{reason}: start the task by its API, or write another task")
            section.drop()
        else:
            draft.schedule["misfire"] = "last"
            draft.decide(section.origin(), "Kestra makes up for all missed times, `misfire: last` for the last one: choose")
        kinds.add(kind)


def _put_webhook(section: Section, draft: TaskDraft) -> None:
    path, secret = slug(draft.name), webhook_secret(draft)
    draft.triggers.append({"type": "webhook", "config": {"path": path, "secret": {"name": secret}}})
    draft.carried(section.origin(), "triggers[].config.path")
    draft.decide(section.origin(), f"store the secret by which the sender signs as the secret `{secret}`")
    draft.decide(section.origin(), "the body of a request is the parameters: write `paramMapping` for what the task needs")
