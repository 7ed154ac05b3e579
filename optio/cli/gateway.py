"""Lead agents to their models: add credentials, and hold budgets before each call. Any number may share one database."""

import argparse

from optio.cli.shared import flags
from optio.cli.shared.gateway_server import GatewayServer, listen_for_agents
from optio.cli.shared.run_until_signal import run_until_signal


def add_arguments(parser: argparse.ArgumentParser) -> None:
    flags.add_setting_flags(parser, "data_dir", "secrets_dir", "gateway_host", "gateway_port")


def run(args: argparse.Namespace) -> int:
    """Serve agents until SIGTERM. Returns 0."""
    settings = flags.read_settings(args)
    sock = listen_for_agents(settings)
    return run_until_signal(settings, "gateway", lambda services: GatewayServer(services, sock))
