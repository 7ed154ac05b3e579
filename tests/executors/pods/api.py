"""The cluster as its administrator has it: what a test does behind the back of the executor."""

import json
import time
from collections.abc import Mapping
from typing import Any, Self

import httpx2
from lightkube import KubeConfig
from lightkube.config.client_adapter import Client, ConnectionParams

Pod = dict[str, Any]


class Api:
    """Requests for one namespace."""

    def __init__(self, namespace: str) -> None:
        config = KubeConfig.from_env().get()
        assert config is not None
        self._http = Client(config, ConnectionParams(timeout=httpx2.Timeout(30), trust_env=False))
        self._base = f"/api/v1/namespaces/{namespace}"
        self.namespace = namespace

    def ask(self, method: str, path: str, body: Any = None, **params: str) -> Any:
        """The answer's object; `path` begins at the namespace, or with `/` at the server."""
        kind = "application/strategic-merge-patch+json" if method == "PATCH" else "application/json"
        content = None if body is None else json.dumps(body).encode()
        path = path if path.startswith("/") else f"{self._base}/{path}"
        answer = self._http.request(method, path, content=content, params=params, headers={"Content-Type": kind})
        assert answer.status_code < 400, (method, path, answer.status_code, answer.text[:500])
        return answer.json()

    def pods(self, selector: str) -> list[Pod]:
        """All with these labels."""
        found: list[Pod] = self.ask("GET", "pods", labelSelector=selector)["items"]
        return found

    def pod(self, name: str) -> Pod | None:
        """The pod, or None."""
        answer = self._http.get(f"{self._base}/pods/{name}")
        found: Pod = answer.json()
        return None if answer.status_code == 404 else found

    def has_rotated_log(self, name: str) -> bool:
        """Whether the log of an agent's pod has lost its beginning, the supervisor's first word."""
        answer = self._http.get(f"{self._base}/pods/{name}/log", params={"container": "agent", "limitBytes": "100"})
        return answer.status_code == 200 and b"ready" not in answer.content[:100]

    def status(self, name: str, **status: Any) -> None:
        """Say of a pod what its kubelet would."""
        self.ask("PATCH", f"pods/{name}/status", {"status": status})

    def container(self, name: str, phase: str, state: Mapping[str, Any], **more: Any) -> None:
        """Say of a pod's one container what its kubelet would."""
        container = {
            "name": "agent", "image": "i", "imageID": "", "ready": False, "restartCount": 0, "state": dict(state)
        }  # fmt: skip
        self.status(name, phase=phase, containerStatuses=[container], **more)

    def delete(self, name: str, grace_s: int | None = None) -> None:
        """As a person does."""
        body = {} if grace_s is None else {"gracePeriodSeconds": grace_s}
        self._http.request("DELETE", f"{self._base}/pods/{name}", content=json.dumps(body).encode())

    def evict(self, name: str) -> None:
        """As a drain does."""
        body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": self.namespace}}
        self.ask("POST", f"pods/{name}/eviction", body)

    def sweep(self, selector: str) -> None:
        """Nothing with these labels is left afterwards."""
        limit = time.monotonic() + 60
        while found := self.pods(selector):
            assert time.monotonic() < limit, "pods do not go away"
            for each in found:
                self.delete(each["metadata"]["name"], 0)
            time.sleep(0.1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()
