"""The terminal output of `optio dev`: the tree once, then every change to it, and every run that starts or ends."""

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial

from optio.broker.base import Topic
from optio.cli.shared import render_run
from optio.compiler.diagnostics import Diagnostic, Severity
from optio.compiler.report import render_concise, render_summary
from optio.errors import LaunchFailed, OptioError
from optio.model import isolation
from optio.model.registry import CompiledTask
from optio.model.run import Run, RunState
from optio.model.runtimes import declaration_of
from optio.plan.words import pluralize
from optio.runs.signature import unusable_secrets
from optio.scheduling import cron
from optio.secrets.base import is_missing, secret_names, value_at_hand
from optio.server import serializers
from optio.tree.reload import name_some
from optio.tree.served import Snapshot
from optio.wiring import Services

_MAX_TASKS = 50
_MAX_FINDINGS = 20
# Hints come with every log line; reading a run this often is enough to show its state.
_POLL_S = 0.1


class TreeNews:
    """Prints the first snapshot, and for later ones only the differences. The reloader calls it after each reload."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._root = services.settings.tasks
        self._before: Snapshot | None = None

    def __call__(self, snapshot: Snapshot) -> None:
        """Print what differs from the snapshot before."""
        before, self._before = self._before, snapshot
        lines = list(self._first(snapshot) if before is None else self._change(before, snapshot))
        if lines:
            print("\n".join(lines), flush=True)

    def _first(self, now: Snapshot) -> Iterator[str]:
        tasks = now.registry.tasks
        yield f"{self._root}: {pluralize(len(tasks), 'task')} in {pluralize(now.files, 'file')}{_generation(now)}"
        if not tasks and not now.files:
            yield "  no tasks yet: run `optio init`, or save a task file; it is served at once"
        width = max(map(len, tasks), default=0)
        yield from (f"  {task.id:<{width}}  {_starts(task)}" for task in list(tasks.values())[:_MAX_TASKS])
        if len(tasks) > _MAX_TASKS:
            yield f"  ... and {len(tasks) - _MAX_TASKS} more"
        yield from self._lacking(list(tasks.values()))
        yield from self._findings(now.diagnostics, now)
        yield from (f"  {task_id}: served in its last error-free version" for task_id in sorted(now.kept))
        yield from self._removal(now)

    def _change(self, before: Snapshot, now: Snapshot) -> Iterator[str]:
        changes = list(_changes(before, now))
        known_diagnostics = set(before.diagnostics)
        findings = list(self._findings([d for d in now.diagnostics if d not in known_diagnostics], now))
        is_mended = _has_errors(before) and not _has_errors(now)
        removal = [] if now.removal == before.removal else list(self._removal(now))
        if before.removal and not now.removal:
            removal = ["  no removal is held now"]
        if changes or findings or is_mended or removal:
            yield f"{_time()}  {self._root}: {'changed' if changes else 'scanned again'}{_generation(now)}"
            yield from changes[:_MAX_TASKS]
            if len(changes) > _MAX_TASKS:
                yield f"  ... and {len(changes) - _MAX_TASKS} more"
            yield from self._lacking(_altered(before, now))
            yield from findings
            yield from removal
            if is_mended:
                yield "  all errors are fixed"

    def _removal(self, now: Snapshot) -> Iterator[str]:
        if now.removal is not None:
            yield "  " + render_run.coloured(f"{self._root}: {now.removal.summary}", "33")
            yield f"  held: {name_some(now.removal.tasks)}"

    def _lacking(self, tasks: list[CompiledTask]) -> Iterator[str]:
        """Yield what runs of these tasks will lack, such as values of secrets and programs of agents, once each."""
        secrets = self._services.secrets
        users: dict[str, list[str]] = {}
        for task in tasks:
            for name in secret_names(task, self._services.settings.credentials):
                # Nothing waits here for a program: a run is told if it gives no value.
                if is_missing(secrets, name):
                    users.setdefault(f"the secret {name} has no value: {secrets.where(name)}", []).append(task.id)
            for *_, name, fault in unusable_secrets([task], partial(value_at_hand, secrets)):
                users.setdefault(f"the webhook secret {name} cannot be used: {fault}", []).append(task.id)
            agent = declaration_of(task.spec.agent_runtime)
            if agent is not None and agent.program is not None:
                try:
                    self._services.executor.program(agent.name)
                except LaunchFailed as err:
                    users.setdefault(str(err), []).append(task.id)
            for note in self._services.executor.not_applied(isolation.requested_isolation(task)):
                users.setdefault(note, []).append(task.id)
        for lack, ids in users.items():
            task_names = ", ".join(ids[:3]) + (f" and {len(ids) - 3} more" if len(ids) > 3 else "")
            yield "  " + render_run.coloured(f"{task_names}: {lack}", "33")

    def _findings(self, diagnostics: "list[Diagnostic] | tuple[Diagnostic, ...]", now: Snapshot) -> Iterator[str]:
        if not diagnostics:
            return
        errors = [d for d in diagnostics if d.severity is Severity.ERROR]
        for diagnostic, text in zip(
            first_ones := (errors or diagnostics)[:_MAX_FINDINGS], render_concise(first_ones), strict=True
        ):
            yield "  " + render_run.coloured(f"{self._root}/{text}", "31" if diagnostic.severity is Severity.ERROR else "33")
        count = render_summary(now.diagnostics, now.files, len(now.registry.tasks))
        verbose = " --verbose" if any(d.severity is Severity.INFO for d in now.diagnostics) else ""
        yield f"  {count}: `optio check {self._root}{verbose}` shows them all"


class RunNews:
    """Prints every run that starts, waits for another attempt, or ends, with its page. `stop` may be called from any thread."""

    def __init__(self, services: Services, url: str) -> None:
        self._services = services
        self._url = url
        self._hinted: dict[str, None] = {}
        self._lock = threading.Lock()
        self._reported: dict[str, tuple[RunState, int]] = {}
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._unsubscribe: Callable[[], None] = lambda: None
        self._thread = threading.Thread(target=self._loop, name="console", daemon=True)

    def start(self) -> None:
        """Start printing, in a thread of its own."""
        self._unsubscribe = self._services.broker.subscribe(self._hint, (Topic.RUN,))
        self._thread.start()

    def stop(self) -> None:
        """Stop printing and wait up to 5 s for the thread."""
        self._unsubscribe()
        self._stopping.set()
        self._wake.set()
        self._thread.join(5)

    def _hint(self, topic: Topic, key: str) -> None:
        with self._lock:
            self._hinted[key] = None
        self._wake.set()

    def _loop(self) -> None:
        while not self._stopping.is_set():
            self._wake.wait()
            # Cleared before reading: a hint that arrives meanwhile causes another read.
            self._wake.clear()
            with self._lock:
                hinted, self._hinted = self._hinted, {}
            for run_id in hinted:
                try:
                    self._say(self._services.store.run(run_id))
                except OptioError:
                    continue  # the store's own health reports the failure
            self._stopping.wait(_POLL_S)

    def _say(self, run: Run) -> None:
        stands = (run.state, run.attempt)
        if self._reported.get(run.id) == stands:
            return
        if run.state.terminal:
            self._reported.pop(run.id, None)
        else:
            self._reported[run.id] = stands
        if run.state is RunState.RUNNING:
            attempt = f", attempt {run.attempt}" if run.attempt > 1 else ""
            self._print(run, f"{render_run.state('running')} ({run.trigger}{attempt})")
        elif run.state is RunState.QUEUED:
            due = run.not_before.astimezone().strftime("%H:%M:%S")
            self._print(run, f"{render_run.state('queued')} again for {due} ({run.reason})")
        else:
            self._print(run, f"{render_run.outcome(serializers.to_json(serializers.run(run))).removeprefix(f'run {run.id} ')}")

    def _print(self, run: Run, text: str) -> None:
        print(f"{_time()}  {run.task_id}  {text}  {self._url}/runs/{run.id}", flush=True)


def _time() -> str:
    return datetime.now(UTC).astimezone().strftime("%H:%M:%S")


def _generation(snapshot: Snapshot) -> str:
    return "" if snapshot.generation is None else f", generation {snapshot.generation.id}"


def _changes(before: Snapshot, now: Snapshot) -> Iterator[str]:
    """Yield a line for each task that was added, changed, removed or broken."""
    old, new = before.registry.tasks, now.registry.tasks
    altered = _altered(before, now)
    yield from (f"  + {task.id}  {_starts(task)}" for task in altered if task.id not in old)
    yield from (f"  ~ {task.id}  {_starts(task)}" for task in altered if task.id in old)
    yield from (f"  - {task_id}" for task_id in old if task_id not in new)
    for task_id in sorted(now.kept - before.kept):
        yield f"  ! {task_id}: its file has errors, the last error-free version is served"


def _altered(before: Snapshot, now: Snapshot) -> list[CompiledTask]:
    """Return the tasks that are new or have another definition."""
    old = before.registry.tasks
    return [task for name, task in now.registry.tasks.items() if name not in old or old[name].digest != task.digest]


def _has_errors(snapshot: Snapshot) -> bool:
    return any(diagnostic.severity is Severity.ERROR for diagnostic in snapshot.diagnostics)


def _starts(task: CompiledTask) -> str:
    """Return the ways in which a task is started, in a few words."""
    if not task.spec.enabled:
        return "not enabled"
    ways = ["by hand"]
    if task.spec.schedule is not None and task.spec.schedule.enabled:
        config = task.spec.schedule.config
        following = cron.next_fire(config.cron_expression, config.timezone, datetime.now(UTC))
        next_text = following.astimezone().strftime("%a %d %b %H:%M") if following else "never"
        ways.append(f"schedule `{config.cron_expression}` {config.timezone}, next {next_text}")
    if task.spec.webhook is not None and task.spec.webhook.enabled:
        ways.append(f"POST /api/hooks/{task.spec.webhook.config.path}")
    return " | ".join(ways)
