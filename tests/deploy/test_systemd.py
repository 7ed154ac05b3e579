"""`deploy/systemd/`: systemd reads the units, their commands run as they are written, and only good commits are taken over."""

import os
import re
import shlex
import subprocess
from decimal import Decimal
from pathlib import Path

import pytest

from optio.settings import Settings, unknown_variables
from tests import forked
from tests.model_server import PLAIN_TEXT
from tests.pages import page
from tests.runtimes.real_agents import Model, environ_of, model_server, task_text
from tests.support import COMMAND_TASK, ROOT, Dev, eventually, free_port

UNITS = ROOT / "deploy" / "systemd"
SERVICES = sorted(path.name for path in UNITS.glob("*.service"))
DAEMONS = ("server", "scheduler", "worker", "gateway")
# systemd before 254 does not know it, and says so.
NEWER = "Unknown key 'DelegateSubgroup' in section [Service], ignoring."
# The exposure that `systemd-analyze security` may find, of 100. A bare service has 92.
MAX_EXPOSURE = {"optio-worker.service": 36}


def entries(name: str, key: str) -> list[str]:
    """Values of a key in a unit, from top to bottom."""
    return re.findall(rf"^{key}=(.*)$", (UNITS / name).read_text(), re.M)


def environment(name: str) -> dict[str, str]:
    return dict(word.split("=", 1) for line in entries(name, "Environment") for word in shlex.split(line))


def env_file() -> dict[str, str]:
    return dict(line.split("=", 1) for line in (UNITS / "optio.env").read_text().splitlines())


@pytest.fixture
def opt(tmp_path: Path) -> Path:
    """A directory as the guide makes /opt/optio, with the program where units look for it."""
    home = tmp_path / "opt"
    program = home / ".venv" / "bin" / "optio"
    program.parent.mkdir(parents=True)
    forked.put_program(program)
    (home / "deploy").mkdir()
    (home / "deploy" / "systemd").symlink_to(UNITS)
    (home / "docs").symlink_to(ROOT / "docs")
    return home


# The units


def test_systemd_reads_every_unit_without_a_complaint(opt: Path, tmp_path: Path) -> None:
    places = []
    for unit in [*UNITS.glob("*.service"), *UNITS.glob("*.timer")]:
        places.append(tmp_path / unit.name)
        places[-1].write_text(unit.read_text().replace("/opt/optio", str(opt)))
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", *places], capture_output=True, text=True, timeout=60)

    assert len(places) == 6
    assert [line for line in done.stderr.splitlines() if "optio" in line and NEWER not in line] == []
    assert done.returncode == 0, done.stderr


def test_a_key_that_systemd_does_not_know_is_found(tmp_path: Path) -> None:
    unit = tmp_path / "optio-x.service"
    unit.write_text("[Service]\nExecStart=/bin/true\nProtectSytem=strict\n")
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True, timeout=60)

    assert "optio-x.service:3: Unknown key" in done.stderr


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_confined(name: str) -> None:
    most = MAX_EXPOSURE.get(name, 15)
    words = ["systemd-analyze", "security", "--offline=true", f"--threshold={most}", "--no-pager", str(UNITS / name)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)

    assert done.returncode == 0, done.stdout[-200:] + done.stderr
    assert entries(name, "NoNewPrivileges") == ["yes"]
    assert entries(name, "ProtectSystem") == ["strict"]
    assert entries(name, "CapabilityBoundingSet") == [""]


def test_a_worker_leaves_its_agents_alone_and_may_make_groups() -> None:
    name = "optio-worker.service"

    assert entries(name, "KillMode") == ["process"]
    assert entries(name, "Delegate") == ["yes"]
    assert entries(name, "DelegateSubgroup") == ["optio-worker"]
    for key in ("PrivateTmp", "ProtectControlGroups", "RestrictNamespaces", "MemoryDenyWriteExecute"):
        assert entries(name, key) == [], key


