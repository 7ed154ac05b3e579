"""`optio doctor`."""

import contextlib
import json
import socket
import sqlite3
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from optio import wiring
from optio.compiler.pipeline import compile_tree
from optio.compiler.source_tree import MemoryTree
from optio.model.namespace import ALL_TASKS
from optio.settings import Settings
from optio.store.sql.schema import migrations
from optio.version import how_to_install
from tests.cli.conftest import ECHO, Shell
from tests.servers import PostgresServer
from tests.support import ROOT, Dev, free_port

NEEDY = f"""\
{ECHO.replace("name: Echo", "name: Needy")}
environment:
  secrets: [A_KEY]
triggers:
  - type: webhook
    config:
      path: needy
      secret: {{name: A_HOOK}}
      paramMapping: {{WHO: $.who}}
"""


ASK = """\
type: standalone
name: Ask
agentRuntime: claude-code
promptTemplate: hello
environment: {secrets: [ANTHROPIC_API_KEY]}
"""


def looked_at(shell: Shell, *arguments: str, **environ: str) -> tuple[int, dict[str, list[dict[str, Any]]]]:
    done = shell("doctor", "--json", *arguments, environ={"OPTIO_PORT": str(free_port()), **environ})
    found: dict[str, list[dict[str, Any]]] = {}
    for check in json.loads(done.stdout)["checks"]:
        found.setdefault(check["name"], []).append(check)
    return done.returncode, found


def test_a_sound_place_is_told_to_be_one(shell: Shell) -> None:
    shell.write("tasks.d/echo.yaml", ECHO)

    code, found = looked_at(shell)

    assert code == 0
    for name in ("python", "yaml", "libraries", "data", "database", "tasks", "server"):
        assert [check["status"] for check in found[name]] == ["ok"], found[name]
    assert not (shell.directory / ".optio").exists(), "a look leaves nothing behind"


def test_a_secret_without_a_value_is_named_with_its_users_and_its_place(shell: Shell) -> None:
    shell.write("tasks.d/needy.yaml", NEEDY)

    code, found = looked_at(shell, OPTIO_SECRET_A_KEY="s3cr3t-value")

    missing = [check for check in found["secret"] if check["status"] == "warning"]
    assert code == 0
    assert [check["detail"] for check in missing] == ["A_HOOK has no value, but is used by needy"]
    assert "OPTIO_SECRET_A_HOOK" in missing[0]["hint"]
    assert "s3cr3t-value" not in json.dumps(found)


def test_a_key_that_a_gateway_of_its_own_reads_is_asked_of_nobody_else(shell: Shell) -> None:
    shell.write("tasks.d/ask.yaml", ASK)

    _, without = looked_at(shell, OPTIO_GATEWAY="off", OPTIO_GATEWAY_URL="http://127.0.0.1:1")
    _, here = looked_at(shell, OPTIO_GATEWAY="required")
    _, apart = looked_at(shell, OPTIO_GATEWAY="required", OPTIO_GATEWAY_URL="http://127.0.0.1:1")

    for found in (without, here):
        assert [check["detail"] for check in found["secret"]] == ["ANTHROPIC_API_KEY has no value, but is used by ask"]
    assert [(check["status"], check["detail"]) for check in apart["secret"]] == [
        ("ok", "ANTHROPIC_API_KEY is read by the gateway alone, for ask")
    ]


@pytest.mark.parametrize("value", ["", "\n", "s", "1234567"])
def test_a_webhook_secret_that_is_too_short_is_an_error_and_is_not_shown(shell: Shell, value: str) -> None:
    shell.write("tasks.d/needy.yaml", NEEDY)

    code, found = looked_at(shell, OPTIO_SECRET_A_KEY="s", OPTIO_SECRET_A_HOOK=value)

    (wrong,) = [check for check in found["secret"] if check["status"] == "error"]
    assert code == 1
    assert wrong["detail"].startswith("A_HOOK cannot verify the webhook")
    assert "needs 8 or more" in wrong["detail"]
    assert "1234567" not in json.dumps(found)


