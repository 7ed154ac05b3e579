"""List the secrets that a task uses by name, for a file that asks for all of them (`secrets: inherit`). Imported only for a
file with such a mistake."""

import re
from collections.abc import Iterator
from typing import Any

from optio.compiler.conversions.known_keys import CREDENTIAL_NAME
from optio.compiler.yaml.emit import flow
from optio.model.route import value_at
from optio.model.runtimes import DECLARED

_ALL = frozenset({"inherit", "inherited", "all", "*", "true", "yes"})
_NAMED = re.compile(
    r"secrets\.([A-Z][A-Z0-9_]{0,99})\b|\$\{?([A-Z][A-Z0-9_]{0,99})\b|\b([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+)\b", re.ASCII
)
# Programs that sign in by a variable of their own.
_OF_PROGRAMS = (
    ("GH_TOKEN", re.compile(r"(?:^|[\s`;&|(])gh (?:api|pr|issue|release|repo|run|search|workflow|label|gist)\b")),
    ("GITLAB_TOKEN", re.compile(r"(?:^|[\s`;&|(])glab (?:api|mr|issue|release|repo|ci)\b")),
)
_MAX_NAMES, _MAX_LENGTH = 12, 100_000


def asks_for_all(value: Any) -> bool:
    """Return True for a word that stands for all secrets, such as `inherit`."""
    listed = value if isinstance(value, list) else [value]
    return len(listed) == 1 and isinstance(listed[0], (str, bool)) and str(listed[0]).strip().lower() in _ALL


def used_secrets(root: Any) -> list[str]:
    """Return the names of secrets in the commands, variables and prompt of a task, with the agent's own key first. Names of
    variables and parameters are left out."""
    known = {*_keys(root, "environment", "env"), *_keys(root, "paramsSchema", "properties")}
    variables = value_at(root, ("environment", "env"))
    copied = [name for name, text in variables.items() if _is_reference(text)] if isinstance(variables, dict) else []
    agent = DECLARED.get(str(value_at(root, ("agentRuntime",))))
    own = [] if agent is None or agent.service is None else [agent.service.key]
    found = list(dict.fromkeys([*own, *copied]))
    for text in _texts(root):
        found += [name for name, called in _OF_PROGRAMS if called.search(text) and name not in known and name not in found]
        for match in _NAMED.finditer(text[:_MAX_LENGTH]):
            name = next(filter(None, match.groups()))
            if (match[1] or re.search(CREDENTIAL_NAME, name)) and name not in known and name not in found:
                found.append(name)
    return found[:_MAX_NAMES]


def secrets_hint(root: Any) -> str:
    """Return the hint that names each secret instead of all."""
    used = used_secrets(root)
    if not used:
        return "name each secret that the run needs, such as `[API_TOKEN]`, or delete it: a run gets no others"
    return f"write `secrets: {flow(used)}`: a run gets no others"


def missing_secrets_hint(root: Any) -> str:
    """Return the hint for `secrets: inherit` at the top of a file, by what `environment` has already."""
    used, environment = used_secrets(root), value_at(root, ("environment",))
    if not isinstance(environment, dict):
        return f"write `environment: {{secrets: {flow(used or ['API_TOKEN'])}}}`: a run gets no others"
    listed = environment.get("secrets")
    if not isinstance(listed, list):
        return f"write `secrets: {flow(used or ['API_TOKEN'])}` below `environment`: a run gets no others"
    left = [name for name in used if name not in listed]
    added = f"add `{', '.join(left)}` to `environment.secrets`, and delete this line" if left else ""
    return added or "delete it: a run gets the secrets that `environment.secrets` names, and no others"


def _keys(root: Any, *route: str) -> Iterator[str]:
    inner = value_at(root, route)
    yield from inner if isinstance(inner, dict) else ()


def _texts(root: Any) -> Iterator[str]:
    places = (("command",), ("environment", "setupCommands"), ("environment", "env"), ("promptTemplate",))
    for value in (value_at(root, place) for place in places):
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else [value]
        yield from (each for each in inner if isinstance(each, str) and not _is_reference(each))


def _is_reference(text: Any) -> bool:
    """Return True for a variable that is a copy of a secret, and needs no other name for it."""
    return isinstance(text, str) and re.fullmatch(r"\$\{\{\s*secrets\.\w{1,100}\s*\}\}", text) is not None
