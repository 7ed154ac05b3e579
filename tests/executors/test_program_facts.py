"""What is known of the program of an agent CLI: asked once for a file that stays as it is."""

import hashlib
from pathlib import Path

import pytest

from optio.executors.base import ProgramFacts
from optio.executors.program_facts import facts_of
from tests.support import eventually


def write_program(path: Path, version: str) -> str:
    path.write_text(f'#!/bin/sh\necho "$HOME" >> {path}.homes\necho "acme-cli {version} (Acme)"\n')
    path.chmod(0o755)
    return f"{path}@sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


def test_a_program_is_asked_for_its_version_once_and_again_when_it_is_replaced(tmp_path: Path) -> None:
    program = tmp_path / "acme"
    identity = write_program(program, "1.2.3")

    first, again = facts_of(str(program)), facts_of(str(program))
    newer = write_program(program, "1.10.0-beta")

    assert first == again == ProgramFacts(version="1.2.3", identity=identity)
    assert facts_of(str(program)) == ProgramFacts(version="1.10.0-beta", identity=newer)
    homes = Path(f"{program}.homes").read_text().split()
    assert len(homes) == 2
    assert str(Path.home()) not in homes


def test_a_program_that_is_not_there_or_tells_no_version_has_no_facts_of_that(tmp_path: Path) -> None:
    silent = tmp_path / "silent"
    silent.write_text("#!/bin/sh\nexit 3\n")
    silent.chmod(0o755)

    assert facts_of(str(tmp_path / "none")) == ProgramFacts()
    assert facts_of(str(silent)).version is None
    assert facts_of(str(silent)).identity is not None


def test_a_program_that_is_asked_for_its_version_sees_no_variable_of_the_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPTIO_SECRET_KEY", "7.7.7")
    program = tmp_path / "curious"
    program.write_text('#!/bin/sh\necho "1.2.3${OPTIO_SECRET_KEY}"\n')
    program.chmod(0o755)

    assert facts_of(str(program)).version == "1.2.3"


def test_a_program_that_hangs_when_asked_for_its_version_ends_with_its_children(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("optio.executors.program_facts._VERSION_TIMEOUT_S", 1)
    program = tmp_path / "hanging"
    program.write_text(f"#!/bin/sh\nsleep 600 &\necho $$ $! >{tmp_path}/pids\nsleep 600\n")
    program.chmod(0o755)

    assert facts_of(str(program)).version is None

    pids = (tmp_path / "pids").read_text().split()
    assert len(pids) == 2
    eventually(lambda: not any(Path(f"/proc/{pid}/cmdline").exists() for pid in pids), what="the end of both")
