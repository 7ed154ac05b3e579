"""Warming: what the served tasks want reaches the executor, what that makes of it reaches the store, whatever is away."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from optio.broker.base import Topic
from optio.errors import StoreUnavailable
from optio.executors.base import WarmDemand
from optio.model.namespace import ALL_TASKS, WorkerScope
from optio.model.pool import Pool
from optio.model.registry import CompiledTask
from optio.model.room import SECRET_SOURCE, Delay
from optio.runs.gateway_access import GatewayRoute
from optio.runs.launching import gateway_of
from optio.runs.warm_pool_demand import WarmPoolSync
from optio.store.base import Store
from optio.wiring import Services
from tests.runs.support import accept, done, execute, working
from tests.store.build import at_most, serve
from tests.support import command_task, compiled, eventually

FULL = Delay(reason="quota", message="the namespace's quota is full")
NEVER = replace(FULL, patience=timedelta(minutes=5))
POOL = Pool(key="k", tasks=("pooled",), size=2, ready=1, starting=1)


class Keeper:
    """Processes, and places that are only said to be there."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.wanted: list[list[WarmDemand]] = []
        self.there: list[Pool] | None = None
        self.warm: list[bool] = []

    def keep_warm(self, wanted: Sequence[WarmDemand]) -> None:
        self.wanted.append(list(wanted))

    def pools(self) -> list[Pool] | None:
        return self.there

    def start(self, launch: Any) -> Any:
        self.warm.append(launch.warm)
        return self._inner.start(launch)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class Away:
    """A store that can go away, and counts what is kept."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.away = False
        self.kept = 0

    def __getattr__(self, name: str) -> Any:
        if self.away:
            raise StoreUnavailable("away")
        self.kept += name == "keep_pools"
        return getattr(self._store, name)


def pooled(name: str = "Pooled", size: int = 2, extra: str = "") -> CompiledTask:
    return command_task("true", name, f"warmPoolSize: {size}\n{extra}")


class Bench:
    """One worker's part, step by step."""

    def __init__(self, services: Services) -> None:
        self.store, self.keeper, self.now = Away(services.store), Keeper(services.executor), 0.0
        self.warming = WarmPoolSync(self.store, self.keeper, "here", clock=lambda: self.now)  # type: ignore[arg-type]

    def look(self) -> list[tuple[str, int]]:
        """What is wanted afterwards."""
        self.warming.look()
        return [(warm.task_id, warm.size) for warm in self.keeper.wanted[-1]]


@pytest.fixture
def bench(services: Services) -> Bench:
    return Bench(services)


def test_the_served_tasks_that_want_places_get_them(services: Services, bench: Bench) -> None:
    environment = "environment: {image: here/agent, setupCommands: [make]}\n"
    task = pooled(extra=environment)
    serve(services.store, task, command_task("true", "Plain"), pooled("Off duty", extra="enabled: false\n"))

    assert bench.look() == [("pooled", 2)]
    assert bench.keeper.wanted[0][0].environment == task.spec.environment


def test_an_edit_and_a_pause_change_what_is_wanted_and_nothing_else_does(services: Services, bench: Bench) -> None:
    serve(services.store, pooled(), pooled("Other", 1))
    assert bench.look() == [("other", 1), ("pooled", 2)]
    bench.look()
    assert len(bench.keeper.wanted) == 1

    serve(services.store, pooled(size=5), pooled("Other", 1))
    assert bench.look() == [("other", 1), ("pooled", 5)]
    services.store.pause("pooled", "for now", "ann")
    assert bench.look() == [("other", 1)]
    services.store.resume("pooled")
    assert bench.look() == [("other", 1), ("pooled", 5)]
    serve(services.store)
    assert bench.look() == []


def test_who_begins_where_nothing_is_wanted_says_so_once(services: Services, bench: Bench) -> None:
    """Another worker may have left places that nobody wants any more."""
    serve(services.store)

    assert [bench.look(), bench.look()] == [[], []]
    assert len(bench.keeper.wanted) == 1


def test_what_is_wanted_is_said_again_for_an_executor_that_could_not_do_it(services: Services, bench: Bench) -> None:
    serve(services.store, pooled())
    bench.look()
    bench.now += 29
    bench.look()
    assert len(bench.keeper.wanted) == 1
    bench.now += 1

    bench.look()

    assert [[warm.size for warm in each] for each in bench.keeper.wanted] == [[2], [2]]


