"""Nodes without machines, for `bench_fleet`: `python -m tests.bench.fleet_nodes NAMESPACE INSTALL COUNT LINE_S`, until its
input ends.

The API server, its storage, watches, admission and tunnels are real; only what lies behind a node's address is not: one process
binds the pods of an installation to nodes that it has made, tells their states as a kubelet does, and answers exec (SPDY/3.1,
which is what API servers speak to kubelets) and logs at the nodes' address over HTTPS. An agent of the image `short` lives for
two seconds, one of `hold` until the input says `end`. It says three lines at once and then one in every
`LINE_S` seconds or less, down to half of that.

What is left out: images, containers, probes, the reads that a kubelet makes before it tells a state (one a state), events of
a pod's end, and the scheduler's bindings: the nodes have a taint so that nobody else's pods come here, so the scheduler finds
no place for ours, says so (one condition, one event a pod) and is overruled.
"""

import asyncio
import contextlib
import json
import os
import random
import ssl
import struct
import subprocess
import sys
import tempfile
import uuid
import zlib
from collections.abc import AsyncIterator, Coroutine, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import uvloop
from lightkube import KubeConfig
from lightkube.config.client_adapter import user_auth, verify_cluster

from optio.executors.pods.launch_script import GONE_ON, LAUNCHED, NEVER, TAKEN

LABEL = "optio.test/fleet"
ADDRESS = os.environ.get("OPTIO_TEST_NODE_ADDRESS", "10.244.0.1")
_STARTS_S, _RELIST_S, _HEARTBEAT_S = 0.3, 1.0, 10.0
_CONNECTIONS = 12
# A server that has too much to do is asked again after this time.
_AGAIN_S = 0.5
_SYN_STREAM, _SYN_REPLY, _PING = 1, 2, 6
_FIN = 1


class Api:
    """Requests over a few connections, cheaper than a client library makes them. What an overloaded server refuses is
    repeated."""

    def __init__(self, connections: int = _CONNECTIONS) -> None:
        config = KubeConfig.from_env().get()
        assert config is not None
        assert config.user is not None
        parts = urlsplit(config.cluster.server)
        self._where = (parts.hostname or "", parts.port or 443)
        self._tls = verify_cluster(config.cluster, config.user, config.abs_file, trust_env=False)
        auth = getattr(user_auth(config.user), "_bearer", None)
        self._head = f"host: {self._where[0]}\r\n" + (f"authorization: {auth}\r\n" if auth else "")
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._slots = asyncio.Semaphore(connections)
        self.count = self.refused = 0

    async def ask(self, method: str, path: str, body: Any = None) -> Any:
        """The answer's object; None if there is no such thing (any more)."""
        async with self._slots:
            while True:
                kept = bool(self._idle)
                wire = None
                try:
                    wire = self._idle.pop() if kept else await self._open()
                    status, pieces = await self._send(wire, method, path, body)
                    data = b"".join([piece async for piece in pieces])
                except (EOFError, OSError):  # the server has closed one that was not used, or has no time for a new one
                    if wire is not None:
                        wire[1].close()
                    if not kept:
                        await self._refused()
                    continue
                self._idle.append(wire)
                if status != 429 and status < 500:
                    break
                await self._refused()
        if status in (404, 409):
            return None
        assert status < 400, (method, path, status, data[:300])
        return json.loads(data)

    async def _refused(self) -> None:
        self.refused += 1
        await asyncio.sleep(_AGAIN_S)

    async def lines(self, path: str) -> AsyncIterator[bytes]:
        """A watch."""
        wire = await self._open()
        status, pieces = await self._send(wire, "GET", path, None)
        if status >= 400:
            await self._refused()
            return
        rest = b""
        async for piece in pieces:
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                yield line
        wire[1].close()

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(*self._where, ssl=self._tls, limit=1 << 22)

    async def _send(
        self, wire: tuple[asyncio.StreamReader, asyncio.StreamWriter], method: str, path: str, body: Any
    ) -> tuple[int, AsyncIterator[bytes]]:
        self.count += 1
        kind = "application/strategic-merge-patch+json" if method == "PATCH" else "application/json"
        data = b"" if body is None else json.dumps(body).encode()
        wire[1].write(
            f"{method} {path} HTTP/1.1\r\n{self._head}content-type: {kind}\r\ncontent-length: {len(data)}\r\n\r\n".encode()
            + data
        )
        first, headers = await _head(wire[0])
        return int(first.split()[1]), _body(wire[0], headers)


