"""Redact a payload before it is committed: secrets, credentials and, if asked, e-mail addresses. Strings stay strings, so the
redacted payload still fits the same mapping."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from optio.compiler.token_shapes import match_tokens
from optio.model.mask import MASK, Masker
from optio.model.route import Route

REDACTED = "REDACTED"
# The last word of a name whose value is a credential: `access_token`, `clientSecret`, `X-Api-Key`.
_CREDENTIAL = re.compile(
    r"(?:^|_)(?:token|secret|passwords?|passwd|passphrase|authorization|cookie|credentials?|(?:api|private|access|secret)_?key)$"
)
_WORDS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|[^A-Za-z0-9]+")
# Credentials by their context; the group is the context, and stays.
_IN_TEXT = (
    (
        "a credential in a URL",
        re.compile(r"([?&][^=&#\s]{0,60}(?:token|secret|passw(?:or)?d|sig|signature|api_?key)=)[^&#\s\"'<>]+", re.IGNORECASE),
    ),
    ("a credential of HTTP", re.compile(r"\b((?:Bearer|Basic) )[A-Za-z0-9._~+/=-]{16,}", re.IGNORECASE)),
    ("a JSON Web Token", re.compile(r"()\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+")),
)
# `git@github.com:acme/shop` is the address of a repository.
_EMAIL = re.compile(r"(?<![A-Za-z0-9._%+-])[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+(?![A-Za-z0-9-]|\.\w|:\S)")


@dataclass(frozen=True, slots=True)
class Redaction:
    """A removal from a payload: the route where the value stood, and the kind of value."""

    route: Route
    kind: str


@dataclass
class Redactor:
    """Replaces the values of `secrets` and everything that looks or is named like a credential. With `emails`, each address
    becomes `personN@example.com`, the same one wherever it occurs. `found` collects the redactions."""

    secrets: Iterable[str] = ()
    emails: bool = False
    found: list[Redaction] = field(default_factory=list)
    _people: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._masker = Masker(self.secrets)

    def __call__(self, value: Any, route: Route = ()) -> Any:
        """Return a redacted copy of a JSON value; appends to `found`."""
        if isinstance(value, dict):
            return {self._text(key, (*route, key)): self(inner, (*route, key)) for key, inner in value.items()}
        if isinstance(value, list):
            return [self(inner, (*route, index)) for index, inner in enumerate(value)]
        if not isinstance(value, str) or not value:
            return value
        name = next((step for step in reversed(route) if isinstance(step, str)), "")
        if _CREDENTIAL.search(_WORDS.sub("_", name).lower()):
            self.found.append(Redaction(route, "a credential, by its name"))
            return REDACTED
        return self._text(value, route)

    def _text(self, text: str, route: Route) -> str:
        masked = self._masker.text(text)
        if masked != text:
            self.found.append(Redaction(route, "the value of a secret of the task"))
            text = masked.replace(MASK.decode(), REDACTED)
        for kind, token in list(match_tokens(text)):
            self.found.append(Redaction(route, kind))
            text = text.replace(token[0], f"://{REDACTED}@" if token[0].startswith("://") else REDACTED)
        for kind, shape in _IN_TEXT:
            text, count = shape.subn(rf"\1{REDACTED}", text)
            if count:
                self.found.append(Redaction(route, kind))
        if self.emails and "@" in text:
            text = _EMAIL.sub(lambda match: self._person(match[0], route), text)
        return text

    def _person(self, address: str, route: Route) -> str:
        if address.lower().endswith("@example.com") or address.startswith(REDACTED):
            return address
        self.found.append(Redaction(route, "an e-mail address"))
        return self._people.setdefault(address.lower(), f"person{len(self._people) + 1}@example.com")
