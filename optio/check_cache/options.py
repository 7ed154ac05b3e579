"""How to check: choices that change the time it takes, or what is looked for."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

# So few files are compiled sooner than a process is started, or an index read.
MIN_FILES_TO_SHARE = 100
_MAX_JOBS = 16


@dataclass(frozen=True, slots=True)
class CheckOptions:
    """`pedantic` looks for what a task could do without, `executor` is where runs are executed, if that is known. `jobs` are
    processes at most, None for one for each processor; `place` is where results are kept, None for nowhere."""

    pedantic: bool = False
    executor: str | None = None
    jobs: int | None = None
    place: Path | None = None
    few: int = MIN_FILES_TO_SHARE

    def jobs_for(self, files: int) -> int:
        """As many processes as are worth it."""
        most = min(len(os.sched_getaffinity(0)), _MAX_JOBS) if self.jobs is None else self.jobs
        return max(1, min(most, files // max(self.few, 1)))


def default_cache_directory(environment: Mapping[str, str]) -> Path | None:
    """`$OPTIO_CACHE_DIR`, or `optio` among the user's caches; None where there is no such place."""
    own = environment.get("OPTIO_CACHE_DIR")
    if own:
        return Path(own)
    caches = environment.get("XDG_CACHE_HOME", "")
    if os.path.isabs(caches):
        return Path(caches, "optio")
    home = environment.get("HOME", "")
    return Path(home, ".cache", "optio") if os.path.isabs(home) else None
