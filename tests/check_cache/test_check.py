"""Checking many files finds what compiling them one after the other finds, whatever was kept and by however many processes."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path
from types import MappingProxyType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from optio.check_cache import incremental_check
from optio.check_cache.check import check
from optio.check_cache.entries import CachedChecker
from optio.check_cache.options import CheckOptions
from optio.compiler.incremental import Stamp
from tests.check_cache.trees import DEFAULTS, POLICIES, TEMPLATES, TEXTS, fill, plainly, write
from tests.support import ROOT

PATHS = ["a.yaml", "b.yaml", "c/d.yaml"]
PLACES = [*PATHS, "base.yaml", "c/base.yaml", "_defaults.yaml", "c/_defaults.yaml", "_policy.yaml", "prompts/red.md"]


class Edits(RuleBasedStateMachine):
    """Files come, change, move, become links and go. A sign changes with its file, or is missing: as real ones, but at once."""

    def __init__(self) -> None:
        super().__init__()
        self.scratch = Path(tempfile.mkdtemp())
        self.root, self.place = self.scratch / "tree", self.scratch / "kept"
        self.root.mkdir()
        self.versions: dict[str, int] = {}
        self.clock = 0

    def teardown(self) -> None:
        shutil.rmtree(self.scratch)

    def _changed(self, path: str) -> None:
        self.clock += 1
        self.versions[path] = self.clock

    def _write(self, path: str, text: str) -> None:
        (self.root / path).unlink(missing_ok=True)
        write(self.root, path, text)
        self._changed(path)

    @rule(path=st.sampled_from(PATHS), text=st.sampled_from(TEXTS), name=st.sampled_from(["One", "Two"]))
    def write_task(self, path: str, text: str, name: str) -> None:
        self._write(path, text.format(name=name, word="red"))

    @rule(path=st.sampled_from(["base.yaml", "c/base.yaml"]), text=st.sampled_from(TEMPLATES))
    def write_template(self, path: str, text: str) -> None:
        self._write(path, text.format(name="Base", word="red"))

    @rule(path=st.sampled_from(["_defaults.yaml", "c/_defaults.yaml"]), text=st.sampled_from(DEFAULTS), turns=st.integers(1, 3))
    def write_defaults(self, path: str, text: str, turns: int) -> None:
        self._write(path, text.format(turns=turns))

    @rule(text=st.sampled_from(POLICIES), turns=st.integers(1, 2))
    def write_policy(self, text: str, turns: int) -> None:
        self._write("_policy.yaml", text.format(turns=turns))

    @rule(path=st.sampled_from(["prompts/red.md", "c/prompts/red.md"]), text=st.sampled_from(["x", "{{A}}", "{}", " ", "[]"]))
    def write_prompt(self, path: str, text: str) -> None:
        self._write(path, text)

    @rule(path=st.sampled_from(PLACES))
    def delete(self, path: str) -> None:
        (self.root / path).unlink(missing_ok=True)

    @rule(path=st.sampled_from(PLACES))
    def touch(self, path: str) -> None:
        self._changed(path)

    @rule(path=st.sampled_from(PATHS), other=st.sampled_from(PATHS))
    def rename(self, path: str, other: str) -> None:
        if (self.root / path).is_file() and (self.root / other).parent.is_dir():
            (self.root / path).rename(self.root / other)
            self._changed(other)

    @rule(path=st.sampled_from(PATHS), other=st.sampled_from([*PATHS, "../outside.yaml", "nowhere.yaml"]))
    def link(self, path: str, other: str) -> None:
        (self.root / path).unlink(missing_ok=True)
        (self.root / path).parent.mkdir(exist_ok=True)
        os.symlink(self.root / other, self.root / path)
        self._changed(path)

    @rule(pedantic=st.booleans(), only=st.sampled_from([["a.yaml"], ["c/d.yaml", "b.yaml"]]))
    def check_some(self, pedantic: bool, only: list[str]) -> None:
        how = CheckOptions(pedantic=pedantic, jobs=1, place=self.place, few=0)

        assert self._checked(only, how) == check(self.root, only, CheckOptions(pedantic=pedantic))

    @rule(
        path=st.sampled_from(PLACES), text=st.sampled_from([*TEXTS, *TEMPLATES, *DEFAULTS, *POLICIES]), pedantic=st.booleans()
    )
    def check_what_is_typed(self, path: str, text: str, pedantic: bool) -> None:
        typed = {path: text.format(name="Typed", word="red", turns=2).encode()}
        how = CheckOptions(pedantic=pedantic, jobs=1, place=self.place, few=0)

        assert self._checked(None, how, typed) == plainly(self.root, pedantic=pedantic, typed=typed)

    @invariant()
    def finds_what_is_there(self) -> None:
        for pedantic in (False, True):
            how = CheckOptions(pedantic=pedantic, jobs=1, place=self.place, few=0)

            assert self._checked(None, how) == plainly(self.root, pedantic=pedantic)

    def _checked(self, only: list[str] | None, how: CheckOptions, typed: Mapping[str, bytes] = MappingProxyType({})) -> object:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(incremental_check, "FileStamps", lambda root, without: _Versions(root, self.versions, without))
            patch.setattr(incremental_check, "cache_key", lambda: b"the same compiler")
            return check(self.root, only, how, typed=typed)


class _Versions:
    """Signs that are never too fresh: the number of the last change, for what is no link."""

    def __init__(self, root: Path, versions: dict[str, int], without: AbstractSet[str]) -> None:
        self._root, self._versions, self._without = root, versions, without

    def of(self, path: str) -> Stamp | None:
        if path in self._without:
            return None
        version = self._versions.get(path, 0)
        plain = (self._root / path).is_file() and not (self._root / path).is_symlink()
        return (version, 0, 0, 0, 0) if plain and version % 4 else None


TestEdits = Edits.TestCase
TestEdits.settings = settings(max_examples=40, stateful_step_count=10, deadline=None)


@settings(max_examples=15, deadline=None)
@given(
    texts=st.lists(st.sampled_from(TEXTS), min_size=1, max_size=12),
    names=st.lists(st.sampled_from(["One", "Two", "Three"]), min_size=12, max_size=12),
    jobs=st.integers(2, 4),
    pedantic=st.booleans(),
)
def test_more_processes_find_the_same(texts: list[str], names: list[str], jobs: int, pedantic: bool) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        write(root, "base.yaml", TEMPLATES[0].format(word="red"))
        for number, text in enumerate(texts):
            write(root, f"{number}.yaml", text.format(name=names[number], word="red"))

        assert check(root, how=CheckOptions(pedantic=pedantic, jobs=jobs, few=0)) == plainly(root, pedantic=pedantic)


def test_what_is_kept_is_not_compiled_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "tree"
    fill(root, 30)
    how = CheckOptions(jobs=1, place=tmp_path / "kept", few=0)
    first = check(root, how=how)
    made: list[str] = []
    monkeypatch.setattr(CachedChecker, "make", _noting(CachedChecker.make, made))

    again = check(root, how=how)
    write(root, "t0/task-0000.yaml", "name: [")
    write(root, "t1/_defaults.yaml", "maxTurns: 4\n")
    check(root, how=how)

    below = {f"t1/{path.name}" for path in (root / "t1").glob("*.yaml")}
    assert again == first
    # What is no task, or is not one yet, takes nothing from the defaults.
    assert {"t0/task-0000.yaml", "t1/_defaults.yaml", "t1/task-0001.yaml"} <= set(made) <= below | {"t0/task-0000.yaml"}


def _noting(make, made):  # type: ignore[no-untyped-def]
    def noting(self: CachedChecker, path: str):  # type: ignore[no-untyped-def]
        made.append(path)
        return make(self, path)

    return noting


def test_a_name_that_is_no_unicode_is_checked_by_every_process_and_kept_by_none(tmp_path: Path) -> None:
    root = tmp_path / "tree"
    fill(root, 6)
    for number in range(3):
        Path(os.fsdecode(os.fsencode(root) + b"/t0/\xff%d.yaml" % number)).write_text("name: [")
    how = CheckOptions(jobs=3, place=tmp_path / "kept", few=0)

    assert check(root, how=how) == check(root, how=how) == plainly(root)


def test_what_is_found_does_not_depend_on_the_order_of_sets() -> None:
    command = [
        sys.executable,
        "-m",
        "optio",
        "check",
        "--format",
        "json",
        "--verbose",
        "--no-cache",
        "--jobs",
        "1",
        "tests/cases",
    ]
    printed = {
        subprocess.run(command, cwd=ROOT, capture_output=True, check=False, env={**os.environ, "PYTHONHASHSEED": seed}).stdout
        for seed in "12"
    }

    assert len(printed) == 1


def test_nothing_is_written_into_the_tree(tmp_path: Path) -> None:
    root = tmp_path / "tree"
    fill(root, 10)
    before = sorted(root.rglob("*"))

    check(root, how=CheckOptions(jobs=2, place=tmp_path / "kept", few=0))

    assert sorted(root.rglob("*")) == before


@pytest.mark.parametrize(
    ("files", "wanted", "jobs"), [(99, 8, 1), (0, None, 1), (199, 8, 1), (200, 8, 2), (10_000, 3, 3), (10_000, 1, 1)]
)
def test_there_are_as_many_processes_as_are_worth_it(files: int, wanted: int | None, jobs: int) -> None:
    assert CheckOptions(jobs=wanted).jobs_for(files) == jobs


def test_what_is_typed_is_not_kept_and_the_rest_of_the_tree_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "tree"
    fill(root, 30)
    for path in root.rglob("*"):
        os.utime(path, (1, 1))
    how = CheckOptions(jobs=1, place=tmp_path / "kept", few=0)
    typed = {"t1/_defaults.yaml": b"maxTurns: 0\n"}
    made: list[str] = []
    monkeypatch.setattr(CachedChecker, "make", _noting(CachedChecker.make, made))

    first = check(root, how=how, typed=typed)
    once = list(made)
    made.clear()
    again = check(root, how=how, typed=typed)
    typed_again = list(made)
    made.clear()

    assert first == again == plainly(root, typed=typed)
    assert len(once) == 34
    assert {path.partition("/")[0] for path in typed_again} == {"t1"}
    assert check(root, how=how) == plainly(root)
    assert {path.partition("/")[0] for path in made} == {"t1"}


def test_what_is_kept_for_one_executor_is_not_taken_for_another(tmp_path: Path) -> None:
    root = tmp_path / "tree"
    fill(root, 3)
    write(
        root, "asks.yaml", "name: Asks\nagentRuntime: claude-code\npromptTemplate: x\nenvironment: {image: 'ghcr.io/a/b:1'}\n"
    )

    def told(executor: str) -> list[str]:
        found = check(root, how=CheckOptions(executor=executor, jobs=1, place=tmp_path / "kept", few=0)).diagnostics
        return [d.path for d in found if d.code == "OPT523"]

    assert [told(each) for each in ("kubernetes", "process", "kubernetes")] == [[], ["asks.yaml"], []]
