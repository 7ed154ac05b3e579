"""Local processes: what no other executor has. A fork server, inotify, supervisors, agent programs on PATH."""

import os
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from optio.errors import LaunchFailed
from optio.executors import inotify, supervisor
from optio.executors.cgroup import limits_of
from optio.executors.process import ProcessExecutor
from optio.executors.supervisor import _Descriptors, _EndConditions
from optio.executors.usage import LOOK_EVERY_S, UsageLimits
from optio.model.task import Amounts, Environment, Resources
from optio.process_identity import start_time
from tests.executors.support import RUN, launch, living, python, read, run, shell, until_ended
from tests.support import eventually


@pytest.fixture
def executor(tmp_path: Path) -> Iterator[ProcessExecutor]:
    made = ProcessExecutor(tmp_path / "attempts")
    yield made
    made.close()


def supervisor_of(executor: ProcessExecutor, tmp_path: Path, name: str) -> int:
    """The pid in the marker."""
    marker = tmp_path / "attempts" / name / "control" / "started"
    return int(eventually(lambda: marker.is_symlink() and os.readlink(marker)).split(":")[0])


def server_of(executor: ProcessExecutor) -> int:
    """The pid of its fork server."""
    assert executor._server is not None
    assert executor._server._pidfd is not None
    facts = Path(f"/proc/self/fdinfo/{executor._server._pidfd}").read_text()
    return next(int(line.split()[1]) for line in facts.splitlines() if line.startswith("Pid:"))


@pytest.mark.parametrize(
    "source",
    ["sleep {token}", "setsid sleep {token} & (setsid sh -c 'sleep {token} &' &) ; trap '' TERM; sleep {token}"],
    ids=["one", "many"],
)
def test_when_the_supervisor_is_killed_everything_it_watched_is_killed_and_the_attempt_is_lost(
    executor: ProcessExecutor, tmp_path: Path, source: str
) -> None:
    token = f"60.{uuid.uuid4().int % 10**12:012}"
    handle = executor.start(shell("echo ready; " + source.format(token=token)))
    eventually(lambda: living(token) and b"ready" in read(handle, "stdout"))
    time.sleep(0.2)

    os.kill(supervisor_of(executor, tmp_path, f"{RUN}-1"), signal.SIGKILL)
    ended = until_ended(handle)
    handle.close(remove=True)

    assert (ended.exit.lost, ended.exit.by_agent) == (True, False)
    assert living(token) == []


def test_a_fork_server_that_was_killed_between_launches_is_replaced(executor: ProcessExecutor) -> None:
    run(executor, launch("/bin/true", run_id="first"))
    server = server_of(executor)

    os.kill(server, signal.SIGKILL)
    eventually(lambda: start_time(server) is None)
    ended = run(executor, shell("echo again", run_id="second"))

    assert (ended.exit.code, ended.stdout) == (0, b"again\n")


def test_a_stream_that_cannot_be_opened_ends_its_attempt_and_leaves_nothing_open_in_the_fork_server(
    executor: ProcessExecutor, tmp_path: Path
) -> None:
    def descriptors() -> set[str]:
        return set(os.listdir(f"/proc/{server_of(executor)}/fd"))

    run(executor, shell("true", run_id="before"))
    before = descriptors()
    (tmp_path / "attempts" / f"{RUN}-1" / "control" / "stderr").mkdir(parents=True)
    ended = run(executor, shell("echo never")).exit
    after = run(executor, shell("echo ok", run_id="after"))
    assert (ended.phase, ended.code, ended.error) == ("setup", None, "EISDIR")
    assert (after.stdout, descriptors()) == (b"ok\n", before)


def test_a_supervisor_keeps_no_pipe_open(executor: ProcessExecutor, tmp_path: Path) -> None:
    handle = executor.start(shell("echo ready; sleep 30"))
    eventually(lambda: read(handle, "stdout"), what="the agent")
    opened = Path(f"/proc/{supervisor_of(executor, tmp_path, f'{RUN}-1')}/fd")

    eventually(lambda: not [each for each in opened.iterdir() if "pipe:" in os.readlink(each)], what="the end of the pipes")
    handle.stop()
    until_ended(handle)
    handle.close(remove=True)


