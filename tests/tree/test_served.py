"""The snapshot that is served, and what of it outlives a broken file."""

from pathlib import Path
from typing import Any

import pytest

from optio.compiler.incremental import IncrementalCompiler
from optio.compiler.source_tree import MemoryTree
from optio.errors import StoreUnavailable
from optio.model.fleet import ProcessKind
from optio.model.registry import Registry
from optio.store.sqlite.sqlite_store import open_store
from optio.store.values import GenerationRow
from optio.tree.served import ServedRegistry, Snapshot
from optio.wiring import Services
from tests.support import COMMAND_TASK

BROKEN = "name: [\n"
HOOK = """
triggers:
  - type: webhook
    config: {{path: {path}, unsigned: true}}
"""


def task(name: str, extra: str = "") -> str:
    return COMMAND_TASK.format(name=name, command='["/bin/cat"]') + extra


class Tree:
    """A tree in memory that is taken up by hand."""

    def __init__(self, live: ServedRegistry) -> None:
        self.live, self.compiler = live, IncrementalCompiler()

    def becomes(self, commit: str | None = None, /, **files: str) -> Snapshot:
        compilation = self.compiler.compile(MemoryTree({f"{name}.yaml": text for name, text in files.items()}))
        return self.live.replace(compilation, self.compiler.unserved(compilation), commit)


@pytest.fixture
def tree(services: Services) -> Tree:
    return Tree(ServedRegistry(services.store))


@pytest.mark.parametrize(
    "broken", [BROKEN, "", "# to be written\n", "name: One\n", task("One").replace("command:", "comand:"), "- 1\n"]
)
def test_a_file_that_gives_no_task_removes_none(tree: Tree, broken: str) -> None:
    good = tree.becomes(one=task("One"), two=task("Two")).registry.tasks["one"]

    after = tree.becomes(one=broken, two=task("Two"))

    assert set(after.registry.tasks) == {"one", "two"}
    assert after.registry.tasks["one"].digest == good.digest
    assert after.kept == {"one"}
    assert [d.path for d in after.diagnostics if d.path == "one.yaml"] != []


def test_a_file_that_is_gone_takes_its_task_along(tree: Tree) -> None:
    tree.becomes(one=task("One"), two=task("Two"))

    after = tree.becomes(two=task("Two"))

    assert set(after.registry.tasks) == {"two"}
    assert after.kept == frozenset()


def test_a_file_that_was_broken_and_is_then_deleted_takes_its_task_along(tree: Tree) -> None:
    tree.becomes(one=task("One"))
    tree.becomes(one=BROKEN)

    after = tree.becomes()

    assert dict(after.registry.tasks) == {}


@pytest.mark.parametrize("broken", ["name: One\ncommand: [\n", task("One") + "unknown: 1\n", "id: one\n\tx"])
def test_a_file_that_is_moved_and_broken_in_one_go_keeps_its_task(tree: Tree, broken: str) -> None:
    tree.becomes(one=task("One"))

    after = tree.becomes(moved=broken)

    assert set(after.registry.tasks) == {"one"}
    assert after.kept == {"one"}


def test_a_task_with_another_name_takes_the_place_of_the_one_before(tree: Tree) -> None:
    tree.becomes(one=task("One"))

    after = tree.becomes(one=task("Other"))

    assert set(after.registry.tasks) == {"other"}


def test_two_files_may_swap_their_ids(tree: Tree) -> None:
    tree.becomes(a=task("One"), b=task("Two"))

    after = tree.becomes(a=task("Two"), b=task("One"))

    assert {t.id: t.origin.path for t in after.registry.tasks.values()} == {"one": "b.yaml", "two": "a.yaml"}
    assert after.kept == frozenset()


def test_a_task_kept_from_a_broken_file_gives_its_webhook_path_up_and_stays(tree: Tree) -> None:
    tree.becomes(one=task("One", HOOK.format(path="hit")))

    after = tree.becomes(one=BROKEN, two=task("Two", HOOK.format(path="hit")))

    assert set(after.registry.tasks) == {"one", "two"}
    assert after.registry.hooks["hit"].id == "two"
    assert after.registry.tasks["one"].spec.webhook is None


def test_the_last_good_definition_survives_a_restart(tmp_path: Path) -> None:
    with_store = open_store(tmp_path / "optio.db")
    good = Tree(ServedRegistry(with_store)).becomes(one=task("One")).registry.tasks["one"]
    with_store.close()

    store = open_store(tmp_path / "optio.db")
    live = ServedRegistry(store)
    live.restore()
    after = Tree(live).becomes(one=BROKEN)
    store.close()

    assert after.registry.tasks["one"].digest == good.digest
    assert after.kept == {"one"}


def thirty() -> dict[str, str]:
    return {f"job-{number}": task(f"Job {number}") for number in range(30)}


def test_a_tree_that_is_empty_after_a_restart_is_held_as_it_was(tmp_path: Path) -> None:
    with_store = open_store(tmp_path / "optio.db")
    before = Tree(ServedRegistry(with_store)).becomes(**thirty())
    with_store.close()

    store = open_store(tmp_path / "optio.db")
    live = ServedRegistry(store)
    live.restore()
    after = Tree(live).becomes()
    store.close()

    assert after.generation == before.generation
    assert len(after.held) == 30


