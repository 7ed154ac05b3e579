"""Say what became of every key of an imported file: lines for people, and the same as JSON."""

from collections.abc import Iterator
from typing import Any

from optio.importing.draft import Note, NoteKind
from optio.importing.outcome import ImportedFile, ImportedTask

HEADINGS = {NoteKind.CARRIED: "carried", NoteKind.MISSING: "no counterpart", NoteKind.DECIDE: "to decide"}


def render_report(file: ImportedFile) -> Iterator[str]:
    """Yield the lines of a report: for each task what it carried, what has no counterpart, and what a person must decide."""
    count = sum(task.text is not None for task in file.tasks)
    yield f"{file.path}: {file.format}, {count} {'task' if count == 1 else 'tasks'}"
    for task in file.tasks:
        yield ""
        yield f"  {task.path}" if task.text is not None else f"  {task.name}: not imported"
        for error in task.errors:
            yield f"    does not compile: {error.message} [{error.code}]" + (f": {error.hint}" if error.hint else "")
        for kind, heading in HEADINGS.items():
            notes = sorted((note for note in dict.fromkeys(task.notes) if note.kind is kind), key=lambda note: note.origin.line)
            yield from [f"    {heading}"] if notes else []
            width = max((len(str(note.origin.line)) for note in notes), default=0)
            yield from (f"      {note.origin.line:>{width}}  {_row(note)}" for note in notes)


def _row(note: Note) -> str:
    if note.target is None:
        return f"{note.origin.key}: {note.text}"
    return f"{note.origin.key} -> {note.target}" + (f" ({note.text})" if note.text else "")


def report_document(file: ImportedFile) -> dict[str, Any]:
    """Return the report of a file as JSON values."""
    return {"path": file.path, "format": file.format.value, "tasks": [_task_document(task) for task in file.tasks]}


def _task_document(task: ImportedTask) -> dict[str, Any]:
    rows: dict[str, list[dict[str, Any]]] = {kind.value: [] for kind in NoteKind}
    for note in dict.fromkeys(task.notes):
        row: dict[str, Any] = {"line": note.origin.line, "key": note.origin.key, "text": note.text}
        if note.kind is NoteKind.CARRIED:
            row["target"] = note.target
        elif note.kind is NoteKind.DECIDE:
            row["holdsTriggers"] = note.blocks
        rows[note.kind].append(row)
    errors = [error.to_json() for error in task.errors]
    return {"name": task.name, "path": task.path or None, "yaml": task.text, **rows, "errors": errors}
