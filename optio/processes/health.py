"""Liveness and readiness of a process: its loops run, and its store can be used. Shown by `/healthz`, `/readyz` and, as gauges,
`/metrics`."""

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from optio.errors import OptioError, StoreFull
from optio.model.room import PLACE_REFUSALS, SECRET_SOURCE
from optio.telemetry.base import Gauge
from optio.wiring import Services

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Health:
    """The result of a check. With `problems` the process cannot do its work; with `degraded` it works slower, or with looser
    limits. Anyone may read it, so it holds no details."""

    problems: tuple[str, ...] = ()
    degraded: tuple[str, ...] = ()

    @property
    def status(self) -> int:
        """Return the HTTP status: 503 with problems, else 200."""
        return 503 if self.problems else 200

    def to_json(self) -> dict[str, Any]:
        """Return the body of the answer, with one word for the state and all sentences."""
        word = "unavailable" if self.problems else "degraded" if self.degraded else "ok"
        return {"status": word, "problems": [*self.problems, *self.degraded]}


def alive(services: Services) -> Health:
    """Return the problems that only a restart cures: loops that have stopped."""
    return Health(tuple(f"the loop `{loop}` does not run" for loop in services.pulses.late()))


def ready(services: Services) -> Health:
    """Return the problems that may pass by themselves, too. Asks the store."""
    problems = list(alive(services).problems)
    try:
        services.store.check()
    except StoreFull as err:
        log.warning("not ready: %s", err)
        problems.append("the disk is full: new runs are refused until there is space, running ones go on")
    except OptioError as err:
        # Anyone may ask, so details are only in the log.
        log.warning("not ready: %s", err)
        problems.append("the store cannot be used")
    problems += [PLACE_REFUSALS[reason] for reason in sorted(services.refusals & PLACE_REFUSALS.keys())]
    return Health(tuple(problems), tuple(slower(services)))


def slower(services: Services) -> Iterator[str]:
    """Yield the reasons for which the process works slower, or with looser limits."""
    if services.broker.problem() is not None:
        yield "Redis is unavailable: runs are started by polling, and live logs lag"
    if services.rate.problem() is not None:
        yield "Redis is unavailable: each server counts webhook requests by itself"
    if SECRET_SOURCE in services.refusals:
        yield "secrets cannot be read: runs of the tasks that name them wait"


def readings(services: Services) -> Iterator[Gauge]:
    """Yield the same as gauges for `/metrics`, as far as it is known without asking the store."""
    for part, source in (("broker", services.broker), ("rate", services.rate)):
        yield Gauge("part_up", "whether a part can be used", source.problem() is None, {"part": part})
    yield Gauge("loops_late", "loops that do not run", len(services.pulses.late()))
    try:
        disk = os.statvfs(services.settings.data_dir)
    except OSError:
        return
    yield Gauge("disk_free_bytes", "what may still be written where the data directory lies", disk.f_bavail * disk.f_frsize)
    yield Gauge("disk_size_bytes", "the size of that disk", disk.f_blocks * disk.f_frsize)
