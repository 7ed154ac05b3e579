"""The SQLite driver when the disk below it fails: files that are deleted, moved, replaced or covered, and a full disk."""

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from optio.errors import CommitUnknown, OptioError, StoreFull, StoreUnavailable
from optio.model.run import RunState
from optio.store.sql.store import SqlStore
from optio.store.sqlite.examine import backup, examine
from optio.store.sqlite.sqlite_store import open_store
from optio.store.values import Claim, RetentionPolicy, RunFilter
from tests.runs.support import opened
from tests.store.build import LEASE, claimed, end, everything, new_run, queued, say
from tests.support import ROOT, eventually

RESERVE = 16 << 20


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "optio.db"


@pytest.fixture
def store(path: Path) -> Iterator[SqlStore]:
    with closing(open_store(path, busy=1.0)) as opened:
        yield opened


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 MB. Without the right to mount, its tests fail: a full disk cannot be had in another way."""
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", place], check=True)
    yield place
    subprocess.run(["umount", "-l", place], check=False)


def refused(store: SqlStore, kind: type[OptioError] = StoreUnavailable) -> bool:
    """Whether a trigger is refused, and reading goes the same way."""
    with pytest.raises(kind):
        store.accept(new_run()).result(20)
    return True


# The files


def test_nothing_is_accepted_into_a_database_that_was_deleted(store: SqlStore, path: Path) -> None:
    queued(store)
    shutil.rmtree(path.parent)

    assert all(refused(store) for _ in range(88))

    with pytest.raises(StoreUnavailable, match="deleted or moved"):
        store.runs(RunFilter())
    with pytest.raises(StoreUnavailable, match="deleted or moved"):
        store.check()
    assert not path.parent.exists()


def test_nothing_is_accepted_when_the_volume_is_gone(disk: Path) -> None:
    with closing(open_store(disk / "optio.db")) as store:
        queued(store)
        subprocess.run(["umount", "-l", disk], check=True)

        assert all(refused(store) for _ in range(20))
        with pytest.raises(StoreUnavailable, match="not mounted"):
            store.check()
    assert list(disk.iterdir()) == []


def test_nothing_is_accepted_when_another_directory_covers_the_data(tmp_path: Path) -> None:
    data, other = tmp_path / "data", tmp_path / "other"
    other.mkdir()
    with closing(open_store(data / "optio.db")) as store:
        run_id = queued(store)
        subprocess.run(["mount", "--bind", other, data], check=True)
        try:
            assert refused(store)
        finally:
            subprocess.run(["umount", "-l", data], check=True)

        assert store.accept(new_run()).result(10).first
        assert store.run(run_id)
        assert list(other.iterdir()) == []


def test_a_directory_that_comes_back_is_used_again_with_all_it_had(store: SqlStore, path: Path, tmp_path: Path) -> None:
    kept = [queued(store) for _ in range(5)]
    path.parent.rename(tmp_path / "aside")
    assert refused(store)
    path.parent.mkdir()
    assert refused(store)
    path.parent.rmdir()
    (tmp_path / "aside").rename(path.parent)

    store.check()
    kept.append(str(store.accept(new_run()).result(10).run_id))
    assert sorted(run.id for run in store.runs(RunFilter()).items) == sorted(kept)


def test_a_file_that_goes_away_during_a_commit_leaves_it_open_whether_it_was_kept(
    store: SqlStore, path: Path, tmp_path: Path
) -> None:
    queued(store)

    def move(tx: object) -> None:
        path.rename(tmp_path / "aside.db")

    with pytest.raises(CommitUnknown, match="deleted or moved"):
        store._engine.write(move).result(10)
    (tmp_path / "aside.db").rename(path)
    assert store.accept(new_run()).result(10).first


def test_a_copy_that_was_put_in_its_place_is_used_from_the_next_start_on_and_never_mixed(path: Path, tmp_path: Path) -> None:
    store = open_store(path)
    before = [queued(store) for _ in range(3)]
    backup(path, tmp_path / "backup.db")
    late = [queued(store) for _ in range(3)]
    os.replace(tmp_path / "backup.db", path)

    with pytest.raises(StoreUnavailable, match="was replaced while in use: start Optio again"):
        store.accept(new_run()).result(10)
    with pytest.raises(StoreUnavailable, match="was replaced"):
        store.runs(RunFilter())
    store.close()

    with closing(open_store(path)) as again:
        assert [run.id for run in again.runs(RunFilter()).items] == before[::-1]
        assert again.accept(new_run()).result(10).first
    assert late
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@pytest.mark.parametrize("by", ["a trigger", "a reader"])
def test_a_log_that_was_deleted_by_itself_loses_nothing(store: SqlStore, path: Path, by: str) -> None:
    kept = [queued(store) for _ in range(5)]
    Path(f"{path}-wal").unlink()

    if by == "a trigger":
        kept.append(str(store.accept(new_run()).result(10).run_id))
    else:
        eventually(lambda: readable(store), what="reading again")
    kept.append(str(store.accept(new_run()).result(10).run_id))

    assert sorted(run.id for run in store.runs(RunFilter()).items) == sorted(kept)
    with closing(sqlite3.connect(path)) as outsider:
        assert outsider.execute("SELECT count(*) FROM runs").fetchone() == (len(kept),)
        assert outsider.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def readable(store: SqlStore) -> bool:
    try:
        return bool(store.runs(RunFilter()).items)
    except StoreUnavailable:
        return False


def test_a_log_that_is_deleted_during_a_commit_keeps_the_commit(store: SqlStore, path: Path) -> None:
    queued(store)
    run = new_run()

    def accept_and_delete(tx: object) -> None:
        Path(f"{path}-wal").unlink()

    deleted, accepted = store._engine.write(accept_and_delete), store.accept(run)
    deleted.result(10)
    assert accepted.result(10).first
    with closing(sqlite3.connect(path)) as outsider:
        assert outsider.execute("SELECT count(*) FROM runs").fetchone() == (2,)


BESIDE = """
import sys
from pathlib import Path
from optio.errors import StoreUnavailable
from optio.store.values import RunFilter
from optio.store.sqlite.sqlite_store import open_store
from tests.runs.support import opened
from tests.store.build import new_run

