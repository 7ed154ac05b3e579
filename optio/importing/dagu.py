"""Import a DAG of Dagu: its steps become a task that runs their commands one after another. Keys are read in both spellings,
`timeoutSec` and `timeout_sec`."""

import re
from collections.abc import Iterator
from typing import Any

from optio.compiler.yaml.document import Document
from optio.importing.converters import (
    CONVERTERS,
    EXPANDED,
    NAME,
    as_text,
    complete_draft,
    entries_of,
    put_command,
    put_parameters,
)
from optio.importing.draft import SourceKey, TaskDraft
from optio.importing.source import Section

_COMMANDS = {"command", "run", "script"}
_OTHER_STEPS = {"executor", "action", "call", "type", "parallel", "params", "container", "llm", "messages", "value"}
_SHELLS = ("sh", "bash", "/bin/sh", "/bin/bash")
_ZONE = re.compile(r"(?:(?:CRON_)?TZ=(\S+)\s+)?(.*)", re.DOTALL)


def is_dagu(value: Any) -> bool:
    """Return whether a document is a DAG: steps that have commands, and none of the keys that name another system."""
    if not isinstance(value, dict) or not {"jobs", "on", "namespace", "apiVersion", "stages"}.isdisjoint(value):
        return False
    steps = value.get("steps")
    items = list(steps.values()) if isinstance(steps, dict) else steps if isinstance(steps, list) else []
    keys = _COMMANDS | {"action", "call"}
    return any(isinstance(item, str) or (isinstance(item, dict) and keys & item.keys()) for item in items)


def camel_case(key: str) -> str:
    """Return `timeout_sec` as `timeoutSec`."""
    return re.sub(r"_([a-z])", lambda match: match[1].upper(), key)


def read_dagu(path: str, documents: list[Document]) -> Iterator[TaskDraft]:
    """Yield the draft of the first document. The others are DAGs that it calls, which cannot be imported with it."""
    for index, document in enumerate(documents):
        draft = TaskDraft(path.rpartition("/")[2].partition(".")[0] or "dag")
        dag = Section(document, (), draft, "dagu", camel_case)
        dag.name_draft("name")
        if index:
            draft.refuse(dag.origin("name"), "the DAG belongs to the first one of the file: import it as a file of its own")
        else:
            _put_steps(dag, draft, _put_parameters(dag, draft))
            _put_schedule(dag, draft)
            complete_draft(draft, dag.origin("steps"))
            dag.finish()
        yield draft


def _put_parameters(dag: Section, draft: TaskDraft) -> list[str]:
    """Declare the parameters, and return their names."""
    origin, value = dag.origin("params"), dag.take("params")
    entries: list[tuple[str, Any]] = list(entries_of(value))
    if isinstance(value, str):
        entries = [(match[1], match[2].strip('"')) for match in re.finditer(r'([A-Za-z_]\w*)=("[^"]*"|\S*)', value)]
    plain = {name: as_text(item) for name, item in entries if NAME.fullmatch(name) and isinstance(item, (str, int, float))}
    texts = {name: text for name, text in plain.items() if not re.search(EXPANDED, text)}
    put_parameters(draft, {name: {"type": "string", "default": text} for name, text in texts.items()}, [])
    if texts:
        draft.carried(origin, "paramsSchema")
    if value is not None and (len(texts) < len(entries) or not entries):
        question = "not every parameter has a name and a plain text as its default: declare the others in `paramsSchema`"
        draft.block(origin, question)
    return list(plain)


def _put_schedule(dag: Section, draft: TaskDraft) -> None:
    origin, value = dag.origin("schedule"), dag.take("schedule")
    if isinstance(value, list) and len(value) == 1:
        (value,) = value
    if not isinstance(value, str):
        if value is not None:
            draft.decide(origin, "a task has one schedule, which starts runs: choose one, or copy the task for each of them")
        return
    match = _ZONE.fullmatch(value.strip())
    zone, text = match.groups() if match is not None else (None, value)
    CONVERTERS["cron"](draft, origin, "schedule.cronExpression", text)
    if zone is not None:
        CONVERTERS["zone"](draft, origin, "schedule.timezone", zone)
    else:
        draft.block(origin, "Dagu reads times in the zone of its server, Optio in UTC: write `timezone`")


def _put_steps(dag: Section, draft: TaskDraft, parameters: list[str]) -> None:
    origin, value = dag.origin("steps"), dag.peek("steps")
    if isinstance(value, list) and value and all(isinstance(item, str) for item in value):
        commands, is_ordered = list(dag.take("steps")), len(value) == 1
    else:
        steps = _steps_of(dag, "dagu.only_step" if isinstance(value, (list, dict)) and len(value) == 1 else "dagu.step")
        is_ordered = _runs_in_order(steps)
        commands = [command for step in steps if (command := _command_of(step)) is not None]
        if not steps or len(commands) < len(steps):
            draft.refuse(origin, "only commands of a shell can be steps of one program: write a program that does it")
            return
    if dag.take("type") != "chain" and not is_ordered:
        question = "the steps run one after another here, as they stand in the file: check that none must run beside another"
        draft.block(origin, question)
    script = (
        commands[0] if len(commands) == 1 else "\n".join(["set -e", *(f"(\n{command.rstrip()}\n)" for command in commands)])
    )
    _ask_about_parameters(draft, origin, script, parameters)
    put_command(draft, origin, script)


def _ask_about_parameters(draft: TaskDraft, origin: SourceKey, script: str, parameters: list[str]) -> None:
    names = [name for name in parameters if re.search(rf"\$\{{?{name}\b", script)]
    if names or re.search(r"\$\{?[1-9]", script):
        listed = ", ".join(f"`{name}`" for name in names) or "them"
        question = f"parameters never go into a command: let the program read {listed} from the file of `OPTIO_PARAMS_FILE`"
        draft.block(origin, question)


def _steps_of(dag: Section, place: str) -> list[Section]:
    steps = dag.section("steps", "dagu.steps")
    if not steps.is_mapping:
        return dag.sections("steps", place)
    return [step for name in steps.names() if (step := steps.section(name, place)).is_mapping]


def _runs_in_order(steps: list[Section]) -> bool:
    """Return whether each step waits for the one before it, so that the order of the file is the only one."""
    previous: set[str] = set()
    is_ordered = True
    for number, step in enumerate(steps):
        names = {as_text(step.take(key)) for key in ("id", "name") if step.peek(key) is not None}
        waits = step.take("depends")
        is_ordered &= number == 0 or bool(previous & set(map(as_text, waits if isinstance(waits, list) else [waits])))
        previous = names or {str(step.route[-1])}
    return is_ordered


def _command_of(step: Section) -> str | None:
    """Take the command of a step as a text for a shell; None for a step of another kind."""
    if not _OTHER_STEPS.isdisjoint(step.names()):
        return None
    script, command, run = (step.take(name) for name in ("script", "command", "run"))
    if isinstance(script, str):
        is_shell = re.match(r"#!(?!\s*/bin/(?:ba)?sh\b)", script) is None and command in (None, *_SHELLS)
        return script if is_shell else None
    text = command if run is None else run
    if isinstance(text, list) and all(isinstance(item, str) for item in text):
        text = "\n".join(["set -e", *text])
    return text if isinstance(text, str) and text.strip() else None
