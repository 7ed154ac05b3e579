"""Webhook signatures: verify a request, and sign one as its sender would. The table of senders is in `model.senders`.

Signatures cover the raw bytes and are compared in constant time. No request makes this module raise, except for a doubled
delivery header; a secret that cannot be used raises UnusableSecret. `server.webhooks` verifies, `optio hook send` signs, and
`optio test` does both.
"""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from optio.errors import Malformed
from optio.model import json_body as payload
from optio.model.mapping import MappingFailed, compile_path
from optio.model.registry import CompiledTask
from optio.model.senders import SENDERS, SIGNING_PREFIX, InHeader, InSignature, Sender, Source, Stamp, sender_of
from optio.model.trigger import WebhookConfig

TOLERANCE_S = 300
Header = Callable[[str], Sequence[str]]
MAX_SIGNATURES = 10
# Above this size Python releases the interpreter lock while it hashes, and getting it back takes longer than the hash.
_PIECE_BYTES = 2_047
_UNIX_SECONDS = re.compile(r"[0-9]{1,12}", re.ASCII)
# A time stamp and the point behind it, at the beginning of a body.
_TIMESTAMP_PREFIX = re.compile(rb"[0-9]{1,12}\.")


class UnusableSecret(ValueError):
    """Raised for a secret that the scheme cannot sign with. The message says why, and never contains the value."""


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A secret ready for use: its bytes, and the sender whose scheme it belongs to."""

    sender: Sender
    value: bytes = field(repr=False)


def signature_header(config: WebhookConfig) -> str:
    """Return the header that carries the signature, in lower case, for messages and for signing."""
    return sender_of(config).header.lower()


def signature_headers(config: WebhookConfig) -> list[str]:
    """Return every header that may carry a signature, in lower case: a sender with two ways of signing has two."""
    sender = sender_of(config)
    return [row.header.lower() for row in (sender, sender.signing) if row is not None]


def delivery_header(config: WebhookConfig) -> str | None:
    """Return the header that carries the delivery's id, as the sender spells it; None if the body carries it."""
    return _first_header(sender_of(config).delivery)


def event_header(config: WebhookConfig) -> str | None:
    """Return the header that names the event, as the sender spells it; None if no header does."""
    return _first_header(sender_of(config).event)


def event_place(config: WebhookConfig) -> str:
    """Return where a request names its event, for messages: a header or a JSONPath."""
    place = sender_of(config).event[0]
    return place.name if isinstance(place, InHeader) else place.path


def event_name(config: WebhookConfig, header: Header, document: Any) -> str | None:
    """Return the event of a delivery, or None if it names none, or more than one."""
    return _found(sender_of(config).event, header, lambda: document)


def delivery_id(config: WebhookConfig, header: Header, body: bytes) -> str | None:
    """Return the sender's id of a delivery, which is the same for each attempt to deliver it, or None.

    Raises Malformed if the header occurs twice. A body that is not JSON has no id.
    """
    sender = sender_of(config)
    # A signed id takes precedence over one that anybody may write.
    sources = sender.delivery if sender.signing is None else (*sender.signing.delivery, *sender.delivery)
    for source in sources:
        if isinstance(source, InHeader) and len(header(source.name.lower())) > 1:
            raise Malformed(f"the header `{source.name}` with the delivery id occurs twice")
    try:
        return _found(sources, header, lambda: payload.decode(body))
    except Malformed:
        return None


def challenge(config: WebhookConfig, document: Any) -> str | None:
    """Return the text that a sender wants back before it uses the URL, or None if the request is no such handshake."""
    kind = SENDERS[config.scheme].challenge
    is_challenge = kind is not None and isinstance(document, dict) and document.get("type") == kind
    return document["challenge"] if is_challenge and isinstance(document.get("challenge"), str) else None


