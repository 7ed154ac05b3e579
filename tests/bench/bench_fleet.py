"""The product where it has left one machine: `python -m tests.bench.bench_fleet [--pods 100,1000,5000] [--workers 20]`.

The API server of KUBECONFIG, its storage, PostgreSQL, Redis and the workers are real; the nodes are `fleet_nodes`, whose
head says what that leaves out. For each size: so many runs of 1,000 tasks are queued and started by the workers, 60 at once at
most (fill); all of them run for a while (hold); then single runs are accepted, 3 a second, and how long each waits is read from
the database (probe); all agents end (drain). OPTIO_TEST_NAMESPACE names the namespace; nodes and pods are deleted afterwards.
"""

import argparse
import json
import os
import re
import signal
import ssl
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil

from optio.broker.base import Topic
from optio.executors.pods import manifest
from optio.store.postgres import postgres_store
from optio.wiring import Services
from tests.bench.fleet_nodes import LABEL
from tests.executors.pods.api import Api
from tests.executors.pods.place import NAMESPACE
from tests.runs.support import opened
from tests.servers import PostgresServer, RedisServer
from tests.store.build import new_run, serve
from tests.support import ROOT, command_task, eventually

TASKS = 1000
PER_NODE = 100
PROBES, PROBE_EVERY_S = 60, 1 / 3
_PROBES = "SELECT run_id, started_at, agent_started_at, ended_at FROM attempts WHERE run_id LIKE 'probe-%'"
# No more runs are on their way than one small machine starts within a few seconds, for it is all of the cluster.
_AT_ONCE, _MAX_ON_THEIR_WAY = 10, 60


class Figures:
    """What each part has used so far, and what was asked of the API server."""

    def __init__(self, counts: list[Path], parts: dict[str, list[psutil.Process]], peek: Callable[[str], Any]) -> None:
        self._counts, self._parts, self._peek = counts, parts, peek

    def take(self) -> dict[str, Any]:
        """All of it, now."""
        workers = [_asked(*each) for each in zip(self._counts, self._parts["workers"], strict=True)]
        cpu = {name: sum(map(_cpu, processes)) for name, processes in self._parts.items()}
        row = self._peek(
            "SELECT xact_commit + xact_rollback AS commits, pg_database_size(datname) AS size "
            "FROM pg_stat_database WHERE datname = current_database()"
        )
        return {
            "at": time.monotonic(),
            "workers": workers,
            "cpu": cpu,
            "commits": int(row["commits"]),
            "size": int(row["size"]),
        }

    def memory(self, name: str) -> list[float]:
        """MiB of each of these processes."""
        return [each.memory_info().rss / (1 << 20) for each in self._parts[name]]


def _cpu(process: psutil.Process) -> float:
    """Of this program alone, of any other with what it has started."""
    own = process.pid == os.getpid()
    processes = [process, *([] if own else process.children(recursive=True))]
    return sum(sum(each.cpu_times()[:2]) for each in processes if each.is_running())


def program(words: str) -> list[psutil.Process]:
    """Of this machine's cluster."""
    return [
        each
        for each in psutil.process_iter(["cmdline"])
        if re.search(rf"(^|/| ){re.escape(words)}( |$)", " ".join(each.info["cmdline"] or ())) and each.ppid() != os.getpid()
    ]


def show(name: str, before: dict[str, Any], after: dict[str, Any], runs: int) -> None:
    """What happened between the two."""
    took = after["at"] - before["at"]
    kinds: dict[str, list[int]] = {}
    per_worker = []
    for old, new in zip(before["workers"], after["workers"], strict=True):
        mine = [0, 0]
        for kind, (count, size) in new.items():
            had = old.get(kind, [0, 0])
            for at, grown in enumerate((count - had[0], size - had[1])):
                kinds.setdefault(kind, [0, 0])[at] += grown
                mine[at] += grown
        per_worker.append(mine)
    count, size = (sum(each[at] for each in kinds.values()) for at in (0, 1))
    most = max(each[1] for each in per_worker)
    print(
        f"  {name:<6} {took:6.1f} s   {count / took:7.1f} requests/s   {size / took / 1e6:7.3f} MB/s"
        f"   a worker {count / took / len(per_worker):5.1f}/s, {size / took / len(per_worker) / 1e3:7.1f} kB/s"
        f" (most {most / took / 1e3:.1f})"
        + (f"   a run {count / runs:5.1f} requests, {size / runs / 1e3:5.1f} kB" if runs else "")
    )
    shown = sorted(kinds.items(), key=lambda each: -each[1][1])
    print("         " + "; ".join(f"{kind} {n} ({b / 1e6:.2f} MB)" for kind, (n, b) in shown if n or b))
    cpu = {part: after["cpu"][part] - before["cpu"][part] for part in after["cpu"]}
    print(
        "         cores: "
        + ", ".join(f"{part} {used / took:.2f}" for part, used in cpu.items())
        + f"; database {(after['commits'] - before['commits']) / took:.0f} transactions/s"
        + ("; CPU a run: " + ", ".join(f"{part} {used / runs * 1e3:.0f} ms" for part, used in cpu.items()) if runs else "")
    )


