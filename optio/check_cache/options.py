"""Options of a check: how many processes, where the cache is, and which optional rules run."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

# Compiling fewer files takes less time than starting a process or reading the index.
MIN_FILES_TO_SHARE = 100
_MAX_JOBS = 16


@dataclass(frozen=True, slots=True)
class CheckOptions:
    """Options of one check. `executor` is where runs execute, if known; `jobs` the maximum number of processes (None: one per
    CPU); `place` the cache directory (None: no cache); trees below `few` files use neither processes nor cache."""

    pedantic: bool = False
    executor: str | None = None
    jobs: int | None = None
    place: Path | None = None
    few: int = MIN_FILES_TO_SHARE

    def jobs_for(self, files: int) -> int:
        """Return how many processes are worth starting for this number of files: at least one, at most one per `few` files."""
        most = min(len(os.sched_getaffinity(0)), _MAX_JOBS) if self.jobs is None else self.jobs
        return max(1, min(most, files // max(self.few, 1)))


def default_cache_directory(environment: Mapping[str, str]) -> Path | None:
    """Return `$OPTIO_CACHE_DIR`, else `optio` in the user's cache directory (XDG), else None: without a home nothing is
    cached."""
    own = environment.get("OPTIO_CACHE_DIR")
    if own:
        return Path(own)
    caches = environment.get("XDG_CACHE_HOME", "")
    if os.path.isabs(caches):
        return Path(caches, "optio")
    home = environment.get("HOME", "")
    return Path(home, ".cache", "optio") if os.path.isabs(home) else None
