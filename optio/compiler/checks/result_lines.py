"""Check what a `command` writes to `$OPTIO_RESULT_FILE`: literal lines that Optio would ignore or refuse, and a declared result
that no line of the command can give. A program of the author's own may write anything, so a command that calls one is left
alone."""

import json
import posixpath
import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, NamedTuple

from optio.compiler.checks import shell
from optio.compiler.checks.params import check_validity
from optio.compiler.checks.result import ROUTE
from optio.compiler.diagnostics import Diagnostic
from optio.compiler.resolved_task import ResolvedTask
from optio.compiler.suggest import suggest
from optio.model.params import iter_faults
from optio.model.route import Route, show

_FILE = "OPTIO_RESULT_FILE"
_APPEND = f'>> "${_FILE}"'
_TYPES, _STATUSES = ("result", "usage", "turn"), ("ok", "error", "no_work")
_KEYS = frozenset({"type", "status", "text", "output", "reason", "retryable", "retryAfterS"})
# Words that other programs have for a status.
_MEANT = {
    **dict.fromkeys(("success", "succeeded", "done", "passed", "completed", "complete", "true"), "ok"),
    **dict.fromkeys(("fail", "failed", "failure", "err", "errored", "false"), "error"),
    **dict.fromkeys(("skip", "skipped", "noop", "no-op", "nothing", "none", "no-work", "nowork", "empty", "idle"), "no_work"),
}
# A JSON object in the quotes of an `echo` or `printf`, and what follows in the same statement.
_ECHOED = re.compile(r"""(?:echo|printf)\s[^'"\n]{0,20}(?P<quote>['"])(?P<json>\{.*?\})(?:\\n)?(?P=quote)(?P<rest>[^\n;]*)""")
_FILLED = re.compile(r"%[-0-9.]*[sdifg]|\$\{\w+\}|\$\w+|\$\([^()]*\)")
# Commands of the shell, and programs that everybody has and that write no result by themselves.
_KNOWN = frozenset(
    {
        *("awk", "basename", "base64", "break", "cat", "cd", "command", "continue", "cp", "curl", "cut", "date", "df", "dig"),
        *("dirname", "du", "echo", "egrep", "exit", "export", "expr", "false", "find", "free", "grep", "gunzip", "gzip"),
        *("head", "host", "hostname", "jq", "local", "ls", "md5sum", "mkdir", "mktemp", "mv", "nproc", "nslookup", "paste"),
        *("ping", "printf", "pwd", "read", "readonly", "return", "rm", "sed", "seq", "set", "sha256sum", "shift", "shuf"),
        *("sleep", "sort", "split", "stat", "tail", "tar", "tee", "test", "touch", "tr", "trap", "true", "uname", "uniq"),
        *("unset", "unzip", "uptime", "wait", "wc", "wget", "whoami", "xargs", "yq", "zcat", "[", "[[", ":", "openssl"),
    }
)
_KEYWORDS = frozenset({"if", "then", "else", "elif", "fi", "for", "while", "until", "do", "done", "{", "}", "!", "time", "in"})
# What writes to the result file, by `>` or `tee` alone or so that it appends.
_WRITES = (
    rf"(?:(?P<anew>(?<![>0-9&])>\|?(?!>)|\btee(?=[ \t]+[\"$]))|>>|\btee[ \t]+(?:-a|--append))[ \t]*\"?\$\{{?{_FILE}\}}?\"?"
)
# The patterns of a `case`, each at the beginning of its line.
_CASE_PATTERN = r"(?m)^[ \t]*\(?[^\s()$`;&|]+(?:[ \t]*\|[ \t]*[^\s()$`;&|]+)*\)(?=[ \t]|$)"
_SEPARATOR = re.compile(r"\$\(|[;&|()\n`]")
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=\S*")
_QUOTED = re.compile(r"'[^']*'|\"(?:[^\"\\$`]|\\.)*\"")
_LOOP = re.compile(r"\b(?:for|case|select)\b.*")
_MAX_COMMAND_LENGTH, _MAX_SHOWN = 20_000, 200


# What stands before the output in a result line.
_OUTPUT = '{"type": "result", "status": "ok", "output": '


class _Literal(NamedTuple):
    """A literal line: its value, whether the shell fills in parts of it, and its text in the command, with and
    without the backslashes of double quotes."""

    value: dict[str, Any]
    is_filled: bool
    written: str
    plain: str


def check(task: ResolvedTask) -> Iterator[Diagnostic]:
    """Report the literal lines that cannot count, or else that no line is written."""
    found = _script(task)
    if found is None or len(found[1]) > _MAX_COMMAND_LENGTH or not task.is_known(("command",)):
        return
    route, text = found
    if _FILE not in text:
        yield from _nothing_written(task, route, text)
        return
    yield from _begun_anew(task, route, text)
    for line in _lines(text):
        problem = _problem(task, line)
        if problem is not None:
            span = task.document.find(route, line.written)
            yield task.at("OPT617", problem[0], route, hint=problem[1], span=span)


