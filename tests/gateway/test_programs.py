"""MCP servers that are programs: confined as agents are, bounded in all that they say, and gone with their session."""

import contextlib
import json
import os
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest

from optio.gateway import tool_servers
from optio.runs.gateway_access import GatewayRoute
from optio.wiring import Services
from tests.gateway.scripted_tools import TOKEN
from tests.gateway.support import PYTHON, SCRIPT, ToolCaller, connection, gateway, transport_of
from tests.runs.support import opened
from tests.support import Dev, eventually, free_port

# What every agent has, and a program too.
USUAL = {"PATH", "HOME", "TMPDIR", "LANG", "TERM", "NO_COLOR"}
CANARY = "gateway-canary-0123456789"
ENVIRON = {"OPTIO_SECRET_TOOLS_TOKEN": TOKEN, "OPTIO_SANDBOX": "namespaces", "OPTIO_SANDBOX_READ": str(SCRIPT)}


@pytest.fixture(params=["namespaces"])
def services(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Services]:
    open_way(tmp_path)
    with opened(tmp_path, {**ENVIRON, "OPTIO_SANDBOX": request.param}) as made, gateway(made) as led:
        yield led


def open_way(directory: Path) -> None:
    """Let the users of a pool pass to a directory of pytest's."""
    for each in (directory, *directory.parents[:3]):
        each.chmod(each.stat().st_mode | 0o011)


@pytest.fixture
def mark() -> str:
    """A value by which the processes of a test are found."""
    return uuid.uuid4().hex


def caller(services: Services, mark: str, mode: str = "", **fields: Any) -> ToolCaller:
    return ToolCaller(services, tools=connection(transport_of("stdio", mode=mode, MARK=mark), **fields))


