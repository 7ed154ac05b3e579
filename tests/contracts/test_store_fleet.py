"""The rows of processes, and what waits for them, on every store."""

import subprocess
from datetime import timedelta
from typing import Any

from optio.model.fleet import FleetState, ProcessKind, find_problems
from optio.model.namespace import ALL_TASKS, WorkerScope
from optio.process_identity import process_name
from optio.store.base import Store
from optio.store.values import ScheduleRow
from optio.version import __version__
from tests.contracts.test_store_namespaces import ALPHA, DEFAULT, PLAIN, A
from tests.store.build import LEASE, Clock, everything, queued, serve


def sql(store: Store, text: str) -> list[tuple[Any, ...]]:
    """What a statement finds; a change finds nothing."""
    engine = store._engine  # type: ignore[attr-defined]
    if text.startswith("SELECT"):
        return [tuple(dict(row).values()) for row in engine.peek(lambda tx: tx.all(text))]
    engine.change(lambda tx: tx.run(text))
    return []


def ended_process() -> str:
    """The name of a process of this machine that has ended."""
    child = subprocess.Popen(["/bin/true"])
    child.wait()
    machine, _, _ = process_name().rsplit(":", 2)
    return f"{machine}:{child.pid}:1"


def of(fleet: FleetState) -> list[tuple[str, str, bool]]:
    return [(row.kind.value, row.name, row.is_live) for row in fleet.processes]


def test_each_part_has_a_row_with_its_process_version_and_load(store: Store, clock: Clock) -> None:
    began = clock.at
    store.note_server("here:/tasks.d", 3, in_sync=True)
    store.note_worker("w", A, 5)
    store.note_scheduler("s").result(10)
    clock.move(seconds=9)
    store.note_worker("w", A, 4)

    fleet = store.fleet()

    scheduler, server, worker = fleet.processes
    assert of(fleet) == [("scheduler", "s", True), ("server", "here:/tasks.d", True), ("worker", "w", True)]
    assert {(row.process, row.version, row.started_at) for row in fleet.processes} == {(process_name(), __version__, began)}
    assert (worker.namespace, worker.capacity, worker.seen_at) == ("runs-a", 4, clock.at)
    assert (server.generation, server.in_sync, scheduler.generation) == (3, True, None)


def test_a_row_without_a_heartbeat_is_silent_and_forgotten_after_an_hour(store: Store, clock: Clock) -> None:
    store.note_worker("w", ALL_TASKS)
    clock.move(seconds=31)
    silent = store.fleet()
    clock.move(minutes=61)
    store.note_scheduler("s").result(10)

    assert of(silent) == [("worker", "w", False)]
    assert of(store.fleet()) == [("scheduler", "s", True)]


def test_a_part_that_stops_in_order_leaves_no_row(store: Store) -> None:
    store.note_server("a", 1, in_sync=True)
    store.note_worker("a", ALL_TASKS)
    store.note_scheduler("a").result(10)

    for kind in ProcessKind:
        store.forget_process(kind, "a")

    assert store.fleet().processes == []
    assert (store.servers(), store.served_namespaces()) == ([], set())


def test_a_part_that_stops_takes_along_the_silent_one_that_it_has_replaced(store: Store, clock: Clock) -> None:
    store.note_worker("killed", ALL_TASKS)
    store.note_scheduler("killed").result(10)
    clock.move(seconds=20)
    store.note_worker("beside", ALL_TASKS)
    store.note_worker("new", ALL_TASKS)
    clock.move(seconds=11)

    store.forget_process(ProcessKind.WORKER, "new")

    assert of(store.fleet()) == [("scheduler", "killed", False), ("worker", "beside", True)]


def test_a_process_of_this_machine_that_is_gone_is_silent_at_once(store: Store) -> None:
    store.note_worker("w", ALL_TASKS)
    sql(store, f"UPDATE processes SET process = '{ended_process()}'")

    assert of(store.fleet()) == [("worker", "w", False)]
    assert store.served_namespaces() == set()


def test_a_process_that_starts_again_under_its_name_begins_anew(store: Store, clock: Clock) -> None:
    store.note_server("a", 1, in_sync=True)
    sql(store, "UPDATE processes SET process = 'elsewhere/boot/1:7:1'")
    clock.move(seconds=20)

    store.note_server("a", 1, in_sync=True)

    (row,) = store.fleet().processes
    assert (row.process, row.started_at) == (process_name(), clock.at)


def test_workers_and_servers_of_the_version_before_are_seen_and_see_these(store: Store) -> None:
    now = store.now().timestamp() * 1_000_000
    sql(store, f"INSERT INTO servers (server, generation_id, in_sync, at) VALUES ('old', 2, 1, {now:.0f})")
    sql(store, f"INSERT INTO workers (worker, namespace, at) VALUES ('old', 'runs-a', {now:.0f})")
    store.note_worker("new", DEFAULT)
    store.note_server("new", 2, in_sync=False)

    fleet = store.fleet()

    assert of(fleet) == [("server", "new", True), ("server", "old", True), ("worker", "new", True), ("worker", "old", True)]
    assert fleet.versions == {__version__, None}
    assert store.served_namespaces() == {"", "runs-a"}
    assert sql(store, "SELECT server, in_sync FROM servers ORDER BY 1") == [("new", 0), ("old", 1)]
    assert sql(store, "SELECT worker, namespace FROM workers ORDER BY 1") == [("new", ""), ("old", "runs-a")]
    store.forget_process(ProcessKind.WORKER, "new")
    assert sql(store, "SELECT worker FROM workers") == [("old",)]


def test_the_fleet_has_leases_jobs_queued_runs_by_namespace_and_late_slots(store: Store, clock: Clock) -> None:
    serve(store, PLAIN, ALPHA)
    empty = store.fleet()
    queued(store, PLAIN)
    store.claim("owner", LEASE, everything, scope=DEFAULT)
    queued(store, PLAIN)
    queued(store, ALPHA)
    queued(store, ALPHA)
    store.note_worker("a", A)
    store.acquire_job_lease("prune", "a", timedelta(hours=1), timedelta(minutes=1))
    rows = [ScheduleRow(task_id=name, fingerprint="f", next_fire=store.now()) for name in ("x", "y")]
    store.change_schedules([*rows, ScheduleRow(task_id="z", fingerprint="f", next_fire=None)], [])

    fleet = store.fleet()

    assert (empty.processes, empty.jobs, empty.next_fire, empty.queued) == ([], [], None, {})
    assert empty.activated_at == clock.at
    assert (fleet.queued, fleet.next_fire, fleet.late_slots) == ({"": 1, "runs-a": 2}, fleet.now, 0)
    assert [(row.name, row.running, row.seen_at is None) for row in fleet.processes] == [("a", 0, False), ("owner", 1, True)]
    assert fleet.processes[1].lease_until == fleet.now + LEASE
    assert [(job.job, job.owner, job.lease_until) for job in fleet.jobs] == [("prune", "a", fleet.now + timedelta(minutes=1))]
    store.release_job_lease("prune", "a")
    clock.move(seconds=121)
    later = store.fleet()
    assert (later.late_slots, later.jobs[0].lease_until, later.jobs[0].ended_at) == (2, None, fleet.now)
    assert "slots of 2 schedules are late" in " ".join(problem.text for problem in find_problems(later))


def test_what_a_process_said_before_the_clock_was_set_back_does_not_count(store: Store, clock: Clock) -> None:
    store.note_worker("w", WorkerScope("runs-a"))
    clock.move(hours=-1)

    assert of(store.fleet()) == [("worker", "w", False)]
