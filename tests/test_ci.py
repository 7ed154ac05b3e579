"""The tests of `.ci/run`: each runs once, and one that fails has a second try."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import ALONE, TESTS
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
ALWAYS = """
def test_always():
    assert times("always") == 0
"""
SHARED = """
def test_shared():
    assert times("shared") == 1
"""
ALONE_ONE = """
@pytest.mark.alone
def test_alone():
    assert times("alone") == 1
"""


@pytest.fixture
def ci(tmp_path: Path) -> Path:
    """The script in a project of its own."""
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "tests", tmp_path / ".ci" / "tests")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / ".venv").symlink_to(ROOT / ".venv")
    return tmp_path


def run(ci: Path, *tests: str) -> subprocess.CompletedProcess[str]:
    (ci / "test_it.py").write_text(HEAD + "".join(tests))
    return subprocess.run([ci / ".ci" / "tests", "test_it.py"], text=True, capture_output=True)


def test_each_test_runs_in_one_of_the_two_parts(ci: Path) -> None:
    done = run(ci, SHARED, ALONE_ONE)

    assert done.returncode == 0, done.stdout
    assert (ci / "ran").read_text() == "shared side by side\nalone one by one\n"


def test_what_is_marked_is_there() -> None:
    assert [name for name in ALONE if not (TESTS / name).exists()] == []


def test_a_test_that_fails_once_is_called_unsteady(ci: Path) -> None:
    done = run(ci, "\n@pytest.mark.alone", ONCE.format(1), SHARED)

    assert done.returncode == 0, done.stdout
    assert done.stdout.endswith(
        "== UNSTEADY: 1 tests failed, and passed the second time. Find out why, and mend them:\ntest_it.py::test_first_1\n"
    )


def test_more_than_three_unsteady_tests_fail(ci: Path) -> None:
    done = run(ci, *map(ONCE.format, range(4)))

    assert done.returncode == 1
    assert "== FAILED: 4 tests, more than may be unsteady\n" in done.stdout


def test_a_test_that_fails_twice_fails(ci: Path) -> None:
    done = run(ci, ALWAYS, ONCE.format(1))

    assert done.returncode == 1
    assert "UNSTEADY" not in done.stdout
    assert (ci / "ran").read_text().count("always one by one") == 1


def test_a_file_that_cannot_be_read_fails(ci: Path) -> None:
    done = run(ci, SHARED, "\nimport nothing_of_this_name\n")

    assert done.returncode == 1
    assert "UNSTEADY" not in done.stdout


def test_a_test_that_kills_its_process_fails(ci: Path) -> None:
    done = run(ci, "\ndef test_it():\n    os._exit(1)\n")

    assert done.returncode == 1
    assert "UNSTEADY" not in done.stdout
