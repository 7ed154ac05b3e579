"""Decisions about webhook requests: the steps after the sender was proved, without side effects.

Arriving requests, replayed ones, and requests tried on another revision of the tree all pass through here, so that they are
decided alike.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from optio.errors import Invalid, Malformed, Problem, RefusalVerdict, Unsupported, answer_to
from optio.model import json_body as payload
from optio.model import mapping
from optio.model.registry import CompiledTask, Registry
from optio.model.trigger import WebhookConfig
from optio.runs import signature
from optio.runs.replay import DeliveryDecision
from optio.runs.submit import prepare_run
from optio.store.values import InvalidAt, NewRun

Header = Callable[[str], Sequence[str]]
FILTERED = "the `when` filter does not hold"
CHALLENGED = "the sender asked for its challenge back, to verify the URL"
# The stored value of a header that was a credential.
MASKED = "***"
_MAX_DETAIL_LENGTH = 2000
_MAX_EVENT_LENGTH, _MAX_EVENTS = 60, 10


class QueryFailed(Invalid):
    """A payload that a query of the webhook cannot be applied to; `gate` has the query."""

    def __init__(self, message: str, gate: InvalidAt) -> None:
        self.gate = gate
        super().__init__(message)


def decide_start(
    task: CompiledTask,
    config: WebhookConfig,
    header: Header,
    body: bytes,
    *,
    new_id: str,
    actor: str,
    delivery_id: str | None = None,
    generation: int | None = None,
) -> NewRun | str:
    """Return the run to start, or the reason why the request starts none. Raises Malformed and Invalid."""
    types = header("content-type")
    if types and not payload.is_json(types[0]):
        raise Unsupported("send application/json")
    document = payload.decode(body)
    gate: InvalidAt = "filter"
    try:
        unwanted = _filter_reason(config, header, document)
        if unwanted is not None:
            return unwanted
        gate, mapped = "mapping", config.param_mapping
        params = document if mapped is None else mapping.from_payload(mapped, document)
    except mapping.MappingFailed as err:
        raise QueryFailed(str(err), gate) from err
    try:
        return prepare_run(
            task,
            params,
            new_id=new_id,
            trigger="webhook",
            actor=actor,
            delivery_id=delivery_id,
            traceparent=next(iter(header("traceparent")), None),
            generation=generation,
        )
    except Invalid as err:
        raise Invalid(str(err), [_with_path(problem, mapped or {}, params) for problem in err.problems]) from err


def _with_path(problem: Problem, mapped: Mapping[str, Any], params: Any) -> Problem:
    """Return the problem, with the query of the mapping that found nothing where a parameter is missing for that reason."""
    name = problem.pointer.removeprefix("/params/").replace("~1", "/").replace("~0", "~")
    query = mapped.get(name)
    if not isinstance(query, str) or name in params or problem.hint is not None:
        return problem
    return replace(problem, hint=f"`{query}` finds nothing in the payload")


def _filter_reason(config: WebhookConfig, header: Header, document: Any) -> str | None:
    if signature.challenge(config, document) is not None:
        return CHALLENGED
    if config.events is not None:
        event = signature.event_name(config, header, document)
        if event is None or event not in config.events:
            names = ", ".join(name[:_MAX_EVENT_LENGTH] for name in config.events[:_MAX_EVENTS])
            place = signature.event_place(config)
            came = f"`{place}` names no event" if event is None else f"the event is `{event[:_MAX_EVENT_LENGTH]}`"
            return f"{came}, and `events` has {names}"
    return None if config.when is None or mapping.compile_when(config.when).holds(document) else FILTERED


def refusal(err: Malformed | Invalid) -> tuple[RefusalVerdict, int, str]:
    """Return verdict, HTTP status and detail for an error that `decide_start` raises."""
    answer, detail = answer_to(err), str(err)
    if isinstance(err, Invalid):
        texts = (f"{p.pointer} {p.message}" + (f": {p.hint}" if p.hint else "") for p in err.problems)
        detail = ("; ".join(texts) or detail)[:_MAX_DETAIL_LENGTH]
    return answer.verdict, answer.status, detail


def gate_of(err: Malformed | Invalid) -> InvalidAt | None:
    """Return the gate at which an invalid request ended; None for one that cannot be read."""
    if isinstance(err, QueryFailed):
        return err.gate
    return "params" if isinstance(err, Invalid) else None


def kept_header_lookup(headers: Mapping[str, str]) -> Header:
    """Return a header lookup over a stored delivery. Masked credentials and the old trace are left out."""
    return lambda name: [headers[name]] if name != "traceparent" and headers.get(name, MASKED) != MASKED else []


def decide_again(
    registry: Registry,
    path: str,
    headers: Mapping[str, str],
    body: bytes,
    *,
    new_id: str = "",
    actor: str = "",
    delivery_id: str | None = None,
    generation: int | None = None,
) -> tuple[DeliveryDecision, NewRun | None]:
    """Return the decision of the served tasks about a stored delivery, and the run that they would start. The signature was
    proved when the delivery came, so it is not checked again."""
    task = registry.hooks.get(path)
    if task is None or task.spec.webhook is None:
        return DeliveryDecision(verdict="absent", detail=f"no webhook `{path}` is served"), None
    decision = DeliveryDecision(verdict="accepted", task_id=task.id, definition=task.digest)
    try:
        verdict = decide_start(
            task,
            task.spec.webhook.config,
            kept_header_lookup(headers),
            body,
            new_id=new_id,
            actor=actor,
            delivery_id=delivery_id,
            generation=generation,
        )
    except (Malformed, Invalid) as err:
        word, _, detail = refusal(err)
        return replace(decision, verdict=word, detail=detail), None
    if isinstance(verdict, str):
        return replace(decision, verdict="filtered", detail=verdict), None
    return replace(decision, params=verdict.params, prompt=verdict.prompt), verdict
