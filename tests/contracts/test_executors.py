"""What every executor must do: local processes; pods where a cluster is, and on a stand-in of one."""

import ast
import hashlib
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from optio.errors import LaunchFailed
from optio.executors.base import Executor, Exit, Handle
from optio.executors.pods import manifest
from optio.executors.pods.executor import PodExecutor
from optio.model.run import LogLine
from optio.runs.output import Output
from tests.executors.pods.place import CLUSTER, NAMESPACE, STANDIN
from tests.executors.support import RUN, launch, living, make_reached_path, python, read, run, shell, until_ended
from tests.support import eventually

LONGEST_ENVIRONMENT_STRING = 131_071


@dataclass(frozen=True)
class Place:
    """Where attempts are: `code` makes an `executor` on it, in this process or another. `inside` runs a line of shell in an
    attempt's working directory. `pace` is how much slower than a process of this machine something starts. `adds` are
    variables that an agent finds beside its own."""

    code: str
    inside: Callable[[Executor, str], None]
    pace: float
    adds: frozenset[str] = frozenset({"IS_SANDBOX"})

    def none_left(self, token: str) -> bool:
        """Whether the agent is gone with all that it started: at once, or a moment after the log has told of the end."""
        return not living(token) if self.pace == 1 else bool(eventually(lambda: not living(token), what="the end of all"))

    def executor(self) -> Executor:
        names: dict[str, Any] = {}
        exec(self.code, names)  # noqa: S102 - our own words
        made: Executor = names["executor"]
        return made


def processes(path: Path, sandbox: str = "namespaces") -> Place:
    def inside(executor: Executor, line: str) -> None:
        subprocess.run(["/bin/sh", "-c", line], cwd=path / "attempts" / f"{RUN}-1" / "work", check=True)

    code = f"""
from pathlib import Path
from optio.executors.process import ProcessExecutor
from optio.executors.sandbox import SandboxOptions
executor = ProcessExecutor(Path({str(path / "attempts")!r}), sandbox=SandboxOptions(kind={sandbox!r}))
"""
    adds = {"none": (), "bwrap": ("IS_SANDBOX", "PWD")}.get(sandbox, ("IS_SANDBOX",))
    return Place(code, inside, pace=1, adds=frozenset(adds))


def bubblewrapped(path: Path) -> Place:
    return processes(path, "bwrap")


def landlocked(_path: Path) -> Place:
    return processes(make_reached_path(), "landlock")


def unconfined(path: Path) -> Place:
    return processes(path, "none")


def pods(path: Path, image: str | None = CLUSTER, pace: float = 10) -> Place:
    install = f"t{uuid.uuid4().hex[:12]}"
    code = f"""
from optio.executors.pods.executor import PodExecutor
from optio.executors.pods.manifest import PodSettings
sizes = {{"cpu": "50m", "memory": "256Mi", "disk": "256Mi"}}
executor = PodExecutor(PodSettings(namespace={NAMESPACE!r}, install={install!r}, image={image!r}, **sizes), {{}})
"""

    def inside(executor: Executor, line: str) -> None:
        assert isinstance(executor, PodExecutor)
        name = manifest.name_of(install, RUN, 1)
        command = ["/bin/sh", "-c", f"cd /optio/work && {line}"]
        code, said = executor._call(lambda site: site.cluster.run(name, manifest.CONTAINER, command))
        assert code in (0, 137), said  # its last act may be what ends the pod, and us with it

    return Place(code, inside, pace)


def standin(path: Path) -> Place:
    return pods(path, STANDIN, pace=3)


PODS = [*([pods] if CLUSTER else []), *([standin] if STANDIN else [])]
# An agent without a sandbox takes the way of one below Landlock, and may do more: it is tried where it may harm what is ours.
PLACES = [processes, bubblewrapped, landlocked, *PODS]
hostile = pytest.mark.parametrize("place", [unconfined, *PODS], ids=lambda place: place.__name__, indirect=True)


@pytest.fixture(params=PLACES, ids=lambda place: place.__name__)
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    if request.param is standin:
        monkeypatch.setenv("KUBECONFIG", str(request.getfixturevalue("standin").kubeconfig))
    made: Place = request.param(tmp_path)
    return made


