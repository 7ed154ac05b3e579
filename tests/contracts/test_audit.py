"""The audit of triggers over every store: what happened in order is explained, and each hole that is planted is found."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from optio.errors import NotFound
from optio.model.registry import CompiledTask
from optio.runs import schedule
from optio.runs.audit import AuditFinding, AuditReport, audit
from optio.store.base import Store
from optio.store.sql.store import SqlStore
from optio.store.values import IdempotencyKey, ReplayGuard, RetentionPolicy, RunFilter
from tests.runs.test_schedule import timed
from tests.store.build import START, Clock, delivery, end, fresh, new_run, serve

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
BEFORE = START - HOUR
NEVER = RetentionPolicy()


class World:
    """A store whose schedules are kept by the same steps as the scheduler's, at any moment that a test wants."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self.store, self.clock = store, clock

    def serve(self, *tasks: CompiledTask) -> None:
        serve(self.store, *tasks)

    def look(self, *, minutes: float = 0) -> None:
        """Let time pass, then take up what has changed, and fire what is due."""
        now = self.clock.move(minutes=minutes)
        for generation in self.store.unscheduled_generation():
            tasks = {task_id: self.store.definition(digest) for task_id, digest in generation.tasks.items()}
            changes = schedule.reconcile(tasks, self.store.schedules(), generation.activated_at)
            assert self.store.schedule_generation(generation.id, changes.put, changes.drop, changes.closings)
        newest = self.store.generation()
        for task_id, row in self.store.schedules().items():
            if row.next_fire is not None and row.next_fire <= now and newest is not None:
                task = self.store.definition(newest.tasks[task_id])
                self.store.fire(schedule.plan_step(task, row.next_fire, now, fresh).firing).result(10)

    def receive(self, task: CompiledTask, **more: Any) -> str:
        """A webhook that is accepted; its delivery's id."""
        received = delivery(fresh("key"), task_id=task.id, **more)
        self.store.accept(new_run(task, trigger="webhook"), delivery=received).result(10)
        return received.id

    def sql(self, statement: str) -> None:
        """Harm."""
        assert isinstance(self.store, SqlStore)
        changed = self.store._engine.change(lambda tx: tx.run(statement))
        assert changed == 1, statement

    def audit(self, *, since: datetime = BEFORE, task_id: str | None = None, keep: RetentionPolicy = NEVER) -> AuditReport:
        return audit(self.store, since=since, task_id=task_id, keep=keep)


@pytest.fixture
def world(store: Store, clock: Clock) -> World:
    return World(store, clock)


@pytest.fixture
def busy(world: World) -> World:
    """Six slots, five of them fired and one missed, two deliveries and a manual run."""
    task = timed(misfire="skip")
    world.serve(task)
    for minutes in (0, 1, 1, 1, 1, 2):
        world.look(minutes=minutes)
    world.receive(task)
    world.store.record_delivery(delivery("bad", task_id=task.id, verdict="invalid", status=422)).result(10)
    world.store.accept(new_run(task)).result(10)
    return world


def named(name: str, *config: str, **more: Any) -> CompiledTask:
    return replace(timed(*config, **more), id=name)


def told(findings: list[AuditFinding]) -> list[tuple[str, str]]:
    return [(each.kind, each.message) for each in findings]


# In order


def test_what_happened_in_order_is_counted_by_verdict_and_origin(busy: World) -> None:
    report = busy.audit()

    tally = report.tasks["timed"]
    assert (report.unexplained, report.findings, report.pending_since) == (0, [], None)
    assert tally.slots == {"fired": 6}
    assert tally.deliveries == {"accepted": 1, "invalid": 1}
    assert tally.runs == {"schedule": 6, "webhook": 1, "manual": 1}


def test_every_verdict_of_a_slot_is_one(world: World) -> None:
    world.serve(named("fires"), named("overlaps", overlap="skip"), named("skips", misfire="skip"))
    world.look()
    world.look(minutes=1)
    world.look(minutes=1)
    world.look(minutes=30)

    report = world.audit()

    assert report.unexplained == 0
    assert {task_id: dict(tally.slots) for task_id, tally in report.tasks.items()} == {
        "fires": {"fired": 4, "missed": 28},
        "overlaps": {"fired": 1, "overlap": 3, "missed": 28},
        "skips": {"fired": 4, "missed": 28},
    }


