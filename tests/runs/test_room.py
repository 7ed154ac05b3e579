"""Attempts whose executor is scripted: an agent that does not begin, where there is no room, and what becomes of each end."""

import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from optio.broker.base import Topic
from optio.errors import LaunchFailed, SecretUnavailable, StoreUnavailable
from optio.executors.base import STREAMS, Executor, Exit, Launch, LaunchArrival
from optio.model.pool import COLD
from optio.model.room import PLACE_REFUSALS, Delay
from optio.model.run import AgentPod, Lease, LogKind, RunState
from optio.model.usage import Meter
from optio.processes import health
from optio.runs.execute import Execution
from optio.telemetry.base import Claimed, Fact, Finished, GivenBack, Started, Telemetry
from optio.wiring import Services
from tests.runs.support import accept, claim, log_of, working
from tests.support import command_task, eventually

FULL = Delay(reason="quota", message="the namespace's quota is full")
IMAGE = Delay(reason="image", message="the image cannot be pulled")


class Held:
    """A grip on an attempt whose place is not made: a delay at each look, and then its end, or an agent that `lasts`. What is
    in `output` has been printed; each wait makes one more of `parts` of it."""

    streams = STREAMS

    def __init__(
        self,
        delays: Sequence[Delay | None],
        ended: Exit,
        *,
        begins: bool = False,
        lasts: float = 0.0,
        parts: Sequence[bytes] = (),
    ) -> None:
        self._delays, self._ended, self._begins = list(delays), ended, begins
        self._lasts, self._begun_at = lasts, 0.0
        self._parts, self.output = list(parts), b""
        self.stopped = False

    def delay(self) -> Delay | None:
        return self._delays.pop(0) if self._delays else None

    def pod(self) -> None:
        return None

    def begun(self) -> LaunchArrival | None:
        if not self._begins or self._delays:
            return None
        self._begun_at = time.monotonic()
        return LaunchArrival(self._begun_at, COLD)

    def exit(self) -> Exit | None:
        if self.stopped:
            return Exit(code=None, signal=None, stopped_by="stop")
        return None if self._delays or time.monotonic() < self._begun_at + self._lasts else self._ended

    def settled(self) -> bool:
        return not self._parts

    def read(self, stream: str, offset: int, limit: int) -> bytes:
        return self.output[offset : offset + limit] if stream == "stdout" else b""

    def wait(self, timeout: float) -> None:
        self.output += self._parts.pop(0) if self._parts else b""

    def stop(self) -> None:
        self.stopped = True

    def wake(self) -> None:
        pass

    def renewed(self, at: float) -> None:
        pass

    def close(self, *, remove: bool) -> None:
        self.removed = remove


class Place:
    """An executor that gives these grips, one for each start."""

    def __init__(self, real: Executor, *handles: Held) -> None:
        self._real, self._handles = real, list(handles)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def start(self, launch: Launch) -> Held:
        return self._handles.pop(0)

    def find(self, run_id: str, attempt: int) -> Held:
        return self._handles.pop(0)


NO_ROOM = Exit(code=None, signal=None, reason="quota", message=FULL.message, temporary=True, no_room=FULL)
ENDED = Exit(code=0, signal=None)
DONE = replace(ENDED, sizes={"stdout": 0, "stderr": 0})


def execute(
    services: Services, *handles: Held, before: Any = None, extra: str = "maxRetries: 0\n"
) -> tuple[str, list[Fact], list[str]]:
    """Attempts at one run, one for each grip; (run id, facts that were told, reasons for which something was written)."""
    facts: list[Fact] = []
    said: list[str] = []
    explain = services.store.explain

    def counted(lease: Lease, why: Delay, lines: Any) -> int:
        said.append(why.reason)
        return explain(lease, why, lines)

    place: Any = Place(services.executor, *handles)
    services.store.explain = counted  # type: ignore[method-assign]
    parts = replace(services.parts(), executor=place, telemetry=Telemetry(facts.append))
    run_id = accept(services, command_task("true", extra=extra))
    for _ in handles:
        freed: list[bool] = []
        taken = claim(services, run_id)
        if before is not None:
            before(taken)
        fact = Claimed(taken.run, timedelta(0), swept=False)
        Execution(taken, parts, "tester", lambda: freed.append(True), claimed=fact)()  # noqa: B023 - called at once
        assert freed == [True]
    return run_id, facts, said


def test_a_run_for_which_there_is_no_room_is_queued_again_and_counts_as_nothing(services: Services) -> None:
    handle = Held([FULL], NO_ROOM)

    run_id, facts, _ = execute(services, handle)

    run = services.store.run(run_id)
    assert (run.state, run.reason, run.message) == (RunState.QUEUED, "quota", FULL.message)
    assert (run.retries, run.infrastructure_retries, services.store.attempts(run_id)) == (0, 0, [])
    assert [type(fact) for fact in facts] == [GivenBack]
    assert handle.removed


