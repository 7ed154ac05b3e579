"""Check a `command` that is a list. Each item goes to the program unchanged, because no shell reads it: `&&`, `$NAME` and `~/`
have no effect there."""

import posixpath
import re
import shlex
from collections.abc import Iterator, Mapping

from optio.compiler.checks.secrets_use import OF_KUBERNETES
from optio.compiler.checks.shell import unset_variables
from optio.compiler.diagnostics import Diagnostic
from optio.compiler.param_schema.declared import declared_parameters
from optio.compiler.resolved_task import ResolvedTask
from optio.compiler.yaml.emit import flow

_SHELL = re.compile(r"(?:ba|da|z|k|a|fi)?sh|pwsh|cmd")
_SIGN = re.compile(r"&&|\|\|?|;|&|[0-9]?>>?(?:&[0-9])?|<")
# Programs that read such signs themselves, or that run a command given in their arguments.
_OWN = frozenset({"find", "expr", "test", "[", "jq", "awk", "xargs", "env", "ssh", "docker", "kubectl", "watch", "su", "sudo"})
# Text that only a shell reads: in a list it would reach the program unchanged.
_SYNTAX = re.compile(r"\$[A-Za-z_({]|[|;<>`]|&&|\s&\s*\Z|(?:^|\s)~/|(?:^|\s)\w+=\S*\s")
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
_MAX_SHOWN = 150
# The place of a word in the list, and the message and hint for it.
_Found = tuple[int, str, str]


def check(task: ResolvedTask) -> Iterator[Diagnostic]:
    """Report the first argument that only a shell would understand, and propose the command as one text, which a shell runs."""
    command = task.spec.command
    if not isinstance(command, list) or not command:
        return
    found = _line(command) or _program(command) or _script(command) or _relative(task, command) or _script_file(command)
    if found is None and not _runs_others(command):
        found = _option(command) or _argument(task, command)
    if found is not None:
        place, message, hint = found
        yield task.at("OPT526", message, ("command", place), hint=hint)


def _line(command: list[str]) -> _Found | None:
    """Return place, message and hint for a whole line as the only word."""
    line, program = command[0], command[0].split()
    if len(command) > 1 or len(program) < 2 or (line[0] in "/." and not program[1].startswith("-")):
        return None
    hint = f"write `command: {flow(_split(line))}`"
    if _SYNTAX.search(line):
        whole = flow(line)
        hint = "write it without the brackets, as one text that a shell runs"
        if len(whole) <= _MAX_SHOWN and "\n" not in line:
            hint += f": `command: {whole}`"
    return 0, f"`{line}` is one word of a list, and would be the name of the program", hint


def _program(command: list[str]) -> _Found | None:
    """Return place, message and hint for a first word that is no program."""
    program, whole = command[0], " ".join(_shell_word(word) for word in command)
    if program in _BUILTINS:
        rest = "" if len(command) > 2 else " && COMMAND"
        return (
            0,
            f"`{program}` is a command of the shell, and no program",
            f"write one text: `command: {_quoted(whole + rest)}`",
        )
    if program == "sudo":
        better = flow(command[1:])
        return 0, "`sudo` fails: no command of a run is root", f"write `command: {better}`, if it needs no root"
    if program.startswith("~/"):
        return 0, f"`{program}` is not a program: no shell fills in `~`", "write its whole path, such as `/opt/bin/sync`"
    if (assigned := re.fullmatch(r"([A-Za-z_]\w*)=(\S*)", program)) is not None:
        better = flow(command[1:]) if command[1:] else "[PROGRAM]"
        hint = f"write `command: {better}`, and `environment: {{env: {{{assigned[1]}: {flow(assigned[2])}}}}}`"
        return 0, f"`{program}` is a variable, and would be the name of the program", hint
    return None


def _script(command: list[str]) -> _Found | None:
    """Return place, message and hint for words behind `sh -c SCRIPT`, which the script does not read."""
    if len(command) < 4 or command[1] != "-c" or not _SHELL.fullmatch(posixpath.basename(command[0])):
        return None
    script, more = command[2], command[3:]
    if re.search(r"\$[0-9@*#{]", script):
        return None
    sign = " " if script.strip() == script and not more[0][:1].isalpha() else " && "
    better = flow([*command[:2], script + sign + (" ".join(more) if sign == " " else " && ".join(more))])
    return 3, f"`{more[0]}` is not a part of the script, which is the one word behind `-c`", f"write `command: {better}`"


def _relative(task: ResolvedTask, command: list[str]) -> _Found | None:
    """Return place, message and hint for a program or script that is looked for in the working directory."""
    if task.spec.environment.setup_commands:
        return None
    is_script = len(command) > 1 and re.fullmatch(_INTERPRETER, command[0]) and re.fullmatch(_SCRIPT, command[1])
    if not is_script and not command[0].startswith(("./", "../")):
        return None
    place = 0 if command[0].startswith(("./", "../")) else 1
    hint = f"write its whole path in the image or on the machine, such as `/opt/{command[place].removeprefix('./')}`"
    return place, f"`{command[place]}` is not in the working directory, which is empty at first", hint


def _script_file(command: list[str]) -> _Found | None:
    """Return place, message and hint for a script behind `sh`, without `-c`."""
    shell = posixpath.basename(command[0])
    if len(command) != 2 or not _SHELL.fullmatch(shell) or " " not in command[1].strip() or command[1].startswith("-"):
        return None
    hint = f"write `command: {flow([command[0], '-c', command[1]])}`"
    return 1, f"`{shell}` reads `{command[1]}` as the name of a script", hint


