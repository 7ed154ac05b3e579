"""Report packages that set-up commands install without a version (`pip install requests`)."""

import re
from collections.abc import Iterator

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
