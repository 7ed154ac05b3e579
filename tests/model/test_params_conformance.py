"""Parameters are judged by JSON Schema 2020-12 as a whole, by its test suite; each deviation is a stated bound."""

import json
import socket
from pathlib import Path
from typing import Any

import pytest

from optio.model.params import FORMATS, SchemaError, iter_faults, validator

SUITE = Path(__file__).parents[1] / "data" / "json-schema-test-suite" / "draft2020-12.json"
FILES: dict[str, list[dict[str, Any]]] = json.loads(SUITE.read_text(encoding="utf-8"))
# Nothing is ever fetched, so a schema that is elsewhere is refused; and formats are asserted, not only noted.
REMOTE = "localhost:1234"
NOTED = "is only an annotation by default"
# A meta-schema of one's own would have to be fetched: the standard's own holds.
OWN_META_SCHEMA = "no validation: invalid number, but it still validates"


def needs_another_document(group: dict[str, Any]) -> bool:
    try:
        validator(group["schema"] if isinstance(group["schema"], dict) else {"allOf": [group["schema"]]})
    except SchemaError as err:
        return err.error.kind.name == "$ref"
    return False


@pytest.mark.parametrize("file", FILES)
def test_values_are_judged_as_the_standard_says(file: str) -> None:
    for group in FILES[file]:
        schema = group["schema"] if isinstance(group["schema"], dict) else {"allOf": [group["schema"]]}
        if REMOTE in json.dumps(schema) and needs_another_document(group):
            continue
        judge = validator(schema)

        for case in group["tests"]:
            deviates = NOTED in case["description"] or case["description"] == OWN_META_SCHEMA
            valid = judge.is_valid(case["data"])
            assert valid is (case["valid"] and not deviates), f"{group['description']}: {case['description']}"


def test_few_schemas_of_the_suite_are_elsewhere() -> None:
    elsewhere = [g for own in FILES.values() for g in own if REMOTE in json.dumps(g["schema"]) and needs_another_document(g)]

    assert len(elsewhere) == 21
    assert sum(len(own) for own in FILES.values()) == 461


@pytest.mark.parametrize("file", [name for name in FILES if not name.startswith("optional/")])
def test_a_value_that_is_refused_has_a_sentence_for_each_fault(file: str) -> None:
    for group in FILES[file]:
        if not isinstance(group["schema"], dict) or REMOTE in json.dumps(group["schema"]):
            continue
        for case in group["tests"]:
            if isinstance(case["data"], dict) and NOTED not in case["description"]:
                found = list(iter_faults(group["schema"], case["data"]))
                assert bool(found) is not case["valid"], case["description"]
                assert all(sentence for _, sentence, _ in found)


def test_every_format_of_the_standard_is_asserted_and_no_other() -> None:
    named = {name.rpartition("/")[2] for name in FILES if name.startswith("optional/format/")}

    assert named - {"ecmascript-regex", "unknown"} == FORMATS
    for name in FORMATS:
        refused = [case for group in FILES[f"optional/format/{name}"] for case in group["tests"] if not case["valid"]]
        assert refused, name
    assert validator({"format": "phone"}).is_valid("x")


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "http://localhost:1234/x"},
        {"$ref": "x.json"},
        {"pattern": "(?=a)"},
        {"pattern": r"(a)\1"},
        {"pattern": "a{1,99999}"},
    ],
)
def test_what_is_beyond_a_bound_is_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(SchemaError):
        validator(schema)


def test_nobody_is_asked_for_a_schema_that_is_elsewhere() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        port = server.getsockname()[1]
        for schema in ({"$ref": f"http://127.0.0.1:{port}/a"}, {"$id": f"http://127.0.0.1:{port}/", "$ref": "b"}):
            with pytest.raises(SchemaError):
                validator(schema)
        validator({"$schema": f"http://127.0.0.1:{port}/c", "type": "object"})

        with pytest.raises(BlockingIOError):
            server.accept()
