"""Map words of other systems to the allowed words of a key, such as `forbid` to `skip` for `overlap`. `foreign_words.json` has
them, one row a line. Imported only for a file with such a word."""

import re
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from optio.model.route import Route

# Senders that sign by `hmac`: the header of the signature, where the event is named, and the header that numbers a delivery.
_BY_HMAC = {
    "bitbucket": ("X-Hub-Signature", "eventHeader: X-Event-Key", "X-Request-UUID"),
    "jira": ("X-Hub-Signature", "eventPath: $.webhookEvent", "X-Atlassian-Webhook-Identifier"),
    "linear": ("Linear-Signature", "eventHeader: Linear-Event", "Linear-Delivery"),
    "sentry": ("Sentry-Hook-Signature", "eventHeader: Sentry-Hook-Resource", "Request-ID"),
    "shopify": ("X-Shopify-Hmac-Sha256", "eventHeader: X-Shopify-Topic", "X-Shopify-Webhook-Id"),
    "typeform": ("Typeform-Signature", "eventPath: $.event_type", None),
    "woocommerce": ("X-WC-Webhook-Signature", "eventHeader: X-WC-Webhook-Topic", "X-WC-Webhook-Delivery-ID"),
    "heroku": ("Heroku-Webhook-Hmac-SHA256", "eventPath: $.webhook_metadata.event.include", None),
}
_BY_BASE64 = ("shopify", "typeform", "woocommerce", "heroku")
_CHOICES = {
    "misfire": "for missed times write `last` to run the last one, `all` for each, `skip` for none",
    "overlap": "write `queue` to wait for the previous run, `skip` to skip that time",
    "onDuplicate": "write `join` to answer with the first run, `reject` to refuse, `replace` to replace a waiting run",
}


class _WordRow(msgspec.Struct, frozen=True):
    """Words of other systems for the key `key`: the word `ours`, or a `text` that says what to write instead."""

    key: str
    words: str
    ours: str = ""
    text: str = ""


@cache
def _rows() -> dict[tuple[str, str], _WordRow]:
    rows = msgspec.json.decode(Path(__file__).with_name("foreign_words.json").read_bytes(), type=list[_WordRow])
    return {(row.key, word): row for row in rows for word in row.words.split()}


def suggest_hmac_keys(name: Any, config: dict[str, Any]) -> str | None:
    """Return the hint with all keys by which `hmac` reads a known sender, without those that the webhook has already."""
    sender = re.sub(r"[^a-z]|(?:cloud|server|software|hmac|sha)", "", str(name).lower())
    if sender not in _BY_HMAC:
        return None
    header, event, delivery = _BY_HMAC[sender]
    keys = [
        f"signatureHeader: {header}",
        "signatureEncoding: base64" if sender in _BY_BASE64 else "",
        event if "events" in config and not {"eventHeader", "eventPath"} & set(config) else "",
        f"deliveryHeader: {delivery}" if delivery is not None else "",
    ]
    missing = [f"`{key}`" for key in keys if key and str(config.get(key.partition(":")[0], "")) != key.partition(": ")[2]]
    *first, last = ["`scheme: hmac`", *missing]
    return f"write {', '.join(first)} and {last}" if first else f"write {last}"


def suggest_allowed_word(route: Route, value: Any) -> str | tuple[str] | None:
    """Return the allowed word for another system's word; in a tuple, the hint for a word that has no equivalent."""
    if not route or not isinstance(value, (str, bool)):
        return None
    folded_word = "".join(filter(str.isalnum, str(value).lower()))
    for prefix in ("misfireinstruction", "scheduleoverlappolicy", "misfirehandling"):
        folded_word = folded_word.removeprefix(prefix)
    row = _rows().get((str(route[-1]), folded_word))
    return None if row is None else row.ours or (row.text,)


def explain_choices(route: Route) -> str | None:
    """Return a sentence on what each allowed word does, for keys whose words do not say it themselves."""
    return _CHOICES.get(str(route[-1])) if route else None
