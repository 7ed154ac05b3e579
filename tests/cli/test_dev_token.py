"""Who may use `optio dev`: the user who started it, and nobody else of the machine."""

import os
import pty
import re
import signal
import socket
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from optio.cli.shared import client, dev_token
from optio.errors import SettingsError
from optio.settings import Settings
from tests import forked
from tests.cli.conftest import ECHO
from tests.support import ROOT, Dev, as_nobody, directory_open_to_all, eventually, free_port

NOBODY = 65534
AS_NOBODY = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
ROUTES = [
    *(
        ("GET", path)
        for path in ("/api/tasks", "/api/runs", "/api/registry", "/api/diagnostics", "/api/deliveries", "/metrics")
    ),
    *(("GET", path) for path in ("/schema", "/schema/openapi.json", "/api/pools", "/api/tasks/echo", "/api/tasks/echo/runs")),
    ("POST", "/api/tasks"),
    ("POST", "/api/tasks/echo/runs"),
    ("PATCH", "/api/tasks/echo"),
    ("DELETE", "/api/tasks/echo"),
    ("POST", "/api/tasks/echo/pause"),
]


@pytest.fixture(scope="module")
def echoing() -> Iterator[Dev]:
    """An `optio dev` in a directory that every user may enter, under a umask that forbids nothing."""
    with directory_open_to_all() as directory:
        made = Dev(directory)
        made.write("echo.yaml", ECHO)
        made.data.mkdir(mode=0o755)
        made.start()
        yield made
        made.stop()


@AS_NOBODY
def test_another_user_of_the_machine_gets_401_from_every_route_and_cannot_read_the_token(echoing: Dev) -> None:
    open_routes = [("GET", "/healthz"), ("GET", "/readyz")]

    def ask() -> list[object]:
        return [_status(echoing, *route) for route in ROUTES + open_routes] + [os.access(echoing.data / "dev.token", os.R_OK)]

    assert as_nobody(ask) == [401] * len(ROUTES) + [200] * len(open_routes) + [False]


def _status(dev: Dev, method: str, path: str) -> int:
    return dev.request(method, path, {} if method in ("POST", "PATCH") else None).status


def test_an_address_that_other_machines_reach_needs_the_token_too(tmp_path: Path) -> None:
    made = Dev(tmp_path, environ={"OPTIO_HOST": "0.0.0.0"})
    made.start()
    try:
        answers = [made.get("/api/tasks").status, made.get("/api/tasks", Authorization="").status]
        done = made.cli("runs", "list")
    finally:
        made.stop()

    assert answers == [200, 401]
    assert done.returncode == 0, done.stderr


def test_a_request_without_the_token_starts_nothing(echoing: Dev) -> None:
    before = len(echoing.get("/api/runs").json["items"])

    answer = echoing.request("POST", "/api/tasks/echo/runs", headers={"Authorization": ""})

    assert answer.status == 401
    assert len(echoing.get("/api/runs").json["items"]) == before


def test_live_logs_need_the_token_over_a_socket_and_as_events(echoing: Dev) -> None:
    run_id = echoing.post("/api/tasks/echo/runs").json["runId"]
    echoing.until_ended(run_id)
    path = f"/ws/workflow-runs/{run_id}/logs"

    with pytest.raises(InvalidStatus) as refused:
        connect(f"ws://127.0.0.1:{echoing.port}{path}")
    with connect(f"ws://127.0.0.1:{echoing.port}{path}", additional_headers=echoing.credentials) as live:
        _, first = live.recv(timeout=20), live.recv(timeout=20)
    without = echoing.get(f"/api/workflow-runs/{run_id}/logs", Accept="text/event-stream", Authorization="Bearer x")
    events = echoing.get(f"/api/workflow-runs/{run_id}/logs", Accept="text/event-stream")

    assert refused.value.response.status_code == 401
    assert "Hello, world!" in str(first)
    assert (without.status, events.status) == (401, 200)
    assert b"event: end" in events.body


def test_the_token_is_in_a_file_of_mode_0600_while_dev_runs_and_is_another_one_each_time(tmp_path: Path) -> None:
    made = Dev(tmp_path)
    file = made.data / "dev.token"
    seen = []
    for _ in range(2):
        made.start()
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        seen.append(file.read_text())
        assert made.get("/api/tasks").status == 200
        assert made.stop() == 0
        assert not file.exists()

    assert seen[0] != seen[1]
    made.start()
    assert made.get("/api/tasks", Authorization=f"Bearer {seen[0].strip()}").status == 401
    made.stop()


def test_the_command_line_finds_the_token_by_itself(echoing: Dev) -> None:
    done = echoing.cli("run", "echo", "-p", "WHO=you", "--wait")

    assert (done.returncode, done.stdout) == (0, "Hello, you!\n"), done.stderr


