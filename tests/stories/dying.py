"""Imported by a worker: it dies by SIGKILL before or after a call of a method. `DYING` in its environment says which."""

import json
import os
import signal
import socket
import time
from datetime import timedelta
from importlib import import_module
from typing import Any

from optio.executors.base import Exit
from optio.executors.process import ProcessExecutor
from optio.model import room
from optio.model.room import Delay

_host, _module, _owner, _name, _when, _nth, _full = json.loads(os.environ["DYING"])
_class = getattr(import_module(_module), _owner)
_original = getattr(_class, _name)
_calls = 0


def _count() -> None:
    global _calls
    _calls += 1
    if _calls == _nth:
        os.kill(os.getpid(), signal.SIGKILL)


def _dying(*arguments: Any, **named: Any) -> Any:
    if _when == "before":
        _count()
    found = _original(*arguments, **named)
    if _when == "after" and found:  # a claim that found nothing is none
        _count()
    return found


class _Full:
    """There is no room where it is: nothing is begun, and the run is to be given back."""

    streams = ("stdout", "stderr")

    def __init__(self, *_: object) -> None:
        self._at = time.monotonic()
        self._why = Delay(reason="quota", message="the quota is full")

    def read(self, *_: object) -> bytes:
        return b""

    def settled(self) -> bool:
        return True

    def wait(self, _: object) -> None:
        time.sleep(0.05)

    def delay(self) -> Delay:
        return self._why

    def exit(self) -> Exit | None:
        full = time.monotonic() - self._at > 0.3
        return Exit(code=None, signal=None, reason="quota", temporary=True, no_room=self._why) if full else None

    def nothing(self, *_: object, **__: object) -> None:
        pass

    wake = begun = renewed = stop = close = pod = nothing


setattr(_class, _name, _dying)
if _full:
    room.FIRST_PAUSE = timedelta(seconds=0.5)  # another worker tries as soon
    ProcessExecutor.start = _Full  # type: ignore[method-assign, assignment]
if _host:
    socket.gethostname = lambda: _host
