"""Protection of webhooks against replays: a captured delivery, sent again under another delivery id.

If a signature does not cover the delivery id, anybody can choose that id. The store then remembers what was signed, and a
second delivery with the same signed content gets the answer of the first one.
"""

import hashlib
from datetime import timedelta

from optio.model.senders import InBody, Sender, sender_of
from optio.model.text import format_duration
from optio.model.trigger import WebhookConfig
from optio.runs.signature import TOLERANCE_S, Header, timestamp_of
from optio.store.values import ReplayGuard

# A time stamp may be as far ahead of this clock as behind it.
_STAMPED_WINDOW = timedelta(seconds=2 * TOLERANCE_S)


def replay_guard_of(config: WebhookConfig, header: Header, body_sha256: str) -> ReplayGuard | None:
    """Return what to remember of a delivery with a valid signature, or None if a replay is impossible or allowed.

    The signature header itself is left out: one signature has many spellings. With a signed time stamp the same body may come
    again under another stamp, so a sender of constant bodies that signs the time needs no setting.
    """
    if config.secret is None:
        return None
    row = sender_of(config)
    rows = [row] if row.signing is None else [row, row.signing]
    stamps = [stamp for each in rows if (stamp := timestamp_of(each, header)) is not None]
    if any(_signs_id(each) for each in rows if each.timestamp is None or timestamp_of(each, header) is not None):
        return None
    if stamps:
        digest = hashlib.sha256(f"{stamps[0]}.{body_sha256}".encode("utf-8", "surrogateescape")).hexdigest()
        return ReplayGuard(digest=digest, window=_STAMPED_WINDOW)
    return None if config.replay_span is None else ReplayGuard(digest=body_sha256, window=config.replay_span)


def replay_reason(config: WebhookConfig, header: Header, first: str) -> str:
    """Return, for the sender, why a delivery was answered like the delivery `first`, and how to avoid that."""
    row = sender_of(config)
    if timestamp_of(row, header) is not None:
        return (
            f"delivery {first} had the same signed time and body, so this one is taken for a replay of it. To start a run each "
            "time, sign each delivery with its own time"
        )
    window = format_duration(config.replay_span or timedelta())
    return (
        f"delivery {first} had the same signed body less than {window} ago, so this one is taken for a replay of it. To start "
        "a run each time, change the body, or set `replayWindow: none`"
    )


def _signs_id(row: Sender) -> bool:
    return any(isinstance(place, InBody) or place in row.signed for place in row.delivery)
