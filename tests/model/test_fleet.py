"""What is wrong with a fleet, by the rows of its processes."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from optio.model.fleet import FleetProblem, FleetState, ProblemCode, ProcessKind, ProcessRow, find_problems

NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)
SERVER, WORKER, SCHEDULER = ProcessKind.SERVER, ProcessKind.WORKER, ProcessKind.SCHEDULER


def ago(**span: float) -> datetime:
    return NOW - timedelta(**span)


def row(kind: ProcessKind, name: str = "box/b/1:7:1", **facts: Any) -> ProcessRow:
    known = {"is_live": True, "version": "1", "started_at": ago(days=1), "seen_at": ago(seconds=5)}
    return ProcessRow(kind=kind, name=name, process=name, **{**known, **facts})


def silent(kind: ProcessKind, name: str = "box/b/1:7:1", **facts: Any) -> ProcessRow:
    return row(kind, name, **{"is_live": False, "seen_at": ago(minutes=2), **facts})


ALL = (row(SERVER, generation=3), row(WORKER), row(SCHEDULER))


def fleet(*rows: ProcessRow, queued: Mapping[str, int] | None = None, **facts: Any) -> FleetState:
    known = {"generation": 3, "activated_at": ago(hours=5), "adopted_at": ago(hours=5)}
    return FleetState(now=NOW, processes=rows, queued=queued or {}, **{**known, **facts})


def codes(of: FleetState) -> list[tuple[str, str | None]]:
    return [(each.code.value, each.kind) for each in find_problems(of)]


def only(of: FleetState) -> FleetProblem:
    (found,) = find_problems(of)
    return found


def test_a_fleet_with_one_of_each_kind_has_no_problem() -> None:
    assert find_problems(fleet(*ALL, queued={"": 9}, next_fire=NOW + timedelta(hours=1))) == []


def test_nothing_is_missed_where_nothing_waits() -> None:
    assert find_problems(fleet(ALL[0])) == []


def test_queued_runs_miss_a_worker_and_say_how_many_they_are() -> None:
    found = only(fleet(ALL[0], ALL[2], queued={"": 1_200, "runs-a": 1}))

    assert (found.code, found.kind) == (ProblemCode.MISSING, WORKER)
    assert found.summary == "no worker is running, and 1,201 runs wait: start one with `optio worker`"


def test_a_namespace_misses_a_worker_of_its_own() -> None:
    found = only(fleet(*ALL[::2], row(WORKER, namespace="runs-a"), queued={"runs-a": 5, "runs-b": 1}))

    assert found.text == "no worker takes runs of the namespace `runs-b`, and 1 run waits"
    assert found.cure == "start one with OPTIO_TEAM_NAMESPACE=runs-b"


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"next_fire": NOW + timedelta(days=9)}, True),
        ({"adopted_at": None}, True),
        ({"adopted_at": None, "activated_at": ago(seconds=29)}, False),
        ({"generation": None, "activated_at": None, "adopted_at": None}, False),
    ],
)
def test_a_slot_to_come_or_a_generation_misses_a_scheduler(facts: dict[str, Any], expected: bool) -> None:
    assert codes(fleet(*ALL[:2], **facts)) == [("missing", SCHEDULER)] * expected


def test_a_missing_scheduler_is_told_with_when_the_last_was_seen() -> None:
    found = find_problems(fleet(*ALL[:2], silent(SCHEDULER), next_fire=NOW + timedelta(hours=1)))

    assert [each.code for each in found] == [ProblemCode.MISSING, ProblemCode.SILENT]
    assert found[0].text == "no scheduler is running, the last was seen at 2026-01-05 11:58:00 UTC, so schedules do not fire"


def test_beside_older_processes_a_scheduler_is_missed_only_when_slots_wait() -> None:
    older, new = row(WORKER, version=None, started_at=None), replace(ALL[0], started_at=ago(minutes=5))

    assert codes(fleet(new, older, next_fire=NOW + timedelta(hours=1))) == []
    assert codes(fleet(new, older, next_fire=ago(seconds=31))) == [("missing", SCHEDULER)]


def test_slots_are_late_with_a_scheduler_and_without() -> None:
    late = {"late_slots": 2, "next_fire": datetime(2026, 1, 5, 11, 57, tzinfo=UTC)}

    assert codes(fleet(*ALL, **late)) == [("late", SCHEDULER)]
    assert codes(fleet(*ALL[:2], **late)) == [("missing", SCHEDULER), ("late", SCHEDULER)]
    assert only(fleet(*ALL, **late)).text == "slots of 2 schedules are late; the first was due at 2026-01-05 11:57:00 UTC"


@pytest.mark.parametrize("kind", list(ProcessKind))
def test_a_silent_process_is_told_with_host_and_pid_apart_from_the_text_for_anyone(kind: ProcessKind) -> None:
    found = only(fleet(*ALL, silent(kind, "web-1/b0075/42:4711:12345")))

    assert (found.code, found.kind) == (ProblemCode.SILENT, kind)
    assert found.text == f"a {kind} ended without stopping, or hangs; it was last seen at 2026-01-05 11:58:00 UTC"
    assert found.place == "host web-1, process 4711"
    assert found.summary == f"{found.text} (host web-1, process 4711): read its log, and start `optio {kind}` again"


def test_each_process_that_started_later_replaces_one_silent_one_of_its_kind() -> None:
    two = [silent(WORKER, f"{name}/b/1:7:1", seen_at=ago(minutes=minutes)) for name, minutes in (("a", 9), ("b", 5))]
    new = row(WORKER, "c/b/1:7:1", started_at=ago(minutes=4))

    assert [each.place for each in find_problems(fleet(*ALL, *two, new))] == ["host b, process 7"]
    assert find_problems(fleet(*ALL, *two, new, replace(new, name="d"))) == []
    assert len(find_problems(fleet(*ALL, *two, replace(new, started_at=ago(minutes=10))))) == 2
    assert len(find_problems(fleet(*ALL, *two, row(SCHEDULER, "c/b/1:8:1", started_at=ago(minutes=4))))) == 2


def test_a_worker_that_left_leases_alone_is_told_by_its_runs_not_as_silent() -> None:
    assert find_problems(fleet(*ALL, silent(WORKER, seen_at=None, started_at=None, running=2))) == []


def test_two_versions_are_told_after_an_hour_side_by_side() -> None:
    def mixed(since: datetime) -> FleetState:
        return fleet(*ALL, row(WORKER, "new", version="2", started_at=since), row(WORKER, "newer", version="2"))

    assert find_problems(fleet(*ALL, row(WORKER, "new", version="2", started_at=ago(minutes=59)))) == []
    found = only(fleet(*ALL, row(WORKER, "new", version="2", started_at=ago(minutes=61))))
    assert found.detail == "processes of 2 versions have run side by side since 2026-01-05 10:59:00 UTC (1: 3, 2: 1)"
    assert codes(mixed(ago(minutes=1))) == [("versions", None)]
    assert codes(fleet(*ALL, silent(WORKER, version="2", started_at=ago(hours=9)))) == [("silent", WORKER)]


def test_an_older_version_without_a_name_counts_from_the_start_of_the_first_newer_one() -> None:
    older = row(WORKER, version=None, started_at=None)

    assert find_problems(fleet(*(replace(each, started_at=ago(minutes=59)) for each in ALL), older)) == []
    assert "an older one: 1" in only(fleet(*ALL, older)).place


def test_a_server_that_stays_at_an_older_generation_is_told() -> None:
    behind = row(SERVER, "b/b/1:9:1", generation=2)

    assert codes(fleet(*ALL, behind)) == [("generations", SERVER)]
    assert codes(fleet(*ALL, behind, activated_at=ago(seconds=59))) == []
    assert "serves generation 2, though 3 is the newest since" in only(fleet(*ALL, behind)).text


def test_a_scheduler_that_takes_no_generation_up_is_told() -> None:
    assert codes(fleet(*ALL, adopted_at=None)) == [("generations", SCHEDULER)]
