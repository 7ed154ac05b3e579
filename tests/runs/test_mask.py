"""Masks: the spellings that are promised are replaced, short values are left, nothing else is touched."""

import base64
import html
import json
import re
import threading
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optio.executors.process import ProcessExecutor
from optio.executors.sandbox import SandboxOptions
from optio.model.mask import MIN_VALUE_LENGTH, Masker
from optio.model.run import LogKind
from optio.model.task import Environment
from optio.runs.execute import Execution
from tests.executors.support import living
from tests.runs.support import accept, claim, execute, log_of, opened
from tests.support import command_task, compiled, eventually

SECRET = 'sk-"quoted"/plus+&sign=äöü-0123456789'
PEM = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0B\nAQEFAASCBKcwggSjAgEAAoIB\n-----END PRIVATE KEY-----\n"


def spellings(value: str) -> dict[str, bytes]:
    raw = value.encode()
    return {
        "plain": raw,
        "base64": base64.b64encode(raw),
        "base64, one byte before": base64.b64encode(b"x" + raw + b"yy"),
        "base64, two bytes before": base64.b64encode(b"xy" + raw + b"z"),
        "base64, url-safe": base64.urlsafe_b64encode(b"abc" + raw),
        "hex": raw.hex().encode(),
        "hex, large": raw.hex().upper().encode(),
        "url": quote(value, safe="").encode(),
        "form": quote_plus(value).encode(),
        "json": json.dumps({"key": value}).encode(),
        "json, utf-8": json.dumps({"key": value}, ensure_ascii=False).encode(),
        "inside a url": f"https://user:{quote(value, safe='')}@example.com/".encode(),
        "url, slashes as they are": quote(value).encode(),
        "url, small escapes": small(quote(value, safe="")).encode(),
        "url, small escapes, slashes as they are": small(quote(value)).encode(),
        "form, small escapes": small(quote_plus(value)).encode(),
        "html": html.escape(value).encode(),
        "html, quotes as they are": html.escape(value, quote=False).encode(),
        "html, decimal": entities(value, "&#{};").encode(),
        "html, hex": entities(value, "&#x{:x};").encode(),
        "html, large hex": entities(value, "&#x{:X};").encode(),
        "html, only ASCII": html.escape(value).encode("ascii", "xmlcharrefreplace"),
        "json, slashes escaped": json.dumps(value).replace("/", "\\/").encode(),
        "json in json": json.dumps(json.dumps(value)).encode(),
        "json in json, utf-8": json.dumps(json.dumps(value, ensure_ascii=False), ensure_ascii=False).encode(),
        "json in json, utf-8 within": json.dumps(json.dumps(value, ensure_ascii=False)).encode(),
        **{f"base32, {n} bytes before": base64.b32encode(b"x" * n + raw + b"yy") for n in range(5)},
    }


def small(quoted: str) -> str:
    """Percent escapes as some libraries write them."""
    return re.sub("%[0-9A-F]{2}", lambda escape: escape[0].lower(), quoted)


def entities(value: str, form: str) -> str:
    """What means something to HTML, or is not ASCII, by its number."""
    return re.sub("[^ -~]|[&<>\"']", lambda found: form.format(ord(found[0])), value)


def rest_of(value: str, masked: bytes) -> list[bytes]:
    """Pieces of eight characters of any spelling that are still there."""
    forms = [form for form in spellings(value).values() if len(form) >= 24]
    inner = [form[8:-8] for form in forms]
    return [form[i : i + 8] for form in inner for i in range(0, len(form) - 8, 4) if form[i : i + 8] in masked]


@pytest.mark.parametrize("spelling", spellings(SECRET))
def test_each_promised_spelling_is_masked(spelling: str) -> None:
    masked = Masker([SECRET])(b"before " + spellings(SECRET)[spelling] + b" after")

    assert masked.startswith(b"before ")
    assert masked.endswith(b" after")
    assert b"***" in masked
    assert SECRET.encode()[:8] not in masked
    assert rest_of(SECRET, masked.removeprefix(b"before ").removesuffix(b" after").replace(b"https", b"")) == []


