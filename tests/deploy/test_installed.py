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
from tests.runtimes.real_agents import AGENTS, DONE, KEYS, Model, model_server, task_text
from tests.support import ROOT, eventually

GOLDEN = ROOT / "tests" / "deploy" / "golden"
WORKER = "system:serviceaccount:optio:optio-worker"
SECRETS = {"SECURITY_SCAN_SECRET": "whsec_of-the-cluster", "SLOW_SECRET": "another-of-the-cluster"}
KEY = "sk-of-the-cluster-0123456789"
# An agent that is led through the gateway needs no host.
CLOSED = "  network: {egress: []}\n"
CALL_USD = Decimal("0.00429")  # 1,200 fresh tokens, 300 from the cache and 40 written, at the price of claude-sonnet-4-5
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
GATEWAY, SERVICE = "optio-gateway:8100", f"{MODEL[0]}:{MODEL[1]}"
REACHES = {
    "server": {DATABASE, REDIS},
    "scheduler": {DATABASE, REDIS},
    "worker": {DATABASE, REDIS, API, GATEWAY},
    "gateway": {DATABASE, REDIS, SERVICE},
    # What is public, and nothing of this cluster.
    "egress": set[str](),
}


def seed() -> str:
    """The task of the document that this project implements, as `examples/` has it."""
    text = (ROOT / "examples" / "weekly-security-report" / "tasks.d" / "weekly-security-report.yaml").read_text()
    # Its own tests stay at home, with their payloads.
    text = text.partition("tests:\n")[0]
    assert "  secrets: [ANTHROPIC_API_KEY]\n" in text
    text = text.replace("  secrets: [ANTHROPIC_API_KEY]\n", f"  secrets: [ANTHROPIC_API_KEY]\n{CLOSED}")
    return text.replace("model: sonnet\n", f"model: {model_of('seed', 'tool')}\n")


def model_of(user: str, scenario: str) -> str:
    """A model with a list price, whose name says who asks it and what it plays."""
    return f"claude-sonnet-4-5-{user}-stub-{scenario}"


@pytest.fixture(scope="module")
def model() -> Iterator[Model]:
    with model_server(*MODEL) as running:
        yield running


@pytest.fixture(scope="module")
def optio(tmp_path_factory: pytest.TempPathFactory, model: Model) -> Iterator[Installed]:
    """Stays when OPTIO_TEST_KEEP is set, for a look by hand."""
    agents = {
        f"{agent}.yaml": task_text(agent, model_of(agent, "tool"), f"id: {agent}\nmaxRetries: 0\n", egress=[])
        for agent in AGENTS
    }
    killed = task_text("claude-code", model_of("killed", "tool-3"), "id: killed\nmaxRetries: 0\n", egress=[])
    tasks = {"weekly-security-report.yaml": seed(), "slow.yaml": SLOW, "killed.yaml": killed, **agents}
    made = Installed(tmp_path_factory.mktemp("installed"), tasks, SECRETS, keys=dict.fromkeys(KEYS.values(), KEY))
    try:
        made.start()
        yield made
    finally:
        made.close()
        if not os.environ.get("OPTIO_TEST_KEEP"):
            made.remove()


