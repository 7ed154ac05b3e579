"""How soon an agent in a pod begins, and what it says is read, beside bare pods of the same minutes.

`python -m tests.bench.bench_pod_start [WARM] [COLD] [BURST]`: so many runs of each sort, one at a time and the sorts in turn,
each from its acceptance in the store through a real worker (in this process) on the cluster of KUBECONFIG: warm with a pool
that is whole again, cold, cold behind the fence (where OPTIO_TEST_EGRESS_IMAGE names the proxy's image). The agent prints the
time at which it began and at which it ended; the cluster's one node is this machine, so all is of one clock. In turn with them,
what the cluster takes for the least that would do: a label patched and a line sent over exec (warm), a pod made until its
process runs (cold), and until its network policy holds (fenced). With OPTIO_TEST_DEPLOY Optio is installed in the cluster too
(images of `tests/deploy/images`, namespaces `optio` and `optio-runs`) and asked over HTTP. Then a burst of BURST bare pods and
one of BURST runs, 20 at once, and the requests to the cluster of a few more, counted by a proxy.
"""

import asyncio
import contextlib
import json
import os
import random
import statistics
import sys
import tempfile
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Self

from optio.broker.base import Topic
from optio.executors.pods import manifest, network
from optio.executors.pods.api_client import Refused
from optio.executors.pods.cluster import Cluster
from optio.executors.pods.manifest import PodSettings
from optio.model.registry import CompiledTask, Registry
from optio.model.run import LogKind
from optio.model.task import Environment, Network
from optio.wiring import Services
from tests.deploy.installed import Installed
from tests.executors.pods import fence
from tests.executors.pods.api import Api
from tests.executors.pods.faults import FaultProxy
from tests.executors.pods.place import IMAGE, NAMESPACE
from tests.runs.support import accept, opened, working
from tests.support import command_task

# Says when the canary of the proxy was let through for the last time, to a pod whose policy forbids it.
FORBIDDEN = """
import socket, sys, time
last = time.time()
while time.time() - last < 0.2:
    try:
        socket.create_connection((sys.argv[1], int(sys.argv[2])), 0.1).close()
        last = time.time()
    except OSError:
        pass
    time.sleep(0.005)
open("/dev/termination-log", "w").write(str(last))
"""
SAYS = "date +%s.%N; read x; sleep 0.5; date +%s.%N"
AT_ONCE = 20
_POOL = 2
# Requests: all pods of one kind, or twenty of the other, have room on a node of two cores. Their limit is the product's own: a
# smaller one measures how long the kernel makes a pod wait.
_CPU, _SMALL_CPU = "300m", "60m"
_NOW = ("/bin/sh", "-c", "date +%s.%N >/dev/termination-log")
Found = dict[str, list[float]]


