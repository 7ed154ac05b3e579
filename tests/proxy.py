"""A TCP proxy that does to a connection what networks do: refuse, swallow, delay, and cut at a chosen byte."""

import contextlib
import socket
import struct
import threading
from types import TracebackType
from typing import Literal, Self

from tests.support import free_port

_CHUNK = 65536
# Closing with this sends a reset, as a peer that died does.
_RESET = struct.pack("ii", 1, 0)

Direction = Literal["server", "client"]


class _Link:
    """One client and its connection to the server."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client = client
        self.server = server
        # The request that was asked for has been passed on: its answer is to be lost.
        self.answer_is_lost = False

    def cut(self) -> None:
        for sock in (self.client, self.server):
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            # What wakes the thread that reads from it; the reset goes out when it is closed.
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RD)
            with contextlib.suppress(OSError):
                sock.close()


class FaultProxy:
    """Stands on `port` before a server of this machine, and passes everything on until it is told otherwise."""

    def __init__(self, upstream_port: int) -> None:
        self._upstream = upstream_port
        # Bound to a port by name, a socket keeps it while nobody listens.
        self.port = free_port()
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind(("127.0.0.1", self.port))
        self._changed = threading.Condition()
        self._links: set[_Link] = set()
        self._listening = self._hole = self._closed = False
        self._delay = 0.0
        self._left: dict[Direction, int] = {}
        self._marker: tuple[bytes, bool] | None = None
        self.accepted = 0
        """Connections so far, those that fell into the black hole too."""
        self.pass_through()

    # Faults

    def pass_through(self) -> None:
        """All is well again, for old connections too: what a black hole swallowed arrives late."""
        with self._changed:
            self._hole, self._delay, self._marker = False, 0.0, None
            self._left.clear()
            self._changed.notify_all()
            if not self._listening:
                self._listening = True
                self._listener.listen(128)
                threading.Thread(target=self._accept, daemon=True).start()

    def refuse(self) -> None:
        """Nobody listens, and all connections are gone."""
        with self._changed:
            self._listening = False
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
        self.cut()

    def blackhole(self) -> None:
        """Connections are accepted and stay open, and nothing comes through in either direction."""
        with self._changed:
            self._hole = True

    def delay(self, seconds: float) -> None:
        """Everything takes so much longer in each direction."""
        with self._changed:
            self._delay = seconds

    def cut(self) -> None:
        """Reset the connections that there are; new ones are served."""
        with self._changed:
            links, self._links = self._links, set()
            self._changed.notify_all()
        for link in links:
            link.cut()

    def cut_after(self, count: int, towards: Direction) -> None:
        """Pass on so many bytes more in this direction, over all connections, then cut once."""
        with self._changed:
            self._left[towards] = count

    def cut_at(self, marker: bytes, *, answered: bool = True) -> None:
        """Cut the connection whose client sends these bytes, once: the server does what was asked and its answer is lost, or,
        not `answered`, it never hears of it."""
        with self._changed:
            self._marker = (marker, answered)

    @property
    def armed(self) -> bool:
        """Whether the bytes that `cut_at` waits for are still to come."""
        with self._changed:
            return self._marker is not None

    @property
    def connections(self) -> int:
        """Open now."""
        with self._changed:
            return len(self._links)

    # Traffic

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        self._wait()
        try:
            server = socket.create_connection(("127.0.0.1", self._upstream), timeout=10)
        except OSError:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            client.close()
            return
        server.settimeout(None)
        for sock in (client, server):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        link = _Link(client, server)
        with self._changed:
            if self._closed or not self._listening:
                link.cut()
                return
            self._links.add(link)
        threading.Thread(target=self._pump, args=(link, client, server, "server"), daemon=True).start()
        self._pump(link, server, client, "client")

    def _wait(self) -> None:
        """For as long as there is a black hole."""
        with self._changed:
            self._changed.wait_for(lambda: not self._hole or self._closed)

    def _pump(self, link: _Link, source: socket.socket, sink: socket.socket, towards: Direction) -> None:
        tail = b""
        with contextlib.suppress(OSError):
            while chunk := source.recv(_CHUNK):
                self._wait()
                if self._delay:
                    with self._changed:
                        self._changed.wait_for(lambda: link not in self._links, timeout=self._delay)
                chunk, cut = self._judge(link, tail, chunk, towards)
                sink.sendall(chunk)
                if cut:
                    break
                tail = chunk[-64:]
        with self._changed:
            self._links.discard(link)
        link.cut()

    def _judge(self, link: _Link, tail: bytes, chunk: bytes, towards: Direction) -> tuple[bytes, bool]:
        """What is passed on of it, and whether the connection ends with it."""
        with self._changed:
            if towards == "client" and link.answer_is_lost:
                return b"", True
            if towards == "server" and self._marker is not None and _ends_in(self._marker[0], tail, chunk):
                answered = self._marker[1]
                self._marker = None
                if not answered:
                    return b"", True
                link.answer_is_lost = True
            left = self._left.get(towards)
            if left is not None:
                if len(chunk) >= left:
                    del self._left[towards]
                    return chunk[:left], True
                self._left[towards] = left - len(chunk)
        return chunk, False

    def close(self) -> None:
        """End all connections and give the port back."""
        with self._changed:
            self._closed = True
        self.refuse()
        self._listener.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def _ends_in(marker: bytes, tail: bytes, chunk: bytes) -> bool:
    """Whether these bytes are there and not all of them were passed on before."""
    return (tail + chunk).find(marker, max(0, len(tail) - len(marker) + 1)) >= 0
