"""Check set-up commands, a `command` for a shell, and variables: downloads that are run unseen, plain `http://`, commands whose
effect ends with their own shell (`cd`, `export`), commands that need root or a checkout, git over SSH, variable names that
Optio sets itself, and values of `TZ` that are no zone."""

import re
from collections.abc import Iterator
from typing import NamedTuple

from optio.compiler.checks import shell
from optio.compiler.checks.plaintext_secrets import names_secret
from optio.compiler.diagnostics import Diagnostic
from optio.compiler.resolved_task import ResolvedTask
from optio.compiler.token_shapes import match_tokens
from optio.model.route import Route

_IMAGE = "where the agent runs: on the worker, or in its image (`environment.image`) if agents run as pods"
_FETCH = r"(?:curl|wget)\b[^|;&\n]*"
_SHELL = r"(?:sudo\s+(?:-\S+\s+)*)?(?:/(?:usr/)?bin/)?(?:ba|da|z|k|a)?sh\b"
# Repetitions are bounded: a hostile command of 128 KiB must not take long.
_BEGIN = r"(?:^|[;&|(\n])[ \t]{0,80}(?:(?:then|do|exec)[ \t]{1,9})?(?:\w{1,80}=\S{0,200}[ \t]{1,9}){0,9}"
_PACKAGES = (
    r"(?:apt|apt-get|apk|dnf|yum|microdnf|zypper)[ \t]{1,9}(?:-\S{1,80}[ \t]{1,9}){0,9}(?:install|add|update|upgrade)(?![\w-])"
)


class _Trap(NamedTuple):
    """A text that fails, or is unsafe, in each run: the rule, words of which one must occur, the pattern, and what to say. The
    group `at` is the place, and all groups may stand in message and hint. Traps of one rule are tried until one matches."""

    code: str
    words: tuple[str, ...]
    pattern: str
    message: str
    hint: str
    only_setup: bool = False


_TRAPS = (
    _Trap(
        "OPT528", ("apt", "apk", "dnf", "yum", "zypper"),
        rf"{_BEGIN}(?P<at>(?:sudo[ \t]{{1,9}}(?:-\S{{1,20}}[ \t]{{1,9}}){{0,4}})?(?P<name>{_PACKAGES})[^;&|)\n]*(?<![\s;&|)]))",
        "`{name}` needs root, which no command of a run has", f"leave it out, and install the packages {_IMAGE}",
    ),
    _Trap(
        "OPT528", ("sudo",), rf"{_BEGIN}(?P<at>sudo)(?![\w-])",
        "`sudo` gives no command of a run root", f"delete `sudo`; what needs root is done {_IMAGE}",
    ),
    _Trap(
        "OPT528", ("docker", "podman", "systemctl"),
        r"(?:^|[;&|(\n])[ \t]{0,80}(?P<at>(?P<name>docker(?:-compose)?|podman|systemctl)[ \t]+"
        r"(?:compose|build|run|pull|push|up|login|start|restart|enable|exec)\b[^;&|)\n]*(?<![\s;&|)]))",
        "`{name}` needs a daemon, and a run reaches none of its machine",
        f"leave it out, and put what it builds or starts {_IMAGE}",
        only_setup=True,
    ),
    # `git@HOST:PATH` and `[git+]ssh://[USER@]HOST/PATH` in a command with the word `git`.
    _Trap(
        "OPT529", ("git",),
        r"(?<!\S)[\"']?(?P<at>(?P<git>git\+)?(?:ssh://(?:[\w.-]{1,80}@)?|git@)(?P<host>[\w.-]{1,253})(?::\d{1,5}/|[:/])"
        r"(?P<path>[^\s\"';&|)]{1,500}))",
        "`{at}` needs an SSH key, and a run has none",
        "write `{git}https://{host}/{path}`; a private repository needs a token under `environment.secrets`",
    ),
    _Trap(
        "OPT508", ("curl", "wget"),
        rf"(?P<at>{_FETCH}\|\s*{_SHELL}|{_SHELL}\s+<\(\s*{_FETCH}|{_SHELL}\s+-c\s+[\"']?\$\(\s*{_FETCH})",
        "a download is run without a check", "fetch it to a file, check its sha256sum, then run it", only_setup=True,
    ),
)  # fmt: skip
_PLAIN_HTTP = r"\bhttp://([A-Za-z0-9.-]+|\[[0-9a-fA-F:]+\])"
# Names and addresses that no public network routes: many services there have no certificate.
LOCAL_HOST = (
    r"localhost|(?:127|10|192\.168|172\.(?:1[6-9]|2\d|3[01]))(?:\.\d+){2,3}|\[::1\]|\[f[cd].*\]|[A-Za-z0-9-]+"
    r"|.*\.(?:svc|local|internal|localhost)(?:\..*)?"
)
# Commands that only change the shell that they run in.
_OF_ITS_SHELL = re.compile(r"(cd|export|source|\.|set|alias|unset|umask|ulimit)\s[^;&|\n]*")
_AHEAD: Route = ("environment", "setupAhead")
_SSH_SETUP = r"\.ssh\b|\bssh-(?:add|agent|keyscan)\b|GIT_SSH|\.insteadOf\b"
# The beginning of a command that reads the files of a project.
_OF_A_PROJECT = (
    r"\s*(?:npm (?:ci|install|i|run \w+|test)|pnpm (?:install|i)|yarn(?: install)?|bundle install|make(?: \w+)?"
    r"|poetry install|uv sync|pip3? install (?:-r [\w./-]+|\.|-e \.)|go (?:build|test|mod download)|cargo (?:build|test)"
    r"|mvn \w+|composer install|cd \w[\w.-]*)(?:[ \t]+--?\w[\w=-]{0,40}){0,9}(?=\s*(?:\Z|&&|;|\n))"
)
# Commands before it that make no files of a project.
_MAKES_NOTHING = r"(?:echo|set|export|node|npm config|python3? --version)\b[^;&|]*"
# Optio sets the first ones for every run; the linker loads the others into every program.
# As a secret, a task may have `OPTIO_TOKEN`, by which its program calls a server.
_SET_BY_OPTIO = (
    *("OPTIO_SECRET_", "OPTIO_RUN_ID", "OPTIO_TASK_ID", "OPTIO_ATTEMPT", "OPTIO_DEADLINE", "OPTIO_PARAMS_FILE"),
    *("OPTIO_RESULT_", "OPTIO_BUDGET_USD", "OPTIO_MAX_TURNS"),
)
_RESERVED = frozenset({"HOME", "TMPDIR", "LD_PRELOAD", "LD_AUDIT"})
# A zone in the form of POSIX: `CET-1CEST,M3.5.0,M10.5.0/3`.
_POSIX_ZONE = r"(?:[A-Za-z]{3,}|<[A-Za-z0-9+-]{3,}>)[+-]?\d{1,2}(?::\d\d){0,2}(?:(?:[A-Za-z]{3,}|<[A-Za-z0-9+-]{3,}>)\S*)?"


