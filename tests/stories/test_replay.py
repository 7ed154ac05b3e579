"""A mapping was wrong, deliveries were refused; the file is mended, and what was lost is replayed, after a look at it."""

import json
import subprocess
from pathlib import Path

from tests.stories.conftest import SECRET, SIGNED
from tests.support import Dev, eventually

WRONG = SIGNED.replace("$.repository.name", "$.repository.title")


def git(directory: Path, *arguments: str) -> None:
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", "-C", str(directory), *who, *arguments], check=True, capture_output=True)


def send(optio: Dev, path: str, name: str) -> None:
    payload = json.dumps({"repository": {"name": name}}).encode()
    optio.cli("hook", "send", path, "-", "--secret", SECRET, input=payload)


def test_deliveries_that_a_wrong_mapping_refused_are_replayed_once_it_is_right(optio: Dev) -> None:
    optio.write("mended.yaml", WRONG.format(name="Mended", path="mended"))
    digest = optio.until_served("mended")["digest"]
    for name in ("one", "two"):
        send(optio, "mended", name)
    eventually(lambda: len(optio.get("/api/deliveries?path=mended").json["items"]) == 2, what="both refusals")
    asked = ("hook", "replay", "--since", "1h", "--path", "mended")

    before = optio.cli(*asked)
    optio.write("mended.yaml", SIGNED.format(name="Mended", path="mended"))
    optio.until_served("mended", digest_other_than=digest)
    looked = optio.cli(*asked, "--verdict", "invalid", "--diff")
    untouched = optio.get("/api/tasks/mended/runs").json["items"]
    started = optio.cli(*asked, "--verdict", "invalid", "--yes")
    again = optio.cli(*asked, "--verdict", "invalid", "--yes")

    assert before.returncode == looked.returncode == started.returncode == again.returncode == 0
    assert before.stdout.splitlines()[-1] == "2 deliveries, 0 differ, 0 would start a run now but did not before"
    assert looked.stdout.count("invalid -> accepted") == 2
    assert "    +one" in looked.stdout
    assert looked.stdout.splitlines()[-1] == "2 deliveries, 2 differ, 2 would start a run now but did not before"
    assert untouched == []
    assert started.stdout.splitlines()[-1] == "2 deliveries, 2 differ, 2 started"
    assert again.stdout.splitlines()[-1] == "2 deliveries, 2 differ, 0 started"
    runs = optio.get("/api/tasks/mended/runs").json["items"]
    assert sorted(optio.until_ended(run["id"])["output"] for run in runs) == ["one", "two"]


def test_deliveries_are_tried_on_another_revision_without_serving_it(optio: Dev, tmp_path: Path) -> None:
    optio.write("tried.yaml", SIGNED.format(name="Tried", path="tried"))
    optio.until_served("tried")
    send(optio, "tried", "one")
    tree = tmp_path / "tasks.d"
    tree.mkdir()
    git(tmp_path, "init", "-q")
    for name, text in {"now": SIGNED, "next": SIGNED.replace('"{{{{', '"Look at {{{{')}.items():
        (tree / "tried.yaml").write_text(text.format(name="Tried", path="tried"))
        git(tmp_path, "add", "-A")
        git(tmp_path, "commit", "-qm", name)
        git(tmp_path, "tag", name)
    (tree / "tried.yaml").write_text("not: a task")
    asked = ("hook", "replay", "--since", "1h", "--path", "tried", "--tasks", str(tree), "--diff")

    same, other, broken = optio.cli(*asked, "--rev", "now"), optio.cli(*asked, "--rev", "next"), optio.cli(*asked)
    one = optio.cli("hook", "replay", optio.get("/api/deliveries?path=tried").json["items"][0]["id"], "--json")

    assert (same.returncode, same.stdout) == (0, "1 delivery, 0 differ, 0 would start a run now but did not before\n")
    assert (other.returncode, "-one\n" in other.stdout, "+Look at one\n" in other.stdout) == (0, True, True)
    assert (broken.returncode, "accepted -> absent" in broken.stdout, "tried.yaml" in broken.stderr) == (1, True, True)
    assert [item["differs"] for item in json.loads(one.stdout)] == [[]]
    assert len(optio.get("/api/tasks/tried/runs").json["items"]) == 1


def test_what_cannot_be_replayed_is_said_and_stops_no_other(optio: Dev) -> None:
    optio.write("mixed.yaml", SIGNED.format(name="Mixed", path="mixed"))
    optio.until_served("mixed")
    send(optio, "mixed", "one")
    optio.cli("hook", "send", "mixed", "-", "--secret", "another secret", input=b"{}")
    eventually(lambda: len(optio.get("/api/deliveries?path=mixed").json["items"]) == 2, what="the refusal")

    replayed = optio.cli("hook", "replay", "--since", "1h", "--path", "mixed")

    assert replayed.returncode == 1
    assert "not replayed: the body of this delivery is not stored" in replayed.stdout
    assert replayed.stdout.splitlines()[-1].startswith("2 deliveries, 0 differ, 1 could not be replayed")