def _runs_others(command: list[str]) -> bool:
    """Return True for a program that reads the signs of a shell itself, or hands its arguments to one."""
    words = [posixpath.basename(word) for word in command[:3]]
    return words[0] in _OWN or any(_SHELL.fullmatch(word) for word in words)


def _option(command: list[str]) -> _Found | None:
    """Return place, message and hint for a long option and its value in one argument."""
    place = next((at for at, word in enumerate(command) if at and re.fullmatch(_OPTION, word)), None)
    if place is None:
        return None
    better = flow([*command[:place], *command[place].split(), *command[place + 1 :]])
    message = f"`{command[place]}` is one argument of `{posixpath.basename(command[0])}`: its option and its value are two"
    return place, message, f"write `command: {better}`"


def _argument(task: ResolvedTask, command: list[str]) -> _Found | None:
    """Return place, message and hint for the first argument that only a shell would understand."""
    declared = declared_parameters(task)
    params = set(declared.properties) if declared is not None else set()
    environment = task.spec.environment
    known = {*environment.env, *environment.secrets, "HOME"}
    for place, word in enumerate(command[1:], start=1):
        if param := next((each.name for each in unset_variables(word) if each.name in params - known), None):
            message = f"`{word}` is not filled in: parameters are filled into the prompt only"
            return place, message, _instead_of(command, place, param)
        if (variable := re.search(OF_KUBERNETES, word)) is not None:
            message = f"`{variable[0]}` is not filled in: that is Kubernetes' way, and the program gets these characters"
            return place, message, _instead_of_kubernetes(command, place, variable, environment.env, params, known)
        shells = _of_a_shell(posixpath.basename(command[0]), word)
        if shells is None and len(word) > 2 and word[0] == word[-1] and word[0] in "'\"" and word.count(word[0]) == 2:
            bare = flow([*command[:place], word[1:-1], *command[place + 1 :]])
            message = f"the quotes of `{word}` are part of the argument: a list runs without a shell"
            return place, message, f"write `command: {bare}`"
        filled_in = word.startswith("~/") or any(
            each.name in known or each.name.startswith("OPTIO_") for each in unset_variables(word)
        )
        if shells is not None or filled_in:
            return place, shells or f"`{word}` is not filled in: a list runs without a shell", _as_text(command)
    return None


def _instead_of(command: list[str], place: int, param: str) -> str:
    """Return the hint for an argument that names a parameter."""
    option = command[place - 1] if place > 1 and re.fullmatch(r"--?[A-Za-z][\w-]*", command[place - 1]) else None
    delete = f"delete `{option}` and `{command[place]}`" if option else f"delete `{command[place]}`"
    return f"{delete}, and let the program read `{param}` from the JSON file that `OPTIO_PARAMS_FILE` names"


def _instead_of_kubernetes(
    command: list[str], place: int, variable: re.Match[str], env: Mapping[str, str], params: set[str], known: set[str]
) -> str:
    """Return the hint for an argument with `$(NAME)`, which Kubernetes fills in where it runs the command."""
    name, value = variable[1], env.get(variable[1])
    if value is not None and len(value) <= _MAX_SHOWN and "$" not in value:
        better = flow([*command[:place], command[place].replace(variable[0], value), *command[place + 1 :]])
        return f"write the value itself: `command: {better}`, or let the program read the variable `{name}`"
    if name in params:
        return f"let the program read `{name}` from the JSON file that `OPTIO_PARAMS_FILE` names"
    return f"let the program read the variable `{name}`" if name in known else "write the value itself"


def _of_a_shell(program: str, word: str) -> str | None:
    """Return the message for an argument that a shell would act on, or change by more than a variable."""
    if _SIGN.fullmatch(word):
        return f"`{word}` is an argument of `{program}`: a list runs without a shell"
    if re.search(r"\$\((?![\w-]*\.)|`[^`]+`", word):
        return f"`{word}` is not filled in: a list runs without a shell"
    if program in _TAKE_FILES and re.fullmatch(r"[\w./-]*[*?][\w.*?/-]*", word):
        return f"`{word}` is the name of one file for `{program}`: only a shell finds the files"
    return None


def _as_text(command: list[str]) -> str:
    """Return the hint with the command as one text."""
    line = " ".join(_shell_word(each) for each in command)
    is_short = len(line) <= _MAX_SHOWN and "\n" not in line and "{{" not in line
    return "write one text, which a shell runs" + (f": `command: {_quoted(line)}`" if is_short else "")


def _shell_word(word: str) -> str:
    """Return an argument as a shell reads it back, with its variables filled in."""
    if _SIGN.fullmatch(word) or word.startswith("~/") or re.fullmatch(r"[\w./-]*[*?][\w.*?/-]*", word):
        return word
    if re.fullmatch(r"[\w=./-]*(?:`[^`\"]+`|\$\([^()\"]+\))", word):
        return f'"{word}"'
    if "$" in word:
        return word if re.fullmatch(r"[\w$]+", word) else '"' + re.sub(r'(["\\`])', r"\\\1", word) + '"'
    return shlex.quote(word)


def _split(line: str) -> list[str]:
    try:
        return shlex.split(line)
    except ValueError:  # an unclosed quote
        return line.split()


def _quoted(line: str) -> str:
    return "'" + line.replace("'", "''") + "'"
