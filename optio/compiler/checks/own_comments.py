"""Find a task that answers itself: comments start it, and its prompt asks the agent to write one. Imported only for a task with
a webhook for comments."""

import re
from collections.abc import Iterator

from optio.compiler.checks.secrets_use import RUNTIME_KEYS
from optio.compiler.diagnostics import Diagnostic
from optio.compiler.resolved_task import ResolvedTask
from optio.model.route import Route
from optio.model.trigger import WebhookConfig, WebhookTrigger

_OF_GITHUB = frozenset({"issue_comment", "pull_request_review_comment", "discussion_comment", "commit_comment"})
COMMENTS = {"github": _OF_GITHUB, "gitea": _OF_GITHUB, "gitlab": frozenset({"Note Hook"})}
"""The events of each sender that a comment causes."""
# Where a sentence tells the agent what to do, and not what others do: `Post it as a comment`, `..., and reply to`.
_DO = r"(?:(?:\A|[.!?:;,)\n-])\s{0,9}|\b(?<!not )(?:and|then|please|must|should|also|to|finally|always) )"
_SAME_SENTENCE = r"(?:(?![.!?]\s)[\s\S])"
_WRITES = (
    rf"(?i){_DO}(?P<what>(?:post|write|leave|add|publish|submit|make|send|put)\b{_SAME_SENTENCE}{{0,120}}?"
    r"\b(?:an?|one|your|single|short|new) (?:[\w-]+ ){0,2}comment\b"
    r"|comment (?:on|under|in) (?:the |this |that |it\b)[^.!?\n]{0,40}"
    r"|(?:reply|respond) (?:to|on|in|under) (?:the |this |that |its )(?:[\w-]+ ){0,2}"
    r"(?:comment|thread|note|discussion|issue|pull request|merge request)\b"
    r"|(?:answer|reply|respond)\b[^.!?\n]{0,60} (?:with|as|in) (?:an?|one|your) (?:[\w-]+ ){0,2}(?:comment|note)\b"
    rf"|(?:post|send|put|curl)\b{_SAME_SENTENCE}{{0,250}}?/(?:comments|notes|replies)\b)"
    r"|(?P<program>\bgh (?:issue|pr) comment\b|\bglab (?:issue|mr) note\b)"
)
# Words by which a prompt itself may end the circle, and comments of other kinds or places.
_UNSURE = (
    r"(?i)\b(?:bots?|yourself|ignore|skip|unless|only (?:if|when|for)|do nothing|stop)\b|\byour own\b|\bown comments?\b"
    r"|\bif (?:the |this |that |a )?(?:comment|commenter|author|it|text|note|message)\b"
    r"|\b(?:not|never|no|without|don't)\b[^.!?\n]{0,60}\bcomments?\b"
    r"|\bcomment (?:in|into|to|above|at) (?:the |each )?(?:code|source|file|script|line|function|config)"
    r"|\b(?:code|source|inline|jira|slack|linear|notion|asana|trello|zendesk|confluence|discord|teams|telegram)\b"
)
# The kind of comment that an address or a program of the prompt writes.
_KINDS = {"issues": "issue_comment", "pulls": "pull_request_review_comment", "commits": "commit_comment"}
_ADDRESS = r"/(issues|pulls|commits)/[^/\s]{1,100}/comments\b"
_OTHER_ACTION = r"@\.(?:object_attributes\.)?action\s*==\s*['\"](?!creat)"
_ASKS_WHO_OR_WHAT = r"sender|user|author|performed_via|body|\bnote\b|description"
# A prompt is read up to here, so that no text takes long.
_MAX_READ = 20_000
_MAX_SAID = 60
_TEXT = {"github": "@.comment.body", "gitea": "@.comment.body", "gitlab": "@.object_attributes.note"}


def check(task: ResolvedTask) -> Iterator[Diagnostic]:
    """Report webhooks that the task's own comments start again, where nothing in filter and prompt is likely to end that."""
    spec = task.spec
    if spec.dedupe is not None or spec.agent_runtime == "command" or not task.is_known(task.prompt_route):
        return
    for index, trigger in enumerate(spec.triggers):
        route: Route = ("triggers", index, "config")
        if isinstance(trigger, WebhookTrigger) and task.is_known(route) and _may_comment(task, trigger.config):
            yield from _one(task, route, trigger.config)


def _may_comment(task: ResolvedTask, config: WebhookConfig) -> bool:
    """Return whether comments start the webhook, whoever wrote them, and the agent has a token of something."""
    signing = {ref.name for ref in (config.secret, config.previous_secret) if ref is not None}
    has_token = any(name not in RUNTIME_KEYS and name not in signing for name in task.spec.environment.secrets)
    when = config.when or ""
    is_open = re.search(_ASKS_WHO_OR_WHAT, when) is None and re.search(_OTHER_ACTION, when) is None
    return has_token and is_open and not COMMENTS.get(config.scheme, frozenset()).isdisjoint(config.events or ())


def _one(task: ResolvedTask, route: Route, config: WebhookConfig) -> Iterator[Diagnostic]:
    prompt = task.prompt[:_MAX_READ]
    found = re.search(_WRITES, prompt) if "comment" in prompt or "repl" in prompt or "note" in prompt else None
    if found is None or re.search(_UNSURE, prompt):
        return
    events = config.events or []
    kinds = {_KINDS[kind] for kind in re.findall(_ADDRESS, prompt)}
    kinds |= {"issue_comment"} if found["program"] else set()
    if kinds and config.scheme != "gitlab" and kinds.isdisjoint(events):
        return
    said = " ".join((found["what"] or found["program"]).split())
    said = said if len(said) <= _MAX_SAID else f"{said[:_MAX_SAID].rpartition(' ')[0]} ..."
    message = f"`{said}`: each comment of this task starts it again, without end"
    whole, path = config.when, _TEXT[config.scheme]
    before = "" if whole is None else f"({whole}) && " if "||" in whole else f"{whole} && "
    word = f"search({path}, '^/ask')"
    if not set(events) <= COMMENTS[config.scheme]:
        word = f"(!{path} || {word})" if before else f"!{path} || {word}"
    elif whole is None and config.scheme != "gitlab":
        before = "@.action == 'created' && "
    by_word = f'write `when: "{before}{word}"`, so that a comment starts it by a word'
    place: Route = (*route, "when" if whole is not None else "events")
    if config.scheme != "github":
        yield task.at("OPT433", message, place, hint=by_word)
        return
    better = f"{before}@.sender.type != 'Bot'"
    hint = f'write `when: "{better}"` if the token is that of an app or bot; for that of a person, {by_word}'
    yield task.at("OPT433", message, place, hint=hint)
