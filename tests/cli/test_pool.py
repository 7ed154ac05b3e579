"""`optio pool` and `optio pool plan`: what they print, and what they refuse."""

import copy
import json
from typing import Any

import pytest
from msgspec import to_builtins

from optio.cli import invoke
from optio.cli.pool import plan_text, seconds, text
from optio.cli.runs import _details, _reason_text
from optio.runs.pool_sizing import Demand, StartTimes, propose_size
from optio.server.answers import pools
from tests.support import Dev

ITEM: dict[str, Any] = {
    "pool": "4f2a", "place": "kubernetes/uid/optio", "tasks": ["review", "triage"], "size": 3, "ready": 2, "starting": 1,
    "problem": "no node has room for more", "warmStarts": 40, "coldStarts": 2, "waitMs": {"p50": 84, "p90": 120, "p99": 2400},
}  # fmt: skip
FOUND: dict[str, Any] = {
    "since": "2026-01-04T12:00:00.000Z",
    "until": "2026-01-05T12:00:00.000Z",
    "executor": "process",
    "reports": [{"place": "kubernetes/uid/optio", "at": "2026-01-05T11:59:58.000Z", "ageSeconds": 2.0}],
    "items": [ITEM],
}
UNTOLD = {**ITEM, "pool": None, "place": None, "tasks": ["a", "b", "c", "d"], "ready": 0, "starting": 0, "problem": ""}


def test_pools_are_a_table() -> None:
    assert text(FOUND).splitlines() == [
        "POOL  TASKS           SIZE  READY  STARTING  WARM  COLD  WAIT P50    P99  PROBLEM",
        "4f2a  review, triage     3      2         1    40     2     84 ms  2.4 s  no node has room for more",
        "starts since 2026-01-04 12:00 UTC: warm ones found a pod ready",
    ]


@pytest.mark.parametrize(("age", "words"), [(59.0, None), (61.0, "61 seconds"), (300.0, "5 minutes"), (90000.0, "25 hours")])
def test_who_keeps_the_pools_and_is_silent_for_a_minute_is_asked_for(age: float, words: str | None) -> None:
    found = copy.deepcopy(FOUND)
    found["reports"][0]["ageSeconds"] = age

    last = text(found).splitlines()[-1]

    assert last.startswith("starts since") if words is None else f"no report on the pools for {words}" in last


def test_pools_of_several_places_are_told_apart() -> None:
    found = copy.deepcopy(FOUND)
    found["reports"].append({"place": "other", "at": "2026-01-05T11:00:00.000Z", "ageSeconds": 3600.0})
    found["items"].append({**ITEM, "place": "other"})

    lines = text(found).splitlines()

    assert [line.split()[1] for line in lines[:3]] == ["PLACE", "kubernetes/uid/optio", "other"]
    assert "no report on the pools of other for 60 minutes" in lines[-1]


@pytest.mark.parametrize(("executor", "words"), [("process", "start at once"), ("kubernetes", "is a worker with")])
def test_where_nobody_keeps_pools_it_says_why(executor: str, words: str) -> None:
    lines = text({**FOUND, "executor": executor, "reports": [], "items": [UNTOLD]}).splitlines()

    assert lines[1].split()[:6] == ["-", "a,", "b,", "c", "and", "1"]
    assert words in lines[-1]


def test_where_no_pool_is_wanted_it_says_so() -> None:
    assert text({**FOUND, "reports": [], "items": []}) == "no task keeps pods ready: none sets `warmPoolSize`"


@pytest.mark.parametrize(("ms", "words"), [(None, "-"), (0, "0 ms"), (999, "999 ms"), (1000, "1 s"), (75_250, "75.25 s")])
def test_waits_are_short(ms: int | None, words: str) -> None:
    assert seconds(ms) == words


# The plan


def planned(**more: Any) -> dict[str, Any]:
    """A task with three starts at once each hour, planned."""
    demand = Demand(span_s=7 * 86400.0, measured=[hour * 3600.0 for hour in range(168) for _ in range(3)], scheduled=[])
    known = StartTimes(cold=[8.0] * 9 + [20.0], warm=[0.084], run_s=600.0, assumed=())
    found = propose_size(demand, known, current=1, target=0.9, largest=9)
    return {
        "taskId": "review", "current": 1, "proposed": found.proposed, "why": found.why, "days": 7.0, "measuredStarts": 504,
        "scheduledStarts": 0, "refillSeconds": known.refill_s, "runSeconds": 600.0, "assumed": [], "sharedWith": [],
        "cpu": "500m", "memory": "2Gi", "sizes": to_builtins([pools._size(each, "500m", "2Gi") for each in found.options]),
        **more,
    }  # fmt: skip


def test_a_plan_has_every_size_with_what_comes_of_it() -> None:
    assert plan_text({"items": [planned()], "left": 0, "days": 7.0}).splitlines() == [
        "review: warmPoolSize: 3 instead of 1",
        "  100.0 % of the starts are warm with 3",
        "  starts of 7 days: 504 measured; a pod is replaced in 8 s",
        "  SIZE     WARM  WAIT P50    P99  IDLE H/DAY  CPU-H/DAY  GIB-H/DAY",
        "     0    0.0 %       8 s   20 s         0.0        0.0        0.0",
        "     1   33.3 %       8 s   20 s        23.9       12.0       47.9  <- now",
        "     2   66.7 %     84 ms   20 s        47.9       23.9       95.8",
        "     3  100.0 %     84 ms  84 ms        71.8       35.9      143.7  <- proposed",
        "     4  100.0 %     84 ms  84 ms        95.8       47.9      191.7",
    ]