def signing_key(config: WebhookConfig, secret: str) -> SigningKey:
    """Return the signing key for a secret of this webhook. Raises UnusableSecret."""
    sender = sender_of(config)
    if sender.signing is not None and secret.startswith(SIGNING_PREFIX):
        sender = sender.signing
    if sender.key == "base64":
        try:
            value = measured = base64.b64decode(secret.removeprefix(SIGNING_PREFIX).encode("ascii"), validate=True)
        except ValueError as err:
            raise UnusableSecret(f"it is not Base64, which `{config.scheme}` needs") from err
    else:
        value, measured = (key_text.encode("utf-8", "surrogateescape") for key_text in (secret, secret.strip()))
    if len(measured) < sender.min_key_bytes:
        count = f"{len(measured)} {'byte' if len(measured) == 1 else 'bytes'}"
        raise UnusableSecret(f"it has {count}, and `{config.scheme}` needs {sender.min_key_bytes} or more")
    return SigningKey(sender, value)


def unusable_secrets(tasks: Iterable[CompiledTask], get: Callable[[str], str | None]) -> Iterator[tuple[str, str, str, str]]:
    """Yield task, webhook path, secret name and fault for each secret whose value cannot verify. Secrets without a value are
    left out."""
    for task in tasks:
        config = task.spec.webhook.config if task.spec.webhook is not None else None
        for ref in (config.secret, config.previous_secret) if config is not None else ():
            value = get(ref.name) if ref is not None else None
            if config is not None and ref is not None and value is not None:
                try:
                    signing_key(config, value)
                except UnusableSecret as err:
                    yield task.id, config.path, ref.name, str(err)


def sha256(body: bytes) -> str:
    """Return the body's SHA-256 digest in hex, hashed in pieces that keep the interpreter lock."""
    digest = hashlib.sha256()
    for begin in range(0, len(body), _PIECE_BYTES):
        digest.update(body[begin : begin + _PIECE_BYTES])
    return digest.hexdigest()


def why_unproved(
    keys: Sequence[SigningKey], body: bytes, header: Header, now: float
) -> tuple[Literal["unsigned", "stale"], str] | None:
    """Return verdict and detail for a request whose sender is not proved, or None if a key fits and the time is right."""
    # Every key is tried: the time that it takes does not depend on which one fits.
    fits = [key for key in keys if verifies(key, body, header)]
    if not fits:
        names = dict.fromkeys(key.sender.header for key in keys)
        came = [name for name in names if header(name.lower())]
        if not came:
            return "unsigned", f"the request has no signature: the header `{'` or `'.join(names)}` is missing"
        return (
            "unsigned",
            f"the signature in `{'` and `'.join(came)}` does not fit: the sender has another secret, or the body was changed",
        )
    if not any(is_fresh(key.sender, header, now) for key in fits):
        return "stale", "the time stamp is too old or too new"
    return None


def verifies(key: SigningKey, body: bytes, header: Header) -> bool:
    """Return whether a signature of the request was made with this key, whatever its time stamp."""
    sender = key.sender
    values = header(sender.header.lower())
    if len(values) != 1:
        return False
    if sender.encoding == "token":
        # Digests are compared, because the comparison of texts of different lengths ends early.
        sent_digest, key_digest = (hashlib.sha256(text).digest() for text in (_bytes(values[0]), key.value))
        return hmac.compare_digest(sent_digest, key_digest)
    before = _signed_prefix(sender, body, header)
    if before is None:
        return False
    digest = _mac(key.value, before, body)
    fits = [hmac.compare_digest(digest, text) for text in _signatures(sender, values[0])]
    return any(fits)


def is_fresh(sender: Sender, header: Header, now: float) -> bool:
    """Return whether the signed time stamp, if the sender signs one, is within five minutes of `now`."""
    if sender.timestamp is None:
        return True
    stamp = timestamp_of(sender, header)
    if stamp is None:
        return sender.may_omit_timestamp
    return _UNIX_SECONDS.fullmatch(stamp) is not None and abs(now - int(stamp)) <= TOLERANCE_S


