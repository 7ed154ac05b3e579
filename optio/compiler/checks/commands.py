"""Check set-up commands and environment variables: downloads that are run unseen, plain `http://`, commands whose effect ends
with their own shell (`cd`, `export`), commands that need root, git over SSH, variable names that Optio sets itself, and values
of `TZ` and `PATH` that cannot be meant."""

import re
from collections.abc import Iterator

from optio.compiler.diagnostics import Diagnostic
from optio.compiler.resolved_task import ResolvedTask
from optio.compiler.source import Span
from optio.model.route import Route

# Patterns are texts, which `re` compiles where one is used first: most commands hold none of their words.
_FETCH = r"(?:curl|wget)\b[^|;&\n]*"
_SHELL = r"(?:sudo\s+(?:-\S+\s+)*)?(?:/(?:usr/)?bin/)?(?:ba|da|z|k|a)?sh\b"
_PIPED = rf"{_FETCH}\|\s*{_SHELL}|{_SHELL}\s+<\(\s*{_FETCH}|{_SHELL}\s+-c\s+[\"']?\$\(\s*{_FETCH}"
_PLAIN = r"\bhttp://([A-Za-z0-9.-]+|\[[0-9a-fA-F:]+\])"
# Names and addresses that no public network routes: many services there have no certificate.
_LOCAL = (
    r"localhost|(?:127|10|192\.168|172\.(?:1[6-9]|2\d|3[01]))(?:\.\d+){2,3}|\[::1\]|\[f[cd].*\]|[A-Za-z0-9-]+"
    r"|.*\.(?:svc|local|internal|localhost)(?:\..*)?"
)
# Commands that only change the shell that they run in.
_FORGOTTEN = re.compile(r"(cd|export|source|\.|set|alias|unset|umask|ulimit)\s[^;&|\n]*")
_HINTS = {
    "cd": "put it before the command that needs it: `cd DIRECTORY && COMMAND`",
    "export": "write the value itself under `environment.env`, and delete this command",
}
_MAX_JOINED = 100
# Repetitions are bounded: a hostile command of 128 KiB must not take long.
_NEEDS_ROOT = (
    r"(?:^|[;&|(\n])[ \t]{0,80}(?:(?:then|do|exec)[ \t]{1,9})?(?:\w{1,80}=\S{0,200}[ \t]{1,9}){0,9}"
    r"(sudo|(?:apt|apt-get|apk|dnf|yum|microdnf|zypper)[ \t]{1,9}(?:-\S{1,80}[ \t]{1,9}){0,9}"
    r"(?:install|add|update|upgrade))(?![\w-])"
)
_DAEMONS = (
    r"(?:^|[;&|(\n])[ \t]{0,80}(docker(?:-compose)?|podman|systemctl)[ \t]+"
    r"(?:compose|build|run|pull|push|up|login|start|restart|enable|exec)\b"
)
_DAEMONS_WORDS = ("docker", "podman", "systemctl")
_ROOTS_WORDS = ("sudo", "apt", "apk", "dnf", "yum", "zypper")
# `git@HOST:PATH` and `[git+]ssh://[USER@]HOST/PATH` in a command with the word `git`.
_SSH_ADDRESS = r"(?<!\S)[\"']?((git\+)?(?:ssh://(?:[\w.-]{1,80}@)?|git@)([\w.-]{1,253})(?::\d{1,5}/|[:/])([^\s\"';&|)]{1,500}))"
_AHEAD: Route = ("environment", "setupAhead")
_BASH = (
    r"(?:^|[;&|(\n])[ \t]{0,80}(?:set[ \t]+-\w*o[ \t]+(pipefail)|(source)[ \t]+\S"
    r"|(?:(?:if|while|!)[ \t]+)?(\[\[)[ \t])"
)
_BASHS_WORDS = ("pipefail", "source", "[[")
# The beginning of a command that reads the files of a project.
_OF_A_PROJECT = (
    r"\s*(?:npm (?:ci|install|i|run \w+|test)|pnpm (?:install|i)|yarn(?: install)?|bundle install|make(?: \w+)?"
    r"|poetry install|uv sync|pip3? install (?:-r [\w./-]+|\.|-e \.)|go (?:build|test|mod download)|cargo (?:build|test)"
    r"|mvn \w+|composer install|cd (?P<directory>\w[\w.-]*))(?:[ \t]+--?\w[\w=-]{0,40}){0,9}(?=\s*(?:\Z|&&|;|\n))"
)
# Commands before it that make no files of a project.
_MAKES_NOTHING = r"(?:echo|set|export|node|npm config|python3? --version)\b[^;&|]*"
_SSH_SETUP = r"\.ssh\b|\bssh-(?:add|agent|keyscan)\b|GIT_SSH|\.insteadOf\b"
# Optio sets the first ones for every run; the linker loads the others into every program.
# As a secret, a task may have `OPTIO_TOKEN`, by which its program calls a server.
_SET_BY_OPTIO = (
    *("OPTIO_SECRET_", "OPTIO_RUN_ID", "OPTIO_TASK_ID", "OPTIO_ATTEMPT", "OPTIO_DEADLINE", "OPTIO_PARAMS_FILE"),
    *("OPTIO_RESULT_", "OPTIO_BUDGET_USD", "OPTIO_MAX_TURNS"),
)
# A zone in the form of POSIX: `CET-1CEST,M3.5.0,M10.5.0/3`.
_POSIX_ZONE = r"(?:[A-Za-z]{3,}|<[A-Za-z0-9+-]{3,}>)[+-]?\d{1,2}(?::\d\d){0,2}(?:(?:[A-Za-z]{3,}|<[A-Za-z0-9+-]{3,}>)\S*)?"
_RESERVED = frozenset({"HOME", "TMPDIR", "LD_PRELOAD", "LD_AUDIT"})


