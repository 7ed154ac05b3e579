"""Executions: one attempt from its claim to its outcome, under cancels, limits, faults and hostile output."""

import contextlib
import json
import math
import random
import re
import socket
import sqlite3
import threading
import time
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from optio.broker.base import Topic
from optio.errors import Conflict, LeaseLost, StoreFull, StoreUnavailable
from optio.model.run import AgentIdentity, Lease, LogKind, LogLine, RunState
from optio.model.usage import Meter
from optio.runs.blame import MAX_READ_CRASHES
from optio.runs.execute import Execution
from optio.runs.lines import LineSplitter
from optio.runtimes.command import Command
from optio.store.values import Claim
from optio.telemetry.base import Fact, Finished, Telemetry
from optio.wiring import Services
from tests.executors.support import living
from tests.runs.support import accept, claim, done, execute, execution, log_of, opened, working
from tests.support import command_task, compiled, eventually

REPORT = """
import json, os, sys, time
def report(**entry):
    with open(os.environ["OPTIO_RESULT_FILE"], "a") as file:
        file.write(json.dumps(entry) + "\\n")
"""


def python_task(source: str, extra: str = "") -> Any:
    """A task that runs Python source."""
    return command_task(["python3", "-c", REPORT + source], extra=extra)


def odd() -> str:
    """A time to sleep for that finds the process again."""
    return f"60.{random.randrange(10**12):012}"


def test_a_run_whose_task_names_no_time_limit_has_that_of_the_settings(tmp_path: Path) -> None:
    with opened(tmp_path, {"OPTIO_DEFAULT_TIMEOUT": "1s"}) as here:
        run = execute(here, command_task("sleep 10"))

    assert (run.state, run.reason) == (RunState.FAILED, "timeout")


def test_a_notification_alone_makes_a_running_execution_see_that_it_is_cancelled(services: Services) -> None:
    run_id = accept(services, command_task("echo begun; sleep 60"))
    made = execution(services, run_id)  # no worker renews its lease, by which it would hear of the cancel later
    running = threading.Thread(target=made)
    running.start()
    eventually(lambda: log_of(services, run_id, LogKind.OUTPUT), what="the agent")

    services.store.cancel(run_id, "eve")
    made.recheck()
    running.join(20)
    heard = not running.is_alive()
    made.cancel()
    running.join(20)

    assert (heard, services.store.run(run_id).state) == (True, RunState.CANCELLED)


def test_an_agent_that_starts_after_a_renewal_has_the_lease_that_was_renewed(services: Services) -> None:
    run_id = accept(services, command_task("echo begun; sleep 60"))
    made = execution(services, run_id)
    made.lease_renewed(4_000_000.0)
    running = threading.Thread(target=made)
    running.start()
    eventually(lambda: log_of(services, run_id, LogKind.OUTPUT), what="the agent")
    known = (services.settings.data_dir / "attempts" / f"{run_id}-1" / "control" / "started").lstat().st_mtime
    made.cancel()
    running.join(20)

    assert known == 4_000_000.0


def test_readers_are_told_of_a_line_when_the_store_has_it(services: Services, tmp_path: Path) -> None:
    go, end = tmp_path / "go", tmp_path / "end"
    wait = "while [ ! -e {} ]; do sleep 0.05; done"
    run_id = accept(services, command_task(f"echo one; {wait.format(go)}; echo two; {wait.format(end)}"))
    seen: set[int] = set()
    leave = services.broker.subscribe(lambda topic, key: seen.add(len(log_of(services, run_id, LogKind.OUTPUT))), [Topic.RUN])
    made = execution(services, run_id)
    running = threading.Thread(target=made)
    running.start()
    try:
        eventually(lambda: log_of(services, run_id, LogKind.OUTPUT), what="the first line")
        go.touch()

        eventually(lambda: 2 in seen, what="the hint about the second line, while the agent runs")
    finally:
        leave()
        end.touch()
        running.join(20)


def test_an_attempt_whose_worker_died_before_its_agent_began_costs_no_retry(services: Services) -> None:
    run_id = accept(services, command_task("true", extra="maxRetries: 0\n"))
    claim(services, run_id, lease=0.0)
    (adopted,) = services.store.adopt("second", timedelta(seconds=30), 5)

    Execution(adopted, services.parts(), "second")()

    run = services.store.run(run_id)
    assert (run.state, run.retries, run.infrastructure_retries) == (RunState.QUEUED, 0, 1)


def test_a_run_has_its_output_log_and_meter(services: Services) -> None:
    source = """
print("hello")
print("oh", file=sys.stderr)
report(type="usage", model="m", input=10, cached=2, output=5, costUsd="0.0100")
report(type="turn")
report(type="result", status="ok", text="fine", output={"n": 1})
"""
    run = execute(services, python_task(source))

    assert (run.state, run.reason, run.text, run.output) == (RunState.COMPLETED, "ok", "fine", {"n": 1})
    assert (run.meter.usage.fresh, run.meter.usage.output, run.meter.turns, run.meter.cost) == (10, 5, 1, Decimal("0.0100"))
    assert sorted(log_of(services, run.id, LogKind.OUTPUT, LogKind.STDERR)) == [b"hello", b"oh"]


