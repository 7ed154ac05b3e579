"""The handle of an attempt in a pod. The loop's side records what the pod says; the worker's side reads and waits."""

import asyncio
import threading
import time
from collections.abc import Callable, Sequence

from optio.executors.base import STREAMS, Exit, Handle, LaunchArrival
from optio.executors.pods import exit_status, informer, manifest
from optio.executors.pods.informer import Pod
from optio.executors.pods.spool import Spool
from optio.model.pool import StartKind
from optio.model.room import Delay
from optio.model.run import AgentPod

# Of the channel of the launch so much is taken: it knows no limit of a stream.
_MAX_HEARD_BYTES = 1 << 20


class PodHandle(Handle):
    """The handle of an attempt in a pod. `ask` passes on the worker's requests: `stop`, `renew`, `close` or `remove`."""

    streams: Sequence[str] = STREAMS

    def __init__(
        self, name: str, run_id: str, attempt: int, ask: Callable[["PodHandle", str], None], *, settled: bool = True
    ) -> None:
        self.name, self.run_id, self.attempt = name, run_id, attempt
        self.uid = ""
        self._pod: AgentPod | None = None
        self._memory: str | None = None
        self.stopping = asyncio.Event()
        self.how: StartKind = "cold"
        self.spool = Spool()
        self.launched = self.stop_wanted = False
        self._settled = settled
        self._ask = ask
        self._arrival: LaunchArrival | None = None
        self._delay: Delay | None = None
        self._exit: Exit | None = None
        self._changed = threading.Condition()
        self._news = False
        self._heard_bytes = 0
        self.unhear: Callable[[], object] = lambda: None

    # The worker's side

    def read(self, stream: str, offset: int, limit: int) -> bytes:
        return self.spool.read(stream, offset, limit)

    def settled(self) -> bool:
        return self._settled or self._exit is not None

    def wait(self, timeout: float) -> None:
        with self._changed:
            if not self._news and self._exit is None:
                self._changed.wait(timeout)
            self._news = False

    def wake(self) -> None:
        with self._changed:
            self._news = True
            self._changed.notify_all()

    def begun(self) -> LaunchArrival | None:
        return self._arrival

    def pod(self) -> AgentPod | None:
        return self._pod

    def delay(self) -> Delay | None:
        return self._delay

    def exit(self) -> Exit | None:
        return self._exit

    def renewed(self, at: float) -> None:
        self._ask(self, "renew")

    def stop(self) -> None:
        self.stop_wanted = True
        self._ask(self, "stop")

    def close(self, *, remove: bool) -> None:
        self._ask(self, "remove" if remove else "close")

    # The loop's side

    def take(self, pod_object: Pod) -> None:
        """Record that this is its pod, with the state that the cluster reports now."""
        meta = pod_object["metadata"]
        self.name, self.uid = meta["name"], meta["uid"]
        self._memory = manifest.memory_of(pod_object)
        image = informer.container(pod_object.get("status") or {}).get("imageID") or (
            None if self._pod is None else self._pod.image
        )
        last_pod, self._pod = self._pod, AgentPod(meta["namespace"], meta["name"], pod_object["spec"].get("nodeName"), image)
        if self._pod != last_pod:
            self.wake()

    def begin(self) -> None:
        """Record that the launch has arrived."""
        self._arrival = self._arrival or LaunchArrival(time.monotonic(), self.how)
        self.wake()

    def hear(self, data: bytes) -> None:
        """Record output that comes sooner than by the log, from its first byte on. The log brings what is too much."""
        if self._heard_bytes >= _MAX_HEARD_BYTES:
            return
        at, have = self._heard_bytes, self.spool.sizes["stdout"]
        self._heard_bytes += len(data)
        if self._heard_bytes > have:
            self.spool.add("stdout", data[max(0, have - at) :])
            self.wake()

    def tell_delay(self, delay: Delay) -> None:
        """Record why the pod does not start yet."""
        if delay != self._delay:
            self._delay = delay
            self.wake()

    def settle(self) -> None:
        """Record that everything which was printed before the pod was found has arrived."""
        self._settled = True
        self.wake()

    def end(self, exit_: Exit) -> None:
        """Record the end: nothing more will come. The first end counts."""
        with self._changed:
            self._exit = self._exit or exit_status.with_limit(exit_, self._memory)
            self._changed.notify_all()