def test_slots_that_are_too_many_for_a_row_each_are_counted_too(world: World) -> None:
    world.serve(timed())
    world.look()
    world.look(minutes=3000)

    report = world.audit()

    assert report.unexplained == 0
    assert report.tasks["timed"].slots == {"missed": 2998, "fired": 2}


def test_slots_of_a_schedule_that_is_off_are_told_apart_from_those_of_none(world: World) -> None:
    for task in (timed(), timed(enabled=False), timed("0 9 * * *")):
        world.serve(task)
        world.look()
        world.look(minutes=5)

    report = world.audit()

    assert report.unexplained == 0
    assert report.tasks["timed"].slots == {"fired": 2, "missed": 3, "disabled": 5}


def test_edits_removals_and_renames_are_followed_while_no_scheduler_looks(world: World) -> None:
    world.serve(named("a"), named("b", "*/2 * * * *"))
    world.look()
    for tasks in ((named("a", "*/3 * * * *"), named("b", "*/2 * * * *")), (named("c"),), (), (named("a"),)):
        world.clock.move(minutes=10)
        world.serve(*tasks)
    world.look(minutes=10)

    report = world.audit()

    assert report.unexplained == 0
    assert {task_id: dict(tally.slots) for task_id, tally in report.tasks.items()} == {
        "a": {"superseded": 13, "missed": 8, "fired": 2},
        "b": {"superseded": 10},
        "c": {"superseded": 10},
    }


def test_a_prompt_that_changes_is_no_other_schedule(world: World) -> None:
    task = timed()
    world.serve(task)
    world.look()
    world.clock.move(minutes=5)
    world.serve(replace(task, prompt="other"))
    world.look(minutes=5)

    report = world.audit()

    assert report.unexplained == 0
    assert report.tasks["timed"].slots == {"missed": 8, "fired": 2}


def test_slots_that_no_scheduler_has_looked_at_are_pending(world: World) -> None:
    world.serve(timed())
    world.look()
    world.clock.move(minutes=3)
    world.serve(timed(), named("new"))
    world.clock.move(minutes=2)

    report = world.audit()

    assert (report.unexplained, report.pending_since) == (0, START + MINUTE)
    assert report.tasks["timed"].slots == {"pending": 5}
    assert report.tasks["new"].slots == {"pending": 2}


def test_a_clock_that_was_ahead_leaves_nothing_unexplained(world: World) -> None:
    world.serve(timed())
    world.look()
    world.look(minutes=120)
    world.clock.move(minutes=-115)
    seen = world.store.schedules()
    changes = schedule.reconcile({"timed": timed()}, seen, world.clock.at, clock_set_back=True)
    world.store.change_schedules(changes.put, changes.drop, seen=seen)
    for _ in range(10):
        world.look(minutes=1)

    report = world.audit()

    assert report.unexplained == 0
    assert report.tasks["timed"].slots == {"missed": 5, "fired": 10}


def test_a_replayed_delivery_has_two_runs_with_one_origin_each(busy: World) -> None:
    received = busy.receive(timed())
    again = new_run(timed(), trigger="webhook", actor="replay:me", delivery_id=received)
    busy.store.accept(again, once=IdempotencyKey("replay", received, "sha")).result(10)

    report = busy.audit()

    assert report.unexplained == 0
    assert report.tasks["timed"].runs["replay"] == 1


def test_only_the_wanted_task_and_time_are_looked_at(busy: World) -> None:
    busy.serve(timed(misfire="skip"), named("other"))
    busy.look()
    busy.look(minutes=1)

    of_one = busy.audit(task_id="other")
    late = busy.audit(since=busy.clock.at - MINUTE)

    assert list(of_one.tasks) == ["other"]
    assert late.tasks["timed"].slots == {"fired": 1}
    with pytest.raises(NotFound):
        busy.audit(task_id="nobody")


# Holes

