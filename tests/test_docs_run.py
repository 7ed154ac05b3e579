"""The pages work as they are written: each is done from top to bottom in an empty directory, as its reader would do it."""

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tests import forked
from tests.pages import BLOCKS, Block, is_plan, of, place
from tests.stub_model import StubModel
from tests.support import CLAUDE, ROOT, Dev, eventually

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
                "OPTIO_GATEWAY_PORT": "0",
                # What a reader has who sets nothing.
                "OPTIO_SANDBOX": "namespaces",
            },
        )
        self.dev.tasks.rmdir()
        self.dev.data = directory / ".optio"
        self.said = ""
        program = directory / "bin" / "optio"
        program.parent.mkdir()
        forked.put_program(program)
        program.with_name("python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
        program.with_name("python").chmod(0o755)
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
        eventually(lambda: "Ctrl-C" in self.heard(), within=60, what="`optio dev` to serve")


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
        # test_docs.py compares the commands that install with the lock file, stories/test_clients.py makes the clients, and
        # runtimes/test_real_replay.py repeats runs.
        words = (".venv/bin/pip", "openapi", "follow.", "--replay", "its recording")
        is_done_there = any(word in block.title + block.text for word in words)
        if block.page == page and not is_done_there:
            walk.do(block)


class Forge(BaseHTTPRequestHandler):
    """A forge that takes comments of one token."""

    token = "forge-token-1"
    seen: ClassVar[list[tuple[str, Any]]] = []

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        known = self.headers["Authorization"] == f"Bearer {self.token}"
        if known:
            self.seen.append((self.path, body))
        answer = json.dumps(body if known else {"message": "the token may not write comments"}).encode()
        self.send_response(201 if known else 403)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)


def test_the_comment_of_the_page_reaches_a_forge_and_a_refused_one_fails_the_run(
    walk: Walk, scripted_model: StubModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, payload, _ = (b for b in BLOCKS if b.page == "docs/guides/answer-on-issue.md" and b.title.startswith("tasks.d/"))
    with ThreadingHTTPServer(("127.0.0.1", 0), Forge) as forge:
        threading.Thread(target=forge.serve_forever, daemon=True).start()
        api, model = f"http://127.0.0.1:{forge.server_port}", scripted_model.url
        text = task.text.replace("env: {", f'env: {{ANTHROPIC_BASE_URL: "{model}", ').replace("https://api.github.com", api)
        opened = json.dumps([each.removeprefix("http://") for each in (model, api)])
        text = text.replace("[api.anthropic.com, api.github.com]", opened)
        walk.write(task._replace(text=text))
        walk.write(payload)
        walk.environ |= {
            "PATH": f"{CLAUDE.parent}:{walk.environ['PATH']}",
            "OPTIO_SANDBOX_READ": str(CLAUDE.parent.parent.resolve()),
        }
        put = "printf %s {} > .optio/secrets/{}\n".format
        walk.shell(
            "install -d -m 700 .optio .optio/secrets\n"
            + put("choose-your-own", "GITHUB_ISSUES_SECRET")
            + put("sk-ant-1234567890", "ANTHROPIC_API_KEY")
            + put("forge-token-1", "FORGE_TOKEN")
            + "optio dev\n"
        )
        walk.shell("optio hook send issue-triage tasks.d/opened.json --event issues --wait\n")
        (path, comment), cost = Forge.seen.pop(), json.loads(walk.shell("optio runs show @latest --json\n"))["costUsd"]

        monkeypatch.setattr(Forge, "token", "another")
        with pytest.raises(AssertionError, match="403"):
            walk.shell("optio hook replay @latest --yes --again >/dev/null\noptio runs logs @latest -f\nfalse\n")
        forge.shutdown()

    assert path == "/repos/acme/storefront/issues/7/comments"
    assert list(comment) == ["body"]
    assert comment["body"]
    assert float(cost) > 0
    assert Forge.seen == []


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