def test_a_hold_goes_on_over_a_restart_though_it_would_be_allowed_by_now(tmp_path: Path) -> None:
    other = {f"other-{number}": task(f"Other {number}") for number in range(40)}
    store = open_store(tmp_path / "optio.db")
    tree = Tree(ServedRegistry(store))
    tree.becomes(**thirty())
    assert len(tree.becomes(**other).registry.tasks) == 70
    store.close()

    store = open_store(tmp_path / "optio.db")
    live = ServedRegistry(store)
    live.restore()
    after = Tree(live).becomes(**other)
    store.close()

    assert (len(after.held), len(after.registry.tasks)) == (30, 70)


def test_a_release_lets_the_tasks_go_also_after_a_restart(services: Services) -> None:
    tree = Tree(ServedRegistry(services.store))
    tree.becomes(**thirty())
    services.store.release_removals(tree.becomes().held, "ann")

    live = ServedRegistry(services.store)
    live.restore()
    after = Tree(live).becomes()

    assert (dict(after.registry.tasks), after.removal) == ({}, None)


def test_a_broken_file_is_no_removal_and_a_renamed_task_is_none(tree: Tree) -> None:
    tree.becomes(**thirty())

    after = tree.becomes(**dict.fromkeys(thirty(), BROKEN))
    assert (len(after.kept), after.removal) == (30, None)

    after = tree.becomes(**{name: task(f"New {name}") for name in thirty()})
    assert (len(after.registry.tasks), after.removal) == (30, None)


def test_a_held_task_gives_its_webhook_path_up_to_a_new_one(tree: Tree) -> None:
    tree.becomes(one=task("One", HOOK.format(path="hit")), two=task("Two", HOOK.format(path="beat")))

    after = tree.becomes(new=task("New", HOOK.format(path="hit")))

    assert after.held == {"one", "two"}
    assert {path: task.id for path, task in after.registry.hooks.items()} == {"hit": "new", "beat": "two"}


def test_two_servers_of_one_database_hold_the_same_and_one_release_reaches_both(services: Services) -> None:
    one, two = Tree(ServedRegistry(services.store)), Tree(ServedRegistry(services.store))
    generation = one.becomes(**thirty()).generation
    two.becomes(**thirty())
    first, second = one.becomes(), two.becomes()
    assert first.removal is not None
    assert second.removal is not None
    assert (first.removal.digest, first.generation, second.generation) == (second.removal.digest, generation, generation)
    assert not one.live.is_released()

    services.store.release_removals(first.held, "ann")

    assert one.live.is_released()
    assert two.live.is_released()
    assert dict(one.becomes().registry.tasks) == dict(two.becomes().registry.tasks) == {}
    assert one.live.current.generation == two.live.current.generation


def test_equal_trees_are_one_generation(tree: Tree) -> None:
    first = tree.becomes(one=task("One"))
    tree.becomes(one=BROKEN)

    again = tree.becomes(one=task("One"))

    assert again.generation == first.generation


