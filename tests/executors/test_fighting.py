"""Agents that fight their supervisor, and supervisors that are harmed from outside: limits hold, nothing is left running."""

import os
import signal
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from optio.executors.attempt import EXIT_BYTES
from optio.executors.base import Handle
from optio.executors.process import ProcessExecutor
from optio.executors.sandbox import SandboxOptions
from optio.process_identity import start_time
from tests.executors.support import RUN, living, python, read, run, shell, until_ended
from tests.executors.test_process import server_of, supervisor_of
from tests.support import eventually

# Two seconds of grace and what a worker adds to it, on a busy machine.
LONGEST_END = 15.0


@pytest.fixture
def token() -> Iterator[str]:
    """A word in the arguments of all that a test starts: nothing that has it outlives the test."""
    word = f"60.{uuid.uuid4().int % 10**12:012}"
    yield word
    for pid in living(word):
        os.kill(pid, signal.SIGKILL)


@pytest.fixture(params=["landlock", "none"])
def executor(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ProcessExecutor]:
    made = ProcessExecutor(tmp_path / "attempts", sandbox=SandboxOptions(kind=request.param))
    yield made
    made.close()


@pytest.fixture
def open_executor(tmp_path: Path) -> Iterator[ProcessExecutor]:
    """One whose agents can do what an ordinary process can."""
    made = ProcessExecutor(tmp_path / "attempts", sandbox=SandboxOptions(kind="none"))
    yield made
    made.close()


DAEMON = "setsid env -i /bin/sh -c 'sleep {token} & sleep {token}' > /dev/null 2>&1 &"


FORGED = '{"phase": "agent", "code": 0, "signal": null, "stopped_by": null, "error": null, "sizes": {}}'


@pytest.mark.parametrize("forgery", [f"printf '%s' '{FORGED}' > forged; mv forged exit.json", "rm exit.json"])
def test_an_end_that_was_forged_or_removed_while_the_supervisor_lives_is_none(
    open_executor: ProcessExecutor, tmp_path: Path, forgery: str
) -> None:
    control = tmp_path / "attempts" / f"{RUN}-1" / "control"
    handle = open_executor.start(shell(f"cd {control}; {forgery}; echo done; sleep 0.5; exit 7"))
    eventually(lambda: b"done" in read(handle, "stdout"), what="the forgery")
    early = handle.exit()
    ended = until_ended(handle)
    mode = (control / "exit.json").stat().st_mode & 0o777
    handle.close(remove=True)

    assert early is None
    assert (ended.exit.code, mode) == (7, 0o600)


def test_under_a_sandbox_the_end_cannot_be_forged(tmp_path: Path) -> None:
    executor = ProcessExecutor(tmp_path / "attempts", sandbox=SandboxOptions(kind="landlock"))
    control = tmp_path / "attempts" / f"{RUN}-1" / "control"
    ended = run(executor, shell(f"echo x > {control}/exit.json; rm {control}/started; touch {control}/new; exit 7"))
    executor.close()

    assert ended.exit.code == 7
    assert ended.stderr.count(b"ermission denied") == 3


def test_a_daemon_with_an_empty_environment_ends_with_its_agent(executor: ProcessExecutor, token: str) -> None:
    ended = run(executor, shell(DAEMON.format(token=token) + " sleep 0.3; echo over"))

    assert (ended.exit.code, ended.stdout) == (0, b"over\n")
    assert living(token) == []


def test_a_daemon_with_an_empty_environment_ends_when_the_supervisor_is_killed(
    executor: ProcessExecutor, tmp_path: Path, token: str
) -> None:
    handle = executor.start(shell(DAEMON.format(token=token) + f" echo ready; exec sleep {token}"))
    eventually(lambda: len(living(token)) >= 3 and b"ready" in read(handle, "stdout"), what="the daemon")
    assert handle.exit() is None

    os.kill(supervisor_of(executor, tmp_path, f"{RUN}-1"), signal.SIGKILL)
    ended = until_ended(handle)
    handle.close(remove=True)

    assert (ended.exit.lost, ended.exit.by_agent) == (True, executor.sandbox.kind == "none")
    eventually(lambda: living(token) == [], what="the end of the daemon")