def test_a_worker_keeps_pools_of_the_tasks_in_its_scope_alone(services: Services) -> None:
    serve(services.store, replace(pooled(), namespace="runs-a"))
    wanted = {}
    for scope in (WorkerScope("runs-a"), WorkerScope("runs-b"), WorkerScope(""), ALL_TASKS):
        keeper = Keeper(services.executor)

        WarmPoolSync(services.store, keeper, "here", scope).look()  # type: ignore[arg-type]

        wanted[scope.namespace] = [warm.size for warm in keeper.wanted[-1]]
    assert wanted == {"runs-a": [2], "runs-b": [], "": [], None: [2]}


def test_only_places_of_agents_that_are_led_through_the_gateway_reach_it(services: Services) -> None:
    agent = "type: standalone\nname: {}\nagentRuntime: claude-code\npromptTemplate: x\nwarmPoolSize: 1\n{}"
    led = compiled(agent.format("Led", "environment: {secrets: [ANTHROPIC_API_KEY]}\n"))
    serve(services.store, led, compiled(agent.format("Subscription", "")), pooled("Command"))
    context = replace(services.parts(), gateway=GatewayRoute("http://gateway:8100", "required"))
    keeper = Keeper(services.executor)

    WarmPoolSync(services.store, keeper, "here", gateway_of=partial(gateway_of, context)).look()  # type: ignore[arg-type]

    assert {demand.task_id: demand.gateway for demand in keeper.wanted[-1]} == {
        "led": "http://gateway:8100",
        "subscription": None,
        "command": None,
    }


def give_back(services: Services, why: Delay = FULL, place: str = "here") -> str:
    """Let the oldest run of `Plain` find no room; its id."""
    (claim,) = services.store.claim("w", timedelta(seconds=30), at_most(1), place=place, reason="starting")
    services.store.give_back(claim.run.lease, why, [])
    return claim.run.id


def test_idle_places_make_way_while_a_run_waits_for_room_and_a_minute_longer(services: Services, bench: Bench) -> None:
    plain = command_task("true", "Plain")
    serve(services.store, pooled(), plain)
    assert bench.look() == [("pooled", 2)]
    accept(services, plain)

    run_id = give_back(services)
    bench.keeper.there = [replace(POOL, size=0)]
    assert bench.look() == [("pooled", 0)]
    (report,) = services.store.pool_reports()
    bench.now += 300
    assert bench.look() == [("pooled", 0)]
    services.store.cancel(run_id, actor="ann")
    bench.now += 59
    assert bench.look() == [("pooled", 0)]
    bench.now += 1

    assert bench.look() == [("pooled", 2)]
    assert [pool.problem for pool in report.pools] == ["it makes way for runs that wait for room"]


UNREADABLE = Delay(reason=SECRET_SOURCE, message="the secret cannot be read")


@pytest.mark.parametrize(
    ("why", "place"),
    [(NEVER, "here"), (FULL, "elsewhere"), (UNREADABLE, "here")],
    ids=["no node could", "elsewhere", "no room lacks"],
)
def test_idle_places_stay_where_their_room_is_of_no_use_to_the_run_that_waits(
    services: Services, bench: Bench, why: Delay, place: str
) -> None:
    plain = command_task("true", "Plain")
    serve(services.store, pooled(), plain)
    accept(services, plain)

    give_back(services, why, place)

    assert bench.look() == [("pooled", 2)]


def test_a_store_that_is_away_empties_no_pool(services: Services, bench: Bench) -> None:
    serve(services.store, pooled())
    bench.store.away = True
    with pytest.raises(StoreUnavailable):
        bench.look()
    assert bench.keeper.wanted == []  # who does not know yet says nothing
    bench.store.away = False
    bench.look()
    bench.store.away = True

    for _ in range(3):
        with pytest.raises(StoreUnavailable):
            bench.look()

    assert [[warm.size for warm in each] for each in bench.keeper.wanted] == [[2]]


def test_what_is_said_of_the_pools_is_kept_when_it_changes_and_every_half_minute(services: Services, bench: Bench) -> None:
    serve(services.store)
    bench.look()
    assert bench.store.kept == 0

    bench.keeper.there = [POOL]
    bench.look()
    bench.now += 29
    bench.look()
    assert bench.store.kept == 1
    bench.now += 1
    bench.look()
    assert bench.store.kept == 2
    bench.keeper.there = [replace(POOL, ready=2, starting=0)]
    bench.look()
    assert bench.store.kept == 3

    (report,) = services.store.pool_reports()
    assert (report.place, report.pools) == ("here", (replace(POOL, ready=2, starting=0),))


def test_who_keeps_them_again_says_so_at_once(services: Services, bench: Bench) -> None:
    serve(services.store)
    bench.keeper.there = [POOL]
    bench.look()
    bench.keeper.there = None
    bench.look()
    bench.keeper.there = [POOL]

    bench.look()

    assert bench.store.kept == 2