def check(task: ResolvedTask) -> Iterator[Diagnostic]:
    """Report the findings of each set-up command and of each variable, independently of all others."""
    environment = task.spec.environment
    places: list[tuple[Route, str]] = [
        (("environment", "setupCommands", index), text) for index, text in enumerate(environment.setup_commands)
    ]
    yield from _nothing_there(task)
    is_known = task.is_known(("environment", "setupCommands"))
    if is_known and environment.setup_ahead and not environment.setup_commands and task.document.path_at(_AHEAD) == task.path:
        message = "`setupAhead` has no effect without `setupCommands`"
        yield task.at("OPT615", message, _AHEAD, key=True, hint="delete it, or add the commands")
    for route, text in places:
        yield from _shell(task, route, text)
        yield from _rooted(task, route, text)
        yield from _over_ssh(task, route, text)
        yield from _bash(task, route, text)
        yield from _out_of_reach(task, route, text)
        piped = re.search(_PIPED, text) if "curl" in text or "wget" in text else None
        if piped is not None:
            hint = "fetch it to a file, check its sha256sum, then run it"
            yield task.at("OPT508", "a download is run without a check", route, hint=hint, span=_span(task, route, piped))
    if isinstance(task.spec.command, str):
        yield from _over_ssh(task, ("command",), task.spec.command)
        yield from _bash(task, ("command",), task.spec.command)
        yield from _rooted(task, ("command",), task.spec.command)
    names: list[tuple[Route, str]] = [(("environment", "env", name), name) for name in environment.env]
    names += [(("environment", "secrets", index), name) for index, name in enumerate(environment.secrets)]
    for route, name in names:
        if name in _RESERVED or name.startswith("OPTIO_" if route[1] == "env" else _SET_BY_OPTIO):
            yield task.at(
                "OPT507",
                f"`{name}` is set by Optio or the system, not by a task",
                route,
                key=route[1] == "env",
                hint=_other_name(name),
            )
    if "TZ" in environment.env:
        yield from _zone(task, environment.env["TZ"])
    if "PATH" in environment.env:
        yield from _path(task, environment.env["PATH"])
    places += [(("environment", "env", name), text) for name, text in environment.env.items()]
    for route, text in places:
        for plain in re.finditer(_PLAIN, text) if "http://" in text else ():
            if not re.fullmatch(_LOCAL, plain[1]):
                message = f"`{plain[0]}` is not encrypted: anyone on the way can read and change it"
                yield task.at("OPT518", message, route, hint=f"write `https{plain[0][4:]}`", span=_span(task, route, plain))
                break


