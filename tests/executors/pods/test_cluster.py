"""What only a real cluster can do to an attempt."""

import hashlib
import textwrap
import uuid

import pytest

from optio.executors.base import WarmDemand
from optio.executors.pods import manifest
from optio.executors.pods.template import EVICTABLE, Template, faults
from optio.model.task import Environment
from tests.executors.pods.api import Api
from tests.executors.pods.conftest import Make
from tests.executors.pods.place import IMAGE, NAMESPACE
from tests.executors.support import RUN, python, read, run, shell, until_ended
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


def test_a_template_of_the_operator_holds_for_pods_that_are_made_and_for_those_that_wait(make: Make) -> None:
    name = f"template-{uuid.uuid4().hex[:8]}"
    value = {
        "metadata": {"labels": {"team": name}},
        "spec": {
            "imagePullSecrets": [{"name": "registry"}],
            "tolerations": [{"key": "agents", "operator": "Exists", "effect": "NoSchedule"}],
            "volumes": [{"name": "authorities", "configMap": {"name": name}}],
            "containers": [
                {"name": "agent", "volumeMounts": [{"name": "authorities", "mountPath": "/etc/ours", "readOnly": True}]}
            ],
        },
    }
    assert list(faults(value)) == []
    executor = make(template=Template.of(value))
    with Api(NAMESPACE) as api:
        api.ask("POST", "configmaps", {"metadata": {"name": name}, "data": {"ca.crt": "ours"}})
        try:
            cold = run(executor, shell("cat /etc/ours/ca.crt", run_id="cold"), within=60)
            executor.keep_warm([WarmDemand(task_id="t", size=1, environment=Environment())])
            eventually(lambda: [each.ready for each in executor.pools() or ()] == [1], within=60, what="a warm pod")
            (idle,) = api.pods(f"team={name},optio.dev/role=warm")
            taking = shell("cat /etc/ours/ca.crt; sleep 2", run_id="warm", environment=Environment(), warm=True)
            handle = executor.start(taking)
            eventually(lambda: api.pods(f"team={name},optio.dev/run=warm"), within=20, what="a pod that is taken")
            (busy,) = api.pods(f"team={name},optio.dev/run=warm")
            warm = until_ended(handle)
            handle.close(remove=True)
        finally:
            executor.keep_warm([])
            api.ask("DELETE", f"configmaps/{name}")
            api.sweep(f"team={name}")

    assert (cold.stdout, warm.stdout) == (b"ours", b"ours")
    assert idle["metadata"]["uid"] == busy["metadata"]["uid"]
    assert {"key": "agents", "operator": "Exists", "effect": "NoSchedule"} in busy["spec"]["tolerations"]
    assert busy["spec"]["imagePullSecrets"] == [{"name": "registry"}]
    assert [each["metadata"]["annotations"][EVICTABLE] for each in (idle, busy)] == ["true", "false"]


def test_output_is_whole_and_in_order_that_an_agent_prints_while_the_kubelet_rotates_its_log(make: Make, install: str) -> None:
    name, count = manifest.name_of(install, RUN, 1), 200_000
    # A tenth of it in lines that travel in hexadecimal. In all more than two logs of the size that the kubelet allows.
    source = f"""
        import sys, time
        for n in range({count}):
            sys.stdout.write("%099d%s" % (n, "\\r\\n" if n % 10_000 < 1_000 else "\\n"))
            if n % 100 == 0:
                sys.stdout.flush()
                time.sleep(0.01)
        sys.stdout.flush()
        open("go").read()
    """
    executor = make(memory="256Mi", cpu="1", disk="512Mi")
    handle = executor.start(python(textwrap.dedent(source), setup=("mkfifo go",), timeout_s=300.0))
    whole = b"".join(b"%099d%s" % (n, b"\r\n" if n % 10_000 < 1_000 else b"\n") for n in range(count))
    eventually(lambda: handle.spool.sizes["stdout"] == len(whole), within=200, what="all of the output")  # type: ignore[attr-defined]
    with Api(NAMESPACE) as api:
        eventually(lambda: api.has_rotated_log(name), within=30, what="a log that lacks its beginning")
    executor._call(lambda site: site.cluster.run(name, manifest.CONTAINER, ["/bin/sh", "-c", "echo >/optio/work/go"]))
    ended = until_ended(handle, within=60)
    handle.close(remove=True)

    assert ended.exit.code == 0
    assert hashlib.sha256(ended.stdout).digest() == hashlib.sha256(whole).digest()
