"""Pools: places for agents that are ready before a run needs them."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """Places of one kind, shared by the tasks that want such. `size` is how many there are to be; of those `ready` can be taken
    now and `starting` soon. `problem` is why there are fewer, in words, or empty."""

    key: str
    tasks: tuple[str, ...]
    size: int
    ready: int
    starting: int
    problem: str = ""