def test_supervisors_that_are_killed_at_one_moment_leave_nothing_and_take_no_fork_server_with_them(
    open_executor: ProcessExecutor, tmp_path: Path, token: str
) -> None:
    handles = {}
    for name in (f"{token}-{number}" for number in range(12)):
        source = DAEMON.format(token=token) + f" echo ready; exec sleep {token}"
        handles[name] = open_executor.start(shell(source, run_id=name))
    for handle in handles.values():
        eventually(lambda handle=handle: b"ready" in read(handle, "stdout"), what="the daemon")  # type: ignore[misc]
    server = server_of(open_executor)

    for name in handles:
        os.kill(supervisor_of(open_executor, tmp_path, f"{name}-1"), signal.SIGKILL)
    for handle in handles.values():
        until_ended(handle)
        handle.close(remove=True)

    eventually(lambda: living(token) == [], what="the end of the daemons")
    assert server_of(open_executor) == server
    assert os.path.exists(f"/proc/{server}")


def test_it_also_ends_when_the_worker_is_gone(executor: ProcessExecutor, tmp_path: Path, token: str) -> None:
    handle = executor.start(shell(DAEMON.format(token=token) + f" echo ready; exec sleep {token}"))
    eventually(lambda: len(living(token)) >= 3 and b"ready" in read(handle, "stdout"), what="the daemon")
    executor.close()

    os.kill(supervisor_of(executor, tmp_path, f"{RUN}-1"), signal.SIGKILL)

    eventually(lambda: living(token) == [], what="the end of the daemon")
    handle.close(remove=True)


@pytest.mark.parametrize("sent", [b"\0\0", b"\0\0\0\4", b"\0\0\0\4full", b"\0\0\0\4full" + bytes(7) + b"\4cut"])
def test_a_launch_that_is_cut_with_its_worker_takes_no_fork_server_with_it(
    executor: ProcessExecutor, tmp_path: Path, token: str, sent: bytes
) -> None:
    handle = executor.start(shell(DAEMON.format(token=token) + f" echo ready; exec sleep {token}"))
    eventually(lambda: len(living(token)) >= 3 and b"ready" in read(handle, "stdout"), what="the daemon")
    server = server_of(executor)
    assert executor._server is not None
    executor._server._connection.sendall(sent)
    executor.close()

    os.kill(supervisor_of(executor, tmp_path, f"{RUN}-1"), signal.SIGKILL)

    # Who else would end a daemon of a supervisor that was killed?
    eventually(lambda: living(token) == [], what="the end of the daemon")
    eventually(lambda: start_time(server) is None, what="the end of the fork server, which has no more to do")
    handle.close(remove=True)


def test_an_agent_dies_with_its_supervisor_where_no_fork_server_is_left(
    executor: ProcessExecutor, tmp_path: Path, token: str
) -> None:
    handle = executor.start(shell(f"echo ready; exec sleep {token}"))
    eventually(lambda: b"ready" in read(handle, "stdout"), what="the agent")
    os.kill(server_of(executor), signal.SIGKILL)

    os.kill(supervisor_of(executor, tmp_path, f"{RUN}-1"), signal.SIGKILL)

    eventually(lambda: living(token) == [], what="the end of the agent")
    handle.close(remove=True)


# One process waits, and another, deep below and last in the order of kills, watches it. Between them are many that have ended:
# their kills take time, and no processor from the one that watches.
WATCH = """
import os, select, signal, sys
reader, writer = os.pipe()
watched = os.fork()
if not watched:
    signal.pause()
if not os.fork():
    for _ in range(2000):
        if not os.fork():
            os._exit(0)
    os.write(writer, b".")
    signal.pause()
os.read(reader, 1)
if not os.fork():
    if not os.fork():
        end = os.pidfd_open(watched)
        os.write(writer, b".")
        select.select([end], [], [])
        open({seen!r}, "w")
        os._exit(0)
    signal.pause()
os.read(reader, 1)
"""


