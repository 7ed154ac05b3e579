"""Serve a task directory on this machine: server, scheduler, worker and hot reload in one process, with no other dependency."""

import argparse
import asyncio
import fcntl
import logging
import os
import socket
import sys
from contextlib import closing
from dataclasses import replace

from optio.cli import OK
from optio.cli.shared import dev_token, flags
from optio.cli.shared.dev_console import RunNews, TreeNews
from optio.cli.shared.gateway_server import listening_for_agents, serving_agents
from optio.cli.shared.listening import listen, run_loop
from optio.cli.shared.process_life import attach_health, log_to_stderr, open_metrics_port
from optio.cli.shared.serving import serve, set_on_signal
from optio.errors import SettingsError
from optio.processes.retention import Retention
from optio.processes.scheduler import Scheduler
from optio.processes.worker import Worker
from optio.server import webhooks
from optio.server.built_docs import is_built
from optio.settings import Settings
from optio.telemetry.logs import Unblocked
from optio.tree.reload import Reloader
from optio.tree.served import ServedRegistry, server_name
from optio.version import __version__
from optio.wiring import Services, build, data_directory, has_gateway


def add_arguments(parser: argparse.ArgumentParser) -> None:
    flags.add_setting_flags(parser, "tasks", "data_dir", "host", "port", "max_workflow_concurrent", "writes")


def run(args: argparse.Namespace) -> int:
    """Serve until Ctrl-C. Returns 0."""
    settings = _with_gateway(flags.read_settings(args, defaults={"writes": "files", "gateway": "preferred"}))
    # Runs and reloads are printed to standard output; the log is for failures.
    log_to_stderr(settings, logging.INFO if os.environ.get("OPTIO_DEBUG") else logging.WARNING)
    # Whoever tries a webhook sees here why it starts nothing.
    logging.getLogger(webhooks.__name__).setLevel(logging.DEBUG)
    # A paused terminal (Ctrl-S) must not stop the server.
    before, sys.stdout = sys.stdout, (unblocked := Unblocked(sys.stdout.fileno(), sys.stdout.encoding))
    try:
        return _run(settings)
    finally:
        unblocked.finish()
        sys.stdout = before


def _run(settings: Settings) -> int:
    with_lock = _lock(settings)
    try:
        with (
            listen(settings.host, settings.port) as sock,
            listening_for_agents(settings) as (settings, agents_sock),
            closing(build(settings)) as services,
            open_metrics_port(settings) as probe,
            dev_token.issue(settings, sock.getsockname()[1]) as token,
            serving_agents(services, agents_sock),
        ):
            attach_health(services, probe)
            run_loop(_dev(services, sock, token))
    finally:
        os.close(with_lock)
    return OK


def _with_gateway(settings: Settings) -> Settings:
    """Return the settings, without a gateway that nobody asked for where its library is missing, or where agents are pods, to
    which this machine's loopback is closed."""
    if settings.origins["gateway"] != "default" or (settings.executor == "process" and has_gateway()):
        return settings
    return replace(settings, gateway="off")


async def _dev(services: Services, sock: socket.socket, token: str) -> None:
    settings = services.settings
    served_registry = ServedRegistry(services.store, settings.removal_limit, server=server_name(settings.tasks))
    served_registry.restore()
    # If tasks were served before, a missing directory is probably a mistyped path, so it is not created.
    if not served_registry.current.registry.tasks:
        try:
            settings.tasks.mkdir(parents=True, exist_ok=True)
        except OSError as err:
            raise SettingsError(f"the task directory {settings.tasks} cannot be used: {err.strerror}") from err
    tree_news = TreeNews(services)
    reloader = Reloader(settings.tasks, served_registry, services.broker, on_change=tree_news)
    host, port = sock.getsockname()[:2]
    url = f"http://{'[' + host + ']' if ':' in host else host}:{port}"
    print(f"optio {__version__} on {url}\n", flush=True)
    await reloader.load()
    # A tree that is as it was at the last stop is no change for the reloader.
    tree_news(served_registry.current)
    stop = asyncio.Event()
    set_on_signal(stop)
    # Output redirected to a file or log collector must not contain the token.
    query, after = (f"?token={token}", "") if sys.stdout.isatty() else ("", f"\n  token      {dev_token.token_file(settings)}")
    docs = f"\n  docs       {url}/docs" if is_built(settings) else ""
    gateway = "" if services.gateway is None else f"  gateway    {services.gateway.url}, for agents\n"
    print(
        f"\n  dashboard  {url}/{query}\n  API        {url}/api/tasks{query}\n  spec       {url}/schema{query}{docs}{after}\n"
        f"{gateway}"
        "  run        optio run TASK -p NAME=VALUE --wait\n  stop       Ctrl-C\n",
        flush=True,
    )
    worker, scheduler, news = Worker(services), Scheduler(services), RunNews(services, url)
    retention = Retention(services)
    news.start()
    worker.start()
    scheduler.start()
    retention.start()
    watching = asyncio.create_task(reloader.watch(stop))
    try:
        await serve(services, served_registry, sock, stop, reload=reloader.load, dev_token=token)
    finally:
        stop.set()
        await watching
        await asyncio.to_thread(retention.stop)
        await asyncio.to_thread(scheduler.stop)
        await asyncio.to_thread(worker.stop)
        await asyncio.to_thread(news.stop)


def _lock(settings: Settings) -> int:
    """Lock the data directory for this `optio dev`; raises SettingsError naming the process that holds the lock."""
    try:
        descriptor = os.open(data_directory(settings) / "dev.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as err:
        raise SettingsError(f"the data directory {settings.data_dir} cannot be used: {err.strerror}") from err
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.read(descriptor, 32).decode().strip()
        os.close(descriptor)
        raise SettingsError(
            f"another `optio dev` (process {owner}) uses {settings.data_dir}: stop it, or give this one its own --data-dir"
        ) from None
    os.truncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor
