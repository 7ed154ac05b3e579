"""Pods as processes."""

import asyncio
import contextlib
import hashlib
import os
import shlex
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any

from tests.executors.pods.standin import IMAGE, OWN
from tests.executors.pods.standin.store import Object, Store, happens, now

_NAME = "standin"
_LOG_SIZE = 10 << 20
_PROBE_S = 0.2
# A container takes longer than here until it runs: who wants to know of it has begun to listen.
_STARTS_S = 0.2
# A kubelet looks at its containers so often: it tells of an end a while after the container's last word.
_RELIST_S = 0.3
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Of the machine's root these are the image.
_PROGRAMS = ("bin", "sbin", "usr", "etc", "opt", "lib", "lib32", "lib64", "libx32")
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
# $1 is the root, $2 a file for the termination message. The first line of the output is the number of the first process.
_BEGIN = """\
set -e
{mounts}
mount --bind "$2" "$1/dev/termination-log"
mount -o remount,bind,ro "$1"
hostname {name}
read -r pid _ </proc/self/stat
root=$1
shift 2
exec chroot "$root" setpriv --reuid={user} --regid={user} --clear-groups --no-new-privs --inh-caps=-all --bounding-set=-all \\
    /bin/sh -c 'echo "$0"; exec "$@"' "$pid" "$@"
"""
_tasks: set[asyncio.Task[None]] = set()


def background(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """Begin it."""
    task = asyncio.ensure_future(work)
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)
    return task


class Container:
    """The processes of one pod."""

    def __init__(self, pod: Object, directory: Path) -> None:
        self._spec, self._name, self._root = pod["spec"], pod["metadata"]["name"], directory / "root"
        self._agent: Object = next(each for each in self._spec["containers"] if each["name"] == "agent")
        self._user = str(self._spec.get("securityContext", {}).get("runAsUser", 0))
        self._said = directory / f"said-{pod['metadata']['uid']}"
        self._variables = {"PATH": _PATH, "HOSTNAME": self._name, "HOME": "/", "KUBERNETES_SERVICE_HOST": "192.0.2.1"}
        self._variables |= {each["name"]: each.get("value", "") for each in self._agent.get("env", ())}
        self._pid, self._stopped, self.code = 0, False, -1
        # All that it printed; a new reader gets the log from `_kept` on.
        self._log, self._kept, self._moved = bytearray(), 0, asyncio.Event()
        self.over = asyncio.Event()

    @property
    def began(self) -> bool:
        """Whether it runs, or has."""
        return self._pid > 0

    async def start(self) -> None:
        """It runs afterwards; raises RuntimeError if it cannot."""
        volumes = {each["name"] for each in self._spec["volumes"] if "emptyDir" in each}
        places = [f"{self._root}{each['mountPath']}" for each in self._agent["volumeMounts"] if each["name"] in volumes]
        mounts = "\n".join(f"mkdir -p {place}\nmount -t tmpfs -o mode=777 emptydir {place}" for place in places)
        begin = _BEGIN.format(mounts=mounts, name=shlex.quote(self._name), user=self._user)
        self._said.touch()
        self._said.chmod(0o666)
        namespaces = [*OWN, "--uts", f"--mount-proc={self._root}/proc"]
        process = await asyncio.create_subprocess_exec(
            *namespaces, "/bin/sh", "-c", begin, "sh", self._root, self._said, *self._agent["command"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=self._variables,
        )  # fmt: skip
        assert process.stdout is not None
        first = (await process.stdout.readline()).strip()
        if not first.isdigit():
            raise RuntimeError(f"{first!r} {await process.stdout.read()!r}")
        self._pid = int(first)
        background(self._live(process, process.stdout))
        if self._stopped:
            self._signal(signal.SIGKILL)

    async def _live(self, process: asyncio.subprocess.Process, output: asyncio.StreamReader) -> None:
        rest = b""
        while data := await output.read(1 << 16):
            # A runtime of containers takes the \r from a \r\n.
            data = rest + data
            rest = b"\r" if data.endswith(b"\r") else b""
            self._log += data[: len(data) - len(rest)].replace(b"\r\n", b"\n")
            if len(self._log) - self._kept > _LOG_SIZE:
                self._kept = max(self._kept, self._log.rfind(b"\n", -(1 << 20)) + 1)
            self._tell()
        self._log += rest
        code = await process.wait()
        self.code = code if code >= 0 else 128 - code
        self.over.set()
        self._tell()

    def _tell(self) -> None:
        self._moved.set()
        self._moved = asyncio.Event()

    async def log(self, *, follow: bool) -> AsyncIterator[bytes]:
        """From the first byte that is kept."""
        at = self._kept
        while True:
            moved, over = self._moved, self.over.is_set()
            if at < len(self._log):
                piece = bytes(self._log[at : at + (1 << 20)])
                at += len(piece)
                yield piece
            elif over or not follow:
                return
            else:
                await moved.wait()

    def last_words(self) -> str:
        """The termination message."""
        said = self._said.read_bytes()[:4096].decode("utf-8", "replace")
        self._said.unlink()
        return said

    def stop(self, grace_s: float) -> None:
        """SIGTERM to the first process, and after the grace SIGKILL."""
        self._stopped = True
        self._signal(signal.SIGTERM)
        asyncio.get_running_loop().call_later(grace_s, self._signal, signal.SIGKILL)

    def _signal(self, number: int) -> None:
        if self.began and not self.over.is_set():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, number)

    async def run(self, *command: str, stdin: int = subprocess.DEVNULL) -> asyncio.subprocess.Process:
        """A command inside."""
        inside = [f"--target={self._pid}", "--mount", "--uts", "--pid", "--root", "--wd", f"-G{self._user}", f"-S{self._user}"]
        return await asyncio.create_subprocess_exec(
            "nsenter", *inside, *command, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=self._variables
        )


