"""Run one test with the code that serves real deliveries, but without server, clock or database.

Disabled triggers are tested as if they were on, so that tests show whether a trigger can be switched on again.
"""

import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import islice

from optio.compiler.diagnostics import shorten
from optio.compiler.payloads.filter_tests import leaf_tests, parse_filter
from optio.errors import Invalid, Malformed, Problem
from optio.model.example import Example
from optio.model.json_body import decode, refuse_encoded
from optio.model.mapping import compile_path
from optio.model.registry import CompiledTask
from optio.model.trigger import ScheduleConfig, WebhookConfig
from optio.runs import signature, webhook_decision
from optio.runs.replay import DeliveryDecision
from optio.runs.submit import prepare_run
from optio.scheduling.slots import NoSlot, find_slot
from optio.store.values import DeliveryVerdict, NewRun

# The time at which a test's delivery arrives.
NOW = datetime(2026, 1, 5, 8, tzinfo=UTC)
# Made up, in the form of `standard` webhook secrets, which every scheme accepts.
_SECRET, _ANOTHER = "whsec_b3B0aW8gdGVzdHMgc2lnbiB3aXRoIHRoaXM=", "whsec_c29tZWJvZHkgZWxzZSBzaWducyB3aXRoIHRoYXQ="
_DELIVERY = "optio-test"
_MAX_VALUES_SHOWN = 10


class ImpossibleTest(Exception):
    """Raised for a test that describes something that cannot happen, such as a slot that the schedule does not have."""


@dataclass(frozen=True, slots=True)
class Trial:
    """The outcome of a test. `problems` are the faults of the parameters if they caused the refusal; `came` shows the payload's
    values that a `when` filter did not accept."""

    judgement: DeliveryDecision
    problems: tuple[Problem, ...] = ()
    came: str | None = None


def try_example(task: CompiledTask, example: Example, body: bytes | None = None) -> Trial:
    """Run a test; `body` is its payload, None for schedules and manual runs. Raises ImpossibleTest."""
    decision = DeliveryDecision(verdict="accepted", task_id=task.id, definition=task.digest)
    try:
        trial = _trigger(task, example, body)
    except (Malformed, Invalid) as err:
        word, _, detail = webhook_decision.refusal(err)
        return Trial(replace(decision, verdict=word, detail=detail), err.problems if isinstance(err, Invalid) else ())
    if isinstance(trial, NewRun):
        return Trial(replace(decision, params=trial.params, prompt=trial.prompt))
    verdict, detail = trial
    came = _filter_values(task, body) if detail == webhook_decision.FILTERED and body is not None else None
    return Trial(replace(decision, verdict=verdict, detail=detail), came=came)


def _trigger(task: CompiledTask, example: Example, body: bytes | None) -> NewRun | tuple[DeliveryVerdict, str]:
    """Return the run, or (verdict, detail) if none would start."""
    if example.webhook is not None:
        if task.spec.webhook is None or body is None:
            raise ImpossibleTest("the task has no webhook trigger")
        return _deliver(task, task.spec.webhook.config, example, body)
    if example.schedule is not None:
        if task.spec.schedule is None:
            raise ImpossibleTest("the task has no schedule trigger")
        config = task.spec.schedule.config
        slot = slot_of(config, example)
        return prepare_run(task, config.param_mapping, new_id="", trigger="schedule", actor="scheduler", slot=slot)
    return prepare_run(task, example.params, new_id="", trigger="manual", actor="")


def _deliver(task: CompiledTask, config: WebhookConfig, example: Example, body: bytes) -> NewRun | tuple[DeliveryVerdict, str]:
    headers = {"content-type": "application/json"}
    kind, now = example.signature or "valid", NOW.timestamp()
    if config.secret is not None and kind != "missing":
        signed_at = now - 2 * signature.TOLERANCE_S if kind == "stale" else now
        secret = _ANOTHER if kind == "wrong" else _SECRET
        signed = signature.sign(config, secret, body, delivery=_DELIVERY, now=signed_at)
        headers |= {name.lower(): value for name, value in signed.items()}
    headers |= {name.lower(): value for name, value in example.headers.items()}

    def header(name: str) -> list[str]:
        return [headers[name]] if name in headers else []

    refuse_encoded(header("content-encoding"))
    if config.secret is not None:
        doubt = signature.why_unproved([signature.signing_key(config, _SECRET)], body, header, now)
        if doubt is not None:
            return doubt
    decision = webhook_decision.decide_start(task, config, header, body, new_id="", actor=f"webhook:{config.path}")
    return decision if isinstance(decision, NewRun) else ("filtered", decision)


def _filter_values(task: CompiledTask, body: bytes) -> str | None:
    """Describe the payload's values that the filter reads, where that can be done simply."""
    expression, payload = task.spec.webhook.config.when if task.spec.webhook is not None else None, decode(body)
    tests = leaf_tests(parse_filter(expression or ""))
    paths = dict.fromkeys(test.path for test in tests if test.path[:1] == "@" and test.is_read)
    values = {path: compile_path(f"${path[1:]}").values(payload) for path in islice(paths, _MAX_VALUES_SHOWN)}
    texts = (
        f"`{path}` is {shorten(json.dumps(found[0]))}" if found else f"`{path}` is missing" for path, found in values.items()
    )
    return ", ".join(texts) or None


def slot_of(config: ScheduleConfig, example: Example) -> datetime:
    """Return the slot in UTC that the test names; raises ImpossibleTest when the schedule has none at that time."""
    try:
        return find_slot(config.cron_expression, config.timezone, example.slot)
    except NoSlot as err:
        problem = f"`{config.cron_expression}` ({config.timezone}) does not fire at `{example.schedule}`"
        raise ImpossibleTest(f"{problem}: {err}") from None
