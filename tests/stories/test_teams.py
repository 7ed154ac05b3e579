"""Two teams, a namespace and a worker each: one team's worker is away, and only that team waits.

Agents are processes here; `test_team_namespaces.py` does the same with pods, and accounts, of a real cluster.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from optio.broker.base import Topic, announce_queued
from optio.model import isolation
from optio.model.namespace import WorkerScope
from optio.model.registry import CompiledTask
from optio.model.run import RunState
from optio.processes.worker import Worker
from optio.runs import admission
from optio.runs.submit import prepare_run
from optio.store.values import RunFilter
from optio.wiring import Services
from tests.runs.support import accept, done, execute, log_of, working
from tests.store.build import serve
from tests.support import command_task, eventually

RUNS = 12


def task(name: str, namespace: str | None) -> CompiledTask:
    return replace(command_task("true", name, "maxConcurrent: 4\nmaxRetries: 0\n"), namespace=namespace)


ALPHA, BETA, PLAIN = task("Alpha", "runs-a"), task("Beta", "runs-b"), task("Plain", None)


@contextmanager
def worker(services: Services, namespace: str | None) -> Iterator[Worker]:
    """A worker of this namespace, but that its agents are processes."""
    settings = replace(services.settings, executor="kubernetes", team_namespace=namespace)
    made = Worker(replace(services, settings=settings))
    made.name = f"worker:{namespace}:0"
    made.start()
    try:
        yield made
    finally:
        made.stop()


def why(services: Services, run_id: str) -> str:
    return admission.decide(services.store.admission(), max_running=5).holds[run_id].message


def test_a_team_without_a_worker_waits_and_the_others_go_on(services: Services) -> None:
    serve(services.store, ALPHA, BETA, PLAIN)
    with worker(services, "runs-b"), worker(services, None):
        eventually(lambda: services.store.served_namespaces() == {"runs-b", ""}, what="the workers")
        runs: dict[str, list[str]] = {each.id: [] for each in (ALPHA, BETA, PLAIN)}
        for _ in range(RUNS):
            for each in (ALPHA, BETA, PLAIN):
                runs[each.id].append(accept(services, each))

        ended = [done(services, run_id) for run_id in (*runs["beta"], *runs["plain"])]
        waiting = services.store.runs(RunFilter(task_id="alpha"), limit=100).items
        said = {why(services, run_id) for run_id in runs["alpha"]}

        with worker(services, "runs-a"):
            ended += [done(services, run_id) for run_id in runs["alpha"]]

    assert {run.state for run in waiting} == {RunState.QUEUED}
    assert said == {"no worker takes runs of the namespace `runs-a`: start one with OPTIO_TEAM_NAMESPACE=runs-a"}
    assert [(run.state, run.attempt) for run in ended] == [(RunState.COMPLETED, 1)] * (3 * RUNS)
    assert {(run.task_id, services.store.attempts(run.id)[0].worker) for run in ended} == {
        ("alpha", "worker:runs-a:0"),
        ("beta", "worker:runs-b:0"),
        ("plain", "worker:None:0"),
    }


@pytest.mark.parametrize(("task", "namespace"), [(ALPHA, "runs-a"), (PLAIN, None)])
def test_a_run_starts_by_its_hint_and_not_by_a_sweep(
    services: Services, monkeypatch: pytest.MonkeyPatch, task: CompiledTask, namespace: str | None
) -> None:
    monkeypatch.setattr("optio.processes.worker._POLL_S", 600.0)
    serve(services.store, ALPHA, PLAIN)
    with worker(services, namespace):
        eventually(lambda: services.store.served_namespaces() == {namespace or ""}, what="the worker")
        run = prepare_run(task, {}, new_id="r", trigger="manual", actor="test")
        services.store.accept(run).result()
        announce_queued(services.broker, [("r", task.namespace)])

        assert done(services, "r").state is RunState.COMPLETED


def test_the_hint_of_another_namespace_wakes_nobody(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("optio.processes.worker._POLL_S", 600.0)
    looks: list[WorkerScope] = []
    claim = services.store.claim

    def counted(*given: Any, **more: Any) -> Any:
        looks.append(more["scope"])
        return claim(*given, **more)

    monkeypatch.setattr(services.store, "claim", counted)
    with worker(services, "runs-a"), worker(services, "runs-b"):
        eventually(lambda: len(looks) == 2, what="the first looks")

        services.broker.tell(Topic.QUEUE, "runs-b")

        eventually(lambda: len(looks) == 3, what="a look")
        services.broker.tell(Topic.QUEUE)
        eventually(lambda: len(looks) == 5, what="looks of both")
    assert looks[2] == WorkerScope("runs-b")


def test_a_worker_that_stops_serves_its_namespace_no_more(services: Services) -> None:
    with worker(services, "runs-a"):
        eventually(lambda: services.store.served_namespaces() == {"runs-a"}, what="the worker")

    assert services.store.served_namespaces() == set()


def test_processes_run_the_tasks_of_all_teams_and_say_that_the_namespace_is_not_applied(services: Services) -> None:
    serve(services.store, ALPHA, PLAIN)
    with working(services):
        runs = [accept(services, each) for each in (ALPHA, PLAIN)]

        assert [done(services, run_id).state for run_id in runs] == [RunState.COMPLETED] * 2
    assert isolation.not_applied("process", isolation.requested_isolation(ALPHA)) == [isolation.NAMESPACE]
    talker = replace(command_task(["echo", "hello"], "Talker"), namespace="runs-a")
    run = execute(services, talker)
    assert b"the process executor does not apply the policy's `namespaces`" in log_of(services, run.id)
