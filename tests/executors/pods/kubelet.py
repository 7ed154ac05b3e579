"""A kubelet that runs nothing: it says of pods what a kubelet would, and answers exec and log for them.

The API server, its storage and its watches are the real ones; what pods cost a node is left out, so that thousands fit. Its
node exists for nobody else: pods that select it are bound to it by the kubelet itself, and its taint keeps others off. Exec and
log are answered in the proxy before the API server (`FaultProxy(serve=kubelet.serve)`), which would ask a node for them.
"""

import asyncio
import base64
import contextlib
import hashlib
import json
import random
import struct
import threading
import time
import uuid
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

import httpx2
from lightkube import KubeConfig
from lightkube.config.client_adapter import AsyncClient, ConnectionParams

from optio.executors.pods import launch_script
from tests.executors.pods.faults import Request

LABEL = "optio.test/node"
# A kubelet looks at its containers so often: an end is told this much later at most.
_RELIST_S = 1.0
_WORKERS = 16
_MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_READY, _LAUNCHED, _ENDED = "ready", "launched", "ended"


@dataclass(eq=False)
class _Container:
    """One pod as its node has it."""

    name: str
    uid: str
    mark: str
    log: bytes = b""
    taken: bool = False
    given_up: bool = False
    stopped: str = ""
    end: str = ""
    launches: int = 0
    moved: asyncio.Event = field(default_factory=asyncio.Event)
    kill: asyncio.Event = field(default_factory=asyncio.Event)

    def say(self, stream: str, data: bytes, offset: int = 0) -> None:
        self.log += f"{self.mark} {stream} {offset} {len(data)}\n".encode() + data + b"\n"
        self.moved.set()
        self.moved = asyncio.Event()


