"""Hot reload: follow the tree on disk and update the registry that is served.

File system events only trigger a scan; what counts is the content of the files. A change is taken up when two scans in a row
agree, no changed file is open for writing, and git is not running. A file that keeps changing stays at its last content while
all others are taken up. A periodic scan finds what no event reported.
"""

import asyncio
import contextlib
import gc
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import watchfiles

from optio.broker.base import Broker, Topic
from optio.compiler.diagnostics import Severity, diagnostic
from optio.compiler.incremental import IncrementalCompiler, Stamp
from optio.compiler.report import render_concise
from optio.compiler.source_tree import SUFFIXES, DirectoryTree, OverlayTree
from optio.errors import OptioError
from optio.model.drift import DRIFT_GRACE_S
from optio.tree.git_commit import checked_out_commit
from optio.tree.scan import (
    MissingDirectory,
    TreeScan,
    differences,
    directory_identity,
    is_git_running,
    is_open_for_writing,
    is_unchanged,
    rescan,
    scan_directory,
)
from optio.tree.served import ServedRegistry, Snapshot

log = logging.getLogger(__name__)
# One saved file is quickly known to be whole; of many, others may follow.
_SETTLE_ONE_S, _SETTLE_MANY_S = 0.02, 0.1
# An editor's save may be "delete, then write".
_CONFIRM_GONE_S = 0.25
_MAX_SETTLE_S, _MAX_GIT_S = 2.0, 10.0
_MAX_ATTEMPTS = 4
_POLL_S = 1.0
_SCAN_PERIOD_S = 10.0
_RETRY_S = 30.0
# Scans of a large tree take at most this share of the time.
_MAX_SCAN_SHARE = 0.05
_MAX_LOGGED = 20
# How often the log says again that a removal is held.
REMIND_EVERY_S = 600.0


def log_news(snapshot: Snapshot) -> None:
    """Log the generation that is served, and the first errors of the tree."""
    generation = snapshot.generation.id if snapshot.generation else None
    log.info("serving generation %s: %d tasks of %d files", generation, len(snapshot.registry.tasks), snapshot.files)
    for line in render_concise([d for d in snapshot.diagnostics if d.severity is Severity.ERROR][:_MAX_LOGGED]):
        log.warning("%s", line)
    for task_id in sorted(snapshot.kept)[:_MAX_LOGGED]:
        log.warning("task %s is served as it was before its file broke", task_id)
    if snapshot.removal is not None:
        log.warning("%s", snapshot.removal.summary)
        log.warning("held tasks: %s", name_some(snapshot.removal.tasks))


def name_some(task_ids: Sequence[str]) -> str:
    """Return the first ids of a list, and how many there are besides."""
    rest = len(task_ids) - _MAX_LOGGED
    return ", ".join(task_ids[:_MAX_LOGGED]) + (f" and {rest} more" if rest > 0 else "")


