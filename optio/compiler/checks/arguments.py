"""Check a `command` that is a list. Each item goes to the program unchanged, because no shell reads it: `&&`, `$NAME` and `~/`
have no effect there."""

import posixpath
import re
from collections.abc import Iterator
from typing import NamedTuple

from optio.compiler.checks.secrets_use import OF_KUBERNETES
from optio.compiler.checks.shell import unset_variables
from optio.compiler.diagnostics import Diagnostic
from optio.compiler.param_schema.declared import declared_parameters
from optio.compiler.resolved_task import ResolvedTask

_SHELL = re.compile(r"(?:ba|da|z|k|a|fi)?sh|pwsh|cmd")
_SIGN = re.compile(r"&&|\|\|?|;|&|[0-9]?>>?(?:&[0-9])?|<")
# Programs that read such signs themselves, or that run a command given in their arguments.
_OWN = frozenset({"find", "expr", "test", "[", "jq", "awk", "xargs", "env", "ssh", "docker", "kubectl", "watch", "su", "sudo"})
# Commands of the shell itself.
_BUILTINS = frozenset({"cd", "export", "source", ".", "set", "alias", "unset", "ulimit", "umask", "exec", "eval"})
# Programs that take names of files, and no patterns.
_TAKE_FILES = frozenset(
    {"ls", "cat", "rm", "cp", "mv", "tar", "gzip", "zip", "wc", "chmod", "chown", "head", "tail", "sort", "du", "touch", "sed"}
)
_INTERPRETER = r"(?:python|node|ruby|perl|bash|sh|deno|bun|php|Rscript)[0-9.]*"
_SCRIPT = r"(?:[\w-]+/)*[\w-]+\.(?:py|sh|js|mjs|ts|rb|pl|php|R)"
# A long option with its value behind a blank. Short ones may have it in the same argument.
_OPTION = r"--[A-Za-z][\w-]* [^\s$-]\S*"
_AS_TEXT = "write the command as one text, which a shell runs"


class _WordFault(NamedTuple):
    """A word of the list that has no effect as it is written: its place, and the message and hint for it."""

    place: int
    message: str
    hint: str


def check(task: ResolvedTask) -> Iterator[Diagnostic]:
    """Report the first argument that only a shell would understand."""
    command = task.spec.command
    if not isinstance(command, list) or not command:
        return
    fault = _line(command) or _program(command) or _script(command) or _relative(task, command)
    if fault is None and not _runs_others(command):
        fault = _option(command) or _argument(task, command)
    if fault is not None:
        yield task.at("OPT526", fault.message, ("command", fault.place), hint=fault.hint)


def _line(command: list[str]) -> _WordFault | None:
    """Return the fault of a whole line as the only word."""
    line, words = command[0], command[0].split()
    if len(command) > 1 or len(words) < 2 or (line[0] in "/." and not words[1].startswith("-")):
        return None
    hint = "write each word as an item of its own, or the line without the brackets, which a shell runs"
    return _WordFault(0, f"`{line}` is one word of a list, and would be the name of the program", hint)


def _program(command: list[str]) -> _WordFault | None:
    """Return the fault of a first word that is no program."""
    program = command[0]
    if program in _BUILTINS:
        return _WordFault(0, f"`{program}` is a command of the shell, and no program", _AS_TEXT)
    if program == "sudo":
        return _WordFault(0, "`sudo` fails: no command of a run is root", "delete it, if the program needs no root")
    if program.startswith("~/"):
        hint = "write its whole path, such as `/opt/bin/sync`"
        return _WordFault(0, f"`{program}` is not a program: no shell fills in `~`", hint)
    if re.fullmatch(r"([A-Za-z_]\w*)=(\S*)", program):
        hint = "delete it, and write it under `environment.env`"
        return _WordFault(0, f"`{program}` is a variable, and would be the name of the program", hint)
    return None


