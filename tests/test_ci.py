"""The tests of `.ci/run`: each runs once, and one that fails has a second try."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ALONE, HEAVY, PARTS, TESTS
from tests.support import ROOT

HEAD = """
import os
from pathlib import Path

import pytest

HERE = Path(__file__).parent

def times(name):
    where = "one by one" if "PYTEST_XDIST_WORKER" not in os.environ else "side by side"
    with open(HERE / "ran", "a") as ran:
        ran.write(f"{name} {where}\\n")
    return (HERE / "ran").read_text().count(f"{name} ")
"""
ONCE = """
def test_first_{0}():
    assert times("first_{0}") > 1
"""
SHARED = """
def test_shared():
    assert times("shared") == 1
"""


@pytest.fixture
def ci(tmp_path: Path) -> Path:
    """The script in a project of its own."""
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "tests", tmp_path / ".ci" / "tests")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / ".venv").symlink_to(ROOT / ".venv")
    return tmp_path


def run(ci: Path, *tests: str, workers: int = 0) -> subprocess.CompletedProcess[str]:
    """One worker is enough for a few tests, and none where it does not matter."""
    script = ci / ".ci" / "tests"
    script.write_text(re.sub(r"-n [1-9]\d* ", f"-n {workers} ", script.read_text()))
    (ci / "test_it.py").write_text(HEAD + "".join(tests))
    outside = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "BESIDE"))}  # of our own
    environ = {**outside, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_PLUGINS": "xdist.plugin,pytest_timeout"}
    return subprocess.run([ci / ".ci" / "tests", "test_it.py"], text=True, capture_output=True, env=environ)


def test_a_clone_without_tools_collects_every_test_and_a_test_that_needs_one_fails_with_the_cure(tmp_path: Path) -> None:
    for path in ROOT.iterdir():
        if path.name not in (".git", ".tools", ".venv", "tests"):
            (tmp_path / path.name).symlink_to(path)
    shutil.copytree(ROOT / "tests", tmp_path / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    users = [path for path in (tmp_path / "tests").rglob("test_*.py") if re.search(r'\btool\(|"\.tools"', path.read_text())]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}

    def leaf_tests(*words: str | Path) -> subprocess.CompletedProcess[str]:
        words = (sys.executable, "-m", "pytest", "-q", "-n", "0", *words)
        return subprocess.run(words, cwd=tmp_path, env=environ, capture_output=True, text=True)

    collected = leaf_tests("--collect-only", *users)
    done = leaf_tests(*users, "-k", "sources_make or published_schema or package_has or cut_at_any_size[tasks]")

    assert len(users) > 5
    assert collected.returncode == 0, collected.stdout[-1000:] + collected.stderr
    missing = re.findall(r"^E +AssertionError: \S+/\.tools/(\w+)/\S+ is missing: run `bash tests/setup\.sh`", done.stdout, re.M)
    assert sorted(missing) == ["axe", "clients", "editor", "pages"]
    assert re.search(r"^3 failed, \d+ deselected, 1 error in", done.stdout, re.M), done.stdout[-1000:]


def test_what_is_marked_is_there() -> None:
    alone = {
        path.relative_to(TESTS).as_posix() for path in TESTS.rglob("test_*.py") if "\n@pytest.mark.alone" in path.read_text()
    }

    assert [path for path in TESTS.rglob("test_*.py") if not any(has(path) for has in PARTS.values())] == []
    assert [name for name in HEAVY if not (TESTS / name).exists()] == []
    assert alone - {"test_ci.py"} == set(ALONE)


def test_each_test_runs_in_one_part_and_one_that_fails_and_then_passes_is_called_unsteady(ci: Path) -> None:
    quick, heavy = (f"\n@pytest.mark.{name}" + SHARED.replace("shared", name) for name in ("quick", "heavy"))
    done = run(ci, SHARED, quick, heavy, "\n@pytest.mark.alone", ONCE.format(1), workers=1)

    assert done.returncode == 0, done.stdout
    ran = ["quick side by side", "shared side by side", "heavy side by side", "first_1 one by one", "first_1 one by one"]
    assert (ci / "ran").read_text().splitlines() == ran
    assert done.stdout.endswith(
        "== UNSTEADY: 1 tests failed, and passed the second time. Find out why, and mend them:\ntest_it.py::test_first_1\n"
    )


def test_more_than_three_unsteady_tests_fail(ci: Path) -> None:
    done = run(ci, *map(ONCE.format, range(4)))

    assert done.returncode == 1
    assert "== FAILED: 4 tests, more than may be unsteady\n" in done.stdout


@pytest.mark.parametrize(
    ("fault", "workers"),
    [("def test_always(): assert 0", 0), ("import nothing_of_this_name", 0), ("def test_end(): os._exit(1)", 1)],
)
def test_a_fault_that_is_there_again_fails(ci: Path, fault: str, workers: int) -> None:
    done = run(ci, ONCE.format(1), f"\n{fault}\n", workers=workers)

    assert done.returncode == 1
    assert "UNSTEADY" not in done.stdout
