"""Pods that do not start: said within seconds by everything that is asked, and their slots serve other runs meanwhile.

On a real cluster only: the scheduler, the quota and the kubelet are the ones that say so. `python -m tests.stories.test_room
SECONDS` holds a quota full for so long, and prints a table of when what was said.
"""

import json
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optio.executors.pods import manifest
from tests.executors.pods.api import Api
from tests.executors.pods.place import NAMESPACE, settings, waiting_pod
from tests.support import Dev, eventually

_TASK = """\
type: standalone
name: {name}
agentRuntime: command
command: ["/bin/sh", "-c", "echo ran"]
promptTemplate: "go"
maxRetries: 0
maxConcurrent: 9
{extra}
"""
HUGE = 'environment: {resources: {cpu: "1000"}}'
NO_IMAGE = 'environment: {image: "optio.invalid/none:1"}'
_SAID_WITHIN_S = 10.0


@dataclass
class Said:
    """Seconds from the request for a run until its delay was said by each."""

    why: float
    api: float
    log: float
    pool: float

    @property
    def latest(self) -> float:
        return max(self.why, self.api, self.log, self.pool)


@contextmanager
def served(directory: Path, **tasks: str) -> Iterator[tuple[Dev, Api, str]]:
    """A server and its worker, with one slot for all runs."""
    install = f"r{uuid.uuid4().hex[:10]}"
    environ = settings(directory, install, OPTIO_MAX_WORKFLOW_CONCURRENT="1", OPTIO_POD_START="45s")
    dev = Dev(directory, environ=environ)
    for name, extra in tasks.items():
        dev.write(f"{name}.yaml", _TASK.format(name=name, extra=extra))
    with Api(NAMESPACE) as api:
        dev.start()
        try:
            yield dev, api, install
        finally:
            dev.stop()
            api.sweep(f"{manifest.INSTALL}={install}")


def start(dev: Dev, task: str) -> str:
    answer = dev.post(f"/api/tasks/{task}/runs")
    assert answer.status == 202, answer.body
    return str(answer.json["runId"])


def state(dev: Dev, run_id: str) -> dict[str, Any]:
    found: dict[str, Any] = dev.get(f"/api/workflow-runs/{run_id}").json
    return found


def until_said(dev: Dev, run_id: str, words: str) -> Said:
    """When everything that is asked has said these words of a run."""
    began, at = time.monotonic(), dict.fromkeys(("why", "api", "log", "pool"), 0.0)
    while not all(at.values()):
        assert time.monotonic() - began < 60, (at, state(dev, run_id))
        found = {
            "why": dev.cli("runs", "why", run_id).stdout,
            "api": state(dev, run_id)["message"],
            "log": json.dumps(dev.get(f"/api/workflow-runs/{run_id}/logs").json),
            "pool": dev.cli("pool").stdout,
        }
        for name, text in found.items():
            if words in text and not at[name]:
                at[name] = time.monotonic() - began
    return Said(**at)


@contextmanager
def full_quota(api: Api, install: str) -> Iterator[None]:
    """Let the namespace have one pod, which is there."""
    api.ask("POST", "pods", waiting_pod(install, "filler"))
    with quota(api, 1):
        yield


@contextmanager
def quota(api: Api, pods: int) -> Iterator[None]:
    """Let the namespace have so many pods."""
    api.ask("POST", "resourcequotas", {"metadata": {"name": "room"}, "spec": {"hard": {"pods": str(pods)}}})
    try:
        eventually(lambda: api.ask("GET", "resourcequotas/room").get("status", {}).get("used"), what="the quota")
        yield
    finally:
        api.ask("DELETE", "resourcequotas/room")


def test_a_pod_that_no_node_takes_is_told_of_and_its_slot_serves_others(tmp_path: Path) -> None:
    with served(tmp_path, huge=HUGE, small="") as (dev, _, _):
        huge = start(dev, "huge")
        said = until_said(dev, huge, "no node can take the pod")
        small = start(dev, "small")
        assert dev.until_ended(small, within=60)["state"] == "completed"
        assert state(dev, huge)["state"] in ("queued", "running")

    assert said.latest < _SAID_WITHIN_S, said


def test_an_image_that_cannot_be_pulled_is_told_of_and_ends_the_run_at_its_deadline(tmp_path: Path) -> None:
    with served(tmp_path, missing=NO_IMAGE) as (dev, _, _):
        run_id = start(dev, "missing")
        said = until_said(dev, run_id, "the image cannot be pulled")
        ended = dev.until_ended(run_id, within=90)

    assert said.latest < _SAID_WITHIN_S, said
    assert (ended["state"], ended["reason"], ended["attempt"]) == ("failed", "image", 1)


def full(directory: Path, seconds: float) -> tuple[Said, list[dict[str, Any]], float]:
    """Hold a quota full for so long: when it was said, how the runs ended, and how long after the end of that they had."""
    with served(directory, job="") as (dev, api, install):
        with full_quota(api, install):
            runs = [start(dev, "job") for _ in range(5)]
            said = until_said(dev, runs[0], "the namespace's quota is full")
            assert "the namespace's quota is full" in dev.cli("runs", "why", runs[4]).stdout
            time.sleep(seconds)
            assert {state(dev, run_id)["state"] for run_id in runs} <= {"queued", "running"}
        began = time.monotonic()
        return said, [dev.until_ended(run_id, within=120) for run_id in runs], time.monotonic() - began


def test_runs_wait_while_the_quota_is_full_and_run_when_it_is_not(tmp_path: Path) -> None:
    said, ended, _ = full(tmp_path, 5)

    assert said.latest < _SAID_WITHIN_S, said
    assert [(run["state"], len(run["attempts"])) for run in ended] == [("completed", 1)] * 5


def test_idle_warm_pods_make_way_for_a_run_that_waits_for_room(tmp_path: Path) -> None:
    with served(tmp_path, pooled="warmPoolSize: 2", job="") as (dev, api, install):
        warm = f"{manifest.INSTALL}={install},{manifest.ROLE}={manifest.WARM_ROLE}"
        eventually(lambda: len(api.pods(f"{warm},{manifest.READY}")) == 2, within=90, what="a pool that is full")
        with quota(api, 2):
            run = dev.until_ended(start(dev, "job"), within=60)
            said = dev.cli("pool").stdout
            left = len(api.pods(warm))

    assert (run["state"], len(run["attempts"]), left) == ("completed", 1, 0)
    assert "it makes way for runs that wait for room" in said


def main() -> None:
    """A quota that is full for a while."""
    seconds = float(sys.argv[1])
    with tempfile.TemporaryDirectory() as directory:
        said, ended, took = full(Path(directory), seconds)
    print(f"quota full for {seconds:.0f} s: said after {said}")
    for run in ended:
        events = [event["reason"] for event in run["events"]]
        print(f"  {run['state']} in attempt {run['attempt']}, {len(run['attempts'])} kept, events {events}")
    print(f"  all ended {took:.1f} s after the quota was raised")


if __name__ == "__main__":
    main()
