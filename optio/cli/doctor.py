"""Check this installation: libraries, database, settings, task files, secrets, agent CLIs, the server and its port. The checks
themselves are in `cli/shared/examine_*`."""

import argparse
from collections.abc import Callable, Iterator

from optio.cli import FAILED, OK
from optio.cli.shared import (
    client,
    examine_gateway,
    examine_machine,
    examine_services,
    examine_tasks,
    flags,
    output,
    render_probe,
    terminal,
)
from optio.errors import SettingsError
from optio.model.probe_result import ProbeResult
from optio.settings import Settings
from optio.version import __version__


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
    examinations = UPGRADE_CHECKS if args.upgrade else (*CHECKS, *([examine_services.examine_cluster] if args.cluster else []))
    with terminal.progress("examining this installation"):
        checks = [check for examine in examinations for check in examine(settings)]
    settings_rows = settings.shown()
    if output.is_document(args):
        keys = ("name", "value", "origin", "help")
        report = {
            "version": __version__,
            "checks": render_probe.as_json(checks),
            "settings": [dict(zip(keys, row, strict=True)) for row in settings_rows],
        }
        print(output.document(args.output, report))
    else:
        print(f"optio {__version__}\n")
        for line in render_probe.lines(checks) if args.verbose else render_probe.groups(checks):
            print(line)
        print("\n" + output.table(["SETTING", output.Column("VALUE", free=True), "FROM"], [row[:3] for row in settings_rows]))
    return FAILED if any(check.status == "error" for check in checks) else OK


CHECKS: tuple[Callable[[Settings], Iterator[ProbeResult]], ...] = (
    examine_machine.examine_python,
    examine_machine.examine_libraries,
    examine_machine.examine_environment,
    examine_machine.examine_telemetry,
    examine_machine.examine_inotify,
    examine_machine.examine_data_dir,
    examine_machine.examine_private_files,
    examine_services.examine_database,
    examine_services.examine_broker,
    examine_services.examine_identity,
    examine_tasks.examine_tasks,
    examine_services.examine_server,
    examine_gateway.examine_gateway,
    examine_services.examine_processes,
)
UPGRADE_CHECKS = (
    examine_machine.examine_environment,
    examine_services.examine_database,
    examine_tasks.examine_upgrade,
    examine_services.examine_processes,
)
