"""One server for all commands that need one, and a command line in an empty directory for those that do not."""

import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests import forked
from tests.support import ROOT, Dev

ECHO = """\
type: standalone
name: Echo
agentRuntime: command
command: ["/bin/cat"]
promptTemplate: "Hello, {{WHO}}!"
paramsSchema:
  type: object
  properties:
    WHO: {type: string, default: world, maxLength: 20}
  additionalProperties: false
"""
FAILING = """\
type: standalone
name: Failing
agentRuntime: command
command: ["/bin/sh", "-c", "echo before the end; exit 3"]
promptTemplate: "x"
maxRetries: 0
"""
SLOW = """\
type: standalone
name: Slow
agentRuntime: command
command: ["/bin/sh", "-c", "echo begun; exec sleep 60"]
promptTemplate: "x"
maxConcurrent: 1
"""
ESCAPES = """\
type: standalone
name: Escapes
agentRuntime: command
command: ["/bin/sh", "-c", "printf 'a\\\\033[31mred\\\\n'"]
promptTemplate: "x"
"""


@pytest.fixture(scope="package")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dev]:
    """A real `optio dev` with a few command tasks."""
    process = Dev(tmp_path_factory.mktemp("cli"), environ={"OPTIO_MAX_WORKFLOW_CONCURRENT": "20"})
    for name, text in {"echo": ECHO, "failing": FAILING, "slow": SLOW, "escapes": ESCAPES}.items():
        process.write(f"{name}.yaml", text)
    process.start()
    yield process
    process.stop()


class Shell:
    """`optio` in a directory of its own, without any setting from outside."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        clean = {k: v for k, v in os.environ.items() if not k.startswith("OPTIO_")}
        return {**clean, "PYTHONPATH": str(ROOT), "XDG_CONFIG_HOME": str(self.directory / "config"), **(more or {})}

    def __call__(
        self, *arguments: str, environ: Mapping[str, str] | None = None, stdin: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        return forked.run(arguments, self.directory, self.environment(environ), (stdin or "").encode())

    def write(self, path: str, text: str) -> Path:
        target = self.directory / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        return target


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)
