"""Untrusted input: payload fields in which strangers can write text that reaches a prompt.

A signature proves who delivered a payload, not who wrote its fields: anybody can write the title of an issue in a public
repository, and with it instructions to an agent.
"""

import re

from optio.model.prompt import placeholders
from optio.model.task import TaskSpec

# Fields that strangers write, in payloads of GitHub, GitLab, Sentry, Alertmanager, Jira, Linear, Slack, mail and the like: the
# last name of a path, or (below) one above it.
_UNTRUSTED_NAMES = frozenset(
    {
        *("title", "display_title", "body", "message", "description", "text", "content", "comment", "summary", "subject"),
        *("culprit", "note", "email", "label", "page_name", "head_branch", "reason", "username", "commit_message"),
    }
)
_UNTRUSTED_PARENTS = frozenset(
    {"annotations", "labels", "commonAnnotations", "commonLabels", "author", "committer", "metadata", "customer"}
)
# Paths whose last name stands above, but whose value the sender or the owner of the account there chooses.
_OWN: dict[str, re.Pattern[str]] = {
    # A reference to an object of the account, with the object's name: a service, a team, a person on call.
    "pagerduty": re.compile(
        r"\$\.event\.(?:data\.)?(?:incident\.)?(?:service|priority|escalation_policy|incident_type|agent|teams|assignees|assignee|responders)(?:\[\d+\])?\.summary"
    ),
    # One of a few words, such as `fraudulent`.
    "stripe": re.compile(r"\$\.data\.object\.reason"),
}
_STEP = re.compile(r"\.([A-Za-z_]\w*)|\[['\"]([^'\"\]]+)['\"]\]")
_BOUNDING_KEYWORDS = frozenset({"enum", "const", "pattern"})
_TEXTLESS_TYPES = ("integer", "number", "boolean")


def untrusted_params(spec: TaskSpec, prompt: str) -> dict[str, str]:
    """Return the prompt's parameters that the webhook fills with free text of strangers, each with its JSONPath in the payload.
    `command` tasks give none, since programs take no instructions from their input."""
    if spec.webhook is None or spec.agent_runtime == "command":
        return {}
    names, mapping = set(placeholders(prompt)), spec.webhook.config.param_mapping or {}
    sender_paths = _OWN.get(spec.webhook.config.scheme)
    paths = {
        name: path
        for name, path in mapping.items()
        if name in names
        and isinstance(path, str)
        and _is_untrusted(path)
        and not (sender_paths and sender_paths.fullmatch(path))
        if not _is_pinned(path, spec.webhook.config.when)
    }
    properties = (spec.params_schema or {}).get("properties", {})
    return {name: path for name, path in paths.items() if not _is_bound(properties, name)}


def unbounded_params(spec: TaskSpec) -> dict[str, str]:
    """Return the parameters that a webhook fills from its payload, each with its JSONPath, and that the schema bounds by no
    list, pattern or type: a branch may be named `$(id)`."""
    mapping = (spec.webhook.config.param_mapping or {}) if spec.webhook is not None else {}
    properties = (spec.params_schema or {}).get("properties", {})
    paths = {name: path for name, path in mapping.items() if isinstance(path, str) and path.startswith("$")}
    return {name: path for name, path in paths.items() if not _is_bound(properties, name)}


def _is_untrusted(path: str) -> bool:
    steps = [a or b for a, b in _STEP.findall(path)] if path.startswith("$") else []
    # A pushed branch was named by somebody with write access; the branch of a pull request need not be.
    proposed = steps[-2:] == ["head", "ref"]
    return bool(steps) and (steps[-1] in _UNTRUSTED_NAMES or proposed or any(step in _UNTRUSTED_PARENTS for step in steps[:-1]))


def _is_pinned(path: str, expression: str | None) -> bool:
    """Return True if the filter lets one text at the path through, and no other."""
    if expression is None or re.search(r"\|\||\[\?|!\s*\(", expression):
        return False  # another branch, an item of a list, or the opposite
    return re.search(rf"@{re.escape(path[1:])}\s*==\s*['\"]", expression) is not None


def _is_bound(properties: object, name: str) -> bool:
    schema = properties.get(name) if isinstance(properties, dict) else None
    return isinstance(schema, dict) and bool(_BOUNDING_KEYWORDS & set(schema) or schema.get("type") in _TEXTLESS_TYPES)
