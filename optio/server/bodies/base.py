"""The base of all bodies, and the forms of times, money and cursors."""

from typing import Annotated

from msgspec import Meta, Struct

MAX_REASON_LENGTH = 500
Time = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
Usd = Annotated[str, Meta(pattern=r"^[0-9]+(\.[0-9]+)?$")]
Cursor = str | None


class Body(Struct, frozen=True, kw_only=True, rename="camel"):
    """A JSON object."""
