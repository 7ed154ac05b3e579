"""The scheduler over a real store: exact times, edits, clock jumps, two at once, restarts, and bad definitions."""

import logging
import os
import random
import signal
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import pytest

from optio.broker.base import Topic
from optio.broker.local import LocalBroker
from optio.errors import StoreUnavailable
from optio.model.registry import CompiledTask, Registry
from optio.model.run import Run
from optio.processes.scheduler import Scheduler, StoreClock, new_id
from optio.runs.schedule import fingerprint, plan_step
from optio.settings import Settings
from optio.store.base import Store
from optio.store.postgres import postgres_store
from optio.store.sqlite.sqlite_store import open_store
from optio.store.values import Firing, RunFilter, ScheduleRow, SlotRow
from optio.wiring import Services, build
from tests.runs.test_schedule import TASK, changed, off, timed
from tests.store.empty import put_empty_database
from tests.support import Dev, eventually, freeze_at_rest

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


class Hand:
    """A clock that is set by hand, for the scheduler and the store alike."""

    def __init__(self) -> None:
        self.at = NOON - timedelta(seconds=30)

    def __call__(self) -> datetime:
        return self.at


@pytest.fixture
def hand() -> Hand:
    return Hand()


@pytest.fixture
def services(tmp_path: Path, hand: Hand) -> Iterator[Services]:
    put_empty_database(tmp_path / "data" / "optio.db")
    made = build(Settings.load({"OPTIO_DATA_DIR": str(tmp_path / "data"), "OPTIO_TASKS": str(tmp_path / "tasks.d")}))
    made.store.close()
    made = replace(made, store=open_store(tmp_path / "data" / "optio.db", clock=lambda: hand.at.timestamp()))
    yield made
    made.close()


@pytest.fixture(params=["sqlite", "postgres"])
def machines(
    request: pytest.FixtureRequest, tmp_path: Path, services: Services, hand: Hand
) -> Iterator[Callable[[], Services]]:
    """Each call is another machine with schedulers, all on one database whose clock is set by hand."""
    with ExitStack() as stack:
        url = ""
        if request.param == "postgres":
            url = stack.enter_context(request.getfixturevalue("postgres_server").lent_schema())

        def another() -> Services:
            made: Store
            if url:
                made = postgres_store.open_store(url, clock=lambda: hand.at.timestamp())
            else:
                made = open_store(tmp_path / "data" / "optio.db", clock=lambda: hand.at.timestamp())
            return replace(services, store=stack.enter_context(closing(made)))

        yield another


@pytest.fixture
def scheduler(services: Services, hand: Hand) -> Scheduler:
    return Scheduler(services, clock=hand)


def serve(services: Services, *tasks: CompiledTask) -> None:
    services.store.activate(Registry.of({task.id: task for task in tasks}), None)


def named(name: str, *config: str, **more: object) -> CompiledTask:
    return replace(timed(*config, **more), id=name)  # type: ignore[arg-type]


def verdicts(services: Services, task_id: str) -> list[tuple[datetime, int | None, str]]:
    """What became of the task's slots: the last of each row, how many they are, and why; oldest first."""
    rows = services.store.slots(task_id, limit=1000).items
    return [(row.last, row.count, row.verdict) for row in reversed(rows)]


def runs(services: Services) -> list[Run]:
    """Oldest first."""
    return services.store.runs(RunFilter(), limit=1000).items[::-1]


def slots(services: Services) -> list[datetime | None]:
    return [run.slot for run in runs(services)]


def tell(scheduler: Scheduler) -> None:
    """What the broker does when another generation is served."""
    scheduler._hint(Topic.REGISTRY, "")


def minutes(*places: int) -> list[datetime]:
    return [NOON + place * MINUTE for place in places]


# In time


def test_a_run_names_the_generation_that_its_schedule_is_of(services: Services, scheduler: Scheduler, hand: Hand) -> None:
    serve(services, timed())
    serve(services, timed(), named("other"))

    scheduler.step()
    hand.at = NOON
    scheduler.step()

    assert {run.generation for run in runs(services)} == {services.store.newest_generation()}