def test_an_agent_that_a_task_needs_and_that_is_missing_is_an_error(shell: Shell) -> None:
    text = 'type: standalone\nname: A\nagentRuntime: claude-code\npromptTemplate: "x"\n'
    shell.write("tasks.d/a.yaml", text)

    code, found = looked_at(shell, OPTIO_PROGRAM_CLAUDE_CODE="/nowhere/claude")

    (check,) = found["claude-code"]
    assert (code, check["status"]) == (1, "error")
    assert "npm install" in check["hint"]


def test_an_old_price_of_a_model_that_a_task_names_is_told_until_the_operator_gives_one(shell: Shell) -> None:
    shell.write("tasks.d/echo.yaml", ECHO)
    _, plain = looked_at(shell)
    shell.write("tasks.d/judge.yaml", "name: Judge\nagentRuntime: codex\nmodel: gpt-5\npromptTemplate: hi\n")
    price = {"input": "1", "cached": "0.1", "output": "9", "contextTokens": 400_000, "maxOutputTokens": 1000}
    entry = {**price, "asOf": datetime.now(UTC).date().isoformat()}
    shell.write("prices.json", json.dumps({"models": {"gpt-5": entry}}))

    _, old = looked_at(shell)
    _, new = looked_at(shell, OPTIO_PRICES=str(shell.directory / "prices.json"))

    assert [check["status"] for check in plain["prices"] + old["prices"] + new["prices"]] == ["ok", "warning", "ok"]
    assert old["prices"][0]["detail"].startswith("the price of gpt-5 is of 2025-12-01 (")


def test_tasks_whose_runs_do_not_start_because_nobody_knows_their_cost_are_named(shell: Shell) -> None:
    shell.write("tasks.d/job.yaml", 'name: Job\nagentRuntime: codex\nmodel: our-own\npromptTemplate: x\nbudgetUsd: "1.00"\n')

    for arguments in ((), ("--upgrade",)):
        _, found = looked_at(shell, *arguments)

        assert [(check["status"], check["detail"]) for check in found["prices"]] == [
            ("warning", "no run starts, since their cost is unknown: job")
        ]


def test_the_version_of_an_agent_is_asked_for(shell: Shell) -> None:
    program = shell.write("bin/agent", '#!/bin/sh\necho "9.9.9 (Agent)"\n')
    program.chmod(0o755)

    _, found = looked_at(shell, OPTIO_PROGRAM_CLAUDE_CODE=str(program))

    assert found["claude-code"][0]["detail"].startswith("9.9.9 (Agent)")


@pytest.mark.parametrize(
    ("told", "status"), [("2.1.197 (Claude Code)", "warning"), ("2.1.999", "ok"), ("10.0.0", "ok"), ("nightly", "ok")]
)
def test_an_agent_that_a_task_needs_and_that_is_older_than_the_tested_one_is_told(shell: Shell, told: str, status: str) -> None:
    program = shell.write("bin/agent", f"#!/bin/sh\necho '{told}'\n")
    program.chmod(0o755)
    shell.write("tasks.d/ask.yaml", "name: Ask\nagentRuntime: claude-code\npromptTemplate: hi\n")

    _, found = looked_at(shell, OPTIO_PROGRAM_CLAUDE_CODE=str(program))

    assert found["claude-code"][0]["status"] == status
    assert status == "ok" or "npm install -g @anthropic-ai/claude-code" in found["claude-code"][0]["hint"]


def test_broken_task_files_are_an_error(shell: Shell) -> None:
    shell.write("tasks.d/echo.yaml", "nothing: right\n")

    code, found = looked_at(shell)

    assert (code, found["tasks"][0]["status"]) == (1, "error")
    assert "optio check" in found["tasks"][0]["hint"]


