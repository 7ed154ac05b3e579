"""Hints on one machine: callbacks inside the process, datagrams to the other processes that share the data directory."""

import contextlib
import errno
import hashlib
import logging
import os
import socket
import tempfile
import threading
from collections.abc import Callable, Collection
from pathlib import Path

from optio.broker.base import Listener, Topic
from optio.broker.listeners import Listeners

log = logging.getLogger(__name__)
_MAX_SOCKET_PATH_LENGTH = 100
_TRIES = 100


class LocalBroker:
    """Every process binds one socket in `directory`; telling means writing to each of them."""

    def __init__(self, directory: Path) -> None:
        self._directory = _short(directory)
        self._is_stand_in = self._directory != directory.absolute()
        self._listeners = Listeners()
        self._closing = False
        self._name = f"{os.getpid()}-{id(self):x}.sock"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._bind()
        self._sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sender.setblocking(False)
        self._thread = threading.Thread(target=self._receive, name="broker", daemon=True)
        self._thread.start()

    def _bind(self) -> None:
        path = self._directory / self._name
        # Peers know it by its ending, once it can be spoken to: one that refuses would count as a killed process's.
        unready = path.with_suffix(".new")
        for _ in range(_TRIES):
            # Between the two, whoever leaves a stand-in as the last may take it away.
            with contextlib.suppress(FileNotFoundError, FileExistsError):
                self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
                self._socket.bind(str(unready))
                unready.rename(path)
                return
        raise OSError(errno.ENOENT, "cannot make a socket in", str(self._directory))

    def tell(self, topic: Topic, *keys: str) -> None:
        """Listeners of this process at once, other processes by datagram; what cannot be delivered is dropped."""
        if topic is Topic.START:
            keys = keys[:1]  # whoever looks takes all that waits
        for key in keys or ("",):
            self._tell(topic, key)

    def _tell(self, topic: Topic, key: str) -> None:
        self._listeners.dispatch(topic, key)
        self._send_all(f"{topic.value} {key}".encode())

    def _send_all(self, message: bytes) -> None:
        try:
            peers = os.listdir(self._directory)
        except OSError:
            return
        for peer in peers:
            if peer != self._name and peer.endswith(".sock"):
                self._send(self._directory / peer, message)

    def _send(self, path: Path, message: bytes) -> None:
        try:
            self._sender.sendto(message, str(path))
        except OSError as err:
            # A refused socket belongs to a process that was killed; a full one will look by itself.
            if err.errno in (errno.ECONNREFUSED, errno.ENOENT):
                with contextlib.suppress(OSError):
                    path.unlink()

    def subscribe(self, listener: Listener, topics: Collection[Topic]) -> Callable[[], None]:
        """See `Broker.subscribe`."""
        return self._listeners.add(listener, topics)

    def _receive(self) -> None:
        while True:
            try:
                message = self._socket.recv(4096)
            except OSError:
                return
            if self._closing:
                return
            topic, _, key = message.decode("utf-8", "replace").partition(" ")
            # Anyone who may write to the directory can send: a forged hint makes someone look, nothing more.
            if topic in Topic._value2member_map_:
                self._listeners.dispatch(Topic(topic), key)

    def ready(self, room: bool) -> None:
        """See `Broker.ready`: here everybody hears everything."""

    def problem(self) -> str | None:
        """See `Broker.problem`."""
        return None

    def close(self) -> None:
        """Stop listening and remove the socket, and a stand-in directory with the last of them."""
        self._closing = True
        # Ends the wait for a message, even when the queue of messages is full.
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(timeout=2)
        with contextlib.suppress(OSError):
            (self._directory / self._name).unlink()
        if self._is_stand_in:
            self._send_all(b"")  # nothing to hear: it clears away the sockets of processes that were killed
            with contextlib.suppress(OSError):  # it is not empty: others use it
                self._directory.rmdir()
        for each in (self._socket, self._sender):
            each.close()


def _short(directory: Path) -> Path:
    """A socket's path has a small limit: a deep data directory gets a stand-in among the temporary files."""
    absolute = directory.absolute()
    if len(str(absolute)) <= _MAX_SOCKET_PATH_LENGTH - 32:
        return absolute
    name = hashlib.sha256(str(absolute).encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"optio-{os.getuid()}-{name}"
