"""Signature schemes, held against what their senders publish, and against what they really send.

Published vectors: GitHub, Slack and Standard Webhooks. Gitea, GitLab, PagerDuty and Stripe describe their signatures without a
vector: theirs were computed here from the description, with `openssl dgst -sha256 -hmac`.
"""

import base64
import hashlib
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook

from optio.errors import Malformed
from optio.model.registry import CompiledTask, Origin
from optio.model.senders import SENDERS
from optio.model.task import TaskSpec
from optio.model.trigger import Scheme, WebhookConfig
from optio.runs import signature

BODY = b'{"a": 1}'
STANDARD = "whsec_" + base64.b64encode(b"0123456789abcdef01234567").decode()


def config(scheme: str, **more: Any) -> WebhookConfig:
    return WebhookConfig.of({"path": "p", "secret": {"name": "S"}, "scheme": scheme, **more})


def reader(headers: Mapping[str, str]) -> signature.Header:
    low = {name.lower(): [value] for name, value in headers.items()}
    return lambda name: low.get(name, [])


def holds(hook: WebhookConfig, secret: str, headers: Mapping[str, str], body: bytes = BODY) -> bool:
    return signature.verifies(signature.signing_key(hook, secret), body, reader(headers))


def test_every_scheme_is_a_row_of_the_table() -> None:
    assert set(SENDERS) == set(get_args(Scheme))


def test_github_s_own_example_holds_and_its_digest_alone_does_not() -> None:
    # From GitHub's page "Validating webhook deliveries".
    digest = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    secret, body = "It's a Secret to Everybody", b"Hello, World!"

    assert holds(config("github"), secret, {"X-Hub-Signature-256": f"sha256={digest}"}, body)
    assert not holds(config("github"), secret, {"X-Hub-Signature-256": digest}, body)
    assert holds(config("optio"), secret, {"X-Optio-Signature": f"sha256={digest}"}, body)
    assert holds(config("optio"), secret, {"X-Optio-Signature": digest}, body)


def test_slack_s_own_example_holds() -> None:
    # From Slack's page "Verifying requests from Slack".
    body = (
        b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar"
        b"&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text="
        b"&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN"
        b"&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
    )
    secret = "8f742231b10e8888abcd99yyyzzz85a5"
    headers = {
        "X-Slack-Request-Timestamp": "1531420618",
        "X-Slack-Signature": "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
    }
    keys = [signature.signing_key(config("slack"), secret)]

    assert signature.why_unproved(keys, body, reader(headers), 1_531_420_618) is None
    assert signature.why_unproved(keys, body, reader(headers), 1_531_421_000) == (
        "stale",
        "the time stamp is too old or too new",
    )
    assert (
        signature.why_unproved(keys, body, reader({**headers, "X-Slack-Request-Timestamp": "1531420619"}), 1_531_420_618)
        is not None
    )


