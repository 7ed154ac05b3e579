"""Merge the keys by which Docker, Kubernetes, GitHub Actions and others name a program (`entrypoint`, `args`, `shell`, `run`)
into the one `command` of a task with `agentRuntime: command`. Imported only for a file with an unknown key."""

import re
import shlex
from collections.abc import Iterator
from typing import Any, NamedTuple

from optio.compiler.conversions.known_keys import fold_key
from optio.compiler.token_shapes import find_tokens
from optio.compiler.yaml.emit import flow
from optio.model.route import Route

_FRONT = frozenset({"entrypoint", "dockerentrypoint", "executable", "program"})
_ENDS = frozenset({"args", "argv", "arguments", "cmd", "commandargs", "extraargs"})
_SCRIPTS = frozenset({"run", "script", "exec", "bashcommand", "runcommand", "commandline", "shellcommand", "source"})
_INTERPRETER = re.compile(r"(?:/(?:usr/)?(?:local/)?bin/)?(?:(?:ba|da|z|k|a|fi)?sh|pwsh|python[\d.]*|node|ruby|perl)")
_RUNS_TEXT = {"node": "-e", "ruby": "-e", "perl": "-e", "pwsh": "-Command"}
# Options that a script follows as one word.
_BEFORE_TEXT = frozenset({"-c", "-e", "-lc", "-ec", "-ce", "-euc", "-Command"})
# Signs that only a shell understands.
_SHELL_SIGNS = re.compile(r"[$&|;<>*?~`(){}#\n]")
_MAX_SHOWN = 200


class ProgramCure(NamedTuple):
    """The cure for one of the keys: the hint, and the `entry` that replaces it where it stands alone."""

    hint: str
    entry: str | None = None


class _Part(NamedTuple):
    route: Route
    role: str | None
    value: Any


def explain_program_key(root: Any, route: Route) -> ProgramCure | None:
    """Return the cure for a key that names a part of the program, or None for other keys, tasks with a prompt, and values that
    are neither a text nor a list of words. All parts are merged: the first key is replaced, the others are deleted."""
    if not isinstance(root, dict) or root.get("agentRuntime") != "command":
        return None
    parts = list(_parts(root))
    mine = next((part for part in parts if part.route == route), None)
    parts = [part for part in parts if part.value not in (None, "", [])]
    if mine is not None and mine not in parts and (parts or mine.role != "script"):
        return ProgramCure("delete it: it is empty")
    if mine is None or mine not in parts or not all(map(_is_sound, parts)):
        return None
    there = root.get("command")
    if mine.role == "script" and len(parts) == 1 and "command" not in root:
        return None if isinstance(mine.value, list) else ProgramCure("write `command:`")
    made = _merged(parts, there)
    if not made:
        return None
    if made == there:
        return ProgramCure("delete it: `command` says the same")
    written = flow(made)
    if len(written) > _MAX_SHOWN or any(find_tokens("", written)):
        return ProgramCure(_in_words(mine, made))
    first, *others = parts
    if mine is not first:
        return ProgramCure(f"delete it: `command: {written}`, in the place of `{first.route[-1]}`, has the same meaning")
    place = " at the top of the file" if len(route) > 1 else ""
    names = [f"`{part.route[-1]}`" for part in others]
    also = ["this line"] if "command" in root else []
    also += names
    rest = f", and delete {' and '.join(also)}" if also else ""
    alone = not also and len(route) == 1
    place = " in the place of the one that is there" if "command" in root else place
    return ProgramCure(f"write `command: {written}`{place}{rest}", f"command: {written}" if alone else None)


def _parts(root: dict[str, Any]) -> Iterator[_Part]:
    """Yield the keys that name a part of the program, as they stand in the file."""
    for key, value in root.items():
        if key == "environment" and isinstance(value, dict):
            yield from (
                _Part((key, inner), role, below)
                for inner, below in value.items()
                if (role := _role(str(inner))) in ("front", "end") or inner == "command"
            )
        elif (role := _role(str(key))) is not None:
            yield _Part((key,), role, value)


def _role(key: str) -> str | None:
    folded = fold_key(key)
    sets = {"front": _FRONT, "end": _ENDS, "script": _SCRIPTS, "shell": frozenset({"shell"})}
    return next((role for role, names in sets.items() if folded in names), None)


