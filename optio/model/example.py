"""Offline tests of a task, as a task file has them: what happens, and what must come of it."""

from datetime import datetime
from typing import Annotated, Any, Literal

from msgspec import Meta

from optio.model.spec import HeaderName, Spec, Text

ExpectedVerdict = Literal["accepted", "filtered", "invalid", "unsigned", "stale", "unreadable", "unsupported"]
HeaderValue = Annotated[str, Meta(pattern=r"^[\x20-\x7e]*\Z", max_length=1_000)]
# Far from the ends of what can be reckoned with.
_YEARS = range(1970, 2200)


class Expectation(Spec, frozen=True, kw_only=True):
    """What must come of it. What is left out may be anything."""

    verdict: ExpectedVerdict | None = None
    """What the server makes of it; `accepted` unless `error` is given, `invalid` then."""
    params: dict[str, Any] | None = None
    """The parameters of the run, all of them, with their defaults."""
    prompt: Text | None = None
    """A file with the whole prompt of the run, relative to this file; `optio test --update` writes it."""
    prompt_contains: str | list[Text] = []
    """A text that the prompt of the run must hold, or several."""
    error: str | list[Text] | None = None
    """A part of the reason why it is refused, or several, such as `/params/REPO_NAME`."""

    @property
    def word(self) -> ExpectedVerdict:
        """The verdict, also where none is written."""
        return self.verdict or ("accepted" if self.error is None else "invalid")

    @property
    def reasons(self) -> list[str]:
        """`error` as a list."""
        return [self.error] if isinstance(self.error, str) else self.error or []

    @property
    def parts(self) -> list[str]:
        """`promptContains` as a list."""
        return [self.prompt_contains] if isinstance(self.prompt_contains, str) else self.prompt_contains


class Example(Spec, frozen=True, kw_only=True):
    """One offline test of a task: exactly one of `webhook`, `schedule` and `params`, and what must come of it."""

    name: Text | None = None
    """What the test shows, in a few words."""
    webhook: Text | None = None
    """A delivery arrives with this payload: a JSON file, relative to this file. A trigger that is switched off is tried as if
    it were on."""
    headers: dict[HeaderName, HeaderValue] = {}
    """With `webhook`: headers of the delivery, such as `{X-GitHub-Event: push}`."""
    signature: Literal["valid", "missing", "wrong", "stale"] | None = None
    """With `webhook`: how the delivery is signed, with a made-up secret; `valid` by default."""
    schedule: Text | None = None
    """The schedule fires at this time: `2026-03-30T07:00` in its own zone, or with an offset, `2026-03-30T07:00+02:00`."""
    params: dict[str, Any] | None = None
    """A run is asked for by hand with these parameters."""
    expect: Expectation
    """What must come of it, such as `{params: {REPO_NAME: hello}}`."""

    @property
    def slot(self) -> datetime:
        """`schedule` as a time, without a zone where none is written; raises ValueError, also for one that no clock shows."""
        at = datetime.fromisoformat(self.schedule or "")
        if at.year not in _YEARS:
            raise ValueError(f"{at.year} is not among the years from {_YEARS[0]} to {_YEARS[-1]}")
        return at

    @property
    def label(self) -> str:
        """`name`, or what happens."""
        if self.name is not None:
            return self.name
        if self.webhook is not None:
            return f"webhook {self.webhook}"
        if self.schedule is not None:
            return f"schedule {self.schedule}"
        return "params " + (", ".join(self.params or ()) or "none")
