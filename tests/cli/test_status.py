"""`optio status`: the table for people, and where it looks. Real processes are in `tests/stories/test_fleet.py`."""

import http.server
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from optio.cli.status import text
from tests.cli.conftest import Shell
from tests.support import free_port

AT = "2026-01-05T12:00:00.000Z"


def process(kind: str, **facts: Any) -> dict[str, Any]:
    known = {"name": kind, "host": "box", "pid": 7, "version": "1.2.0", "startedAt": "2026-01-05T10:00:00.000Z", "seenAt": AT}
    empty = {"live": True, "running": 0, "capacity": None, "generation": None}
    return {"kind": kind, **known, **empty, **facts}


def test_processes_stand_in_a_table_with_the_queue_and_the_problems_below() -> None:
    rows = [
        process("server", generation=3),
        process("worker", running=2, capacity=5),
        process("worker", live=False, pid=None, version=None, startedAt=None, seenAt="2026-01-05T11:58:30.000Z"),
        process("worker", live=False, seenAt=None, running=1),
    ]

    shown = text({"at": AT, "processes": rows, "queued": 1200, "running": 3, "problems": ["something is wrong: mend it"]})

    assert shown.splitlines() == [
        "KIND    HOST  PID  VERSION  STARTED      SEEN                   RUNS  GENERATION",
        "server  box     7  1.2.0    2 hours ago  0 seconds ago                         3",
        "worker  box     7  1.2.0    2 hours ago  0 seconds ago           2/5",
        "worker  box        older                 silent 90 seconds ago     0",
        "worker  box     7  1.2.0    2 hours ago  silent never              1",
        "",
        "1,200 queued, 3 running",
        "",
        "! something is wrong: mend it",
    ]


def test_without_processes_it_says_so() -> None:
    shown = text({"at": AT, "processes": [], "queued": 0, "running": 0, "problems": []})

    assert shown == "No process is running.\n\n0 queued, 0 running"


def test_without_server_and_database_it_says_that_none_answers_and_makes_none(shell: Shell) -> None:
    done = shell("status", environ={"OPTIO_PORT": str(free_port())})

    assert done.returncode == 1
    assert done.stderr.startswith("optio status: no server answers at http://127.0.0.1:")
    assert not (shell.directory / ".optio").exists()


@pytest.fixture
def older_server() -> Iterator[int]:
    """A server whose health has the parts of an older version."""

    class Answers(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps({"status": "ok", "problems": [], "at": AT, "servers": [], "workers": []}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None: ...

    server = http.server.HTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


def test_a_server_of_an_older_version_is_named_as_such(shell: Shell, older_server: int) -> None:
    done = shell("status", "--url", f"http://127.0.0.1:{older_server}")

    assert (done.returncode, done.stdout) == (2, "")
    assert f"the server at http://127.0.0.1:{older_server} is older than `optio status`: upgrade it" in done.stderr
