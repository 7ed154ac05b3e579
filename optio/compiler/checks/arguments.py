"""Check a `command` that is a list. Each item goes to the program unchanged, because no shell reads it: `&&`, `$NAME` and `~/`
have no effect there."""

import posixpath
import re
import shlex
from collections.abc import Iterator

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
# A long option with its value behind a blank. Short ones may have it in the same argument.
# Commands of the shell itself.
_BUILTINS = frozenset({"cd", "export", "source", ".", "set", "alias", "unset", "ulimit", "umask", "exec", "eval"})
# Programs that take names of files, and no patterns.
_TAKE_FILES = frozenset(
    {"ls", "cat", "rm", "cp", "mv", "tar", "gzip", "zip", "wc", "chmod", "chown", "head", "tail", "sort", "du", "touch", "sed"}
)
_INTERPRETER = r"(?:python|node|ruby|perl|bash|sh|deno|bun|php|Rscript)[0-9.]*"
_SCRIPT = r"(?:[\w-]+/)*[\w-]+\.(?:py|sh|js|mjs|ts|rb|pl|php|R)"
_OPTION = r"--[A-Za-z][\w-]* [^\s$-]\S*"
_MAX_SHOWN = 150


def check(task: ResolvedTask) -> Iterator[Diagnostic]:
    """Report the first argument that only a shell would understand, and propose the command as one text, which a shell runs."""
    command = task.spec.command
    if not isinstance(command, list) or not command:
        return
    program = command[0].split()
    if len(program) > 1 and len(command) == 1 and (command[0][0] not in "/." or program[1].startswith("-")):
        hint = f"write `command: {flow(_split(command[0]))}`"
        if _SYNTAX.search(command[0]):
            whole = flow(command[0])
            hint = f"write it without the brackets, as one text that a shell runs: `command: {whole}`"
            if len(whole) > _MAX_SHOWN or "\n" in command[0]:
                hint = "write it without the brackets, as one text that a shell runs"
        yield task.at(
            "OPT526", f"`{command[0]}` is one word of a list, and would be the name of the program", ("command", 0), hint=hint
        )
        return
    words = [posixpath.basename(word) for word in command]
    if (found := _program(command) or _script(command)) is not None:
        place, message, hint = found
        yield task.at("OPT526", message, ("command", place), hint=hint)
        return
    if not task.spec.environment.setup_commands and (relative := _relative(command)) is not None:
        message = f"`{command[relative]}` is not in the working directory, which is empty at first"
        hint = f"write its whole path in the image or on the machine, such as `/opt/{command[relative].removeprefix('./')}`"
        yield task.at("OPT526", message, ("command", relative), hint=hint)
        return
    if len(command) == 2 and _SHELL.fullmatch(words[0]) and " " in command[1].strip() and not command[1].startswith("-"):
        message = f"`{words[0]}` reads `{command[1]}` as the name of a script"
        hint = f"write `command: {flow([command[0], '-c', command[1]])}`"
        yield task.at("OPT526", message, ("command", 1), hint=hint)
        return
    if words[0] in _OWN or any(_SHELL.fullmatch(word) for word in words[:3]):
        return
    given = declared_parameters(task)
    params = set(given.properties) if given is not None else set()
    known = {*task.spec.environment.env, *task.spec.environment.secrets, "HOME"}
    if (index := next((at for at, word in enumerate(command) if at and re.fullmatch(_OPTION, word)), None)) is not None:
        message = f"`{command[index]}` is one argument of `{words[0]}`: its option and its value are two"
        hint = f"write `command: {flow([*command[:index], *command[index].split(), *command[index + 1 :]])}`"
        yield task.at("OPT526", message, ("command", index), hint=hint)
        return
    for index, word in enumerate(command[1:], start=1):
        if _SIGN.fullmatch(word):
            message = f"`{word}` is an argument of `{words[0]}`: a list runs without a shell"
        elif param := next((each.name for each in unset_variables(word) if each.name in params - known), None):
            message = f"`{word}` is not filled in: parameters are filled into the prompt only"
            option = command[index - 1] if index > 1 and re.fullmatch(r"--?[A-Za-z][\w-]*", command[index - 1]) else None
            delete = f"delete `{option}` and `{word}`" if option else f"delete `{word}`"
            hint = f"{delete}, and let the program read `{param}` from the JSON file that `OPTIO_PARAMS_FILE` names"
            yield task.at("OPT526", message, ("command", index), hint=hint)
            return
        elif (variable := re.search(OF_KUBERNETES, word)) is not None:
            name = variable[1]
            value = task.spec.environment.env.get(name)
            message = f"`{variable[0]}` is not filled in: that is Kubernetes' way, and the program gets these characters"
            hint = f"let the program read the variable `{name}`"
            if value is not None and len(value) <= _MAX_SHOWN and "$" not in value:
                better = flow([*command[:index], word.replace(variable[0], value), *command[index + 1 :]])
                hint = f"write the value itself: `command: {better}`, or {hint}"
            elif name in params:
                hint = f"let the program read `{name}` from the JSON file that `OPTIO_PARAMS_FILE` names"
            elif name not in known:
                hint = "write the value itself"
            yield task.at("OPT526", message, ("command", index), hint=hint)
            return
        elif re.search(r"\$\((?![\w-]*\.)|`[^`]+`", word):
            message = f"`{word}` is not filled in: a list runs without a shell"
        elif words[0] in _TAKE_FILES and re.fullmatch(r"[\w./-]*[*?][\w.*?/-]*", word):
            message = f"`{word}` is the name of one file for `{words[0]}`: only a shell finds the files"
        elif re.search(r"\S (?:&&|\|\|?|;) \S", word) and not word.startswith("-"):
            message = f"`{word}` is one argument of `{words[0]}`: a list runs without a shell"
        elif len(word) > 2 and word[0] == word[-1] and word[0] in "'\"" and word.count(word[0]) == 2:
            message = f"the quotes of `{word}` are part of the argument: a list runs without a shell"
            bare = flow([*command[:index], word[1:-1], *command[index + 1 :]])
            yield task.at("OPT526", message, ("command", index), hint=f"write `command: {bare}`")
            return
        elif word.startswith("~/") or any(
            each.name in known or each.name.startswith("OPTIO_") for each in unset_variables(word)
        ):
            message = f"`{word}` is not filled in: a list runs without a shell"
        else:
            continue
        line = " ".join(_shell_word(each) for each in command)
        short = len(line) <= _MAX_SHOWN and "\n" not in line and "{{" not in line
        hint = (
            f"write one text, which a shell runs: `command: {_quoted(line)}`" if short else "write one text, which a shell runs"
        )
        yield task.at("OPT526", message, ("command", index), hint=hint)
        return


