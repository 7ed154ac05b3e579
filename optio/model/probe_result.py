"""The result of one check that `optio doctor` makes. The store, the broker and the executors each yield such results; the CLI
prints them."""

from dataclasses import dataclass
from typing import Final, Literal

ProbeStatus = Literal["ok", "warning", "error"]
OK: Final = "ok"  # the part works, and `detail` describes it
WARNING: Final = "warning"  # it works now, and may not under load or after a failure
ERROR: Final = "error"  # it does not work


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """The result of one check. `status` is `ok`, `warning` or `error`; `hint` is the cure, for people, and `command` what to
    type for it, or to see more."""

    name: str
    status: ProbeStatus
    detail: str
    hint: str | None = None
    command: str | None = None