store = open_store(Path(sys.argv[1]))
print("open", flush=True)
for line in sys.stdin:
    try:
        print(store.accept(new_run(run_id=line.strip())).result(10).run_id, flush=True)
    except StoreUnavailable as err:
        print("refused", flush=True)
store.close()
"""


def test_two_processes_whose_log_was_deleted_go_on_together(store: SqlStore, path: Path) -> None:
    queued(store)
    child = subprocess.Popen(
        [sys.executable, "-c", BESIDE, path], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )
    assert child.stdout is not None
    assert child.stdin is not None
    accepted = 1

    def ask(name: str) -> bool:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(f"{name}\n")
        child.stdin.flush()
        return child.stdout.readline().strip() == name

    def accept() -> bool:
        try:
            return store.accept(new_run()).result(10).first
        except StoreUnavailable:
            return False

    with child:
        assert child.stdout.readline() == "open\n"
        assert ask("theirs-1")
        accepted += 1
        Path(f"{path}-wal").unlink()
        for turn in range(2, 30):
            accepted += ask(f"theirs-{turn}")
            accepted += accept()
        assert ask("last")
        assert accept()
        child.stdin.close()
        assert child.wait(20) == 0

    assert accepted > 40
    assert len(store.runs(RunFilter(), limit=200).items) == accepted + 2
    with closing(sqlite3.connect(path)) as outsider:
        assert outsider.execute("PRAGMA integrity_check").fetchone() == ("ok",)


# A full disk


def fill(disk: Path, leave: int = 0) -> Path:
    """Fill the disk, as `yes > ballast` does."""
    ballast = disk / "ballast"
    block = b"y\n" * 32_768
    with suppress(OSError), ballast.open("ab", buffering=0) as file:
        while file.write(block) == len(block):
            pass
    if leave:
        os.truncate(ballast, ballast.stat().st_size - leave)
    return ballast


def free(disk: Path) -> int:
    return shutil.disk_usage(disk).free


@pytest.fixture
def stored(disk: Path) -> Iterator[SqlStore]:
    with closing(open_store(disk / "optio.db", reserve=RESERVE)) as store:
        yield store


def test_a_reserve_is_held_that_leaves_a_small_disk_usable(stored: SqlStore, disk: Path) -> None:
    assert (disk / "optio.db-reserve").stat().st_size == 4 << 20
    assert (disk / "optio.db-reserve").stat().st_blocks * 512 >= 4 << 20
    stored.check()


def test_on_a_full_disk_new_runs_are_refused_and_running_ones_end(stored: SqlStore, disk: Path) -> None:
    running = [claimed(stored) for _ in range(20)]
    waiting = queued(stored)
    ballast = fill(disk)
    assert free(disk) == 0

    assert refused(stored, StoreFull)
    with pytest.raises(StoreFull):
        stored.check()
    with pytest.raises(StoreFull):
        stored.claim("w", LEASE, everything)
    with pytest.raises(StoreFull):
        stored.retry(running[0].run.id, "me")
    for number, claim in enumerate(running):
        assert set(stored.renew("w", LEASE)) == {each.run.id for each in running[number:]}
        say(stored, claim, "x" * 4000)
        end(stored, claim)
        fill(disk)  # whatever is given back is taken at once

    assert all(stored.run(claim.run.id).state is RunState.COMPLETED for claim in running)
    assert stored.run(waiting).state is RunState.QUEUED
    ballast.unlink()
    stored.check()
    assert (disk / "optio.db-reserve").stat().st_size == 4 << 20
    assert stored.accept(new_run()).result(10).first
    assert waiting in [claim.run.id for claim in stored.claim("w", LEASE, everything)]


def fails_to_say(store: SqlStore, claim: Claim) -> bool:
    try:
        say(store, claim, "x" * 50_000)
    except StoreFull:
        return True
    return False


def test_output_leaves_room_for_the_ends_of_runs(stored: SqlStore, disk: Path) -> None:
    running = [claimed(stored) for _ in range(20)]
    fill(disk)

    eventually(lambda: fails_to_say(stored, running[0]), what="output being refused")
    fill(disk)

    for claim in running:
        end(stored, claim)
    assert all(stored.run(claim.run.id).state is RunState.COMPLETED for claim in running)


def test_however_long_the_disk_is_full_the_reserve_is_not_used_up(stored: SqlStore, disk: Path) -> None:
    claimed(stored)
    for _ in range(60):  # the log is larger by far than one step of the reserve, and the database has nothing of it
        queued(stored)
    fill(disk)

    for _ in range(5):
        stored.renew("w", LEASE)
    before = (disk / "optio.db-reserve").stat().st_size
    for _ in range(300):
        stored.renew("w", LEASE)

    assert before > 2 << 20
    assert (disk / "optio.db-reserve").stat().st_size == before


def test_the_log_is_written_back_with_what_it_needs_at_once_though_others_take_each_step_that_is_left(
    stored: SqlStore, disk: Path
) -> None:
    claimed(stored)
    for _ in range(60):
        queued(stored)
    fill(disk)

    for _ in range(80):
        stored.renew("w", LEASE)
        fill(disk)

    assert (disk / "optio.db-reserve").stat().st_size > 7 << 19


def test_the_log_is_written_back_before_the_database_lacks_half_of_the_reserve(stored: SqlStore, disk: Path) -> None:
    for _ in range(100):
        queued(stored)

    assert (disk / "optio.db-wal").stat().st_size < (disk / "optio.db-reserve").stat().st_size / 2


def test_a_full_disk_is_no_reason_not_to_start(disk: Path) -> None:
    path = disk / "optio.db"
    with closing(open_store(path, reserve=RESERVE)) as store:
        kept = [queued(store) for _ in range(5)]
        running = claimed(store)
    ballast = fill(disk)
    assert not Path(f"{path}-wal").exists()

    for _ in range(5):
        with closing(open_store(path, reserve=RESERVE)) as store:
            assert store.run(kept[0])
            assert refused(store, StoreFull)
            assert list(store.renew("w", LEASE))
    with closing(open_store(path, reserve=RESERVE)) as store:
        end(store, running)
        assert not any(count for _, count in store.prune(RetentionPolicy()))
        ballast.unlink()
        assert store.accept(new_run()).result(10).first


def test_the_reserve_has_the_size_of_the_settings(tmp_path: Path) -> None:
    with opened(tmp_path, {"OPTIO_RESERVE_BYTES": "4096"}):
        assert (tmp_path / "data" / "optio.db-reserve").stat().st_size == 4096


def test_a_process_that_starts_on_a_full_disk_refuses_until_there_is_room_for_the_reserve(disk: Path) -> None:
    with closing(open_store(disk / "optio.db")) as store:
        queued(store)
    ballast = fill(disk, leave=3 << 20)
    with closing(open_store(disk / "optio.db", reserve=RESERVE)) as store:
        assert refused(store, StoreFull)
        ballast.unlink()
        assert store.accept(new_run()).result(10).first
    assert (disk / "optio.db-reserve").stat().st_size == 4 << 20


def test_the_check_says_that_the_disk_is_full(stored: SqlStore, disk: Path) -> None:
    assert {each.name: each.status for each in examine(disk / "optio.db", thorough=False)}["disk"] != "error"
    fill(disk)
    found = {each.name: each for each in examine(disk / "optio.db", thorough=True)}
    assert found["disk"].status == "error"
    assert "new runs are refused" in found["disk"].detail


def test_triggers_are_refused_for_no_longer_than_the_disk_is_full(stored: SqlStore, disk: Path) -> None:
    accepted = []
    for _ in range(4):
        ballast = fill(disk)
        for _ in range(30):
            with suppress(StoreFull):
                accepted.append(stored.accept(new_run()).result(10).run_id)
        ballast.unlink()
        accepted += [stored.accept(new_run()).result(10).run_id for _ in range(30)]

    assert len(accepted) >= 120
    assert [run.id for run in stored.runs(RunFilter(), limit=200).items] == accepted[::-1]
