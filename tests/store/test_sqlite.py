"""The SQLite driver under faults: a held lock, a full disk, a damaged or foreign file, many processes, threads that die."""

import os
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from subprocess import PIPE
from typing import Any

import pytest

from optio.errors import Conflict, LeaseLost, NotFound, OptioError, StoreMismatch, StoreUnavailable
from optio.model.run import RunState
from optio.store.sql import runs
from optio.store.sql.schema import Migration, SchemaState, migrations
from optio.store.sql.store import SqlStore
from optio.store.sqlite.sqlite_store import MAX_IDLE_READERS, MAX_WAL_BYTES, migrate, open_store, state
from optio.store.values import RunFilter
from tests.store.build import LEASE, START, claimed, end, everything, new_run, queued, say, serve, task
from tests.support import ROOT


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "optio.db"


@pytest.fixture
def store(path: Path) -> Iterator[SqlStore]:
    opened = open_store(path, busy=0.3)
    yield opened
    opened.close()


@pytest.fixture
def outsider(store: SqlStore, path: Path) -> Iterator[sqlite3.Connection]:
    """Another process's connection to the same file."""
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as connection:
        yield connection


# Locked, full, read-only


def test_a_lock_that_is_held_too_long_accepts_nothing_and_heals(store: SqlStore, outsider: sqlite3.Connection) -> None:
    kept = queued(store)
    outsider.execute("BEGIN IMMEDIATE")
    refused = [new_run() for _ in range(3)]

    futures = [store.accept(run) for run in refused]
    for future in futures:
        with pytest.raises(StoreUnavailable, match="another process has locked it"):
            future.result(20)
    with pytest.raises(StoreUnavailable):
        store.cancel(kept, "eve")
    assert store.run(kept).state is RunState.QUEUED  # readers never wait
    outsider.execute("COMMIT")

    assert store.accept(new_run()).result(10).first
    for run in refused:
        with pytest.raises(NotFound):
            store.run(run.id)


def test_a_short_lock_is_only_waited_for(path: Path) -> None:
    with closing(open_store(path, busy=20)) as store, closing(sqlite3.connect(path, isolation_level=None)) as outsider:
        outsider.execute("BEGIN IMMEDIATE")
        future = store.accept(new_run())
        outsider.execute("ROLLBACK")

        assert future.result(20).first


def test_a_full_disk_accepts_nothing_and_heals(store: SqlStore) -> None:
    kept = queued(store)
    _most_pages(store, 1)
    refused = [new_run(prompt="x" * 100_000) for _ in range(5)]

    futures = [store.accept(run) for run in refused]

    for future in futures:
        with pytest.raises(StoreUnavailable, match="free some space"):
            future.result(20)
    assert [run.id for run in store.runs(RunFilter()).items] == [kept]
    _most_pages(store, 2**30)
    assert store.accept(new_run()).result(10).first


def _most_pages(store: SqlStore, count: int) -> None:
    """SQLite's own limit of a file's size answers as a full disk does."""
    engine = store._engine
    pages = engine.write(lambda tx: tx.one(f"PRAGMA max_page_count={count}")[0]).result(10)  # type: ignore[attr-defined]
    assert pages > 0


def test_one_operation_that_finds_no_room_harms_no_other(store: SqlStore) -> None:
    _most_pages(store, 80)
    gate = threading.Event()
    blocker = store._engine.write(lambda tx: gate.wait(20))  # what follows is one batch
    small = [store.accept(new_run()) for _ in range(5)]
    large = store.accept(new_run(prompt="x" * 4_000_000))
    late = [store.accept(new_run()) for _ in range(5)]
    gate.set()

    blocker.result(20)
    with pytest.raises(StoreUnavailable):
        large.result(20)
    assert all(future.result(20).first for future in small + late)