@pytest.mark.parametrize("message", ["", "no network policy is enforced"])
def test_the_log_says_why_an_attempt_that_the_infrastructure_failed_is_repeated(services: Services, message: str) -> None:
    closed = Exit(code=None, signal=None, reason="network", message=message, temporary=True)

    run_id, _, _ = execute(services, Held([], closed), Held([], DONE, begins=True))

    said = [line.data for line in services.store.log(run_id) if line.kind is LogKind.SYSTEM and b"attempt" in line.data]
    assert services.store.run(run_id).state is RunState.COMPLETED
    assert said == [b"attempt 1 failed (network)" + (f": {message}".encode() if message else b"")]


def test_the_log_says_why_a_launch_failed_for_a_while_and_no_secret_of_it(services: Services) -> None:
    def fail(launch: Launch) -> Held:
        raise LaunchFailed("network", "the proxy of user hush-hush-4711 has no address", temporary=True)

    place: Any = Place(services.executor)
    place.start, place.private = fail, lambda environment: ["hush-hush-4711"]
    run_id = accept(services, command_task("true", extra="maxRetries: 0\n"))
    Execution(claim(services, run_id), replace(services.parts(), executor=place), "tester", lambda: None)()

    said = [line.data for line in services.store.log(run_id)]
    assert (services.store.run(run_id).state, len(said)) == (RunState.QUEUED, 1)
    assert services.store.run(run_id).infrastructure_retries == 0
    assert said[0].startswith(b"not begun: the proxy of user ")
    assert b"hush" not in said[0]


@pytest.mark.parametrize(
    ("ended", "state", "reason", "retries"),
    [
        ({"stopped_by": "timeout"}, RunState.FAILED, "timeout", (0, 0)),
        ({"stopped_by": "disk_quota"}, RunState.FAILED, "disk", (0, 0)),
        ({"stopped_by": "disk_full"}, RunState.QUEUED, "disk", (1, 0)),
        ({"stopped_by": "orphaned"}, RunState.QUEUED, "orphaned", (0, 1)),
        ({"stopped_by": "stop"}, RunState.QUEUED, "interrupted", (0, 1)),
        ({"lost": True}, RunState.QUEUED, "lost", (0, 1)),
        ({"lost": True, "by_agent": True}, RunState.QUEUED, "supervisor_killed", (1, 0)),
        ({"reason": "network", "temporary": True}, RunState.QUEUED, "network", (0, 1)),
        ({"reason": "image"}, RunState.FAILED, "image", (0, 0)),
    ],
)
def test_each_end_that_is_not_the_agents_own_has_a_reason_and_may_be_worth_a_retry(
    services: Services, ended: dict[str, Any], state: RunState, reason: str, retries: tuple[int, int]
) -> None:
    # Its program has ended well, whatever ended it.
    run_id, _, _ = execute(services, Held([], replace(DONE, **ended), begins=True), extra="maxRetries: 1\n")

    run = services.store.run(run_id)
    assert (run.state, run.reason, (run.retries, run.infrastructure_retries)) == (state, reason, retries)


def test_readers_are_told_of_a_pod_when_the_store_has_it(services: Services) -> None:
    pod, told, found = AgentPod(namespace="agents", name="job-1"), threading.Event(), []

    class Placed(Held):
        def pod(self) -> Any:
            return pod

        def exit(self) -> Exit | None:
            if told.wait(5):
                found.extend(each.pod for each in services.store.attempts(run_id))
            return super().exit()

    run_id = accept(services, command_task("true"))
    taken = claim(services, run_id)
    services.broker.subscribe(lambda *_: told.set(), [Topic.RUN])
    place: Any = Place(services.executor, Placed([], DONE))
    Execution(taken, replace(services.parts(), executor=place), "tester")()

    assert found == [pod]


def test_a_pod_is_noted_once_and_again_where_the_store_was_away(services: Services) -> None:
    pod, note_pod = AgentPod(namespace="agents", name="job-1"), services.store.note_pod
    noted: list[AgentPod] = []
    away: Future[None] = Future()
    away.set_exception(StoreUnavailable("away"))

    class Placed(Held):
        def pod(self) -> Any:
            return pod

    def note(lease: Lease, pod: AgentPod) -> Future[None]:
        noted.append(pod)
        return away if len(noted) == 1 else note_pod(lease, pod)

    services.store.note_pod = note  # type: ignore[method-assign]
    run_id, _, _ = execute(services, Placed([], DONE, begins=True, lasts=0.2))

    assert noted == [pod, pod]
    assert [each.pod for each in services.store.attempts(run_id)] == [pod]


