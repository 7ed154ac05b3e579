"""Fire schedules, and delete old runs. Any number of schedulers may share one database; each slot fires once."""

import argparse

from optio.cli.shared import flags
from optio.cli.shared.run_until_signal import run_until_signal
from optio.processes.retention import Retention
from optio.processes.scheduler import Scheduler


def add_arguments(parser: argparse.ArgumentParser) -> None:
    flags.add_setting_flags(parser, "data_dir")


def run(args: argparse.Namespace) -> int:
    """Run the scheduler until SIGTERM. Returns 0."""
    return run_until_signal(flags.read_settings(args), "scheduler", Scheduler, Retention)