def sign(config: WebhookConfig, secret: str, body: bytes, *, delivery: str, now: float) -> dict[str, str]:
    """Return the headers that a sender of this scheme would send with this body. Raises UnusableSecret."""
    key, stamp = signing_key(config, secret), str(int(now))
    sender, numbered = key.sender, _first_header(key.sender.delivery)
    headers, entries, before = {} if numbered is None else {numbered: delivery}, [], b""
    for part in sender.signed:
        text = part if isinstance(part, str) else stamp if part == sender.timestamp else delivery
        before += text.encode()
        if isinstance(part, InHeader):
            headers[part.name] = text
        elif isinstance(part, InSignature):
            entries.append(f"{part.key}={text}")
    if sender.encoding == "token":
        text = secret
    else:
        digest = _mac(key.value, before, body)
        text = base64.b64encode(digest).decode() if sender.encoding == "base64" else digest.hex()
    entries.append(sender.prefixes[0] + text)
    return headers | {sender.header: (sender.separator or "").join(entries)}


def _first_header(sources: Iterable[Source]) -> str | None:
    return next((source.name for source in sources if isinstance(source, InHeader)), None)


def _found(sources: Iterable[Source], header: Header, document: Callable[[], Any]) -> str | None:
    for source in sources:
        if isinstance(source, InHeader):
            values: Sequence[Any] = header(source.name.lower())
        else:
            try:
                values = compile_path(source.path).values(document())
            except MappingFailed:
                values = ()
        if values:
            value = values[0] if len(values) == 1 else None
            return (value if isinstance(value, str) else str(value) if type(value) is int else None) or None
    return None


def _signed_prefix(sender: Sender, body: bytes, header: Header) -> bytes | None:
    """Return the bytes that are signed before the body, or None if the request lacks a part of them."""
    if sender.may_omit_timestamp and timestamp_of(sender, header) is None:
        # Otherwise a signed `timestamp.body` would also verify as one body without a time stamp, if it is read as a number.
        return None if _TIMESTAMP_PREFIX.match(body) else b""
    parts = [part if isinstance(part, str) else _value(part, sender, header) for part in sender.signed]
    return None if None in parts else b"".join(_bytes(part) for part in parts if part is not None)


def timestamp_of(sender: Sender, header: Header) -> str | None:
    """Return the time stamp that a request of this sender signs, as written, or None if it sends none."""
    return None if sender.timestamp is None else _value(sender.timestamp, sender, header)


def _value(part: Stamp, sender: Sender, header: Header) -> str | None:
    """Return a signed value of the request. A value that occurs twice is blank, which no signature fits; that is different from
    none."""
    if isinstance(part, InHeader):
        values = list(header(part.name.lower()))
    else:
        start = f"{part.key}="
        values = [
            entry.removeprefix(start)
            for value in header(sender.header.lower())
            for entry in _entries(sender, value)
            if entry.startswith(start)
        ]
    return None if not values else values[0] if len(values) == 1 else ""


def _entries(sender: Sender, value: str) -> list[str]:
    if sender.separator is None:
        return [value]
    return [entry.strip(" ") for entry in value.split(sender.separator)[: MAX_SIGNATURES + 1]]


def _signatures(sender: Sender, value: str) -> Iterator[bytes]:
    """Yield the digests in a header; text that is not a digest becomes one that fits nothing."""
    for entry in _entries(sender, value):
        prefixes = [prefix for prefix in sender.prefixes if entry.startswith(prefix)]
        if prefixes:
            yield _digest(entry.removeprefix(max(prefixes, key=len)), sender.encoding)


def _digest(text: str, encoding: str) -> bytes:
    try:
        if encoding == "base64":
            return base64.b64decode(text, validate=True)
        return binascii.unhexlify(text) if len(text) == hashlib.sha256().digest_size * 2 else b""
    except (ValueError, binascii.Error):
        return b""


def _mac(key: bytes, before: bytes, body: bytes) -> bytes:
    mac = hmac.new(key, before, digestmod="sha256")
    for begin in range(0, len(body), _PIECE_BYTES):
        mac.update(body[begin : begin + _PIECE_BYTES])
    return mac.digest()


def _bytes(text: str) -> bytes:
    return text.encode("latin-1", "replace")
