"""An index that is damaged, strange, or cannot be written is as if there were none."""

import errno
import os
import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from optio.check_cache import cache_file as storing
from optio.check_cache.cache_file import CacheDirectory
from optio.check_cache.check import check
from optio.check_cache.entries import CachedChecker, CacheEntry, pack_entries, unpack_entries
from optio.check_cache.file_stamps import FileStamps
from optio.check_cache.options import CheckOptions, default_cache_directory
from optio.compiler.source_tree import DirectoryTree, MemoryTree
from tests import forked
from tests.check_cache.trees import fill, plainly
from tests.compiler.test_cases import CASES
from tests.support import ROOT


@pytest.fixture
def kept(tmp_path: Path) -> dict[str, CacheEntry]:
    root = tmp_path / "tree"
    fill(root, 12)
    maker = CachedChecker(DirectoryTree(root), FileStamps(root), pedantic=True)
    return {path: maker.make(path) for path in DirectoryTree(root).task_files()}


@pytest.fixture
def store(tmp_path: Path) -> CacheDirectory:
    return CacheDirectory(tmp_path / "kept", b"made with this")


def only_file(directory: Path) -> Path:
    (file,) = directory.iterdir()
    return file


def test_what_is_saved_is_loaded(store: CacheDirectory, kept: dict[str, CacheEntry], tmp_path: Path) -> None:
    assert store.save(tmp_path, kept) is None

    assert store.load(tmp_path) == kept
    assert CacheDirectory(tmp_path / "kept", b"made with something else").load(tmp_path) == {}
    assert store.load(tmp_path / "tree") == {}


@pytest.mark.parametrize("family", sorted({p.name[:4] for p in CASES.iterdir()}))
def test_the_findings_of_every_rule_are_the_same_when_they_come_back(family: str, tmp_path: Path) -> None:
    for case in sorted(p for p in CASES.glob(f"{family}*/*") if p.suffix != ".out"):
        files = [case] if case.is_file() else [p for p in case.rglob("*") if p.is_file()]
        base = case.parent if case.is_file() else case
        tree = MemoryTree({p.relative_to(base).as_posix(): p.read_bytes() for p in files})
        maker = CachedChecker(tree, FileStamps(tmp_path), pedantic=True)
        made = {path: maker.make(path) for path in tree.task_files()}

        assert unpack_entries(pack_entries(made)) == made, case


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150, deadline=None)
@given(data=st.data())
def test_damage_is_noticed(store: CacheDirectory, kept: dict[str, CacheEntry], tmp_path: Path, data: st.DataObject) -> None:
    store.save(tmp_path, kept)
    file = only_file(tmp_path / "kept")
    whole = bytearray(file.read_bytes())
    at = data.draw(st.integers(0, len(whole) - 1))
    kind = data.draw(st.sampled_from(["cut", "flipped", "longer", "another"]))
    if kind == "cut":
        del whole[at:]
    elif kind == "flipped":
        whole[at] ^= 1 << data.draw(st.integers(0, 7))
    elif kind == "longer":
        whole += bytes(at + 1)
    else:
        whole[:] = data.draw(st.binary(max_size=200))
    file.write_bytes(whole)

    assert store.load(tmp_path) == {}


@given(st.binary(max_size=300))
def test_what_is_no_result_is_refused(data: bytes) -> None:
    try:
        found = unpack_entries(data)
    except ValueError:
        return
    assert found == {}


def test_a_link_in_the_place_of_an_index_is_not_followed(
    store: CacheDirectory, kept: dict[str, CacheEntry], tmp_path: Path
) -> None:
    store.save(tmp_path, kept)
    file = only_file(tmp_path / "kept")
    elsewhere = tmp_path / "elsewhere"
    file.rename(elsewhere)
    file.symlink_to(elsewhere)
    before = elsewhere.read_bytes()

    assert store.load(tmp_path) == {}
    assert store.save(tmp_path, {}) is None
    assert not file.is_symlink()
    assert elsewhere.read_bytes() == before


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_an_index_that_others_can_write_is_not_believed(
    store: CacheDirectory, kept: dict[str, CacheEntry], tmp_path: Path, mode: int
) -> None:
    store.save(tmp_path, kept)
    file = only_file(tmp_path / "kept")
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700

    file.chmod(mode)

    assert store.load(tmp_path) == {}


