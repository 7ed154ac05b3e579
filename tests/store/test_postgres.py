"""The PostgreSQL driver under faults: refused, silent, cut, restarted, full, locked, read-only, crowded."""

import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest

from optio.errors import CommitUnknown, Conflict, Invalid, LeaseLost, NotFound, OptioError, SettingsError, StoreUnavailable
from optio.model.run import LogKind, Outcome, RunState
from optio.model.usage import Meter
from optio.store.postgres import pool as pg_pool
from optio.store.postgres import postgres_store
from optio.store.postgres import url as pg_url
from optio.store.postgres.pool import MAX_CONNECTIONS
from optio.store.postgres.postgres_store import open_store
from optio.store.sql import daily_totals
from optio.store.sql.store import SqlStore
from optio.store.sql.transaction import Transaction
from optio.store.values import AdmissionView, AgentStart, IdempotencyKey, RetentionPolicy, RunFilter, ScheduleRow
from tests.contracts.test_store_schedules import firing
from tests.proxy import FaultProxy
from tests.runs.support import accept, execution, log_of
from tests.runs.support import opened as services_on
from tests.servers import PostgresServer
from tests.store.build import LEASE, START, claimed, delivery, end, new_run, queued, say, serve, task
from tests.support import command_task, eventually

# What a call may take beyond its patience: an attempt to connect, and a machine that is busy.
A_LITTLE = 4.0
# The whole statement; `READ COMMITTED` is none.
COMMIT = b"COMMIT\0"


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """A server of these tests alone, for it is harmed."""
    with PostgresServer() as running:
        yield running


@pytest.fixture
def proxy(server: PostgresServer) -> Iterator[FaultProxy]:
    with FaultProxy(server.port) as standing:
        yield standing


Open = Callable[..., SqlStore]


@pytest.fixture
def opened(server: PostgresServer) -> Iterator[Open]:
    """Opens stores on one empty schema, each with settings of its session; all are closed at the end."""
    with ExitStack() as stack:
        url = stack.enter_context(server.lent_schema())

        def another(
            *, port: int | None = None, hosts: int = 1, patience: float = pg_url.CALL_TIMEOUT_S, **settings: str
        ) -> SqlStore:
            target = url.replace(f":{server.port}/", f":{port}/") if port else url
            target = target.replace(f"@127.0.0.1:{port}/", "@" + ",".join([f"127.0.0.1:{port}"] * hosts) + "/")
            target += "".join(quote(f" -c {name}={value}") for name, value in settings.items())
            return stack.enter_context(closing(open_store(target, patience=patience)))

        yield another


@pytest.fixture
def store(opened: Open, proxy: FaultProxy) -> SqlStore:
    """A store behind the proxy."""
    return opened(port=proxy.port)


@contextmanager
def outsider(server: PostgresServer, store: SqlStore) -> Iterator[psycopg.Connection[Any]]:
    """Somebody else's connection to the same schema."""
    (path,) = store._engine.peek(lambda tx: tx.one("SELECT current_schema() AS it")).values()
    with psycopg.connect(server.url, autocommit=True, options=f"-c search_path={path}") as connection:
        yield connection


def sessions(server: PostgresServer) -> int:
    """Optio's, as the server sees them."""
    with psycopg.connect(server.url) as connection:
        row = connection.execute("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'optio'").fetchone()
    assert row is not None
    return int(row[0])


def warm(store: SqlStore, count: int = MAX_CONNECTIONS) -> None:
    """Make it open so many connections, all idle afterwards."""
    together = threading.Barrier(count)

    def use(tx: Transaction) -> None:
        tx.one("SELECT 1")
        together.wait(20)

    with ThreadPoolExecutor(count) as pool:
        for future in [pool.submit(store._engine.peek, use) for _ in range(count)]:
            future.result(20)


def seconds(call: Callable[[], object]) -> float:
    """How long a call took that the database did not answer."""
    began = time.monotonic()
    with pytest.raises(StoreUnavailable):
        call()
    return time.monotonic() - began


def once(key: str) -> IdempotencyKey:
    return IdempotencyKey("runs:job", key, "sha")


def sleep(tx: Transaction, duration: float = 30) -> None:
    tx.one("SELECT pg_sleep(:duration)", {"duration": duration})


@contextmanager
def one_batch(store: SqlStore) -> Iterator[None]:
    """What is written within this is one commit: both writers are kept busy until its end, and only one of them takes it."""
    gates = [threading.Event(), threading.Event()]
    for gate in gates:
        begun = threading.Event()
        store._engine.write(partial(_block, begun, gate))
        assert begun.wait(20)
    yield
    last = store._engine.write(lambda tx: None)
    gates[0].set()
    last.exception(20)
    gates[1].set()


def _block(begun: threading.Event, gate: threading.Event, tx: Transaction) -> None:
    begun.set()
    gate.wait(20)


# Refused, silent, cut


