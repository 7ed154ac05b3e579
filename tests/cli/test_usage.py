"""Wrong use of every command: exit code 2, what is wrong, and never a traceback."""

import contextlib
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from optio.cli import COMMANDS, invoke
from tests.cli.conftest import ECHO, Shell

HELLO = ("tasks.d/echo.yaml", ECHO)


def assert_usage(done: "subprocess.CompletedProcess[str]", *words: str) -> None:
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    for word in words:
        assert word in done.stderr


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_refuses_a_flag_it_does_not_know(shell: Shell, command: str) -> None:
    assert_usage(shell(command, "--no-such-flag"), f"optio {command}")


def test_the_overview_names_every_command(shell: Shell) -> None:
    done = shell("--help")

    assert done.returncode == 0
    assert all(f"  {name} " in done.stdout for name in COMMANDS)


@pytest.mark.parametrize(
    "arguments", ["plan --all", "check --stric", "schedule --cal", "runs list --sta=failed", "hook replay --since 1h --ver=x"]
)
def test_no_flag_is_known_by_its_beginning(shell: Shell, arguments: str) -> None:
    assert_usage(shell(*arguments.split()), f"unrecognized arguments: {arguments.split()[-1]}")


@pytest.mark.parametrize(
    "arguments",
    [
        *("{}", "check {}", "check --{}", "check --format {}", "check full{}", "check empty{}", "check --stdin-filename a {}"),
        *("explain {}", "schema {}", "schema --check {}", "schema --write new{}", "init new{}", "compile {}", "compile full{}"),
        *("schedule {}", "schedule -n {}", "schedule --tasks {}", "schedule --tasks full{}", "schedule --calendar --zone {}"),
        *("schedule --calendar --from {}", "schedule --calendar --to {}", "schedule --calendar --days {}"),
        *("render {}", "render echo -p {}", "render echo -p {}=1 -p {}=2", "render echo -p {}=1", "render echo -P {}={{"),
        *("render echo --tasks full{}", "plan {}", "plan {}..{}", "plan --fail-on {}", "plan --tasks {}"),
        *("test {}", "test full{}", "test full{} --coverage", "test --min-coverage {}", "runs list --url {}"),
        *("runs list --token {}", "runs list --url http://{}", "hook send x {}", "db {}", "token create --role {}"),
    ],
)
def test_what_was_typed_does_not_drive_the_terminal(
    arguments: str, shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    typed = "\x1b[31m\u202e"
    shell.write(*HELLO)
    shell.write(f"full{typed}/bad.yaml", "name: Bad\nbad: 1\n")
    shell.write(f"full{typed}/echo.yaml", ECHO + "triggers: [{type: webhook, config: {path: echo, unsigned: true}}]\n")
    shell.write(f"empty{typed}/notes.txt", "")

    with contextlib.suppress(SystemExit):
        invoke([part.format(typed, typed) for part in arguments.split()])

    shown = "".join(capsys.readouterr())
    assert shown
    assert not {"\x1b", "\u202e"} & {*shown}
    assert "a bug in Optio" not in shown


def test_an_unknown_command_is_told_what_was_meant(shell: Shell) -> None:
    assert_usage(shell("chekc"), "unknown command `chekc`", "did you mean `check`?")


def test_the_version_is_told(shell: Shell) -> None:
    from optio.version import __version__

    assert shell("--version").stdout == f"optio {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run"], ["TASK"]),
        (["run", "echo", "WHO=x", "A=b"], ["unrecognized arguments: WHO=x A=b: write `-p` before", "such as `-p WHO=x`"]),
        (["run", "echo", "-p", "WHO"], ["invalid parameter `WHO`: write NAME=VALUE"]),
        (["run", "echo", "-p", "=x"], ["invalid parameter `=x`: write NAME=VALUE"]),
        (["run", "echo", "-P", "WHO={"], ["the value of `WHO` is not valid JSON"]),
        (["render", "echo", "-P", "WHO=" + "[" * 50_000], ["the value of `WHO` is nested deeper than 100 levels"]),
        (["schedule", "--calendar", "--days", "9" * 5_000], ["--days", "give a whole number from 1 to 366"]),
        (["schedule", "-n", "9" * 5_000], ["give a whole number from 1 to 1,000"]),
        (["run", "echo", "-p", "WHO=a", "-p", "WHO=b"], ["`WHO` is given twice"]),
        (["runs"], ["VERB"]),
        (["runs", "stop", "x"], ["invalid choice"]),
        (["runs", "show"], ["RUN"]),
        (["runs", "list", "--state", "lost"], ["invalid choice"]),
        (["runs", "list", "-n", "0"], ["give a whole number from 1 to 200"]),
        (["runs", "logs", "x", "-f", "--attempt", "1"], ["leave out --attempt"]),
        (["hook"], ["VERB"]),
        (["hook", "send", "path"], ["FILE"]),
        (["hook", "send", "path", "nowhere.json"], ["nowhere.json", "No such file"]),
        (["token", "create"], ["--role"]),
        (["token", "create", "--role", "king"], ["invalid choice"]),
        (["render"], ["TASK"]),
        (["render", "ech"], ["no task `ech`", "did you mean `echo`?"]),
        (["compile", "nowhere"], ["no task directory `nowhere`"]),
        (["check", "nowhere"], ["`nowhere` does not exist"]),
        (["check", "--format", "xml"], ["invalid choice"]),
        (["explain", "OPT99999"], ["no rule `OPT99999`"]),
        (["init", "tasks.d/echo.yaml"], ["cannot be written"]),
        (["server", "--port", "http"], ["--port", "`http` cannot be used", "a port from 0 to 65535"]),
        (["dev", "--max-workflow-concurrent", "0"], ["--max-workflow-concurrent", "a whole number from 1 up"]),
        (["worker", "--lease", "soon"], ["--lease", "`soon`"]),
        (["dev", "--writes", "git"], ["--writes", "files, deny"]),
    ],
    ids=lambda value: "_".join(value[:3]) if isinstance(value, list) else None,
)
def test_wrong_arguments_are_named(shell: Shell, arguments: list[str], words: list[str]) -> None:
    shell.write(*HELLO)

    assert_usage(shell(*arguments), *words)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("OPTIO_PORT", "70000"),
        ("OPTIO_LEASE", "0s"),
        ("OPTIO_DATABASE_URL", "mysql://localhost/optio"),
        ("OPTIO_REDIS_URL", "http://localhost"),
        ("OPTIO_EXECUTOR", "docker"),
        ("OPTIO_KUBE_NAMESPACE", "Not_a_name"),
        ("OPTIO_POD_NODE_SELECTOR", "gpu"),
        ("OPTIO_MAX_BODY_BYTES", "-1"),
    ],
)
def test_a_setting_that_cannot_be_honoured_is_refused(shell: Shell, variable: str, value: str) -> None:
    assert_usage(shell("dev", environ={variable: value}), f"{variable}: `{value}` cannot be used")