def _zone(task: ResolvedTask, name: str) -> Iterator[Diagnostic]:
    """Report a `TZ` that is no zone, which the C library takes for UTC, and `UTC+2`, which is two hours behind UTC."""
    if not name or name[0] in ":/" or re.search(r"[${]", name) or name.upper() in ("UTC", "GMT", "Z"):
        return
    from zoneinfo import available_timezones

    turned = re.fullmatch(r"(?:UTC|GMT)([+-])(\d{1,2})(?::?\d\d)?", name)
    if turned is None and (re.fullmatch(_POSIX_ZONE, name) or name in available_timezones()):
        return
    from optio.compiler.checks.schedule import suggest_zone  # imported only for a file with a mistake

    hint, meant = suggest_zone(name)
    message = f"`TZ` is `{name}`, which is not a time zone: programs take it for UTC"
    if turned is not None:
        side = "behind" if turned[1] == "+" else "ahead of"
        message = f"`TZ` is `{name}`, which is {turned[2]} hours {side} UTC: its sign is the other way round"
    yield task.at("OPT532", message, ("environment", "env", "TZ"), hint=hint, value=meant, safe=False)


def _path(task: ResolvedTask, path: str) -> Iterator[Diagnostic]:
    """Report a `PATH` without the directories of the system, in which the agent and `sh` are found."""
    places = {place.rstrip("/") for place in path.split(":")}
    if not path or not places.isdisjoint(("/usr/bin", "/bin")) or re.search(r"[${%;]|/nix/|/run/current-system", path):
        return
    whole = f"{path.strip(':')}:/usr/local/bin:/usr/bin:/bin"
    message = "`PATH` replaces the usual one, and names neither `/usr/bin` nor `/bin`: the agent and `sh` are not found"
    yield task.at("OPT532", message, ("environment", "env", "PATH"), hint=f"write `PATH: {whole}`", value=whole, safe=False)


def _bash(task: ResolvedTask, route: Route, text: str) -> Iterator[Diagnostic]:
    """Report words of bash: `/bin/sh` runs the text, which in Debian and Ubuntu is dash."""
    found = re.search(_BASH, text) if any(word in text for word in _BASHS_WORDS) else None
    if found is None or (route != ("command",) and _FORGOTTEN.fullmatch(text.strip())):
        return
    word = next(filter(None, found.groups()))
    hint = {
        "source": "write `.` in its place",
        "pipefail": "write `set -eu`",
    }.get(word, "write it for `/bin/sh`, such as `[ ... ]`")
    if route == ("command",):
        hint += ", or `command: [bash, -c, ...]` with this text"
    message = f"`{word}` is of bash, and `/bin/sh` runs this text: in Debian it fails"
    yield task.at("OPT531", message, route, hint=hint, span=task.document.find(route, word))


def _nothing_there(task: ResolvedTask) -> Iterator[Diagnostic]:
    """Report a first command that needs the files of a project. A run begins in an empty directory, without a checkout."""
    for index, text in enumerate(task.spec.environment.setup_commands):
        found = re.match(_OF_A_PROJECT, text)
        if found is not None:
            message = f"`{found[0]}` finds no project: a run begins in an empty directory"
            name = found["directory"] or "app"
            clone = f"git clone --depth 1 https://HOST/PATH.git {name} && cd {name}"
            rest = "" if found["directory"] else f" && {found[0].strip()}"
            hint = f"clone it in the same command: `{clone}{rest}`"
            yield task.at("OPT531", message, ("environment", "setupCommands", index), hint=hint)
        if found is not None or not re.fullmatch(_MAKES_NOTHING, text):
            return  # an earlier command may have made the files


