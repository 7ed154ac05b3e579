"""Model calls of a run that is repeated against a recording: which recorded call answers a request, and what differs.

An agent makes some calls side by side, so their order says little. A request gets the answer of the recorded call that is most
like it and was not used yet, the earliest of those that are equally like. Pure.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optio.model.mask import Masker
from optio.model.model_call import CallRecording
from optio.model.route import Route, show
from optio.testing.volatile import steady

# What is shown of a text, on both sides of the place where it begins to differ.
_SHOWN_BEFORE, _SHOWN_AFTER = 40, 80
_MISSING = "(not there)"
# Members of a request that the agent's program writes itself, such as lists of its skills in any order.
PROGRAM_TEXTS = (("system",), ("systemInstruction",), ("instructions",), ("tools",))
_PUNCTUATION = re.compile(r"[^\w]+")
Leaves = Mapping[Route, Any]


@dataclass(frozen=True, slots=True)
class RequestDifference:
    """The first place in which a request differs from the recorded one, and in how many it does. `is_order` says that they have
    the same in another order, as from programs that do several things at once."""

    count: int
    is_order: bool
    place: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class ReplayedRequest:
    """A request of the repeated run: the number of the recorded call that answered it, None if none was left, and what
    differs."""

    call: int | None
    difference: RequestDifference | None = None

    @property
    def is_same(self) -> bool:
        """Return whether the request is the recorded one, but for an order that does not count."""
        return self.call is not None and (self.difference is None or self.difference.is_order)


class ReplayedCalls:
    """The recorded calls of an attempt, by their numbers, and the requests that came so far. `masker` masks what stands for
    secrets in requests, as the recording is masked."""

    def __init__(self, recordings: Mapping[int, CallRecording], masker: Masker) -> None:
        self._recordings, self._masker = recordings, masker
        self._left = {number: _leaves(_comparable(call.path, call.request)) for number, call in recordings.items()}
        self.requests: list[ReplayedRequest] = []

    @property
    def missing(self) -> list[int]:
        """Return the numbers of recorded calls that were not made."""
        return sorted(self._left)

    def is_call(self, path: str) -> bool:
        """Return whether a request with this path is a model call, as those that were recorded."""
        return any(_operation(call.path) == _operation(path) for call in self._recordings.values())

    def take(self, path: str, request: Any) -> CallRecording | None:
        """Return the recorded call that answers this request; None if all were used."""
        leaves = _leaves(_comparable(path, self._masker.json(request)))
        if not self._left:
            self.requests.append(ReplayedRequest(None))
            return None
        number = min(self._left, key=lambda number: (len(_places(self._left[number], leaves)), number))
        self.requests.append(ReplayedRequest(number, _difference(self._left.pop(number), leaves)))
        return self._recordings[number]


def _operation(path: str) -> str:
    return path.replace(":", "/").rpartition("/")[2]


def _comparable(path: str, request: Any) -> Any:
    return {"path": path, **steady(request if isinstance(request, dict) else {"body": request})}


def _leaves(value: Any) -> Leaves:
    return dict(_iter_leaves(value, ()))


def _iter_leaves(value: Any, route: Route) -> Iterator[tuple[Route, Any]]:
    if isinstance(value, dict | list) and value:
        for name, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _iter_leaves(item, (*route, name))
    else:
        yield route, value


def _places(before: Leaves, after: Leaves) -> Sequence[Route]:
    """Return the places in which two requests differ, in the order of the first, then of the second."""
    return [route for route in dict.fromkeys((*before, *after)) if before.get(route, _MISSING) != after.get(route, _MISSING)]


def _difference(before: Leaves, after: Leaves) -> RequestDifference | None:
    places = _places(before, after)
    if not places:
        return None
    is_order = _pieces(before, places) == _pieces(after, places)
    return RequestDifference(len(places), is_order, show(places[0]), *_excerpts(before, after, places[0]))


def _pieces(leaves: Leaves, places: Sequence[Route]) -> Counter[Any]:
    """Count what stands at these places, without its order: words of the program, lines of others, and values."""
    pieces: Counter[Any] = Counter()
    for route in places:
        value = leaves.get(route, _MISSING)
        is_of_program = route[:1] in PROGRAM_TEXTS
        texts = [repr(value)] if not isinstance(value, str) else value.split() if is_of_program else value.splitlines()
        pieces.update(_PUNCTUATION.sub("", text) if is_of_program else text for text in texts)
    return pieces


def _excerpts(before: Leaves, after: Leaves, route: Route) -> tuple[str, str]:
    first, second = (_text(leaves, route) for leaves in (before, after))
    same = next((index for index, pair in enumerate(zip(first, second, strict=False)) if pair[0] != pair[1]), 0)
    return _cut(first, same), _cut(second, same)


def _text(leaves: Leaves, route: Route) -> str:
    return json.dumps(leaves[route], ensure_ascii=False) if route in leaves else _MISSING


def _cut(text: str, index: int) -> str:
    begin, end = max(0, index - _SHOWN_BEFORE), index + _SHOWN_AFTER
    return ("…" if begin else "") + text[begin:end] + ("…" if end < len(text) else "")
