"""`deploy/kubernetes/`: what its files say, held against the code. What a cluster makes of them: test_installed.py."""

import os
import re
import shutil
import stat
import subprocess
from base64 import b64decode
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml

from optio import wiring
from optio.executors.base import Launch
from optio.executors.pods import manifest
from optio.executors.pods.address_report import GUARD
from optio.executors.pods.examine import NEEDED, SOONER
from optio.executors.pods.network import EGRESS, GATEWAY_LABEL, PRIVATE, PRIVATE6, PROXY_LABEL, PUBLIC6, gateway_of, proxy_of
from optio.model.pool import parse_quantity
from optio.settings import Settings, unknown_variables
from optio.version import __version__
from tests.support import ROOT

DEPLOY = ROOT / "deploy" / "kubernetes"
SOURCES = sorted([*DEPLOY.rglob("*.yaml"), *(ROOT / "tests" / "deploy" / "kubernetes").glob("*.yaml")])
MANIFESTS = [path for path in SOURCES if path.name != "kustomization.yaml" and "patch" not in path.name]
PARTS = ("optio-server", "optio-worker", "optio-scheduler", "optio-gateway")
Manifest = dict[str, Any]


def documents(path: Path) -> list[Manifest]:
    return [each for each in yaml.load_all(path.read_text(), yaml.CSafeLoader) if each]


ALL = {path: documents(path) for path in MANIFESTS}
# A patch of kustomize for our own parts, and so no object itself.
(PART,) = ALL[DEPLOY / "components" / "part" / "part.yaml"]
OBJECTS = [each for path, found in ALL.items() if path.name != "part.yaml" for each in found]
WORKLOADS = [each for each in OBJECTS if each["kind"] in ("Deployment", "StatefulSet")]


def name(manifest: Manifest) -> str:
    return str(manifest["metadata"]["name"])


