"""The check of a write-ahead log: damage to it is found wherever it is, and what a crash leaves is never taken for damage."""

import os
import random
import shutil
import sqlite3
import struct
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from optio.errors import StoreUnavailable
from optio.store.sqlite.examine import examine, recover
from optio.store.sqlite.sqlite_store import open_store, read_wal
from optio.store.sqlite.wal import FRAME_HEADER_BYTES, HEADER_BYTES, inspect_wal, salvage_wal
from optio.store.values import RunFilter
from tests.store.build import new_run
from tests.support import ROOT

STEP = FRAME_HEADER_BYTES + 4096


class Log(NamedTuple):
    """A log with its shared memory, and the frames that end a transaction."""

    wal: bytes
    shm: bytes
    ends: tuple[int, ...]

    def __repr__(self) -> str:
        return f"Log({self.ends})"

    @property
    def size(self) -> int:
        return HEADER_BYTES + self.ends[-1] * STEP


def _made(directory: Path, seed: int, *, generations: int) -> Log:
    """A log of some transactions; with two generations behind it are frames of the one before."""
    chance = random.Random(seed)
    path = directory / f"{seed}-{generations}.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA wal_autocheckpoint=0")
        connection.execute("CREATE TABLE t(a)")
        for generation in range(generations):
            if generation:
                connection.execute("PRAGMA wal_checkpoint(RESTART)")
            for _ in range(40 if generation < generations - 1 else chance.randint(6, 15)):
                connection.execute("INSERT INTO t VALUES(?)", (chance.randbytes(chance.randint(10, 9000)),))
        wal, shm = Path(f"{path}-wal").read_bytes(), Path(f"{path}-shm").read_bytes()
    count = struct.unpack_from("=I", shm, 16)[0]
    ends = [
        n for n in range(1, count + 1) if wal[HEADER_BYTES + (n - 1) * STEP + 4 : HEADER_BYTES + (n - 1) * STEP + 8] != bytes(4)
    ]
    return Log(wal, shm, tuple(ends))


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> list[Log]:
    directory = tmp_path_factory.mktemp("logs")
    return [_made(directory, seed, generations=1 + seed % 3) for seed in range(9)]


@hypothesis_settings(max_examples=300)
@given(which=st.integers(0, 8), at=st.floats(0, 1), shm=st.booleans())
def test_a_log_that_ends_anywhere_is_no_damage(logs: list[Log], which: int, at: float, shm: bool) -> None:
    log = logs[which]
    cut = int(at * log.size)
    end = max((n for n in log.ends if HEADER_BYTES + n * STEP <= cut), default=0)
    # What a process writes to the shared memory follows what it wrote to the log: the frame that stands there is whole.
    report = inspect_wal(log.wal[:cut], _shm_at(log, end) if shm else b"")

    assert report.damaged_at is None
    assert report.good == end


@hypothesis_settings(max_examples=300)
@given(which=st.integers(0, 8), at=st.floats(0, 1), garbage=st.integers(0, 3))
def test_a_write_that_broke_off_over_older_frames_is_no_damage(logs: list[Log], which: int, at: float, garbage: int) -> None:
    log = logs[which]
    before = logs[(which + 1) % 9]
    cut = HEADER_BYTES + int(at * (log.size - HEADER_BYTES))  # the header is one sector: it is written whole
    # Behind the cut stands what was there before: an older generation, zeros, or half of a page of something else.
    behind = [before.wal[cut:], bytes(2 * STEP), os.urandom(100) + before.wal[cut + 100 :], log.wal[log.size :]][garbage]
    report = inspect_wal(log.wal[:cut] + behind)

    assert report.damaged_at is None


@hypothesis_settings(max_examples=400)
@given(
    which=st.integers(0, 8),
    at=st.floats(0, 1, exclude_max=True),
    size=st.sampled_from([1, 1, 1, 8, 600, 5000]),
    shm=st.booleans(),
)
def test_damage_before_the_last_two_commits_is_found_and_counted(
    logs: list[Log], which: int, at: float, size: int, shm: bool
) -> None:
    log = logs[which]
    # Without the shared memory, damage of the last transaction looks like a write that power loss broke off.
    reach = HEADER_BYTES + (log.ends[-1] if shm else log.ends[-3]) * STEP - size
    place = int(at * reach)
    damaged = bytearray(log.wal)
    noise = random.Random(place).randbytes(size) if size > 1 else bytes([damaged[place] ^ 0x5A])
    damaged[place : place + size] = noise
    report = inspect_wal(bytes(damaged), log.shm if shm else b"")

    frame = max(0, place - HEADER_BYTES) // STEP + 1 if place >= HEADER_BYTES else 0
    assert report.damaged_at == frame
    kept = [n for n in log.ends if n < frame]
    assert report.good == (kept[-1] if kept else 0)
    if size == 1 and (frame == 0 or (place - HEADER_BYTES) % STEP >= FRAME_HEADER_BYTES):
        assert report.lost_commits == len(log.ends) - len(kept)