def _begun_anew(task: ResolvedTask, route: Route, text: str) -> Iterator[Diagnostic]:
    """Report `> "$OPTIO_RESULT_FILE"` behind a line that may stand in the file already."""
    writes = [
        each for each in re.finditer(_WRITES, text) if not re.search(r"^\s*#", text[text.rfind("\n", 0, each.start()) + 1 :])
    ]
    for before, here in pairwise(writes):
        between = text[before.end() : here.start()]
        # Only one of two branches is taken, and nothing follows an `exit`.
        if here["anew"] and not re.search(r"\b(?:exit|return|exec|else|elif)\b|;;|\|\||(?m:^\s*\})", between):
            message = "the result file is begun anew, and it may hold a line already: Optio reads it while the command runs"
            right = "tee -a" if here["anew"].startswith("tee") else ">>"
            span = task.document.find(route, here[0], text.count(here[0], 0, here.start()))
            yield task.at("OPT617", message, route, hint=f"write `{right}`, which appends to it", span=span)
            return


def _script(task: ResolvedTask) -> tuple[Route, str] | None:
    """Return the text of the command, or of a list's script; a list without a script is one command."""
    command = task.spec.command
    if command is None or isinstance(command, str):
        return None if command is None else (("command",), command)
    if "-c" in command[1:-1] and posixpath.basename(command[0]).endswith("sh"):
        place = command.index("-c") + 1
        return ("command", place), command[place]
    return (("command",), command[0]) if command else None


def _lines(text: str) -> Iterator[_Literal]:
    for found in _ECHOED.finditer(text):
        if _FILE not in found["rest"]:
            continue
        plain = found["json"] if found["quote"] == "'" else re.sub(r"\\([\"\\$`])", r"\1", found["json"])
        is_filled = (found["quote"] == '"' or "printf" in found[0][:8]) and _FILLED.search(plain) is not None
        value = None
        for instead in ("0", "x") if is_filled else ("",):
            try:
                value = json.loads(_FILLED.sub(instead, plain) if is_filled else plain)
                break
            except ValueError:
                continue
        if isinstance(value, dict):
            yield _Literal(value, is_filled, found["json"], plain)


def _problem(task: ResolvedTask, line: _Literal) -> tuple[str, str] | None:
    """Return the message and the hint for a line that is ignored or fails the attempt, or None."""
    value = line.value
    if "type" not in value:
        message = "a line without `type` is ignored"
        if "costUsd" in value and {"status", "text", "reason"}.isdisjoint(value):
            return message, _write({"type": "usage", **value}, line)
        if not _KEYS.isdisjoint(value):
            return message, _write({"type": "result", **value}, line)
        before = _OUTPUT if line.written == line.plain else _escaped(_OUTPUT)
        return message, f"write `{before}{line.written}}}`"
    if value["type"] not in _TYPES:
        meant = suggest(str(value["type"]), _TYPES) or "result"
        return f"a line of the type `{value['type']}` is ignored", _write({**value, "type": meant}, line)
    if value["type"] != "result":
        return None
    status = value.get("status")
    if status not in _STATUSES:
        meant = _MEANT.get(str(status).lower()) or suggest(str(status), _STATUSES) or "ok"
        given = "no `status`" if status is None else f"the status `{status}`"
        rest = {key: each for key, each in value.items() if key not in ("type", "status", "costUsd")}
        message = f"a result with {given} is ignored: it is `ok`, `error` or `no_work`"
        hint = _write({"type": "result", "status": meant, **rest}, line)
        if "costUsd" in value:
            hint += ", and the cost as a line of its own, of the type `usage`"
        return message, hint
    if "costUsd" in value:
        usage = json.dumps({"type": "usage", "costUsd": value["costUsd"]})
        hint = (
            "write it as a line of its own, of the type `usage`"
            if line.is_filled
            else f"write it as a line of its own: `{usage}`"
        )
        return "the cost in a result is not counted, so no budget holds it", hint
    if status == "no_work" and not str(value.get("text") or "").strip():
        return "`no_work` without a `text` that says why: the attempt fails", _write({**value, "text": "nothing to do"}, line)
    return _bad_output(task, line) if status == "ok" and task.spec.result is not None else None


