"""Reading of a pod's output, from its first byte to its supervisor's last word: from the log, and from the agent's files for
what the log lost."""

import asyncio
import contextlib
import logging
import shlex
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import TypeVar

from optio.executors.base import MAX_STREAM_BYTES, Exit
from optio.executors.pods import exit_status
from optio.executors.pods import manifest as pod
from optio.executors.pods.api_client import Refused, Unreachable
from optio.executors.pods.cluster import Cluster
from optio.executors.pods.frames import Frames, Piece
from optio.executors.pods.handle import PodHandle
from optio.executors.pods.informer import Informer, Pod, is_agent_running, retry_until
from optio.executors.pods.launch_script import CONTROL, LAUNCHED, LOOK, NEVER

T = TypeVar("T")
log = logging.getLogger(__name__)
# A launch that was sent says within this time that it has begun, and the time that its pod's gate may take.
_BEGINS_S = 20.0
_TRIES = 10
# The log of a warm pod can be read at once, but brings output later than the channel of the launch, which is left to bring the
# first of it for this time.
_FIRST_S = 2.0
_TOLD_S = 3.0
_FILL_S = 30.0
# How long the log of a pod that has ended is asked for, before its attempt counts as failed; and the file of one that lives,
# before what is missing counts as lost.
_READ_S = 300.0
_COPIED_AT_ONCE = 4 << 20
_FILES = {"stdout": "stdout", "stderr": "stderr", "result": "result/result.jsonl", "side": "side", "telemetry": "telemetry"}
_LOG_LOST = Exit(reason="log_lost", message="the pod's log could not be read", temporary=True)
_UNLAUNCHED = Exit(reason="launch", message="the pod took no launch", temporary=True)


@dataclass(slots=True)
class _Following:
    """How far the reading of a pod has come: whether its launch `began`, until when it must (`begins_by`) and how often the pod
    was asked (`tries`), whether the log said anything (`heard`), and since when the pod is over."""

    mark: str
    began: bool
    begins_by: float
    tries: int = 0
    heard: bool = False
    over_since: float | None = None