@pytest.mark.parametrize("lists", [True, False])
def test_children_are_found_on_a_kernel_that_does_not_list_them_too(monkeypatch: pytest.MonkeyPatch, lists: bool) -> None:
    parent = subprocess.Popen(["/bin/sh", "-c", "sleep 60 & echo $!; wait"], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    if not lists:
        monkeypatch.setattr(supervisor, "open", open_without_children, raising=False)
        monkeypatch.setattr(os.path, "exists", lambda path: False)

    found = supervisor._children(parent.pid)
    for each in (child, parent.pid):
        os.kill(each, signal.SIGKILL)
    parent.communicate()

    assert found == [child]


def open_without_children(path: str, mode: str) -> Any:
    if path.endswith("/children"):
        raise FileNotFoundError(path)
    return open(path, mode)


def test_a_launch_of_what_has_begun_opens_nothing_that_the_agent_may_have_put_there(
    executor: ProcessExecutor, tmp_path: Path
) -> None:
    first = executor.start(shell("sleep 30"))
    control = tmp_path / "attempts" / f"{RUN}-1" / "control"
    eventually(lambda: (control / "started").is_symlink(), what="the marker")
    (control / "stdout").unlink()
    os.mkfifo(control / "stdout")  # to open it would wait for a reader
    second = executor.start(shell("sleep 30"))
    after = run(executor, shell("echo ok", run_id="after"))
    first.stop()
    assert after.stdout == b"ok\n"
    for handle in (first, second):
        assert until_ended(handle).exit.stopped_by == "stop"
        handle.close(remove=False)


def test_an_agent_whose_ruleset_cannot_be_made_is_not_started_without_one(tmp_path: Path) -> None:
    refused = {"attr": b"", "paths": [], "ports": []}
    opened = _Descriptors({"control": str(tmp_path), "sandbox": refused, "plan": None})

    with pytest.raises(OSError, match="Invalid argument"):
        opened.streams()
    opened.close()


@pytest.mark.parametrize(("timeout", "orphaned", "disk"), [(9.0, 50.0, 50.0), (50.0, 9.0, 50.0), (50.0, 50.0, 9.0)])
def test_a_supervisor_asks_again_when_the_first_of_its_limits_may_be_reached(
    tmp_path: Path, timeout: float, orphaned: float, disk: float
) -> None:
    launch = {"timeout": timeout, "orphaned": orphaned, "control": str(tmp_path), **limits(tmp_path, size=1 << 20)}

    conditions = _EndConditions({**launch, "leased_at": time.clock_gettime(time.CLOCK_BOOTTIME)})
    conditions._usage._next = time.monotonic() + disk

    assert 8.0 < conditions.left() <= 9.0
    assert conditions.reached([]) is None
    conditions._usage._next = 0.0
    assert conditions.reached([]) is None
    assert conditions.left() > 0.0


def test_the_quota_counts_the_files_of_a_session_that_goes_on(tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_bytes(b"x" * (3 << 20))
    found = []
    for roots in (["second"], ["second", "first"]):
        usage = UsageLimits(limits(*(tmp_path / name for name in roots), size=5 << 20))
        usage._next = usage._counted_at = 0.0
        found.append(usage.reached([]))

    assert found == [None, "disk_quota"]


@pytest.mark.parametrize(
    ("floor", "free", "quota", "found"),
    [(0, 0, 0, "disk_full"), (0, 1, 0, None), (1, 0, 0, None), (1, 2, 0, None), (1, 2, -1, "disk_quota")],
)
def test_an_attempt_that_reaches_the_floor_of_a_nearly_full_disk_or_exceeds_its_quota_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, floor: int, free: int, quota: int, found: str | None
) -> None:
    for name in ("own", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_bytes(b"x" * (1 << 20))
    for number, elsewhere in enumerate((tmp_path / "other", tmp_path / "other" / "file")):
        (tmp_path / "own" / f"link-{number}").symlink_to(elsewhere)
    used = sum(path.lstat().st_blocks for path in (tmp_path / "own").iterdir())
    full = SimpleNamespace(f_frsize=512, f_blocks=(used + floor) * 16, f_bavail=used - 1 + free, f_files=0, f_favail=0)
    monkeypatch.setattr(os, "statvfs", lambda path: full)
    usage = UsageLimits(limits(tmp_path / "own", size=used * 512 + quota))
    usage._next = usage._counted_at = 0.0

    assert usage.reached([]) == found
    assert 0.0 < usage.left() <= LOOK_EVERY_S


def limits(*roots: Path, size: int = 1 << 30, files: int = 100, processes: int = 100) -> dict[str, Any]:
    """The limits of an attempt with these directories, as its supervisor gets them."""
    return {"roots": list(map(str, roots)), "disk": size, "disk_files": files, "processes": processes, "pids": None}


@pytest.mark.parametrize(
    ("left", "fails"),
    [
        ("ln -s {outside} $HOME/.agent", True),
        ("mkdir $HOME/.agent; ln -s {outside}/config $HOME/.agent/config", False),
        ("mkdir $HOME/.agent; mkfifo $HOME/.agent/config", False),
        ("mkdir -p $HOME/.agent/config", True),
        ("touch $HOME/.agent", True),
    ],
)
def test_what_an_agent_left_in_its_home_leads_no_file_of_the_next_attempt_elsewhere(
    executor: ProcessExecutor, tmp_path: Path, left: str, fails: bool
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "config").write_text("before")
    first = executor.start(shell(left.format(outside=outside)))
    until_ended(first)
    first.close(remove=False)
    second = launch("/bin/true", attempt=2, continues=1, files={".agent/config": b"after"})

    if fails:
        with pytest.raises(LaunchFailed):
            executor.start(second)
    else:
        handle = executor.start(second)
        until_ended(handle)
        handle.close(remove=True)

    assert (outside / "config").read_text() == "before"
    assert sorted(os.listdir(outside)) == ["config"]


def test_links_in_what_an_ended_attempt_leaves_let_nothing_of_another_one_be_deleted(executor: ProcessExecutor) -> None:
    other = executor.start(shell("echo kept", run_id=f"{RUN}o"))
    until_ended(other)
    control = Path(other._base, "control")  # type: ignore[attr-defined]
    first = executor.start(shell(f"ln -s {control} $TMPDIR/control"))
    until_ended(first)
    first.close(remove=False)

    second = executor.start(shell("true", attempt=2, continues=1))
    until_ended(second)

    assert read(other, "stdout") == b"kept\n"
    assert {"exit.json", "started", "stdout"} <= set(os.listdir(control))
    for handle in (second, other):
        handle.close(remove=True)


def test_attempts_outlive_the_fork_server(executor: ProcessExecutor) -> None:
    handle = executor.start(shell("echo ready; sleep 0.5; echo done; exit 6"))
    eventually(lambda: b"ready" in read(handle, "stdout"))

    executor.close()
    ended = until_ended(handle)
    handle.close(remove=True)

    assert (ended.exit.code, ended.stdout) == (6, b"ready\ndone\n")


@pytest.mark.parametrize(
    "kernel",
    [
        SimpleNamespace(inotify_init1=lambda flags: -1),
        SimpleNamespace(inotify_init1=lambda flags: os.open("/dev/null", os.O_RDONLY), inotify_add_watch=lambda *_: -1),
    ],
    ids=["no instances", "no watches"],
)
def test_without_inotify_output_is_still_seen_while_it_is_written(
    executor: ProcessExecutor, monkeypatch: pytest.MonkeyPatch, kernel: SimpleNamespace
) -> None:
    monkeypatch.setattr(inotify, "_libc", kernel)
    handle = executor.start(shell("sleep 0.3; echo seen; sleep 60"))
    before = time.monotonic()

    while not read(handle, "stdout") and time.monotonic() - before < 20:
        handle.wait(20.0)
    seen = read(handle, "stdout")
    handle.stop()
    until_ended(handle)
    handle.close(remove=True)

    assert seen == b"seen\n"


def test_with_inotify_a_wait_ends_when_there_is_output(executor: ProcessExecutor) -> None:
    handle = executor.start(shell("sleep 0.3; echo seen; sleep 60"))

    before = time.monotonic()
    while not read(handle, "stdout") and time.monotonic() - before < 40:
        handle.wait(40.0)
    waited = time.monotonic() - before
    handle.stop()
    until_ended(handle)
    handle.close(remove=True)

    assert waited < 20


def test_with_inotify_a_wait_ends_when_the_session_file_grows(executor: ProcessExecutor) -> None:
    source = "mkdir ~/s; echo one > ~/s/session; read x < go; echo two >> ~/s/session; sleep 60"
    handle = executor.start(shell(source, side="s/session", setup=("mkfifo go",)))
    eventually(lambda: handle.wait(0.01) or b"one" in read(handle, "side"), what="the session file")
    while handle._inotify is None or handle._inotify.fd is None:  # type: ignore[attr-defined]
        handle.wait(0.01)
    handle.wait(0.01)  # what came before

    (Path(handle._base) / "work" / "go").write_text("\n")  # type: ignore[attr-defined]
    before = time.monotonic()
    while read(handle, "side") != b"one\ntwo\n" and time.monotonic() - before < 40:
        handle.wait(40.0)
    waited = time.monotonic() - before
    handle.stop()
    until_ended(handle)
    handle.close(remove=True)

    assert waited < 20


def test_the_secrets_of_a_launch_are_in_no_argument_and_no_file(executor: ProcessExecutor, tmp_path: Path) -> None:
    secret = f"canary-{uuid.uuid4().hex}"
    handle = executor.start(shell("echo ready; sleep 60", env={"KEY": secret}, stdin=secret.encode()))
    eventually(lambda: b"ready" in read(handle, "stdout"))

    in_arguments = living(secret)
    handle.stop()
    until_ended(handle)
    in_files = [p for p in (tmp_path / "attempts").rglob("*") if p.is_file() and secret.encode() in p.read_bytes()]
    handle.close(remove=True)

    assert (in_arguments, in_files) == ([], [])


def test_a_tombstone_is_kept_while_a_late_worker_could_still_start_its_attempt(
    executor: ProcessExecutor, tmp_path: Path
) -> None:
    assert executor.find("gone", 2) is None
    late = executor.start(shell("echo late", run_id="gone", attempt=2))
    late.renewed(executor.clock())  # by a worker that does not know yet
    until_ended(late)
    late.close(remove=False)
    assert (tmp_path / "attempts" / "gone-2" / "home").exists()

    executor.remove("gone", 2)
    kept = executor.attempts()
    assert [path.name for path in (tmp_path / "attempts" / "gone-2").iterdir()] == ["control"]
    long_ago = time.time() - 100_000
    os.utime(tmp_path / "attempts" / "gone-2" / "control" / "started", (long_ago, long_ago), follow_symlinks=False)
    executor.remove("gone", 2)

    assert (kept, executor.attempts()) == ([("gone", 2)], [])


def test_a_directory_that_cannot_be_made_is_a_reason_and_can_be_tried_again(tmp_path: Path) -> None:
    (tmp_path / "attempts").write_text("in the way")
    executor = ProcessExecutor(tmp_path / "attempts")

    with pytest.raises(LaunchFailed) as caught:
        executor.start(launch("/bin/true"))

    assert (caught.value.reason, caught.value.temporary) == ("disk", True)


@pytest.mark.parametrize(
    "before",
    ["ln -s {private} s", "mkdir s; ln -s {private}/session s", "mkdir s; mkfifo s/session", "mkdir -p s/session"],
)
def test_a_session_file_is_a_file_of_the_agent_and_no_link_is_followed_to_it(
    executor: ProcessExecutor, tmp_path: Path, before: str
) -> None:
    private = tmp_path / "private"
    private.mkdir()
    (private / "session").write_text("of somebody else")
    source = f"cd; mkfifo go; {before.format(private=private)}; echo made; read _ <go; rm -rf s; mkdir s; echo mine >s/session"
    handle = executor.start(shell(source, side="s/session"))
    try:
        eventually(lambda: read(handle, "stdout") == b"made\n", what="what stands in its place")

        assert read(handle, "side") == b""
        (Path(handle._base) / "home" / "go").write_text("\n")  # type: ignore[attr-defined]
        until_ended(handle)
        assert read(handle, "side") == b"mine\n"
    finally:
        handle.close(remove=True)


def test_a_program_that_is_missing_is_said_with_its_cure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(LaunchFailed, match="npm install -g @anthropic-ai/claude-code") as unset:
        ProcessExecutor(tmp_path).program("claude-code")
    (tmp_path / "claude").touch(mode=0o644)
    for path, why in (("/no/claude", "is not there"), (tmp_path, "is a directory"), (tmp_path / "claude", "is not executable")):
        with pytest.raises(LaunchFailed, match=f"OPTIO_PROGRAM_CLAUDE_CODE={path} {why}"):
            ProcessExecutor(tmp_path, {"claude-code": str(path)}).program("claude-code")

    assert unset.value.reason == "runtime_missing"


def test_an_npm_shim_is_replaced_by_the_native_program_beside_it(tmp_path: Path) -> None:
    shim = tmp_path / "node_modules" / "@anthropic-ai" / "claude-code" / "bin" / "claude.exe"
    natives = [
        tmp_path / "node_modules" / "@anthropic-ai" / f"claude-code-linux-{arch}" / "claude" for arch in ("x64", "arm64")
    ]
    for path in (shim, *natives):
        path.parent.mkdir(parents=True)
        path.write_text("#!/bin/sh\n")
        path.chmod(0o755)
    link = tmp_path / "claude"
    link.symlink_to(shim)

    found = ProcessExecutor(tmp_path, {"claude-code": str(link)}).program("claude-code")

    assert Path(found) in natives


def test_a_program_that_npm_linked_is_called_where_it_lies_since_a_sandbox_opens_its_packages_alone(tmp_path: Path) -> None:
    program = tmp_path / "lib" / "node_modules" / "@google" / "gemini-cli" / "gemini.js"
    program.parent.mkdir(parents=True)
    program.write_text("#!/usr/bin/env node\n")
    program.chmod(0o755)
    (tmp_path / "bin").mkdir()
    link = tmp_path / "bin" / "gemini"
    link.symlink_to(program)

    assert ProcessExecutor(tmp_path, {"gemini": str(link)}).program("gemini") == str(program)


def test_the_first_launch_finds_a_server_that_was_prepared(executor: ProcessExecutor) -> None:
    executor.prepare()
    executor.prepare()

    prepared = executor._server
    ended = run(executor, python("print('ok')"))

    assert (prepared is not None, executor._server is prepared, ended.stdout) == (True, True, b"ok\n")


def test_an_end_whose_output_was_lost_in_a_power_cut_is_no_end(executor: ProcessExecutor, tmp_path: Path) -> None:
    handle = executor.start(shell("echo precious"))
    until_ended(handle)

    os.truncate(tmp_path / "attempts" / f"{RUN}-1" / "control" / "stdout", 3)
    ended = handle.exit()
    handle.close(remove=True)

    assert ended is not None
    assert ended.lost


def test_an_attempt_that_is_no_longer_young_is_not_looked_at_before_something_happens(executor: ProcessExecutor) -> None:
    handle = executor.start(shell("sleep 1.5; echo said; sleep 3"))
    looks, heard = 0, False

    while handle.exit() is None:
        handle.wait(5)
        looks += 1
        heard = heard or (b"said" in read(handle, "stdout") and handle.exit() is None)
    handle.close(remove=True)

    # Twenty of them while it is young; every 5 ms to the end would be four hundred.
    assert looks < 100
    assert heard


def test_attempts_have_directories_of_their_own(executor: ProcessExecutor) -> None:
    source = 'echo "$HOME" "$TMPDIR" "$PWD"'

    places = [path for name in ("a", "b") for path in run(executor, shell(source, run_id=name)).stdout.split()]

    assert len(set(places)) == 6


def test_a_text_without_a_first_line_for_the_kernel_is_no_program(executor: ProcessExecutor) -> None:
    ended = run(executor, launch("./text", setup=("echo words > text; chmod +x text",)))

    assert (ended.exit.code, ended.exit.error) == (126, "ENOEXEC")


def test_notes_name_what_is_not_applied(executor: ProcessExecutor) -> None:
    executor._cgroups.problem = "no cgroup here"
    notes = executor.notes(Environment(image="x", resources=Resources(cpu="1")))

    assert " ".join(notes).count("does not apply") == 2


def test_a_request_of_a_process_is_not_applied_and_its_limit_in_the_long_form_is(executor: ProcessExecutor) -> None:
    executor._cgroups.problem = ""
    asked = Resources(requests=Amounts(cpu="500m"), limits=Amounts(cpu="1", memory="64Mi"))

    notes = executor.notes(Environment(resources=asked))

    assert [each for each in notes if "does not apply" in each] == [
        "the process executor does not apply environment.resources.requests"
    ]
    assert notes[-1].startswith("limits: memory 64Mi, CPU 1")
    assert limits_of(asked, None) == {"memory": 64 << 20, "cpu": 100_000}
