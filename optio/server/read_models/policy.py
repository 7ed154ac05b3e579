"""The policy of this server's task directory, read again when its file changes. Used where spending is shown beside limits."""

import os
import threading
from decimal import Decimal
from pathlib import Path

from optio.compiler.layers import POLICY
from optio.compiler.pipeline import TreePolicy
from optio.compiler.source_tree import DirectoryTree
from optio.model.policy import PolicySpec
from optio.model.text import parse_money

_Stamp = tuple[int, int, int] | None


class ServedPolicy:
    """The cache of the policy. A policy that is missing or cannot be read sets no limits here: `optio check` reports it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock = threading.Lock()
        self._stored: tuple[_Stamp, PolicySpec | None] = (None, None)

    def spec(self) -> PolicySpec | None:
        """Return the policy."""
        stamp = self._stamp()
        with self._lock:
            if stamp != self._stored[0]:
                self._stored = (stamp, None if stamp is None else TreePolicy(DirectoryTree(self._directory)).spec)
            return self._stored[1]

    @property
    def task_month_usd(self) -> Decimal | None:
        """Return the most that one task may spend in 30 days."""
        spec = self.spec()
        return None if spec is None else _money(spec.ceilings.month_usd)

    @property
    def fleet_month_usd(self) -> Decimal | None:
        """Return the most that all tasks together may spend in 30 days."""
        spec = self.spec()
        return None if spec is None else _money(spec.fleet.month_usd)

    def _stamp(self) -> _Stamp:
        try:
            status = os.stat(self._directory / POLICY)
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size, status.st_ino


def _money(text: str | None) -> Decimal | None:
    return None if text is None else parse_money(text)