def test_a_server_that_is_away_accepts_nothing_and_the_first_call_after_it_works(store: SqlStore, proxy: FaultProxy) -> None:
    kept = queued(store)
    proxy.refuse()

    refused = [new_run() for _ in range(3)]
    for run in refused:
        with pytest.raises(StoreUnavailable, match=r"cannot be used: .*Connection refused .*check that the server is running"):
            store.accept(run).result(20)
    for call in (lambda: store.cancel(kept, "eve"), lambda: store.run(kept), store.next_due, store.check):
        with pytest.raises(StoreUnavailable):
            call()
    proxy.pass_through()

    assert store.run(kept).state is RunState.QUEUED
    for run in refused:
        with pytest.raises(NotFound):
            store.run(run.id)
    assert store.accept(new_run()).result(10).first


def test_calls_into_a_black_hole_end_in_time_and_leak_nothing(opened: Open, proxy: FaultProxy, server: PostgresServer) -> None:
    store = opened(port=proxy.port, patience=1.0)
    kept = queued(store)
    warm(store)
    proxy.blackhole()
    calls: list[Callable[[], object]] = [
        lambda: store.accept(new_run()).result(20),
        lambda: store.cancel(kept, "eve"),
        lambda: store.run(kept),
        store.next_due,
    ]

    with ThreadPoolExecutor(40) as pool:
        took = list(pool.map(seconds, calls * 10))

    assert max(took) < 1.0 + A_LITTLE
    proxy.pass_through()
    eventually(lambda: _answers(store), within=10, what="an answer after the black hole")
    assert store.accept(new_run()).result(10).first
    warm(store)
    eventually(lambda: sessions(server) <= MAX_CONNECTIONS, what="the end of the sessions that were cut")


def _answers(store: SqlStore) -> bool:
    try:
        store.next_due()
    except StoreUnavailable:
        return False
    return True


def test_once_a_server_is_known_to_be_silent_one_call_asks_it_and_the_others_are_told_at_once(
    opened: Open, proxy: FaultProxy
) -> None:
    store = opened(port=proxy.port, patience=1.0)
    proxy.blackhole()
    seconds(store.next_due)

    began = time.monotonic()
    with ThreadPoolExecutor(10) as pool:
        # A hundred calls on ten threads: were each to wait for its time, this would take ten times as long.
        took = list(pool.map(lambda _: seconds(store.next_due), range(100)))

    assert max(took) < 1.0 + A_LITTLE
    assert sum(each > 0.5 for each in took) < 30
    assert time.monotonic() - began < 9


def test_a_call_has_one_deadline_for_all_its_steps_whenever_it_comes_to_a_half_open_server(
    opened: Open, proxy: FaultProxy
) -> None:
    """Waiting behind a commit that hangs, waiting for a connection, connecting and the statement are one time, not one each.

    The server's name has two addresses, as `localhost` has: an attempt to connect takes twice the time of one."""
    store = opened(port=proxy.port, hosts=2)
    kept = queued(store)
    warm(store)
    proxy.blackhole()
    calls: list[Callable[[], object]] = [lambda: store.accept(new_run()).result(20), lambda: store.run(kept)]

    def later(place: int) -> float:
        time.sleep(place * 0.05)
        return seconds(calls[place % 2])

    with ThreadPoolExecutor(60) as pool:
        took = list(pool.map(later, range(60)))

    # On a quiet machine the slowest ends after 5.2 s; with a time for each step it was 8.9 s.
    assert max(took) < 5.0 + 2.0


def test_an_idle_connection_that_died_without_a_word_costs_one_call_and_not_one_for_each(
    opened: Open, proxy: FaultProxy
) -> None:
    store = opened(port=proxy.port, patience=1.0)
    warm(store)
    old = proxy.connections
    proxy.blackhole()
    seconds(store.next_due)
    proxy.pass_through()

    # Those that were idle are not tried one by one.
    eventually(lambda: _answers(store), within=5, what="an answer")
    assert store.next_due() is None
    assert proxy.connections < old


def test_a_slow_network_is_only_slow(store: SqlStore, proxy: FaultProxy) -> None:
    proxy.delay(0.05)

    assert store.accept(new_run()).result(20).first


@pytest.mark.parametrize("answered", [True, False], ids=["done", "not done"])
def test_a_commit_whose_answer_is_lost_is_told_as_unknown_and_the_same_key_gives_the_one_run(
    store: SqlStore, proxy: FaultProxy, answered: bool
) -> None:
    first, again = new_run(), new_run()
    proxy.cut_at(COMMIT, answered=answered)

    with pytest.raises(CommitUnknown, match="went away during a commit"):
        store.accept(first, once=once("k"), delivery=delivery("k")).result(20)
    given = store.accept(again, once=once("k"), delivery=delivery("k")).result(20)

    assert given.run_id == (first.id if answered else again.id)
    assert given.first is not answered
    assert [run.id for run in store.runs(RunFilter()).items] == [given.run_id]
    assert len(store.deliveries().items) == 1


