"""Clients that are generated from the API's description work with a server and a worker: those that the manual shows."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pages import of
from tests.support import COMMAND_TASK, Dev, tool

PAGE = "docs/reference/http.md"
REPORT = """\
import json, os
with open(os.environ["OPTIO_RESULT_FILE"], "a") as file:
    for line in ({"type": "usage", "model": "m", "input": 9, "costUsd": "0.0123"}, {"type": "result", "status": "ok"}):
        file.write(json.dumps(line) + "\\n")
"""
# What makes mypy and tsc fail, so that the types are known to be looked at.
MISSPELT = {"follow.py": ("run.cost_usd", "run.costs_usd"), "follow.mts": ("run.costUsd", "run.costsUsd")}


class Reader:
    """Somebody who does what the page says beside a server and a worker, each a process of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.server, self.worker = Dev(directory, command="server"), Dev(directory, command="worker")
        token = self.server.cli("token", "create", "--role", "operator").stdout.strip()
        (directory / "report.py").write_text(REPORT)
        command = f'["{sys.executable}", "{directory}/report.py"]'
        self.server.write("paid.yaml", COMMAND_TASK.format(name="Paid", command=command))
        self.environ = {
            **os.environ,
            "OPTIO_URL": self.server.url,
            "OPTIO_TOKEN": token,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }
        (directory / "node_modules").symlink_to(tool("clients/node_modules"))
        self.server.start()
        self.worker.start(ready=False)

    def stop(self) -> None:
        self.worker.stop()
        self.server.stop()

    def run(self, command: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            ["sh", "-ec", command], cwd=self.directory, env=self.environ, capture_output=True, text=True, timeout=120
        )

    def do(self, command: str) -> str:
        done = self.run(command)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def page(self, word: str) -> str:
        """Do the blocks of the page that have this word, with the task `paid`, and return what the last of them prints."""
        blocks = [block for block in of("sh") if block.page == PAGE and word in block.text]
        return [self.do(block.text.replace("hello", "paid")) for block in blocks][-1]

    def write(self, name: str) -> None:
        """The program of the page, and beside it the one with a mistake."""
        (block,) = [
            block for language in ("python", "ts") for block in of(language) if (block.page, block.title) == (PAGE, name)
        ]
        assert MISSPELT[name][0] in block.text
        (self.directory / name).write_text(block.text)
        (self.directory / f"misspelt_{name}").write_text(block.text.replace(*MISSPELT[name]))


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    made = Reader(tmp_path_factory.mktemp("clients"))
    made.page("-o openapi.json")
    yield made
    made.stop()


def test_a_python_client_starts_a_run_follows_it_and_reads_its_cost_by_typed_fields(reader: Reader) -> None:
    reader.page("openapi-python-client")
    reader.write("follow.py")

    # The generated package is read for its types, and its own style is its generator's.
    checked = reader.run(
        "python -m mypy --strict --follow-imports silent --cache-dir /dev/null follow.py misspelt_follow.py"
    ).stdout
    assert re.fullmatch(
        r'misspelt_follow\.py:.*"RunDetails" has no attribute "costs_usd".*\nFound 1 error in 1 file .*\n', checked
    )
    assert reader.page("python follow.py") == "completed 0.0123\n"
    refused = reader.run("python follow.py nothing")
    assert (refused.returncode, refused.stderr) == (1, "urn:optio:problem:not-found: no task `nothing`\n")


def test_a_typescript_program_is_checked_against_the_types_of_the_description_and_follows_a_run(reader: Reader) -> None:
    reader.page("npx openapi-typescript")
    reader.write("follow.mts")
    (block,) = [block.text for block in of("sh") if "npx tsc" in block.text]
    check, run = block.replace("hello", "paid").splitlines()

    checked = reader.run(check.replace("follow.mts", "follow.mts misspelt_follow.mts"))
    assert checked.returncode != 0
    assert re.fullmatch(r"misspelt_follow\.mts.*Property 'costsUsd' does not exist.*\n", checked.stdout)
    assert reader.do(run) == "completed 0.0123\n"
