"""`schemas/` is generated: what is kept there is what the code says today."""

import json
from pathlib import Path

import jsonschema_rs
import pytest
import yaml

from optio.compiler.schema import task_schema
from tests.support import ROOT

FILES = sorted([*(ROOT / "tasks.d").rglob("*.yaml"), *(ROOT / "examples").rglob("tasks.d/**/*.yaml")])


def test_the_kept_schema_is_current() -> None:
    kept = (ROOT / "schemas" / "task.schema.json").read_text()

    assert kept == task_schema(), "run `optio schema --write`"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_task_file_here_fits_the_schema(path: Path) -> None:
    schema = jsonschema_rs.Draft202012Validator(json.loads(task_schema()))

    assert [str(error) for error in schema.iter_errors(yaml.safe_load(path.read_text()))] == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_task_file_here_names_the_schema_for_editors(path: Path) -> None:
    first = path.read_text().splitlines()[0]

    assert first.startswith("# yaml-language-server: $schema=")
    assert (path.parent / first.partition("=")[2]).resolve() == ROOT / "schemas" / "task.schema.json"
