"""`deploy/compose/`: what its file says, and that its very commands with its very environment make a whole that works.

Containers need an engine, which tests do without: each service's process is started here as the file starts it, with paths,
names and ports of this machine in place of the containers'.
"""

import hashlib
import hmac
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from tests import forked
from tests.model_server import PLAIN_TEXT
from tests.runtimes.real_agents import KEY, Model, environ_of, model_server, task_text
from tests.servers import PostgresServer
from tests.support import ROOT, eventually, free_port

DEPLOY = ROOT / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose" / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = ("server", "scheduler", "worker", "gateway")
HOOK = """\
type: standalone
name: Greet
agentRuntime: command
command: ["/bin/cat"]
promptTemplate: "hello {{WHO}}"
paramsSchema:
  type: object
  properties: {WHO: {type: string, maxLength: 20}}
  required: [WHO]
  additionalProperties: false
triggers: [{type: webhook, config: {path: greet, secret: {name: GREET_SECRET}, paramMapping: {WHO: $.who}}}]
"""


# The file


def test_nothing_is_published_but_the_server_on_loopback() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}

    assert published == {"server": ["127.0.0.1:8000:8000"]}


def test_databases_and_schedulers_have_no_way_out() -> None:
    assert COMPOSE["networks"]["inner"] == {"internal": True}
    for name in ("postgres", "redis", "scheduler"):
        assert SERVICES[name]["networks"] == ["inner"], name


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_every_service_is_pinned_checked_restarted_and_stopped_with_patience(name: str) -> None:
    service = SERVICES[name]

    assert re.fullmatch(r"[a-z]+:\d+\.\d+\S*", service["image"])
    assert service["restart"] == "unless-stopped"
    assert service["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL")
    assert int(service["stop_grace_period"].removesuffix("s")) >= 20
    assert service["read_only"] is True
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "max-size" in service["logging"]["options"]


@pytest.mark.parametrize("name", OURS)
def test_our_own_run_with_no_privilege_and_wait_for_what_they_need(name: str) -> None:
    service = SERVICES[name]

    assert service["cap_drop"] == ["ALL"]
    assert service["init"] is True
    assert service["depends_on"] == {each: {"condition": "service_healthy"} for each in ("postgres", "redis")}


def test_secrets_come_by_files_and_stand_nowhere_else() -> None:
    declared = set(COMPOSE["secrets"])
    used = {secret for service in SERVICES.values() for secret in service.get("secrets", [])}

    assert used == declared
    for service in SERVICES.values():
        for name, text in service.get("environment", {}).items():
            is_place = name.endswith(("_FILE", "_URL")) and "@" not in text
            assert is_place or not re.search(r"password|secret_|token|://", f"{name}={text}", re.I), name
    ignored = (DEPLOY / "compose" / ".gitignore").read_text().split()
    assert ignored == ["secrets/", "task-secrets/", "gateway-secrets/", "tasks.d/"]


def test_the_gateway_alone_has_the_keys_of_model_services_and_workers_lead_agents_there() -> None:
    users = {name for name, service in SERVICES.items() if "gateway-secrets" in str(service)}
    gateway, worker = SERVICES["gateway"]["environment"], SERVICES["worker"]["environment"]

    assert users == {"gateway"}
    assert "./gateway-secrets:/run/gateway-secrets:ro" in SERVICES["gateway"]["volumes"]
    assert "task-secrets" not in str(SERVICES["gateway"])
    assert worker["OPTIO_GATEWAY_URL"] == f"http://gateway:{gateway['OPTIO_GATEWAY_PORT']}"
    assert set(SERVICES["gateway"]["networks"]) & set(SERVICES["worker"]["networks"])


def test_redis_has_a_password_keeps_what_it_has_and_refuses_when_it_is_full() -> None:
    command = SERVICES["redis"]["command"]

    assert command[:2] == ["redis-server", "/run/secrets/redis_conf"]
    assert command[command.index("--appendonly") + 1] == "yes"
    assert command[command.index("--maxmemory-policy") + 1] == "noeviction"


def test_every_volume_is_declared_and_every_variable_is_a_setting() -> None:
    from optio.settings import unknown_variables

    named = {each.split(":")[0] for service in SERVICES.values() for each in service["volumes"] if not each.startswith(".")}

    assert named == set(COMPOSE["volumes"])
    for name in OURS:
        assert list(unknown_variables(SERVICES[name]["environment"])) == []


