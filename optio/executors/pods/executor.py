"""The Kubernetes executor: a pod for each attempt, found by its name again, so a worker can die at any moment.

One thread has the event loop with everything that talks to the cluster; workers' threads hold handles.
"""

import asyncio
import contextlib
import logging
import random
import secrets
import shlex
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any, TypeVar

from optio.errors import StoreUnavailable
from optio.executors import execve
from optio.executors.base import Exit, Handle, Launch, Warm
from optio.executors.pods import ending
from optio.executors.pods import manifest as pod
from optio.executors.pods.cluster import Cluster, Refused, Unreachable
from optio.executors.pods.frames import Frames, Piece
from optio.executors.pods.handle import PodHandle
from optio.executors.pods.manifest import PodSettings
from optio.executors.pods.plan import CONTROL, TAKE, TAKEN, delivery, environment
from optio.executors.procfs import uptime
from optio.model.pool import Pool

T = TypeVar("T")
Pod = Mapping[str, Any]
log = logging.getLogger(__name__)
# How long a call of a worker's thread waits for the cluster.
_PATIENCE_S = 30.0
# A launch that was sent says within this time that it has begun.
_BEGINS_S = 20.0
_STOP_S = 30.0
_COPIED_AT_ONCE = 4 << 20
# Between two looks when something went wrong; each pause is a little longer, and never two alike.
_PAUSE_S, _LONGEST_PAUSE_S = 0.2, 5.0
_FILES = {"stdout": "stdout", "stderr": "stderr", "result": "result/result.jsonl"}
_ORPHANED = Exit(code=None, signal=None, stopped_by="orphaned")
_GONE = Exit(code=None, signal=None, reason="deleted", message="the pod was deleted", temporary=True)


