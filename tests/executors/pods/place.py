"""Where tests of pods run: on the cluster of KUBECONFIG, if OPTIO_TEST_IMAGE names an image there with a shell and Python; on
the stand-in, if it works, where there is none."""

import os
from pathlib import Path
from typing import Any

from optio.executors.pods import manifest
from optio.executors.pods.manifest import PodSettings
from tests.executors.pods import standin
from tests.executors.support import RUN, launch

CLUSTER = os.environ.get("OPTIO_TEST_IMAGE") if os.environ.get("KUBECONFIG") else None
"""The image on a real cluster; None where there is none."""
_WORKER = os.environ.get("PYTEST_XDIST_WORKER") if CLUSTER else None
NAMESPACE = "-".join(filter(None, (os.environ.get("OPTIO_TEST_NAMESPACE", "optio-test"), _WORKER)))
"""Tests side by side have one each on a real cluster."""
STANDIN = standin.IMAGE if standin.works() else None
"""The image on the stand-in; None where that cannot be."""
IMAGE = CLUSTER or STANDIN


def settings(directory: Path, install: str, **more: str) -> dict[str, str]:
    """Of a part of Optio whose agents are small pods there."""
    return {
        "OPTIO_DATA_DIR": str(directory / "data"),
        "OPTIO_TASKS": str(directory / "tasks.d"),
        "OPTIO_EXECUTOR": "kubernetes",
        "OPTIO_KUBE_NAMESPACE": NAMESPACE,
        "OPTIO_KUBE_INSTALL": install,
        "OPTIO_KUBE_IMAGE": str(IMAGE),
        "OPTIO_POD_CPU": "50m",
        "OPTIO_POD_MEMORY": "128Mi",
        **more,
    }


def waiting_pod(install: str, run_id: str = RUN, attempt: int = 1) -> dict[str, Any]:
    """A pod of an attempt that no node takes."""
    wanted = PodSettings(namespace=NAMESPACE, install=install, image="none", node_selector={"optio.dev/none": "x"})
    return manifest.attempt_pod(launch("/bin/true", run_id=run_id, attempt=attempt), wanted, "mark", "nobody")