def test_a_slot_fires_at_its_time_and_not_before(services: Services, scheduler: Scheduler, hand: Hand) -> None:
    serve(services, timed())

    pause = scheduler.step()
    hand.at = NOON - timedelta(microseconds=1)
    scheduler.step()
    early = slots(services)
    hand.at = NOON
    scheduler.step()
    scheduler.step()

    assert (pause, early, slots(services)) == (20.0, [], minutes(0))


def test_the_pause_ends_exactly_at_the_next_slot(services: Services, scheduler: Scheduler, hand: Hand) -> None:
    serve(services, timed())
    scheduler.step()

    hand.at = NOON - timedelta(seconds=1.5)

    assert scheduler.step() == 1.5


def test_a_real_scheduler_sleeps_until_the_slot_and_fires_once(tmp_path: Path) -> None:
    services = build(Settings.load({"OPTIO_DATA_DIR": str(tmp_path / "data")}))
    shift = datetime.now(UTC) - (NOON - timedelta(seconds=0.4))
    scheduler = Scheduler(services, clock=lambda: datetime.now(UTC) - shift)
    serve(services, timed())

    scheduler.start()
    try:
        eventually(lambda: slots(services), what="the slot")
    finally:
        scheduler.stop()
        services.close()


def test_a_scheduler_can_be_stopped_before_it_was_started(scheduler: Scheduler) -> None:
    scheduler.stop()


def test_workers_are_told_of_what_was_queued(services: Services, scheduler: Scheduler, hand: Hand) -> None:
    told: list[Topic] = []
    services.broker.subscribe(lambda topic, key: told.append(topic), tuple(Topic))
    serve(services, timed())
    scheduler.step()
    hand.at = NOON

    scheduler.step()

    assert told == [Topic.START]


def test_a_thousand_schedules_of_one_second_all_fire(services: Services, scheduler: Scheduler, hand: Hand) -> None:
    task = timed()
    serve(services, *(replace(task, id=f"t{place}") for place in range(1000)))
    scheduler.step()
    hand.at = NOON

    scheduler.step()

    assert Counter(slots(services)) == {NOON: 1000}
    assert all(row.next_fire == NOON + MINUTE for row in services.store.schedules().values())


# Edits


def test_an_edited_schedule_begins_at_its_edit(services: Services, scheduler: Scheduler, hand: Hand) -> None:
    serve(services, timed("0 * * * *"))
    scheduler.step()
    hand.at = NOON + 5 * MINUTE + timedelta(seconds=10)
    scheduler.step()

    serve(services, timed("* * * * *"))
    tell(scheduler)
    scheduler.step()
    hand.at += MINUTE
    scheduler.step()

    assert slots(services) == [NOON, NOON + 6 * MINUTE]


def test_edits_while_no_scheduler_looks_count_from_their_own_time(machines: Callable[[], Services], hand: Hand) -> None:
    services = machines()
    serve(services, timed("*/2 * * * *"), named("gone"))
    Scheduler(services, clock=hand).step()
    hand.at = NOON + 5 * MINUTE
    serve(services, timed("*/3 * * * *", misfire="skip"))
    hand.at = NOON + 7 * MINUTE
    serve(services, timed("* * * * *", misfire="all"), named("new"))
    hand.at = NOON + 11.5 * MINUTE

    for _ in range(2):
        Scheduler(machines(), clock=hand).step()

    # Every 2 minutes until 12:05, every 3 until 12:07, and then each.
    assert verdicts(services, "timed") == [
        *((slot, 1, "superseded") for slot in minutes(0, 2, 4, 6)),
        *((slot, 1, "fired") for slot in minutes(8, 9, 10, 11)),
    ]
    assert verdicts(services, "gone") == [(slot, 1, "superseded") for slot in minutes(0, 1, 2, 3, 4, 5)]
    assert verdicts(services, "new") == [(slot, 1, "missed") for slot in minutes(8, 9, 10)] + [(NOON + 11 * MINUTE, 1, "fired")]