class Bare:
    """What the cluster itself takes, in seconds, for pods like ours."""

    def __init__(self) -> None:
        self._settings = PodSettings(
            namespace=NAMESPACE, install=f"b{uuid.uuid4().hex[:8]}", image=IMAGE, cpu_request=_CPU, memory="64Mi"
        )
        self._runner = asyncio.Runner()
        self._cluster = self._runner.run(self._open())
        self._waiting = self._runner.run(self._make("idle", "sleep", "36000"))
        self._until("Running", self._waiting)
        self._count = 0
        self._egress = network.egress_of(Network(egress=["example.com"]))

    async def _open(self) -> Cluster:
        return Cluster(NAMESPACE)

    async def _make(
        self, name: str, *command: str, cpu: str = _CPU, labels: Mapping[str, str] | None = None
    ) -> manifest.Manifest:
        made = manifest.warm_pod(Environment(), replace(self._settings, cpu_request=cpu), name, "x")
        made["metadata"]["labels"].update(labels or {})
        agent = next(each for each in made["spec"]["containers"] if each["name"] == manifest.CONTAINER)
        del agent["startupProbe"]
        agent["command"] = [*command]
        return await self._cluster.create(made)

    def _until(self, phase: str, made: manifest.Manifest) -> manifest.Manifest:
        limit = time.monotonic() + 120
        while time.monotonic() < limit:
            found = self._runner.run(self._cluster.pod(made["metadata"]["name"])) or made
            if found["status"]["phase"] == phase:
                return found
            time.sleep(0.1)
        raise AssertionError(f"{made['metadata']['name']} does not come to be {phase}")

    def warm(self, found: Found) -> None:
        """A label patched and a line sent over exec, until the process that reads it runs, and until its first line is here."""
        name = self._waiting["metadata"]["name"]
        self._count += 1

        async def once() -> bytes:
            await self._cluster.patch(name, {"metadata": {"labels": {"n": str(self._count)}}})
            return (await self._cluster.run(name, manifest.CONTAINER, ["/bin/sh", "-c", "read x; date +%s.%N"], b"go\n"))[1]

        began = time.time()
        said = self._runner.run(once())
        found["bare warm: patch, exec -> its process"].append(float(said) - began)
        found["bare warm: patch, exec -> its first line"].append(time.time() - began)

    def cold(self, found: Found) -> None:
        """A pod made until its process runs."""
        by_chance()
        began = time.time()
        found["bare cold: pod made -> its process"].append(self._said(*_NOW) - began)

    def fenced(self, found: Found, proxy: network.Proxy) -> None:
        """A pod made until what its policy forbids is closed to it."""
        labels = {network.EGRESS: network.digest(self._egress, self._settings.install, proxy)}
        policy = network.policy(self._egress, NAMESPACE, self._settings.install, proxy)
        with contextlib.suppress(Refused):  # it is there already
            self._runner.run(self._cluster.create_policy(policy))
        by_chance()
        began = time.time()
        said = self._said("python3", "-c", FORBIDDEN, proxy.host, str(proxy.canary), labels=labels)
        found["bare fenced: pod made -> its policy holds"].append(said - began)

    def _said(self, *command: str, labels: Mapping[str, str] | None = None) -> float:
        """The time that the process of a pod leaves behind."""
        self._count += 1
        made = self._runner.run(self._make(f"c{self._count}", *command, labels=labels))
        ended = self._until("Succeeded", made)
        self._delete(made)
        return _last_word(ended)

    def burst(self, count: int) -> float:
        """Pods begun in a second, of so many that live for half a second, `AT_ONCE` at a time."""
        alive: dict[str, manifest.Manifest] = {}
        left, times, began = count, list[float](), time.time()
        with Api(NAMESPACE) as api:
            while len(times) < count:
                while left and len(alive) < AT_ONCE:
                    left -= 1
                    made = self._runner.run(self._make(f"u{left}", "/bin/sh", "-c", f"{_NOW[-1]}; sleep 0.5", cpu=_SMALL_CPU))
                    alive[made["metadata"]["name"]] = made
                for pod in api.pods(f"{manifest.INSTALL}={self._settings.install}"):
                    if pod["metadata"]["name"] in alive and pod["status"]["phase"] == "Succeeded":
                        times.append(_last_word(pod))
                        self._delete(alive.pop(pod["metadata"]["name"]))
                time.sleep(0.1)
        return count / (max(times) - began)

    def _delete(self, made: manifest.Manifest) -> None:
        self._runner.run(self._cluster.delete(made["metadata"]["name"], made["metadata"]["uid"], 0))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._delete(self._waiting)
        for policy in self._runner.run(self._cluster.policies(manifest.selector(self._settings))):
            self._runner.run(self._cluster.delete_policy(policy["metadata"]["name"]))
        self._runner.run(self._cluster.close())
        self._runner.close()


def _last_word(ended: manifest.Manifest) -> float:
    container = next(each for each in ended["status"]["containerStatuses"] if each["name"] == manifest.CONTAINER)
    return float(container["state"]["terminated"]["message"])


def wait(until: Callable[[], object], pause_s: float = 0.05) -> None:
    """Looks seldom: the worker is in this process."""
    limit = time.monotonic() + 120
    while not until():
        assert time.monotonic() < limit, "it did not come true within two minutes"
        time.sleep(pause_s)


def by_chance() -> None:
    """Wait for some moment of a second: a node looks at its containers once a second, and what came before was told then."""
    time.sleep(random.random())


