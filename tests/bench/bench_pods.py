"""What runs in pods cost: `python -m tests.bench.bench_pods scale [RUNS] [SECONDS]` and `... real [RUNS]`.

`scale` drives a real worker through thousands of runs at once: API server, storage, watches are real, the node is not (see
`tests/executors/pods/kubelet.py`), so exec and log are answered by the bench itself. `real` runs as many real pods as asked on
the cluster's node. KUBECONFIG names the cluster; OPTIO_TEST_NAMESPACE where; OPTIO_TEST_IMAGE what.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from optio.broker.base import Topic
from optio.executors.pods import manifest
from tests.executors.pods.api import Api
from tests.executors.pods.faults import FaultProxy
from tests.executors.pods.kubelet import FakeKubelet
from tests.executors.pods.place import NAMESPACE
from tests.runs.support import accept, opened
from tests.support import ROOT, command_task


def cpu_of(pid: int) -> float:
    """Seconds of processor time so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_of(pid: int, what: str) -> float:
    """MiB: VmRSS now, VmHWM at most."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(what)) / 1024


@contextmanager
def worker(directory: Path, environ: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A real one."""
    with (directory / "worker.log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", "optio", "worker"], cwd=ROOT, env=environ, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(60)


def measure(runs: int, command: str, extra: str, proxy: FaultProxy, more: dict[str, str], within: float) -> None:
    """Queue them, let a worker do them, print what that took."""
    install = f"b{uuid.uuid4().hex[:8]}"
    with tempfile.TemporaryDirectory() as name, Api(NAMESPACE) as api:
        directory = Path(name)
        settings = {
            "OPTIO_DATA_DIR": str(directory / "data"),
            "OPTIO_TASKS": str(directory / "tasks.d"),
            "OPTIO_EXECUTOR": "kubernetes",
            "OPTIO_KUBE_NAMESPACE": NAMESPACE,
            "OPTIO_KUBE_INSTALL": install,
            "OPTIO_MAX_WORKFLOW_CONCURRENT": str(runs),
            "OPTIO_LEASE": "60s",
            **more,
        }
        clean = {k: v for k, v in os.environ.items() if not k.startswith("OPTIO_")}
        environ = {**clean, **settings, "KUBECONFIG": str(proxy.kubeconfig(directory / "kubeconfig"))}
        with opened(directory, settings) as services:
            task = command_task(command, extra=f"maxConcurrent: {runs}\nmaxRetries: 0\n{extra}")
            waiting = [accept(services, task) for _ in range(runs)]
            services.broker.tell(Topic.QUEUE)
            began = time.monotonic()
            with worker(directory, environ) as process:
                all_running = most = 0.0
                while True:
                    time.sleep(0.25)
                    states = Counter(services.store.run(run_id).state.value for run_id in waiting[:: max(1, runs // 100)])
                    here = len(proxy.open)
                    most = max(most, here)
                    if not all_running and not states["queued"]:
                        all_running = time.monotonic() - began
                    if process.poll() is not None:
                        raise SystemExit((directory / "worker.log").read_text()[-3000:])
                    if states["completed"] + states["failed"] == states.total() or time.monotonic() - began > within:
                        ended = [services.store.run(run_id) for run_id in waiting]
                        if all(run.state.terminal for run in ended) or time.monotonic() - began > within:
                            break
                took = time.monotonic() - began
                limit = time.monotonic() + 60
                while (left := len(api.pods(f"{manifest.INSTALL}={install}"))) and time.monotonic() < limit:
                    time.sleep(0.2)
                removed = time.monotonic() - began
                high, now, cpu = memory_of(process.pid, "VmHWM"), memory_of(process.pid, "VmRSS"), cpu_of(process.pid)
            outcomes = Counter((run.state.value, run.reason, run.attempt) for run in ended)
            warnings = Counter(
                line.split(" ", 3)[-1][:60]
                for line in (directory / "worker.log").read_text().splitlines()
                if " WARNING " in line or " ERROR " in line
            )
        api.sweep(f"{manifest.INSTALL}={install}")
    print(
        f"\n{runs} runs: all claimed after {all_running:.1f} s, ended after {took:.1f} s, {left} pods left at {removed:.1f} s"
    )
    print(f"outcomes (state, reason, attempt): {dict(outcomes)}")
    print(f"worker: {high:.0f} MiB at most, {now:.0f} MiB at the end, {cpu:.1f} s of CPU ({cpu / runs * 1e3:.1f} ms a run)")
    print(f"most requests open at once: {proxy.most_open}\n\n{'request':<24} {'count':>8} {'a run':>8}")
    for kind, count in sorted(proxy.counts().items(), key=lambda item: -item[1]):
        print(f"{kind:<24} {count:>8} {count / runs:>8.2f}")
    total = proxy.counts().total()
    print(f"{'all':<24} {total:>8} {total / runs:>8.2f}   {total / took:.0f}/s")
    for words, count in warnings.most_common(8):
        print(f"  {count} x {words}")


def main() -> None:
    """One of the two."""
    asked = argparse.ArgumentParser()
    asked.add_argument("what", choices=("scale", "real"))
    asked.add_argument("runs", type=int, nargs="?")
    asked.add_argument("seconds", type=float, nargs="?", default=60.0)
    given = asked.parse_args()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, Python {sys.version.split()[0]}, SQLite")
    if given.what == "scale":
        runs = given.runs or 2000
        with FakeKubelet(NAMESPACE, lasts=lambda: given.seconds) as kubelet, FaultProxy(serve=kubelet.serve) as proxy:
            selector = ",".join(f"{name}={value}" for name, value in kubelet.selector.items())
            more = {"OPTIO_KUBE_IMAGE": "fake", "OPTIO_POD_NODE_SELECTOR": selector}
            measure(runs, "true", "", proxy, more, within=given.seconds + 600)
            begun = kubelet.launches.values()
            print(f"agents begun: {sum(begun)}, in one pod at most {max(begun, default=0)}")
    else:
        runs = given.runs or 200
        more = {
            "OPTIO_KUBE_IMAGE": os.environ["OPTIO_TEST_IMAGE"],
            "OPTIO_POD_CPU": "1m",
            "OPTIO_POD_MEMORY": "32Mi",
            "OPTIO_POD_DISK": "64Mi",
        }
        with FaultProxy() as proxy:
            measure(runs, f"echo begun; sleep {given.seconds}; echo over", "", proxy, more, within=given.seconds + 240)


if __name__ == "__main__":
    main()
