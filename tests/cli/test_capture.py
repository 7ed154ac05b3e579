"""`optio hook capture`: a delivery that a real server keeps becomes a test, without what is secret."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import Dev, eventually
from tests.testing.support import OPENED, TRIAGE

TOKEN = "ghp_" + "a1B2" * 9
SECRET = "not-for-everybody"
PRIVATE = {**OPENED, "token": "abc", "notes": [f"use {TOKEN}", f"or {SECRET}"], "by": "ada@corp.io"}


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dev]:
    made = Dev(tmp_path_factory.mktemp("capture"), environ={"OPTIO_SECRET_HOOK": SECRET})
    made.write("triage.yaml", TRIAGE + "# the end\n")
    made.start()
    yield made
    made.stop()


def sent(dev: Dev, tmp_path: Path, payload: object, *more: str) -> str:
    """The id of a delivery."""
    before = {item["id"] for item in dev.get("/api/deliveries").json["items"]}
    (tmp_path / "payload.json").write_text(json.dumps(payload))
    dev.cli("hook", "send", "triage", str(tmp_path / "payload.json"), *more)

    def new() -> str | None:
        return next((item["id"] for item in dev.get("/api/deliveries").json["items"] if item["id"] not in before), None)

    # Its sender does not wait until a refusal is kept.
    found = eventually(new, what="the delivery being kept")
    assert found is not None
    return found


def files(dev: Dev) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in dev.tasks.iterdir()}


def test_a_delivery_becomes_a_test_that_passes(dev: Dev, tmp_path: Path) -> None:
    delivery = sent(dev, tmp_path, PRIVATE)
    before = files(dev)

    tried = dev.cli("hook", "capture", delivery, "--dry-run")
    assert tried.returncode == 0, tried.stderr
    assert files(dev) == before
    done = dev.cli("hook", "capture", delivery, "--redact-emails", "--name", "an issue is triaged")

    assert done.returncode == 0, done.stderr
    (new,) = set(files(dev)) - set(before)
    assert done.stdout.splitlines() == [
        f"wrote {dev.tasks / new}",
        f"added to {dev.tasks / 'triage.yaml'}: an issue is triaged",
        "redacted $.token: a credential, by its name",
        "redacted $.notes[0]: a GitHub token",
        "redacted $.notes[1]: the value of a secret of the task",
        "redacted $.by: an e-mail address",
        "review the payload before you commit it: it may hold private data that Optio does not recognise",
    ]
    kept = {**PRIVATE, "token": "REDACTED", "notes": ["use REDACTED", "or REDACTED"], "by": "person1@example.com"}
    assert json.loads(files(dev)[new]) == kept
    assert (dev.tasks / "triage.yaml").read_text().startswith(TRIAGE + "tests:\n  - name: an issue is triaged\n")
    assert (dev.tasks / "triage.yaml").read_text().endswith("# the end\n")
    assert f"+    webhook: {new}" in tried.stdout
    tested = dev.cli("test", "triage")
    assert tested.stdout.splitlines()[1:] == ["  ok    an issue is triaged", "1 test: all passed"]


def test_what_was_refused_and_what_was_filtered_can_be_captured_too(dev: Dev, tmp_path: Path) -> None:
    refused = sent(dev, tmp_path, {"action": "opened", "issue": {"number": 8}})
    filtered = sent(dev, tmp_path, {**OPENED, "action": "closed"})

    assert dev.cli("hook", "capture", refused).returncode == dev.cli("hook", "capture", filtered).returncode == 0

    text = (dev.tasks / "triage.yaml").read_text()
    assert "error: /params/TITLE is required and has no default\n" in text
    assert "verdict: filtered\n" in text
    assert dev.cli("test", "triage").returncode == 0


def test_what_cannot_be_captured_is_said_and_nothing_is_written(dev: Dev, tmp_path: Path) -> None:
    once = sent(dev, tmp_path, {**OPENED, "nonce": 1})
    stranger = sent(dev, tmp_path, OPENED, "--secret", "another secret")
    assert dev.cli("hook", "capture", once).returncode == 0
    before = files(dev)

    for arguments, code, said in [
        ((once,), 1, "this delivery was captured before"),
        ((stranger,), 1, "the body of this delivery is not stored: its sender was not verified"),
        (("nothing",), 1, "no delivery `nothing`"),
        ((once, "--task", "triag"), 2, "did you mean `triage`?"),
        ((once, "--tasks", str(tmp_path)), 2, "no error-free task has the webhook `triage`"),
        ((once, "--tasks", str(tmp_path / "gone")), 2, "there is no task directory"),
    ]:
        done = dev.cli("hook", "capture", *arguments)
        assert (done.returncode, said in done.stderr) == (code, True), done.stderr
    assert files(dev) == before


def test_a_file_that_cannot_be_edited_is_left_and_the_test_is_printed(dev: Dev, tmp_path: Path) -> None:
    delivery = sent(dev, tmp_path, {**OPENED, "nonce": 2})
    tree = tmp_path / "tasks"
    tree.mkdir()
    (tree / "opened.json").write_text(json.dumps(OPENED))
    tests = "tests: &all\n  - &one {webhook: opened.json, signature: wrong, expect: {verdict: unsigned}}\n  - *one\n"
    (tree / "triage.yaml").write_text(TRIAGE + tests)

    done = dev.cli("hook", "capture", delivery, "--tasks", str(tree))

    assert done.returncode == 1
    assert "triage.yaml:" in done.stdout
    assert "cannot be edited" in done.stdout
    assert "- name: " in done.stdout
    assert sorted(path.name for path in tree.iterdir()) == ["opened.json", "triage.yaml"]
    assert (tree / "triage.yaml").read_text() == TRIAGE + tests
