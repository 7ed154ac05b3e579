"""Two teams in the cluster of KUBECONFIG, installed as the guide says: workers and a namespace each; nothing crosses."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from optio.executors.pods import manifest
from tests.deploy.installed import DEPLOY, MODEL, OVERLAY, Installed, given, kubectl
from tests.deploy.test_installed import GOLDEN, LOOK, can_i, model_of
from tests.runtimes.real_agents import Model, model_server, task_text
from tests.support import eventually

TEAMS = {"a": "runs-a", "b": "runs-b"}
TASK = """\
type: standalone
name: Team {team} hello
agentRuntime: command
command: 'printf %s "$KEY" | sha256sum; sleep 2'
promptTemplate: "hello"
maxRetries: 0
environment:
  image: optio.test/debian:bookworm
  secrets: [KEY]
  network: {{egress: []}}
  resources: {{requests: {{cpu: 50m}}, limits: {{memory: 64Mi}}}}
"""


def key_of(team: str) -> str:
    return f"sk-of-the-team-{team}-0123456789"


class Teams(Installed):
    """The overlay of the tests with a directory for each team, as the guide has them beside one's own."""

    def start(self) -> None:
        kubectl("apply", "-f", "-", data=kubectl("create", "namespace", "optio", "--dry-run=client", "-o", "yaml"))
        for team in TEAMS:
            given(f"secret generic optio-task-secrets-{team}", f"--from-literal=KEY=that of {team}")
            given(f"secret generic optio-gateway-secrets-{team}", f"--from-literal=ANTHROPIC_API_KEY={key_of(team)}")
        super().start()

    def until_ready(self) -> None:
        super().until_ready()
        for team in TEAMS:
            for part in ("worker", "gateway"):
                kubectl("-n", "optio", "rollout", "status", f"deployment/optio-{part}-{team}", "--timeout=180s", within=200)

    def remove(self) -> None:
        super().remove()
        kubectl("delete", "namespace", *TEAMS.values(), "--ignore-not-found", "--timeout=180s", within=200)


def overlay(directory: Path) -> Path:
    for each in (DEPLOY, OVERLAY):
        shutil.copytree(each, directory / each.relative_to(DEPLOY.parents[1]))
    for team, namespace in TEAMS.items():
        home = {"name": "optio-team", "annotations": {"config.kubernetes.io/local-config": "true"}}
        data = {"team": team, "namespace": namespace}
        files = {
            "team": {"apiVersion": "v1", "kind": "ConfigMap", "metadata": home, "data": data},
            "kustomization": {"resources": ["team.yaml"], "components": ["../../deploy/kubernetes/components/team"]},
        }
        (directory / "teams" / team).mkdir(parents=True)
        for name, found in files.items():
            (directory / "teams" / team / f"{name}.yaml").write_text(yaml.safe_dump(found))
    made = directory / OVERLAY.relative_to(DEPLOY.parents[1])
    whole = yaml.safe_load((made / "kustomization.yaml").read_text())
    whole["resources"] += [f"../../../teams/{team}" for team in TEAMS]
    # Of all workers and gateways one is enough.
    owners = ("", *(f"-{team}" for team in TEAMS))
    whole["replicas"] = [{"name": f"optio-{part}{own}", "count": 1} for part in ("worker", "gateway") for own in owners]
    (made / "kustomization.yaml").write_text(yaml.safe_dump(whole))
    return made


@pytest.fixture(scope="module")
def model() -> Iterator[Model]:
    with model_server(*MODEL) as running:
        yield running


@pytest.fixture(scope="module")
def optio(tmp_path_factory: pytest.TempPathFactory, model: Model) -> Iterator[Teams]:
    """Stays when OPTIO_TEST_KEEP is set, for a look by hand."""
    directory = tmp_path_factory.mktemp("teams")
    patterns = {f"team-{team}-*": namespace for team, namespace in TEAMS.items()}
    tasks = {f"team-{team}-hello.yaml": TASK.format(team=team) for team in TEAMS}
    for team in TEAMS:
        text = task_text("claude-code", model_of(team, "tool-3"), f"id: team-{team}-ask\nmaxRetries: 0\n", egress=[])
        tasks[f"team-{team}-ask.yaml"] = text
    tasks["_policy.yaml"] = yaml.safe_dump({"type": "policy", "namespaces": patterns})
    made = Teams(directory, tasks, {"NONE": "none"}, overlay=overlay(directory))
    try:
        made.start()
        yield made
    finally:
        made.close()
        if not os.environ.get("OPTIO_TEST_KEEP"):
            made.remove()


