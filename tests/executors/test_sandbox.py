"""What an agent can reach of its operator, under each sandbox, when the worker is an ordinary user as it should be."""

import contextlib
import ctypes
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from optio.errors import LaunchFailed, SettingsError
from optio.executors import landlock, process, sandbox
from optio.executors.process import ProcessExecutor
from optio.executors.sandbox import Sandbox, SandboxOptions
from optio.model.task import Environment, Network
from tests.executors.support import RUN, Ended, launch, read, run, shell, until_ended
from tests.runs.support import opened
from tests.support import eventually

PYTHON = "/usr/bin/python3"
USER = 60_123
CONFINED = ["namespaces", "bwrap", "landlock"]

# Each reach is a line that raises where it is refused.
_PROBE = """
import ctypes, errno, json, os, resource, socket, sys
worker, supervisor, data, home, abstract = int(sys.argv[1]), os.getppid(), *sys.argv[2:5]
segment = int(sys.argv[5])
own_marker = f"{data}/attempts/{os.environ['OPTIO_RUN_ID']}-1/control/started"
libc_ = ctypes.CDLL(None, use_errno=True)
libc_.shmat.restype = ctypes.c_long
def libc(result):
    if result == -1:
        raise LookupError if ctypes.get_errno() == errno.EINVAL else OSError(ctypes.get_errno(), "refused")
def inotify(path):
    libc(libc_.inotify_add_watch(libc_.inotify_init(), path.encode(), 0xfff))
reaches = {
    "another secret": lambda: open(f"{data}/secrets/OTHER").read(),
    "the list of secrets": lambda: os.listdir(f"{data}/secrets"),
    "the worker's environment": lambda: open(f"/proc/{worker}/environ", "rb").read(),
    "the worker's memory": lambda: open(f"/proc/{worker}/mem", "rb"),
    "the worker's files": lambda: open(f"/proc/{worker}/fd/0"),
    "the database, to read": lambda: open(f"{data}/optio.db", "rb").read(),
    "the database, to write": lambda: open(f"{data}/optio.db", "ab").write(b"more"),
    "its own end": lambda: open(f"{data}/attempts/{os.environ['OPTIO_RUN_ID']}-1/control/exit.json", "r+b"),
    "the times of its own marker": lambda: os.utime(own_marker, (1, 1), follow_symlinks=False),
    "its own marker": lambda: os.unlink(f"{data}/attempts/{os.environ['OPTIO_RUN_ID']}-1/control/started"),
    "another attempt": lambda: os.listdir(f"{data}/attempts/other-1/work"),
    "a signal to the worker": lambda: os.kill(worker, 0),
    "a key of the user's": lambda: open(f"{home}/.ssh/id_ed25519").read(),
    "a new file in the user's home": lambda: open(f"{home}/.profile", "a"),
    "a device of its own": lambda: os.close(os.open(make_device(), os.O_RDONLY)),
    "the disk": lambda: open(disk, "rb"),
    "the rights of a secret": lambda: os.chmod(f"{data}/secrets/OTHER", 0o644),
    "the rights of the data directory": lambda: os.chmod(data, 0o755),
    "the limits of the worker": lambda: resource.prlimit(worker, resource.RLIMIT_CPU, (10**6, 10**6)),
    "the priority of the worker": lambda: os.setpriority(os.PRIO_PROCESS, worker, 5),
    "the processors of the worker": lambda: os.sched_setaffinity(worker, os.sched_getaffinity(0)),
    "the list of what happens to secrets": lambda: inotify(f"{data}/secrets"),
    "the worker's shared memory": lambda: libc(libc_.shmat(segment, None, 0)),
    "the user's keys": lambda: libc(libc_.syscall(250, 0, -4, 1)),
    "the worker's abstract socket": lambda: socket.socket(socket.AF_UNIX).connect("\\0" + abstract),
}
disk = next((f"/dev/{name}" for name in sorted(os.listdir("/sys/block")) if os.path.exists(f"/dev/{name}")), "/dev/mem")
def make_device():
    os.mknod("device", 0o60600, os.makedev(1, 0))
    return "device"
found = {}
for name, reach in reaches.items():
    try:
        reach()
        found[name] = "open"
    except (OSError, LookupError) as err:
        found[name] = type(err).__name__
print(json.dumps(found))
"""
# What Landlock alone does not hold where worker and agent are one user.
_NOT_MEDIATED = {
    *("the rights of a secret", "the rights of the data directory", "the times of its own marker"),
    *("the list of what happens to secrets", "the worker's shared memory"),
}
_WRITES = ("the database, to write", "a new file in the user's home")
# Refused by the kernel, or not even there.
REFUSED = {
    "private copy",
    "PermissionError",
    "FileNotFoundError",
    "ProcessLookupError",
    "ConnectionRefusedError",
    "LookupError",
}


