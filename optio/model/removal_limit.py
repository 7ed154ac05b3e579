"""The setting of the teardown guard (see `optio.model.removal`); a module of its own, so that reading settings stays quick."""

import re
from dataclasses import dataclass

DEFAULT_REMOVAL_LIMIT = "50%"
# A share says little of so few tasks: fewer than these may always go, unless nothing would be left.
MIN_SHARED_REMOVALS = 3


@dataclass(frozen=True, slots=True)
class RemovalLimit:
    """How many tasks may go at once: a share of them in percent, or a number."""

    number: int
    percent: bool

    @classmethod
    def parse(cls, text: str) -> "RemovalLimit":
        """Read `50%` or `20`. Raises ValueError."""
        found = re.fullmatch(r"(\d{1,9})(%?)", text, re.ASCII)
        if found is None or (found[2] and not 1 <= int(found[1]) <= 100):
            raise ValueError("a share from `1%` to `100%`, or a number of tasks such as `20`")
        return cls(int(found[1]), bool(found[2]))

    def allows(self, removed: int, total: int) -> bool:
        """Whether so many of `total` tasks may go at once."""
        if not self.percent:
            return removed <= self.number
        if removed < MIN_SHARED_REMOVALS and not 1 < removed == total:
            return True
        return removed * 100 <= self.number * total

    def __str__(self) -> str:
        """As it is written in the setting."""
        return f"{self.number}{'%' if self.percent else ''}"
