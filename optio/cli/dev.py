"""Serve a task directory on this machine: server, scheduler, worker and hot reload in one process. Needs nothing else."""

import argparse
import asyncio
import fcntl
import os
import socket
import sys
from datetime import UTC, datetime

from optio.cli import OK, flags
from optio.cli.serving import listen, log_to_stderr, serve
from optio.compiler.diagnostics import Severity
from optio.compiler.report import closing, concise
from optio.errors import SettingsError
from optio.live import LiveRegistry, Snapshot
from optio.model import cron
from optio.model.registry import CompiledTask
from optio.reload import Reloader
from optio.scheduler import Scheduler
from optio.settings import Settings
from optio.version import __version__
from optio.wiring import Services, build
from optio.worker import Worker


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags."""
    flags.add(parser, "tasks", "data_dir", "host", "port", "max_workflow_concurrent", "writes")


def run(args: argparse.Namespace) -> int:
    """Serve until Ctrl-C."""
    settings = flags.settings(args, defaults={"writes": "files"})
    log_to_stderr()
    with_lock = _lock(settings)
    sock = listen(settings)
    services = build(settings)
    try:
        open_access = settings.loopback
        if not open_access and not services.store.tokens():
            raise SettingsError(
                f"{settings.host} can be reached from other machines and there is no token: make one with "
                "`optio token create --role admin`"
            )
        asyncio.run(_dev(services, sock, open_access=open_access))
    finally:
        sock.close()
        services.close()
        os.close(with_lock)
    return OK


async def _dev(services: Services, sock: socket.socket, *, open_access: bool) -> None:
    settings = services.settings
    settings.tasks.mkdir(parents=True, exist_ok=True)
    live = LiveRegistry(services.store)
    live.restore()
    reloader = Reloader(settings.tasks, live, services.broker, on_change=lambda snapshot: _say(settings, snapshot))
    host, port = sock.getsockname()[:2]
    url = f"http://{'[' + host + ']' if ':' in host else host}:{port}"
    print(f"optio {__version__} on {url}\n", flush=True)
    await reloader.load()
    print(
        f"\n  API      {url}/api/tasks\n  docs     {url}/schema\n  start a run with  optio run TASK -p NAME=VALUE --wait\n"
        "  stop with         Ctrl-C\n",
        flush=True,
    )
    worker, scheduler = Worker(services), Scheduler(services)
    worker.start()
    scheduler.start()
    stop = asyncio.Event()
    watching = asyncio.create_task(reloader.watch(stop))
    try:
        await serve(services, live, sock, stop, reload=reloader.load, open_access=open_access)
    finally:
        stop.set()
        await watching
        await asyncio.to_thread(scheduler.stop)
        await asyncio.to_thread(worker.stop)


def _say(settings: Settings, snapshot: Snapshot) -> None:
    """What is loaded, and what is wrong."""
    tasks = snapshot.registry.tasks
    generation = snapshot.generation.id if snapshot.generation else 0
    lines = [
        f"{settings.tasks}: {len(tasks)} task{'s' if len(tasks) != 1 else ''} in {snapshot.files} files, generation {generation}"
    ]
    width = max((len(task_id) for task_id in tasks), default=0)
    lines += [f"  {task.id:<{width}}  {_starts(task)}" for task in list(tasks.values())[:50]]
    if len(tasks) > 50:
        lines.append(f"  ... and {len(tasks) - 50} more")
    errors = [d for d in snapshot.diagnostics if d.severity is Severity.ERROR]
    if snapshot.diagnostics:
        lines.append("")
        lines += [f"  {settings.tasks}/{line}" for line in concise(errors[:20] or snapshot.diagnostics[:20])]
        lines.append(
            f"  {closing(snapshot.diagnostics, snapshot.files, len(tasks))}: `optio check {settings.tasks}` shows them all"
        )
    lines += [f"  {task_id}: served as it was before its file broke" for task_id in sorted(snapshot.kept)]
    print("\n".join(lines), file=sys.stdout, flush=True)


def _starts(task: CompiledTask) -> str:
    """How a task is started, in a few words."""
    ways = ["by hand"]
    if task.spec.schedule is not None and task.spec.schedule.enabled:
        config = task.spec.schedule.config
        following = cron.next_fire(config.cron_expression, config.timezone, datetime.now(UTC))
        when = following.astimezone().strftime("%a %d %b %H:%M") if following else "never"
        ways.append(f"schedule `{config.cron_expression}` {config.timezone}, next {when}")
    if task.spec.webhook is not None and task.spec.webhook.enabled:
        ways.append(f"POST /api/hooks/{task.spec.webhook.config.path}")
    return " | ".join(ways)


def _lock(settings: Settings) -> int:
    """One `optio dev` for a data directory; raises SettingsError naming the other one."""
    try:
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(settings.data_dir / "dev.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as err:
        raise SettingsError(f"the data directory {settings.data_dir} cannot be used: {err.strerror}") from err
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        other = os.read(descriptor, 32).decode().strip()
        os.close(descriptor)
        raise SettingsError(
            f"another `optio dev` (process {other}) uses {settings.data_dir}: stop it, or give this one its own --data-dir"
        ) from None
    os.truncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor
