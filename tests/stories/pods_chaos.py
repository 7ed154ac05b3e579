"""Runs in pods while everything goes wrong: `python -m tests.stories.pods_chaos RUNS SEED [options]`.

Workers are killed, the API server is killed and started again, pods are deleted and evicted, runs cancelled, and the way to the
cluster refuses, cuts, loses and holds back. What ran is told by the agents themselves. Afterwards nothing may be left: no pod,
no slot, no lease of a run. OPTIO_KUBE_PIDS names the directory with the pids of the cluster's parts; `--restarts 0` needs none.
"""

import argparse
import contextlib
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from httpx2 import HTTPError

from optio.executors.pods import manifest
from optio.model.run import LogKind, Run
from optio.store.base import Store
from tests.executors.pods.api import Api
from tests.executors.pods.faults import FaultProxy
from tests.executors.pods.place import IMAGE
from tests.stories.cluster import Cluster, Place
from tests.stories.pods_outage import killed
from tests.stories.test_pods import ADDRESS, LAUNCH, LOG, MAKING, TELL, Marks
from tests.support import eventually

SLOTS = 12
# A pod that nobody wants is gone after so long.
GONE_S = 75.0
# A run is stuck when for so long none has ended.
STUCK_S = 240.0
_AGENT = (
    TELL
    + """\
tell start
for n in $(seq {lines}); do echo "line $n of $OPTIO_ATTEMPT"; sleep {pause}; done
tell end
"""
)
_TASK = """\
type: standalone
name: {name}
agentRuntime: command
command: ["/bin/bash", "-c", {source}]
promptTemplate: "go"
maxRetries: 0
maxConcurrent: {slots}
warmPoolSize: {warm}
"""


@dataclass(frozen=True)
class Job:
    """A task of the load."""

    name: str
    lines: int
    pause: float
    warm: int
    share: int


JOBS = (Job("short", 1, 0.02, 0, 3), Job("ready", 3, 0.05, 2, 4), Job("middle", 20, 0.1, 0, 2), Job("long", 60, 0.1, 2, 1))
SETTINGS = {
    "OPTIO_EXECUTOR": "kubernetes",
    "OPTIO_KUBE_INSTALL": "chaos",
    "OPTIO_KUBE_IMAGE": str(IMAGE),
    "OPTIO_POD_CPU": "30m",
    "OPTIO_POD_MEMORY": "96Mi",
    "OPTIO_POD_DISK": "64Mi",
    "OPTIO_MAX_WORKFLOW_CONCURRENT": str(SLOTS),
    "OPTIO_LEASE": "3s",
}


BUSY = f"{manifest.INSTALL}=chaos,{manifest.ROLE}!={manifest.WARM_ROLE}"


class Client:
    """Asks a server."""

    def __init__(self, made: Cluster) -> None:
        self._url, self._token = f"http://127.0.0.1:{made.ports[0]}", made.token

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """The answer, or None."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self._token}"}
        request = urllib.request.Request(self._url + path, data=data, method=method, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return json.loads(answer.read() or b"null")
        except urllib.error.HTTPError:
            return None

    def run(self, task: str) -> str:
        """A new run's id."""
        found: str = self.ask("POST", f"/api/tasks/{task}/runs")["runId"]
        return found


@dataclass
class Chaos(threading.Thread):
    """One fault after the other, until it is told to stop."""

    made: Cluster
    proxy: FaultProxy
    client: Client
    namespace: str
    dice: random.Random
    load: "Load"
    kills: int
    restarts: int
    harm: Counter[str] = field(default_factory=Counter)
    cancelled: set[str] = field(default_factory=set)
    over: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        super().__init__(daemon=True)

    def __hash__(self) -> int:
        return id(self)

    def run(self) -> None:
        faults = {
            self._kill_a_worker: 3,
            self._delete_a_pod: 3,
            self._evict_a_pod: 1,
            self._cancel: 3,
            self._one_request: 10,
            self._break_all: 2,
            self._nobody_answers: 1,
            self._too_many: 1,
        }
        # These happen whatever the dice say, spread over the runs.
        planned = [((n + 1) / (self.kills + 1), self._kill_a_worker) for n in range(self.kills)]
        planned += [((n + 1) / (self.restarts + 1), self._restart_the_api_server) for n in range(self.restarts)]
        planned.sort(key=lambda each: each[0])
        with Api(self.namespace) as self.api:
            while not self.over.wait(self.dice.uniform(0.2, 1.2)):
                due = bool(planned) and planned[0][0] <= self.load.done
                fault = planned[0][1] if due else self.dice.choices([*faults], [*faults.values()])[0]
                with contextlib.suppress(AssertionError, HTTPError):  # what it was meant for is gone
                    if fault():
                        self.harm[_words(fault)] += 1
                        if due:
                            planned.pop(0)
        self.proxy.clear()
        self.proxy.resume()

    def _kill_a_worker(self) -> bool:
        worker = self.dice.choice(self.made.workers)
        with worker.lock:
            if worker.process is None or worker.process.poll() is not None:
                return False
            worker.kill()
        time.sleep(self.dice.uniform(0.1, 2.0))
        with worker.lock:
            worker.start()
        return True

    def _restart_the_api_server(self) -> bool:
        with killed("kube-apiserver"):
            time.sleep(self.dice.uniform(0.5, 5.0))
        eventually(lambda: _answers(self.api), within=120, what="the API server")
        return True

    def _attempts(self) -> list[dict[str, Any]]:
        return self.api.pods(f"{manifest.INSTALL}=chaos")

    def _delete_a_pod(self) -> bool:
        found = self._attempts()
        if found:
            self.api.delete(self.dice.choice(found)["metadata"]["name"], self.dice.choice((None, 0)))
        return bool(found)

    def _evict_a_pod(self) -> bool:
        found = [pod for pod in self._attempts() if pod["status"].get("phase") == "Running"]
        if found:
            self.api.evict(self.dice.choice(found)["metadata"]["name"])
        return bool(found)

    def _cancel(self) -> bool:
        open_runs = list(self.load.waiting)
        if not open_runs:
            return False
        run_id = self.dice.choice(open_runs)
        self.cancelled.add(run_id)
        return self.client.ask("POST", f"/api/workflow-runs/{run_id}/cancel") is not None

    def _one_request(self) -> bool:
        pattern, fault = self.dice.choice(
            (
                (MAKING, {"status": 504, "done": True}),
                (MAKING, {"status": 503}),
                (r"^PATCH", {"status": 504, "done": True}),
                (r"^PATCH", {"status": 409}),
                (LAUNCH, {"cut": 0}),
                (LAUNCH, {"cut_sent": self.dice.randint(0, 1500)}),
                (LAUNCH, {"status": 500}),
                (LOG, {"cut": self.dice.randint(0, 1000)}),
                (LOG, {"end": self.dice.randint(0, 1000)}),
                (LOG, {"status": 500}),
                (r"/pods\?watch", {"cut": self.dice.randint(0, 5000)}),
                (r"/pods\?watch", {"hold": self.dice.randint(0, 5000)}),
                (r"/pods\?watch", {"status": 410}),
                (r"^DELETE", {"status": 500}),
                (r"^DELETE", {"cut": 0}),
                (r"^GET \S*/pods/[^/]*$", {"status": 500}),
                (r"^GET \S*/leases", {"status": 500}),
                (r"^(POST|PUT) \S*/leases", {"status": 504, "done": True}),
            )
        )
        self.proxy.rule(pattern, **fault)
        del self.proxy.rules[:-6]  # those that nobody met
        return True

    def _break_all(self) -> bool:
        return self.proxy.cut() > 0

    def _nobody_answers(self) -> bool:
        self.proxy.refuse()
        time.sleep(self.dice.uniform(0.5, 4.0))
        self.proxy.resume()
        return True

    def _too_many(self) -> bool:
        rule = self.proxy.rule("", status=429, headers={"retry-after": "1"}, times=None)
        time.sleep(self.dice.uniform(0.5, 3.0))
        with contextlib.suppress(ValueError):
            self.proxy.rules.remove(rule)
        return True


def _words(fault: Callable[[], bool]) -> str:
    return fault.__name__.strip("_").replace("_", " ")


def _answers(api: Api) -> bool:
    with contextlib.suppress(AssertionError, HTTPError):
        return bool(api.pods("none=none") == [])
    return False


