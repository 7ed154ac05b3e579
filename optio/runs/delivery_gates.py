"""The gates of a webhook request, in the order in which it meets them: which it passed, which one stopped it, and why.

They are derived from what is stored of a delivery, so that old deliveries have them too. Pure; used by the API and the pages.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

from optio.model.registry import CompiledTask
from optio.model.run import Run
from optio.model.trigger import WebhookConfig
from optio.runs.admission import Hold
from optio.store.values import Delivery, InvalidAt

# A step that a webhook request takes.
GateName = Literal[
    "path",  # a served task has the webhook
    "signature",  # the sender is proved, and its time stamp is fresh
    "rate",  # the path has had fewer requests in this minute than it may
    "body",  # the body is JSON, and is declared as such
    "filter",  # the task wants it, by `events` and `when`
    "mapping",  # the queries of `paramMapping` can be applied
    "params",  # the parameters and the prompt fit the task
    "dedupe",  # neither its id nor its business key is known
    "start",  # its run starts, as soon as limits and pauses allow it
]
# What became of a request at a gate.
GateOutcome = Literal[
    "passed",  # it went on
    "stopped",  # it ended here
    "waiting",  # its run waits here
    "unreached",  # it ended before
    "unknown",  # the run is no longer stored, or an older version did not record the gate
]
_NAMES: tuple[GateName, ...] = ("path", "signature", "rate", "body", "filter", "mapping", "params", "dedupe", "start")
# One of these ended an invalid delivery.
_OF_INVALID: tuple[GateName, ...] = get_args(InvalidAt)
_STOPPED_AT: dict[str, GateName] = {
    "unknown": "path",
    "unsigned": "signature",
    "stale": "signature",
    "unavailable": "signature",
    "unsigned_rate": "signature",
    "rate": "rate",
    "unreadable": "body",
    "unsupported": "body",
    "filtered": "filter",
    "conflict": "dedupe",
    "duplicate": "dedupe",
    "full": "dedupe",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """One gate, what became of the request there, and a sentence on it; empty where there is nothing to say."""

    name: GateName
    outcome: GateOutcome
    detail: str = ""


def gates_of(delivery: Delivery, task: CompiledTask | None, run: Run | None, hold: Hold | None) -> list[Gate]:
    """Return the gates of a delivery. `task` is the definition that decided it, if that is known, `run` the run that it
    started or was joined to, and `hold` what that run waits for."""
    end = delivery.gate if delivery.verdict == "invalid" else _STOPPED_AT.get(delivery.verdict)
    config = None if task is None or task.spec.webhook is None else task.spec.webhook.config
    return list(_gates(delivery, end, config, run, hold))


def _gates(
    delivery: Delivery, end: GateName | None, config: WebhookConfig | None, run: Run | None, hold: Hold | None
) -> Iterator[Gate]:
    reached = True
    is_unrecorded = delivery.verdict == "invalid" and end is None
    for name in _NAMES:
        if not reached:
            yield Gate(name=name, outcome="unreached")
        elif name == end:
            reached = False
            yield Gate(name=name, outcome="stopped", detail=_stop(delivery))
        elif is_unrecorded and name in _OF_INVALID:
            reached = name != _OF_INVALID[-1]
            yield Gate(name=name, outcome="unknown", detail=delivery.detail or "")
        elif name == "start" and delivery.verdict == "accepted":
            yield _start(run, hold)
        elif name == "start":
            yield Gate(name=name, outcome="unknown", detail=delivery.detail or "")
        else:
            yield Gate(name=name, outcome="passed", detail="" if config is None else _about(name, config))


def _stop(delivery: Delivery) -> str:
    if delivery.verdict == "duplicate" and delivery.run_id is not None and delivery.status < 300:
        return f"run {delivery.run_id} has the same business key, and stands for this request too"
    return delivery.detail or f"the verdict is {delivery.verdict}"


def _start(run: Run | None, hold: Hold | None) -> Gate:
    if run is None:
        return Gate(name="start", outcome="unknown", detail="the run is no longer stored")
    if hold is not None:
        return Gate(name="start", outcome="waiting", detail=hold.message)
    if run.started_at is None and run.state.terminal:
        return Gate(name="start", outcome="stopped", detail=f"the run ended before it started: {run.message or run.reason}")
    if run.started_at is None:
        return Gate(name="start", outcome="waiting", detail=run.message or run.reason)
    return Gate(name="start", outcome="passed", detail=f"the run is {run.state}")


def _about(name: GateName, config: WebhookConfig) -> str:
    """Return what the definition says of a gate."""
    if name == "path":
        return f"POST /api/hooks/{config.path}"
    if name == "signature":
        return "the webhook is unsigned" if config.secret is None else f"scheme {config.scheme}"
    if name == "filter":
        events = None if config.events is None else f"events: {', '.join(config.events)}"
        when = None if config.when is None else f"when: {config.when}"
        return "; ".join(condition for condition in (events, when) if condition) or "the task wants every event"
    if name == "mapping":
        return "the whole body" if config.param_mapping is None else ", ".join(config.param_mapping)
    return ""
