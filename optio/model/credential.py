"""Default credential: the secret by which an agent signs in to its model where its task names none. The operator offers it."""

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from optio.model.runtimes import service_of
from optio.model.task import TaskSpec

if TYPE_CHECKING:
    from optio.model.registry import CompiledTask


def lacks_credential(spec: TaskSpec) -> bool:
    """Return whether the agent asks the service of its models and the task says neither how it signs in there, nor that it asks
    another service: a key of the operator must not be sent to that."""
    service = service_of(spec.agent_runtime, spec.model)
    names = (*spec.environment.secrets, *spec.environment.env)
    return service is not None and not any(
        re.match(service.credentials, name) or re.fullmatch(service.elsewhere, name) for name in names
    )


def default_credential(task: "CompiledTask", offered: Sequence[str]) -> str | None:
    """Return the first of the offered secrets by which the task's agent can sign in; None for a task that has a credential, and
    where the policy does not allow the secret."""
    service = service_of(task.spec.agent_runtime, task.spec.model)
    if not offered or service is None or not lacks_credential(task.spec):
        return None
    fitting = (name for name in offered if re.match(service.credentials, name))
    patterns = task.allowed_secrets
    return next((name for name in fitting if patterns is None or any(fnmatchcase(name, pattern) for pattern in patterns)), None)
