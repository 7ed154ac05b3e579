"""`run` and `runs` against a real server."""

import json
import os
import pty
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests import forked
from tests.cli.conftest import FAILING
from tests.support import ROOT, Dev, eventually


def started(served: Dev, task: str) -> str:
    run_id: str = served.post(f"/api/tasks/{task}/runs").json["runId"]
    return run_id


def test_run_prints_the_id_and_does_not_wait(served: Dev) -> None:
    done = served.cli("run", "echo", "--json")

    assert done.returncode == 0
    assert served.until_ended(json.loads(done.stdout)["runId"])["state"] == "completed"


def test_run_wait_streams_the_log_and_keeps_the_output_clean(served: Dev) -> None:
    done = served.cli("run", "echo", "-p", "WHO=you", "--wait")

    assert (done.returncode, done.stdout) == (0, "Hello, you!\n")
    assert "completed" in done.stderr
    assert "\x1b" not in done.stdout + done.stderr


def test_run_wait_of_a_failing_task_exits_with_1_and_the_reason(served: Dev) -> None:
    done = served.cli("run", "failing", "--wait")

    assert (done.returncode, done.stdout) == (1, "before the end\n")
    assert "failed" in done.stderr
    assert "exit_code" in done.stderr


def test_run_with_a_key_starts_one_run(served: Dev) -> None:
    ids = {json.loads(served.cli("run", "echo", "--key", "once", "--json").stdout)["runId"] for _ in range(2)}

    assert len(ids) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "nothing"], "no task `nothing`"),
        (["run", "echo", "-p", "WHOM=x"], "/params/WHOM: is not a parameter of this task"),
        (["run", "echo", "-P", "WHO=3"], "/params/WHO: must be a string"),
        (["runs", "show", "nothing"], "no run `nothing`"),
        (["runs", "logs", "nothing"], "no run `nothing`"),
        (["runs", "cancel", "nothing"], "no run `nothing`"),
        (["runs", "list", "--cursor", "forged"], "cursor"),
    ],
    ids=lambda value: "_".join(value) if isinstance(value, list) else None,
)
def test_what_the_server_refuses_is_told_in_its_words(served: Dev, arguments: list[str], words: str) -> None:
    done = served.cli(*arguments)

    assert (done.returncode, done.stdout) == (1, "")
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_an_interrupted_wait_leaves_the_run_going(served: Dev) -> None:
    waiting = forked.start_with_pipes(["run", "slow", "--wait"], ROOT, served.environment())
    assert waiting.stdout is not None
    assert waiting.stdout.readline() == b"begun\n"

    waiting.send_signal(signal.SIGINT)
    _, said = waiting.communicate(timeout=20)

    run = served.get("/api/runs?task=slow&limit=1").json["items"][0]
    served.post(f"/api/workflow-runs/{run['id']}/cancel")
    assert waiting.returncode == 130
    assert f"optio runs logs -f {run['id']}" in said.decode()
    assert run["state"] == "running"


def test_runs_list_is_a_table_and_json_on_demand(served: Dev) -> None:
    run_id = started(served, "echo")
    served.until_ended(run_id)

    table = served.cli("runs", "list", "--task", "echo", "-n", "1").stdout.splitlines()
    listed = json.loads(served.cli("runs", "list", "--task", "echo", "--state", "completed", "--json").stdout)

    assert table[0].split()[:3] == ["RUN", "TASK", "STATE"]
    assert table[1].startswith(f"{run_id}  echo  completed")
    assert run_id in [item["id"] for item in listed["items"]]


def test_runs_list_goes_on_from_its_cursor(served: Dev) -> None:
    wanted = {started(served, "echo") for _ in range(3)}

    seen: list[str] = []
    cursor: list[str] = []
    while len(seen) < 3:
        page = json.loads(served.cli("runs", "list", "--task", "echo", "-n", "2", "--json", *cursor).stdout)
        seen += [item["id"] for item in page["items"]]
        cursor = ["--cursor", page["next"]]

    assert wanted <= set(seen[:4])
    assert len(seen) == len(set(seen))


