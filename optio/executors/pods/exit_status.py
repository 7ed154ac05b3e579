"""Reading of a pod's status: how its attempt ended if the supervisor said nothing, and why a pod does not start. Pure."""

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from optio.executors.base import Exit

Status = Mapping[str, Any]
# Why a container waits that will never run: the cure is in the task or on the cluster, not in time.
_HOPELESS = {
    "InvalidImageName": "image",
    "ErrImageNeverPull": "image",
    "CreateContainerConfigError": "pod_config",
    "CreateContainerError": "pod_config",
    "RunContainerError": "pod_config",
}
_ENDED_BY_NODE = ("Terminated", "Shutdown", "NodeShutdown", "NodeLost", "Preempting")
_NOT_PULLED = ("ErrImagePull", "ImagePullBackOff")
_MORE_MEMORY = "raise environment.resources.memory (OPTIO_POD_MEMORY, for tasks without it)"
_OOM = f"it used more memory than its limit: {_MORE_MEMORY}"
_BACK_OFF = re.compile(r'^Back-off pulling image "[^"]*": ErrImagePull: ')

DELETED = Exit(reason="deleted", message="the pod was deleted", temporary=True)


def of_end(text: str, *, oom: bool = False) -> Exit:
    """Parse the supervisor's last words. An attempt that fails after the kernel has killed a process of its container for
    memory (the words count them; `oom` is the kubelet's report) ends for lack of memory, whatever its exit code."""
    details = json.loads(text)
    code = details["code"]
    oom = (oom or details.get("oom", 0) > 0) and code != 0 and not details["stopped"]
    # So a shell tells of a signal.
    signal = code - 128 if code is not None and 128 < code <= 192 else 9 if code is None else None
    return Exit(
        code=code if signal is None else None,
        signal=signal,
        stopped_by=details["stopped"] or None,
        phase=details["phase"],
        error=details["error"] or None,
        sizes=details["sizes"],
        reason="oom" if oom else None,
        message=_OOM if oom else "",
    )


def with_limit(exit_: Exit, memory: str | None) -> Exit:
    """Return the same end, with the memory limit in the message if it ended for lack of memory."""
    if exit_.reason != "oom" or memory is None:
        return exit_
    return replace(exit_, message=f"it used more memory than its limit, {memory}: {_MORE_MEMORY}")


def of_status(status: Status) -> Exit | None:
    """Return how a pod ended that no longer runs, or None while its supervisor may still say so itself."""
    container = _container(status)
    terminated = (container.get("state") or {}).get("terminated") or {}
    if status.get("phase") not in ("Succeeded", "Failed") and not terminated:
        return None
    if (terminated.get("message") or "").startswith('{"phase"'):
        return of_end(terminated["message"], oom=terminated.get("reason") == "OOMKilled")
    reason, message, temporary = _why(status, terminated)
    return Exit(
        code=terminated.get("exitCode"), signal=None, reason=reason, message=message, temporary=temporary, lost=reason is None
    )


def _why(status: Status, terminated: Status) -> tuple[str | None, str, bool]:
    if (words := disrupted(status)) is not None:
        return "evicted", words, True
    if status.get("reason") == "DeadlineExceeded":
        return "timeout", "the pod's deadline was reached", False
    if terminated.get("reason") == "OOMKilled":
        return "oom", _OOM, False
    if status.get("reason") in _ENDED_BY_NODE:
        return "evicted", f"the node ended the pod: {status.get('message') or status['reason']}", True
    if status.get("reason") and not terminated:
        return "rejected", f"the node refused the pod: {status['reason']}: {status.get('message', '')}", True
    if terminated.get("exitCode") == 73:
        return "network", str(terminated.get("message") or "the network policy is not in place").strip(), True
    if terminated.get("exitCode") == 72:
        return "setup", str(terminated.get("message") or "a set-up command failed").strip(), False
    if terminated.get("exitCode") in (70, 71, 127):
        return "image", f"the image cannot run the supervisor: {terminated.get('message') or 'see the log'}", False
    return None, "", True


def of_start(status: Status) -> Exit | None:
    """Return the end of a pod that will not start, or None if it may only need time."""
    for container_status in status.get("containerStatuses") or ():
        waiting = (container_status.get("state") or {}).get("waiting") or {}
        reason = waiting.get("reason", "")
        if reason in _HOPELESS:
            message = f"the pod cannot start: {reason}: {waiting.get('message', '')}"
            return Exit(reason=_HOPELESS[reason], message=message)
    return None


def slow(status: Status) -> tuple[str, str]:
    """Return (reason, sentence) for a pod that has not started in time."""
    waiting = _waiting(status)
    hindrance = held_up(status)
    return hindrance or ("start_timeout", f"the pod did not start: {waiting.get('message') or preparing(status)}")


def held_up(status: Status) -> tuple[str, str] | None:
    """Return (reason, sentence with the cure) for what delays a pod, or None if it may only need time."""
    waiting = _waiting(status)
    if waiting.get("reason") in _NOT_PULLED:
        # The same words again, each time that it is tried.
        words = _BACK_OFF.sub("", waiting.get("message") or waiting["reason"])
        cure = "check its name (environment.image) and the registry's credentials"
        return "image", f"the image cannot be pulled: {words}: {cure}"
    words = unscheduled(status)
    return ("unschedulable", words) if words else None


def preparing(status: Status) -> str:
    """Return what the pod's node is doing, in the cluster's own word."""
    return str(_waiting(status).get("reason") or status.get("phase"))


def _waiting(status: Status) -> Status:
    state: Status = (_container(status).get("state") or {}).get("waiting") or {}
    return state


def disrupted(status: Status) -> str | None:
    """Return a sentence if the cluster has ended the pod to free or to save the node, else None."""
    condition = _condition(status, "DisruptionTarget")
    if status.get("reason") != "Evicted" and condition is None:
        return None
    message = status.get("message") or (condition or {}).get("message") or "the node had to free room"
    return f"the pod was evicted: {message}"


def unscheduled(status: Status) -> str:
    """Return why no node takes the pod, with the cure; empty if one does, or may."""
    condition = _condition(status, "PodScheduled", "False")
    # A pod with a scheduling gate waits for whoever put the gate there, such as a queue.
    if condition is None or condition.get("reason") == "SchedulingGated":
        return ""
    message = str(condition.get("message") or condition.get("reason"))
    if is_unsuitable(message):
        cure = "ask for less (environment.resources), or look at node selectors, taints and cordoned nodes"
        return f"no node can take the pod, whatever ends: {message} Cure: {cure}"
    cure = "wait for runs to end, ask for less (environment.resources), or add a node"
    return f"no node has room for the pod: {message} Cure: {cure}"


def is_unsuitable(message: str) -> bool:
    """Return whether the scheduler says that no node would take the pod even if all others went."""
    return "Preemption is not helpful" in message and "No preemption victims" not in message


def _container(status: Status) -> Status:
    container_status: Status = next((c for c in status.get("containerStatuses") or () if c.get("name", "agent") == "agent"), {})
    return container_status


def _condition(status: Status, kind: str, value: str = "True") -> Status | None:
    return next((c for c in status.get("conditions") or () if c.get("type") == kind and c.get("status") == value), None)