def test_settings_exist_and_ports_differ() -> None:
    ports = set()
    for name in SERVICES:
        variables = {key: value for key, value in environment(name).items() if key.startswith("OPTIO_")}
        assert list(unknown_variables(variables)) == []
        ports.add(variables.get("OPTIO_METRICS_PORT"))
    assert ports == {"9464", "9465", "9466", "9467", None}
    assert list(unknown_variables(env_file())) == []
    loaded = Settings.load(env_file())
    assert loaded.tasks == Path("/var/lib/optio-tasks/repository/tasks.d")
    assert loaded.gateway_url == f"http://{loaded.gateway_host}:{loaded.gateway_port}"
    assert entries("secrets.conf", "LoadCredential") == ["ANTHROPIC_API_KEY:/etc/optio/secrets/ANTHROPIC_API_KEY"]
    assert entries("secrets.conf", "Environment") == ["OPTIO_SECRETS_DIR=%d"]


def test_the_guide_installs_every_file_and_has_no_second_copy() -> None:
    guide = page("guides/systemd.md")

    for path in UNITS.iterdir():
        assert path.name == "update-tasks" or re.search(rf"install .*\b{re.escape(path.name)}\b", guide), path.name
    assert "ExecStart" not in guide
    for name in SERVICES:
        for directory in entries(name, "StateDirectory"):
            assert f"/var/lib/{directory}\n" in guide, directory
        for user in entries(name, "User"):
            assert re.search(rf"useradd .* {user}\n", guide), user


# The commands, as systemd would start them

MODEL, MODEL_KEY = "claude-sonnet-4-5-systemd-stub-plain", "sk-of-the-gateway-0123456789"
CALL_USD = Decimal("0.00429")  # 1,200 fresh tokens, 300 from the cache and 40 written, at its price


def test_the_services_run_a_command_and_an_agent_whose_key_the_gateway_alone_has(opt: Path, tmp_path: Path) -> None:
    with model_server() as model:
        run_together(opt, tmp_path, model)


def run_together(opt: Path, tmp_path: Path, model: Model) -> None:
    dev = Dev(tmp_path, command="server")
    (dev.tasks / "job.yaml").write_text(COMMAND_TASK.format(name="Job", command='["/bin/sh", "-c", "echo $KEY"]') + SECRET)
    (dev.tasks / "ask.yaml").write_text(task_text("claude-code", MODEL, "id: ask\nmaxRetries: 0\n"))
    for name, credential, value in (("worker", "KEY", "a-secret-value"), ("gateway", "ANTHROPIC_API_KEY", MODEL_KEY)):
        (tmp_path / name).mkdir()
        (tmp_path / name / credential).write_text(value)
    agents = {key: value for key, value in environ_of(model.url).items() if not key.startswith("OPTIO_SECRET_")}
    ports, port = {name: str(free_port()) for name in DAEMONS}, str(free_port())
    processes = []
    token = made_token(opt, dev)
    try:
        for name in DAEMONS:
            unit = f"optio-{name}.service"
            (line,) = entries(unit, "ExecStart")
            known = {
                **environment(unit),
                **environment("secrets.conf"),
                **env_file(),
                **{key: dev.environment()[key] for key in ("OPTIO_TASKS", "OPTIO_DATA_DIR", "OPTIO_PORT")},
                "OPTIO_METRICS_PORT": ports[name],
                "OPTIO_GATEWAY_PORT": port,
                "OPTIO_GATEWAY_URL": env_file()["OPTIO_GATEWAY_URL"].replace("8100", port),
                **(agents if name == "worker" else {}),
            }
            secrets = known.pop("OPTIO_SECRETS_DIR").replace("%d", str(tmp_path / name))
            known |= {"OPTIO_SECRETS_DIR": secrets} if name in ("worker", "gateway") else {}
            with (tmp_path / f"{name}.log").open("wb") as log:
                argv = shlex.split(line.replace("/opt/optio", str(opt)))
                processes.append(
                    subprocess.Popen(argv, cwd="/", env={"PYTHONPATH": str(ROOT), **known}, stdout=log, stderr=log)
                )
        dev._token = token
        eventually(lambda: all(answers(dev, port) for port in ports.values()), what="services that are ready")
        asked = dev.until_ended(dev.post("/api/tasks/ask/runs").json["runId"])
        run = dev.until_ended(dev.post("/api/tasks/job/runs").json["runId"])
        log_lines = [line["text"] for line in dev.get(f"/api/workflow-runs/{run['id']}/logs").json["items"]]
    finally:
        for process in processes:
            process.terminate()
        codes = [process.wait(30) for process in processes]

    assert run["state"] == "completed"
    assert "***" in log_lines, "the secret's value, masked"
    calls = [each for each in model.requests() if each.get("model") == MODEL]
    assert (asked["state"], asked["output"]) == ("completed", PLAIN_TEXT), asked["message"]
    assert all(MODEL_KEY in each["headers"].values() for each in calls)
    assert Decimal(asked["costUsd"]) == CALL_USD * len(calls)
    assert codes == [0, 0, 0, 0]