def test_runs_show_tells_everything(served: Dev) -> None:
    run_id = started(served, "failing")
    served.until_ended(run_id)

    shown = served.cli("runs", "show", run_id).stdout

    for words in (run_id, "failed", "exit_code", "trigger  manual", "queued -> running", "running -> failed"):
        assert words in shown


def test_logs_show_control_characters_as_escapes_unless_raw(served: Dev) -> None:
    run_id = started(served, "escapes")
    served.until_ended(run_id)

    shown, raw = served.cli("runs", "logs", run_id).stdout, served.cli("runs", "logs", run_id, "--raw").stdout

    # What confines the agent stands in the first line.
    assert shown.partition("\n")[2] == "a\\x1b[31mred\n"
    assert raw.partition("\n")[2] == "a\x1b[31mred\n"


def test_why_names_the_limit_that_holds_a_run(served: Dev) -> None:
    first = started(served, "slow")
    eventually(lambda: served.get(f"/api/workflow-runs/{first}").json["state"] == "running", what="the first to run")
    second = started(served, "slow")

    why = served.cli("runs", "why", second).stdout

    cancelled = [served.cli("runs", "cancel", run_id) for run_id in (second, first)]
    since = served.get(f"/api/workflow-runs/{second}").json["queuedAt"]
    assert why.splitlines() == [
        f"queued since {since}: the task runs at most 1 at once [task_limit]",
        "position  1",
        "rule      maxConcurrent: 1",
        f"used by   {first}",
        "earliest  unknown",
    ]
    assert [done.returncode for done in cancelled] == [0, 0]
    assert served.until_ended(first)["state"] == "cancelled"
    assert served.until_ended(second)["state"] == "cancelled"


def test_why_a_retry_waits_names_what_ended_the_attempt_before(served: Dev) -> None:
    served.write("again.yaml", FAILING.replace("name: Failing", "name: Again").replace("maxRetries: 0", "maxRetries: 3"))
    served.until_served("again")
    run_id = served.post("/api/tasks/again/runs").json["runId"]

    why = eventually(
        lambda: (said := served.cli("runs", "why", run_id).stdout) * ("[delayed]" in said), what="a retry that waits"
    )

    assert why.splitlines()[-1] == "before    exit_code: exit code 3"
    served.post(f"/api/workflow-runs/{run_id}/cancel")


def test_why_of_an_ended_run_names_its_reason(served: Dev) -> None:
    run_id = started(served, "failing")
    served.until_ended(run_id)

    assert ": exit_code" in served.cli("runs", "why", run_id).stdout


def test_retry_queues_a_failed_run_again_and_refuses_a_completed_one(served: Dev) -> None:
    failed, completed = started(served, "failing"), started(served, "echo")
    served.until_ended(failed)
    served.until_ended(completed)

    again, refused = served.cli("runs", "retry", failed), served.cli("runs", "retry", completed)

    assert again.returncode == 0
    assert served.until_ended(failed)["attempt"] == 2
    assert refused.returncode == 1
    assert "completed" in refused.stderr


def test_rerun_starts_a_new_run_of_one_that_has_ended_and_refuses_others(served: Dev) -> None:
    failed = started(served, "failing")
    served.until_ended(failed)

    again = served.cli("rerun", failed, "-o", "name")
    waited = served.cli("rerun", "failing@latest", "--current", "--wait")
    refused = served.cli("rerun", "00000000-0000-7000-8000-000000000000")

    new = again.stdout.strip()
    assert (again.returncode, new != failed) == (0, True)
    assert served.until_ended(new)["events"][0]["message"] == f"rerun of {failed}"
    assert served.until_ended(failed)["attempt"] == 1
    assert (waited.returncode, refused.returncode) == (1, 1)
    assert "no run `00000000-0000-7000-8000-000000000000`" in refused.stderr


def test_following_a_run_that_has_ended_prints_all_of_it(served: Dev) -> None:
    run_id = started(served, "failing")
    served.until_ended(run_id)

    done = served.cli("runs", "logs", "-f", run_id)

    assert (done.returncode, done.stdout.partition("\n")[2]) == (1, "before the end\n")


