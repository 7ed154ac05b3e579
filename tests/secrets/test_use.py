"""Secrets of a program where they are used: runs, logs, webhooks, `optio doctor` and the start of a process."""

import hashlib
import hmac
import json
import os
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from optio.cli import invoke
from optio.model.run import LogKind, RunState
from optio.processes.health import slower
from optio.runs import admission
from optio.runs.execute import Execution
from optio.wiring import Services
from tests import forked
from tests.runs.support import accept, done, execution, log_of, opened, working
from tests.secrets.vault import PROGRAM, TOKEN, Vault
from tests.server.api import Api
from tests.support import COMMAND_TASK, ROOT, command_task, eventually, free_port

SETTINGS = {"OPTIO_SECRET_COMMAND": str(PROGRAM), "OPTIO_SECRET_CACHE": "1s"}
NEEDY = "environment: {secrets: [API_KEY]}\n"
SEALED = 'the secret `API_KEY` cannot be read: `vault.py` exited with 1: Vault answers 503: {"errors": ["Vault is sealed"]}'


@pytest.fixture
def services(tmp_path: Path, vault: Vault, monkeypatch: pytest.MonkeyPatch) -> Iterator[Services]:
    for name, value in vault.environ.items():
        monkeypatch.setenv(name, value)
    with opened(tmp_path, SETTINGS) as made:
        yield made


def test_a_value_of_the_vault_reaches_its_run_and_is_masked_in_its_log(
    services: Services, vault: Vault, tmp_path: Path
) -> None:
    vault.values["API_KEY"] = "value-of-the-vault"
    task = command_task('echo "it is $API_KEY"; printf %s "$API_KEY" | sha256sum; env', extra=NEEDY)

    with working(services):
        run = done(services, accept(services, task))

    said = b"\n".join(log_of(services, run.id, LogKind.OUTPUT))
    digest = hashlib.sha256(b"value-of-the-vault").hexdigest()
    assert (run.state, said.startswith(f"it is ***\n{digest} ".encode())) == (RunState.COMPLETED, True)
    assert TOKEN.encode() not in said
    for path in (tmp_path / "data").rglob("*"):
        assert not path.is_file() or b"value-of-the-vault" not in path.read_bytes(), path


def test_a_run_whose_source_is_away_waits_says_why_and_starts_when_it_is_back(services: Services, vault: Vault) -> None:
    vault.values["API_KEY"], vault.status = "value-of-the-vault", 503
    task, free = command_task("true", extra=NEEDY + "maxRetries: 0\n"), command_task("true", name="Free")
    with working(services):
        run_ids = [accept(services, task), accept(services, task)]
        eventually(lambda: all(services.store.run(each).reason == "secret_source" for each in run_ids[:1]))
        others = done(services, accept(services, free))
        run = services.store.run(run_ids[0])
        holds = admission.decide(services.store.admission(), max_running=5).holds

        assert others.state is RunState.COMPLETED
        assert (run.state, run.reason, run.message) == (RunState.QUEUED, "secret_source", SEALED)
        assert (run.retries, run.infrastructure_retries, services.store.attempts(run.id)) == (0, 0, [])
        assert {hold.reason for hold in holds.values()} == {"secret_source"}
        assert all(hold.message.startswith(f"{SEALED}; ") for hold in holds.values())

        vault.status = 200
        ended = [done(services, each, within=60) for each in run_ids]

    assert [run.state for run in ended] == [RunState.COMPLETED] * 2
    said = [line.decode() for line in log_of(services, run_ids[0], LogKind.SYSTEM)]
    assert f"not begun: {SEALED}; the run waits in the queue until its secrets can be read" in said


def test_a_run_whose_secret_the_vault_does_not_have_fails_at_once(services: Services) -> None:
    with working(services):
        run = done(services, accept(services, command_task("true", extra=NEEDY)))

    assert (run.state, run.reason) == (RunState.FAILED, "secret_missing")
    assert "or let" in run.message


