"""`optio __complete`: the candidates for the last word of a command line, for the scripts of `optio completion`.

Each candidate is a line, with its description after a tab. The line `:files` asks the shell to complete a path. Whatever goes
wrong, nothing is said: a shell must not print an error into the line that somebody is typing.
"""

import argparse
import os
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, redirect_stderr, suppress
from importlib import import_module
from typing import Any

from optio.cli import COMMANDS, OK
from optio.cli.shared.parser import CommandParser
from optio.cli.shared.render_run import safe

FILES = ":files"
_SERVER_TIMEOUT_S = 0.8
# More task files than these are not compiled while somebody waits for a word.
_MAX_TASK_FILES = 300
_MAX_LISTED = 50

Candidate = tuple[str, str]


def print_candidates(arguments: Sequence[str]) -> int:
    """Print the candidates for `-- WORD ...`, or `--line TEXT` as Bash has it. Returns 0, whatever happens."""
    with suppress(Exception), open(os.devnull, "w") as devnull, redirect_stderr(devnull):
        words = _split(arguments[1])[1:] if arguments[0] == "--line" else list(arguments[1:])
        for value, description in candidates(words or [""]):
            print(f"{value}\t{safe(description)}" if description else value)
    return OK


def _split(line: str) -> list[str]:
    """Split a line that may end within quotes; its last word is empty behind a space."""
    for quote in ("", "'", '"'):
        with suppress(ValueError):
            words = shlex.split(line + quote)
            return [*words, ""] if not quote and (not line or line[-1].isspace()) else words
    return []


def candidates(words: Sequence[str]) -> Iterator[Candidate]:
    """Yield the candidates for the last word that begin with it."""
    *before, current = words
    if before[:1] == ["help"]:
        before = before[1:]
    if not before:
        names = [(name, summary) for name, (_, summary) in COMMANDS.items()]
        yield from _matching(current, [*names, ("help", "describe a command"), ("--help", ""), ("--version", "")])
        return
    if before[0] not in COMMANDS:
        return
    parser = CommandParser(prog=f"optio {before[0]}")
    import_module(f"optio.cli.{COMMANDS[before[0]][0]}").add_arguments(parser)
    yield from _Line(before[0], parser, before[1:]).candidates(current)


def _matching(current: str, candidates: Iterable[Candidate]) -> Iterator[Candidate]:
    yield from ((value, description) for value, description in candidates if value.startswith(current))


