"""What `optio dev` says and refuses."""

import hmac
import json
import socket
import sqlite3
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from optio.broker.base import Topic
from optio.cli.shared.dev_console import RunNews
from optio.wiring import Services
from tests import forked
from tests.cli.conftest import ECHO, FAILING, Shell
from tests.runs.support import execute
from tests.support import ROOT, Dev, command_task, eventually, free_port

SIGNED = """\
name: Signed
agentRuntime: command
command: ["true"]
paramsSchema: {type: object, properties: {TITLE: {type: string}}, required: [TITLE], additionalProperties: false}
triggers:
  - type: webhook
    config:
      path: signed
      scheme: github
      secret: {name: SIGNED_SECRET}
      events: [issues]
      paramMapping: {TITLE: $.issue.title}
"""


def said(dev: Dev) -> str:
    return dev.output.read_text()


def until_said(dev: Dev, *words: str) -> str:
    eventually(lambda: all(word in said(dev) for word in words), what=f"{words} in the output")
    return said(dev)


def test_an_empty_tree_says_what_to_do(dev: Dev) -> None:
    assert "run `optio init`" in until_said(dev, "no tasks yet")


def test_a_reload_tells_what_changed_and_not_the_whole_list(dev: Dev) -> None:
    dev.write("echo.yaml", ECHO)
    dev.write("failing.yaml", FAILING)
    until_said(dev, "+ echo", "+ failing")
    before = len(said(dev))

    dev.write("echo.yaml", ECHO.replace("world", "moon"))
    until_said(dev, "~ echo")
    (dev.tasks / "echo.yaml").unlink()
    until_said(dev, "- echo")

    assert "failing" not in said(dev)[before:]


def test_a_restart_lists_the_tasks_though_nothing_has_changed(dev: Dev) -> None:
    dev.write("echo.yaml", ECHO)
    until_said(dev, "+ echo")
    dev.stop()
    before = len(said(dev))

    dev.start()

    assert said(dev)[before:].count("1 task in 1 file, generation 2\n  echo  by hand\n") == 1


def test_a_file_that_breaks_is_told_with_its_place_and_when_it_is_mended(dev: Dev) -> None:
    dev.write("echo.yaml", ECHO)
    until_said(dev, "+ echo")

    dev.write("echo.yaml", ECHO + "nme: x\n")
    until_said(
        dev,
        "! echo: its file has errors, the last error-free version is served",
        "echo.yaml:11:1: error: unknown key `nme`",
        "`name`",
    )
    dev.write("echo.yaml", ECHO)

    until_said(dev, "all errors are fixed")


def test_what_a_task_lacks_is_told_when_it_is_loaded(tmp_path: Path) -> None:
    dev = Dev(tmp_path, environ={"OPTIO_PROGRAM_CLAUDE_CODE": "/nowhere/claude", "OPTIO_SECRET_GIVEN": "x"})
    agent = 'type: standalone\nname: {}\nagentRuntime: claude-code\npromptTemplate: "x"\n'
    agent += "environment: {{secrets: [GIVEN, LACKING]}}\n"
    dev.write("first.yaml", agent.format("First"))
    dev.start()
    try:
        text = until_said(dev, "first: the secret LACKING has no value: set OPTIO_SECRET_LACKING", "npm install")
        dev.write("second.yaml", agent.format("Second"))
        until_said(dev, "second: the secret LACKING has no value")
    finally:
        dev.stop()
    assert "GIVEN" not in text


def test_a_run_is_printed_with_its_end_its_reason_and_its_page_in_the_dashboard(dev: Dev) -> None:
    dev.write("echo.yaml", ECHO)
    dev.write("failing.yaml", FAILING)
    dev.until_served("failing")

    good = dev.post("/api/tasks/echo/runs").json["runId"]
    bad = dev.post("/api/tasks/failing/runs").json["runId"]

    for run_id, words in ((good, "echo  completed"), (bad, "failing  failed (exit_code")):
        text = until_said(dev, words)
        (line,) = [line for line in text.splitlines() if words in line]
        assert line.endswith(f"  {dev.url}/runs/{run_id}")
        shown = dev.get(f"/runs/{run_id}")
        assert (shown.status, shown.headers["content-type"]) == (200, "text/html; charset=utf-8")
        assert words.split()[1] in shown.body.decode()


def test_a_webhook_that_starts_nothing_is_told_with_the_reason(dev: Dev) -> None:
    (dev.data / "secrets").mkdir(mode=0o700)
    (dev.data / "secrets" / "SIGNED_SECRET").write_text("the secret of Optio")
    dev.write("signed.yaml", SIGNED)
    dev.until_served("signed")
    body, header = json.dumps({"action": "opened", "issue": {"title": "Slow"}}).encode(), "X-Hub-Signature-256"

    def post(path: str, secret: str, body: bytes = body, **headers: str) -> int:
        signature = "sha256=" + hmac.new(secret.encode(), body, "sha256").hexdigest()
        sent = {header: signature, "Content-Type": "application/json", "X-GitHub-Event": "issues"} | headers
        request = urllib.request.Request(f"{dev.url}/api/hooks/{path}", body, sent)
        try:
            with urllib.request.urlopen(request) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as err:
            return err.code

    assert post("singed", "the secret of Optio") == 404
    assert post("signed", "the secret of the sender") == 401
    assert post("signed", "another", b"payload=x", **{"Content-Type": "application/x-www-form-urlencoded"}) == 401
    assert post("signed", "the secret of Optio", **{"X-GitHub-Event": "issue_comment"}) == 202
    assert post("signed", "the secret of Optio", b"{}") == 422

    until_said(
        dev,
        "webhook singed: not found (404): no task has this path",
        f"webhook signed: unsigned (401): the signature in `{header}` does not fit: the sender has another secret, or the body",
        "the body is a form: let the sender post `application/json`",
        "webhook signed: filtered (202): the event is `issue_comment`, and `events` has issues",
        "webhook signed: invalid (422): /params/TITLE is required and has no default: `$.issue.title` finds nothing",
    )


