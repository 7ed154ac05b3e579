"""The limit of the teardown guard (`optio.model.removal`) as a setting. It has a module of its own so that reading settings
imports nothing else."""

import re
from dataclasses import dataclass

DEFAULT_REMOVAL_LIMIT = "50%"
# A share means little for few tasks: fewer than this may always go, unless no task would be left.
MIN_SHARED_REMOVALS = 3


@dataclass(frozen=True, slots=True)
class RemovalLimit:
    """The number of tasks that may go at once: a share of them in percent (`50%`), or an absolute number (`20`)."""

    number: int
    percent: bool

    @classmethod
    def parse(cls, text: str) -> "RemovalLimit":
        """Read `50%` or `20`; raise ValueError for anything else."""
        match = re.fullmatch(r"(\d{1,9})(%?)", text, re.ASCII)
        if match is None or (match[2] and not 1 <= int(match[1]) <= 100):
            raise ValueError("a share from `1%` to `100%`, or a number of tasks such as `20`")
        return cls(int(match[1]), bool(match[2]))

    def allows(self, count: int, total: int) -> bool:
        """Return whether `removed` of `total` tasks may go at once. A share never holds fewer than three, unless they are all
        that is left."""
        if not self.percent:
            return count <= self.number
        if count < MIN_SHARED_REMOVALS and not 1 < count == total:
            return True
        return count * 100 <= self.number * total

    def __str__(self) -> str:
        """Return the limit as it is written in the setting."""
        return f"{self.number}{'%' if self.percent else ''}"