class Ours:
    """A worker, and runs of it. Tasks by how they are to begin."""

    def __init__(self, services: Services, api: Api, install: str, tasks: dict[str, CompiledTask]) -> None:
        self._services, self._api, self._install, self._tasks = services, api, install, tasks
        services.store.activate(Registry.of({task.id: task for task in tasks.values()}), None)
        services.broker.tell(Topic.REGISTRY)

    def run(self, kind: str, found: Found) -> None:
        """One, from its acceptance to its end, when the pool is whole and no pod is on its way out."""
        store, size = self._services.store, _POOL if kind == "warm" else 0
        if size:
            wait(lambda: (pools := self._services.executor.pools()) and pools[0].ready >= size)
        wait(lambda: len(self._api.pods(f"{manifest.INSTALL}={self._install},{manifest.ROLE}={manifest.ATTEMPT_ROLE}")) == 0)
        by_chance()
        accepted = time.time()
        run_id = accept(self._services, self._tasks[kind])
        wait(lambda: store.run(run_id).state.terminal)
        run, (attempt,) = store.run(run_id), store.attempts(run_id)
        lines = [line for line in store.log(run_id) if line.kind is LogKind.OUTPUT]
        assert run.ended_at is not None
        assert len(lines) == 2, (run.reason, run.message)
        if attempt.began != "warm" and size:
            kind = "late warm"
        note(found, kind, accepted, [(float(line.data), line.at.timestamp()) for line in lines], run.ended_at.timestamp())

    def burst(self, kind: str, count: int) -> float:
        """Agents begun in a second, of so many runs that are asked for at once."""
        store, began = self._services.store, time.time()
        asked = [accept(self._services, self._tasks[kind]) for _ in range(count)]
        for run_id in asked:
            wait(lambda run_id=run_id: store.run(run_id).state.terminal, 0.2)  # type: ignore[misc]
        first = [next((line for line in store.log(run_id) if line.kind is LogKind.OUTPUT), None) for run_id in asked]
        times = [float(line.data) for line in first if line is not None]
        assert len(times) == count, f"{count - len(times)} of {count} runs have not begun"
        return count / (max(times) - began)


class Deployed:
    """All of Optio in the cluster by its own manifests, asked over HTTP: every pod is fenced."""

    def __init__(self, directory: Path) -> None:
        more = (
            f"maxRetries: 0\nmaxConcurrent: {AT_ONCE}\nenvironment:\n  image: {IMAGE}\n  network: {{egress: [example.com]}}\n"
        )
        more += "  resources: {requests: {cpu: 300m}, limits: {memory: 64Mi}}\n"
        head = f"type: standalone\nagentRuntime: command\npromptTemplate: x\ncommand: {json.dumps(SAYS)}\n{more}"
        tasks = {"cold.yaml": f"name: Cold\n{head}", "warm.yaml": f"name: Warm\n{head}warmPoolSize: {_POOL}\n"}
        self._optio = Installed(directory, tasks, {"NONE": "none"})

    def run(self, kind: str, found: Found) -> None:
        """One, when no pod is on its way out and the pool is whole."""
        with Api("optio-runs") as api:
            wait(lambda: len(api.pods(f"{manifest.ROLE}={manifest.ATTEMPT_ROLE}")) == 0)
            wait(lambda: len(api.pods(manifest.READY)) >= _POOL)
        by_chance()
        accepted = time.time()
        run_id = self._optio.started(kind)
        run = self._optio.until_ended(run_id)
        items = self._optio.get(f"/api/workflow-runs/{run_id}/logs")["items"]
        lines = [(float(each["text"]), _seconds(each["at"])) for each in items if each["kind"] == "output"]
        assert len(lines) == 2, run
        note(found, f"deployed {kind}", accepted, lines, _seconds(run["endedAt"]))

    def __enter__(self) -> Self:
        self._optio.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._optio.close()
        self._optio.remove()


def _seconds(at: str) -> float:
    return datetime.fromisoformat(at).timestamp()


def note(found: Found, kind: str, accepted: float, lines: Sequence[tuple[float, float]], over: float) -> None:
    """A run's figures: of its two lines the times that they say and those at which they were kept, and its end."""
    (began, kept), (ended, _) = lines
    found[f"{kind}: accepted -> its process"].append(began - accepted)
    found[f"{kind}: its process -> first line kept"].append(kept - began)
    found[f"{kind}: accepted -> first line kept"].append(kept - accepted)
    found[f"{kind}: its process ended -> run ended"].append(over - ended)


@contextmanager
def ours(fenced: fence.Fence | None = None, cpu: str = _CPU) -> Iterator[Ours]:
    """A worker with an installation of its own."""
    install = f"b{uuid.uuid4().hex[:8]}"
    settings = {
        "OPTIO_EXECUTOR": "kubernetes",
        "OPTIO_KUBE_NAMESPACE": NAMESPACE,
        "OPTIO_KUBE_INSTALL": install,
        "OPTIO_KUBE_IMAGE": IMAGE or "",
        "OPTIO_POD_CPU_REQUEST": cpu,
        "OPTIO_POD_MEMORY": "64Mi",
        "OPTIO_MAX_WORKFLOW_CONCURRENT": str(AT_ONCE),
    }
    if fenced is not None:
        at = f"optio-egress.{fenced.proxies.namespace}.svc={fenced.proxy.host}:{fenced.proxy.port}"
        settings |= {"OPTIO_KUBE_EGRESS": at, "OPTIO_KUBE_EGRESS_IMAGE": fence.EGRESS_IMAGE}
        settings["OPTIO_EGRESS_KEY"] = fence.KEY.decode()
    sorts = {"cold fenced": ""} if fenced is not None else {"cold": "", "warm": f"warmPoolSize: {_POOL}\n"}
    closed = "environment: {network: {egress: [example.com]}}\n" if fenced is not None else ""
    more = f"{closed}maxRetries: 0\nmaxConcurrent: {AT_ONCE}\n"
    tasks = {kind: command_task(SAYS, name=kind.title(), extra=f"{pool}{more}") for kind, pool in sorts.items()}
    with tempfile.TemporaryDirectory() as directory, Api(NAMESPACE) as api:
        with opened(Path(directory), settings) as services, working(services):
            yield Ours(services, api, install, tasks)
        api.sweep(f"{manifest.INSTALL}={install}")