def test_dev_stops_with_its_code_and_without_a_word_of_trouble(dev: Dev) -> None:
    code = dev.stop()

    assert code == 0
    assert "Traceback" not in said(dev)
    assert "ERROR" not in said(dev)


def test_a_second_dev_on_one_data_directory_is_refused(dev: Dev) -> None:
    done = dev.cli("dev", "--port", str(free_port()))

    assert done.returncode == 2
    assert done.stderr.startswith("optio dev: another `optio dev` (process ")
    assert "--data-dir" in done.stderr


def test_a_port_that_is_taken_is_refused(shell: Shell) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = shell("dev", "--port", str(taken.getsockname()[1]))

    assert_refused(done, "Address already in use", "--port")


def test_a_server_without_any_token_is_refused(shell: Shell) -> None:
    assert_refused(shell("server", "--port", "0"), "optio token create")


def a_file_in_its_place(data: Path) -> None:
    data.write_text("")


def a_newer_database(data: Path) -> None:
    data.mkdir()
    with sqlite3.connect(data / "optio.db") as connection:
        connection.execute("PRAGMA user_version = 9999")
    connection.close()


def no_database(data: Path) -> None:
    data.mkdir()
    (data / "optio.db").write_bytes(b"no database at all" * 1000)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (a_file_in_its_place, "cannot be used"),
        (a_newer_database, "install the newer Optio"),
        (no_database, "file is not a database"),
    ],
)
@pytest.mark.parametrize("command", ["dev", "worker", "scheduler"])
def test_a_data_directory_that_cannot_be_used_is_one_line(
    shell: Shell, damage: Callable[[Path], None], words: str, command: str
) -> None:
    damage(shell.directory / ".optio")
    port = ("--port", "0") if command == "dev" else ()

    assert_refused(shell(command, *port), words)


def test_a_locked_database_is_one_line(shell: Shell) -> None:
    shell("token", "list")

    with locked(shell.directory / ".optio" / "optio.db"):
        done = shell("token", "create", "--role", "viewer")

    assert_refused(done, "database is locked")


@contextmanager
def locked(path: Path) -> Iterator[None]:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    yield
    connection.execute("ROLLBACK")
    connection.close()


def test_the_parts_run_as_processes_of_their_own(tmp_path: Path) -> None:
    """`server`, `worker` and `scheduler` on one data directory do what `dev` does alone."""
    server = Dev(tmp_path, command="server")
    server.write("echo.yaml", ECHO)
    token = server.cli("token", "create", "--role", "operator").stdout.strip()
    worker = forked.start_with_pipes(["worker"], ROOT, server.environment())
    try:
        server.start()

        done = server.cli("run", "echo", "--wait", "--token", token)

        refused = server.cli("run", "echo")
        assert (done.returncode, done.stdout) == (0, "Hello, world!\n"), done.stderr
        assert (refused.returncode, "Bearer" in refused.stderr) == (1, True)
    finally:
        worker.terminate()
        _, log = worker.communicate(timeout=20)
        code = server.stop()
    assert (code, worker.returncode) == (0, 0)
    assert " worker on " in log.decode()
    assert "1 tasks, 0 errors" in said(server)
    assert token not in log.decode() + said(server)
    assert "Traceback" not in log.decode() + said(server)


HOOKED = (
    'type: standalone\nname: Hooked\nagentRuntime: command\ncommand: "true"\npromptTemplate: "x"\n'
    "triggers: [{type: webhook, config: {path: hooked, secret: {name: HOOK_SECRET}}}]\n"
)


@pytest.mark.parametrize("command", ["dev", "server"])
def test_a_webhook_secret_that_is_too_short_is_logged_with_the_tree_also_at_the_next_start(
    tmp_path: Path, command: str
) -> None:
    server = Dev(tmp_path, environ={"OPTIO_SECRET_HOOK_SECRET": "sh0rt"}, command=command)
    server.write("hooked.yaml", HOOKED)
    server.cli("token", "create", "--role", "operator")
    for start in range(2 if command == "server" else 1):
        server.start()
        server.stop()
        lines = [line for line in said(server).splitlines() if "HOOK_SECRET" in line]
        assert len(lines) == start + 1, said(server)
        assert "HOOK_SECRET cannot be used: it has 5 bytes, and `optio` needs 8 or more" in lines[-1]
    assert "sh0rt" not in said(server)


def test_a_run_that_is_told_of_in_the_moment_of_a_look_is_printed(
    services: Services, capsys: pytest.CaptureFixture[str]
) -> None:
    run = execute(services, command_task("true"))
    news = RunNews(services, "http://here")

    class Late(dict[str, None]):
        def __setitem__(self, key: str, value: None) -> None:
            news._wake.set()
            time.sleep(0.3)  # for a look
            super().__setitem__(key, value)

    news._hinted = Late()
    news.start()
    printed = ""

    def look() -> bool:
        nonlocal printed
        printed += capsys.readouterr().out
        return run.id in printed

    try:
        news._hint(Topic.RUN, run.id)
        eventually(look, what="the line about the run")
    finally:
        news.stop()


def assert_refused(done: "subprocess.CompletedProcess[str]", *words: str) -> None:
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    for word in words:
        assert word in done.stderr