class Reloader:
    """Keeps a ServedRegistry equal to a directory, and in step with other servers of the same database."""

    def __init__(
        self, root: Path, live: ServedRegistry, broker: Broker, *, on_change: Callable[[Snapshot], None] = log_news
    ) -> None:
        self._root = root
        self._live = live
        self._broker = broker
        self._on_change = on_change
        self._compiler = IncrementalCompiler()
        self._lock = asyncio.Lock()
        self._halt = threading.Event()
        # The stamps that the last compilation saw, None if one could hide a change. Files held back have their old one.
        self._stamps: dict[str, Stamp | None] = {}
        self._gone_since: dict[str, float] = {}
        self._is_held = False
        self._loaded = False
        self._is_lost = False
        self._cost = 0.0
        self._complaint = ""
        self._remind_at = 0.0
        self._commit: str | None = None

    async def load(self, paths: Collection[str] | None = None) -> Snapshot:
        """Take up the tree now, or only the changes of `paths`. Return the snapshot that is served afterwards."""
        if paths is None:
            await self._follow()
        else:
            await self._locked(None, frozenset(paths))
        return self._live.current

    async def _follow(self) -> None:
        """Wait until the tree is at rest and take up its content."""
        for attempt in range(_MAX_ATTEMPTS):
            rest = await asyncio.to_thread(self._settle)
            if rest is not None and attempt == _MAX_ATTEMPTS - 1:
                rest = replace(rest, forced=True)
            if rest is None or await self._locked(rest, None):
                return

    async def _locked(self, rest: "_SettledScan | None", paths: frozenset[str] | None) -> bool:
        async with self._lock:
            return await asyncio.to_thread(self._take_up, rest, paths)

    def _take_up(self, rest: "_SettledScan | None", paths: frozenset[str] | None) -> bool:
        """Compile and serve the tree. Return False if the tree changed meanwhile: what was read may mix two states."""
        before = self._live.current
        known_paths = self._compiler.known()
        try:
            now = self._scan(known_paths)
        except MissingDirectory as err:
            self._lose(err)
            return True
        changed_paths = self._changed(now)
        held_paths: set[str] = set()
        if paths is not None and self._loaded:
            held_paths = changed_paths - paths
        elif rest is not None:
            disturbed = differences(rest.stamps, now.stamps)
            if disturbed and not rest.forced:
                return False
            held_paths = changed_paths & (rest.moving | disturbed)
        tree = DirectoryTree(self._root, now.task_files)
        stamps: dict[str, Stamp | None] = {path: stamp for path, stamp in now.stamps.items() if path not in held_paths}
        stamps |= dict.fromkeys(now.racy & stamps.keys())
        compilation = self._compiler.compile(
            OverlayTree(tree, {path: _content(known_paths, path) for path in held_paths}) if held_paths else tree,
            {path: stamp for path, stamp in stamps.items() if stamp is not None},
        )
        if rest is not None and not rest.forced and not is_unchanged(self._root, now, changed_paths):
            return False
        self._commit = checked_out_commit(self._root)
        snapshot = self._live.replace(compilation, self._compiler.unserved(compilation), self._commit, deleted=paths or ())
        self._stamps = stamps | {path: self._stamps[path] for path in held_paths if path in self._stamps}
        if not self._loaded:
            # What a tree holds lives for long: a later collection need not walk through it all, which stops everybody.
            gc.collect()
            gc.freeze()
        self._is_held, self._loaded, self._is_lost = bool(held_paths), True, False
        self._publish(before, snapshot)
        return True

    def _publish(self, before: Snapshot, snapshot: Snapshot) -> None:
        """Report a snapshot that serves something else than the one before, or says something else of the tree."""
        is_new = before.generation is None or snapshot.registry.digest != before.registry.digest
        if is_new:
            self._broker.tell(Topic.REGISTRY)
        if is_new or _findings(snapshot) != _findings(before):
            self._on_change(snapshot)

    def _lose(self, err: MissingDirectory) -> None:
        """Serve the last generation of a tree that cannot be read. An unreadable tree is not an empty one: nobody deleted its
        tasks."""
        if not self._is_lost:
            hint = "put it back: until then all tasks are served as they were"
            self._on_change(self._live.serve_unreadable(diagnostic("OPT115", str(err), path=err.path, hint=hint)))
        self._is_lost = True

    def _settle(self) -> "_SettledScan | None":
        """Wait until the tree is at rest, up to a limit. Return None if nothing is new."""
        started_at = time.monotonic()
        known_paths = self._compiler.known()
        before = self._scan_patiently(known_paths)
        if before is None:
            return _NOTHING
        changed_paths = self._changed(before)
        if not changed_paths and self._loaded and not self._is_lost and checked_out_commit(self._root) == self._commit:
            return None
        if not self._loaded and not before.racy and not self._open_for_writing(changed_paths):
            return _SettledScan(before.stamps)
        relevant_paths = [path for path in changed_paths if path.endswith(SUFFIXES) or path in known_paths]
        pause = _SETTLE_ONE_S if len(relevant_paths) <= 1 else _SETTLE_MANY_S
        patience = started_at + _MAX_SETTLE_S
        while not self._halt.wait(max(pause, self._cost)):
            # For one changed file, its own stamp is enough: other changes are seen by the scan that takes the tree up.
            now = rescan(self._root, before, changed_paths) if len(changed_paths) == 1 else self._scan_patiently(known_paths)
            if now is None:
                return _NOTHING
            changed_paths = self._changed(now)
            moving = differences(before.stamps, now.stamps) | self._just_gone(changed_paths - now.stamps.keys())
            moving |= self._open_for_writing((changed_paths - moving) & now.stamps.keys())
            if time.monotonic() - started_at < _MAX_GIT_S and is_git_running(self._root, within=_MAX_GIT_S):
                # When git is done, its last files have not come to rest yet.
                patience = time.monotonic() + _MAX_SETTLE_S
            elif not moving or time.monotonic() > patience:
                return _SettledScan(now.stamps, frozenset(moving), forced=bool(moving))
            before, pause = now, min(pause * 1.5, _CONFIRM_GONE_S)
        return _SettledScan(before.stamps, frozenset(changed_paths), forced=True)

    def _open_for_writing(self, paths: Collection[str]) -> set[str]:
        return {path for path in paths if is_open_for_writing(self._root / path)}

    def _changed(self, now: TreeScan) -> set[str]:
        return differences(self._stamps, now.stamps)

    def _just_gone(self, gone_paths: Collection[str]) -> set[str]:
        """Return the missing files that may come back in a moment."""
        now = time.monotonic()
        self._gone_since = {path: self._gone_since.get(path, now) for path in gone_paths}
        return {path for path, since in self._gone_since.items() if now - since < _CONFIRM_GONE_S}

    def _scan_patiently(self, known_paths: Collection[str]) -> TreeScan | None:
        """Scan the tree, and retry for a moment if it is missing. Return None if it stays missing."""
        limit = time.monotonic() + _CONFIRM_GONE_S
        while True:
            try:
                return self._scan(known_paths)
            except MissingDirectory:
                if self._is_lost or time.monotonic() > limit or self._halt.wait(_SETTLE_ONE_S):
                    return None

    def _scan(self, known_paths: Collection[str]) -> TreeScan:
        started_at = time.monotonic()
        scan = scan_directory(self._root, known_paths)
        self._cost = time.monotonic() - started_at
        return scan

    async def watch(self, stop: asyncio.Event) -> None:
        """Follow the tree, and the generations of other servers, until `stop`. Never raises."""
        await asyncio.gather(self._watch_files(stop), self._watch_servers(stop))

    async def _watch_servers(self, stop: asyncio.Event) -> None:
        """Check what other servers have done, at every notification and each second."""
        notified, loop = asyncio.Event(), asyncio.get_running_loop()

        def hint(topic: Topic, key: str) -> None:
            with contextlib.suppress(RuntimeError):  # the loop may be closed by now
                loop.call_soon_threadsafe(notified.set)

        unsubscribe = self._broker.subscribe(hint, (Topic.REGISTRY,))
        stopping = asyncio.create_task(stop.wait())
        stopping.add_done_callback(lambda _: notified.set())
        try:
            while not stop.is_set():
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(notified.wait(), _POLL_S)
                notified.clear()
                if not stop.is_set():
                    await self._follow_servers()
        finally:
            unsubscribe()
            stopping.cancel()
            with contextlib.suppress(OptioError):
                await asyncio.to_thread(self._live.leave)

    async def _watch_files(self, stop: asyncio.Event) -> None:
        """Follow the files by events and periodic scans; without events, the scans alone find every change."""
        wake = asyncio.Event()
        stopping = asyncio.create_task(stop.wait())
        stopping.add_done_callback(lambda _: self._halt.set())
        stopping.add_done_callback(lambda _: wake.set())
        watcher = _Watcher(self._root, wake)
        due = 0.0
        try:
            while not stop.is_set():
                if await watcher.follow():
                    # Changes before the watcher was ready are found by the next scans.
                    wake.set()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(wake.wait(), max(0.0, min(_POLL_S, due - time.monotonic())))
                woken = wake.is_set()
                wake.clear()
                if stop.is_set() or not (woken or time.monotonic() >= due):
                    continue
                calm = await self._try(self._follow)
                if self._is_held:
                    wake.set()
                # A watcher misses files in directories that are made while it is busy: scan once more after each event.
                soon = woken or not calm or watcher.blind or None in self._stamps.values()
                due = time.monotonic() + max(_POLL_S if soon else _SCAN_PERIOD_S, self._cost / _MAX_SCAN_SHARE)
        finally:
            self._halt.set()
            stopping.cancel()
            await watcher.close()

    async def _follow_servers(self) -> None:
        """Take up what other servers have done (a new generation, a release of held tasks), and report that this server is
        there. Log now and then that tasks are held, or that the directory differs."""

        async def follow() -> None:
            if await asyncio.to_thread(lambda: self._live.is_behind() or self._live.is_released()):
                await self.load(())
            await asyncio.to_thread(self._live.tell)

        await self._try(follow)
        snapshot, now = self._live.current, time.monotonic()
        drifts = snapshot.drift is not None and now - snapshot.drift.since > DRIFT_GRACE_S
        if snapshot.removal is None and not drifts:
            self._remind_at = 0.0
        elif now >= self._remind_at:
            # A held removal was logged when it began.
            if snapshot.removal is not None and self._remind_at:
                log.warning("%s", snapshot.removal.summary)
            if snapshot.drift is not None and drifts:
                log.warning("%s (%s): %s", snapshot.drift.summary, snapshot.drift.details, snapshot.drift.cure)
            self._remind_at = now + REMIND_EVERY_S

    async def _try(self, follow: Callable[[], Awaitable[None]]) -> bool:
        """Take up the tree if something changed. Return False, and log it once, if that failed."""
        try:
            await follow()
        except OptioError as err:
            if str(err) != self._complaint:
                log.warning("the tree cannot be taken up now: %s", err)
            self._complaint = str(err)
            return False
        except Exception:
            log.exception("the tree could not be taken up")
            return False
        self._complaint = ""
        return True


