"""Control groups of attempts: found and described without a kernel, and applied where this machine lets us make groups."""

import os
import re
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from optio.errors import LaunchFailed
from optio.executors import cgroup
from optio.executors.cgroup import Cgroups, ParentGroup, find_parents, limits_of
from optio.executors.process import ProcessExecutor
from optio.model.task import Environment, Resources
from tests.executors.support import RUN, launch, living, python, read, run, shell, until_ended
from tests.executors.test_process import server_of, supervisor_of
from tests.support import eventually

V2 = "29 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = """\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
39 31 0:36 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
"""
SMALL = Environment(resources=Resources(memory="64Mi", cpu="500m"))
HUNGRY = "data = bytearray(200 << 20); print(len(data))"
HERE = Cgroups(Path("/"))
HERE.enter()  # only then is it known: the group of these tests may hold other processes
real = pytest.mark.skipif(bool(HERE.problem), reason=HERE.problem or "-")


@pytest.fixture
def executor(tmp_path: Path) -> Iterator[ProcessExecutor]:
    made = ProcessExecutor(tmp_path / "attempts", processes=40)
    yield made
    made.close()


def groups_of(executor: ProcessExecutor) -> list[str]:
    """The groups that there are of an executor's attempts."""
    found = {parent.path for parent in executor._cgroups._parents.values()}
    return [str(path) for parent in found for path in parent.glob(f"{executor._cgroups._prefix}-*")]


def unit(tmp_path: Path, *, controllers: str = "cpu memory pids", own: str = "/worker.service") -> Cgroups:
    """What a worker finds in a unit of systemd whose group lies in this directory."""
    group = tmp_path / "worker.service"
    group.mkdir()
    (group / "cgroup.controllers").write_text(controllers)
    for name in ("cgroup.procs", "cgroup.subtree_control", "cgroup.type"):
        (group / name).write_text("")
    (tmp_path / "mountinfo").write_text(V2.replace("/sys/fs/cgroup", str(tmp_path)))
    (tmp_path / "cgroup").write_text(f"0::{own}\n")
    return Cgroups(tmp_path / "attempts", proc=tmp_path)


@pytest.mark.parametrize(
    ("mounts", "own", "expected"),
    [
        (V2, "0::/system.slice/optio.service\n", {"": ParentGroup(2, Path("/sys/fs/cgroup/system.slice/optio.service"))}),
        (V2, "0::/a.service/optio-worker\n", {"": ParentGroup(2, Path("/sys/fs/cgroup/a.service"))}),
        (V2, "0::/\n", {"": ParentGroup(2, Path("/sys/fs/cgroup"))}),
        (V2.replace(" / ", " /docker/ab "), "0::/docker/ab/x\n", {"": ParentGroup(2, Path("/sys/fs/cgroup/x"))}),
        (V2.replace(" / ", " /docker/ab "), "0::/docker/abc\n", {}),
        (V2, "0::/../outside\n", {}),
        ("", "0::/\n", {}),
        (
            V1,
            "4:memory:/m\n8:pids:/\n2:cpu,cpuacct:/c\n0::/\n",
            {
                "memory": ParentGroup(1, Path("/sys/fs/cgroup/memory/m")),
                "pids": ParentGroup(1, Path("/sys/fs/cgroup/pids")),
                "cpu": ParentGroup(1, Path("/sys/fs/cgroup/cpu,cpuacct/c")),
            },
        ),
    ],
    ids=["unit", "leaf", "root", "inner mount", "neighbour of the mount", "outside", "none", "version 1"],
)
def test_the_group_of_this_process_is_found_by_what_the_kernel_says(
    mounts: str, own: str, expected: dict[str, ParentGroup]
) -> None:
    every = dict.fromkeys(cgroup.CONTROLLERS, expected[""]) if "" in expected else expected

    assert find_parents(mounts, own) == every


def test_a_quantity_becomes_the_number_that_the_kernel_takes() -> None:
    resources = Resources(memory="64Mi", cpu="1.5")

    assert limits_of(resources, 100) == {"memory": 64 << 20, "cpu": 150_000, "pids": 101}
    assert limits_of(Resources(cpu="1m"), None) == {"cpu": 1_000}
    assert limits_of(None, None) == {}


def test_a_delegated_unit_is_entered_and_its_controllers_are_enabled(tmp_path: Path) -> None:
    found = unit(tmp_path)
    group = tmp_path / "worker.service"
    leaf = group / "optio-worker"
    leaf.mkdir()
    (leaf / "cgroup.procs").write_text("")

    found.enter()

    assert found.problem == ""
    assert (leaf / "cgroup.procs").read_text() == "0"
    assert (group / "cgroup.subtree_control").read_text() == "+cpu +memory +pids"


