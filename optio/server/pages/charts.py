"""Charts as numbers for SVG templates: bars of a task's last runs, and stacked bars of days. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from optio.server.bodies.overview import LastRunBody

BAR_WIDTH, BAR_GAP, BAR_HEIGHT = 6, 2, 18
# The chart of days, in units of its view box.
CHART_WIDTH, CHART_HEIGHT = 900, 200


@dataclass(frozen=True, slots=True)
class RunBar:
    """The bar of a run: `x`, `y` and `height` from the top left, and a title in words. Longer runs have higher bars, by the
    logarithm of seconds."""

    id: str
    state: str
    title: str
    x: int
    y: int
    height: int


def run_bars(runs: Sequence[LastRunBody]) -> list[RunBar]:
    """Return a bar for each run, oldest first."""
    spans = [math.log1p((run.duration_ms or 0) / 1000) for run in reversed(runs)]
    longest = max(spans, default=0.0) or 1.0
    heights = [max(4, round(BAR_HEIGHT * span / longest)) for span in spans]
    return [
        RunBar(run.id, run.state.value, _title(run), place * (BAR_WIDTH + BAR_GAP), 10 + BAR_HEIGHT - height, height)
        for place, (run, height) in enumerate(zip(reversed(runs), heights, strict=True))
    ]


def _title(run: LastRunBody) -> str:
    explanation = f": {run.reason}" if run.reason not in ("ok", run.state) else ""
    took = "" if run.duration_ms is None else f", {run.duration_ms / 1000:,.1f} s"
    return f"{run.state}{explanation}, {run.created_at[:10]} {run.created_at[11:19]}{took}"


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of a day's bar, as a rectangle; `series` is the position of what it belongs to."""

    series: int
    amount: Decimal
    x: float
    y: float
    width: float
    height: float


def stacked_bars(days: Sequence[Sequence[Decimal]], top: Decimal) -> list[list[Segment]]:
    """Return the segments of each day, given the amounts of all series of each day, and the amount at the chart's top."""
    step = CHART_WIDTH / max(1, len(days))
    bars = []
    for place, amounts in enumerate(days):
        bottom, segments = float(CHART_HEIGHT), []
        for series, amount in enumerate(amounts):
            height = float(amount / top) * CHART_HEIGHT if top else 0.0
            if height <= 0:
                continue
            bottom -= height
            segments.append(
                Segment(series, amount, round(place * step + 1, 1), round(bottom, 2), round(step - 2, 1), round(height, 2))
            )
        bars.append(segments)
    return bars


def round_up(amount: Decimal) -> Decimal:
    """Return the next of 1, 2 and 5 times a power of ten, for the top of a chart; 1 for nothing."""
    if amount <= 0:
        return Decimal(1)
    power = Decimal(10) ** amount.adjusted()
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= amount)
