"""The quick way along a singular path finds what the library finds."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from optio.model.mapping import compile_path

NAMES = st.sampled_from(["a", "b", "", "é", "0", "length", "a b"])
STEPS = st.lists(NAMES | st.integers(-3, 3), max_size=5)
SCALARS = st.none() | st.booleans() | st.integers() | st.text(max_size=3)
PAYLOADS = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4))


@given(payload=PAYLOADS, steps=STEPS)
def test_a_singular_path_finds_what_the_library_finds(payload: Any, steps: list[str | int]) -> None:
    path = compile_path("$" + "".join(f"[{step!r}]" for step in steps))

    assert path.singular
    assert path.values(payload) == [node.value for node in path.query.find(payload)]