def requests(kinds: list[str], runs: int = 5) -> Iterator[str]:
    """What a run of each kind asks of the cluster."""
    with tempfile.TemporaryDirectory() as directory, FaultProxy() as proxy:
        before = os.environ["KUBECONFIG"]
        os.environ["KUBECONFIG"] = str(proxy.kubeconfig(Path(directory) / "kubeconfig"))
        try:
            with ours() as here:
                os.environ["KUBECONFIG"] = before
                for kind in kinds:
                    here.run(kind, defaultdict(list))
                    proxy.forget()
                    for _ in range(runs):
                        here.run(kind, defaultdict(list))
                    # The lists are this program's own, which waits for the end of pods.
                    counts = {
                        name: n for name, n in sorted(proxy.counts().items()) if "lease" not in name and "LIST" not in name
                    }
                    yield f"requests, {runs} x {kind}: " + ", ".join(f"{name} {n}" for name, n in counts.items())
        finally:
            os.environ["KUBECONFIG"] = before


def ratio(found: Found, what: str, beside: str) -> str:
    """Of the medians."""
    return f"{what} / {beside}: {statistics.median(found[what]) / statistics.median(found[beside]):.2f}"


def main() -> None:
    """The table."""
    given = [int(word) for word in sys.argv[1:4]]
    warm, cold, burst = [*given, *(40, 12, 50)[len(given) :]]
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, Python {sys.version.split()[0]}, SQLite, {NAMESPACE}")
    found: Found = defaultdict(list)
    with ExitStack() as stack:
        bare, here = stack.enter_context(Bare()), stack.enter_context(ours())
        there = closed = None
        if "OPTIO_TEST_EGRESS_IMAGE" in os.environ:
            closed = stack.enter_context(fence.fence())
            there = stack.enter_context(ours(closed))
        deployed = None
        if "OPTIO_TEST_DEPLOY" in os.environ:
            deployed = stack.enter_context(Deployed(Path(stack.enter_context(tempfile.TemporaryDirectory()))))
        for n in range(max(warm, cold)):
            if deployed is not None:
                for kind, count in (("cold", cold), ("warm", warm)):
                    if n < count:
                        deployed.run(kind, found)
            if n < cold:
                bare.cold(found)
                here.run("cold", found)
                if there is not None and closed is not None:
                    bare.fenced(found, closed.proxy)
                    there.run("cold fenced", found)
            if n < warm:
                bare.warm(found)
                here.run("warm", found)
    print(f"{'ms':<46}{'p50':>8}{'p90':>8}{'p99':>8}{'runs':>7}")
    for what, seconds in sorted(found.items()):
        cuts = statistics.quantiles(seconds, n=100, method="inclusive") if len(seconds) > 1 else [seconds[0]] * 99
        print(f"{what:<46}" + "".join(f"{1e3 * cuts[n - 1]:>8.0f}" for n in (50, 90, 99)) + f"{len(seconds):>7}")
    print(ratio(found, "warm: accepted -> first line kept", "bare warm: patch, exec -> its first line"))
    print(ratio(found, "warm: accepted -> its process", "bare warm: patch, exec -> its process"))
    print(ratio(found, "cold: accepted -> its process", "bare cold: pod made -> its process"))
    with contextlib.suppress(statistics.StatisticsError):
        print(ratio(found, "cold fenced: accepted -> its process", "bare cold: pod made -> its process"))
        print(ratio(found, "cold fenced: accepted -> its process", "bare fenced: pod made -> its policy holds"))
    if burst:
        with Bare() as bare:
            print(f"burst of {burst}, {AT_ONCE} at once: {bare.burst(burst):.1f} bare pods begun a second")
        with ours(cpu=_SMALL_CPU) as here:
            print(f"burst of {burst}, {AT_ONCE} at once: {here.burst('cold', burst):.1f} agents begun a second")
    for line in requests(["cold", "warm"]):
        print(line)
    print(f"load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
