"""Parameters are judged by JSON Schema 2020-12 as a whole, by its test suite; each deviation is a stated bound."""

import json
from pathlib import Path
from typing import Any

import pytest

from optio.model.params import SchemaError, faults, validator

SUITE = Path(__file__).parents[1] / "data" / "json-schema-test-suite" / "draft2020-12.json"
FILES: dict[str, list[dict[str, Any]]] = json.loads(SUITE.read_text(encoding="utf-8"))
# Nothing is ever fetched, so a schema that is elsewhere is refused; and formats are asserted, not only noted.
REMOTE = "localhost:1234"
NOTED = "is only an annotation by default"
# A meta-schema of one's own would have to be fetched: the standard's own holds.
OWN_META_SCHEMA = "no validation: invalid number, but it still validates"


GROUPS = [pytest.param(group, id=f"{file}: {group['description']}") for file, own in FILES.items() for group in own]


def needs_another_document(group: dict[str, Any]) -> bool:
    try:
        validator(group["schema"] if isinstance(group["schema"], dict) else {"allOf": [group["schema"]]})
    except SchemaError as err:
        return err.error.kind.name == "$ref"
    return False


@pytest.mark.parametrize("group", GROUPS)
def test_values_are_judged_as_the_standard_says(group: dict[str, Any]) -> None:
    schema = group["schema"] if isinstance(group["schema"], dict) else {"allOf": [group["schema"]]}
    if REMOTE in json.dumps(schema) and needs_another_document(group):
        return
    judge = validator(schema)

    for case in group["tests"]:
        deviates = NOTED in case["description"] or case["description"] == OWN_META_SCHEMA
        assert judge.is_valid(case["data"]) is (case["valid"] and not deviates), case["description"]


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
                found = list(faults(group["schema"], case["data"]))
                assert bool(found) is not case["valid"], case["description"]
                assert all(sentence for _, sentence, _ in found)
