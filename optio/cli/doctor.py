"""Check this installation: libraries, database, settings, task files, secrets, agent CLIs, the server and its port."""

import argparse
import os
import platform
import re
import shlex
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime
from importlib import import_module
from pathlib import Path

from optio import plugins, private_files, wiring
from optio.cli import FAILED, OK
from optio.cli.shared import client, dev_token, flags, output, render_probe, terminal
from optio.compiler.pipeline import compile_tree
from optio.compiler.source_tree import MAX_FILE_BYTES, DirectoryTree
from optio.errors import LaunchFailed, NotFound, SecretUnavailable, SettingsError, StoreMismatch, StoreUnavailable
from optio.executors.base import Executor
from optio.executors.program_facts import told_version
from optio.model import isolation, money, prices, untrusted
from optio.model.fleet import ProcessKind, find_problems
from optio.model.namespace import is_served, unserved
from optio.model.probe_result import ProbeResult as Check
from optio.model.probe_result import ProbeStatus
from optio.model.registry import CompiledTask
from optio.model.runtimes import DECLARED, declaration_of, known_names
from optio.plan.words import pluralize
from optio.runs.signature import unusable_secrets
from optio.secrets.base import secret_names
from optio.secrets.local import LocalSecrets
from optio.settings import Settings, unknown_variables
from optio.store.base import Store
from optio.telemetry.base import are_traces_enabled
from optio.version import __version__, how_to_install

# Servers named in a hint.
_MAX_NAMED = 3
# The name that the program of secrets is asked for where no task names any.
_UNUSED_NAME = "OPTIO_DOCTOR"
# Prices change a few times a year.
_OLD_PRICE_DAYS = 180
_MIN_WATCHES, _MIN_INSTANCES = 8192, 64