def check(task: ResolvedTask) -> Iterator[Diagnostic]:
    """Report the findings of each command and of each variable, independently of all others."""
    environment = task.spec.environment
    setup: list[tuple[Route, str]] = [
        (("environment", "setupCommands", index), text) for index, text in enumerate(environment.setup_commands)
    ]
    yield from _no_project(task)
    is_known = task.is_known(("environment", "setupCommands"))
    if is_known and environment.setup_ahead and not setup and task.document.path_at(_AHEAD) == task.path:
        message = "`setupAhead` has no effect without `setupCommands`"
        yield task.at("OPT615", message, _AHEAD, key=True, hint="delete it, or add the commands")
    for route, text in setup:
        yield from _syntax(task, route, text)
    command: list[tuple[Route, str]] = [(("command",), task.spec.command)] if isinstance(task.spec.command, str) else []
    for route, text in (*setup, *command):
        yield from _traps(task, route, text)
    yield from _reserved_names(task)
    if "TZ" in environment.env:
        yield from _zone(task, environment.env["TZ"])
    variables: list[tuple[Route, str]] = [(("environment", "env", name), text) for name, text in environment.env.items()]
    for route, text in (*setup, *variables):
        matches = re.finditer(_PLAIN_HTTP, text) if "http://" in text else ()
        plain = next((match[0] for match in matches if not re.fullmatch(LOCAL_HOST, match[1])), None)
        if plain is not None:
            message = f"`{plain}` is not encrypted: anyone on the way can read and change it"
            yield task.at("OPT518", message, route, hint=f"write `https{plain[4:]}`", span=task.document.find(route, plain))