def as_user(work: Callable[[Path], Any], user: int = USER) -> Any:
    """What `work` gives when an ordinary user does it, in a home of his own: in a process that has become him."""
    path = Path(tempfile.mkdtemp())
    home = path / "user"
    home.mkdir()
    for name in ("supervisor", *process._PARTS):  # a checkout may be closed to others
        Path(shutil.copy(process._SUPERVISOR.with_name(f"{name}.py"), path)).chmod(0o644)
    supervisor = path / "supervisor.py"
    path.chmod(0o711)
    os.chown(home, user, user)
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setgid(user)
            os.setuid(user)
            ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # PR_SET_DUMPABLE: who was never root is
            tempfile.tempdir = None
            os.environ.update(TMPDIR="/tmp", HOME=str(home), PATH="/usr/local/bin:/usr/bin:/bin")
            sys.executable, process._SUPERVISOR = PYTHON, supervisor
            answer = {"value": work(home)}
        except BaseException:
            answer = {"error": traceback.format_exc()}
        os.write(writer, json.dumps(answer).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        answer = json.loads(file.read())
    os.waitpid(pid, 0)
    assert "value" in answer, answer["error"]
    return answer["value"]


def attempt(kind: str, home: Path, *argv: str, environment: Environment | None = None, **options: Any) -> Ended:
    """One attempt of this user, its data directory in his home."""
    data = home / "data"
    executor = ProcessExecutor(data / "attempts", sandbox=SandboxOptions(kind=kind, hidden=[data], **options))
    try:
        return run(executor, launch(*argv, environment=environment, env={"GIT_CONFIG_NOSYSTEM": "1"}))
    finally:
        executor.close()


def probe(kind: str) -> Callable[[Path], dict[str, str]]:
    def work(home: Path) -> dict[str, str]:
        data, libc = home / "data", ctypes.CDLL(None)
        for name in ("secrets", "attempts/other-1/work"):
            (data / name).mkdir(parents=True)
        (data / "secrets" / "OTHER").write_text("canary")
        for name in ("", "secrets"):
            (data / name).chmod(0o700)
        (data / "optio.db").write_text("rows")
        (home / ".ssh").mkdir()
        (home / ".ssh" / "id_ed25519").write_text("key")
        abstract = f"optio-test-{os.getpid()}"
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind("\0" + abstract)
            listening.listen()
            segment = libc.shmget(0, 4096, 0o1600)
            arguments = (str(os.getpid()), str(data), str(home), abstract, str(segment))
            ended = attempt(kind, home, PYTHON, "-c", _PROBE, *arguments)
            libc.shmctl(segment, 0, None)
        found: dict[str, str] = json.loads(ended.stdout or b"{}") or {"stderr": ended.stderr.decode()}
        if (data / "optio.db").read_text() == "rows" and not (home / ".profile").exists():
            # What bubblewrap has mounted over it took the write, and is gone.
            found |= {name: "private copy" for name in _WRITES if kind != "landlock"}
        if kind in sandbox.ISOLATED and data.stat().st_mode & 0o777 == 0o700:
            found["the rights of the data directory"] = "private copy"
        return found

    return work


@pytest.mark.parametrize("user", [USER, 0], ids=["an ordinary user", "root"])
@pytest.mark.parametrize("kind", CONFINED)
def test_an_agent_reaches_nothing_of_its_operator(kind: str, user: int) -> None:
    if kind == "landlock" and landlock.version() < landlock.SCOPES_SINCE:
        pytest.fail("this kernel's Landlock cannot restrict signals: the tests need Linux 6.12")

    found = as_user(probe(kind), user)

    assert len(found) == 25, found
    assert {name for name, how in found.items() if how not in REFUSED} == (
        _NOT_MEDIATED if (kind, user) == ("landlock", USER) else set()
    )


_FIRST_PROCESS = """
import ctypes, json, os, signal
libc = ctypes.CDLL(None, use_errno=True)
class Span(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))
def call(name, *arguments):
    if getattr(libc, name)(*arguments) < 0:
        raise OSError(ctypes.get_errno(), name)
memory = ctypes.create_string_buffer(8)
own, other = Span(ctypes.addressof(memory), 8), Span(ctypes.addressof(memory), 8)
long = ctypes.c_ulong
reaches = {
    "opens its memory": lambda: open("/proc/1/mem", "rb"),
    "reads its memory": lambda: call("process_vm_readv", 1, ctypes.byref(own), long(1), ctypes.byref(other), long(1), long(0)),
    "traces it": lambda: call("ptrace", 0x4206, 1, long(0), long(0)),
    "takes a descriptor": lambda: call("syscall", 438, os.pidfd_open(1), 3, 0),
    "compares descriptors": lambda: call("syscall", {"x86_64": 312}.get(os.uname().machine, 272), 1, 1, 0, long(0), long(0)),
    "enters its namespaces": lambda: call("setns", os.pidfd_open(1), 0x10000000),
    **{f"reads {name}": lambda name=name: open(f"/proc/1/{name}").read() for name in ("environ", "maps", "stack")},
    **{f"lists {name}": lambda name=name: os.listdir(f"/proc/1/{name}") for name in ("fd", "root", "cwd", "map_files")},
    **{f"writes {name}": lambda name=name: open(f"/proc/1/{name}", "w").write("1") for name in ("oom_score_adj", "clear_refs")},
}
def reached():
    for name, reach in reaches.items():
        try:
            reach()
            yield name
        except OSError:
            pass
answers = [list(reached())]
for number in signal.valid_signals():
    os.kill(1, number)
if libc.unshare(0x10000000) == 0:
    answers.append(list(reached()))
print(json.dumps([answers, os.path.exists("/proc/1")]))
"""


@pytest.mark.parametrize("user", [USER, 0], ids=["an ordinary user", "root"])
def test_an_agent_reaches_nothing_of_the_first_process_of_its_namespace(user: int) -> None:
    answers, lives = json.loads(
        as_user(lambda home: attempt("namespaces", home, PYTHON, "-c", _FIRST_PROCESS).stdout.decode(), user)
    )

    assert lives
    assert answers == [[], []]


@pytest.mark.parametrize("kind", CONFINED)
def test_an_attempt_of_root_is_somebody_else_without_a_capability(kind: str) -> None:
    look = "id -u; id -g; grep -E 'Cap(Prm|Eff|Inh)' /proc/self/status; touch $HOME/x; stat -c %u $HOME/x $TMPDIR"

    user, group, *sets, file, folder = as_user(
        lambda home: attempt(kind, home, "/bin/sh", "-c", look).stdout.decode().split(), 0
    )

    assert user == group == file == folder
    assert sandbox.USERS[0] < int(user) <= sandbox.USERS[1]
    assert set(sets[1::2]) == {"0" * 16}


def test_two_attempts_of_two_installations_never_have_one_user(tmp_path: Path) -> None:
    executors = [ProcessExecutor(tmp_path / name / "attempts", sandbox=SandboxOptions(kind="namespaces")) for name in "ab"]
    handles = [each.start(shell("id -u; sleep 30", run_id=f"run{n}")) for n in range(4) for each in executors]

    users = [eventually(lambda handle=handle: read(handle, "stdout")) for handle in handles]
    for handle in handles:
        handle.stop()
        until_ended(handle)
        handle.close(remove=True)
    for each in executors:
        each.close()

    assert len(set(users)) == len(handles)


def test_a_session_that_goes_on_belongs_to_its_new_user_and_a_hard_link_to_nobody_elses_file_does(tmp_path: Path) -> None:
    with contextlib.closing(ProcessExecutor(tmp_path / "attempts", sandbox=SandboxOptions(kind="namespaces"))) as executor:
        first = executor.start(shell("id -u; mkdir $HOME/d; echo one > $HOME/d/f; ln -s /etc/passwd $HOME/l"))
        until_ended(first)
        (tmp_path / "other").write_text("root's")
        os.link(tmp_path / "other", tmp_path / "attempts" / f"{RUN}-1" / "home" / "hard")
        second = executor.start(shell("cat $HOME/d/f && echo two > $HOME/d/f; stat -c %u $HOME/l", attempt=2, continues=1))
        ended = until_ended(second)
        for handle in (first, second):
            handle.close(remove=True)

    assert ended.stdout.splitlines()[0] == b"one", ended.stderr
    assert sandbox.USERS[0] < int(ended.stdout.splitlines()[1])
    assert (tmp_path / "other").stat().st_uid == 0
    assert Path("/etc/passwd").stat().st_uid == 0


def test_without_a_sandbox_all_of_it_is_open_which_is_what_the_log_says() -> None:
    found = as_user(probe("none"))
    (note,) = Sandbox(SandboxOptions(kind="none")).notes(None)

    devices = {"a device of its own", "the disk"}
    assert {how for name, how in found.items() if name not in devices} == {"open"}, found
    assert note.startswith("no sandbox: this program can do whatever the worker's user can")


_EVERYDAY = """
set -e
git init -q repo && cd repo && echo x > f && git add f
git -c user.name=a -c user.email=a@example.com commit -qm first
git clone -q . ../copy && cd ..
/usr/bin/python3 -m venv --without-pip env
env/bin/python -c 'import ssl, sqlite3, multiprocessing, tempfile; tempfile.TemporaryFile(); multiprocessing.Lock()'
if command -v node > /dev/null; then node -e 'require("fs").writeFileSync(process.env.TMPDIR + "/n", "1")'; fi
echo here > "$TMPDIR/t"; mv "$TMPDIR/t" "$HOME/t"; cat < "$HOME/t" > /dev/null
echo "said on stderr" > /dev/stderr
/usr/bin/python3 - <<'END'
import socket, threading, urllib.request, http.server
server = http.server.HTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
threading.Thread(target=server.handle_request).start()
print(urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/copy/f").read().decode(), end="")
END
sh -c 'sleep 60' & kill $! ; ps > /dev/null || true
getent hosts localhost > /dev/null
"""


@pytest.mark.parametrize("kind", [*CONFINED, "none"])
def test_what_people_do_every_day_is_not_refused(kind: str) -> None:
    ended = as_user(lambda home: repr(attempt(kind, home, "/bin/sh", "-c", _EVERYDAY)))

    assert "code=0" in ended, ended
    assert "stdout=b'x\\n'" in ended
    assert "said on stderr" in ended


@pytest.mark.parametrize("kind", CONFINED)
def test_a_shared_directory_of_temporary_files_can_be_written_where_the_data_directory_is_elsewhere(kind: str) -> None:
    name = f"/var/tmp/optio-{os.getpid()}-{kind}"
    try:
        ended = as_user(lambda home: repr(attempt(kind, home, "/bin/sh", "-c", f"echo x > {name} && cat {name}")))
        left = Path(name).exists()
    finally:
        Path(name).unlink(missing_ok=True)

    assert "code=0" in ended, ended
    assert left == (kind == "landlock")  # bubblewrap has one of its own


@pytest.mark.parametrize("kind", CONFINED)
def test_two_settings_open_more_and_never_what_is_hidden(kind: str) -> None:
    def work(home: Path) -> list[str]:
        (home / "docs").mkdir()
        (home / "docs" / "a").write_text("read")
        (home / "out").mkdir()
        (home / "data").mkdir()
        (home / "data" / "optio.db").write_text("rows")
        source = f"cat {home}/docs/a; echo w > {home}/out/w; echo no > {home}/docs/b; cat {home}/data/optio.db"
        ended = attempt(kind, home, "/bin/sh", "-c", source, read=[home], write=[home / "out"])
        return [ended.stdout.decode(), (home / "out" / "w").read_text(), str((home / "docs" / "b").exists())]

    assert as_user(work) == ["read", "w\n", "False"]


@pytest.mark.parametrize("kind", CONFINED)
def test_a_setting_may_name_a_file(kind: str, tmp_path: Path) -> None:
    (tmp_path / "in").write_text("read")
    (tmp_path / "out").touch()
    (tmp_path / "out").chmod(0o666)
    options = SandboxOptions(kind=kind, read=[tmp_path / "in"], write=[tmp_path / "out"])
    with contextlib.closing(ProcessExecutor(tmp_path / "data", sandbox=options)) as executor:
        ended = run(executor, shell(f"cat {tmp_path}/in; echo w >> {tmp_path}/out"))

    assert (ended.stdout, (tmp_path / "out").read_text()) == (b"read", "w\n"), ended.stderr


def test_a_path_to_write_that_holds_the_data_directory_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "data", tmp_path / "data" / "secrets"):
        with pytest.raises(SettingsError, match=r"OPTIO_SANDBOX_WRITE: .* which no agent may write"):
            Sandbox(SandboxOptions(kind="landlock", write=[path], hidden=[tmp_path / "data"]))