def test_output_into_a_closed_pipe_is_no_error(served: Dev) -> None:
    run_id = started(served, "echo")
    served.until_ended(run_id)

    done = subprocess.run(
        ["/bin/sh", "-c", f"{sys.executable} -m optio runs show {run_id} | true"],
        cwd=ROOT,
        env=served.environment(),
        capture_output=True,
        timeout=30,
    )

    assert done.stderr == b""


def test_runs_are_listed_by_trigger_and_time(served: Dev) -> None:
    run_id = started(served, "echo")

    def names(*flags: str) -> list[str]:
        return served.cli("runs", "list", "-o", "name", *flags).stdout.split()

    assert names("--since", "1h", "--trigger", "manual", "-n", "1") == [run_id]
    assert names("--until", "1h") == names("--since", "1h", "--trigger", "schedule") == []
    assert names("--reason", "never") == []
    reason = served.get(f"/api/workflow-runs/{run_id}").json["reason"]
    assert run_id in names("--reason", reason)
    refused = served.cli("runs", "list", "--since", "1h", "--until", "2h")
    assert (refused.returncode, refused.stderr) == (2, "optio runs: --since is later than --until\n")


def watching(served: Dev, *flags: str, stdout: int = subprocess.PIPE) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "optio", "runs", "list", "--watch", *flags],
        cwd=ROOT,
        env=served.environment(),
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_watched_list_prints_each_change_into_a_pipe_until_it_is_interrupted(served: Dev) -> None:
    served.until_ended(started(served, "failing"))
    watch = watching(served, "--task", "failing", "-n", "3")
    assert watch.stdout is not None
    assert watch.stdout.readline().split()[:3] == ["RUN", "TASK", "STATE"]
    assert "  failed  " in watch.stdout.readline()

    run_id = started(served, "failing")
    lines = [next(line for line in watch.stdout if line.startswith(run_id))]
    while "  failed  " not in lines[-1]:
        lines.append(watch.stdout.readline())

    watch.send_signal(signal.SIGINT)
    _, said = watch.communicate(timeout=20)
    assert all(line.startswith(f"{run_id}  failing  ") for line in lines)
    assert (watch.returncode, said) == (130, "")


def test_a_watched_list_is_redrawn_on_a_terminal(served: Dev) -> None:
    served.until_ended(started(served, "failing"))
    controlling, terminal = pty.openpty()
    watch = watching(served, "--task", "failing", "-n", "1", stdout=terminal)
    os.close(terminal)

    drawn = b""
    while drawn.count(b"\x1b[H") < 2:
        drawn += os.read(controlling, 65536)
    watch.send_signal(signal.SIGINT)
    watch.communicate(timeout=20)
    os.close(controlling)

    assert watch.returncode == 130
    assert drawn.startswith(b"\x1b[2J\x1b[H")
    assert drawn.count(b"until Ctrl-C") == drawn.count(b"RUN ") == 2


REPORTING = """\
type: standalone
name: Reporting
agentRuntime: command
command:
  - python3
  - -c
  - |
    import json, os
    line = {"type": "result", "status": "ok", "output": {"labels": ["b\\ag"]}}
    open(os.environ["OPTIO_RESULT_FILE"], "a").write(json.dumps(line))
    print("words")
promptTemplate: "x"
result: {schema: {type: object, required: [labels], properties: {labels: {type: array}}}}
"""


def test_the_result_of_a_run_is_printed(tmp_path: Path) -> None:
    here = Dev(tmp_path)
    here.write("reporting.yaml", REPORTING)
    here.start()
    try:
        done = here.cli("run", "reporting", "--wait")
        shown = here.cli("runs", "show", "reporting@latest")
        found = json.loads(here.cli("runs", "show", "reporting@latest", "--json").stdout)
    finally:
        here.stop()

    assert found["result"] == {"labels": ["b\ag"]}
    result = '{\n  "labels": [\n    "b\\u0007g"\n  ]\n}'
    assert done.stdout.splitlines()[-1] == "words"
    assert done.stderr.endswith(f"\nresult {result}\n")
    assert shown.stdout.endswith("\nresult\n" + textwrap.indent(result, "  ") + "\n")