def test_a_run_waits_while_the_directory_of_secrets_is_away_and_fails_only_where_one_is_missing(tmp_path: Path) -> None:
    directory = tmp_path / "values"
    with opened(tmp_path, {"OPTIO_SECRETS_DIR": str(directory)}) as services, working(services):
        task = command_task('echo "it is $API_KEY" | tr e E', extra=NEEDY + "maxRetries: 0\n")
        run_ids = [accept(services, task), accept(services, task)]
        eventually(lambda: any(services.store.run(each).reason == "secret_source" for each in run_ids))
        waiting = next(run for each in run_ids if (run := services.store.run(each)).reason)
        told = eventually(lambda: list(slower(services)), what="the word of it in /readyz")

        directory.mkdir()
        (directory / "API_KEY").write_text("value-of-the-file")
        ended = [done(services, each, within=60) for each in run_ids]
        lacking = done(services, accept(services, command_task("true", name="Other", extra=NEEDY.replace("API", "OTHER"))))
        after = eventually(lambda: not list(slower(services)), what="its end")

    assert waiting.message == f"the secret `API_KEY` cannot be read: the directory {directory} is away"
    assert (told, after) == (["secrets cannot be read: runs of the tasks that name them wait"], True)
    assert [(run.state, run.infrastructure_retries) for run in ended] == [(RunState.COMPLETED, 0)] * 2
    assert (lacking.state, lacking.reason) == (RunState.FAILED, "secret_missing")


def test_starts_of_processes_end_a_shortage_of_secrets(services: Services, vault: Vault) -> None:
    vault.values["API_KEY"], vault.status = "value-of-the-vault", 503
    task = command_task("true", extra=NEEDY)
    with working(services):
        run_ids = [accept(services, task) for _ in range(8)]
        eventually(lambda: services.store.shortages())
        vault.status = 200

        assert [done(services, each, within=60).state for each in run_ids] == [RunState.COMPLETED] * 8

    assert services.store.shortages() == []


def test_an_adopted_agent_s_output_waits_until_its_secrets_can_be_masked(services: Services, vault: Vault) -> None:
    vault.values["API_KEY"] = "value-of-the-vault"
    run_id = accept(services, command_task('echo begun; sleep 3; echo "it is $API_KEY"', extra=NEEDY))
    first = execution(services, run_id)
    thread = threading.Thread(target=first)
    thread.start()
    eventually(lambda: log_of(services, run_id, LogKind.OUTPUT), what="the first line")
    first.leave()
    thread.join()
    services.store.release("tester")
    vault.status = 503
    eventually(lambda: not services.secrets.is_at_hand("API_KEY"))

    (adopted,) = services.store.adopt("second", timedelta(seconds=30), 5)
    thread = threading.Thread(target=Execution(adopted, services.parts(), "second"))
    thread.start()
    eventually(lambda: len(vault.asked) >= 2, what="the vault to be asked again")
    assert log_of(services, run_id, LogKind.OUTPUT) == [b"begun"]
    vault.status = 200
    thread.join(60)

    assert log_of(services, run_id, LogKind.OUTPUT) == [b"begun", b"it is ***"]


def test_an_adopted_agent_whose_secrets_cannot_be_read_can_be_cancelled(services: Services, vault: Vault) -> None:
    vault.values["API_KEY"] = "value-of-the-vault"
    run_id = accept(services, command_task("echo begun; sleep 60", extra=NEEDY))
    first = execution(services, run_id)
    thread = threading.Thread(target=first)
    thread.start()
    eventually(lambda: log_of(services, run_id, LogKind.OUTPUT), what="the first line")
    first.leave()
    thread.join()
    services.store.release("tester")
    vault.status = 503
    eventually(lambda: not services.secrets.is_at_hand("API_KEY"))
    (adopted,) = services.store.adopt("second", timedelta(seconds=30), 5)
    second = Execution(adopted, services.parts(), "second")
    thread = threading.Thread(target=second)
    thread.start()
    eventually(lambda: len(vault.asked) >= 2, what="the vault to be asked again")

    services.store.cancel(run_id, "ann")
    second.recheck()
    handle = services.executor.find(run_id, 1)
    assert handle is not None
    eventually(lambda: handle.exit() is not None, what="the end of the agent")
    handle.close(remove=False)
    vault.status = 200
    thread.join(60)

    assert services.store.run(run_id).state is RunState.CANCELLED


HOOK = """\
name: Push
agentRuntime: command
command: "true"
promptTemplate: "{{REPO}}"
triggers:
  - type: webhook
    config: {path: push, secret: {name: PUSH}, paramMapping: {REPO: $.repo}}
"""
BODY = b'{"repo": "optio"}'
SECRET = "a-secret-of-the-sender"