class _Line:
    """The words before the current one, as the parser takes them."""

    def __init__(self, command: str, parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
        self.command, self.verb = command, ""
        self.parser = parser
        self.values: dict[str, Any] = {}
        self.flags_given: set[str] = set()
        self.waiting: argparse.Action | None = None  # an option whose value comes next
        self._remaining = self._positionals()
        for word in words:
            self._take(word)

    def _positionals(self) -> list[argparse.Action]:
        return [action for action in self.parser._actions if not action.option_strings]

    def _take(self, word: str) -> None:
        if self.waiting is not None:
            self.values[self.waiting.dest] = word
            self.waiting = None
        elif word.startswith("-") and len(word) > 1:
            name, equals, value = word.partition("=")
            action = self.parser._option_string_actions.get(name)
            if action is None:
                return
            self.flags_given.update(action.option_strings)
            if action.nargs != 0 and not equals:
                self.waiting = action
            elif equals:
                self.values[action.dest] = value
        elif self._remaining:
            action = self._remaining[0]
            if isinstance(action, argparse._SubParsersAction):
                if word in action.choices:
                    self.verb, self.parser = word, action.choices[word]
                    self._remaining = self._positionals()
                return
            self.values[action.dest] = word
            if action.nargs not in ("*", "+"):
                del self._remaining[0]

    def candidates(self, current: str) -> Iterator[Candidate]:
        if self.waiting is not None:
            yield from self._values(self.waiting, current)
        elif current.startswith("--") and "=" in current:
            name, _, value = current.partition("=")
            action = self.parser._option_string_actions.get(name)
            if action is not None and action.nargs != 0:
                for candidate, description in self._values(action, value):
                    yield (candidate if candidate == FILES else f"{name}={candidate}"), description
        elif current.startswith("-"):
            for action in self.parser._actions:
                if action.help != argparse.SUPPRESS and (
                    action.dest == "param" or not self.flags_given & {*action.option_strings}
                ):
                    yield from _matching(current, ((name, action.help or "") for name in action.option_strings))
        elif self._remaining:
            yield from self._values(self._remaining[0], current)

    def _values(self, action: argparse.Action, current: str) -> Iterator[Candidate]:
        """Yield the values of an option or a positional argument."""
        if isinstance(action, argparse._SubParsersAction):
            yield from _matching(current, ((choice.dest, choice.help or "") for choice in action._get_subactions()))
        elif action.choices is not None:
            yield from _matching(current, ((str(choice), "") for choice in action.choices))
        elif action.dest in _SOURCES:
            for candidate in _SOURCES[action.dest](self, current):
                yield from [candidate] if candidate[0] == FILES else _matching(current, [candidate])
        elif action.dest not in _FREE:
            yield FILES, ""

    # Where ids come from

    def _ask(self, path: str, query: Mapping[str, Any] | None = None) -> Any:
        """Return the server's answer; raise whatever keeps it from one."""
        from optio.cli.shared import client

        return client.Client(self._settings(), timeout_s=_SERVER_TIMEOUT_S).request("GET", path, query=query)

    def _settings(self) -> Any:
        from optio.cli.shared.contexts import apply
        from optio.settings import SETTINGS, Settings

        settings = Settings.load(flags={name: value for name, value in self.values.items() if name in SETTINGS})
        return apply(settings, self.values.get("context"), run_commands=False)

    def tasks(self, current: str) -> Iterator[Candidate]:
        """Yield the ids of tasks: of the server for commands that talk to one, else of the task directory."""
        candidates: list[Candidate] = []
        if self.command not in ("render", "test") and (self.command != "schedule" or "--past" in self.flags_given):
            with suppress(Exception):
                candidates = [(task["id"], task["name"]) for task in self._ask("/api/tasks")["items"]]
        yield from candidates or self._local_tasks()

    def _local_tasks(self) -> Iterator[Candidate]:
        root = self._settings().tasks
        if root.is_dir() and sum(len(files) for _, _, files in os.walk(root)) <= _MAX_TASK_FILES:
            yield from ((task.id, task.spec.name) for task in self._local_registry().tasks.values())

    def _local_registry(self) -> Any:
        from optio.compiler.pipeline import compile_tree
        from optio.compiler.source_tree import DirectoryTree

        return compile_tree(DirectoryTree(self._settings().tasks)).registry

    def runs(self, current: str) -> Iterator[Candidate]:
        """Yield `@latest` and the newest runs that the verb can act on."""
        yield from self._latest(current, "run")
        states = {"retry": ["failed"], "cancel": ["running", "queued"]}.get(self.verb, [None])
        for state in states:
            query = {"id": current or None, "state": state, "limit": _MAX_LISTED}
            for item in self._ask("/api/runs", query)["items"]:
                yield item["id"], f"{item['taskId']}  {item['state']}  {item['createdAt'][:19]}"

    def _latest(self, current: str, noun: str) -> Iterator[Candidate]:
        """Yield `TASK@latest` once a task is typed, and `@latest`."""
        if "@" in current:
            yield from ((f"{task}@latest", name) for task, name in self.tasks(current))
        yield "@latest", f"the newest {noun}"

    def deliveries(self, current: str) -> Iterator[Candidate]:
        """Yield `@latest` and the newest deliveries."""
        yield from self._latest(current, "delivery")
        for item in self._ask("/api/deliveries", {"id": current or None, "limit": _MAX_LISTED})["items"]:
            yield item["id"], f"{item['path']}  {item['verdict']}  {item['receivedAt'][:19]}"

    def params(self, current: str) -> Iterator[Candidate]:
        """Yield `NAME=` for each parameter of the task that is typed already."""
        task_id = self.values.get("task")
        schema: Mapping[str, Any] = {}
        with suppress(Exception):
            schema = next(task for task in self._ask("/api/tasks")["items"] if task["id"] == task_id)["paramsSchema"]
        if not schema:
            schema = self._local_registry().task(str(task_id)).spec.params_schema or {}
        yield from ((f"{name}=", "") for name in schema.get("properties", {}))

    def tokens(self, current: str) -> Iterator[Candidate]:
        """Yield the tokens of the database, unless they are revoked."""
        from optio.wiring import open_store

        with closing(open_store(self._settings())) as store:
            yield from ((token.id, f"{token.role}  {token.label}") for token in store.tokens() if token.revoked_at is None)

    def contexts(self, current: str) -> Iterator[Candidate]:
        """Yield the names of contexts, with their URLs."""
        from optio.cli.shared.contexts import LOCAL, read_contexts

        yield from ((context.name, context.url) for context in read_contexts().by_name.values())
        yield LOCAL, "the server of this machine"

    def rules(self, current: str) -> Iterator[Candidate]:
        """Yield the codes of the compiler's rules."""
        from optio.compiler.rules.codes import RULES

        yield from ((rule.code, rule.title) for rule in RULES.values())

    def webhooks(self, current: str) -> Iterator[Candidate]:
        """Yield the paths of the served webhooks."""
        for task in self._ask("/api/tasks")["items"]:
            for trigger in task["triggers"]:
                if trigger["type"] == "webhook":
                    yield trigger["config"]["path"], task["name"]

    def path_or_webhook(self, current: str) -> Iterator[Candidate]:
        """Yield webhooks for `optio hook`, whose `path` is one, and nothing for commands whose `path` is a file."""
        if self.command == "hook":
            yield from self.webhooks(current)
        else:
            yield FILES, ""


# By the name of the argument, which is the same in every command.
_SOURCES: Mapping[str, Callable[[_Line, str], Iterator[Candidate]]] = {
    "task": _Line.tasks,
    "run": _Line.runs,
    "delivery": _Line.deliveries,
    "param": _Line.params,
    "param_json": _Line.params,
    "id": _Line.tokens,
    "code": _Line.rules,
    "context": _Line.contexts,
    "path": _Line.path_or_webhook,
}
# Values that nothing can be known of; all others are paths.
_FREE = (
    *("since", "until", "first", "last", "days", "zone", "count", "limit", "cursor", "reason", "label", "expires", "key"),
    *("event", "secret", "verdict", "url", "token", "host", "port", "name", "wait", "target", "attempt", "k", "digest", "rev"),
)