def test_operations_that_fail_in_a_batch_harm_no_other(store: SqlStore) -> None:
    done, lost = claimed(store), claimed(store)
    end(store, done)
    gate = threading.Event()
    store._engine.write(lambda tx: gate.wait(20))
    taken = new_run()

    def fail(tx: object) -> None:
        raise RuntimeError("a bug")

    futures = [store.accept(run) for run in (new_run(), taken, taken, new_run(prompt="\udfff"), new_run())]
    bug = store._engine.write(fail)
    with ThreadPoolExecutor(2) as pool:
        stale = pool.submit(say, store, done, "late")
        good = pool.submit(say, store, lost, "fine")
        gate.set()
        assert good.result(20) == 1
        with pytest.raises(LeaseLost):
            stale.result(20)

    answers = [future.exception(20) for future in futures]
    assert [type(answer) for answer in answers[:3]] == [type(None), type(None), Conflict]
    assert isinstance(answers[3], OptioError)
    assert answers[4] is None
    with pytest.raises(RuntimeError, match="a bug"):
        bug.result(20)
    assert len(store.runs(RunFilter()).items) == 5


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place], capture_output=True, check=False)
    yield place
    if mounted.returncode == 0:
        subprocess.run(["umount", "-l", place], check=True)


def test_a_disk_that_fills_up_loses_nothing_that_was_accepted(small_disk: Path) -> None:
    store = open_store(small_disk / "optio.db")
    accepted, failure = [], None
    ballast = small_disk / "ballast"
    with suppress(OSError), ballast.open("wb") as file:
        file.write(bytes(400_000))

    for _ in range(2000):
        try:
            accepted.append(store.accept(new_run(prompt="x" * 2000)).result(20).run_id)
        except StoreUnavailable as err:
            failure = err
            break
    if failure is not None:  # without the right to mount the disk is large, and all is accepted
        assert "cannot be used" in str(failure)
        ballast.unlink()
        accepted.append(store.accept(new_run()).result(20).run_id)
    store.close()

    with closing(open_store(small_disk / "optio.db")) as again:
        assert all(again.run(str(run_id)) for run_id in accepted[::50])
        assert [run.id for run in again.runs(RunFilter(), limit=1).items] == accepted[-1:]
    assert whole(small_disk / "optio.db")


EIO_AT_FSYNC = """
import ctypes, errno, platform, struct, sys
from pathlib import Path
from optio.errors import StoreUnavailable
from optio.store.sqlite.sqlite_store import open_store
from tests.store.build import new_run

store = open_store(Path(sys.argv[1]))
for _ in range(20):
    print(store.accept(new_run()).result(20).run_id, flush=True)

# From here on the kernel answers every flush of this process with EIO: a filter of system calls, for all threads.
numbers, seccomp = {"x86_64": ((74, 75), 317), "aarch64": ((82, 83), 277)}[platform.machine()]
load, equal, give = 0x20, 0x15, 0x06
program = struct.pack("HBBI", load, 0, 0, 0)
program += struct.pack("HBBI", equal, 1, 0, numbers[0]) + struct.pack("HBBI", equal, 0, 1, numbers[1])
program += struct.pack("HBBI", give, 0, 0, 0x00050000 | errno.EIO) + struct.pack("HBBI", give, 0, 0, 0x7FFF0000)
class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_char_p)]
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.syscall(seccomp, 1, 1, ctypes.byref(Program(len(program) // 8, program))) == 0, ctypes.get_errno()

for _ in range(3):
    try:
        store.accept(new_run()).result(20)
        print("accepted", flush=True)
    except StoreUnavailable as err:
        print(f"refused: {err}", flush=True)
"""


