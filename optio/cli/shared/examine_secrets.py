"""The checks of `optio doctor` about the secrets that tasks use, and the program that gives them."""

import shlex
import time
from collections.abc import Iterator, Sequence

from optio import wiring
from optio.errors import SecretUnavailable, SettingsError
from optio.model import untrusted
from optio.model.probe_result import ProbeResult
from optio.model.registry import CompiledTask
from optio.runs.launching import planned_access
from optio.runs.signature import unusable_secrets
from optio.secrets.base import secret_names
from optio.secrets.local import LocalSecrets
from optio.settings import Settings

# The name that the program of secrets is asked for where no task names any.
_UNUSED_NAME = "OPTIO_DOCTOR"


def examine_secrets(settings: Settings, tasks: Sequence[CompiledTask]) -> Iterator[ProbeResult]:
    """Check that the secrets of the tasks and of their connections have values, and that those of webhooks can verify
    deliveries."""
    users: dict[str, list[str]] = {}
    # A gateway of its own reads them where it is.
    route = None if settings.gateway_url is None else wiring.gateway_route(settings)
    of_gateway: dict[str, list[str]] = {}
    for task in tasks:
        access = planned_access(route, task, settings.credentials, settings.endpoints)
        apart = () if access is None else access.variables
        for name in secret_names(task, settings.credentials):
            (of_gateway if name in apart else users).setdefault(name, []).append(task.id)
        for connection in task.connections:
            for name in connection.secrets:
                place = users if route is None else of_gateway
                place.setdefault(name, []).append(f"{task.id} (connection {connection.id})")
    try:
        secrets = wiring.secrets(settings)
    except SettingsError as err:
        yield ProbeResult("secret", "error", str(err))
        return
    try:
        yield from _secret_command(settings, secrets, list(users))
    except SecretUnavailable as err:
        hint = "run OPTIO_SECRET_COMMAND with the name of a secret as its last argument, or look at OPTIO_SECRETS_DIR"
        yield ProbeResult("secret", "error", str(err), hint)
        return
    for name, ids in sorted(users.items()):
        if secrets.get(name) is None:
            detail = f"{name} has no value, but is used by {', '.join(ids)}"
            file = shlex.quote(str(settings.secrets / name))
            command = f"mkdir -p {shlex.quote(str(settings.secrets))} && printf %s 'THE VALUE' > {file} && chmod 600 {file}"
            yield ProbeResult("secret", "warning", detail, secrets.where(name), command=command)
    for name in sorted(of_gateway.keys() - users.keys()):
        yield ProbeResult("secret", "ok", f"{name} is read by the gateway alone, for {', '.join(of_gateway[name])}")
    for task_id, path, name, fault in unusable_secrets(tasks, secrets.get):
        detail = f"{name} cannot verify the webhook {path} of {task_id}: {fault}"
        hint = "give it a long random value, such as of `openssl rand -hex 32`, and give the sender the same one"
        yield ProbeResult("secret", "error", detail, hint, "openssl rand -hex 32")
    count = sum(secrets.get(name) is not None for name in users)
    if count:
        yield ProbeResult("secret", "ok", f"{count} of {len(users)} named secrets have a value")


def _secret_command(settings: Settings, secrets: LocalSecrets, names: Sequence[str]) -> Iterator[ProbeResult]:
    """Check that the program that reads secrets gives an answer for each name that tasks use, or for a name that nobody uses.
    Raises SecretUnavailable, also if the directory of secrets is away."""
    names_asked = [name for name in names if not secrets.is_at_hand(name)]
    for name in set(names) - set(names_asked):
        secrets.get(name)
    started_at = time.monotonic()
    probes = [_UNUSED_NAME] if settings.secret_command is not None else []
    values = [secrets.get(name) for name in names_asked or probes]
    if values:
        count = sum(value is not None for value in values)
        words = f"{count} of {len(names_asked)} values" if names_asked else "no secret is asked of it now"
        detail = f"OPTIO_SECRET_COMMAND answers: {words}, {time.monotonic() - started_at:.1f} s"
        yield ProbeResult("secret", "ok", detail)


def examine_untrusted_input(tasks: Sequence[CompiledTask]) -> Iterator[ProbeResult]:
    """Check for tasks with secrets whose prompt contains text by outsiders: a sandbox cannot stop an agent from giving them
    away."""
    exposed = [
        task.id for task in tasks if task.spec.environment.secrets and untrusted.untrusted_params(task.spec, task.prompt)
    ]
    if exposed:
        ids = ", ".join(exposed[:5]) + (f" and {len(exposed) - 5} more" if len(exposed) > 5 else "")
        detail = f"text by outsiders reaches the prompt of tasks with secrets: {ids}"
        hint = "remove secrets that these tasks can do without, and list their hosts in `environment.network.egress`"
        yield ProbeResult("secret", "warning", detail, hint)
