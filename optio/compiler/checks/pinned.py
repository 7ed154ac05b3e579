"""Find packages that are installed without a version: by set-up commands (`pip install requests`), and by the program of an MCP
server (`npx -y some-server`)."""

import re
from collections.abc import Iterator, Sequence

from optio.compiler.diagnostics import Diagnostic
from optio.compiler.resolved_task import ResolvedTask

_PIP = re.compile(r"\b(?:pip3?|uv\s+pip|pipx|uv\s+tool)\s+install\s+([^;&|\n]+)")
_NPM = re.compile(r"\bnpm\s+(?:install|i|add)\s+([^;&|\n]+)")
_WORD = re.compile(r"[^\s\"']+")
_PIP_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(?:\[[\w,-]*\])?")
_NPM_NAME = re.compile(r"(?:@[a-z0-9-]+/)?[a-z0-9][a-z0-9._-]*")
# Options without an argument. The argument of any other option could be mistaken for a package.
_BARE = frozenset(
    {
        *("-U", "--upgrade", "-q", "--quiet", "--no-cache-dir", "--user", "--break-system-packages", "--pre", "--system"),
        *("-g", "--global", "--no-audit", "--no-fund", "--silent", "-D", "--save-dev"),
    }
)
# Programs that fetch another one, and what stands between its name and its version there.
_FETCHING = {("npx",): "@", ("uvx",): "==", ("uv", "tool", "run"): "==", ("pipx", "run"): "==", ("bunx",): "@"}
_YES = frozenset({"-y", "--yes", "-q", "--quiet"})
_FROM = frozenset({"--from", "--package", "-p", "--spec"})
_IMAGE = re.compile(r"(?:[\w.-]+(?::\d+)?/)*[\w.-]+(?::latest)?")
_DOCKER = frozenset({"-i", "-t", "-it", "--rm", "--init", "--interactive", "--tty"})
_DOCKER_WITH_ARGUMENT = frozenset({"-e", "--env", "-v", "--volume", "--mount", "--network", "--name", "-p", "-u", "-w"})


def check(task: ResolvedTask) -> Iterator[Diagnostic]:
    """Report the first unpinned package of each `install` command. Commands with unknown options are left alone."""
    for index, text in enumerate(task.spec.environment.setup_commands):
        yield from _in(task, index, text)


def _in(task: ResolvedTask, index: int, text: str) -> Iterator[Diagnostic]:
    for command, name, sign in ((_PIP, _PIP_NAME, "=="), (_NPM, _NPM_NAME, "@")):
        for match in command.finditer(text):
            words = [word for word in _WORD.finditer(text, *match.span(1)) if word[0] not in _BARE]
            loose = next((word for word in words if name.fullmatch(word[0])), None)
            if loose is None or any(word[0].startswith("-") for word in words):
                continue
            route = ("environment", "setupCommands", index)
            message = f"`{loose[0]}` is installed without a version"
            span = task.document.find(route, loose[0], text.count(loose[0], 0, loose.start()))
            yield task.at("OPT521", message, route, hint=f"write `{loose[0]}{sign}VERSION`", span=span)


def unpinned_program(command: Sequence[str]) -> tuple[int, str] | None:
    """Return the place of the package or image without a version that a command fetches and runs, with a cure; None for others
    and where an option is not known."""
    for program, sign in _FETCHING.items():
        if tuple(command[: len(program)]) == program:
            index = _package_index(command, len(program))
            name = _PIP_NAME if sign == "==" else _NPM_NAME
            if index is None or not name.fullmatch(command[index].removesuffix("@latest")):
                return None
            return index, f"{command[index].removesuffix('@latest')}{sign}VERSION"
    if command[0] in ("docker", "podman") and command[1:2] == ["run"]:
        index = _image_index(command)
        if index is not None and _IMAGE.fullmatch(command[index]):
            return index, f"{command[index].removesuffix(':latest')}@sha256:DIGEST"
    return None


def _package_index(command: Sequence[str], start: int) -> int | None:
    index = start
    while index < len(command) and command[index] in _YES:
        index += 1
    if index < len(command) and command[index] in _FROM:
        index += 1
    return index if index < len(command) and not command[index].startswith("-") else None


def _image_index(command: Sequence[str]) -> int | None:
    index = 2
    while index < len(command) and command[index].startswith("-"):
        if command[index] in _DOCKER_WITH_ARGUMENT:
            index += 1
        elif command[index] not in _DOCKER and "=" not in command[index]:
            return None
        index += 1
    return index if index < len(command) else None
