"""`deploy/vscode/`: the extension as Visual Studio Code would run it, without a window.

Client library and server are real. What VS Code itself would answer is a stand-in, `vscode_host.js`.
"""

import json
import re
import subprocess
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from optio.lsp.workspace import LspOptions
from optio.version import __version__
from tests import forked
from tests.support import ROOT, tool

EXTENSION = ROOT / "deploy" / "vscode"
MODULES = "editor/node_modules"
PACKAGE = json.loads((EXTENSION / "package.json").read_text())
TASK = "name: One\nagentRuntime: claude-code\npromptTemplate: Say hello\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tasks.d").mkdir()
    return tmp_path


@pytest.fixture
def optio(tmp_path: Path) -> Path:
    """The program as an installation has it; it notes its arguments."""
    forked.put_program(tmp_path / "installed")
    program = tmp_path / "optio"
    program.write_text(f'#!/bin/sh\necho "$@" >{tmp_path}/arguments\nexec {tmp_path}/installed "$@"\n')
    program.chmod(0o755)
    return program


def hosted(folder: Path, command: Path, until: str) -> list[dict[str, Any]]:
    """What the editor shows after it opened a task file, up to a line that has this."""
    file = folder / "tasks.d" / "one.yaml"
    host = str(ROOT / "tests" / "lsp" / "vscode_host.js")
    words = ["node", host, str(EXTENSION / "extension.js"), str(tool(MODULES)), str(folder), str(file), str(command)]
    environ = {"PATH": "/usr/local/bin:/usr/bin:/bin", "PYTHONPATH": str(ROOT)}
    shown = []
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environ, text=True) as node:
        assert node.stdin is not None
        assert node.stdout is not None
        for line in node.stdout:
            shown.append(json.loads(line))
            if until in line:
                break
        node.stdin.close()
        assert node.wait(60) == 0
    return shown


def test_findings_come_from_the_command_that_exists(folder: Path, optio: Path) -> None:
    (folder / "tasks.d" / "one.yaml").write_text(TASK + "maxTurn: 3\n")
    shown = hosted(folder, optio, "findings")

    assert shown[-1] == {
        "file": "tasks.d/one.yaml",
        "findings": [{"message": "unknown key `maxTurn`\ndid you mean `maxTurns`?", "code": "OPT101"}],
    }
    assert [each for each in shown if "error" in each] == []
    assert (folder / "arguments").read_text() == "lsp\n"


def test_a_program_that_is_missing_is_said_with_what_to_do(folder: Path) -> None:
    (folder / "tasks.d" / "one.yaml").write_text(TASK)
    shown = hosted(folder, folder / "nowhere", "started")

    errors = [each["error"] for each in shown if "error" in each]
    assert "Install Optio with the extra `lsp`, or set `optio.command` to its path." in errors[-1]


def test_its_settings_are_the_servers_options_and_a_folder_cannot_choose_the_program() -> None:
    settings = PACKAGE["contributes"]["configuration"]["properties"]
    options = {f"optio.{field.name}": field.default for field in fields(LspOptions)}

    assert set(settings) == {"optio.command", *options}
    assert settings["optio.command"]["scope"] == "machine"
    assert PACKAGE["capabilities"]["untrustedWorkspaces"]["supported"] is False
    for name in ("optio.strict", "optio.verbose"):
        assert settings[name]["default"] is options[name]


def test_its_package_has_what_it_needs_and_the_versions_of_here() -> None:
    client = json.loads((tool(MODULES) / "vscode-languageclient" / "package.json").read_text())
    done = subprocess.run(["npm", "pack", "--dry-run", "--json"], cwd=EXTENSION, capture_output=True, text=True, check=True)

    assert {file["path"] for file in json.loads(done.stdout)[0]["files"]} == {"package.json", "extension.js"}
    assert PACKAGE["version"] == __version__
    assert PACKAGE["dependencies"] == {"vscode-languageclient": client["version"]}
    assert PACKAGE["engines"]["vscode"] == client["engines"]["vscode"]
    assert f"vscode_client_version={client['version']}\n" in (ROOT / "tests" / "setup.sh").read_text()
    subprocess.run(["node", "--check", str(EXTENSION / PACKAGE["main"])], check=True)
    commands = re.findall(r'registerCommand\("([^"]+)"', (EXTENSION / "extension.js").read_text())
    assert commands == [each["command"] for each in PACKAGE["contributes"]["commands"]]