def test_where_no_server_runs_tasks_come_from_the_database_and_no_directory_is_missed(shell: Shell, served: Dev) -> None:
    elsewhere = {"OPTIO_TASKS": str(shell.directory / "none"), "OPTIO_DATA_DIR": str(served.data)}

    _, worker = looked_at(shell, **elsewhere)
    _, server = looked_at(shell, OPTIO_PORT=str(served.port), **elsewhere)
    _, nobody = looked_at(shell, OPTIO_TASKS=elsewhere["OPTIO_TASKS"])

    assert [check["status"] for check in worker["tasks"]] == ["ok"], worker["tasks"]
    assert "which only a server needs" in worker["tasks"][0]["detail"]
    assert [check["status"] for check in server["tasks"]] == ["warning"]
    assert [check["status"] for check in nobody["tasks"]] == ["warning"]
    assert not (shell.directory / ".optio").exists(), "a look leaves nothing behind"


def test_the_part_of_an_installation_that_needs_no_task_files_is_not_told_to_make_some(
    shell: Shell,
) -> None:
    """Such as a worker in a pod, whose database has no tasks yet."""
    with PostgresServer() as postgres:
        elsewhere = {"OPTIO_TASKS": str(shell.directory / "none"), "OPTIO_DATABASE_URL": postgres.schema()}
        _, before = looked_at(shell, **elsewhere)
        store = wiring.open_store(Settings.load(elsewhere), migrated=True)
        store.activate(compile_tree(MemoryTree({})).registry, None)
        store.close()
        _, after = looked_at(shell, **elsewhere)

    assert [(check["status"], "optio server" in check["hint"]) for check in before["tasks"]] == [("warning", True)]
    assert elsewhere["OPTIO_TASKS"] not in before["tasks"][0]["detail"]
    assert [check["status"] for check in after["tasks"]] == ["ok"]


def test_the_secrets_of_tasks_that_only_the_database_has_are_looked_for(shell: Shell, tmp_path: Path) -> None:
    served = Dev(tmp_path / "served")
    (served.tasks / "needy.yaml").write_text(NEEDY)
    served.start()
    try:
        _, found = looked_at(shell, OPTIO_TASKS=str(shell.directory / "none"), OPTIO_DATA_DIR=str(served.data))
    finally:
        served.stop()

    assert sorted(check["detail"] for check in found["secret"]) == [
        "A_HOOK has no value, but is used by needy",
        "A_KEY has no value, but is used by needy",
    ]


@pytest.fixture
def before_upgrade(tmp_path: Path) -> Path:
    """A data directory as the version before this one leaves it: a served task, and a schema without the newest migration."""
    older = Dev(tmp_path / "older")
    (older.tasks / "needy.yaml").write_text(NEEDY)
    older.start()
    older.stop()
    with contextlib.closing(sqlite3.connect(older.data / "optio.db", isolation_level=None)) as connection:
        connection.execute("DROP TABLE processes")
        connection.execute("DELETE FROM schema_migrations WHERE version = ?", (len(migrations()),))
    return older.data


def test_before_an_upgrade_is_told_what_this_version_refuses_of_the_data_as_they_are(
    shell: Shell, before_upgrade: Path
) -> None:
    shell.write("tasks.d/echo.yaml", ECHO.replace("agentRuntime:", "agentRuntme:"))
    short = {"OPTIO_SECRET_A_HOOK": "1234567", "OPTIO_SECRET_A_KEY": "s", "OPTIO_DATA_DIR": str(before_upgrade)}

    code, found = looked_at(shell, "--upgrade", OPTIO_NO_LONGER="1", **short)

    assert code == 1
    newest = len(migrations())
    said = f"version {newest - 1} of {newest}: 1 migration pending; older processes may run on meanwhile"
    assert (found["schema"][0]["detail"], found["schema"][0]["command"]) == (said, "optio db migrate")
    (secret,) = [check for check in found["secret"] if check["status"] == "error"]
    assert secret["detail"] == "A_HOOK cannot verify the webhook needy of needy: it has 7 bytes, and `optio` needs 8 or more"
    assert "openssl rand -hex 32" in secret["hint"]
    assert [check["status"] for check in found["tasks"]] == ["error", "ok"]
    assert found["tasks"][0]["detail"] == "this version refuses tasks.d/echo.yaml"
    assert found["settings"][0]["detail"] == "unknown setting OPTIO_NO_LONGER is ignored"
    assert [check["status"] for check in found["prices"]] == ["ok"]
    again, _ = looked_at(shell, "--upgrade", OPTIO_TASKS="none", **{**short, "OPTIO_SECRET_A_HOOK": "x" * 32})
    assert again == 0


