"""Runs and log lines as text for a terminal. Text from outside is escaped, so that it cannot drive the terminal."""

import json
import re
from decimal import Decimal
from typing import Any

from optio.cli.shared.terminal import wants_colour

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2066-\u2069]")
_COLOURS = {"completed": "32", "failed": "31", "cancelled": "33", "running": "36", "queued": "34"}
_LABELS = {"thought": "...", "tool": "tool", "tool-result": "  =>", "turn": "turn", "stderr": "err", "system": "optio"}


def coloured(text: str, style: str) -> str:
    """Return the text in an ANSI style where colours are wanted, else as it is."""
    return f"\x1b[{style}m{text}\x1b[0m" if wants_colour() else text


def state(name: str) -> str:
    """Return the name of a run's state in its colour."""
    return coloured(name, _COLOURS.get(name, "0"))


def safe(text: str) -> str:
    """Escape control and invisible characters: a log must not be able to drive the terminal."""
    return _CONTROL.sub(lambda m: f"\\x{ord(m[0]):02x}" if ord(m[0]) < 256 else f"\\u{ord(m[0]):04x}", text)


def line(entry: dict[str, Any], *, raw: bool = False) -> str:
    """Return a log line as text, with a label for its kind; `raw` returns it exactly as the agent wrote it."""
    text = entry["text"] if raw else safe(entry["text"])
    label = _LABELS.get(entry["kind"])
    if raw or label is None:
        return str(text)
    return coloured(f"{label:>5} | ", "2") + text


def as_json(value: Any) -> str:
    """Return indented JSON with control characters escaped, so that it is harmless on a terminal too."""
    return _CONTROL.sub(lambda m: f"\\u{ord(m[0]):04x}", json.dumps(value, indent=2, ensure_ascii=False))


def usd(amount: str | None) -> str:
    """Return an amount of the API as people write it, or nothing for an unknown one."""
    # Not above: this module prints errors too, also that the library of the tasks is not installed.
    from optio.model.money import dollars

    return "" if amount is None else dollars(Decimal(amount))


def outcome(run: dict[str, Any]) -> str:
    """Return one line about a run: state, reason, duration, turns, tokens, cost; with its attempts also where that comes
    from."""
    text = f"run {run['id']} {state(run['state'])}"
    if run["reason"] not in ("ok", run["state"]):
        text += f" ({run['reason']}{': ' + safe(run['message']) if run['message'] else ''})"
    if run["durationMs"] is not None:
        text += f" in {run['durationMs'] / 1000:.1f} s"
    if run["turns"] is not None:
        text += f", {run['turns']} turn{'' if run['turns'] == 1 else 's'}"
    if run["tokens"]:
        text += f", {run['tokens']:,} tokens"
    if run["costUsd"] is not None:
        text += f", {usd(run['costUsd'])} {cost_origin(*run.get('attempts', [])[-1:])}".rstrip()
    return text


def cost_origin(attempt: dict[str, Any] | None = None) -> str:
    """Return where the cost of an attempt comes from; nothing without one, or if a server of an older version does not say."""
    # As above.
    from optio.model import usage

    if attempt is None or "metered" not in attempt:
        return ""
    return usage.cost_origin(attempt["costSource"], is_metered=attempt["metered"] and attempt["endedAt"] is not None)