@pytest.fixture
def api(tmp_path: Path, vault: Vault, monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    vault.values["PUSH"] = SECRET
    for name, value in {**vault.environ, **SETTINGS}.items():
        monkeypatch.setenv(name, value)
    made = Api(tmp_path, environ=SETTINGS)
    made.serve_task(HOOK)
    yield made
    made.close()


def push(api: Api, secret: str = SECRET) -> int:
    signature = hmac.new(secret.encode(), BODY, hashlib.sha256).hexdigest()
    return api.request("POST", "/api/hooks/push", raw=BODY, headers={"X-Optio-Signature": signature}).status


def test_a_delivery_is_verified_by_the_vault_s_secret_and_a_rotated_one_counts_soon(api: Api, vault: Vault) -> None:
    assert (push(api), push(api, "another-secret")) == (202, 401)

    vault.values["PUSH"] = "the-next-secret-of-the-sender"

    eventually(lambda: not api.services.secrets.is_at_hand("PUSH"), what="the end of the cache")
    assert (push(api, "the-next-secret-of-the-sender"), push(api)) == (202, 401)


def test_a_delivery_whose_secret_cannot_be_read_is_to_be_sent_again(api: Api, vault: Vault) -> None:
    vault.status = 503

    signature = hmac.new(SECRET.encode(), BODY, hashlib.sha256).hexdigest()
    answer = api.request("POST", "/api/hooks/push", raw=BODY, headers={"X-Optio-Signature": signature})

    assert (answer.status, answer.headers["retry-after"]) == (503, "5")
    assert answer.json["detail"] == "a secret cannot be read now: nothing was changed, try again later"
    (kept,) = eventually(lambda: api.get("/api/deliveries").json["items"])
    assert (kept["verdict"], kept["status"]) == ("unavailable", 503)
    assert "Vault answers 503" in kept["detail"]
    vault.status = 200
    eventually(lambda: not api.services.secrets.is_at_hand("PUSH"), what="the end of the cache")
    assert push(api) == 202


def test_deliveries_that_wait_for_the_vault_ask_once_and_keep_nobody_else_waiting(api: Api, vault: Vault) -> None:
    vault.open.clear()
    with ThreadPoolExecutor(60) as pool:
        answers = [pool.submit(push, api) for _ in range(60)]
        eventually(lambda: vault.asked)

        assert api.get("/api/tasks").status == 200

        vault.open.set()
        assert {answer.result(30) for answer in answers} == {202}
    assert vault.asked == ["PUSH"]


def optio(tmp_path: Path, *arguments: str, **environ: str) -> "subprocess.CompletedProcess[str]":
    clean = {name: value for name, value in os.environ.items() if not name.startswith("OPTIO_")}
    return forked.run(arguments, tmp_path, {**clean, "PYTHONPATH": str(ROOT), "OPTIO_PORT": str(free_port()), **environ})


def test_doctor_tells_whether_the_program_gives_what_the_tasks_name(
    tmp_path: Path, vault: Vault, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tasks.d").mkdir()
    monkeypatch.chdir(tmp_path)
    for name, value in {**vault.environ, **SETTINGS, "OPTIO_SECRET_CACHE": "60s", "OPTIO_PORT": str(free_port())}.items():
        monkeypatch.setenv(name, value)

    def looked_at() -> list[tuple[str, str]]:
        assert invoke(["doctor", "--json"]) in (0, 1)
        checks = json.loads(capsys.readouterr().out)["checks"]
        return [(each["status"], each["detail"]) for each in checks if each["name"] == "secret"]

    ((status, detail),) = looked_at()
    assert (status, detail[:60]) == ("ok", "OPTIO_SECRET_COMMAND answers: no secret is asked of it now, ")

    needy = COMMAND_TASK.format(name="Needy", command="[/bin/true]") + "environment: {secrets: [API_KEY, OTHER]}\n"
    (tmp_path / "tasks.d" / "needy.yaml").write_text(needy)
    vault.values["API_KEY"] = "value-of-the-vault"
    found = looked_at()
    assert [(status, detail[:45]) for status, detail in found] == [
        ("ok", "OPTIO_SECRET_COMMAND answers: 1 of 2 values, "),
        ("warning", "OTHER has no value, but is used by needy"),
        ("ok", "1 of 2 named secrets have a value"),
    ]

    vault.status = 503
    assert looked_at() == [("error", SEALED)]
    assert invoke(["doctor"]) == 1


@pytest.mark.parametrize("command", ["worker", "server", "dev"])
def test_a_process_with_a_program_that_is_not_there_does_not_start(tmp_path: Path, command: str) -> None:
    done = optio(tmp_path, command, OPTIO_SECRET_COMMAND="/opt/no-such-reader --x", OPTIO_DATA_DIR=str(tmp_path / "data"))

    assert done.returncode == 2
    assert "OPTIO_SECRET_COMMAND: the program `/opt/no-such-reader` is not found: there is no such file" in done.stderr
