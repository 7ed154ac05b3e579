"""Execute runs. Any number of workers may share one database."""

import argparse

from optio.cli.shared import flags
from optio.cli.shared.run_until_signal import run_until_signal
from optio.processes.worker import Worker


def add_arguments(parser: argparse.ArgumentParser) -> None:
    flags.add_setting_flags(parser, "data_dir", "max_workflow_concurrent", "secrets_dir", "lease")


def run(args: argparse.Namespace) -> int:
    """Execute runs until SIGTERM. Returns 0."""
    return run_until_signal(flags.read_settings(args), "worker", Worker)
