"""What becomes of an attempt when requests to the cluster go wrong: a proxy before the real API server sees to that.

The numbers in the docstrings are of the table of faults that must do no harm: F28 is a pod that was made without an answer.
"""

import contextlib
import hashlib
import json
import random
import re
import resource
import time
import uuid
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from optio.errors import StoreUnavailable
from optio.executors.base import Executor, Handle, Launch, WarmDemand
from optio.executors.pods import manifest
from optio.executors.pods import start as starting
from optio.executors.pods.executor import PodExecutor
from optio.executors.pods.manifest import PodSettings
from optio.executors.procfs import uptime
from optio.model.task import Environment
from tests.executors.pods.api import Api, Pod
from tests.executors.pods.faults import FaultProxy
from tests.executors.pods.kubelet import FakeKubelet
from tests.executors.pods.place import CLUSTER, IMAGE, NAMESPACE
from tests.executors.support import RUN, launch, python, read, run, shell, until_ended
from tests.support import eventually

Make = Callable[..., Executor]
MAKING, LOG, WATCH, LAUNCH = r"^POST \S*/pods$", r"/log\?", r"/pods\?watch", r"/exec\?.*parcel"
LOOK = r"/exec\?(?!.*parcel)"
COPY = r"/exec\?(?!.*parcel).*tail"
# No node has it: the pod is there, and no kubelet speaks for it but the test.
NOWHERE = {"node_selector": {"optio.dev/none": "x"}}


@pytest.fixture
def api() -> Iterator[Api]:
    with Api(NAMESPACE) as made:
        yield made


