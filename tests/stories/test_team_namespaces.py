"""Two teams on a real cluster, made by the component of `deploy/kubernetes`: a namespace, a worker and an account each.

The workers are processes here, which know the cluster by their account's token and by nothing else.
"""

import json
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from optio.executors.pods import manifest
from tests.deploy.installed import DEPLOY, kubectl
from tests.deploy.test_installed import GOLDEN, can_i
from tests.executors.pods.api import Api
from tests.executors.pods.place import settings
from tests.support import Dev, eventually

_TASK = """\
type: standalone
name: {name}
agentRuntime: command
command: ["/bin/sh", "-c", "echo begun; sleep {seconds}; echo over"]
promptTemplate: "go"
maxRetries: 0
maxConcurrent: 3
{extra}
"""
_RUNS = 6


class Team:
    """A team's namespace and account, and the environment of its worker."""

    def __init__(self, directory: Path, name: str) -> None:
        self.name, mark = name, uuid.uuid4().hex[:6]
        self.namespace, self.parts = f"runs-{name}-{mark}", f"parts-{name}-{mark}"
        self.account = f"system:serviceaccount:{self.parts}:optio-worker-{name}"
        self._apply(directory / f"team-{name}")
        self.kubeconfig = directory / f"{name}.kubeconfig"
        token = kubectl("-n", self.parts, "create", "token", f"optio-worker-{name}", "--duration=1h").strip()
        known = json.loads(kubectl("config", "view", "--raw", "--minify", "-o", "json"))
        known["users"] = [{"name": "worker", "user": {"token": token}}]
        known["contexts"] = [{"name": "c", "context": {"cluster": known["clusters"][0]["name"], "user": "worker"}}]
        self.kubeconfig.write_text(yaml.safe_dump({**known, "current-context": "c"}))

    def _apply(self, directory: Path) -> None:
        """What the component makes, but for the parts that need images of ours."""
        shutil.copytree(DEPLOY, directory / "kubernetes")
        home = {"name": "optio-team", "annotations": {"config.kubernetes.io/local-config": "true"}}
        data = {"team": self.name, "namespace": self.namespace}
        (directory / "team.yaml").write_text(
            yaml.safe_dump({"apiVersion": "v1", "kind": "ConfigMap", "metadata": home, "data": data})
        )
        overlay = {"resources": ["team.yaml"], "components": ["kubernetes/components/team"]}
        (directory / "kustomization.yaml").write_text(yaml.safe_dump(overlay))
        made = kubectl("kustomize", str(directory)).replace("namespace: optio\n", f"namespace: {self.parts}\n")
        kinds = ("Namespace", "ServiceAccount", "Role", "RoleBinding")
        found = [each for each in yaml.safe_load_all(made) if each["kind"] in kinds]
        kubectl("create", "namespace", self.parts)
        kubectl("apply", "-f", "-", data=yaml.safe_dump_all(found))

    def remove(self) -> None:
        kubectl("delete", "namespace", self.namespace, self.parts, "--wait=false")


class Place:
    """A server, and a worker of each team; all of them processes on one data directory."""

    def __init__(self, directory: Path, teams: dict[str, Team], stack: ExitStack) -> None:
        self.teams, self._stack = teams, stack
        self.environ = settings(
            directory, f"t{uuid.uuid4().hex[:10]}", OPTIO_LEASE="3s", OPTIO_POD_START="60s", OPTIO_WRITES="deny"
        )
        self.server = Dev(directory, environ=self.environ, command="server")
        patterns = {f"team-{name}/*": team.namespace for name, team in teams.items()}
        self.write("_policy.yaml", yaml.safe_dump({"type": "policy", "namespaces": patterns}))
        token = self.server.cli("token", "create", "--role", "admin").stdout.strip()
        self.server.environ["OPTIO_TOKEN"] = self.server._token = token
        stack.callback(self.server.stop)

    def write(self, path: str, text: str) -> None:
        (self.server.tasks / path).parent.mkdir(exist_ok=True)
        (self.server.tasks / path).write_text(text)

    def worker(self, name: str) -> Dev:
        team = self.teams[name]
        own = {"OPTIO_TEAM_NAMESPACE": team.namespace, "KUBECONFIG": str(team.kubeconfig)}
        made = Dev(self.server.directory, environ={**self.environ, **own}, command="worker")
        made.output = self.server.directory / f"worker-{name}.out"
        made.start(ready=False)
        self._stack.callback(made.stop)
        return made

    def start(self, task: str, count: int) -> list[str]:
        found = []
        for _ in range(count):
            answer = self.server.post(f"/api/tasks/{task}/runs")
            assert answer.status == 202, answer.body
            found.append(str(answer.json["runId"]))
        return found

    def run(self, run_id: str) -> Any:
        return self.server.get(f"/api/workflow-runs/{run_id}").json

    def ended(self, runs: list[str]) -> list[Any]:
        return [self.server.until_ended(run_id, within=120) for run_id in runs]

    def log(self, run_id: str) -> list[str]:
        return [line["text"] for line in self.server.get(f"/api/workflow-runs/{run_id}/logs").json["items"]]


