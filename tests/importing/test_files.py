"""Whole files of other systems, each with the tasks and the report that it gives.

`REWRITE_IMPORTS=1 pytest tests/importing/test_files.py` writes the expected texts anew; read the difference before you commit.
"""

import os
import re
from pathlib import Path

import pytest

from optio.compiler.pipeline import compile_tree
from optio.compiler.source_tree import MemoryTree
from optio.importing.formats import Format, read_drafts
from optio.importing.outcome import ImportedFile, compile_drafts
from optio.importing.report import render_report
from optio.importing.source import SourceError, read_documents, read_text
from optio.model.route import Route, show, value_at

PLACE = Path(__file__).parent
FILES = sorted((PLACE / "files").iterdir())
# Keys that every file of the format has, and that say nothing of the task.
SILENT = {
    "apiVersion",
    "kind",
    "restartPolicy",
    "id",
    "type",
    "uses",
    "depends",
    "fetch-depth",
    "description",
    "if",
    "name",
    "key",
}


def imported(path: Path) -> ImportedFile:
    source = read_drafts(path.name, read_text(path.name, path.read_bytes()))
    (file,) = compile_drafts([(path.name, *source)])
    return file


def leaves(value: object, route: Route = ()) -> list[Route]:
    if isinstance(value, dict) and value:
        return [leaf for key, item in value.items() for leaf in leaves(item, (*route, key))]
    if isinstance(value, list) and value:
        return [leaf for index, item in enumerate(value) for leaf in leaves(item, (*route, index))]
    return [route]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_whole_file_gives_these_tasks_and_this_report(path: Path) -> None:
    file = imported(path)

    tasks = [f"# {task.path}\n{task.text}" for task in file.tasks if task.text is not None]
    text = "---\n".join(tasks) + "\n" + "\n".join(render_report(file)) + "\n"
    expected = PLACE / "expected" / f"{path.name}.txt"
    if os.environ.get("REWRITE_IMPORTS"):
        expected.write_text(text)
    assert text == expected.read_text()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_task_of_a_whole_file_compiles(path: Path) -> None:
    file = imported(path)

    assert file.is_complete
    compilation = compile_tree(MemoryTree({task.path: task.text for task in file.tasks if task.text is not None}))
    assert compilation.ok
    assert len(compilation.registry.tasks) >= 1


@pytest.mark.parametrize(
    "path", [path for path in FILES if path.suffix in (".yml", ".yaml", ".json")], ids=lambda path: path.name
)
def test_no_key_of_a_file_is_lost_in_silence(path: Path) -> None:
    keys = {note.origin.key for task in imported(path).tasks for note in task.notes}
    lines = {note.origin.line for task in imported(path).tasks for note in task.notes}

    lost = []
    for document in read_documents(path.name, path.read_text()):
        for route in (route for route in leaves(document.value) if value_at(document.value, route) is not None):
            above = [route[:length] for length in range(1, len(route) + 1)]
            is_reported = any(show(each) in keys or document.key_span(each).start.line in lines for each in above)
            if not is_reported and not SILENT & set(map(str, route)) and document.value.get("kind") != "Secret":
                lost.append(show(route))
    assert lost == []


def test_every_format_has_a_file() -> None:
    assert {imported(path).format for path in FILES} == set(Format)


def test_a_value_of_a_secret_goes_into_no_task_and_no_report() -> None:
    text = (PLACE / "expected" / "optio-requests.txt.txt").read_text()

    assert "whsec_" in (PLACE / "files" / "optio-requests.txt").read_text()
    assert "whsec_" not in text
    assert re.search(r"secret:\n +name: WEBHOOK_DIGEST_SECRET", text)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_file_with_a_line_less_is_imported_or_refused(path: Path) -> None:
    lines, refusals = path.read_text().split("\n"), []
    for number in range(0, len(lines), 3):
        text = "\n".join(lines[:number] + lines[number + 1 :])
        try:
            source = read_drafts(path.name, read_text(path.name, text.encode()))
        except SourceError as err:
            refusals.append((err.message, err.cure))
            continue
        (file,) = compile_drafts([(path.name, *source)])
        assert list(render_report(file))
    assert all(message and cure for message, cure in refusals)
