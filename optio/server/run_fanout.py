"""Fan-out of changes of runs. All readers share one poll of the store; a reader that falls behind keeps the last change of each
run, and is told to read again when even these are too many.

Hints of the broker say which runs to read. They may be lost, so the newest and the running runs are also read every 2 seconds.
"""

import asyncio
import contextlib
import logging
from collections import OrderedDict, deque
from collections.abc import AsyncGenerator, Collection, Iterable, Sequence
from dataclasses import dataclass

from optio.broker.base import Topic
from optio.errors import NotFound, OptioError
from optio.model.run import Run, RunState
from optio.store.base import RunReader
from optio.store.values import RunFilter

log = logging.getLogger(__name__)
POLL_S = 2.0
# The shortest time between two polls, however many hints come.
MIN_POLL_S = 0.2
# The most changes that wait for one reader.
MAX_PENDING = 500
_NEWEST = 50
_MAX_RUNNING = 200
_MAX_REMEMBERED = 5000


@dataclass(frozen=True, slots=True)
class RunChanges:
    """The runs that have changed. `missed` means that earlier changes may be missing."""

    runs: Sequence[Run]
    missed: bool


class RunFanout:
    """The watchers of this server. All methods but `hint` belong to the server's loop."""

    def __init__(self) -> None:
        self._watchers: set[_RunWatcher] = set()
        self._hinted: deque[str] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._bell = asyncio.Event()
        self._polling: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()
        self._published: OrderedDict[str, tuple[object, ...]] = OrderedDict()
        self._running: set[str] = set()

    def hint(self, topic: Topic, key: str) -> None:
        """Accept a notification of the broker; may be called from any thread."""
        if self._watchers and self._loop is not None:
            # Only the first of many hints has to wake the loop.
            wakes = not self._hinted
            self._hinted.append(key)
            if wakes:
                with contextlib.suppress(RuntimeError):  # the loop is closed, so there are no readers
                    self._loop.call_soon_threadsafe(self._bell.set)

    async def watch(self, store: RunReader, task_id: str | None) -> AsyncGenerator[RunChanges, None]:
        """Yield the changes of runs, of one task or of all. The first item has none and says that earlier ones are missing:
        what is read from the store after it is complete."""
        watcher = _RunWatcher(task_id)
        self._watchers.add(watcher)
        try:
            if self._polling is None:
                self._loop = asyncio.get_running_loop()
                self._polling = self._loop.create_task(self._poll(store))
            await self._ready.wait()
            yield RunChanges((), missed=True)
            while True:
                await watcher.bell.wait()
                yield watcher.take()
        finally:
            self._watchers.discard(watcher)
            if not self._watchers and self._polling is not None:
                self._polling.cancel()
                self._polling = None
                self._ready.clear()
                self._published.clear()
                self._running.clear()

    async def _poll(self, store: RunReader) -> None:
        while True:
            self._bell.clear()
            hinted = {self._hinted.popleft() for _ in range(len(self._hinted))}
            try:
                runs = await asyncio.to_thread(_read, store, hinted | self._running)
            except OptioError as err:
                log.info("changes of runs could not be read: %s", err)
                self._hinted.extend(hinted)
            except Exception:
                log.exception("changes of runs could not be read")
            else:
                self._publish(runs)
                self._ready.set()
            await asyncio.sleep(MIN_POLL_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_S - MIN_POLL_S):
                    await self._bell.wait()

    def _publish(self, runs: Iterable[Run]) -> None:
        changed_runs = []
        for run in runs:
            state = (run.state, run.reason, run.message, run.attempt, run.cancel_requested)
            if self._published.get(run.id) != state:
                changed_runs.append(run)
            self._published[run.id] = state
            self._published.move_to_end(run.id)
            (self._running.add if run.state is RunState.RUNNING else self._running.discard)(run.id)
        while len(self._published) > _MAX_REMEMBERED:
            forgotten, _ = self._published.popitem(last=False)
            self._running.discard(forgotten)
        if changed_runs and self._ready.is_set():
            for watcher in self._watchers:
                watcher.put(changed_runs)


class _RunWatcher:
    """The changes that one reader has not taken yet."""

    def __init__(self, task_id: str | None) -> None:
        self._task_id = task_id
        self._pending: dict[str, Run] = {}
        self._missed = False
        self.bell = asyncio.Event()

    def put(self, runs: Iterable[Run]) -> None:
        """Add changes. Of each run the last one is kept."""
        watched = {run.id: run for run in runs if self._task_id in (None, run.task_id)}
        self._pending |= watched
        if len(self._pending) > MAX_PENDING:
            self._pending.clear()
            self._missed = True
        if watched:
            self.bell.set()

    def take(self) -> RunChanges:
        """Return what has come since the last call."""
        changes = RunChanges(list(self._pending.values()), self._missed)
        self._pending, self._missed = {}, False
        self.bell.clear()
        return changes


def _read(store: RunReader, run_ids: Collection[str]) -> list[Run]:
    """Return the running runs, the newest ones, and the wanted ones that are neither."""
    runs_by_id = {run.id: run for run in store.runs(RunFilter(state=RunState.RUNNING), limit=_MAX_RUNNING).items}
    runs_by_id |= {run.id: run for run in store.runs(RunFilter(), limit=_NEWEST).items}
    for run_id in set(run_ids) - runs_by_id.keys():
        with contextlib.suppress(NotFound):
            runs_by_id[run_id] = store.run(run_id)
    return list(runs_by_id.values())
