"""Pools of warm pods: places that are ready before a run needs them, and the quantities in which pods are sized."""

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, Literal

# How an attempt's agent started.
StartKind = Literal[
    "process",  # as a process on the worker's machine
    "cold",  # in a pod that was made for the attempt
    "warm",  # in a pod that stood ready
]
PROCESS: Final = "process"
COLD: Final = "cold"
WARM: Final = "warm"
_UNITS = {
    "": Decimal(1), "m": Decimal("0.001"), "k": Decimal(10**3), "M": Decimal(10**6), "G": Decimal(10**9), "T": Decimal(10**12),
    "P": Decimal(10**15), "Ki": Decimal(2**10), "Mi": Decimal(2**20), "Gi": Decimal(2**30), "Ti": Decimal(2**40),
    "Pi": Decimal(2**50),
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """A pool of pods of one kind, shared by the tasks that need this kind. `size` is the wanted number; `ready` pods can be
    taken now and `starting` ones soon. `problem` explains to people why there are fewer, or is empty."""

    key: str
    tasks: tuple[str, ...]
    size: int
    ready: int
    starting: int
    problem: str = ""


def parse_quantity(text: str) -> Decimal | None:
    """Return a Kubernetes quantity (`500m`, `2Gi`) as a number; None for text that is not one."""
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?", text, re.ASCII)
    return None if match is None else Decimal(match[1]) * _UNITS[match[2] or ""]


def request_and_limit(quantities: tuple[str | None, str | None], default: tuple[str, str]) -> tuple[str, str]:
    """Return what a pod reserves and what it may use, of CPU or of memory, as quantities.

    `asked` is (request, limit) of the task, `default` the operator's. A default gives way to a value of the task: a small limit
    lowers the request, a large request raises the limit.
    """
    request, limit = quantities[0] or default[0], quantities[1] or default[1]
    least, highest = parse_quantity(request), parse_quantity(limit)
    if least is not None and highest is not None and least > highest:
        if quantities[0] is None:
            return limit, limit
        if quantities[1] is None:
            return request, request
    return request, limit