def test_a_worker_that_began_in_its_own_group_makes_others_beside_it(tmp_path: Path) -> None:
    found = unit(tmp_path, own="/worker.service/optio-worker")
    (tmp_path / "worker.service" / "cgroup.subtree_control").write_text("cpu memory pids")

    found.enter()

    assert found.problem == ""
    assert found._parents["memory"].path == tmp_path / "worker.service"
    assert not (tmp_path / "worker.service" / "optio-worker").exists()


def test_an_attempts_limits_are_written_and_its_group_is_named_in_its_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = unit(tmp_path)
    base = tmp_path / "attempts" / f"{RUN}-1"
    (base / "control").mkdir(parents=True)
    group = tmp_path / "worker.service" / f"{found._prefix}-{RUN}-1"
    group.mkdir()
    for name in ("memory.max", "memory.oom.group", "cpu.max", "pids.max"):
        (group / name).write_text("")

    header = found.launch(base, SMALL.resources, 7)

    assert {path.name: path.read_text() for path in group.iterdir()} == {
        "memory.max": str(64 << 20),
        "memory.oom.group": "1",
        "cpu.max": "50000 100000",
        "pids.max": "8",
    }
    assert header == {"groups": [str(group)], "memory": ("64Mi", f"{group}/memory.events"), "pids": f"{group}/pids.events"}
    assert os.readlink(base / "control" / "cgroup") == str(group)
    assert found.launch(base, None, None) == {"groups": [], "memory": None, "pids": None}


@pytest.mark.parametrize("lacking", ["cpu", "everything", "the right to write"])
def test_without_a_usable_cgroup_it_is_said_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lacking: str) -> None:
    if lacking == "the right to write":
        monkeypatch.setattr(os, "access", lambda *_: False)
    found = unit(tmp_path, controllers="memory pids") if lacking == "cpu" else unit(tmp_path)
    if lacking == "everything":
        found = Cgroups(tmp_path, proc=tmp_path / "no-such")

    assert found.problem == {"cpu": "the cgroup of this process has no controller cpu (systemd: Delegate=yes)"}.get(
        lacking, "no cgroup is delegated to this user (systemd: Delegate=yes)"
    )
    assert [f.status for f in found.examine()] == ["ok"]
    assert list(found.notes(SMALL.resources, 9)) == []
    assert found.launch(tmp_path, SMALL.resources, 9) == {"groups": [], "memory": None, "pids": None}


def test_what_is_applied_is_said_as_it_is(tmp_path: Path, executor: ProcessExecutor) -> None:
    executor._cgroups = unit(tmp_path)
    with_groups = executor.not_applied(["resources", "image"]), executor.notes(SMALL)
    executor._cgroups = Cgroups(tmp_path, proc=tmp_path / "no-such")
    without = executor.not_applied(["resources"]), executor.notes(SMALL)

    assert with_groups[0] == ["the process executor does not apply environment.image"]
    assert with_groups[1][-1] == "limits: memory 64Mi, CPU 500m, 40 processes"
    reason = "no cgroup is delegated to this user (systemd: Delegate=yes)"
    assert without[0] == [f"the process executor does not apply environment.resources: {reason}"]
    assert without[0][0] in without[1]


def test_a_group_that_cannot_be_made_fails_the_launch(tmp_path: Path, executor: ProcessExecutor) -> None:
    executor._cgroups = unit(tmp_path)
    executor._cgroups._entered = True

    with pytest.raises(LaunchFailed, match="cgroup cannot be made") as refused:
        executor.start(launch("true", environment=SMALL))

    assert (refused.value.reason, refused.value.temporary) == ("cgroup", True)


def test_a_link_that_an_agent_has_changed_ends_no_other_group(tmp_path: Path) -> None:
    other = tmp_path / "optio-1-other-1"
    other.mkdir()
    os.symlink(f"{other}\n{tmp_path}", tmp_path / "cgroup")

    cgroup.remove_groups(str(tmp_path), f"{RUN}-1")

    assert other.exists()


@real
def test_a_program_that_needs_more_memory_than_its_limit_ends_as_out_of_memory(executor: ProcessExecutor) -> None:
    ended = run(executor, python(HUNGRY, environment=SMALL))

    assert (ended.exit.reason, ended.stdout) == ("oom", b"")
    assert ended.exit.message == "it used more memory than its limit (environment.resources.memory: 64Mi)"
    assert groups_of(executor) == []


