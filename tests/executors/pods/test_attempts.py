"""What becomes of an attempt in a pod."""

import hashlib
import threading
import uuid
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from optio.executors.base import MAX_STREAM_BYTES
from optio.executors.pods import handle, launch_script, manifest, script
from optio.executors.pods.executor import PodExecutor
from optio.executors.pods.informer import is_agent_running
from optio.model.run import AgentIdentity, Event, LogKind
from optio.model.task import Environment
from optio.runs.agent_follower import AgentFollower
from optio.runs.execute import Execution
from optio.wiring import Services
from tests.executors.pods.api import Api
from tests.executors.pods.conftest import Make
from tests.executors.pods.place import CLUSTER, NAMESPACE, settings, waiting_pod
from tests.executors.support import RUN, launch, python, read, run, shell, until_ended
from tests.runs.support import accept, done, execute, execution, log_of, opened, working
from tests.secrets.vault import PROGRAM, Vault
from tests.support import command_task, eventually


def test_output_that_the_kubelet_has_thrown_away_is_taken_from_the_agents_own_file(make: Make, install: str) -> None:
    line, count = b"\0\xff" + b"x" * 1000 + b"\n", 12_000
    source = f"import sys; [sys.stdout.buffer.write({line!r}) for _ in range({count})]; sys.stdout.flush(); open('go').read()"
    name = manifest.name_of(install, RUN, 1)
    handle = make(memory="256Mi", cpu="500m").start(python(source, setup=("mkfifo go",), timeout_s=600.0))
    eventually(lambda: handle.spool.sizes["stdout"] == len(line) * count, within=180, what="all of the output")  # type: ignore[attr-defined]
    handle.close(remove=False)
    with Api(NAMESPACE) as api:
        eventually(lambda: api.has_rotated_log(name), within=180, what="a log that lacks its beginning")

    another = make()
    found = another.find(RUN, 1)
    assert found is not None
    eventually(lambda: found.spool.sizes["stdout"] == len(line) * count, within=180, what="all of the output")  # type: ignore[attr-defined]
    another._call(lambda site: site.cluster.run(name, manifest.CONTAINER, ["/bin/sh", "-c", "echo >/optio/work/go"]))
    ended = until_ended(found, within=60)
    found.close(remove=True)

    assert hashlib.sha256(ended.stdout).digest() == hashlib.sha256(line * count).digest()