def test_a_misspelt_setting_is_told(shell: Shell) -> None:
    shell.write(*HELLO)

    done = shell("render", "echo", environ={"OPTIO_TASK": "tasks.d"})

    assert done.returncode == 0
    assert "unknown setting OPTIO_TASK is ignored: did you mean OPTIO_TASKS?" in done.stderr


def test_a_server_that_is_not_there_is_one_line(shell: Shell) -> None:
    done = shell("runs", "list", environ={"OPTIO_URL": "http://127.0.0.1:1"})

    assert done.returncode == 1
    assert done.stderr.startswith("optio runs: no server answers at http://127.0.0.1:1")
    assert "optio dev" in done.stderr
    assert done.stderr.count("\n") == 1


def test_an_address_that_is_no_url_is_refused(shell: Shell) -> None:
    assert_usage(shell("runs", "list", environ={"OPTIO_URL": "localhost:8000"}), "OPTIO_URL", "begins with http:// or https://")


@pytest.mark.parametrize("command", ["dev", "server", "worker", "scheduler"])
def test_a_missing_extra_is_named_with_its_cure(shell: Shell, command: str) -> None:
    # What a core install lacks cannot be imported here either.
    shell.write(
        "lean/sitecustomize.py",
        "import sys\n"
        "class Lean:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in {'litestar', 'uvicorn', 'watchfiles', 'limits', 'msgspec', 'uuid_utils'}:\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Lean())\n",
    )

    done = shell(command, environ={"PYTHONPATH": f"{shell.directory / 'lean'}:{shell.environment()['PYTHONPATH']}"})

    assert_usage(done, "is not installed: install optio-taskrunner with its `server` extra")