async def _head(reader: asyncio.StreamReader) -> tuple[str, dict[str, str]]:
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")[:-2]
    return first, {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}


async def _body(reader: asyncio.StreamReader, headers: Mapping[str, str]) -> AsyncIterator[bytes]:
    if "chunked" in headers.get("transfer-encoding", ""):
        while size := int(await reader.readuntil(b"\r\n"), 16):
            yield (await reader.readexactly(size + 2))[:-2]
        await reader.readexactly(2)
    else:
        yield await reader.readexactly(int(headers.get("content-length", "0")))


class Container:
    """One pod as its node has it."""

    def __init__(self, pod: Mapping[str, Any], node: str, line_s: float) -> None:
        self.name, self.uid = pod["metadata"]["name"], pod["metadata"]["uid"]
        self.node, self._line_s = node, line_s
        agent = pod["spec"]["containers"][0]
        self.holds = agent["image"] == "hold"
        self._mark = next(each["value"] for each in agent["env"] if each["name"] == "OPTIO_MARK")
        self.log = b""
        self._at = 0
        self.runs = self.taken = self.launched = False
        self.stopped = ""
        self.end = ""
        self.kill, self.over = asyncio.Event(), asyncio.Event()
        self.gone = asyncio.Event()
        self.moved = asyncio.Event()

    def say(self, stream: str, data: bytes) -> None:
        """A frame of the supervisor's."""
        at = self._at if stream == "o" else 0
        self._at += len(data) if stream == "o" else 0
        self.log += f"{self._mark} {stream} {at} {len(data)}\n".encode() + data + b"\n"
        self.moved.set()
        self.moved = asyncio.Event()

    async def agent(self) -> None:
        """What a launch begins."""
        self.launched = True
        self.say("s", b"started")
        for n in range(3):
            self.say("o", b"line %d\n" % n)
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._line_s * random.uniform(0.5, 1.0) if self.holds else 2.0):
                    await self.kill.wait()
            if self.kill.is_set() or not self.holds:
                break
            self.say("o", b"still at it\n")
        sizes = {"stdout": self._at, "stderr": 0}
        code = 143 if self.stopped else 0
        end = json.dumps({"phase": "agent", "code": code, "error": "", "stopped": self.stopped, "sizes": sizes})
        self.say("x", end.encode())
        self.end = end
        self.over.set()
        self.kill.set()
        self.moved.set()