SECRET = "environment: {secrets: [KEY]}\n"


def made_token(opt: Path, dev: Dev) -> str:
    words = [str(opt / ".venv" / "bin" / "optio"), "token", "create", "--role", "admin", "--label", "first"]
    return subprocess.run(words, env=dev.environment(), capture_output=True, text=True, check=True).stdout.strip()


def answers(dev: Dev, port: str) -> bool:
    url, dev.url = dev.url, f"http://127.0.0.1:{port}"
    try:
        return dev.get("/readyz").status == 200
    except OSError:
        return False
    finally:
        dev.url = url


# Commands as the worker

# They print what they are asked for, as systemd's own programs would see it.
STAND_INS = {
    "systemctl": f"#!/bin/sh\ncat {UNITS}/optio-worker.service {UNITS}/secrets.conf\n",
    "systemd-run": '#!/bin/sh\nprintf "%s\\n" "$@"\n',
}


def test_a_command_as_the_worker_has_its_user_settings_and_secrets(tmp_path: Path) -> None:
    for name, text in STAND_INS.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    environ = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "OPTIO_TOKEN": "x"}
    words = [str(UNITS / "optio-as-worker"), "token", "create", "--label", "two words"]
    done = subprocess.run(words, env=environ, cwd="/", capture_output=True, text=True, check=True, timeout=60)

    lines = done.stdout.splitlines()
    (unit,) = [line.removeprefix("--unit=") for line in lines if line.startswith("--unit=")]
    assert lines[-5:] == ["/opt/optio/.venv/bin/optio", "token", "create", "--label", "two words"]
    assert set(lines) > {
        "--property=User=optio",
        "--property=UMask=0077",
        "--property=EnvironmentFile=/etc/optio/optio.env",
        "--property=Environment=PATH=/opt/optio/.venv/bin:/usr/local/bin:/usr/bin:/bin",
        f"--property=Environment=OPTIO_SECRETS_DIR=/run/credentials/{unit}.service",
        "--property=LoadCredential=ANTHROPIC_API_KEY:/etc/optio/secrets/ANTHROPIC_API_KEY",
        "--setenv=OPTIO_TOKEN",
    }
    assert "x" not in lines


# The task files


GOOD = COMMAND_TASK.format(name="Job", command='"true"')


