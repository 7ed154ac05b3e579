"""Read the expressions of GitHub Actions: contexts in a text become parameters, and a condition the filter of a webhook.
Whatever has no exact counterpart raises Uncertain, or stays in the text and is asked about."""

import re
from dataclasses import dataclass, field
from typing import Any

from optio.compiler.payloads.deliveries import field_of
from optio.importing.draft import SourceKey, TaskDraft

EXPRESSION = re.compile(r"\$\{\{\s*(.*?)\s*\}\}", re.DOTALL)
_EVENT_PATH = re.compile(r"github\.event\.(?!inputs\.)(\w+(?:\.\w+)*)", re.ASCII)
_INPUT = re.compile(r"(?:github\.event\.)?inputs\.([A-Za-z_][\w-]*)", re.ASCII)
# Contexts that a delivery has under another name. `github.ref` is that of a push alone, so it is not here.
_CONTEXTS = {
    "github.repository": "repository.full_name",
    "github.repository_owner": "repository.owner.login",
    "github.actor": "sender.login",
    "github.triggering_actor": "sender.login",
    "github.head_ref": "pull_request.head.ref",
    "github.base_ref": "pull_request.base.ref",
}
_CONSTANTS = {"github.server_url": "https://github.com", "github.api_url": "https://api.github.com"}
# A test that deliveries of this event alone pass, among those of all events here.
EVENT_TESTS = {
    "issues": "@.issue && !@.comment",
    "issue_comment": "@.issue && @.comment",
    "pull_request": "@.pull_request && !@.review && !@.comment",
    "pull_request_review": "@.pull_request && @.review",
    "pull_request_review_comment": "@.pull_request && @.comment",
    "push": "@.commits",
    "release": "@.release",
    "discussion": "@.discussion && !@.comment",
    "discussion_comment": "@.discussion && @.comment",
    "workflow_run": "@.workflow_run",
}
# Operators, their order and parentheses are the same in a filter; the other parts are rewritten one by one.
_PART = re.compile(
    r"\s*(?:(?P<operator>\|\||&&|!(?!=)|[()])"
    r"|(?P<call>contains|startsWith|endsWith)\(\s*(?P<subject>[\w.*]+)\s*,\s*(?P<text>'[^']*')\s*\)"
    r"|(?P<left>[\w.]+)\s*(?P<comparison>==|!=)\s*(?P<right>'[^']*'|\d+|true|false)"
    r"|(?P<object>github\.event\.issue\.pull_request)(?![\w.]))\s*",
    re.ASCII,
)
# Characters of a pattern that brackets make plain. A circumflex and a backslash have a meaning there, too.
_SPECIAL = re.compile(r"[.+*?()|\[\]{}$]")
_PATTERNS = {"contains": "(?i){}", "startsWith": "(?i)^{}", "endsWith": "(?i){}$"}
_LABELS = re.compile(r"github\.event\.(issue|pull_request)\.labels\.\*\.name")


class Uncertain(Exception):
    """A condition has no exact counterpart."""


@dataclass
class Parameters:
    """The parameters that texts of a workflow need: inputs with their schemas, and those of the event with their paths."""

    draft: TaskDraft
    inputs: dict[str, dict[str, Any]] = field(default_factory=dict)
    paths: dict[str, str] = field(default_factory=dict)

    def fill(self, origin: SourceKey, text: str) -> str:
        """Return a text with placeholders for its expressions. One that has no counterpart stays, and is asked about."""

        def placeholder(match: re.Match[str]) -> str:
            expression, name = match[1], None
            path, entry = event_path(expression), _INPUT.fullmatch(expression)
            if entry is not None:
                name = entry[1].replace("-", "_")
                name = name if name in self.inputs else None
            elif path is not None:
                name = re.sub(r"[^A-Z0-9]+", "_", path.upper())
                self.paths[name] = path
            if name is None and expression not in _CONSTANTS:
                question = f"`{expression}` is not known to a run: write what it stands for, or pass it as a parameter"
                self.draft.block(origin, question)
                return match[0]
            return _CONSTANTS.get(expression, f"{{{{{name}}}}}")

        return EXPRESSION.sub(placeholder, text)

    def properties(self, *, only_webhook: bool) -> dict[str, Any]:
        """Return the properties of `paramsSchema`. A parameter of the event is empty in a run that no event started."""
        return {**self.inputs, **{name: _schema_of(path, may_miss=not only_webhook) for name, path in self.paths.items()}}


def event_path(expression: str) -> str | None:
    """Return the path into a delivery that a context is, such as `issue.title`; None for any other expression."""
    match = _EVENT_PATH.fullmatch(expression)
    return _CONTEXTS.get(expression, None if match is None else match[1])


def _schema_of(path: str, *, may_miss: bool) -> dict[str, Any]:
    sent = field_of("github", tuple(path.split(".")))
    if sent is None:
        return {"default": ""} if may_miss else {}
    types = [sent.kind, *(["null"] if sent.null else []), *(["string"] if may_miss and sent.kind != "string" else [])]
    return {"type": types[0] if len(types) == 1 else types, **({"default": ""} if may_miss else {})}


def to_filter(condition: str) -> str:
    """Return the filter that lets a delivery through if the condition holds, but for the case of letters in `==`, which GitHub
    ignores. Raises Uncertain if there is none."""
    match = EXPRESSION.fullmatch(condition.strip())
    text, position, parts = (match[1] if match is not None else condition.strip()), 0, list[str]()
    while position < len(text):
        part = _PART.match(text, position)
        # A `!` before a comparison negates its left side alone.
        if part is None or (part["comparison"] and parts and parts[-1] == "!"):
            raise Uncertain(text[position:])
        parts.append(_rewritten(part))
        position = part.end()
    return re.sub(r"\( ", "(", re.sub(r"! ", "!", " ".join(parts))).replace(" )", ")")


def _rewritten(part: re.Match[str]) -> str:
    if part["operator"]:
        return part["operator"]
    if part["object"]:
        return "@.issue.pull_request"
    if part["comparison"]:
        return _comparison(part["left"], part["comparison"], part["right"])
    text, labels = _literal(part["text"]), _LABELS.fullmatch(part["subject"])
    if labels is not None and part["call"] == "contains":
        return f"@.{labels[1]}.labels[?@.name == '{text}']"
    path = event_path(part["subject"])
    if path is None:
        raise Uncertain(part["subject"])
    pattern = _PATTERNS[part["call"]].format(_SPECIAL.sub(lambda special: f"[{special[0]}]", text))
    return f"search(@.{path}, '{pattern}')"


def _comparison(left: str, operator: str, right: str) -> str:
    if left == "github.event_name":
        test = EVENT_TESTS.get(_literal(right))
        if test is None:
            raise Uncertain(right)
        return f"({test})" if operator == "==" else f"!({test})"
    path = event_path(left)
    if path is None:
        raise Uncertain(left)
    return f"@.{path} {operator} {right if not right.startswith(chr(39)) else chr(39) + _literal(right) + chr(39)}"


def _literal(quoted: str) -> str:
    """Return the text between quotes, if a filter can hold it."""
    text = quoted[1:-1]
    if not text or "\\" in text or "^" in text:
        raise Uncertain(quoted)
    return text