def test_what_could_not_be_kept_is_kept_later(services: Services, bench: Bench) -> None:
    serve(services.store)
    bench.look()
    bench.keeper.there = [POOL]
    bench.store.away = True
    with pytest.raises(StoreUnavailable):
        bench.look()
    bench.store.away = False

    bench.look()

    assert bench.store.kept == 1


# In a worker


@contextlib.contextmanager
def keeping(services: Services) -> Iterator[tuple[Services, Keeper]]:
    """A worker whose executor keeps places."""
    keeper = Keeper(services.executor)
    here = replace(services, executor=keeper, settings=replace(services.settings, executor="kubernetes"))
    with working(here):
        yield here, keeper


def _wanted(keeper: Keeper) -> Callable[[], bool]:
    return lambda: bool(keeper.wanted) and [warm.size for warm in keeper.wanted[-1]] == [2]


def test_a_worker_keeps_the_pools_of_what_is_served_and_leaves_them_to_the_next_one(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("optio.processes.worker._POLL_S", 600.0)  # nothing is found by looking: the hint tells it
    serve(services.store, command_task("true"))
    with keeping(services) as (here, keeper):
        eventually(lambda: keeper.wanted == [[]], what="a first look")
        serve(services.store, pooled())
        keeper.there = [POOL]
        services.broker.tell(Topic.REGISTRY)
        eventually(_wanted(keeper), what="the pool")
        eventually(services.store.pool_reports, what="the report")
        assert here.metrics is not None
        assert 'optio_pool_places{pool="k",state="ready"} 1.0' in here.metrics.text()[0].decode()

    # The next worker finds the places: who stops takes none away.
    assert _wanted(keeper)()


def test_without_a_hint_the_pools_follow_within_seconds(services: Services) -> None:
    serve(services.store, command_task("true"))
    with keeping(services) as (_, keeper):
        eventually(lambda: keeper.wanted == [[]], what="a first look")
        serve(services.store, pooled())

        eventually(_wanted(keeper), within=10, what="the pool")


def test_a_worker_of_processes_looks_for_no_pools(services: Services) -> None:
    serve(services.store, pooled())
    keeper = Keeper(services.executor)
    with working(replace(services, executor=keeper)) as worker:
        done(services, accept(services, pooled()))

        assert not any(thread.name == "pool_loop" for thread in worker._threads)

    assert keeper.wanted == []


def test_a_mistake_in_one_look_ends_no_loop(services: Services) -> None:
    serve(services.store, pooled())
    keeper = Keeper(services.executor)
    failures = iter([RuntimeError("a mistake of ours")])

    def mistaken(wanted: Sequence[WarmDemand]) -> None:
        for failure in failures:
            raise failure
        keeper.wanted.append(list(wanted))

    keeper.keep_warm = mistaken  # type: ignore[method-assign]
    here = replace(services, executor=keeper, settings=replace(services.settings, executor="kubernetes"))
    with working(here):
        eventually(_wanted(keeper), within=10, what="the pool")


# In an attempt


@pytest.mark.parametrize("size", [0, 1])
def test_a_launch_says_whether_a_place_may_be_ready(services: Services, size: int) -> None:
    keeper = Keeper(services.executor)

    run = execute(services, pooled(size=size), executor=keeper)

    assert keeper.warm == [size > 0]
    assert [attempt.began for attempt in services.store.attempts(run.id)] == ["process"]


def test_how_an_attempt_began_is_kept_and_counted(services: Services) -> None:
    class Ready(Keeper):
        def start(self, launch: Any) -> Any:
            handle = self._inner.start(launch)
            begun = handle.begun
            handle.begun = lambda: (found := begun()) and replace(found, how="warm")
            return handle

    run = execute(services, pooled(), executor=Ready(services.executor))

    (attempt,) = services.store.attempts(run.id)
    assert (attempt.began, attempt.agent_started_at is not None) == ("warm", True)
    assert services.metrics is not None
    assert 'optio_starts_total{how="warm",task="pooled"} 1.0' in services.metrics.text()[0].decode()


def test_many_pools_are_few_metrics() -> None:
    from optio.processes.worker import _pool_readings

    pools = [Pool(key=f"k{number:03}", tasks=("t",), size=1 + number // 100, ready=1, starting=0) for number in range(200)]

    readings = list(_pool_readings(pools))

    names = {reading.labels["pool"] for reading in readings}
    assert len(names) == 51
    total = {state: sum(r.value for r in readings if r.labels["state"] == state) for state in ("wanted", "ready", "starting")}
    assert total == {"wanted": 300, "ready": 200, "starting": 0}
    assert {f"k{number:03}" for number in range(100, 150)} < names