@pytest.mark.parametrize(("scheme", "more"), [("standard-webhooks", {}), ("gitlab", {"X-Gitlab-Event": "Push Hook"})])
def test_the_reference_vector_of_standard_webhooks_holds(scheme: str, more: dict[str, str]) -> None:
    # From the tests of the reference libraries. GitLab's signing tokens are of the same form.
    headers = {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }

    assert holds(config(scheme), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", headers | more, b'{"test": 2432232314}')


# Keyed by `choose-your-own`: of BODY, and of `1700000000.` and BODY.
PLAIN = "8df972b9514c4864bbaa8431d58994413109719f47caf506bc3ddfbf856472f7"
STAMPED = "5add51abeb702b9f825418513474d0bec01f62b7523414492d3d1d4330eaec12"
OTHER = "0" * 64
VECTORS: list[tuple[str, dict[str, str]]] = [
    ("gitea", {"X-Gitea-Signature": PLAIN}),
    ("pagerduty", {"X-PagerDuty-Signature": f"v1={PLAIN}"}),
    ("pagerduty", {"X-PagerDuty-Signature": f"v1={OTHER},v1={PLAIN}"}),
    ("pagerduty", {"X-PagerDuty-Signature": f"v1={OTHER}, v1={PLAIN}"}),
    ("stripe", {"Stripe-Signature": f"t=1700000000,v1={STAMPED}"}),
    ("stripe", {"Stripe-Signature": f"t=1700000000,v1={OTHER},v1={STAMPED}"}),
    ("optio", {"X-Optio-Timestamp": "1700000000", "X-Optio-Signature": STAMPED}),
    ("optio", {"X-Optio-Timestamp": "1700000000", "X-Optio-Signature": f"sha256={STAMPED}"}),
    ("optio", {"X-Optio-Signature": PLAIN}),
]


@pytest.mark.parametrize(("scheme", "headers"), VECTORS)
def test_a_vector_computed_from_the_sender_s_description_holds(scheme: str, headers: dict[str, str]) -> None:
    hook = config(scheme)

    assert holds(hook, "choose-your-own", headers)
    for name, value in headers.items():
        assert not holds(hook, "choose-your-own", {**headers, name: value.replace("1700000000", "1700000001") + "0"}), name


def test_a_secret_token_of_gitlab_is_compared_whole() -> None:
    hook = config("gitlab")

    assert holds(hook, "choose-your-own", {"X-Gitlab-Token": "choose-your-own"})
    for wrong in ("choose-your-ow", "choose-your-own ", "Choose-your-own", "", "\xe9" * 15):
        assert not holds(hook, "choose-your-own", {"X-Gitlab-Token": wrong})
    assert not holds(hook, STANDARD, {"X-Gitlab-Token": STANDARD})
    assert holds(hook, "schlüssel", {"X-Gitlab-Token": "schlüssel".encode().decode("latin-1")})


def test_what_the_standard_webhooks_library_signs_holds() -> None:
    now = datetime.now(UTC)
    stamp = str(int(now.timestamp()))
    signed = Webhook(STANDARD).sign("msg_1", now, BODY.decode())
    headers = {"webhook-id": "msg_1", "webhook-timestamp": stamp, "webhook-signature": signed}

    assert holds(config("standard-webhooks"), STANDARD, headers)
    assert holds(config("standard-webhooks"), STANDARD, {**headers, "webhook-signature": f"v1a,AAAA v1,AAAA {signed}"})
    for name, value in [("webhook-id", "msg_2"), ("webhook-timestamp", str(int(stamp) + 1)), ("webhook-signature", signed[3:])]:
        assert not holds(config("standard-webhooks"), STANDARD, {**headers, name: value}), name


@pytest.mark.parametrize("lost", ["webhook-id", "webhook-timestamp", "webhook-signature"])
def test_a_request_of_standard_webhooks_without_one_of_its_headers_is_unsigned(lost: str) -> None:
    hook, now = config("standard-webhooks"), datetime.now(UTC).timestamp()
    keys = [signature.signing_key(hook, STANDARD)]
    headers = signature.sign(hook, STANDARD, BODY, delivery="msg_1", now=now)

    assert signature.why_unproved(keys, BODY, reader(headers), now) is None
    without = {name: value for name, value in headers.items() if name != lost}
    verdict, why = signature.why_unproved(keys, BODY, reader(without), now) or ("", "")
    assert verdict == "unsigned"
    assert why.startswith("the request has no signature" if lost == "webhook-signature" else "the signature in"), why


@pytest.mark.parametrize("signed", [b"msg_1..", b"msg_1.", b"."])
def test_a_signature_of_standard_webhooks_that_covers_no_time_stamp_fits_nothing(signed: bytes) -> None:
    digest = hmac.digest(base64.b64decode(STANDARD.removeprefix("whsec_")), signed + BODY, "sha256")

    headers = {"webhook-id": "msg_1", "webhook-signature": f"v1,{base64.b64encode(digest).decode()}"}

    assert not holds(config("standard-webhooks"), STANDARD, headers)


def test_the_standard_webhooks_library_takes_what_we_sign() -> None:
    now = datetime.now(UTC).timestamp()

    headers = signature.sign(config("standard-webhooks"), STANDARD, BODY, delivery="msg_1", now=now)

    assert Webhook(STANDARD).verify(BODY, headers) == {"a": 1}


@pytest.mark.parametrize("encoding", ["hex", "base64"])
@pytest.mark.parametrize("prefix", ["", "sha256="])
def test_the_plain_scheme_reads_the_header_of_the_task_s_choice(encoding: str, prefix: str) -> None:
    hook = config("hmac", signatureHeader="X-Shop-Hmac", signatureEncoding=encoding)
    digest = hmac.digest(b"a secret", BODY, hashlib.sha256)
    text = digest.hex() if encoding == "hex" else base64.b64encode(digest).decode()
    other = base64.b64encode(digest).decode() if encoding == "hex" else digest.hex()

    assert holds(hook, "a secret", {"X-Shop-Hmac": prefix + text})
    assert not holds(hook, "a secret", {"X-Shop-Hmac": prefix + other})
    assert not holds(hook, "a secret", {"X-Signature": prefix + text})


@pytest.mark.parametrize("scheme", ["optio", "github", "standard-webhooks"])
def test_a_scheme_with_a_header_of_its_own_reads_no_other(scheme: str) -> None:
    odd = config(scheme, signatureHeader="X-Odd", signatureEncoding="base64")
    now = 1_700_000_000

    headers = signature.sign(config(scheme), STANDARD, BODY, delivery="d", now=now)

    assert holds(odd, STANDARD, headers)
    assert signature.sign(odd, STANDARD, BODY, delivery="d", now=now) == headers


@pytest.mark.parametrize(
    "hook",
    [*(config(scheme) for scheme in SENDERS if scheme != "hmac"), config("hmac", signatureEncoding="base64")],
    ids=lambda hook: hook.scheme,
)
@given(body=st.binary(max_size=200), flip=st.integers(0, 10_000))
def test_what_is_signed_holds_for_these_bytes_and_this_key_only(hook: WebhookConfig, body: bytes, flip: int) -> None:
    headers = signature.sign(hook, STANDARD, body, delivery="d", now=1_700_000_000)

    assert holds(hook, STANDARD, headers, body)
    assert not holds(hook, STANDARD, headers, body + b" ")
    assert not holds(hook, "whsec_" + base64.b64encode(b"another" * 4).decode(), headers, body)
    if body:
        place = flip % len(body)
        assert not holds(hook, STANDARD, headers, body[:place] + bytes([body[place] ^ 1]) + body[place + 1 :])


@pytest.mark.parametrize("hook", [config(scheme) for scheme in SENDERS], ids=lambda hook: hook.scheme)
@given(text=st.text(max_size=100), more=st.text(st.characters(max_codepoint=255), max_size=100))
def test_no_text_in_a_header_or_a_body_raises(hook: WebhookConfig, text: str, more: str) -> None:
    named = [name for name in (signature.event_header(hook), signature.delivery_header(hook), "webhook-id") if name]
    stamps = ("webhook-timestamp", "x-optio-timestamp", "x-slack-request-timestamp")
    headers = dict.fromkeys(named, text) | dict.fromkeys(stamps, more)
    for found in (text, f"t={text},v1={more}", f"v1,{more} {text}"):
        header, body = reader(headers | {signature.signature_header(hook): found}), more.encode()
        signature.why_unproved([signature.SigningKey(SENDERS[hook.scheme], b"key")], body, header, 0.0)
        signature.delivery_id(hook, header, body)
        signature.event_name(hook, header, {"type": more, "event": text})
        signature.challenge(hook, {"type": "url_verification", "challenge": text})


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
    for scheme, header in [("standard-webhooks", "webhook-timestamp"), ("optio", "X-Optio-Timestamp")]:
        assert signature.is_fresh(SENDERS[scheme], reader({header: stamp}), 1_700_000_000.0) is fresh
    stripe = reader({"Stripe-Signature": f"t={stamp},v1=00"})
    assert signature.is_fresh(SENDERS["stripe"], stripe, 1_700_000_000.0) is fresh


def test_only_a_sender_that_need_not_sign_a_time_stamp_may_leave_it_out() -> None:
    fresh = {name: signature.is_fresh(SENDERS[name], reader({}), 1_700_000_000.0) for name in SENDERS}

    assert {name for name in fresh if not fresh[name]} == {"standard-webhooks", "stripe", "slack"}


@pytest.mark.parametrize(
    ("scheme", "secret", "fault"),
    [
        ("standard-webhooks", "whsec_not base64!", "not Base64"),
        ("standard-webhooks", "äöü", "not Base64"),
        ("standard-webhooks", "whsec_A", "not Base64"),
        ("standard-webhooks", "whsec_AAAAAAAAAAAA-_AAAAAAAAAAAA", "not Base64"),
        ("standard-webhooks", "whsec_", "it has 0 bytes, and `standard-webhooks` needs 16 or more"),
        ("standard-webhooks", "whsec_" + base64.b64encode(bytes(15)).decode(), "15 bytes"),
        ("gitlab", "whsec_", "it has 0 bytes"),
        ("gitlab", "token", "it has 5 bytes, and `gitlab` needs 8 or more"),
        ("github", "", "0 bytes"),
        ("github", "1", "it has 1 byte, "),
        ("optio", "1234567", "7 bytes"),
        ("optio", " \n\t" * 9, "0 bytes"),
        ("stripe", "whsec_", "6 bytes"),
    ],
)
def test_a_secret_that_the_scheme_cannot_use_says_why_and_not_what_it_is(scheme: str, secret: str, fault: str) -> None:
    with pytest.raises(signature.UnusableSecret) as raised:
        signature.signing_key(config(scheme), secret)

    assert fault in str(raised.value)
    assert len(secret.strip()) < 2 or secret not in str(raised.value)


@pytest.mark.parametrize(
    ("scheme", "secret"),
    [
        *((scheme, "choose-your-own") for scheme in SENDERS if scheme != "standard-webhooks"),
        ("github", "12345678"),
        ("optio", "ÄÖÜß"),
        ("optio", "\udcff" * 8),
        ("standard-webhooks", base64.b64encode(bytes(16)).decode()),
    ],
)
def test_a_secret_of_eight_bytes_or_of_sixteen_behind_base64_is_used(scheme: str, secret: str) -> None:
    hook = config(scheme)

    assert holds(hook, secret, signature.sign(hook, secret, BODY, delivery="d", now=1_700_000_000))


def test_the_secrets_of_a_tree_that_verify_nothing_are_found_with_their_webhook() -> None:
    values = {"GOOD": "choose-your-own", "SHORT": "s", "EMPTY": ""}

    def task(path: str, **more: Any) -> CompiledTask:
        config = {"path": path, "secret": {"name": "GOOD"}, **more}
        spec = {"name": "A", "agentRuntime": "command", "triggers": [{"type": "webhook", "config": config}]}
        return CompiledTask(id=path, spec=TaskSpec.of(spec), prompt="", origin=Origin(path="a", line=1))

    tasks = [
        task("good"),
        task("absent", secret={"name": "ABSENT"}),
        task("short", secret={"name": "SHORT"}, previousSecret={"name": "EMPTY"}),
    ]

    assert list(signature.unusable_secrets(tasks, values.get)) == [
        ("short", "short", "SHORT", "it has 1 byte, and `optio` needs 8 or more"),
        ("short", "short", "EMPTY", "it has 0 bytes, and `optio` needs 8 or more"),
    ]


@pytest.mark.parametrize(
    ("hook", "headers", "document", "event"),
    [
        (config("gitlab"), {"X-Gitlab-Event": "Push Hook"}, {"object_kind": "push"}, "Push Hook"),
        (config("slack"), {}, {"type": "event_callback", "event": {"type": "message"}}, "message"),
        (config("slack"), {}, {"type": "app_rate_limited"}, "app_rate_limited"),
        (config("pagerduty"), {}, {"event": {"event_type": "incident.triggered"}}, "incident.triggered"),
        (config("standard-webhooks"), {"X-Optio-Event": "other"}, {"type": "invoice.paid"}, "invoice.paid"),
        (config("standard-webhooks"), {}, {"type": ["invoice.paid"]}, None),
        (config("standard-webhooks"), {}, ["invoice.paid"], None),
        (config("hmac", eventHeader="X-Event-Key"), {"X-Event-Key": "repo:push"}, {}, "repo:push"),
        (config("hmac", eventPath="$.events[0].kind"), {}, {"events": [{"kind": "a"}, {"kind": "b"}]}, "a"),
        # As a task that was compiled before there were `eventHeader` and `eventPath`.
        (config("hmac"), {"X-Optio-Event": "push"}, {}, "push"),
    ],
)
def test_the_event_stands_where_its_sender_names_it(
    hook: WebhookConfig, headers: dict[str, str], document: Any, event: str | None
) -> None:
    assert signature.event_name(hook, reader(headers), document) == event


@pytest.mark.parametrize(
    ("hook", "headers", "body", "number"),
    [
        (config("github"), {"X-GitHub-Delivery": "a"}, b"{}", "a"),
        (config("optio"), {"X-Optio-Delivery": "a", "Idempotency-Key": "b"}, b"{}", "a"),
        (config("optio"), {"Idempotency-Key": "b"}, b"{}", "b"),
        (config("gitlab"), {"webhook-id": "a", "Idempotency-Key": "b"}, b"{}", "a"),
        (config("gitlab"), {"Idempotency-Key": "b"}, b"{}", "b"),
        (config("gitlab", deliveryHeader="X-Id"), {"webhook-id": "a", "X-Id": "c"}, b"{}", "c"),
        (config("hmac"), {"X-Optio-Delivery": "a"}, b"{}", None),
        (config("hmac", deliveryHeader="X-Id"), {"X-Id": "a", "Idempotency-Key": "b"}, b"{}", "a"),
        (config("stripe"), {}, b'{"id": "evt_1"}', "evt_1"),
        (config("stripe"), {}, b'{"id": 7}', "7"),
        (config("stripe", deliveryHeader="X-Id"), {"X-Id": "a"}, b'{"id": "evt_1"}', "a"),
        (config("slack"), {}, b'{"event_id": "Ev1", "event": {"id": "x"}}', "Ev1"),
        (config("pagerduty"), {}, b'{"event": {"id": "01B"}}', "01B"),
        *((config("stripe"), {}, body, None) for body in (b"{", b"[]", b'{"id": ""}', b'{"id": null}', b'{"id": true}', b"7")),
    ],
)
def test_the_id_of_a_delivery_stands_where_its_sender_writes_it(
    hook: WebhookConfig, headers: dict[str, str], body: bytes, number: str | None
) -> None:
    assert signature.delivery_id(hook, reader(headers), body) == number


@pytest.mark.parametrize(
    ("hook", "name"), [(config("github"), "x-github-delivery"), (config("hmac", deliveryHeader="X-Id"), "x-id")]
)
def test_a_delivery_with_two_ids_is_refused(hook: WebhookConfig, name: str) -> None:
    two = {name: ["a", "b"]}

    with pytest.raises(Malformed, match="occurs twice"):
        signature.delivery_id(hook, lambda asked: two.get(asked, []), b"{}")
