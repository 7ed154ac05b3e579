"""Connections: services that a run reaches through the gateway, as their files state them and as a task is given them.

A connection is the file `connections/ID.yaml` at the top of a tree. A task names the ones that it needs, and they are compiled
into it. Values of headers may hold secrets, written `{{secret:NAME}}`, which only the gateway reads.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal
from urllib.parse import unquote, urlsplit

from msgspec import Meta

from optio.model import text
from optio.model.spec import Duration, Positive, SecretName, Spec, Text, to_json

DIRECTORY = "connections"
SUFFIXES = (".yaml", ".yml")
ID = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
SECRET = re.compile(r"\{\{secret:([A-Za-z_][A-Za-z0-9_]*)\}\}")
_MAX_CALLS = 1000

Kind = Literal["mcp", "http", "model"]
ToolAccess = Literal["read", "write"]
Url = Annotated[str, Meta(pattern=r"^https?://[^\s/@?#]+(/[^\s?#]*)?\Z")]
HeaderField = Annotated[str, Meta(pattern=r"^[A-Za-z0-9-]+\Z", max_length=64)]
Request = Annotated[str, Meta(pattern=r"^(GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS) /[^\s?#]*\Z")]
Pin = Annotated[str, Meta(pattern=r"^schema=[0-9a-f]{32} text=[0-9a-f]{32}\Z")]


class _Transport(Spec, frozen=True, tag_field="type"):
    @property
    def type(self) -> str:
        """Return the type: `streamable-http`, `sse` or `stdio`."""
        return str(self.__struct_config__.tag)


class StreamableHttp(_Transport, frozen=True, kw_only=True, tag="streamable-http"):
    """An MCP server at a URL."""

    url: Url
    """The address of the server."""
    headers: dict[HeaderField, str] = {}
    """Headers of each request; `{{secret:NAME}}` stands for the value of a secret."""


class Sse(_Transport, frozen=True, kw_only=True, tag="sse"):
    """An MCP server at a URL, by the older transport of server-sent events."""

    url: Url
    """The address of the server's event stream."""
    headers: dict[HeaderField, str] = {}
    """Headers of each request; `{{secret:NAME}}` stands for the value of a secret."""


class Stdio(_Transport, frozen=True, kw_only=True, tag="stdio"):
    """An MCP server as a program, which runs beside the gateway and never beside the agent."""

    command: list[Text]
    """The program and its arguments."""
    env: dict[str, str] = {}
    """Variables of the program; `{{secret:NAME}}` stands for the value of a secret."""


class McpConnection(Spec, frozen=True, kw_only=True):
    """An MCP server. An agent is offered the tools that its task names, and no others."""

    type: Literal["connection"]
    """`connection`."""
    kind: Literal["mcp"]
    """`mcp`: a server of tools."""
    description: str = ""
    """The purpose of the connection."""
    transport: StreamableHttp | Sse | Stdio
    """How the gateway reaches the server."""
    tools: dict[Text, ToolAccess]
    """The tools that exist for tasks, each with its class: `read` for those that change nothing, `write` for the others."""
    pin: dict[Text, Pin] | None = None
    """Digests of each tool, which `optio connection pin` writes: `schema` of its schemas, `text` of its title and description.
    A run does not begin if its server offers a tool with other schemas. `optio connection diff` reports both."""
    timeout: Duration = "60s"
    """The longest that a call may take."""
    max_calls: Positive = _MAX_CALLS
    """The most calls of one attempt."""


class HttpConnection(Spec, frozen=True, kw_only=True):
    """A service over HTTP. A run finds its address in the variable `ID_URL`, and the gateway adds the credential."""

    type: Literal["connection"]
    """`connection`."""
    kind: Literal["http"]
    """`http`: a service over HTTP."""
    description: str = ""
    """The purpose of the connection."""
    url: Url
    """The address below which all requests go."""
    headers: dict[HeaderField, str] = {}
    """Headers that the gateway sets; `{{secret:NAME}}` stands for the value of a secret."""
    allow: list[Request]
    """The allowed requests, such as `GET /repos/acme/*/issues`: `*` stands for one part of a path, and `**` for any number of
    them."""
    timeout: Duration = "60s"
    """The longest that the service may be silent."""
    max_calls: Positive = _MAX_CALLS
    """The most requests of one attempt."""


class ModelConnection(Spec, frozen=True, kw_only=True):
    """A model service. A task that names it calls its models there, through the gateway."""

    type: Literal["connection"]
    """`connection`."""
    kind: Literal["model"]
    """`model`: a model service."""
    description: str = ""
    """The purpose of the connection."""
    url: Url
    """The address of the service, without the path of a call."""
    key: SecretName
    """The secret that holds the service's API key."""
    models: list[Text] = []
    """Patterns of the models that may be called, in which `*` stands for any text. By default all."""


