"""Offline tests of a task, as its file states them: an event (`webhook`, `schedule` or `params`) and the expected result.
`optio test` runs them; this module only describes them."""

from datetime import datetime
from typing import Annotated, Any, Literal

from msgspec import Meta

from optio.model.spec import HeaderName, Spec, Text

# The verdicts that a test can expect of a delivery. `optio.compiler.json_schema_texts` has a sentence on each for editors.
ExpectedVerdict = Literal["accepted", "filtered", "invalid", "unsigned", "stale", "unreadable", "unsupported"]
HeaderValue = Annotated[str, Meta(pattern=r"^[\x20-\x7e]*\Z", max_length=1_000)]
# Far from the first and last years of `datetime`.
_YEARS = range(1970, 2200)


class Expectation(Spec, frozen=True, kw_only=True):
    """The expected result of a test. Anything that is not stated may be anything."""

    verdict: ExpectedVerdict | None = None
    """The server's verdict; `accepted` by default, `invalid` where `error` is given."""
    params: dict[str, Any] | None = None
    """All parameters of the run, with their defaults."""
    prompt: Text | None = None
    """A file with the whole prompt of the run, relative to this file; `optio test --update` writes it."""
    prompt_contains: str | list[Text] = []
    """A text that the prompt of the run must contain, or several."""
    error: str | list[Text] | None = None
    """A part of the reason for the refusal, or several, such as `/params/REPO_NAME`."""

    @property
    def word(self) -> ExpectedVerdict:
        """Return the expected verdict, `accepted` where the file gives none but expects no error."""
        return self.verdict or ("accepted" if self.error is None else "invalid")

    @property
    def reasons(self) -> list[str]:
        """Return `error` as a list, whether the file gives one text, several or none."""
        return [self.error] if isinstance(self.error, str) else self.error or []

    @property
    def parts(self) -> list[str]:
        """Return `promptContains` as a list, whether the file gives one text, several or none."""
        return [self.prompt_contains] if isinstance(self.prompt_contains, str) else self.prompt_contains


class Example(Spec, frozen=True, kw_only=True):
    """One offline test of a task: exactly one of `webhook`, `schedule` and `params`, and the expected result."""

    name: Text | None = None
    """The name of the test, in a few words."""
    webhook: Text | None = None
    """A delivery with this payload: a JSON file, relative to this file. A disabled trigger is tested as if it were enabled."""
    headers: dict[HeaderName, HeaderValue] = {}
    """With `webhook`: headers of the delivery, such as `{X-GitHub-Event: push}`."""
    signature: Literal["valid", "missing", "wrong", "stale"] | None = None
    """With `webhook`: how the delivery is signed, with a made-up secret; `valid` by default."""
    schedule: Text | None = None
    """A fire of the schedule at this time: `2026-03-30T07:00` in its own zone, or with an offset, `2026-03-30T07:00+02:00`."""
    params: dict[str, Any] | None = None
    """A run by hand with these parameters."""
    expect: Expectation
    """The expected result, such as `{params: {REPO_NAME: hello}}`."""

    @property
    def slot(self) -> datetime:
        """Return `schedule` as a time, without a zone where none is written; raise ValueError for malformed times and for those
        that no clock shows."""
        at = datetime.fromisoformat(self.schedule or "")
        if at.year not in _YEARS:
            raise ValueError(f"{at.year} is not among the years from {_YEARS[0]} to {_YEARS[-1]}")
        return at

    @property
    def label(self) -> str:
        """Return `name`, or a description of the event where the test has no name; reports identify the test by it."""
        if self.name is not None:
            return self.name
        if self.webhook is not None:
            return f"webhook {self.webhook}"
        if self.schedule is not None:
            return f"schedule {self.schedule}"
        return "params " + (", ".join(self.params or ()) or "none")
