"""The interface of an identity provider, at which people sign in. It says who somebody is and in which groups. Roles and
sessions are the server's."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from optio.errors import OptioError
from optio.model.probe_result import ProbeResult

MAX_NAME_LENGTH = 100


class SignInFailed(OptioError):
    """Signing in failed; the text says why, and what the person or an administrator can do. `status` is that of the page: 400
    for a sign-in that cannot go on, 403 for a person who may not enter, 502 for a provider that answers otherwise than it
    should, and 503 for too many sign-ins at once. `detail` is for administrators, in the log and in `optio doctor`."""

    def __init__(self, message: str, status: int = 502, detail: str = "") -> None:
        self.status, self.detail = status, detail
        super().__init__(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class SignIn:
    """A sign-in that has begun: three secrets that its browser keeps, and shows again when it comes back."""

    state: str
    nonce: str
    verifier: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderReply:
    """The parameters that a provider sends the browser back with; those that it leaves out are empty."""

    code: str
    error: str = ""
    error_description: str = ""
    issuer: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Somebody whom the provider knows. `subject` never changes; `name` is for people, one line of at most 100 characters."""

    subject: str
    name: str
    groups: frozenset[str]


class IdentityProvider(Protocol):
    """A provider of one issuer. Its methods belong to the server's loop, and answer within 10 s."""

    @property
    def host(self) -> str:
        """Return the provider's host, by which a page names it."""
        ...

    async def begin(self, redirect_uri: str) -> tuple[SignIn, str]:
        """Return a new sign-in, and the address to send the browser to. Raises SignInFailed."""
        ...

    async def finish(self, sign_in: SignIn, reply: ProviderReply, redirect_uri: str) -> Person:
        """Return who signed in. The caller has compared the state. Raises SignInFailed."""
        ...

    def examine(self) -> Iterator[ProbeResult]:
        """Yield the checks of `optio doctor`, which ask the provider. Not for the server's loop."""
        ...


def readable(text: str, max_length: int = MAX_NAME_LENGTH) -> str:
    """Return a text from outside as one line of at most `most` characters, where what is invisible or turns the direction of
    writing is shown as `\\ufffd`."""
    shortened = text if len(text) <= max_length else text[: max_length - 1] + "…"
    return "".join(character if character.isprintable() else "\ufffd" for character in shortened)
