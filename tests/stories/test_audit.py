"""`optio audit triggers`: what happened is explained, and what was lost is found."""

import json
import sqlite3
from contextlib import closing

from tests.stories.conftest import SECRET, SIGNED
from tests.support import Dev


def harm(optio: Dev, statement: str) -> None:
    with closing(sqlite3.connect(optio.data / "optio.db", timeout=20)) as connection, connection:
        assert connection.execute(statement).rowcount == 1


def test_an_audit_explains_every_trigger_until_one_is_lost(optio: Dev) -> None:
    optio.write("audited.yaml", SIGNED.format(name="Audited", path="audited"))
    optio.until_served("audited")
    for body in (b'{"repository": {"name": "one"}}', b'{"repository": {"name": 5}}'):
        optio.cli("hook", "send", "audited", "-", "--secret", SECRET, input=body)
    optio.post("/api/tasks/audited/runs", {"params": {"REPO_NAME": "by hand"}})

    clean = optio.cli("audit", "triggers", "--since", "1h", "--task", "audited")
    harm(optio, "UPDATE deliveries SET run_id = 'lost' WHERE task_id = 'audited' AND verdict = 'accepted'")
    holes = optio.cli("audit", "triggers", "--since", "1h", "--task", "audited")
    document = json.loads(optio.cli("audit", "triggers", "--task", "audited", "--json").stdout)

    assert (clean.returncode, clean.stdout.splitlines()[-1]) == (0, "unexplained: 0")
    assert "1 accepted" in clean.stdout
    assert "1 invalid" in clean.stdout
    assert "1 manual" in clean.stdout
    assert (holes.returncode, "unexplained: 2" in holes.stdout) == (1, True)
    assert "accepted, but its run lost is gone" in holes.stdout
    assert [each["kind"] for each in document["findings"]] == ["delivery", "run"]
    assert document["tasks"][0]["deliveries"] == {"invalid": 1}