def _other_name(name: str) -> str:
    bare = name.removeprefix("OPTIO_SECRET_")
    return f"write `{bare}`: `OPTIO_SECRET_` belongs to the server" if bare != name else "use another name, or delete it"


def _rooted(task: ResolvedTask, route: Route, text: str) -> Iterator[Diagnostic]:
    rooted = re.search(_NEEDS_ROOT, text) if any(word in text for word in _ROOTS_WORDS) else None
    if rooted is None:
        return
    from optio.compiler.checks import command_cures as cures  # imported only for a file with a mistake

    message = f"`{rooted[1]}` fails: no command of a run is root"
    hint = f"{cures.leave_out(task, route, text, cures.is_install)}, and install {cures.packages(text)} {cures.WHERE}"
    if rooted[1] == "sudo" and not cures.is_install(cures.command_at(text, rooted.start(1))):
        hint = f"delete `sudo`; what needs root is done {cures.WHERE}"
    span = cures.span_of_parts(task, route, text, rooted.start(1), cures.is_install)
    yield task.at("OPT528", message, route, hint=hint, span=span)


def _out_of_reach(task: ResolvedTask, route: Route, text: str) -> Iterator[Diagnostic]:
    """Report programs of a machine's daemon, which no run reaches."""
    if any(word in text for word in _DAEMONS_WORDS) and (found := re.search(_DAEMONS, text)) is not None:
        from optio.compiler.checks import command_cures as cures  # imported only for a file with a mistake

        def is_daemon(part: str) -> bool:
            return re.match(_DAEMONS, part) is not None

        message = f"`{found[1]}` fails: a run reaches no daemon of its machine"
        hint = f"{cures.leave_out(task, route, text, is_daemon)}, and put what it builds or starts {cures.WHERE}"
        span = cures.span_of_parts(task, route, text, found.start(1), is_daemon)
        yield task.at("OPT528", message, route, hint=hint, span=span)


def _over_ssh(task: ResolvedTask, route: Route, text: str) -> Iterator[Diagnostic]:
    """Report git over SSH, unless the task does anything about keys."""
    found = re.search(_SSH_ADDRESS, text) if "git" in text else None
    if found is None:
        return
    environment = task.spec.environment
    if any(re.search(_SSH_SETUP, each) for each in (*environment.setup_commands, *environment.env, *environment.secrets)):
        return
    address = f"{found[2] or ''}https://{found[3]}/{found[4]}"
    hint = f"write `{address}`; a private repository needs a token under `environment.secrets`"
    span = task.document.inside(route, found.start(1), found.end(1))
    yield task.at("OPT529", f"`{found[1]}` needs an SSH key, and a run has none", route, hint=hint, span=span)


def _shell(task: ResolvedTask, route: Route, text: str) -> Iterator[Diagnostic]:
    from optio.compiler.checks import shell  # most tasks have no command

    slip = shell.find_shell_error(text)
    if slip is not None:
        span = task.document.inside(route, slip.start, slip.end)
        yield task.at("OPT509", slip.message, route, hint=slip.hint, span=span)
        return
    forgotten = _FORGOTTEN.fullmatch(text.strip())
    if forgotten is not None:
        hint = _HINTS.get(forgotten[1], "put it before the command that needs it, joined by `&&`")
        if forgotten[1] == "export":
            from optio.compiler.checks.command_cures import into_environment  # imported only for a file with a mistake

            hint = into_environment(task, text) or hint
        following = task.spec.environment.setup_commands[int(route[-1]) + 1 :][:1]
        if forgotten[1] == "cd" and following and len(following[0]) <= _MAX_JOINED and "\n" not in following[0]:
            hint = f"write both as one command: `{text.strip()} && {following[0]}`"
        elif forgotten[1] in ("source", "."):
            hint = f"put `. {text.strip().split(maxsplit=1)[1]} &&` before the command that needs it, in the same entry"
        yield task.at("OPT520", f"`{forgotten[1]}` has no effect on later commands: each has its own shell", route, hint=hint)


def _span(task: ResolvedTask, route: Route, found: re.Match[str]) -> Span:
    return task.document.find(route, found[0])