def _is_sound(part: _Part) -> bool:
    if part.role == "shell" and isinstance(part.value, bool):
        return True
    if isinstance(part.value, list):
        return bool(part.value) and all(isinstance(each, (str, int, float)) for each in part.value)
    return isinstance(part.value, str) and bool(part.value.strip())


def _merged(parts: list[_Part], there: Any) -> str | list[str] | None:
    """Return the whole program: what stands in front, the program or script itself, and its arguments."""
    by_role: dict[str | None, Any] = {}
    for part in parts:
        if part.role in by_role:
            return None
        by_role[part.role] = part.value
    front, main, script, end = by_role.get("front"), there, by_role.get("script"), by_role.get("end")
    if None in by_role:  # `command` below `environment`
        if main is not None:
            return None
        main = by_role[None]
    front = [] if front is None else _words(front)
    shell = _shell_words(by_role.get("shell"))
    if shell is None:  # a command, as Ansible's `shell:`
        if script is not None or main is not None:
            return None
        script = by_role["shell"]
    if script is not None and isinstance(main, list) and _INTERPRETER.fullmatch(str(main[0]) if main else ""):
        front, main = [*front, *map(str, main)], None
    if isinstance(script, list):
        script = None if any("\n" in str(line) for line in script) else " && ".join(map(str, script))
    if main is not None and by_role.get("script") is not None:
        return None
    if main is None:
        main = script
    if shell and isinstance(main, str):
        front = [*front, *shell]
    if isinstance(main, str) and not front and end is None:
        return main
    words = front if main is None else _joined(front, main, is_script=main is script)
    return words if end is None else _joined(words, end)


def _joined(front: list[str], more: Any, *, is_script: bool = False) -> list[str]:
    """Return the words with more behind them: for a shell or interpreter a script as one word, else word by word."""
    last = front[-1] if front else ""
    if isinstance(more, str):
        if last in _BEFORE_TEXT:
            return [*front, more]
        if is_script and len(front) == 1 and _INTERPRETER.fullmatch(last) and re.search(r"\s", more):
            return [*front, _RUNS_TEXT.get(last.rpartition("/")[2], "-c"), more]
        return [*front, *_words(more)]
    words = [_word(each) for each in (more if isinstance(more, list) else [more])]
    if words[: len(front)] == front:
        return words
    return [*front, words[0] if len(words) == 1 else shlex.join(words)] if last in _BEFORE_TEXT else [*front, *words]


def _word(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _words(value: Any) -> list[str]:
    """Return the words of a program; a text with signs that only a shell understands is run by one."""
    if isinstance(value, list):
        return [_word(each) for each in value]
    if _SHELL_SIGNS.search(value):
        return ["sh", "-c", value.strip()]
    try:
        return shlex.split(value)
    except ValueError:
        return ["sh", "-c", value.strip()]


def _shell_words(value: Any) -> list[str] | None:
    """Return how a script is run by the named shell, an empty list for `sh`, or None for a text that names no shell."""
    if value is None or isinstance(value, bool):
        return []
    words = [str(word) for word in (value if isinstance(value, list) else value.split()) if word not in ("{0}", "-c")]
    if not words or not _INTERPRETER.fullmatch(words[0]):
        return None
    name = words[0].rpartition("/")[2]
    return [] if words == ["sh"] else [*words, _RUNS_TEXT.get(name, "-c")]


def _in_words(part: _Part, made: str | list[str]) -> str:
    """Return the cure for a program that is too long to show, or that may hold a secret."""
    if part.role == "end":
        return "put its words at the end of `command`, and delete this line"
    if part.role == "shell" and isinstance(made, list):
        listed = ", ".join(f"`{word}`" for word in made[:-1])
        return f"write `command` as a list of {listed} and the script, and delete this line"
    return "put its words at the front of `command`, and delete this line"


def starts_program(value: Any) -> bool:
    """Return True if an `entrypoint` starts the program of a container, and is no function or step of a workflow."""
    if isinstance(value, list):
        return bool(value) and all(isinstance(each, str) for each in value)
    return isinstance(value, str) and re.match(r"\.{0,2}/|\S+\s+\S", value) is not None
