"""Webhook signatures, over the raw bytes, compared in constant time.

optio              X-Optio-Signature: <hex> or sha256=<hex>     HMAC-SHA256, keyed by the secret's bytes as written
github             X-Hub-Signature-256: sha256=<hex>            the same
standard-webhooks  webhook-signature: v1,<base64> ...           over `id.timestamp.body`, keyed by the decoded secret
hmac               a header of the task's choice                hex or base64, with or without `sha256=`
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable, Sequence

from optio.model.trigger import WebhookConfig

TOLERANCE_S = 300
Header = Callable[[str], Sequence[str]]
# Of a larger piece Python gives the interpreter away while it is hashed, and getting it back takes longer than the hash.
_PIECE = 2_047

_SIGNATURE = {"optio": "x-optio-signature", "github": "x-hub-signature-256", "standard-webhooks": "webhook-signature"}
_DELIVERY = {"optio": "x-optio-delivery", "github": "x-github-delivery", "standard-webhooks": "webhook-id"}
_EVENT = {"github": "x-github-event"}


def signature_header(config: WebhookConfig) -> str:
    """The header that carries the signature, in lower case."""
    return _SIGNATURE.get(config.scheme) or (config.signature_header or "x-signature").lower()


def delivery_header(config: WebhookConfig) -> str:
    """The header that carries the delivery's id, in lower case."""
    return (config.delivery_header or _DELIVERY.get(config.scheme, "idempotency-key")).lower()


def event_header(config: WebhookConfig) -> str:
    """The header that names the event, in lower case."""
    return _EVENT.get(config.scheme, "x-optio-event")


def key(config: WebhookConfig, secret: str) -> bytes:
    """The bytes that a secret signs with; raises ValueError for one that the scheme cannot use."""
    if config.scheme != "standard-webhooks":
        return secret.encode()
    return base64.b64decode(secret.removeprefix("whsec_"), validate=True)


def sha256(body: bytes) -> str:
    """The body's digest in hex."""
    digest = hashlib.sha256()
    for begin in range(0, len(body), _PIECE):
        digest.update(body[begin : begin + _PIECE])
    return digest.hexdigest()


def valid(config: WebhookConfig, keys: Sequence[bytes], body: bytes, header: Header) -> bool:
    """Whether one signature is by one of the keys. Never raises, whatever the headers hold."""
    values = header(signature_header(config))
    if len(values) != 1:
        return False
    if config.scheme == "standard-webhooks":
        return _standard(keys, body, header, values[0])
    given = _given(values[0], config.signature_encoding if config.scheme == "hmac" else "hex")
    # Every key is tried: how long it takes says nothing about which one fits.
    fits = [hmac.compare_digest(_mac(each, body), given) for each in keys]
    return any(fits)


def fresh(config: WebhookConfig, header: Header, now: float) -> bool:
    """Whether the signed time stamp, where the scheme has one, is within five minutes."""
    if config.scheme != "standard-webhooks":
        return True
    values = header("webhook-timestamp")
    if len(values) != 1 or not values[0].isascii() or not values[0].isdigit() or len(values[0]) > 12:
        return False
    return abs(now - int(values[0])) <= TOLERANCE_S


def doubt(config: WebhookConfig, keys: Sequence[bytes], body: bytes, header: Header, now: float) -> tuple[str, str] | None:
    """Verdict and detail of a request whose sender is not proved; None when he is."""
    if not keys or not valid(config, keys, body, header):
        return "unsigned", "the signature is missing or wrong"
    if not fresh(config, header, now):
        return "stale", "the time stamp is too old or too new"
    return None


def sign(config: WebhookConfig, secret: str, body: bytes, *, delivery: str, now: float) -> dict[str, str]:
    """The headers that a sender of this scheme would send."""
    headers = {delivery_header(config): delivery}
    if config.scheme == "standard-webhooks":
        stamp = str(int(now))
        digest = _mac(key(config, secret), b".".join((delivery.encode(), stamp.encode(), body)))
        headers |= {"webhook-timestamp": stamp, "webhook-signature": "v1," + base64.b64encode(digest).decode()}
    else:
        digest = _mac(key(config, secret), body)
        in_base64 = config.scheme == "hmac" and config.signature_encoding == "base64"
        text = base64.b64encode(digest).decode() if in_base64 else "sha256=" + digest.hex()
        headers[signature_header(config)] = text
    return headers


def _mac(key: bytes, data: bytes) -> bytes:
    mac = hmac.new(key, digestmod="sha256")
    for begin in range(0, len(data), _PIECE):
        mac.update(data[begin : begin + _PIECE])
    return mac.digest()


def _given(value: str, encoding: str) -> bytes:
    """The digest in a header; what is none becomes one that fits nothing."""
    text = value.removeprefix("sha256=")
    try:
        if encoding == "base64":
            return base64.b64decode(text, validate=True)
        if len(text) != hashlib.sha256().digest_size * 2:
            return b""
        return binascii.unhexlify(text)
    except (ValueError, binascii.Error):
        return b""


def _standard(keys: Sequence[bytes], body: bytes, header: Header, value: str) -> bool:
    ids, stamps = header("webhook-id"), header("webhook-timestamp")
    if len(ids) != 1 or len(stamps) != 1:
        return False
    signed = b".".join((ids[0].encode("latin-1"), stamps[0].encode("latin-1"), body))
    given = [_given(part.removeprefix("v1,"), "base64") for part in value.split(" ")[:10] if part.startswith("v1,")]
    fits = [hmac.compare_digest(_mac(each, signed), one) for each in keys for one in given]
    return any(fits)