class PodLogReader:
    """A reader of pod logs that fills the spools of handles."""

    def __init__(self, cluster: Cluster, informer: Informer, gate_s: float) -> None:
        self._cluster, self._informer = cluster, informer
        self._begins_s = _BEGINS_S + gate_s

    async def follow(self, handle: PodHandle, mark: str, *, began: bool) -> Exit:
        """Follow a pod until its supervisor's last word, or until it can say nothing more. A pod that has not `began` is asked
        after a while, and given up if it never will."""
        state = _Following(mark, began, time.monotonic() + self._begins_s)
        async for _ in retry_until():
            await self._readable(handle)
            over, is_whole = exit_status.of_status(self._informer.status(handle.name)), False
            try:
                exit_ = await self._read(handle, state, follow=over is None)
                if exit_ is not None:
                    return exit_
                is_whole = True
            except TimeoutError:
                if await self._never_begins(handle, state):
                    return _UNLAUNCHED
                continue
            except Unreachable as err:
                log.info("the log of %s broke off: %s", handle.name, err)
            except Refused as err:
                if err.status == 404 and await self._is_gone(handle):
                    return exit_status.DELETED
                is_whole = err.status in (400, 404)  # a container that never ran has no log
            if over is not None:
                state.over_since = state.over_since or time.monotonic()
                if is_whole and not handle.spool.lacks(over.sizes):
                    return over
                if time.monotonic() - state.over_since > _READ_S:
                    return _LOG_LOST
            if await self._is_gone(handle):
                return exit_status.DELETED
        raise AssertionError("not reached")

    async def _read(self, handle: PodHandle, state: _Following, *, follow: bool) -> Exit | None:
        """Read the log once, as far as it goes. Return the end that the supervisor wrote, if it did; raise TimeoutError if a
        launch has not begun in time."""
        async with asyncio.timeout(None if state.began else max(1.0, state.begins_by - time.monotonic())) as limit:
            async with aclosing(self._pieces(handle, state.mark, follow=follow)) as pieces:
                async for piece in pieces:
                    if piece.stream in _FILES:
                        handle.unhear()
                    elif not state.heard:
                        asyncio.get_running_loop().call_later(_FIRST_S, handle.unhear)
                        state.heard = True
                    if piece.stream == "end":
                        return await self._end(handle, exit_status.of_end(piece.data.decode()))
                    if not state.began and (piece.stream in _FILES or piece.data == b"started"):
                        state.began = True
                        handle.begin()
                        limit.reschedule(None)
                    await self._take(handle, piece)
        return None

    async def _never_begins(self, handle: PodHandle, state: _Following) -> bool:
        """Ask a pod that has not begun in time. Return True if it never will, or has not answered so often."""
        has = await self._has_begun(handle)
        state.tries += 1
        if has:
            state.began = True
            handle.begin()
        state.begins_by = time.monotonic() + self._begins_s
        return has is False or (has is None and state.tries == _TRIES)

    async def _readable(self, handle: PodHandle) -> None:
        """Wait until the log can be read: that is when the node has reported that the container runs, which is later than it
        does."""
        limit = time.monotonic() + _TOLD_S
        while (time_left := limit - time.monotonic()) > 0:
            movement, status = self._informer.moved(handle.name), self._informer.status(handle.name)
            if is_agent_running(status) or exit_status.of_status(status) is not None:
                pod_object = self._informer.pods.get(handle.name)
                if pod_object is not None and pod_object["metadata"].get("uid") == handle.uid:
                    handle.take(pod_object)  # only now does it tell the digest of its image
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(time_left):
                    await movement.wait()

    async def _end(self, handle: PodHandle, exit_: Exit) -> Exit:
        """Read what the log lacks, and return the end with the reason for a stop that this worker has not requested."""
        for stream, size in exit_.sizes.items():
            if size > (have := handle.spool.sizes[stream]):
                await self._fill(handle, stream, size - have)
        if exit_.stopped_by != "stop" or handle.stop_wanted:
            return exit_
        try:
            pod_object = await self._cluster.pod(handle.name)
        except (Refused, Unreachable):
            return exit_
        if pod_object is None or pod_object["metadata"]["uid"] != handle.uid:
            return exit_status.DELETED
        disrupted = exit_status.disrupted(pod_object["status"])
        if disrupted is not None:
            return Exit(reason="evicted", message=disrupted, temporary=True)
        return exit_status.DELETED if "deletionTimestamp" in pod_object["metadata"] else exit_

    async def resume(self, handle: PodHandle, pod_object: Pod) -> Exit:
        """Follow a pod that another worker has launched."""
        has_begun = False
        if is_agent_running(pod_object["status"]):
            # A log that was rotated meanwhile tells nothing of it, not even that it is missing, before the agent prints more.
            answer = await self._asked(handle, lambda: self._caught_up(handle))
            if answer is not None:
                has_begun = answer
                handle.settle()
        return await self.follow(handle, pod_object["metadata"]["annotations"][pod.MARK], began=has_begun)

    async def _has_begun(self, handle: PodHandle) -> bool | None:
        """Ask the pod itself whether its agent was launched: an empty log proves nothing. False means that it was not and never
        will be, None that the pod does not answer."""
        try:
            code, _ = await self._cluster.run(handle.name, pod.CONTAINER, ["/bin/sh", "-c", LOOK])
        except (Refused, Unreachable) as err:
            log.info("whether %s has begun cannot be seen yet: %s", handle.name, err)
            return None
        return {LAUNCHED: True, NEVER: False}.get(code)

    async def _pieces(self, handle: PodHandle, mark: str, *, follow: bool) -> AsyncGenerator[Piece, None]:
        frames = Frames(mark)
        async with aclosing(self._cluster.log(handle.name, pod.CONTAINER, follow=follow)) as chunks:
            async for chunk in chunks:
                for piece in frames.feed(chunk):
                    yield piece
                handle.wake()
        if not follow:
            for piece in frames.rest():
                yield piece

    async def _is_gone(self, handle: PodHandle) -> bool:
        try:
            pod_object = await self._cluster.pod(handle.name)
        except (Refused, Unreachable):
            return False
        if pod_object is not None:
            self._informer.put(pod_object)
        return pod_object is None or (bool(handle.uid) and pod_object["metadata"]["uid"] != handle.uid)

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
        """Read what the kubelet has dropped from the log out of the agent's own file, while the pod lives."""
        until = handle.spool.sizes[stream] + count
        await self._asked(handle, lambda: self._copied(handle, stream, until))
        gap = until - handle.spool.sizes[stream]
        if gap:
            log.warning("%d bytes of %s of %s are lost", gap, stream, handle.name)
            handle.spool.add(stream, f"\n[{gap} bytes are lost]\n".encode()[:gap].ljust(gap, b"\n"))

    async def _asked(self, handle: PodHandle, request: Callable[[], Awaitable[T]]) -> T | None:
        """Return the answer of a command in the pod, tried again while the pod lives; None if it never answers."""
        async for _ in retry_until(time.monotonic() + _READ_S):
            with contextlib.suppress(Refused, Unreachable):
                return await request()
            if exit_status.of_status(self._informer.status(handle.name)) is not None or await self._is_gone(handle):
                break
        return None

    async def _copied(self, handle: PodHandle, stream: str, until: int) -> None:
        """Copy the missing bytes up to an offset from the agent's file."""
        path = shlex.quote(f"{CONTROL}/{_FILES[stream]}")
        while (have := handle.spool.sizes[stream]) < until:
            size = min(_COPIED_AT_ONCE, until - have)
            command = ["/bin/sh", "-c", f"tail -c +{have + 1} {path} | head -c {size}"]
            _, data = await self._cluster.run(handle.name, pod.CONTAINER, command, within=_FILL_S)
            if not data:
                return
            handle.spool.add(stream, data[:size])

    async def _caught_up(self, handle: PodHandle) -> bool:
        """Take everything that was printed before now, which a rotated log may lack. Return whether the agent was launched."""
        for stream, file in _FILES.items():
            path = f"{CONTROL}/{file}"
            command = ["/bin/sh", "-c", f"[ -h {path} ] || [ ! -f {path} ] || wc -c <{path}"]
            _, output = await self._cluster.run(handle.name, pod.CONTAINER, command)
            await self._copied(handle, stream, min(int(output.strip() or b"0"), MAX_STREAM_BYTES[stream]))
        code, _ = await self._cluster.run(handle.name, pod.CONTAINER, ["/bin/sh", "-c", f"[ -f {CONTROL}/stdout ]"])
        return code == 0