def test_all_of_a_commit_share_its_unknown_end_and_repeat_without_harm(store: SqlStore, proxy: FaultProxy) -> None:
    asked = [(new_run(), once(f"k-{place}")) for place in range(20)]
    with one_batch(store):
        store._engine.write(lambda tx: proxy.cut_at(COMMIT))
        futures = [store.accept(run, once=key) for run, key in asked]
    assert {type(future.exception(20)) for future in futures} == {CommitUnknown}

    again = [store.accept(new_run(), once=key).result(20).run_id for _, key in asked]

    assert again == [run.id for run, _ in asked]
    assert len(store.runs(RunFilter(), limit=100).items) == 20


def test_a_run_whose_commits_lose_their_answers_has_each_line_once_and_one_end(
    proxy: FaultProxy, server: PostgresServer, tmp_path: Path
) -> None:
    lines = [f"line {number}" for number in range(40)]
    source = "import time\nfor number in range(40): print('line', number, flush=True); time.sleep(0.05)"
    url = server.schema().replace(f":{server.port}/", f":{proxy.port}/")
    with services_on(tmp_path, {"OPTIO_DATABASE_URL": url}) as services:
        run_id = accept(services, command_task(["python3", "-c", source]))
        running = execution(services, run_id)
        over = threading.Event()
        cuts: list[int] = []

        def harm() -> None:
            # Not again before what was cut is repeated.
            while not over.wait(0.3) and len(cuts) < 5:
                proxy.cut_at(COMMIT)
                while proxy.armed and not over.is_set():
                    time.sleep(0.01)
                cuts.append(1)

        with ThreadPoolExecutor(1) as pool:
            harming = pool.submit(harm)
            try:
                running()
            finally:
                over.set()
            harming.result(20)
        proxy.pass_through()

        run = services.store.run(run_id)
        assert (run.state, run.reason, run.attempt) == (RunState.COMPLETED, "ok", 1)
        assert log_of(services, run_id, LogKind.OUTPUT) == [line.encode() for line in lines]
        assert len(cuts) >= 3


@pytest.mark.parametrize("fault", ["refuse", "blackhole"])
def test_an_agent_goes_on_while_the_database_is_away_and_nothing_of_it_is_lost(
    proxy: FaultProxy, server: PostgresServer, tmp_path: Path, fault: str
) -> None:
    source = "import time\nfor number in range(30): print(number, flush=True); time.sleep(0.05)"
    url = server.schema().replace(f":{server.port}/", f":{proxy.port}/")
    with services_on(tmp_path, {"OPTIO_DATABASE_URL": url}) as services:
        run_id = accept(services, command_task(["python3", "-c", source]))
        running = execution(services, run_id)
        with ThreadPoolExecutor(1) as pool:
            working = pool.submit(running)
            eventually(lambda: len(log_of(services, run_id)) > 5, what="the first lines")
            getattr(proxy, fault)()
            time.sleep(1.0)
            proxy.pass_through()
            working.result(30)

        run = services.store.run(run_id)
        assert (run.state, run.reason, run.attempt) == (RunState.COMPLETED, "ok", 1)
        assert log_of(services, run_id, LogKind.OUTPUT) == [str(number).encode() for number in range(30)]


def test_a_connection_that_is_cut_in_an_operation_has_changed_nothing(store: SqlStore, proxy: FaultProxy) -> None:
    run = new_run()
    proxy.cut_after(20, "server")

    # It was idle before, so it may have been dead already: the operation is simply done on another.
    assert store.accept(run).result(20).first

    def change(tx: Transaction) -> None:
        tx.run("UPDATE runs SET reason = 'changed' WHERE id = :id", {"id": run.id})
        proxy.refuse()
        tx.one("SELECT 1")

    with pytest.raises(StoreUnavailable):
        store._engine.change(change)
    proxy.pass_through()
    assert store.run(run.id).reason == "manual"


# Restarted


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_a_server_that_was_restarted_under_idle_connections_is_not_noticed(
    opened: Open, server: PostgresServer, how: str
) -> None:
    store = opened()
    warm(store)
    run_id = queued(store)
    getattr(server, how)()
    server.start()

    with ThreadPoolExecutor(MAX_CONNECTIONS) as pool:
        found = list(pool.map(lambda _: store.run(run_id).id, range(3 * MAX_CONNECTIONS)))
    accepted = [store.accept(new_run()) for _ in range(10)]

    assert found == [run_id] * len(found)
    assert all(future.result(10).first for future in accepted)


