"""Contexts: names for servers, with the token for each, so that you need not repeat `--url` and `--token`.

They stand in `optio.toml`, or below `[tool.optio]` in `pyproject.toml`, in the working directory or above it; in `config.toml`
of the user's configuration directory; and in `logins.json` beside that, which `optio login` writes. A flag goes before a
variable, and both go before a file.

Whoever can write into a repository can write a project's file. So it may name no command, and no token outside of its
directory, and no token of a flag or variable is sent to a URL that only such a file names. The token of a login is sent to the
URL that it was given for, and to no other.
"""

import argparse
import json
import os
import shlex
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from optio import private_files
from optio.compiler.suggest import suggest
from optio.errors import SettingsError
from optio.settings import SETTINGS, Settings

# The server on OPTIO_HOST and OPTIO_PORT, whatever the files say.
LOCAL = "local"
_VARIABLE = "OPTIO_CONTEXT"
_KEYS = ("url", "token_file", "token_command")
_COMMAND_TIMEOUT_S = 60
_MAX_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Context:
    """A named server. `origin` is the file that names it; its token comes from a file, a command or a login."""

    name: str
    url: str
    origin: Path
    token_file: Path | None = None
    token_command: tuple[str, ...] | None = None
    login: str | None = None
    is_project: bool = False

    @property
    def token_from(self) -> str | None:
        """Return where the token comes from, never the token."""
        if self.token_file is not None:
            return "file"
        return "command" if self.token_command else "login" if self.login else None


class Contexts(NamedTuple):
    """All contexts by name, the nearest file first, and the default with the file that sets it."""

    by_name: Mapping[str, Context]
    default: str | None
    default_origin: Path | None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add `--context`, which `flags.read_settings` applies."""
    parser.add_argument("--context", metavar="NAME", help="the server to talk to, by its name in optio.toml or `optio context`")


def apply(settings: Settings, name: str | None, *, run_commands: bool = True) -> Settings:
    """Return the settings with URL and token of the chosen context, unless flags or variables set them; raises SettingsError.
    Without `run_commands`, a context whose token comes from a command has none."""
    choice = name or os.environ.get(_VARIABLE)
    if choice == LOCAL:
        return settings
    configured = read_contexts()
    context = None
    if choice is not None:
        context = _named(configured, choice, "--context" if name else _VARIABLE)
        if name and settings.origins["url"] == "--url" and not _same(settings.url, context.url):
            raise SettingsError("--context and --url name different servers: leave one out")
    elif configured.default is not None and settings.origins["host"] == settings.origins["port"] == "default":
        context = _named(configured, configured.default, f"{configured.default_origin}: default_context")
    if context is None:
        # The token that was given for this URL.
        logged_in = (context for context in configured.by_name.values() if context.login)
        context = next((context for context in logged_in if _same(context.url, settings.server_url)), None)
        if context is None:
            return settings
    return _with(settings, context, run_commands=run_commands)


def _with(settings: Settings, context: Context, *, run_commands: bool) -> Settings:
    origin = f"context {context.name}"
    origins = dict(settings.origins)
    if settings.url is None:
        if context.is_project and settings.token is not None:
            raise SettingsError(
                f"{context.origin} names the server {context.url}, and {origins['token']} may be meant for another: "
                f"set OPTIO_URL too, or run `optio login {context.url}` and leave {origins['token']} out"
            )
        settings = replace(settings, url=context.url)
        origins["url"] = origin
    elif not _same(settings.url, context.url):
        return settings  # its token is for another server
    if settings.token is None:
        token = _token(context, run_commands=run_commands)
        settings = replace(settings, token=token)
        origins["token"] = origin if token else origins["token"]
    return replace(settings, origins=origins)


def _same(left: str | None, right: str) -> bool:
    return left is not None and left.rstrip("/") == right.rstrip("/")


def _named(configured: Contexts, name: str, origin: str) -> Context:
    if name in configured.by_name:
        return configured.by_name[name]

    suggestion = suggest(name, configured.by_name)
    names = ", ".join(f"`{context_name}`" for context_name in configured.by_name)
    cure = f"did you mean `{suggestion}`?" if suggestion else f"there are {names}" if names else "`optio login URL` makes one"
    raise SettingsError(f"{origin}: unknown context `{name}`: {cure}")


# Files


def directory() -> Path:
    """Return the directory of the user's configuration; raises SettingsError for a user without a home."""
    # A relative path would be one of the working directory, which is anybody's.
    for base in (os.environ.get("XDG_CONFIG_HOME", ""), os.path.expanduser("~/.config")):
        if os.path.isabs(base):
            return Path(base) / "optio"
    raise SettingsError("this user has no home directory: set XDG_CONFIG_HOME to an absolute path")


