"""`optio hook send`: signs as the sender of each scheme would."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import Dev

TASK = """\
type: standalone
name: {name}
agentRuntime: command
command: "true"
promptTemplate: "go"
triggers:
  - type: webhook
    config: {{path: {name}, {how}}}
"""
KEY = base64.b64encode(b"0123456789abcdef").decode()
HOW = {
    "plain": "secret: {name: KEY}",
    "github": "secret: {name: KEY}, scheme: github, events: [push]",
    "standard": "secret: {name: KEY}, scheme: standard-webhooks",
    "shop": "secret: {name: KEY}, scheme: hmac, signatureHeader: X-Shop, signatureEncoding: base64",
    "open": "unsigned: true",
    "picky": "secret: {name: KEY}, when: \"@.action == 'opened'\"",
}


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dev]:
    made = Dev(tmp_path_factory.mktemp("hook"), environ={"OPTIO_SECRET_KEY": KEY})
    for name, how in HOW.items():
        made.write(f"{name}.yaml", TASK.format(name=name, how=how))
    made.start()
    yield made
    made.stop()


def test_a_delivery_that_is_left_out_names_no_run(dev: Dev) -> None:
    done = dev.cli("hook", "send", "picky", "-", input=b'{"action": "closed"}')

    assert (done.returncode, done.stdout) == (0, "202 filtered: no run, its `events` or `when` leave this delivery out\n")


@pytest.mark.parametrize("name", sorted(HOW.keys() - {"picky"}))
def test_a_payload_is_signed_and_taken_once_by_every_scheme(dev: Dev, tmp_path: Path, name: str) -> None:
    payload = tmp_path / "payload.json"
    payload.write_text('{"a": 1}')

    first = dev.cli("hook", "send", name, str(payload), "--delivery", f"d-{name}", "--json")
    again = dev.cli("hook", "send", name, str(payload), "--delivery", f"d-{name}", "--json")

    assert first.returncode == 0, first.stderr
    assert json.loads(first.stdout)["status"] == "accepted"
    assert json.loads(again.stdout) == {**json.loads(first.stdout), "duplicate": True}


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["nothing", "-"], 2, "no webhook `nothing` is served: github, open, picky, plain, shop, standard"),
        (["plain", "/nothing/there.json"], 2, "cannot be read"),
        (["plain", "-", "--secret", "another secret"], 1, "signature is missing or wrong"),
        (["standard", "-", "--secret", "no base64!"], 2, "it is no base64"),
        (["open", "-", "--secret", "x"], 2, "is unsigned"),
    ],
)
def test_what_cannot_be_sent_is_told(dev: Dev, arguments: list[str], code: int, words: str) -> None:
    done = dev.cli("hook", "send", *arguments, input=b"{}")

    assert done.returncode == code
    assert words in done.stderr
    assert "Traceback" not in done.stderr
