"""The whole queue, and why each run in it waits. Used by `GET /api/queue` and the page `/queue`.

One decision answers for all queued runs, so all readers share it for a moment: a second, or five times as long as it took where
the queue is very long.
"""

import threading
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from optio.errors import Invalid, Problem
from optio.runs import admission
from optio.runs.admission import Hold, HoldReason
from optio.server.bodies.queue import QueueBody, QueuedRunBody, QueueGroupBody
from optio.server.serializers import at, at_if_known
from optio.store.base import Store
from optio.store.values import AdmissionView, QueuedRun

_MAX_OCCUPANTS = 10
_FRESH_S = 1.0
_SHARE_OF_TIME = 0.2
_STARTING = Hold("global_limit", "a worker is about to take it")


@dataclass(frozen=True, slots=True, kw_only=True)
class _QueueDecision:
    view: AdmissionView
    holds: Mapping[str, Hold]
    groups: list[QueueGroupBody]
    until: float


class QueueOverview:
    """The cache of the newest decision. Threads call it, not the loop."""

    def __init__(self, store: Store, max_running: int) -> None:
        self._store, self._max_running = store, max_running
        self._lock = threading.Lock()
        self._latest: _QueueDecision | None = None

    def read(
        self, *, reason: HoldReason | None = None, task_id: str | None = None, cursor: str | None = None, limit: int = 50
    ) -> QueueBody:
        """Return all groups, and the runs that wait for `reason` (None: for anything), oldest first. Raises Invalid for a
        cursor that no page gave."""
        decision = self._decision()
        first = _seq(cursor)
        waiting = [
            queued_run
            for queued_run in decision.view.waiting
            if queued_run.seq > first
            and (task_id is None or queued_run.task_id == task_id)
            and (reason is None or _reason(decision.holds.get(queued_run.run_id)) == reason)
        ]
        return QueueBody(
            groups=decision.groups,
            items=[_item(queued_run, decision.holds.get(queued_run.run_id)) for queued_run in waiting[:limit]],
            next=str(waiting[limit - 1].seq) if len(waiting) > limit else None,
            queued=len(decision.view.waiting),
            running=sum(decision.view.running.values()),
            max_running=self._max_running,
            at=at(decision.view.now),
        )

    def _decision(self) -> _QueueDecision:
        with self._lock:
            now = time.monotonic()
            if self._latest is None or now > self._latest.until:
                self._latest = self._decide(now)
            return self._latest

    def _decide(self, started_at: float) -> _QueueDecision:
        view = self._store.admission()
        holds = admission.explain(view, max_running=self._max_running)
        groups = _groups(view.waiting, holds)
        now = time.monotonic()
        return _QueueDecision(
            view=view, holds=holds, groups=groups, until=now + max(_FRESH_S, (now - started_at) / _SHARE_OF_TIME)
        )


def _groups(waiting: Sequence[QueuedRun], holds: Mapping[str, Hold]) -> list[QueueGroupBody]:
    parts: dict[HoldReason | None, list[QueuedRun]] = defaultdict(list)
    for queued_run in waiting:
        parts[_reason(holds.get(queued_run.run_id))].append(queued_run)
    groups = []
    for reason, runs in parts.items():
        group_holds = [holds[run.run_id] for run in runs if run.run_id in holds]
        starts = [hold.earliest for hold in group_holds if hold.earliest is not None]
        groups.append(
            QueueGroupBody(
                reason=reason,
                runs=len(runs),
                tasks=len({run.task_id for run in runs}),
                oldest=at(min(run.queued_at for run in runs)),
                earliest_start=at_if_known(min(starts, default=None)),
            )
        )
    return sorted(groups, key=lambda group: -group.runs)


def _reason(hold: Hold | None) -> HoldReason | None:
    return None if hold is None else hold.reason


def _item(run: QueuedRun, hold: Hold | None) -> QueuedRunBody:
    reported_hold = hold or _STARTING
    return QueuedRunBody(
        id=run.run_id,
        task_id=run.task_id,
        queued_at=at(run.queued_at),
        priority=run.priority,
        reason=_reason(hold),
        message=reported_hold.message,
        rule=reported_hold.rule,
        position=reported_hold.position,
        earliest_start=at_if_known(reported_hold.earliest),
        occupied_by=list(reported_hold.occupied_by[:_MAX_OCCUPANTS]),
        occupied=len(reported_hold.occupied_by),
    )


def _seq(cursor: str | None) -> int:
    if cursor is None:
        return -1
    if not cursor.isascii() or not cursor.isdigit() or len(cursor) > 18:
        raise Invalid("the cursor is invalid", [Problem("/cursor", "use `next` of the previous page")])
    return int(cursor)