def test_what_a_plan_rests_on_is_said() -> None:
    item = planned(current=3, scheduledStarts=2, assumed=["runs: 300 s assumed"], sharedWith=["triage"], days=0.5)

    lines = plan_text({"items": [item], "left": 4, "days": 7.0}).splitlines()

    assert lines[0] == "review: keep warmPoolSize: 3"
    assert lines[2:5] == [
        "  starts of 12 hours: 504 measured, 2 by schedule; a pod is replaced in 8 s",
        "  not measured yet: runs: 300 s assumed",
        "  shares its pods with triage: together they need fewer pods than these figures",
    ]
    assert any(line.endswith("<- now, proposed") for line in lines)
    assert lines[-1] == "and 4 more: raise --limit, or name a task"


def test_with_nothing_to_plan_it_says_so() -> None:
    assert plan_text({"items": [], "left": 0, "days": 7.0}).startswith("nothing to plan")


# A run


@pytest.mark.parametrize(("began", "words"), [("warm", "  (warm pod)"), ("cold", "  (cold pod)"), ("process", ""), (None, "")])
def test_a_run_says_in_which_kind_of_pod_an_attempt_began(began: str | None, words: str) -> None:
    attempt = {"number": 1, "startedAt": "T", "began": began, "reason": "ok", "message": "", "costUsd": None}
    shown = {
        "id": "r", "state": "completed", "reason": "ok", "message": "", "durationMs": None, "turns": None, "tokens": 0,
        "costUsd": None, "taskId": "t", "definition": "d", "trigger": "manual", "params": {}, "events": [],
        "attempts": [attempt], "output": None,
    }  # fmt: skip

    assert _details(shown).splitlines()[-1] == f"  1  T{words}  ok"


@pytest.mark.parametrize("node", ["node-3", None])
def test_a_run_says_which_pod_and_node_an_attempt_has(node: str | None) -> None:
    event = {"at": "T", "from": "queued", "to": "running", "reason": "started", "message": ""}
    attempt = {
        "number": 1, "startedAt": "T", "began": "warm", "reason": None, "message": "", "costUsd": None,
        "pod": "optio-1", "namespace": "runs", "node": node,
    }  # fmt: skip
    shown = {
        "id": "r", "state": "running", "reason": "started", "message": "", "durationMs": None, "turns": None, "tokens": 0,
        "costUsd": None, "taskId": "t", "definition": "d", "trigger": "manual", "params": {}, "events": [event],
        "attempts": [{**attempt, "pod": "optio-0"}, attempt], "output": None, "waiting": None,
    }  # fmt: skip

    assert _details(shown).splitlines()[-1] == f"     pod  runs/optio-1 on {node or 'no node yet'}"
    assert _reason_text(shown).splitlines()[1:] == [f"pod  runs/optio-1 on {node or 'no node yet'}"]


def test_a_run_says_what_its_agent_told_and_where_it_ran() -> None:
    attempt = {"number": 1, "startedAt": "T", "began": "process", "reason": "ok", "message": "", "costUsd": None}
    told = {"agentVersion": "2.1\x1b[31m", "model": "sonnet", "session": "s-1", "machine": "host-1"}
    pod = {"pod": "optio-1", "namespace": "runs", "node": "node-3", "image": "agents@sha256:d1"}
    shown = {
        "id": "r", "state": "completed", "reason": "ok", "message": "", "durationMs": None, "turns": None, "tokens": 0,
        "costUsd": None, "taskId": "t", "definition": "d", "trigger": "manual", "params": {}, "events": [],
        "attempts": [attempt | told, attempt | pod | {"session": "s-2"}], "output": None,
    }  # fmt: skip

    assert _details(shown).splitlines()[-5:] == [
        "  1  T  ok",
        "     agent  version 2.1\\x1b[31m, model sonnet, session s-1, on host-1",
        "  1  T  ok",
        "     pod  runs/optio-1 on node-3, image agents@sha256:d1",
        "     agent  session s-2",
    ]


# The commands


def test_both_forms_ask_the_server(served: Dev) -> None:
    shown, planned = served.cli("pool"), served.cli("pool", "plan", "echo", "--days", "1", "--target", "0.5")

    assert (shown.returncode, shown.stdout) == (0, "no task keeps pods ready: none sets `warmPoolSize`\n")
    assert planned.returncode == 0
    assert planned.stdout.startswith("echo: keep warmPoolSize: 0\n")
    asked = json.loads(served.cli("pool", "--json", "plan", "echo", "--target", "0.5").stdout)
    assert (asked["target"], asked["days"], [item["taskId"] for item in asked["items"]]) == (0.5, 7.0, ["echo"])
    assert json.loads(served.cli("pool", "--since", "2h", "--json").stdout)["items"] == []


def test_where_the_server_is_may_be_said_before_the_verb_too(served: Dev) -> None:
    found = served.cli("pool", "--url", "http://127.0.0.1:1", "plan")

    assert "no server answers at http://127.0.0.1:1" in found.stderr


def test_an_unknown_task_is_not_found(served: Dev) -> None:
    found = served.cli("pool", "plan", "ech")

    assert (found.returncode, found.stderr) == (1, "optio pool: no task `ech` (did you mean `echo`?)\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ["plan", "--days", "0"],
        ["plan", "--days", "91"],
        ["plan", "--target", "0"],
        ["plan", "--target", "95"],
        ["plan", "--target", "nan"],
        ["plan", "--limit", "0"],
        ["--since", "24h", "plan"],
        ["--since", "9999-01-01T00:00:00Z"],
        ["--since", "x"],
        ["play"],
    ],
)
def test_what_cannot_be_honoured_is_wrong_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code = invoke(["pool", *arguments])
    except SystemExit as err:
        code = int(str(err.code))

    assert code == 2
    assert capsys.readouterr().err.startswith("optio pool")
