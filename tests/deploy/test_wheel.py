"""The wheel, installed where there is nothing else: every command works, or says which extra it lacks."""

import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from optio.cli import COMMANDS
from optio.version import DISTRIBUTION, __version__
from tests.support import ROOT

UV = Path(sys.executable).with_name("uv")
# What needs a library that only the extra `server` brings.
SERVING = {"dev", "server", "gateway", "scheduler", "token"}
# Prints the exit code of each command's help, and what it says.
HELPS = """
import contextlib, io, json, sys
from optio.cli import invoke

found = {}
for name in sys.argv[1:]:
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            code = invoke([name, "--help"])
        except SystemExit as err:
            code = err.code or 0
    found[name] = code, said.getvalue()
print(json.dumps(found))
"""
TASK = "name: A\nagentRuntime: command\ncommand: [cat]\npromptTemplate: hello\n"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(directory)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=120)
    return next(directory.iterdir())


def installed(wheel: Path, extra: str, directory: Path) -> Path:
    """The bin directory of an environment that holds this wheel, with one extra or none, and what it requires."""
    place = directory / "environment"
    environ = {**os.environ, "VIRTUAL_ENV": str(place)}
    subprocess.run([UV, "venv", "-q", "-p", sys.executable, place], check=True, timeout=60)
    wanted = f"{DISTRIBUTION}{f'[{extra}]' if extra else ''} @ {wheel.as_uri()}"
    command = [UV, "pip", "install", "-q", "-c", ROOT / "requirements.lock", wanted]
    subprocess.run(command, check=True, env=environ, timeout=240)
    return place / "bin"


@pytest.mark.parametrize("extra", ["", "server"])
def test_each_command_works_or_names_the_extra_that_it_lacks(wheel: Path, extra: str, tmp_path: Path) -> None:
    (tmp_path / "tasks.d").mkdir()
    (tmp_path / "tasks.d" / "a.yaml").write_text(TASK)
    programs = installed(wheel, extra, tmp_path)
    asked = [programs / "python", "-c", HELPS, *(SERVING if extra else COMMANDS)]
    helps = json.loads(subprocess.run(asked, cwd=tmp_path, capture_output=True, timeout=120, check=True).stdout)
    done = subprocess.run([programs / "optio", "check"], cwd=tmp_path, capture_output=True, text=True, timeout=60)

    refused = {name for name, (code, text) in helps.items() if code == 2 and "with its `server` extra" in text}
    assert refused == (set() if extra else SERVING)
    assert {code for name, (code, _) in helps.items() if name not in refused} == {0}
    assert (done.returncode, done.stdout) == (0, "no findings in 1 file\n")


def test_it_has_the_types_the_licence_and_nothing_of_the_tests(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()

    assert wheel.name == f"{DISTRIBUTION.replace('-', '_')}-{__version__}-py3-none-any.whl"
    assert "optio/py.typed" in names
    assert any(name.endswith("/licenses/LICENSE") for name in names)
    assert "optio/server/pages/static/vendor/licences.txt" in names
    assert [name for name in names if name.startswith("optio/server/pages/build/")] == []
    assert {name.split("/")[0] for name in names} == {"optio", f"{DISTRIBUTION.replace('-', '_')}-{__version__}.dist-info"}


def test_no_text_tells_to_install_what_another_project_is_called() -> None:
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    texts = {name: (ROOT / name).read_bytes().decode("utf-8", "replace") for name in files if (ROOT / name).is_file()}
    wrong = re.compile(r"install [`'\"]?optio(?![-\w])")

    assert [f"{name}: {line}" for name, text in texts.items() for line in text.splitlines() if wrong.search(line)] == []