@pytest.mark.parametrize("how", ["removed", "trigger off", "task off", "edited to a later time"])
def test_what_was_edited_away_does_not_fire_even_if_no_hint_came(
    services: Services, scheduler: Scheduler, hand: Hand, how: str
) -> None:
    serve(services, timed())
    scheduler.step()

    later = {
        "removed": [],
        "trigger off": [timed(enabled=False)],
        "task off": [off(timed())],
        "edited to a later time": [timed("0 9 * * *")],
    }
    serve(services, *later[how])
    hand.at = NOON + timedelta(seconds=1)
    scheduler.step()
    scheduler.step()

    assert slots(services) == []


def test_a_schedule_that_is_switched_on_again_begins_then(services: Services, scheduler: Scheduler, hand: Hand) -> None:
    for enabled, later in ((True, 0), (False, 10), (True, 620)):
        hand.at += timedelta(seconds=later)
        serve(services, timed(enabled=enabled))
        tell(scheduler)
        scheduler.step()
    hand.at += MINUTE

    scheduler.step()

    # On at 11:59:30, off at 11:59:40, on again at 12:10:00: the first slot is that of 12:11.
    assert slots(services) == minutes(11)


def test_a_new_task_is_found_without_a_hint(services: Services, hand: Hand) -> None:
    scheduler = Scheduler(services, clock=hand, longest=0.05)
    scheduler.step()
    serve(services, timed())

    time.sleep(0.06)
    scheduler.step()
    hand.at = NOON
    scheduler.step()

    assert slots(services) == minutes(0)


def test_a_changed_prompt_keeps_the_slots_and_runs_the_new_prompt(services: Services, scheduler: Scheduler, hand: Hand) -> None:
    old = timed()
    serve(services, old)
    scheduler.step()
    new = replace(old, prompt="other")
    serve(services, new)
    hand.at = NOON

    scheduler.step()
    scheduler.step()

    (run,) = runs(services)
    assert (run.slot, run.digest, services.store.prompt(run.id)) == (NOON, new.digest, "other")


# Each slot once


def test_two_schedulers_fire_each_slot_once(services: Services, hand: Hand) -> None:
    both = [Scheduler(services, clock=hand) for _ in range(2)]
    serve(services, *(named(f"t{place}") for place in range(20)))
    for scheduler in both:
        scheduler.step()
    gate = threading.Barrier(2)

    def go(scheduler: Scheduler) -> None:
        for _ in range(10):
            gate.wait(20)
            scheduler.step()
            gate.wait(20)

    threads = [threading.Thread(target=go, args=(scheduler,)) for scheduler in both]
    hand.at = NOON
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert Counter(slots(services)) == {NOON: 20}


def test_a_restart_neither_loses_nor_repeats_a_slot(services: Services, hand: Hand) -> None:
    serve(services, timed(misfire="all"))
    Scheduler(services, clock=hand).step()

    for place in range(5):
        hand.at = NOON + place * MINUTE
        Scheduler(services, clock=hand).step()
        Scheduler(services, clock=hand).step()

    assert slots(services) == minutes(0, 1, 2, 3, 4)


def test_a_slot_that_has_fired_does_not_fire_again_after_the_next_one_is_computed_anew(
    services: Services, scheduler: Scheduler, hand: Hand
) -> None:
    task = timed()
    serve(services, task)
    scheduler.step()
    hand.at = NOON
    scheduler.step()
    assert task.spec.schedule is not None

    again = ScheduleRow(task_id=task.id, fingerprint=fingerprint(task.spec.schedule.config), next_fire=NOON)
    services.store.change_schedules([again], [])
    tell(scheduler)
    scheduler.step()
    hand.at += MINUTE
    scheduler.step()

    assert slots(services) == minutes(0, 1)


def test_three_schedulers_on_three_machines_fire_each_slot_once_whatever_each_of_them_is_doing(
    machines: Callable[[], Services], hand: Hand
) -> None:
    all_of_them = [machines() for _ in range(3)]
    services = all_of_them[0]
    schedulers = [Scheduler(each, clock=hand) for each in all_of_them]
    serve(services, *(named(f"t{place}", misfire="all", maxCatchUp=1000) for place in range(5)))
    chance = random.Random(57)

    for place in range(30):
        hand.at = NOON + place * MINUTE
        # Some look, some do not, and all at the same moment.
        looking = [each for each in schedulers if chance.random() < 0.6]
        with ThreadPoolExecutor(3) as pool:
            list(pool.map(lambda each: each.step(), looking))
    for scheduler in schedulers:
        scheduler.step()

    assert Counter(slots(services)) == {NOON + place * MINUTE: 5 for place in range(30)}


