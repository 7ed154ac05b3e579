"""Hot reload: the tree on disk -> the registry that is served.

Events of the file system only say "look"; what counts is what the files hold. A change is taken up when two looks in a row
agree and no changed file is still open for writing, so a half-written file is never served; and a scan now and then finds
what no event told.
"""

import asyncio
import fcntl
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

import watchfiles

from optio.broker.base import Broker, Topic
from optio.compiler.incremental import IncrementalCompiler
from optio.compiler.tree import DirectoryTree
from optio.errors import OptioError
from optio.live import LiveRegistry, Snapshot

log = logging.getLogger(__name__)
_SETTLE = 0.02
_LONGEST_SETTLE = 2.0
_SCAN_EVERY = 10.0
Look = dict[str, tuple[int, int, int]]


class Reloader:
    """Keeps a LiveRegistry equal to a directory."""

    def __init__(
        self, root: Path, live: LiveRegistry, broker: Broker, *, on_change: Callable[[Snapshot], None] = lambda snapshot: None
    ) -> None:
        self._root = root
        self._live = live
        self._broker = broker
        self._on_change = on_change
        self._compiler = IncrementalCompiler()
        self._lock = asyncio.Lock()
        self._seen: Look = {}

    async def load(self) -> Snapshot:
        """Compile the tree now and serve it; the snapshot that is served afterwards."""
        async with self._lock:
            return await asyncio.to_thread(self._load)

    def _load(self) -> Snapshot:
        seen = look(self._root)
        compilation = self._compiler.compile(DirectoryTree(self._root))
        before = self._live.current
        snapshot = self._live.replace(compilation)
        self._seen = seen
        if before.generation is None or snapshot.registry.digest != before.registry.digest:
            self._broker.tell(Topic.REGISTRY)
        if before.generation is None or snapshot.diagnostics != before.diagnostics or snapshot.registry != before.registry:
            self._on_change(snapshot)
        return snapshot

    async def watch(self, stop: asyncio.Event) -> None:
        """Follow the tree until `stop`. Never raises: without a watcher the scan still finds every change."""
        watcher = asyncio.create_task(self._watch_events(stop))
        try:
            while not stop.is_set():
                try:
                    await asyncio.wait_for(stop.wait(), _SCAN_EVERY)
                except TimeoutError:
                    await self._take_up()
        finally:
            watcher.cancel()

    async def _watch_events(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            try:
                self._root.mkdir(parents=True, exist_ok=True)
                async for _ in watchfiles.awatch(
                    self._root, step=10, debounce=50, rust_timeout=1000, stop_event=stop, watch_filter=None
                ):
                    await self._take_up()
            except (OSError, RuntimeError) as err:
                log.warning("no file events (%s): changes are found by a scan each %d s", err, _SCAN_EVERY)
                await asyncio.sleep(1)
                await self._take_up()

    async def _take_up(self) -> None:
        try:
            if await asyncio.to_thread(self._settled):
                await self.load()
        except OptioError as err:
            log.warning("the tree cannot be taken up now: %s", err)
        except Exception:
            log.exception("the tree could not be taken up")

    def _settled(self) -> bool:
        """Wait until two looks agree; whether there is anything new."""
        limit = time.monotonic() + _LONGEST_SETTLE
        before = look(self._root)
        if before == self._seen:
            return False
        while time.monotonic() < limit:
            time.sleep(_SETTLE)
            now = look(self._root)
            changed = [path for path, sign in now.items() if self._seen.get(path) != sign]
            gone = [path for path in self._seen if path not in now]
            if now == before and not any(being_written(self._root / path) for path in changed) and not gone:
                return True
            if now == before and gone and time.monotonic() > limit - _LONGEST_SETTLE + 0.1:
                # An editor's save may be "delete, then write": what is gone must stay gone for a moment.
                return True
            before = now
        return True


def look(root: Path) -> Look:
    """Signs of every file below `root`: (modification time, size, inode)."""
    found: Look = {}
    stack = [(str(root), "")]
    while stack:
        directory, prefix = stack.pop()
        try:
            entries = list(os.scandir(directory))
        except OSError:
            continue
        for entry in entries:
            if entry.name.startswith("."):
                continue
            try:
                if entry.is_dir(follow_symlinks=False):
                    stack.append((entry.path, f"{prefix}{entry.name}/"))
                else:
                    status = entry.stat()
                    found[prefix + entry.name] = (status.st_mtime_ns, status.st_size, status.st_ino)
            except OSError:
                continue
    return found


def being_written(path: Path) -> bool:
    """Whether a process has the file open for writing: the kernel then refuses a read lease (fcntl(2), F_SETLEASE)."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except BlockingIOError:
        return True
    except OSError:
        return False  # not a file system (or not an owner) that knows leases
    finally:
        os.close(descriptor)
    return False
