"""`optio test --replay RUN`: the agent's program makes the run again, its model's answers coming out of the run's recording.

It runs in an installation of its own, in a temporary directory, with the task as its file says now. Its secrets are stand-ins.
"""

import argparse
import tempfile
import time
import uuid
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from optio.broker.base import Topic
from optio.cli import FAILED, OK, print_error
from optio.cli.shared import client, flags, ids, render_run, terminal
from optio.cli.shared.call_list import read_calls, why_unrecorded
from optio.cli.shared.gateway_server import GatewayServer
from optio.cli.shared.listening import listen
from optio.cli.shared.unknown_task import unknown_task
from optio.compiler.pipeline import compile_tree
from optio.compiler.report import render_concise
from optio.compiler.source_tree import DirectoryTree
from optio.errors import Conflict, SettingsError
from optio.gateway.protocols.dialects import DIALECTS
from optio.model.mask import Masker
from optio.model.model_call import CallRecording
from optio.model.registry import CompiledTask
from optio.model.run import Attempt
from optio.model.runtimes import service_of
from optio.processes.worker import Worker
from optio.runs.gateway_access import GatewayRoute
from optio.runs.submit import prepare_run
from optio.secrets.base import run_secrets
from optio.settings import Settings
from optio.store.base import Store
from optio.telemetry.base import SILENT
from optio.testing.replay_server import ReplayServer
from optio.testing.replayed_calls import ReplayedCalls
from optio.testing.volatile import steady
from optio.wiring import Services, build

_POLL_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedAttempt:
    """The attempt that is repeated: as the API shows its run, its number, and its calls by their numbers."""

    run: Mapping[str, Any]
    number: int
    protocol: str
    calls: Mapping[int, CallRecording]

    @property
    def outcome(self) -> dict[str, Any]:
        """Return how the attempt ended."""
        attempt = self.run["attempts"][self.number - 1]
        return {"reason": attempt["reason"], "output": attempt["output"]}


class StandInSecrets:
    """Values for secrets of any name, none of them real."""

    def get(self, name: str) -> str:
        return f"optio-replay-{name}"

    def is_at_hand(self, name: str) -> bool:
        return True

    def put(self, name: str, value: str) -> None:
        raise NotImplementedError

    def stored(self, name: str) -> str | None:
        return None

    def where(self, name: str) -> str:
        return ""


def replay(args: argparse.Namespace) -> int:
    """Repeat the run and print what differs. Returns 1 if anything does; raises SettingsError for a run that has no whole
    recording, or whose task is not in the tree."""
    settings = flags.read_settings(args)
    server = client.Client(settings)
    with terminal.progress("reading the recording"):
        recorded = _read_attempt(server, ids.run_id(server, args.replay))
    task = _task(settings, recorded.run["taskId"])
    with terminal.progress("repeating the run"):
        attempt, calls = _repeat(settings, task, recorded)
    outcome = {"reason": attempt.reason, "output": attempt.text}
    is_same_outcome = steady(outcome) == steady(recorded.outcome)
    is_same = is_same_outcome and not calls.missing and all(request.is_same for request in calls.requests)
    document = {
        "run": recorded.run["id"],
        "attempt": recorded.number,
        "same": is_same,
        "requests": [{**asdict(request), "same": request.is_same} for request in calls.requests],
        "missing": calls.missing,
        "result": {"same": is_same_outcome, "before": recorded.outcome, "after": outcome, "message": attempt.message},
    }
    print(render_run.as_json(document) if args.format == "json" else "\n".join(_lines(document, recorded, task)))
    return OK if is_same else FAILED


def _read_attempt(server: client.Client, run_id: str) -> RecordedAttempt:
    """Return the last attempt that began a session of its own."""
    path = f"/api/workflow-runs/{client.quoted(run_id)}"
    run = server.request("GET", path)
    numbers = [attempt["number"] for attempt in run["attempts"] if attempt["continues"] is None and attempt["endedAt"]]
    if not numbers:
        raise SettingsError(f"run {run_id} has no attempt that has ended: wait for its end")
    listed = list(read_calls(server, path, numbers[-1]))
    if not listed:
        raise SettingsError(f"run {run_id} has no model calls through the gateway: set OPTIO_GATEWAY=required for its worker")
    calls = {call["number"]: server.request("GET", f"{path}/calls/{call['number']}")["recording"] for call in listed}
    for number, recording in calls.items():
        problem = why_unrecorded(recording)
        if problem is not None:
            raise SettingsError(f"call {number} of run {run_id} cannot be repeated: {problem}")
    return RecordedAttempt(
        run=run,
        number=numbers[-1],
        protocol=listed[0]["protocol"],
        calls={number: _recording(recording) for number, recording in calls.items()},
    )


def _recording(body: Mapping[str, Any]) -> CallRecording:
    return CallRecording(
        path=body["path"],
        status=body["status"],
        content_type=body["contentType"],
        is_whole=body["isWhole"],
        request=body["request"],
        answer=body["answer"].encode(),
    )