class PodExecutor:
    """Agents as pods of one namespace. `start_s` is how long a pod may take until its container runs."""

    def __init__(self, settings: PodSettings, programs: Mapping[str, str], *, start_s: float = 300.0) -> None:
        self._settings = settings
        self._programs = programs
        self._start_s = start_s
        self._pods: dict[str, Pod] = {}
        self._moved: dict[str, asyncio.Event] = {}
        self._tasks: dict[PodHandle, asyncio.Task[None]] = {}
        self._renewals: dict[PodHandle, _Renewal] = {}
        self._background: set[asyncio.Task[Any]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="pods", daemon=True)
        self._starting = threading.Lock()
        self._cluster: Cluster
        self._watcher: asyncio.Task[None]

    async def _open(self) -> None:
        self._cluster = Cluster(self._settings.namespace)
        self._watcher = asyncio.create_task(self._watch())

    def _call(self, work: Callable[[], Coroutine[Any, Any, T]], timeout: float = _PATIENCE_S) -> T:
        """Do it in the loop, for a worker's thread. The first one opens the cluster: a server never needs it."""
        with self._starting:
            if not self._thread.is_alive():
                self._thread.start()
            if not hasattr(self, "_cluster"):
                asyncio.run_coroutine_threadsafe(self._open(), self._loop).result(timeout)
        future = asyncio.run_coroutine_threadsafe(work(), self._loop)
        try:
            return future.result(timeout)
        except TimeoutError:
            future.cancel()
            raise

    # Executor

    def place(self) -> str:
        """See `Executor.place`."""
        try:
            return f"kubernetes/{self._call(lambda: self._cluster.namespace())['metadata']['uid']}/{self._settings.install}"
        except (Refused, Unreachable, TimeoutError) as err:
            raise StoreUnavailable(f"the namespace {self._settings.namespace} cannot be used: {err}") from err

    def clock(self) -> float:
        """See `Executor.clock`."""
        return uptime()

    def program(self, runtime: str) -> str:
        """See `Executor.program`. It is looked for on the image's PATH, when it starts."""
        return self._programs[runtime]

    def start(self, launch: Launch) -> Handle:
        """See `Executor.start`. The pod is made and launched by the loop: what goes wrong there is how the attempt ends."""
        execve.check(launch.argv, environment(launch))
        wanted = pod.attempt_pod(launch, self._settings, secrets.token_hex(8))
        return self._call(lambda: self._begin(launch, wanted))

    def find(self, run_id: str, attempt: int) -> Handle | None:
        """See `Executor.find`."""
        try:
            return self._call(lambda: self._found(run_id, attempt), 120.0)
        except (Refused, Unreachable, TimeoutError) as err:
            raise StoreUnavailable(f"the pods of {self._settings.namespace} cannot be looked at: {err}") from err

    def prepare(self) -> None:
        """See `Executor.prepare`."""

    def keep_warm(self, wanted: Sequence[Warm]) -> None:
        """See `Executor.keep_warm`."""

    def pools(self) -> list[Pool] | None:
        """See `Executor.pools`."""
        return None

    def attempts(self) -> list[tuple[str, int]]:
        """See `Executor.attempts`."""
        try:
            found, _ = self._call(lambda: self._cluster.pods(pod.selector(self._settings)))
        except (Refused, Unreachable, TimeoutError) as err:
            log.warning("the pods of %s cannot be listed: %s", self._settings.namespace, err)
            return []
        marked = [each["metadata"]["labels"] for each in found if "deletionTimestamp" not in each["metadata"]]
        return [(labels[pod.RUN], int(labels[pod.ATTEMPT])) for labels in marked if pod.RUN in labels]

    def remove(self, run_id: str, attempt: int) -> None:
        """See `Executor.remove`."""
        with contextlib.suppress(Refused, Unreachable, TimeoutError):
            self._call(lambda: self._removed(self._name(run_id, attempt)))

    def notes(self, environment: Mapping[str, object]) -> list[str]:
        """See `Executor.notes`."""
        return ["the Kubernetes executor does not apply environment.network"] if environment.get("network") else []

    def close(self) -> None:
        """See `Executor.close`."""
        if self._thread.is_alive():
            with contextlib.suppress(TimeoutError):
                asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(_PATIENCE_S)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
        self._loop.close()

    def _name(self, run_id: str, attempt: int) -> str:
        return pod.name_of(self._settings.install, run_id, attempt)

    async def _end(self) -> None:
        # What was asked for last is done first: pods that are to go.
        if self._background:
            await asyncio.wait(self._background, timeout=5)
        if not hasattr(self, "_cluster"):
            return
        tasks = [self._watcher, *self._tasks.values(), *self._background]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._cluster.close()

    # One attempt

    async def _begin(self, launch: Launch, wanted: Pod) -> PodHandle:
        handle = PodHandle(self._name(launch.run_id, launch.attempt), self._asked)
        self._renewals[handle] = _Renewal(launch.orphan_s, launch.leased_at)
        self._follow(handle, self._attempt(handle, launch, wanted))
        return handle

    def _follow(self, handle: PodHandle, work: Coroutine[Any, Any, Exit]) -> None:
        async def to_the_end() -> None:
            try:
                handle.end(await work)
            except asyncio.CancelledError:
                raise
            except Exception:
                log.exception("the pod %s cannot be followed any more", handle.name)
                handle.end(Exit(code=None, signal=None, reason="worker_error", message="see the worker's log", temporary=True))

        self._tasks[handle] = asyncio.create_task(to_the_end())

    async def _attempt(self, handle: PodHandle, launch: Launch, wanted: Pod) -> Exit:
        deadline = time.monotonic() + self._start_s
        if self._renewals[handle].left(uptime()) <= 0:
            return _ORPHANED
        try:
            made = await self._made(wanted, deadline)
            handle.uid = made["metadata"]["uid"]
            await self._running(handle, deadline)
            await self._launched(handle, launch)
            handle.launched = True
            handle.begin("cold")
            if handle.stop_wanted:
                await self._stopped(handle)
        except _Failed as err:
            await self._gone(handle)
            return err.exit
        return await self._logged(handle, made["metadata"]["annotations"][pod.MARK])

    async def _made(self, wanted: Pod, deadline: float) -> Pod:
        """The pod, which may have been made already by a request that got no answer."""
        taken = False
        async for _ in _again(deadline):
            try:
                found = await self._cluster.pod(wanted["metadata"]["name"]) if taken else None
                return await self._cluster.create(wanted) if found is None else self._ours(found)
            except Refused as err:
                taken = err.status == 409
                if not taken and not err.temporary:
                    reason = "quota" if "exceeded quota" in str(err) else "pod_refused"
                    raise _Failed(reason, f"the cluster refused the pod: {err}", temporary=reason == "quota") from err
                if err.wait:
                    await asyncio.sleep(err.wait)
                last: Exception = err
            except Unreachable as err:
                last = err
        raise _Failed("cluster", f"no pod could be made: {last}", temporary=True)

    def _ours(self, found: Pod) -> Pod:
        labels = found["metadata"].get("labels", {})
        name = found["metadata"]["name"]
        if labels.get(pod.INSTALL) != self._settings.install:
            raise _Failed("foreign_pod", f"a pod of somebody else's has the name {name}", temporary=False)
        if labels.get(pod.ROLE) != pod.ATTEMPT_ROLE:
            raise _Failed(exit=Exit(code=None, signal=None, lost=True))  # somebody has given this attempt up
        return found

    async def _running(self, handle: PodHandle, deadline: float) -> None:
        """Wait until the container runs; raises _Failed when it will not, or must not any more."""
        while True:
            moved = self._moved.setdefault(handle.name, asyncio.Event())
            moved.clear()
            status = self._pods.get(handle.name, {}).get("status", {})
            if handle.stop_wanted:
                raise _Failed("", "", stopped_by="stop")
            if _runs(status):
                return
            hopeless = ending.of_start(status)
            if hopeless is not None:
                raise _Failed(hopeless[0], hopeless[1], temporary=hopeless[2])
            ended = ending.of_status(status)
            if ended is not None:
                raise _Failed(exit=ended)
            left = deadline - time.monotonic()
            if left <= 0:
                reason, message = ending.slow(status)
                raise _Failed(reason, message, temporary=reason != "image")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(moved.wait(), min(left, 5.0))

    async def _launched(self, handle: PodHandle, launch: Launch) -> None:
        left = self._renewals[handle].left(uptime())
        if left <= 0:
            raise _Failed(exit=_ORPHANED)
        parcel = delivery(launch, orphan_s=left)
        try:
            code, said = await self._cluster.run(handle.name, pod.CONTAINER, parcel.command, parcel.data)
        except (Refused, Unreachable) as err:
            # Begun or not: the pod's log tells, if it does so in time.
            log.warning("the launch of %s got no answer: %s", handle.name, err)
            return
        if code == TAKEN:
            return  # a request of ours that got no answer, or somebody who gave the attempt up: the log tells
        if code != 0:
            raise _Failed("launch", f"the launch did not arrive: {said.decode('utf-8', 'replace')[:200]}", temporary=True)

    async def _logged(self, handle: PodHandle, mark: str, *, began: bool = False) -> Exit:
        """Follow the pod's log until its supervisor's last word, or until the pod can say nothing more. What was not begun by
        then ends after a while."""
        patience = time.monotonic() + _BEGINS_S
        async for _ in _again():
            status = self._pods.get(handle.name, {}).get("status", {})
            over = ending.of_status(status)
            try:
                async with asyncio.timeout(None if began else max(1.0, patience - time.monotonic())) as limit:
                    async with aclosing(self._pieces(handle, mark, follow=over is None)) as pieces:
                        async for piece in pieces:
                            if piece.stream == "end":
                                return ending.of_end(piece.data.decode())
                            if not began and (piece.stream in _FILES or piece.data == b"started"):
                                began = True
                                limit.reschedule(None)
                            await self._take(handle, piece)
            except TimeoutError:
                await self._gone(handle)
                return Exit(code=None, signal=None, reason="launch", message="the pod took no launch", temporary=True)
            except Unreachable as err:
                log.info("the log of %s broke off: %s", handle.name, err)
            except Refused as err:
                if err.status == 404 and await self._is_gone(handle):
                    return _GONE
            if over is not None:
                return over
            if await self._is_gone(handle):
                return _GONE
        raise AssertionError("not reached")

    async def _pieces(self, handle: PodHandle, mark: str, *, follow: bool) -> AsyncGenerator[Piece, None]:
        frames = Frames(mark)
        async with aclosing(self._cluster.log(handle.name, pod.CONTAINER, follow=follow)) as chunks:
            async for chunk in chunks:
                for piece in frames.feed(chunk):
                    yield piece
                handle.wake()

    async def _is_gone(self, handle: PodHandle) -> bool:
        try:
            found = await self._cluster.pod(handle.name)
        except (Refused, Unreachable):
            return False
        if found is not None:
            self._pods[handle.name] = found
        return found is None or (bool(handle.uid) and found["metadata"]["uid"] != handle.uid)

    async def _take(self, handle: PodHandle, piece: Piece) -> None:
        if piece.stream not in _FILES:
            return
        have = handle.spool.sizes[piece.stream]
        if piece.offset > have:
            await self._fill(handle, piece.stream, piece.offset - have)
            have = handle.spool.sizes[piece.stream]
        if piece.offset + len(piece.data) > have:
            handle.spool.add(piece.stream, piece.data[max(0, have - piece.offset) :])

    async def _fill(self, handle: PodHandle, stream: str, count: int) -> None:
        """What the kubelet has thrown away of the log is read from the agent's own file, for as long as the pod lives."""
        until = handle.spool.sizes[stream] + count
        with contextlib.suppress(Refused, Unreachable):
            await self._copied(handle, stream, until)
        lost = until - handle.spool.sizes[stream]
        if lost:
            log.warning("%d bytes of %s of %s are lost", lost, stream, handle.name)
            handle.spool.add(stream, f"\n[{lost} bytes are lost]\n".encode()[:lost].ljust(lost, b"\n"))

    async def _copied(self, handle: PodHandle, stream: str, until: int) -> None:
        """Take what is missing up to there from the agent's file."""
        path = shlex.quote(f"{CONTROL}/{_FILES[stream]}")
        while (have := handle.spool.sizes[stream]) < until:
            size = min(_COPIED_AT_ONCE, until - have)
            command = ["/bin/sh", "-c", f"tail -c +{have + 1} {path} | head -c {size}"]
            _, data = await self._cluster.run(handle.name, pod.CONTAINER, command, within=_PATIENCE_S)
            if not data:
                return
            handle.spool.add(stream, data[:size])

    async def _caught_up(self, handle: PodHandle) -> bool:
        """Take all that was printed before now, of which a rotated log may say nothing; whether the agent was begun."""
        for stream, file in _FILES.items():
            path = f"{CONTROL}/{file}"
            command = ["/bin/sh", "-c", f"[ -h {path} ] || [ ! -f {path} ] || wc -c <{path}"]
            _, said = await self._cluster.run(handle.name, pod.CONTAINER, command)
            await self._copied(handle, stream, int(said.strip() or b"0"))
        code, _ = await self._cluster.run(handle.name, pod.CONTAINER, ["/bin/sh", "-c", f"[ -f {CONTROL}/stdout ]"])
        return code == 0

    async def _resumed(self, handle: PodHandle, found: Pod) -> Exit:
        began = False
        if _runs(found["status"]):
            with contextlib.suppress(Refused, Unreachable):  # the log has it, as far as it goes back
                began = await self._caught_up(handle)
                handle.wake()
        return await self._logged(handle, found["metadata"]["annotations"][pod.MARK], began=began)

    # Found again

    async def _found(self, run_id: str, attempt: int) -> PodHandle | None:
        """The grip on a pod that was launched. One that was not is taken away, and its name with it."""
        name = self._name(run_id, attempt)
        async for _ in _again(time.monotonic() + 90):
            found = await self._cluster.pod(name)
            if found is None:
                with contextlib.suppress(Refused):
                    await self._cluster.create(pod.tombstone(run_id, attempt, self._settings))
                    return None
                continue
            labels = found["metadata"].get("labels", {})
            if labels.get(pod.INSTALL) != self._settings.install or labels.get(pod.ROLE) != pod.ATTEMPT_ROLE:
                return None
            uid = found["metadata"]["uid"]
            try:
                launched = found["metadata"].get("deletionTimestamp") is None and await self._was_launched(found)
            except Refused as err:
                log.info("whether %s was launched cannot be seen yet: %s", name, err)
                continue
            if launched:
                handle = PodHandle(name, self._asked)
                handle.uid, handle.launched = uid, True
                self._pods[name] = found
                self._renewals[handle] = _Renewal(float(found["metadata"]["annotations"][pod.ORPHAN]), uptime())
                self._follow(handle, self._resumed(handle, found))
                return handle
            await self._cluster.delete(name, uid, 0)
        raise Unreachable(f"the pod {name} does not go away")

    async def _was_launched(self, found: Pod) -> bool:
        status = found.get("status", {})
        if not _runs(status):
            return ending.of_status(status) is not None
        code, _ = await self._cluster.run(found["metadata"]["name"], pod.CONTAINER, ["/bin/sh", "-c", TAKE])
        return code != 0

    # What handles ask for

    def _asked(self, handle: PodHandle, what: str) -> None:
        """From any thread."""
        work: dict[str, Callable[[PodHandle], Coroutine[Any, Any, None]]] = {
            "stop": self._stopped,
            "renew": self._renewed,
            "close": self._closed,
            "remove": self._let_go,
        }

        def begin() -> None:
            task = self._loop.create_task(work[what](handle))
            self._background.add(task)
            task.add_done_callback(self._background.discard)

        try:
            self._loop.call_soon_threadsafe(begin)
        except RuntimeError:
            handle.spool.close()  # the executor is closed: the next owner looks after the pod

    async def _stopped(self, handle: PodHandle) -> None:
        """Tell the supervisor, which tells the agent. Who has not launched it yet sees that it is not wanted any more."""
        self._tell_moved(handle.name)
        if not handle.launched:
            return
        async for _ in _again(time.monotonic() + _STOP_S):
            if handle.exit() is not None:
                return
            with contextlib.suppress(Refused, Unreachable):
                await self._cluster.run(handle.name, pod.CONTAINER, ["/bin/sh", "-c", "kill -TERM 1"])
                return
        # Its supervisor cannot be reached: the node tells it, and ends it.
        await self._removed(handle.name)

    async def _renewed(self, handle: PodHandle) -> None:
        renewal = self._renewals.get(handle)
        if renewal is None or not renewal.due(uptime()) or handle.exit() is not None:
            return
        with contextlib.suppress(Refused, Unreachable):
            await self._cluster.run(handle.name, pod.CONTAINER, ["/bin/sh", "-c", f": >{CONTROL}/renewed"])

    async def _closed(self, handle: PodHandle) -> None:
        self._renewals.pop(handle, None)
        self._moved.pop(handle.name, None)
        task = self._tasks.pop(handle, None)
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        handle.spool.close()

    async def _let_go(self, handle: PodHandle) -> None:
        await self._closed(handle)
        await self._removed(handle.name)

    async def _removed(self, name: str) -> None:
        async for _ in _again(time.monotonic() + 60):
            with contextlib.suppress(Refused, Unreachable):
                found = await self._cluster.pod(name)
                if found is not None and found["metadata"].get("labels", {}).get(pod.INSTALL) == self._settings.install:
                    await self._cluster.delete(name, found["metadata"]["uid"], 0 if ending.of_status(found["status"]) else None)
                return

    async def _gone(self, handle: PodHandle) -> None:
        """Take a pod away in which nothing was begun."""
        if handle.uid:
            with contextlib.suppress(Refused, Unreachable):
                await self._cluster.delete(handle.name, handle.uid, 0)

    # The watch

    async def _watch(self) -> None:
        """The state of all pods, by one watch; listed anew whenever it breaks off."""
        labels = pod.selector(self._settings)
        async for _ in _again():
            try:
                listed, version = await self._cluster.pods(labels)
                known = {each["metadata"]["name"]: each for each in listed}
                for name in {*self._pods, *known}:
                    self._now(name, known.get(name))
                async with aclosing(self._cluster.watch(labels, version)) as changes:
                    async for kind, each in changes:
                        if kind != "BOOKMARK":
                            self._now(each["metadata"]["name"], None if kind == "DELETED" else each)
            except (Refused, Unreachable) as err:
                log.info("the watch of pods broke off: %s", err)
            except Exception:
                log.exception("the watch of pods failed")

    def _now(self, name: str, found: Pod | None) -> None:
        if found is None:
            self._pods.pop(name, None)
        else:
            self._pods[name] = found
        self._tell_moved(name)

    def _tell_moved(self, name: str) -> None:
        moved = self._moved.get(name)
        if moved is not None:
            moved.set()


