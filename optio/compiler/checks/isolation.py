"""Report keys of `environment` that the executor in use does not apply, such as `network` with the process executor. The check
runs only where the executor is known (`optio check --executor`, the server)."""

from collections.abc import Iterator, Sequence

from optio.compiler.diagnostics import Diagnostic, diagnostic
from optio.compiler.facts import TaskFacts
from optio.compiler.layers import POLICY
from optio.model.isolation import DEPENDS

_CURE = (
    f"write `executor: kubernetes` into `{POLICY}` (a new one begins with `type: policy`), or set OPTIO_EXECUTOR=kubernetes, "
    "if agents run as pods"
)


def check(claims: Sequence[TaskFacts], executor: str) -> Iterator[Diagnostic]:
    """Yield the findings of all tasks for one executor. A key that the policy demands is an error, because its runs are
    refused; other keys are a warning."""
    delegate = f"give the worker's systemd unit `Delegate=yes`, or {_CURE}"
    for claim in claims:
        for key, place in claim.asks:
            demanded = key in claim.demands
            reason = ", and the policy demands it: runs are refused" if demanded else ""
            depends = DEPENDS.get((executor, key))
            fact = _fact(executor, key)
            message = f"`environment.{key}` is {fact}{reason}"
            code = "OPT524" if demanded else "OPT523"
            hint = delegate if key == "resources" and depends else _CURE
            yield diagnostic(code, message, path=claim.path, span=place.span, route=place.route, hint=hint)


def _fact(executor: str, key: str) -> str:
    return DEPENDS.get((executor, key)) or f"not applied by the {executor} executor"