@dataclass
class Load:
    """Runs that are asked for at a pace that keeps all slots full."""

    client: Client
    store: Store
    runs: int
    dice: random.Random
    asked: dict[str, Job] = field(default_factory=dict)
    waiting: dict[str, str] = field(default_factory=dict)

    @property
    def done(self) -> float:
        """The share of runs that have ended."""
        return (len(self.asked) - len(self.waiting)) / self.runs

    def go(self) -> None:
        """Until all have ended, or are stuck."""
        ended_at = time.monotonic()
        while (len(self.asked) < self.runs or self.waiting) and time.monotonic() - ended_at < STUCK_S:
            while len(self.asked) < self.runs and len(self.waiting) < SLOTS * 2:
                job = self.dice.choices(JOBS, [each.share for each in JOBS])[0]
                run_id = self.client.run(job.name)
                self.asked[run_id], self.waiting[run_id] = job, job.name
            for run_id in list(self.waiting):
                if self.store.run(run_id).state.terminal:
                    self.waiting.pop(run_id, None)
                    ended_at = time.monotonic()
            time.sleep(0.2)


def log_of(store: Store, run: Run) -> list[str]:
    """The output of its last attempt."""
    lines, after = [], 0
    while page := store.log(run.id, after=after, limit=1000):
        after = page[-1].seq
        lines += [line.data.decode() for line in page if line.kind is LogKind.OUTPUT]
    return [line for line in lines if line.endswith(f" of {run.attempt}")]


Verdict = dict[str, list[str]]


def judge(store: Store, asked: dict[str, Job], marks: Marks, cancelled: set[str]) -> Verdict:
    """What must not be of runs: `lost`, `doubled` and `stuck` ones."""
    wrong: Verdict = {"lost": [], "doubled": [], "stuck": []}
    for run_id, job in asked.items():
        run, said = store.run(run_id), marks.lines(run_id)
        state, who = run.state.value, f"{run_id} ({job.name})"
        starts = Counter(int(attempt) for word, attempt in said if word == "start")
        ends = Counter(int(attempt) for word, attempt in said if word == "end")
        doubled = [attempt for attempt, count in starts.items() if count > 1]
        if doubled:
            wrong["doubled"].append(f"{who}: attempts {doubled} ran more than once: {said}")
        numbers = [int(attempt) for _, attempt in said]
        if numbers != sorted(numbers):
            wrong["doubled"].append(f"{who}: an attempt ran on beside a later one: {said}")
        if not run.state.terminal:
            wrong["stuck"].append(f"{who}: is still {state}, {run.reason}, attempt {run.attempt}: {said}")
        if state == "failed" or (state == "cancelled" and run_id not in cancelled):
            wrong["lost"].append(f"{who}: {state} by itself: {run.reason} {run.message}, attempt {run.attempt}: {said}")
        if state == "completed":
            if (starts[run.attempt], ends[run.attempt]) != (1, 1):
                wrong["lost"].append(f"{who}: completed by attempt {run.attempt}, but its agents say {said}")
            wanted = [f"line {n} of {run.attempt}" for n in range(1, job.lines + 1)]
            if log_of(store, run) != wanted:
                wrong["lost"].append(f"{who}: its log is {log_of(store, run)[:5]}..., not {job.lines} lines")
    return wrong


def left_behind(api: Api, within: float) -> list[str]:
    """Pods of attempts, and secrets, that are still there after so long."""
    limit = time.monotonic() + within
    while True:
        found = [f"pod {each['metadata']['name']}" for each in api.pods(BUSY)]
        found += [f"secret {each['metadata']['name']}" for each in api.ask("GET", "secrets")["items"]]
        if not found or time.monotonic() > limit:
            return [f"{each} is left behind" for each in found]
        time.sleep(0.5)


def shown(namespace: str) -> str:
    """What kubectl sees."""
    kubectl = os.environ.get("KUBECTL", "kubectl")
    words = ["-n", namespace, "get", "all,networkpolicy,lease,secret", "--show-kind", "--no-headers"]
    return subprocess.run([kubectl, *words], capture_output=True, text=True, check=False).stdout.strip() or "(nothing)"