class FakeKubelet:
    """One node. `lasts` is how long an agent runs, `starts` how long a container takes to come up, both in seconds; an agent
    says `lines` lines."""

    def __init__(
        self,
        namespace: str,
        *,
        lasts: Callable[[], float] = lambda: 1.0,
        starts: Callable[[], float] = lambda: 0.3,
        lines: int = 10,
    ) -> None:
        self.node = f"fake-{uuid.uuid4().hex[:8]}"
        self.namespace = namespace
        self.launches: dict[str, int] = {}
        """How often an agent was begun, by pod."""
        self._silent = False
        self._lasts, self._starts, self._lines = lasts, starts, lines
        self._pods: dict[str, _Container] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="kubelet", daemon=True)
        self._tasks: set[asyncio.Task[None]] = set()
        config = KubeConfig.from_env().get()
        assert config is not None
        self._config = config

    @property
    def selector(self) -> dict[str, str]:
        """What a pod asks for that wants to be here."""
        return {LABEL: self.node}

    def silence(self) -> None:
        """The node has lost its network: its agents go on, and nobody hears of it any more."""
        self._silent = True

    @property
    def running(self) -> int:
        """Pods that are here now."""
        return len(self._pods)

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._open(), self._loop).result(30)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    # The node

    async def _open(self) -> None:
        self._http = AsyncClient(self._config, ConnectionParams(timeout=httpx2.Timeout(60, pool=None), trust_env=False))
        self._slots = asyncio.Semaphore(_WORKERS)
        conditions = [{"type": "Ready", "status": "True", "reason": "KubeletReady", "lastHeartbeatTime": _now()}]
        size = {"cpu": "10000", "memory": "10000Gi", "pods": "100000", "ephemeral-storage": "10000Gi"}
        await self._ask(
            "POST",
            "/api/v1/nodes",
            {
                "metadata": {"name": self.node, "labels": {LABEL: self.node}},
                "spec": {"taints": [{"key": LABEL, "effect": "NoSchedule"}]},
            },
        )
        status = {"capacity": size, "allocatable": size, "conditions": conditions}
        await self._ask("PATCH", f"/api/v1/nodes/{self.node}/status", {"status": status})
        self._do(self._heartbeats())
        self._do(self._watch())

    async def _close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with contextlib.suppress(AssertionError):
            await self._ask("DELETE", f"/api/v1/nodes/{self.node}")
        await self._http.aclose()

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _ask(self, method: str, path: str, body: Any = None, **params: str) -> Any:
        kind = "application/strategic-merge-patch+json" if method == "PATCH" else "application/json"
        content = None if body is None else json.dumps(body).encode()
        answer = await self._http.request(method, path, content=content, params=params, headers={"Content-Type": kind})
        assert answer.status_code < 400, (method, path, answer.status_code, answer.text[:300])
        return answer.json()

    async def _heartbeats(self) -> None:
        path = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
        spec = {"holderIdentity": self.node, "leaseDurationSeconds": 40}
        await self._ask("POST", path, {"metadata": {"name": self.node}, "spec": {**spec, "renewTime": _now()}})
        while True:
            await asyncio.sleep(10)
            await self._heard()
            await self._ask("PATCH", f"{path}/{self.node}", {"spec": {"renewTime": _now()}})

    async def _heard(self) -> None:
        if self._silent:
            await asyncio.Event().wait()

    # Pods

    def _path(self, name: str = "", *rest: str) -> str:
        return "/".join(("/api/v1/namespaces", self.namespace, "pods", *([name] if name else []), *rest))

    async def _watch(self) -> None:
        """Of all pods of the namespace those that are for this node."""
        version = (await self._ask("GET", self._path()))["metadata"]["resourceVersion"]
        while True:
            params = {"watch": "true", "resourceVersion": version, "timeoutSeconds": "300"}
            async with self._http.stream("GET", self._path(), params=params) as answer:
                rest = b""
                async for chunk in answer.aiter_raw():
                    *lines, rest = (rest + chunk).split(b"\n")
                    for line in lines:
                        event = json.loads(line)
                        assert event["type"] != "ERROR", event
                        version = event["object"]["metadata"]["resourceVersion"]
                        self._told(event["type"], event["object"])

    def _told(self, kind: str, pod: dict[str, Any]) -> None:
        name = pod["metadata"]["name"]
        if pod["spec"].get("nodeSelector") != self.selector:
            return
        if kind == "DELETED":
            found = self._pods.pop(name, None)
            if found is not None:
                found.kill.set()
                found.say("s", b"gone")
        elif name not in self._pods and "deletionTimestamp" not in pod["metadata"]:
            variables = {each["name"]: each.get("value", "") for each in pod["spec"]["containers"][0].get("env", [])}
            self._pods[name] = made = _Container(name, pod["metadata"]["uid"], variables.get("OPTIO_MARK", ""))
            self._do(self._live(made))
        elif "deletionTimestamp" in pod["metadata"] and name in self._pods:
            self._pods[name].stopped = self._pods[name].stopped or "stop"
            self._pods[name].kill.set()

    async def _live(self, pod: _Container) -> None:
        """From the binding to the end, as a kubelet tells it."""
        try:
            binding = {"metadata": {"name": pod.name}, "target": {"apiVersion": "v1", "kind": "Node", "name": self.node}}
            async with self._slots:
                await self._ask("POST", self._path(pod.name, "binding"), binding)
            await asyncio.sleep(self._starts())
            pod.say("s", b"ready")
            await self._started(pod)
            await self._status(pod, "Running", {"running": {"startedAt": _now()}}, ready=True)
            await pod.kill.wait()
            await asyncio.sleep(random.uniform(0, _RELIST_S))
            await self._heard()
            if pod.end:
                await self._status(pod, "Succeeded", _terminated(0, pod.end), ready=False)
            else:
                pod.end = "{}"
                pod.say("s", b"killed")
                await self._status(pod, "Failed", _terminated(143, ""), ready=False)
            while True:
                found = await self._ask("GET", self._path(pod.name))
                if "deletionTimestamp" in found["metadata"]:
                    break
                pod.kill.clear()
                await pod.kill.wait()
                await self._heard()
            async with self._slots:
                await self._ask("DELETE", self._path(pod.name), {"gracePeriodSeconds": 0})
        except AssertionError:
            return  # it is gone already

    async def _started(self, pod: _Container) -> None:
        involved = {"kind": "Pod", "namespace": self.namespace, "name": pod.name, "uid": pod.uid}
        event = {
            "metadata": {"name": f"{pod.name}.{pod.uid[:8]}"},
            "involvedObject": {**involved, "fieldPath": "spec.containers{agent}"},
            "reason": "Started",
            "type": "Normal",
        }
        async with self._slots:
            await self._ask("POST", f"/api/v1/namespaces/{self.namespace}/events", event)

    async def _status(self, pod: _Container, phase: str, state: dict[str, Any], *, ready: bool) -> None:
        container = {
            "name": "agent",
            "image": "fake",
            "imageID": "",
            "ready": ready,
            "started": ready,
            "restartCount": 0,
            "state": state,
        }
        status = {"phase": phase, "startTime": _now(), "podIP": "192.0.2.1", "containerStatuses": [container]}
        async with self._slots:
            await self._ask("PATCH", self._path(pod.name, "status"), {"status": status})

    async def _agent(self, pod: _Container) -> None:
        """What a launch begins."""
        pod.launches += 1
        self.launches[pod.name] = self.launches.get(pod.name, 0) + 1
        pod.say("s", b"started")
        until, offset = time.monotonic() + self._lasts(), 0
        for n in range(self._lines):
            line = f"line {n}\n".encode()
            pod.say("o", line, offset)
            offset += len(line)
            left = (until - time.monotonic()) / (self._lines - n)
            if not pod.stopped and left > 0:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(left):
                        await pod.kill.wait()
        sizes = {"stdout": offset, "stderr": 0}
        code = 143 if pod.stopped else 0
        pod.end = json.dumps({"phase": "agent", "code": code, "error": "", "stopped": pod.stopped, "sizes": sizes})
        pod.say("x", pod.end.encode())
        pod.kill.set()

    # What the API server would ask the node for; this is called in the proxy's loop

    async def serve(self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer exec and log of pods that are here."""
        path, _, query = request.path.partition("?")
        parts = path.split("/")
        name = parts[6] if len(parts) == 8 else ""
        pod = self._pods.get(name)
        if pod is None or parts[7] not in ("exec", "log"):
            return False
        await self._heard()
        if parts[7] == "log":
            await self._log(pod, writer)
        else:
            await self._exec(pod, query, request, reader, writer)
        return True

    async def _log(self, pod: _Container, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n")
        at = 0
        while True:
            await self._heard()
            data, ended = pod.log[at:], bool(pod.end)
            at += len(data)
            if data:
                writer.write(b"%x\r\n%s\r\n" % (len(data), data))
                await writer.drain()
            elif ended or pod.name not in self._pods:
                break
            else:
                await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(_next(pod, at), self._loop))
        writer.write(b"0\r\n\r\n")
        await writer.drain()

    async def _exec(
        self, pod: _Container, query: str, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        accept = base64.b64encode(hashlib.sha1(request.headers["sec-websocket-key"].encode() + _MAGIC).digest())  # noqa: S324
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n"
            b"sec-websocket-protocol: v5.channel.k8s.io\r\nsec-websocket-accept: " + accept + b"\r\n\r\n"
        )
        if "parcel" in query:
            writer.write(_framed(b"\x01\n"))
        try:
            while await _frame(reader) != b"\xff\x00":
                pass
        except (EOFError, OSError):
            return  # what is not sent does nothing
        code = asyncio.run_coroutine_threadsafe(self._command(pod, query), self._loop)
        result = await asyncio.wrap_future(code)
        status: dict[str, Any] = {"status": "Success"}
        if result:
            causes = [{"reason": "ExitCode", "message": str(result)}]
            status = {"status": "Failure", "reason": "NonZeroExitCode", "details": {"causes": causes}}
        writer.write(_framed(b"\x03" + json.dumps(status).encode()))
        writer.write(_framed(struct.pack(">H", 1000), 8))
        await writer.drain()
        with contextlib.suppress(EOFError, OSError):
            await _frame(reader)

    async def _command(self, pod: _Container, query: str) -> int:
        """The exit code of what is run in it."""
        if "mkdir go" in query:
            pod.given_up = not pod.taken
            return launch_script.NEVER if pod.given_up else launch_script.LAUNCHED
        if "parcel" in query:
            if pod.taken or pod.given_up:
                return launch_script.NEVER if pod.given_up else launch_script.TAKEN
            pod.taken = True
            self._do(self._agent(pod))
        elif "kill -TERM" in query and pod.launches:
            pod.stopped = pod.stopped or "stop"
            pod.kill.set()
        return 0


async def _next(pod: _Container, at: int) -> None:
    moved = pod.moved
    if len(pod.log) == at and not pod.end:
        await moved.wait()


def _framed(data: bytes, opcode: int = 2) -> bytes:
    size = struct.pack(">B", len(data)) if len(data) < 126 else struct.pack(">BH", 126, len(data))
    return bytes([0x80 | opcode]) + size + data


async def _frame(reader: asyncio.StreamReader) -> bytes:
    """One frame of a client, which masks what it sends."""
    _, size = await reader.readexactly(2)
    size &= 0x7F
    if size == 126:
        (size,) = struct.unpack(">H", await reader.readexactly(2))
    elif size == 127:
        (size,) = struct.unpack(">Q", await reader.readexactly(8))
    mask = await reader.readexactly(4)
    data = await reader.readexactly(size)
    return bytes(a ^ b for a, b in zip(data, mask * (size // 4 + 1), strict=False)) if size < 64 else b""


def _terminated(code: int, message: str) -> dict[str, Any]:
    return {"terminated": {"exitCode": code, "reason": "Completed" if code == 0 else "Error", "message": message}}


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