def test_what_an_agent_tells_of_itself_is_kept_masked_and_with_its_machine(tmp_path: Path) -> None:
    key, program = "sk-test-canary-0123456789", tmp_path / "codex"
    program.write_text(f'#!/bin/sh\necho \'{{"type":"thread.started","thread_id":"s-{key}"}}\'\n')
    program.chmod(0o755)
    environ = {"OPTIO_PROGRAM_CODEX": str(program), "OPTIO_SECRET_CODEX_API_KEY": key}
    head = "type: standalone\nname: Job\nagentRuntime: codex\nmodel: gpt-5\npromptTemplate: hi\nmaxRetries: 0\n"
    with opened(tmp_path, environ) as here:
        facts: list[Fact] = []
        task = compiled(f"{head}environment: {{secrets: [CODEX_API_KEY]}}\n")
        talks = execute(here, task, telemetry=Telemetry(facts.append))
        silent = execute(here, command_task("true"))
        told, nothing = (here.store.attempts(run.id)[0].agent for run in (talks, silent))

    assert [(fact.runtime, fact.model) for fact in facts if isinstance(fact, Finished)] == [("codex", "gpt-5")]
    assert nothing == AgentIdentity(machine=socket.gethostname())
    assert told.session is not None
    assert told == replace(nothing, session=told.session, program=told.program)
    assert str(told.program).startswith(f"{program}@sha256:")
    assert told.session.startswith("s-")
    assert key not in told.session


def test_what_an_attempt_left_on_disk_is_gone_at_its_end(services: Services) -> None:
    execute(services, command_task("dd if=/dev/zero of=big bs=1M count=5; exit 1", extra="maxRetries: 0\n"))

    assert list((services.settings.data_dir / "attempts").iterdir()) == []


def test_a_failed_process_leaves_nothing_for_a_look_and_its_log_says_so(services: Services) -> None:
    run = execute(services, command_task("exit 1", extra="maxRetries: 0\nenvironment: {keepFailed: 30m}\n"))

    said = log_of(services, run.id, LogKind.SYSTEM)
    assert b"the process executor does not apply environment.keepFailed" in said
    assert list((services.settings.data_dir / "attempts").iterdir()) == []


@pytest.mark.parametrize("command", ["true", "sleep 30"])
def test_when_the_agent_began_is_known_of_short_runs_and_of_silent_ones(services: Services, command: str) -> None:
    with working(services):
        run_id = accept(services, command_task(command))
        (attempt,) = eventually(lambda: [each for each in services.store.attempts(run_id) if each.agent_started_at])
        with contextlib.suppress(Conflict):  # it has ended
            services.store.cancel(run_id, "me")
        services.broker.tell(Topic.CANCEL, run_id)
        done(services, run_id)

    assert attempt.agent_started_at is not None
    assert timedelta(0) <= attempt.agent_started_at - attempt.started_at < timedelta(seconds=5)


def test_the_time_limit_is_a_reason_of_its_own(services: Services) -> None:
    run = execute(services, command_task("echo before; sleep 60", extra="timeout: 1s\n"))

    assert (run.state, run.reason) == (RunState.FAILED, "timeout")
    assert log_of(services, run.id, LogKind.OUTPUT) == [b"before"]


def test_a_silent_agent_is_stopped_and_one_that_speaks_is_not(services: Services) -> None:
    silent = execute(services, command_task("echo one; sleep 60", extra="stallTimeout: 1s\nmaxRetries: 0\n"))
    # For longer than the limit in all, and with pauses that are far from it.
    speaks = execute(services, command_task("for i in $(seq 25); do sleep 0.1; echo $i; done", extra="stallTimeout: 2s\n"))

    assert (silent.state, silent.reason) == (RunState.FAILED, "stalled")
    assert silent.message.startswith(
        "no output for 1 s, the limit of `stallTimeout`: it may wait for an endpoint that does not answer. "
    )
    assert "The last line was: one" in silent.message
    assert speaks.state is RunState.COMPLETED


def test_an_agent_that_only_repeats_a_failed_model_call_counts_as_silent(tmp_path: Path) -> None:
    program, event = tmp_path / "codex", json.dumps({"type": "error", "message": "Reconnecting... waiting for network"})
    program.write_text(f"#!/bin/sh\nwhile echo '{event}'; do sleep 0.6; done\n")
    program.chmod(0o755)
    task = "name: Job\nagentRuntime: codex\npromptTemplate: hi\nmaxRetries: 0\nstallTimeout: 1s\n"
    with opened(tmp_path, {"OPTIO_PROGRAM_CODEX": str(program)}) as here:
        run = execute(here, compiled(task))

    assert (run.state, run.reason) == (RunState.FAILED, "stalled"), run.message
    assert run.message.startswith("no output but of failed model calls for 1 s, the limit of `stallTimeout`")
    assert "The last line was: Reconnecting... waiting for network" in run.message