def test_a_suspect_whose_output_is_on_its_way_leaves_the_turn_to_others(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("optio.runs.execute.MAX_START_PAUSE_S", 0.0)
    turns: list[bool] = []

    class Late(Held):
        def wait(self, timeout: float) -> None:
            turns.append(parts.suspects.locked())
            super().wait(timeout)

    run_id = accept(services, command_task("true"))
    taken = claim(services, run_id, lease=0.0)
    services.store.append_log(taken.run.lease, [], {"stdout": 6, "readCrashes": 1}, Meter())
    (adopted,) = services.store.adopt("second", timedelta(seconds=30), 5)
    place: Any = Place(services.executor, Late([], DONE, parts=[b"beg", b"un\n"]))
    parts = replace(services.parts(), executor=place)
    Execution(adopted, parts, "second")()

    assert (services.store.run(run_id).state, turns) == (RunState.COMPLETED, [False, False])


def test_a_suspect_begins_to_read_after_a_random_pause(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []

    class Left(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            pauses.append(timeout or 0.0)
            return False

    monkeypatch.setattr("optio.runs.execute.MAX_START_PAUSE_S", 1e9)
    run_id = accept(services, command_task("true"))
    taken = claim(services, run_id, lease=0.0)
    services.store.append_log(taken.run.lease, [], {"readCrashes": 1}, Meter())
    (adopted,) = services.store.adopt("second", timedelta(seconds=30), 5)
    place: Any = Place(services.executor, Held([], DONE))
    second = Execution(adopted, replace(services.parts(), executor=place), "second")
    second._signals.left = Left()
    second()

    assert [each for each in pauses if each > 100.0]


@pytest.mark.parametrize("call", ["cancel", "leave", "recheck"])
def test_an_execution_that_waits_for_output_is_woken_by_whoever_wants_something_of_it(services: Services, call: str) -> None:
    waits, woken = threading.Event(), threading.Event()

    class Waiting(Held):
        def wait(self, timeout: float) -> None:
            waits.set()
            woken.wait(60)

        def wake(self) -> None:
            woken.set()

    place: Any = Place(services.executor, Waiting([], DONE, begins=True, lasts=600.0))
    run_id = accept(services, command_task("true"))
    made = Execution(claim(services, run_id), replace(services.parts(), executor=place), "tester")
    running = threading.Thread(target=made)
    running.start()
    assert waits.wait(20)
    getattr(made, call)()
    heard = woken.is_set()
    woken.set()
    made.leave()
    running.join(20)

    assert heard


def test_an_agent_whose_output_cannot_be_masked_can_be_cancelled_and_left_to_another_worker(services: Services) -> None:
    class Away:
        def get(self, name: str) -> str:
            raise SecretUnavailable("the vault is sealed")

    run_id = accept(services, command_task("true", extra="environment: {secrets: [API_KEY]}\n"))
    claim(services, run_id, lease=0.0)
    (adopted,) = services.store.adopt("second", timedelta(seconds=30), 5)
    agent, secrets = Held([], DONE, begins=True, parts=[b"said\n"]), Away()
    parts: Any = replace(services.parts(), executor=Place(services.executor, agent, agent), secrets=secrets)  # type: ignore[arg-type]
    second = Execution(adopted, parts, "second")
    running = threading.Thread(target=second)
    running.start()
    services.store.cancel(run_id, "ann")
    second.recheck()

    eventually(lambda: agent.stopped, what="the stop")
    second.leave()
    running.join(20)

    assert (running.is_alive(), log_of(services, run_id)) == (False, [])
    assert services.store.adopt("third", timedelta(seconds=30), 5) == [], (
        "its worker gives the lease back, as it does at its end"
    )


def test_an_execution_that_fails_leaves_its_agent_to_whoever_adopts_it(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(Held):
        def read(self, stream: str, offset: int, limit: int) -> bytes:
            raise RuntimeError("a mistake of ours")

    monkeypatch.setattr("optio.runs.execute._RETRY_PAUSE_S", 0.0)
    broken, found = Broken([], DONE, begins=True), Held([], DONE, begins=True)
    place: Any = Place(services.executor, broken, found)
    run_id = accept(services, command_task("true"))

    Execution(claim(services, run_id), replace(services.parts(), executor=place), "tester")()

    assert (broken.removed, found.removed) == (False, False)
    assert [each.run.id for each in services.store.adopt("second", timedelta(seconds=30), 5)] == [run_id]


def test_an_execution_tells_nothing_of_an_end_that_another_one_stored(services: Services) -> None:
    facts: list[Fact] = []

    class Late(Held):
        def exit(self) -> Exit | None:
            if services.store.run(run_id).state is RunState.RUNNING:
                (adopted,) = services.store.adopt("second", timedelta(seconds=30), 5)
                Execution(adopted, replace(parts, telemetry=Telemetry(facts.append)), "second")()
            return super().exit()

    place: Any = Place(services.executor, Late([], DONE, begins=True), Held([], DONE, begins=True))
    parts = replace(services.parts(), executor=place)
    run_id = accept(services, command_task("true"))
    first = Execution(claim(services, run_id, lease=0.0), replace(parts, telemetry=Telemetry(facts.append)), "first")
    first()

    assert first.is_lost
    assert len([fact for fact in facts if isinstance(fact, Finished)]) == 1


def test_what_was_refused_is_explained_once_however_often_the_agent_prints_it(services: Services) -> None:
    place: Any = Place(services.executor, Held([], ENDED, begins=True, lasts=0.2, parts=[b"denied\n", b"denied\n"]))
    place.refusal_hint = lambda line, environment: "this would allow it" if line == b"denied" else None
    run_id = accept(services, command_task("true"))

    Execution(claim(services, run_id), replace(services.parts(), executor=place), "tester")()

    assert [line for line in log_of(services, run_id) if b"sandbox" not in line] == [
        *(b"denied", b"this would allow it", b"denied")
    ]


def test_an_agent_that_prints_at_once_tells_once_that_there_is_room(services: Services) -> None:
    told: list[Topic] = []
    services.broker.subscribe(lambda topic, key: told.append(topic), [Topic.QUEUE])
    agent = Held([], DONE, begins=True, lasts=0.2, parts=[b"one\n", b"two\n"])

    execute(services, Held([], NO_ROOM), agent, before=lambda taken: told.clear())

    assert told == [Topic.QUEUE]


def test_it_runs_when_there_is_room_and_its_wait_is_told_once(services: Services) -> None:
    told: list[Topic] = []
    services.broker.subscribe(lambda topic, key: told.append(topic), [Topic.QUEUE])

    handles = Held([], NO_ROOM), Held([FULL], NO_ROOM), Held([], DONE, begins=True, lasts=0.3)
    run_id, facts, _ = execute(services, *handles, before=lambda taken: told.clear())

    run = services.store.run(run_id)
    assert (run.state, run.attempt, len(services.store.attempts(run_id))) == (RunState.COMPLETED, 3, 1)
    assert [type(fact) for fact in facts] == [GivenBack, GivenBack, Claimed, Started, Finished]
    assert [0 <= fact.after < 60 for fact in facts if isinstance(fact, Started)] == [True]
    # However often it was tried, its log says so once.
    assert log_of(services, run_id, LogKind.SYSTEM) == [
        b"not begun: the namespace's quota is full; the run waits in the queue until there is room"
    ]
    # It had tried for all that wait for room: they hear that there is some.
    assert told == [Topic.QUEUE]


def test_each_reason_is_written_once_and_the_agents_beginning_ends_it(services: Services) -> None:
    reworded = replace(FULL, message="the namespace's quota is full: 3 of 3 pods")
    delays = [None, FULL, FULL, reworded, IMAGE, IMAGE, FULL]
    heard: list[str] = []
    services.broker.subscribe(lambda _, run_id: heard.append(services.store.run(run_id).reason), [Topic.RUN])

    run_id, _, said = execute(services, Held(delays, DONE, begins=True))

    assert said == heard[:3] == ["quota", "image", "quota"]
    assert [text.split(b":")[0] for text in log_of(services, run_id, LogKind.SYSTEM)] == [b"not begun yet"] * 3
    assert services.store.run(run_id).state is RunState.COMPLETED


def test_a_run_without_room_whose_end_is_asked_for_is_cancelled(services: Services) -> None:
    run_id, facts, _ = execute(services, Held([FULL], NO_ROOM), before=lambda taken: services.store.cancel(taken.run.id, "ann"))

    assert services.store.run(run_id).state is RunState.CANCELLED
    assert isinstance(facts[-1], Finished)


def test_a_worker_whose_machine_starts_no_agents_is_not_ready_until_it_does_and_fails_no_run(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, broken = services.executor.start, threading.Event()
    broken.set()

    def starting(launch: Launch) -> Any:
        if broken.is_set():
            raise LaunchFailed("supervisor", "no supervisor can be started", temporary=True)
        return start(launch)

    monkeypatch.setattr(services.executor, "start", starting)
    task = command_task("true", extra="maxRetries: 0\nmaxConcurrent: 9\n")
    with working(services):
        runs = [accept(services, task) for _ in range(12)]
        eventually(lambda: health.ready(services).status == 503, within=20, what="the worker to be unready")
        said = health.ready(services).problems
        broken.clear()
        eventually(lambda: all(services.store.run(each).state.terminal for each in runs), within=60, what="the runs")
        eventually(lambda: health.ready(services).status == 200, within=20, what="the worker to be ready")

    assert said == (PLACE_REFUSALS["supervisor"],)
    assert {(services.store.run(each).state, len(services.store.attempts(each))) for each in runs} == {(RunState.COMPLETED, 1)}
