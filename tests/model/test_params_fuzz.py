"""Damaged schemas: one that is refused has a fault at a place inside it, and one that is taken judges every value."""

import copy
import json
import random
from pathlib import Path
from typing import Any

import pytest

from optio.model.params import SchemaError, apply_defaults, iter_faults, iter_schema_faults, validator
from optio.model.route import value_at

SUITE = Path(__file__).parents[1] / "data" / "json-schema-test-suite" / "draft2020-12.json"
GROUPS: list[dict[str, Any]] = [group for own in json.loads(SUITE.read_text(encoding="utf-8")).values() for group in own]
SCHEMAS = [group["schema"] for group in GROUPS if isinstance(group["schema"], dict)]
VALUES = [case["data"] for group in GROUPS for case in group["tests"]]
ODD = [
    *(None, True, False, 0, -1, 1.5, 1000000000000000000000000000000, "", "x", "^(?=a)", "(a+)+$", "#"),
    *("#/$defs/none", "http://127.0.0.1:9/x", [], {}, [{}], ["a", "a"], {"$ref": "#"}, {"not": {}}),
    *({"type": "strin"}, {"pattern": "["}, {"allOf": []}, {"$dynamicRef": "#x"}),
]  # fmt: skip


def damaged(rng: random.Random, schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with something odd, or a part of another one, somewhere in it."""
    schema = copy.deepcopy(schema)
    for _ in range(rng.randrange(1, 3)):
        place: Any = schema
        while isinstance(place, (dict, list)) and place:
            key = rng.choice(list(place) if isinstance(place, dict) else range(len(place)))
            if rng.random() < 0.5 or not isinstance(place[key], (dict, list)):
                place[key] = copy.deepcopy(rng.choice([*ODD, rng.choice(SCHEMAS)]))
                break
            place = place[key]
    return schema


def is_refused(schema: dict[str, Any]) -> bool:
    """Whether it is no schema that can be used."""
    try:
        validator(schema)
    except SchemaError:
        return True
    return False


def hold(rng: random.Random) -> bool:
    """Whether a damaged schema was taken; raises what must never be raised."""
    schema = damaged(rng, rng.choice(SCHEMAS))
    if is_refused(schema):
        found = list(iter_schema_faults(schema))
        assert found, schema
        for route, keyword, sentence in found:
            assert keyword, schema
            assert sentence, schema
            value_at(schema, route)
        return False
    value = rng.choice(VALUES)
    if isinstance(value, dict):
        for _, sentence, _ in iter_faults(schema, apply_defaults(schema, value)):
            assert sentence, schema
    return True


@pytest.mark.parametrize("number", range(10))
def test_damaged_schemas_are_refused_at_a_place_or_judge_values(number: int) -> None:
    taken = sum(hold(random.Random(seed)) for seed in range(number * 300, (number + 1) * 300))

    assert 30 < taken < 290