class Held:
    """A store that holds the first commit of a firing back, as a process does that is stopped just before it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.reached, self.go = threading.Event(), threading.Event()

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    def ready(self, firings: Sequence[Firing]) -> Callable[[], Future[list[list[str] | Exception]]]:
        ready = self._store.ready(firings)

        def fire() -> Future[list[list[str] | Exception]]:
            self.reached.set()
            assert self.go.wait(20)
            return ready()

        return fire


def test_a_scheduler_that_was_frozen_between_planning_and_committing_changes_nothing_when_it_wakes(
    machines: Callable[[], Services], hand: Hand
) -> None:
    awake, frozen = machines(), machines()
    serve(awake, timed(misfire="all"))
    held = Held(frozen.store)
    both = [Scheduler(awake, clock=hand), Scheduler(replace(frozen, store=cast(Store, held)), clock=hand)]
    for scheduler in both:
        scheduler.step()
    hand.at = NOON
    with ThreadPoolExecutor(1) as pool:
        step = pool.submit(both[1].step)
        assert held.reached.wait(20)
        for place in range(5):
            hand.at = NOON + place * MINUTE
            both[0].step()
        before = awake.store.schedules()
        held.go.set()
        step.result(20)
    after = awake.store.schedules()
    hand.at += MINUTE
    both[1].step()

    assert before == after
    assert slots(awake) == minutes(0, 1, 2, 3, 4, 5)


def test_the_others_fire_in_time_when_one_is_gone(machines: Callable[[], Services], hand: Hand) -> None:
    services = machines()
    serve(services, timed())
    first, second = Scheduler(services, clock=hand), Scheduler(machines(), clock=hand)
    for scheduler in (first, second):
        scheduler.step()
    del first  # without a word

    hand.at = NOON
    second.step()

    assert slots(services) == minutes(0)


# Zone, evening before, and how many whole hours the zone's clocks show in the twelve hours after it.
NIGHTS = [
    ("Europe/Berlin", datetime(2026, 3, 28, 20, tzinfo=UTC), 12),
    ("Europe/Berlin", datetime(2026, 10, 24, 20, tzinfo=UTC), 12),
    ("America/New_York", datetime(2026, 3, 8, 2, tzinfo=UTC), 12),
    ("America/New_York", datetime(2026, 11, 1, 2, tzinfo=UTC), 12),
    ("Australia/Lord_Howe", datetime(2026, 4, 4, 10, tzinfo=UTC), 11),
]


@pytest.mark.parametrize(("zone", "evening", "hours"), NIGHTS)
def test_three_schedulers_through_an_odd_night(
    services: Services, hand: Hand, zone: str, evening: datetime, hours: int
) -> None:
    hand.at = evening
    serve(services, named("daily", "30 2 * * *", zone), named("hourly", "0 * * * *", zone, misfire="all"))
    schedulers = [Scheduler(services, clock=hand) for _ in range(3)]
    chance = random.Random(int(evening.timestamp()))

    for place in range(12 * 30 + 1):
        hand.at = evening + place * 2 * MINUTE
        schedulers[chance.randrange(3)].step()

    fired = Counter((run.task_id, run.slot) for run in runs(services))
    assert set(fired.values()) == {1}
    assert Counter(task_id for task_id, _ in fired) == {"daily": 1, "hourly": hours}


# The clock


@pytest.mark.parametrize("hours", [2, -2])
def test_a_machine_whose_own_clock_is_wrong_fires_by_the_stores(
    machines: Callable[[], Services], hand: Hand, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    services = machines()
    serve(services, timed())
    scheduler = Scheduler(services)  # by the store's clock
    scheduler.step()
    real = time.time
    monkeypatch.setattr("optio.processes.scheduler.time.time", lambda: real() + hours * 3600)

    hand.at = NOON - timedelta(microseconds=1)
    scheduler.step()
    early = slots(services)
    hand.at = NOON
    monkeypatch.setattr("optio.processes.scheduler.time.time", lambda: real() + 2 * hours * 3600)
    scheduler.step()

    assert (early, slots(services)) == ([], minutes(0))


def test_the_stores_clock_is_asked_when_there_is_a_reason(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[datetime] = []
    measure, wall = [100.0], [5000.0]
    monkeypatch.setattr("optio.processes.scheduler.time.monotonic", lambda: measure[0])
    monkeypatch.setattr("optio.processes.scheduler.time.time", lambda: wall[0])

    def ask() -> datetime:
        asked.append(NOON)
        return NOON

    monkeypatch.setattr(services.store, "now", ask)
    clock = StoreClock(services.store)

    def after(passed: float, on_the_wall: float) -> tuple[float, int]:
        measure[0] += passed
        wall[0] += on_the_wall
        return (clock() - NOON).total_seconds(), len(asked)

    assert after(0, 0) == (0, 1)
    assert after(7, 7.3) == (7, 1)  # a clock that is being corrected
    assert after(0, 3600) == (0, 2)  # one that was set, or a machine that slept
    assert after(19, 19) == (19, 2)
    assert after(1, 1) == (0, 3)  # long enough


def through_a_wrong_clock(machines: Callable[[], Services], hand: Hand, hours: int, **policy: object) -> list[int]:
    """A quarter of an hour of two schedulers, five minutes in with a clock that is wrong for five; runs of each look."""
    services = machines()
    serve(services, timed(**policy))  # type: ignore[arg-type]
    schedulers = [Scheduler(services, clock=hand), Scheduler(machines(), clock=hand)]
    found = []
    for place in range(-1, 15):
        hand.at = NOON + place * MINUTE + timedelta(hours=hours if 5 <= place < 10 else 0)
        before = len(runs(services))
        for scheduler in schedulers:
            scheduler.step()
        found.append(len(runs(services)) - before)
    assert set(Counter(slots(services)).values()) == {1}
    return found


@pytest.mark.parametrize("hours", [2, -2])
def test_with_all_caught_up_a_wrong_clock_neither_loses_nor_doubles_a_slot(
    machines: Callable[[], Services], hand: Hand, hours: int
) -> None:
    through_a_wrong_clock(machines, hand, hours, misfire="all", maxCatchUp=1000)

    assert set(minutes(*range(15))) <= set(slots(machines()))


@pytest.mark.parametrize("hours", [2, -2])
@pytest.mark.parametrize("misfire", ["last", "skip"])
def test_a_wrong_clock_starts_no_flood_and_costs_no_slot_outside_its_time(
    machines: Callable[[], Services], hand: Hand, hours: int, misfire: str
) -> None:
    each_look = through_a_wrong_clock(machines, hand, hours, misfire=misfire)

    lost = set(minutes(*range(15))) - set(slots(machines()))
    assert max(each_look) <= 2
    assert lost <= set(minutes(*range(5, 11)))


def test_a_clock_that_jumps_ahead_fires_no_flood(services: Services, scheduler: Scheduler, hand: Hand) -> None:
    serve(services, timed())
    scheduler.step()

    hand.at = NOON + timedelta(hours=2, seconds=5)
    scheduler.step()

    assert slots(services) == minutes(120)


def test_a_clock_that_is_set_back_repeats_nothing_and_goes_on(services: Services, scheduler: Scheduler, hand: Hand) -> None:
    serve(services, timed())
    scheduler.step()
    for place in (0, 1, 2):
        hand.at = NOON + place * MINUTE
        scheduler.step()

    for place in (-121, -120, 1, 2, 3, 4):
        hand.at = NOON + place * MINUTE
        scheduler.step()

    # -121 is where the clock was set back to: a schedule begins after that. What had fired stays fired.
    assert slots(services) == minutes(0, 1, 2, -120, 3, 4)


def test_a_schedule_that_was_born_in_a_wrong_future_comes_back(services: Services, hand: Hand) -> None:
    hand.at = datetime(2099, 1, 1, tzinfo=UTC)
    serve(services, timed())
    Scheduler(services, clock=hand).step()

    hand.at = NOON - MINUTE
    scheduler = Scheduler(services, clock=hand)
    scheduler.step()
    hand.at = NOON
    scheduler.step()

    assert slots(services) == minutes(0)


def test_three_hours_down_are_caught_up_by_policy_and_said(
    services: Services, hand: Hand, caplog: pytest.LogCaptureFixture
) -> None:
    serve(services, named("last"), named("all", misfire="all", maxCatchUp=5), named("skip", misfire="skip"))
    Scheduler(services, clock=hand).step()

    hand.at = NOON + timedelta(hours=3)
    with caplog.at_level(logging.WARNING):
        Scheduler(services, clock=hand).step()

    assert Counter(run.task_id for run in runs(services)) == {"last": 2, "all": 5, "skip": 2}
    counts = {task_id: Counter(verdict for _, _, verdict in verdicts(services, task_id)) for task_id in ("last", "all", "skip")}
    assert counts == {
        "last": {"missed": 179, "fired": 2},
        "all": {"missed": 176, "fired": 5},
        "skip": {"missed": 179, "fired": 2},
    }
    assert "schedule of `last`: 179 slots were missed since 2026-01-05T12:00:00+00:00" in caplog.text


def test_three_weeks_down_are_counted_to_the_slot(services: Services, hand: Hand) -> None:
    serve(services, timed())
    Scheduler(services, clock=hand).step()

    hand.at = NOON + timedelta(days=21)
    Scheduler(services, clock=hand).step()

    rows = [row for page in pages(services, "timed") for row in page]
    assert (len(rows), sum(row.count or 0 for row in rows)) == (1001, 21 * 1440 + 1)


def pages(services: Services, task_id: str) -> Iterator[list[SlotRow]]:
    """All that is kept of the task's slots."""
    cursor: str | None = None
    while True:
        page = services.store.slots(task_id, cursor=cursor, limit=400)
        yield page.items
        cursor = page.next
        if cursor is None:
            return


