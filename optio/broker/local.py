"""The broker of one machine: callbacks within the process, and datagrams over Unix sockets to the other processes that share
the data directory."""

import contextlib
import errno
import hashlib
import os
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Collection
from pathlib import Path

from optio.broker.base import Listener, Topic
from optio.broker.listeners import Listeners

_MAX_SOCKET_PATH_LENGTH = 100
_TRIES = 100
# More than a tick of the clock by which file systems say when a directory changed.
_TICK_NS = 100_000_000


class LocalBroker:
    """Binds one socket per process in `directory`, and sends a hint by writing to every socket there."""

    def __init__(self, directory: Path) -> None:
        self._directory = _short(directory)
        self._is_stand_in = self._directory != directory.absolute()
        self._listeners = Listeners()
        self._closing = False
        # The sockets of the other processes, and when the directory had changed, in nanoseconds, as they were listed.
        self._peers: tuple[list[str], int] = ([], 0)
        self._name = f"{os.getpid()}-{id(self):x}.sock"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._bind()
        self._sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sender.setblocking(False)
        self._thread = threading.Thread(target=self._receive, name="broker", daemon=True)
        self._thread.start()

    def _bind(self) -> None:
        path = self._directory / self._name
        # Bound under another suffix first: peers would take a socket that refuses for that of a killed process, and delete it.
        unready = path.with_suffix(".new")
        for _ in range(_TRIES):
            # Between the two calls, the last process to leave a stand-in directory may delete it.
            with contextlib.suppress(FileNotFoundError, FileExistsError):
                self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
                self._socket.bind(str(unready))
                unready.rename(path)
                return
        raise OSError(errno.ENOENT, "cannot make a socket in", str(self._directory))

    def tell(self, topic: Topic, *keys: str) -> None:
        """Call subscribers in this process at once, and send datagrams to the others; those that cannot be delivered are
        dropped."""
        if topic is Topic.START:
            keys = keys[:1]  # a worker that looks takes all queued runs
        for key in keys or ("",):
            self._tell(topic, key)

    def _tell(self, topic: Topic, key: str) -> None:
        self._listeners.dispatch(topic, key)
        self._send_all(f"{topic.value} {key}".encode())

    def _send_all(self, message: bytes) -> None:
        try:
            peers = self._find_peers()
        except OSError:
            return
        for peer in peers:
            self._send(peer, message)

    def _find_peers(self) -> list[str]:
        """Return the sockets of the other processes. The directory is listed again when it has changed. Raises OSError."""
        changed_at = os.stat(self._directory).st_mtime_ns
        peers, listed_at = self._peers
        if changed_at != listed_at:
            names = os.listdir(self._directory)
            peers = [f"{self._directory}/{name}" for name in names if name != self._name and name.endswith(".sock")]
            # Two changes within one tick of the kernel's clock have the same time.
            self._peers = peers, changed_at if time.time_ns() - changed_at > _TICK_NS else 0
        return peers

    def _send(self, path: str, message: bytes) -> None:
        try:
            self._sender.sendto(message, path)
        except OSError as err:
            # A socket that refuses belongs to a process that was killed; the process of a full one will look anyway.
            if err.errno in (errno.ECONNREFUSED, errno.ENOENT):
                with contextlib.suppress(OSError):
                    os.unlink(path)

    def subscribe(self, listener: Listener, topics: Collection[Topic]) -> Callable[[], None]:
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
            # Anyone who may write to the directory can send; a forged hint makes a process look, nothing more.
            if topic in Topic._value2member_map_:
                self._listeners.dispatch(Topic(topic), key)

    def ready(self, room: bool) -> None:
        """Do nothing: here every process hears every hint."""

    def problem(self) -> str | None:
        return None

    def close(self) -> None:
        """Stop listening and remove the socket, and a stand-in directory with the last socket in it."""
        self._closing = True
        # Ends the wait for a message, also when the socket's buffer is full.
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(timeout=2)
        with contextlib.suppress(OSError):
            (self._directory / self._name).unlink()
        if self._is_stand_in:
            self._send_all(b"")  # an empty message, to delete the sockets of killed processes
            with contextlib.suppress(OSError):  # not empty: other processes use it
                self._directory.rmdir()
        for socket_end in (self._socket, self._sender):
            socket_end.close()


def _short(directory: Path) -> Path:
    """Return the directory itself, or a stand-in among the temporary files where the path would exceed the limit for
    sockets."""
    absolute = directory.absolute()
    if len(str(absolute)) <= _MAX_SOCKET_PATH_LENGTH - 32:
        return absolute
    name = hashlib.sha256(str(absolute).encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"optio-{os.getuid()}-{name}"