@pytest.mark.parametrize("kind", CONFINED)
def test_a_link_that_an_agent_puts_in_the_place_of_an_opened_path_opens_nothing(kind: str) -> None:
    def work(home: Path) -> str:
        (home / "out" / "deep").mkdir(parents=True)
        (home / "data" / "secrets").mkdir(parents=True)
        (home / "data" / "secrets" / "K").write_text("canary")
        options = SandboxOptions(kind=kind, write=[home / "out", home / "out" / "deep"], hidden=[home / "data"])
        with contextlib.closing(ProcessExecutor(home / "data" / "attempts", sandbox=options)) as executor:
            swap = f"rmdir {home}/out/deep && ln -s {home}/data/secrets {home}/out/deep && echo swapped"
            first = run(executor, shell(swap))
            second = run(executor, shell(f"cat {home}/out/deep/K", run_id="second"))
        return f"{first.stdout.decode()}{second.stdout.decode()}"

    assert as_user(work) == "swapped\n"


def test_a_program_that_lies_elsewhere_is_refused_with_the_setting_that_opens_it(tmp_path: Path) -> None:
    program = tmp_path / "tools" / "report"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho ran\n")
    program.chmod(0o755)

    def attempt_of(run_id: str, *read: Path) -> Ended:
        with contextlib.closing(
            ProcessExecutor(tmp_path / "data", sandbox=SandboxOptions(kind="landlock", read=read))
        ) as executor:
            return run(executor, launch(str(program), run_id=run_id))

    with pytest.raises(LaunchFailed, match=rf"set OPTIO_SANDBOX_READ={tmp_path}/tools") as refused:
        attempt_of("first")

    assert refused.value.reason == "sandbox"
    assert attempt_of("second", program.parent).stdout == b"ran\n"


