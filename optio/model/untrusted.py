"""Words of strangers on their way into a prompt.

A signature proves who delivered, not who wrote: the title of an issue on a public repository is anybody's.
"""

import re

from optio.model.prompt import placeholders
from optio.model.task import TaskSpec

# What strangers write, in the payloads of GitHub, GitLab, Sentry, Alertmanager, Jira, Linear, Slack, mail and their like: the
# last name of a path, or one above it.
_UNTRUSTED_NAMES = frozenset(
    {
        *("title", "display_title", "body", "message", "description", "text", "content", "comment", "summary", "subject"),
        *("culprit", "note", "email", "label", "page_name", "head_branch", "reason", "username", "commit_message"),
    }
)
_UNTRUSTED_PARENTS = frozenset(
    {"annotations", "labels", "commonAnnotations", "commonLabels", "author", "committer", "metadata", "customer"}
)
_STEP = re.compile(r"\.([A-Za-z_]\w*)|\[['\"]([^'\"\]]+)['\"]\]")
_BOUNDING_KEYWORDS = frozenset({"enum", "const", "pattern"})
_TEXTLESS_TYPES = ("integer", "number", "boolean")


def untrusted_params(spec: TaskSpec, prompt: str) -> dict[str, str]:
    """The parameters of the prompt that the webhook fills with what strangers write, unbounded, each with its path in the
    payload. A program takes no instructions from its input: none reaches it."""
    if spec.webhook is None or spec.agent_runtime == "command":
        return {}
    used, mapping = set(placeholders(prompt)), spec.webhook.config.param_mapping or {}
    paths = {name: path for name, path in mapping.items() if name in used and isinstance(path, str) and _is_untrusted(path)}
    properties = (spec.params_schema or {}).get("properties", {})
    return {name: path for name, path in paths.items() if not _is_bound(properties, name)}


def _is_untrusted(path: str) -> bool:
    steps = [a or b for a, b in _STEP.findall(path)] if path.startswith("$") else []
    # Who pushes to a branch may write to the repository; who proposes one from elsewhere need not.
    proposed = steps[-2:] == ["head", "ref"]
    return bool(steps) and (steps[-1] in _UNTRUSTED_NAMES or proposed or any(step in _UNTRUSTED_PARENTS for step in steps[:-1]))


def _is_bound(properties: object, name: str) -> bool:
    schema = properties.get(name) if isinstance(properties, dict) else None
    return isinstance(schema, dict) and bool(_BOUNDING_KEYWORDS & set(schema) or schema.get("type") in _TEXTLESS_TYPES)