def test_no_process_of_an_agent_lives_to_see_another_die(open_executor: ProcessExecutor, tmp_path: Path) -> None:
    seen = tmp_path / "seen"

    ended = run(open_executor, python(WATCH.format(seen=str(seen))), within=60)

    assert (ended.exit.code, ended.stderr) == (0, b"")
    assert not seen.exists()


def test_an_agent_that_kills_its_supervisor_has_ended_itself(open_executor: ProcessExecutor, token: str) -> None:
    source = f"(setsid env -i /bin/sh -c 'sleep 0.5; sleep {token}' &) ; sleep 0.2; kill -KILL $PPID; sleep {token}"
    handle = open_executor.start(shell(source))
    eventually(lambda: living(token), what="the agent")
    handle.exit()
    ended = until_ended(handle)
    handle.close(remove=True)

    assert (ended.exit.lost, ended.exit.by_agent) == (True, True)
    eventually(lambda: living(token) == [], what="the end of all")


def test_under_landlock_an_agent_can_neither_kill_nor_stop_its_supervisor(tmp_path: Path) -> None:
    executor = ProcessExecutor(tmp_path / "attempts", sandbox=SandboxOptions(kind="landlock"))
    ended = run(executor, shell("kill -STOP $PPID; kill -KILL $PPID; kill -KILL -1; echo still here"))
    executor.close()

    assert (ended.exit.code, ended.exit.lost) == (0, False) or ended.exit.signal == signal.SIGKILL  # `-1` holds itself


@pytest.mark.parametrize("how", ["timeout", "stop"])
def test_a_stopped_supervisor_escapes_neither_time_limit_nor_stop(
    executor: ProcessExecutor, tmp_path: Path, token: str, how: str
) -> None:
    timeout = 2.0 if how == "timeout" else 60.0
    source = DAEMON.format(token=token) + f" echo ready; exec sleep {token}"
    handle = executor.start(shell(source, timeout_s=timeout, grace_s=1.0))
    eventually(lambda: len(living(token)) >= 3 and b"ready" in read(handle, "stdout"), what="the daemon")
    os.kill(supervisor_of(executor, tmp_path, f"{RUN}-1"), signal.SIGSTOP)
    if how == "stop":
        handle.stop()

    ended = until_ended(handle, within=LONGEST_END)
    handle.close(remove=True)

    assert ended.exit.stopped_by == how
    assert living(token) == []


def test_whoever_adopts_an_attempt_whose_supervisor_was_stopped_knows_its_limit(
    executor: ProcessExecutor, tmp_path: Path, token: str
) -> None:
    started = executor.start(shell(f"exec sleep {token}", timeout_s=2.0, grace_s=1.0))
    eventually(lambda: living(token), what="the agent")
    os.kill(supervisor_of(executor, tmp_path, f"{RUN}-1"), signal.SIGSTOP)
    started.close(remove=False)

    found = executor.find(RUN, 1)
    assert found is not None
    ended = until_ended(found, within=LONGEST_END)
    found.close(remove=True)

    assert ended.exit.stopped_by == "timeout"
    assert living(token) == []


def test_a_stopped_fork_server_is_replaced(executor: ProcessExecutor, monkeypatch: pytest.MonkeyPatch, token: str) -> None:
    monkeypatch.setattr("optio.executors.process._FORK_TIMEOUT_S", 1.0)
    before = executor.start(shell(f"echo ready; exec sleep {token}", run_id="before"))
    eventually(lambda: b"ready" in read(before, "stdout"), what="the first agent")
    server = server_of(executor)
    os.kill(server, signal.SIGSTOP)

    ended = run(executor, shell("echo again", run_id="second"), within=LONGEST_END)
    assert (ended.exit.code, ended.stdout) == (0, b"again\n")
    assert start_time(server) is None
    assert before.exit() is None  # what it supervised goes on
    before.stop()
    until_ended(before)
    before.close(remove=True)