def test_a_list_of_hosts_closes_all_other_ports(tmp_path: Path) -> None:
    connect = "import socket, sys; socket.create_connection(('127.0.0.1', int(sys.argv[1]))); print('connected')"
    executor = ProcessExecutor(tmp_path / "data", sandbox=SandboxOptions(kind="landlock"))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        said = {}
        for name, egress in (("listed", [f"127.0.0.1:{port}"]), ("other", ["127.0.0.1:9"]), ("none", [])):
            environment = Environment(network=Network(egress=egress))
            ended = run(executor, launch(PYTHON, "-c", connect, str(port), run_id=name, environment=environment))
            said[name] = (ended.stdout, b"PermissionError" in ended.stderr)
    notes = list(executor.sandbox.notes(Environment(network=Network(egress=["127.0.0.1:9"]))))
    executor.close()

    assert said == {"listed": (b"connected\n", False), "other": (b"", True), "none": (b"", True)}
    assert notes[-1] == "network: TCP connections to port 9 only; hosts are not told apart, and UDP is not restricted"


def test_without_a_list_of_hosts_the_ports_of_the_settings_are_open_and_no_others(tmp_path: Path) -> None:
    connect = "import socket, sys; socket.create_connection(('127.0.0.1', int(sys.argv[1]))); print('connected')"
    said = {}
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        for name, ports in (("listed", f"9,{port}"), ("other", "9"), ("none", None)):
            environ = {"OPTIO_SANDBOX": "landlock"} | ({} if ports is None else {"OPTIO_SANDBOX_PORTS": ports})
            with opened(tmp_path, environ) as services:
                ended = run(services.executor, launch(PYTHON, "-c", connect, str(port), run_id=name))
            said[name] = (ended.stdout, b"PermissionError" in ended.stderr)

    assert said == {"listed": (b"connected\n", False), "other": (b"", True), "none": (b"connected\n", False)}