def test_a_process_that_died_is_named_by_doctor_and_before_an_upgrade_too(shell: Shell) -> None:
    shell.write("tasks.d/echo.yaml", ECHO)
    store = wiring.open_store(Settings.load({"OPTIO_DATA_DIR": str(shell.directory / ".optio")}))
    store.note_worker("w", ALL_TASKS)
    aged = "UPDATE processes SET process = 'box/b/1:77:1', at = at - 31000000"
    store._engine.change(lambda tx: tx.run(aged))  # type: ignore[attr-defined]
    store.close()

    found = [looked_at(shell, *arguments)[1]["processes"] for arguments in ((), ("--upgrade",))]

    assert found[0] == found[1]
    (check,) = found[0]
    assert (check["status"], check["hint"]) == ("warning", "read its log, and start `optio worker` again")
    assert "(host box, process 77)" in check["detail"]


def test_who_answers_on_the_port_is_told(shell: Shell, served: Dev) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.close()
        _, free = looked_at(shell)
    _, optio = looked_at(shell, OPTIO_PORT=str(served.port), OPTIO_DATA_DIR=str(served.data))

    assert "is free for `optio dev`" in free["server"][0]["detail"]
    assert f"answers at {served.url}" in optio["server"][0]["detail"]


def test_a_database_of_a_newer_version_is_an_error(shell: Shell) -> None:
    (shell.directory / ".optio").mkdir()
    connection = sqlite3.connect(shell.directory / ".optio" / "optio.db")
    connection.execute("PRAGMA user_version = 9999")
    connection.close()

    code, found = looked_at(shell)

    assert (code, found["schema"][0]["status"]) == (1, "error")
    assert "newer Optio" in found["schema"][0]["detail"]


def test_settings_are_shown_with_their_origin_and_without_secrets(shell: Shell) -> None:
    environ = {
        "OPTIO_TOKEN": "optio_t0ken",
        "OPTIO_ANTHROPIC_BASE_URL": "http://user:passw0rd@127.0.0.1:9",
        "OPTIO_PROT": "1",
    }

    done = shell("doctor", "--port", "0", environ=environ)

    assert "t0ken" not in done.stdout + done.stderr
    assert "passw0rd" not in done.stdout + done.stderr
    rows = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines() if line.startswith("OPTIO_")}
    assert rows["OPTIO_PORT"] == ["0", "--port"]
    assert rows["OPTIO_TOKEN"] == ["***", "OPTIO_TOKEN"]
    assert rows["OPTIO_TASKS"] == ["tasks.d", "default"]
    assert "unknown setting OPTIO_PROT is ignored" in done.stdout


@pytest.mark.parametrize(("limit", "told"), [("1000", True), ("1048576", False), ("2000000", False)])
def test_a_limit_of_deliveries_below_that_of_samples_is_told_of(shell: Shell, limit: str, told: bool) -> None:
    done = shell("doctor", "--port", "0", environ={"OPTIO_MAX_BODY_BYTES": limit})

    assert (f"deliveries of more than {int(limit):,} bytes are refused" in done.stdout) == told