@pytest.mark.parametrize("value", ["abc", "true", "False", "password", "", "  a  ", "12345"])
def test_values_that_would_tear_up_the_log_are_not_masked(value: str) -> None:
    text = b"the value abc is true, False, a password 12345"

    assert Masker([value])(text) == text


def test_each_line_of_a_longer_value_is_masked_but_no_short_one() -> None:
    masked = Masker([PEM + "}\n"])(b"got MIIEvQIBADANBgkqhkiG9w0B and }\n" + PEM.encode())

    assert b"MIIE" not in masked
    assert b"AQEF" not in masked
    assert b"and }" in masked


def test_without_secrets_nothing_is_changed() -> None:
    assert Masker([])(b"\xff\0 any bytes") == b"\xff\0 any bytes"


@given(
    st.text(min_size=6, max_size=30).filter(lambda text: len(text.strip()) >= 6 and "*" not in text), st.binary(), st.binary()
)
def test_a_value_is_never_left_between_any_bytes(value: str, before: bytes, after: bytes) -> None:
    if value.strip().lower() in ("password",):
        return
    raw = value.strip().encode("utf-8", "surrogatepass")

    masked = Masker([value])(before + raw + after)

    assert raw not in masked.replace(b"***", b"\x00\x00\x00")


@given(
    st.text(st.characters(codec="utf-8"), min_size=6, max_size=40).filter(
        lambda text: len(text.strip()) >= 6 and "*" not in text and text.strip().lower() != "password"
    ),
    st.binary(max_size=20),
    st.integers(0, 40),
)
def test_no_spelling_of_a_value_is_left_whatever_is_around_it_and_is_masked_beside_it(
    value: str, around: bytes, others: int
) -> None:
    masker = Masker([value, *(f"another-secret-{number}" for number in range(others))])
    text = value.strip()
    for name, spelled in spellings(text).items():
        masked = masker(around + spelled + around)

        # Of base64 and base32 the ends belong to the neighbours; what is around a text in JSON stays.
        form = spelled[4:-8] if name.startswith("base") else text.encode() if "json" in name else spelled
        assert len(form) < MIN_VALUE_LENGTH or form not in masked.replace(b"***", b"\0\0\0"), name
        assert b"***" in masked, name


def test_texts_in_any_json_value_are_masked_and_fit_for_a_database() -> None:
    mask = Masker(["secret-value"])
    deep: Any = "secret-value"
    for _ in range(300):
        deep = [deep]

    masked = mask.json({"a secret-value": ["x secret-value y", 1, None, True, float("inf")], "d": deep, "s": "\ud800\0"})

    text = json.dumps(masked, allow_nan=False)
    text.encode()
    assert "secret-value" not in text
    assert masked["a ***"] == ["x *** y", 1, None, True, None]
    assert "nested too deeply" in text
    assert masked["s"].endswith("\ufffd")


CANARY = "canary-5d41402abc4b2a76b9719d911017c592"


def test_a_secret_reaches_its_run_and_no_place_that_is_kept(tmp_path: Any) -> None:
    source = f"""
import json, os, sys, time
value = os.environ["CANARY"]
assert len(value) == {len(CANARY)}
os.write(1, b"plain " + value[:9].encode()); time.sleep(0.1); os.write(1, value[9:].encode() + b"\\n")
print("json", json.dumps({{"v": value}}), flush=True)
print("x" * (64 * 1024 - 10) + value, flush=True)
print(value, file=sys.stderr)
with open(os.environ["OPTIO_RESULT_FILE"], "w") as file:
    print(json.dumps({{"type": "result", "status": "error", "reason": "x", "text": "bad key " + value,
        "output": {{value: [value]}}}}), file=file)
    print(json.dumps({{"type": value}}), file=file)
"""
    task = command_task(["python3", "-c", source], extra="maxRetries: 0\nenvironment: {secrets: [CANARY]}\n")
    other = command_task("env", name="Other")
    with opened(tmp_path, {"OPTIO_SECRET_CANARY": CANARY}) as services:
        run = execute(services, task)
        env = execute(services, other)
        lines = log_of(services, run.id)
        arguments = living(CANARY)

    assert run.reason == "x", run.message
    assert run.message.startswith("bad key ***")
    assert b"plain ***" in lines
    assert arguments == []
    assert "canary" not in (env.text or "")
    for path in (tmp_path / "data").rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert CANARY[:8].encode() not in data, path
            assert base64.b64encode(CANARY.encode())[:20] not in data, path


