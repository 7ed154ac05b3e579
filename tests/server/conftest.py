"""A served application, and the command line beside it."""

import io
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

import optio.cli
from tests.server.api import JOB, Api
from tests.support import Dev

Command = Callable[..., "CompletedProcess[str]"]


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Callable[..., Api]]:
    """Makes servers, each on a data directory of its own."""
    made: list[Api] = []

    def make(**options: Any) -> Api:
        made.append(Api(tmp_path / str(len(made)), **options))
        return made[-1]

    yield make
    for api in made:
        api.close()


@pytest.fixture
def api(served: Callable[..., Api]) -> Api:
    """A server that serves the task `job`; requests bear its token."""
    made = served()
    made.serve_task(JOB)
    return made


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """`Dev.cli`, but in this process: the start of a command takes ten times as long as what most commands then do."""

    def run(dev: Dev, *arguments: str, input: bytes = b"") -> "CompletedProcess[str]":
        for name, value in dev.environment().items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(input)))
        code = optio.cli.invoke(list(arguments))
        return CompletedProcess(arguments, code, *capsys.readouterr())

    return run
