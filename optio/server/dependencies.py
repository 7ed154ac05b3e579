"""The dependencies of HTTP handlers: services, the served registry, and the parts of the server that several routes share."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection
from dataclasses import replace
from datetime import datetime
from typing import Any

from litestar import Request
from litestar.di import NamedDependency

from optio.broker.base import Topic, announce_queued
from optio.errors import Conflict, Duplicate, OptioError
from optio.identity.base import IdentityProvider
from optio.model.run import Run, RunState
from optio.runs.admission import Hold, hold_of
from optio.runs.submit import prepare_run
from optio.server.auth import AccessControl
from optio.server.listing import TaskList
from optio.server.log_fanout import LogFanout
from optio.server.queue_limit import QueueLimit
from optio.server.read_models.calendar import FireCalendar, PastSlots
from optio.server.read_models.fleet import FleetReader
from optio.server.read_models.generations import GenerationHistory
from optio.server.read_models.overview import Overview
from optio.server.read_models.policy import ServedPolicy
from optio.server.read_models.queue import QueueOverview
from optio.server.read_models.totals import RecentTotals
from optio.server.refusals import RefusalCounter
from optio.server.run_fanout import RunFanout
from optio.store.values import Accepted, IdempotencyKey, NewRun
from optio.telemetry.base import Queued, Withdrawn
from optio.tree.served import ServedRegistry, Snapshot
from optio.tree.writer import TaskFileWriter
from optio.wiring import Services


class Hub:
    """The shared parts, passed to every handler by the name `hub`. `reload` takes the given files of the tree up at once."""

    def __init__(
        self,
        services: Services,
        served_registry: ServedRegistry,
        reload: Callable[[Collection[str]], Awaitable[object]],
        *,
        access_control: AccessControl,
        identity: IdentityProvider | None,
        log_fanout: LogFanout,
        new_id: Callable[[], str],
    ) -> None:
        settings, store = services.settings, services.store
        self.services, self.served_registry, self.reload, self.new_id = services, served_registry, reload, new_id
        self.access_control, self.identity = access_control, identity
        self.log_fanout, self.run_fanout = log_fanout, RunFanout()
        # Held for a write to the tree, from reading the task to the answer: one request at a time.
        self.write_lock = asyncio.Lock()
        # Held for a step of a search of a log, which keeps two processors busy. Several searches take turns.
        self.search_lock = asyncio.Lock()
        lock = settings.data_dir / "writes.lock"
        self.task_writer = TaskFileWriter(settings.tasks, services.secrets, deny=settings.writes != "files", lock=lock)
        self.queue_limit = QueueLimit(store, settings.max_queued)
        self.refusals = RefusalCounter(store)
        self.task_list = TaskList()
        self.totals, self.policy = RecentTotals(store), ServedPolicy(settings.tasks)
        self.overview = Overview(store, self.totals, self.policy)
        self.queue = QueueOverview(store, settings.max_workflow_concurrent)
        self.history = GenerationHistory(store)
        self.calendar, self.past_slots = FireCalendar(settings.max_workflow_concurrent), PastSlots(store)
        self.fleet = FleetReader(store)

    @property
    def snapshot(self) -> Snapshot:
        """Return what is served now."""
        return self.served_registry.current

    def hold_of(self, run: Run) -> Hold | None:
        """Return why a run waits; None for one that is not queued, or that a worker is about to take. Asks the store."""
        if run.state is not RunState.QUEUED:
            return None
        return hold_of(run.id, self.services.store.admission(), max_running=self.services.settings.max_workflow_concurrent)

    async def start(self, run: NewRun, idempotency_key: IdempotencyKey | None, requested_at: datetime) -> Accepted:
        """Start a run that was requested at `requested_at`; the answer has its id. Raises Duplicate, Conflict and QueueFull."""
        self.queue_limit.admit()
        accepted = await asyncio.wrap_future(self.services.store.accept(run, once=idempotency_key))
        run_id = accepted.run_id or run.id
        if accepted.rejected:
            raise Duplicate(run_id)
        await self.withdraw(accepted.superseded)
        announce_queued(self.services.broker, [(run_id, run.task.namespace)])
        self.run_fanout.hint(Topic.RUN, run_id)
        if accepted.first:
            self.services.telemetry.tell(Queued(run_id, run.task.id, run.trigger, requested_at, run.traceparent))
        return replace(accepted, run_id=run_id)

    async def retry(self, run_id: str, actor: str) -> Run:
        """Queue a failed run again, and tell the workers. Raises NotFound, Conflict and Duplicate."""
        run = await asyncio.to_thread(self.services.store.retry, run_id, actor)
        self.services.broker.tell(Topic.RUN, run_id)
        task = self.snapshot.registry.tasks.get(run.task_id)
        announce_queued(self.services.broker, [(run_id, None if task is None else task.namespace)])
        return run

    async def rerun(
        self,
        run_id: str,
        actor: str,
        requested_at: datetime,
        *,
        current: bool = False,
        idempotency_key: IdempotencyKey | None = None,
        traceparent: str | None = None,
    ) -> Accepted:
        """Start a run that has ended again, as a new run with the same parameters, of the same definition or of the `current`
        one. Raises NotFound, Conflict, and what `start` raises."""
        store, snapshot = self.services.store, self.snapshot
        earlier = await asyncio.to_thread(store.run, run_id)
        if not earlier.state.terminal:
            raise Conflict(f"the run is {earlier.state}: rerun it when it has ended")
        served_task = snapshot.registry.tasks.get(earlier.task_id)
        if served_task is None:
            raise Conflict(f"the task `{earlier.task_id}` is not served any more: add its file again, then rerun")
        task = served_task if current else await asyncio.to_thread(store.definition, earlier.digest)
        run = prepare_run(
            task,
            earlier.params,
            new_id=self.new_id(),
            trigger="manual",
            actor=actor,
            traceparent=traceparent,
            generation=snapshot.number if task.digest == served_task.digest else earlier.generation,
            message=f"rerun of {run_id}",
        )
        return await self.start(run, idempotency_key, requested_at)

    async def cancel(self, run_id: str, actor: str) -> Run:
        """Cancel a queued run, or let its worker stop a running one. Raises NotFound and Conflict."""
        run = await asyncio.to_thread(self.services.store.cancel, run_id, actor)
        self.services.broker.tell(Topic.CANCEL, run_id)
        self.services.broker.tell(Topic.RUN, run_id)
        if run.state is RunState.CANCELLED:
            self.services.telemetry.tell(Withdrawn(run))
        return run

    async def withdraw(self, run_id: str | None) -> None:
        """Notify others of a queued run that was cancelled in favour of a newer one; None means that there was none."""
        if run_id is None:
            return
        self.services.broker.tell(Topic.RUN, run_id)
        with contextlib.suppress(OptioError):  # the run is cancelled in any case
            self.services.telemetry.tell(Withdrawn(await asyncio.to_thread(self.services.store.run, run_id)))


# What handlers declare: the request, and the hub of the server that got it.
Incoming = Request[Any, Any, Any]
InjectedHub = NamedDependency[Hub]
