"""Comparison for replays: what became of a delivery when it came, beside what would become of it now. Pure; used by the API,
`optio hook replay` and `optio test`."""

import difflib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from optio.store.values import DeliveryVerdict

# Of a longer prompt, only so many characters are compared line by line.
_MAX_COMPARED_CHARACTERS = 200_000
# Both mean a run: whether another run already has the same business key is only known when it is started.
_STARTS = ("accepted", "duplicate")


# The verdict of a decision about a delivery.
DecisionVerdict = (
    DeliveryVerdict
    | Literal[
        "absent",  # no task that is served now has its path
    ]
)
# A part of two decisions that is not the same.
Difference = Literal["task", "verdict", "detail", "params", "prompt"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryDecision:
    """The decision about a delivery, then or now. Parameters and prompt are None without a run, or if the run was deleted by
    retention."""

    verdict: DecisionVerdict
    detail: str | None = None
    task_id: str | None = None
    definition: str | None = None
    params: Mapping[str, Any] | None = None
    prompt: str | None = None

    @property
    def starts(self) -> bool:
        """Return whether the decision means a run; `duplicate` counts, because the run it names would have been started."""
        return self.verdict in _STARTS


def differences(then: DeliveryDecision, now: DeliveryDecision) -> list[Difference]:
    """Return which of `task`, `verdict`, `detail`, `params` and `prompt` differ. The last two are compared only if both
    decisions have a run whose prompt is known."""
    found: list[Difference] = []
    if then.task_id is not None and now.task_id is not None and then.task_id != now.task_id:
        found.append("task")
    if then.verdict != now.verdict and not (then.starts and now.starts):
        found.append("verdict")
    elif not now.starts and (then.detail or None) != (now.detail or None):
        found.append("detail")
    if then.prompt is not None and now.prompt is not None:
        found += ["params"] if then.params != now.params else []
        found += ["prompt"] if then.prompt != now.prompt else []
    return found


def diff(then: DeliveryDecision, now: DeliveryDecision) -> str:
    """Return a unified diff of parameters and prompt; empty when there is nothing to compare."""
    if then.starts and then.params is None:
        return ""
    parts: list[str] = []
    for name in ("params", "prompt"):
        before, after = list(_lines(getattr(then, name))), list(_lines(getattr(now, name)))
        parts += difflib.unified_diff(before, after, f"then: {name}", f"now: {name}", lineterm="", n=2)
    return "\n".join(parts)


def _lines(value: Any) -> Iterator[str]:
    if value is None:
        return
    text = value if isinstance(value, str) else json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False)
    yield from text[:_MAX_COMPARED_CHARACTERS].splitlines()
    if len(text) > _MAX_COMPARED_CHARACTERS:
        yield f"... and {len(text) - _MAX_COMPARED_CHARACTERS:,} characters more"