class Fenced(ProcessExecutor):
    """Agents with something of the executor's own."""

    def private(self, environment: Environment) -> list[str]:
        return ["the-proof-of-a-list"]


def test_what_the_executor_gives_an_agent_is_masked_as_secrets_are(tmp_path: Path) -> None:
    said = "echo the-proof-of-a-list; sleep 1; echo again the-proof-of-a-list harmless"
    with opened(tmp_path) as services:
        fenced = Fenced(services.settings.data_dir / "attempts", sandbox=SandboxOptions(kind="none"))
        run_id = accept(services, command_task(said))
        first = Execution(claim(services, run_id), replace(services.parts(), executor=fenced), "first")
        thread = threading.Thread(target=first)
        thread.start()
        eventually(lambda: log_of(services, run_id, LogKind.OUTPUT), what="the first line")
        first.leave()
        thread.join()
        services.store.release("tester")
        (adopted,) = services.store.adopt("second", timedelta(seconds=30), 5)
        Execution(adopted, replace(services.parts(), executor=fenced), "second")()
        run, lines = services.store.run(run_id), log_of(services, run_id, LogKind.OUTPUT)
        fenced.close()

    assert lines == [b"***", b"again *** harmless"]
    assert run.text == "***\nagain *** harmless"


def test_a_missing_secret_fails_before_anything_starts_and_says_how_it_is_set(tmp_path: Any) -> None:
    task = command_task(f"touch {tmp_path / 'ran'}", extra="environment: {secrets: [API_KEY]}\n")
    with opened(tmp_path) as services:
        run = execute(services, task)

        assert (run.state, run.reason, run.attempt) == ("failed", "secret_missing", 1)
        assert "set OPTIO_SECRET_API_KEY, or write the value to" in run.message
        assert not (tmp_path / "ran").exists()


def test_a_secret_that_would_tear_up_the_output_of_an_agent_is_refused_before_it_starts(tmp_path: Any) -> None:
    needy = "environment: {secrets: [LONG, SHORT]}\npromptTemplate: hi\nmaxRetries: 3\n"
    task = compiled(f"type: standalone\nname: Job\nagentRuntime: copilot\n{needy}")
    with opened(tmp_path, {"OPTIO_SECRET_LONG": "8-of-it!", "OPTIO_SECRET_SHORT": "7-of-it"}) as services:
        run = execute(services, task)

    assert (run.state, run.reason, run.attempt) == ("failed", "config", 1)
    assert run.message.startswith("the value of the secret `SHORT` is too short: Copilot masks it in all that it prints: set ")


def test_a_secret_that_no_environment_can_hold_is_a_reason_without_the_value(tmp_path: Any) -> None:
    task = command_task("true", extra="environment: {secrets: [BIG]}\n")
    (tmp_path / "data" / "secrets").mkdir(parents=True)
    (tmp_path / "data" / "secrets" / "BIG").write_text("v" * 140_000)
    with opened(tmp_path) as services:
        run = execute(services, task)

        assert (run.state, run.reason) == ("failed", "environment")
        assert "vvv" not in run.message
        assert log_of(services, run.id, LogKind.OUTPUT) == []
        assert accept(services, command_task("true"))


def test_the_key_of_an_attempt_is_masked_by_its_form_because_who_adopts_an_agent_does_not_know_it() -> None:
    key = b"optio_at_" + b"aB3-_" * 8 + b"xyz"

    assert Masker(())(b"ANTHROPIC_API_KEY=" + key + b"\n") == b"ANTHROPIC_API_KEY=***\n"
    assert Masker(())(b"optio_at_ and nothing") == b"optio_at_ and nothing"