@hypothesis_settings(max_examples=400)
@given(
    which=st.integers(0, 8),
    at=st.floats(0, 1, exclude_max=True),
    size=st.sampled_from([1, 1, 3, 4, 8, 500]),
    bit=st.integers(0, 7),
)
def test_what_is_salvaged_is_a_state_that_was_committed(logs: list[Log], which: int, at: float, size: int, bit: int) -> None:
    log = logs[which]
    place = int(at * (log.size - size))
    damaged = bytearray(log.wal)
    noise = random.Random(place).randbytes(size) if size > 1 else bytes([damaged[place] ^ (1 << bit)])
    damaged[place : place + size] = noise

    found = salvage_wal(bytes(damaged), log.shm)

    if found is None:
        return
    states = [_state_at(log, end) for end in log.ends]
    state = found.size, {page: bytes(damaged[start : start + 4096]) for page, start in found.pages.items()}
    assert state in states
    assert (found.lost_commits == 0) == (state == states[-1])


def _state_at(log: Log, end: int) -> tuple[int, dict[int, bytes]]:
    """How many pages the database has after a frame, and those that are in the log."""
    pages = {}
    for start in range(HEADER_BYTES, HEADER_BYTES + end * STEP, STEP):
        page, size = struct.unpack_from(">2I", log.wal, start)
        pages[page] = log.wal[start + FRAME_HEADER_BYTES : start + STEP]
    return size, pages


def test_most_damage_to_a_busy_database_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE t(a)")
        for number in range(30):
            connection.execute("INSERT INTO t VALUES(?)", (number,))
        wal, shm = Path(f"{path}-wal").read_bytes(), Path(f"{path}-shm").read_bytes()
    lost = []
    for place in range(HEADER_BYTES, len(wal) - STEP, 997):
        damaged = bytearray(wal)
        damaged[place] ^= 0x80
        found = salvage_wal(bytes(damaged), shm)
        lost.append(found is None or found.lost_commits > 0)

    assert sum(lost) < len(lost) / 10  # pages that were written once


def _shm_at(log: Log, frame: int) -> bytes:
    """The shared memory as it was when this frame was the last."""
    header = bytearray(log.shm[:48])
    struct.pack_into("=I", header, 16, frame)
    s0 = s1 = 0
    words = struct.unpack("=10I", header[:40])
    for first, second in zip(words[::2], words[1::2], strict=True):
        s0 = (s0 + first + s1) & 0xFFFFFFFF
        s1 = (s1 + second + s0) & 0xFFFFFFFF
    struct.pack_into("=2I", header, 40, s0, s1)
    return bytes(header * 2) + log.shm[96:]


