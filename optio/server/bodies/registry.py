"""Bodies of the served generation: removals that are held back, servers, and drift."""

from typing import Annotated

from optio.server.bodies.base import Body, Source, Time


class RemovalBody(Body, frozen=True, kw_only=True):
    """A removal of many tasks that is held until it is released."""

    digest: str
    """The digest that releases exactly these tasks."""
    count: int
    """The number of held tasks."""
    total: int
    """The number of tasks before."""
    tasks: list[str]
    """The ids of the first held tasks."""
    since: Time
    release: Annotated[str, Source("command")]
    """The command that releases them."""


class ReleaseRemoval(Body, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A removal to be released."""

    digest: str
    """The `digest` of `removal` in `GET /api/registry`."""


class ReleasedBody(Body, frozen=True, kw_only=True):
    """A removal that was released."""

    digest: str
    """The digest of the request."""
    count: int
    """The number of removed tasks."""
    tasks: list[str]
    """Their ids."""
    served: int
    """The number of tasks that are served now."""


class DriftBody(Body, frozen=True, kw_only=True):
    """The difference between the directory of the answering server and what all servers serve."""

    generation: int
    """The generation that all servers serve."""
    count: int
    """The number of tasks that differ."""
    added: list[str]
    """The first tasks that only the directory has."""
    changed: list[str]
    """The first tasks that the directory has in another version."""
    missing: list[str]
    """The first tasks that the directory lacks."""
    in_sync: list[str]
    """The servers whose directories do not differ."""


class ServerBody(Body, frozen=True, kw_only=True):
    """A live server."""

    server: Annotated[str, Source("name")]
    """Its name."""
    generation: int
    """The generation that it serves."""
    in_sync: bool
    """Whether its directory equals that generation."""
    seen_at: Time
    """When it was heard of last."""


class RegistryBody(Body, frozen=True, kw_only=True):
    """The generation that all servers serve, and how servers and their directories differ from it."""

    generation: int | None
    """The number of the generation; null before the first one."""
    digest: str | None
    """The digest of all tasks together."""
    commit: str | None
    """The git commit of the task files, with `+dirty` if a file differs from it."""
    activated_at: Time | None
    """When it was first served."""
    tasks: dict[str, str]
    """The digest of each task, by id."""
    stale: list[str]
    """Tasks whose files are broken: their last good definitions are served."""
    removal: RemovalBody | None
    """The removal that is held."""
    drift: DriftBody | None
    """How the directory of the answering server differs."""
    servers: list[ServerBody]
    """The live servers."""
    not_applied: dict[str, list[str]]
    """What the executor of this installation does not apply, by task."""
    version: str
    """The version of the answering server."""