def test_a_run_that_is_still_active_keeps_the_next_from_starting_if_asked(
    services: Services, scheduler: Scheduler, hand: Hand
) -> None:
    serve(services, named("skip", overlap="skip"), named("queue"))
    scheduler.step()

    for place in range(3):
        hand.at = NOON + place * MINUTE
        scheduler.step()

    assert Counter(run.task_id for run in runs(services)) == {"skip": 1, "queue": 3}


# What goes wrong


def poison(services: Services, digest: str, old: str, new: str) -> None:
    """What is kept of a definition as another version of Optio might have left it."""
    with closing(sqlite3.connect(services.settings.data_dir / "optio.db")) as connection, connection:
        document = connection.execute("SELECT document FROM definitions WHERE digest = ?", (digest,)).fetchone()[0]
        assert old in document
        connection.execute("UPDATE definitions SET document = ? WHERE digest = ?", (document.replace(old, new), digest))


POISONS: dict[str, tuple[str, str]] = {
    "no such field": ('"agentRuntime":', '"agentRuntimeX":'),
    "no cron": ('"cronExpression":"* * * * *"', '"cronExpression":"* * * * 99"'),
    "no zone": ('"timezone":"UTC"', '"timezone":"Mars/Olympus"'),
    "half a pair": ('"prompt":"hello {{A}}"', r'"prompt":"\ud800"'),
}


