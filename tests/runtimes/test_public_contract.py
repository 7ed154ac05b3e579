"""Our own runtimes pass the contract that runtimes of other packages are given."""

from pathlib import Path
from typing import ClassVar

import pytest

from optio.model.usage import Usage
from optio.runtimes import RUNTIMES
from optio.runtimes.contract import Recording, RuntimeContract

PLAIN, TOOL = Usage(fresh=1200, cached=300, output=40), Usage(fresh=2400, cached=600, output=80)
EXPECTED = {
    "plain": ("ok", 0, PLAIN),
    "tool": ("ok", 0, TOOL),
    "tool-fail": ("ok", 0, TOOL),
    "error-401": ("auth", 1, None),
    "late-500": ("server_error", 1, None),
}


def recordings(agent: str) -> tuple[Recording, ...]:
    directory = Path(__file__).parent / agent.replace("-", "_")

    def recording(name: str, reason: str, code: int, usage: Usage | None) -> Recording:
        files = {"side": f"{name}.side.ndjson", "telemetry": f"{name}.telemetry.json"}
        streams = {stream: (directory / file).read_bytes() for stream, file in files.items() if (directory / file).exists()}
        return Recording(name, reason, code=code, usage=usage, stdout=(directory / f"{name}.ndjson").read_bytes(), **streams)

    return tuple(recording(name, *expected) for name, expected in EXPECTED.items())


@pytest.fixture(autouse=True, params=[name for name in RUNTIMES if name != "command"])
def agent(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if request.instance is not None:
        request.instance.runtime, request.instance.recordings = RUNTIMES[name], recordings(name)
    return name


class TestAgents(RuntimeContract):
    task: ClassVar = {"model": "any/claude-sonnet-4-5"}