def read_contexts() -> Contexts:
    """Read all files; raises SettingsError for one that cannot be used."""
    by_name: dict[str, Context] = {}
    default: tuple[str, Path] | None = None
    logins = read_logins()
    for path, table, is_project in _tables():
        for context in _contexts(path, table, is_project=is_project):
            if context.token_from is None:
                login_token = next(
                    (login["token"] for login in logins["contexts"].values() if _same(login["url"], context.url)), None
                )
                context = replace(context, login=login_token)
            by_name.setdefault(context.name, context)
        default_name = table.get("default_context")
        if default_name is not None and not isinstance(default_name, str):
            raise SettingsError(f"{path}: default_context must be the name of a context")
        if default_name is not None and default is None:
            default = default_name, path
    for name, login in logins["contexts"].items():
        by_name.setdefault(name, Context(name, login["url"], logins_file(), login=login["token"]))
    if default is None and logins["default"] is not None:
        default = logins["default"], logins_file()
    return Contexts(by_name, *(default or (None, None)))


def _tables() -> Iterator[tuple[Path, Mapping[str, Any], bool]]:
    """Yield each file with settings of the command line, its table, and whether it belongs to a project."""
    directory_here = Path.cwd()
    for folder in (directory_here, *directory_here.parents):
        project_table = _table(folder / "optio.toml")
        if project_table is None:
            pyproject = _table(folder / "pyproject.toml")
            tool = (pyproject or {}).get("tool", {})
            project_table = tool.get("optio") if isinstance(tool, dict) else None
            path = folder / "pyproject.toml"
        else:
            path = folder / "optio.toml"
        if isinstance(project_table, dict):
            _refuse_stranger(path)
            yield path, project_table, True
            break
    try:
        user_table = directory() / "config.toml"
    except SettingsError:
        return  # no home, no file
    table = _table(user_table)
    if table is not None:
        yield user_table, table, False


def _table(path: Path) -> dict[str, Any] | None:
    """Return a TOML file's content; None if there is none."""
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES)
    except (FileNotFoundError, NotADirectoryError, PermissionError, IsADirectoryError):
        return None
    if path.name == "pyproject.toml" and b"optio" not in data:
        return None
    import tomllib  # only where there is a file

    try:
        return tomllib.loads(data.decode("utf-8"))
    except ValueError as err:
        raise SettingsError(f"{path} is not valid TOML: {err}") from err


def _refuse_stranger(path: Path) -> None:
    owner = path.stat().st_uid
    if os.geteuid() not in (0, owner) and owner != 0:
        raise SettingsError(
            f"{path} belongs to another user, who could choose your server: copy it, or use `--context {LOCAL}`"
        )


def _contexts(path: Path, table: Mapping[str, Any], *, is_project: bool) -> Iterator[Context]:
    contexts = table.get("contexts", {})
    if not isinstance(contexts, dict) or not all(isinstance(entry, dict) for entry in contexts.values()):
        raise SettingsError(f'{path}: contexts must be tables, such as `[contexts.prod]` with `url = "https://..."`')
    for name, entry in contexts.items():
        place = f"{path}: contexts.{name}"
        for key in entry:
            if key not in _KEYS:
                raise SettingsError(f"{place}: unknown key `{key}`: write {', '.join(_KEYS[:-1])} or {_KEYS[-1]}")
        if name == LOCAL:
            raise SettingsError(f"{place}: `{LOCAL}` stands for the server of this machine: choose another name")
        if "token_file" in entry and "token_command" in entry:
            raise SettingsError(f"{place}: give token_file or token_command, not both")
        try:
            url = SETTINGS["url"].read(entry["url"])
        except (KeyError, ValueError, TypeError) as err:
            raise SettingsError(f"{place}: url must be a URL that begins with http:// or https://") from err
        file = _token_file(place, path, entry.get("token_file"), is_project=is_project)
        command = _token_command(place, entry.get("token_command"), is_project=is_project)
        yield Context(name, url, path, token_file=file, token_command=command, is_project=is_project)


