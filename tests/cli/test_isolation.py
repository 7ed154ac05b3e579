"""What the process executor does not apply is said before a run, and refused where the policy demands it."""

import json
from pathlib import Path

import pytest

from optio.executors.cgroup import Cgroups
from optio.model import isolation
from optio.model.registry import CompiledTask
from optio.model.spec import names_of
from optio.model.task import Environment
from tests.cli.conftest import ECHO, Shell
from tests.support import Dev, compiled

IMAGE = "environment: {image: ghcr.io/acme/agent:1.4}\n"
NETWORK = "environment: {network: {egress: [api.github.com]}}\n"
LISTED = "type: policy\nallow: {egress: [api.github.com]}\n"
PODS = "type: policy\nexecutor: kubernetes\n"
NOTE = "the process executor does not apply environment.image"


@pytest.fixture
def dev(dev: Dev) -> Dev:
    dev.write("plain.yaml", ECHO.replace("Echo", "Plain"))
    dev.write("echo.yaml", ECHO + NETWORK)
    dev.until_served("echo")
    return dev


def refused(dev: Dev, task_id: str) -> bool:
    """Whether a run of the task ends for its isolation, at once and without another attempt."""
    run = dev.until_ended(dev.post(f"/api/tasks/{task_id}/runs").json["runId"])
    assert run["state"] == "completed" or (run["reason"], run["attempt"]) == ("not_isolated", 1), run
    return bool(run["reason"] == "not_isolated")


def test_runs_are_refused_by_processes_where_the_policy_demands_more(dev: Dev) -> None:
    digests = [dev.until_served(name)["digest"] for name in ("echo", "plain")]
    before = refused(dev, "echo")

    dev.write("_policy.yaml", LISTED.replace("egress: [api.github.com]", "egress: [api.github.com], images: [ghcr.io/*]"))
    dev.until_served("echo", digest_other_than=digests[0])
    listed = refused(dev, "echo")
    dev.write("_policy.yaml", PODS)
    dev.until_served("plain", digest_other_than=digests[1])
    pods = refused(dev, "echo"), refused(dev, "plain")
    run = dev.get("/api/runs?task=plain").json["items"][0]

    assert (before, listed, pods) == (False, True, (True, True))
    assert "the process executor does not run agents in pods" in run["message"]
    assert "OPTIO_EXECUTOR=kubernetes" in run["message"]
    assert refused_before_the_agent(dev, run["id"])


@pytest.mark.parametrize(("sandbox", "refuses"), [("namespaces", False), ("none", True)])
def test_a_policy_can_demand_that_processes_are_isolated(tmp_path: Path, sandbox: str, *, refuses: bool) -> None:
    dev = Dev(tmp_path, environ={"OPTIO_SANDBOX": sandbox})
    dev.write("_policy.yaml", "type: policy\nsandbox: isolated\n")
    dev.write("plain.yaml", ECHO.replace("Echo", "Plain"))
    dev.start()
    try:
        dev.until_served("plain")
        was_refused = refused(dev, "plain")
        run = dev.get("/api/runs?task=plain").json["items"][0]
    finally:
        dev.stop()

    assert was_refused == refuses
    assert not refuses or "does not isolate agents: start workers with OPTIO_SANDBOX=namespaces or bwrap" in run["message"]


def refused_before_the_agent(dev: Dev, run_id: str) -> bool:
    lines = dev.get(f"/api/workflow-runs/{run_id}/logs").json["items"]
    return not any(line["kind"] == "output" for line in lines)


def test_what_is_not_applied_is_said_where_a_task_is_made_changed_served_and_shown(dev: Dev) -> None:
    task = {"name": "Made", "agentRuntime": "command", "command": "true", "environment": {"image": "ghcr.io/acme/agent:1.4"}}

    made = dev.post("/api/tasks", task).json
    changed = dev.request("PATCH", "/api/tasks/made", {"environment": {"resources": {"memory": "2Gi"}}}).json
    mended = dev.request("PATCH", "/api/tasks/made", {"environment": None}).json
    served = dev.get("/api/registry").json["notApplied"]
    doctor = json.loads(dev.cli("doctor", "--json").stdout)["checks"]

    assert [(w["pointer"], w["message"]) for w in made["warnings"] if w["code"] == "OPT523"] == [("/environment/image", NOTE)]
    resources = ["/environment/resources"] if Cgroups(Path("/")).problem else []
    assert [w["pointer"] for w in changed["warnings"] if w["code"] == "OPT523"] == ["/environment/image", *resources]
    assert [w for w in mended["warnings"] if w["code"] == "OPT523"] == []
    assert served == {"echo": ["the process executor does not apply the hosts of environment.network"]}
    assert [(c["status"], c["detail"]) for c in doctor if c["name"] == "isolation"] == [
        ("warning", "the process executor does not apply the hosts of environment.network of echo")
    ]
    assert f"made: {NOTE}" in dev.output.read_text()


