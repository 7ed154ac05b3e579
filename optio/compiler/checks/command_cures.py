"""Say what to write for a set-up command that cannot do what it is for: one that needs root, and one whose variables end with
its shell. `commands` finds them, and imports this module only for such a command."""

import re
import shlex
from collections.abc import Callable

from optio.compiler.checks.plaintext_secrets import names_secret
from optio.compiler.resolved_task import ResolvedTask
from optio.compiler.source import Span
from optio.compiler.token_shapes import match_tokens
from optio.compiler.yaml.emit import flow
from optio.model.route import Route, value_at

WHERE = "where the agent runs: on the worker, or in its image (`environment.image`) if agents run as pods"
_COMMANDS: Route = ("environment", "setupCommands")
_ENV: Route = ("environment", "env")
_AHEAD = r"(?:sudo[ \t]{1,9}(?:-\w{1,20}[ \t]{1,9}){0,4})?(?:\w{1,80}=\S{0,200}[ \t]{1,9}){0,9}"
_INSTALLS = (
    rf"{_AHEAD}(?:apt|apt-get|apk|dnf|yum|microdnf|zypper)[ \t]{{1,9}}(?:-\S{{1,80}}[ \t]{{1,9}}){{0,9}}"
    r"(?:(?:install|add)(?P<names>[^\n]*)|(?:update|upgrade|clean|autoclean|autoremove|makecache|refresh)\b.*)"
    rf"|{_AHEAD}rm -rf? /var/(?:lib/apt|cache)\S{{0,80}}"
)
_PACKAGE = r"[a-z0-9][a-z0-9.+_-]{0,60}(?:=\S{1,60})?"
_ONLY_ITS_SHELL = r"(?:set|export)[ \t][^\n]*"
_JOINT = r"[ \t]*(?:&&|\|\||;|\n)[ \t\n]*"
_MAX_LENGTH, _MAX_NAMES, _MAX_LINES = 300, 8, 4
_USUAL_PATH = "/usr/local/bin:/usr/bin:/bin"


def is_install(part: str) -> bool:
    """Return whether a command only installs packages of the system, or prepares or follows that."""
    return re.fullmatch(_INSTALLS, part) is not None


def packages(text: str) -> str:
    """Return the packages that a command installs, in words, or "what it needs"."""
    found = [re.fullmatch(_INSTALLS, part) for part in _parts(text)]
    words = [word for each in found if each is not None and each["names"] for word in each["names"].split()]
    names = [word for word in words if not word.startswith("-")]
    if not names or len(names) > _MAX_NAMES or not all(re.fullmatch(_PACKAGE, name) for name in names):
        return "what it needs"
    return ", ".join(f"`{name}`" for name in names)


def leave_out(task: ResolvedTask, route: Route, text: str, is_gone: Callable[[str], bool]) -> str:
    """Say how those parts of a command go for which `is_gone` is true, so that no half of a command stays."""
    parts = _parts(text)
    gone = [part for part in parts if is_gone(part)]
    rest = [part for part in parts if part not in gone]
    if gone and all(re.fullmatch(_ONLY_ITS_SHELL, part) for part in rest):
        if route[:2] != _COMMANDS:
            return "write a command that works without root"
        commands = task.spec.environment.setup_commands
        if not all(is_gone(part) for each in commands for part in _parts(each)):
            return "delete this command"
        below = value_at(task.document.value, ("environment",))
        return f"delete `{'environment' if isinstance(below, dict) and len(below) == 1 else 'setupCommands'}`"
    if not gone or len(text) > _MAX_LENGTH or re.search(r"[()`{}\\\"'|]|\b(?:then|do|case)\b", text):
        return "write the command without it"
    lines = text.strip().split("\n")
    if len(lines) == 1:
        return f"write `{' && '.join(part.removeprefix('sudo ') for part in rest)}`"
    if len(gone) <= _MAX_LINES and all(part in lines for part in gone):
        return f"delete {' and '.join(f'`{part}`' for part in gone)}"
    return "write the command without it"


def command_at(text: str, start: int) -> str:
    """Return the one command of a text that begins at `start`."""
    return re.split(_JOINT, text[start:])[0].strip()


def span_of_parts(task: ResolvedTask, route: Route, text: str, start: int, is_gone: Callable[[str], bool]) -> Span:
    """Return the span from `start` to the end of the last command that must go, or of the first one if it has lines."""
    first = command_at(text, start)
    if "\n" in text.strip():
        return task.document.find(route, first)
    ends = [text.rfind(part) + len(part) for part in _parts(text) if is_gone(part)]
    return task.document.inside(route, start, max([start + len(first), *ends]))


def _parts(text: str) -> list[str]:
    return [part for part in re.split(_JOINT, text.strip()) if part]


def exported(text: str) -> dict[str, str]:
    """Return the variables that `export NAME=VALUE ...` sets, or none where the shell would change a value."""
    text = re.sub(r"\$(?:PATH\b|\{PATH\})", _USUAL_PATH, text) if "PATH=" in text else text
    if not re.match(r"\s*export\s", text) or re.search(r"[$`]|=~", text):
        return {}
    try:
        pairs = [word.partition("=") for word in shlex.split(text, comments=True)[1:]]
    except ValueError:
        return {}
    known = all(sign and re.fullmatch(r"[A-Za-z_]\w*", name) for name, sign, _ in pairs)
    return {name: value for name, _, value in pairs} if known else {}


def into_environment(task: ResolvedTask, text: str) -> str | None:
    """Say how the variables of an `export`, and of all others, become those of the task, or return None if it is not known."""
    environment = task.spec.environment
    own, each = exported(text), [exported(command) for command in environment.setup_commands]
    if not own:
        return None
    gone = "`setupCommands`" if all(each) else "this command"
    secret = [name for name, value in own.items() if _is_secret(name, value)]
    if secret:
        new = [f"`{name}`" for name in secret if name not in environment.secrets]
        return f"add {' and '.join(new)} to `environment.secrets`, and delete {gone}" if new else f"delete {gone}"
    whole = {name: value for found in each for name, value in found.items() if not _is_secret(name, value)}
    if not environment.env or task.document.path_at(_ENV) != task.document.path_at(_COMMANDS):
        return f"write `env: {flow(whole)}` below `environment`, and delete {gone}"
    if not whole.keys().isdisjoint(environment.env):
        return f"write `env: {flow({**environment.env, **whole})}`, and delete {gone}"
    return f"add `{flow(whole)[1:-1]}` to `env`, and delete {gone}"


def _is_secret(name: str, value: str) -> bool:
    return names_secret(name, value) or any(match_tokens(value))