# Each attempt prints what it finds of its session. The model's service is overloaded, then answers the continued conversation
# with a code, or well.
GEMINI = r"""#!/bin/sh
S=$HOME/.gemini/tmp/work/chats/session-1-a1b2c3d4.jsonl
mkdir -p "${S%/*}"
[ ! -f "$S" ] || cat "$S" >&2
case $OPTIO_ATTEMPT in
1) C=503 ;;
2) C=@ ;;
esac
echo '{"type": "init", "session_id": "session-a1b2c3d4", "model": "gemini-2.5-pro"}'
if [ $# = 5 ]; then
    echo '{"id": "1", "type": "gemini", "tokens": {"input": 5, "output": 1}, "model": "gemini-2.5-pro"}' >>"$S"
    echo '{"id":"2","timestamp":"now","type":"user","content":[{"functionResponse":{"name":"a"}}]}' >>"$S"
fi
if [ -z "$C" ]; then
    echo '{"type": "message", "role": "assistant", "content": "done"}'
    exec echo '{"type": "result", "status": "success", "stats": {}}'
fi
printf '{"type": "result", "status": "error", "error": {"message": "{\\"code\\": %s}"}, "stats": {}}\n' "$C"
exit 1
"""


@pytest.mark.parametrize(
    ("code", "ends"),
    [("400", [("session_refused", 1), ("ok", None)]), ("503", [("overloaded", 1)]), ("", [("ok", 1)])],
)
def test_a_session_is_begun_anew_without_a_retry_if_its_first_model_call_is_refused_and_not_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, ends: list[tuple[str, int | None]]
) -> None:
    monkeypatch.setattr("optio.model.retry.FIRST_DELAY", timedelta(0))
    program = tmp_path / "gemini"
    program.write_text(GEMINI.replace("@", code))
    program.chmod(0o755)
    task = compiled("name: Job\nagentRuntime: gemini\npromptTemplate: hi\nmaxRetries: 1\n")
    with opened(tmp_path, {"OPTIO_PROGRAM_GEMINI": str(program)}) as here:
        run_id = accept(here, task)
        for _ in range(1 + len(ends)):
            execution(here, run_id)()
        run, attempts = here.store.run(run_id), here.store.attempts(run_id)
        errors = log_of(here, run_id, LogKind.STDERR)
        directories = list((here.settings.data_dir / "attempts").iterdir())

    found = [(each.reason, each.continues) for each in attempts]
    assert (found, run.state.terminal) == ([("overloaded", None), *ends], True), run.message
    assert errors[-1] == b'{"id":"2","timestamp":"now","type":"info","content":""}'
    assert directories == []


def test_an_agent_that_only_writes_telemetry_counts_as_silent(tmp_path: Path) -> None:
    program = tmp_path / "gemini"
    program.write_text('#!/bin/sh\nwhile echo "{}" >>"$GEMINI_TELEMETRY_OUTFILE"; do sleep 0.2; done\n')
    program.chmod(0o755)
    task = "name: Job\nagentRuntime: gemini\npromptTemplate: hi\nmaxRetries: 0\nstallTimeout: 1s\ntimeout: 20s\n"
    with opened(tmp_path, {"OPTIO_PROGRAM_GEMINI": str(program)}) as here:
        run = execute(here, compiled(task))

    assert (run.state, run.reason) == (RunState.FAILED, "stalled"), run.message


@pytest.mark.parametrize(
    ("limit", "loop", "reason"),
    [
        ('budgetUsd: "0.05"\n', 'report(type="usage", model="m", output=n, costUsd=f"{n / 100:.2f}")', "budget"),
        ("maxTurns: 3\n", 'report(type="turn")', "max_turns"),
    ],
)
def test_limits_are_metered_while_the_agent_runs(services: Services, limit: str, loop: str, reason: str) -> None:
    source = f"""
for n in range(1, 1000):
    {loop}
    time.sleep(0.05)
"""
    run = execute(services, python_task(source, limit))

    assert (run.state, run.reason) == (RunState.FAILED, reason)
    assert (run.meter.cost or Decimal(0)) < Decimal("2")
    assert (run.meter.turns or 0) < 200


def test_a_limit_that_nothing_was_reported_for_is_said_in_the_log(services: Services) -> None:
    run = execute(services, command_task("true", extra='budgetUsd: "1.00"\nmaxTurns: 3\n'))

    said = b"\n".join(log_of(services, run.id, LogKind.SYSTEM))
    assert run.state is RunState.COMPLETED
    assert b"what this attempt has cost is unknown: its agent told no usage" in said
    assert b"maxTurns was not enforced" in said


def test_a_runtime_that_is_not_installed_is_refused_with_a_reason(services: Services) -> None:
    task = compiled("type: standalone\nname: T\nagentRuntime: command\ncommand: [x]\npromptTemplate: hi\n")

    run = execute(services, task, runtimes={"claude-code": Command()})

    assert (run.state, run.reason, run.attempt) == (RunState.FAILED, "runtime_unavailable", 1)
    assert "`command` is not installed where this worker runs: use one of claude-code" in run.message


