"""The file OPTIO_RESULT_FILE, in which a program or an agent reports: lines of JSON, of which the last valid `result` counts.
The `command` runtime takes further types of lines; `runs.runtime_guard` reads the file of all other runtimes."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, cast

from optio.errors import Malformed
from optio.model import json_body
from optio.model.retry import HOPELESS

MAX_LINE_BYTES = 1 << 20
MAX_WARNINGS = 20
# A file with more invalid lines than this is not a result file: the rest is ignored.
MAX_IGNORED_LINES = 1000
UNKNOWN_TYPE = "a line of an unknown type was ignored"
_REASON = re.compile(r"[a-z][a-z0-9_]{0,63}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A `result` line: what its author says of the end. `text` and `output` are None where it gives none."""

    status: Literal["ok", "error", "no_work"]
    text: str | None
    output: Any
    reason: str | None
    retryable: bool | None
    wait_s: float

    @classmethod
    def of(cls, entry: dict[str, Any]) -> "Report | None":
        """Return the report of a line; None if it is not a result, or has another status."""
        status, text, reason = entry.get("status"), entry.get("text"), entry.get("reason")
        if entry.get("type") != "result" or status not in ("ok", "error", "no_work"):
            return None
        retryable, wait = entry.get("retryable"), entry.get("retryAfterS")
        is_wait = isinstance(wait, (int, float)) and not isinstance(wait, bool) and 0 <= wait < 1e6
        return cls(
            status=cast("Any", status),
            text=text if isinstance(text, str) else None,
            output=entry.get("output"),
            reason=reason if isinstance(reason, str) and _REASON.fullmatch(reason) else None,
            retryable=retryable if isinstance(retryable, bool) else None,
            wait_s=float(cast("float", wait)) if is_wait else 0.0,
        )

    def why_failed(self, reason: str, *, again: bool) -> tuple[str, bool]:
        """Return the reason of a reported error, and whether a further attempt may help, instead of those of the end alone."""
        if self.reason is not None:
            reason, again = self.reason, self.reason not in HOPELESS
        return reason, again if self.retryable is None else self.retryable


class ResultFile:
    """A reader of the lines of a result file. `report` is the last valid result. `other` takes in lines of further types, and
    returns what was ignored of one. A reader of output that takes in the file as well has one as `file`."""

    def __init__(self, read_other: Callable[[dict[str, Any]], str | None] = lambda _: UNKNOWN_TYPE) -> None:
        self.report: Report | None = None
        self._read_other = read_other
        self._ignored = 0

    @property
    def is_given_up(self) -> bool:
        """Return whether too many lines were invalid: no further one is read."""
        return self._ignored >= MAX_IGNORED_LINES

    def line(self, data: bytes) -> str | None:
        """Take in a line. Return a sentence for the log about what was ignored, or None."""
        problem = None if self.is_given_up else self._take(data)
        if problem is None:
            return None
        self._ignored += 1
        return f"result file: {problem}" if self._ignored <= MAX_WARNINGS else None

    def _take(self, data: bytes) -> str | None:
        if len(data) > MAX_LINE_BYTES:
            return "a line of more than 1 MiB was ignored"
        if not data.strip():
            return None
        try:
            entry = _decode(data)
        except (Malformed, ValueError, RecursionError):
            return "a line was ignored because it is not JSON"
        if not isinstance(entry, dict):
            return UNKNOWN_TYPE
        report = Report.of(entry)
        if report is None and entry.get("type") == "result":
            status = json.dumps(str(entry.get("status"))[:50])
            return f"a result with the status {status} was ignored: it is `ok`, `error` or `no_work`"
        if report is None:
            return self._read_other(entry)
        self.report = report
        if "costUsd" in entry:
            return "the cost in a result is not counted: report it in a line of the type `usage`"
        return None

    def closing(self) -> list[str]:
        """Return a line for the log that counts what was ignored in silence, if anything was."""
        if self._ignored <= MAX_WARNINGS:
            return []
        rest = ", and all that came after them" if self.is_given_up else ""
        return [f"result file: {self._ignored - MAX_WARNINGS:,} more lines were ignored{rest}"]


def _decode(data: bytes) -> Any:
    """Return the value of a line. Half a character, as a program leaves that cuts its texts, does not hide what it reports."""
    try:
        return json_body.decode(data)
    except Malformed:
        if b"\\u" not in data:
            raise
    return json_body.decode(json.dumps(json.loads(data), ensure_ascii=False).encode("utf-8", "replace"))
