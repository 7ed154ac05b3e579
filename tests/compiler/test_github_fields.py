"""What is offered in the place of a misspelt path is a path that GitHub's objects have."""

from hypothesis import given
from hypothesis import strategies as st

from optio.compiler.payloads import github_events
from optio.compiler.payloads.github import suggest_github_path
from optio.compiler.payloads.github_fields import EVENTS, FURTHER, KINDS, NAMES, TOPS

PATHS = sorted(
    (top, field, *more)
    for top, kind in KINDS[""].items()
    if kind.startswith("@")
    for field, inner in KINDS[kind.strip("@?")].items()
    for more in ([(), *((name,) for name in KINDS[inner.strip("@?")])] if inner.startswith("@") else [()])
)


def test_the_tables_fit_together() -> None:
    objects = {field.strip("@?") for fields in KINDS.values() for field in fields.values() if field.startswith("@")}

    assert objects <= KINDS.keys()
    assert FURTHER.keys() == KINDS.keys() - {""}
    assert EVENTS.keys() <= NAMES
    assert not any(set(FURTHER[kind]) & KINDS[kind].keys() for kind in FURTHER if kind not in ("owner", "user"))
    assert not TOPS & KINDS[""].keys()


def test_the_generated_tables_fit_those_by_hand() -> None:
    objects = {its.strip("@?") for fields in github_events.fields().values() for its in fields.values() if its.startswith("@")}

    assert objects <= KINDS.keys() | github_events.fields().keys()
    assert not github_events.fields().keys() & (KINDS.keys() | KINDS[""].keys())
    assert github_events.tops().keys() <= NAMES - EVENTS.keys()
    assert github_events.actions().keys() <= github_events.tops().keys()


OTHERS = [(kind, field) for kind, fields in github_events.fields().items() for field in fields]


@given(st.sampled_from(OTHERS))
def test_a_path_of_another_event_that_there_is_is_left_alone(path: tuple[str, ...]) -> None:
    assert suggest_github_path(path) is None


@given(st.sampled_from(PATHS))
def test_a_path_that_there_is_is_left_alone(path: tuple[str, ...]) -> None:
    assert suggest_github_path(path) is None


@given(st.sampled_from(PATHS), st.data())
def test_what_is_offered_is_not_misspelt_at_that_step(path: tuple[str, ...], data: st.DataObject) -> None:
    step = data.draw(st.integers(1, len(path) - 1))
    cut = data.draw(st.integers(0, len(path[step]) - 1))
    wrong = path[step][:cut] + path[step][cut + 1 :]
    if wrong.isidentifier() and (meant := suggest_github_path((*path[:step], wrong, *path[step + 1 :]))) is not None:
        assert suggest_github_path(tuple(meant.split(".")[1:])) is None