def test_what_was_accepted_is_there_after_the_server_was_killed(opened: Open, server: PostgresServer) -> None:
    store = opened()
    stop = threading.Event()
    kept: list[str] = []

    def accept() -> None:
        while not stop.is_set():
            run = new_run()
            try:
                store.accept(run).result(20)
            except StoreUnavailable:
                time.sleep(0.02)
                continue
            kept.append(run.id)

    with ThreadPoolExecutor(4) as pool:
        workers = [pool.submit(accept) for _ in range(4)]
        try:
            for _ in range(2):
                before = len(kept)
                eventually(lambda before=before: len(kept) > before + 20, what="runs to be accepted")  # type: ignore[misc]
                server.kill()
                server.start()
        finally:
            stop.set()
        for worker in workers:
            worker.result(20)

    there = {run.id for run in _every_run(store)}
    assert set(kept) <= there


def _every_run(store: SqlStore) -> Iterator[Any]:
    cursor = None
    while True:
        page = store.runs(RunFilter(), cursor=cursor, limit=1000)
        yield from page.items
        if page.next is None:
            return
        cursor = page.next


# Limits of time


def test_every_session_has_its_limits_and_the_url_has_the_last_word(opened: Open) -> None:
    names = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "tcp_keepalives_idle")

    def shown(store: SqlStore) -> list[str]:
        return [store._engine.peek(lambda tx, n=name: tx.one(f"SHOW {n}")[n]) for name in names]  # type: ignore[misc]

    assert shown(opened()) == ["4500ms", "3s", "5s", "30"]
    assert shown(opened(statement_timeout="17s"))[0] == "17s"


def test_a_statement_that_takes_too_long_is_ended_by_the_server_and_the_connection_lives(opened: Open) -> None:
    store = opened(statement_timeout="200ms")
    store.next_due()

    with pytest.raises(StoreUnavailable, match="statement timeout"):
        store._engine.read(sleep)

    (held,) = store._engine._pool._idle  # type: ignore[attr-defined]
    assert store._engine.peek(lambda tx: tx.one("SELECT 7 AS it"))["it"] == 7
    assert store._engine._pool._idle == [held]  # type: ignore[attr-defined]


def test_who_waits_for_a_lock_in_vain_is_told_and_harms_no_other_of_its_commit(opened: Open, server: PostgresServer) -> None:
    store = opened(lock_timeout="300ms")
    queued(store)
    with outsider(server, store) as other, other.transaction():
        other.execute("INSERT INTO once VALUES ('runs:job', 'taken', 'sha', 'x', 0)")
        with one_batch(store):
            before = [store.accept(new_run(), once=once(f"b{n}")) for n in range(5)]
            blocked = [store.accept(new_run(), once=once("taken")) for _ in range(2)]
            after = [store.accept(new_run(), once=once(f"a{n}")) for n in range(5)]

        for future in blocked:
            with pytest.raises(StoreUnavailable, match="another transaction holds the lock"):
                future.result(20)
        assert all(future.result(20).first for future in before + after)


def test_a_slot_whose_schedule_somebody_holds_keeps_no_other_of_its_commit_waiting(
    opened: Open, server: PostgresServer
) -> None:
    store = opened(lock_timeout="300ms")
    tasks = [task(f"T{place}") for place in range(6)]
    serve(store, *tasks)
    store.change_schedules([ScheduleRow(task_id=each.id, fingerprint="x", next_fire=START) for each in tasks], [])
    failures: list[int] = []
    store.watch(lambda: failures.append(1))
    fire = store.ready([firing(START, of=each) for each in tasks])
    with outsider(server, store) as other, other.transaction():
        other.execute("SELECT * FROM schedules WHERE task_id = 't3' FOR UPDATE")

        results = fire().result(20)

    assert [len(each) if isinstance(each, list) else type(each) for each in results] == [1, 1, 1, StoreUnavailable, 1, 1]
    assert [row.verdict for each in tasks for row in store.slots(each.id).items] == ["fired"] * 5
    assert failures == [1]


def test_a_run_that_is_cancelled_while_a_claim_decides_is_left_out_of_it(opened: Open) -> None:
    worker, other = opened(), opened()
    gone, stays = queued(worker), queued(worker)

    def admit(view: AdmissionView) -> list[str]:
        other.cancel(gone, "eve")
        return [gone, stays]

    claims = worker.claim("w", LEASE, admit)

    assert [claim.run.id for claim in claims] == [stays]
    assert other.run(gone).state is RunState.CANCELLED


def test_a_transaction_whose_process_stands_still_lets_go_of_its_locks(opened: Open) -> None:
    store = opened(idle_in_transaction_session_timeout="200ms")
    other = opened()
    released = threading.Event()
    tries: list[int] = []

    def stand_still(tx: Transaction) -> Any:
        tx.lock("admission")
        tries.append(1)
        released.wait(20)
        return tx.one("SELECT 1")

    with ThreadPoolExecutor(1) as pool:
        standing = pool.submit(store._engine.change, stand_still)
        eventually(lambda: tries, what="the lock")
        other._engine.change(lambda tx: tx.lock("admission"))
        released.set()
        # Nothing of it was done, so it is done again.
        assert standing.result(20) is not None
    assert len(tries) == 2


