"""Bodies of the search of tasks and runs."""

from optio.model.run import RunState
from optio.server.bodies.base import Body


class FoundTaskBody(Body, frozen=True, kw_only=True):
    """A task that a search found."""

    id: str
    """Its id."""
    name: str
    """Its name."""


class FoundRunBody(Body, frozen=True, kw_only=True):
    """A run that a search found."""

    id: str
    """Its id."""
    task_id: str
    """The id of its task."""
    state: RunState
    """The state of the run."""


class FoundBody(Body, frozen=True, kw_only=True):
    """Tasks and runs that a search found, at most eight of each."""

    tasks: list[FoundTaskBody]
    """Tasks, those with the words in their id or name first."""
    runs: list[FoundRunBody]
    """Runs, newest first."""
