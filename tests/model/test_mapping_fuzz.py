"""Damaged queries and payloads: a query is refused at a place, or gives values, or says that the payload is too much for it."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from optio.model.mapping import MappingFailed, PathSyntax, compile_path, compile_when

SUITE = Path(__file__).parents[1] / "data" / "jsonpath-compliance-test-suite" / "cts.json"
CASES: list[dict[str, Any]] = json.loads(SUITE.read_text(encoding="utf-8"))["tests"]
SELECTORS = [case["selector"] for case in CASES]
PAYLOADS = [case["document"] for case in CASES if "document" in case]
PIECES = [
    *("$", "@", ".", "..", "*", "[", "]", "(", ")", "?", "!", "&&", "||", "==", "!=", "<=", "<", "'", '"', ","),
    *(":", "-", "0", "1", "[?@.a]", "[0]", "['a']", "[::-1]", "length(@)", "count(@..*)", "match(@, 'a.*')"),
    *("search(@.a, '[')", "value($..a)", "null", "true", "1e5", "\\u0041", "\\", "\n", " ", "\xe9", "\U0001f600"),
    *("\ud800", "\x00", "a", "_", "9007199254740992", "-0", "01"),
]  # fmt: skip


def damaged(rng: random.Random, text: str) -> str:
    """The query after one to three accidents."""
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(len(text) + 1)
        other = rng.choice(SELECTORS)
        cut = rng.randrange(len(other) + 1)
        text = rng.choice(
            (
                text[:at] + rng.choice(PIECES) + text[at + rng.randrange(3) :],
                text[:at] + text[at + rng.randrange(6) :],
                text[:at] + other[cut:],
                text[:at] + text[at : at + 9] * rng.randrange(1, 5) + text[at + 9 :],
            )
        )
    return text


def index_of(take: Callable[[str], object], text: str) -> int | None:
    """Where it is refused, if it is."""
    try:
        take(text)
    except PathSyntax as err:
        return err.index
    return None


def hold(rng: random.Random) -> bool:
    """Whether a damaged query was taken; raises what must never be raised."""
    text = damaged(rng, rng.choice(SELECTORS))
    payload = rng.choice(PAYLOADS)
    index = index_of(compile_path, text)
    if index is not None:
        assert 0 <= index <= len(text), text
        return False
    path = compile_path(text)
    try:
        values = path.values(payload)
    except MappingFailed:
        return True
    assert isinstance(values, list)
    assert not path.singular or len(values) <= 1, text
    condition = text.removeprefix("$[?").removesuffix("]")
    index = index_of(compile_when, condition)
    assert index is None or 0 <= index <= len(condition), condition
    assert index is not None or compile_when(condition).holds(payload) in (True, False)
    return True


@pytest.mark.parametrize("number", range(10))
def test_damaged_queries_are_refused_or_give_values(number: int) -> None:
    taken = sum(hold(random.Random(seed)) for seed in range(number * 400, (number + 1) * 400))

    assert 20 < taken < 380
