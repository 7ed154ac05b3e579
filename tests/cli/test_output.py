"""`-o table|wide|json|yaml|name`: the same formats wherever something is listed or shown, and tables that fit the terminal."""

import json
import os
import pty
import struct
import termios
from fcntl import ioctl

import pytest
import yaml

from optio.cli.shared.output import Column, table
from tests import forked
from tests.cli.conftest import ECHO, Shell
from tests.support import Dev

LISTED = (
    Column("ID"),
    Column("NAME", free=True),
    Column("TEXT", free=True),
    Column("N", right=True, drop=1),
    Column("X", wide=True),
)
ROWS = [["one", "a name", "a text that is long", "7", "x"], ["two", "b", "", "1,000", "y"]]


def test_a_table_is_as_wide_as_its_longest_cell_and_aligns_numbers_right() -> None:
    assert table(["A", Column("LONG", right=True)], [["wide cell", "x"], ["", "y"]]) == (
        "A          LONG\nwide cell     x\n              y"
    )
    assert table(LISTED, ROWS).splitlines() == [
        "ID   NAME    TEXT                     N",
        "one  a name  a text that is long      7",
        "two  b                            1,000",
    ]


def test_free_text_is_cut_to_fit_the_terminal_and_an_id_never() -> None:
    assert table(LISTED, ROWS, width=32).splitlines() == [
        "ID   NAME    TEXT              N",
        "one  a name  a text that…      7",
        "two  b                     1,000",
    ]
    assert table(LISTED, ROWS, width=24).splitlines() == ["ID   NAME    TEXT", "one  a name  a text …", "two  b"]
    assert table(LISTED, ROWS, width=3).splitlines()[1].startswith("one")


def test_a_wide_table_has_more_columns_and_leaves_nothing_out() -> None:
    assert table(LISTED, ROWS, wide=True, width=20).splitlines()[1] == "one  a name  a text that is long      7  x"


def test_a_cell_is_one_line_and_cannot_drive_the_terminal() -> None:
    assert table(["A", "B"], [["a\n\tb\x1b[2J", "日本"], ["", "x"]]).splitlines() == [
        "A           B",
        "a b\\x1b[2J  日本",
        "            x",
    ]


@pytest.mark.parametrize(
    "verb", ["runs list", "tasks list", "hook list", "pool", "runs show @latest", "tasks show echo", "pool plan"]
)
def test_what_is_listed_or_shown_comes_in_every_format(served: Dev, verb: str) -> None:
    served.until_ended(served.post("/api/tasks/echo/runs").json["runId"])

    said = {form: served.cli(*verb.split(), "-o", form) for form in ("table", "wide", "json", "yaml", "name")}

    assert {form: done.returncode for form, done in said.items()} == dict.fromkeys(said, 0)
    assert yaml.safe_load(said["yaml"].stdout).keys() == json.loads(said["json"].stdout).keys()
    assert served.cli(*verb.split(), "--json").stdout.splitlines()[0] == said["json"].stdout.splitlines()[0]
    assert all(len(line.split()) == 1 for line in said["name"].stdout.splitlines())


def test_names_alone_can_be_given_to_the_next_command(served: Dev) -> None:
    run_id = served.cli("run", "failing", "--wait", "-o", "name").stdout.strip()

    names = served.cli("runs", "list", "--task", "failing", "-n", "1", "-o", "name").stdout
    wide = served.cli("runs", "list", "--task", "failing", "-n", "1", "-o", "wide").stdout.splitlines()

    assert names == f"{run_id}\n"
    assert "DEFINITION" in wide[0]
    assert "  sha256:" in wide[1]


@pytest.mark.parametrize("verb", ["schedule", "token list", "doctor", "db check", "audit triggers", "prune --dry-run"])
def test_commands_without_a_server_print_yaml_too(shell: Shell, verb: str) -> None:
    shell.write("tasks.d/echo.yaml", ECHO + "triggers: [{type: schedule, config: {cronExpression: 0 9 * * 1}}]\n")
    shell("token", "create", "--role", "viewer")

    said, documents = shell(*verb.split(), "-o", "yaml"), shell(*verb.split(), "--json")

    found = yaml.safe_load(said.stdout)
    assert found
    assert type(found) is type(json.loads(documents.stdout))


def test_an_unknown_format_names_those_there_are(shell: Shell) -> None:
    done = shell("runs", "list", "-o", "xml")

    assert done.returncode == 2
    assert "invalid choice: 'xml' (choose from 'table', 'wide', 'json', 'yaml', 'name')" in done.stderr


def on_a_terminal(shell: Shell, columns: int, *arguments: str) -> str:
    """What a command prints on a terminal of a width."""
    controlling, terminal = pty.openpty()
    ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environ = {k: v for k, v in shell.environment().items() if k not in ("COLUMNS", "LINES")}
    process = forked.start(arguments, shell.directory, environ, (terminal, terminal, terminal))
    os.close(terminal)
    parts = []
    while True:
        try:
            part = os.read(controlling, 65536)
        except OSError:
            break
        if not part:
            break
        parts.append(part)
    os.close(controlling)
    assert process.wait(30) == 0
    return b"".join(parts).decode().replace("\r\n", "\n")


def test_a_table_fits_a_real_terminal_and_is_whole_in_a_pipe(shell: Shell) -> None:
    label = "a label with many words " * 4
    shell("token", "create", "--role", "viewer", "--label", label)

    on_terminal = on_a_terminal(shell, 72, "token", "list").splitlines()
    piped = shell("token", "list").stdout.splitlines()

    assert max(map(len, on_terminal)) <= 72
    assert "…" in on_terminal[1]
    assert on_terminal[1].split()[0] == piped[1].split()[0]
    assert label.strip() in piped[1]