@pytest.fixture
def proxy(api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    with FaultProxy() as made:
        monkeypatch.setenv("KUBECONFIG", str(made.kubeconfig(tmp_path / "kubeconfig")))
        yield made


@pytest.fixture
def node(proxy: FaultProxy, api: Api) -> Iterator[FakeKubelet]:
    """A node on which nothing runs; the proxy answers for it."""
    with FakeKubelet(NAMESPACE, lasts=lambda: 60.0) as made:
        proxy.serve = made.serve
        yield made


@pytest.fixture
def install() -> str:
    return f"t{uuid.uuid4().hex[:12]}"


@pytest.fixture
def make(install: str, api: Api, proxy: FaultProxy) -> Iterator[Make]:
    """Executors of one installation, whose way to the cluster is the proxy. What a test that fails does not close is closed."""
    made: list[PodExecutor] = []
    handles: list[Handle] = []

    class Kept(PodExecutor):
        def start(self, launch: Launch) -> Handle:
            handles.append(super().start(launch))
            return handles[-1]

        def find(self, run_id: str, attempt: int) -> Handle | None:
            found = super().find(run_id, attempt)
            handles.extend([found] if found is not None else [])
            return found

    def executor(*, start_s: float = 60.0, **changes: Any) -> Executor:
        sizes = {"cpu": "50m", "memory": "128Mi", "disk": "256Mi", "image": IMAGE, **changes}
        made.append(Kept(PodSettings(namespace=NAMESPACE, install=install, **sizes), {}, start_s=start_s))
        made[-1].place()
        return made[-1]

    yield executor
    proxy.clear()
    proxy.resume()
    for each in made:
        each.close()
    for handle in handles:
        handle.close(remove=False)
    api.sweep(f"{manifest.INSTALL}={install}")


@pytest.fixture
def pods(api: Api, install: str) -> Callable[[], list[Pod]]:
    """All that there are of the installation."""
    return lambda: api.pods(f"{manifest.INSTALL}={install}")


@pytest.fixture
def name(install: str) -> str:
    """Of the pod of the first attempt at `run`."""
    return manifest.name_of(install, RUN, 1)


def ready(handle: Handle, word: bytes = b"ready") -> None:
    eventually(lambda: word in read(handle, "stdout"), within=40, what="the agent's first words")


def there(pods: Callable[[], list[Pod]]) -> Pod:
    return eventually(pods, what="the pod")[0]


# Making a pod


@pytest.mark.parametrize("fault", [{"status": 504, "done": True}, {"cut": 0}])
def test_a_pod_that_was_made_without_a_word_of_it_is_the_pod_of_the_attempt(
    make: Make, proxy: FaultProxy, pods: Callable[[], list[Pod]], fault: dict[str, Any]
) -> None:
    """F28."""
    lost = proxy.rule(MAKING, **fault)

    handle = make().start(shell("echo ready; sleep 1"))
    ready(handle)
    found = pods()
    ended = until_ended(handle)
    handle.close(remove=True)

    assert (lost.hits, len(found), ended.exit.code, ended.stdout) == (1, 1, 0, b"ready\n")


@pytest.mark.parametrize("fault", [{"status": 504, "done": True}, {"cut": 0}])
def test_a_warm_pod_that_was_claimed_without_a_word_of_it_is_the_pod_of_the_attempt(
    make: Make, proxy: FaultProxy, pods: Callable[[], list[Pod]], fault: dict[str, Any]
) -> None:
    """F28."""
    executor = make()
    executor.keep_warm([WarmDemand(task_id="task", size=1, environment=Environment())])
    eventually(lambda: [each.ready for each in executor.pools() or ()] == [1], within=60, what="a warm pod")
    lost = proxy.rule("^PATCH", **fault)

    handle = executor.start(shell("echo ready; sleep 1", warm=True, environment=Environment()))
    ready(handle)
    begun, found = handle.begun(), [each for each in pods() if manifest.RUN in each["metadata"]["labels"]]
    ended = until_ended(handle)
    handle.close(remove=True)

    assert begun is not None
    assert (lost.hits, begun.how, len(found), ended.exit.code) == (1, "warm", 1, 0)


@pytest.fixture
def standing_by(make: Make, proxy: FaultProxy) -> Executor:
    """A worker that has the way into its one warm pod open."""
    executor = make()
    executor.keep_warm([WarmDemand(task_id="task", size=1, environment=Environment())])
    eventually(lambda: proxy.count(LAUNCH), within=60, what="the way into a warm pod")
    eventually(lambda: [each.ready for each in executor.pools() or ()] == [1], within=60, what="a warm pod")
    return executor


def ways(proxy: FaultProxy, name: str) -> int:
    """How many are open into a pod."""
    return sum(1 for each in list(proxy.open) if re.search(LAUNCH, str(each.request)) and f"/{name}/" in each.request.path)


def test_the_way_into_a_warm_pod_is_open_before_there_is_a_launch(standing_by: Executor, proxy: FaultProxy) -> None:
    proxy.forget()

    handle = standing_by.start(shell("echo ready; sleep 0.2", warm=True, environment=Environment()))
    ready(handle)
    opened = proxy.count(LAUNCH)
    ended = until_ended(handle)
    handle.close(remove=True)

    assert opened == 0
    assert ended.exit.code == 0


@pytest.mark.parametrize("long_before", [True, False])
def test_a_way_into_a_warm_pod_that_is_cut_while_nobody_uses_it_costs_nothing(
    standing_by: Executor, proxy: FaultProxy, long_before: bool
) -> None:
    proxy.forget()
    proxy.cut(LAUNCH)
    if long_before:
        eventually(lambda: proxy.count(LAUNCH), what="another way in")

    handle = standing_by.start(shell("echo ready; sleep 0.2", warm=True, environment=Environment()))
    ended = until_ended(handle)
    begun = handle.begun()
    handle.close(remove=True)

    assert begun is not None
    assert (begun.how, ended.exit.code, ended.stdout) == ("warm", 0, b"ready\n")


def test_the_way_into_a_warm_pod_that_another_worker_has_taken_is_closed(
    standing_by: Executor, make: Make, proxy: FaultProxy
) -> None:
    handle = make().start(shell("echo ready; read x", warm=True, environment=Environment()))
    ready(handle)
    begun = handle.begun()

    eventually(lambda: ways(proxy, handle.name) == 0, what="the end of the way in")  # type: ignore[attr-defined]

    assert begun is not None
    assert begun.how == "warm"
    handle.stop()
    until_ended(handle)
    handle.close(remove=True)


@pytest.mark.parametrize(
    ("status", "message", "said", "reason", "temporary"),
    [
        (403, "the worker cannot create pods", {"reason": "Forbidden", "details": {"kind": "pods"}}, "access", True),
        (404, "there is no such namespace", {"reason": "NotFound"}, "namespace", True),
        (422, "Pod is invalid", {"details": {"causes": [{"field": "spec.containers[0].image"}]}}, "pod_refused", False),
        (400, "the pod cannot be read", {"reason": "BadRequest"}, "pod_refused", False),
        (400, 'admission webhook "policy.example" denied the request', {}, "admission", True),
        (403, "pods is forbidden: exceeded quota: small, requested: pods=1", {}, "quota", True),
    ],
)
def test_a_pod_that_is_refused_ends_the_attempt_with_the_clusters_words_and_its_run_only_where_it_is_at_fault(
    make: Make,
    proxy: FaultProxy,
    pods: Callable[[], list[Pod]],
    status: int,
    message: str,
    said: dict[str, Any],
    reason: str,
    temporary: bool,
) -> None:
    """F29."""
    proxy.rule(MAKING, status=status, message=message, said=said)

    ended = run(make(), launch("/bin/true")).exit

    assert (ended.reason, ended.temporary, ended.code) == (reason, temporary, None)
    assert (ended.no_room is not None) == temporary
    assert message in ended.message
    assert (proxy.count(MAKING), pods()) == (1, [])


@pytest.mark.parametrize("status", [429, 503])
def test_a_pod_that_is_refused_for_now_is_asked_for_again(make: Make, proxy: FaultProxy, status: int) -> None:
    """F29."""
    proxy.rule(MAKING, status=status, times=2)

    ended = run(make(), shell("echo once"), within=40)

    assert (ended.exit.code, ended.stdout, proxy.count(MAKING)) == (0, b"once\n", 3)


def test_a_server_that_wants_to_be_left_alone_for_a_while_is(make: Make, proxy: FaultProxy) -> None:
    """F29."""
    proxy.rule(MAKING, status=429, headers={"retry-after": "2"}, times=2)

    ended = run(make(), shell("echo once"), within=40)
    asked = [request.at for request in proxy.seen if request.kind == "POST pods"]

    assert (ended.exit.code, len(asked)) == (0, 3)
    assert min(b - a for a, b in pairwise(asked)) >= 2


@pytest.mark.parametrize("fault", [{"refuse": True}, {"status": 429, "headers": {"retry-after": "3600"}}])
def test_a_cluster_that_makes_no_pod_in_time_ends_the_attempt(
    make: Make, proxy: FaultProxy, pods: Callable[[], list[Pod]], fault: dict[str, Any]
) -> None:
    """F29."""
    proxy.rule(MAKING, times=None, **fault)

    ended = run(make(start_s=2.0), launch("/bin/true")).exit

    assert (ended.reason, ended.temporary) == ("cluster", True)
    assert pods() == []


@pytest.mark.parametrize("fault", [{"hold": 0}, {"status": 429, "headers": {"retry-after": "60"}}])
def test_an_attempt_that_is_not_wanted_any_more_while_its_pod_is_asked_for_ends_at_once(
    make: Make, proxy: FaultProxy, pods: Callable[[], list[Pod]], fault: dict[str, Any]
) -> None:
    """F40."""
    asking = proxy.rule(MAKING, times=None, **fault)
    handle = make().start(shell("echo ran"))
    eventually(lambda: asking.hits, what="the request for the pod")

    handle.stop()
    ended = until_ended(handle, within=15)
    handle.close(remove=True)

    assert (ended.exit.stopped_by, ended.stdout) == ("stop", b"")
    proxy.clear()
    eventually(lambda: pods() == [], what="the end of the pod")


def test_a_worker_that_may_not_come_in_for_a_moment_goes_on_with_its_new_token(
    make: Make, proxy: FaultProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F44: the kubelet writes a new token before the old one ends, or a little late. The file may be empty for a moment."""
    token = tmp_path / "token"
    token.write_text("old")
    monkeypatch.setenv("KUBECONFIG", str(proxy.kubeconfig(tmp_path / "kubeconfig", token_file=token)))
    executor = make()
    before = run(executor, shell("echo before", run_id="a"))
    late = proxy.rule("", status=401, times=None, when=lambda request: request.headers["authorization"] == "Bearer old")
    proxy.cut()

    handle = executor.start(shell("echo after", run_id="b"))
    eventually(lambda: late.hits > 3, what="requests with the old token")
    token.write_text("")
    hits = late.hits
    eventually(lambda: late.hits > hits + 3, what="requests while the file is empty")
    token.write_text("new")
    after = until_ended(handle, within=40)
    handle.close(remove=True)

    assert (before.stdout, after.exit.code, after.stdout) == (b"before\n", 0, b"after\n")


# What the kubelet says


def terminated(code: int, reason: str, message: str = "") -> dict[str, Any]:
    return {"terminated": {"exitCode": code, "reason": reason, "message": message}}


DISRUPTED = {"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler", "message": "preempted by another"}


@pytest.mark.parametrize(
    ("state", "more", "reason", "temporary", "words"),
    [
        (terminated(137, "OOMKilled"), {}, "oom", False, "environment.resources.memory"),
        ({}, {"reason": "Evicted", "message": "low on ephemeral-storage"}, "evicted", True, "low on ephemeral-storage"),
        (terminated(143, "Error"), {"conditions": [DISRUPTED]}, "evicted", True, "preempted by another"),
        (terminated(137, "Error"), {"reason": "DeadlineExceeded"}, "timeout", False, "deadline"),
        ({}, {"reason": "OutOfcpu", "message": "Node didn't have enough resource: cpu"}, "rejected", True, "enough resource"),
        ({}, {"reason": "Terminated", "message": "imminent node shutdown"}, "evicted", True, "imminent node shutdown"),
    ],
    ids=["memory", "eviction", "preemption", "deadline", "no room after all", "shutdown"],
)
def test_what_the_kubelet_says_of_an_end_is_how_the_attempt_ends(
    make: Make,
    api: Api,
    pods: Callable[[], list[Pod]],
    name: str,
    state: Any,
    more: Any,
    reason: str,
    temporary: bool,
    words: str,
) -> None:
    """F31, F32, F41."""
    handle = make(**NOWHERE).start(shell("echo ran"))
    there(pods)

    api.container(name, "Failed", state, **more)
    ended = until_ended(handle).exit
    handle.close(remove=True)

    assert (ended.reason, ended.temporary, ended.lost) == (reason, temporary, False)
    assert words in ended.message
    eventually(lambda: pods() == [], what="the end of the pod")


def test_a_container_that_can_never_be_made_is_not_waited_for(
    make: Make, api: Api, pods: Callable[[], list[Pod]], name: str
) -> None:
    """F30."""
    handle = make(**NOWHERE).start(shell("echo ran"))
    there(pods)

    api.container(name, "Pending", {"waiting": {"reason": "CreateContainerConfigError", "message": "no such key"}})
    ended = until_ended(handle).exit
    handle.close(remove=True)

    assert (ended.reason, ended.temporary) == ("pod_config", False)
    assert "no such key" in ended.message
    eventually(lambda: pods() == [], what="the end of the pod")


def test_a_pod_that_a_drain_evicts_says_so(make: Make, api: Api, name: str) -> None:
    """F32."""
    handle = make().start(shell("echo ready; while :; do sleep 0.1; done", grace_s=1.0))
    ready(handle)

    api.evict(name)
    ended = until_ended(handle).exit
    handle.close(remove=True)

    assert (ended.reason, ended.temporary) == ("evicted", True)


@pytest.mark.parametrize("grace_s", [None, 0])
def test_a_pod_that_somebody_deletes_while_its_agent_runs_says_so(make: Make, api: Api, name: str, grace_s: int | None) -> None:
    """F34."""
    handle = make().start(shell("echo ready; while :; do sleep 0.1; done", grace_s=1.0))
    ready(handle)

    api.delete(name, grace_s)
    ended = until_ended(handle, within=15).exit
    handle.close(remove=True)

    assert (ended.reason, ended.temporary) == ("deleted", True)


def test_a_pod_that_somebody_deletes_before_its_end_was_read_has_not_succeeded(
    make: Make, proxy: FaultProxy, api: Api, name: str
) -> None:
    """F35."""
    handle = make().start(shell("echo ready; sleep 2; echo done"))
    ready(handle)
    proxy.rule(LOG, status=503, times=None)
    proxy.cut(LOG)
    eventually(lambda: (api.pod(name) or {})["status"]["phase"] == "Succeeded", what="the end of the agent")

    api.delete(name, 0)
    ended = until_ended(handle, within=30).exit
    handle.close(remove=True)

    assert (ended.code, ended.reason, ended.temporary) == (None, "deleted", True)


def test_an_agent_that_ends_while_no_worker_looks_is_found_with_all_it_said(make: Make, api: Api, name: str) -> None:
    """F36."""
    executor = make()
    handle = executor.start(shell("echo ready; sleep 1; seq 1000; exit 7"))
    ready(handle)
    handle.close(remove=False)
    executor.close()
    eventually(lambda: (api.pod(name) or {})["status"]["phase"] in ("Succeeded", "Failed"), what="the end of the agent")

    found = make().find(RUN, 1)
    assert found is not None
    ended = until_ended(found)
    found.close(remove=True)

    assert (ended.exit.code, ended.stdout.split()) == (7, [b"ready", *(str(n).encode() for n in range(1, 1001))])


def test_a_stop_that_comes_with_the_end_has_one_answer(make: Make, pods: Callable[[], list[Pod]]) -> None:
    """F39."""
    executor = make()
    answers = []
    for n in range(6):
        handle = executor.start(shell("echo ready; sleep 0.5; echo done", run_id=f"r{n}", grace_s=5.0))
        ready(handle)
        time.sleep(random.uniform(0.35, 0.65))
        handle.stop()
        ended = until_ended(handle)
        handle.close(remove=True)
        answers.append((ended.exit.code, ended.exit.stopped_by, ended.stdout))

    whole, part = b"ready\ndone\n", b"ready\n"
    assert set(answers) <= {(0, None, whole), (0, "stop", whole), (None, "stop", whole), (None, "stop", part)}, answers
    eventually(lambda: pods() == [], what="the end of the pods")


# A node that says nothing any more: its agents end by themselves when nobody has renewed them for long enough, and no sooner


def test_an_attempt_on_a_node_that_is_lost_ends_when_its_agent_must_have(
    make: Make, node: FakeKubelet, api: Api, pods: Callable[[], list[Pod]], name: str
) -> None:
    """F33: no second agent before; the pod that nobody can end goes by force."""
    orphan_s = 12.0
    began = time.monotonic()
    handle = make(node_selector=node.selector).start(shell("true", orphan_s=orphan_s))
    ready(handle, b"line")

    node.silence()
    api.delete(name)
    while (ended := handle.exit()) is None and time.monotonic() < began + 90:
        handle.renewed(uptime())
        handle.wait(1.0)
    took = time.monotonic() - began
    handle.close(remove=True)

    assert took >= orphan_s
    assert ended is not None
    assert (ended.stopped_by, ended.code) == ("orphaned", None)
    eventually(lambda: pods() == [], what="the end of the pod")


def test_an_attempt_on_a_node_that_is_lost_is_not_given_up_by_another_worker_before_its_agent_must_have_ended(
    make: Make, node: FakeKubelet, api: Api, pods: Callable[[], list[Pod]], name: str
) -> None:
    """F33."""
    orphan_s = 20.0
    handle = make(node_selector=node.selector).start(shell("true", orphan_s=orphan_s))
    ready(handle, b"line")
    handle.close(remove=False)
    node.silence()
    api.delete(name)
    eventually(lambda: "deletionTimestamp" in there(pods)["metadata"], what="the deletion")

    another, began = make(node_selector=node.selector), time.monotonic()
    found: Handle | None = None
    while time.monotonic() < began + 120:
        with contextlib.suppress(StoreUnavailable):  # a worker asks again
            found = another.find(RUN, 1)
            break
    ended = None if found is None else until_ended(found, within=60).exit
    took = time.monotonic() - began

    assert took >= orphan_s - 1
    assert ended is None or ended.code is None


def test_a_pod_that_is_gone_before_it_ran_is_known_to_be_also_when_the_first_look_is_refused(
    make: Make, proxy: FaultProxy, api: Api, name: str
) -> None:
    handle = make(**NOWHERE).start(shell("echo ran"))
    eventually(lambda: handle.uid, what="the pod")  # type: ignore[attr-defined]
    refused = proxy.rule(r"^GET \S*/pods/[^/?]*$", status=500)

    api.delete(name, 0)
    ended = until_ended(handle, within=30).exit
    handle.close(remove=True)

    assert (refused.hits, ended.reason, ended.temporary) == (1, "deleted", True)


# The watch


def older_again() -> Callable[[bytes], list[bytes]]:
    """Each event twice, and then the one before it once more."""
    before: list[bytes] = []

    def line(event: bytes) -> list[bytes]:
        told = [event, event, *before]
        before[:] = [event]
        return told

    return line


GONE = json.dumps({"type": "ERROR", "object": {"code": 410, "message": "too old resource version"}}).encode()
MARK = json.dumps({"type": "BOOKMARK", "object": {"kind": "Pod", "metadata": {"resourceVersion": "1"}}}).encode()


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 410},
        {"lines": lambda line: [GONE]},
        {"lines": lambda line: [b"{", line]},
        {"lines": lambda line: [MARK]},
        {"lines": older_again()},
        {"cut": 700},
        {"end": 700},
        {"hold": 0},
        {"refuse": True},
        {"status": 429, "headers": {"retry-after": "1"}},
    ],
    ids=["410", "gone", "no JSON", "bookmarks only", "twice and late", "cut", "end", "silence", "reset", "429"],
)
def test_whatever_becomes_of_the_watch_the_state_of_pods_is_known_soon(
    make: Make, proxy: FaultProxy, fault: dict[str, Any]
) -> None:
    """F42: within half a minute."""
    broken = proxy.rule(WATCH, **fault)

    ended = run(make(), shell("echo seen"), within=35)

    assert (broken.hits, ended.exit.code, ended.stdout) == (1, 0, b"seen\n")


@pytest.mark.parametrize("fault", [{"status": 403}, {"hold": 0}, {"cut": 0}, {"lines": lambda line: [GONE]}])
def test_where_events_do_not_come_the_pods_status_tells_that_an_agent_can_begin(
    make: Make, proxy: FaultProxy, fault: dict[str, Any]
) -> None:
    broken = proxy.rule(r"/events\?" + ("watch" if "lines" in fault else ""), times=None, **fault)

    ended = run(make(), shell("echo ran"), within=60)

    assert (ended.exit.code, ended.stdout) == (0, b"ran\n")
    eventually(lambda: broken.hits, what="the fault")


def test_an_event_of_a_container_that_does_not_run_is_worth_one_try(make: Make, proxy: FaultProxy, name: str) -> None:
    executor = make(start_s=4.0, node_selector={"no": "node"})
    handle = executor.start(shell("echo ran"))
    eventually(lambda: proxy.count(r"/events\?watch"), what="the watch of events")

    involved = {"kind": "Pod", "namespace": NAMESPACE, "name": name, "fieldPath": "spec.containers{agent}"}
    event = {"metadata": {"name": f"{name}.forged"}, "reason": "Started", "involvedObject": involved, "type": "Normal"}
    executor._call(lambda site: site.cluster.ask("POST", site.cluster.path("events"), event))
    ended = until_ended(handle, within=60).exit
    handle.close(remove=True)

    assert ended.reason == "unschedulable"
    assert proxy.count(LAUNCH) == 1


def test_an_agent_begins_by_the_event_of_its_container_before_the_pods_status_is_told(
    make: Make, proxy: FaultProxy, name: str
) -> None:
    proxy.rule(WATCH, times=None, hold=0)
    executor = make()

    handle = executor.start(shell("echo ready; sleep 60"))
    begun = eventually(handle.begun, within=60, what="the beginning")
    assert executor._site is not None
    known = executor._site.informer.status(name)
    handle.close(remove=True)

    assert (begun.how, known.get("containerStatuses")) == ("cold", None)


def test_a_watch_that_ends_at_once_again_and_again_is_no_storm_of_requests(make: Make, proxy: FaultProxy) -> None:
    """F42."""
    proxy.rule(WATCH, end=0, times=3)
    proxy.rule(WATCH, cut=0, times=None)
    make()

    time.sleep(10)

    assert 4 <= len(proxy.seen) <= 20, proxy.counts()


# The launch


@pytest.mark.parametrize("sent", [0, 100, 3_000, 700_000])
def test_a_launch_that_breaks_off_starts_nothing(
    make: Make, proxy: FaultProxy, pods: Callable[[], list[Pod]], sent: int
) -> None:
    """F45: nor is it sent twice into one pod."""
    broken = proxy.rule(LAUNCH, cut_sent=sent, times=None)

    ended = run(make(), shell("echo ran", stdin=b"x" * 1_000_000), within=60)

    assert broken.hits == 1
    assert (ended.exit.reason, ended.exit.temporary, ended.stdout) == ("launch", True, b"")
    eventually(lambda: pods() == [], what="the end of the pod")


# What the command in the pod says first, that it is there, is so long; Kubernetes opens the channel with an empty message.
GREETING = 7 if CLUSTER else 4


@pytest.mark.parametrize("fault", [{"cut": GREETING}, {"hold": GREETING}])
def test_a_launch_whose_answer_is_lost_has_begun(make: Make, proxy: FaultProxy, fault: dict[str, Any]) -> None:
    """F45."""
    lost = proxy.rule(LAUNCH, times=None, **fault)

    ended = run(make(), shell("cat; echo ran", stdin=b"whole\n"), within=60)

    assert lost.hits == 1
    assert (ended.exit.code, ended.stdout) == (0, b"whole\nran\n")


def test_the_end_of_a_pod_is_known_also_when_the_launch_that_was_sent_there_gets_no_answer(
    make: Make, proxy: FaultProxy, api: Api, pods: Callable[[], list[Pod]], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its gate stays closed, and the command that waits behind it is not ended with it."""
    monkeypatch.setattr(starting, "_ANSWER_S", 3600.0)
    held = proxy.rule(LAUNCH, times=None, hold=GREETING)
    handle = make().start(shell("sleep 60"))
    eventually(lambda: held.hits and pods()[0]["status"].get("phase") == "Running", within=60, what="the launch")

    api.container(name, "Failed", terminated(73, "Error", "no network policy is enforced"))
    ended = until_ended(handle, within=60).exit
    handle.close(remove=True)

    assert (ended.reason, ended.temporary, ended.message) == ("network", True, "no network policy is enforced")


@pytest.mark.parametrize("fault", [{"cut": 0}, {"hold": 0}, {"status": 500}])
def test_a_launch_that_was_not_sent_yet_is_sent_again(make: Make, proxy: FaultProxy, fault: dict[str, Any]) -> None:
    """F45: until the command in the pod has answered, nothing was begun there."""
    lost = proxy.rule(LAUNCH, times=2, **fault)

    ended = run(make(), shell("cat; echo ran", stdin=b"whole\n"), within=60)

    assert lost.hits == 2
    assert (ended.exit.code, ended.stdout) == (0, b"whole\nran\n")


@pytest.mark.parametrize("status", [401, 403])
def test_a_run_whose_worker_may_run_no_command_in_its_pod_waits_for_the_right(
    make: Make, proxy: FaultProxy, pods: Callable[[], list[Pod]], monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setattr(starting, "_REFUSED_S", 2.0)
    proxy.rule(LAUNCH, status=status, times=None)

    ended = run(make(), shell("echo ran"), within=60)

    assert (ended.exit.reason, ended.exit.temporary, ended.stdout) == ("access", True, b"")
    assert ended.exit.no_room is not None
    assert ended.exit.no_room.message.startswith(f"the cluster refuses commands in pods: HTTP status {status}. Cure: ")
    eventually(lambda: pods() == [], what="the end of the pod")


def test_a_launch_that_the_cluster_refuses_ends_the_attempt(
    make: Make, proxy: FaultProxy, pods: Callable[[], list[Pod]]
) -> None:
    """F45."""
    proxy.rule(LAUNCH, status=500, times=None)

    ended = run(make(start_s=10.0), shell("echo ran"), within=60)

    assert (ended.exit.reason, ended.exit.temporary, ended.stdout) == ("launch", True, b"")
    eventually(lambda: pods() == [], what="the end of the pod")


@pytest.mark.parametrize("fault", [{"cut": 0}, {"hold": 0}], ids=str)
def test_that_a_pod_has_no_launch_is_also_true_when_the_first_who_found_it_out_was_not_heard(
    make: Make, proxy: FaultProxy, pods: Callable[[], list[Pod]], fault: dict[str, Any]
) -> None:
    """F45: a worker dies before its launch, and the next who looks dies, or is cut off, before it has the answer."""
    proxy.rule(LAUNCH, refuse=True, times=None)
    dead = make().start(shell("echo ran"))
    eventually(lambda: pods() and pods()[0]["status"].get("phase") == "Running", what="the pod")
    dead.close(remove=False)
    lost = proxy.rule(LOOK, once_told=True, **fault)

    found = make().find(RUN, 1)

    assert (lost.hits, found) == (1, None)
    eventually(lambda: pods() == [], what="the end of the pod")


def test_an_agent_that_its_node_could_not_tell_of_while_the_api_server_was_away_is_found(
    make: Make, proxy: FaultProxy, api: Api, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither its status nor a refused look says that it has no launch."""
    monkeypatch.setattr("optio.executors.pods.search._STARTS_S", 0.5)
    handle = make().start(shell("echo ready; sleep 8; echo done"))
    ready(handle)
    handle.close(remove=False)
    api.container(name, "Pending", {"waiting": {"reason": "ContainerCreating"}})
    away = proxy.rule(LOOK, refuse=True, times=5)

    found = make().find(RUN, 1)

    assert (away.hits > 1, found is not None) == (True, True)
    assert found is not None
    ended = until_ended(found, within=60)
    found.close(remove=True)
    assert (ended.exit.code, ended.exit.reason, ended.exit.message, ended.stdout) == (0, None, "", b"ready\ndone\n")


QUOTA = "pods is forbidden: exceeded quota: small, requested: pods=1, used: pods=1, limited: pods=1"


def test_an_attempt_without_a_pod_is_given_up_also_while_the_quota_takes_no_pod(
    make: Make, proxy: FaultProxy, pods: Callable[[], list[Pod]]
) -> None:
    """Its worker died before the pod was there. The slot of its run serves others meanwhile."""
    late, another = make(), make()
    proxy.rule(MAKING, status=403, message=QUOTA, times=None)

    found = another.find(RUN, 1)
    proxy.clear()
    handle = late.start(shell("echo ran"))
    ended = until_ended(handle)
    handle.close(remove=True)

    assert found is None
    assert (ended.exit.lost, ended.stdout) == (True, b"")
    eventually(lambda: pods() == [], what="the end of the pod")


def test_attempts_that_several_workers_give_up_at_once_are_all_given_up(make: Make, proxy: FaultProxy) -> None:
    first, second = make(), make()
    sooner = proxy.rule(r"^(POST|PUT) \S*/leases", status=409, times=2)

    assert [first.find("one", 1), second.find("two", 1)] == [None, None]
    ended = [run(make(), shell("echo ran", run_id=run_id)) for run_id in ("one", "two")]

    assert sooner.hits == 2
    assert [(each.exit.lost, each.stdout) for each in ended] == [(True, b"")] * 2


@pytest.mark.parametrize("fault", [{"status": 500}, {"cut": 0}], ids=str)
def test_an_attempt_begins_when_it_is_known_that_nobody_has_given_it_up(
    make: Make, proxy: FaultProxy, fault: dict[str, Any]
) -> None:
    broken = proxy.rule(r"^GET \S*/leases", times=2, **fault)

    ended = run(make(), shell("echo ran"))

    assert (broken.hits, ended.exit.code, ended.stdout) == (2, 0, b"ran\n")


# The log


@pytest.mark.parametrize(
    "fault",
    [
        {"cut": 0},
        {"cut": 30},
        {"cut": 3_000},
        {"end": 0},
        {"end": 300},
        {"end": 3_000},
        {"status": 500},
        {"status": 429, "headers": {"retry-after": "1"}},
        {"refuse": True},
    ],
    ids=lambda fault: "-".join(f"{name}-{value}" for name, value in fault.items() if name != "headers"),
)
def test_a_log_that_breaks_off_is_read_on_without_gap_or_double(make: Make, proxy: FaultProxy, fault: dict[str, Any]) -> None:
    """F46: while the agent runs, that is no end."""
    broken = proxy.rule(LOG, times=3, **fault)

    ended = run(make(), shell("for n in $(seq 40); do seq $((n * 4)); sleep 0.05; done; exit 3"), within=60)

    said = [str(n) for last in range(1, 41) for n in range(1, last * 4 + 1)]
    assert broken.hits == 3
    assert (ended.exit.code, ended.stdout.decode().split()) == (3, said)


@pytest.mark.parametrize("fault", [{"cut": 0}, {"cut": 3_000}, {"end": 3_000}, {"status": 500}, {"refuse": True}], ids=str)
def test_what_an_agent_said_is_read_to_its_end_also_when_that_breaks_off_after_its_pod_ended(
    make: Make, proxy: FaultProxy, api: Api, name: str, fault: dict[str, Any]
) -> None:
    """F46."""
    handle = make().start(shell("echo ready; sleep 2; seq 5000; exit 3"))
    ready(handle)
    proxy.rule(LOG, status=503, times=None)
    proxy.cut(LOG)
    proxy.cut(LAUNCH)  # which brings the first output, too
    eventually(lambda: (api.pod(name) or {})["status"]["phase"] in ("Succeeded", "Failed"), what="the end of the agent")

    proxy.clear()
    broken = proxy.rule(LOG, times=2, **fault)
    ended = until_ended(handle, within=40)
    handle.close(remove=True)

    assert broken.hits == 2
    assert (ended.exit.code, ended.stdout) == (3, b"ready\n" + b"".join(b"%d\n" % n for n in range(1, 5001)))


@pytest.mark.parametrize("fault", [{"status": 500}, {"cut": 0}], ids=str)
def test_output_that_a_rotated_log_lacks_is_asked_for_again_while_its_pod_lives(
    make: Make, proxy: FaultProxy, api: Api, name: str, fault: dict[str, Any]
) -> None:
    """F46."""
    source, size = (
        "head -c 6000000 /dev/zero; head -c 6000000 /dev/zero | tr '\\0' '\\377'; until [ -f go ]; do sleep 0.1; done",
        12_000_000,
    )
    handle = make(cpu="500m", memory="256Mi").start(shell(source, timeout_s=300.0))
    eventually(lambda: handle.spool.sizes["stdout"] == size, within=120, what="all of the output")  # type: ignore[attr-defined]
    handle.close(remove=False)
    eventually(lambda: api.has_rotated_log(name), within=60, what="a log that lacks its beginning")
    broken = proxy.rule(COPY, times=3, **fault)

    another = make()
    found = another.find(RUN, 1)
    assert found is not None
    eventually(lambda: found.spool.sizes["stdout"] == size, within=120, what="all of the output")  # type: ignore[attr-defined]
    data = b"".join(found.read("stdout", at, 1 << 20) for at in range(0, size, 1 << 20))
    found.close(remove=True)

    assert broken.hits == 3
    assert hashlib.sha256(data).digest() == hashlib.sha256(b"\0" * 6_000_000 + b"\xff" * 6_000_000).digest()


@pytest.mark.parametrize("end", ["", "\r"], ids=["text", "in hexadecimal"])
def test_lines_that_a_rotation_of_the_log_hides_from_its_reader_are_taken_from_the_agents_own_file(
    make: Make, proxy: FaultProxy, end: str
) -> None:
    """F46: in the middle of frames, and heads of frames too."""
    seen = 0

    def most(line: bytes) -> list[bytes]:
        nonlocal seen
        seen += 1
        return [] if seen % 900 > 800 and seen < 18_000 else [line]

    proxy.rule(LOG, times=None, lines=most)
    source = (
        f"for n in $(seq 60); do seq -f '%.0f{end}' $((n * 1000 - 999)) $((n * 1000)); sleep 0.05; done; read x <go; echo over"
    )

    executor = make(cpu="500m")
    handle = executor.start(shell(source, setup=("mkfifo go",), timeout_s=120.0))
    size = sum(len(f"{n}{end}\n") for n in range(1, 60_001))
    eventually(lambda: handle.spool.sizes["stdout"] == size, within=60, what="all of the output")  # type: ignore[attr-defined]
    executor._call(lambda site: site.cluster.run(handle.name, manifest.CONTAINER, ["/bin/sh", "-c", "echo >/optio/work/go"]))
    ended = until_ended(handle, within=60)
    handle.close(remove=True)

    assert (ended.exit.code, ended.exit.reason) == (0, None)
    assert seen > 18_000
    assert ended.stdout == b"".join(b"%d%s\n" % (n, end.encode()) for n in range(1, 60_001)) + b"over\n"


def test_an_agent_whose_log_is_silent_from_its_start_is_not_taken_for_one_that_never_began(
    make: Make, proxy: FaultProxy
) -> None:
    """F46: its launch was answered. What it did must not be done twice."""
    proxy.rule(LOG, hold=0)

    ended = run(make(), shell("sleep 22; echo over"), within=120)

    assert (ended.exit.code, ended.exit.reason, ended.stdout) == (0, None, b"over\n")


def test_one_very_long_line_needs_no_memory_to_speak_of(make: Make, proxy: FaultProxy) -> None:
    """F47."""
    size = 48 << 20
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    handle = make(cpu="500m").start(
        python(f"import sys; [sys.stdout.write('x' * (1 << 20)) for _ in range({size >> 20})]", timeout_s=120.0)
    )
    digest, at = hashlib.sha256(), 0
    while handle.exit() is None or handle.read("stdout", at, 1):
        part = handle.read("stdout", at, 1 << 20)
        at += len(part)
        digest.update(part)
        if not part:
            handle.wait(0.2)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    handle.close(remove=True)

    assert (at, digest.hexdigest()) == (size, hashlib.sha256(b"x" * size).hexdigest())
    assert grown < 64 << 10, f"{grown} KiB more"


# The whole server


def test_agents_go_on_while_nobody_answers_and_all_of_it_is_known_afterwards(make: Make, proxy: FaultProxy) -> None:
    """F43."""
    executor = make()
    handle = executor.start(shell("echo ready; for n in $(seq 80); do echo $n; sleep 0.1; done"))
    ready(handle)

    proxy.refuse()
    time.sleep(10)
    during = handle.exit()
    proxy.resume()
    ended = until_ended(handle, within=30)
    handle.close(remove=True)

    assert during is None
    assert (ended.exit.code, ended.stdout.split()) == (0, [b"ready", *(str(n).encode() for n in range(1, 81))])


@pytest.mark.parametrize("fault", [{"status": 429, "headers": {"retry-after": "1"}}, {"refuse": True}])
def test_a_cluster_that_refuses_everything_is_not_asked_all_the_time(
    make: Make, proxy: FaultProxy, fault: dict[str, Any]
) -> None:
    """F43: by one run and one watch, twice a second at most."""
    executor = make()
    handle = executor.start(shell("echo ready; sleep 8; echo done"))
    ready(handle)
    proxy.rule("", times=None, **fault)
    proxy.cut()
    proxy.forget()

    time.sleep(10)
    asked = proxy.counts()
    proxy.clear()
    ended = until_ended(handle, within=30)
    handle.close(remove=True)

    assert (ended.exit.code, ended.stdout) == (0, b"ready\ndone\n")
    assert asked.total() <= 30, asked


@pytest.mark.parametrize("fault", [{"status": 500}, {"status": 504, "done": True}, {"cut": 0}])
def test_a_pod_is_taken_away_also_when_that_is_refused_at_first(
    make: Make, proxy: FaultProxy, pods: Callable[[], list[Pod]], fault: dict[str, Any]
) -> None:
    """F37: no zombies."""
    refused = proxy.rule("^DELETE", times=2, **fault)

    run(make(), launch("/bin/true"))

    eventually(lambda: pods() == [], what="the end of the pod")
    assert refused.hits >= 1


def test_a_run_costs_the_cluster_a_handful_of_requests(make: Make, proxy: FaultProxy, pods: Callable[[], list[Pod]]) -> None:
    """How many does not depend on how long it runs, nor on how much it says."""
    executor = make()
    proxy.forget()

    for n in range(3):
        run(executor, shell("for n in $(seq 30); do seq 500; sleep 0.1; done", run_id=f"r{n}"), within=60)
    eventually(lambda: pods() == [], what="the end of the pods")
    asked = {kind: count for kind, count in proxy.counts().items() if not kind.startswith(("WATCH", "LIST"))}

    assert asked == {"POST pods": 3, "GET leases/NAME": 3, "exec launch": 3, "GET pods/NAME/log": 3, "DELETE pods/NAME": 3}
