"""Signature schemes, held against what senders of each scheme really send."""

import base64
import hashlib
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook

from optio.model.trigger import WebhookConfig
from optio.runs import signature

BODY = b'{"a": 1}'
STANDARD = "whsec_" + base64.b64encode(b"0123456789abcdef01234567").decode()


def config(scheme: str, **more: str) -> WebhookConfig:
    return WebhookConfig.of({"path": "p", "secret": {"name": "S"}, "scheme": scheme, **more})


def holds(hook: WebhookConfig, secret: str, headers: Mapping[str, str], body: bytes = BODY) -> bool:
    low = {name.lower(): value for name, value in headers.items()}
    return signature.valid(hook, [signature.key(hook, secret)], body, lambda name: [low[name]] if name in low else [])


def test_github_s_own_example_holds() -> None:
    # From GitHub's page "Validating webhook deliveries".
    digest = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"

    assert holds(config("github"), "It's a Secret to Everybody", {"X-Hub-Signature-256": f"sha256={digest}"}, b"Hello, World!")


def test_what_the_standard_webhooks_library_signs_holds() -> None:
    now = datetime.now(UTC)
    stamp = str(int(now.timestamp()))
    signed = Webhook(STANDARD).sign("msg_1", now, BODY.decode())
    headers = {"webhook-id": "msg_1", "webhook-timestamp": stamp, "webhook-signature": signed}

    assert holds(config("standard-webhooks"), STANDARD, headers)
    assert holds(config("standard-webhooks"), STANDARD, {**headers, "webhook-signature": f"v1a,AAAA v1,AAAA {signed}"})
    for name, value in [("webhook-id", "msg_2"), ("webhook-timestamp", str(int(stamp) + 1)), ("webhook-signature", signed[3:])]:
        assert not holds(config("standard-webhooks"), STANDARD, {**headers, name: value}), name


def test_the_standard_webhooks_library_takes_what_we_sign() -> None:
    now = datetime.now(UTC).timestamp()

    headers = signature.sign(config("standard-webhooks"), STANDARD, BODY, delivery="msg_1", now=now)

    assert Webhook(STANDARD).verify(BODY, headers) == {"a": 1}


@pytest.mark.parametrize("encoding", ["hex", "base64"])
@pytest.mark.parametrize("prefix", ["", "sha256="])
def test_the_plain_scheme_reads_the_header_of_the_task_s_choice(encoding: str, prefix: str) -> None:
    hook = config("hmac", signatureHeader="X-Shop-Hmac", signatureEncoding=encoding)
    digest = hmac.digest(b"secret", BODY, hashlib.sha256)
    text = digest.hex() if encoding == "hex" else base64.b64encode(digest).decode()
    other = base64.b64encode(digest).decode() if encoding == "hex" else digest.hex()

    assert holds(hook, "secret", {"X-Shop-Hmac": prefix + text})
    assert not holds(hook, "secret", {"X-Shop-Hmac": prefix + other})
    assert not holds(hook, "secret", {"X-Signature": prefix + text})


@pytest.mark.parametrize("scheme", ["optio", "github", "standard-webhooks"])
def test_a_scheme_with_a_header_of_its_own_reads_no_other(scheme: str) -> None:
    odd = config(scheme, signatureHeader="X-Odd", signatureEncoding="base64")
    now = 1_700_000_000

    headers = signature.sign(config(scheme), STANDARD, BODY, delivery="d", now=now)

    assert holds(odd, STANDARD, headers)
    assert signature.sign(odd, STANDARD, BODY, delivery="d", now=now) == headers


@pytest.mark.parametrize(
    "hook",
    [config("optio"), config("github"), config("standard-webhooks"), config("hmac", signatureEncoding="base64")],
    ids=lambda hook: hook.scheme,
)
@given(body=st.binary(max_size=200), flip=st.integers(0, 10_000))
def test_what_is_signed_holds_for_these_bytes_and_this_key_only(hook: WebhookConfig, body: bytes, flip: int) -> None:
    headers = signature.sign(hook, STANDARD, body, delivery="d", now=1_700_000_000)

    assert holds(hook, STANDARD, headers, body)
    assert not holds(hook, STANDARD, headers, body + b" ")
    assert not holds(hook, "whsec_" + base64.b64encode(b"another").decode(), headers, body)
    if body:
        place = flip % len(body)
        assert not holds(hook, STANDARD, headers, body[:place] + bytes([body[place] ^ 1]) + body[place + 1 :])


@pytest.mark.parametrize("hook", [config("optio"), config("github"), config("standard-webhooks"), config("hmac")])
@given(text=st.text(st.characters(max_codepoint=255), max_size=100))
def test_no_text_in_a_header_raises(hook: WebhookConfig, text: str) -> None:
    headers = {signature.signature_header(hook): text, "webhook-id": text, "webhook-timestamp": text}
    low = {name: [value] for name, value in headers.items()}

    assert not signature.valid(hook, [b"key"], BODY, lambda name: low.get(name, []))
    signature.fresh(hook, lambda name: low.get(name, []), 0.0)


@pytest.mark.parametrize(
    ("stamp", "fresh"),
    [
        ("1700000000", True),
        ("1699999700", True),
        ("1700000300", True),
        ("1699999699", False),
        ("1700000301", False),
        ("1699300000", False),
        ("-1700000000", False),
        ("1700000000.0", False),
        ("", False),
        ("now", False),
        ("9" * 400, False),
        ("١٧٠٠٠٠٠٠٠٠", False),
    ],
)
def test_a_signed_time_stamp_holds_for_five_minutes(stamp: str, fresh: bool) -> None:
    hook = config("standard-webhooks")

    assert signature.fresh(hook, lambda name: [stamp] if name == "webhook-timestamp" else [], 1_700_000_000.0) is fresh


@pytest.mark.parametrize("secret", ["whsec_not base64!", "äöü", "whsec_A"])
def test_a_secret_that_the_scheme_cannot_use_is_told_apart_from_a_wrong_signature(secret: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        signature.key(config("standard-webhooks"), secret)
