"""A package of another maker brings a runtime: it is found, described, checked and run, and a broken one is named."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import ECHO, Shell
from tests.support import ROOT, Dev

PACKAGE = ROOT / "tests" / "data" / "acme-runtime"
TASK = "name: Ask Acme\nagentRuntime: acme\npromptTemplate: hi\nmaxRetries: 0\n"
ANSWERS = '{"type": "say", "text": "Hm"}\n{"type": "done", "text": "Forty-two", "tokens": 7}\n'
REFUSES = '{"type": "done", "error": "auth"}\n'
TEST = """
from acme_runtime import Acme
from optio.model.usage import Usage
from optio.runtimes.contract import Recording, RuntimeContract

class TestAcme(RuntimeContract):
    runtime = Acme()
    recordings = (
        Recording("answers", "ok", stdout={answers!r}, usage=Usage(output=7)),
        Recording("refuses", "auth", stdout={refuses!r}, code=1),
    )
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory in which the package is installed, with its agent as a program."""
    place = tmp_path_factory.mktemp("acme")
    uv = Path(sys.executable).with_name("uv")
    source = shutil.copytree(PACKAGE, place / "source")
    command = [uv, "pip", "install", "-q", "--offline", "--no-deps", "--no-build-isolation", "--python", sys.executable]
    subprocess.run(
        [*command, "--target", place / "site", source], check=True, env={**os.environ, "UV_CACHE_DIR": str(place / "c")}
    )
    (place / "bin").mkdir()
    (place / "bin" / "acme").write_text(f"#!/bin/sh\ncat >/dev/null\nprintf '%s' '{ANSWERS}'\n")
    (place / "bin" / "acme").chmod(0o755)
    return place


@pytest.fixture
def site(installed: Path, shell: Shell) -> dict[str, str]:
    shell.write("tasks.d/ask.yaml", TASK)
    return environment(installed)


def environment(installed: Path) -> dict[str, str]:
    return {"PYTHONPATH": f"{installed / 'site'}:{ROOT}", "PATH": f"{installed / 'bin'}:{os.environ['PATH']}"}


def break_it(installed: Path, copy: Path, before: str, after: str) -> dict[str, str]:
    """Another installation, of a package with a mistake."""
    shutil.copytree(installed, copy)
    module = copy / "site" / "acme_runtime.py"
    module.write_text(module.read_text().replace(before, after))
    assert after in module.read_text()
    return environment(copy)


def test_it_is_known_to_check_schema_and_doctor(shell: Shell, site: dict[str, str]) -> None:
    alone, known = shell("check"), shell("check", environ=site)
    schema = json.loads(shell("schema", environ=site).stdout)
    doctor = shell("doctor", "-v", environ=site)

    assert "`agentRuntime` is `acme`" in alone.stdout
    assert (known.stdout, known.returncode) == ("no findings in 1 file\n", 0)
    assert schema["properties"]["agentRuntime"]["enum"][-1] == "acme"
    assert schema["properties"]["agentRuntime"]["enumDescriptions"][-1] == "Acme's agent"
    assert "acme" in doctor.stdout


def test_a_budget_for_it_is_judged_by_what_it_declares(shell: Shell, site: dict[str, str]) -> None:
    shell.write("tasks.d/ask.yaml", TASK + 'budgetUsd: "1.00"\n')

    assert (
        "a run with `budgetUsd` needs a `model` whose price is known [OPT616"
        in shell("check", "--verbose", environ=site).stdout
    )


def test_an_unknown_name_is_told_with_what_is_installed(shell: Shell, site: dict[str, str]) -> None:
    shell.write("tasks.d/ask.yaml", TASK.replace("acme", "acne"))

    assert "did you mean `acme`? allowed: claude-code" in shell("check", environ=site).stdout


def test_it_passes_the_public_contract(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "test_acme.py").write_text(TEST.format(answers=ANSWERS.encode(), refuses=REFUSES.encode()))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_acme.py"],
        cwd=tmp_path,
        env={**os.environ, **environment(installed), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
    )

    assert "13 passed" in done.stdout, done.stdout


@pytest.fixture
def served(installed: Path, tmp_path: Path) -> Iterator[Dev]:
    process = Dev(tmp_path, environ=environment(installed))
    process.write("ask.yaml", TASK)
    process.start()
    yield process
    process.stop()


def test_it_runs(served: Dev) -> None:
    started = served.post("/api/tasks/ask-acme/runs", {})
    run = served.until_ended(started.json["runId"])

    assert (run["state"], run["output"], run["tokens"]) == ("completed", "Forty-two", 7)


@pytest.mark.parametrize(
    ("before", "after", "why"),
    [
        ("seam_version, side, stall = 1,", "seam_version, side, stall = 2,", "it is written for version 2 of the interface"),
        ("class Acme:", "raise OSError('no licence')\nclass Acme:", "OSError: no licence"),
        ("def invoke(", "def call(", "it has no `invoke`"),
        ('Declaration("acme"', 'Declaration("acne"', "its declaration has the name `acne`"),
    ],
)
def test_a_broken_one_is_named_and_disables_nothing_else(
    shell: Shell, installed: Path, tmp_path: Path, before: str, after: str, why: str
) -> None:
    broken = break_it(installed, tmp_path / "copy", before, after)
    shell.write("tasks.d/ask.yaml", TASK)
    shell.write("tasks.d/echo.yaml", ECHO)

    checked, doctor = shell("check", environ=broken), shell("doctor", environ=broken)

    assert f"the runtime `acme` of acme-runtime 1.0 cannot be loaded: {why}" in checked.stdout
    assert "1 error in 2 files" in checked.stdout
    assert why in doctor.stdout.replace("\n", " ")
    assert shell("render", "echo", environ=broken).stdout == "Hello, world!"


def test_a_reader_that_raises_ends_its_run_and_nothing_else(installed: Path, tmp_path: Path) -> None:
    broken = break_it(installed, tmp_path / "copy", "        self._began = True\n", "        raise OSError('no licence')\n")
    process = Dev(tmp_path, environ=broken)
    process.write("ask.yaml", TASK)
    process.write("echo.yaml", ECHO)
    process.start()
    try:
        ask = process.until_ended(process.post("/api/tasks/ask-acme/runs", {}).json["runId"])
        echo = process.until_ended(process.post("/api/tasks/echo/runs", {}).json["runId"])
    finally:
        process.stop()

    assert (ask["state"], ask["reason"], ask["attempt"]) == ("failed", "runtime_failed", 1)
    assert ask["message"].startswith(
        "the runtime `acme` of acme-runtime 1.0 failed while it read the agent's output, in `line`: "
    )
    assert "OSError: no licence" in ask["message"]
    assert echo["state"] == "completed"