def test_an_index_of_somebody_else_is_not_believed(
    store: CacheDirectory, kept: dict[str, CacheEntry], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.save(tmp_path, kept)
    me = os.geteuid()

    monkeypatch.setattr(os, "geteuid", lambda: me + 1)

    assert store.load(tmp_path) == {}


@pytest.mark.parametrize("what", ["file", "directory", "pipe"])
def test_what_is_no_index_is_passed_over(store: CacheDirectory, kept: dict[str, CacheEntry], tmp_path: Path, what: str) -> None:
    store.save(tmp_path, kept)
    file = only_file(tmp_path / "kept")
    if what == "file":  # in the place of the directory
        file.unlink()
        file.parent.rmdir()
        file.parent.write_text("mine")
    elif what == "directory":
        file.unlink()
        file.mkdir()
    else:
        file.unlink()
        os.mkfifo(file)

    assert store.load(tmp_path) == {}
    assert (store.save(tmp_path, kept) is None) is (what == "pipe")
    assert not list(tmp_path.rglob("*.unfinished"))


def test_a_full_disk_leaves_the_index_as_it_was(
    store: CacheDirectory, kept: dict[str, CacheEntry], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.save(tmp_path, kept)

    def full(path: Path, data: bytes) -> None:
        path.write_bytes(data[:10])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(storing, "_write", full)

    assert store.save(tmp_path, {}) == "No space left on device"
    assert store.load(tmp_path) == kept
    assert len(list((tmp_path / "kept").iterdir())) == 1


def test_old_indexes_are_dropped_and_the_newest_stay(
    store: CacheDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storing, "_MAX_FILES", 5)
    place = tmp_path / "kept"
    for number in range(8):
        store.save(tmp_path / str(number), {})
        newest = max(place.iterdir(), key=lambda p: p.stat().st_mtime_ns)
        os.utime(newest, (1_000_000_000 + number,) * 2) if number == 0 else None
    (place / "mine.txt").write_text("not an index")
    (place / ".x.index.1.unfinished").write_text("half")
    os.utime(place / ".x.index.1.unfinished", (1_000_000_000,) * 2)

    store.save(tmp_path / "last", {})

    assert len(list(place.glob("*.index"))) == 5
    assert (place / "mine.txt").exists()
    assert not list(place.glob(".*"))
    assert store._path(tmp_path / "last").exists()


@pytest.mark.parametrize(
    ("environment", "place"),
    [
        ({"OPTIO_CACHE_DIR": "x", "HOME": "/home/me"}, "x"),
        ({"OPTIO_CACHE_DIR": "", "XDG_CACHE_HOME": "/caches", "HOME": "/home/me"}, "/caches/optio"),
        ({"XDG_CACHE_HOME": "relative", "HOME": "/home/me"}, "/home/me/.cache/optio"),
        ({"HOME": "/home/me"}, "/home/me/.cache/optio"),
        ({"HOME": ""}, None),
        ({}, None),
    ],
)
def test_where_results_are_kept(environment: dict[str, str], place: str | None) -> None:
    assert default_cache_directory(environment) == (None if place is None else Path(place))


def test_commands_at_the_same_time_find_the_same(tmp_path: Path) -> None:
    root = tmp_path / "tree"
    fill(root, 150)
    environment = {**os.environ, "OPTIO_CACHE_DIR": str(tmp_path / "kept")}
    command = ["check", "--format", "json", str(root)]
    alone = forked.run([*command, "--no-cache"], ROOT, environment)
    for _ in range(2):
        started = [forked.start_with_pipes(command, ROOT, environment) for _ in range(4)]
        for process in started:
            out, err = process.communicate()
            assert (out.decode(), err, process.returncode) == (alone.stdout, b"", alone.returncode)
    assert {path.suffix for path in (tmp_path / "kept").iterdir()} == {".index"}


def test_a_limit_on_the_size_of_files_is_no_mistake(tmp_path: Path) -> None:
    root = tmp_path / "tree"
    fill(root, 150)
    environment = {**os.environ, "OPTIO_CACHE_DIR": str(tmp_path / "kept")}

    done = subprocess.run(
        [sys.executable, "-m", "optio", "check", "--format", "json", str(root)],
        cwd=ROOT,
        capture_output=True,
        check=False,
        env=environment,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)),
    )

    assert done.stderr == b"optio check: OPTIO_CACHE_DIR: the cache cannot be written: File too large\n"
    assert done.returncode == 1
    assert list((tmp_path / "kept").iterdir()) == []


def test_no_place_at_all_is_no_mistake(tmp_path: Path) -> None:
    fill(tmp_path, 10)

    found = check(tmp_path, how=CheckOptions(place=Path("/dev/null/kept"), few=0))

    assert found == replace(plainly(tmp_path), unkept="Not a directory")


def test_where_the_libraries_are_not_known_nothing_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path / "tree", 10)
    monkeypatch.setattr("optio.check_cache.incremental_check.cache_key", lambda: None)

    found = check(tmp_path / "tree", how=CheckOptions(place=tmp_path / "kept", few=0))

    assert found == replace(plainly(tmp_path / "tree"), unkept="the versions of the installed libraries are unknown")
    assert not (tmp_path / "kept").exists()