class Fleet:
    """Some nodes, and the pods on them."""

    def __init__(self, namespace: str, install: str, count: int, line_s: float) -> None:
        self._line_s = line_s
        self._pods: dict[str, Container] = {}
        self._namespace, self._install, self._path = namespace, install, f"/api/v1/namespaces/{namespace}/pods"
        self.nodes = [f"fleet-{install}-{n}" for n in range(count)]
        self._tasks: set[asyncio.Task[None]] = set()
        self._turn = 0

    def do(self, work: Coroutine[Any, Any, None]) -> None:
        """Begin it."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def open(self) -> None:
        """Make the nodes, and begin."""
        self._api, self._alive = Api(), Api(4)
        server = await asyncio.start_server(self._served, ADDRESS, 0, ssl=_tls(), backlog=4096, limit=1 << 20)
        port = server.sockets[0].getsockname()[1]
        await asyncio.gather(*(self._node(name, port) for name in self.nodes))
        self.do(self._heartbeats())
        self.do(self._watch())

    async def _node(self, name: str, port: int) -> None:
        size = {"cpu": "1000", "memory": "1000Gi", "pods": "110", "ephemeral-storage": "1000Gi"}
        ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "lastHeartbeatTime": _now()}
        spec = {"taints": [{"key": LABEL, "effect": "NoSchedule"}]}
        await self._api.ask(
            "POST", "/api/v1/nodes", {"metadata": {"name": name, "labels": {LABEL: self._install}}, "spec": spec}
        )
        status = {
            "capacity": size,
            "allocatable": size,
            "conditions": [ready],
            "addresses": [{"type": "InternalIP", "address": ADDRESS}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
        }
        await self._api.ask("PATCH", f"/api/v1/nodes/{name}/status", {"status": status})
        lease = {"metadata": {"name": name}, "spec": {"holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": _now()}}
        await self._api.ask("POST", _LEASES, lease)

    async def close(self) -> None:
        """Take the nodes away, and the pods that are left."""
        for task in self._tasks:
            task.cancel()
        for name in list(self._pods):
            await self._api.ask("DELETE", f"{self._path}/{name}", {"gracePeriodSeconds": 0})
        for name in self.nodes:
            await self._api.ask("DELETE", f"/api/v1/nodes/{name}")
            await self._api.ask("DELETE", f"{_LEASES}/{name}")

    async def end(self, within: float) -> None:
        """All agents end, one after the other."""
        pods = [each for each in self._pods.values() if each.launched and not each.end]
        for each in pods:
            each.kill.set()
            await asyncio.sleep(within / len(pods))

    async def _heartbeats(self) -> None:
        """Behind nothing else: a node that is late loses its pods."""
        while True:
            renewed = {"spec": {"renewTime": _now()}}
            await asyncio.gather(*(self._alive.ask("PATCH", f"{_LEASES}/{name}", renewed) for name in self.nodes))
            await asyncio.sleep(_HEARTBEAT_S)

    async def _watch(self) -> None:
        selector = f"labelSelector=optio.dev%2Finstall%3D{self._install}"
        version = ""
        while True:
            if not version:
                found = await self._api.ask("GET", f"{self._path}?{selector}")
                version = found["metadata"]["resourceVersion"]
                for pod in found["items"]:
                    self._told("ADDED", pod)
            path = f"{self._path}?{selector}&watch=true&allowWatchBookmarks=true&resourceVersion={version}&timeoutSeconds=3000"
            with contextlib.suppress(EOFError, OSError):
                async for line in self._api.lines(path):
                    event = json.loads(line)
                    if event["type"] == "ERROR":  # the version is too old
                        version = ""
                        break
                    version = event["object"]["metadata"]["resourceVersion"]
                    if event["type"] != "BOOKMARK":
                        self._told(event["type"], event["object"])

    def _told(self, kind: str, pod: dict[str, Any]) -> None:
        name, known = pod["metadata"]["name"], self._pods.get(pod["metadata"]["name"])
        if kind == "DELETED":
            if known is not None:
                del self._pods[name]
                known.gone.set()
                known.kill.set()
                known.moved.set()
        elif "deletionTimestamp" in pod["metadata"]:
            if known is not None:
                known.stopped = known.stopped or "stop"
                known.kill.set()
                known.gone.set()
        elif known is None and not pod["spec"].get("schedulingGates"):
            self._turn += 1
            made = self._pods[name] = Container(pod, self.nodes[self._turn % len(self.nodes)], self._line_s)
            self.do(self._live(made))

    async def _live(self, pod: Container) -> None:
        binding = {"metadata": {"name": pod.name}, "target": {"apiVersion": "v1", "kind": "Node", "name": pod.node}}
        await self._api.ask("POST", f"{self._path}/{pod.name}/binding", binding)
        await self._status(pod, "Pending", {"waiting": {"reason": "ContainerCreating"}})
        await asyncio.sleep(_STARTS_S)
        pod.say("s", b"ready")
        pod.runs = True
        for reason in ("Pulled", "Created", "Started"):
            await self._event(pod, reason)
        await asyncio.sleep(random.uniform(0, _RELIST_S))
        await self._status(pod, "Running", {"running": {"startedAt": _now()}})
        await pod.kill.wait()
        if pod.launched:
            await pod.over.wait()
        await asyncio.sleep(random.uniform(0, _RELIST_S))
        pod.runs = False
        ended = {"exitCode": 0 if pod.end else 143, "reason": "Completed" if pod.end else "Error", "message": pod.end}
        await self._status(pod, "Succeeded" if pod.end else "Failed", {"terminated": ended})
        await pod.gone.wait()
        if pod.name in self._pods:
            await self._api.ask("DELETE", f"{self._path}/{pod.name}", {"gracePeriodSeconds": 0})

    async def _event(self, pod: Container, reason: str) -> None:
        """As kubelets tell of a container."""
        involved = {"kind": "Pod", "namespace": self._namespace, "name": pod.name, "uid": pod.uid, "apiVersion": "v1"}
        event = {
            "metadata": {"name": f"{pod.name}.{uuid.uuid4().hex[:16]}", "namespace": self._namespace},
            "involvedObject": {**involved, "fieldPath": "spec.containers{agent}"},
            "reason": reason,
            "message": f"{reason} container agent",
            "source": {"component": "kubelet", "host": pod.node},
            "firstTimestamp": _now()[:19] + "Z",
            "lastTimestamp": _now()[:19] + "Z",
            "count": 1,
            "type": "Normal",
        }
        await self._api.ask("POST", f"/api/v1/namespaces/{self._namespace}/events", event)

    async def _status(self, pod: Container, phase: str, state: dict[str, Any]) -> None:
        """With all that a kubelet says."""
        up = "True" if phase == "Running" else "False"
        names = ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")
        conditions = [
            {"type": name, "status": "True" if name == "PodScheduled" else up, "lastTransitionTime": _now()[:19] + "Z"}
            for name in names
        ]
        container = {
            "name": "agent",
            "image": "registry.example/agents/agent:2026-11-28",
            "imageID": "registry.example/agents/agent@sha256:" + "0" * 64,
            "containerID": "containerd://" + "0" * 64,
            "ready": phase == "Running",
            "started": phase == "Running",
            "restartCount": 0,
            "state": state,
        }
        address = {"hostIP": ADDRESS, "hostIPs": [{"ip": ADDRESS}], "podIP": "192.0.2.1", "podIPs": [{"ip": "192.0.2.1"}]}
        status = {"phase": phase, "startTime": _now(), "conditions": conditions, **address}
        status["containerStatuses"] = [container]
        await self._api.ask("PATCH", f"{self._path}/{pod.name}/status", {"status": status})

    # What the API server asks of a node

    async def _served(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, EOFError, ssl.SSLError, asyncio.CancelledError):
            while True:
                first, headers = await _head(reader)
                method, target, _ = first.split(" ")
                parts = urlsplit(target)
                what, _, name, _ = parts.path.strip("/").split("/")
                pod = self._pods.get(name)
                if headers.get("content-length", "0") != "0":
                    await reader.readexactly(int(headers["content-length"]))
                if pod is None or (not pod.runs and not pod.end):
                    writer.write(b"HTTP/1.1 500 No\r\ncontent-length: 20\r\n\r\ncontainer not found\n")
                elif what == "containerLogs":
                    await self._log(pod, writer)
                elif what == "exec" and method in ("POST", "GET"):
                    await self._exec(pod, " ".join(parse_qs(parts.query)["command"]), reader, writer)
                    break
        writer.close()

    async def _log(self, pod: Container, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n")
        at = 0
        while True:
            moved, data = pod.moved, pod.log[at:]
            at += len(data)
            if data:
                writer.write(b"%x\r\n%s\r\n" % (len(data), data))
                await writer.drain()
            elif pod.end or pod.name not in self._pods or writer.is_closing():
                break
            else:
                await moved.wait()
        writer.write(b"0\r\n\r\n")
        await writer.drain()

    async def _exec(self, pod: Container, command: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Streams come in the order error, input, output; nothing else of their headers is of interest."""
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: SPDY/3.1\r\n"
            b"x-stream-protocol-version: v4.channel.k8s.io\r\n\r\n"
        )
        squeeze = zlib.compressobj()
        launch, code, streams = "parcel" in command, 0, list[int]()
        while True:
            head = await reader.readexactly(8)
            flags, size = head[4], int.from_bytes(head[5:8], "big")
            data = await reader.readexactly(size)
            if not head[0] & 0x80:
                if flags & _FIN:  # of the input, which is all that comes
                    break
                continue
            kind = int.from_bytes(head[2:4], "big")
            if kind == _PING:
                writer.write(head + data)
            elif kind == _SYN_STREAM:
                streams.append(int.from_bytes(data[:4], "big"))
                block = squeeze.compress(bytes(4)) + squeeze.flush(zlib.Z_SYNC_FLUSH)
                writer.write(_control(_SYN_REPLY, data[:4] + block))
                if len(streams) == 3 and launch:
                    writer.write(_data(streams[2], b"\n"))
        if launch:
            code = TAKEN if pod.taken else 0
            if not pod.taken:
                pod.taken = True
                self.do(pod.agent())
                writer.write(_data(streams[2], GONE_ON))
        elif "mkdir go" in command:  # a look at what may have been launched
            code = LAUNCHED if pod.launched else NEVER
            pod.taken = True
        elif "kill -TERM" in command:
            pod.stopped = pod.stopped or "stop"
            pod.kill.set()
        status: dict[str, Any] = {"metadata": {}, "status": "Success"}
        if code:
            causes = [{"reason": "ExitCode", "message": str(code)}]
            status |= {"status": "Failure", "reason": "NonZeroExitCode", "message": "no", "details": {"causes": causes}}
        writer.write(_data(streams[2], b"", _FIN) + _data(streams[0], json.dumps(status).encode(), _FIN))
        await writer.drain()
        with contextlib.suppress(TimeoutError, EOFError, OSError):
            async with asyncio.timeout(5):
                while await reader.read(1 << 16):
                    pass


_LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"


def _control(kind: int, data: bytes) -> bytes:
    return struct.pack(">HHI", 0x8003, kind, len(data)) + data


def _data(stream: int, data: bytes, flags: int = 0) -> bytes:
    return struct.pack(">II", stream, flags << 24 | len(data)) + data


def _tls() -> ssl.SSLContext:
    """With a certificate that nobody has signed: this API server is not told whom to trust of its nodes."""
    with tempfile.TemporaryDirectory() as name:
        key, cert = Path(name, "key"), Path(name, "cert")
        subject = ["-subj", f"/CN=system:node:{uuid.uuid4().hex}", "-addext", f"subjectAltName=IP:{ADDRESS}"]
        command = [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
        ]
        subprocess.run([*command, *subject, "-keyout", key, "-out", cert], check=True, capture_output=True)
        made = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        made.load_cert_chain(cert, key)
    return made


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


async def main(namespace: str, install: str, count: int, line_s: float) -> None:
    """Until the input ends."""
    fleet = Fleet(namespace, install, count, line_s)
    try:
        await fleet.open()
        print("ready", flush=True)
        while line := (await asyncio.to_thread(sys.stdin.readline)).split():
            if line[0] == "end":
                await fleet.end(float(line[1]))
            print(f"{fleet._api.count} requests, {fleet._api.refused} of them repeated", flush=True)
    finally:
        await fleet.close()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])))