@pytest.fixture(scope="module")
def teams(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Team]]:
    directory = tmp_path_factory.mktemp("teams")
    made = {name: Team(directory, name) for name in ("a", "b")}
    yield made
    for each in made.values():
        each.remove()


@contextmanager
def place(teams: dict[str, Team], **tasks: str) -> Iterator[Place]:
    with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        made = Place(Path(directory), teams, stack)
        for name, extra in tasks.items():
            seconds, _, rest = extra.partition("|")
            text = _TASK.format(name=name, seconds=seconds, extra=rest)
            made.write(f"team-{name[0]}/{name}.yaml", text)
        made.server.start()
        for name in tasks:
            made.server.until_served(name)
        yield made


def pods(team: Team, place: Place) -> list[Any]:
    with Api(team.namespace) as api:
        return api.pods(f"{manifest.INSTALL}={place.environ['OPTIO_KUBE_INSTALL']}")


@pytest.mark.timeout(300)
def test_an_account_of_one_team_may_do_nothing_in_the_namespace_of_another(teams: dict[str, Team]) -> None:
    a, b = teams["a"], teams["b"]

    for one, other in ((a, b), (b, a)):
        assert can_i(one.account, one.namespace) == (GOLDEN / "can-i-worker.txt").read_text()
        for elsewhere in (other.namespace, one.parts, other.parts, "default"):
            assert can_i(one.account, elsewhere) == (GOLDEN / "can-i-nothing.txt").read_text()
    done = kubectl_as(a, "-n", b.namespace, "get", "pods")
    assert "Forbidden" in done, done


def kubectl_as(team: Team, *words: str) -> str:
    """What it says to the team's own token, an error."""
    with pytest.raises(AssertionError) as said:
        kubectl("--kubeconfig", str(team.kubeconfig), *words)
    return str(said.value)


@pytest.mark.timeout(400)
def test_runs_of_a_team_wait_for_its_worker_and_those_of_the_other_go_on(teams: dict[str, Team]) -> None:
    with place(teams, a1="1", b1="1", a2="1|warmPoolSize: 1\n") as here:
        here.worker("b")
        eventually(lambda: "b" in served(here), what="the worker of b")
        runs = {name: here.start(name, _RUNS) for name in ("a1", "b1")}

        ended = here.ended(runs["b1"])
        waiting = [here.run(run_id) for run_id in runs["a1"]]
        said = {
            "why": here.server.cli("runs", "why", runs["a1"][0]).stdout,
            "pool": here.server.cli("pool").stdout,
            "doctor": here.server.cli("doctor").stdout,
        }
        here.worker("a")
        ended += here.ended(runs["a1"])
        eventually(lambda: [pod for pod in pods(teams["a"], here) if pod["status"]["phase"] == "Running"], what="a warm pod")
        pools = here.server.get("/api/pools").json

    words = f"no worker takes runs of the namespace `{teams['a'].namespace}`"
    assert {(run["state"], run["waiting"]["reason"]) for run in waiting} == {("queued", "no_worker")}
    assert [name for name, text in said.items() if words not in text] == [], said
    assert f"start one with OPTIO_TEAM_NAMESPACE={teams['a'].namespace}" in said["why"]
    assert [(run["state"], run["attempt"]) for run in ended] == [("completed", 1)] * (2 * _RUNS)
    where = {(run["taskId"], run["attempts"][0]["namespace"]) for run in ended}
    assert where == {("a1", teams["a"].namespace), ("b1", teams["b"].namespace)}
    assert pools["unserved"] == []
    assert {item["place"].partition("/")[0] for item in pools["items"]} == {f"kubernetes:{teams['a'].namespace}"}
    assert pods(teams["b"], here) == []


def served(here: Place) -> set[str]:
    """The teams that have a worker."""
    lacking = {each["namespace"] for each in here.server.get("/api/pools").json["unserved"]}
    return {name for name, team in here.teams.items() if team.namespace not in lacking}


@pytest.mark.timeout(400)
def test_no_run_is_lost_doubled_or_taken_by_the_other_team_when_a_worker_dies(teams: dict[str, Team]) -> None:
    with place(teams, a1="12", b1="1") as here:
        first = here.worker("a")
        here.worker("b")
        running = here.start("a1", 3)
        eventually(lambda: all("begun" in here.log(run_id) for run_id in running), within=60, what="agents of a")
        first.kill()
        runs = {name: here.start(name, _RUNS) for name in ("b1", "a1")}

        ended = here.ended(runs["b1"])
        meanwhile = [here.run(run_id) for run_id in running]
        owners = {run["attempts"][0]["worker"] for run in meanwhile}
        here.worker("a")
        ended += here.ended([*running, *runs["a1"]])
        doubled = [run_id for run_id in running if here.log(run_id).count("begun") != 1]
        found_again = [run_id for run_id in running if any("found again by" in line for line in here.log(run_id))]

    assert {run["state"] for run in meanwhile} == {"running"}
    assert len(owners) == 1, "no worker of another namespace takes them over"
    assert [(run["state"], run["attempt"]) for run in ended] == [("completed", 1)] * (2 * _RUNS + 3)
    assert (doubled, sorted(found_again)) == ([], sorted(running))
