"""Namespaces in the store: each worker sees, counts and takes over the runs of its own alone."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from optio.model.fleet import ProcessKind
from optio.model.namespace import ALL_TASKS, WorkerScope
from optio.model.registry import CompiledTask
from optio.store.base import Store
from optio.store.values import NEVER_ORPHANED, AdmissionView
from tests.store.build import BAD, LEASE, Clock, at_most, at_once, end, everything, give_up, queued, serve, task

A, B, DEFAULT = WorkerScope("runs-a"), WorkerScope("runs-b"), WorkerScope("")
PLACES = {A: "kubernetes:runs-a/1/optio", B: "kubernetes:runs-b/2/optio", DEFAULT: "kubernetes/3/optio"}
ORPHANED = timedelta(minutes=15)


def of(namespace: str | None, name: str) -> CompiledTask:
    return replace(task(name, "maxConcurrent: 9\n"), namespace=namespace)


ALPHA, BETA, PLAIN = of("runs-a", "Alpha"), of("runs-b", "Beta"), of(None, "Plain")


def claims(store: Store, scope: WorkerScope, most: int = 9, worker: str = "w") -> list[str]:
    """The tasks of the runs that a worker of this scope claims, with so many slots."""
    found = store.claim(worker, LEASE, at_most(most), scope=scope, place=PLACES.get(scope, ""), room=lambda n: most - n)
    return [claim.run.task_id for claim in found]


def adopts(store: Store, scope: WorkerScope, orphaned: timedelta = NEVER_ORPHANED) -> list[str]:
    found = store.adopt("other", LEASE, 9, scope=scope, place=PLACES[scope], orphaned=orphaned)
    return [claim.run.task_id for claim in found]


def test_a_worker_claims_runs_of_its_namespace_alone(store: Store) -> None:
    serve(store, ALPHA, BETA, PLAIN)
    for each in (ALPHA, BETA, PLAIN):
        queued(store, each)

    assert claims(store, WorkerScope("elsewhere")) == []
    assert claims(store, B) == ["beta"]
    assert claims(store, DEFAULT) == ["plain"]
    assert claims(store, ALL_TASKS) == ["alpha"]


def test_nothing_is_asked_of_admission_where_no_run_of_the_namespace_waits(store: Store) -> None:
    serve(store, ALPHA, PLAIN)
    queued(store, ALPHA)
    asked: list[AdmissionView] = []

    def admit(view: AdmissionView) -> Sequence[str]:
        asked.append(view)
        return everything(view)

    assert (store.claim("w", LEASE, admit, scope=DEFAULT), asked) == ([], [])


def test_each_namespace_has_the_whole_limit_for_itself(store: Store) -> None:
    serve(store, ALPHA, BETA)
    for _ in range(3):
        queued(store, ALPHA)
        queued(store, BETA)

    assert claims(store, A, most=2) == ["alpha", "alpha"]
    assert claims(store, B, most=2) == ["beta", "beta"]
    assert claims(store, A, most=2) == []


def test_runs_go_where_the_policy_puts_their_task_now(store: Store) -> None:
    serve(store, ALPHA)
    queued(store, ALPHA)

    serve(store, replace(ALPHA, namespace="runs-b"))
    moved = claims(store, A), claims(store, B)
    queued(store, ALPHA)
    serve(store, replace(ALPHA, namespace=None))

    assert moved == ([], ["alpha"])
    assert (claims(store, B), claims(store, DEFAULT)) == ([], ["alpha"])
    assert store.namespaces() == {}


def test_a_task_that_is_gone_keeps_its_namespace_for_as_long_as_it_has_runs(store: Store) -> None:
    serve(store, ALPHA, PLAIN)
    run_id = queued(store, ALPHA)

    serve(store, PLAIN)
    assert (claims(store, DEFAULT), store.namespaces()) == ([], {"alpha": "runs-a"})
    (claim,) = store.claim("w", LEASE, everything, scope=A)
    end(store, claim, BAD, decide=give_up)
    store.retry(run_id, "me")
    assert (claims(store, DEFAULT), claims(store, A)) == ([], ["alpha"])
    store.cancel(run_id, "me")
    (claim,) = store.adopt("w", LEASE, 1, place=PLACES[A], scope=A, orphaned=NEVER_ORPHANED) or [None]  # type: ignore[list-item]
    assert claim is None


def test_the_namespace_of_a_task_without_runs_goes_with_the_task(store: Store) -> None:
    serve(store, ALPHA, PLAIN)

    serve(store, PLAIN)

    assert store.namespaces() == {}


def test_a_run_is_taken_over_in_its_own_namespace_alone(store: Store, clock: Clock) -> None:
    serve(store, ALPHA, BETA)
    queued(store, ALPHA)
    assert claims(store, A) == ["alpha"]
    clock.move(minutes=20)

    assert adopts(store, B, ORPHANED) == []
    assert adopts(store, DEFAULT, ORPHANED) == []
    assert adopts(store, A, ORPHANED) == ["alpha"]


@pytest.mark.parametrize(("minutes", "taken"), [(1, []), (20, ["alpha"])])
def test_a_run_whose_task_was_moved_may_have_an_agent_in_the_old_namespace(
    store: Store, clock: Clock, minutes: int, taken: list[str]
) -> None:
    serve(store, ALPHA)
    queued(store, ALPHA)
    claims(store, A)
    serve(store, replace(ALPHA, namespace="runs-b"))
    clock.move(minutes=minutes)

    assert adopts(store, B, ORPHANED) == taken


def test_a_worker_of_the_old_namespace_finds_the_agent_of_a_moved_task(store: Store, clock: Clock) -> None:
    serve(store, ALPHA)
    queued(store, ALPHA)
    claims(store, A)
    serve(store, replace(ALPHA, namespace="runs-b"))
    clock.move(minutes=1)

    assert adopts(store, A, ORPHANED) == ["alpha"]


def test_a_retry_waits_for_its_own_namespace(store: Store) -> None:
    serve(store, ALPHA)
    queued(store, ALPHA)
    (claim,) = store.claim("w", LEASE, everything, scope=A, place=PLACES[A])

    end(store, claim, BAD, decide=at_once)

    assert (claims(store, DEFAULT), claims(store, A)) == ([], ["alpha"])


def test_a_namespace_is_served_while_one_of_its_workers_says_so(stores: Callable[[], Store], clock: Clock) -> None:
    store, another = stores(), stores()
    store.note_worker("a-1", A)
    another.note_worker("a-2", A)
    another.note_worker("default", DEFAULT)
    both = store.served_namespaces()
    clock.move(seconds=20)
    another.note_worker("a-2", A)
    clock.move(seconds=20)

    assert both == {"", "runs-a"}
    assert store.served_namespaces() == {"runs-a"}
    another.forget_process(ProcessKind.WORKER, "a-2")
    assert store.served_namespaces() == set()


def test_a_worker_that_takes_all_serves_every_namespace(store: Store) -> None:
    store.note_worker("a", A)
    store.note_worker("process", ALL_TASKS)

    assert store.served_namespaces() is None


def test_what_a_worker_said_before_the_clock_was_set_back_counts_no_more(store: Store, clock: Clock) -> None:
    store.note_worker("a", A)
    clock.move(hours=-1)

    assert store.served_namespaces() == set()


def test_admission_sees_the_namespaces_and_who_serves_them(store: Store) -> None:
    serve(store, ALPHA, PLAIN)
    store.note_worker("a", A)

    view = store.admission()

    assert (view.namespaces, view.served) == ({"alpha": "runs-a"}, {"runs-a"})


def test_a_definition_keeps_its_namespace_and_one_without_has_the_digest_that_it_had(store: Store) -> None:
    serve(store, ALPHA, PLAIN)

    assert store.definition(ALPHA.digest).namespace == "runs-a"
    assert ALPHA.digest != replace(ALPHA, namespace=None).digest
    assert "namespace" not in PLAIN.document