def _task(settings: Settings, task_id: str) -> CompiledTask:
    """Return the task as its file says now. Its run is tried once."""
    if not settings.tasks.is_dir():
        raise SettingsError(f"there is no task directory `{settings.tasks}`: name it with --tasks")
    compilation = compile_tree(DirectoryTree(settings.tasks))
    task = compilation.registry.tasks.get(task_id)
    if task is None:
        errors = [diagnostic for diagnostic in compilation.diagnostics if diagnostic.severity == "error"]
        if errors:
            print_error("\n".join(render_concise(errors)))
        raise unknown_task(task_id, set(compilation.registry.tasks))
    return task


def _repeat(settings: Settings, task: CompiledTask, recorded: RecordedAttempt) -> tuple[Attempt, ReplayedCalls]:
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="optio-replay-")))
        services = build(_own_settings(settings, task, directory))
        stack.callback(services.close)
        secrets = StandInSecrets()
        names = run_secrets(task, services.settings.credentials)
        calls = ReplayedCalls(recorded.calls, Masker([secrets.get(name) for name in names]))
        sock = stack.enter_context(listen("127.0.0.1", 0))
        server = GatewayServer(services, sock, ReplayServer(calls, DIALECTS[recorded.protocol]))
        server.start()
        stack.callback(server.stop)
        route = GatewayRoute(f"http://127.0.0.1:{sock.getsockname()[1]}", "required")
        services = replace(services, secrets=secrets, telemetry=SILENT, gateway=route)
        return _attempt(services, task, recorded.run["params"]), calls


def _own_settings(settings: Settings, task: CompiledTask, directory: Path) -> Settings:
    """Return the settings of an installation that has nothing in common with that of the run but programs and sandbox."""
    service = service_of(task.spec.agent_runtime, task.spec.model)
    runtime = task.spec.agent_runtime.replace("-", "_")
    # Nobody calls it: it says that there is one, for agents that have no service of their own.
    endpoint: dict[str, Any] = {
        "anthropic_base_url" if runtime == "claude_code" else f"endpoint_{runtime}": "http://127.0.0.1:9"
    }
    return replace(
        settings,
        data_dir=directory / "data",
        database_url=None,
        redis_url=None,
        migrate="auto",
        executor="process",
        gateway="required",
        credentials=() if service is None else service.keys,
        **endpoint,
    )


def _attempt(services: Services, task: CompiledTask, params: Mapping[str, Any]) -> Attempt:
    """Return the only attempt of a run of the task, once it has ended. An agent is not left behind."""
    store = services.store
    once = replace(task, namespace=None, spec=task.spec.replace(max_retries=0))
    new_run = prepare_run(once, params, new_id=str(uuid.uuid4()), trigger="manual", actor="replay")
    run_id = store.accept(new_run).result().run_id or ""
    worker = Worker(services)
    worker.start()
    try:
        try:
            return _ended_attempt(store, run_id)
        except BaseException:
            with suppress(Conflict):  # it has ended
                store.cancel(run_id, "replay")
                services.broker.tell(Topic.CANCEL, run_id)
                _ended_attempt(store, run_id)
            raise
    finally:
        worker.stop()


def _ended_attempt(store: Store, run_id: str) -> Attempt:
    while True:
        attempts = store.attempts(run_id)
        if attempts and attempts[0].ended_at is not None:
            return attempts[0]
        if store.run(run_id).state.terminal:
            raise SettingsError("the run was not begun")
        time.sleep(_POLL_S)


def _lines(document: Mapping[str, Any], recorded: RecordedAttempt, task: CompiledTask) -> list[str]:
    """Return the text for people."""
    attempts = len(recorded.run["attempts"])
    whose = f" (attempt {recorded.number} of {attempts})" if attempts > 1 else ""
    lines = [f"run {document['run']}{whose}, repeated by {task.spec.agent_runtime} with the task as {task.origin.path} has it"]
    for place, request in enumerate(document["requests"], 1):
        lines += _request_lines(place, request)
    lines += [f"call {number}     not made" for number in document["missing"]]
    result = document["result"]
    before, after = (
        f"{side['reason']}: {render_run.safe(side['output'] or '')}" for side in (result["before"], result["after"])
    )
    lines.append("result     as recorded" if result["same"] else "result     differs")
    if not result["same"]:
        lines += [f"  before   {before}", f"  after    {after}"]
        lines += [f"           {render_run.safe(result['message'])}"] if result["message"] else []
    return [*lines, "the run is the same" if document["same"] else "the run differs from its recording"]


def _request_lines(place: int, request: Mapping[str, Any]) -> list[str]:
    head, difference = f"request {place}", request["difference"]
    if request["call"] is None:
        return [f"{head}  one more than was recorded: it was refused"]
    if difference is None:
        return [f"{head}  as call {request['call']}"]
    count = difference["count"]
    more = "" if count == 1 else f", and in {count - 1} more place{'' if count == 2 else 's'}"
    verb = "has another order than" if difference["is_order"] else "differs from"
    return [
        f"{head}  {verb} call {request['call']} at {render_run.safe(difference['place'])}{more}",
        f"  before   {render_run.safe(difference['before'])}",
        f"  after    {render_run.safe(difference['after'])}",
    ]