@pytest.mark.parametrize("kind", POISONS)
def test_a_bad_definition_stops_only_its_own_schedule_until_it_changes(
    services: Services, scheduler: Scheduler, hand: Hand, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    bad, good = named("bad"), named("good")
    serve(services, bad, good)
    poison(services, bad.digest, *POISONS[kind])

    for place in range(3):
        hand.at = NOON + place * MINUTE - timedelta(seconds=1)
        tell(scheduler)
        scheduler.step()
        hand.at = NOON + place * MINUTE
        scheduler.step()
    healed = replace(bad, prompt="fine")
    serve(services, healed, good)
    tell(scheduler)
    scheduler.step()
    hand.at = NOON + 3 * MINUTE
    scheduler.step()

    assert [run.slot for run in runs(services) if run.task_id == "good"] == minutes(0, 1, 2, 3)
    assert [run.slot for run in runs(services) if run.task_id == "bad"][-1:] == minutes(3)
    said = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert [record.getMessage().startswith("the schedule of `bad` is left out") for record in said] == [True]


def test_parameters_that_do_not_fit_are_said_and_the_loop_goes_on(
    services: Services, scheduler: Scheduler, hand: Hand, caplog: pytest.LogCaptureFixture
) -> None:
    serve(services, replace(changed(timed(), '"A": "x"', '"A": 5'), id="bad"), named("good"))
    scheduler.step()

    for place in range(2):
        hand.at = NOON + place * MINUTE
        scheduler.step()

    assert [run.task_id for run in runs(services)] == ["good", "good"]
    assert caplog.text.count("schedule of `bad` at 2026-01-05T12:0") == 2
    with closing(sqlite3.connect(services.settings.data_dir / "optio.db")) as connection:
        verdicts = connection.execute("SELECT verdict FROM slots WHERE task_id = 'bad'").fetchall()
    assert verdicts == [("invalid",)] * 2


def test_a_store_that_is_away_for_a_while_costs_no_slot(services: Services, hand: Hand, tmp_path: Path) -> None:
    brief = open_store(tmp_path / "data" / "optio.db", clock=lambda: hand.at.timestamp(), busy=0.1)
    scheduler = Scheduler(replace(services, store=brief), clock=hand)
    serve(services, timed(misfire="all"))
    scheduler.step()
    hand.at = NOON

    with closing(sqlite3.connect(services.settings.data_dir / "optio.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable):
            scheduler.step()
        other.execute("COMMIT")
    hand.at += timedelta(seconds=3)
    scheduler.step()

    assert slots(services) == minutes(0)
    brief.close()


# What is planned ahead


class Counted:
    """A store that counts the firings it was made ready for."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.planned: list[str] = []

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    def ready(self, firings: Sequence[Firing]) -> Callable[[], Future[list[list[str] | Exception]]]:
        self.planned += [firing.task_id for firing in firings]
        return self._store.ready(firings)


def test_slots_are_planned_once_ahead_however_often_the_scheduler_looks(services: Services, hand: Hand) -> None:
    counted = Counted(services.store)
    scheduler = Scheduler(replace(services, store=cast(Store, counted)), clock=hand, longest=0)
    serve(services, named("a"), named("b"), named("later", "30 12 * * *"))

    for second in (30, 20, 10):
        hand.at = NOON - timedelta(seconds=second)
        scheduler.step()
    before = sorted(counted.planned)
    hand.at = NOON
    scheduler.step()

    assert before == ["a", "b"]
    assert sorted(counted.planned) == ["a", "a", "b", "b"]  # and the slots after these
    assert Counter(run.task_id for run in runs(services)) == {"a": 1, "b": 1}


@pytest.mark.parametrize("edit", ["changed", "removed"])
def test_a_task_that_is_edited_after_it_was_planned_is_planned_anew_with_those_beside_it(
    services: Services, hand: Hand, edit: str
) -> None:
    counted = Counted(services.store)
    scheduler = Scheduler(replace(services, store=cast(Store, counted)), clock=hand)
    serve(services, named("a"), named("b"))
    scheduler.step()
    edited = [replace(named("b"), prompt="new")] if edit == "changed" else []
    serve(services, named("a"), *edited)
    tell(scheduler)
    scheduler.step()
    hand.at = NOON
    scheduler.step()

    left = [named("a"), *edited]
    assert {run.task_id: run.digest for run in runs(services)} == {task.id: task.digest for task in left}
    assert counted.planned[: 2 + len(left)] == ["a", "b", *(task.id for task in left)]


def test_a_slot_that_another_scheduler_fired_is_not_among_those_that_are_ready(services: Services, hand: Hand) -> None:
    counted = Counted(services.store)
    scheduler = Scheduler(replace(services, store=cast(Store, counted)), clock=hand)
    serve(services, named("a"), named("b"))
    scheduler.step()
    services.store.fire(plan_step(named("b"), NOON, NOON, new_id).firing).result(10)
    tell(scheduler)
    scheduler.step()
    before = list(counted.planned)
    hand.at = NOON
    scheduler.step()

    assert before == ["a", "b", "a"]
    assert Counter(run.task_id for run in runs(services)) == {"a": 1, "b": 1}


def test_an_edit_that_nobody_told_of_costs_those_beside_it_nothing(
    services: Services, scheduler: Scheduler, hand: Hand
) -> None:
    serve(services, named("a"), named("b"), named("c"))
    scheduler.step()
    edited = replace(named("b"), prompt="new")
    serve(services, named("a"), edited, named("c"))
    hand.at = NOON

    pause = scheduler.step()
    first = sorted(run.task_id for run in runs(services))
    scheduler.step()

    assert (first, pause < 1) == (["a", "c"], True)
    assert {run.task_id: run.digest for run in runs(services)}["b"] == edited.digest
    assert len(runs(services)) == 3


def test_more_schedules_than_a_commit_holds_all_fire(
    services: Services, scheduler: Scheduler, hand: Hand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("optio.processes.scheduler._MAX_SLOTS_PER_COMMIT", 3)
    serve(services, *(named(f"t{place}") for place in range(10)))
    scheduler.step()
    for place in range(2):
        hand.at = NOON + place * MINUTE
        scheduler.step()

    assert Counter(run.task_id for run in runs(services)) == {f"t{place}": 2 for place in range(10)}


def test_a_scheduler_that_is_stopped_in_the_moment_before_a_look_does_not_wait_for_the_next(services: Services) -> None:
    scheduler = Scheduler(services, longest=3600)

    class Late(threading.Event):
        def clear(self) -> None:
            scheduler._stopping = True
            self.set()
            super().clear()

    scheduler._wake = Late()
    scheduler.start()
    scheduler._thread.join(20)

    assert not scheduler._thread.is_alive()


# As processes


def test_a_new_task_is_heard_of_from_another_process(services: Services, hand: Hand) -> None:
    scheduler = Scheduler(services, clock=hand, longest=3600)
    elsewhere = LocalBroker(services.settings.data_dir / "bus")
    scheduler.start()
    try:
        eventually(lambda: scheduler._looked_at, what="the first look, which finds nothing")
        serve(services, timed())
        elsewhere.tell(Topic.REGISTRY)
        eventually(services.store.schedules, what="the schedule being kept")
    finally:
        scheduler.stop()
        elsewhere.close()


@pytest.mark.timeout(180)
def test_scheduler_processes_beside_a_server_fire_each_slot_once_through_a_kill_and_a_freeze(tmp_path: Path) -> None:
    data = tmp_path / "data"
    store, bus = open_store(data / "optio.db"), LocalBroker(data / "bus")
    store.add_token("t", "sha", "admin", "", None)
    parts = [Dev(tmp_path, command=command) for command in ("server", "scheduler", "scheduler")]
    server, frozen, killed = parts
    slot = datetime.now(UTC).replace(second=0, microsecond=0)

    def due_again() -> None:
        """Whatever was computed before: this slot is next."""
        store.change_schedules([replace(store.schedules()["timed"], next_fire=slot)], [])
        bus.tell(Topic.REGISTRY)

    try:
        server.start()
        frozen.start(ready=False)
        killed.start(ready=False)
        # They have begun, and end in good order when they are told to.
        eventually(lambda: frozen.output.read_text().count(" scheduler on ") == 2, what="the schedulers")
        server.write(
            "timed.yaml",
            TASK.format(config='{cronExpression: "* * * * *", misfire: all, paramMapping: {A: x}}', enabled="true"),
        )
        eventually(lambda: "timed" in store.schedules(), within=60, what="the edit reaching a scheduler")
        due_again()
        eventually(lambda: store.runs(RunFilter()).items, within=60, what="the slot")
        assert frozen.process is not None
        freeze_at_rest(frozen.process, data / "optio.db")
        due_again()
        eventually(lambda: store.schedules()["timed"].next_fire != slot, within=60, what="the other scheduler")
        killed.kill()
        os.kill(frozen.process.pid, signal.SIGCONT)
        due_again()
        eventually(lambda: store.schedules()["timed"].next_fire != slot, within=60, what="the scheduler that woke")
    finally:
        codes = [part.stop() for part in parts if part is not killed]
        fired = Counter(run.slot for run in store.runs(RunFilter()).items)
        bus.close()
        store.close()

    assert fired[slot] == 1
    assert set(fired.values()) == {1}
    assert codes == [0, 0]
