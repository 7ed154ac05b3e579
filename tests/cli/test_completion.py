"""Completion in real shells: what `optio completion` prints, sourced by bash, zsh and fish, against a real server."""

import os
import pty
import re
import select
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from optio.cli.completion import SCRIPTS
from tests import forked
from tests.cli.conftest import ECHO, Shell
from tests.support import ROOT, Dev

ANSI = re.compile(rb"\x1b\[[0-9;?]*[a-zA-Z]|\x1b[=>]|\r")


class Tried:
    """`optio` on the path of a shell, with completion, and a server or none."""

    def __init__(self, directory: Path, environ: dict[str, str]) -> None:
        (directory / "bin").mkdir(exist_ok=True)
        program = directory / "bin" / "optio"
        forked.put_program(program)
        for name, script in SCRIPTS.items():
            (directory / f"optio.{name}").write_text(script)
        self.directory = directory
        self.environ = {
            **environ,
            "PYTHONPATH": str(ROOT),
            "PATH": f"{program.parent}:{os.environ['PATH']}",
            "HOME": str(directory),
            "TERM": "dumb",
        }

    def sh(self, *argv: str) -> list[str]:
        done = subprocess.run(argv, cwd=self.directory, env=self.environ, capture_output=True, text=True, timeout=60)
        assert done.stderr == ""
        return done.stdout.splitlines()

    def bash(self, line: str) -> list[str]:
        """Bash's candidates, by its own split into words."""
        words = [part for part in re.split(r"(\s+|[@=:])", line) if part.strip()] + ([""] if line.endswith(" ") else [])
        drive = (
            'source optio.bash; COMP_LINE=$1; COMP_POINT=${#1}; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1));'
            ' _optio; [[ ${#COMPREPLY[@]} == 0 ]] || printf "%s\\n" "${COMPREPLY[@]}"'
        )
        return self.sh("bash", "--norc", "-c", drive, "bash", line, *words)

    def fish(self, line: str) -> list[str]:
        return [
            each.partition("\t")[0] for each in self.sh("fish", "--no-config", "-c", f"source optio.fish; complete -C '{line}'")
        ]

    def typed(self, shell: str, line: str, expected: str) -> str:
        """What an interactive shell shows after a line and a tab, once it has the expected text."""
        setup = {
            "bash": "source optio.bash; bind 'set bell-style none'; PS1='ready> '\n",
            "zsh": "autoload -Uz compinit; compinit -u -D; source optio.zsh; unsetopt zle_bracketed_paste; PS1='ready> '\n",
        }
        argv = {"bash": ["bash", "--norc", "--noprofile", "-i"], "zsh": ["zsh", "-f", "-i"]}[shell]
        child, controlling = pty.fork()
        if child == 0:
            os.chdir(self.directory)
            os.execvpe(argv[0], argv, self.environ)  # noqa: S606 - the shell itself
        try:
            os.write(controlling, setup[shell].encode())
            seen = _until(controlling, lambda seen: seen.rstrip().endswith("ready>"))
            os.write(controlling, line.encode() + b"\t")
            seen = _until(controlling, lambda seen: expected in seen)
        finally:
            os.close(controlling)
            os.kill(child, 9)
            os.waitpid(child, 0)
        return seen


def _until(descriptor: int, enough: Callable[[str], bool]) -> str:
    seen, limit = b"", time.monotonic() + 30
    while not enough(_shown(seen)):
        assert time.monotonic() < limit, seen
        if select.select([descriptor], [], [], 0.5)[0]:
            seen += os.read(descriptor, 65536)
    return _shown(seen)


def _shown(written: bytes) -> str:
    """What a terminal shows of a line: what was written after going back stands in the place of what stood there."""
    cells: list[str] = []
    place = 0
    for character in ANSI.sub(b"", written).decode():
        if character == "\b":
            place -= 1
        else:
            cells[place : place + 1] = [character]
            place += 1
    return "".join(cells)


@pytest.fixture
def tried(served: Dev, tmp_path: Path) -> Tried:
    return Tried(tmp_path, served.environment())


@pytest.fixture
def alone(shell: Shell) -> Tried:
    """A task directory and no server."""
    shell.write("tasks.d/echo.yaml", ECHO)
    return Tried(shell.directory, shell.environment({"OPTIO_URL": "http://127.0.0.1:9"}))


@pytest.mark.parametrize("name", ["bash", "fish"])
def test_commands_verbs_flags_and_choices_are_completed(alone: Tried, name: str) -> None:
    complete = getattr(alone, name)

    assert sorted(complete("optio ru")) == ["run", "runs"]
    assert complete("optio rer") == ["rerun"]
    assert complete("optio runs li") == ["list"]
    assert sorted(complete("optio runs list --t")) == ["--task", "--token", "--trigger"]
    assert complete("optio runs list --state f") == ["failed"]
    assert complete("optio runs list --task echo --ta") == []
    assert complete("optio explain OPT101") == ["OPT101"]
    assert complete("optio nonsense ") == []


@pytest.mark.parametrize("name", ["bash", "fish"])
def test_ids_of_tasks_and_names_of_parameters_come_from_the_directory_without_a_server(alone: Tried, name: str) -> None:
    complete = getattr(alone, name)

    assert complete("optio run e") == complete("optio render e") == complete("optio runs list --task e") == ["echo"]
    assert complete("optio run echo -p W") == ["WHO="]
    assert complete("optio runs show ") == ["@latest"]


@pytest.mark.parametrize("name", ["bash", "fish"])
def test_ids_of_runs_come_from_the_server_and_are_those_that_the_verb_can_act_on(tried: Tried, served: Dev, name: str) -> None:
    failed, done = (served.post(f"/api/tasks/{task}/runs").json["runId"] for task in ("failing", "echo"))
    served.until_ended(failed)
    served.until_ended(done)
    complete = getattr(tried, name)

    assert {failed, done} <= {*complete(f"optio runs show {done[:6]}")}
    assert failed in complete(f"optio runs retry {failed[:6]}")
    assert done not in complete(f"optio runs retry {done[:6]}")
    assert complete("optio tasks show ec") == ["echo"]


def test_bash_does_not_repeat_what_stands_before_a_word_break(tried: Tried) -> None:
    assert tried.bash("optio runs show echo@la") == ["@latest"]
    assert tried.bash("optio runs list --state=f") == ["failed"]
    assert tried.fish("optio runs show echo@la") == ["echo@latest"]


@pytest.mark.parametrize("name", ["bash", "zsh"])
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("optio chec", "optio check "),
        ("optio run ech", "optio run echo "),
        ("optio run echo -p W", "optio run echo -p WHO="),
        ("optio runs show echo@l", "optio runs show echo@latest "),
        ("optio check optio.fi", "optio check optio.fish "),
    ],
)
def test_a_tab_completes_in_a_real_shell(tried: Tried, name: str, line: str, expected: str) -> None:
    assert expected in tried.typed(name, line, expected)


def test_fish_completes_paths_too(alone: Tried) -> None:
    assert "optio.fish" in alone.fish("optio check opt")


def test_whatever_goes_wrong_nothing_is_printed(shell: Shell) -> None:
    for arguments in (["--line", "optio runs show x"], ["--line", 'optio run "'], ["--line"], [], ["--", "server", "--port"]):
        done = shell("__complete", *arguments, environ={"OPTIO_URL": "nonsense", "OPTIO_PORT": "x"})
        assert (done.returncode, done.stderr) == (0, "")
