"""What only a real cluster can do to an attempt."""

from optio.model.task import Environment
from tests.executors.pods.conftest import Make
from tests.executors.pods.place import IMAGE
from tests.executors.support import python, run, shell


def test_a_pod_that_uses_too_much_memory_says_so(make: Make) -> None:
    ended = run(make(), python("x = bytearray(1 << 30); print(len(x))"), within=60)

    # By the kernel, which may take the agent alone or all of the container.
    assert (ended.exit.reason, ended.exit.signal) in (("oom", None), (None, 9))
    assert ended.stdout == b""


def test_a_task_has_the_image_and_the_size_that_it_asks_for(make: Make) -> None:
    wanted = Environment.of({"image": IMAGE, "resources": {"memory": "96Mi"}})
    source = "cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null"

    ended = run(make(image="optio.invalid/none:1"), shell(source, environment=wanted), within=60)

    assert ended.stdout.split() == [str(96 << 20).encode()]
