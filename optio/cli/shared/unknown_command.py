"""Suggestions for a command that does not exist: a slip of the fingers, or the word of another tool."""

from collections.abc import Sequence
from difflib import get_close_matches

from optio.cli import COMMANDS

# Verbs without their command, and what other tools call it.
_WORDS = {
    **dict.fromkeys(("start", "exec", "trigger"), "run"),
    **dict.fromkeys(("logs", "log", "tail"), "runs logs"),
    **dict.fromkeys(("ps", "history"), "runs list"),
    **dict.fromkeys(("cancel", "stop", "kill"), "runs cancel"),
    "retry": "runs retry",
    **dict.fromkeys(("show", "describe", "inspect"), "runs show"),
    "why": "runs why",
    **dict.fromkeys(("list", "ls", "get"), "tasks list"),
    **{verb: f"tasks {verb}" for verb in ("pause", "resume", "release")},
    **{verb: f"hook {verb}" for verb in ("send", "replay", "capture")},
    **{verb: f"db {verb}" for verb in ("migrate", "backup", "recover")},
    "revoke": "token revoke",
    "use": "context use",
    **dict.fromkeys(("up", "watch"), "dev"),
    "serve": "server",
    **dict.fromkeys(("lint", "validate"), "check"),
    **dict.fromkeys(("fix", "fmt", "format"), "check --fix"),
    **dict.fromkeys(("diff", "apply"), "plan"),
    **dict.fromkeys(("status", "config", "info"), "doctor"),
    **dict.fromkeys(("new", "create"), "init"),
    "cron": "schedule",
    "auth": "login",
    "whoami": "context",
}


def suggest_command(argv: Sequence[str]) -> str:
    """Return the cure for the first word of a command line, as the end of a sentence; nothing if no command is near."""
    word = argv[0]
    if word.startswith("-"):
        command = next((argument for argument in argv[1:] if argument in COMMANDS), None)
        return f"options stand behind the command, as in `optio {command} {word}`" if command else ""
    if word in _WORDS:
        return f"did you mean `optio {_WORDS[word]}`?"
    near = get_close_matches(word, [*COMMANDS, *_WORDS], n=1)
    return f"did you mean `{_WORDS.get(near[0], near[0])}`?" if near else ""
