"""The texts that a new task begins with on the page: complete tasks, in the files of `presets`, to be changed by hand. A test
compiles each of them."""

from dataclasses import dataclass
from pathlib import Path

_FOLDER = Path(__file__).parent / "presets"


@dataclass(frozen=True, slots=True)
class Preset:
    """A first text of a task file, and what it is for."""

    title: str
    about: str
    text: str


PRESETS = {
    name: Preset(title, about, (_FOLDER / f"{name}.yaml").read_text("utf-8"))
    for name, title, about in (
        ("blank", "Empty", "An agent with a prompt, started by hand"),
        ("github-review", "GitHub PR review", "Each pull request that is opened or updated starts a run"),
        ("nightly-report", "Nightly report", "A schedule starts a run every night"),
        ("alert-triage", "Alert triage", "An alert of your monitoring starts a run"),
        ("command", "Command", "A program of your own, without any agent"),
    )
}

# The schedules of the form: cron expression and what people call it.
SCHEDULES = {
    "0 * * * *": "every hour",
    "0 0 * * *": "daily at midnight",
    "0 9 * * 1-5": "weekdays at 9 AM",
    "0 9 * * 1": "weekly on Monday",
}
