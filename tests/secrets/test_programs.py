"""The programs in `deploy/secrets`: what they make of the words of the tools that they ask, with stand-ins for these tools."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.support import ROOT

PROGRAMS = ROOT / "deploy" / "secrets"
# AWS CLI 1.x and SOPS 3.9 were seen to write this when there is no such secret. No gcloud was at hand.
MISSING = {
    "aws": "An error occurred (ResourceNotFoundException) when calling the GetSecretValue operation: Secrets Manager can't "
    "find the specified secret.",
    "gcloud": "ERROR: (gcloud.secrets.versions.access) NOT_FOUND: Secret [projects/1/secrets/KEY] not found.",
    "sops": "error truncating tree: component ['KEY'] not found",
}
ASKED = {
    "aws": "secretsmanager get-secret-value --secret-id optio/KEY --query SecretString --output text",
    "gcloud": "secrets versions access latest --secret KEY --quiet",
    "sops": 'decrypt --extract ["KEY"] secrets.enc.yaml',
}
SCRIPTS = {"aws": ["aws.sh"], "gcloud": ["gcp.sh"], "sops": ["sops.sh", "secrets.enc.yaml"]}


def ask(directory: Path, tool: str, script: str) -> "subprocess.CompletedProcess[str]":
    """Run a program as Optio does, on a stand-in for its tool."""
    stand_in = directory / tool
    stand_in.write_text(f'#!/bin/sh\nprintf "%s" "$*" > {directory}/asked\n{script}\n')
    stand_in.chmod(0o755)
    name, *arguments = SCRIPTS[tool]
    return subprocess.run(
        [str(PROGRAMS / name), *arguments, "KEY"],
        env={"PATH": f"{directory}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("tool", SCRIPTS)
def test_a_program_passes_the_value_on_without_what_the_tool_warns_of(tool: str, tmp_path: Path) -> None:
    done = ask(tmp_path, tool, "echo 'a warning' >&2; printf 'the value\\nof two lines'")

    assert (done.returncode, done.stdout, done.stderr) == (0, "the value\nof two lines", "")
    assert (tmp_path / "asked").read_text() == ASKED[tool]


@pytest.mark.parametrize("tool", SCRIPTS)
def test_a_program_tells_a_missing_secret_from_a_source_that_is_away(tool: str, tmp_path: Path) -> None:
    (tmp_path / "said").write_text(MISSING[tool])

    missing = ask(tmp_path, tool, f"cat {tmp_path}/said >&2; exit 254")
    away = ask(tmp_path, tool, "echo 'no route to host' >&2; exit 254")

    assert (missing.returncode, missing.stdout) == (3, "")
    assert (away.returncode, away.stdout, away.stderr) == (1, "", "no route to host\n")
