"""What every store promises about control by hand, reading, tokens and its end."""

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from optio.errors import Conflict, Invalid, NotFound, StoreUnavailable
from optio.model.agent_event import Retry, ToolCall, ToolKind, ToolResult, TurnEnd
from optio.model.run import LogKind, RunState
from optio.model.usage import Meter, Usage
from optio.store.base import Store
from optio.store.values import DeliveryFilter, NewRun, RunFilter
from tests.store.build import (
    BAD,
    LEASE,
    OK,
    START,
    Clock,
    at_once,
    claimed,
    delivery,
    end,
    everything,
    line,
    new_run,
    queued,
    say,
    serve,
    task,
)

# Control


def test_a_queued_run_is_cancelled_at_once(store: Store, clock: Clock) -> None:
    run_id = queued(store)
    clock.move(seconds=3)

    run = store.cancel(run_id, "eve")

    assert (run.state, run.reason, run.message, run.ended_at) == (RunState.CANCELLED, "cancelled", "cancelled by eve", clock.at)
    assert store.claim("w", LEASE, everything) == []
    assert [event.to_state for event in store.events(run_id)] == [RunState.QUEUED, RunState.CANCELLED]


def test_a_run_that_has_ended_cannot_be_cancelled(store: Store) -> None:
    done = claimed(store)
    end(store, done)

    with pytest.raises(Conflict):
        store.cancel(done.run.id, "eve")

    assert store.run(done.run.id).state is RunState.COMPLETED


def test_a_failed_run_is_retried_by_hand_from_the_beginning_of_its_retries(store: Store, clock: Clock) -> None:
    claim = claimed(store)
    end(store, claim, BAD, decide=at_once)
    (second,) = store.claim("w", LEASE, everything)
    failed = end(store, second, BAD)
    clock.move(minutes=1)

    run = store.retry(failed.id, "ann")

    assert (failed.state, failed.retries, failed.text) == (RunState.FAILED, 1, "half")
    assert (run.state, run.retries, run.infrastructure_retries, run.attempt) == (RunState.QUEUED, 0, 0, 2)
    assert (run.not_before, run.started_at, run.ended_at, run.text, run.digest) == (clock.at, None, None, None, failed.digest)
    (third,) = store.claim("w", LEASE, everything)
    assert (third.run.attempt, third.run.started_at) == (3, clock.at)
    assert store.events(run.id)[-2].actor == "ann"


@pytest.mark.parametrize("state", [RunState.QUEUED, RunState.RUNNING, RunState.COMPLETED, RunState.CANCELLED])
def test_only_failed_runs_can_be_retried(store: Store, state: RunState) -> None:
    run_id = queued(store)
    if state in (RunState.RUNNING, RunState.COMPLETED):
        (claim,) = store.claim("w", LEASE, everything)
        if state is RunState.COMPLETED:
            end(store, claim)
    if state is RunState.CANCELLED:
        store.cancel(run_id, "eve")

    with pytest.raises(Conflict):
        store.retry(run_id, "ann")

    assert store.run(run_id).state is state


@pytest.mark.parametrize("call", ["run", "prompt", "cancel", "retry", "delivery", "revoke_token"])
def test_what_does_not_exist_is_not_found(store: Store, call: str) -> None:
    arguments = ("nobody", "me") if call in ("cancel", "retry") else ("nobody",)

    with pytest.raises(NotFound):
        getattr(store, call)(*arguments)


# Reading


def test_pages_hold_every_run_once_while_others_come_in(store: Store) -> None:
    ids = [queued(store) for _ in range(7)]

    seen: list[str] = []
    cursor: str | None = None
    for _ in range(4):
        page = store.runs(RunFilter(), cursor=cursor, limit=2)
        seen += [run.id for run in page.items]
        queued(store)
        cursor = page.next

    assert seen == ids[::-1]
    assert cursor is None


