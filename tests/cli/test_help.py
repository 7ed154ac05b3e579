"""What the command line says about itself: the overview, and the examples of each command, which all run."""

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from optio.cli import COMMANDS, GROUPS
from optio.cli.shared.examples import EXAMPLES
from tests import forked
from tests.cli.conftest import Shell
from tests.support import ROOT, Dev, eventually, free_port

REPORT = """\
name: Report
description: Greets whoever pushes
agentRuntime: command
command: ["/bin/cat"]
promptTemplate: "Hello, {{WHO}}!"
paramsSchema:
  type: object
  properties: {WHO: {type: string, default: world}}
  additionalProperties: false
triggers:
  - {type: schedule, config: {cronExpression: "0 9 * * 1", timezone: Europe/Berlin}}
  - {type: webhook, config: {path: report, secret: {name: REPORT_SECRET}, paramMapping: {WHO: $.who}}}
tests:
  - {name: without a name it greets the world, params: {}, expect: {params: {WHO: world}}}
"""
CRONTAB = "CRON_TZ=UTC\n0 9 * * 1 /usr/bin/report --week\n"
# They serve until a signal comes.
SERVING = ("dev", "server", "worker", "scheduler", "gateway")
BEGUN = re.compile(r"stop +Ctrl-C|optio \S+ (server|worker|scheduler|gateway) on")


class World:
    """A repository with tasks, a server of them, and `optio` on the path."""

    def __init__(self, directory: Path) -> None:
        self.dev = Dev(directory)
        self.directory = directory
        programs = directory / "bin"
        programs.mkdir()
        forked.put_program(programs / "optio")
        self.environ = {
            **self.dev.environment(),
            "PATH": f"{programs}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "OPTIO_SECRET_REPORT_SECRET": "a secret of the tests",
        }
        self.dev.environ["OPTIO_SECRET_REPORT_SECRET"] = self.environ["OPTIO_SECRET_REPORT_SECRET"]

    def sh(self, line: str) -> "subprocess.CompletedProcess[str]":
        """Run a line. The server of an example is this one, and its token comes on standard input where no one can type it."""
        if line.startswith("optio login"):
            line = line.replace("https://optio.example.org", self.dev.url)
            line += "" if "--token-file" in line else " --token-file -"
        return subprocess.run(
            ["/bin/sh", "-c", line],
            cwd=self.directory,
            env=self.environ,
            input=(self.dev.data / "dev.token").read_text() if "optio login" in line else "",
            capture_output=True,
            text=True,
            timeout=90,
        )


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(tmp_path_factory.mktemp("world"))
    for name, text in (
        ("params.yaml", "WHO: file\n"),
        ("name.txt", "you"),
        ("payload.json", '{"who": "you"}'),
        ("crontab.txt", CRONTAB),
        ("mcp.json", '{"mcpServers": {"wiki": {"type": "http", "url": "https://wiki.example.org/mcp"}}}'),
    ):
        (made.directory / name).write_text(text)
    git = "git -c user.name=me -c user.email=me@example.org"
    assert made.sh(f"optio init && git init -q -b main && {git} commit -q --allow-empty -m one").returncode == 0
    (made.dev.tasks / "report.yaml").write_text(REPORT)
    done = made.sh(f"git checkout -q -b feature && git add tasks.d && {git} commit -q -m two")
    assert done.returncode == 0, done.stderr
    try:
        made.dev.start()
        made.dev.until_served("report")
        yield made
    finally:
        made.dev.stop()


@pytest.mark.parametrize("line", [line for line, _ in EXAMPLES if line.split()[1] not in SERVING])
def test_an_example_runs(world: World, line: str) -> None:
    if line.startswith("optio rerun"):  # an example before it may have started the run
        world.dev.until_ended(world.dev.get("/api/runs?task=hello&limit=1").json["items"][0]["id"])

    done = world.sh(line)

    # An editor that goes away without a word is the only end of `lsp` that has another code.
    assert done.returncode == (1 if line == "optio lsp" else 0), done.stdout + done.stderr


@pytest.mark.parametrize("line", [line for line, _ in EXAMPLES if line.split()[1] in SERVING])
def test_an_example_that_serves_serves_until_a_signal(world: World, line: str, tmp_path: Path) -> None:
    environ = {
        **world.environ,
        "OPTIO_DATA_DIR": str(tmp_path),
        "OPTIO_PORT": str(free_port()),
        "OPTIO_GATEWAY_PORT": str(free_port()),
    }
    if line.split()[1] != "dev":
        assert forked.run(["token", "create", "--role", "admin"], world.directory, environ).returncode == 0
    log = tmp_path / "said"
    with log.open("wb") as out:
        process = subprocess.Popen(["/bin/sh", "-c", f"exec {line}"], cwd=world.directory, env=environ, stdout=out, stderr=out)
    try:
        eventually(lambda: BEGUN.search(log.read_text()), within=60, what=f"the start of {line}")
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0, log.read_text()
    finally:
        process.terminate()
        process.wait()


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_and_ends_with_one_to_three_examples(shell: Shell, command: str) -> None:
    done = shell(command, "--help")

    helped = done.stdout
    assert done.returncode == 0
    assert helped.startswith(f"usage: optio {command}")
    examples = helped.partition("\nexamples:\n")[2].splitlines()
    assert 1 <= len(examples) <= 3
    assert all(re.fullmatch(r"  (\w+=\S+ )?optio \S.*  # .+", line) for line in examples)
    assert shell("help", command).stdout == helped


def test_a_verb_has_its_own_examples(shell: Shell) -> None:
    assert shell("runs", "why", "--help").stdout.endswith(
        "\nexamples:\n  optio runs why hello@latest  # why a task's newest run waits, or how it ended\n"
    )


def test_the_overview_groups_commands_by_what_they_are_for(shell: Shell) -> None:
    lines = shell("--help").stdout.splitlines()

    assert [line.removesuffix(":") for line in lines if line.endswith(":")] == [*GROUPS.values()]
    assert [line.split()[0] for line in lines if line.startswith("  ")] == [*COMMANDS]


def test_the_version_is_a_command_too(shell: Shell) -> None:
    assert shell("version").stdout == shell("--version").stdout == shell("-V").stdout