def settings() -> dict[str, str]:
    lines = (DEPLOY / "base" / "optio.env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def pod(workload: Manifest) -> Manifest:
    found: Manifest = workload["spec"]["template"]["spec"]
    return found


def containers(workload: Manifest) -> list[Manifest]:
    return [*pod(workload).get("initContainers", []), *pod(workload)["containers"]]


def variables(workload: Manifest) -> dict[str, str]:
    """The variables of the container of a part, as Kubernetes fills them in: each may name those before it."""
    metadata, found = workload["metadata"], dict[str, str]()
    for each in pod(workload)["containers"][0].get("env", []):
        value = each.get("value")
        if value is None:
            path = each["valueFrom"]["fieldRef"]["fieldPath"]
            label = re.fullmatch(r"metadata\.labels\['(.+)'\]", path)
            value = labels(workload)[label[1]] if label else metadata[path.removeprefix("metadata.")]
        found[each["name"]] = re.sub(r"\$\((\w+)\)", lambda name: found[name[1]], value)
    return found


def requested(workload: Manifest, resource: str) -> Decimal:
    """What the scheduler reserves for one of its pods: the sum of its containers, or of its largest init container if more."""

    def of(container: Manifest) -> Decimal:
        return parse_quantity(container["resources"]["requests"][resource]) or Decimal(0)

    once = [each for each in pod(workload).get("initContainers", []) if each.get("restartPolicy") != "Always"]
    always = [each for each in containers(workload) if each not in once]
    return max([sum(map(of, always), Decimal(0)), *map(of, once)])


def labels(workload: Manifest) -> dict[str, str]:
    found: dict[str, str] = workload["spec"]["template"]["metadata"]["labels"]
    return found


def selected(selector: Manifest) -> set[str]:
    """Names of the workloads whose pods a selector means."""
    found = set()
    for each in WORKLOADS:
        wanted = dict(labels(each)) | {"app.kubernetes.io/part-of": "optio"}
        exact = all(wanted.get(key) == value for key, value in selector.get("matchLabels", {}).items())
        listed = all(wanted.get(rule["key"]) in rule["values"] for rule in selector.get("matchExpressions", []))
        if exact and listed:
            found.add(name(each))
    return found


def kind(*kinds: str) -> list[Manifest]:
    return [each for each in OBJECTS if each["kind"] in kinds]


# Settings and names


def test_every_setting_exists_and_its_value_can_be_used() -> None:
    found = settings()
    for workload in WORKLOADS:
        found |= {key: value for key, value in variables(workload).items() if key.startswith("OPTIO_")}

    assert list(unknown_variables(found)) == []
    loaded = Settings.load({key: value for key, value in found.items() if not key.endswith("_FILE")})
    assert loaded.executor == "kubernetes"
    assert loaded.writes == "deny"


def test_settings_of_the_overlays_exist() -> None:
    for path in SOURCES:
        if path.name == "kustomization.yaml":
            for each in documents(path)[0].get("configMapGenerator", []):
                assert list(unknown_variables(dict(line.split("=", 1) for line in each.get("literals", [])))) == [], path


def test_every_file_that_a_setting_names_is_mounted_where_it_is_used() -> None:
    files = {key: value for key, value in settings().items() if key.endswith(("_FILE", "_DIR"))}
    volumes = {each["mountPath"] for each in pod(PART)["containers"][0]["volumeMounts"]}
    for workload in WORKLOADS:
        if name(workload) in PARTS:
            (container,) = pod(workload)["containers"]
            mounts = volumes | {each["mountPath"] for each in container.get("volumeMounts", [])}
            own = variables(workload)
            # Where the secrets of tasks are not mounted none is asked for.
            needed = {key: value for key, value in (files | own).items() if key.endswith("_FILE")}
            assert needed
            assert {str(Path(value).parent) for value in needed.values()} <= mounts, name(workload)
            if name(workload) != "optio-scheduler":
                assert (files | own)["OPTIO_SECRETS_DIR"] in mounts


def test_images_are_pinned_and_ours_have_this_version() -> None:
    images = {each["image"] for each in [*containers(PART), *(c for w in WORKLOADS for c in containers(w))] if "image" in each}
    images |= {value for key, value in settings().items() if key.endswith("_IMAGE")}

    assert images == {
        f"optio:{__version__}",
        f"optio-egress:{__version__}",
        f"optio-agent:{__version__}",
        "postgres:17.6-bookworm",
        "redis:7.4.5-bookworm",
    }


def test_every_account_secret_and_config_map_that_is_named_is_made_by_somebody() -> None:
    accounts = {name(each) for each in kind("ServiceAccount")}
    made = set(re.findall(r"secret (optio-[a-z]+) ", (DEPLOY / "secrets.sh").read_text()))
    guide = (DEPLOY / "README.md").read_text()
    for workload in [*WORKLOADS, PART]:
        if workload is not PART:
            assert pod(workload)["serviceAccountName"] in accounts
        for volume in pod(workload).get("volumes", []):
            secret, config = volume.get("secret"), volume.get("configMap")
            if secret and secret.get("optional"):
                assert f"create secret generic {secret['secretName']} " in guide
            elif secret:
                assert secret["secretName"] in made
            if config:
                assert config["optional"] is True
                assert f"create configmap {config['name']} " in guide


# Secrets


def test_no_file_has_a_secret() -> None:
    for path in [*DEPLOY.rglob("*"), *(ROOT / "tests" / "deploy" / "kubernetes").rglob("*")]:
        if path.is_file():
            text = path.read_text()
            assert "kind: Secret\n" not in text, path
            assert "secretGenerator" not in text, path
            assert not re.search(r"://[^\s:{}*$%]*:[^\s@%$*{}]{6,}@", text.replace("PASSWORD@", "")), path


KUBECTL = """\
#!/bin/sh
# Keeps what it is told to create, and tells what it has.
case "$*" in
*"get secret "*) name=$(echo "$*" | sed 's/.*get secret \\([^ ]*\\) .*/\\1/'); [ ! -f "$STATE/$name" ] || echo "secret/$name" ;;
*"create -f -"*) cat >"$STATE/new"; mv "$STATE/new" "$STATE/$(sed -n 's/^  name: //p' "$STATE/new")" ;;
esac
echo "$*" >>"$STATE/calls"
"""


@pytest.fixture
def state(tmp_path: Path) -> Path:
    program = tmp_path / "kubectl"
    program.write_text(KUBECTL)
    program.chmod(0o755)
    (tmp_path / "state").mkdir()
    return tmp_path / "state"


def made_by(state: Path, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    known = {"PATH": os.environ["PATH"], "KUBECTL": str(state.parent / "kubectl"), "STATE": str(state), **environ}
    return subprocess.run([str(DEPLOY / "secrets.sh"), *words], env=known, capture_output=True, text=True, timeout=30)


def values(state: Path) -> dict[str, dict[str, str]]:
    return {
        path.name: {key: b64decode(value).decode() for key, value in yaml.safe_load(path.read_text())["data"].items()}
        for path in state.iterdir()
        if path.name.startswith("optio-")
    }


def test_the_script_makes_each_secret_once_by_chance_and_no_value_stands_in_an_argument(state: Path) -> None:
    assert made_by(state, "complete").returncode == 0
    first = values(state)
    assert made_by(state, "complete").returncode == 0

    assert values(state) == first, "what is there is kept"
    assert set(first) == {"optio-admin", "optio-egress", "optio-database", "optio-redis"}
    password = first["optio-database"]["password"]
    assert first["optio-database"]["url"] == f"postgresql://optio:{password}@optio-postgres:5432/optio"
    assert first["optio-redis"]["conf"] == f"requirepass {first['optio-redis']['url'][9:57]}\n"
    assert len({password, first["optio-egress"]["key"], first["optio-admin"]["token"]}) == 3
    assert min(len(value) for each in first.values() for value in each.values()) >= 48
    calls = (state / "calls").read_text()
    for each in first.values():
        for value in each.values():
            assert value not in calls


def test_urls_of_ones_own_are_taken_from_the_environment_and_asked_for(state: Path) -> None:
    refused = made_by(state, "external")
    assert refused.returncode != 0
    assert "OPTIO_DATABASE_URL" in refused.stderr
    assert values(state) == {}

    urls = {"OPTIO_DATABASE_URL": "postgresql://me:it's $1@db/optio", "OPTIO_REDIS_URL": "redis://:x@cache:6379/0"}
    assert made_by(state, "external", **urls).returncode == 0

    assert values(state)["optio-database"] == {"url": urls["OPTIO_DATABASE_URL"]}
    assert values(state)["optio-redis"] == {"url": urls["OPTIO_REDIS_URL"]}


def test_the_script_stands_alone_and_makes_secrets_in_the_namespace_that_it_is_told(state: Path) -> None:
    script = (DEPLOY / "secrets.sh").read_text()
    known = {"PATH": os.environ["PATH"], "KUBECTL": str(state.parent / "kubectl"), "STATE": str(state)}

    done = subprocess.run(
        ["/bin/sh", "-s", "complete", "ai-optio"],
        input=script,
        env=known,
        cwd=state,
        capture_output=True,
        text=True,
        timeout=30,
    )

    assert done.returncode == 0, done.stderr
    assert set(values(state)) == {"optio-admin", "optio-egress", "optio-database", "optio-redis"}
    calls = (state / "calls").read_text().splitlines()
    assert "create namespace ai-optio --save-config" in calls
    assert [each for each in calls if "secret" in each and not each.startswith("-n ai-optio ")] == []


def test_the_script_says_how_it_is_called(state: Path) -> None:
    done = made_by(state)

    assert done.returncode == 2
    assert "./secrets.sh complete" in done.stderr
    assert stat.S_IMODE((DEPLOY / "secrets.sh").stat().st_mode) & 0o111


# Pods


def test_every_container_is_restricted_and_bounded() -> None:
    named = {each["name"] for each in containers(PART)}
    for workload in [*WORKLOADS, PART]:
        for container in containers(workload):
            if "image" not in container:
                assert name(workload) in PARTS
                assert container["name"] in named, "the patch brings the rest"
                continue
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, container["name"]
            if workload is PART and container["name"] == "optio":
                continue  # each part says how much it needs
            assert {"cpu", "memory", "ephemeral-storage"} <= set(container["resources"]["requests"])
            assert {"memory", "ephemeral-storage"} <= set(container["resources"]["limits"])
    for workload in WORKLOADS:
        if name(workload) in PARTS:
            assert {"requests", "limits"} == set(pod(workload)["containers"][0]["resources"])


def test_every_pod_is_restricted_and_only_the_workers_has_a_token() -> None:
    for workload in WORKLOADS:
        spec = pod(PART) if name(workload) in PARTS else pod(workload)
        context = spec["securityContext"]
        assert context["runAsNonRoot"] is True
        assert min(context["runAsUser"], context["runAsGroup"]) > 0
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
        assert all({"emptyDir", "secret", "configMap"} & set(volume) for volume in spec.get("volumes", []))
        assert pod(workload)["automountServiceAccountToken"] is (name(workload) == "optio-worker")
    assert all(each["automountServiceAccountToken"] is False for each in kind("ServiceAccount"))
    for namespace in kind("Namespace"):
        assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_every_deployment_is_probed_and_has_a_budget() -> None:
    probes = set(pod(PART)["containers"][0]) & {"startupProbe", "livenessProbe"}
    for workload in WORKLOADS:
        (container,) = pod(workload)["containers"]
        own = probes if name(workload) in PARTS else set()
        assert own | set(container) >= {"startupProbe", "livenessProbe", "readinessProbe"}, name(workload)
    budgets = [selected(each["spec"]["selector"]) for each in kind("PodDisruptionBudget")]
    assert sorted(budgets, key=str) == sorted(({name(each)} for each in kind("Deployment")), key=str)
    assert all(each["spec"]["maxUnavailable"] == 1 for each in kind("PodDisruptionBudget"))


# Rights


def test_the_workers_role_is_what_its_code_needs_and_nobody_else_has_one() -> None:
    (role,) = kind("Role")
    (binding,) = kind("RoleBinding")
    granted = {
        (group, resource): set(rule["verbs"])
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }

    assert granted == {key: set(verbs) for key, verbs in {**NEEDED, **SOONER}.items()}
    assert not any("resourceNames" in rule for rule in role["rules"])
    assert role["metadata"]["namespace"] == binding["metadata"]["namespace"] == settings()["OPTIO_KUBE_NAMESPACE"]
    assert binding["roleRef"]["name"] == name(role)
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "optio-worker", "namespace": "optio"}]
    assert kind("ClusterRole", "ClusterRoleBinding") == []