FIRST = "(SELECT MIN(slot) FROM slots)"
OF_FIRST = f"(SELECT run_id FROM slots WHERE slot = {FIRST})"
OF_WEBHOOK = "(SELECT id FROM runs WHERE run_trigger = 'webhook')"
EVENTS_OF = "(SELECT MIN(id) FROM runs WHERE run_trigger = 'manual')"
HOLES: dict[str, tuple[list[str], list[tuple[str, str]]]] = {
    "a slot": (
        [f"DELETE FROM slots WHERE slot = {FIRST}"],
        [("slot", "was due and has no verdict"), ("run", "started by schedule, but its slot")],
    ),
    "the run of a slot": (
        [f"DELETE FROM events WHERE run_id = {OF_FIRST}", f"DELETE FROM runs WHERE id = {OF_FIRST}"],
        [("slot", "fired, but its run")],
    ),
    "what a slot says": ([f"UPDATE slots SET run_id = NULL WHERE slot = {FIRST}"], [
        ("slot", "fired, but names no run"), ("run", "started by schedule, but its slot"),
    ]),
    "a slot that was never due": (
        [
            "INSERT INTO slots (task_id, slot, verdict, run_id, at) "
            f"SELECT task_id, slot + 30000000, 'fired', run_id, at FROM slots WHERE slot = {FIRST}"
        ],
        [("slot", "fired, but no schedule of the task has this time")],
    ),
    "one run for two slots": (
        [f"UPDATE slots SET run_id = {OF_FIRST} WHERE slot = (SELECT MAX(slot) FROM slots)"],
        [("slot", "is not of this slot"), ("run", "started by schedule, but its slot")],
    ),
    "the run of a delivery": (
        [f"DELETE FROM events WHERE run_id = {OF_WEBHOOK}", f"DELETE FROM runs WHERE id = {OF_WEBHOOK}"],
        [("delivery", "accepted, but its run")],
    ),
    "what a delivery says": (
        ["UPDATE deliveries SET run_id = NULL WHERE verdict = 'accepted'"],
        [("delivery", "accepted, but names no run"), ("run", "does not name it")],
    ),
    "a delivery": (["DELETE FROM deliveries WHERE verdict = 'accepted'"], [("run", "started by webhook, but its delivery")]),
    "who asked for a run": (
        [f"DELETE FROM events WHERE run_id = {EVENTS_OF}"], [("run", "its origin is unknown")],
    ),
}  # fmt: skip


@pytest.mark.parametrize("hole", HOLES)
def test_a_hole_is_found(busy: World, hole: str) -> None:
    statements, expected = HOLES[hole]
    for statement in statements:
        busy.sql(statement)

    report = busy.audit()

    found = told(report.findings)
    assert (report.unexplained, len(found)) == (len(expected), len(expected))
    for (kind, words), (found_kind, message) in zip(sorted(expected), sorted(found), strict=True):
        assert kind == found_kind
        assert words in message


def test_a_missed_slot_whose_row_is_gone_is_found(world: World) -> None:
    world.serve(timed(misfire="skip"))
    world.look()
    world.look(minutes=30)
    world.sql("DELETE FROM slots WHERE slot = (SELECT MIN(slot) FROM slots)")

    assert told(world.audit().findings) == [("slot", "was due and has no verdict")]


def test_skipped_slots_whose_row_is_gone_are_all_found(world: World) -> None:
    world.serve(timed())
    world.look()
    world.look(minutes=3000)
    world.sql("DELETE FROM skipped_slots")

    report = world.audit()

    assert (report.unexplained, len(report.findings)) == (2000, 1000)


# What is kept no longer


def test_a_run_that_was_deleted_by_hand_is_no_hole(world: World) -> None:
    task = timed()
    world.serve(task)
    world.receive(task)
    run_id = world.store.runs(RunFilter()).items[0].id
    end(world.store, claimed_of(world, run_id))

    world.store.delete_run(run_id)

    assert world.audit().unexplained == 0


def claimed_of(world: World, run_id: str) -> Any:
    (claim,) = world.store.claim("w", HOUR, lambda view: [run_id])
    return claim