def test_of_two_that_begin_on_an_empty_database_the_second_finds_the_tables_of_the_first(
    server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = server.schema()
    lock = postgres_store._PostgresTransaction.lock
    second: list[Future[SqlStore]] = []

    def somebody_waits() -> bool:
        with psycopg.connect(server.url) as other:
            return other.execute("SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted").fetchone() is not None

    def lock_and_wait(tx: postgres_store._PostgresTransaction, name: str) -> None:
        lock(tx, name)
        monkeypatch.setattr(postgres_store._PostgresTransaction, "lock", lock)
        second.append(pool.submit(open_store, url))
        eventually(somebody_waits, what="the second, which waits for the first")

    monkeypatch.setattr(postgres_store._PostgresTransaction, "lock", lock_and_wait)
    with ThreadPoolExecutor(1) as pool, closing(open_store(url)) as store:
        (other,) = second
        other.result(20).close()
        store.check()


def test_a_deadlock_is_nobodys_fault_and_both_operations_are_done(opened: Open) -> None:
    store = opened(deadlock_timeout="50ms")
    one, two = queued(store), queued(store)
    together = threading.Barrier(2)
    tries: list[str] = []

    def lock_both(first: str, second: str) -> Callable[[Transaction], None]:
        def operation(tx: Transaction) -> None:
            tries.append(first)
            tx.hold("SELECT id FROM runs WHERE id = :id", {"id": first})
            if len(tries) <= 2:
                together.wait(20)
            tx.hold("SELECT id FROM runs WHERE id = :id", {"id": second})
            tx.run("UPDATE runs SET message = message || :me WHERE id = :id", {"me": first, "id": second})

        return operation

    with ThreadPoolExecutor(2) as pool:
        for future in [
            pool.submit(store._engine.change, lock_both(one, two)),
            pool.submit(store._engine.change, lock_both(two, one)),
        ]:
            future.result(20)

    assert 3 <= len(tries) <= 6
    assert (store.run(one).message, store.run(two).message) == (two, one)


def test_servers_that_get_the_same_deliveries_in_unlike_order_never_deadlock(server: PostgresServer) -> None:
    """Some of a new definition, some sent again, some refused: in one commit they take what others wait for in one order."""

    def told() -> int:
        with psycopg.connect(server.url, autocommit=True) as connection:
            found = connection.execute("SELECT deadlocks FROM pg_stat_database WHERE datname = 'postgres'").fetchone()
        assert found is not None
        return int(found[0])

    before = told()
    for _ in range(4):
        with server.lent_schema() as url, ExitStack() as stack:
            stores = [stack.enter_context(closing(open_store(url + "%20-c%20deadlock_timeout%3D50ms"))) for _ in range(3)]
            serve(stores[0], task())

            def send(place: int, stores: list[SqlStore] = stores) -> None:
                store, futures = stores[place % 3], []
                for number in random.Random(place).sample(range(60), 60):
                    futures.append(store.accept(new_run(), delivery=delivery(f"k-{number}")))
                    if number % 3 == 0:
                        store.count_refusals({("p", "bad_signature", "task"): 1, ("q", "bad_signature", "task"): 1})
                for future in futures:
                    future.result(30)

            with ThreadPoolExecutor(6) as pool:
                list(pool.map(send, range(6)))
            runs = stores[0].runs(RunFilter(), limit=100).items
            (accepted,) = {each.verdict for each in stores[0].deliveries(limit=100).items}
            counted = stores[0].refusals(since=START - timedelta(days=3650))

        assert (len(runs), accepted) == (60, "accepted")
        assert [(each.path, each.requests) for each in counted] == [("p", 120), ("q", 120)]

    # A session tells what it counted when it ends.
    assert told() == before


def test_no_connection_that_was_given_back_is_ever_cut(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under calls that end at the very moment when their time is over."""
    store = opened(patience=0.2, statement_timeout="0")
    pool = store._engine._pool  # type: ignore[attr-defined]
    cut: list[bool] = []
    shut = pg_pool._PooledConnection.shut

    def noted(held: Any) -> None:
        cut.append(held in pool._idle)
        shut(held)

    monkeypatch.setattr(pg_pool._PooledConnection, "shut", noted)
    stop, limit = time.monotonic() + 2, time.monotonic() + 30
    finished: list[float] = []
    wrong: list[Exception] = []

    def work(place: int) -> None:
        duration = 0.15
        while time.monotonic() < stop or (time.monotonic() < limit and not (finished and len(cut) > 10)):
            duration = 0.15 + (duration + 0.013 * place) % 0.2
            try:
                store._engine.peek(partial(sleep, duration=duration))
                finished.append(duration)
            except StoreUnavailable:
                pass
            except Exception as err:
                wrong.append(err)

    with ThreadPoolExecutor(MAX_CONNECTIONS) as threads:
        for future in [threads.submit(work, place) for place in range(MAX_CONNECTIONS)]:
            future.result(60)

    assert wrong == []
    assert len(cut) > 10
    assert not any(cut)
    assert finished


def test_closing_ends_what_is_queued_and_lets_calls_that_are_out_come_home(opened: Open, server: PostgresServer) -> None:
    store = opened()
    before = sessions(server)
    out = threading.Event()

    def slow(tx: Transaction) -> int:
        out.set()
        sleep(tx, 0.5)
        return 1

    with ThreadPoolExecutor(2) as pool:
        reading = pool.submit(store._engine.read, slow)
        out.wait(10)
        futures = [store.accept(new_run()) for _ in range(100)]
        store.close()
        assert reading.result(20) == 1

    assert all(future.result(0).first for future in futures)
    for call in (store.next_due, lambda: store.accept(new_run()).result(0)):
        with pytest.raises(StoreUnavailable, match="closed"):
            call()
    eventually(lambda: sessions(server) < max(1, before), what="the sessions to end")
    eventually(lambda: not [t for t in threading.enumerate() if t.name.startswith("store-w")], what="the threads to end")


def test_closing_in_a_black_hole_takes_no_longer_than_a_call(opened: Open, proxy: FaultProxy) -> None:
    store = opened(port=proxy.port, patience=1.0)
    proxy.blackhole()
    futures = [store.accept(new_run()) for _ in range(200)]
    began = time.monotonic()

    store.close()

    assert time.monotonic() - began < 1.0 + A_LITTLE
    assert all(isinstance(future.exception(0), StoreUnavailable) for future in futures)


# Full, read-only, crowded


@pytest.fixture
def setting(server: PostgresServer) -> Iterator[Callable[[str, str], None]]:
    """Changes a setting of the whole server while it runs, until the end of the test."""
    changed: list[str] = []

    def alter(command: str) -> None:
        with psycopg.connect(server.url, autocommit=True, options="-c default_transaction_read_only=off") as connection:
            connection.execute(command)
            connection.execute("SELECT pg_reload_conf()")

    def change(name: str, value: str) -> None:
        changed.append(name)
        alter(f"ALTER SYSTEM SET {name} = '{value}'")

    yield change
    for name in changed:
        alter(f"ALTER SYSTEM RESET {name}")


def test_a_database_that_turns_read_only_accepts_nothing_reads_on_and_heals(
    opened: Open, setting: Callable[[str, str], None]
) -> None:
    store = opened()
    kept = queued(store)
    setting("default_transaction_read_only", "on")
    eventually(lambda: _says(store.check, "read-only"), what="the check to say so")

    with pytest.raises(StoreUnavailable, match="is read-only: check whether it is a standby"):
        store.accept(new_run()).result(20)
    with pytest.raises(StoreUnavailable, match="read-only"):
        store.cancel(kept, "eve")
    assert store.run(kept).state is RunState.QUEUED
    setting("default_transaction_read_only", "off")

    eventually(lambda: not _says(store.check, "read-only"), what="the check to pass")
    assert store.accept(new_run()).result(10).first


def test_sessions_that_lead_to_a_server_that_is_the_primary_no_more_are_left_for_new_ones(opened: Open) -> None:
    store = opened()
    together = threading.Barrier(MAX_CONNECTIONS)

    def demote(tx: Transaction) -> None:
        tx.run("SET default_transaction_read_only = on")
        together.wait(20)

    with ThreadPoolExecutor(MAX_CONNECTIONS) as pool:
        for future in [pool.submit(store._engine.peek, demote) for _ in range(MAX_CONNECTIONS)]:
            future.result(20)

    assert store.accept(new_run()).result(20).first
    assert all(store.accept(new_run()).result(20).first for _ in range(10))
    store.check()


def _says(call: Callable[[], object], words: str) -> bool:
    try:
        call()
    except OptioError as err:
        return words in str(err)
    return False


FULL_DISK = """
CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    RAISE EXCEPTION 'could not extend file "base/5/16384": No space left on device' USING ERRCODE = '53100';
END $$;
CREATE TRIGGER full_disk BEFORE INSERT ON runs FOR EACH ROW WHEN (length(NEW.prompt) > 1000) EXECUTE FUNCTION full_disk();
"""


def test_a_full_disk_refuses_what_finds_no_room_and_nothing_else(opened: Open, server: PostgresServer) -> None:
    store = opened()
    with outsider(server, store) as other:
        other.execute(FULL_DISK)
    large = new_run(prompt="x" * 2000)

    with one_batch(store):
        small = [store.accept(new_run()) for _ in range(5)]
        refused = store.accept(large)
        late = [store.accept(new_run()) for _ in range(5)]

    with pytest.raises(StoreUnavailable, match=r"No space left .*free some space on the server's disk"):
        refused.result(20)
    assert all(future.result(20).first for future in small + late)
    with pytest.raises(NotFound):
        store.run(large.id)


def test_operations_that_fail_in_a_commit_harm_no_other(opened: Open) -> None:
    store = opened()
    done = claimed(store)
    end(store, done)
    taken = new_run()

    def fail(tx: object) -> None:
        raise RuntimeError("a bug")

    with one_batch(store):
        futures: list[Future[Any]] = [store.accept(run) for run in (new_run(), taken, taken, new_run(prompt="\udfff"))]
        futures += [store.accept(new_run(prompt="a\0b")), store._engine.write(fail)]
        futures += [store.agent_started(done.run.lease, AgentStart(timedelta(0))), store.accept(new_run())]

    kinds = [type(future.exception(20)) for future in futures]
    assert kinds == [type(None), type(None), Conflict, Invalid, Invalid, RuntimeError, LeaseLost, type(None)]
    assert len(store.runs(RunFilter()).items) == 4


@pytest.fixture
def narrow(server: PostgresServer) -> Iterator[str]:
    """A URL on an empty schema whose user may have three connections."""
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("DROP ROLE IF EXISTS narrow")
        connection.execute("CREATE ROLE narrow LOGIN CONNECTION LIMIT 3")
        connection.execute("CREATE SCHEMA narrow AUTHORIZATION narrow")
        yield f"postgresql://narrow@127.0.0.1:{server.port}/postgres"
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'narrow'")
        connection.execute("DROP OWNED BY narrow CASCADE")


def test_fewer_connections_than_wanted_are_shared(narrow: str) -> None:
    with closing(open_store(narrow)) as store, ThreadPoolExecutor(20) as pool:
        slow = [pool.submit(store._engine.peek, lambda tx: sleep(tx, 0.02)) for _ in range(60)]
        accepted = [store.accept(new_run()) for _ in range(100)]

        assert all(future.result(20).first for future in accepted)
        assert [future.result(20) for future in slow] == [None] * 60


def test_no_connection_at_all_is_said_with_a_cure(narrow: str) -> None:
    with ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(psycopg.connect(narrow))

        with pytest.raises(StoreUnavailable, match=r"too many connections .*raise max_connections: each process .* up to 8"):
            open_store(narrow)


def test_more_calls_than_connections_wait_for_each_other(opened: Open, server: PostgresServer) -> None:
    store = opened()

    with ThreadPoolExecutor(50) as pool:
        for future in [pool.submit(store._engine.peek, lambda tx: sleep(tx, 0.01)) for _ in range(300)]:
            future.result(20)

    assert sessions(server) <= MAX_CONNECTIONS


# What is kept


def test_a_lookup_of_text_that_cannot_be_kept_finds_nothing(opened: Open) -> None:
    store = opened()
    for call in (store.run, store.prompt, store.delivery, store.definition, lambda it: store.cancel(it, "eve")):
        with pytest.raises(NotFound):
            call("a\0b")
    assert store.known_delivery("a\0b", "k") is None
    assert store.runs(RunFilter(task_id="a\0b")).items == []
    assert store.recall(IdempotencyKey("a\0b", "k", "sha")) is None
    assert store.token("a\0b") is None
    assert store.log("a\0b") == []


def test_a_key_that_no_index_takes_is_the_callers_mistake(opened: Open) -> None:
    # Random, for what repeats is compressed first.
    key = "".join(chr(0x4E00 + n * 7919 % 20000) for n in range(6000))

    with pytest.raises(Invalid, match="cannot be stored"):
        opened().accept(new_run(), once=once(key)).result(20)


def test_numbers_beyond_a_column_are_cut_and_never_fail_a_run(opened: Open) -> None:
    store = opened()
    claim = claimed(store)
    meter = Meter(turns=10**11, tool_calls=10**11)

    say(store, claim, "x", meter=meter)
    run = end(store, claim, Outcome(ok=True, reason="ok", text="t"), meter)

    assert run.state is RunState.COMPLETED
    assert run.meter.turns == run.meter.tool_calls == 2**31 - 1


def test_a_column_that_is_added_under_prepared_statements_is_not_noticed(opened: Open, server: PostgresServer) -> None:
    store = opened()
    claim = claimed(store)
    for _ in range(10):
        assert len(store.attempts(claim.run.id)) == 1
    with outsider(server, store) as other:
        other.execute("ALTER TABLE attempts ADD COLUMN later TEXT")

    for _ in range(10):
        assert len(store.attempts(claim.run.id)) == 1
    end(store, claim)


def test_a_database_that_lacks_most_characters_is_refused_before_it_is_changed(server: PostgresServer) -> None:
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE narrow TEMPLATE template0 ENCODING SQL_ASCII LC_COLLATE 'C' LC_CTYPE 'C'")
    narrow = server.url.rpartition("/")[0] + "/narrow"

    with pytest.raises(
        SettingsError, match=r"narrow .* has the encoding SQL_ASCII, .*: create one with `createdb --encoding=UTF8"
    ):
        open_store(narrow)

    with psycopg.connect(narrow) as connection:
        assert connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone() == (0,)


# URLs and passwords

PASSWORD = "s3cr3t@/:?#% w0rd"


def test_a_password_of_any_characters_is_taken_when_it_is_encoded() -> None:
    target = pg_url.read(f"postgresql://ada:{quote(PASSWORD, safe='')}@db.example:5433/optio?sslmode=require")

    assert psycopg.conninfo.conninfo_to_dict(target.conninfo)["password"] == PASSWORD
    assert target.name == "optio on db.example:5433"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://ada:s3cr3t@w0rd@db/optio",
        "postgresql://ada:s3cr3t/w0rd@db/optio",
        "postgresql://ada:12345/w0rd@db/optio",
        "postgresql://ada:s3cr3t%zz@db/optio",
        "postgresql://ada:s3cr3t w0rd@db/optio",
        "postgresql://db:s3cr3t/optio",
    ],
)
def test_a_url_that_is_not_encoded_is_refused_without_a_part_of_its_password(url: str) -> None:
    with pytest.raises(SettingsError) as caught:
        pg_url.read(url)

    assert "%40 for @" in str(caught.value)
    for part in ("s3cr3t", "w0rd", "12345", "zz"):
        assert part not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None or caught.value.__suppress_context__


@pytest.fixture
def guarded(server: PostgresServer) -> Iterator[str]:
    """A URL without its end, of a user who needs a password."""
    rules = server._data / "pg_hba.conf"
    before = rules.read_text()
    rules.write_text(f"host all guarded 127.0.0.1/32 scram-sha-256\n{before}")
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("DROP ROLE IF EXISTS guarded")
        connection.execute(f"CREATE ROLE guarded LOGIN PASSWORD '{PASSWORD}'")
        connection.execute("CREATE SCHEMA guarded AUTHORIZATION guarded")
        connection.execute("SELECT pg_reload_conf()")
        yield f"postgresql://guarded:{quote(PASSWORD, safe='')}@127.0.0.1:{server.port}/postgres"
        rules.write_text(before)
        connection.execute("SELECT pg_reload_conf()")
        connection.execute("DROP OWNED BY guarded CASCADE")


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda url: url.replace("w0rd", "wrong"), "password authentication failed for user"),
        (lambda url: url.replace("/postgres", "/nowhere"), 'database "nowhere" does not exist (create it with `createdb`'),
        (lambda url: url.replace("127.0.0.1", "db.invalid"), "check the host's name"),
        (lambda url: url + "?sslmode=require", "SSL"),
        (lambda url: url + "?sslmode=nonsense", "sslmode"),
        (lambda url: url + "?connect_timeout=soon", "connect_timeout"),
        (lambda url: url + "?options=-cnonsense%3D1", "nonsense"),
        (lambda url: url + "?nonsense=1", "nonsense"),
        (lambda url: url + "?options=-csearch_path%3Dnowhere", "no schema has been selected"),
        (lambda url: url + "?options=-csearch_path%3Dpublic", "permission denied for schema public"),
    ],
)
def test_what_is_wrong_with_a_url_is_said_in_one_sentence_without_its_password(
    guarded: str, wrong: Callable[[str], str], says: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)

    with pytest.raises((StoreUnavailable, SettingsError)) as caught:
        open_store(wrong(guarded))

    said = str(caught.value)
    assert says in said
    assert "\n" not in said
    for text in (said, caplog.text, repr(caught.value.__cause__)):
        assert PASSWORD not in text
        assert "s3cr3t" not in text


def test_the_right_password_opens_the_store_and_appears_nowhere(guarded: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with closing(open_store(guarded)) as store:
        store.check()
        with pytest.raises(StoreUnavailable) as caught:
            store._engine.peek(lambda tx: [tx.one("SELECT pg_terminate_backend(pg_backend_pid())") for _ in range(9)])
    assert "s3cr3t" not in caplog.text + str(caught.value)


def test_runs_of_a_task_end_while_another_stripe_of_its_totals_is_locked(opened: Open) -> None:
    first, other = opened(), opened()
    serve(first, task(extra="maxConcurrent: 10\n"))
    claims = [claimed(first) for _ in range(3)]
    end(first, claims[0])
    counted, released = threading.Event(), threading.Event()

    def hold(tx: Transaction) -> None:
        tx.stripe = -1  # that of no connection
        tx.counts.totals["job", daily_totals.day_of(tx.now)] = Counter()
        daily_totals.write(tx)
        tx.counts.totals.clear()
        counted.set()
        released.wait(20)

    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(first._engine.change, hold)
        try:
            assert counted.wait(20)
            for claim in claims[1:]:
                end(other, claim)
            list(other.prune(RetentionPolicy()))  # folds the rows that are free
            assert not held.done()
        finally:
            released.set()
        held.result(20)
    since = other.now().date()
    assert other.totals(["job"], since)["job"].completed == 3
