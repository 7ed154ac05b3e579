"""Optio in the cluster of KUBECONFIG, by its own manifests and nothing else: from a signed webhook to a real agent's output.

`tests/deploy/images/build` makes the images. The cluster is the one node that this machine is: see tests/deploy/kubernetes.
"""

import os
import re
import subprocess
from collections.abc import Iterator
from decimal import Decimal

import pytest

from tests.deploy.installed import KUBECTL, MODEL, Installed, kubectl
from tests.stub_model import TEXT, StubModel
from tests.support import ROOT, eventually

GOLDEN = ROOT / "tests" / "deploy" / "golden"
WORKER = "system:serviceaccount:optio:optio-worker"
SECRETS = {
    "ANTHROPIC_API_KEY": "sk-ant-of-the-cluster",
    "SECURITY_SCAN_SECRET": "whsec_of-the-cluster",
    "SLOW_SECRET": "another-of-the-cluster",
}
# The only thing that a task of these tests may reach is the model.
REACH = f'  network: {{egress: ["{MODEL[0]}:{MODEL[1]}"]}}\n'
SLOW = """\
type: standalone
name: Slow
agentRuntime: command
command: "echo begun; sleep 4; cat"
promptTemplate: "hello {{WHO}}"
maxConcurrent: 4
maxRetries: 0
environment:
  image: optio.test/debian:bookworm
  network: {egress: []}
  resources: {cpu: 50m, memory: 64Mi}
paramsSchema:
  type: object
  properties: {WHO: {type: string, maxLength: 20}}
  required: [WHO]
  additionalProperties: false
triggers: [{type: webhook, config: {path: slow, secret: {name: SLOW_SECRET}, paramMapping: {WHO: $.who}}}]
"""

LOOK = """\
import socket, sys
for target in sys.argv[1:]:
    host, _, port = target.rpartition(":")
    try:
        socket.create_connection((host, int(port)), 1.5).close()
        print(target, "open")
    except OSError:
        print(target, "closed")
"""
DATABASE, REDIS, API = "optio-postgres:5432", "optio-redis:6379", "kubernetes.default.svc:443"
REACHES = {
    "server": {DATABASE, REDIS},
    "scheduler": {DATABASE, REDIS},
    "worker": {DATABASE, REDIS, API},
    # What is public, and nothing of this cluster.
    "egress": set[str](),
}


def seed() -> str:
    """The task of the document that this project implements, as `examples/` has it."""
    text = (ROOT / "examples" / "weekly-security-report" / "tasks.d" / "weekly-security-report.yaml").read_text()
    # Its own tests stay at home, with their payloads.
    text = text.partition("tests:\n")[0]
    assert "  secrets: [ANTHROPIC_API_KEY]\n" in text
    return text.replace("  secrets: [ANTHROPIC_API_KEY]\n", f"  secrets: [ANTHROPIC_API_KEY]\n{REACH}")


@pytest.fixture(scope="module")
def model() -> Iterator[StubModel]:
    with StubModel(host=MODEL[0], port=MODEL[1], default="tool") as running:
        yield running


@pytest.fixture(scope="module")
def optio(tmp_path_factory: pytest.TempPathFactory, model: StubModel) -> Iterator[Installed]:
    """Stays when OPTIO_TEST_KEEP is set, for a look by hand."""
    tasks = {"weekly-security-report.yaml": seed(), "slow.yaml": SLOW}
    made = Installed(tmp_path_factory.mktemp("installed"), tasks, SECRETS)
    try:
        made.start()
        yield made
    finally:
        made.close()
        if not os.environ.get("OPTIO_TEST_KEEP"):
            made.remove()


@pytest.mark.timeout(400)
def test_a_signed_webhook_starts_a_real_agent_in_a_pod_whose_log_is_live_and_whose_cost_is_known(
    optio: Installed, model: StubModel
) -> None:
    status, accepted = optio.hook("security-scan", "SECURITY_SCAN_SECRET", {"repository": {"name": "optio"}})
    assert status == 202, accepted
    run_id = accepted["runId"]

    def live() -> bool:
        lines, run = optio.log(run_id), optio.run(run_id)
        assert lines or run["state"] in ("queued", "running"), run
        return bool(lines)

    eventually(live, within=120, what="a line of the log")
    run = optio.until_ended(run_id)

    log = optio.log(run_id)
    print(f"\n{run_id}: {run['state']}, {run['turns']} turns, ${run['costUsd']}, {run['tokens']} tokens; log:")
    print("\n".join(f"  {line}" for line in log))
    assert (run["state"], run["reason"], run["trigger"]) == ("completed", "ok", "webhook"), run
    assert run["output"] == TEXT
    assert any("from the tool" in line for line in log), log
    assert (run["turns"], run["toolCalls"]) == (2, 1)
    assert Decimal(run["costUsd"]) > 0
    assert any("Analyze the dependency list for optio" in prompt for prompt in model.prompts)
    assert SECRETS["ANTHROPIC_API_KEY"] not in "\n".join(log)


@pytest.mark.timeout(120)
def test_a_webhook_that_nobody_signed_is_refused(optio: Installed) -> None:
    status, _ = optio.request("/api/hooks/security-scan", b"{}", {"X-Optio-Signature": "0" * 64})

    assert status == 401