def main() -> None:
    """Harm, then look."""
    parser = argparse.ArgumentParser()
    parser.add_argument("runs", type=int)
    parser.add_argument("seed", type=int)
    parser.add_argument("--kills", type=int, default=9, help="workers that are killed at least")
    parser.add_argument("--restarts", type=int, default=2, help="times that the API server is killed and started again")
    parser.add_argument("--postgres", action="store_true")
    given = parser.parse_args()
    if given.restarts and "OPTIO_KUBE_PIDS" not in os.environ:
        parser.error(
            "OPTIO_KUBE_PIDS is not set: name the directory with the pids of the cluster's parts, or give --restarts 0"
        )
    dice = random.Random(given.seed)
    namespace = f"optio-chaos-{uuid.uuid4().hex[:6]}"
    with tempfile.TemporaryDirectory() as name, Api(namespace) as api, Marks() as marks, FaultProxy() as proxy:
        directory = Path(name)
        api.ask("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
        environ = {
            **SETTINGS,
            "OPTIO_KUBE_NAMESPACE": namespace,
            "KUBECONFIG": str(proxy.kubeconfig(directory / "kubeconfig")),
        }
        places = [Place("a"), Place("b", "elsewhere"), Place("c", "third")]
        made = Cluster(directory, sqlite=not given.postgres, servers=1, schedulers=0, workers=places, environ=environ)
        for job in JOBS:
            source = json.dumps(_AGENT.format(address=ADDRESS, port=marks.port, lines=job.lines, pause=job.pause))
            made.write(f"{job.name}.yaml", _TASK.format(name=job.name, source=source, slots=SLOTS, warm=job.warm))
        try:
            with made:
                store = made.store()
                client = Client(made)
                eventually(lambda: len(client.ask("GET", "/api/tasks")["items"]) == len(JOBS), what="the tasks being served")
                load = Load(client, store, given.runs, dice)
                chaos = Chaos(made, proxy, client, namespace, random.Random(given.seed + 1), load, given.kills, given.restarts)
                chaos.start()
                began = time.monotonic()
                load.go()
                took = time.monotonic() - began
                chaos.over.set()
                chaos.join()
                calm, asked = time.monotonic(), load.asked
                orphaned = left_behind(api, GONE_S)
                cleared = time.monotonic() - calm
                wrong = {**judge(store, asked, marks, chaos.cancelled), "orphaned": orphaned, "else": []}
                after = [client.run("middle") for _ in range(SLOTS)]
                most = 0
                limit = time.monotonic() + 120
                while not all(store.run(run_id).state.terminal for run_id in after) and time.monotonic() < limit:
                    most = max(most, sum(store.run(run_id).state.value == "running" for run_id in after))
                    time.sleep(0.05)
                if most < SLOTS:
                    wrong["else"].append(f"only {most} of {SLOTS} slots can be used afterwards")
                wrong["else"] += [f"{run_id} failed afterwards" for run_id in after if store.run(run_id).reason != "ok"]
                time.sleep(5)
                print(f"{len(asked)} runs in {took:.0f} s; harm: {dict(chaos.harm)}")
                outcomes = Counter((store.run(each).state.value, store.run(each).reason) for each in asked)
                print(f"outcomes: {dict(outcomes)}")
                attempts = Counter(store.run(each).attempt for each in asked)
                print(f"attempts: {dict(sorted(attempts.items()))}; agents begun: {marks.count('start')}")
                print(f"pods of attempts gone {cleared:.1f} s after the last fault; all {most} slots in use afterwards")
                print(f"parts that fell by themselves: {made.fell or 'none'}")
                tracebacks = sum(path.read_text(errors="replace").count("Traceback") for path in directory.glob("*.log"))
                print(f"tracebacks in the logs of all parts: {tracebacks}")
                print(f"requests to the cluster: {len(proxy.seen)}, {len(proxy.seen) / len(asked):.1f} a run")
                print(f"\nwhat is there while it is idle:\n{shown(namespace)}")
                store.close()
            print(f"\nwhat is there when all is stopped:\n{shown(namespace)}")
            wrong["orphaned"] += left_behind(api, 0.0)
            keep = os.environ.get("CHAOS_LOGS")
            if keep:
                for path in directory.glob("*.log"):
                    (Path(keep) / path.name).write_bytes(path.read_bytes())
        finally:
            api.ask("DELETE", f"/api/v1/namespaces/{namespace}")
    kills, restarts = (chaos.harm[_words(each)] for each in (chaos._kill_a_worker, chaos._restart_the_api_server))
    if kills < given.kills or restarts < given.restarts:
        wrong["else"].append("fewer kills or restarts than were asked for")
    print("\n" + "\n".join(words for each in wrong.values() for words in each))
    counts = ", ".join(f"{len(wrong[kind])} {kind}" for kind in ("lost", "doubled", "stuck", "orphaned"))
    print(f"seed {given.seed}: {len(asked)} runs, {kills} kills of workers, {restarts} restarts of the API server: {counts}")
    if any(wrong.values()):
        sys.exit(1)


if __name__ == "__main__":
    main()