def processes(mark: str) -> list[int]:
    """The processes with this mark in their environment."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            found += [int(pid)] if mark.encode() in Path(f"/proc/{pid}/environ").read_bytes() else []
        except OSError:
            continue
    return found


def until_gone(mark: str) -> None:
    eventually(lambda: not processes(mark), within=10, what="the end of the program's processes")


def left(services: Services) -> list[str]:
    return [name for name in os.listdir(services.settings.data_dir / "attempts") if name.startswith("attached")]


every_sandbox = pytest.mark.parametrize("services", ["namespaces", "bwrap", "landlock"], indirect=True)


@every_sandbox
def test_a_program_has_its_own_variables_and_nothing_of_the_gateway(
    services: Services, mark: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GATEWAY_CANARY", CANARY)
    secret = services.settings.data_dir / "canary"
    secret.write_text(CANARY)
    agent = caller(services, mark)

    _, env = agent.call("env")
    variables = json.loads(env.removeprefix("env: "))

    assert set(variables) - {"PWD", "SHLVL", "_", "OLDPWD"} == {"TOKEN", "MODE", "MARK", *USUAL}
    assert variables["TOKEN"] == "***"
    assert CANARY not in env
    for path in (
        secret,
        services.settings.data_dir / "optio.db",
        f"/proc/{os.getpid()}/environ",
        f"/proc/{os.getppid()}/environ",
    ):
        assert agent.call("read", str(path))[1] in ("read: PermissionError", "read: FileNotFoundError")


def test_a_program_sees_no_processes_but_its_own(services: Services, mark: str) -> None:
    assert len(json.loads(caller(services, mark).call("processes")[1].removeprefix("processes: "))) <= 2


@pytest.mark.parametrize("services", ["none"], indirect=True)
def test_without_a_sandbox_a_program_runs_as_agents_do(services: Services, mark: str) -> None:
    agent = caller(services, mark, "stubborn")

    assert agent.call("echo", "ping") == (False, "echo: ping")
    eventually(lambda: len(processes(mark)) >= 4, what="the program and its children")


def test_each_attempt_has_a_program_of_its_own_until_the_gateway_stops(tmp_path: Path, mark: str) -> None:
    with opened(tmp_path, ENVIRON) as made:
        with gateway(made) as led:
            agents = [caller(led, mark) for _ in range(2)]
            for agent in (*agents, *agents):
                assert agent.call("echo", "ping") == (False, "echo: ping")
            assert len(processes(mark)) == 2
            assert len(left(led)) == 2
        assert processes(mark) == []
        assert left(made) == []


@every_sandbox
def test_a_program_that_ignores_signals_and_its_children_end_with_the_session(
    services: Services, mark: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tool_servers, "_IDLE_S", 3.0)
    agent = caller(services, mark, "stubborn")

    assert agent.call("echo", "ping") == (False, "echo: ping")
    eventually(lambda: len(processes(mark)) >= 4, what="the program and its children")
    until_gone(mark)
    eventually(lambda: not left(services), within=10, what="the end of the program's directory")
    assert agent.call("echo", "again") == (False, "echo: again")


def test_a_program_that_dies_is_started_again_for_the_next_call(services: Services, mark: str) -> None:
    agent = caller(services, mark)

    assert agent.call("echo", "before") == (False, "echo: before")
    assert agent.call("die") == (True, "Optio: the connection `tools` has ended with status 137")
    assert agent.call("echo", "after") == (False, "echo: after")


def test_the_last_line_of_its_errors_says_why_a_program_does_not_start_without_its_secrets(
    services: Services, mark: str
) -> None:
    agent = caller(services, mark, "fails")

    assert agent.check() == (424, "unreachable: the connection `tools` has ended: [31mno access with *** [0m")


def test_a_program_that_says_nothing_is_given_up_with_the_last_line_of_its_errors(
    services: Services, mark: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tool_servers, "_PROGRAM_OPEN_S", 2.0)
    agent = caller(services, mark, "silent")

    message = "unreachable: the connection `tools` cannot be reached: no answer in 2 s: waiting for a sign"
    assert agent.check() == (424, message)
    until_gone(mark)


@pytest.mark.parametrize("mode", ["flood-out", "flood-notes"])
def test_a_program_that_floods_its_output_is_ended(services: Services, mark: str, mode: str) -> None:
    agent = caller(services, mark, mode)

    assert agent.check() == (424, "unreachable: the connection `tools` sends more than was asked for")
    until_gone(mark)


def test_a_line_without_an_end_is_not_read(services: Services, mark: str) -> None:
    agent = caller(services, mark, "no-line")

    assert agent.check() == (424, "unreachable: the connection `tools` answers with more than 8 MiB")
    until_gone(mark)


def test_a_program_that_floods_its_errors_waits_and_serves(services: Services, mark: str) -> None:
    agent = caller(services, mark, "flood-err")

    for number in range(5):
        assert agent.call("echo", str(number)) == (False, f"echo: {number}")


def test_more_programs_than_the_gateway_may_run_are_refused(tmp_path: Path, mark: str) -> None:
    with opened(tmp_path, {**ENVIRON, "OPTIO_GATEWAY_PROGRAMS": "1"}) as made, gateway(made) as led:
        assert caller(led, mark).check() == (200, ": ")
        message = "is a program, and 1 run already, the most by OPTIO_GATEWAY_PROGRAMS"
        assert caller(led, mark).check() == (424, f"unreachable: the connection `tools` {message}")


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["no-such-program"], "has ended: no-such-program: ENOENT"),
        (["/etc"], "has ended: /etc: EACCES"),
        ([PYTHON, "-c", "exit(3)"], "has ended with status 3"),
        (["echo", "hello"], "has ended with status 0"),
    ],
)
def test_a_program_that_is_not_one_is_named(services: Services, command: list[str], message: str) -> None:
    agent = ToolCaller(services, tools=connection({"type": "stdio", "command": command}))

    assert agent.check() == (424, f"unreachable: the connection `tools` {message}")


def test_a_program_that_the_sandbox_closes_is_named_with_the_setting(services: Services, tmp_path: Path) -> None:
    program = tmp_path / "server"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    agent = ToolCaller(services, tools=connection({"type": "stdio", "command": [str(program)]}))

    status, text = agent.check()

    assert status == 424
    assert f"cannot be started: the sandbox (namespaces) does not let an agent execute {program}" in text


@pytest.mark.parametrize("sandbox", ["namespaces", "landlock", "none"])
def test_a_gateway_that_is_killed_leaves_no_process(tmp_path: Path, mark: str, sandbox: str) -> None:
    port = free_port()
    environ = {**ENVIRON, "OPTIO_SANDBOX": sandbox}
    open_way(tmp_path)
    running = Dev(tmp_path, environ={**environ, "OPTIO_GATEWAY_PORT": str(port)}, command="gateway")
    with opened(tmp_path, environ) as made:
        running.start(ready=False)
        agent = caller(replace(made, gateway=GatewayRoute(f"http://127.0.0.1:{port}", "required")), mark, "stubborn")
        eventually(lambda: is_answered(port), within=60, what="an answer of the gateway")
        assert agent.call("echo", "ping") == (False, "echo: ping")
        eventually(lambda: len(processes(mark)) >= 4, what="the program and its children")

        running.kill()

        until_gone(mark)
        eventually(lambda: not left(made), within=10, what="the end of the program's directory")


def is_answered(port: int) -> bool:
    with contextlib.suppress(httpx2.HTTPError):
        return httpx2.get(f"http://127.0.0.1:{port}/healthz").status_code == 200
    return False