@pytest.mark.parametrize("number", [signal.SIGCONT, signal.SIGKILL], ids=["goes on", "is killed"])
def test_launches_wait_side_by_side_and_each_begins_once_whatever_becomes_of_the_fork_server(
    executor: ProcessExecutor, tmp_path: Path, token: str, number: signal.Signals
) -> None:
    run(executor, shell("true", run_id="before"))
    server, names = server_of(executor), [f"{RUN}n{count}" for count in range(8)]
    connection = executor._server
    assert connection is not None
    os.kill(server, signal.SIGSTOP)

    def start(name: str) -> Handle:
        return executor.start(shell(f"echo once; exec sleep {token}", run_id=name))

    with ThreadPoolExecutor(len(names)) as pool:
        starts = [pool.submit(start, name) for name in names]
        eventually(lambda: len(connection._requests) == len(names), what="all envelopes on their way")
        os.kill(server, number)
        handles = dict(zip(names, [each.result(LONGEST_END) for each in starts], strict=True))

    for name, handle in handles.items():
        eventually(lambda handle=handle: read(handle, "stdout"), what="the agent")
        facts = Path(f"/proc/self/fdinfo/{handle._pidfd}").read_text()  # type: ignore[attr-defined]
        assert f"Pid:\t{supervisor_of(executor, tmp_path, f'{name}-1')}\n" in facts
    for handle in handles.values():
        handle.stop()
        assert until_ended(handle, within=LONGEST_END).stdout == b"once\n"
        handle.close(remove=True)


def test_a_program_that_prints_without_end_is_ended_at_its_quota(tmp_path: Path) -> None:
    executor = ProcessExecutor(tmp_path / "attempts", sandbox=SandboxOptions(kind="none"), disk_quota=8 << 20)
    ended = run(executor, shell("yes"), within=60)
    many = "import os\nfor n in range(400): open(str(n), 'wb').write(b'x' * (1 << 18))\nimport time; time.sleep(60)"
    spread = run(executor, python(many, run_id="spread"), within=60)
    executor.close()

    assert ended.exit.stopped_by == "disk_quota"
    assert len(ended.stdout) <= 8 << 20
    assert spread.exit.stopped_by == "disk_quota"


def test_the_end_of_an_attempt_needs_no_room(executor: ProcessExecutor, tmp_path: Path) -> None:
    handle = executor.start(shell("echo said; sleep 0.3; exit 3"))
    last_word = tmp_path / "attempts" / f"{RUN}-1" / "control" / "exit.json"
    eventually(lambda: b"said" in read(handle, "stdout"), what="the agent")
    blocks, inode = last_word.stat().st_blocks, last_word.stat().st_ino
    ended = until_ended(handle)

    assert ended.exit.code == 3
    assert blocks * 512 >= EXIT_BYTES
    assert (last_word.stat().st_ino, last_word.stat().st_blocks) == (inode, blocks)
    handle.close(remove=True)


def test_an_end_that_was_written_in_half_is_none(executor: ProcessExecutor, tmp_path: Path) -> None:
    handle = executor.start(shell("echo said"))
    until_ended(handle)
    last_word = tmp_path / "attempts" / f"{RUN}-1" / "control" / "exit.json"
    last_word.write_bytes(last_word.read_bytes()[:20].ljust(EXIT_BYTES, b"\0"))

    ended = until_ended(handle)
    handle.close(remove=True)

    assert ended.exit.lost


@pytest.mark.alone  # for some seconds nobody else on the machine can start a process or a thread
def test_a_fork_bomb_does_not_outlive_a_supervisor_that_is_killed(
    open_executor: ProcessExecutor, tmp_path: Path, token: str
) -> None:
    source = f"""
import os, sys, time
sys.argv.append({token!r})
for _ in range(40):
    if os.fork() == 0:
        os.setsid()
        os.execve("/bin/sh", ["sh", "-c", "while :; do sleep 0.01; done # {token}"], {{"PATH": "/usr/bin:/bin"}})
print("ready", flush=True)
time.sleep(60)
"""
    handle = open_executor.start(python(source))
    eventually(lambda: b"ready" in read(handle, "stdout"), within=60, what="the bomb")
    os.kill(supervisor_of(open_executor, tmp_path, f"{RUN}-1"), signal.SIGKILL)
    until_ended(handle)
    before = time.monotonic()
    eventually(lambda: living(token) == [], within=60, what="the end of all")
    handle.close(remove=True)

    assert time.monotonic() - before < 60