@real
def test_without_a_limit_it_runs_and_has_no_group(tmp_path: Path) -> None:
    executor = ProcessExecutor(tmp_path / "attempts")
    handle = executor.start(python(f"{HUNGRY}; import time; print('ready', flush=True); time.sleep(0.3)"))
    eventually(lambda: b"ready" in read(handle, "stdout"), what="the program")
    groups = groups_of(executor)
    ended = until_ended(handle)
    handle.close(remove=True)
    executor.close()

    assert (ended.exit.code, groups) == (0, [])


@real
def test_a_set_up_command_is_limited_too(executor: ProcessExecutor) -> None:
    ended = run(executor, launch("true", setup=(f"exec python3 -c '{HUNGRY}'",), environment=SMALL))

    assert (ended.exit.reason, ended.exit.phase) == ("oom", "setup")


@real
def test_a_failure_without_need_of_memory_is_none_of_it(executor: ProcessExecutor) -> None:
    ended = run(executor, shell("exit 3", environment=SMALL))

    assert (ended.exit.code, ended.exit.reason) == (3, None)


@real
def test_a_fork_bomb_gets_no_more_processes_than_its_limit_and_all_end(executor: ProcessExecutor) -> None:
    token = f"60.{uuid.uuid4().int % 10**12:012}"
    bomb = f"""
import subprocess
started = 0
try:
    while started < 400:
        subprocess.Popen(["sleep", "{token}"])
        started += 1
except OSError as err:
    print(started, err.errno)
"""
    ended = run(executor, python(bomb))

    assert ended.stdout.split() == [b"39", b"11"]
    assert living(token) == []
    assert groups_of(executor) == []


@real
def test_the_limit_of_cpu_is_the_kernels(executor: ProcessExecutor) -> None:
    handle = executor.start(shell("echo ready; sleep 60", environment=SMALL))
    eventually(lambda: b"ready" in read(handle, "stdout"), what="the program")
    parent = executor._cgroups._parents["cpu"]
    group = parent.path / f"{executor._cgroups._prefix}-{RUN}-1"
    written = (group / ("cpu.max" if parent.version == 2 else "cpu.cfs_quota_us")).read_text().split()[0]
    inside = (group / "cgroup.procs").read_text().split()
    handle.stop()
    until_ended(handle)
    handle.close(remove=True)

    assert written == "50000"
    assert inside != []


@real
def test_under_a_sandbox_an_agent_can_neither_leave_its_group_nor_raise_its_limits(executor: ProcessExecutor) -> None:
    parent = executor._cgroups._parents["pids"].path
    group = parent / f"{executor._cgroups._prefix}-{RUN}-1"
    writes = (
        f"echo 0 > {parent}/cgroup.procs; echo 4000 > {group}/pids.max; rmdir {group}; mkdir {group}/more; cat {group}/pids.max"
    )

    ended = run(executor, shell(writes, environment=SMALL))

    assert ended.stdout == b"41\n"
    assert len(re.findall(rb"ermission denied|Read-only file system", ended.stderr)) == 4


@real
@pytest.mark.parametrize("server_too", [False, True])
def test_the_group_is_gone_with_all_in_it_after_the_supervisor_was_killed(
    executor: ProcessExecutor, tmp_path: Path, *, server_too: bool
) -> None:
    token = f"60.{uuid.uuid4().int % 10**12:012}"
    daemon = f"setsid env -i /bin/sh -c 'sleep {token} & sleep {token}' > /dev/null 2>&1 &"
    handle = executor.start(shell(f"{daemon} echo ready; exec sleep {token}", environment=SMALL))
    eventually(lambda: len(living(token)) >= 3 and b"ready" in read(handle, "stdout"), what="the daemon")
    before = groups_of(executor)
    assert handle.exit() is None

    supervisor = supervisor_of(executor, tmp_path, f"{RUN}-1")
    if server_too:  # then nobody is left who knows the daemon but its group
        os.kill(server_of(executor), signal.SIGKILL)
    os.kill(supervisor, signal.SIGKILL)
    ended = until_ended(handle)

    assert ended.exit.lost
    assert before != []
    assert groups_of(executor) == []
    eventually(lambda: living(token) == [], what="the end of the daemon")
    handle.close(remove=True)


@real
def test_two_executors_beside_each_other_have_groups_of_their_own(tmp_path: Path) -> None:
    executors = [ProcessExecutor(tmp_path / name / "attempts", processes=40) for name in ("a", "b")]
    handles = [each.start(shell("echo ready; sleep 60", environment=SMALL)) for each in executors]
    for handle in handles:
        eventually(lambda handle=handle: b"ready" in read(handle, "stdout"), what="the program")  # type: ignore[misc]
    handles[0].stop()
    until_ended(handles[0])
    handles[0].close(remove=True)
    groups = [groups_of(each) for each in executors]
    running = handles[1].exit() is None
    handles[1].stop()
    until_ended(handles[1])
    handles[1].close(remove=True)
    for each in executors:
        each.close()

    assert (groups[0], bool(groups[1]), running) == ([], True, True)
    assert groups_of(executors[1]) == []


@real
def test_an_attempt_that_never_began_leaves_no_group(executor: ProcessExecutor, tmp_path: Path) -> None:
    base = tmp_path / "attempts" / f"{RUN}-1"
    (base / "control").mkdir(parents=True)
    executor._cgroups.launch(base, SMALL.resources, 40)
    before = groups_of(executor)

    assert before != []
    assert executor.find(RUN, 1) is None
    assert groups_of(executor) == []


# In a group of version 2 below the root one, with a controller that is there: the rules about processes are the kernel's.
_IN_UNIT = """
import os, sys
from pathlib import Path
from optio.executors.cgroup import Cgroups, ParentGroup
unit, controller, base = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
(unit / "cgroup.procs").write_text("0")
if sys.argv[4:]:
    other = os.fork()
    if other == 0:
        import time; time.sleep(60)
found = Cgroups(base, controllers=(controller,))
found._parents = {controller: ParentGroup(2, unit)}
found.problem = ""
found.enter()
print(found.problem or Path("/proc/self/cgroup").read_text().splitlines()[-1])
print((unit / "cgroup.subtree_control").read_text().strip())
if sys.argv[4:]:
    os.kill(other, 9)
    os.waitpid(other, 0)
"""


@pytest.fixture
def v2_unit() -> Iterator[tuple[Path, str]]:
    """A group of version 2, and a controller that can be enabled in it."""
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines() if " - cgroup2 " in line]
    root = Path(points[0]) if points else Path("/no-cgroup2")
    if not os.access(root, os.W_OK) or not os.access(root / "cgroup.subtree_control", os.W_OK):
        pytest.skip("no group of version 2 can be made here")
    controllers = (root / "cgroup.controllers").read_text().split()
    if not controllers or (root / "cgroup.type").exists():
        pytest.skip("no controller of version 2 is free here")
    name = controllers[0]
    enabled = name in (root / "cgroup.subtree_control").read_text().split()
    if not enabled:
        (root / "cgroup.subtree_control").write_text(f"+{name}")
    group = root / f"optio-test-{uuid.uuid4().hex[:8]}"
    group.mkdir()
    yield group, name
    for path in (*group.glob("*/"), group):
        if path.is_dir():
            cgroup._remove(str(path))
    if not enabled:
        (root / "cgroup.subtree_control").write_text(f"-{name}")


@pytest.mark.parametrize("crowded", [False, True])
def test_a_worker_in_a_unit_of_version_2_moves_into_a_group_of_its_own(
    v2_unit: tuple[Path, str], tmp_path: Path, *, crowded: bool
) -> None:
    group, controller = v2_unit
    words = [sys.executable, "-c", _IN_UNIT, str(group), controller, str(tmp_path), *(["crowded"] if crowded else [])]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
    lines = done.stdout.splitlines()

    if crowded:
        assert "holds other processes (systemd: DelegateSubgroup=optio-worker)" in lines[0]
        assert lines[1] == ""
    else:
        assert lines == [f"0::/{group.name}/optio-worker", controller]


def test_a_group_of_version_2_is_ended_by_its_file(v2_unit: tuple[Path, str], tmp_path: Path) -> None:
    group = v2_unit[0] / "optio-1-run-1"
    group.mkdir()
    words = ["/bin/sh", "-c", f"echo $$ > {group}/cgroup.procs; sleep 60 & sleep 60"]
    sleeping = subprocess.Popen(words)
    eventually(lambda: len((group / "cgroup.procs").read_text().split()) >= 2, what="the group's processes")
    os.symlink(str(group), tmp_path / "cgroup")

    cgroup.remove_groups(str(tmp_path), f"{RUN}-1")

    assert sleeping.wait(10) == -signal.SIGKILL
    cgroup.remove_groups(str(tmp_path), f"{RUN}-1")
    assert not group.exists()