def test_what_retention_took_is_no_hole(busy: World, clock: Clock) -> None:
    for _ in range(20):
        for claim in busy.store.claim("w", HOUR, lambda view: [waiting.run_id for waiting in view.waiting]):
            end(busy.store, claim)
    keep = RetentionPolicy(runs=timedelta(minutes=1))
    clock.move(minutes=5)
    busy.serve(timed("0 9 * * *"))
    list(busy.store.prune(keep))

    strict, knowing = busy.audit(), busy.audit(keep=keep)

    assert strict.unexplained == 7
    assert knowing.unexplained == 0
    clock.move(days=8)
    late = busy.audit(keep=keep)
    assert (late.unexplained, late.since) == (0, clock.at - timedelta(days=7))
    assert "retention may have deleted it" in late.notes[0]


def test_a_definition_that_nobody_can_read_is_taken_as_it_is(busy: World) -> None:
    busy.serve()
    busy.look()
    busy.sql("UPDATE definitions SET document = '{}'")
    assert isinstance(busy.store, SqlStore)
    busy.store._definition.cache_clear()

    report = busy.audit()

    assert report.unexplained == 0
    assert report.tasks["timed"].slots == {"fired": 6}


def test_an_audit_while_others_are_at_work_sees_nothing_half_done(stores: Callable[[], Store], clock: Clock) -> None:
    world, other = World(stores(), clock), World(stores(), clock)
    task = timed(misfire="all", maxCatchUp=1000)
    world.serve(task)
    world.look()

    def work() -> None:
        for _ in range(60):
            world.look(minutes=1)
            world.receive(task)

    reports = []
    with ThreadPoolExecutor(1) as pool:
        working = pool.submit(work)
        while not working.done():
            reports.append(other.audit())
        working.result()

    assert len(reports) > 1
    assert [report.findings for report in reports if report.findings] == []
    assert other.audit().tasks["timed"].slots == {"fired": 60}


def test_an_audit_has_an_end_and_says_where(busy: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("optio.runs.audit.MAX_SLOTS", 3)
    monkeypatch.setattr("optio.runs.audit.MAX_ROWS", 1)
    monkeypatch.setattr("optio.runs.audit._PAGE_ROWS", 1)

    report = busy.audit()

    assert report.unexplained == 0
    assert report.tasks["timed"].slots == {"fired": 3}
    assert sum(report.tasks["timed"].runs.values()) == sum(report.tasks["timed"].deliveries.values()) == 1
    assert [note.split(" were")[0] for note in report.notes[1:]] == [
        "only the first 3 slots of `timed`", "only the newest 1 deliveries", "only the newest 1 runs",
    ]  # fmt: skip


# Requests that have no row


def test_repeats_replays_and_refusals_of_that_time_are_counted_at_their_task(world: World) -> None:
    task = timed()
    world.serve(task)
    guard = ReplayGuard("digest", HOUR)
    for key in ("k", "k", "k", "forged"):
        received = delivery(key, task_id=task.id, guard=guard)
        world.store.accept(new_run(task, trigger="webhook"), delivery=received).result(10)
    for _ in range(2):
        world.store.count_refusals({("hook", "rate", task.id): 20, ("hook", "unsigned_rate", task.id): 3}).result(10)
    world.clock.move(hours=2)
    world.store.count_refusals({("hook", "rate", task.id): 1}).result(10)

    report = world.audit()
    later = world.audit(since=START + HOUR, task_id=task.id)

    counted = {"accepted": 1, "repeated": 2, "replayed": 1, "rate": 41, "unsigned_rate": 6}
    assert report.tasks[task.id].deliveries == counted
    assert later.tasks[task.id].deliveries == {"rate": 1}


def test_refusals_are_summed_up_by_path_and_verdict_and_cut_off_at_a_thousand(store: Store, clock: Clock) -> None:
    store.count_refusals({(f"path-{number}", "rate", "job"): number for number in range(1, 1101)}).result(10)
    begun = clock.at
    clock.move(minutes=5)
    store.count_refusals({("path-1100", "rate", "job"): 5}).result(10)

    found = store.refusals(since=begun)

    assert len(found) == 1000
    assert (found[0].path, found[0].requests, found[0].first, found[0].last) == ("path-1100", 1105, begun, clock.at)
    assert [each.requests for each in store.refusals(since=begun, until=begun, path="path-1100")] == [1100]
    assert store.refusals(since=begun, task_id="other") == []