def test_the_image_holds_what_the_lock_file_names_and_nothing_that_only_tests_need() -> None:
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    lock = (DEPLOY / "requirements.lock").read_text()
    names = set(re.findall(r"^([a-z0-9.-]+)==", lock, re.M))
    all_names = set(re.findall(r"^([a-z0-9.-]+==\S+)", (ROOT / "requirements.lock").read_text(), re.M))

    assert "\nARG BASE=python:3.11-slim-bookworm\n" in dockerfile
    assert set(re.findall(r"^FROM (\S+)", dockerfile, re.M)) == {"${BASE}"}
    assert "--require-hashes -r /tmp/requirements.lock" in dockerfile
    assert "\nUSER 10001:10001\n" in dockerfile
    for source in re.findall(r"^COPY ([^-]\S+)", dockerfile, re.M):
        assert (ROOT / source).exists(), source
        assert f"!{source}\n" in (DEPLOY / "Dockerfile.dockerignore").read_text(), source
    assert names >= {"litestar", "psycopg", "psycopg-binary", "redis", "dramatiq", "prometheus-client", "opentelemetry-sdk"}
    assert names & {"pytest", "mypy", "ruff", "hypothesis", "schemathesis", "hatchling", "psutil"} == set()
    assert set(re.findall(r"^([a-z0-9.-]+==\S+)", lock, re.M)) <= all_names


# The whole


class Stack:
    """The services as processes of this machine."""

    def __init__(self, directory: Path, postgres: PostgresServer) -> None:
        self.directory = directory
        shutil.copytree(DEPLOY / "compose", directory / "compose", ignore=shutil.ignore_patterns("secrets", "task*", "model*"))
        self.compose = directory / "compose"
        subprocess.run(["./prepare.sh"], cwd=self.compose, check=True, timeout=20)
        self.ports = {"8000": free_port(), "8100": free_port(), "6379": free_port(), "5432": postgres.port}
        self.added: dict[str, dict[str, str]] = {}
        self.metrics = {name: free_port() for name in OURS}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        password = (self.compose / "secrets" / "postgres_password").read_text()
        with psycopg.connect(postgres.url, autocommit=True) as connection:
            connection.execute("DROP DATABASE IF EXISTS optio WITH (FORCE)")
            connection.execute("CREATE DATABASE optio")
            connection.execute(f"ALTER ROLE optio PASSWORD '{password}'")  # type: ignore[call-overload]
        for name in ("database_url", "redis_url"):
            file = self.compose / "secrets" / name
            file.write_text(self.here(file.read_text(), "server"))

    def here(self, text: str, service: str) -> str:
        """Text of the file, for this machine."""
        places = {
            "/run/secrets/": f"{self.compose}/secrets/",
            "/run/task-secrets": f"{self.compose}/task-secrets",
            "/run/gateway-secrets": f"{self.compose}/gateway-secrets",
            "//gateway:8100": f"//127.0.0.1:{self.ports['8100']}",
            "/etc/optio/tasks.d": f"{self.compose}/tasks.d",
            "/var/lib/optio": f"{self.directory}/{service}",
            "@postgres:5432": f"@127.0.0.1:{self.ports['5432']}",
            "@redis:6379": f"@127.0.0.1:{self.ports['6379']}",
            "0.0.0.0": "127.0.0.1",
            "9464": str(self.metrics.get(service)),
        }
        for theirs, ours in places.items():
            text = text.replace(theirs, ours)
        return str(self.ports.get(text, text))

    def environment(self, service: str) -> dict[str, str]:
        clean = {name: text for name, text in os.environ.items() if not name.startswith("OPTIO_")}
        theirs = SERVICES[service].get("environment", {})
        here = {name: self.here(text, service) for name, text in theirs.items()}
        return {**clean, "PYTHONPATH": str(ROOT), **here, **self.added.get(service, {})}

    def start(self, service: str) -> None:
        command, environ = SERVICES[service]["command"], self.environment(service)
        with (self.directory / f"{service}.log").open("ab") as log:
            if service in OURS:
                process = forked.start(command, self.directory, environ, (0, log.fileno(), log.fileno()))
            else:
                extra = ["--port", str(self.ports["6379"]), "--bind", "127.0.0.1", "--dir", str(self.directory)]
                argv = [*(self.here(word, service) for word in command), *extra]
                process = subprocess.Popen(argv, env=environ, stdout=log, stderr=log)
        self.processes[service] = process

    def log(self, service: str) -> str:
        return (self.directory / f"{service}.log").read_text()

    def once(self, service: str, *command: str) -> str:
        """`docker compose run --rm SERVICE COMMAND`."""
        done = forked.run(command, self.directory, self.environment(service))
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def healthy(self, service: str) -> bool:
        """What the file's own health check says."""
        kind, *test = SERVICES[service]["healthcheck"]["test"]
        assert self.processes[service].poll() is None, self.log(service)
        if kind == "CMD-SHELL":
            script = self.here(test[0].replace("$$", "$"), service).replace("redis-cli", f"redis-cli -p {self.ports['6379']}")
            argv = ["sh", "-c", script]
        else:
            argv = [sys.executable if word == "python" else self.here(word, service) for word in test]
        return subprocess.run(argv, capture_output=True, timeout=20).returncode == 0

    def request(self, path: str, body: bytes | None = None, **headers: str) -> Any:
        named = {name.replace("_", "-"): text for name, text in headers.items()}
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.ports['8000']}{path}", data=body, headers={"Content-Type": "application/json", **named}
        )
        with urllib.request.urlopen(request, timeout=20) as response:
            return json.loads(response.read())

    def stop(self) -> dict[str, int]:
        codes = {}
        for name, process in reversed(self.processes.items()):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            try:
                codes[name] = process.wait(int(SERVICES[name]["stop_grace_period"].removesuffix("s")))
            except subprocess.TimeoutExpired:
                process.kill()
                codes[name] = -9
        return codes