ConnectionSpec = McpConnection | HttpConnection | ModelConnection
TRANSPORTS: Mapping[str, type[StreamableHttp] | type[Sse] | type[Stdio]] = {
    "streamable-http": StreamableHttp,
    "sse": Sse,
    "stdio": Stdio,
}
KINDS: Mapping[str, type[McpConnection] | type[HttpConnection] | type[ModelConnection]] = {
    "mcp": McpConnection,
    "http": HttpConnection,
    "model": ModelConnection,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """A connection as one task has it. `tools` are those of an MCP server that its run may call."""

    id: str
    spec: ConnectionSpec
    tools: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the connection as a part of a compiled task."""
        return {"id": self.id, "tools": list(self.tools), "spec": to_json(self.spec)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Connection":
        """Rebuild a connection from `to_json`."""
        return cls(id=data["id"], spec=KINDS[data["spec"]["kind"]].of(data["spec"]), tools=tuple(data["tools"]))

    @property
    def secrets(self) -> tuple[str, ...]:
        """Return the names of the secrets that the gateway needs for it."""
        if isinstance(self.spec, ModelConnection):
            return (self.spec.key,)
        return tuple(dict.fromkeys(name for value in templates(self.spec).values() for name in secret_names(value)))

    @property
    def url(self) -> str | None:
        """Return the address that the gateway calls; None for a program."""
        return url_of(self.spec)

    @property
    def host(self) -> str | None:
        """Return the host and port that the gateway reaches for it, without the usual port; None for a program."""
        return None if self.url is None else urlsplit(self.url).netloc

    @property
    def egress(self) -> str | None:
        """Return the host as an entry of `environment.network.egress`, with a port unless it is 443; None for a program."""
        if self.url is None:
            return None
        parts = urlsplit(self.url)
        host, port = parts.netloc.lower().removesuffix(f":{parts.port}"), parts.port or (443 if parts.scheme == "https" else 80)
        return host if port == 443 else f"{host}:{port}"

    @property
    def writes(self) -> tuple[str, ...]:
        """Return what the run may change: tools of class `write`, or requests other than GET, HEAD and OPTIONS."""
        spec = self.spec
        if isinstance(spec, McpConnection):
            return tuple(tool for tool in self.tools if spec.tools.get(tool) == "write")
        if isinstance(spec, HttpConnection):
            return tuple(entry for entry in spec.allow if not entry.startswith(("GET ", "HEAD ", "OPTIONS ")))
        return ()

    @property
    def variable(self) -> str:
        """Return the variable in which a run finds the address of an HTTP service."""
        return f"{self.id.replace('-', '_').upper()}_URL"

    @property
    def address(self) -> str:
        """Return what the gateway reaches: a host, or the program that it starts."""
        return self.host or program_of(self.spec) or ""

    @property
    def timeout_span(self) -> timedelta:
        """Return `timeout` as a duration; that of a model service is the gateway's own."""
        return timedelta(minutes=15) if isinstance(self.spec, ModelConnection) else text.parse_duration(self.spec.timeout)


def url_of(spec: ConnectionSpec) -> str | None:
    """Return the address of a connection; None for a program."""
    if isinstance(spec, McpConnection):
        return None if isinstance(spec.transport, Stdio) else spec.transport.url
    return spec.url


def program_of(spec: ConnectionSpec) -> str | None:
    """Return the program that runs for a connection, without its arguments; None for a service at an address."""
    if isinstance(spec, McpConnection) and isinstance(spec.transport, Stdio):
        return next(iter(spec.transport.command), None)
    return None


def templates(spec: ConnectionSpec) -> Mapping[str, str]:
    """Return the headers or variables of a connection, whose values may hold secrets."""
    if isinstance(spec, McpConnection):
        return spec.transport.env if isinstance(spec.transport, Stdio) else spec.transport.headers
    return spec.headers if isinstance(spec, HttpConnection) else {}


def secret_names(template: str) -> Iterator[str]:
    """Yield the names of the secrets in a value."""
    return (match[1] for match in SECRET.finditer(template))


def fill_in(template: str, secrets: Mapping[str, str]) -> str:
    """Return a value with its secrets filled in. Raises KeyError."""
    return SECRET.sub(lambda match: secrets[match[1]], template)


def secrets_in(templates: Mapping[str, str], values: Mapping[str, str]) -> Iterator[str]:
    """Yield the secrets in values that were filled in, and these values themselves: no message may hold either."""
    for name, template in templates.items():
        if any(secret_names(template)):
            literals = SECRET.split(template)[::2]  # between them are the names of secrets
            found = re.fullmatch("(.*)".join(map(re.escape, literals)), values[name], re.DOTALL)
            yield from (values[name], *(found.groups() if found else ()))


def allows(entries: list[str], method: str, path: str) -> bool:
    """Return whether a request is one of the allowed ones. `path` is as it was sent: an encoded `/` belongs to its part. A path
    that could lead upwards is none of them, however often it is encoded."""
    parts = [unquote(part) for part in path.split("/")]
    pieces = (piece for part in parts for text in (part, unquote(part)) for piece in re.split(r"[/\\]", text))
    if not path.startswith("/") or any(piece in (".", "..") for piece in pieces):
        return False
    allowed = [entry.partition(" ") for entry in entries]
    return any(method == word and _fits_parts(pattern.split("/"), parts) for word, _, pattern in allowed)


def _fits_parts(patterns: list[str], parts: list[str]) -> bool:
    if not patterns:
        return not parts
    if patterns[0] == "**":
        return any(_fits_parts(patterns[1:], parts[skipped:]) for skipped in range(len(parts) + 1))
    return bool(parts) and fnmatchcase(parts[0], patterns[0]) and _fits_parts(patterns[1:], parts[1:])
