"""Optio in a cluster, installed as its guide says: `secrets.sh`, `kubectl apply -k`; asked through a forwarded port."""

import hashlib
import hmac
import json
import os
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from base64 import b64decode
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.support import ROOT, eventually, free_port

KUBECTL = os.environ.get("KUBECTL", "kubectl")
DEPLOY, OVERLAY = ROOT / "deploy" / "kubernetes", ROOT / "tests" / "deploy" / "kubernetes"
# As the overlay says: where PostgreSQL's volume lies on the node, and where the model answers.
VOLUME, MODEL = Path("/tmp/optio-tests-postgres"), ("10.244.0.1", 18899)
PARTS = ("server", "worker", "scheduler", "gateway", "egress")


def kubectl(*words: str, data: str | None = None, within: float = 120.0) -> str:
    """What it printed; an error of it is one of the test."""
    done = subprocess.run([KUBECTL, *words], input=data, capture_output=True, text=True, timeout=within)
    assert done.returncode == 0, f"kubectl {' '.join(words)}\n{done.stdout}{done.stderr}"
    return done.stdout


def given(kind: str, *words: str) -> None:
    """`kubectl create` of the guide, which is also the one that changes what is there."""
    kubectl("apply", "-f", "-", data=kubectl("-n", "optio", "create", *kind.split(), *words, "--dry-run=client", "-o", "yaml"))


class Forward:
    """A port of this machine that leads to a Service, for as long as its pod lives; then to another one."""

    def __init__(self, target: str, port: int) -> None:
        self._target, self._port, self.here = target, port, free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.stop()
        self._process = subprocess.Popen(
            [KUBECTL, "-n", "optio", "port-forward", self._target, f"{self.here}:{self._port}"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)
            self._process = None


class Installed:
    """All of it. `tasks` are the files of the tasks, `secrets` and `keys` what they name: keys are of model services, for the
    gateway alone."""

    def __init__(
        self,
        directory: Path,
        tasks: Mapping[str, str],
        secrets: Mapping[str, str],
        *,
        keys: Mapping[str, str] | None = None,
        overlay: Path = OVERLAY,
    ) -> None:
        self._overlay = overlay
        self.tasks, self.secrets, self.keys = directory / "tasks.d", directory / "secrets", directory / "keys"
        for folder, files in ((self.tasks, tasks), (self.secrets, secrets), (self.keys, keys or {})):
            folder.mkdir()
            for name, text in files.items():
                (folder / name).write_text(text)
        self._values = dict(secrets)
        self._forward = Forward("svc/optio-server", 8000)
        self.token = ""

    def start(self) -> None:
        VOLUME.mkdir(exist_ok=True)
        environ = {**os.environ, "KUBECTL": KUBECTL}
        subprocess.run([str(DEPLOY / "secrets.sh"), "complete"], env=environ, check=True, capture_output=True, timeout=120)
        given("configmap optio-tasks", f"--from-file={self.tasks}")
        given("secret generic optio-task-secrets", f"--from-file={self.secrets}")
        given("secret generic optio-gateway-secrets", f"--from-file={self.keys}")
        kubectl("apply", "-k", str(self._overlay))
        self.until_ready()
        self.token = b64decode(kubectl("-n", "optio", "get", "secret", "optio-admin", "-o", "jsonpath={.data.token}")).decode()
        # At once where the pods are new, with the kubelet's next look where they were there before.
        tasks = {path.stem for path in self.tasks.iterdir() if not path.name.startswith("_")}
        eventually(lambda: tasks <= {each["id"] for each in self.get("/api/tasks")["items"]}, within=150, what=f"{tasks}")

    def until_ready(self) -> None:
        for part in PARTS:
            kubectl("-n", "optio", "rollout", "status", f"deployment/optio-{part}", "--timeout=180s", within=200)

    def close(self) -> None:
        self._forward.stop()

    def remove(self) -> None:
        """As the guide says, with the volume that the overlay of the tests adds."""
        for name in ("optio-runs", "optio"):
            kubectl("delete", "namespace", name, "--ignore-not-found", "--timeout=180s", within=200)
        kubectl("delete", "persistentvolume", "optio-tests", "--ignore-not-found", "--timeout=60s")
        subprocess.run(["rm", "-rf", str(VOLUME)], check=True)

    # The API

    def request(self, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None) -> tuple[int, Any]:
        """(status, answer). The way to the server is laid again when its pod has gone; what is posted has a key of its own."""
        known = {
            "Authorization": f"Bearer {self.token}",
            "Content-Type": "application/json",
            "Idempotency-Key": uuid.uuid4().hex,
        }
        limit = time.monotonic() + 60
        while True:
            request = urllib.request.Request(
                f"http://127.0.0.1:{self._forward.here}{path}", data=body, headers={**known, **(headers or {})}
            )
            try:
                with urllib.request.urlopen(request, timeout=10) as response:
                    return response.status, json.loads(response.read())
            except urllib.error.HTTPError as err:
                if err.code != 503:
                    return err.code, json.loads(err.read() or b"null")
            except OSError:
                self._forward.start()
            assert time.monotonic() < limit, f"no answer from {path}"
            time.sleep(0.5)

    def get(self, path: str) -> Any:
        status, answer = self.request(path)
        assert status == 200, (path, status, answer)
        return answer

    def started(self, task: str, params: Mapping[str, object] | None = None) -> str:
        status, answer = self.request(f"/api/tasks/{task}/runs", json.dumps({"params": params or {}}).encode())
        assert status == 202, answer
        return str(answer["runId"])

    def hook(self, path: str, secret: str, payload: object) -> tuple[int, Any]:
        """A webhook, signed by a secret of the tasks."""
        body = json.dumps(payload).encode()
        signature = hmac.new(self._values[secret].encode(), body, hashlib.sha256).hexdigest()
        return self.request(f"/api/hooks/{path}", body, {"X-Optio-Signature": signature, "Authorization": ""})

    def run(self, run_id: str) -> Any:
        return self.get(f"/api/workflow-runs/{run_id}")

    def log(self, run_id: str) -> list[str]:
        return [str(line["text"]) for line in self.get(f"/api/workflow-runs/{run_id}/logs")["items"]]

    def until_ended(self, run_id: str, within: float = 120.0) -> Any:
        limit = time.monotonic() + within
        while (run := self.run(run_id))["state"] in ("queued", "running"):
            if time.monotonic() > limit:
                pods = kubectl("-n", "optio-runs", "get", "pods", "-o", "wide")
                raise AssertionError(f"{run_id} has not ended within {within} s: {json.dumps(run, indent=1)}\n{pods}")
            time.sleep(0.2)
        return run

    # The cluster

    def pods(self, part: str, namespace: str = "optio") -> list[str]:
        words = ("-n", namespace, "get", "pods", "-l", f"app.kubernetes.io/name=optio-{part}", "-o", "name")
        return kubectl(*words).split()

    def cli(self, *words: str, part: str = "worker") -> str:
        """`optio` inside a pod of ours."""
        return kubectl("-n", "optio", "exec", f"deployment/optio-{part}", "-c", "optio", "--", "optio", *words)
