"""Whether a process is alive and whether it is ready: its loops turn, its store can be used."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass

from optio.errors import OptioError, StoreFull
from optio.telemetry.base import Gauge
from optio.wiring import Services

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Health:
    """`problems` keep it from its work; with what is `degraded` it works slower, or with looser limits. Anyone may read it."""

    problems: tuple[str, ...] = ()
    degraded: tuple[str, ...] = ()

    @property
    def status(self) -> int:
        """Of the HTTP answer."""
        return 503 if self.problems else 200

    def to_json(self) -> dict[str, object]:
        """As the answer shows it."""
        word = "unavailable" if self.problems else "degraded" if self.degraded else "ok"
        return {"status": word, "problems": [*self.problems, *self.degraded]}


def alive(services: Services) -> Health:
    """What only a new start would cure."""
    return Health(tuple(f"the loop `{loop}` does not turn" for loop in services.pulses.late()))


def ready(services: Services) -> Health:
    """What may pass by itself; asks the store."""
    problems = list(alive(services).problems)
    try:
        services.store.check()
    except StoreFull as err:
        log.warning("not ready: %s", err)
        problems.append("the disk is full: new runs are refused until there is space, running ones go on")
    except OptioError as err:
        # Anyone may ask: the log tells more.
        log.warning("not ready: %s", err)
        problems.append("the store cannot be used")
    degraded = []
    if services.broker.problem() is not None:
        degraded.append("Redis cannot be used: runs start by sweeps, live logs lag")
    if services.rate.problem() is not None:
        degraded.append("Redis cannot be used: each server counts webhook requests by itself")
    return Health(tuple(problems), tuple(degraded))


def readings(services: Services) -> Iterator[Gauge]:
    """The same for `/metrics`, as far as it costs nothing to know."""
    for part, source in (("broker", services.broker), ("rate", services.rate)):
        yield Gauge("part_up", "whether a part can be used", source.problem() is None, {"part": part})
    yield Gauge("loops_late", "loops that do not turn", len(services.pulses.late()))
