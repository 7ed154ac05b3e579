"""The operator's additions to every pod: what they add, and what they cannot change."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from optio import wiring
from optio.errors import SettingsError
from optio.executors.pods import manifest
from optio.executors.pods.manifest import PodSettings
from optio.executors.pods.template import EVICTABLE, Template
from optio.model.task import Environment
from optio.settings import Settings
from tests.executors.support import launch

SETTINGS = PodSettings(namespace="agents", install="acme", image="agent:1")
WHOLE = """\
metadata:
  labels: {team: platform, kueue.x-k8s.io/queue-name: agents}
  annotations: {example.com/cost-centre: "42"}
spec:
  imagePullSecrets: [{name: registry}]
  tolerations: [{key: agents, operator: Equal, value: "true", effect: NoSchedule, tolerationSeconds: 30}]
  affinity:
    nodeAffinity:
      requiredDuringSchedulingIgnoredDuringExecution:
        nodeSelectorTerms: [{matchExpressions: [{key: disk, operator: In, values: [ssd]}]}]
    podAntiAffinity:
      preferredDuringSchedulingIgnoredDuringExecution:
        - {weight: 1, podAffinityTerm: {topologyKey: kubernetes.io/hostname, labelSelector: {matchLabels: {team: platform}}}}
  nodeSelector: {pool: agents}
  topologySpreadConstraints: [{maxSkew: 1, topologyKey: zone, whenUnsatisfiable: ScheduleAnyway}]
  priorityClassName: agents
  schedulerName: ours
  runtimeClassName: gvisor
  serviceAccountName: agent
  volumes:
    - {name: authorities, configMap: {name: authorities, items: [{key: ca.crt, path: ours.crt}]}}
    - {name: models, persistentVolumeClaim: {claimName: models, readOnly: true}}
  containers:
    - name: agent
      volumeMounts:
        - {name: authorities, mountPath: /etc/ssl/ours, readOnly: true}
        - {name: models, mountPath: /models, readOnly: true}
