"""The checks of `optio doctor` about this machine and its settings: libraries, variables, directories, file watching."""

import os
import platform
import shlex
import sys
from collections.abc import Iterator
from contextlib import suppress
from importlib import import_module
from pathlib import Path

from optio import private_files
from optio.cli.shared import dev_token
from optio.compiler.source_tree import MAX_FILE_BYTES
from optio.model.probe_result import ProbeResult
from optio.settings import Settings, unknown_variables
from optio.telemetry.base import are_traces_enabled
from optio.version import how_to_install, install_command

_MIN_WATCHES, _MIN_INSTANCES = 8192, 64


def examine_python(settings: Settings) -> Iterator[ProbeResult]:
    """Check the version of Python."""
    version = platform.python_version()
    good = sys.version_info >= (3, 11)
    yield ProbeResult(
        "python",
        "ok" if good else "error",
        f"{version}, {sys.executable}",
        None if good else "Optio needs Python 3.11 or newer",
    )


def examine_libraries(settings: Settings) -> Iterator[ProbeResult]:
    """Check that the libraries of the commands can be loaded."""
    try:
        import_module("optio.compiler.yaml.document")
        yield ProbeResult("yaml", "ok", "PyYAML with libyaml")
    except ImportError as err:
        hint = "install a PyYAML wheel: it holds libyaml"
        yield ProbeResult("yaml", "error", f"PyYAML cannot be used: {err}", hint)
    try:
        import_module("optio.cli.shared.serving")
        import_module("optio.tree.reload")
        yield ProbeResult("libraries", "ok", "the libraries of `optio dev` and `optio server` are installed")
    except ModuleNotFoundError as err:
        if err.name is None or err.name.startswith("optio"):
            raise
        detail = f"`{err.name}` is not installed"
        yield ProbeResult("libraries", "warning", detail, how_to_install("server"), install_command("server"))


def examine_environment(settings: Settings) -> Iterator[ProbeResult]:
    """Check for variables that are no settings, and for settings that do not go together."""
    for name, suggestion in unknown_variables(os.environ):
        hint = f"did you mean {suggestion}?" if suggestion else "unset it"
        command = f'export {suggestion}="${name}"; unset {name}' if suggestion else f"unset {name}"
        detail = f"unknown setting {name} is ignored"
        yield ProbeResult("settings", "warning", detail, hint, command=command)
    if settings.max_body_bytes < MAX_FILE_BYTES:
        limit = f"{settings.max_body_bytes:,} bytes"
        detail = f"deliveries of more than {limit} are refused, though `optio test` passes samples up to 1 MiB"
        hint = "raise OPTIO_MAX_BODY_BYTES, or make sure that no sender sends more"
        yield ProbeResult("settings", "warning", detail, hint)


def examine_telemetry(settings: Settings) -> Iterator[ProbeResult]:
    """Check that metrics and traces can be loaded where they are enabled."""
    if settings.metrics_port:
        yield _extra("metrics", "optio.telemetry.metrics", f"/metrics on {settings.metrics_host}:{settings.metrics_port}")
    try:
        if are_traces_enabled(os.environ):
            yield _extra("tracing", "optio.telemetry.tracing", "traces are sent to OTEL_EXPORTER_OTLP_ENDPOINT")
    except ValueError as err:
        command = "export OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf"
        yield ProbeResult("tracing", "warning", str(err), "choose the protocol that Optio has", command)


def _extra(name: str, module: str, works: str) -> ProbeResult:
    try:
        import_module(module)
    except ImportError as err:
        detail = f"enabled, but cannot be loaded: {err}"
        return ProbeResult(name, "warning", detail, how_to_install(name), install_command(name))
    return ProbeResult(name, "ok", works)


def examine_data_dir(settings: Settings) -> Iterator[ProbeResult]:
    """Check that the data directory can be written."""
    directory = settings.data_dir.absolute()
    existing = next(path for path in (directory, *directory.parents) if path.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        yield ProbeResult(
            "data",
            "error",
            f"{directory} cannot be written",
            "give a writable directory with --data-dir or OPTIO_DATA_DIR",
            command='export OPTIO_DATA_DIR="$HOME/.local/share/optio"',
        )
        return
    yield ProbeResult("data", "ok", f"{directory}, {'writable' if directory.exists() else 'not created yet'}")


def examine_private_files(settings: Settings) -> Iterator[ProbeResult]:
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
            readers = private_files.readers(path)
            if readers is not None:
                exposed = True
                cure = f"chmod {mode} {shlex.quote(str(path))}"
                yield ProbeResult("private", "warning", f"{readers} can read {path}", cure)
    if not exposed:
        yield ProbeResult("private", "ok", "no other user can read the data directory, database or secrets")


def examine_inotify(settings: Settings) -> Iterator[ProbeResult]:
    """Check the limits of file watching."""
    limits = {}
    for name in ("max_user_watches", "max_user_instances"):
        try:
            limits[name] = int(Path(f"/proc/sys/fs/inotify/{name}").read_text())
        except (OSError, ValueError):
            hint = "hot reload works by a scan every few seconds"
            yield ProbeResult("inotify", "warning", "the limits of file watching cannot be read", hint)
            return
    detail = f"{limits['max_user_watches']:,} watches, {limits['max_user_instances']:,} instances"
    few = limits["max_user_watches"] < _MIN_WATCHES or limits["max_user_instances"] < _MIN_INSTANCES
    command = f"sysctl -w fs.inotify.max_user_watches={_MIN_WATCHES * 8} fs.inotify.max_user_instances={_MIN_INSTANCES * 8}"
    if few:
        yield ProbeResult("inotify", "warning", detail, "raise the limits of this machine", command)
    else:
        yield ProbeResult("inotify", "ok", detail)