@dataclass(frozen=True, slots=True)
class _SettledScan:
    """The last scan of a tree, with the files that were still changing; `forced` if it did not come to rest in time."""

    stamps: Mapping[str, Stamp]
    moving: frozenset[str] = frozenset()
    forced: bool = False


_NOTHING = _SettledScan({}, forced=True)


class _Watcher:
    """Sets an event when something changes below a directory, also after another directory was put in its place."""

    def __init__(self, root: Path, wake: asyncio.Event) -> None:
        self._root = root
        self._wake = wake
        self._place: tuple[str, int, int] | None = None
        self._task: asyncio.Task[None] | None = None
        self._retry_at = 0.0
        self.blind = True

    async def follow(self) -> bool:
        """Watch the directory that is at the path now. Return whether it is another one than before."""
        place = directory_identity(self._root)
        if place == self._place and (self._task is None or not self._task.done() or time.monotonic() < self._retry_at):
            return False
        await self.close()
        has_moved, self._place = place != self._place, place
        self.blind = place is None
        if place is not None:
            self._retry_at = time.monotonic() + _RETRY_S
            self._task = asyncio.create_task(self._events())
        return has_moved

    async def _events(self) -> None:
        try:
            async for _ in watchfiles.awatch(self._root, step=10, debounce=50, rust_timeout=1000, watch_filter=None):
                self._wake.set()
        except (OSError, RuntimeError) as err:
            log.warning("no file events (%s; see fs.inotify.max_user_watches): changes are found by a scan", err)
        self.blind = True

    async def close(self) -> None:
        """Stop watching and end the task that reads events."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None


def _content(contents: Mapping[str, bytes | None], path: str) -> bytes | None:
    """Return the content of a file when it was last taken up; empty if it could not be read, None if it was not there."""
    return (contents[path] or b"") if path in contents else None


def _findings(snapshot: Snapshot) -> tuple[Any, ...]:
    return snapshot.diagnostics, snapshot.kept, snapshot.removal