@pytest.mark.parametrize(("spent", "isolation", "reason"), [("1.00", (), "budget"), ("0.99", ("image",), "not_isolated")])
def test_an_attempt_that_may_not_begin_fails_with_its_reason(
    services: Services, tmp_path: Path, spent: str, isolation: tuple[str, ...], reason: str
) -> None:
    task = replace(command_task(f"touch {tmp_path / 'ran'}", extra='budgetUsd: "1.00"\n'), isolation=isolation)
    run_id = accept(services, task)

    Execution(replace(claim(services, run_id), spent=Decimal(spent)), services.parts(), "tester")()

    run = services.store.run(run_id)
    assert (run.state, run.reason, run.attempt) == (RunState.FAILED, reason, 1)
    assert not (tmp_path / "ran").exists()


def test_a_program_that_is_missing_is_not_tried_again(services: Services) -> None:
    run = execute(services, command_task(["/no/such/program"]))

    assert (run.state, run.reason, run.attempt) == (RunState.FAILED, "command_not_found", 1)


# Cancel


def test_a_queued_run_that_is_cancelled_never_starts(services: Services, tmp_path: Path) -> None:
    run_id = accept(services, command_task(f"touch {tmp_path / 'ran'}"))
    services.store.cancel(run_id, "me")

    with working(services):
        time.sleep(0.3)

    assert services.store.run(run_id).state is RunState.CANCELLED
    assert not (tmp_path / "ran").exists()