MODEL = "claude-sonnet-4-5-compose-stub-plain"
CALL_USD = Decimal("0.00429")  # 1,200 fresh tokens, 300 from the cache and 40 written, at its price


@pytest.fixture
def model() -> Iterator[Model]:
    with model_server() as running:
        yield running


@pytest.fixture
def stack(tmp_path: Path, postgres_server: PostgresServer) -> Iterator[Stack]:
    made = Stack(tmp_path, postgres_server)
    yield made
    made.stop()


def test_the_services_of_the_file_make_a_whole_that_runs_a_signed_webhook_and_an_agent(stack: Stack, model: Model) -> None:
    (stack.compose / "tasks.d" / "greet.yaml").write_text(HOOK)
    (stack.compose / "tasks.d" / "ask.yaml").write_text(task_text("claude-code", MODEL, "id: ask\nmaxRetries: 0\n"))
    (stack.compose / "gateway-secrets" / "ANTHROPIC_API_KEY").write_text(KEY)
    known = environ_of(model.url)
    stack.added["worker"] = {name: text for name, text in known.items() if not name.startswith("OPTIO_SECRET_")}
    (stack.compose / "task-secrets" / "GREET_SECRET").write_text("choose-your-own\n")
    stack.start("redis")
    eventually(lambda: stack.healthy("redis"), what="Redis")
    token = stack.once("server", "token", "create", "--role", "admin")
    for name in OURS:
        stack.start(name)
    for name in OURS:
        eventually(lambda name=name: stack.healthy(name), within=40, what=name)  # type: ignore[misc]

    body = b'{"who": "ada"}'
    signature = hmac.new(b"choose-your-own", body, hashlib.sha256).hexdigest()
    accepted = stack.request("/api/hooks/greet", body, X_Optio_Signature=signature)

    def ended(run_id: str) -> dict[str, Any] | None:
        run: dict[str, Any] = stack.request(f"/api/workflow-runs/{run_id}", Authorization=f"Bearer {token}")
        return run if run["state"] not in ("queued", "running") else None

    run = eventually(lambda: ended(accepted["runId"]), what="the end of the run")
    assert run is not None
    assert (run["state"], run["output"]) == ("completed", "hello ada")
    with pytest.raises(urllib.error.HTTPError, match="401"):
        stack.request("/api/hooks/greet", body, X_Optio_Signature="0" * 64)
    # The hint came through this very Redis, and nothing without its password would.
    metrics = urllib.request.urlopen(f"http://127.0.0.1:{stack.metrics['worker']}/metrics", timeout=10).read().decode()
    assert 'optio_part_up{part="broker"} 1.0' in metrics
    assert 'optio_runs_total{reason="ok",state="completed",task="greet",trigger="webhook"} 1.0' in metrics
    asked = stack.request("/api/tasks/ask/runs", b"{}", Authorization=f"Bearer {token}")["runId"]
    run = eventually(lambda: ended(asked), within=60, what="the end of the agent's run")
    calls = [each for each in model.requests() if each.get("model") == MODEL]
    assert run is not None
    assert (run["state"], run["output"]) == ("completed", PLAIN_TEXT), run["message"]
    assert all(KEY in each["headers"].values() for each in calls)
    assert Decimal(run["costUsd"]) == CALL_USD * len(calls)
    bare = subprocess.run(["redis-cli", "-p", str(stack.ports["6379"]), "ping"], capture_output=True, text=True, timeout=10)
    assert "NOAUTH" in bare.stdout
    entries = [json.loads(line) for line in stack.log("worker").splitlines()]
    assert [entry["task_id"] for entry in entries if entry.get("event") == "run_finished"] == ["greet", "ask"]

    codes = stack.stop()

    assert codes == dict.fromkeys(codes, 0)
    secrets = [(stack.compose / "secrets" / name).read_text() for name in ("postgres_password", "database_url", "redis_url")]
    for name in OURS:
        assert not any(secret in stack.log(name) for secret in (*secrets, KEY)), name
