"""Which task is which: renamed and moved tasks are not one removed and one added."""

from hypothesis import given
from hypothesis import strategies as st

from optio.compiler.pipeline import compile_tree
from optio.compiler.source_tree import MemoryTree
from optio.model.registry import CompiledTask
from optio.plan.pairs import pair_tasks

TASK = "name: {name}\nagentRuntime: claude-code\npromptTemplate: {prompt}\n{more}"


def text(name: str, prompt: str = "Say hello", more: str = "") -> str:
    return TASK.format(name=name, prompt=prompt, more=more)


def tasks(**files: str) -> dict[str, CompiledTask]:
    compilation = compile_tree(MemoryTree({f"{path}.yaml": body for path, body in files.items()}))
    assert compilation.ok, compilation.diagnostics
    return dict(compilation.registry.tasks)


def found(before: dict[str, CompiledTask], after: dict[str, CompiledTask]) -> list[str]:
    return [
        f"{pair.before.id if pair.before else '-'} {pair.after.id if pair.after else '-'}" for pair in pair_tasks(before, after)
    ]


def test_a_moved_file_is_not_removed_and_added() -> None:
    assert found(tasks(a=text("A")), tasks(b=text("A"))) == ["a a"]


def test_a_task_that_is_equal_but_for_its_name_is_the_same_wherever_it_stands() -> None:
    before, after = tasks(a=text("A", "One"), b=text("B", "Two")), tasks(b=text("C", "One"), a=text("D", "Two"))

    assert found(before, after) == ["a c", "b d"]


def test_a_task_with_another_name_in_the_same_file_is_the_same() -> None:
    assert found(tasks(a=text("A", "One")), tasks(a=text("B", "Something else"))) == ["a b"]


def test_a_task_that_is_mostly_the_same_is_the_same() -> None:
    one = text("A", "Look at every open issue and sort them by age", "maxTurns: 3\ntimeout: 20m\nmaxRetries: 2\n")
    other = text("B", "Look at every open issue and sort them by votes", "maxTurns: 4\ntimeout: 20m\nmaxRetries: 2\n")

    assert found(tasks(a=one), tasks(b=other)) == ["a b"]


def test_another_task_is_another() -> None:
    before, after = tasks(a=text("A", "Look at every issue")), tasks(b=text("B", "Write a poem of spring"))

    assert found(before, after) == ["a -", "- b"]


def test_of_equal_tasks_each_is_one() -> None:
    before, after = tasks(a=text("A"), b=text("B"), c=text("C")), tasks(x=text("X"), y=text("Y"))

    assert found(before, after) == ["c -", "a x", "b y"]


NAMES = st.dictionaries(st.sampled_from("abcde"), st.sampled_from(["One two", "One three", "Four five six"]), max_size=5)


@given(NAMES, NAMES)
def test_every_task_is_in_one_pair_and_ids_win(one: dict[str, str], other: dict[str, str]) -> None:
    before = tasks(**{path: text(path, prompt) for path, prompt in one.items()})
    after = tasks(**{path: text(path, prompt) for path, prompt in other.items()})

    made = pair_tasks(before, after)

    assert sorted(pair.before.id for pair in made if pair.before) == sorted(before)
    assert sorted(pair.after.id for pair in made if pair.after) == sorted(after)
    assert all(
        pair.before and pair.after and pair.before.id == pair.id for pair in made if pair.id in before.keys() & after.keys()
    )
    assert pair_tasks(before, after) == made