def test_with_bubblewrap_no_network_is_none_and_the_list_of_processes_is_its_own(tmp_path: Path) -> None:
    executor = ProcessExecutor(tmp_path / "data", sandbox=SandboxOptions(kind="bwrap"))
    source = f"import os; print(sorted(os.listdir('/sys/class/net')), os.path.exists('/proc/{os.getpid()}/stat'))"
    source += "; print(open('/proc/net/dev').read().count(':'))"
    ended = run(executor, launch(PYTHON, "-c", source, environment=Environment(network=Network(egress=[]))))
    executor.close()

    assert ended.stdout.splitlines()[-1] == b"1"  # its own loopback
    assert b"False" in ended.stdout or os.getpid() < 10


@pytest.mark.parametrize(
    ("kind", "missing", "words"),
    [("landlock", {"version": 0}, "this kernel has no Landlock"), ("bwrap", {"which": None}, "`bwrap` is not on PATH")],
)
def test_a_sandbox_that_cannot_be_had_is_refused_and_not_left_out(
    kind: str, missing: dict[str, Any], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(landlock, "version", lambda: missing.get("version", 7))
    monkeypatch.setattr(process.shutil, "which", lambda name: missing.get("which"))
    process._why_not.cache_clear()

    with pytest.raises(SettingsError, match=f"OPTIO_SANDBOX={kind}: {words}"):
        process.choose_sandbox(kind)


@pytest.mark.parametrize("user", [USER, 0], ids=["an ordinary user", "root"])
def test_the_default_isolates(user: int) -> None:
    assert as_user(lambda home: process.choose_sandbox().kind, user) == "namespaces"


def test_where_no_sandbox_works_only_who_asks_for_none_has_none_and_it_is_said_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_why_not", lambda kind, user: f"no {kind} here")

    with pytest.raises(SettingsError, match=r"namespaces: no namespaces here; bwrap: .* or set OPTIO_SANDBOX=none"):
        process.choose_sandbox()
    opened = Sandbox(process.choose_sandbox(is_open=True))
    asked = Sandbox(process.choose_sandbox("none"))

    assert [opened.kind, asked.kind] == ["none", "none"]
    assert next(found.status for found in opened.examine()) == "warning"
    assert "no sandbox works here: namespaces: no namespaces here" in " ".join(opened.notes(None))
    assert "OPTIO_SANDBOX=none" in " ".join(asked.notes(None))


def test_an_older_kernel_is_told_what_it_does_not_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landlock, "version", lambda: 2)  # Debian 12
    monkeypatch.setattr(os, "geteuid", lambda: USER)

    chosen = Sandbox(SandboxOptions(kind="landlock"))
    notes = " ".join(chosen.notes(Environment(network=Network(egress=["example.com"]))))

    assert "signals to other processes (Linux 6.12 can)" in notes
    assert "rights and times of this user's files" in notes
    assert "environment.network is not applied: this kernel cannot restrict connections (Linux 6.7 can)" in notes


