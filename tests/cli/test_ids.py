"""Ids on the command line: their beginnings, `@latest` and `TASK@latest`, against a real server and a real database."""

import json

import pytest

from tests.cli.conftest import Shell
from tests.support import Dev

HOOKED = """\
type: standalone
name: Hooked
agentRuntime: command
command: ["/bin/cat"]
promptTemplate: "Hello, {{WHO}}!"
paramsSchema: {type: object, properties: {WHO: {type: string, default: world}}}
triggers:
  - {type: webhook, config: {path: hooked, unsigned: true, paramMapping: {WHO: $.who}}}
"""


def ended(served: Dev, task: str) -> str:
    run_id: str = served.post(f"/api/tasks/{task}/runs").json["runId"]
    served.until_ended(run_id)
    return run_id


def shown(served: Dev, text: str) -> str:
    run_id: str = json.loads(served.cli("runs", "show", text, "--json").stdout)["id"]
    return run_id


def test_a_run_is_named_by_the_unique_beginning_of_its_id_or_as_the_latest(served: Dev) -> None:
    failing, echo = ended(served, "failing"), ended(served, "echo")

    assert shown(served, echo[:-4]) == shown(served, echo[:-4].upper()) == echo
    assert shown(served, "@latest") == shown(served, "echo@latest") == echo
    assert shown(served, "failing@latest") == failing
    assert served.cli("runs", "logs", "-f", "failing@latest").returncode == 1
    assert f"run {failing} queued" in served.cli("runs", "retry", failing[:-4]).stdout
    served.until_ended(failing)
    assert served.cli("runs", "why", "failing@latest").stdout.startswith("failed since")


def test_an_ambiguous_beginning_names_the_runs_it_may_mean_and_touches_none(served: Dev) -> None:
    ids = sorted(ended(served, "failing") for _ in range(2))

    done = served.cli("runs", "retry", ids[0][:3])

    assert (done.returncode, done.stdout) == (2, "")
    assert f"several run ids begin with `{ids[0][:3]}`: write more of it" in done.stderr
    assert all(f"  {run_id}  failing  failed  20" in done.stderr for run_id in ids)
    assert {served.get(f"/api/workflow-runs/{run_id}").json["attempt"] for run_id in ids} == {1}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ffffffff", "no run `ffffffff` (`optio runs list` lists them)"),
        ("lost", "no run `lost` (`lost@latest` is the newest of a task, `optio runs list` lists them)"),
        ("slowly@latest", "no run `slowly@latest` (task `slowly` has none)"),
    ],
)
def test_an_unknown_run_is_refused_with_a_cure(served: Dev, text: str, said: str) -> None:
    done = served.cli("runs", "cancel", text)

    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"optio runs: {said}\n")


def test_a_delivery_is_listed_and_named_by_the_beginning_of_its_id(served: Dev) -> None:
    served.write("hooked.yaml", HOOKED)
    served.until_served("hooked")
    sent = json.loads(served.cli("hook", "send", "hooked", "-", "--wait", "--json", input=b'{"who": "you"}').stdout)

    (listed,) = json.loads(served.cli("hook", "list", "--path", "hooked", "--since", "1h", "--json").stdout)["items"]
    table = served.cli("hook", "list", "--task", "hooked", "--verdict", "accepted").stdout.splitlines()
    replayed = [served.cli("hook", "replay", text).stdout for text in (listed["id"][:-4], "hooked@latest")]
    unknown = served.cli("hook", "capture", "ffff")

    assert listed["runId"] == sent["id"]
    assert table[0].split()[:3] == ["DELIVERY", "PATH", "TASK"]
    assert table[1].startswith(f"{listed['id']}  hooked  hooked  accepted  20")
    assert all(listed["id"] in text and "accepted as then" in text for text in replayed)
    assert (unknown.returncode, unknown.stderr) == (1, "optio hook: no delivery `ffff` (`optio hook list` lists them)\n")


def test_a_token_is_revoked_by_the_unique_beginning_of_its_id(shell: Shell) -> None:
    for label in ("one", "two"):
        shell("token", "create", "--role", "viewer", "--label", label)
    one, two = json.loads(shell("token", "list", "--json").stdout)

    ambiguous, unknown = shell("token", "revoke", "tok_"), shell("token", "revoke", "tok_x")
    done = shell("token", "revoke", one["id"][:12])
    only = shell("token", "revoke", "tok_")

    assert ambiguous.returncode == 2
    assert f"  {one['id']}  viewer  {one['label']}\n" in ambiguous.stderr
    assert (unknown.returncode, unknown.stderr) == (1, "optio token: no token `tok_x` (`optio token list` lists them)\n")
    assert done.stdout == f"{one['id']} is revoked\n"
    assert only.stdout == f"{two['id']} is revoked\n"


def test_a_task_is_never_started_by_the_beginning_of_its_id(served: Dev) -> None:
    done = served.cli("run", "ech")

    assert (done.returncode, done.stderr) == (1, "optio run: no task `ech` (did you mean `echo`?)\n")
