"""Report keys of `environment` that the executor in use does not apply, such as `network` with the process executor. The check
runs only where the executor is known (`optio check --executor`, the server). There a cure that adds such a key also says so."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from optio.compiler.diagnostics import Diagnostic, diagnostic
from optio.compiler.facts import TaskFacts
from optio.compiler.layers import POLICY
from optio.model.isolation import DEPENDS, not_applied, requested_keys
from optio.model.task import Environment

_CURE = (
    f"write `executor: kubernetes` into `{POLICY}` (a new one begins with `type: policy`), or set OPTIO_EXECUTOR=kubernetes, "
    "if agents run as pods"
)
# Code in a cure that adds one of the keys.
_ADDED = r"(?:write|add) [^;]*`[^`]*\b(?:(?P<network>network|egress)|image): ?[^\s`]"


def check(claims: Sequence[TaskFacts], executor: str) -> Iterator[Diagnostic]:
    """Yield the findings of all tasks for one executor. A key that the policy demands is an error, because its runs are
    refused; other keys are a warning."""
    delegate = f"give the worker's systemd unit `Delegate=yes`, or {_CURE}"
    for claim in claims:
        for key, place in claim.asks:
            demanded = key in claim.demands
            why = ", and the policy demands it: runs are refused" if demanded else ""
            depends = DEPENDS.get((executor, key))
            fact = _fact(executor, key)
            message = f"`environment.{key}` is {fact}{why}"
            code = "OPT524" if demanded else "OPT523"
            hint = delegate if key == "resources" and depends else _CURE
            yield diagnostic(code, message, path=claim.path, span=place.span, route=place.route, hint=hint)


def complete_cures(found: Sequence[Diagnostic], environment: Environment, executor: str) -> Iterator[Diagnostic]:
    """Yield the findings. A cure that adds an image or a network which the executor does not apply goes on to say so, as the
    finding about that key would."""
    for each in found:
        hint = each.hint or ""
        added = re.search(_ADDED, hint) if "image" in hint or "egress" in hint or "network" in hint else None
        key = None if added is None else "network" if added["network"] else "image"
        if key is not None and not_applied(executor, [key]) and key not in requested_keys(environment):
            each = replace(each, hint=f"{hint}; `environment.{key}` is {_fact(executor, key)}: {_CURE}")
        yield each


def _fact(executor: str, key: str) -> str:
    return DEPENDS.get((executor, key)) or f"not applied by the {executor} executor"