def add_arguments(parser: argparse.ArgumentParser) -> None:
    output.add_arguments(parser, (output.TABLE, output.JSON, output.YAML))
    parser.add_argument(
        "--cluster", action="store_true", help="check the cluster too: permissions, pod security, network policies"
    )
    parser.add_argument(
        "--upgrade", action="store_true", help="check only what this version would refuse of the database, files and secrets"
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="a line for everything that was examined")
    flags.add_setting_flags(parser, "tasks", "data_dir", "secrets_dir", "host", "port")
    client.add_arguments(parser)
    terminal.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Run the checks. Returns 1 if one of them found an error, which would keep Optio from working, else 0."""
    settings = flags.read_settings(args)
    if args.upgrade and args.cluster:
        raise SettingsError("--upgrade checks no cluster: leave out --cluster")
    looks = UPGRADE_CHECKS if args.upgrade else (*CHECKS, *([_thorough_cluster] if args.cluster else []))
    with terminal.progress("examining this installation"):
        checks = [check for look in looks for check in look(settings)]
    settings_rows = settings.shown()
    if output.is_document(args):
        keys = ("name", "value", "origin", "help")
        found = {
            "version": __version__,
            "checks": render_probe.as_json(checks),
            "settings": [dict(zip(keys, row, strict=True)) for row in settings_rows],
        }
        print(output.document(args.output, found))
    else:
        print(f"optio {__version__}\n")
        for line in render_probe.lines(checks) if args.verbose else render_probe.groups(checks):
            print(line)
        print("\n" + output.table(["SETTING", output.Column("VALUE", free=True), "FROM"], [row[:3] for row in settings_rows]))
    return FAILED if any(check.status == "error" for check in checks) else OK


def _python(settings: Settings) -> Iterator[Check]:
    version = platform.python_version()
    good = sys.version_info >= (3, 11)
    yield Check(
        name="python",
        status="ok" if good else "error",
        detail=f"{version}, {sys.executable}",
        hint=None if good else "Optio needs Python 3.11 or newer",
    )


def _libraries(settings: Settings) -> Iterator[Check]:
    try:
        import_module("optio.compiler.yaml.document")
        yield Check(name="yaml", status="ok", detail="PyYAML with libyaml")
    except ImportError as err:
        hint = "install a PyYAML wheel: it holds libyaml"
        yield Check(name="yaml", status="error", detail=f"PyYAML cannot be used: {err}", hint=hint)
    try:
        import_module("optio.cli.shared.serving")
        import_module("optio.tree.reload")
        yield Check(name="libraries", status="ok", detail="the libraries of `optio dev` and `optio server` are installed")
    except ModuleNotFoundError as err:
        if err.name is None or err.name.startswith("optio"):
            raise
        hint = how_to_install("server")
        yield Check(name="libraries", status="warning", detail=f"`{err.name}` is not installed", hint=hint)


def _environment(settings: Settings) -> Iterator[Check]:
    for name, meant in unknown_variables(os.environ):
        hint = f"did you mean {meant}?" if meant else "unset it"
        command = f'export {meant}="${name}"; unset {name}' if meant else f"unset {name}"
        detail = f"unknown setting {name} is ignored"
        yield Check(name="settings", status="warning", detail=detail, hint=hint, command=command)
    if settings.max_body_bytes < MAX_FILE_BYTES:
        limit = f"{settings.max_body_bytes:,} bytes"
        detail = f"deliveries of more than {limit} are refused, though `optio test` passes samples up to 1 MiB"
        hint = "raise OPTIO_MAX_BODY_BYTES, or make sure that no sender sends more"
        yield Check(name="settings", status="warning", detail=detail, hint=hint)


def _telemetry(settings: Settings) -> Iterator[Check]:
    if settings.metrics_port:
        yield _extra("metrics", "optio.telemetry.metrics", f"/metrics on {settings.metrics_host}:{settings.metrics_port}")
    try:
        if are_traces_enabled(os.environ):
            yield _extra("tracing", "optio.telemetry.tracing", "traces are sent to OTEL_EXPORTER_OTLP_ENDPOINT")
    except ValueError as err:
        hint = "export OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf"
        yield Check(name="tracing", status="warning", detail=str(err), hint=hint)


def _extra(name: str, module: str, works: str) -> Check:
    try:
        import_module(module)
    except ImportError as err:
        detail = f"enabled, but cannot be loaded: {err}"
        return Check(name=name, status="warning", detail=detail, hint=how_to_install(name))
    return Check(name=name, status="ok", detail=works)


def _data_dir(settings: Settings) -> Iterator[Check]:
    directory = settings.data_dir.absolute()
    existing = next(path for path in (directory, *directory.parents) if path.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        yield Check(
            name="data",
            status="error",
            detail=f"{directory} cannot be written",
            hint="give a writable directory with --data-dir or OPTIO_DATA_DIR",
            command='export OPTIO_DATA_DIR="$HOME/.local/share/optio"',
        )
        return
    yield Check(name="data", status="ok", detail=f"{directory}, {'writable' if directory.exists() else 'not created yet'}")


def _private_files(settings: Settings) -> Iterator[Check]:
    """Check that only this user can read files with secrets, or with prompts and output of runs."""
    files = [dev_token.token_file(settings)]
    if settings.database is not None:
        files += [Path(f"{settings.database}{end}") for end in ("", "-wal", "-shm")]
    with suppress(OSError):
        files += sorted(path for path in settings.secrets.iterdir() if path.is_file())
    files += [Path(os.environ[origin]) for origin in settings.origins.values() if origin.endswith("_FILE")]
    exposed = False
    for mode, paths in ((700, [settings.data_dir, settings.secrets]), (600, files)):
        for path in paths:
            who = private_files.readers(path)
            if who is not None:
                exposed = True
                cure = f"chmod {mode} {shlex.quote(str(path))}"
                yield Check(name="private", status="warning", detail=f"{who} can read {path}", hint=cure)
    if not exposed:
        yield Check(name="private", status="ok", detail="no other user can read the data directory, database or secrets")


def _database(settings: Settings) -> Iterator[Check]:
    yield from _run_probe("database", wiring.examine_store(settings))


def _redis(settings: Settings) -> Iterator[Check]:
    yield from _run_probe("redis", wiring.examine_broker(settings))


def _identity(settings: Settings) -> Iterator[Check]:
    """Check that people can sign in by their provider, if one is set."""
    try:
        provider = wiring.identity(settings)
    except SettingsError as err:
        yield Check(name="sign-in", status="error", detail=str(err))
        return
    yield from [] if provider is None else provider.examine()


def _thorough_cluster(settings: Settings) -> Iterator[Check]:
    if settings.executor != "kubernetes":
        detail = f"OPTIO_EXECUTOR is {settings.executor}, so runs are not pods"
        yield Check(name="cluster", status="warning", detail=detail, hint="export OPTIO_EXECUTOR=kubernetes")
    yield from _run_probe("cluster", wiring.examine_cluster(settings))


def _run_probe(name: str, look: Iterator[Check]) -> Iterator[Check]:
    try:
        yield from look
    except SettingsError as err:
        yield Check(name, "error", str(err))


def _tasks(settings: Settings) -> Iterator[Check]:
    if not settings.tasks.is_dir():
        is_server = _is_server(settings)
        served = None if is_server else _served_tasks(settings)
        tasks = served or []
        has_parts = settings.database is None  # processes on separate machines, of which only the server's has the files
        if tasks or (has_parts and served is not None):
            detail = f"{len(tasks)} are served from the database; no directory `{settings.tasks}`, which only a server needs"
            yield Check(name="tasks", status="ok", detail=detail)
        elif has_parts and not is_server:
            detail = (
                "the database has no tasks yet: they come from a server with a directory of task files, which a "
                "worker or scheduler does not need"
            )
            yield Check(name="tasks", status="warning", detail=detail, hint="start `optio server` where the task files are")
        else:
            detail, hint = f"no directory `{settings.tasks}`", "create it with `optio init`, or name another with --tasks"
            yield Check(name="tasks", status="warning", detail=detail, hint=hint)
    else:
        compilation = compile_tree(DirectoryTree(settings.tasks))
        tasks = list(compilation.registry.tasks.values())
        if compilation.broken:
            detail = f"{settings.tasks}: {len(tasks)} can be served, {len(compilation.broken)} files have errors"
            yield Check(name="tasks", status="error", detail=detail, hint=f"`optio check {settings.tasks}` lists them")
        else:
            yield Check(name="tasks", status="ok", detail=f"{settings.tasks}: {pluralize(len(tasks), 'task')}, no errors")
    yield from _secrets(settings, tasks)
    yield from _agents(settings, tasks)
    yield from _plugins()
    yield from _prices(tasks, datetime.now(UTC).date())
    if settings.executor == "kubernetes" and any(task.namespace for task in tasks):
        yield from _namespaces(settings, tasks)


def _upgrade(settings: Settings) -> Iterator[Check]:
    """Check what a server of this version would refuse of the tasks that are served now, and of their files and secrets."""
    tasks = {task.id: task for task in _served_tasks(settings) or ()}
    if settings.tasks.is_dir():
        compilation = compile_tree(DirectoryTree(settings.tasks))
        tasks |= compilation.registry.tasks
        for path in sorted(compilation.broken):
            hint = f"mend it before you upgrade: `optio check {settings.tasks}` says what is wrong"
            yield Check(name="tasks", status="error", detail=f"this version refuses {settings.tasks / path}", hint=hint)
    elif not tasks:
        hint = "name the directory with --tasks, or the database with OPTIO_DATABASE_URL or --data-dir"
        detail = "there are no tasks to check, neither files nor served ones"
        yield Check(name="tasks", status="warning", detail=detail, hint=hint)
    if tasks:
        yield Check(name="tasks", status="ok", detail=f"{pluralize(len(tasks), 'task')} examined")
    yield from _secrets(settings, list(tasks.values()))
    yield from _prices(list(tasks.values()), datetime.now(UTC).date())


def _plugins() -> Iterator[Check]:
    for name in plugins.names():
        if name in DECLARED:
            hint = "rename the entry point of that package, or uninstall it"
            yield Check(
                name=name, status="warning", detail=f"the plug-in `{name}` is not used: Optio brings `{name}`", hint=hint
            )
            continue
        try:
            plugins.load(name)
        except plugins.BrokenPlugin as err:
            hint = "install another version of it, or uninstall it"
            yield Check(name=name, status="warning", detail=str(err), hint=hint)


def _prices(tasks: Sequence[CompiledTask], today: date) -> Iterator[Check]:
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
    known = prices.price_list().values()
    refused = ", ".join(task.id for task in tasks if money.why_unpriced(task.spec) is not None)
    if refused:
        hint = "give the price of their models with OPTIO_PRICES, or write `budget: report`"
        yield Check(name="prices", status="warning", detail=f"no run starts, since their cost is unknown: {refused}", hint=hint)
    elif old:
        hint = "compare it with the maker's list, and give the price of today with OPTIO_PRICES"
        yield Check(name="prices", status="warning", detail=f"the price of {', '.join(old)}", hint=hint)
    else:
        first, last = min(each.as_of for each in known), max(each.as_of for each in known)
        yield Check(name="prices", status="ok", detail=f"{len(known)} models, of {first} to {last}")


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


def _open(settings: Settings) -> Store | None:
    """Open the database without creating or migrating it; None if it cannot be read."""
    if settings.database is not None and not settings.database.exists():
        return None
    try:
        return wiring.open_store(settings, migrated=False)
    except (SettingsError, StoreUnavailable, StoreMismatch):
        return None


def _served_tasks(settings: Settings) -> list[CompiledTask] | None:
    """Return the tasks of the newest generation in the database; None if there is none or the database cannot be read."""
    store = _open(settings)
    if store is None:
        return None
    try:
        generation = store.generation()
        return None if generation is None else [store.definition(digest) for digest in generation.tasks.values()]
    except (StoreUnavailable, StoreMismatch, NotFound):
        return None
    finally:
        store.close()


def _namespaces(settings: Settings, tasks: Sequence[CompiledTask]) -> Iterator[Check]:
    """Check that each namespace of a task has a worker, if the database can be read."""
    store = _open(settings)
    if store is None:
        return
    try:
        served = store.served_namespaces()
    except (StoreUnavailable, StoreMismatch):
        return
    finally:
        store.close()
    found = sorted({task.namespace or "" for task in tasks})
    lacking = [namespace for namespace in found if not is_served(namespace, served)]
    for namespace in lacking:
        fact, cure = unserved(namespace)
        ids = ", ".join(task.id for task in tasks if (task.namespace or "") == namespace)
        yield Check(name="namespace", status="error", detail=f"{fact}, and runs of {ids} wait", hint=cure)
    if not lacking:
        shown = ", ".join(namespace or "that of tasks without one" for namespace in found)
        yield Check(name="namespace", status="ok", detail=f"each has a worker: {shown}")


def _isolation(places: Executor, tasks: Sequence[CompiledTask]) -> Iterator[Check]:
    """Check for isolation that tasks request or the policy demands, and that the executor does not apply."""
    pods = ("set OPTIO_EXECUTOR=kubernetes to run agents as pods", "export OPTIO_EXECUTOR=kubernetes")
    sandbox = ("choose a sandbox that isolates", "export OPTIO_SANDBOX=namespaces")
    users: dict[tuple[bool, bool, str], list[str]] = {}
    for task in tasks:
        for name in isolation.requested_isolation(task):
            for text in places.not_applied((name,)):
                users.setdefault((name in task.isolation, name == isolation.ISOLATED, text), []).append(task.id)
    for (demanded, isolates, text), names in sorted(users.items()):
        detail = f"{text}, which the policy demands: runs of" if demanded else f"{text} of"
        status: ProbeStatus = "error" if demanded else "warning"
        suffix = " are refused" if demanded else ""
        detail = f"{detail} {', '.join(names)}{suffix}"
        cure, command = sandbox if isolates else pods
        yield Check(name="isolation", status=status, detail=detail, hint=cure, command=command)


def _secrets(settings: Settings, tasks: Sequence[CompiledTask]) -> Iterator[Check]:
    users: dict[str, list[str]] = {}
    for task in tasks:
        for name in secret_names(task, settings.credentials):
            users.setdefault(name, []).append(task.id)
    try:
        secrets = wiring.secrets(settings)
    except SettingsError as err:
        yield Check(name="secret", status="error", detail=str(err))
        return
    try:
        yield from _secret_command(settings, secrets, list(users))
    except SecretUnavailable as err:
        hint = "run OPTIO_SECRET_COMMAND with the name of a secret as its last argument, or look at OPTIO_SECRETS_DIR"
        yield Check(name="secret", status="error", detail=str(err), hint=hint)
        return
    for name, ids in sorted(users.items()):
        if secrets.get(name) is None:
            detail = f"{name} has no value, but is used by {', '.join(ids)}"
            file = shlex.quote(str(settings.secrets / name))
            command = f"mkdir -p {shlex.quote(str(settings.secrets))} && printf %s 'THE VALUE' > {file} && chmod 600 {file}"
            yield Check(name="secret", status="warning", detail=detail, hint=secrets.where(name), command=command)
    for task_id, path, name, fault in unusable_secrets(tasks, secrets.get):
        detail = f"{name} cannot verify the webhook {path} of {task_id}: {fault}"
        hint = "give it a long random value, such as of `openssl rand -hex 32`, and give the sender the same one"
        yield Check(name="secret", status="error", detail=detail, hint=hint)
    given = sum(secrets.get(name) is not None for name in users)
    if given:
        yield Check(name="secret", status="ok", detail=f"{given} of {len(users)} named secrets have a value")


def _secret_command(settings: Settings, secrets: LocalSecrets, names: Sequence[str]) -> Iterator[Check]:
    """Check that the program that reads secrets gives an answer for each name that tasks use, or for a name that nobody uses.
    Raises SecretUnavailable, also if the directory of secrets is away."""
    asked = [name for name in names if not secrets.is_at_hand(name)]
    for name in set(names) - set(asked):
        secrets.get(name)
    began = time.monotonic()
    found = [secrets.get(name) for name in asked or ([_UNUSED_NAME] if settings.secret_command is not None else [])]
    if found:
        words = (
            f"{sum(value is not None for value in found)} of {len(asked)} values" if asked else "no secret is asked of it now"
        )
        detail = f"OPTIO_SECRET_COMMAND answers: {words}, {time.monotonic() - began:.1f} s"
        yield Check(name="secret", status="ok", detail=detail)


def _agents(settings: Settings, tasks: Sequence[CompiledTask]) -> Iterator[Check]:
    try:
        places = wiring.executor(settings)
    except SettingsError as err:
        yield Check(name="executor", status="error", detail=str(err))
        return
    try:
        yield from _isolation(places, tasks)
        if settings.executor == "kubernetes":
            yield _cluster(settings, places)
            return  # the agents' programs are in their images
        yield from places.examine()
        yield from _untrusted_input(tasks)
        for name in known_names():
            agent = declaration_of(name)
            if agent is None or agent.program is None:
                continue
            needed = any(task.spec.agent_runtime == name for task in tasks)
            try:
                program = places.program(name)
            except LaunchFailed as err:
                fact, _, cure = str(err).partition(": ")
                if needed:
                    yield Check(name=name, status="error", detail=fact, hint=cure or None)
                continue
            version = told_version(program)
            if version is None:
                detail, hint = f"{program} does not answer to --version", "install it again"
                yield Check(name=name, status="error" if needed else "warning", detail=detail, hint=hint)
            elif needed and _is_older(version, agent.program.tested):
                detail = f"{version}, {program}, is older than {agent.program.tested}, which Optio is tested with"
                hint = f"update it with `{agent.program.install}`; with an old Node.js, npm takes an old version"
                yield Check(name=name, status="warning", detail=detail, hint=hint)
            else:
                yield Check(name=name, status="ok", detail=f"{version}, {program}")
    finally:
        places.close()


def _untrusted_input(tasks: Sequence[CompiledTask]) -> Iterator[Check]:
    """Check for tasks with secrets whose prompt contains text by outsiders: a sandbox cannot stop an agent from giving them
    away."""
    exposed = [
        task.id for task in tasks if task.spec.environment.secrets and untrusted.untrusted_params(task.spec, task.prompt)
    ]
    if exposed:
        some = ", ".join(exposed[:5]) + (f" and {len(exposed) - 5} more" if len(exposed) > 5 else "")
        detail = f"text by outsiders reaches the prompt of tasks with secrets: {some}"
        hint = "remove secrets that these tasks can do without, and list their hosts in `environment.network.egress`"
        yield Check(name="secret", status="warning", detail=detail, hint=hint)


def _cluster(settings: Settings, places: Executor) -> Check:
    try:
        places.place()
    except (SettingsError, StoreUnavailable) as err:
        return Check(name="cluster", status="error", detail=str(err))
    image = settings.kube_image or "only those that tasks name (OPTIO_KUBE_IMAGE is not set)"
    return Check(name="cluster", status="ok", detail=f"pods in the namespace {settings.pod_namespace}, image {image}")


def _is_older(told: str, tested: str) -> bool:
    """Return whether a program tells a version below the tested one; False if it tells none."""
    found = [re.search(r"\d+(?:\.\d+)+", text) for text in (told, tested)]
    numbers = [[int(part) for part in each[0].split(".")] for each in found if each is not None]
    return len(numbers) == 2 and numbers[0] < numbers[1]


def _server(settings: Settings) -> Iterator[Check]:
    try:
        answer = client.Client(settings).request("GET", "/api/registry")
        detail = f"optio {answer['version']} answers at {settings.server_url}, generation {answer['generation']}"
        yield Check(name="server", status="ok", detail=detail)
        removal = answer.get("removal")
        if removal is not None:
            gone = f"the files of {removal['count']} of {removal['total']} tasks were deleted, the tasks are held"
            cure = f"restore the files, or run `{removal['release']}` to remove the tasks"
            yield Check(name="tasks", status="warning", detail=f"{gone} since {removal['since']}", hint=cure)
        drift = answer.get("drift")
        if drift is not None:
            tasks = "1 task differs" if drift["count"] == 1 else f"{drift['count']} tasks differ"
            detail = f"{tasks} between its task directory and generation {drift['generation']}, which all servers serve"
            where = f" of {', '.join(drift['inSync'][:_MAX_NAMED])}" if drift["inSync"] else ""
            yield Check(name="tasks", status="warning", detail=detail, hint=f"copy the files{where} to it")
        return
    except SettingsError as err:
        yield Check(name="server", status="error", detail=str(err))
        return
    except client.ServerRefused as err:
        if err.status != 0:
            hint = "give a token with --token or OPTIO_TOKEN, or log in" if err.status in (401, 403) else None
            detail = f"{settings.server_url} answers {err.status}: {err}"
            command = f"optio login {settings.server_url}" if hint else None
            yield Check(name="server", status="warning" if hint else "error", detail=detail, hint=hint, command=command)
            return
    except (ValueError, KeyError, TypeError):
        detail = f"something that is not Optio answers at {settings.server_url}"
        hint = "choose another port with --port or OPTIO_PORT"
        yield Check(name="server", status="error", detail=detail, hint=hint, command=f"export OPTIO_PORT={_free_port()}")
        return
    if settings.url is not None:
        where = settings.origins["url"]
        unset = "unset OPTIO_URL" if where == "OPTIO_URL" else "use `--context local`"
        detail = f"no server answers at {settings.server_url} ({where})"
        yield Check(name="server", status="error", detail=detail, hint=f"start it, or {unset}", command="optio dev")
        return
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((settings.host, settings.port))
        except OSError as err:
            detail = f"{settings.host}:{settings.port} cannot be used to listen: {err.strerror}"
            hint = "choose another with --port or OPTIO_PORT"
            yield Check(name="server", status="error", detail=detail, hint=hint, command=f"export OPTIO_PORT={_free_port()}")
            return
    yield Check(name="server", status="ok", detail=f"not running; {settings.host}:{settings.port} is free for `optio dev`")


def _processes(settings: Settings) -> Iterator[Check]:
    """Check that the processes of the installation live, if its database can be read here."""
    store = None if settings.url is not None else _open(settings)
    if store is None:
        return
    try:
        fleet = store.fleet()
    except (StoreUnavailable, StoreMismatch):
        return
    finally:
        store.close()
    problems = find_problems(fleet)
    for problem in problems:
        yield Check(name="processes", status="warning", detail=problem.detail, hint=problem.cure)
    if not problems:
        counts = ", ".join(pluralize(len(fleet.live(kind)), str(kind)) for kind in ProcessKind)
        yield Check(name="processes", status="ok", detail=f"live: {counts}")


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def _inotify(settings: Settings) -> Iterator[Check]:
    limits = {}
    for name in ("max_user_watches", "max_user_instances"):
        try:
            limits[name] = int(Path(f"/proc/sys/fs/inotify/{name}").read_text())
        except (OSError, ValueError):
            hint = "hot reload works by a scan every few seconds"
            yield Check(name="inotify", status="warning", detail="the limits of file watching cannot be read", hint=hint)
            return
    detail = f"{limits['max_user_watches']:,} watches, {limits['max_user_instances']:,} instances"
    few = limits["max_user_watches"] < _MIN_WATCHES or limits["max_user_instances"] < _MIN_INSTANCES
    hint = f"sysctl -w fs.inotify.max_user_watches={_MIN_WATCHES * 8} fs.inotify.max_user_instances={_MIN_INSTANCES * 8}"
    yield Check(name="inotify", status="warning" if few else "ok", detail=detail, hint=hint if few else None)


CHECKS: tuple[Callable[[Settings], Iterator[Check]], ...] = (
    _python,
    _libraries,
    _environment,
    _telemetry,
    _inotify,
    _data_dir,
    _private_files,
    _database,
    _redis,
    _identity,
    _tasks,
    _server,
    _processes,
)
UPGRADE_CHECKS = (_environment, _database, _upgrade, _processes)
