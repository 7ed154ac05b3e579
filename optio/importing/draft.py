"""A task while it is imported: its values, and a note for every key of the source that says what became of it."""

import textwrap
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

from optio.compiler.yaml.emit import dump
from optio.model.spec import Spec, names_of
from optio.model.task import Environment, TaskSpec
from optio.model.trigger import ScheduleConfig

_COMMENT_WIDTH = 120


class NoteKind(StrEnum):
    """The fate of a key of the source."""

    CARRIED = "carried"
    """The task has it, under the key `target`."""
    MISSING = "missing"
    """Optio has no counterpart; the text says why, and what to do."""
    DECIDE = "decide"
    """A person must decide; the text is the question."""


class SourceKey(NamedTuple):
    """A key of the source as its file writes it, such as `spec.schedule`, and its line."""

    key: str
    line: int


class Note(NamedTuple):
    """One line of the report. A question that `blocks` leaves the meaning of the task open, so its triggers stay off."""

    kind: NoteKind
    origin: SourceKey
    text: str
    target: str | None = None
    blocks: bool = False


@dataclass
class TaskDraft:
    """A task of which not all is known yet. `schedule` is the configuration of its schedule, with `enabled` where it is off.
    `is_writable` is False where the source has too little for a task."""

    name: str
    values: dict[str, Any] = field(default_factory=dict)
    schedule: dict[str, Any] = field(default_factory=dict)
    triggers: list[dict[str, Any]] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    is_writable: bool = True

    def put(self, target: str, value: Any) -> None:
        """Set the value of a key of the task, such as `environment.image` or `schedule.timezone`."""
        *parents, last = target.split(".")
        mapping = self.values
        if parents == ["schedule"]:
            mapping, parents = self.schedule, []
        for step in parents:
            mapping = mapping.setdefault(step, {})
        mapping[last] = value

    def carry(self, origin: SourceKey, target: str, value: Any, text: str = "") -> None:
        """Set the value of a key of the task, and note where it comes from."""
        self.put(target, value)
        self.carried(origin, target, text)

    def carried(self, origin: SourceKey, target: str, text: str = "") -> None:
        """Note that the task has a key of the source, and where."""
        if target.startswith("schedule."):
            target = target.replace("schedule.", "triggers[]." if target == "schedule.enabled" else "triggers[].config.")
        self.notes.append(Note(NoteKind.CARRIED, origin, text, target))

    def missing(self, origin: SourceKey, text: str) -> None:
        """Note that a key has no counterpart, why, and what to do."""
        self.notes.append(Note(NoteKind.MISSING, origin, text))

    def decide(self, origin: SourceKey, text: str) -> None:
        """Note a question for a person."""
        self.notes.append(Note(NoteKind.DECIDE, origin, text))

    def block(self, origin: SourceKey, text: str) -> None:
        """Note a question that leaves the meaning of the task open: its triggers stay off until it is answered."""
        self.notes.append(Note(NoteKind.DECIDE, origin, text, blocks=True))

    def refuse(self, origin: SourceKey, text: str) -> None:
        """Note why the source has too little for a task; nothing is written then."""
        self.decide(origin, text)
        self.is_writable = False

    def document(self) -> dict[str, Any]:
        """Return the task as the keys of its file, in their usual order."""
        values, triggers = {"name": self.name, **self.values}, list(self.triggers)
        if "cronExpression" in self.schedule:
            enabled = {key: value for key, value in self.schedule.items() if key == "enabled"}
            triggers.append({"type": "schedule", **enabled, "config": _ordered(self.schedule, ScheduleConfig)})
        if "environment" in values:
            values["environment"] = _ordered(values["environment"], Environment)
        if any(note.blocks for note in self.notes) and any(trigger["type"] != "manual" for trigger in triggers):
            values["enabled"] = False
        if triggers:
            values["triggers"] = triggers
        return _ordered(values, TaskSpec)

    def text(self) -> str:
        """Return the task as the text of its file, headed by the questions."""
        questions = sorted((note for note in self.notes if note.kind is NoteKind.DECIDE), key=lambda note: note.origin.line)
        lines = [f"decide: {note.origin.key}: {note.text}" for note in questions]
        document = self.document()
        if document.get("enabled") is False and any(note.blocks for note in questions):
            lines.append("When all is decided, delete `enabled: false`, which keeps the triggers off.")
        return "".join(map(_comment, dict.fromkeys(lines))) + dump(document)


def _ordered(values: dict[str, Any], model: type[Spec]) -> dict[str, Any]:
    """Return the values of a mapping in the order of its keys."""
    return {name: values[name] for name in names_of(model) if name in values}


def _comment(text: str) -> str:
    printable = "".join(character if character.isprintable() else "?" for character in text)
    lines = textwrap.wrap(printable, _COMMENT_WIDTH, break_long_words=False, break_on_hyphens=False)
    return "# " + "\n#   ".join(lines) + "\n"
