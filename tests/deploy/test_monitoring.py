"""`deploy/monitoring/`: Prometheus takes rules and queries, they ask for what servers show, and a failed run raises its alert.

Prometheus is Debian's. A Grafana is not started here: its own types read the dashboard.
"""

import copy
import enum
import importlib
import json
import re
import subprocess
import types
import typing
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.test_kubernetes import kind, policies
from tests.pages import DOCS, page
from tests.support import COMMAND_TASK, ROOT, Dev, eventually, free_port
from tests.test_docs import metrics

MONITORING = ROOT / "deploy" / "monitoring"
RULES = [rule for group in yaml.safe_load((MONITORING / "optio.rules.yml").read_text())["groups"] for rule in group["rules"]]
DASHBOARD = json.loads((MONITORING / "grafana-dashboard.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
# What Grafana puts in the place of its variables.
VARIABLES = {"$task": ".*", "$__rate_interval": "2m"}
QUERIES = [target["expr"] for panel in PANELS for target in panel["targets"]]
YEARLY = "triggers: [{type: schedule, config: {cronExpression: '@yearly'}}]\n"
SPENDS = """
import json, os
with open(os.environ["OPTIO_RESULT_FILE"], "a") as file:
    print(json.dumps({"type": "usage", "model": "m", "input": 10, "output": 5, "costUsd": "0.25"}), file=file)
"""


def filled(query: str) -> str:
    for name, value in VARIABLES.items():
        query = query.replace(name, value)
    assert "$" not in query, query
    return query


def promtool(*words: str) -> str:
    done = subprocess.run(["promtool", *words], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# Rules


def test_prometheus_takes_the_rules_and_the_configuration() -> None:
    assert f"SUCCESS: {len(RULES)} rules found" in promtool(
        "check", "rules", "--lint-fatal", str(MONITORING / "optio.rules.yml")
    )
    promtool("check", "config", str(MONITORING / "prometheus.yml"))


def test_each_rule_is_raised_by_its_series_and_by_no_others() -> None:
    cases = ROOT / "tests" / "deploy" / "monitoring" / "rules.test.yml"
    promtool("test", "rules", str(cases))

    raised = {
        case["alertname"]
        for test in yaml.safe_load(cases.read_text())["tests"]
        for case in test["alert_rule_test"]
        if case["exp_alerts"]
    }
    assert raised == {rule["alert"] for rule in RULES}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: str(rule["alert"]))
def test_an_alert_has_a_summary_a_severity_and_a_section_that_says_what_to_do(rule: dict[str, Any]) -> None:
    address = urllib.parse.urlsplit(rule["annotations"]["runbook_url"])

    assert rule["labels"]["severity"] in ("warning", "critical")
    assert rule["annotations"]["summary"]
    assert address.netloc == "optio.example.com"
    assert address.path == "/docs/operating/alerts.html"
    assert (DOCS / "operating" / "alerts.md").exists()
    assert address.fragment == rule["alert"].lower()
    assert f"\n### {rule['alert']}\n" in page("operating/alerts.md")


def test_the_page_has_no_section_of_another_alert() -> None:
    assert re.findall(r"^### (\w+)$", page("operating/alerts.md"), re.M) == [rule["alert"] for rule in RULES]


# Names


def base(name: str) -> str:
    """The metric of a series of it."""
    return re.sub(r"_(bucket|count|sum)$", "", name)


@pytest.mark.parametrize("query", [*(rule["expr"] for rule in RULES), *QUERIES])
def test_a_query_asks_for_metrics_and_labels_that_exist(query: str) -> None:
    known = metrics()
    asked = re.findall(r"(optio_\w+)(?:\{([^}]*)\})?", query)

    assert asked
    every: set[str] = {"le", "instance"}
    for name, filters in asked:
        every |= known[base(name)]
        assert set(re.findall(r"(\w+)=", filters)) <= known[base(name)], query
    for labels in re.findall(r"by \(([^)]*)\)", query):
        assert set(labels.split(", ")) <= every, query


# The dashboard


def misfits(value: Any, kind: Any, where: str) -> Iterator[str]:
    """What is no value of this type; its unions have at most one member that is a class of Grafana's."""
    arguments = typing.get_args(kind)
    match typing.get_origin(kind) or kind:
        case typing.Union | types.UnionType:
            found = [list(misfits(value, each, where)) for each in arguments]
            yield from [] if [] in found else max(found, key=len)
        case typing.Literal:
            yield from [] if value in arguments else [f"{where}: {value!r}"]
        case type() as plain if issubclass(plain, enum.Enum):
            yield from [] if value in list(plain) else [f"{where}: {value!r} is no {plain.__name__}"]
        case type() as plain if plain is float:
            yield from [] if isinstance(value, (int, float)) else [f"{where}: {value!r} is no number"]
        case type() as plain if not isinstance(value, plain) or (plain is int and isinstance(value, bool)):
            yield f"{where}: {value!r} is no {plain.__name__}"
        case _ if isinstance(value, list) and arguments:
            for index, each in enumerate(value):
                yield from misfits(each, arguments[0], f"{where}[{index}]")
        case _ if isinstance(value, dict) and arguments:
            for name, each in value.items():
                yield from misfits(each, arguments[1], f"{where}.{name}")
        case _ if hasattr(value, "to_json"):
            for name, each in typing.get_type_hints(type(value)).items():
                if getattr(value, name, None) is not None:
                    yield from misfits(getattr(value, name), each, f"{where}.{name}")


def read_by_grafana(document: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """What Grafana's types keep of a dashboard, and what they say of its values."""
    models, plugins, encoder = (
        importlib.import_module(f"grafana_foundation_sdk.{name}") for name in ("models.dashboard", "cog.plugins", "cog.encoder")
    )
    plugins.register_default_plugins()
    read = models.Dashboard.from_json(copy.deepcopy(document))
    return json.loads(encoder.JSONEncoder().encode(read)), list(misfits(read, models.Dashboard, "dashboard"))


def lost(before: Any, after: Any, where: str = "") -> Iterator[str]:
    if isinstance(before, dict) and isinstance(after, dict):
        for name, value in before.items():
            yield from lost(value, after[name], f"{where}/{name}") if name in after else [f"{where}/{name}"]
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for index, value in enumerate(before):
            yield from lost(value, after[index], f"{where}/{index}")
    elif before != after:
        yield where


def test_grafana_knows_every_key_of_the_dashboard_and_its_type() -> None:
    kept, wrong = read_by_grafana(DASHBOARD)

    assert list(lost(DASHBOARD, kept)) == []
    assert wrong == []


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        (("titel",), "x", "/titel"),
        (("panels", 1, "optionss"), {}, "/panels/1/optionss"),
        (("panels", 1, "fieldConfig", "defaults", "unitt"), "s", "/panels/1/fieldConfig/defaults/unitt"),
        (("panels", 1, "options", "colour"), "red", "/panels/1/options/colour"),
        (("panels", 1, "targets", 0, "exprr"), "up", "/panels/1/targets/0/exprr"),
        (("panels", 1, "gridPos", "w"), "wide", "panels[1].grid_pos.w: 'wide' is no int"),
        (("panels", 1, "title"), 7, "panels[1].title: 7 is no str"),
        (("time", "from"), 6, "dashboard.time.from_val: 6 is no str"),
    ],
)
def test_grafana_finds_a_mistake_in_a_dashboard(path: tuple[str | int, ...], value: object, says: str) -> None:
    broken = copy.deepcopy(DASHBOARD)
    *way, last = path
    place: Any = broken
    for step in way:
        place = place[step]
    place[last] = value

    kept, wrong = read_by_grafana(broken)

    assert any(says in each for each in [*lost(broken, kept), *wrong])


def test_the_dashboard_has_what_grafana_needs_of_it() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    rows = [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"]

    assert len(ids) == len(set(ids))
    assert rows == ["Spend", "Outcomes", "Queue", "Latency", "Pools", "Disk and parts"]
    assert {variable["name"] for variable in DASHBOARD["templating"]["list"]} == {"datasource", "task"}
    cells: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        covered = {
            (x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24, panel["title"]
        assert not covered & cells, panel["title"]
        cells |= covered
    for panel in PANELS:
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert [target["refId"] for target in panel["targets"]] == [*"ABCDEF"[: len(panel["targets"])]]
        for target in panel["targets"]:
            labels = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
            grouped = set(", ".join(re.findall(r"by \(([^)]*)\)", target["expr"])).split(", "))
            assert labels <= grouped, panel["title"]


# A real Prometheus, at a real server


class Prometheus:
    """Debian's Prometheus in a directory, which scrapes one server each second."""

    def __init__(self, directory: Path, dev: Dev) -> None:
        self.port = free_port()
        rules = (MONITORING / "optio.rules.yml").read_text()
        (directory / "optio.rules.yml").write_text(rules)
        target = {"targets": [f"127.0.0.1:{dev.port}"]}
        token = dev.credentials["Authorization"].removeprefix("Bearer ")
        scrape = {"job_name": "optio", "authorization": {"credentials": token}, "static_configs": [target]}
        config = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": ["optio.rules.yml"],
            "scrape_configs": [scrape],
        }
        (directory / "prometheus.yml").write_text(yaml.safe_dump(config))
        with (directory / "prometheus.log").open("wb") as log:
            self.process = subprocess.Popen(
                [
                    "prometheus",
                    f"--config.file={directory / 'prometheus.yml'}",
                    f"--storage.tsdb.path={directory / 'series'}",
                    f"--web.listen-address=127.0.0.1:{self.port}",
                ],
                stdout=log,
                stderr=log,
            )

    def ask(self, path: str, **words: str) -> Any:
        address = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(words)}"
        with urllib.request.urlopen(address, timeout=10) as answer:
            return json.load(answer)["data"]

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(20)


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """A server that ran one task well and one badly, and a Prometheus that saw it."""
    directory = tmp_path_factory.mktemp("watched")
    dev = Dev(directory / "optio")
    dev.write(
        "well.yaml", COMMAND_TASK.format(name="Well", command=json.dumps(["python3", "-c", SPENDS])) + 'budgetUsd: "1.00"\n'
    )
    dev.write("badly.yaml", COMMAND_TASK.format(name="Badly", command='["/bin/false"]') + f"maxRetries: 0\n{YEARLY}")
    dev.start()
    prometheus = None
    try:
        prometheus = Prometheus(directory, dev)
        eventually(lambda: answered(prometheus), what="a first scrape")
        for task in ("well", "badly"):
            dev.until_ended(dev.post(f"/api/tasks/{task}/runs").json["runId"])
        eventually(lambda: prometheus.ask("query", query='optio_runs_total{state="failed"}')["result"], what="the failed run")
        yield prometheus
    finally:
        if prometheus is not None:
            prometheus.stop()
        dev.stop()


def answered(prometheus: Prometheus) -> bool:
    try:
        return bool(prometheus.ask("query", query="optio_build_info")["result"])
    except OSError:
        return False


# They need a cluster, a schedule, a webhook, a second try or an agent.
NOT_SEEN = {
    "optio_model_calls_total",
    *("optio_pool_places", "optio_no_room_total", "optio_slots_total", "optio_deliveries_total", "optio_retries_total"),
}


def test_every_series_that_is_asked_for_is_there_after_a_run(watched: Prometheus) -> None:
    seen = set(watched.ask("label/__name__/values"))
    asked = {name for query in [*QUERIES, *(rule["expr"] for rule in RULES)] for name in re.findall(r"optio_\w+", query)}

    assert asked - seen - NOT_SEEN == set()
    assert asked - seen >= NOT_SEEN


@pytest.mark.parametrize("query", QUERIES)
def test_prometheus_answers_a_query_of_the_dashboard(watched: Prometheus, query: str) -> None:
    answer = watched.ask("query", query=filled(query))

    assert answer["resultType"] == "vector"
    names = set(re.findall(r"optio_\w+", query))
    # A rate needs two scrapes of a series, which the test does not wait for.
    if not names & NOT_SEEN and "rate(" not in query and "increase(" not in query:
        assert answer["result"], query


@pytest.mark.parametrize(
    ("alert", "summary"),
    [
        ("OptioRunFailed", "A run of badly failed: exit_code"),
        ("OptioScheduleFails", "The last run of badly, which has a schedule, failed"),
    ],
)
def test_the_first_failed_run_raises_its_alert(watched: Prometheus, alert: str, summary: str) -> None:
    def failed() -> list[Any]:
        # Others may come as well: of a disk of this machine that is nearly full.
        return [each for each in watched.ask("alerts")["alerts"] if each["labels"]["alertname"] == alert]

    (found,) = eventually(failed, what="the alert")

    assert (found["labels"]["task"], found["state"]) == ("badly", "firing")
    assert found["annotations"]["summary"] == summary


# The cluster


def test_a_monitor_of_pods_means_those_that_show_metrics_and_whom_the_network_lets_in() -> None:
    (monitor,) = kind("PodMonitor")
    (policy,) = [each for each in policies() if each["metadata"]["name"] == "optio-metrics"]
    (part,) = yaml.safe_load_all((ROOT / "deploy/kubernetes/components/part/part.yaml").read_text())
    ports = {each["name"]: each["containerPort"] for each in part["spec"]["template"]["spec"]["containers"][0]["ports"]}
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]

    assert monitor["spec"]["selector"] == policy["spec"]["podSelector"]
    assert monitor["metadata"]["namespace"] == policy["metadata"]["namespace"]
    assert [{"protocol": "TCP", "port": ports[endpoint["port"]]}] == policy["spec"]["ingress"][0]["ports"]
    bases = "".join(path.read_text() for path in (ROOT / "deploy/kubernetes").glob("*/**/kustomization.yaml"))
    assert "components/monitoring" not in bases, "it is off by default: its kind needs the operator"


def test_the_command_of_the_page_makes_rules_for_the_operator() -> None:
    (command,) = re.findall(r"^```sh\n(\{.*?)```$", page("operating/alerts.md"), re.M | re.S)
    script = command.replace("| kubectl apply -f -", "")
    done = subprocess.run(["sh", "-ec", script], cwd=ROOT, capture_output=True, text=True, check=True)

    made = yaml.safe_load(done.stdout)
    assert made["kind"] == "PrometheusRule"
    assert [rule["alert"] for rule in made["spec"]["groups"][0]["rules"]] == [rule["alert"] for rule in RULES]