@pytest.mark.parametrize("command", ["check .", "check --format json .", "explain OPT101", "schema", "--help", "--version"])
def test_a_full_disk_under_the_output_is_one_line_and_no_bug(command: str, tmp_path: Path) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "optio", *command.split()], cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, text=True
        )

    assert (done.returncode, done.stderr) == (2, "optio: the output cannot be written: No space left on device\n")


@pytest.mark.parametrize(
    "arguments", ["plan {} {}", "plan --tasks {}", "test {}", "check --stdin-filename {}", "compile {}", "schedule --tasks {}"]
)
def test_a_path_that_no_file_can_have_is_a_mistake_of_who_typed_it(shell: Shell, arguments: str) -> None:
    shell.write(*HELLO)

    done = shell(*arguments.format(*["x" * 5_000] * 2).split())

    assert_usage(done, "x" * 50)
    assert "bug" not in done.stderr


@pytest.mark.parametrize("revision", ["x" * 5_000, "--output=out", "HEAD..--output=out", "-x...HEAD", "", " "])
def test_a_revision_that_cannot_be_is_no_option_of_git(shell: Shell, tmp_path: Path, revision: str) -> None:
    shell.write(*HELLO)
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)

    assert_usage(shell("plan", "--", revision), "optio plan", "revision")
    assert_usage(shell("hook", "replay", "--since", "1h", f"--rev={revision}"), "optio hook", "revision")
    assert not list(tmp_path.rglob("out"))


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"], ids=["nothing", "half"])
def test_a_connection_that_breaks_is_no_bug_of_ours(shell: Shell, answer: bytes) -> None:
    """As of a forwarded port whose pod is gone."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        done = shell("runs", "list", "--url", url)
        thread.join()

    assert done.returncode == 1
    assert done.stderr.startswith(f"optio runs: the connection to {url} broke: ")
    assert "try again" in done.stderr


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("rnu", "optio: unknown command `rnu`: did you mean `run`?"),
        ("logs hello", "optio: unknown command `logs`: did you mean `optio runs logs`?"),
        ("validate", "unknown command `validate`: did you mean `optio check`?"),
        (
            "--context prod runs list",
            "unknown option `--context`: options stand behind the command, as in `optio runs",
        ),
        ("runs", "required: VERB: write one of `list`, `show`, `logs`, `calls`, `cancel`, `retry`, `why`"),
        ("runs lst", "(choose from 'list', 'show', 'logs', 'calls', 'cancel', 'retry', 'why'): did you mean `list`?"),
        ("runs list --sate failed", "optio runs list: unrecognized arguments: --sate failed: did you mean `--state`?"),
        ("runs list --state fialed", ": did you mean `failed`?"),
        ("runs list echo", "optio runs list: unrecognized arguments: echo: write `--task echo`"),
        ("run echo --param-file x", "did you mean `--params-file`?"),
        ("schedule --task echo", "unrecognized arguments: --task: write its value without `--task`"),
        ("runs logs echo -o jsn", "did you mean `json`?"),
        ("check task.d", "optio check: `task.d` does not exist: did you mean `tasks.d`?"),
        ("login optio.example.org", "invalid URL `optio.example.org`: write https://optio.example.org"),
    ],
)
def test_a_slip_is_answered_by_what_was_meant(shell: Shell, line: str, said: str) -> None:
    shell.write(*HELLO)

    done = shell(*line.split())

    assert_usage(done, said)
    assert len(done.stderr.splitlines()) <= 2


def test_a_working_directory_that_is_gone_is_named(shell: Shell) -> None:
    (shell.directory / "gone").mkdir()
    line = f'cd gone && rmdir "$PWD" && exec "{sys.executable}" -m optio runs list'

    done = subprocess.run(
        ["/bin/sh", "-c", line], cwd=shell.directory, env=shell.environment(), capture_output=True, text=True, timeout=60
    )

    assert_usage(done, "optio runs: the working directory does not exist any more: change to another one")