def test_a_disk_that_cannot_flush_accepts_nothing_and_loses_nothing(path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", EIO_AT_FSYNC, path], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )

    said = done.stdout.splitlines()
    assert (len(said), done.stderr) == (23, "")
    assert all("refused: the database" in line and "disk I/O error" in line for line in said[20:]), said[20:]
    with closing(open_store(path)) as store:
        assert [store.run(run_id).id for run_id in said[:20]] == said[:20]
        assert store.accept(new_run()).result(20).first
    assert whole(path)


def whole(path: Path) -> bool:
    """Whether no page of it is damaged."""
    with closing(sqlite3.connect(path)) as connection:
        return bool(connection.execute("PRAGMA integrity_check").fetchone() == ("ok",))


AS_NOBODY = """
import os, sys
from pathlib import Path
from optio.errors import StoreUnavailable
from optio.store.sqlite.sqlite_store import open_store
if os.geteuid() == 0:
    os.setuid(65534)
try:
    open_store(Path(sys.argv[1]))
except StoreUnavailable as err:
    print(err)
"""


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that every user may read; pytest's own are closed to others."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.parametrize("what", ["file", "directory"])
def test_what_may_not_be_written_is_said_when_it_is_opened(open_directory: Path, what: str) -> None:
    path = open_directory / "data" / "optio.db"
    open_store(path).close()
    target = path if what == "file" else path.parent
    before = target.stat().st_mode

    target.chmod(before & ~(stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH))
    try:
        command = [sys.executable, "-c", AS_NOBODY, path]
        said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    finally:
        target.chmod(before)

    assert f"the database {path} cannot be used" in said.stdout
    assert "write" in said.stdout


# What stands in its place


def damaged(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[100:] = os.urandom(len(content) - 100)
    path.write_bytes(content)


WRONG: dict[str, Callable[[Path], object]] = {
    "a directory": lambda path: path.mkdir(parents=True),
    "a text": lambda path: (path.parent.mkdir(), path.write_text("no database\n" * 500)),
    "a file for its directory": lambda path: path.parent.write_text(""),
    "a damaged database": lambda path: (open_store(path).close(), damaged(path)),
    "a cut database": lambda path: (open_store(path).close(), os.truncate(path, 5000)),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_something_else_in_its_place_is_said_and_left_alone(path: Path, wrong: str) -> None:
    WRONG[wrong](path)
    before = path.read_bytes() if path.is_file() else None

    with pytest.raises(StoreUnavailable, match="cannot be used"):
        open_store(path)

    assert (path.read_bytes() if path.is_file() else None) == before


def test_pages_that_are_damaged_later_are_said_when_they_are_read(path: Path) -> None:
    with closing(open_store(path)) as store:
        for _ in range(300):
            store.accept(new_run(prompt="x" * 1000))
        last = queued(store)
        store.run(last)
    content = bytearray(path.read_bytes())
    content[len(content) // 2 :] = os.urandom(len(content) - len(content) // 2)
    path.write_bytes(content)

    with closing(open_store(path)) as store, pytest.raises(StoreUnavailable, match="restore a backup"):
        store.runs(RunFilter())


@pytest.mark.parametrize("by", ["nothing", "another database"])
def test_a_file_that_was_taken_away_in_use_is_said_by_the_check(store: SqlStore, path: Path, tmp_path: Path, by: str) -> None:
    store.check()
    path.rename(tmp_path / "aside.db")
    if by == "another database":
        open_store(path).close()

    with pytest.raises(StoreUnavailable, match=r"cannot be used|was replaced"):
        store.check()


# Versions


def test_a_newer_schema_is_a_mismatch_with_a_cure_and_is_left_alone(path: Path) -> None:
    open_store(path).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")

    with pytest.raises(StoreMismatch, match="install the newer Optio"):
        open_store(path)

    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (99,)


def test_a_store_whose_schema_is_moved_on_under_it_says_so(store: SqlStore, outsider: sqlite3.Connection) -> None:
    store.check()
    outsider.execute("PRAGMA user_version = 99")

    with pytest.raises(StoreMismatch):
        store.check()


FIRST = Migration(1, 1, "CREATE TABLE one (a);\nCREATE TABLE two (a);")
BAD_SECOND = Migration(2, 1, "CREATE TABLE three (a);\nINSERT INTO one VALUES (1);\nCREATE TABLE two (a);\n")


def test_a_migration_that_fails_half_way_leaves_nothing_behind(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "x.db", isolation_level=None)) as connection:
        migrate(connection, (FIRST,), 0)

        with pytest.raises(sqlite3.OperationalError, match="two already exists"):
            migrate(connection, (FIRST, BAD_SECOND), 0)

        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master ORDER BY name")]
        assert (tables, state(connection)) == (["one", "schema_migrations", "two"], SchemaState(1, 1))
        assert connection.execute("SELECT COUNT(*) FROM one").fetchone() == (0,)
        assert migrate(connection, (FIRST, Migration(2, 2, "CREATE TABLE three (a)")), 0) == [2]
        assert state(connection) == SchemaState(2, 2)


def test_many_that_open_a_new_file_at_once_make_one_schema(path: Path) -> None:
    gate = threading.Barrier(8)

    def begin(_: int) -> int:
        gate.wait(20)
        with closing(open_store(path)) as store:
            return len(store.runs(RunFilter()).items)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(begin, range(8))) == [0] * 8
    with closing(sqlite3.connect(path)) as connection:
        assert state(connection).version == len(migrations())


# Many processes

PROCESS = """
import sys
from pathlib import Path
from optio.store.sqlite.sqlite_store import open_store
from tests.store.build import LEASE, at_most, end, new_run, task
store = open_store(Path(sys.argv[1]))
mine, count, empty = task(), int(sys.argv[2]), 0
for future in [store.accept(new_run(mine, f"{sys.argv[3]}-{place}")) for place in range(count)]:
    future.result(60)
while empty < 3:
    claims = store.claim(sys.argv[3], LEASE, at_most(8))
    empty = 0 if claims else empty + 1
    for claim in claims:
        end(store, claim)
        print(claim.run.id)
store.close()
"""


def test_four_processes_on_one_file_claim_each_run_once_and_meet_no_lock(path: Path) -> None:
    with closing(open_store(path)) as store, closing(sqlite3.connect(path, isolation_level=None)) as reader:
        serve(store, task(extra="maxConcurrent: 8\n"))
        # Somebody who looks for as long as it takes.
        reader.execute("BEGIN")
        reader.execute("SELECT COUNT(*) FROM runs").fetchone()
        processes = [
            subprocess.Popen([sys.executable, "-c", PROCESS, path, "100", name], cwd=ROOT, stdout=PIPE, stderr=PIPE, text=True)
            for name in "abcd"
        ]
        ended = [(process.communicate(timeout=50), process.returncode) for process in processes]
        for claim in store.claim("rest", LEASE, everything):
            end(store, claim)

        reader.execute("COMMIT")
        assert [(err, code) for (_, err), code in ended] == [("", 0)] * 4
        taken = [run_id for (out, _), _ in ended for run_id in out.split()]
        assert len(taken) == len(set(taken))
        states = [run.state for run in store.runs(RunFilter(), limit=1000).items]
        assert states == [RunState.COMPLETED] * 400
        assert len(taken) > 350


# The log of the database


def test_a_reader_that_stays_stalls_nothing_and_its_log_is_cut_when_it_goes(store: SqlStore, path: Path) -> None:
    log = Path(f"{path}-wal")
    claim = claimed(store)
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT COUNT(*) FROM runs").fetchone()
    while log.stat().st_size < 2 * MAX_WAL_BYTES:
        say(store, claim, *["x" * 100_000] * 10)

    reader.close()
    for _ in range(40):
        say(store, claim, *["x" * 100_000] * 10)

    assert log.stat().st_size <= MAX_WAL_BYTES * 1.5


def test_readers_that_follow_each_other_without_a_gap_do_not_make_the_log_grow(store: SqlStore, path: Path) -> None:
    claim = claimed(store)
    stop = threading.Event()
    gone: list[int] = []

    def read(place: int) -> None:
        # Each begins before the other ends, so that there is never a moment without a reader.
        with closing(sqlite3.connect(path, isolation_level=None)) as reader:
            while not stop.is_set():
                reader.execute("BEGIN")
                reader.execute("SELECT COUNT(*) FROM events").fetchone()
                stop.wait(0.01 + place * 0.003)
                reader.execute("COMMIT")
                gone.append(place)

    threads = [threading.Thread(target=read, args=(place,)) for place in range(3)]
    for thread in threads:
        thread.start()
    largest = 0
    for _ in range(100):
        say(store, claim, *["x" * 100_000] * 10)
        largest = max(largest, Path(f"{path}-wal").stat().st_size)
    stop.set()
    for thread in threads:
        thread.join(20)

    assert gone
    assert largest < 4 * MAX_WAL_BYTES


# Threads and memory


def open_files(path: Path) -> int:
    links = [os.readlink(link) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    return sum(link.startswith(str(path)) for link in links)


def test_threads_that_end_leave_no_connection_behind(store: SqlStore, path: Path) -> None:
    together = threading.Barrier(30)
    for _ in range(2):
        threads = [threading.Thread(target=store._engine.read, args=(lambda tx: together.wait(20),)) for _ in range(30)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)

    # SQLite keeps one descriptor of each connection for the next, lest closing it drops the others' locks.
    assert open_files(path) <= 30 + 3 * (MAX_IDLE_READERS + 1)


def test_closing_gives_back_every_file_and_thread(path: Path) -> None:
    before = threading.active_count()
    store = open_store(path)
    with ThreadPoolExecutor(20) as pool:
        list(pool.map(lambda _: store.runs(RunFilter()), range(100)))

    store.close()

    assert open_files(path) == 0
    assert threading.active_count() == before
    assert not Path(f"{path}-wal").exists()


def test_a_store_that_cannot_be_opened_leaves_no_file_open(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("no database\n" * 500)

    with pytest.raises(StoreUnavailable):
        open_store(path)

    assert open_files(path) == 0


class _Statements:
    """A transaction that keeps what it is asked, and finds nothing."""

    now, lateral = 0, False

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def all(self, sql: str, params: dict[str, Any]) -> list[Any]:
        self.asked.append((sql, params))
        return []


@pytest.mark.parametrize(
    "where",
    [
        RunFilter(id_prefix="019b"),
        RunFilter(id_prefix="0", task_id="one", state=RunState.COMPLETED, trigger="manual"),
        RunFilter(since=START, until=START),
        RunFilter(since=START, task_id="one"),
        RunFilter(until=START, state=RunState.FAILED),
        RunFilter(since=START, trigger="manual"),
        RunFilter(reason="oom", state=RunState.FAILED),
        RunFilter(reason="oom", task_id="one", state=RunState.FAILED, until=START),
    ],
)
def test_a_page_of_runs_is_read_along_an_index_and_not_sorted(tmp_path: Path, where: RunFilter) -> None:
    open_store(tmp_path / "optio.db").close()
    statements = _Statements()
    runs.page(statements, where, None, 20)  # type: ignore[arg-type]

    with closing(sqlite3.connect(tmp_path / "optio.db")) as connection:
        ((sql, params),) = statements.asked
        plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", params)]

    assert [step for step in plan if step.startswith("SCAN") or "TEMP B-TREE" in step] == []


def test_a_page_of_runs_with_a_reason_is_read_along_the_index_of_reasons_and_of_the_runs_that_go_on(tmp_path: Path) -> None:
    open_store(tmp_path / "optio.db").close()
    statements = _Statements()
    runs.page(statements, RunFilter(reason="oom"), None, 20)  # type: ignore[arg-type]

    with closing(sqlite3.connect(tmp_path / "optio.db")) as connection:
        ((sql, params),) = statements.asked
        plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", params)]

    # What goes on is few, and read whole by the index that has nothing else.
    assert [step for step in plan if "runs" in step] == [
        "SEARCH runs USING INDEX runs_by_reason (reason=?)",
        "SCAN runs USING INDEX runs_queued",
        "SCAN runs USING INDEX runs_running",
    ]