@pytest.mark.parametrize(("option", "cure"), [("write", "chgrp 60578"), ("place", "chmod o\\+x")])
def test_what_the_users_of_attempts_do_not_reach_is_refused_with_the_cure(option: str, cure: str, tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    value: Any = [closed] if option == "write" else closed / "attempts"

    with pytest.raises(SettingsError, match=cure):
        Sandbox(SandboxOptions(kind="landlock", **{option: value}))


def test_what_lies_beside_something_hidden_stays_readable(tmp_path: Path) -> None:
    for name in ("etc/a", "etc/optio/b", "etc/optio/secrets/K"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    hidden = [str(tmp_path / "etc/optio/secrets")]

    found = list(sandbox._carve(str(tmp_path / "etc"), hidden))

    assert found == [str(tmp_path / "etc/a"), str(tmp_path / "etc/optio/b")]
    assert list(sandbox._carve(hidden[0], hidden)) == []
    assert list(sandbox._carve(str(tmp_path / "elsewhere"), hidden)) == [str(tmp_path / "elsewhere")]


@pytest.mark.parametrize(
    ("path", "opened", "closed"),
    [
        ("/home/u/.local/bin", "/home/u/.local/lib", "/home/u/.local/share"),
        ("/home/u/bin", "/home/u/lib", "/home/u/share"),
        ("/home/u/project/.venv/bin", "/home/u/project/.venv/pyvenv.cfg", "/home/u/project"),
        ("/home/u/.pyenv/shims", "/home/u/.pyenv", "/home/u"),
        ("/home/u", "", "/home/u"),
        ("relative/bin:", "", "relative"),
    ],
)
def test_of_the_path_what_programs_need_is_opened_and_no_home(path: str, opened: str, closed: str) -> None:
    found = list(sandbox._on_path(path, Path("/home/u")))

    assert closed not in found
    assert "/home/u" not in found
    assert not opened or opened in found


def test_the_first_line_that_tells_of_a_refusal_brings_the_setting(tmp_path: Path) -> None:
    chosen = Sandbox(SandboxOptions(kind="landlock"))
    executor = ProcessExecutor(tmp_path / "data", sandbox=SandboxOptions(kind="landlock"))
    (tmp_path / "notes").write_text("mine")
    ended = run(executor, shell(f"cat {tmp_path}/notes"))
    executor.close()

    hints = [chosen.refusal_hint(line) for line in ended.stderr.splitlines()]

    assert any(hint and "OPTIO_SANDBOX_READ" in hint for hint in hints), ended.stderr
    assert chosen.refusal_hint(b"all is well") is None
    assert Sandbox(SandboxOptions(kind="none")).refusal_hint(b"Permission denied") is None


def test_a_connection_that_a_list_of_hosts_refuses_brings_the_key_to_change(tmp_path: Path) -> None:
    executor = ProcessExecutor(tmp_path / "data", sandbox=SandboxOptions(kind="landlock", ports=[8443]))
    listed = Environment(network=Network(egress=["127.0.0.1:8443"]))
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        ended = run(executor, launch("/usr/bin/curl", "-sS", f"http://127.0.0.1:{port}/", environment=listed))
    executor.close()

    line = ended.stderr
    of_the_task = executor.refusal_hint(line, listed) or ""
    of_the_setting = executor.refusal_hint(line, Environment()) or ""

    assert "opens TCP port 8443 only; add HOST:PORT to `environment.network.egress` of the task" in of_the_task, line
    assert "add the port to OPTIO_SANDBOX_PORTS" in of_the_setting
    assert Sandbox(SandboxOptions(kind="landlock")).refusal_hint(line, Environment()) is None
    assert "8443" in (executor.refusal_hint(b"API Error: Unable to connect to API (EACCES)", listed) or "")


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    """No process of the ordinary user's outlives its test."""
    yield
    left = subprocess.run(["ps", "-o", "pid=,args=", "-u", str(USER)], capture_output=True, text=True, check=False).stdout
    assert "supervisor" not in left or not left.strip(), left