@pytest.mark.timeout(400)
def test_no_run_is_lost_or_doubled_when_pods_are_killed_and_deployments_rolled(optio: Installed) -> None:
    runs = {f"w{n}": optio.started("slow", {"WHO": f"w{n}"}) for n in range(8)}
    eventually(lambda: optio.log(runs["w0"]), within=60, what="the first agent")
    kubectl("-n", "optio", "delete", optio.pods("worker")[0], "--grace-period=0", "--force", "--wait=false")
    kubectl("-n", "optio", "delete", "pod/optio-redis-0", "--grace-period=0", "--force", "--wait=false")
    runs |= {f"x{n}": optio.started("slow", {"WHO": f"x{n}"}) for n in range(4)}
    kubectl("-n", "optio", "rollout", "restart", "deployment/optio-server", "deployment/optio-worker")
    for n in range(4):
        status, accepted = optio.hook("slow", "SLOW_SECRET", {"who": f"y{n}"})
        assert status == 202, accepted
        runs[f"y{n}"] = accepted["runId"]

    ended = {who: optio.until_ended(run_id, within=180) for who, run_id in runs.items()}

    assert {who: (run["state"], run["output"]) for who, run in ended.items()} == {
        who: ("completed", f"begun\nhello {who}") for who in runs
    }
    # What a worker had claimed and not begun is claimed again; no agent ran twice.
    assert {who: optio.log(run_id).count("begun") for who, run_id in runs.items()} == dict.fromkeys(runs, 1)
    optio.until_ready()
    eventually(
        lambda: not kubectl("-n", "optio-runs", "get", "pods", "-l", "optio.dev/role=attempt", "-o", "name").strip(),
        within=60,
        what="an empty namespace",
    )


# What each part may do


def can_i(account: str, namespace: str) -> str:
    """`kubectl auth can-i --list`, whose order differs from call to call."""
    head, *lines = kubectl("auth", "can-i", "--list", f"--as={account}", "-n", namespace).splitlines()
    return "\n".join(re.sub(r" {2,}", "  ", line).rstrip() for line in [head, *sorted(lines)]) + "\n"


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("account", "namespace", "golden"),
    [
        (WORKER, "optio-runs", "can-i-worker.txt"),
        # No more than anybody.
        (WORKER, "optio", "can-i-nothing.txt"),
        (WORKER, "kube-system", "can-i-nothing.txt"),
        ("system:serviceaccount:optio:optio", "optio-runs", "can-i-nothing.txt"),
        ("system:serviceaccount:optio:optio", "optio", "can-i-nothing.txt"),
        ("system:serviceaccount:optio-runs:default", "optio-runs", "can-i-nothing.txt"),
    ],
)
def test_an_account_may_do_what_its_golden_file_says(optio: Installed, account: str, namespace: str, golden: str) -> None:
    assert can_i(account, namespace) == (GOLDEN / golden).read_text()


@pytest.mark.timeout(120)
def test_nobody_but_the_worker_has_a_token_of_the_cluster(optio: Installed) -> None:
    look = ["--", "ls", "/var/run/secrets/kubernetes.io/serviceaccount/token"]
    for part in ("deployment/optio-server", "deployment/optio-scheduler", "deployment/optio-egress", "statefulset/optio-redis"):
        done = subprocess.run([KUBECTL, "-n", "optio", "exec", part, *look], capture_output=True, text=True, timeout=60)
        assert "No such file" in done.stderr, (part, done)
    kubectl("-n", "optio", "exec", "deployment/optio-worker", *look)


@pytest.mark.timeout(120)
def test_the_doctor_in_the_workers_pod_finds_nothing_wrong_with_the_cluster(optio: Installed) -> None:
    said = optio.cli("doctor", "--cluster", "-v").partition("\nSETTING")[0]

    print(f"\n{said}")
    for line in (
        f"ok    cluster       Kubernetes v1.34.4 answers, to {WORKER}",
        "ok    permissions   all 16 that runs need in optio-runs",
        "ok    permissions   none of 13 that it must not have",
        "ok    security      pods of optio-runs must be `restricted`",
        "ok    admission     the pod of a run would be admitted",
        "ok    egress        the proxy is optio-egress.optio.svc",
    ):
        assert line in said
    assert "FAIL" not in said


# What each part reaches


@pytest.mark.timeout(120)
@pytest.mark.parametrize("part", REACHES)
def test_a_part_reaches_what_it_needs_and_nothing_else(optio: Installed, part: str) -> None:
    # A server that asks the Service of servers may be led to itself.
    targets = {DATABASE, REDIS, API, "optio-egress:3128", "optio-egress:3129", f"{MODEL[0]}:{MODEL[1]}"}
    targets |= set() if part == "server" else {"optio-server:8000"}
    said = kubectl("-n", "optio", "exec", f"deployment/optio-{part}", "--", "python3", "-c", LOOK, *targets)

    found = dict(line.split(" ") for line in said.splitlines())
    assert set(found) == targets
    assert {target for target, state in found.items() if state == "open"} == REACHES[part]
