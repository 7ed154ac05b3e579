"""`optio explain` and `optio schema`."""

import argparse
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonschema_rs
import pytest

from optio.cli import explain, schema
from optio.compiler.json_schema import SCHEMAS, task_schema
from optio.compiler.rules.codes import RULES
from optio.compiler.source import SourceFile
from optio.compiler.yaml.document import parse
from tests.examples_of_rules import example_files

ROOT = Path(__file__).parents[2]


def run(command: ModuleType, *argv: str) -> int:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    code: int = command.run(parser.parse_args(argv))
    return code


def test_every_rule_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    for code, rule in RULES.items():
        assert run(explain, code) == 0, code

        shown = capsys.readouterr().out
        assert rule.title in shown, code
        assert rule.why in shown, code
        assert all(len(line) <= 130 for line in shown.splitlines()), code


def test_a_rule_is_found_by_its_name_and_in_lower_case(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(explain, "unknown-key") == 0
    assert run(explain, "opt101") == 0


def test_a_retired_rule_is_named_as_such(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(explain, "opt433") == 0
    assert run(explain, "reversed-priority") == 0

    shown = capsys.readouterr().out
    assert "OPT433 answers-itself (retired)" in shown
    assert "OPT618 reversed-priority (retired)" in shown


def test_an_unknown_code_ends_with_2_and_a_guess(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(explain, "unknown-kye") == 2
    assert "did you mean `unknown-key`?" in capsys.readouterr().err


def test_without_a_code_all_rules_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(explain) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(RULES)


def test_the_committed_schema_is_current() -> None:
    assert (ROOT / "schemas" / "task.schema.json").read_text(encoding="utf-8") == task_schema()


def test_the_schema_is_written_and_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(schema, "--check", str(tmp_path)) == 1
    assert run(schema, "--write", str(tmp_path)) == 0
    assert run(schema, "--check", str(tmp_path)) == 0
    (tmp_path / "task.schema.json").write_text("{}")
    assert run(schema, "--check", str(tmp_path)) == 1
    assert "optio schema --write" in capsys.readouterr().err


def test_the_schema_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(schema) == 0
    assert json.loads(capsys.readouterr().out)["title"] == "Optio task"


def editor(kind: str = "task") -> jsonschema_rs.Draft202012Validator:
    return jsonschema_rs.Draft202012Validator(json.loads(SCHEMAS[kind]()))


def test_editors_accept_what_the_compiler_accepts() -> None:
    for code, rule in RULES.items():
        for path, data in example_files(rule.right).items():
            if rule.right and path.endswith(".yaml") and not path.startswith(("_", "connections/")):
                document, _ = parse(SourceFile(path, data))
                assert document is not None, code
                schema = editor("connection" if path.startswith("connections/") else "task")
                assert schema.is_valid(document.value), (code, list(schema.iter_errors(document.value)))


@pytest.mark.parametrize("code", ["OPT101", "OPT103", "OPT104", "OPT105", "OPT110", "OPT111", "OPT321", "OPT405", "OPT610"])
def test_editors_refuse_what_is_wrong_in_form(code: str) -> None:
    (data,) = example_files(RULES[code].wrong).values()
    document, _ = parse(SourceFile("a.yaml", data))

    assert document is not None
    assert not editor().is_valid(document.value)


def test_every_key_has_a_description_for_editors() -> None:
    whole = json.loads(task_schema())
    parts: list[dict[str, Any]] = [whole, *whole["$defs"].values()]

    undescribed = [key for part in parts for key, sub in part.get("properties", {}).items() if "description" not in sub]

    assert undescribed == []