def test_runs_are_found_by_all_conditions_together(store: Store) -> None:
    one, two = task("One"), task("Two")
    serve(store, one, two)
    queued(store, two)
    webhook = queued(store, one, trigger="webhook")
    manual = queued(store, one)
    store.cancel(manual, "me")

    def ids(**where: object) -> list[str]:
        return [run.id for run in store.runs(RunFilter(**where)).items]  # type: ignore[arg-type]

    assert ids(task_id="one") == [manual, webhook]
    assert ids(task_id="one", state=RunState.QUEUED) == [webhook]
    assert ids(trigger="webhook", state=RunState.QUEUED, task_id="one") == [webhook]
    assert ids(task_id="one", state=RunState.FAILED) == []
    assert ids(task_id="' OR 1=1 --") == ids(trigger="x'; DROP TABLE runs; --") == []


def encoded(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


FORGED = ["", "x", "é", "\x00", "A" * 5000, "1", "YmVmb3JlOjE; DROP TABLE runs"]
FORGED += [encoded(f"before:{number}") for number in ("", "-1", "1e9", "9" * 20, "1 OR 1=1", "²")] + [encoded("after:1")]


@pytest.mark.parametrize("cursor", FORGED)
def test_a_forged_cursor_is_invalid(store: Store, cursor: str) -> None:
    with pytest.raises(Invalid):
        store.runs(RunFilter(), cursor=cursor)
    with pytest.raises(Invalid):
        store.deliveries(cursor=cursor)


def test_a_page_is_of_a_sane_size_whatever_is_asked_for(store: Store) -> None:
    for future in [store.accept(new_run()) for _ in range(1001)]:
        future.result(20)

    pages = {limit: store.runs(RunFilter(), limit=limit) for limit in (-5, 0, 10**9, 2**70)}

    assert {limit: len(page.items) for limit, page in pages.items()} == {-5: 1, 0: 1, 10**9: 1000, 2**70: 1000}
    assert None not in [page.next for page in pages.values()]


def test_the_log_goes_on_from_any_cursor_over_all_attempts(store: Store) -> None:
    claim = claimed(store)
    assert say(store, claim, "a", "b") == 2
    end(store, claim, BAD, decide=at_once)
    (again,) = store.claim("w", LEASE, everything)
    assert say(store, again, "c") == 3

    lines = store.log(claim.run.id)

    assert [(each.seq, each.attempt, each.text) for each in lines] == [(1, 1, "a"), (2, 1, "b"), (3, 2, "c")]
    assert lines[0].at == START
    assert store.log(claim.run.id, after=1, limit=1) == lines[1:2]
    assert store.log(claim.run.id, attempt=2) == lines[2:]
    assert store.log(claim.run.id, after=3) == store.log(claim.run.id, after=2**80) == store.log("nobody") == []


def test_the_log_is_read_backwards_from_a_cursor_and_its_end_is_known(store: Store) -> None:
    claim = claimed(store)
    assert store.last_line(claim.run.id) == 0
    say(store, claim, *"abcdef")

    def texts(**where: int) -> str:
        return "".join(each.text for each in store.log(claim.run.id, **where))

    assert store.last_line(claim.run.id) == 6
    assert texts(before=5, limit=2) == "cd"
    assert texts(before=5, after=3, limit=5) == "d"
    assert texts(before=2**80, limit=3) == "def"
    assert texts(before=1) == texts(before=0) == ""
    assert texts(before=4, attempt=1) == "abc"
    assert store.last_line("nobody") == 0


def test_a_log_is_searched_for_texts_whatever_bytes_its_lines_have(store: Store) -> None:
    claim = claimed(store)
    lines = ["Error: no", "100% done", "an error_here", "Größe error", "a\\b", "no match", "!bang", "zero"]
    data = [*(each.encode() for each in lines), b"\xff\xfe error \x80", "ÄRGER".encode()]
    store.append_log(claim.run.lease, [replace(line(""), data=each) for each in data], {}, Meter())

    def found(text: str, after: int = 0, until: int = 2**80) -> list[int]:
        cursors, count = store.search_log(claim.run.id, after=after, until=until, text=text)
        assert count == len(cursors)
        return cursors

    assert found("error") == found("ERROR") == [1, 3, 4, 9]
    assert found("error", after=1, until=4) == [3, 4]
    assert found("0%") == [2]
    assert found("r_h") == [3]
    assert found("%") == [2]
    assert found("Größe") == found("größe") == [4]
    assert found("a\\b") == [5]
    assert found("!") == [7]
    assert found("nothing") == []
    assert found("") == list(range(1, 11))
    assert store.search_log("nobody", until=9, text="error") == ([], 0)


def test_lines_that_fit_beyond_the_limit_of_a_search_are_counted(store: Store) -> None:
    claim = claimed(store)
    say(store, claim, *"abacada")

    def found(limit: int, until: int = 9) -> tuple[list[int], int]:
        return store.search_log(claim.run.id, after=1, until=until, text="A", limit=limit)

    assert found(2) == ([3, 5], 3)
    assert found(3) == found(9) == ([3, 5, 7], 3)
    assert found(1, until=5) == ([3], 2)
    assert found(0) == ([], 3)


def test_the_errors_of_a_log_are_its_standard_error_and_failed_tool_results(store: Store) -> None:
    claim = claimed(store)
    result = replace(line("out"), kind=LogKind.RESULT)
    lines = [
        line("error"),
        replace(line("bad"), kind=LogKind.STDERR),
        replace(result, event=ToolResult(id='"ok":false', ok=True, size=1, exit_code=None)),
        replace(result, event=ToolResult(id="2", ok=False, size=1, exit_code=3)),
        replace(
            line("call"), kind=LogKind.TOOL, event=ToolCall(id="3", name="Bash", kind=ToolKind.EXECUTE, input={"ok": False})
        ),
    ]
    store.append_log(claim.run.lease, lines, {}, Meter())

    assert store.search_log(claim.run.id, until=9, errors=True) == ([2, 4], 2)
    assert store.search_log(claim.run.id, until=9, errors=True, text="OUT") == ([4], 1)


def test_log_lines_come_back_byte_for_byte(store: Store) -> None:
    claim = claimed(store)
    odd = bytes(range(256))

    store.append_log(claim.run.lease, [replace(line(""), data=odd)], {}, Meter())

    assert store.log(claim.run.id)[0].data == odd


def test_log_lines_come_back_with_what_the_agent_did(store: Store) -> None:
    claim = claimed(store)
    end = TurnEnd(model="m", fresh=1, cached=2, cache_write=3, output=4, reasoning=0, cost_usd="0.1")
    call = ToolCall(id="1", name="Bash", kind=ToolKind.EXECUTE, input={"command": "ls", "of": [1, None, "\u0000"]})
    events = [end, call, ToolResult(id="1", ok=False, size=9, exit_code=3), Retry(status=429, attempt=1, delay_ms=5), None]

    last = store.append_log(claim.run.lease, [replace(line(""), turn=7, event=event) for event in events], {}, Meter())

    assert last == 5
    assert [each.event for each in store.log(claim.run.id)] == events
    assert {each.turn for each in store.log(claim.run.id)} == {7}


def test_deliveries_are_paged_newest_first_without_their_bodies(store: Store) -> None:
    made = [delivery(f"k{i}", task_id="a" if i % 2 else "b") for i in range(5)]
    for each in made:
        store.record_delivery(each).result(10)

    first = store.deliveries(DeliveryFilter(task_id="a"), limit=1)
    rest = store.deliveries(DeliveryFilter(task_id="a"), limit=9, cursor=first.next)

    assert [found.id for found in first.items + rest.items] == [made[3].id, made[1].id]
    assert (rest.next, first.items[0].body, store.delivery(made[3].id).body) == (None, None, b"{}")


def test_totals_are_the_sum_of_all_attempts(store: Store) -> None:
    claim = claimed(store)
    end(
        store, claim, BAD, Meter(usage=Usage(fresh=1, cached=2, output=3), turns=2, tool_calls=1, cost=Decimal("0.10")), at_once
    )
    (second,) = store.claim("w", LEASE, everything)
    silent = end(store, second, BAD, Meter(), at_once)
    (third,) = store.claim("w", LEASE, everything)

    run = end(store, third, OK, Meter(usage=Usage(fresh=10, reasoning=1, output=1), turns=1, cost=Decimal("0.2000")))

    assert silent.meter.cost == Decimal("0.10")
    assert run.meter.usage == Usage(fresh=11, cached=2, output=4, reasoning=1)
    assert (run.meter.turns, run.meter.tool_calls, run.meter.cost) == (3, 1, Decimal("0.3000"))
    assert [attempt.meter.cost for attempt in store.attempts(run.id)] == [Decimal("0.10"), None, Decimal("0.2000")]


# Tokens


def test_a_token_lives_until_it_expires_or_is_revoked(store: Store, clock: Clock) -> None:
    store.add_token("t1", "sha1", "viewer", "laptop", clock.at + timedelta(hours=1))
    clock.move(minutes=1)
    store.add_token("t2", "sha2", "admin", "ci", None)

    used = store.token("sha1")
    assert used is not None
    assert (used.id, used.role, used.label, used.last_used_at) == ("t1", "viewer", "laptop", None)
    store.touch_token("t1")
    assert [(token.id, token.last_used_at) for token in store.tokens()] == [("t2", None), ("t1", clock.at)]
    clock.move(hours=1)
    store.revoke_token("t2")

    assert [store.token(sha) for sha in ("sha1", "sha2", "other")] == [None, None, None]
    with pytest.raises(NotFound):
        store.revoke_token("t2")
    assert [token.revoked_at for token in store.tokens()] == [clock.at, None]


def test_a_token_id_that_is_taken_is_a_conflict(store: Store) -> None:
    store.add_token("t1", "sha1", "viewer", "", None)

    with pytest.raises(Conflict):
        store.add_token("t1", "sha2", "admin", "", None)

    assert store.token("sha2") is None


# House-keeping


def test_closing_finishes_what_is_queued_and_ends_everything_else(stores: Callable[[], Store]) -> None:
    store = stores()
    runs: list[NewRun] = [new_run() for _ in range(300)]
    futures = [store.accept(run) for run in runs]

    store.close()
    store.close()

    assert all(future.result(0).first for future in futures)
    for late in (lambda: store.run(runs[0].id), lambda: store.cancel(runs[0].id, "me"), store.check, store.generation):
        with pytest.raises(StoreUnavailable, match="closed"):
            late()
    with pytest.raises(StoreUnavailable, match="closed"):
        store.accept(new_run()).result(10)
    reopened = stores()
    reopened.check()
    assert all(reopened.run(run.id).state is RunState.QUEUED for run in runs[::50])


def test_rows_that_were_kept_are_plain_json(store: Store) -> None:
    run_id = queued(store, params={"money": "1.10", "nested": {"a": [True, None, 1.5]}})

    assert json.dumps(store.run(run_id).params) == '{"money": "1.10", "nested": {"a": [true, null, 1.5]}}'


def test_a_store_is_local_only_if_its_database_is_a_file(store: Store, request: pytest.FixtureRequest) -> None:
    is_file = "sqlite" in request.node.name

    assert store.local == is_file
    store.watch(lambda: None)
    assert store.local == is_file


# Ids as the server makes them; the test's own order of creation is not theirs.
EARLY = "019b0000-0000-7000-8000-000000000001"
LATE = ("019b0000-0001-7000-8000-00000000000a", "019b0000-0001-7000-8000-00000000000b")


def test_runs_and_deliveries_are_found_by_the_beginning_of_their_id(store: Store) -> None:
    one, two = task("One"), task("Two")
    serve(store, one, two)
    for run_id, of in zip((LATE[0], EARLY, LATE[1]), (one, one, two), strict=True):
        store.accept(new_run(of, run_id), delivery=delivery(f"of-{run_id}", id=run_id, task_id=of.id)).result(10)
    queued(store, one)

    def ids(prefix: str, **where: object) -> list[str]:
        runs = store.runs(RunFilter(id_prefix=prefix, **where)).items  # type: ignore[arg-type]
        deliveries = store.deliveries(DeliveryFilter(id_prefix=prefix, task_id=where.get("task_id"))).items  # type: ignore[arg-type]
        assert [each.id for each in runs] == [each.id for each in deliveries]
        return [each.id for each in runs]

    assert ids("019b") == ids("019b0000-") == [LATE[1], LATE[0], EARLY]
    assert ids("019b0000-0001") == [LATE[1], LATE[0]]
    assert ids(LATE[0]) == [LATE[0]]
    assert ids("019b", task_id="one") == [LATE[0], EARLY]
    assert ids("019b0000-0002") == ids("019b00000") == ids("019B") == ids("019b%") == ids(f"{EARLY}0") == ids("run-") == []


def test_a_list_by_the_beginning_of_an_id_goes_on_from_its_cursor(store: Store) -> None:
    for run_id in (LATE[1], EARLY, LATE[0]):
        store.accept(new_run(run_id=run_id), delivery=delivery(f"of-{run_id}", id=run_id)).result(10)

    for read in (
        lambda cursor: store.runs(RunFilter(id_prefix="019b"), cursor=cursor, limit=1),
        lambda cursor: store.deliveries(DeliveryFilter(id_prefix="019b"), cursor=cursor, limit=1),
    ):
        seen, cursor = [], None
        for _ in range(3):
            page = read(cursor)
            seen += [each.id for each in page.items]
            cursor = page.next
        assert seen == [LATE[1], LATE[0], EARLY]
        assert cursor is None


def test_runs_are_found_by_their_reason_whatever_state_they_are_in(store: Store, clock: Clock) -> None:
    failed = []
    for _ in range(3):
        claim = claimed(store)
        failed.append(claim.run.id)
        end(store, claim, replace(BAD, reason="oom"))
        clock.move(hours=1)
    end(store, claimed(store))
    running = claimed(store).run
    waiting = [queued(store), queued(store, trigger="webhook")]

    def ids(reason: str, **where: object) -> list[str]:
        found: list[str] = []
        cursor = None
        while True:
            page = store.runs(RunFilter(reason=reason, **where), cursor=cursor, limit=2)  # type: ignore[arg-type]
            found += [run.id for run in page.items]
            cursor = page.next
            if cursor is None:
                return found

    assert ids("oom") == ids("oom", task_id="job") == ids("oom", state=RunState.FAILED) == failed[::-1]
    assert ids("oom", since=START + timedelta(minutes=30), until=START + timedelta(minutes=90)) == [failed[1]]
    assert ids("oom", id_prefix="run-") == ids("oom", state=RunState.QUEUED) == ids("never") == []
    assert ids(running.reason) == [running.id]
    assert ids("manual") == [waiting[0]]
    assert ids("webhook", trigger="webhook", state=RunState.QUEUED) == [waiting[1]]


def test_runs_of_a_span_of_time_are_found_with_every_other_condition(store: Store, clock: Clock) -> None:
    one, two = task("One"), task("Two")
    serve(store, one, two)
    first = queued(store, one)
    clock.move(hours=1)
    second, of_two = queued(store, one), queued(store, two, trigger="webhook")
    clock.move(hours=1)
    third = queued(store, one)
    store.cancel(second, "me")

    def ids(since: float | None = None, until: float | None = None, **where: object) -> list[str]:
        since_at, until_at = (None if at is None else START + timedelta(hours=at) for at in (since, until))
        return [run.id for run in store.runs(RunFilter(since=since_at, until=until_at, **where)).items]  # type: ignore[arg-type]

    assert ids(since=1) == [third, of_two, second]
    assert ids(until=1) == [of_two, second, first]
    assert ids(since=0.5, until=1.5, task_id="one") == [second]
    assert ids(since=1, state=RunState.QUEUED) == [third, of_two]
    assert ids(until=1, state=RunState.CANCELLED) == [second]
    assert ids(since=0.5, trigger="webhook") == [of_two]
    assert ids(since=2.5) == ids(until=-1) == ids(since=1.2, until=1.8) == []
