"""The cluster's own parts go away while runs are under way: `python -m tests.stories.pods_outage PART [SECONDS]`.

PART is `way` (nobody answers, by a proxy), `api` (the API server is killed) or `kubelet` (the node's kubelet is killed); what
was killed is started again with its own arguments after so many seconds. OPTIO_KUBE_PIDS names the directory with the pids of
the parts of a cluster that may be killed. Agents go on meanwhile; runs that are asked for wait; afterwards all is known.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from optio.compiler.pipeline import compile_tree
from optio.compiler.source_tree import MemoryTree
from optio.executors.pods import manifest
from optio.model.run import LogKind
from tests.executors.pods.api import Api
from tests.executors.pods.faults import FaultProxy
from tests.executors.pods.place import NAMESPACE, settings
from tests.runs.support import accept, log_of, opened
from tests.stories.test_pods import ADDRESS, TELL, Marks, dying
from tests.support import eventually

RUNS = 6
_AGENT = (
    TELL
    + """\
tell start
for n in $(seq {lines}); do echo "line $n"; sleep 0.5; done
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
maxConcurrent: 20
"""


@contextmanager
def killed(part: str) -> Iterator[None]:
    """One of the cluster's parts, for a while."""
    pids = Path(os.environ["OPTIO_KUBE_PIDS"])
    pid = int((pids / part).read_text())
    argv = Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").split(b"\0")
    log = os.readlink(f"/proc/{pid}/fd/1")
    os.kill(pid, signal.SIGKILL)
    try:
        yield
    finally:
        with open(log, "ab") as out:
            again = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True)
        (pids / part).write_text(f"{again.pid}\n")


@contextmanager
def deaf(proxy: FaultProxy) -> Iterator[None]:
    """Nobody answers."""
    proxy.refuse()
    try:
        yield
    finally:
        proxy.resume()


def main() -> None:
    """Take it away, bring it back, look."""
    part, seconds = sys.argv[1], float(sys.argv[2]) if len(sys.argv) > 2 else 60.0
    install = f"o{uuid.uuid4().hex[:10]}"
    with tempfile.TemporaryDirectory() as name, Marks() as marks, FaultProxy() as proxy, Api(NAMESPACE) as api:
        directory = Path(name)
        environ = settings(directory, install, OPTIO_MAX_WORKFLOW_CONCURRENT=str(2 * RUNS))
        lengths = {"Short": 20, "Long": int(2 * seconds) + 60}
        tasks = {}
        for title, lines in lengths.items():
            source = json.dumps(_AGENT.format(address=ADDRESS, port=marks.port, lines=lines))
            made = compile_tree(MemoryTree({f"{title}.yaml": _TASK.format(name=title, source=source)}))
            assert made.ok, [each.to_json() for each in made.diagnostics]
            (tasks[title],) = made.registry.tasks.values()
        with opened(directory, environ) as here, dying(directory, environ, proxy, "") as worker:
            # Some end meanwhile, some go on for longer, some are asked for meanwhile.
            before = {accept(here, tasks[title]): title for title in ("Short", "Long") for _ in range(RUNS // 2)}
            eventually(lambda: marks.count("start") == RUNS, within=120, what="the agents")
            proxy.forget()
            gone = {"way": deaf(proxy), "api": killed("kube-apiserver"), "kubelet": killed("kubelet")}[part]
            with gone:
                asked = {accept(here, tasks["Short"]): "Short" for _ in range(RUNS // 2)}
                time.sleep(seconds)
                meanwhile, rate = marks.count("end"), len(proxy.seen) / seconds
            back = time.monotonic()
            runs = {**before, **asked}
            limit = time.monotonic() + 240
            while not all(here.store.run(run_id).state.terminal for run_id in runs) and time.monotonic() < limit:
                time.sleep(0.2)
            took = time.monotonic() - back
            wrong = []
            for run_id, title in runs.items():
                run, said = here.store.run(run_id), [word for word, _ in marks.lines(run_id)]
                log = log_of(here, run_id, LogKind.OUTPUT)
                if (
                    run.reason != "ok"
                    or said != ["start", "end"]
                    or log != [b"line %d" % n for n in range(1, lengths[title] + 1)]
                ):
                    wrong.append(f"{title} {run_id}: {run.state.value} {run.reason} {run.message}, {said}, {len(log)} lines")
            selector = f"{manifest.INSTALL}={install}"
            with contextlib.suppress(AssertionError):
                eventually(lambda: not api.pods(selector), within=90, what="the end of all pods")
            left = len(api.pods(selector))
            tracebacks = (directory / "dying.log").read_text(errors="replace").count("Traceback")
            alive = worker.poll() is None
        api.sweep(selector)
    print(
        f"{part} away for {seconds:.0f} s: {RUNS} runs under way, of which {meanwhile} ended meanwhile; {len(asked)} asked for"
    )
    print(f"requests meanwhile: {rate:.1f}/s; all {len(runs)} runs known {took:.1f} s after it came back; pods left: {left}")
    print(f"the worker lived on: {alive}; tracebacks in its log: {tracebacks}")
    print("\n".join(wrong) or "each agent ran once, each log is whole")
    if wrong or left or not alive:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