def _traps(task: ResolvedTask, route: Route, text: str) -> Iterator[Diagnostic]:
    """Report the first trap of each rule that a command holds."""
    environment, codes, command = task.spec.environment, set[str](), shell.without_documents(text)
    texts = (*environment.setup_commands, *environment.env, *environment.secrets)
    if any(re.search(_SSH_SETUP, part) for part in texts if "git" in text):
        codes.add("OPT529")  # the task does something about keys
    for trap in _TRAPS:
        if trap.code in codes or (trap.only_setup and route == ("command",)) or not any(word in text for word in trap.words):
            continue
        match = re.search(trap.pattern, command)
        if match is not None:
            codes.add(trap.code)
            groups = {name: value or "" for name, value in match.groupdict().items()}
            hint = trap.hint.format(**groups)
            span = task.document.find(route, match["at"], text.count(match["at"], 0, match.start("at")))
            yield task.at(trap.code, trap.message.format(**groups), route, hint=hint, span=span)


def _reserved_names(task: ResolvedTask) -> Iterator[Diagnostic]:
    environment = task.spec.environment
    places: list[tuple[Route, str]] = [(("environment", "env", name), name) for name in environment.env]
    places += [(("environment", "secrets", index), name) for index, name in enumerate(environment.secrets)]
    for route, name in places:
        if is_reserved(name) if route[1] == "env" else name in _RESERVED or name.startswith(_SET_BY_OPTIO):
            message, bare = f"`{name}` is set by Optio or the system, not by a task", name.removeprefix("OPTIO_SECRET_")
            hint = (
                f"write `{bare}`: `OPTIO_SECRET_` belongs to the server" if bare != name else "use another name, or delete it"
            )
            yield task.at("OPT507", message, route, key=route[1] == "env", hint=hint)


def is_reserved(name: str) -> bool:
    """Return whether Optio or the system sets a variable, so that no task can."""
    return name in _RESERVED or name.startswith("OPTIO_")


def _zone(task: ResolvedTask, name: str) -> Iterator[Diagnostic]:
    """Report a `TZ` that is no zone, which the C library takes for UTC."""
    if not name or name[0] in ":/" or re.search(r"[${]", name) or name.upper() in ("UTC", "GMT", "Z"):
        return
    from zoneinfo import available_timezones

    if re.fullmatch(_POSIX_ZONE, name) or name in available_timezones():
        return
    from optio.compiler.checks.zone_names import suggest_zone  # imported only for a file with a mistake

    hint, zone = suggest_zone(name)
    message = f"`TZ` is `{name}`, which is not a time zone: programs take it for UTC"
    yield task.at("OPT532", message, ("environment", "env", "TZ"), hint=hint, value=zone, safe=False)


def _no_project(task: ResolvedTask) -> Iterator[Diagnostic]:
    """Report a first command that needs the files of a project. A run begins in an empty directory, without a checkout."""
    for index, text in enumerate(task.spec.environment.setup_commands):
        match = re.match(_OF_A_PROJECT, text)
        if match is not None and not _OF_ITS_SHELL.fullmatch(text.strip()):
            message = f"`{match[0]}` finds no project: a run begins in an empty directory"
            hint = "clone it in the same command: `git clone --depth 1 https://HOST/PATH.git app && cd app && COMMAND`"
            yield task.at("OPT531", message, ("environment", "setupCommands", index), hint=hint)
        if match is not None or not re.fullmatch(_MAKES_NOTHING, text):
            return  # an earlier command may have made the files


def _syntax(task: ResolvedTask, route: Route, text: str) -> Iterator[Diagnostic]:
    """Report a command that no shell can read, and one that only changes its own shell."""
    error = shell.find_shell_error(text)
    if error is not None:
        span = task.document.inside(route, error.start, error.end)
        yield task.at("OPT509", error.message, route, hint=error.hint, span=span)
        return
    match = _OF_ITS_SHELL.fullmatch(text.strip())
    if match is not None:
        message = f"`{match[1]}` has no effect on later commands: each has its own shell"
        yield task.at("OPT520", message, route, hint=_lasting(text.strip(), match[1]))


def _lasting(text: str, word: str) -> str:
    """Return the hint for a command whose effect ends with its shell."""
    if word == "cd":
        return "put it before the command that needs it: `cd DIRECTORY && COMMAND`"
    assigned = re.fullmatch(r"export\s+(\w+)=([\w./:@+-]*)", text)
    if assigned is not None and (names_secret(*assigned.groups()) or any(match_tokens(assigned[2]))):
        return f"add `{assigned[1]}` to `environment.secrets`, and delete this command"
    if assigned is not None:
        from optio.compiler.yaml.emit import flow  # imported only for a file with a mistake

        return f"write `{assigned[1]}: {flow(assigned[2])}` under `environment.env`, and delete this command"
    if word == "export":
        return "write the value itself under `environment.env`, and delete this command"
    return "put it before the command that needs it, joined by `&&`"
