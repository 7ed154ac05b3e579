"""How soon an agent in a pod begins, warm and cold, and how soon its end is known.

`python -m tests.bench.bench_pod_start [RUNS]`: one run at a time, from its acceptance in the store, through a real worker (in
this process) on the cluster of KUBECONFIG: warm with a pool that is whole again and a node that has taken the last pod away,
warm one straight after the other (the node makes the next pods and takes the last ones away meanwhile), and cold. The agent
prints the time at which it began and at which it ended; the cluster's one node is this machine, so both are of one clock.
Beside it, in the same minutes, what the cluster takes for the least that would do: a label patched and a line sent over exec
(warm), a pod created until its process runs (cold). OPTIO_TEST_IMAGE and OPTIO_TEST_NAMESPACE as in the tests.
"""

import asyncio
import os
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

from optio.broker.base import Topic
from optio.executors.pods import manifest
from optio.executors.pods.cluster import Cluster
from optio.executors.pods.manifest import PodSettings
from optio.model.registry import Registry
from optio.model.run import LogKind
from optio.model.task import Environment
from tests.executors.pods.api import Api
from tests.executors.pods.place import IMAGE, NAMESPACE
from tests.runs.support import accept, opened, working
from tests.support import command_task

SAYS = "date +%s.%N; read x; date +%s.%N"


def row(name: str, seconds: Sequence[float]) -> str:
    """p50, p90, p99 in milliseconds."""
    cuts = statistics.quantiles(seconds, n=100, method="inclusive") if len(seconds) > 1 else [seconds[0]] * 99
    return f"{name:<44}" + "".join(f"{1e3 * cuts[n - 1]:>8.0f}" for n in (50, 90, 99)) + f"{len(seconds):>7}"


def bare(count: int) -> tuple[list[float], list[float]]:
    """(warm, cold): what the cluster itself takes."""
    settings = PodSettings(namespace=NAMESPACE, install=f"b{uuid.uuid4().hex[:8]}", image=IMAGE, cpu="500m", memory="64Mi")

    def pod(name: str, command: str) -> manifest.Manifest:
        made = manifest.warm_pod(Environment(), settings, name, "x")
        del made["spec"]["containers"][0]["startupProbe"]
        made["spec"]["containers"][0]["command"] = ["/bin/sh", "-c", command]
        return made

    async def measure() -> tuple[list[float], list[float]]:
        cluster = Cluster(NAMESPACE)
        warm, cold = [], []
        waiting = await cluster.create(pod("idle", "exec sleep 3600"))
        name = waiting["metadata"]["name"]
        for _ in range(300):
            if (await cluster.pod(name) or waiting)["status"]["phase"] == "Running":
                break
            await asyncio.sleep(0.2)
        for number in range(count):
            began = time.time()
            await cluster.patch(name, {"metadata": {"labels": {"n": str(number)}}})
            _, said = await cluster.run(name, manifest.CONTAINER, ["/bin/sh", "-c", "read x; date +%s.%N"], b"go\n")
            warm.append(float(said) - began)
        for number in range(max(2, count // 4)):
            began = time.time()
            made = await cluster.create(pod(f"c{number}", "date +%s.%N >/dev/termination-log"))
            while True:
                found = await cluster.pod(made["metadata"]["name"]) or made
                if found["status"]["phase"] in ("Succeeded", "Failed"):
                    break
                await asyncio.sleep(0.1)
            ended = found["status"]["containerStatuses"][0]["state"]["terminated"]
            cold.append(float(ended["message"]) - began)
            await cluster.delete(made["metadata"]["name"], made["metadata"]["uid"], 0)
        await cluster.delete(name, waiting["metadata"]["uid"], 0)
        await cluster.close()
        return warm, cold

    return asyncio.run(measure())


def wait(until: Callable[[], object]) -> None:
    """Looks seldom: the worker is in this process."""
    limit = time.monotonic() + 120
    while not until():
        assert time.monotonic() < limit, "it did not come true within two minutes"
        time.sleep(0.05)


def ours(count: int, size: int) -> dict[str, dict[str, list[float]]]:
    """how -> what -> seconds."""
    found: dict[str, dict[str, list[float]]] = {}
    install = f"b{uuid.uuid4().hex[:8]}"
    settings = {
        "OPTIO_EXECUTOR": "kubernetes",
        "OPTIO_KUBE_NAMESPACE": NAMESPACE,
        "OPTIO_KUBE_INSTALL": install,
        "OPTIO_KUBE_IMAGE": IMAGE or "",
        "OPTIO_POD_CPU": "500m",
        "OPTIO_POD_MEMORY": "64Mi",
    }
    with tempfile.TemporaryDirectory() as directory, Api(NAMESPACE) as api:
        with opened(Path(directory), settings) as services, working(services):
            for name, ready, runs in (("warm", size, count), ("warm, at once", 1, count), ("cold", 0, max(2, count // 4))):
                task = command_task(SAYS, extra=f"warmPoolSize: {size if ready else 0}\nmaxRetries: 0\n")
                services.store.activate(Registry.of({task.id: task}), None)
                services.broker.tell(Topic.REGISTRY)
                for _ in range(runs):
                    if ready:
                        wait(lambda n=ready: (p := services.executor.pools()) and p[0].ready >= n)  # type: ignore[misc]
                    if ready == size:
                        wait(lambda: len(api.pods(f"{manifest.INSTALL}={install}")) == size)
                        time.sleep(0.5)
                    accepted = time.time()
                    run_id = accept(services, task)
                    wait(lambda r=run_id: services.store.run(r).state.terminal)  # type: ignore[misc]
                    known = services.store.run(run_id)
                    (attempt,) = services.store.attempts(run_id)
                    lines = [line for line in services.store.log(run_id) if line.kind is LogKind.OUTPUT]
                    began, ended = (float(line.data) for line in lines)
                    of = found.setdefault(name if attempt.began in name else "late", {"process": [], "line": [], "end": []})
                    of["process"].append(began - accepted)
                    of["line"].append(lines[0].at.timestamp() - accepted)
                    assert known.ended_at is not None
                    of["end"].append(known.ended_at.timestamp() - ended)
        api.sweep(f"{manifest.INSTALL}={install}")
    return found


def main() -> None:
    """The table."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, Python {sys.version.split()[0]}, SQLite, {NAMESPACE}")
    warm, cold = bare(count // 2)
    found = ours(count, 3)
    print(f"{'ms':<44}{'p50':>8}{'p90':>8}{'p99':>8}{'runs':>7}")
    print(row("bare: label patched, a line by exec -> process", warm))
    print(row("bare: pod created -> its process", cold))
    for kind, of in sorted(found.items()):
        print(row(f"{kind}: accepted -> agent's process", of["process"]))
        print(row(f"{kind}: accepted -> its first line is kept", of["line"]))
        print(row(f"{kind}: agent ended -> run ended", of["end"]))
    print(f"warm / bare, p50: {statistics.median(found['warm']['process']) / statistics.median(warm):.2f}")
    print(f"cold / bare, p50: {statistics.median(found['cold']['process']) / statistics.median(cold):.2f}")


if __name__ == "__main__":
    main()
