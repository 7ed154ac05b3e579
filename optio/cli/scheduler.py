"""Fire schedules. Any number of schedulers may share one data directory; each slot fires once."""

import argparse

from optio.cli import flags
from optio.cli.waiting import until_stopped
from optio.scheduler import Scheduler


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags."""
    flags.add(parser, "data_dir")


def run(args: argparse.Namespace) -> int:
    """Fire until SIGTERM."""
    return until_stopped(flags.settings(args), Scheduler)
