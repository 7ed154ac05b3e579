"""Check `warmPoolSize`: pods that are kept ready for more runs than may run at once."""

from collections.abc import Iterator

from optio.compiler.diagnostics import Diagnostic
from optio.compiler.resolved_task import ResolvedTask
from optio.model.route import Route

_ROUTE: Route = ("warmPoolSize",)


def check(task: ResolvedTask) -> Iterator[Diagnostic]:
    """Report a pool larger than `maxConcurrent`."""
    size, max_runs = task.spec.warm_pool_size, task.spec.max_concurrent
    if not size or not task.spec.enabled or not task.is_known(_ROUTE):
        return
    if size > max_runs and task.is_known(("maxConcurrent",)):
        runs = "1 run" if max_runs == 1 else f"{max_runs} runs"
        hint = f"write {max_runs}, or raise `maxConcurrent`"
        yield task.at("OPT606", f"{size} pods are kept ready for {runs} at once", _ROUTE, hint=hint)