def test_a_token_that_is_given_is_sent_instead(echoing: Dev) -> None:
    done = echoing.cli("runs", "list", "--token", "optio_other")

    assert done.returncode == 1
    assert "not known" in done.stderr


def test_the_token_stands_neither_in_the_output_nor_in_the_log_nor_in_what_a_run_gets(echoing: Dev) -> None:
    echoing.write("env.yaml", ECHO.replace("Echo", "Env").replace('["/bin/cat"]', '["/usr/bin/env"]'))
    echoing.until_served("env")

    done = echoing.cli("run", "env", "--wait")

    token = echoing.credentials["Authorization"].removeprefix("Bearer ")
    assert "OPTIO_RUN_ID" in done.stdout
    assert token not in done.stdout
    assert token not in echoing.output.read_text()
    assert str(echoing.data / "dev.token") in echoing.output.read_text()


def test_on_a_terminal_the_links_carry_the_token_and_lead_to_the_same_address_with_a_cookie(tmp_path: Path) -> None:
    made = Dev(tmp_path)
    ours, theirs = pty.openpty()
    process = forked.start(["dev"], ROOT, made.environment(), (theirs, theirs, theirs))
    os.close(theirs)
    shown = b""
    try:
        while b"Ctrl-C" not in shown:
            shown += os.read(ours, 65536)
        links = re.findall(r"http://\S+\?token=\S+", shown.decode())
        assert len(links) == 3
        assert re.search(r"  dashboard +http://127\.0\.0\.1:\d+/\?token=", shown.decode())
        eventually(lambda: made.data.joinpath("dev.token").exists() and _answers(made), within=60, what="the server")
        for link in links:
            done = subprocess.run(
                ["curl", "-sL", "-c", "/dev/null", "-w", "%{http_code} %{url_effective}", "-o", "/dev/null", link],
                capture_output=True, text=True, timeout=60,
            )  # fmt: skip
            address = link.partition("?")[0]
            assert done.stdout == f"200 {address}" + ("tasks" if address.endswith("/") else "")
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)
        os.close(ours)


def _answers(dev: Dev) -> bool:
    try:
        return dev.get("/readyz").status == 200
    except OSError:
        return False


# The file, as the command line sees it


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings of a data directory whose `optio dev` runs on port 8000."""
    made = Settings.load({"OPTIO_DATA_DIR": str(tmp_path / "data")})
    made.data_dir.mkdir()
    return made


def test_the_token_is_for_the_server_of_this_data_directory_alone(settings: Settings) -> None:
    with dev_token.issue(settings, 8000) as token:
        data = str(settings.data_dir)
        places = {
            "here": {},
            "by name": {"OPTIO_URL": "http://localhost:8000"},
            "another port": {"OPTIO_PORT": str(free_port())},
            "another machine": {"OPTIO_URL": "http://optio.example:8000"},
            "another directory": {"OPTIO_DATA_DIR": f"{data}-other"},
        }
        found = {name: dev_token.find(Settings.load({"OPTIO_DATA_DIR": data, **more})) for name, more in places.items()}

    assert {name for name, each in found.items() if each == token} == {"here", "by name"}
    assert {each for name, each in found.items() if each != token} == {None}
    assert dev_token.find(settings) is None


@pytest.mark.parametrize("mode", [0o660, 0o602])
def test_a_token_file_that_others_may_write_is_refused(settings: Settings, mode: int) -> None:
    with dev_token.issue(settings, 8000):
        dev_token.token_file(settings).chmod(mode)

        with pytest.raises(SettingsError, match="may write the token file"):
            dev_token.find(settings)


@AS_NOBODY
def test_a_token_file_of_another_user_is_refused(settings: Settings) -> None:
    with dev_token.issue(settings, 8000):
        os.chown(dev_token.token_file(settings), NOBODY, NOBODY)

        with pytest.raises(SettingsError, match="is not yours"):
            dev_token.find(settings)


def test_a_link_in_the_place_of_the_token_file_is_not_followed(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "other").write_text("optio_dev_8000_" + "x" * 43)
    dev_token.token_file(settings).symlink_to(tmp_path / "other")

    with pytest.raises(SettingsError, match="cannot be read"):
        dev_token.find(settings)

    with dev_token.issue(settings, 8000) as token:
        assert dev_token.find(settings) == token
    assert (tmp_path / "other").read_text().endswith("x")


def test_a_proxy_of_the_environment_is_not_asked_and_does_not_get_the_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.getsockname()[1]}")
        server = client.Client(Settings.load({"OPTIO_PORT": str(free_port()), "OPTIO_DATA_DIR": str(tmp_path)}))
        with pytest.raises(client.ServerRefused, match="no server answers"):
            server.request("GET", "/api/registry")
        proxy.settimeout(0.1)
        with pytest.raises(TimeoutError):
            proxy.accept()
