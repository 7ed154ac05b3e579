"""`optio audit triggers`: what it says, and what it refuses."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from optio.cli import invoke
from optio.cli.audit import document, text
from optio.runs.audit import AuditFinding, AuditReport, Tally

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)


def report(**more: object) -> AuditReport:
    tally = Tally(slots=Counter(fired=1200, missed=3), deliveries=Counter(accepted=2), runs=Counter(schedule=1200, webhook=2))
    tasks = {"nightly": tally, "quiet": Tally()}
    return AuditReport(since=NOON - timedelta(days=1), until=NOON, tasks=tasks, **more)  # type: ignore[arg-type]


def test_what_is_explained_is_a_table() -> None:
    assert text(report(notes=["a note"])).splitlines() == [
        "from 2026-01-04 12:00:00 to 2026-01-05 12:00:00 UTC",
        "note: a note",
        "",
        "TASK     SLOTS                  DELIVERIES  RUNS BY",
        "nightly  1,200 fired, 3 missed  2 accepted  1,200 schedule, 2 webhook",
        "",
        "unexplained: 0",
    ]


def test_what_is_not_is_listed_by_time() -> None:
    late = AuditFinding(kind="run", task_id="nightly", id="r-1", at=NOON, message="is odd")
    early = AuditFinding(
        kind="slot", task_id="nightly", id="x", at=NOON - timedelta(hours=1), message="was due and has no verdict"
    )

    lines = text(report(findings=[late, early], unexplained=2000)).splitlines()

    assert lines[-4:] == [
        "unexplained: 2,000",
        "  2026-01-05 11:00:00  nightly  slot: was due and has no verdict",
        "  2026-01-05 12:00:00  nightly  run r-1: is odd",
        "  ... only the first 1,000 are listed",
    ]


@pytest.mark.parametrize(("waited", "said"), [(timedelta(seconds=30), False), (timedelta(minutes=5), True)])
def test_a_scheduler_that_is_missing_is_asked_for(waited: timedelta, said: bool) -> None:
    assert ("is `optio scheduler` running?" in text(report(pending_since=NOON - waited))) is said


def test_programs_get_the_same() -> None:
    made = document(report(unexplained=1, findings=[AuditFinding(kind="run", task_id="a", id="r", at=NOON, message="m")]))

    assert made["tasks"][0] == {
        "taskId": "nightly",
        "slots": {"fired": 1200, "missed": 3},
        "deliveries": {"accepted": 2},
        "runs": {"schedule": 1200, "webhook": 2},
    }
    assert made["findings"] == [{"kind": "run", "taskId": "a", "id": "r", "at": "2026-01-05T12:00:00.000Z", "message": "m"}]
    assert (made["unexplained"], made["pendingSince"]) == (1, None)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--since", "soon"], 2, "invalid time `soon`"),
        (["--since", "2999-01-01T00:00:00Z"], 2, "not in the past"),
        (["--task", "nobody"], 1, "no task `nobody`"),
        ([], 0, ""),
    ],
)
def test_exit_codes(tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, said: str) -> None:
    assert invoke(["audit", "triggers", "--data-dir", str(tmp_path / "data"), *arguments]) == code
    assert said in capsys.readouterr().err