def test_of_output_that_claims_any_size_a_part_is_copied(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    supervising = script.supervising()
    for name, stream in (("o", "stdout"), ("e", "stderr"), ("r", "result"), ("d", "side"), ("t", "telemetry")):
        assert f"[ $at_{name} -lt {MAX_STREAM_BYTES[stream]} ]" in supervising
    small = supervising.replace(f" {MAX_STREAM_BYTES['stdout']} ", " 600000 ")
    monkeypatch.setattr(script, "supervising", lambda: small)
    monkeypatch.setattr(handle, "_MAX_HEARD_BYTES", 600_000)

    ended = run(make(), shell("echo one; echo two >&2; truncate -s 1T /optio/stdout /optio/stderr"), within=60)

    assert ended.exit.code == 0
    for output, first in ((ended.stdout, b"one\n"), (ended.stderr, b"two\n")):
        assert output.startswith(first)
        assert 600_000 <= len(output) < 600_000 + 262_144, ended.exit


@pytest.mark.parametrize("put", ["mkfifo", "ln -s /dev/full"])
def test_what_an_agent_puts_in_the_place_of_its_end_does_not_hide_it(make: Make, put: str) -> None:
    ended = run(make(), shell(f"{put} ~/../ended; echo said; exit 3", timeout_s=10.0, grace_s=1.0), within=60)

    assert (ended.exit.code, ended.exit.stopped_by, ended.stdout) == (3, None, b"said\n")


def test_a_pod_that_is_deleted_by_hand_ends_its_attempt(make: Make) -> None:
    executor = make()
    handle = executor.start(shell("trap '' TERM; echo ready; while :; do sleep 1; done", grace_s=1.0))
    eventually(lambda: read(handle, "stdout"), what="the agent")

    executor.remove(RUN, 1)
    ended = until_ended(handle, within=60).exit
    handle.close(remove=True)

    assert (ended.reason or ended.stopped_by) in ("deleted", "stop")


def test_a_pod_is_named_before_it_has_a_node(make: Make, install: str) -> None:
    executor = make(node_selector={"optio.dev/none": "x"})
    handle = executor.start(shell("echo ran"))

    pod = eventually(handle.pod, within=60, what="the pod")

    assert (pod.namespace, pod.name, pod.node) == (NAMESPACE, manifest.name_of(install, RUN, 1), None)
    handle.stop()
    until_ended(handle)
    handle.close(remove=True)


def test_a_run_says_in_which_pod_it_is_on_which_node_and_of_which_image(tmp_path: Path, install: str) -> None:
    with opened(tmp_path, settings(tmp_path, install)) as services:
        task = command_task("echo one; sleep 3; echo two")
        run_id = accept(services, task)
        first = execution(services, run_id)
        thread = threading.Thread(target=first)
        thread.start()
        eventually(lambda: log_of(services, run_id, LogKind.OUTPUT), within=60, what="the first line")
        (while_it_runs,) = eventually(
            lambda: [each for each in services.store.attempts(run_id) if each.pod and each.pod.image], what="the image's digest"
        )
        first.leave()
        thread.join()
        services.store.release("tester")
        (adopted,) = services.store.adopt("second", timedelta(seconds=30), 5, place=services.executor.place())
        Execution(adopted, services.parts(), "second")()
        (attempt,) = services.store.attempts(run_id)
        said = log_of(services, run_id, LogKind.SYSTEM)

    assert attempt.pod is not None
    assert (attempt.pod.namespace, attempt.pod.name) == (NAMESPACE, manifest.name_of(install, run_id, 1))
    assert attempt.pod.node
    assert "sha256:" in str(attempt.pod.image)
    assert attempt.agent == AgentIdentity()
    assert while_it_runs.pod == attempt.pod
    assert said == [str(attempt.pod).encode(), b"found again by second", str(attempt.pod).encode()]


@pytest.mark.parametrize(
    ("changes", "reason", "words"),
    [
        ({"image": "optio.invalid/none:1"}, "image", "optio.invalid/none:1"),
        ({"image": "Not An Image"}, "image", "InvalidImageName"),
        ({"node_selector": {"optio.dev/none": "x"}}, "unschedulable", "node"),
        *([({"cpu": "1000", "cpu_request": "1000"}, "unschedulable", "cpu")] if CLUSTER else []),
    ],
)
def test_a_pod_that_does_not_start_says_why_and_is_taken_away(
    make: Make, changes: dict[str, Any], reason: str, words: str
) -> None:
    # A node that is busy takes seconds to say of an image that it cannot be had.
    executor = make(start_s=15.0 if CLUSTER and reason == "image" else 4.0, **changes)

    ended = run(executor, launch("/bin/true"), within=60).exit

    assert (ended.reason, ended.code) == (reason, None)
    assert words in ended.message
    eventually(lambda: executor.attempts() == [], what="the end of the pod")


def test_an_attempt_that_is_not_wanted_any_more_before_its_pod_runs_starts_nothing(make: Make) -> None:
    executor = make(node_selector={"optio.dev/none": "x"})
    handle = executor.start(shell("echo ran"))

    handle.stop()
    ended = until_ended(handle)
    handle.close(remove=True)

    assert (ended.exit.stopped_by, ended.stdout) == ("stop", b"")
    eventually(lambda: executor.attempts() == [], what="the end of the pod")


def test_an_agent_that_has_ended_before_the_command_that_brought_its_launch_has_is_not_begun_again(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        launch_script, "COMMAND", (*launch_script.COMMAND[:2], launch_script.COMMAND[2].replace("echo launched", "sleep 60"))
    )

    ended = run(make(), shell("echo ran; exit 3"))

    assert (ended.exit.code, ended.exit.reason, ended.stdout) == (3, None, b"ran\n")


def steps(services: Services, run_id: str) -> list[Event]:
    """The events of a run, but that its pod is slow, which depends on how busy the node is."""
    return [event for event in services.store.events(run_id) if event.reason != "slow_start"]


def test_a_run_has_started_when_its_agent_has_and_not_when_a_worker_took_it(tmp_path: Path, install: str) -> None:
    with opened(tmp_path, settings(tmp_path, install)) as services, working(services):
        run = done(services, accept(services, command_task("echo ran")), within=60)
        (attempt,), events = services.store.attempts(run.id), steps(services, run.id)

    assert [event.reason for event in events] == ["manual", "starting", "started", "ok"]
    assert attempt.agent_started_at is not None
    assert attempt.started_at == events[1].at
    assert attempt.started_at < attempt.agent_started_at
    assert run.started_at == events[2].at == attempt.agent_started_at


def test_a_run_whose_worker_died_before_it_could_say_that_it_started_has_started_when_it_is_found(
    tmp_path: Path, install: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(tmp_path, settings(tmp_path, install)) as services:
        executor, run_id = services.executor, accept(services, command_task("until [ -f go ]; do sleep 0.1; done"))
        assert isinstance(executor, PodExecutor)
        (claimed,) = services.store.claim(
            "first", timedelta(seconds=30), lambda view: [run_id], place=services.executor.place(), reason="starting"
        )
        first = Execution(claimed, services.parts(), "first")
        with monkeypatch.context() as dead:
            dead.setattr(AgentFollower, "_note_start", lambda self: None)
            thread = threading.Thread(target=first)
            thread.start()
            eventually(lambda: (it := first._handle) and it.begun(), within=60, what="the beginning")
            name = manifest.name_of(install, run_id, 1)
            site = executor._site
            assert site is not None
            eventually(lambda: is_agent_running(site.informer.status(name)), within=60, what="the node's word")
            first.leave()
            thread.join()
        before = services.store.run(run_id)
        services.store.release("first")
        (adopted,) = services.store.adopt("second", timedelta(seconds=30), 5, place=services.executor.place())
        second = threading.Thread(target=Execution(adopted, services.parts(), "second"))
        second.start()
        executor._call(lambda site: site.cluster.run(name, manifest.CONTAINER, ["/bin/sh", "-c", "echo >/optio/work/go"]))
        second.join()
        run, events = services.store.run(run_id), steps(services, run_id)
        (attempt,) = services.store.attempts(run_id)

    assert before.started_at is None
    assert [event.reason for event in events] == ["manual", "starting", "started", "ok"]
    assert (attempt.began, attempt.agent_started_at) == ("cold", run.started_at)
    assert run.started_at is not None


# What stays for a look

KEPT = Environment.of({"keepFailed": "60s"})


def test_the_pod_of_a_failed_run_stays_for_a_look_without_its_secrets(make: Make, install: str) -> None:
    executor, secret = make(), f"canary-{uuid.uuid4().hex}"
    what = shell("echo from the agent >note; sleep 600 & exit 3", env={"KEY": secret}, stdin=secret.encode(), environment=KEPT)
    handle = executor.start(what)
    ended = until_ended(handle, within=60)

    stay = executor.keep(RUN, 1, 60.0)
    handle.close(remove=False)

    name = manifest.name_of(install, RUN, 1)
    look = "cat work/note /proc/1/environ; for p in /proc/[0-9]*; do tr '\\0' ' ' <$p/cmdline; done; ls -A private"
    code, seen = executor._call(lambda site: site.cluster.run(name, "agent", ["/bin/sh", "-c", f"cd /optio; {look}"]))
    assert ended.exit.code == 3
    assert stay.is_kept
    assert stay.told.endswith(f"kubectl -n {NAMESPACE} exec -it {name} -c agent -- /bin/sh")
    assert (code, b"from the agent" in seen, secret.encode() in seen, b"stdin" in seen) == (0, True, False, False)
    assert b"sleep 600" not in seen
    assert (executor.attempts(), make().attempts()) == ([], [])
    executor.remove(RUN, 1)
    eventually(lambda: executor._call(lambda site: site.cluster.pod(name)) is None, within=60, what="the end of the pod")


def test_a_pod_that_stayed_for_long_enough_is_taken_away_by_whoever_looks_next(make: Make, install: str) -> None:
    executor, name = make(), manifest.name_of(install, RUN, 1)
    handle = executor.start(shell("exit 3", environment=KEPT))
    until_ended(handle, within=60)

    executor.keep(RUN, 1, 2.0)
    executor.close()

    another = make()
    eventually(
        lambda: another.attempts() == [] and another._call(lambda site: site.cluster.pod(name)) is None,
        within=60,
        what="the end of the pod",
    )


def test_a_pod_that_stays_ends_by_itself(make: Make, install: str) -> None:
    executor, name = make(), manifest.name_of(install, RUN, 1)
    handle = executor.start(shell("exit 3", environment=Environment.of({"keepFailed": "2s"})))
    until_ended(handle, within=60)
    executor.keep(RUN, 1, 3600.0)

    def phase() -> str:
        found = executor._call(lambda site: site.cluster.pod(name))
        assert found is not None
        said: str = found["status"]["phase"]
        return said

    eventually(lambda: phase() == "Succeeded", within=60, what="the end of the container")
    handle.close(remove=True)


@pytest.mark.parametrize(
    ("source", "retries", "stays"),
    [("exit 3", 0, True), ("exit 3", 1, False), ("exit 0", 0, False)],
    ids=["failed", "tried again", "did well"],
)
def test_only_the_pod_of_a_run_that_has_failed_stays(
    tmp_path: Path, install: str, source: str, retries: int, stays: bool
) -> None:
    extra = f"maxRetries: {retries}\nenvironment: {{keepFailed: 60s}}\n"
    with opened(tmp_path, settings(tmp_path, install)) as services:
        run = execute(services, command_task(f"echo ran; {source}", extra=extra))
        said = [line for line in log_of(services, run.id, LogKind.SYSTEM) if b"is kept until" in line]
        executor = services.executor
        assert isinstance(executor, PodExecutor)
        name = manifest.name_of(install, run.id, 1)
        if not stays:
            eventually(lambda: executor._call(lambda site: site.cluster.pod(name)) is None, within=60, what="its end")
        assert ("running" in str(executor._call(lambda site: site.cluster.pod(name)))) == stays
        executor.remove(run.id, 1)

    assert len(said) == stays


def test_a_pod_of_somebody_else_is_never_touched(make: Make, install: str) -> None:
    executor = make()
    theirs = waiting_pod(install)
    theirs["metadata"]["labels"] = {"app": "theirs"}
    made = executor._call(lambda site: site.cluster.create(theirs))
    name, uid = made["metadata"]["name"], made["metadata"]["uid"]

    ended = run(executor, launch("/bin/true")).exit
    found = executor.find(RUN, 1)
    executor.remove(RUN, 1)
    after = executor._call(lambda site: site.cluster.pod(name))
    executor._call(lambda site: site.cluster.delete(name, uid, 0))

    assert (ended.reason, ended.temporary, found) == ("foreign_pod", False, None)
    assert after is not None
    assert (after["metadata"]["uid"], "deletionTimestamp" in after["metadata"]) == (uid, False)


def test_a_secret_of_a_program_goes_the_way_of_a_launch_and_a_pod_waits_for_it(
    tmp_path: Path, install: str, vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in vault.environ.items():
        monkeypatch.setenv(name, value)
    vault.values["API_KEY"], vault.status = "value-of-the-vault", 503
    asks = {"OPTIO_SECRET_COMMAND": str(PROGRAM), "OPTIO_SECRET_CACHE": "1s"}
    with opened(tmp_path, settings(tmp_path, install) | asks) as services, working(services):
        script = 'printf "it is %s " "$API_KEY"; printf %s "$API_KEY" | sha256sum'
        run_id = accept(services, command_task(script, extra="environment: {secrets: [API_KEY]}\n"))
        eventually(lambda: services.store.run(run_id).reason == "secret_source", within=60, what="the run in the queue")
        assert services.executor.attempts() == []
        vault.status = 200
        run = done(services, run_id, within=120)
        said = log_of(services, run_id, LogKind.OUTPUT)

    digest = hashlib.sha256(b"value-of-the-vault").hexdigest()
    assert (run.state, said) == ("completed", [f"it is *** {digest}  -".encode()])


def test_nothing_of_a_launch_stands_in_the_pod(make: Make, install: str) -> None:
    executor = make()
    secret = f"canary-{uuid.uuid4().hex}"
    handle = executor.start(
        shell("echo ready; sleep 5", env={"KEY": secret}, files={"k": secret.encode()}, stdin=secret.encode())
    )
    eventually(lambda: read(handle, "stdout"), what="the agent")

    text = str(executor._call(lambda site: site.cluster.pod(manifest.name_of(install, RUN, 1))))
    command = ["/bin/sh", "-c", "tr '\\0' '\\n' </proc/1/environ; tr '\\0' ' ' </proc/[0-9]*/cmdline; ls /optio"]
    _, seen = executor._call(lambda site: site.cluster.run(manifest.name_of(install, RUN, 1), manifest.CONTAINER, command))
    handle.stop()
    until_ended(handle)
    handle.close(remove=True)

    assert secret not in text
    assert secret not in seen.decode()
    assert not {"parcel", "plan"} & set(seen.decode().split())


def test_an_attempt_that_has_just_begun_is_found_before_its_node_has_told_that_it_runs(make: Make) -> None:
    executor, another = make(), make()
    another.attempts()
    handle = executor.start(shell("echo ready; sleep 3; echo done"))
    eventually(handle.begun, within=60, what="the beginning")

    found = another.find(RUN, 1)
    handle.close(remove=False)

    assert found is not None
    ended = until_ended(found, within=60)
    found.close(remove=True)
    assert (ended.exit.code, ended.stdout) == (0, b"ready\ndone\n")