class _Failed(Exception):
    """An attempt that ends before it has begun."""

    def __init__(
        self,
        reason: str = "",
        message: str = "",
        *,
        temporary: bool = False,
        stopped_by: str | None = None,
        exit: Exit | None = None,
    ) -> None:
        super().__init__(message)
        empty = Exit(code=None, signal=None, stopped_by=stopped_by)
        self.exit = exit or replace(empty, reason=reason or None, message=message, temporary=temporary)


class _Renewal:
    """Tells a pod now and then that its run has an owner; each time is a request to the cluster."""

    _SHARE = 0.2

    def __init__(self, orphan_s: float, told: float) -> None:
        self._orphan_s, self._told = orphan_s, told

    def left(self, now: float) -> float:
        return self._orphan_s - (now - self._told)

    def due(self, now: float) -> bool:
        if now - self._told < self._orphan_s * self._SHARE:
            return False
        self._told = now
        return True


def _runs(status: Mapping[str, Any]) -> bool:
    containers = status.get("containerStatuses") or [{}]
    return "running" in (containers[0].get("state") or {})


async def _again(deadline: float | None = None) -> AsyncIterator[None]:
    """Now, and again after pauses that grow, until the time is over; whoever has what he wanted leaves."""
    pause = _PAUSE_S
    while True:
        began = time.monotonic()
        yield
        if time.monotonic() - began > _LONGEST_PAUSE_S:
            pause = _PAUSE_S
        if deadline is not None and time.monotonic() + pause > deadline:
            return
        await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311
        pause = min(2 * pause, _LONGEST_PAUSE_S)
