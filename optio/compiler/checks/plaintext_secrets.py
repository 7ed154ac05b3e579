"""Report secrets in plain text: tokens of well-known shapes in any file that the task is made of, and
variables that are named after a secret and hold what looks like one."""

import re
from collections.abc import Iterator

from optio.compiler.diagnostics import Diagnostic
from optio.compiler.resolved_task import ResolvedTask
from optio.compiler.token_shapes import EXPOSED, find_tokens, match_tokens

# A token of this length is no word.
_LONG_TOKEN = 20
_NAMES_SECRET = re.compile(
    r"PASSWORD$|(?:^|_)(?:PWD|PASSWD|PASSPHRASE|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY|SECRET_?KEY|AUTH_?TOKEN)$"
)
# What documentation and tests write in a password's place, and what names one.
_ORDINARY = (
    r"(?i)change[-_ ]?me|example|dummy|placeholder|postgres|password|secret|test|none|null|local|your[-_ ]|todo|xxx"
    r"|[/\\$<>{}\s]"
)
_MIN_LENGTH = 8


def looks_chosen(value: str) -> bool:
    """Return whether a value looks chosen to be hard to guess: letters and digits of some length, and no word for a blank."""
    mixed = re.search(r"[A-Za-z]", value) is not None and re.search(r"[0-9]", value) is not None
    return len(value) >= _MIN_LENGTH and mixed and re.search(_ORDINARY, value) is None


def names_secret(name: str, value: str) -> bool:
    """Return whether a variable is named after a secret and its value looks like one."""
    is_named = _NAMES_SECRET.search(name) or (name.endswith("TOKEN") and len(value) >= _LONG_TOKEN)
    return bool(is_named) and looks_chosen(value)


def check(task: ResolvedTask) -> Iterator[Diagnostic]:
    """Report every token in the task's files and in its prompt file. The message never repeats the value."""
    for path, text in task.document.texts:
        yield from find_tokens(path, text)
    for name, value in task.spec.environment.env.items():
        route = ("environment", "env", name)
        if names_secret(name, value) and not any(match_tokens(value)):
            hint = f"{EXPOSED}; then delete the entry, and add `{name}` to `environment.secrets`"
            yield task.at("OPT533", f"`{name}` looks like a secret in plain text", route, key=True, hint=hint)
    if task.prompt_path is not None:
        yield from find_tokens(task.prompt_path, task.prompt)
