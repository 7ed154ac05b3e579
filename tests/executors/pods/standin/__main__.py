"""The stand-in's process."""

import asyncio
import json
import os
import socket
import sys
import threading
from pathlib import Path

import uvicorn

from tests.executors.pods.standin import server_on
from tests.executors.pods.standin.node import Node
from tests.executors.pods.standin.server import Server
from tests.executors.pods.standin.store import Store


async def serve(directory: Path) -> None:
    """For ever."""
    store = Store()
    for name in (os.environ.get("OPTIO_TEST_NAMESPACE", "optio-test"), "kube-node-lease"):
        store.create("/api/v1/namespaces", {"kind": "Namespace", "metadata": {"name": name}})
    application = Server(store, Node(store, directory))
    listening = socket.create_server(("127.0.0.1", 0), backlog=4096)
    named = {"cluster": "standin", "user": "standin"}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "standin", "cluster": server_on(listening.getsockname()[1])}],
        "users": [{"name": "standin", "user": {"token": "anybody"}}],
        "contexts": [{"name": "standin", "context": named}],
        "current-context": "standin",
    }
    draft = directory / "kubeconfig.new"
    draft.write_text(json.dumps(config))
    draft.rename(directory / "kubeconfig")
    settings = uvicorn.Config(
        application,
        lifespan="off",
        log_level="warning",
        access_log=False,
        ws="websockets-sansio",
        ws_max_size=1 << 30,
        ws_ping_interval=None,
    )
    await uvicorn.Server(settings).serve(sockets=[listening])


def _until_the_input_ends() -> None:
    sys.stdin.read()
    os._exit(0)


threading.Thread(target=_until_the_input_ends, daemon=True).start()
asyncio.run(serve(Path(sys.argv[1])))