def _token_file(place: str, path: Path, text: Any, *, is_project: bool) -> Path | None:
    if text is None:
        return None
    if not isinstance(text, str) or not text:
        raise SettingsError(f"{place}: token_file must be a path")
    file = path.parent / Path(text).expanduser()
    if is_project and not file.resolve().is_relative_to(path.parent.resolve()):
        raise SettingsError(
            f"{place}: the token_file of a project must lie in its directory, or a repository could send any of your files to "
            f"its server: use `optio login`, or name it in {directory() / 'config.toml'}"
        )
    return file


def _token_command(place: str, value: Any, *, is_project: bool) -> tuple[str, ...] | None:
    if value is None:
        return None
    if is_project:
        raise SettingsError(
            f"{place}: a project may not name a token_command, which would run whatever the repository says: put it into "
            f"{directory() / 'config.toml'}"
        )
    if isinstance(value, str):
        value = shlex.split(value)
    if not isinstance(value, list) or not value or not all(isinstance(word, str) for word in value):
        raise SettingsError(f"{place}: token_command must be a command, as a text or a list of words")
    return tuple(value)


# Tokens


def _token(context: Context, *, run_commands: bool) -> str | None:
    """Return the token of a context; raises SettingsError, without any of the token's text."""
    if context.token_file is not None:
        source = f"the token file {context.token_file} of the context `{context.name}`"
        try:
            text = context.token_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as err:
            reason = err.strerror if isinstance(err, OSError) else "it is not text"
            raise SettingsError(f"{source} cannot be read: {reason}") from err
        readers = private_files.readers(context.token_file)
        if readers is not None:
            print(f"optio: {source} can be read by {readers}: run `chmod 600 {context.token_file}`", file=sys.stderr)
        return _usable(text, source)
    if context.token_command and run_commands:
        return _usable(_output(context), f"what the token command of the context `{context.name}` prints")
    return context.login


def _usable(text: str, source: str) -> str:
    try:
        return str(SETTINGS["token"].read(text))
    except ValueError as err:
        raise SettingsError(f"{source} is not a token: it must be one line of ASCII without blanks") from err


def _output(context: Context) -> str:
    import subprocess

    words = context.token_command or ()
    source = f"the token command of the context `{context.name}`, `{words[0]}`,"
    try:
        process = subprocess.run(words, stdout=subprocess.PIPE, timeout=_COMMAND_TIMEOUT_S, check=False)
    except OSError as err:
        raise SettingsError(f"{source} cannot be run: {err.strerror}") from err
    except subprocess.TimeoutExpired as err:
        raise SettingsError(f"{source} did not end within {_COMMAND_TIMEOUT_S} s") from err
    if process.returncode:
        raise SettingsError(f"{source} failed with exit code {process.returncode}")
    return process.stdout.decode("utf-8", "replace").strip()


# Logins


def logins_file() -> Path:
    """Return the path of the file that `optio login` writes."""
    return directory() / "logins.json"


def read_logins() -> dict[str, Any]:
    """Return `contexts` (URL and token by name) and `default`; raises SettingsError for a damaged file."""
    no_logins: dict[str, Any] = {"contexts": {}, "default": None}
    try:
        path = logins_file()
    except SettingsError:
        return no_logins
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError, PermissionError):  # of a user who took another one's HOME along
        return no_logins
    except OSError as err:
        raise SettingsError(f"{path} cannot be read: {err.strerror}") from err
    try:
        stored = json.loads(data)
        names = {name: {"url": login["url"], "token": login["token"]} for name, login in stored["contexts"].items()}
        return {"contexts": names, "default": stored.get("default")}
    except (ValueError, TypeError, KeyError, AttributeError) as err:
        raise SettingsError(f"{path} is damaged: delete it, and log in again") from err


def write_logins(logins: Mapping[str, Any]) -> None:
    """Replace the file by one that only you can read; raises SettingsError."""
    path = logins_file()
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        private_files.write(path, json.dumps(logins, indent=2).encode() + b"\n")
    except OSError as err:
        raise SettingsError(f"{path} cannot be written: {err.strerror}") from err
