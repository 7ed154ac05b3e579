"""What a look at an installation found."""

from dataclasses import dataclass

OK, WARNING, ERROR = "ok", "warning", "error"


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """One thing looked at. `status` is ok, warning or error; `hint` is the cure."""

    name: str
    status: str
    detail: str
    hint: str | None = None
