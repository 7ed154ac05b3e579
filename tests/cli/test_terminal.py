"""Colour, pager and progress, on real terminals."""

import os
import pty
import struct
import subprocess
import termios
from collections.abc import Mapping
from fcntl import ioctl

import pytest

from tests import forked
from tests.cli.conftest import ECHO, Shell

COLOURS = ("NO_COLOR", "FORCE_COLOR", "CLICOLOR_FORCE", "TERM", "PAGER", "LESS", "COLUMNS", "LINES")
BROKEN = "name: Broken\nagentRuntime: command\ncommnad: ['true']\npromptTemplate: x\n"
WITH_TEST = ECHO + "tests: [{name: it greets, params: {}, expect: {params: {WHO: world}}}]\n"


def on_a_terminal(
    shell: Shell, *arguments: str, environ: Mapping[str, str] | None = None, lines: int = 24, stdout: str = "terminal"
) -> tuple[int, str]:
    """The exit code of a command, and what its terminal shows; standard output may be a pipe instead."""
    controlling, terminal = pty.openpty()
    ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", lines, 80, 0, 0))
    clean = {k: v for k, v in shell.environment().items() if k not in COLOURS}
    with open(os.devnull, "wb") as nowhere:
        files = (terminal, terminal if stdout == "terminal" else nowhere.fileno(), terminal)
        process = forked.start(arguments, shell.directory, {**clean, "TERM": "xterm", **(environ or {})}, files)
    os.close(terminal)
    seen = b""
    while True:
        try:
            part = os.read(controlling, 65536)
        except OSError:
            break
        seen += part
    os.close(controlling)
    return process.wait(30), seen.decode()


def test_a_prompt_ends_its_line_on_a_terminal_and_stays_as_it_is_in_a_pipe(shell: Shell) -> None:
    shell.write("tasks.d/echo.yaml", ECHO)

    assert on_a_terminal(shell, "render", "echo") == (0, "Hello, world!\r\n")
    assert shell("render", "echo").stdout == "Hello, world!"


@pytest.mark.parametrize("command", ["check", "test"])
@pytest.mark.parametrize(
    ("environ", "coloured"),
    [
        ({}, True),
        ({"NO_COLOR": "1"}, False),
        ({"NO_COLOR": ""}, True),
        ({"TERM": "dumb"}, False),
        ({"TERM": "dumb", "FORCE_COLOR": "1"}, True),
        ({"NO_COLOR": "1", "FORCE_COLOR": "1"}, False),
    ],
)
def test_a_terminal_gets_colours_unless_it_says_otherwise(
    shell: Shell, command: str, environ: Mapping[str, str], coloured: bool
) -> None:
    shell.write("tasks.d/task.yaml", BROKEN if command == "check" else WITH_TEST)

    _, seen = on_a_terminal(shell, command, environ=environ)

    assert ("\x1b[3" in seen) is coloured


@pytest.mark.parametrize("command", ["check", "test"])
@pytest.mark.parametrize(
    ("environ", "coloured"),
    [({}, False), ({"FORCE_COLOR": "1"}, True), ({"CLICOLOR_FORCE": "1"}, True), ({"FORCE_COLOR": "0"}, False)],
)
def test_a_pipe_gets_none_unless_they_are_forced(
    shell: Shell, command: str, environ: Mapping[str, str], coloured: bool
) -> None:
    shell.write("tasks.d/task.yaml", BROKEN if command == "check" else WITH_TEST)

    done = shell(command, environ=environ)

    assert ("\x1b[3" in done.stdout) is coloured


def pager(shell: Shell, text: str = 'printf "paged with LESS=%s\\n" "$LESS"; cat > paged; exit 7') -> dict[str, str]:
    program = shell.write("pager", f"#!/bin/sh\n{text}\n")
    program.chmod(0o755)
    return {"PAGER": str(program)}


def test_output_longer_than_the_screen_is_paged(shell: Shell) -> None:
    code, seen = on_a_terminal(shell, "explain", environ=pager(shell))

    assert (code, seen) == (0, "paged with LESS=FRX\r\n")
    assert (shell.directory / "paged").read_text() == shell("explain").stdout


@pytest.mark.parametrize(
    ("arguments", "environ", "lines"),
    [
        (["explain", "OPT101"], {}, 60),
        (["explain", "--no-pager"], {}, 24),
        (["explain"], {"PAGER": ""}, 24),
        (["explain"], {"PAGER": "cat"}, 24),
        (["explain"], {"PAGER": "/nowhere"}, 24),
        (["explain"], {"TERM": "dumb"}, 24),
    ],
    ids=["short", "flag", "empty", "cat", "missing", "dumb"],
)
def test_a_pager_is_not_used_where_it_is_not_wanted(
    shell: Shell, arguments: list[str], environ: Mapping[str, str], lines: int
) -> None:
    code, seen = on_a_terminal(shell, *arguments, environ={**pager(shell), **environ}, lines=lines)

    assert code == 0
    assert seen.replace("\r\n", "\n") == shell(*[each for each in arguments if each != "--no-pager"]).stdout
    assert not (shell.directory / "paged").exists()


def test_a_pager_that_is_left_before_the_end_is_no_error(shell: Shell) -> None:
    code, seen = on_a_terminal(shell, "explain", environ=pager(shell, "head -n 1 > /dev/null"))

    assert (code, seen) == (0, "")


SLOW_GIT = """#!/bin/sh
case " $* " in *" ls-tree "*) sleep 1.4 ;; esac
exec {git} "$@"
"""


def test_what_takes_longer_than_a_second_says_so_on_a_terminal_and_leaves_no_trace(shell: Shell) -> None:
    shell.write("tasks.d/echo.yaml", ECHO)
    for words in ("init -q", "add .", "-c user.name=me -c user.email=me@example.org commit -qm one"):
        subprocess.run(["git", *words.split()], cwd=shell.directory, check=True)
    git = subprocess.run(["which", "git"], capture_output=True, text=True, check=True).stdout.strip()
    shell.write("bin/git", SLOW_GIT.format(git=git)).chmod(0o755)
    slow = {"PATH": f"{shell.directory / 'bin'}:{os.environ['PATH']}", "PAGER": "", "NO_COLOR": "1"}

    _, seen = on_a_terminal(shell, "plan", environ=slow)
    _, dumb = on_a_terminal(shell, "plan", environ={**slow, "TERM": "dumb"})
    _, alone = on_a_terminal(shell, "plan", environ=slow, stdout="file")
    piped = shell("plan", environ=slow)

    assert "\r\x1b[Kcomparing task files ... 1 s" in seen
    assert seen.rpartition("\x1b[K")[2].replace("\r\n", "\n") == piped.stdout
    assert alone.startswith("\r\x1b[Kcomparing task files ... 1 s")
    assert alone.endswith("\r\x1b[K")
    assert "comparing" not in dumb + piped.stderr
