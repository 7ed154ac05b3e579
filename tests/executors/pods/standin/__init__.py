"""A stand-in for a cluster, where none can be: it keeps objects as an API server does, and its pods are processes.

`python -m tests.executors.pods.standin DIRECTORY` serves plain HTTP on loopback until its input ends, and writes
`DIRECTORY/kubeconfig`. It needs root and namespaces of its own, as `StandIn` gives it. A pod is its container `agent`: the real
command with the real variables, the first process of namespaces of its own, as the pod's user and without rights, with this
machine's programs for an image, which it cannot write to, and the pod's emptyDirs. Exec goes into the same namespaces. States,
versions, watches, preconditions, graces, deadlines and the log's ways are those that `optio/executors/pods` counts on.

It is no Kubernetes. There is no scheduler (a pod with a gate or a nodeSelector waits for ever) and no image; no other container
than `agent`; no limit of memory, disk or processor; no network of a pod's own, and a NetworkPolicy is kept and does nothing;
nothing is validated, and everybody may do everything; a state is told at once, where a kubelet takes a second or two. So it
shows that our code does what it should with such answers. What Kubernetes does is shown on a real cluster only.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.support import ROOT, eventually

IMAGE = "optio.test/standin:1"
"""The one image that it has."""
OWN = ("unshare", "--mount", "--pid", "--fork")


def works() -> bool:
    """Whether it can be used on this machine."""
    tools = all(map(shutil.which, ("unshare", "nsenter", "setpriv", "chroot", "mount", "hostname")))
    return os.geteuid() == 0 and tools and subprocess.run([*OWN, "--mount-proc", "true"], capture_output=True).returncode == 0


def server_on(port: int) -> dict[str, Any]:
    """Plain HTTP on loopback, as a kubeconfig has it: a client that reads no CAs begins 25 ms of a processor sooner."""
    return {"server": f"http://127.0.0.1:{port}", "insecure-skip-tls-verify": True}


class StandIn:
    """One that runs beside the tests. When its first process ends, for whatever reason, the kernel ends all that it began."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.kubeconfig = directory / "kubeconfig"

    def __enter__(self) -> Self:
        command = [*OWN, "--mount-proc", "--kill-child", sys.executable, "-m", __name__, str(self._directory)]
        with (self._directory / "log").open("wb") as log:
            self._process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=log, stderr=log)
        eventually(self.kubeconfig.exists, what="the stand-in of a cluster")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(20)
