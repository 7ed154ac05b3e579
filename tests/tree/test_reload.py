"""Hot reload on a real directory: whatever happens to the files, what is served ends as the tree on disk."""

import asyncio
import contextlib
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import watchfiles

from optio.compiler.pipeline import compile_tree
from optio.compiler.source_tree import DirectoryTree
from optio.errors import StoreUnavailable
from optio.model.removal_limit import RemovalLimit
from optio.store.values import GenerationRow
from optio.tree.reload import Reloader
from optio.tree.scan import differences, is_open_for_writing, scan_directory
from optio.tree.served import ServedRegistry, Snapshot
from optio.wiring import Services
from tests.support import COMMAND_TASK, eventually


def task(name: str, prompt: str = "hello", extra: str = "") -> str:
    return COMMAND_TASK.format(name=name, command='["/bin/cat"]').replace("hello", prompt) + extra


class Watched:
    """A directory that is followed, and every registry that was ever served from it."""

    def __init__(self, root: Path, services: Services, *, limit: str = "100%") -> None:
        self.root = root
        self.live = ServedRegistry(services.store, RemovalLimit.parse(limit), server=str(root))
        self.news: list[Snapshot] = []
        self.reloader = Reloader(root, self.live, services.broker, on_change=self.news.append)
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        async def main() -> None:
            await self.reloader.load()
            await self.reloader.watch(self._stop)

        self._loop.run_until_complete(main())
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()

    def __enter__(self) -> "Watched":
        self._thread.start()
        eventually(lambda: self.live.current.generation is not None, what="the first generation")
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(20)
        assert not self._thread.is_alive()

    def load(self, *paths: str) -> Snapshot:
        """What a write through the API does."""
        return asyncio.run_coroutine_threadsafe(self.reloader.load(paths), self._loop).result(20)

    def put(self, path: str, text: str) -> None:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = target.with_name(f".{target.name}.tmp")
        draft.write_text(text)
        draft.replace(target)

    @property
    def ids(self) -> set[str]:
        return set(self.live.current.registry.tasks)

    def prompt(self, task_id: str) -> str | None:
        found = self.live.current.registry.tasks.get(task_id)
        return found and found.prompt

    def until(self, condition: Callable[[], object], what: str = "the tree to be served") -> None:
        """Until the condition holds and the news has what is served: a registry is served before it is told."""
        eventually(lambda: condition() and self._is_told(), what=what)

    def _is_told(self) -> bool:
        return bool(self.news) and self.news[-1].registry.digest == self.live.current.registry.digest

    def until_equal(self) -> None:
        """Until what is served is what the tree holds."""
        wanted = compile_tree(DirectoryTree(self.root)).registry.digest
        eventually(lambda: self.live.current.registry.digest == wanted, what="the tree on disk")

    def ever_without(self, task_id: str) -> bool:
        """Whether any generation since the task first appeared was served without it."""
        seen = [task_id in s.registry.tasks for s in self.news]
        return False in seen[seen.index(True) :] if True in seen else True


@pytest.fixture
def watched(tmp_path: Path, services: Services) -> Iterator[Watched]:
    root = tmp_path / "tree"
    root.mkdir()
    (root / "base.yaml").write_text(task("Base"))
    with Watched(root, services) as followed:
        yield followed


# How editors, scripts and version control change a file.


def _in_place(path: Path, text: str) -> None:
    path.write_text(text)


def _by_rename(path: Path, text: str) -> None:
    draft = path.with_name("." + path.name)
    draft.write_text(text)
    draft.replace(path)


def _truncate_first(path: Path, text: str) -> None:
    with path.open("w") as file:
        time.sleep(0.3)
        file.write(text)


def _in_pieces(path: Path, text: str) -> None:
    with path.open("w") as file:
        for line in text.splitlines(keepends=True):
            file.write(line)
            file.flush()
            time.sleep(0.12)


def _like_vim(path: Path, text: str) -> None:
    backup = path.with_name(path.name + "~")
    path.rename(backup)
    time.sleep(0.05)
    path.write_text(text)
    backup.unlink()