def _script(command: list[str]) -> _WordFault | None:
    """Return the fault of words behind `sh -c SCRIPT`, which the script does not read, and of a script without `-c`."""
    shell = posixpath.basename(command[0])
    if len(command) < 2 or not _SHELL.fullmatch(shell):
        return None
    if len(command) > 3 and command[1] == "-c" and not re.search(r"\$[0-9@*#{]", command[2]):
        message = f"`{command[3]}` is not a part of the script, which is the one word behind `-c`"
        return _WordFault(3, message, "write the whole script as one word")
    if len(command) == 2 and " " in command[1].strip() and not command[1].startswith("-"):
        return _WordFault(1, f"`{shell}` reads `{command[1]}` as the name of a script", "write `-c` before it")
    return None


def _relative(task: ResolvedTask, command: list[str]) -> _WordFault | None:
    """Return the fault of a program or script that is looked for in the working directory."""
    if task.spec.environment.setup_commands:
        return None
    is_script = len(command) > 1 and re.fullmatch(_INTERPRETER, command[0]) and re.fullmatch(_SCRIPT, command[1])
    is_program = command[0].startswith(("./", "../"))
    if not is_script and not is_program:
        return None
    place = 0 if is_program else 1
    hint = f"write its whole path in the image or on the machine, such as `/opt/{command[place].removeprefix('./')}`"
    return _WordFault(place, f"`{command[place]}` is not in the working directory, which is empty at first", hint)


def _runs_others(command: list[str]) -> bool:
    """Return True for a program that reads the signs of a shell itself, or hands its arguments to one."""
    words = [posixpath.basename(word) for word in command[:3]]
    return words[0] in _OWN or any(_SHELL.fullmatch(word) for word in words)


def _option(command: list[str]) -> _WordFault | None:
    """Return the fault of a long option and its value in one argument."""
    place = next((at for at, word in enumerate(command) if at and re.fullmatch(_OPTION, word)), None)
    if place is None:
        return None
    option, value = command[place].split(" ", 1)
    message = f"`{command[place]}` is one argument of `{posixpath.basename(command[0])}`: its option and its value are two"
    return _WordFault(place, message, f"write two items, `{option}` and `{value}`")


def _argument(task: ResolvedTask, command: list[str]) -> _WordFault | None:
    """Return the fault of the first argument that only a shell would understand."""
    parameters = declared_parameters(task)
    params = set(parameters.properties) if parameters is not None else set()
    variables = {*task.spec.environment.env, *task.spec.environment.secrets, "HOME"}
    for place, word in enumerate(command[1:], start=1):
        names = [variable.name for variable in unset_variables(word)]
        if param := next((name for name in names if name in params - variables), None):
            message = f"`{word}` is not filled in: parameters are filled into the prompt only"
            return _WordFault(place, message, _from_file(param))
        if (variable := re.search(OF_KUBERNETES, word)) is not None:
            message = f"`{variable[0]}` is not filled in: that is Kubernetes' way, and the program gets these characters"
            hint = f"let the program read the variable `{variable[1]}`, or write the value itself"
            return _WordFault(place, message, _from_file(variable[1]) if variable[1] in params else hint)
        if (of_shell := _of_a_shell(posixpath.basename(command[0]), word)) is not None:
            return _WordFault(place, of_shell, _AS_TEXT)
        if len(word) > 2 and word[0] == word[-1] and word[0] in "'\"" and word.count(word[0]) == 2:
            message = f"the quotes of `{word}` are part of the argument: a list runs without a shell"
            return _WordFault(place, message, f"write `{word[1:-1]}`")
        if word.startswith("~/") or any(name in variables or name.startswith("OPTIO_") for name in names):
            return _WordFault(place, f"`{word}` is not filled in: a list runs without a shell", _AS_TEXT)
    return None


def _from_file(param: str) -> str:
    return f"delete it, and let the program read `{param}` from the JSON file that `OPTIO_PARAMS_FILE` names"


def _of_a_shell(program: str, word: str) -> str | None:
    """Return the message for an argument that a shell would act on, or change by more than a variable."""
    if _SIGN.fullmatch(word):
        return f"`{word}` is an argument of `{program}`: a list runs without a shell"
    if re.search(r"\$\((?![\w-]*\.)|`[^`]+`", word):
        return f"`{word}` is not filled in: a list runs without a shell"
    if program in _TAKE_FILES and re.fullmatch(r"[\w./-]*[*?][\w.*?/-]*", word):
        return f"`{word}` is the name of one file for `{program}`: only a shell finds the files"
    return None