def _program(command: list[str]) -> tuple[int, str, str] | None:
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


def _script(command: list[str]) -> tuple[int, str, str] | None:
    """Return place, message and hint for words behind `sh -c SCRIPT`, which the script does not read."""
    if len(command) < 4 or command[1] != "-c" or not _SHELL.fullmatch(posixpath.basename(command[0])):
        return None
    script, more = command[2], command[3:]
    if re.search(r"\$[0-9@*#{]", script):
        return None
    sign = " " if script.strip() == script and not more[0][:1].isalpha() else " && "
    better = flow([*command[:2], script + sign + (" ".join(more) if sign == " " else " && ".join(more))])
    return 3, f"`{more[0]}` is not a part of the script, which is the one word behind `-c`", f"write `command: {better}`"


def _relative(command: list[str]) -> int | None:
    """Return the place of a program or script that is looked for in the working directory."""
    if command[0].startswith(("./", "../")):
        return 0
    is_script = len(command) > 1 and re.fullmatch(_INTERPRETER, command[0]) and re.fullmatch(_SCRIPT, command[1])
    return 1 if is_script else None


def _shell_word(word: str) -> str:
    """Return an argument as a shell reads it back, with its variables filled in."""
    if _SIGN.fullmatch(word) or word.startswith("~/") or re.fullmatch(r"[\w./-]*[*?][\w.*?/-]*", word):
        return word
    if re.search(r"\S (?:&&|\|\|?|;) \S", word):
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