def test_telemetry_that_is_wanted_is_looked_at(shell: Shell) -> None:
    fake = shell.write("fake/opentelemetry.py", "raise ImportError('not installed')\n").parent
    wanted = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}

    _, neither = looked_at(shell)
    _, both = looked_at(shell, OPTIO_METRICS_PORT="9464", **wanted)
    _, missing = looked_at(shell, PYTHONPATH=f"{fake}:{ROOT}", **wanted)
    _, other = looked_at(shell, OTEL_EXPORTER_OTLP_PROTOCOL="grpc", **wanted)

    assert not {"metrics", "tracing"} & neither.keys()
    assert [both[name][0]["status"] for name in ("metrics", "tracing")] == ["ok", "ok"]
    assert missing["tracing"][0]["hint"] == how_to_install("tracing")
    assert "asks for grpc" in other["tracing"][0]["detail"]


def test_errors_come_first_then_warnings_and_what_is_fine_is_one_line(shell: Shell) -> None:
    shell.write("tasks.d/needy.yaml", NEEDY)
    shell.write("tasks.d/broken.yaml", "name: Broken\n")

    done = shell("doctor", "--port", "0", environ={"OPTIO_PROT": "1"})
    verbose = shell("doctor", "--port", "0", "-v").stdout

    said = done.stdout.partition("\nSETTING")[0]
    errors, warnings, fine = (
        said.index("Fix this first:\nFAIL  tasks"),
        said.index("Then look at this:\nwarn"),
        said.index("\nok  "),
    )
    assert errors < warnings < fine
    assert said.count("\nok  ") == 1
    assert {"python", "yaml", "database"} <= {*said[fine:].replace(",", "").split()}
    assert "\nok    python        3." in verbose


def test_each_cure_has_the_command_to_type(shell: Shell) -> None:
    shell.write("tasks.d/needy.yaml", NEEDY)
    shell.write("tasks.d/broken.yaml", "name: Broken\n")
    (shell.directory / ".optio").mkdir(mode=0o755)

    said = shell("doctor", "--port", "0", environ={"OPTIO_PROT": "1"}).stdout
    _, found = looked_at(shell, OPTIO_PROT="1")

    assert f"{'':18}  -> `optio check tasks.d` lists them\n{'':18}  $ optio check tasks.d\n" in said
    assert found["settings"][0]["command"] == 'export OPTIO_PORT="$OPTIO_PROT"; unset OPTIO_PROT'
    (secret,) = [each for each in found["secret"] if "A_KEY" in each["detail"]]
    subprocess.run(["/bin/sh", "-c", secret["command"]], cwd=shell.directory, check=True)
    _, cured = looked_at(shell)
    assert not [each for each in cured["secret"] if "A_KEY" in each["detail"]]


def test_connections_of_tasks_need_a_gateway_and_values_for_their_secrets(shell: Shell) -> None:
    shell.write(
        "tasks.d/connections/wiki.yaml",
        "type: connection\nkind: mcp\ntools: {find: read}\ntransport:\n  type: sse\n  url: https://wiki.example.org/sse\n"
        "  headers: {Authorization: 'Bearer {{secret:WIKI_TOKEN}}'}\n",
    )
    shell.write(
        "tasks.d/reader.yaml",
        'name: Reader\nagentRuntime: claude-code\nmodel: sonnet\nbudgetUsd: "1.00"\npromptTemplate: x\nconnections: [wiki]\n',
    )

    off = shell("doctor", "--port", "0").stdout
    on = shell("doctor", "--port", "0", "-v", environ={"OPTIO_GATEWAY": "required", "OPTIO_SECRET_WIKI_TOKEN": "x"}).stdout

    assert "OPTIO_GATEWAY is off, and no run with connections starts without a gateway: reader" in off
    assert "WIKI_TOKEN has no value, but is used by reader (connection wiki)" in off
    assert "1 connection of 1 task" in on
    assert "WIKI_TOKEN has no value" not in on
