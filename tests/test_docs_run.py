"""The pages work as they are written: each is done from top to bottom in an empty directory, as its reader would do it."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pages import BLOCKS, Block, is_plan, of, place
from tests.stub_model import StubModel
from tests.support import CLAUDE, NODE_TOOLS, ROOT, Dev, eventually

# These need Docker, a cluster, an editor, or root: test_docs.py parses their commands.
NOT_RUN = {
    "README.md",
    "docs/operating/alerts.md",
    "docs/operating/upgrade.md",
    *(f"docs/guides/{name}.md" for name in ("compose", "cluster", "editors", "systemd")),
}
# These speak of a server that is there.
SERVED = {f"docs/{name}.md" for name in ("reference/events", "reference/http", "reference/signatures", "operating/audit")}
RUN = sorted({block.page for block in of("sh") if block.page.startswith("docs/")} - NOT_RUN)
SCAN = """\
name: Scan
agentRuntime: command
command: ["/bin/cat"]
promptTemplate: "{{REPO}}"
triggers:
  - type: webhook
    config:
      path: security-scan
      secret: {name: SCAN_SECRET}
      paramMapping: {REPO: $.repository.name}
"""


class Walk:
    """A directory in which a page is done: files are written, commands run, and a `text` block is what the commands before it
    print. `optio dev` goes on in the background, as in another terminal."""

    def __init__(self, directory: Path, model: StubModel) -> None:
        self.directory = directory
        self.dev = Dev(
            directory,
            environ={
                "OPTIO_TASKS": "tasks.d",
                "OPTIO_DATA_DIR": ".optio",
                "OPTIO_ANTHROPIC_BASE_URL": model.url,
                "OPTIO_PROGRAM_CLAUDE_CODE": str(CLAUDE),
                # What a reader has who sets nothing.
                "OPTIO_SANDBOX": "landlock",
            },
        )
        self.dev.tasks.rmdir()
        self.dev.data = directory / ".optio"
        self.said = ""
        program = directory / "bin" / "optio"
        program.parent.mkdir()
        programs = {"optio": " -m optio", "python": "", "openapi-python-client": " -m openapi_python_client"}
        for name, arguments in programs.items():
            program.with_name(name).write_text(f'#!/bin/sh\nexec {sys.executable}{arguments} "$@"\n')
            program.with_name(name).chmod(0o755)
        (directory / "node_modules").symlink_to(NODE_TOOLS)
        self.environ = {**self.dev.environment(), "PATH": f"{program.parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}

    def prepare(self) -> None:
        """Have what a page of a running server takes for granted: a task, a webhook, a token and a run."""
        self.shell("optio init\nmkdir -p .optio/secrets\nprintf choose-your-own > .optio/secrets/SCAN_SECRET\noptio dev\n")
        self.write(Block("yaml", "tasks.d/scan.yaml", SCAN, "", 0))
        self.environ |= {"OPTIO_URL": self.dev.url, "OPTIO_TOKEN": (self.dev.data / "dev.token").read_text().strip()}
        self.environ["RUN"] = self.shell("optio run hello -o name --wait >/dev/null\noptio runs list -o name\n").strip()

    def do(self, block: Block) -> None:
        if block.title:
            self.write(block)
        elif block.language == "sh":
            self.said = self.shell(block.text)
        elif block.language == "text" and not is_plan(block):
            assert self.said.strip() == block.text.strip(), place(block)

    def write(self, block: Block) -> None:
        target = self.directory / block.title
        target.parent.mkdir(parents=True, exist_ok=True)
        before = len(self.heard())
        target.write_text(block.text)
        if self.dev.process is not None and block.title.startswith("tasks.d/"):
            eventually(lambda: f" {target.stem}" in self.heard()[before:], what=f"{block.title} to be served")

    def heard(self) -> str:
        return self.dev.output.read_text() if self.dev.process is not None else ""

    def shell(self, text: str) -> str:
        """Run a block, and return what it prints."""
        said = []
        for part in re.split(r"^(.*\boptio dev)$\n", text, flags=re.M):
            if re.search(r"\boptio dev$", part):
                self.serve(part)
            elif part:
                said.append(self.run(part))
        return "".join(said)

    def run(self, script: str) -> str:
        done = subprocess.run(
            ["sh", "-ec", script.replace(":8000", f":{self.dev.port}")],
            cwd=self.directory,
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
        return done.stdout

    def serve(self, line: str) -> None:
        with self.dev.output.open("ab") as out:
            self.dev.process = subprocess.Popen(
                ["sh", "-ec", line.replace("optio dev", "exec optio dev")],
                cwd=self.directory,
                env=self.environ,
                stdout=out,
                stderr=out,
            )
        eventually(lambda: "stop  Ctrl-C" in self.heard(), within=60, what="`optio dev` to serve")


@pytest.fixture
def walk(tmp_path: Path, scripted_model: StubModel) -> Iterator[Walk]:
    made = Walk(tmp_path, scripted_model)
    yield made
    made.dev.stop()


@pytest.mark.parametrize("page", RUN)
def test_a_page_works_as_it_is_written(page: str, walk: Walk) -> None:
    if page in SERVED:
        walk.prepare()

    for block in BLOCKS:
        # The commands that install are compared with the lock file by test_docs.py.
        if block.page == page and ".venv/bin/pip" not in block.text:
            walk.do(block)


def test_most_pages_with_commands_are_run() -> None:
    assert len(RUN) >= 15
    assert set(RUN) > SERVED
    assert {path for path in NOT_RUN if not (ROOT / path).exists()} == set()


def test_a_page_whose_output_differs_is_found(walk: Walk) -> None:
    walk.do(Block("sh", "", "echo right\n", "x.md", 1))
    walk.do(Block("text", "", "right\n", "x.md", 2))

    with pytest.raises(AssertionError):
        walk.do(Block("text", "", "wrong\n", "x.md", 3))
    with pytest.raises(AssertionError):
        walk.do(Block("sh", "", "false\ntrue\n", "x.md", 4))