@pytest.mark.timeout(400)
def test_a_signed_webhook_starts_a_real_agent_in_a_pod_whose_log_is_live_and_whose_cost_is_known(
    optio: Installed, model: Model
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
    requests = [each for each in model.requests() if each.get("model") == model_of("seed", "tool")]
    assert run["output"] == DONE
    assert "hi" in log
    assert (run["turns"], run["toolCalls"]) == (2, 1)
    assert Decimal(run["costUsd"]) == CALL_USD * len(requests)
    assert any("Analyze the dependency list for optio" in each["prompt"] for each in requests)


@pytest.mark.timeout(600)
def test_each_agent_finds_the_gateway_by_its_name_and_costs_what_its_model_served(optio: Installed, model: Model) -> None:
    runs = {agent: optio.started(agent) for agent in AGENTS}

    ended = {agent: optio.until_ended(run_id, within=240) for agent, run_id in runs.items()}

    for agent, run in ended.items():
        requests = [each for each in model.requests() if each.get("model") == model_of(agent, "tool")]
        print(f"{agent:12} {run['state']} {run['reason']}, {len(requests)} calls, ${run['costUsd']}")
        assert (run["state"], run["output"]) == ("completed", DONE), (agent, run["message"], optio.log(run["id"]))
        assert Decimal(run["costUsd"]) == CALL_USD * len(requests)
        assert all({KEY, f"Bearer {KEY}"} & set(each["headers"].values()) for each in requests)


@pytest.mark.timeout(400)
def test_gateways_that_are_killed_end_no_run(optio: Installed, model: Model) -> None:
    model.reset()
    model.hold()
    run_id = optio.started("killed")
    eventually(lambda: any(each.get("held") for each in model.requests()), within=120, what="a call that is open")

    kubectl("-n", "optio", "delete", *optio.pods("gateway"), "--grace-period=0", "--force", "--wait=false")
    eventually(
        lambda: sum("held" in each for each in model.requests()) > 1, within=120, what="the same call by another gateway"
    )
    model.release()
    run = optio.until_ended(run_id, within=180)

    print(f"{run['state']} {run['reason']}, ${run['costUsd']}, {len(model.requests())} calls")
    assert (run["state"], run["output"]) == ("completed", DONE), (run["message"], optio.log(run_id))
    optio.until_ready()


@pytest.mark.timeout(120)
def test_no_part_but_the_gateway_has_the_keys_of_model_services(optio: Installed) -> None:
    look = ("--", "grep", "-rls", KEY, "/run/optio", "/proc/1/environ")
    for part in ("server", "scheduler", "worker"):
        done = subprocess.run(
            [KUBECTL, "-n", "optio", "exec", f"deployment/optio-{part}", "-c", "optio", *look],
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert (done.stdout, done.returncode) == ("", 1), (part, done)
    assert KEY not in kubectl("get", "pods", "-A", "-o", "yaml")
    assert "ANTHROPIC_API_KEY" in kubectl("-n", "optio", "exec", "deployment/optio-gateway", "-c", "optio", *look)


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
    for part in (*(f"deployment/optio-{each}" for each in REACHES if each != "worker"), "statefulset/optio-redis"):
        done = subprocess.run([KUBECTL, "-n", "optio", "exec", part, *look], capture_output=True, text=True, timeout=60)
        assert "No such file" in done.stderr, (part, done)
    kubectl("-n", "optio", "exec", "deployment/optio-worker", *look)


@pytest.mark.timeout(120)
def test_the_doctor_in_the_workers_pod_finds_nothing_wrong_with_the_cluster(optio: Installed) -> None:
    said = optio.cli("doctor", "--cluster", "-v").partition("\nSETTING")[0]

    print(f"\n{said}")
    for line in (
        f"ok    cluster       Kubernetes v1.34.4 answers, to {WORKER}",
        "ok    permissions   all 18 that runs need in optio-runs",
        "ok    permissions   none of 13 that it must not have",
        "ok    security      pods of optio-runs must be `restricted`",
        "ok    admission     the pod of a run would be admitted",
        "ok    egress        the proxy is optio-egress.optio.svc",
        "ok    gateway       a gateway answers at http://optio-gateway.optio.svc:8100",
        "ok    secret        ANTHROPIC_API_KEY is read by the gateway alone, for ",
    ):
        assert line in said
    assert "FAIL" not in said


# What each part reaches


@pytest.mark.timeout(120)
@pytest.mark.parametrize("part", REACHES)
def test_a_part_reaches_what_it_needs_and_nothing_else(optio: Installed, part: str) -> None:
    # Who asks the Service of its own pods may be led to itself.
    targets = {DATABASE, REDIS, API, "optio-egress:3128", "optio-egress:3129", SERVICE}
    targets |= {"optio-server:8000", GATEWAY} - {"server": {"optio-server:8000"}, "gateway": {GATEWAY}}.get(part, set())
    said = kubectl("-n", "optio", "exec", f"deployment/optio-{part}", "--", "python3", "-c", LOOK, *targets)

    found = dict(line.split(" ") for line in said.splitlines())
    assert set(found) == targets
    assert {target for target, state in found.items() if state == "open"} == REACHES[part]