def test_a_run_that_is_cancelled_when_it_was_just_claimed_never_starts(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = accept(services, command_task("true"))
    real = services.store.claim

    def claim_and_cancel(*arguments: Any, **more: Any) -> list[Claim]:
        claimed = real(*arguments, **more)
        for each in claimed:
            services.store.cancel(each.run.id, "me")
            services.broker.tell(Topic.CANCEL, each.run.id)
        return claimed

    monkeypatch.setattr(services.store, "claim", claim_and_cancel)
    with working(services):
        assert done(services, run_id).state is RunState.CANCELLED

    assert [attempt.agent_started_at for attempt in services.store.attempts(run_id)] == [None]


@pytest.mark.parametrize(
    "task",
    [
        "environment: {{setupCommands: ['sleep {token}']}}\n",
        "command: [sleep, '{token}']\n",
        "command: \"trap 'exit 0' TERM; sleep {token} & wait\"\n",
    ],
    ids=["set-up", "running", "succeeds when it is stopped"],
)
def test_a_cancelled_run_ends_whatever_it_is_doing(services: Services, task: str) -> None:
    token = odd()
    text = "type: standalone\nname: Job\nagentRuntime: command\npromptTemplate: hi\n" + task.format(token=token)
    if "command:" not in text:
        text += 'command: ["true"]\n'
    with working(services):
        run_id = accept(services, compiled(text))
        eventually(lambda: living(token))

        services.store.cancel(run_id, "me")
        services.broker.tell(Topic.CANCEL, run_id)
        run = done(services, run_id)

    assert (run.state, run.reason, run.message) == (RunState.CANCELLED, "cancelled", "cancelled by me")
    assert living(token) == []


def test_a_cancel_whose_hint_is_lost_is_found_with_the_heartbeat(tmp_path: Path) -> None:
    token = odd()
    with opened(tmp_path, {"OPTIO_LEASE": "1s"}) as services, working(services):
        run_id = accept(services, command_task(["sleep", token]))
        eventually(lambda: living(token))

        services.store.cancel(run_id, "me")
        assert done(services, run_id).state is RunState.CANCELLED


def test_when_cancel_and_completion_race_there_is_one_end_and_the_answer_tells_which(services: Services) -> None:
    task = command_task(["true"], extra="maxConcurrent: 10\n")
    seed = random.randrange(1 << 30)
    print("seed", seed)
    dice = random.Random(seed)
    with working(services):
        for _ in range(50):
            run_id = accept(services, task)
            time.sleep(dice.uniform(0, 0.02))
            try:
                services.store.cancel(run_id, "me")
                expected = RunState.CANCELLED
                services.broker.tell(Topic.CANCEL, run_id)
            except Conflict:
                expected = RunState.COMPLETED
            run = done(services, run_id)
            ends = [event for event in services.store.events(run_id) if event.to_state.terminal]

            assert (run.state, len(ends), ends[0].to_state) == (expected, 1, expected)


# Faults


def test_an_execution_whose_lease_was_taken_writes_nothing_more_and_leaves_the_agent_alone(services: Services) -> None:
    token = odd()
    run_id = accept(services, command_task(f"echo one; sleep 1; echo two; sleep {token}"))
    first = Execution(claim(services, run_id, owner="first", lease=0.0), services.parts(), "first")
    thread = threading.Thread(target=first)
    thread.start()
    eventually(lambda: living(token) and log_of(services, run_id, LogKind.OUTPUT))
    (adopted,) = services.store.adopt("second", timedelta(seconds=30), 5)

    thread.join(20)
    alive = living(token)
    second = Execution(adopted, services.parts(), "second")
    thread = threading.Thread(target=second)
    thread.start()
    eventually(lambda: len(log_of(services, run_id, LogKind.OUTPUT)) == 2)
    services.store.cancel(run_id, "me")
    second.cancel()
    thread.join(20)

    assert alive
    assert log_of(services, run_id, LogKind.OUTPUT) == [b"one", b"two"]
    assert services.store.run(run_id).state is RunState.CANCELLED
    with pytest.raises(LeaseLost):
        services.store.append_log(Lease(run_id, 1), [], {}, Meter())


class Unreliable:
    """A store that is away every other time, as one behind a failing network."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self._calls = 0

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)

        def call(*arguments: Any, **named: Any) -> Any:
            self._calls += 1
            if self._calls % 2:
                raise StoreUnavailable("away")
            return method(*arguments, **named)

        return call


def test_a_store_that_is_away_for_a_while_costs_no_run_and_no_line(services: Services) -> None:
    run = execute(services, command_task("seq 1 2000; exit 0"), store=Unreliable(services.store))

    assert run.state is RunState.COMPLETED
    assert log_of(services, run.id, LogKind.OUTPUT) == [str(n).encode() for n in range(1, 2001)]


class Counting:
    """A store that counts how often lines are kept."""

    def __init__(self, store: Any) -> None:
        self._store, self.count = store, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def append_log(self, lease: Lease, lines: list[LogLine], *more: Any, **named: Any) -> int:
        self.count += bool(lines)
        last: int = self._store.append_log(lease, lines, *more, **named)
        return last


def test_lines_that_follow_each_other_are_kept_together(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("optio.runs.reading.GATHER_S", 0.2)
    store = Counting(services.store)

    run = execute(services, python_task("for n in range(400): print(n, flush=True); time.sleep(0.001)"), store=store)

    assert log_of(services, run.id, LogKind.OUTPUT) == [str(n).encode() for n in range(400)]
    assert store.count < 20


class Full:
    """A store whose disk has no room for lines of logs, for some seconds from the first that is refused."""

    def __init__(self, store: Any, seconds: float) -> None:
        self._store, self._seconds = store, seconds
        self.refused: list[float] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def append_log(self, lease: Lease, lines: list[LogLine], *more: Any, **named: Any) -> int:
        now = time.monotonic()
        if lines and now - (self.refused or [now])[0] <= self._seconds:
            self.refused.append(now)
            raise StoreFull("the disk is full")
        last: int = self._store.append_log(lease, lines, *more, **named)
        return last


@pytest.mark.parametrize(("full_s", "kept"), [(0.2, [b"one"]), (math.inf, [])])
def test_a_full_disk_gets_some_time_before_an_agent_that_has_ended_loses_its_log_for_its_end(
    services: Services, monkeypatch: pytest.MonkeyPatch, full_s: float, kept: list[bytes]
) -> None:
    monkeypatch.setattr("optio.runs.execute._RETRY_PAUSE_S", 0.05)
    monkeypatch.setattr("optio.runs.attempt_record._FULL_PATIENCE_S", 0.5)
    store = Full(services.store, full_s)

    run = execute(services, command_task("echo one"), store=store)

    assert run.state is RunState.COMPLETED
    assert log_of(services, run.id, LogKind.OUTPUT) == kept
    assert (store.refused[-1] - store.refused[0] > 0.5) is (not kept)


def test_a_full_disk_costs_no_line_of_an_agent_that_runs(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("optio.runs.execute._RETRY_PAUSE_S", 0.05)
    monkeypatch.setattr("optio.runs.attempt_record._FULL_PATIENCE_S", 0.0)
    run_id = accept(services, command_task(f"echo one; sleep {odd()}"))
    following = execution(services, run_id, store=Full(services.store, 0.5))
    thread = threading.Thread(target=following)
    thread.start()

    eventually(lambda: log_of(services, run_id, LogKind.OUTPUT) == [b"one"], what="the line")

    services.store.cancel(run_id, "me")
    following.cancel()
    thread.join(30)
    assert services.store.run(run_id).state is RunState.CANCELLED


class BrokenExecutor:
    """An executor with a mistake of ours."""

    def __init__(self, executor: Any) -> None:
        self._executor = executor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._executor, name)

    def start(self, launch: Any) -> Any:
        raise RuntimeError("a mistake of ours")


def test_a_mistake_of_ours_ends_the_attempt_with_its_reason_and_not_the_budget_of_retries(services: Services) -> None:
    executor = BrokenExecutor(services.parts().executor)
    run = execute(services, command_task("true", extra="maxRetries: 0\n"), executor=executor)

    assert (run.state, run.reason, run.infrastructure_retries, run.retries) == (RunState.QUEUED, "worker_error", 1, 0)
    assert "a mistake of ours" in run.message


def test_a_run_that_fails_its_workers_again_and_again_is_ended(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    def feed(self: LineSplitter, data: bytes) -> Any:
        if b"poison" in data:
            raise RuntimeError("a mistake of ours")
        return split(self, data)

    monkeypatch.setattr("optio.runs.execute._RETRY_PAUSE_S", 0.0)
    split = LineSplitter.feed
    monkeypatch.setattr(LineSplitter, "feed", feed)
    token = odd()
    run_id = accept(services, command_task(f"echo fine; sleep 0.2; echo poison; sleep {token}", extra="maxRetries: 0\n"))
    execution(services, run_id)()
    adoptions = 0

    while not services.store.run(run_id).state.terminal and adoptions < 20:
        (adopted,) = services.store.adopt("tester", timedelta(seconds=30), 5)
        adoptions += 1
        Execution(adopted, services.parts(), "tester")()
    run = services.store.run(run_id)

    assert (run.state, run.reason, adoptions) == (RunState.FAILED, "worker_crash", MAX_READ_CRASHES + 1)
    assert living(token) == []
    assert list((services.settings.data_dir / "attempts").iterdir()) == []


def suspect(services: Services, source: str) -> tuple[str, Execution, threading.Thread]:
    """A run whose last worker died while it read its output, adopted by another that waits for its turn to read."""
    run_id = accept(services, command_task(source, extra="maxRetries: 0\n"))
    first = Execution(claim(services, run_id, lease=0.0), services.parts(), "first")
    thread = threading.Thread(target=first)
    thread.start()
    eventually(lambda: log_of(services, run_id, LogKind.OUTPUT), what="a line")
    first.leave()
    thread.join(20)
    run = services.store.run(run_id)
    services.store.append_log(run.lease, [], {"stdout": 6, "readCrashes": 2}, Meter())
    (adopted,) = services.store.adopt("second", timedelta(seconds=30), 5)
    parts = services.parts()
    parts.suspects.acquire()
    second = Execution(adopted, parts, "second", leased_at=3_000_000.0)
    waiting = threading.Thread(target=second)
    waiting.start()
    return run_id, second, waiting


def read_crashes(services: Services, run_id: str) -> int:
    """The count that the store has."""
    with contextlib.closing(sqlite3.connect(services.settings.data_dir / "optio.db")) as database:
        ((offsets,),) = database.execute("SELECT offsets FROM attempts WHERE run_id = ?", (run_id,))
    count: int = json.loads(offsets).get("readCrashes", 0)
    return count


def test_a_suspect_that_waits_for_its_turn_is_renewed_and_reads_once_the_turn_is_free(services: Services) -> None:
    run_id, second, waiting = suspect(services, "echo begun; sleep 1; echo over")
    marker = services.settings.data_dir / "attempts" / f"{run_id}-1" / "control" / "started"
    eventually(lambda: marker.lstat().st_mtime == 3_000_000.0, what="its agent knowing the lease of the second worker")

    def renewed() -> bool:
        second.lease_renewed(4_000_000.0)
        return marker.lstat().st_mtime == 4_000_000.0

    eventually(renewed, what="the renewal reaching its agent")
    time.sleep(1.5)  # longer than the random pause
    waits = log_of(services, run_id, LogKind.OUTPUT)
    second._context.suspects.release()
    waiting.join(20)

    assert waits == [b"begun"]
    assert not second._context.suspects.locked()
    assert log_of(services, run_id, LogKind.OUTPUT) == [b"begun", b"over"]
    assert services.store.run(run_id).state is RunState.COMPLETED


def test_a_suspect_that_waits_for_its_turn_is_let_go_at_once_and_its_count_stays(services: Services) -> None:
    token = odd()
    run_id, second, waiting = suspect(services, f"echo begun; sleep {token}")

    second.leave()
    waiting.join(10)

    assert not waiting.is_alive()
    assert read_crashes(services, run_id) == 2
    assert living(token) != []
    services.executor.remove(run_id, 1)


def test_a_suspect_whose_output_was_read_is_one_no_longer(services: Services) -> None:
    token = odd()
    run_id, second, waiting = suspect(services, f"echo begun; sleep {token}")
    second._context.suspects.release()

    eventually(lambda: read_crashes(services, run_id) == 0, what="the count being taken back")
    second.leave()
    waiting.join(10)

    assert read_crashes(services, run_id) == 0
    assert not second._context.suspects.locked()
    services.executor.remove(run_id, 1)


def test_an_adopted_attempt_keeps_its_meter_until_everything_is_read_again(services: Services) -> None:
    source = """
report(type="usage", model="m", output=7, costUsd="0.0700")
with open(os.environ["OPTIO_RESULT_FILE"], "a") as file:
    file.write('{"type": "turn"}\\n' * 30_000)
print("reported", flush=True)
time.sleep(60)
"""
    run_id = accept(services, python_task(source))
    first = Execution(claim(services, run_id, lease=0.0), services.parts(), "first")
    thread = threading.Thread(target=first)
    thread.start()
    eventually(lambda: log_of(services, run_id, LogKind.OUTPUT) and services.store.attempts(run_id)[0].meter.turns == 30_000)
    first.leave()
    thread.join(20)
    (adopted,) = services.store.adopt("second", timedelta(seconds=30), 5)
    seen: set[tuple[int | None, Decimal | None]] = set()
    second = Execution(adopted, services.parts(), "second")
    thread = threading.Thread(target=second)
    thread.start()

    found = False
    while not found:
        found = b"found again by second" in log_of(services, run_id, LogKind.SYSTEM)
        meter = services.store.attempts(run_id)[0].meter
        seen.add((meter.turns, meter.cost))
        time.sleep(0.001)
    services.store.cancel(run_id, "me")
    second.cancel()
    thread.join(20)

    assert seen == {(30_000, Decimal("0.0700"))}
    assert log_of(services, run_id, LogKind.OUTPUT) == [b"reported"]


# Hostile output


@pytest.mark.parametrize(
    ("command", "lines"),
    [
        (r"printf 'a\nlast'", [b"a", b"last"]),
        (r"printf '\377\376\000\r\033[31m\n'", [b"\xff\xfe\0\r\x1b[31m"]),
        (r"printf '\n\nx\n'", [b"", b"", b"x"]),
        ("printf ''", []),
        (r"for b in 342 202 254; do printf '\'$b; sleep 0.05; done", ["€".encode()]),
    ],
)
def test_lines_are_kept_byte_for_byte(services: Services, command: str, lines: list[bytes]) -> None:
    run = execute(services, command_task(command))

    assert (run.state, log_of(services, run.id, LogKind.OUTPUT)) == (RunState.COMPLETED, lines)


def test_output_that_the_program_cuts_itself_is_said_and_harms_nothing(services: Services) -> None:
    run = execute(
        services, command_task("seq 1 1000; sleep 0.5; : > /proc/self/fd/1; echo after; exit 3", extra="maxRetries: 0\n")
    )

    assert (run.state, run.reason) == (RunState.FAILED, "exit_code")
    assert log_of(services, run.id, LogKind.OUTPUT)[:1000] == [str(n).encode() for n in range(1, 1001)]
    assert b"the program has cut its stdout" in log_of(services, run.id, LogKind.SYSTEM)[-1]


def test_a_long_line_is_cut_in_the_log_and_the_result_is_unharmed(services: Services) -> None:
    source = """
os.write(1, b"x" * 10_000_000 + b"\\nnext\\n")
report(type="result", status="ok", text="unharmed")
"""
    run = execute(services, python_task(source))

    long, following = log_of(services, run.id, LogKind.OUTPUT)
    assert (run.text, following) == ("unharmed", b"next")
    assert long == b"x" * 65_536 + b"... [9,934,464 bytes cut]"


def test_text_without_a_result_is_the_last_64_kib_of_the_output(services: Services) -> None:
    run = execute(services, command_task("seq 1 20000"))

    assert run.text is not None
    assert len(run.text) == 64 * 1024
    assert run.text.endswith("\n19999\n20000")


@pytest.mark.parametrize(
    ("line", "state", "said"),
    [
        ('{"type": "result", "status": "ok", "text": "\\ud800 \\u0000", "output": "\\ud800"}', RunState.COMPLETED, b""),
        ('{"type": "result", "status": "ok", "output": NaN}', RunState.COMPLETED, b"not JSON"),
        ('{"type": "result", "status": "ok", "output": 1e999}', RunState.COMPLETED, b""),
        ('{"type": "result", "status": "ok", "output": ' + "[" * 500 + "]" * 500 + "}", RunState.COMPLETED, b""),
        ('{"type": "result", "status": "error", "reason": "no word!", "retryable": false}', RunState.FAILED, b""),
        ('{"type": "result"', RunState.COMPLETED, b"not JSON"),
    ],
)  # fmt: skip
def test_a_hostile_result_file_harms_nothing(services: Services, line: str, state: RunState, said: bytes) -> None:
    run = execute(services, command_task(["/bin/sh", "-c", 'printf %s "$0" >"$OPTIO_RESULT_FILE"', line]))

    assert run.state is state
    assert said in b"\n".join(log_of(services, run.id, LogKind.SYSTEM))
    json.dumps(run.output, allow_nan=False).encode()


def test_hostile_usage_in_a_result_file_harms_nothing_and_is_said_line_by_line(services: Services) -> None:
    usage = '{"type": "usage", "model": "m", "input": 1'
    wrong = {
        "[" * 100_000: b"not JSON",
        usage.replace("1", "-1") + "}": b"negative",
        usage + ".5}": b"whole number",
        usage + ', "costUsd": "NaN"}': b"not a number",
        usage + ', "costUsd": NaN}': b"not JSON",
        usage + "0" * 5000 + "}": b"ignored",
    }
    lines = "\n".join(wrong)

    run = execute(services, command_task(["/bin/sh", "-c", 'printf %s "$0" >"$OPTIO_RESULT_FILE"', lines]))

    said = [line for line in log_of(services, run.id, LogKind.SYSTEM) if b"sandbox" not in line]
    assert run.state is RunState.COMPLETED
    assert [word in line for line, word in zip(said, wrong.values(), strict=True)] == [True] * len(wrong), said


def test_a_result_file_without_end_is_not_read_without_end(services: Services) -> None:
    source = """
with open(os.environ["OPTIO_RESULT_FILE"], "wb") as file:
    for _ in range(40):
        file.write(b"x\\n" * 500_000)
report(type="result", status="error", reason="late")
"""
    run = execute(services, python_task(source))

    assert run.state is RunState.COMPLETED
    assert len(log_of(services, run.id, LogKind.SYSTEM)) < 50


def test_a_log_that_is_full_says_so_once_and_counts_the_rest(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("optio.runs.output.MAX_LOG_BYTES", 100_000)

    run = execute(services, command_task("yes 0123456789 | head -n 200000; echo end"))

    (_, *said), lines = log_of(services, run.id, LogKind.SYSTEM), log_of(services, run.id, LogKind.OUTPUT)
    assert [b"full" in line for line in said] == [True, False]
    dropped = int(re.sub(rb"[^0-9]", b"", said[1].split(b"lines")[0]))
    assert len(lines) + dropped == 200_001
    assert run.text is not None
    assert run.text.endswith("0123456789\nend")


def test_the_output_of_a_full_log_is_the_same_after_an_adoption(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("optio.runs.output.MAX_LOG_BYTES", 100_000)
    run_id = accept(services, command_task("mkfifo go; yes 0123456789 | head -n 5000; read x < go; seq 1 3"))
    first = Execution(claim(services, run_id, lease=0.0), services.parts(), "first")
    thread = threading.Thread(target=first)
    thread.start()
    eventually(lambda: any(b"full" in line for line in log_of(services, run_id, LogKind.SYSTEM)))
    first.leave()
    thread.join(20)
    before = log_of(services, run_id)
    adopted: list[Claim] = services.store.adopt("second", timedelta(seconds=30), 5)

    thread = threading.Thread(target=Execution(adopted[0], services.parts(), "second"))
    thread.start()
    (services.settings.data_dir / "attempts" / f"{run_id}-1" / "work" / "go").write_text("\n")
    thread.join(20)

    after = log_of(services, run_id)
    assert after[: len(before)] == before
    assert [line.split(b" ")[0] for line in after[len(before) :]] == [b"found", b"4,"[:2] + after[-1].split(b" ")[0][2:]]
    assert (services.store.run(run_id).text or "").endswith("\n1\n2\n3")


def test_what_an_attempt_left_is_tidied_by_the_next_worker(services: Services) -> None:
    run_id = accept(services, command_task("true"))
    execution(services, run_id)()
    left = services.settings.data_dir / "attempts" / f"{run_id}-1"
    (left / "control").mkdir(parents=True)
    (left / "control" / "started").symlink_to("1:0")

    with working(services):
        eventually(lambda: not left.exists())


def test_an_agent_that_kills_its_supervisor_is_tried_again_as_often_as_the_task_allows(tmp_path: Path) -> None:
    task = command_task("sleep 0.2; kill -KILL $PPID; sleep 5", extra="maxRetries: 0\n")
    with opened(tmp_path, {"OPTIO_SANDBOX": "none"}) as services, working(services):
        ended = done(services, accept(services, task))

    assert (ended.state, ended.reason, ended.attempt) == (RunState.FAILED, "supervisor_killed", 1)
    assert ended.message == "its supervisor was killed while the agent ran (the task allows no retries)"


def test_an_attempt_that_fills_its_quota_ends_with_the_setting_that_bounds_it(tmp_path: Path) -> None:
    with opened(tmp_path, {"OPTIO_ATTEMPT_DISK": "1Mi"}) as services, working(services):
        ended = done(services, accept(services, command_task("tr '\\\\0' x < /dev/zero")))

    assert (ended.state, ended.reason) == (RunState.FAILED, "disk")
    assert ended.message.startswith("it wrote more than OPTIO_ATTEMPT_DISK allows")


def test_an_agent_that_says_nothing_has_a_log_if_it_fails_or_goes_on_and_none_if_it_soon_does_well(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("optio.runs.attempt_log._OPENING_S", 60.0)
    well = execute(services, command_task("true"))
    failed = execute(services, command_task("exit 3", extra="maxRetries: 0\n"))
    monkeypatch.setattr("optio.runs.attempt_log._OPENING_S", 0.0)
    run_id = accept(services, command_task(f"sleep {odd()}"))
    going_on = execution(services, run_id)
    thread = threading.Thread(target=going_on)
    thread.start()

    begins = eventually(lambda: log_of(services, run_id, LogKind.SYSTEM), what="the first line of its log")

    services.store.cancel(run_id, "me")
    going_on.cancel()
    thread.join(30)
    assert log_of(services, well.id, LogKind.SYSTEM) == []
    assert log_of(services, failed.id, LogKind.SYSTEM)[: len(begins)] == begins
    assert begins


def test_each_log_begins_with_what_confines_the_agent_and_a_refusal_names_what_opens_more(
    tmp_path: Path,
) -> None:
    (tmp_path / "notes").write_text("mine")
    with opened(tmp_path, {"OPTIO_SANDBOX": "namespaces"}) as services:
        ended = execute(services, command_task(f"cat {tmp_path}/notes; cat {tmp_path}/notes; exit 3"))
        said = log_of(services, ended.id, LogKind.SYSTEM)

    assert said[0].startswith(b"sandbox namespaces: reads system directories and PATH")
    assert [line for line in said if b"something was refused" in line] == [said[-1]]
    assert b"OPTIO_SANDBOX_READ=/path" in said[-1]