@pytest.mark.timeout(600)
def test_the_runs_of_each_team_end_in_its_own_namespace_by_its_own_worker_with_its_own_secrets(optio: Teams) -> None:
    runs = {team: optio.started(f"team-{team}-hello") for team in TEAMS}

    def where() -> dict[str, set[str]]:
        """The namespaces in which there are pods of a run."""
        found = json.loads(kubectl("get", "pods", "-A", "-l", manifest.RUN, "-o", "json"))["items"]
        meta = [each["metadata"] for each in found]
        return {team: {each["namespace"] for each in meta if each["labels"][manifest.RUN] == run} for team, run in runs.items()}

    eventually(lambda: all(where().values()), within=60, what="the pods of both")
    namespaces = where()
    ended = {team: optio.until_ended(run) for team, run in runs.items()}

    said = {own: kubectl("-n", "optio", "logs", f"deployment/optio-worker{own}", "-c", "optio") for own in ("", "-a", "-b")}
    assert namespaces == {team: {namespace} for team, namespace in TEAMS.items()}
    for team, run in ended.items():
        assert (run["state"], run["reason"]) == ("completed", "ok"), run
        where_it_was, said_it = optio.log(runs[team])
        assert where_it_was.startswith(f"pod {TEAMS[team]}/")
        assert said_it == f"{hashlib.sha256(f'that of {team}'.encode()).hexdigest()}  -"
        assert {own for own, log in said.items() if runs[team] in log} == {f"-{team}"}


@pytest.mark.timeout(400)
def test_the_agents_of_a_team_reach_its_own_gateway_which_has_its_own_key(optio: Teams, model: Model) -> None:
    def held() -> set[str]:
        asking = {each.get("model") for each in model.requests() if each.get("held")}
        return {team for team in TEAMS if model_of(team, "tool-3") in asking}

    model.hold()
    runs = {team: optio.started(f"team-{team}-ask") for team in TEAMS}
    eventually(lambda: held() == set(TEAMS), within=180, what="an open call of each")
    services = {team: f"optio-gateway{team}" for team in ("", *(f"-{team}" for team in TEAMS))}
    targets = {
        own: kubectl("-n", "optio", "get", "service", name, "-o", "jsonpath={.spec.clusterIP}") + ":8100"
        for own, name in services.items()
    }
    reached = {}
    for team, namespace in TEAMS.items():
        (pod,) = kubectl("-n", namespace, "get", "pods", "-l", f"{manifest.RUN}={runs[team]}", "-o", "name").split()
        said = kubectl("-n", namespace, "exec", pod, "-c", "agent", "--", "python3", "-c", LOOK, *targets.values())
        reached[team] = [own for own, line in zip(targets, said.splitlines(), strict=True) if line.endswith(" open")]
    model.release()
    ended = {team: optio.until_ended(run) for team, run in runs.items()}

    assert reached == {team: [f"-{team}"] for team in TEAMS}
    for team, run in ended.items():
        calls = [each for each in model.requests() if each["model"] == model_of(team, "tool-3")]
        assert run["state"] == "completed", run
        assert {each["headers"]["x-api-key"] for each in calls} == {key_of(team)}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("team", TEAMS)
def test_the_account_of_a_team_may_do_in_its_own_namespace_what_a_worker_may_and_elsewhere_nothing(
    optio: Teams, team: str
) -> None:
    account, other = f"system:serviceaccount:optio:optio-worker-{team}", next(each for each in TEAMS if each != team)

    assert can_i(account, TEAMS[team]) == (GOLDEN / "can-i-worker.txt").read_text()
    assert can_i(account, TEAMS[other]) == can_i(account, "optio-runs") == (GOLDEN / "can-i-nothing.txt").read_text()


@pytest.mark.timeout(120)
@pytest.mark.parametrize("team", TEAMS)
def test_the_doctor_in_the_pod_of_a_teams_worker_finds_nothing_wrong_with_the_cluster(optio: Teams, team: str) -> None:
    said = optio.cli("doctor", "--cluster", "-v", part=f"worker-{team}").partition("\nSETTING")[0]

    assert f"to system:serviceaccount:optio:optio-worker-{team}" in said
    assert f"all 18 that runs need in {TEAMS[team]}" in said
    assert f"a gateway answers at http://optio-gateway-{team}.optio.svc:8100" in said
    assert "FAIL" not in said