def _bad_output(task: ResolvedTask, line: _Literal) -> tuple[str, str] | None:
    """Return the message and the hint for a result without the output that the task declares."""
    value, declared = line.value, task.spec.result
    if declared is None or not task.is_known(("result",)) or any(check_validity(task, ROUTE, declared.schema)):
        return None
    if "output" not in value:
        beside = {key: each for key, each in value.items() if key not in _KEYS}
        if not declared.required and not beside:
            return None
        rest = {key: each for key, each in value.items() if key in _KEYS}
        hint = _write({**rest, "output": beside or {}}, line) if beside else f'add `"output": {_sample(task)}` to the line'
        return "the declared result stands in `output`, which this line lacks: the attempt fails", hint
    fault = None if line.is_filled else next(iter(iter_faults(declared.schema, value["output"])), None)
    if fault is None:
        return None
    where = f"`output.{show(fault[0])}`" if fault[0] else "`output`"
    return f"{where} {fault[1]}: the attempt fails", f"write an output that fits `result.schema`, such as `{_sample(task)}`"


def _write(value: dict[str, Any], line: _Literal) -> str:
    shown = json.dumps(value, ensure_ascii=False)
    if line.is_filled or len(shown) > _MAX_SHOWN:
        given = {key: each for key, each in value.items() if key not in line.value or line.value[key] != each}
        shown = " and ".join(f"`{json.dumps(key)}: {json.dumps(each)}`" for key, each in given.items())
        return f"write {shown} in it" if line.value.keys() >= given.keys() else f"add {shown} to the line"
    return f"write `{shown}`"


def _escaped(text: str) -> str:
    """Return a text as it stands between the double quotes of a shell."""
    return text.replace('"', '\\"')


def _sample(task: ResolvedTask) -> str:
    """Return an output that fits the schema, with a value of its type for each key."""
    schema = task.spec.result.schema if task.spec.result is not None else {}
    return json.dumps(_instance(schema), ensure_ascii=False)


def _instance(schema: Any) -> Any:
    from optio.compiler.conversions.entries import fitting_value  # imported only for a file with a mistake

    if isinstance(schema, dict) and isinstance(schema.get("properties"), dict):
        names = schema.get("required") or schema["properties"]
        return {name: _instance(schema["properties"].get(name)) for name in names}
    shown = fitting_value(schema)
    try:
        return "" if shown is None else json.loads(shown)
    except ValueError:
        return shown


def _nothing_written(task: ResolvedTask, route: Route, text: str) -> Iterator[Diagnostic]:
    """Report a required result of a command that calls programs without a way to write one."""
    declared = task.spec.result
    if declared is None or not declared.required or not task.is_known(("result",)):
        return
    if not _calls_known_programs(text):
        return
    if any(_FILE in each for each in task.spec.environment.env.values()):
        return
    message = "no `result` line is written: standard output is a log, so each attempt fails as `result_missing`"
    last = text.rstrip().rpartition("\n")[2].strip()
    yield task.at("OPT617", message, route, hint=_append(task, route, last), span=task.document.find(route, last))


def _append(task: ResolvedTask, route: Route, last: str) -> str:
    """Return the hint with the line that writes the result: the last one made a result line, or a line to add."""
    printed = re.fullmatch(r"\s*(?P<call>(?:printf|echo)\s+['\"])(?P<json>\{.*\})(?P<rest>(?:\\n)?['\"].*)", last)
    if printed is not None and ">" not in printed["rest"] and len(last) <= _MAX_SHOWN:
        escaped = '\\"' in printed["json"]
        before = _escaped(_OUTPUT) if escaped else _OUTPUT
        return f"write the last line as `{printed['call']}{before}{printed['json']}}}{printed['rest']} {_APPEND}`"
    if re.search(r"\bjq\b", last) and ">" not in last and len(last) <= _MAX_SHOWN:
        return f'end the last line with `| jq -c \'{{type: "result", status: "ok", output: .}}\' {_APPEND}`'
    if isinstance(task.spec.command, list) and route == ("command",):
        return f"write the command as one text, which a shell runs, with `{_APPEND}` behind what makes a result line"
    line = f'{{"type": "result", "status": "ok", "output": {_sample(task)}}}'
    return f"add the line `echo '{line}' {_APPEND}`, with your own values"


def _calls_known_programs(text: str) -> bool:
    """Return True if each command of a shell text is one of `_KNOWN`."""
    if "<<" in text or shell.find_shell_error(text) is not None:
        return False
    lines = (re.sub(r"(?:^|\s)#.*", "", line) for line in re.sub(r"\\\n", " ", text).splitlines())
    bare = "\n".join(_LOOP.sub("", line) for line in (_QUOTED.sub("_", line) for line in lines)).replace('"', "")
    if re.search(r"\besac\b", bare):
        bare = re.sub(r"\besac\b", "", re.sub(_CASE_PATTERN, "", bare))
    words = [_program(part.split()) for part in _SEPARATOR.split(bare)]
    return any(words) and all(word is None or posixpath.basename(word) in _KNOWN for word in words)


def _program(words: list[str]) -> str | None:
    """Return the word of a simple command that names the program, or None where there is none."""
    for word in words:
        if word not in _KEYWORDS and not _ASSIGNMENT.fullmatch(word) and not re.fullmatch(r"\d?[<>].*|_|\d+|-", word):
            return word
    return None