class Node:
    """Runs pods, and says of them what a kubelet would. `where` is their collection."""

    def __init__(self, store: Store, directory: Path) -> None:
        self._store, self._directory = store, directory
        self.containers: dict[str, Container] = {}
        """By the pod's UID."""
        _make_root(directory / "root")

    def add(self, where: str, pod: Object) -> Object:
        """A new pod begins, unless it waits for ever."""
        name, spec = pod["metadata"]["name"], pod["spec"]
        if spec.get("schedulingGates"):
            return pod
        if spec.get("nodeSelector"):
            said = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no node has these labels"}
            return self._store.change(where, name, {"status": {"conditions": [said]}})
        pod = self._store.change(where, name, {"spec": {"nodeName": _NAME}, "status": {"startTime": now()}})
        image: str = spec["containers"][0]["image"]
        if image != IMAGE:
            reason = "InvalidImageName" if " " in image else "ErrImagePull"
            return self._say(where, pod, waiting={"reason": reason, "message": f"there is no image {image}"}) or pod
        self.containers[pod["metadata"]["uid"]] = container = Container(pod, self._directory)
        background(self._live(where, pod, container))
        return pod

    async def _live(self, where: str, pod: Object, container: Container) -> None:
        try:
            await container.start()
        except RuntimeError as err:
            self._say(where, pod, waiting={"reason": "RunContainerError", "message": str(err)})
            return
        background(self._tell_start(where, pod))
        probe = pod["spec"]["containers"][0].get("startupProbe")
        self._say(where, pod, "Running", ready=probe is None, running={"startedAt": now()})
        watching = [background(self._deadline(where, pod, container))]
        if probe is not None:
            watching.append(background(self._probe(where, pod, container, probe["exec"]["command"])))
        await container.over.wait()
        for each in watching:
            each.cancel()
        await asyncio.sleep(_RELIST_S)
        ended = {"exitCode": container.code, "reason": "Error" if container.code else "Completed", "finishedAt": now()}
        phase = "Failed" if container.code else "Succeeded"
        found = self._say(where, pod, phase, terminated={**ended, "message": container.last_words()})
        if found is not None and "deletionTimestamp" in found["metadata"]:
            self._gone(where, found)

    def _say(self, where: str, pod: Object, phase: str = "Pending", *, ready: bool = False, **state: Object) -> Object | None:
        name = pod["metadata"]["name"]
        found = self._store.find(where, name)
        if found is None or found["metadata"]["uid"] != pod["metadata"]["uid"]:
            return None
        said = {
            "name": "agent",
            "image": IMAGE,
            "imageID": f"{IMAGE}@sha256:{hashlib.sha256(IMAGE.encode()).hexdigest()}" if state.get("waiting") is None else "",
            "restartCount": 0,
            "ready": ready,
            "started": ready,
            "state": state,
        }
        if found["status"].get("reason") == "DeadlineExceeded":
            phase = "Failed"
        return self._store.change(where, name, {"status": {"phase": phase, "containerStatuses": [said]}})

    async def _tell_start(self, where: str, pod: Object) -> None:
        await asyncio.sleep(_STARTS_S)
        meta = pod["metadata"]
        involved = {"kind": "Pod", "name": meta["name"], "uid": meta["uid"], "fieldPath": "spec.containers{agent}"}
        event = {"metadata": {"name": f"{meta['name']}.{meta['uid']}"}, "reason": "Started", "involvedObject": involved}
        self._store.create(where.replace("/pods", "/events"), event)

    async def _probe(self, where: str, pod: Object, container: Container, command: list[str]) -> None:
        while not container.over.is_set():
            if await (await container.run(*command)).wait() == 0:
                self._say(where, pod, "Running", ready=True, running={"startedAt": now()})
                return
            await happens(container.over, _PROBE_S)

    async def _deadline(self, where: str, pod: Object, container: Container) -> None:
        began = time.monotonic()
        while (found := self._store.find(where, pod["metadata"]["name"])) is not None:
            limit = found["spec"].get("activeDeadlineSeconds", 1e9)
            if not await happens(self._store.moved, began + limit - time.monotonic()):
                self._store.change(where, found["metadata"]["name"], {"status": {"reason": "DeadlineExceeded"}})
                container.stop(_grace_s(found))
                return

    def delete(self, where: str, name: str, grace_s: float | None) -> Object:
        """It goes now, or when its container has ended."""
        found = self._store.get(where, name)
        node, container = found["spec"].get("nodeName"), self.containers.get(found["metadata"]["uid"])
        if node is None or found["status"].get("phase") in ("Succeeded", "Failed"):
            grace_s = 0
        elif grace_s is None:
            grace_s = _grace_s(found)
        if container is not None:
            container.stop(grace_s or 1)
        if grace_s == 0 or (node == _NAME and container is None):
            return self._gone(where, found)
        meta = {"deletionTimestamp": now(grace_s), "deletionGracePeriodSeconds": grace_s}
        return self._store.change(where, name, {"metadata": meta})

    def _gone(self, where: str, found: Object) -> Object:
        self.containers.pop(found["metadata"]["uid"], None)
        return self._store.drop(where, found["metadata"]["name"])


def _grace_s(pod: Object) -> float:
    grace_s: float = pod["spec"].get("terminationGracePeriodSeconds", 30)
    return grace_s


def _make_root(root: Path) -> None:
    """What all containers have in common. It is seen in our own namespace only."""
    root.mkdir(exist_ok=True)
    _mount("-t", "tmpfs", "-o", "mode=755", "root", root)
    for name in ("dev", "proc"):
        (root / name).mkdir()
    for name in _PROGRAMS:
        source = Path("/", name)
        if source.is_symlink():
            (root / name).symlink_to(source.readlink())
        elif source.is_dir():
            (root / name).mkdir()
            _mount("--rbind", source, root / name)
    (root / "dev" / "termination-log").touch()
    for name in _DEVICES:
        (root / "dev" / name).touch()
        _mount("--bind", f"/dev/{name}", root / "dev" / name)
    for name, target in {"fd": "fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2"}.items():
        (root / "dev" / name).symlink_to(f"/proc/self/{target}")


def _mount(*arguments: object) -> None:
    subprocess.run(["mount", *map(str, arguments)], check=True)
