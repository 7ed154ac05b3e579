"""The base of all bodies, and the forms of times, money and cursors. `optio.server.serializers.to_body` makes a body."""

from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta, Struct

MAX_REASON_LENGTH = 500
Time = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
Usd = Annotated[str, Meta(pattern=r"^[0-9]+(\.[0-9]+)?$")]
Cursor = str | None


@dataclass(frozen=True, slots=True)
class Source:
    """The attribute that a field is made of, where it has another name, such as `Annotated[str, Source("agent.model")]`."""

    path: str


class Body(Struct, frozen=True, kw_only=True, rename="camel"):
    """A JSON object."""