def test_what_is_served_stays_while_the_store_is_down(services: Services, tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    before = tree.becomes(one=task("One"))

    def down(*given: Any) -> GenerationRow:
        raise StoreUnavailable("down")

    monkeypatch.setattr(services.store, "activate", down)

    with pytest.raises(StoreUnavailable):
        tree.becomes(one=task("One"), two=task("Two"))

    assert tree.live.current is before


def pair(services: Services) -> tuple[Tree, Tree]:
    """Two servers of one database, each with a directory of its own."""
    return Tree(ServedRegistry(services.store, server="one")), Tree(ServedRegistry(services.store, server="two"))


def test_a_server_that_starts_with_other_files_serves_what_all_serve_and_says_how_they_differ(services: Services) -> None:
    one, two = pair(services)
    served = one.becomes(a=task("A"), b=task("B"), c=task("C"))

    now = two.becomes(b=task("B"), c=task("C").replace("cat", "tac"), d=task("D"))

    assert (now.registry.digest, now.generation) == (served.registry.digest, served.generation)
    assert now.drift is not None
    assert (now.drift.added, now.drift.changed, now.drift.missing) == (("d",), ("c",), ("a",))
    assert now.drift.in_sync == ("one",)
    assert services.store.generation() == served.generation


def test_a_directory_that_becomes_what_is_served_is_in_sync_and_its_next_change_counts(services: Services) -> None:
    one, two = pair(services)
    served = one.becomes(a=task("A"))
    two.becomes(b=task("B"))

    same = two.becomes(a=task("A"))
    after = two.becomes(a=task("A"), b=task("B"))

    assert (same.generation, same.drift, after.drift) == (served.generation, None, None)
    assert one.live.is_behind()
    behind = one.becomes(a=task("A"))
    assert set(behind.registry.tasks) == {"a", "b"}
    assert behind.drift is not None
    assert behind.drift.missing == ("b",)


def test_a_change_of_the_directory_of_a_server_that_differs_changes_nothing_for_the_others(services: Services) -> None:
    one, two = pair(services)
    served = one.becomes(a=task("A"))
    two.becomes(b=task("B"))

    after = two.becomes(c=task("C"))

    assert (after.generation, services.store.generation()) == (served.generation, served.generation)


def test_a_directory_that_differs_is_served_when_no_server_holds_what_is_served_any_more(services: Services) -> None:
    one, two = pair(services)
    one.becomes(a=task("A"))
    two.becomes(b=task("B"))
    assert not two.live.is_behind()

    one.live.leave()

    assert two.live.is_behind()
    after = two.becomes(b=task("B"))
    assert (set(after.registry.tasks), after.drift) == ({"b"}, None)


def test_a_server_that_the_store_was_away_for_gives_the_others_time_to_say_that_they_are_there(services: Services) -> None:
    clock = [0.0]
    one = Tree(ServedRegistry(services.store, server="one"))
    two = Tree(ServedRegistry(services.store, server="two", clock=lambda: clock[0]))
    one.becomes(a=task("A"))
    two.becomes(b=task("B"))
    services.store.forget_process(ProcessKind.SERVER, "one")  # as if it had been silent for too long
    clock[0] = 60.0

    two.live.tell()

    assert not two.live.is_behind()
    clock[0] = 90.0
    assert two.live.is_behind()


def test_what_was_changed_while_a_server_was_down_is_served_at_its_start(services: Services) -> None:
    one, two = pair(services)
    one.becomes(a=task("A"))

    again = ServedRegistry(services.store, server="one")
    again.restore()
    now = Tree(again).becomes(b=task("B"))

    assert (set(now.registry.tasks), now.drift) == ({"b"}, None)
    assert two.becomes(a=task("A")).drift is not None


def test_of_two_servers_that_change_at_one_moment_the_second_follows_the_first(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = pair(services)
    one.becomes(a=task("A"))
    two.becomes(a=task("A"))
    activate = services.store.activate

    def overtaken(*given: Any) -> GenerationRow:
        monkeypatch.setattr(services.store, "activate", activate)
        one.becomes(a=task("A"), b=task("B"))
        return activate(*given)

    monkeypatch.setattr(services.store, "activate", overtaken)
    late = two.becomes(a=task("A"), c=task("C"))

    assert set(late.registry.tasks) == {"a", "b"}
    assert late.drift is not None
    assert (late.drift.added, late.drift.missing) == (("c",), ("b",))


def test_a_server_that_is_a_commit_behind_does_not_name_the_generation_anew(services: Services) -> None:
    one, two = pair(services)
    one.becomes("first", a=task("A"))
    two.becomes("first", a=task("A"))

    newest = one.becomes("second", a=task("A")).generation
    for _ in range(2):
        assert two.becomes("first", a=task("A")).generation == newest
    starting = Tree(ServedRegistry(services.store, server="three"))
    assert starting.becomes("first", a=task("A")).generation == newest

    assert two.becomes("second", a=task("A")).generation == newest
    assert newest is not None
    assert newest.commit == "second"


def test_a_file_that_broke_in_a_directory_that_differs_is_told_and_keeps_what_all_serve(services: Services) -> None:
    one, two = pair(services)
    one.becomes(a=task("A"), b=task("B"))

    now = two.becomes(a=BROKEN, b=task("B"))

    assert (set(now.registry.tasks), now.kept, now.drift) == ({"a", "b"}, {"a"}, None)
    assert now.diagnostics != ()


def test_servers_whose_directories_differ_do_not_wait_for_each_other(services: Services) -> None:
    one, two = pair(services)
    three = Tree(ServedRegistry(services.store, server="three"))
    one.becomes(a=task("A"))
    two.becomes(b=task("B"))
    three.becomes(c=task("C"))

    one.live.leave()

    assert two.live.is_behind()
    assert set(two.becomes(b=task("B")).registry.tasks) == {"b"}
    assert three.live.is_behind()
    assert set(three.becomes(c=task("C")).registry.tasks) == {"b"}


def test_a_server_that_holds_an_older_generation_keeps_nobody_waiting(services: Services) -> None:
    one, two = pair(services)
    one.becomes(a=task("A"))
    two.becomes(b=task("B"))

    services.store.activate(Registry.of({}), None)  # by a server of an older version, which says nothing of itself

    assert set(two.becomes(b=task("B")).registry.tasks) == {"b"}


def test_what_an_older_version_kept_less_of_is_kept_whole_with_the_next_change(tmp_path: Path) -> None:
    store = open_store(tmp_path / "optio.db")
    tree = Tree(ServedRegistry(store))
    urgent = task("Urgent", "priority: 5\n")
    tree.becomes(urgent=urgent)
    store._engine.change(lambda tx: tx.run("UPDATE tasks SET priority = 0"))

    again = ServedRegistry(store)
    again.restore()
    Tree(again).becomes(urgent=urgent, more=task("More"))

    kept = store._engine.peek(lambda tx: tx.all("SELECT task_id, priority FROM tasks ORDER BY task_id"))
    store.close()
    assert [(row["task_id"], row["priority"]) for row in kept] == [("more", 0), ("urgent", 5)]