"""


def read(directory: Path, text: str, **more: str) -> PodSettings:
    """The settings of a worker whose template this is."""
    (directory / "template.yaml").write_text(text)
    environ = {"OPTIO_EXECUTOR": "kubernetes", "OPTIO_KUBE_IMAGE": "agent:1"}
    return wiring.pod_settings(Settings.load({**environ, "OPTIO_POD_TEMPLATE": str(directory / "template.yaml"), **more}))


def without(pod: Any, template: Template) -> Any:
    """The pod without what the template says."""
    meta, spec = json.loads(json.dumps([pod["metadata"], pod["spec"]]))
    for kind, given in (("labels", template.labels), ("annotations", template.annotations)):
        meta[kind] = {key: value for key, value in meta[kind].items() if key not in given}
    spec = {key: value for key, value in spec.items() if key not in template.spec}
    spec["volumes"] = [each for each in spec["volumes"] if each not in template.volumes]
    agent = spec["containers"][0]
    agent["volumeMounts"] = [each for each in agent["volumeMounts"] if each not in template.mounts]
    return {**pod, "metadata": meta, "spec": spec}


def test_all_that_a_template_says_is_in_a_pod_and_the_rest_of_the_pod_is_as_without_it(tmp_path: Path) -> None:
    settings = read(tmp_path, WHOLE)
    plain = replace(settings, template=Template())

    pod = manifest.attempt_pod(launch("/bin/true"), settings, "5f2c", "w")

    spec = pod["spec"]
    assert pod["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "agents"
    assert pod["metadata"]["annotations"]["example.com/cost-centre"] == "42"
    assert spec["imagePullSecrets"] == [{"name": "registry"}]
    assert spec["tolerations"][0]["tolerationSeconds"] == 30
    assert set(spec["affinity"]) == {"nodeAffinity", "podAntiAffinity"}
    assert (spec["nodeSelector"], spec["priorityClassName"]) == ({"pool": "agents"}, "agents")
    assert (spec["serviceAccountName"], spec["automountServiceAccountToken"]) == ("agent", False)
    mounted = {each["name"]: each["mountPath"] for each in spec["containers"][0]["volumeMounts"]}
    (claim,) = [each["name"] for each in spec["volumes"] if each.get("persistentVolumeClaim")]
    assert mounted[claim] == "/models"
    assert without(pod, settings.template) == manifest.attempt_pod(launch("/bin/true"), plain, "5f2c", "w")


def test_each_setting_of_pods_reaches_the_pod() -> None:
    environ = {
        "OPTIO_EXECUTOR": "kubernetes",
        "OPTIO_KUBE_NAMESPACE": "agents",
        "OPTIO_KUBE_INSTALL": "acme",
        "OPTIO_KUBE_IMAGE": "agent:2",
        "OPTIO_POD_CPU": "3",
        "OPTIO_POD_MEMORY": "5Gi",
        "OPTIO_POD_CPU_REQUEST": "300m",
        "OPTIO_POD_MEMORY_REQUEST": "500Mi",
        "OPTIO_POD_DISK": "7Gi",
        "OPTIO_POD_NODE_SELECTOR": "pool=a,zone=b",
        "OPTIO_POD_RUNTIME_CLASS": "gvisor",
        "OPTIO_POD_WARM_AGE": "2h",
        "OPTIO_POD_WARM_LIMIT": "9",
        "OPTIO_ORPHAN_TIMEOUT": "20m",
    }

    settings = wiring.pod_settings(Settings.load(environ))
    pod = manifest.attempt_pod(launch("/bin/true"), settings, "5f2c", "w")

    meta, spec = pod["metadata"], pod["spec"]
    assert (meta["namespace"], meta["labels"]["optio.dev/install"]) == ("agents", "acme")
    (agent,) = spec["containers"]
    assert agent["image"] == "agent:2"
    assert agent["resources"]["limits"] == {"cpu": "3", "memory": "5Gi", "ephemeral-storage": "7Gi"}
    assert (agent["resources"]["requests"]["cpu"], agent["resources"]["requests"]["memory"]) == ("300m", "500Mi")
    assert {each["emptyDir"]["sizeLimit"] for each in spec["volumes"] if "medium" not in each["emptyDir"]} == {"7Gi"}
    assert (spec["nodeSelector"], spec["runtimeClassName"]) == ({"pool": "a", "zone": "b"}, "gvisor")
    # For the pool, and for attempts that were given up.
    assert (settings.warm_age_s, settings.warm_most, settings.orphan_s) == (7200.0, 9, 1200.0)


def test_a_pod_that_waits_has_the_template_too_and_one_of_another_template_is_of_another_kind(tmp_path: Path) -> None:
    texts = ("metadata: {labels: {team: a}}", "metadata: {annotations: {team: a}}", "spec: {priorityClassName: low}", WHOLE)
    known = [SETTINGS, *(read(tmp_path, text) for text in texts)]

    keys = {manifest.pool_key(Environment(), replace(each, install="acme", namespace="agents")) for each in known}
    pod = manifest.warm_pod(Environment(), known[-1], "1", "5f2c")

    assert len(keys) == len(known)
    assert pod["metadata"]["labels"]["team"] == "platform"
    assert pod["spec"]["priorityClassName"] == "agents"


def test_a_node_is_not_emptied_under_an_agent_and_may_be_under_a_pod_that_waits() -> None:
    attempt = manifest.attempt_pod(launch("/bin/true"), SETTINGS, "5f2c", "w")
    warm = manifest.warm_pod(Environment(), SETTINGS, "1", "5f2c")
    warm["metadata"]["resourceVersion"] = "1"
    claimed = manifest.claimed(warm, launch("/bin/true"), 0.0, "w")

    busy = {EVICTABLE: "false", "karpenter.sh/do-not-disrupt": "true"}
    for pod in (attempt, claimed):
        assert busy.items() <= pod["metadata"]["annotations"].items()
    assert warm["metadata"]["annotations"][EVICTABLE] == "true"
    assert "karpenter.sh/do-not-disrupt" not in warm["metadata"]["annotations"]


VOLUME = "spec: {{volumes: [{}], containers: [{{name: agent, volumeMounts: [{}]}}]}}"
GOOD_VOLUME, GOOD_MOUNT = "{name: v, configMap: {name: v}}", "{name: v, mountPath: /v, readOnly: true}"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "spec: {securityContext: {runAsUser: 0}}",
            "1:8: a template cannot change `spec.securityContext` (delete it: an agent",
        ),
        (
            "spec: {automountServiceAccountToken: true}",
            "`spec.automountServiceAccountToken` (delete it: an agent gets no token",
        ),
        ("spec: {hostNetwork: true}", "cannot change `spec.hostNetwork`"),
        ("spec: {restartPolicy: Always}", "cannot change `spec.restartPolicy`"),
        ("spec: {activeDeadlineSeconds: 9}", "cannot change `spec.activeDeadlineSeconds`"),
        ("spec: {initContainers: [{name: x}]}", "cannot change `spec.initContainers`"),
        ("spec:\n  containers: [{name: agent, command: [x]}]", "2:30: a template cannot change `spec.containers[0].command`"),
        (
            "spec: {containers: [{name: agent, securityContext: {}}]}",
            "`spec.containers[0].securityContext` (delete it: an agent",
        ),
        ("spec: {containers: [{name: agent, env: []}]}", "write `environment.env` into a `_defaults.yaml`"),
        ("spec: {containers: [{name: gate}]}", "only the container `agent` can be changed"),
        ("spec: {containers: [{name: proxy, volumeMounts: []}]}", "only the container `agent` can be changed"),
        ("metadata: {labels: {optio.dev/egress: x}}", "1:21: a template cannot change the label `optio.dev/egress`"),
        ("metadata: {labels: {app.kubernetes.io/name: optio-egress}}", "cannot change the label `app.kubernetes.io/name`"),
        ("metadata: {annotations: {optio.dev/mark: x}}", "cannot change the annotation `optio.dev/mark`"),
        ("metadata: {annotations: {karpenter.sh/do-not-disrupt: 'false'}}", "the annotation `karpenter.sh/do-not-disrupt`"),
        (
            "metadata: {annotations: {container.apparmor.security.beta.kubernetes.io/agent: unconfined}}",
            "cannot change the annotation `container.apparmor.security.beta.kubernetes.io/agent`",
        ),
        ("metadata: {name: x}", "cannot change `metadata.name`"),
        ("metadata: {labels: {team: true}}", '1:27: `metadata.labels.team` is not text (write it in quotes: "true")'),
        ("metadata: {labels: {team: a b}}", "has the value `a b`, which no label may have"),
        ("metadata: {labels: {-team: a}}", "the label `-team` has no name that a cluster takes"),
        ("spec: {toleration: []}", "1:8: a template has no key `spec.toleration` (did you mean `tolerations`?)"),
        ("spec: {tolerations: {key: a}}", "`spec.tolerations` is not a list"),
        ("spec: {tolerations: [{kye: a}]}", "no key `spec.tolerations[0].kye` (did you mean `key`?)"),
        ("spec: {affinity: {nodeAffinity: {required: []}}}", "has no key `spec.affinity.nodeAffinity.required`"),
        ("kind: Pod", "1:1: a template has no key `kind` (known here: metadata, spec)"),
        ("- a", "1:1: a template is a mapping (write `metadata:` or `spec:`)"),
        ("spec: {a: 1", "template.yaml:1:"),
        ("spec: {priorityClassName: a, priorityClassName: b}", "priorityClassName"),
        ("# nothing\n", "holds nothing"),
        ("", "holds nothing"),
        (VOLUME.format("{name: v, secret: {secretName: s}}", GOOD_MOUNT), "every agent could read it"),
        (VOLUME.format("{name: v, hostPath: {path: /}}", GOOD_MOUNT), "cannot change `spec.volumes[0].hostPath`"),
        (VOLUME.format("{name: v, persistentVolumeClaim: {claimName: c}}", GOOD_MOUNT), "add `readOnly: true` to the claim"),
        (VOLUME.format("{name: v}", GOOD_MOUNT), "one of `configMap` and `persistentVolumeClaim`"),
        (VOLUME.format("{name: V, configMap: {name: v}}", GOOD_MOUNT), "a volume needs a name of its own"),
        (VOLUME.format(GOOD_VOLUME, "{name: w, mountPath: /v, readOnly: true}"), "the mount names no volume"),
        (VOLUME.format(GOOD_VOLUME, "{name: v, mountPath: /v}"), "add `readOnly: true` to the mount"),
        (VOLUME.format(GOOD_VOLUME, "{name: v, mountPath: /v/../optio, readOnly: true}"), "is not an absolute path"),
        (VOLUME.format(GOOD_VOLUME, "{name: v, mountPath: /optio/private, readOnly: true}"), "belongs to Optio or the system"),
        (VOLUME.format(GOOD_VOLUME, "{name: v, mountPath: /optio-gate, readOnly: true}"), "belongs to Optio or the system"),
        (VOLUME.format(GOOD_VOLUME, "{name: v, mountPath: /, readOnly: true}"), "is not an absolute path"),
    ],
)
def test_what_a_template_must_not_say_is_refused_with_its_place_and_cure(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(SettingsError) as refused:
        read(tmp_path, text)

    assert str(refused.value).startswith("OPTIO_POD_TEMPLATE: ")
    assert words in str(refused.value)


def test_all_faults_of_a_template_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as refused:
        read(tmp_path, "spec:\n  hostPID: true\n  tolerationz: []\nmetadata: {labels: {a: 1}}\n")

    assert [f"template.yaml:{place}: " in str(refused.value) for place in ("2:3", "3:3", "4:24")] == [True] * 3


def test_a_template_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"OPTIO_POD_TEMPLATE: the file .*none\.yaml cannot be read: No such file"):
        wiring.pod_settings(Settings.load({"OPTIO_POD_TEMPLATE": str(tmp_path / "none.yaml")}))


@pytest.mark.parametrize(
    ("text", "variable", "value"),
    [
        ("spec: {nodeSelector: {a: b}}", "OPTIO_POD_NODE_SELECTOR", "c=d"),
        ("spec: {runtimeClassName: a}", "OPTIO_POD_RUNTIME_CLASS", "b"),
    ],
)
def test_what_a_setting_says_too_is_said_once(tmp_path: Path, text: str, variable: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"and {variable} is set: keep one of them"):
        read(tmp_path, text, **{variable: value})
