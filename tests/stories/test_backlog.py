"""All workers are down: triggers are accepted up to a cap, then turned away; what was accepted runs in order afterwards."""

from collections import Counter
from pathlib import Path

import pytest

from tests.stories import ledger
from tests.stories.cluster import Place
from tests.stories.ledger import listed, marks, post, trigger, until_quiet
from tests.support import eventually

CAP = 30


@pytest.mark.timeout(180)
def test_without_workers_a_full_queue_turns_triggers_away_and_drains_in_order_afterwards(tmp_path: Path) -> None:
    environ = {"OPTIO_MAX_QUEUED": str(CAP)}
    with ledger.cluster(
        tmp_path, environ=environ, sqlite=True, servers=1, schedulers=0, workers=(Place("data"),), later=("worker-0",)
    ) as made:
        (worker,), (port,) = made.workers, made.ports
        wanted = [trigger(made, f"key-{n}", ("short", "quick")[n % 2], hook=n % 3 == 0) for n in range(CAP + 8)]
        answers = [post(port, request, within=60) for request in wanted]
        again = [post(port, request, within=60) for request in wanted]

        # Requests on their way are not seen by a count.
        room = [status for status, _, _ in answers].index(429)

        worker.start()
        stuck = until_quiet(made)
        claimed = {run["id"]: run["startedAt"] for run in listed(made)}
        eventually(lambda: post(port, wanted[-1], within=60)[0] == 202, what="room for one that was turned away")
        until_quiet(made)

    assert CAP <= room <= CAP + 3
    accepted, refused = answers[:room], answers[room:]
    assert {status for status, _, _ in accepted} == {202}
    assert {(status, headers["retry-after"]) for status, _, headers in refused} == {(429, "10")}
    assert {answer["detail"] for _, answer, _ in refused} == {"30 runs are queued already (OPTIO_MAX_QUEUED): try again later"}
    assert [answer["runId"] for _, answer, _ in again[:room]] == [answer["runId"] for _, answer, _ in accepted]
    assert {status for status, _, _ in again[room:]} == {429}
    assert stuck == []
    for task in ("short", "quick"):
        began = [
            claimed[answer["runId"]] for request, (_, answer, _) in zip(wanted, accepted, strict=False) if task in request.path
        ]
        assert began == sorted(began)
    found = marks(tmp_path)
    assert Counter(mark.kind for mark in found) == {"start": room + 1, "end": room + 1}
    assert all(most <= ledger.LIMITS[name] for name, most in ledger.most_at_once(found).items())