def _delete_first(path: Path, text: str) -> None:
    path.unlink()
    time.sleep(0.05)
    path.write_text(text)


def _storm(path: Path, text: str) -> None:
    for count in range(60):
        path.write_text(text.replace("new", f"new{count}"))
        time.sleep(0.005)
    path.write_text(text)


@pytest.mark.parametrize("save", [_in_place, _by_rename, _truncate_first, _in_pieces, _like_vim, _delete_first, _storm])
def test_every_way_to_save_ends_in_the_new_text_and_never_without_the_task(
    watched: Watched, save: Callable[[Path, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    # On a busy machine there may be more than a moment between the two halves of a save.
    monkeypatch.setattr("optio.tree.reload._CONFIRM_GONE_S", 5.0)

    save(watched.root / "base.yaml", task("Base", "new"))

    watched.until(lambda: watched.prompt("base") == "new")
    assert not watched.ever_without("base")
    assert [s.kept for s in watched.news if s.kept] == []


def test_a_file_that_stays_open_for_writing_is_held_and_others_are_taken_up(watched: Watched) -> None:
    with (watched.root / "base.yaml").open("w") as slow:
        slow.write(task("Base", "half"))
        slow.flush()
        watched.put("other.yaml", task("Other"))
        watched.until(lambda: "other" in watched.ids)

        assert watched.prompt("base") == "hello"

        slow.seek(0)
        slow.truncate()
        slow.write(task("Base", "whole"))
    watched.until(lambda: watched.prompt("base") == "whole")
    assert "half" not in {s.registry.tasks["base"].prompt for s in watched.news}


def test_a_new_file_that_stays_open_for_writing_is_not_there_yet(watched: Watched) -> None:
    with (watched.root / "slow.yaml").open("w") as slow:
        slow.write(task("Slow", "half"))
        slow.flush()
        watched.put("other.yaml", task("Other"))
        watched.until(lambda: "other" in watched.ids)

        assert watched.ids == {"base", "other"}
    watched.until(lambda: "slow" in watched.ids)


def test_asking_whether_a_file_is_being_written_survives_a_writer_that_comes_just_then(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            with path.open("w"):
                pass

    writer = threading.Thread(target=write)
    writer.start()
    answers = {is_open_for_writing(path) for _ in range(5000)}  # the kernel's default would have ended this process
    limit = time.monotonic() + 20  # where both cores are busy, the writer comes seldom
    while answers != {True, False} and time.monotonic() < limit:
        answers.add(is_open_for_writing(path))
    stop.set()
    writer.join()

    assert answers == {True, False}


@pytest.mark.parametrize("broken", ["", "name: [\n", task("Base")[:40], "\x00"])
def test_a_broken_file_keeps_its_task_and_is_reported_until_it_is_mended(watched: Watched, broken: str) -> None:
    _by_rename(watched.root / "base.yaml", broken)
    watched.until(lambda: watched.live.current.kept == {"base"})
    reported = [d.path for d in watched.live.current.diagnostics]
    _by_rename(watched.root / "base.yaml", task("Base", "mended"))
    watched.until(lambda: watched.prompt("base") == "mended")

    assert reported == ["base.yaml"] * len(reported) != []
    assert watched.live.current.diagnostics == ()
    assert not watched.ever_without("base")


def test_a_deleted_file_takes_its_task_along_and_a_renamed_one_does_not(watched: Watched) -> None:
    watched.put("gone.yaml", task("Gone"))
    watched.until(lambda: "gone" in watched.ids)
    (watched.root / "gone.yaml").unlink()
    (watched.root / "base.yaml").rename(watched.root / "moved.yaml")

    watched.until(lambda: watched.ids == {"base"} and watched.live.current.registry.tasks["base"].origin.path == "moved.yaml")
    assert not watched.ever_without("base")


def test_directories_may_be_made_renamed_and_deleted(watched: Watched) -> None:
    for number in range(40):
        target = watched.root / f"team/{number}/deep/task.yaml"
        target.parent.mkdir(parents=True)
        target.write_text(task(f"Job {number}"))
    watched.until(lambda: len(watched.ids) == 41)
    (watched.root / "team").rename(watched.root / "group")
    watched.until(lambda: watched.live.current.registry.tasks["job-1"].origin.path == "group/1/deep/task.yaml")
    shutil.rmtree(watched.root / "group")
    watched.until(lambda: watched.ids == {"base"})


def test_a_tree_that_vanishes_leaves_everything_served_and_is_taken_up_when_it_is_back(watched: Watched) -> None:
    away = watched.root.with_name("away")
    watched.root.rename(away)
    watched.until(lambda: [d.code for d in watched.live.current.diagnostics] == ["OPT115"])
    still_served = watched.ids
    (away / "new.yaml").write_text(task("New"))
    away.rename(watched.root)
    watched.until(lambda: watched.ids == {"base", "new"})

    assert still_served == {"base"}
    assert watched.live.current.diagnostics == ()

    watched.put("base.yaml", task("Base", "after"))
    watched.until(lambda: watched.prompt("base") == "after")


def test_a_link_to_the_tree_may_be_swapped(tmp_path: Path, services: Services) -> None:
    for release in ("one", "two"):
        (tmp_path / release).mkdir()
        (tmp_path / release / "base.yaml").write_text(task("Base", release))
        (tmp_path / release / f"{release}.yaml").write_text(task(release))
    (tmp_path / "tree").symlink_to("one")
    with Watched(tmp_path / "tree", services) as watched:
        (tmp_path / "next").symlink_to("two")
        (tmp_path / "next").replace(tmp_path / "tree")
        watched.until(lambda: watched.ids == {"base", "two"})
        (tmp_path / "two" / "base.yaml").write_text(task("Base", "three"))
        watched.until(lambda: watched.prompt("base") == "three")

    assert {(frozenset(s.registry.tasks), s.registry.tasks["base"].prompt) for s in watched.news} == {
        (frozenset({"base", "one"}), "one"), (frozenset({"base", "two"}), "two"), (frozenset({"base", "two"}), "three"),
    }  # fmt: skip


def test_a_mounted_config_map_is_swapped_whole(tmp_path: Path, services: Services) -> None:
    root = tmp_path / "tree"

    def publish(version: str) -> None:
        made = root / f"..{version}"
        made.mkdir(parents=True)
        for name in ("a", "b"):
            (made / f"{name}.yaml").write_text(task(name, version))
        (root / "..data_tmp").symlink_to(f"..{version}")
        (root / "..data_tmp").replace(root / "..data")

    publish("one")
    for name in ("a", "b"):
        (root / f"{name}.yaml").symlink_to(f"..data/{name}.yaml")
    with Watched(root, services) as watched:
        publish("two")
        shutil.rmtree(root / "..one")
        watched.until(lambda: watched.prompt("a") == watched.prompt("b") == "two")

    assert {(s.registry.tasks["a"].prompt, s.registry.tasks["b"].prompt) for s in watched.news} == {
        ("one", "one"),
        ("two", "two"),
    }


def _git(root: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *identity, *arguments], cwd=root, check=True, capture_output=True)


def test_a_branch_switch_of_300_files_is_taken_up_whole(watched: Watched) -> None:
    for number in range(300):
        (watched.root / f"t{number}.yaml").write_text(task(f"T{number}", "main"))
    _git(watched.root, "init", "-q", "-b", "main")
    _git(watched.root, "add", ".")
    _git(watched.root, "commit", "-qm", "main")
    _git(watched.root, "checkout", "-qb", "side")
    for number in range(300):
        (watched.root / f"t{number}.yaml").write_text(task(f"T{number}", "side"))
    _git(watched.root, "commit", "-qam", "side")
    watched.until(lambda: watched.prompt("t299") == "side")
    watched.news.clear()

    _git(watched.root, "checkout", "-q", "main")
    watched.until_equal()
    watched.until(lambda: watched.news and watched.news[-1].registry.tasks["t0"].prompt == "main")

    versions = [{t.prompt for t in s.registry.tasks.values() if t.id != "base"} for s in watched.news]
    assert versions in ([{"main"}], [{"side"}, {"main"}])


def test_files_edited_one_after_the_other_are_never_served_out_of_order(watched: Watched) -> None:
    for number in range(300):
        (watched.root / f"m{number:03}.yaml").write_text(task(f"M {number}"))
    for turn in range(6):
        for step in range(40):
            # The first file in every order of reading is written last.
            watched.put("zz.yaml", task("Zz", f"{turn * 40 + step}"))
            watched.put("aa.yaml", task("Aa", f"{turn * 40 + step}"))
        watched.until(lambda turn=turn: watched.prompt("aa") == watched.prompt("zz") == f"{turn * 40 + 39}")

    pairs = [
        (watched_by["zz"].prompt, watched_by["aa"].prompt) for s in watched.news if "aa" in (watched_by := s.registry.tasks)
    ]
    assert [pair for pair in pairs if int(pair[0]) - int(pair[1]) not in (0, 1)] == []
    assert pairs[-1] == ("239", "239")


def test_while_git_is_at_work_nothing_is_taken_up(watched: Watched) -> None:
    (watched.root / ".git").mkdir()
    lock = watched.root / ".git" / "index.lock"
    lock.touch()
    watched.put("a.yaml", task("A"))
    time.sleep(0.8)
    watched.put("b.yaml", task("B"))
    lock.unlink()

    watched.until(lambda: len(watched.news) > 1 and watched.ids == {"base", "a", "b"})
    assert [set(s.registry.tasks) for s in watched.news] == [{"base"}, {"base", "a", "b"}]


def test_what_cannot_be_read_is_reported_and_holds_nobody_up(watched: Watched) -> None:
    root = watched.root
    os.mkfifo(root / "pipe.yaml")
    (root / "loop.yaml").symlink_to("loop.yaml")
    (root / "nowhere.yaml").symlink_to("missing.yaml")
    (root / "outside.yaml").symlink_to("/etc/hostname")
    (root / "directory.yaml").mkdir()
    with (root / "huge.yaml").open("wb") as file:
        file.truncate(100 << 20)
    watched.put("fine.yaml", task("Fine"))

    watched.until(lambda: watched.ids == {"base", "fine"})
    watched.until(lambda: len({d.path for d in watched.live.current.diagnostics}) == 5)
    assert {d.path for d in watched.live.current.diagnostics} == {
        "pipe.yaml", "loop.yaml", "nowhere.yaml", "outside.yaml", "huge.yaml",
    }  # fmt: skip


@pytest.mark.parametrize("how", ["pipe", "loop", "huge", "directory"])
def test_a_file_that_can_no_longer_be_read_keeps_its_task(watched: Watched, how: str) -> None:
    path = watched.root / "base.yaml"
    if how == "huge":
        with path.open("r+b") as file:
            file.truncate(100 << 20)
    else:
        path.unlink()
        {"pipe": os.mkfifo, "loop": lambda p: p.symlink_to(p.name), "directory": Path.mkdir}[how](path)

    if how == "directory":
        watched.until(lambda: watched.ids == set())
    else:
        watched.until(lambda: watched.live.current.kept == {"base"})
        assert not watched.ever_without("base")


def test_a_change_that_leaves_size_and_time_as_they_were_has_another_sign(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("one")
    os.utime(path, ns=(10**18, 10**18))
    before = scan_directory(tmp_path).stamps
    time.sleep(0.05)
    path.write_text("two")
    os.utime(path, ns=(10**18, 10**18))

    assert differences(dict(before), scan_directory(tmp_path).stamps) == {"a.yaml"}


def test_a_sign_too_fresh_to_show_the_next_change_is_known_as_such(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("one")
    os.utime(tmp_path / "a.yaml", ns=(10**18, 10**18))

    assert scan_directory(tmp_path).racy == {"a.yaml"}


def test_a_prompt_in_a_file_of_its_own_is_followed_wherever_it_lies(watched: Watched) -> None:
    for directory in ("prompts", "deep/er"):
        (watched.root / directory).mkdir(parents=True)
        (watched.root / directory / "p.md").write_text("first")
        watched.put(
            f"{directory.replace('/', '-')}.yaml",
            task("x")
            .replace('promptTemplate: "hello"', f"promptFile: {directory}/p.md")
            .replace("name: x", f"name: {directory.replace('/', ' ')}"),
        )
    watched.until(lambda: watched.prompt("prompts") == watched.prompt("deep-er") == "first")

    (watched.root / "prompts/p.md").write_text("second")
    (watched.root / "deep/er/p.md").write_text("second")

    watched.until(lambda: watched.prompt("prompts") == watched.prompt("deep-er") == "second")


def test_without_file_events_a_scan_finds_every_change(
    tmp_path: Path, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def no_watches(*_: object, **__: object) -> None:
        raise OSError(28, "inotify watch limit reached")

    class Refused:
        def __aiter__(self) -> "Refused":
            return self

        __anext__ = no_watches

    monkeypatch.setattr(watchfiles, "awatch", lambda *_, **__: Refused())
    (tmp_path / "tree").mkdir()
    with Watched(tmp_path / "tree", services) as watched:
        watched.put("late.yaml", task("Late"))

        watched.until(lambda: watched.ids == {"late"})


def test_a_change_is_taken_up_when_the_store_is_back(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    store = watched.live._store
    down = threading.Event()

    class Flaky:
        def activate(self, *given: Any) -> GenerationRow:
            if not down.is_set():
                down.set()
                raise StoreUnavailable("down")
            return store.activate(*given)

        def __getattr__(self, name: str) -> object:
            return getattr(store, name)

    monkeypatch.setattr(watched.live, "_store", Flaky())
    watched.put("late.yaml", task("Late"))

    watched.until(down.is_set)
    watched.until(lambda: watched.ids == {"base", "late"})


def test_a_write_takes_its_own_file_up_and_no_half_written_one(watched: Watched) -> None:
    with (watched.root / "base.yaml").open("w") as slow:
        slow.write(task("Base", "half"))
        slow.flush()
        watched.put("api.yaml", task("Api"))

        snapshot = watched.load("api.yaml")

        assert {t.id: t.prompt for t in snapshot.registry.tasks.values()} == {"base": "hello", "api": "hello"}


def test_random_edits_end_in_the_tree_on_disk(watched: Watched) -> None:
    import random

    chance = random.Random(7)
    for step in range(150):
        path = watched.root / f"{chance.choice(['', 'a/', 'a/b/'])}{chance.randrange(6)}.yaml"
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            if chance.random() < 0.2:
                path.unlink()
            elif chance.random() < 0.05 and path.parent != watched.root:
                shutil.rmtree(path.parent)
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                chance.choice([_in_place, _by_rename])(path, task(f"T {path.relative_to(watched.root)}", f"p{step}"))
        time.sleep(chance.choice([0, 0.002, 0.03]))

    watched.until_equal()


@pytest.fixture
def thirty(tmp_path: Path, services: Services) -> Iterator[Watched]:
    """Thirty tasks with the limit that is the default."""
    root = tmp_path / "tree"
    root.mkdir()
    for number in range(30):
        (root / f"job-{number}.yaml").write_text(task(f"Job {number}"))
    with Watched(root, services, limit="50%") as followed:
        yield followed


def removal_of(watched: Watched, count: int) -> set[str]:
    watched.until(lambda: len(watched.live.current.held) == count, f"{count} held tasks")
    return set(watched.live.current.held)


def test_files_deleted_one_by_one_over_seconds_are_held_as_a_whole(thirty: Watched) -> None:
    for number in range(30):
        (thirty.root / f"job-{number}.yaml").unlink()
        time.sleep(0.3)

    assert removal_of(thirty, 30) == {f"job-{number}" for number in range(30)}
    assert len(thirty.ids) == 30
    # It was seen in parts: some had gone before the rest made it too much.
    assert min(len(s.registry.tasks) for s in thirty.news) in range(15, 30)


def test_files_that_come_back_one_by_one_end_the_hold_and_no_task_goes_meanwhile(thirty: Watched) -> None:
    texts = {path: path.read_text() for path in thirty.root.iterdir()}
    shutil.rmtree(thirty.root)
    thirty.root.mkdir()
    removal_of(thirty, 30)
    thirty.news.clear()
    for path, text in texts.items():
        path.write_text(text)
        time.sleep(0.1)

    thirty.until(lambda: thirty.live.current.removal is None)
    assert {len(s.registry.tasks) for s in thirty.news} == {30}


def test_a_checkout_with_forty_percent_fewer_tasks_passes_without_a_word(thirty: Watched) -> None:
    for number in range(12):
        (thirty.root / f"job-{number}.yaml").unlink()

    thirty.until(lambda: len(thirty.ids) == 18)
    assert [s.removal for s in thirty.news if s.removal is not None] == []


def test_edits_and_new_files_are_served_beside_a_held_removal(thirty: Watched) -> None:
    for number in range(20):
        (thirty.root / f"job-{number}.yaml").unlink()
    thirty.put("new.yaml", task("New"))
    thirty.put("job-29.yaml", task("Job 29", "edited"))

    thirty.until(lambda: "new" in thirty.ids and thirty.prompt("job-29") == "edited")
    removal_of(thirty, 20)
    assert len(thirty.ids) == 31


def test_a_release_through_another_server_reaches_this_one(thirty: Watched, services: Services) -> None:
    shutil.rmtree(thirty.root)
    thirty.root.mkdir()
    held = removal_of(thirty, 30)

    services.store.release_removals(held, "ann")

    thirty.until(lambda: thirty.ids == set())
    assert thirty.live.current.removal is None


def test_what_was_released_is_held_again_after_it_had_come_back(thirty: Watched, services: Services) -> None:
    texts = {path: path.read_text() for path in thirty.root.iterdir()}
    for path in texts:
        path.unlink()
    services.store.release_removals(removal_of(thirty, 30), "ann")
    thirty.until(lambda: thirty.ids == set())
    for path, text in texts.items():
        path.write_text(text)
    thirty.until(lambda: len(thirty.ids) == 30)

    for path in texts:
        path.unlink()

    removal_of(thirty, 30)
    assert len(thirty.ids) == 30


def test_a_deletion_through_the_api_is_never_held(thirty: Watched) -> None:
    for number in range(29):
        (thirty.root / f"job-{number}.yaml").unlink()
        snapshot = thirty.load(f"job-{number}.yaml")
        assert (len(snapshot.registry.tasks), snapshot.removal) == (29 - number, None)


def test_a_held_removal_is_told_at_once_and_now_and_then_again(
    thirty: Watched, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("optio.tree.reload.REMIND_EVERY_S", 0.1)
    shutil.rmtree(thirty.root)
    thirty.root.mkdir()
    removal_of(thirty, 30)

    thirty.until(lambda: "30 of 30 tasks are gone" in caplog.text, "a second line in the log")


# Several servers


def test_a_change_in_one_directory_is_served_by_every_server_and_told_by_those_that_do_not_hold_it(
    watched: Watched, services: Services, tmp_path: Path
) -> None:
    there = tmp_path / "elsewhere"
    shutil.copytree(watched.root, there)
    with Watched(there, services) as other:
        # Files as young as these are looked at again: what is served must not change by that.
        other.until(lambda: None not in other.reloader._stamps.values())
        watched.put("more.yaml", task("More"))

        other.until(lambda: other.ids == {"base", "more"})
        other.until(lambda: other.live.current.drift is not None)
        assert other.live.current.generation == watched.live.current.generation
        other.put("more.yaml", task("More"))
        other.until(lambda: other.live.current.drift is None)
        other.put("last.yaml", task("Last"))

        watched.until(lambda: watched.ids == {"base", "more", "last"})


def test_a_directory_that_differs_is_served_when_the_server_that_held_what_is_served_has_stopped(
    services: Services, tmp_path: Path
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for root in (one, two):
        root.mkdir()
        (root / "base.yaml").write_text(task("Base", root.name))
    first = Watched(one, services).__enter__()
    with Watched(two, services) as second:
        second.until(lambda: second.live.current.drift is not None)
        before = second.prompt("base")

        first.__exit__()

        second.until(lambda: second.prompt("base") == "two")
    assert before == "one"