def _asked(counts: Path, worker: psutil.Process) -> dict[str, list[int]]:
    """What a worker has counted by now."""
    told = counts.stat().st_mtime_ns
    worker.send_signal(signal.SIGUSR1)
    eventually(lambda: counts.stat().st_mtime_ns != told, within=30, what="the worker's counts")
    found: dict[str, list[int]] = json.loads(counts.read_text())
    return found


def _watches(counts: Path, worker: psutil.Process) -> bool:
    return counts.exists() and "WATCH pods" in _asked(counts, worker)


def percentiles(values: list[float]) -> str:
    """Of seconds, in ms."""
    ordered = sorted(values)
    return f"p50 {ordered[len(ordered) // 2] * 1e3:.0f} ms, p99 {ordered[int(len(ordered) * 0.99)] * 1e3:.0f} ms"


@contextmanager
def nodes(install: str, count: int, line_s: float) -> Iterator[subprocess.Popen[str]]:
    """The process that is all nodes."""
    command = [sys.executable, "-m", "tests.bench.fleet_nodes", NAMESPACE, install, str(count), str(line_s)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    process = subprocess.Popen(command, cwd=ROOT, text=True, start_new_session=True, **pipes)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.stdin.close()
        process.wait(300)


def measure(pods: int, given: argparse.Namespace) -> None:
    """One size."""
    workers, within = given.workers, given.within
    install = f"f{uuid.uuid4().hex[:6]}"
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        database = stack.enter_context(PostgresServer(settings={"max_connections": str(workers * 8 + 50)}))
        redis = stack.enter_context(RedisServer())
        api = stack.enter_context(Api(NAMESPACE))
        stack.callback(api.sweep, f"{manifest.INSTALL}={install}")
        node = stack.enter_context(nodes(install, max(1, -(-pods // PER_NODE)), given.line))
        settings = {
            "OPTIO_DATABASE_URL": database.schema(),
            "OPTIO_REDIS_URL": redis.url,
            "OPTIO_EXECUTOR": "kubernetes",
            "OPTIO_KUBE_NAMESPACE": NAMESPACE,
            "OPTIO_KUBE_INSTALL": install,
            "OPTIO_KUBE_IMAGE": "hold",
            "OPTIO_POD_NODE_SELECTOR": f"{LABEL}={install}",
            "OPTIO_POD_CPU": "1m",
            "OPTIO_POD_MEMORY": "8Mi",
            "OPTIO_POD_DISK": "8Mi",
            "OPTIO_MAX_WORKFLOW_CONCURRENT": str(pods + PROBES),
            "OPTIO_WORKER_CONCURRENT": str(-(-(pods + PROBES) // workers)),
            "OPTIO_LEASE": "60s",
            "OPTIO_ORPHAN_TIMEOUT": given.orphan,
        }
        services: Services = stack.enter_context(opened(directory / "here", settings))
        store = postgres_store.open_store(settings["OPTIO_DATABASE_URL"])
        stack.callback(store.close)
        extra = "maxConcurrent: 1000\nmaxRetries: 0\n"
        tasks = [command_task("true", f"Task {n}", extra) for n in range(TASKS)]
        short = command_task("true", "Short", f"{extra}environment: {{image: short}}\n")
        serve(store, *tasks, short)
        clean = {k: v for k, v in os.environ.items() if not k.startswith("OPTIO_")}
        counts, processes = [], []
        for n in range(workers):
            counts.append(directory / f"counts-{n}")
            command = [sys.executable, "-m", "tests.bench.fleet_worker", str(counts[-1])]
            mine = {**clean, **settings, "OPTIO_DATA_DIR": str(directory / f"data-{n}")}
            log = stack.enter_context((directory / f"log-{n}").open("wb"))
            processes.append(subprocess.Popen(command, cwd=ROOT, env=mine, stdin=subprocess.DEVNULL, stdout=log, stderr=log))
            stack.callback(processes[-1].wait, 60)
            stack.callback(processes[-1].send_signal, signal.SIGTERM)
        programs = [psutil.Process(each.pid) for each in processes]
        for pair in zip(counts, programs, strict=True):
            while not _watches(*pair):
                time.sleep(1)

        def peek(query: str) -> Any:
            return store._engine.peek(lambda tx: tx.one(query))

        parts = {
            "workers": programs,
            "API server": program("kube-apiserver"),
            "etcd": program("etcd"),
            "controllers": [*program("kube-scheduler"), *program("kube-controller-manager")],
            "PostgreSQL": [psutil.Process(database.process.pid)],  # type: ignore[union-attr]
            "nodes": [psutil.Process(node.pid)],
            "bench": [psutil.Process()],
        }
        figures = Figures(counts, parts, peek)
        time.sleep(5)
        idle = figures.memory("workers")
        print(f"\n{pods} pods, {workers} workers, {TASKS} tasks, {-(-pods // PER_NODE)} nodes, load {os.getloadavg()[0]:.1f}")

        begun = figures.take()
        started = "SELECT COUNT(*) AS n FROM attempts WHERE agent_started_at IS NOT NULL AND ended_at IS NULL"
        limit, running = time.monotonic() + within, 0
        for first in range(0, pods, _AT_ONCE):
            batch = range(first, min(pods, first + _AT_ONCE))
            for future in [store.accept(new_run(tasks[n % TASKS], f"run-{n}")) for n in batch]:
                future.result(120)
            services.broker.tell(Topic.QUEUE)
            while (running := int(peek(started)["n"])) < batch[-1] - _MAX_ON_THEIR_WAY and time.monotonic() < limit:
                time.sleep(0.2)
        while (running := int(peek(started)["n"])) < pods and time.monotonic() < limit:
            time.sleep(0.5)
        filled = figures.take()
        span = peek("SELECT MIN(agent_started_at) AS first, MAX(agent_started_at) AS last FROM attempts")
        took = (span["last"] - span["first"]) / 1e6
        print(f"  start rate {(running - 1) / took:.1f}/s: {running} of {pods} agents begun within {took:.0f} s")
        show("fill", begun, filled, running)

        time.sleep(given.hold)
        held = figures.take()
        show("hold", filled, held, 0)
        memory = figures.memory("workers")
        print(
            f"         MiB: a worker {sum(memory) / workers:.0f} (most {max(memory):.0f}, idle {sum(idle) / workers:.0f}), "
            + ", ".join(f"{part} {sum(figures.memory(part)):.0f}" for part in ("API server", "etcd", "nodes"))
        )

        accepted: dict[str, float] = {}
        seen: dict[str, dict[str, float]] = {"started_at": {}, "agent_started_at": {}, "ended_at": {}}
        due, limit = time.monotonic(), time.monotonic() + 180
        while len(seen["ended_at"]) < PROBES and time.monotonic() < limit:
            if len(accepted) < PROBES and time.monotonic() >= due:
                run_id, due = f"probe-{len(accepted)}", max(due + PROBE_EVERY_S, time.monotonic())
                store.accept(new_run(short, run_id)).result(60)
                accepted[run_id] = time.monotonic()
                services.broker.tell(Topic.QUEUE)
            # Rows say when their transactions began, and those wait for each other.
            for row in store._engine.peek(lambda tx: tx.all(_PROBES)):
                for what, when in seen.items():
                    if row[what] is not None:
                        when.setdefault(row["run_id"], time.monotonic() - accepted[row["run_id"]])
            time.sleep(0.02)
        probed = figures.take()
        show("probe", held, probed, PROBES)
        claim, agent = (percentiles(list(seen[what].values())) for what in ("started_at", "agent_started_at"))
        print(f"         {len(seen['ended_at'])} of {PROBES} ended: accepted -> claimed {claim}; -> agent begun {agent}")

        assert node.stdin is not None
        assert node.stdout is not None
        node.stdin.write(f"end {max(5, pods / 50)}\n")
        node.stdin.flush()
        limit = time.monotonic() + within
        while int(peek("SELECT COUNT(*) AS n FROM runs WHERE ended_at IS NULL")["n"]) and time.monotonic() < limit:
            time.sleep(0.5)
        drained = figures.take()
        show("drain", probed, drained, pods)
        print(f"         asked by the nodes: {node.stdout.readline().strip()}")
        outcomes = store._engine.peek(
            lambda tx: tx.all("SELECT state, reason, attempt, COUNT(*) AS n FROM runs GROUP BY state, reason, attempt")
        )
        print(f"         outcomes: {[(row['state'], row['reason'], row['attempt'], row['n']) for row in outcomes]}")
        repeated = store._engine.peek(
            lambda tx: tx.all(
                "SELECT reason, MIN(message) AS message, COUNT(*) AS n FROM attempts WHERE ok = 0 GROUP BY reason"
            )
        )
        print(f"         attempts that failed: {[(row['reason'], row['message'][:120], row['n']) for row in repeated]}")
        time.sleep(3)
        left = [each["metadata"]["name"] for each in api.pods(f"{manifest.INSTALL}={install}")]
        words = Counter(
            re.sub(r"[0-9a-f-]{4,}", "*", line.split(" ", 3)[-1])[:80]
            for n in range(workers)
            for line in (directory / f"log-{n}").read_text(errors="replace").splitlines()
            if " WARNING " in line or " ERROR " in line
        )
        print(f"         pods left: {len(left)}; database {drained['size'] / 1e6:.0f} MB; {words.most_common(5)}")


def main() -> None:
    """Each size after the other."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit("ended from outside"))
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    asked.add_argument("--pods", default="100,1000")
    asked.add_argument("--workers", type=int, default=20)
    asked.add_argument("--hold", type=float, default=60.0)
    asked.add_argument("--within", type=float, default=900.0)
    asked.add_argument("--orphan", default="900s", help="OPTIO_ORPHAN_TIMEOUT")
    asked.add_argument("--line", type=float, default=30.0, help="seconds; an agent says a line as often, or up to twice")
    given = asked.parse_args()
    print(f"{os.cpu_count()} cores, Python {sys.version.split()[0]}, {ssl.OPENSSL_VERSION}")
    for pods in map(int, given.pods.split(",")):
        measure(pods, given)


if __name__ == "__main__":
    main()
