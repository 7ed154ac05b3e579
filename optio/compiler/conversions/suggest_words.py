"""Map words of other systems to the allowed words of a key, such as `forbid` to `skip` for `overlap`. Imported only for a file
with such a word."""

import re
from typing import Any

from optio.model.route import Route

_LAST, _SKIP, _ALL = "last", "skip", "all"
_MISFIRE = {
    **dict.fromkeys(("catchup", "all", "backfill", "runall", "fireall", "catchupall", "replay"), _ALL),
    **dict.fromkeys(
        (
            "once",
            "fireonce",
            "runonce",
            "firenow",
            "runnow",
            "latest",
            "coalesce",
            "fireandproceed",
            "one",
            "fireoncenow",
            "smartpolicy",
        ),
        _LAST,
    ),
    **dict.fromkeys(("ignoremisfirepolicy", "ignoremisfires"), _ALL),
    **dict.fromkeys(("ignore", "none", "never", "donothing", "discard", "drop", "no", "off", "false"), _SKIP),
}
_NEITHER: tuple[str] = (
    "no run is cancelled for a later one: write `queue` to start the later one, too, `skip` to leave that time out",
)
_OVERLAP: dict[str, str | tuple[str]] = {
    **dict.fromkeys(("forbid", "forbidden", "disallow", "no", "none", "never", "false", "drop", "ignore", "discard"), _SKIP),
    **dict.fromkeys(("replace", "cancelother", "cancelprevious", "terminateother", "cancel", "restart"), _NEITHER),
    **dict.fromkeys(("allow", "allowall", "parallel", "concurrent"), "queue"),
    **dict.fromkeys(("wait", "enqueue", "serialize", "serial", "sequential", "bufferall", "bufferone"), "queue"),
}
_ON_DUPLICATE = {
    **dict.fromkeys(("drop", "ignore", "skip", "discard", "coalesce", "reuse", "return"), "join"),
    **dict.fromkeys(("fail", "error", "forbid", "refuse", "deny"), "reject"),
    **dict.fromkeys(("cancel", "cancelinprogress", "latest", "supersede", "overwrite", "restart"), "replace"),
}
_RUNTIMES = {
    **dict.fromkeys(("python", "bash", "sh", "shell", "node", "docker", "container", "script", "exec", "process"), "command"),
    **dict.fromkeys(("anthropic", "claude", "claudecode", "sonnet", "opus", "haiku"), "claude-code"),
    **dict.fromkeys(("openai", "gpt", "chatgpt"), "codex"),
}
# Senders and words that mean an HMAC signature.
_UNSIGNED = "delete it, and write `unsigned: true` to accept deliveries from anyone"
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
_WRITTEN = "write how the signature is written: `hex`, or `base64` as Shopify does"
_ENCODINGS: dict[str, str | tuple[str]] = {
    **dict.fromkeys(("hexdigest", "hexadecimal", "base16"), "hex"),
    "b64": "base64",
    **dict.fromkeys(("sha256", "hmacsha256"), (_WRITTEN,)),
}
_ANY_HMAC = "write `github` or `gitea` if the sender is one, else `hmac` with `signatureHeader:`, the header of the signature"
_SCHEMES: dict[str, str | tuple[str]] = {
    **dict.fromkeys(("sha256", "hmacsha256", "hmacsha", "signature"), (_ANY_HMAC,)),
    **dict.fromkeys(("standardwebhooks", "whsec", "openai", "anthropic", "supabase"), "standard-webhooks"),
    **dict.fromkeys(("forgejo", "gogs", "codeberg"), "gitea"),
    "svix": ("write `standard-webhooks`, which signs alike, and let the sender or a relay name the headers `webhook-...`",),
    **dict.fromkeys(("none", "off", "false", "unsigned", "public", "noauth"), (_UNSIGNED,)),
    **dict.fromkeys(
        ("basic", "basicauth", "bearer", "token", "apikey", "header", "jwt"),
        ("write `gitlab` for a sender that sends the secret itself in `X-Gitlab-Token`, `hmac` for one that signs",),
    ),
}
_WORDS: dict[str, dict[str, str] | dict[str, str | tuple[str]]] = {
    "misfire": _MISFIRE,
    "overlap": _OVERLAP,
    "onDuplicate": _ON_DUPLICATE,
    "agentRuntime": _RUNTIMES,
    "scheme": _SCHEMES,
    "verdict": {
        **dict.fromkeys(("ignored", "ignore", "skipped", "skip", "dropped", "discarded", "nomatch"), "filtered"),
        **dict.fromkeys(("ok", "success", "pass", "passed", "started", "queued", "run", "true", "202", "200"), "accepted"),
        **dict.fromkeys(("rejected", "refused", "badrequest", "error", "failed", "fail", "false", "422", "400"), "invalid"),
        **dict.fromkeys(("unauthorized", "unauthorised", "forbidden", "denied", "401", "403", "badsignature"), "unsigned"),
        **dict.fromkeys(("expired", "old", "replayed", "tooold"), "stale"),
    },
    "signature": {
        **dict.fromkeys(("invalid", "bad", "false", "tampered", "incorrect", "forged", "mismatch"), "wrong"),
        **dict.fromkeys(("none", "absent", "unsigned", "no", "off", "without"), "missing"),
        **dict.fromkeys(("expired", "old", "outdated"), "stale"),
        **dict.fromkeys(("ok", "correct", "true", "right", "yes"), "valid"),
    },
    "signatureEncoding": _ENCODINGS,
}
_CHOICES = {
    "misfire": "for missed times write `last` to run the last one, `all` for each, `skip` for none",
    "overlap": "write `queue` to wait for the previous run, `skip` to skip that time",
    "onDuplicate": "write `join` to answer with the first run, `reject` to refuse, `replace` to replace a waiting run",
}


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
    lacking = [f"`{key}`" for key in keys if key and str(config.get(key.partition(":")[0], "")) != key.partition(": ")[2]]
    *most, last = ["`scheme: hmac`", *lacking]
    return f"write {', '.join(most)} and {last}" if most else f"write {last}"


def suggest_allowed_word(route: Route, value: Any) -> str | tuple[str] | None:
    """Return the allowed word for another system's word; in a tuple, the hint for a word that has no equivalent."""
    known = _WORDS.get(str(route[-1])) if route and isinstance(value, (str, bool)) else None
    folded = "".join(filter(str.isalnum, str(value).lower()))
    for around in ("misfireinstruction", "scheduleoverlappolicy", "misfirehandling"):
        folded = folded.removeprefix(around)
    return known.get(folded) if known else None


def explain_choices(route: Route) -> str | None:
    """Return a sentence on what each allowed word does, for keys whose words do not say it themselves."""
    return _CHOICES.get(str(route[-1])) if route else None