@pytest.mark.parametrize("order", ["=", ">"])
def test_both_byte_orders_of_checksums_are_read(logs: list[Log], order: str) -> None:
    log = logs[0]
    wal = bytearray(log.wal)
    if order == ">":  # as a machine of the other byte order would have written it
        struct.pack_into(">I", wal, 0, 0x377F0683)
        sums = _chain(wal[:24], (0, 0))
        struct.pack_into(">2I", wal, 24, *sums)
        for at in range(HEADER_BYTES, log.size, STEP):
            sums = _chain(wal[at : at + 8] + wal[at + FRAME_HEADER_BYTES : at + STEP], sums)
            struct.pack_into(">2I", wal, at + 16, *sums)

    assert inspect_wal(bytes(wal)).good == log.ends[-1]
    wal[HEADER_BYTES + STEP // 2] ^= 1
    assert inspect_wal(bytes(wal)).damaged_at == 1


def _chain(data: bytes | bytearray, start: tuple[int, int]) -> tuple[int, int]:
    s0, s1 = start
    for first, second in struct.iter_unpack(">2I", data):
        s0 = (s0 + first + s1) & 0xFFFFFFFF
        s1 = (s1 + second + s0) & 0xFFFFFFFF
    return s0, s1


def test_frames_that_were_rolled_back_are_no_damage(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA cache_size=5")  # large transactions go to the log before they end
        connection.execute("CREATE TABLE t(a)")
        for _ in range(3):
            connection.execute("BEGIN")
            for _ in range(60):
                connection.execute("INSERT INTO t VALUES(randomblob(3000))")
            connection.execute("ROLLBACK")
            connection.execute("INSERT INTO t VALUES(1)")
        wal = Path(f"{path}-wal").read_bytes()

    assert (len(wal) - HEADER_BYTES) // STEP > 50
    assert inspect_wal(wal).damaged_at is None


def test_a_hundred_megabytes_take_no_minute(logs: list[Log]) -> None:
    began = time.monotonic()
    log = max(logs, key=lambda each: each.size)
    many = log.wal[: log.size] + log.wal[HEADER_BYTES : log.size] * (100_000_000 // log.size)

    report = inspect_wal(many)

    assert report.good == log.ends[-1]
    assert time.monotonic() - began < 30


# At the start

KILLED = """
import os, signal, sys
from pathlib import Path
from optio.store.sqlite.sqlite_store import open_store
from tests.store.build import new_run

store = open_store(Path(sys.argv[1]))
for _ in range(30):
    print(store.accept(new_run()).result(20).run_id, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""

HOLDS = """
import sys
from pathlib import Path
from optio.store.sqlite.sqlite_store import open_store

store = open_store(Path(sys.argv[1]))
print("open", flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def left_behind(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A data directory whose process was killed with 30 accepted runs in the log."""
    data = tmp_path_factory.mktemp("killed") / "data"
    command = [sys.executable, "-c", KILLED, data / "optio.db"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    run_ids = done.stdout.split()
    assert len(run_ids) == 30, done.stderr
    return data, run_ids


@pytest.fixture
def killed(left_behind: tuple[Path, list[str]], tmp_path: Path) -> tuple[Path, list[str]]:
    """The database in a copy of that directory."""
    data, run_ids = left_behind
    shutil.copytree(data, tmp_path / "data")
    return tmp_path / "data" / "optio.db", run_ids


def _damage(path: Path, at: float) -> None:
    wal = Path(f"{path}-wal")
    content = bytearray(wal.read_bytes())
    content[HEADER_BYTES + int(at * (len(content) - HEADER_BYTES))] ^= 0xFF
    wal.write_bytes(content)


def test_a_log_that_was_left_by_a_killed_process_is_taken_up(killed: tuple[Path, list[str]]) -> None:
    path, run_ids = killed
    with closing(open_store(path)) as store:
        assert all(store.run(run_id) for run_id in run_ids)


# Without the shared memory, damage of the last transaction alone looks as power loss leaves it.
@pytest.mark.parametrize(("at", "with_shm"), [*((at, shm) for at in (0.3, 0.5, 0.7) for shm in (True, False)), (0.999, True)])
def test_a_damaged_log_is_not_opened_and_loses_nothing_in_silence(
    killed: tuple[Path, list[str]], at: float, with_shm: bool
) -> None:
    path, run_ids = killed
    _damage(path, at)
    if not with_shm:
        Path(f"{path}-shm").unlink()
    before = Path(f"{path}-wal").read_bytes()

    for _ in range(2):
        with pytest.raises(StoreUnavailable, match=r"-wal is damaged .* commits .*optio db recover"):
            open_store(path)
        found = {each.name: each for each in examine(path, thorough=True)}
        assert found["log"].status == "error"
        assert "optio db recover" in str(found["log"].hint)

    assert Path(f"{path}-wal").read_bytes() == before
    assert run_ids


@pytest.mark.parametrize("at", [0.05, 0.3, 0.6, 0.9, 0.999])
def test_recovery_keeps_a_copy_of_the_log_and_all_that_it_proves(killed: tuple[Path, list[str]], at: float) -> None:
    path, run_ids = killed
    assert recover(path) is None
    _damage(path, at)
    before = Path(f"{path}-wal").read_bytes()

    done = recover(path)

    assert done is not None
    assert done.copy.read_bytes() == before
    assert recover(path) is None
    with closing(open_store(path)) as store:
        kept = [run.id for run in store.runs(RunFilter(), limit=100).items][::-1]
        assert kept == run_ids[: len(kept)]
        assert len(kept) >= 30 - done.lost_commits
        assert store.accept(new_run(run_id="after")).result(10).first


def test_recovery_leaves_a_database_alone_that_is_in_use(killed: tuple[Path, list[str]]) -> None:
    path, _ = killed
    child = subprocess.Popen(
        [sys.executable, "-c", HOLDS, path], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdin is not None
    try:
        assert child.stdout.readline() == "open\n"
        _damage(path, 0.6)
        before = Path(f"{path}-wal").read_bytes()
        with pytest.raises(StoreUnavailable, match="stop every part of Optio first"):
            recover(path)
        assert Path(f"{path}-wal").read_bytes() == before
    finally:
        child.kill()
        child.wait()
        child.stdin.close()
        child.stdout.close()


def test_a_log_without_its_database_is_not_thrown_away(killed: tuple[Path, list[str]], tmp_path: Path) -> None:
    path, run_ids = killed
    path.rename(tmp_path / "aside.db")

    with pytest.raises(StoreUnavailable, match="put the database back"):
        open_store(path)
    shutil.move(tmp_path / "aside.db", path)
    with closing(open_store(path)) as store:
        assert all(store.run(run_id) for run_id in run_ids)


def test_a_log_that_is_written_to_while_it_is_read_is_not_called_damaged(logs: list[Log], tmp_path: Path) -> None:
    (tmp_path / "optio.db-shm").write_bytes(logs[0].shm)
    wal, whole = tmp_path / "optio.db-wal", tmp_path / "whole"
    whole.write_bytes(logs[0].wal)
    os.mkfifo(wal)

    def write() -> None:
        with wal.open("wb") as first:  # the first look has its end when this is closed
            first.write(logs[0].wal[: HEADER_BYTES + STEP])
            whole.replace(wal)

    threading.Thread(target=write, daemon=True).start()
    report = read_wal(tmp_path / "optio.db")

    assert report is not None
    assert (report.damaged_at, report.good) == (None, logs[0].ends[-1])