def test_the_admission_policy_about_addresses_says_what_workers_read_and_knows_their_accounts() -> None:
    (policy,) = kind("ValidatingAdmissionPolicy")
    (binding,) = kind("ValidatingAdmissionPolicyBinding")

    assert policy["spec"]["validations"][0]["message"] == GUARD
    assert policy["spec"]["matchConstraints"]["objectSelector"]["matchExpressions"][0]["key"] == EGRESS
    assert binding["spec"] == {"policyName": name(policy), "validationActions": ["Deny"]}
    (expression,) = [each["expression"] for each in policy["spec"]["variables"] if each["name"] == "isByWorker"]
    pattern = re.compile(expression.partition('"')[2].rpartition('"')[0])
    subject = kind("RoleBinding")[0]["subjects"][0]
    assert pattern.search(f"system:serviceaccount:{subject['namespace']}:{subject['name']}")
    assert pattern.search("system:serviceaccount:optio:optio-worker-a")
    assert not pattern.search("system:node:a")


# Networks


def policies(namespace: str = "optio") -> list[Manifest]:
    return [each for each in kind("NetworkPolicy") if each["metadata"]["namespace"] == namespace]


def test_both_namespaces_are_closed_but_for_what_a_policy_opens() -> None:
    for namespace in ("optio", settings()["OPTIO_KUBE_NAMESPACE"]):
        closed = [each["spec"] for each in policies(namespace) if name(each) == "optio-nothing"]
        assert closed == [{"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}]
    assert [name(each) for each in policies("optio-runs")] == ["optio-nothing"], "workers make the others"


def test_every_selector_means_pods_that_exist() -> None:
    for each in policies():
        if name(each) != "optio-nothing":
            assert selected(each["spec"]["podSelector"]), name(each)
        for rule in [*each["spec"].get("ingress", []), *each["spec"].get("egress", [])]:
            for peer in [*rule.get("from", []), *rule.get("to", [])]:
                if "podSelector" in peer:
                    assert selected(peer["podSelector"]), name(each)
    for service in kind("Service"):
        assert selected({"matchLabels": service["spec"]["selector"]}) == {name(service)}


def test_databases_have_no_way_out_and_nobody_but_our_parts_a_way_in() -> None:
    for each in policies():
        for database in {"optio-postgres", "optio-redis"} & selected(each["spec"]["podSelector"]):
            if name(each) == "optio-nothing":
                continue
            assert each["spec"]["policyTypes"] == ["Ingress"]
            (rule,) = each["spec"]["ingress"]
            (peer,) = rule["from"]
            assert selected(peer["podSelector"]) == set(PARTS), database
            assert "namespaceSelector" not in peer


def test_the_proxy_can_be_found_its_canary_reached_and_it_goes_to_public_addresses_only() -> None:
    worker = next(each for each in WORKLOADS if name(each) == "optio-worker")
    proxy = proxy_of(variables(worker)["OPTIO_KUBE_EGRESS"])
    (service,) = [each for each in kind("Service") if f"{name(each)}.{each['metadata']['namespace']}.svc" == proxy.host]
    (policy,) = [each["spec"] for each in policies() if name(each) == "optio-egress"]
    workload = next(each for each in WORKLOADS if name(each) == "optio-egress")

    assert {each["port"] for each in service["spec"]["ports"]} == {proxy.port, proxy.canary}
    assert {each["containerPort"] for each in pod(workload)["containers"][0]["ports"]} == {proxy.port, proxy.canary}
    assert labels(workload)[PROXY_LABEL[0]] == PROXY_LABEL[1]
    # Were the canary closed on this side, a gate would open without any policy of the run's own.
    (way_in,) = policy["ingress"]
    assert {each["port"] for each in way_in["ports"]} == {proxy.port, proxy.canary}
    (way_out,) = policy["egress"]
    assert [each["ipBlock"] for each in way_out["to"]] == [
        {"cidr": "0.0.0.0/0", "except": list(PRIVATE)},
        {"cidr": PUBLIC6, "except": list(PRIVATE6)},
    ]


def test_the_gateway_is_where_workers_say_and_open_to_runs_and_to_nobody_else() -> None:
    worker = next(each for each in WORKLOADS if name(each) == "optio-worker")
    gateway = gateway_of(variables(worker)["OPTIO_GATEWAY_URL"])
    (service,) = [each for each in kind("Service") if (each["metadata"]["namespace"], name(each)) == gateway.service]
    workload = next(each for each in WORKLOADS if name(each) == name(service))
    container = pod(workload)["containers"][0]
    (policy,) = [each["spec"] for each in policies() if name(each) == name(service)]

    assert container["args"] == ["gateway"]
    assert variables(workload)["OPTIO_GATEWAY_HOST"] == "0.0.0.0"
    assert {each["name"]: each["containerPort"] for each in container["ports"]} == {"agents": gateway.port}
    assert [each["port"] for each in service["spec"]["ports"]] == [gateway.port]
    # By this label policies of runs select its pods.
    assert labels(workload)[GATEWAY_LABEL] == name(service)
    assert service["spec"]["selector"] == {GATEWAY_LABEL: name(service)}
    (way_in,) = policy["ingress"]
    runs, workers = way_in["from"]
    assert runs == {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": settings()["OPTIO_KUBE_NAMESPACE"]}}}
    assert selected(workers["podSelector"]) == {"optio-worker"}
    assert way_in["ports"] == [{"protocol": "TCP", "port": gateway.port}]
    (proxy,) = [each["spec"] for each in policies() if name(each) == "optio-egress"]
    assert policy["egress"] == proxy["egress"], "public addresses only"


def test_nobody_but_the_gateway_has_the_secrets_of_model_services() -> None:
    def secrets(workload: Manifest) -> set[str]:
        return {each["secret"]["secretName"] for each in pod(workload).get("volumes", []) if "secret" in each}

    assert {name(each) for each in WORKLOADS if "optio-gateway-secrets" in secrets(each)} == {"optio-gateway"}
    assert secrets(next(each for each in WORKLOADS if name(each) == "optio-gateway")) == {"optio-gateway-secrets"}
    guide = (DEPLOY / "README.md").read_text()
    assert "create secret generic optio-task-secrets --from-file=task-secrets " in guide
    assert 'printf %s "$ANTHROPIC_API_KEY" > gateway-secrets/ANTHROPIC_API_KEY\n' in guide


# What kustomize makes of it


def rendered(path: Path | str) -> Iterator[Manifest]:
    program = os.environ.get("KUBECTL") or shutil.which("kubectl")
    assert program is not None
    done = subprocess.run([program, "kustomize", str(path)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    yield from yaml.load_all(done.stdout, yaml.CSafeLoader)


OVERLAYS = [DEPLOY / "overlays" / "complete", DEPLOY / "overlays" / "external", ROOT / "tests" / "deploy" / "kubernetes"]

if os.environ.get("KUBECTL") or shutil.which("kubectl"):

    @pytest.mark.parametrize("path", OVERLAYS, ids=lambda path: str(path.relative_to(ROOT)))
    def test_an_overlay_renders_whole(path: Path) -> None:
        found = list(rendered(path))

        (config,) = [each for each in found if each["kind"] == "ConfigMap"]
        assert set(config["data"]) >= set(settings())
        workloads = {each["metadata"]["name"]: each for each in found if each["kind"] in ("Deployment", "StatefulSet")}
        assert set(workloads) >= {*PARTS, "optio-egress"}
        for each in workloads.values():
            for container in containers(each):
                assert container["image"]
                assert container["securityContext"]["readOnlyRootFilesystem"] is True
                for source in container.get("envFrom", []):
                    assert source == {"configMapRef": {"name": config["metadata"]["name"]}}
            assert pod(each)["securityContext"]["runAsNonRoot"] is True
            for volume in pod(each).get("volumes", []):
                assert volume.get("secret", {}).get("defaultMode", 0o440) == 0o440
        server = pod(workloads["optio-server"])["containers"][0]
        assert server["readinessProbe"]["httpGet"]["port"] == "http", "readiness is the server's own: a generation is served"

    def test_the_guides_parts_and_as_many_runs_as_it_allows_fit_a_node_of_two_processors_and_four_gib() -> None:
        """Also while all Deployments are rolled at once, beside what kind and kubeadm put on the node themselves."""
        # CoreDNS twice, etcd, API server, controller manager, scheduler, kindnet; what their manifests request.
        cpu, memory = Decimal("0.95"), Decimal(290 << 20)
        found = list(rendered(DEPLOY / "overlays" / "complete"))
        for each in found:
            if each["kind"] in ("Deployment", "StatefulSet"):
                spare = int(each["kind"] == "Deployment")
                cpu += (each["spec"]["replicas"] + spare) * requested(each, "cpu")
                memory += (each["spec"]["replicas"] + spare) * requested(each, "memory")
        (config,) = [each["data"] for each in found if each["kind"] == "ConfigMap"]
        loaded = Settings.load({key: value for key, value in config.items() if not key.endswith("_FILE")})
        key = {"OPTIO_KUBE_EGRESS": "optio-egress.optio.svc=10.0.0.1:3128", "OPTIO_EGRESS_KEY": "k" * 32}
        closed = Settings.load({key: value for key, value in (config | key).items() if not key.endswith("_FILE")})
        launch = Launch(run_id="r", attempt=1, argv=("true",), stdin=b"", env={}, timeout_s=60.0, orphan_s=900.0, leased_at=0.0)
        run = {"spec": {"template": manifest.attempt_pod(launch, wiring.pod_settings(closed), "m", "w")}}

        cpu += loaded.max_workflow_concurrent * requested(run, "cpu")
        memory += loaded.max_workflow_concurrent * requested(run, "memory")

        assert cpu <= 2, f"{cpu} processors are reserved"
        assert memory <= 4 << 30, f"{memory / (1 << 30):.2f} GiB are reserved"

    def team(directory: Path, team: str, namespace: str) -> str:
        """The directory of a team, as an overlay names it."""
        home = {"name": "optio-team", "annotations": {"config.kubernetes.io/local-config": "true"}}
        data = {"team": team, "namespace": namespace}
        (directory / "teams" / team).mkdir(parents=True)
        for name, found in {
            "kustomization": {"resources": ["team.yaml"], "components": ["../../kubernetes/components/team"]},
            "team": {"apiVersion": "v1", "kind": "ConfigMap", "metadata": home, "data": data},
        }.items():
            (directory / "teams" / team / f"{name}.yaml").write_text(yaml.safe_dump(found))
        return f"../teams/{team}"

    def by_name(found: list[Manifest], kind: str) -> dict[tuple[str, str], Manifest]:
        return {(each["metadata"].get("namespace", ""), name(each)): each for each in found if each["kind"] == kind}

    def test_a_team_has_a_namespace_and_workers_whose_account_has_rights_there_alone(tmp_path: Path) -> None:
        shutil.copytree(DEPLOY, tmp_path / "kubernetes")
        teams = [team(tmp_path, "a", "runs-a"), team(tmp_path, "b-2", "runs-b")]
        (tmp_path / "top").mkdir()
        overlay = {
            "resources": ["../kubernetes/overlays/complete", *teams],
            "images": [{"name": "optio", "newName": "registry.example.com/optio"}],
        }
        (tmp_path / "top" / "kustomization.yaml").write_text(yaml.safe_dump(overlay))

        found, alone = list(rendered(tmp_path / "top")), list(rendered(DEPLOY / "overlays" / "complete"))

        config, namespaces = by_name(found, "ConfigMap"), by_name(found, "Namespace")
        workers = by_name(found, "Deployment")
        roles, bindings = by_name(found, "Role"), by_name(found, "RoleBinding")
        ours = workers["optio", "optio-worker"]
        assert [each for each in alone if each["kind"] != "Deployment" and each not in found] == []
        assert len(config) == 1, "the names of the teams stay at home"
        for own, namespace in (("a", "runs-a"), ("b-2", "runs-b")):
            worker = workers["optio", f"optio-worker-{own}"]
            container, found_variables = pod(worker)["containers"][0], variables(worker)
            assert namespaces["", namespace]["metadata"]["labels"] == namespaces["", "optio-runs"]["metadata"]["labels"]
            assert roles[namespace, "optio-worker"]["rules"] == roles["optio-runs", "optio-worker"]["rules"]
            assert bindings[namespace, "optio-worker"]["subjects"] == [
                {"kind": "ServiceAccount", "name": f"optio-worker-{own}", "namespace": "optio"}
            ]
            assert pod(worker)["serviceAccountName"] == f"optio-worker-{own}"
            assert found_variables.pop("OPTIO_TEAM_NAMESPACE") == namespace
            assert found_variables.pop("OWN_TEAM") == own
            gateway = gateway_of(found_variables.pop("OPTIO_GATEWAY_URL"))
            assert found_variables == {key: value for key, value in variables(ours).items() if key != "OPTIO_GATEWAY_URL"}
            assert gateway.service == ("optio", f"optio-gateway-{own}")
            assert_open_to(namespace, found, gateway.service[1])
            secrets = {each["name"]: each["secret"]["secretName"] for each in pod(worker)["volumes"] if "secret" in each}
            assert secrets.pop("task-secrets") == f"optio-task-secrets-{own}"
            for each in ("image", "envFrom", "securityContext", "volumeMounts", "readinessProbe", "resources"):
                assert container[each] == pod(ours)["containers"][0][each], each
            # Nothing that counts or chooses the pods of one means those of another.
            selector = worker["spec"]["selector"]["matchLabels"]
            assert labels(worker).items() >= selector.items()
            assert not labels(ours).items() >= selector.items()
            assert not labels(worker).items() >= ours["spec"]["selector"]["matchLabels"].items()
            budget = by_name(found, "PodDisruptionBudget")["optio", f"optio-worker-{own}"]
            assert budget["spec"]["selector"]["matchLabels"] == selector
            networks = by_name(found, "NetworkPolicy")
            assert networks[namespace, "optio-nothing"]["spec"] == networks["optio-runs", "optio-nothing"]["spec"]
            (way_in,) = networks["optio", f"optio-egress-{own}"]["spec"]["ingress"]
            (known,) = networks["optio", "optio-egress"]["spec"]["ingress"]
            assert way_in["from"][0]["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": namespace}
            assert way_in["ports"] == known["ports"]
        assert not {"TEAM", "NAMESPACE"} & set(re.findall(r"\w+", yaml.safe_dump_all(found)))
        assert selected_of(workers, "optio-worker") == {"optio-worker"}

    def assert_open_to(namespace: str, found: list[Manifest], gateway: str) -> None:
        """The gateway of a team has secrets of its own, and no other namespace of runs reaches it."""
        parts = {kind: by_name(found, kind)["optio", gateway] for kind in ("Deployment", "Service", "NetworkPolicy")}
        budget = by_name(found, "PodDisruptionBudget")["optio", gateway]
        own = {GATEWAY_LABEL: gateway}
        assert labels(parts["Deployment"])[GATEWAY_LABEL] == gateway
        assert parts["Deployment"]["spec"]["selector"] == {"matchLabels": own} == budget["spec"]["selector"]
        assert parts["NetworkPolicy"]["spec"]["podSelector"] == {"matchLabels": own}
        assert parts["Service"]["spec"]["selector"] == own
        secrets = [
            each["secret"]["secretName"] for each in pod(parts["Deployment"])["volumes"] if each["name"] == "gateway-secrets"
        ]
        assert secrets == [f"optio-gateway-secrets{gateway.removeprefix('optio-gateway')}"]
        (way_in,) = parts["NetworkPolicy"]["spec"]["ingress"]
        assert way_in["from"][0] == {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}}

    def selected_of(workers: dict[tuple[str, str], Manifest], worker: str) -> set[str]:
        """The Deployments whose pods this one's selector means."""
        wanted = workers["optio", worker]["spec"]["selector"]["matchLabels"].items()
        return {name(each) for each in workers.values() if labels(each).items() >= wanted}

    def test_teams_keep_their_workers_where_the_parts_have_other_namespaces(tmp_path: Path) -> None:
        shutil.copytree(DEPLOY, tmp_path / "kubernetes")
        (tmp_path / "top").mkdir()
        home = {"name": "optio-namespaces", "annotations": {"config.kubernetes.io/local-config": "true"}}
        names = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": home, "data": {"parts": "ai-optio", "runs": "ai-runs"}}
        overlay = {
            "resources": ["../kubernetes/overlays/external", team(tmp_path, "a", "runs-a"), "names.yaml"],
            "components": ["../kubernetes/components/namespaces"],
        }
        (tmp_path / "top" / "kustomization.yaml").write_text(yaml.safe_dump(overlay))
        (tmp_path / "top" / "names.yaml").write_text(yaml.safe_dump(names))

        found = list(rendered(tmp_path / "top"))

        assert {each["metadata"].get("namespace") for each in found} == {None, "ai-optio", "ai-runs", "runs-a"}
        assert not re.search(r"optio-runs|namespace: optio\b", yaml.safe_dump_all(found))
        for worker in ("optio-worker", "optio-worker-a"):
            known = variables(by_name(found, "Deployment")["ai-optio", worker])
            gateway = gateway_of(known["OPTIO_GATEWAY_URL"]).service
            assert proxy_of(known["OPTIO_KUBE_EGRESS"]).namespace == "ai-optio"
            assert gateway == ("ai-optio", worker.replace("worker", "gateway"))
            (way_in,) = by_name(found, "NetworkPolicy")[gateway]["spec"]["ingress"]
            runs = {"optio-worker": "ai-runs", "optio-worker-a": "runs-a"}[worker]
            assert way_in["from"][0]["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": runs}
        subjects = {each["metadata"]["namespace"]: each["subjects"][0] for each in found if each["kind"] == "RoleBinding"}
        assert {where: (each["namespace"], each["name"]) for where, each in subjects.items()} == {
            "ai-runs": ("ai-optio", "optio-worker"),
            "runs-a": ("ai-optio", "optio-worker-a"),
        }

    @pytest.fixture(scope="module")
    def git(tmp_path_factory: pytest.TempPathFactory) -> str:
        """The address of a repository that has this deploy/ and nothing else, at `v1`."""
        repository = tmp_path_factory.mktemp("git")
        shutil.copytree(ROOT / "deploy" / "kubernetes", repository / "deploy" / "kubernetes")
        who = ("-c", "user.name=a", "-c", "user.email=a@example.com", "-c", "commit.gpgsign=false")
        for words in (("init", "-q"), ("add", "-A"), (*who, "commit", "-qm", "all"), ("tag", "v1")):
            subprocess.run(["git", "-C", str(repository), *words], check=True, capture_output=True)
        return f"file://{repository}//deploy/kubernetes/{{}}?ref=v1"

    @pytest.mark.parametrize("overlay", ["complete", "external"])
    def test_an_overlay_can_be_used_by_its_address_in_git(git: str, overlay: str) -> None:
        address = git.format(f"overlays/{overlay}")

        assert list(rendered(address)) == list(rendered(DEPLOY / "overlays" / overlay))

    def test_an_overlay_of_ones_own_has_other_namespaces_images_by_digest_and_settings(git: str, tmp_path: Path) -> None:
        images = {"optio": f"sha256:{1:064}", "optio-egress": f"sha256:{2:064}"}
        kustomization = {
            "resources": [git.format("overlays/complete"), "namespaces.yaml"],
            "components": [git.format("components/autoscaling"), git.format("components/namespaces")],
            "images": [
                {"name": key, "newName": f"registry.example.com/{key}", "digest": value} for key, value in images.items()
            ],
            "configMapGenerator": [
                {
                    "name": "optio",
                    "namespace": "optio",
                    "behavior": "merge",
                    "literals": ["OPTIO_ALLOWED_HOSTS=optio.example.com"],
                }
            ],
        }
        home = {"name": "optio-namespaces", "annotations": {"config.kubernetes.io/local-config": "true"}}
        names = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": home, "data": {"parts": "ai-optio", "runs": "ai-runs"}}
        (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
        (tmp_path / "namespaces.yaml").write_text(yaml.safe_dump(names))

        found = list(rendered(tmp_path))

        text = yaml.safe_dump_all(found)
        assert {each["metadata"].get("namespace") for each in found} == {None, "ai-optio", "ai-runs"}
        assert {name(each) for each in found if each["kind"] == "Namespace"} == {"ai-optio", "ai-runs"}
        assert not re.search(r"optio-runs|\.optio\b|namespace: optio\b|optio-namespaces", text)
        (binding,) = [each for each in found if each["kind"] == "RoleBinding"]
        assert (binding["metadata"]["namespace"], binding["subjects"][0]["namespace"]) == ("ai-runs", "ai-optio")
        (config,) = [each for each in found if each["kind"] == "ConfigMap"]
        assert config["data"]["OPTIO_KUBE_NAMESPACE"] == "ai-runs"
        workloads = [each for each in found if each["kind"] in ("Deployment", "StatefulSet")]
        for each in workloads:
            for container in containers(each):
                for source in container.get("envFrom", []):
                    assert source == {"configMapRef": {"name": name(config)}}
        worker = next(each for each in workloads if name(each) == "optio-worker")
        assert proxy_of(variables(worker)["OPTIO_KUBE_EGRESS"]).namespace == "ai-optio"
        used = {container["image"] for each in workloads for container in containers(each)}
        assert {f"registry.example.com/{key}@{value}" for key, value in images.items()} <= used

    def test_a_template_of_the_overlay_is_mounted_where_the_worker_and_nobody_else_reads_it(tmp_path: Path) -> None:
        shutil.copytree(DEPLOY, tmp_path / "kubernetes")
        overlay = tmp_path / "kubernetes" / "overlays" / "external" / "kustomization.yaml"
        generator = "{name: optio-pod-template, namespace: optio, files: [template.yaml]}"
        overlay.write_text(
            f"{overlay.read_text()}components: [../../components/pod-template]\nconfigMapGenerator: [{generator}]\n"
        )
        names = set()
        for text in ("spec: {priorityClassName: low}", "spec: {priorityClassName: high}"):
            (overlay.parent / "template.yaml").write_text(text)

            found = list(rendered(overlay.parent))

            (config,) = [each for each in found if each["kind"] == "ConfigMap" and "template.yaml" in each["data"]]
            users = {name(each) for each in found if name(config) in str(each.get("spec"))}
            (worker,) = [each for each in found if each["kind"] == "Deployment" and name(each) == "optio-worker"]
            container = pod(worker)["containers"][0]
            path = Path(variables(worker)["OPTIO_POD_TEMPLATE"])
            assert users == {"optio-worker"}
            assert {"name": "pod-template", "mountPath": str(path.parent), "readOnly": True} in container["volumeMounts"]
            assert list(config["data"]) == [path.name]
            names.add(name(config))
        assert len(names) == 2, "a changed template starts the worker anew"

    def test_servers_are_scaled_by_the_component(tmp_path: Path) -> None:
        shutil.copytree(DEPLOY, tmp_path / "kubernetes")
        overlay = tmp_path / "kubernetes" / "overlays" / "external" / "kustomization.yaml"
        overlay.write_text(overlay.read_text() + "components: [../../components/autoscaling]\n")

        found = list(rendered(overlay.parent))

        (server,) = [each for each in found if each["kind"] == "Deployment" and each["metadata"]["name"] == "optio-server"]
        assert "replicas" not in server["spec"]
        assert [each["spec"]["scaleTargetRef"]["name"] for each in found if each["kind"] == "HorizontalPodAutoscaler"] == [
            "optio-server"
        ]
