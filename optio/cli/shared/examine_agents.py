"""The checks of `optio doctor` about the executor and the programs of the agents."""

import re
from collections.abc import Iterator, Sequence
from contextlib import closing

from optio import wiring
from optio.cli.shared.examine_secrets import examine_untrusted_input
from optio.errors import LaunchFailed, SettingsError, StoreUnavailable
from optio.executors.base import Executor
from optio.executors.program_facts import told_version
from optio.model import isolation
from optio.model.probe_result import ProbeResult, ProbeStatus
from optio.model.registry import CompiledTask
from optio.model.runtimes import declaration_of, known_names
from optio.settings import Settings


def examine_agents(settings: Settings, tasks: Sequence[CompiledTask]) -> Iterator[ProbeResult]:
    """Check the executor, and the programs of agents where they run here."""
    try:
        executor = wiring.executor(settings)
    except SettingsError as err:
        yield ProbeResult("executor", "error", str(err))
        return
    with closing(executor):
        yield from _isolation(executor, tasks)
        if settings.executor == "kubernetes":
            yield _cluster(settings, executor)
            return  # the agents' programs are in their images
        yield from executor.examine()
        yield from examine_untrusted_input(tasks)
        needed_names = {task.spec.agent_runtime for task in tasks}
        for name in known_names():
            yield from _program(executor, name, is_needed=name in needed_names)


def _program(executor: Executor, name: str, *, is_needed: bool) -> Iterator[ProbeResult]:
    agent = declaration_of(name)
    if agent is None or agent.program is None:
        return
    try:
        program = executor.program(name)
    except LaunchFailed as err:
        if is_needed:
            yield ProbeResult(name, "error", err.message, err.cure)
        return
    version = told_version(program)
    if version is None:
        yield ProbeResult(
            name, "error" if is_needed else "warning", f"{program} does not answer to --version", "install it again"
        )
    elif is_needed and _is_older(version, agent.program.tested):
        detail = f"{version}, {program}, is older than {agent.program.tested}, which Optio is tested with"
        hint = f"update it with `{agent.program.install}`; with an old Node.js, npm takes an old version"
        yield ProbeResult(name, "warning", detail, hint, agent.program.install)
    else:
        yield ProbeResult(name, "ok", f"{version}, {program}")


def _isolation(executor: Executor, tasks: Sequence[CompiledTask]) -> Iterator[ProbeResult]:
    """Check for isolation that tasks request or the policy demands, and that the executor does not apply."""
    pods = ("set OPTIO_EXECUTOR=kubernetes to run agents as pods", "export OPTIO_EXECUTOR=kubernetes")
    sandbox = ("choose a sandbox that isolates", "export OPTIO_SANDBOX=namespaces")
    users: dict[tuple[bool, bool, str], list[str]] = {}
    for task in tasks:
        for name in isolation.requested_isolation(task):
            for text in executor.not_applied((name,)):
                users.setdefault((name in task.isolation, name == isolation.ISOLATED, text), []).append(task.id)
    for (demanded, isolates, text), names in sorted(users.items()):
        detail = f"{text}, which the policy demands: runs of" if demanded else f"{text} of"
        status: ProbeStatus = "error" if demanded else "warning"
        suffix = " are refused" if demanded else ""
        detail = f"{detail} {', '.join(names)}{suffix}"
        cure, command = sandbox if isolates else pods
        yield ProbeResult("isolation", status, detail, cure, command=command)


def _cluster(settings: Settings, executor: Executor) -> ProbeResult:
    try:
        executor.place()
    except (SettingsError, StoreUnavailable) as err:
        return ProbeResult("cluster", "error", str(err))
    image = settings.kube_image or "only those that tasks name (OPTIO_KUBE_IMAGE is not set)"
    return ProbeResult("cluster", "ok", f"pods in the namespace {settings.pod_namespace}, image {image}")


def _is_older(version: str, tested: str) -> bool:
    """Return whether a program tells a version below the tested one; False if it tells none."""
    matches = [re.search(r"\d+(?:\.\d+)+", text) for text in (version, tested)]
    numbers = [[int(part) for part in match[0].split(".")] for match in matches if match is not None]
    return len(numbers) == 2 and numbers[0] < numbers[1]
