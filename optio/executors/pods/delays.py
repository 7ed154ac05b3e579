"""Reasons why a pod does not start, for the run's log and for the decision to return its run to the queue.

Used by `Starter`. Nothing here sends requests: it reads what a watch or an answer has reported.
"""

import re
import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from optio.errors import OptioError
from optio.executors.pods import exit_status
from optio.executors.pods.api_client import Refused
from optio.executors.pods.handle import PodHandle
from optio.model.pool import parse_quantity
from optio.model.room import Delay

# The scheduler also reports a lack of room a moment before a node has room.
_SAID_AFTER_S = 2.0
# Most pods run by then; for the others the log says what they wait for.
_SLOW_S = 8.0
# A cluster autoscaler looks for pods without a node every ten seconds: it is to see this one.
_ROOM_S = 15.0
_QUOTA = re.compile(r"exceeded quota: .*?requested: (?P<requested>.*?), used: .*?, limited: (?P<limited>.*)")


class Delays:
    """The delays of one pod. `start_s` is how long it may take to start."""

    def __init__(self, handle: PodHandle, start_s: float) -> None:
        self._handle, self._start_s = handle, start_s
        self._began_at = self._since = time.monotonic()
        self._reason: str | None = None

    def look(self, status: Mapping[str, Any]) -> Delay | None:
        """Report what delays the pod, by its status. Return a delay without room once that has lasted for a while, else
        None."""
        now, hindrance = time.monotonic(), exit_status.held_up(status)
        reason = None if hindrance is None else hindrance[0]
        if reason != self._reason:
            self._reason, self._since = reason, now
        lasts = now - self._since
        if hindrance is not None:
            if lasts >= _SAID_AFTER_S:
                self._handle.tell_delay(Delay(reason=hindrance[0], message=hindrance[1]))
            if hindrance[0] == "unschedulable" and lasts >= _ROOM_S:
                return self.no_room(status)
        elif self._handle.delay() is not None or now - self._began_at >= _SLOW_S:
            step = exit_status.preparing(status)
            words = f"its node prepares the pod {self._handle.name} ({step}): an image may take long to pull"
            self._handle.tell_delay(Delay(reason="slow_start", message=words))
        return None

    def no_room(self, status: Mapping[str, Any]) -> Delay | None:
        """Return why no node takes the pod, or None if something else delays it."""
        words = exit_status.unscheduled(status)
        if not words:
            return None
        # Without end: a cordoned node comes back, and a larger one may be added.
        return Delay(reason="unschedulable", message=words)


def refusal(err: OptioError, start_s: float) -> Delay | None:
    """Return how a run waits whose pod the cluster has not taken, by the status, the reason and the details of the answer.
    Return None if the pod itself is at fault: its fields, its size, or a body that cannot be read.

    Rights are refused before the object is read, so that answer names a kind of object and no object. Admission names the
    object, and a webhook's refusal has no details at all. A refusal by a policy has no field.
    """
    if not isinstance(err, Refused):
        return Delay(reason="cluster", message=f"{err}. Cure: look at the API server, and at the network between")
    details, text = err.details, str(err)
    causes = details.get("causes") or ()
    if (err.status == 400 and err.reason == "BadRequest") or err.status == 413:
        return None
    if err.status == 422 and any("field" in cause for cause in causes):
        return None
    if err.status == 404 or any(cause.get("reason") == "NamespaceTerminating" for cause in causes):
        return Delay(reason="namespace", message=f"the namespace takes no pods: {text}. Cure: make it again, with its Role")
    if err.status == 401 or (err.status == 403 and "kind" in details and "name" not in details):
        cure = "give the worker's account its Role in the namespace (`optio doctor --cluster` names the rights that it lacks)"
        return Delay(reason="access", message=f"the cluster refuses the worker's account: {text}. Cure: {cure}")
    if err.status in (400, 403, 422):
        cure = "look at the namespace's admission policies, limit ranges and service accounts"
        delay = Delay(reason="admission", message=f"the cluster does not admit the pod: {text}. Cure: {cure}")
        return full_quota(text, start_s) or delay
    return Delay(reason="cluster", message=f"the cluster makes no pod: {text}. Cure: look at its API server and webhooks")


def command_refusal(err: Refused) -> Delay:
    """Return how a run waits in whose pod the worker may run no command: by its Role, its token, or an admission policy. The
    answer to such a request has a status and no words."""
    cure = "give the worker's account `create` and `get` of `pods/exec`, and look at what admits the connection to pods"
    return Delay(reason="access", message=f"the cluster refuses commands in pods: {err}. Cure: {cure}")


def full_quota(text: str, start_s: float) -> Delay | None:
    """Return a delay if the API server has refused a pod because the namespace's quota is full, else None. If the pod alone
    exceeds the quota, the delay has patience."""
    if "exceeded quota" not in text:
        return None
    match = _QUOTA.search(text)
    if match is not None and _exceeds(match["requested"], match["limited"]):
        words = (
            f"the namespace's quota is smaller than the pod: {text}. Cure: ask for less (environment.resources), or raise it"
        )
        return Delay(reason="quota", message=words, patience=timedelta(seconds=start_s))
    words = f"the namespace's quota is full: {text}. Cure: wait for runs to end, or raise the quota"
    return Delay(reason="quota", message=words)


def _exceeds(requested: str, limited: str) -> bool:
    """Return whether a request such as `requests.cpu=300m,pods=1` exceeds limits such as `pods=2,requests.cpu=100m`. A limit of
    zero is left out: it closes a namespace for a while."""
    limits = _quantities(limited)
    return any(0 < limits.get(name, 0) < value for name, value in _quantities(requested).items())


def _quantities(text: str) -> dict[str, Any]:
    pairs = (pair.partition("=") for pair in text.split(","))
    quantities = {name.strip(): parse_quantity(value.strip()) for name, _, value in pairs}
    return {name: value for name, value in quantities.items() if value is not None}
