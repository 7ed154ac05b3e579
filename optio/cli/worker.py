"""Execute runs. Any number of workers may share one data directory."""

import argparse

from optio.cli.shared import flags
from optio.cli.shared.run_until_signal import until_stopped
from optio.processes.worker import Worker


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags."""
    flags.add(parser, "data_dir", "max_workflow_concurrent", "secrets_dir", "lease")


def run(args: argparse.Namespace) -> int:
    """Work until SIGTERM."""
    return until_stopped(flags.settings(args), "worker", Worker)
