"""The checks of `optio doctor` about the tasks: their files, namespaces, prices and plug-ins, before and after an upgrade."""

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime

from optio import plugins
from optio.cli.shared import client
from optio.cli.shared.examine_agents import examine_agents
from optio.cli.shared.examine_gateway import examine_connections
from optio.cli.shared.examine_secrets import examine_secrets
from optio.cli.shared.examine_services import read_store
from optio.compiler.pipeline import compile_tree
from optio.compiler.source_tree import DirectoryTree
from optio.errors import SettingsError
from optio.model import money, prices
from optio.model.namespace import is_served, unserved
from optio.model.probe_result import ProbeResult
from optio.model.registry import CompiledTask
from optio.model.runtimes import DECLARED, declaration_of
from optio.plan.words import pluralize
from optio.settings import Settings
from optio.store.base import Store

# Prices change a few times a year.
_OLD_PRICE_DAYS = 180


def examine_tasks(settings: Settings) -> Iterator[ProbeResult]:
    """Check the tasks, of files or of the database, and what they use: secrets, agents, plug-ins, prices, namespaces."""
    if not settings.tasks.is_dir():
        is_server = _is_server(settings)
        served_tasks = None if is_server else _served_tasks(settings)
        tasks = served_tasks or []
        has_parts = settings.database is None  # processes on separate machines, of which only the server's has the files
        if tasks or (has_parts and served_tasks is not None):
            detail = f"{len(tasks)} are served from the database; no directory `{settings.tasks}`, which only a server needs"
            yield ProbeResult("tasks", "ok", detail)
        elif has_parts and not is_server:
            detail = (
                "the database has no tasks yet: they come from a server with a directory of task files, which a "
                "worker or scheduler does not need"
            )
            yield ProbeResult("tasks", "warning", detail, "start `optio server` where the task files are", "optio server")
        else:
            detail, hint = f"no directory `{settings.tasks}`", "create it with `optio init`, or name another with --tasks"
            yield ProbeResult("tasks", "warning", detail, hint, "optio init")
    else:
        compilation = compile_tree(DirectoryTree(settings.tasks))
        tasks = list(compilation.registry.tasks.values())
        if compilation.broken:
            detail = f"{settings.tasks}: {len(tasks)} can be served, {len(compilation.broken)} files have errors"
            command = f"optio check {settings.tasks}"
            yield ProbeResult("tasks", "error", detail, f"`{command}` lists them", command)
        else:
            yield ProbeResult("tasks", "ok", f"{settings.tasks}: {pluralize(len(tasks), 'task')}, no errors")
    yield from examine_secrets(settings, tasks)
    yield from examine_agents(settings, tasks)
    yield from examine_connections(settings, tasks)
    yield from _plugins()
    yield from _prices(tasks, datetime.now(UTC).date())
    if settings.executor == "kubernetes" and any(task.namespace for task in tasks):
        yield from _namespaces(settings, tasks)


def examine_upgrade(settings: Settings) -> Iterator[ProbeResult]:
    """Check what a server of this version would refuse of the tasks that are served now, and of their files and secrets."""
    tasks = {task.id: task for task in _served_tasks(settings) or ()}
    if settings.tasks.is_dir():
        compilation = compile_tree(DirectoryTree(settings.tasks))
        tasks |= compilation.registry.tasks
        for path in sorted(compilation.broken):
            command = f"optio check {settings.tasks}"
            hint = f"mend it before you upgrade: `{command}` says what is wrong"
            yield ProbeResult("tasks", "error", f"this version refuses {settings.tasks / path}", hint, command)
    elif not tasks:
        hint = "name the directory with --tasks, or the database with OPTIO_DATABASE_URL or --data-dir"
        detail = "there are no tasks to check, neither files nor served ones"
        yield ProbeResult("tasks", "warning", detail, hint)
    if tasks:
        yield ProbeResult("tasks", "ok", f"{pluralize(len(tasks), 'task')} examined")
    yield from examine_secrets(settings, list(tasks.values()))
    yield from _prices(list(tasks.values()), datetime.now(UTC).date())


def _plugins() -> Iterator[ProbeResult]:
    for name in plugins.names():
        if name in DECLARED:
            hint = "rename the entry point of that package, or uninstall it"
            yield ProbeResult(name, "warning", f"the plug-in `{name}` is not used: Optio brings `{name}`", hint)
            continue
        try:
            plugins.load(name)
        except plugins.BrokenPlugin as err:
            hint = "install another version of it, or uninstall it"
            yield ProbeResult(name, "warning", str(err), hint)


def _prices(tasks: Sequence[CompiledTask], today: date) -> Iterator[ProbeResult]:
    """Check that the prices of the tasks' models are known and new, for tasks whose cost Optio computes."""
    models = set()
    for task in tasks:
        agent = declaration_of(task.spec.agent_runtime)
        if agent is not None and not agent.capabilities.tells_cost and task.spec.model is not None:
            models.add(task.spec.model)
    old = []
    for model in sorted(models):
        price = prices.find(model)
        if price is not None and (days := (today - price.as_of).days) > _OLD_PRICE_DAYS:
            old.append(f"{model} is of {price.as_of} ({days} days ago)")
    listed_prices = prices.price_list().values()
    unpriced = ", ".join(task.id for task in tasks if money.why_unpriced(task.spec) is not None)
    if unpriced:
        hint = "give the price of their models with OPTIO_PRICES, or write `budget: report`"
        yield ProbeResult("prices", "warning", f"no run starts, since their cost is unknown: {unpriced}", hint)
    elif old:
        hint = "compare it with the maker's list, and give the price of today with OPTIO_PRICES"
        yield ProbeResult("prices", "warning", f"the price of {', '.join(old)}", hint)
    else:
        dates = sorted(price.as_of for price in listed_prices)
        yield ProbeResult("prices", "ok", f"{len(dates)} models, of {dates[0]} to {dates[-1]}")


def _is_server(settings: Settings) -> bool:
    """Return whether a server runs here, which reads task files; workers and schedulers take tasks from the database."""
    if settings.url is not None:
        return False
    try:
        client.Client(settings).request("GET", "/api/registry")
    except client.ServerRefused as err:
        return err.status != 0
    except (SettingsError, ValueError):
        return False
    return True


def _served_tasks(settings: Settings) -> list[CompiledTask] | None:
    """Return the tasks of the newest generation in the database; None if there is none or the database cannot be read."""
    return read_store(settings, _newest_tasks)


def _newest_tasks(store: Store) -> list[CompiledTask] | None:
    generation = store.generation()
    return None if generation is None else [store.definition(digest) for digest in generation.tasks.values()]


def _namespaces(settings: Settings, tasks: Sequence[CompiledTask]) -> Iterator[ProbeResult]:
    """Check that each namespace of a task has a worker, if the database can be read."""
    served_namespaces = read_store(settings, lambda store: store.served_namespaces())
    if served_namespaces is None:
        return
    namespaces = sorted({task.namespace or "" for task in tasks})
    unserved_namespaces = [namespace for namespace in namespaces if not is_served(namespace, served_namespaces)]
    for namespace in unserved_namespaces:
        fact, cure = unserved(namespace)
        ids = ", ".join(task.id for task in tasks if (task.namespace or "") == namespace)
        yield ProbeResult("namespace", "error", f"{fact}, and runs of {ids} wait", cure)
    if not unserved_namespaces:
        names = ", ".join(namespace or "that of tasks without one" for namespace in namespaces)
        yield ProbeResult("namespace", "ok", f"each has a worker: {names}")
