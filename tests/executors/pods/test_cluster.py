"""What only a real cluster can do to an attempt."""

import pytest

from optio.model.task import Environment
from tests.executors.pods.conftest import Make
from tests.executors.pods.place import IMAGE
from tests.executors.support import python, read, run, shell, until_ended
from tests.support import eventually


def test_a_pod_that_uses_too_much_memory_says_so(make: Make) -> None:
    ended = run(make(), python("x = bytearray(1 << 30); print(len(x))"), within=60)

    assert (ended.exit.reason, ended.exit.temporary, ended.stdout) == ("oom", False, b"")
    assert "64Mi" in ended.exit.message


@pytest.mark.parametrize(
    ("after", "reason", "code"),
    [("exit 3", "oom", 3), ("exit 0", None, 0), ("sleep 60", None, None)],
    ids=["fails", "goes on and does well", "is stopped"],
)
def test_an_agent_fails_for_memory_that_fails_when_a_process_of_its_own_has_been_killed(
    make: Make, after: str, reason: str | None, code: int | None
) -> None:
    source = f"python3 -c 'x = bytearray(1 << 30)'; echo $?; {after}"
    handle = make().start(shell(source))
    eventually(lambda: read(handle, "stdout"), within=60, what="the end of the process")
    if code is None:
        handle.stop()

    ended = until_ended(handle, within=60)
    handle.close(remove=True)

    assert (ended.exit.reason, ended.exit.code, ended.stdout) == (reason, code, b"137\n")


def test_an_agent_cannot_say_that_it_was_killed_for_memory(make: Make) -> None:
    forged = ["memory.events", "memory/memory.oom_control"]
    source = "; ".join(f"echo oom_kill 1 >/sys/fs/cgroup/{name}" for name in forged)

    ended = run(make(), shell(f"({source}) 2>/dev/null; kill -9 $$"), within=60)

    assert (ended.exit.reason, ended.exit.signal) == (None, 9)


def test_a_task_has_the_image_and_the_size_that_it_asks_for(make: Make) -> None:
    wanted = Environment.of({"image": IMAGE, "resources": {"memory": "96Mi"}})
    source = "cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null"

    ended = run(make(image="optio.invalid/none:1"), shell(source, environment=wanted), within=60)

    assert ended.stdout.split() == [str(96 << 20).encode()]