@pytest.fixture
def executor(place: Place) -> Iterator[Executor]:
    made = place.executor()
    yield made
    made.close()
    last = place.executor()
    for run_id, attempt in last.attempts():
        last.remove(run_id, attempt)
    last.close()


@pytest.fixture
def token() -> str:
    """A time to sleep for, so odd that it finds the processes of this test."""
    return f"60.{uuid.uuid4().int % 10**12:012}"


def started(handle: Handle, word: bytes = b"ready") -> None:
    """Wait until the program has said that it is ready."""
    eventually(lambda: word in read(handle, "stdout"), what="the program's first words")


@pytest.mark.parametrize("place", [unconfined, *PLACES], ids=lambda place: place.__name__, indirect=True)
def test_a_program_gets_exactly_the_environment_that_is_named(
    executor: Executor, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPTIO_SECRET_OF_ANOTHER_TASK", "canary")

    ended = run(executor, launch("/usr/bin/env", "-0", env={"MINE": "a=b\nc", "EMPTY": ""}))

    variables = dict(item.split("=", 1) for item in ended.stdout.decode().split("\0") if item)
    assert set(variables) == {
        "PATH", "HOME", "TMPDIR", "LANG", "TERM", "NO_COLOR", "OPTIO_RESULT_FILE", "OPTIO_RUN_ID", "OPTIO_ATTEMPT",
        "MINE", "EMPTY",
    } | place.adds  # fmt: skip
    assert (variables["MINE"], variables["EMPTY"], variables["LANG"]) == ("a=b\nc", "", "C.UTF-8")


def test_a_program_has_a_session_directories_and_a_umask_of_its_own(executor: Executor) -> None:
    source = """
import os, stat, signal
places = [os.environ["HOME"], os.environ["TMPDIR"], os.getcwd()]
blocked = [int(s) for s in signal.pthread_sigmask(signal.SIG_BLOCK, [])]
print({
    "leader": os.getsid(0) in (os.getpid(), 1), "places": places, "writable": [os.access(p, os.W_OK) for p in places],
    "empty": [os.listdir(p) for p in places[1:]], "umask": os.umask(0), "stdout": stat.S_ISREG(os.fstat(1).st_mode),
    "blocked": blocked, "pipe": signal.getsignal(signal.SIGHUP) == signal.SIG_DFL, "fds": sorted(os.listdir("/proc/self/fd")),
})
"""
    found = ast.literal_eval(run(executor, python(source)).stdout.decode())

    assert (found["leader"], found["stdout"], found["writable"]) == (True, True, [True, True, True])
    assert (found["umask"], found["blocked"], found["empty"], found["pipe"]) == (0o077, [], [[], []], True)
    assert len(set(found["places"])) == 3
    assert found["fds"] == ["0", "1", "2", "3"]  # 3 is the listing itself


@pytest.mark.parametrize(
    "stdin",
    [b"", b"a\r\nb\0c\xff\xfe" + "Zoë \U0001f600 `id` $(id) {{X}} %s \\n --flag\n".encode(), os.urandom(2 << 20)],
    ids=["empty", "hostile", "2 MiB"],
)
def test_standard_input_arrives_byte_for_byte_and_then_ends(executor: Executor, stdin: bytes) -> None:
    ended = run(executor, launch("/usr/bin/sha256sum", stdin=stdin))

    assert ended.stdout.decode().split() == [hashlib.sha256(stdin).hexdigest(), "-"]


def test_a_program_that_ends_before_it_has_read_its_input_is_fine(executor: Executor) -> None:
    ended = run(executor, shell("echo done", stdin=b"x" * (2 << 20)))

    assert (ended.exit.code, ended.stdout) == (0, b"done\n")


def test_the_longest_environment_string_works(executor: Executor) -> None:
    value = "x" * (LONGEST_ENVIRONMENT_STRING - len("BIG="))

    ended = run(executor, shell("echo ${#BIG}", env={"BIG": value}))

    assert ended.stdout.decode().strip() == str(len(value))


@pytest.mark.parametrize(
    ("value", "words"),
    [("x" * (LONGEST_ENVIRONMENT_STRING - 3), "`BIG` in the environment is longer than"), ("a\0b", "holds a NUL character")],
)
def test_what_no_kernel_takes_is_refused_by_its_name_and_without_its_value(executor: Executor, value: str, words: str) -> None:
    with pytest.raises(LaunchFailed, match="BIG") as caught:
        executor.start(launch("/bin/true", env={"BIG": value}))

    assert words in str(caught.value)
    assert value[:3] not in str(caught.value)
    assert (caught.value.reason, caught.value.temporary) == ("environment", False)


def test_an_environment_that_is_too_large_as_a_whole_ends_the_attempt_with_its_reason(executor: Executor) -> None:
    ended = run(executor, launch("/bin/true", env={f"V{i}": "x" * 131_000 for i in range(50)}))

    assert ended.exit.error == "E2BIG"


@pytest.mark.parametrize("code", [127, 193, 255])
def test_an_exit_code_is_reported_as_it_is(executor: Executor, code: int) -> None:
    ended = run(executor, shell(f"exit {code}"))

    assert (ended.exit.code, ended.exit.signal, ended.exit.stopped_by, ended.exit.error) == (code, None, None, None), ended


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_a_program_that_dies_of_a_signal_is_not_taken_for_one_that_was_stopped(executor: Executor, number: int) -> None:
    ended = run(executor, shell(f"kill -{int(number)} $$"))

    assert (ended.exit.code, ended.exit.signal, ended.exit.stopped_by) == (None, number, None)


def test_an_agent_does_not_ignore_what_its_worker_and_python_ignore(executor: Executor) -> None:
    ended = run(executor, shell('for each in HUP PIPE XFSZ; do sh -c "kill -$each \\$\\$"; echo $?; done'))

    assert ended.stdout.split() == [b"129", b"141", b"153"]


def test_programs_that_cannot_be_started_say_why(executor: Executor) -> None:
    setup = ("echo x > plain",)

    exits = [run(executor, launch(f"./{name}", run_id=name, setup=setup)).exit for name in ("missing", "plain")]

    assert [(e.code, e.error) for e in exits] == [(127, "ENOENT"), (126, "EACCES")]


def test_set_up_commands_run_in_order_before_the_agent_and_share_its_places(executor: Executor) -> None:
    setup = ("cat > f; echo one >> f; echo hello-from-set-up", "cat f >> g; echo two >> g", "echo three >> g")

    ended = run(executor, launch("/bin/cat", "g", setup=setup, stdin=b"not for the set-up"))

    assert (ended.stdout, ended.exit.phase) == (b"one\ntwo\nthree\n", "agent")
    assert b"hello-from-set-up" in ended.stderr


def test_set_up_commands_with_variables_of_their_own_see_none_of_the_agents(executor: Executor) -> None:
    variables = {"KEY": "canary"}

    ended = run(executor, shell("echo $KEY; cat seen", setup=("env >seen",), env=variables, setup_env={"MINE": "yes"}))

    lines = ended.stdout.decode().splitlines()
    assert lines[0] == "canary"
    assert "MINE=yes" in lines
    assert not [line for line in lines if line.startswith(("KEY=", "OPTIO_"))]


def test_a_set_up_command_that_fails_ends_the_attempt_before_the_agent(executor: Executor) -> None:
    ended = run(executor, launch("/bin/echo", "agent", setup=("echo why >&2; exit 4", "echo next")))

    assert (ended.exit.code, ended.exit.phase, ended.stdout, ended.stderr) == (4, "setup", b"", b"why\n")


def test_a_stop_in_the_set_up_starts_no_agent_even_if_the_command_says_success(executor: Executor) -> None:
    handle = executor.start(launch("/bin/echo", "agent", setup=("trap 'exit 0' TERM; echo ready; sleep 60 & wait",)))
    eventually(lambda: b"ready" in read(handle, "stderr"))

    handle.stop()
    ended = until_ended(handle)
    handle.close(remove=True)

    assert (ended.exit.stopped_by, ended.exit.phase, ended.stdout) == ("stop", "setup", b"")


def test_the_time_limit_holds_with_no_worker_alive(executor: Executor, place: Place, token: str) -> None:
    handle = executor.start(shell(f"echo ready; sleep {token}; echo late", timeout_s=1.0, run_id="limit"))
    started(handle)
    handle.close(remove=False)
    executor.close()

    eventually(lambda: not living(token), what="the end of the agent")
    another = place.executor()
    found = another.find("limit", 1)

    assert found is not None
    ended = until_ended(found)
    found.close(remove=True)
    another.close()
    assert (ended.exit.stopped_by, ended.stdout) == ("timeout", b"ready\n")


def test_an_agent_whose_lease_nobody_renews_ends_before_others_may_repeat_its_run(
    executor: Executor, place: Place, token: str
) -> None:
    source = f"trap '' TERM; echo ready; sleep {token}"
    leased_at = executor.clock()
    handle = executor.start(shell(source, orphan_s=10.0, leased_at=leased_at, grace_s=60.0))
    started(handle)
    handle.close(remove=False)
    executor.close()

    eventually(lambda: not living(token), what="the end of the agent")
    ended_at = executor.clock()
    another = place.executor()
    found = another.find(RUN, 1)
    assert found is not None
    ended = until_ended(found)
    found.close(remove=True)
    another.close()

    assert (ended.exit.stopped_by, ended.exit.signal) == ("orphaned", signal.SIGKILL)
    assert leased_at + 5.0 < ended_at < leased_at + 10.0


def test_an_agent_whose_lease_is_renewed_by_any_handle_lives_on(executor: Executor, place: Place, token: str) -> None:
    orphan_s = max(3.0, place.pace)  # who renews it may be kept from that for a moment
    handle = executor.start(shell(f"echo ready; sleep {token}", orphan_s=orphan_s, timeout_s=300.0, leased_at=executor.clock()))
    started(handle)
    handle.renewed(executor.clock())
    found = executor.find(RUN, 1)
    assert found is not None

    for _ in range(40):
        time.sleep(orphan_s / 30)
        found.renewed(executor.clock())
    renewed, alive = found.exit(), living(token)
    ended = until_ended(handle)
    for each in (handle, found):
        each.close(remove=True)

    assert (renewed, alive != []) == (None, True)
    assert ended.exit.stopped_by == "orphaned"
    assert place.none_left(token)


def test_a_launch_that_comes_when_its_lease_is_long_over_starts_nothing(executor: Executor) -> None:
    ended = run(executor, shell("echo ran", setup=("echo ran",), leased_at=executor.clock() - 1000))

    assert (ended.exit.stopped_by, ended.exit.code) == ("orphaned", None)
    assert (ended.stdout, ended.stderr) == (b"", b"")


def test_a_program_that_ignores_the_request_is_killed_after_the_grace(executor: Executor, place: Place, token: str) -> None:
    handle = executor.start(shell(f"trap '' TERM; echo ready; sleep {token}", grace_s=0.3))
    started(handle)

    handle.stop()
    ended = until_ended(handle)
    handle.close(remove=True)

    assert (ended.exit.signal, ended.exit.stopped_by) == (signal.SIGKILL, "stop")
    assert place.none_left(token)


def test_a_program_that_heeds_the_request_has_its_grace(executor: Executor) -> None:
    handle = executor.start(shell("trap 'sleep 0.3; echo bye; exit 9' TERM; echo ready; sleep 60 & wait", grace_s=10.0))
    started(handle)

    handle.stop()
    ended = until_ended(handle)
    handle.close(remove=True)

    assert (ended.exit.code, ended.exit.stopped_by, ended.stdout) == (9, "stop", b"ready\nbye\n")


CHILDREN = {
    "five ways to escape": (
        "sleep {token} & setsid sleep {token} & (setsid sh -c 'sleep {token} & sleep {token} &' &); "
        "(trap '' TERM; exec sleep {token}) & env -i setsid /bin/sleep {token} &"
    ),
    "fork storm": "for i in $(seq 20); do (setsid sh -c 'for j in 1 2 3; do sleep {token} & done; wait' &) ; done",
}
ENDS: dict[str, tuple[str, Callable[[Handle], None]]] = {
    "success": ("exit 0", lambda handle: None),
    "stop": ("sleep 60 & wait", lambda handle: handle.stop()),
    "time limit": ("sleep 60 & wait", lambda handle: None),
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("children", CHILDREN)
def test_no_process_is_left_whatever_it_started_and_however_it_ends(
    executor: Executor, place: Place, token: str, children: str, end: str
) -> None:
    last, act = ENDS[end]
    source = f"{CHILDREN[children].format(token=token)}\necho ready; read go < go; {last}"
    handle = executor.start(shell(source, setup=("mkfifo go",), timeout_s=place.pace if end == "time limit" else 60.0))
    started(handle)
    eventually(lambda: len(living(token)) >= 7, what="children")
    place.inside(executor, "echo > go")

    act(handle)
    ended = until_ended(handle)
    handle.close(remove=True)

    assert place.none_left(token)
    assert not ended.exit.lost


@pytest.mark.alone  # for some seconds nobody else on the machine can start a process or a thread
def test_children_that_fork_without_end_are_ended_too(executor: Executor, place: Place, token: str) -> None:
    source = f"""
import os, sys, time
print("ready", flush=True)
limit = time.time() + 20
for _ in range(10):
    if os.fork() == 0:
        os.setsid()
        while time.time() < limit:  # {token}: each dies at once and leaves another behind
            if os.fork():
                os._exit(0)
            time.sleep(0.002)
        os._exit(0)
time.sleep(0.2)
"""
    ended = run(executor, python(source))

    assert ended.exit.code == 0
    assert place.none_left(token)


@pytest.mark.alone  # for some seconds nobody else on the machine can start a process or a thread
def test_orphans_that_die_without_pause_do_not_hold_back_the_time_limit(executor: Executor) -> None:
    ended = run(executor, shell("while :; do (true &) ; done", timeout_s=0.5), within=15)

    assert ended.exit.stopped_by == "timeout"


def test_a_background_child_that_holds_the_output_does_not_keep_the_run_open(executor: Executor, token: str) -> None:
    before = time.monotonic()
    ended = run(executor, shell(f"sleep {token} & echo done"))

    assert (ended.exit.code, ended.stdout) == (0, b"done\n")
    assert time.monotonic() - before < 30


def test_output_survives_byte_for_byte(executor: Executor) -> None:
    data = b"\n\n\na\rb\r\n\x1b[31mred\x1b[0m\n" + "ä€😀".encode() + b"\xff\xfe\0 bytes \x80, and no newline at the end"
    source = "import sys, os\nfor b in sys.stdin.buffer.read(): os.write(1, bytes([b])); os.write(2, bytes([b]))"

    ended = run(executor, python(source, stdin=data))

    assert (ended.stdout, ended.stderr) == (data, data)


def test_output_is_kept_when_the_program_closes_it_early_or_is_killed_in_a_line(executor: Executor) -> None:
    closes = run(executor, shell("printf said; exec >&- 2>&-", run_id="closes"))
    killed = run(executor, shell("printf 'half a li'; kill -9 $$", run_id="killed"))

    assert (closes.stdout, closes.exit.code) == (b"said", 0)
    assert (killed.stdout, killed.exit.signal) == (b"half a li", 9)


def test_the_result_file_is_read_while_the_program_runs(executor: Executor) -> None:
    handle = executor.start(shell('printf "one\\n" >> "$OPTIO_RESULT_FILE"; sleep 60'))

    seen = eventually(lambda: read(handle, "result"))
    handle.stop()
    until_ended(handle)
    handle.close(remove=True)

    assert seen == b"one\n"


SIDE = ".agent/*/session-*.jsonl"


def test_the_session_file_of_an_agent_is_read_while_it_runs_and_by_whoever_finds_it(executor: Executor, place: Place) -> None:
    source = 'mkdir -p ~/.agent/1; F=~/.agent/1/session-1.jsonl; printf "one\\r\\n" >> $F; read x < go; printf "two" >> $F'
    handle = executor.start(shell(source, side=SIDE, setup=("mkfifo go",)))

    seen = eventually(lambda: read(handle, "side"))
    handle.close(remove=False)
    another = place.executor()
    found = another.find(RUN, 1)
    assert found is not None
    again = eventually(lambda: read(found, "side"))
    place.inside(executor, "echo > go")
    until_ended(found)
    whole = read(found, "side")
    found.close(remove=True)
    another.close()

    assert (seen, again, whole) == (b"one\r\n", b"one\r\n", b"one\r\ntwo")


TELEMETRY = ".agent/telemetry"


def test_telemetry_is_read_beside_the_session_file_and_by_whoever_finds_it(executor: Executor, place: Place) -> None:
    source = "cd ~/.agent; mkdir 1; echo session > 1/session-1.jsonl; echo one >> telemetry; read x < ~/../work/go"
    source = f"{source}; rm telemetry; mkfifo telemetry; echo done"
    files = {TELEMETRY: b""}
    handle = executor.start(shell(source, side=SIDE, telemetry=TELEMETRY, files=files, setup=("mkfifo go",)))

    seen = eventually(lambda: read(handle, "telemetry"))
    handle.close(remove=False)
    another = place.executor()
    found = another.find(RUN, 1)
    assert found is not None
    place.inside(executor, "echo > go")
    until_ended(found)
    again, session = read(found, "telemetry"), read(found, "side")
    found.close(remove=True)
    another.close()

    assert (seen, again, session) == (b"one\n", b"one\n", b"session\n")


def replaced_by(command: str) -> tuple[str, str, str]:
    return f"{command} telemetry", f"{command} session-1.jsonl", f'{command} "$F"'


@hostile
@pytest.mark.parametrize(
    ("telemetry", "session", "result"),
    [
        replaced_by("ln -s /etc/passwd"),
        replaced_by("mkfifo"),
        replaced_by("mkdir"),
        ("true", "echo x > other.jsonl", 'rm -r "$(dirname "$F")"'),
        ("true", "true", 'D=$(dirname "$F"); rm -r "$D"; ln -s /etc "$D"'),
    ],
    ids=["link", "pipe", "directory", "removed", "parent replaced"],
)
def test_a_file_of_the_agents_own_that_is_something_else_is_not_read(
    executor: Executor, telemetry: str, session: str, result: str
) -> None:
    setup = (f"cd ~/.agent && rm telemetry && {telemetry}",)
    source = f'F="$OPTIO_RESULT_FILE"; mkdir ~/.agent/a; cd ~/.agent/a; {session}; {result}; echo done'
    handle = executor.start(shell(source, setup=setup, side=SIDE, telemetry=TELEMETRY, files={TELEMETRY: b""}))
    ended = until_ended(handle)
    found = read(handle, "telemetry"), read(handle, "side")
    handle.close(remove=True)

    assert (ended.result, *found) == (b"", b"", b"")
    assert (ended.stdout, ended.exit.code) == (b"done\n", 0)


def test_whoever_finds_an_attempt_reads_the_session_file_that_was_read_before(executor: Executor, place: Place) -> None:
    source = (
        "mkdir -p ~/.agent/1; cd ~/.agent/1; echo true > session-1.jsonl; read x < ~/../work/go; echo false > session-0.jsonl"
    )
    handle = executor.start(shell(f"{source}; rm session-1.jsonl; echo done", side=SIDE, setup=("mkfifo go",)))
    seen = eventually(lambda: read(handle, "side"))
    place.inside(executor, "echo > go")
    eventually(lambda: read(handle, "stdout"), what="the end of the agent")
    handle.close(remove=False)

    another = place.executor()
    found = another.find(RUN, 1)
    assert found is not None
    until_ended(found)
    again = read(found, "side")
    found.close(remove=True)
    another.close()

    assert (seen, again) == (b"true\n", b"true\n")


class Silent:
    """A reader for which no line of an agent's own file has a meaning."""

    plain = frozenset({"stdout", "stderr", "result", "side", "telemetry"})

    def line(self, stream: str, data: bytes, at: datetime) -> list[LogLine]:
        return []


@hostile
def test_a_file_of_the_agents_own_that_claims_a_terabyte_is_read_to_its_limit(executor: Executor) -> None:
    source = "truncate -s 1T $OPTIO_RESULT_FILE || truncate -s 4G $OPTIO_RESULT_FILE || exit 9; echo done"
    handle = executor.start(shell(source))
    output = Output(handle, Silent(), {})  # type: ignore[arg-type]

    ended = until_ended_reading(handle, output)

    assert (ended.code, output.offsets["stdout"]) == (0, 5)


def until_ended_reading(handle: Handle, output: Output) -> Exit:
    """Read as a worker does, to the end of every stream."""

    def look() -> Exit | None:
        output.take()
        found = handle.exit()
        if found is None:
            handle.wait(0.1)
        return found

    ended = eventually(look, within=100, what="the end of the attempt")
    eventually(lambda: (output.take(), output.drained)[1], within=100, what="the end of every stream")
    handle.close(remove=True)
    return ended


def test_files_are_private_below_home_and_named_by_variables_and_options(executor: Executor) -> None:
    source = 'echo "$(stat -c %a "$WHERE") $(cat "$WHERE") $WHERE $0 $*"'
    name = "deep/er/f.json"

    ended = run(executor, shell(source, files={name: b"{}"}, file_env={"WHERE": name}, file_options={"--in": name}))

    mode, text, path, *options = ended.stdout.decode().split()
    assert (mode, text, path.endswith("/home/deep/er/f.json")) == ("600", "{}", True)
    assert options == ["--in", path]


def test_starting_the_same_attempt_twice_starts_it_once(executor: Executor) -> None:
    what = shell("echo x >> ~/count; sleep 0.3; cat ~/count; echo done")

    handles = [executor.start(what), executor.start(what)]
    both = [until_ended(handle) for handle in handles]
    for handle in handles:
        handle.close(remove=False)

    assert [(e.stdout, e.exit.code) for e in both] == [(b"x\ndone\n", 0)] * 2


def test_an_attempt_that_is_started_again_after_its_end_runs_no_more_and_says_what_it_said(executor: Executor) -> None:
    what = shell("echo x >> ~/count; cat ~/count; exit 3")
    first = executor.start(what)
    until_ended(first)

    second = executor.start(what)
    ended = until_ended(second)
    for handle in (first, second):
        handle.close(remove=True)

    assert (ended.stdout, ended.exit.code) == (b"x\n", 3)


def test_the_second_handle_of_an_attempt_can_stop_it(executor: Executor, place: Place, token: str) -> None:
    what = shell(f"echo ready; sleep {token}")
    first = executor.start(what)
    started(first)
    second = executor.start(what)
    eventually(lambda: second.exit() is None and not second.wait(0.05) and second.exit() is None)

    second.stop()
    ended = until_ended(second)
    for handle in (first, second):
        handle.close(remove=False)

    assert ended.exit.stopped_by == "stop"
    assert place.none_left(token)


def test_an_attempt_that_is_looked_for_before_it_began_never_begins(executor: Executor) -> None:
    found = executor.find("late", 1)
    handle = executor.start(shell("echo ran", run_id="late"))
    ended = until_ended(handle)
    handle.close(remove=True)

    assert found is None
    assert ended.exit.lost
    assert ended.stdout == b""


def test_an_attempt_is_found_again_after_its_worker_was_killed(executor: Executor, place: Place, token: str) -> None:
    what = shell(f"echo one; read line < go; echo two; exit 5 # {token}", setup=("mkfifo go",))
    source = f"""{place.code}
import time
from optio.executors.base import Launch
handle = executor.start({what!r})
while not handle.read("stdout", 0, 9):
    handle.wait(1.0)
print("started", flush=True)
time.sleep(60)
"""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    worker = subprocess.Popen([sys.executable, "-c", source], start_new_session=True, **pipes)
    assert worker.stdout is not None
    assert worker.stdout.readline() == b"started\n"
    os.killpg(worker.pid, signal.SIGINT)  # Ctrl-C at its terminal does not reach the agent
    worker.kill()
    # Nobody who reads the worker's output waits for its agents.
    assert worker.communicate(timeout=20)[0] == b""

    found = executor.find(RUN, 1)
    assert found is not None
    started(found, b"one")
    still_running = found.exit() is None
    place.inside(executor, "echo > go")
    ended = until_ended(found)
    found.close(remove=True)

    assert still_running
    assert (ended.stdout, ended.exit.code) == (b"one\ntwo\n", 5)


def test_what_an_attempt_left_is_gone_once_it_is_removed(executor: Executor) -> None:
    handle = executor.start(shell("echo x > f; chmod 000 .", run_id="big", attempt=7))
    until_ended(handle)
    handle.close(remove=False)
    before = executor.attempts()

    executor.remove("big", 7)

    assert before == [("big", 7)]
    eventually(lambda: executor.attempts() == [], what="the end of the attempt's remains")


def test_removing_an_attempt_ends_what_still_runs_of_it(executor: Executor, place: Place, token: str) -> None:
    handle = executor.start(shell(f"setsid sleep {token} & echo ready; sleep {token}"))
    started(handle)
    handle.close(remove=False)

    executor.remove(RUN, 1)

    assert place.none_left(token)


def test_a_wake_from_another_thread_ends_the_wait(executor: Executor) -> None:
    handle = executor.start(shell("sleep 60"))
    handle.wake()

    before = time.monotonic()
    handle.wait(30.0)
    waited = time.monotonic() - before
    handle.stop()
    until_ended(handle)
    handle.close(remove=True)

    assert waited < 15


def test_launches_leave_no_descriptor_and_no_zombie_behind(executor: Executor, place: Place) -> None:
    run(executor, launch("/bin/true", run_id="first"))
    before = len(os.listdir("/proc/self/fd"))

    for number in range(24 if place.pace == 1 else 12):
        assert run(executor, launch("/bin/true", run_id=f"r{number}")).exit.code == 0

    kept = 0 if place.pace == 1 else 8  # connections to the cluster, for the next request
    eventually(lambda: len(os.listdir("/proc/self/fd")) <= before + kept, what="as few open files as before")
    assert eventually(lambda: not _zombies(), what="no zombies")


def _zombies() -> list[str]:
    """Dead and not reaped, among our descendants."""
    stats = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                stats.append((entry, Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()))
            except OSError:
                continue
    ours = {str(os.getpid())}
    for _ in range(5):
        ours |= {entry for entry, fields in stats if fields[1] in ours}
    return [entry for entry, fields in stats if fields[0] == "Z" and entry in ours]


def test_an_attempt_can_go_on_in_the_home_and_working_directory_of_an_ended_one(executor: Executor, place: Place) -> None:
    begin = (
        "pwd; echo $HOME; echo kept > $HOME/note; echo kept > note; echo one > $HOME/session; echo old > $TMPDIR/x; echo ready"
    )
    go_on = "pwd; echo $HOME; cat $HOME/note note; ls $TMPDIR; echo two >> $HOME/session; echo result > $OPTIO_RESULT_FILE"
    first = executor.start(shell(f"{begin}; sleep 0.5", side="session", runtime_program=True))
    started(first)
    living_before = executor.can_continue(RUN, 1, "/bin/sh")
    ended = until_ended(first)
    first.close(remove=False)

    assert not living_before, "its first attempt still ran"
    assert not executor.can_continue(RUN, 7, "/bin/sh"), "there was no such attempt"
    assert not executor.can_continue(RUN, 1, "/bin/cat"), "its program is another one"
    if isinstance(executor, PodExecutor):
        assert not executor.can_continue(RUN, 1, "/bin/sh"), "its home has gone with its pod"
        return
    assert executor.can_continue(RUN, 1, "/bin/sh")
    second = executor.start(shell(go_on, attempt=2, continues=1, side="session", runtime_program=True))
    continued = until_ended(second)

    work, home, _ = ended.stdout.splitlines()
    assert continued.stdout.splitlines() == [work, home, b"kept", b"kept"], continued.stderr
    assert continued.result == b"result\n"
    assert read(second, "side") == b"two\n", "the first attempt has read the rest"
    found = executor.find(RUN, 2)
    assert found is not None
    assert read(found, "side") == b"two\n"
    found.close(remove=False)
    second.close(remove=True)
    assert executor.attempts() == [(RUN, 1)], "another attempt may go on there"
    assert executor.can_continue(RUN, 1, "/bin/sh")
    executor.remove(RUN, 1)
    assert executor.attempts() == []