class Clones:
    """A repository of task files, and the clone that `update-tasks` brings on."""

    def __init__(self, directory: Path, opt: Path) -> None:
        self.upstream, self.clone = directory / "upstream", directory / "repository"
        self.environ = {
            "PATH": f"{opt / '.venv' / 'bin'}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "HOME": str(directory),
            **{f"GIT_{who}_{what}": "x" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
        }
        (self.upstream / "tasks.d").mkdir(parents=True)
        self.git(self.upstream, "init", "-q", "-b", "main")
        self.commit("job.yaml", GOOD)
        self.git(directory, "clone", "-q", str(self.upstream), str(self.clone))

    def git(self, place: Path, *words: str) -> str:
        return subprocess.run(
            ["git", *words], cwd=place, env=self.environ, check=True, capture_output=True, text=True
        ).stdout.strip()

    def commit(self, name: str, text: str) -> str:
        (self.upstream / "tasks.d" / name).write_text(text)
        self.git(self.upstream, "add", "-A")
        self.git(self.upstream, "commit", "-q", "-m", name)
        return self.git(self.upstream, "rev-parse", "HEAD")

    def update(self) -> subprocess.CompletedProcess[str]:
        (line,) = entries("optio-tasks.service", "ExecStart")
        words = shlex.split(line.replace("/opt/optio/deploy/systemd", str(UNITS)))
        assert words[1:] == ["/var/lib/optio-tasks/repository/tasks.d"]
        words[1] = str(self.clone / "tasks.d")
        return subprocess.run(words, cwd="/", env=self.environ, capture_output=True, text=True, timeout=120)

    @property
    def head(self) -> str:
        assert self.git(self.clone, "status", "--porcelain") == ""
        return self.git(self.clone, "rev-parse", "HEAD")


@pytest.fixture
def clones(tmp_path: Path, opt: Path) -> Clones:
    return Clones(tmp_path, opt)


def test_a_good_commit_is_taken_over_once(clones: Clones) -> None:
    new = clones.commit("second.yaml", GOOD.replace("Job", "Second"))
    first, second = clones.update(), clones.update()

    assert first.returncode == 0, first.stderr
    assert clones.head == new
    assert f"the task files are at {new}" in first.stdout
    assert (second.returncode, second.stdout, second.stderr) == (0, "", "")


def test_a_commit_with_an_error_is_refused_until_it_is_mended(clones: Clones) -> None:
    before = clones.head
    bad = clones.commit("second.yaml", GOOD.replace("Job", "Second") + "nothing: 1\n")
    refused = clones.update()

    assert refused.returncode == 1
    assert "tasks.d/second.yaml:6:1: error" in refused.stderr
    assert f"refused {bad}: `optio check` found errors; the task files stay at {before}" in refused.stderr
    assert clones.head == before

    mended = clones.commit("second.yaml", GOOD.replace("Job", "Second"))
    assert clones.update().returncode == 0
    assert clones.head == mended


def test_a_file_that_archives_leave_out_is_checked_too(clones: Clones) -> None:
    before = clones.head
    (clones.upstream / ".gitattributes").write_text("tasks.d/second.yaml export-ignore\n")
    clones.commit("second.yaml", "nothing: 1\n")

    assert clones.update().returncode == 1
    assert clones.head == before


def test_a_branch_that_was_rewritten_is_refused(clones: Clones) -> None:
    clones.commit("second.yaml", GOOD.replace("Job", "Second"))
    clones.update()
    before = clones.head
    clones.git(clones.upstream, "reset", "-q", "--hard", "HEAD~1")
    clones.commit("third.yaml", GOOD.replace("Job", "Third"))
    refused = clones.update()

    assert refused.returncode == 1
    assert "it does not follow the commit that is here" in refused.stderr
    assert clones.head == before


def test_a_commit_without_the_task_directory_is_refused(clones: Clones) -> None:
    before = clones.head
    clones.git(clones.upstream, "mv", "tasks.d", "elsewhere")
    clones.git(clones.upstream, "commit", "-q", "-m", "moved")

    assert clones.update().returncode == 1
    assert clones.head == before


def test_a_change_by_hand_is_kept_and_said(clones: Clones) -> None:
    clones.commit("job.yaml", GOOD.replace("hello", "hello you"))
    (clones.clone / "tasks.d" / "job.yaml").write_text(GOOD.replace("hello", "by hand"))
    refused = clones.update()

    assert refused.returncode == 1
    assert "files here were changed by hand" in refused.stderr
    assert "by hand" in (clones.clone / "tasks.d" / "job.yaml").read_text()
