"""Why a pod does not start: what is said of it, when, and when its run is given back."""

from datetime import timedelta
from typing import Any

import pytest

from optio.errors import OptioError
from optio.executors.pods import delays, exit_status
from optio.executors.pods.api_client import Refused, Unreachable
from optio.executors.pods.delays import Delays, full_quota, refusal
from optio.executors.pods.handle import PodHandle
from optio.model.room import Delay

# As Kubernetes 1.34 says it.
BUSY = (
    "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: 0/1 nodes are available: "
    "1 No preemption victims found for incoming pod."
)
HUGE = (
    "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: 0/1 nodes are available: "
    "1 Preemption is not helpful for scheduling."
)
MIXED = f"{HUGE} 1 No preemption victims found for incoming pod."
PULL = 'failed to pull and unpack image "optio.invalid/none:1": no such host'
QUOTA = "pods is forbidden: exceeded quota: small, requested: {}, used: {}, limited: {}"


def unscheduled(said: str, reason: str = "Unschedulable") -> dict[str, Any]:
    return {"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "reason": reason, "message": said}]}


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    return {
        "phase": "Pending",
        "containerStatuses": [{"name": "agent", "state": {"waiting": {"reason": reason, "message": message}}}],
    }


@pytest.fixture
def handle() -> PodHandle:
    return PodHandle("pod", "run", 1, lambda handle, what: None)


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever lasts, lasts long enough."""
    for name in ("_SAID_AFTER_S", "_SLOW_S", "_ROOM_S"):
        monkeypatch.setattr(delays, name, 0.0)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (BUSY, "no node has room for the pod: "),
        (HUGE, "no node can take the pod, whatever ends: "),
        (MIXED, "no node has room for the pod: "),
        ("", "no node has room for the pod: "),
    ],
)
@pytest.mark.usefixtures("at_once")
def test_a_pod_without_a_node_is_given_back_and_waits_without_end_because_nodes_may_come_back(
    handle: PodHandle, said: str, words: str
) -> None:
    found = Delays(handle, 300.0).look(unscheduled(said))

    assert found is not None
    assert (found.reason, found.patience) == ("unschedulable", None)
    assert found.message.startswith(words + said)
    assert "environment.resources" in found.message
    assert handle.delay() == Delay(reason="unschedulable", message=found.message)


def test_a_pod_that_has_no_node_for_a_moment_is_neither_told_of_nor_given_back(handle: PodHandle) -> None:
    assert Delays(handle, 300.0).look(unscheduled(BUSY)) is None
    assert handle.delay() is None


def test_a_pod_that_waits_behind_a_scheduling_gate_is_not_meant_to_have_a_node() -> None:
    assert exit_status.unscheduled(unscheduled("gated", "SchedulingGated")) == ""


@pytest.mark.usefixtures("at_once")
def test_an_image_that_cannot_be_pulled_is_told_in_the_same_words_each_time_that_it_is_tried(handle: PodHandle) -> None:
    watched = Delays(handle, 300.0)
    told = []
    for status in (
        waiting("ErrImagePull", PULL),
        waiting("ImagePullBackOff", f'Back-off pulling image "optio.invalid/none:1": ErrImagePull: {PULL}'),
    ):
        assert watched.look(status) is None
        told.append(handle.delay())

    assert told[0] == told[1]
    assert told[0] is not None
    assert told[0].reason == "image"
    assert PULL in told[0].message


@pytest.mark.usefixtures("at_once")
def test_what_is_said_follows_what_holds_the_pod_up(handle: PodHandle) -> None:
    watched = Delays(handle, 300.0)

    watched.look(unscheduled(BUSY))
    watched.look(waiting("ContainerCreating"))

    delay = handle.delay()
    assert delay is not None
    assert (delay.reason, "ContainerCreating" in delay.message) == ("slow_start", True)


@pytest.mark.parametrize(
    ("requested", "used", "limited", "patient"),
    [
        ("pods=1", "pods=5", "pods=5", False),
        ("pods=1", "pods=0", "pods=0", False),
        ("requests.cpu=300m", "requests.cpu=2", "requests.cpu=2", False),
        ("requests.cpu=300m", "requests.cpu=0", "requests.cpu=100m", True),
        ("pods=1,requests.memory=3Gi", "pods=1,requests.memory=0", "pods=5,requests.memory=2Gi", True),
        ("count/pods=odd", "?", "?", False),
    ],
)
def test_a_full_quota_is_waited_for_and_one_that_is_too_small_for_the_pod_not_for_ever(
    requested: str, used: str, limited: str, patient: bool
) -> None:
    said = QUOTA.format(requested, used, limited)

    found = full_quota(said, 300.0)

    assert found is not None
    assert (found.reason, found.patience) == ("quota", timedelta(seconds=300) if patient else None)
    assert said in found.message


def test_another_refusal_is_no_full_quota() -> None:
    assert full_quota("pods is forbidden: failed quota: small: must specify requests.cpu for: agent", 300.0) is None


PODS, POD = {"kind": "pods"}, {"kind": "pods", "name": "optio-1"}
ENDING = {**POD, "causes": [{"reason": "NamespaceTerminating", "field": "metadata.namespace"}]}
INVALID = {**POD, "causes": [{"reason": "FieldValueInvalid", "field": "spec.containers[0].image", "message": "wrong"}]}
POLICY = {**POD, "causes": [{"message": "denied"}]}


@pytest.mark.parametrize(
    ("err", "reason"),
    [
        (Refused(401, "Unauthorized", reason="Unauthorized"), "access"),
        (Refused(403, "may not create pods", reason="Forbidden", details=PODS), "access"),
        (Refused(403, "the account was not found", reason="Forbidden", details=POD), "admission"),
        (Refused(403, "exceeded quota: small, requested: pods=1", reason="Forbidden", details=POD), "quota"),
        (Refused(403, "is being terminated", reason="Forbidden", details=ENDING), "namespace"),
        (Refused(403, "a webhook denied the request"), "admission"),
        (Refused(400, "a webhook denied the request"), "admission"),
        (Refused(422, "a policy denied the request", reason="Invalid", details=POLICY), "admission"),
        (Refused(404, "no such namespace", reason="NotFound", details={"kind": "namespaces", "name": "runs"}), "namespace"),
        (Refused(500, "failed calling a webhook", reason="InternalError"), "cluster"),
        (Refused(429, "too many requests", reason="TooManyRequests"), "cluster"),
        (Unreachable("the cluster's API does not answer"), "cluster"),
        (Refused(422, "the image is wrong", reason="Invalid", details=INVALID), None),
        (Refused(400, "it cannot be read", reason="BadRequest"), None),
        (Refused(413, "it is too large", reason="RequestEntityTooLarge"), None),
    ],
)
def test_a_refusal_is_told_by_its_codes_and_only_a_pod_at_fault_ends_its_run(err: OptioError, reason: str | None) -> None:
    found = refusal(err, 300.0)

    assert (None if found is None else found.reason) == reason
    assert found is None or (str(err) in found.message and "Cure: " in found.message)