def test_doctor_says_that_runs_are_refused(shell: Shell) -> None:
    shell.write("tasks.d/echo.yaml", ECHO + NETWORK)
    shell.write("tasks.d/_policy.yaml", LISTED)

    done = shell("doctor", "--json")

    found = [c for c in json.loads(done.stdout)["checks"] if c["name"] == "isolation"]
    assert [(c["status"], c["detail"]) for c in found] == [
        (
            "error",
            "the process executor does not apply the hosts of environment.network, which the policy demands: "
            "runs of echo are refused",
        )
    ]
    assert done.returncode == 1


@pytest.mark.parametrize(
    ("policy", "executor", "code", "words"),
    [
        ("", "", 0, "warning: `environment.network` is applied by the process executor only to TCP ports"),
        ("", "process", 0, "OPT523"),
        ("", "kubernetes", 0, ""),
        (PODS, "", 0, ""),
        (PODS, "process", 0, ""),
        (
            LISTED,
            "",
            1,
            "error: `environment.network` is applied by the process executor only to TCP ports, not to hosts, and the",
        ),
        (LISTED, "kubernetes", 0, ""),
        (PODS + "allow: {egress: [api.github.com]}\n", "", 0, ""),
        ('type: policy\nrules: {OPT523: "off"}\n', "", 0, ""),
        ("type: policy\nrules: {OPT523: error}\n", "", 1, "OPT523"),
    ],
)
@pytest.mark.parametrize("path", ["tasks.d", "tasks.d/echo.yaml"])
def test_check_says_what_is_not_applied(shell: Shell, policy: str, executor: str, code: int, words: str, path: str) -> None:
    shell.write("tasks.d/echo.yaml", ECHO + NETWORK)
    if policy:
        shell.write("tasks.d/_policy.yaml", policy)

    done = shell("check", "--format", "concise", path, environ={"OPTIO_EXECUTOR": executor})

    assert (done.returncode, words in done.stdout) == (code, True), done.stdout + done.stderr
    assert bool(words) is ("by the process executor" in done.stdout)


def test_check_says_on_what_it_depends_whether_resources_are_applied(shell: Shell) -> None:
    shell.write("tasks.d/echo.yaml", ECHO + "environment: {resources: {memory: 64Mi}}\n")

    done = shell("check", "--format", "concise")

    words = "`environment.resources` is applied by the process executor only where its worker has a cgroup"
    assert (done.returncode, words in done.stdout) == (0, True), done.stdout


def test_check_says_the_same_of_many_files(shell: Shell) -> None:
    for number in range(220):
        shell.write(f"tasks.d/t{number}.yaml", ECHO.replace("Echo", f"Echo {number}") + (IMAGE if number == 7 else ""))

    counts = [
        shell("check", "--format", "concise", environ={"OPTIO_EXECUTOR": executor}).stdout.count("OPT523")
        for executor in ("process", "kubernetes")
    ]

    assert counts == [1, 0]


def test_a_definition_keeps_what_it_demands_and_one_that_demands_nothing_its_digest() -> None:
    task = compiled(ECHO)
    demanding = CompiledTask(id=task.id, spec=task.spec, prompt=task.prompt, origin=task.origin, isolation=("pod",))

    assert CompiledTask.from_json(demanding.to_json()).isolation == ("pod",)
    assert "isolation" not in task.to_json()
    assert demanding.digest != task.digest


@pytest.mark.parametrize("command", [("worker",), ("doctor",)])
def test_a_template_of_pods_that_cannot_be_used_is_told_when_a_worker_starts_and_by_the_doctor(
    shell: Shell, command: tuple[str, ...]
) -> None:
    shell.write("template.yaml", "spec:\n  securityContext: {runAsUser: 0}\n")
    environ = {"OPTIO_EXECUTOR": "kubernetes", "OPTIO_POD_TEMPLATE": "template.yaml"}

    done = shell(*command, environ=environ)

    assert done.returncode != 0
    words = "OPTIO_POD_TEMPLATE: template.yaml:2:3: a template cannot change `spec.securityContext` (delete it: an agent runs"
    assert words in " ".join((done.stdout + done.stderr).split())


def test_pods_apply_all_that_a_task_may_ask_for() -> None:
    assert {key.partition(".")[0] for key in isolation.KEYS} <= set(names_of(Environment))
    assert isolation.not_applied("kubernetes", isolation.NAMES) == []
    assert isolation.not_applied("process", isolation.NAMES) == list(isolation.NAMES)
