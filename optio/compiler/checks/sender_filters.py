"""Compare a filter with fields that senders other than GitHub fill from a few words, or with numbers and booleans. The words
are those of the senders' documentation; a word that resembles none of them is left alone, because a sender may have added
it."""

import re
from collections.abc import Iterator, Mapping

from optio.compiler.checks.filter_questions import NOTHING, Question, is_in_samples
from optio.compiler.diagnostics import Diagnostic
from optio.compiler.resolved_task import ResolvedTask
from optio.compiler.suggest import suggest
from optio.model.route import Route
from optio.model.trigger import WebhookConfig

_MERGE_ACTIONS = ("open", "close", "reopen", "update", "approval", "approved", "unapproval", "unapproved", "merge")
_PIPELINE = (
    *("created", "waiting_for_resource", "preparing", "pending", "running", "success", "failed", "canceled", "skipped"),
    *("manual", "scheduled"),
)
_GITLAB: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("", "object_kind"): (
        *("push", "tag_push", "issue", "note", "merge_request", "wiki_page", "pipeline", "build", "deployment", "release"),
        *("feature_flag", "emoji", "access_token", "milestone"),
    ),
    ("Merge Request Hook", "object_attributes.action"): _MERGE_ACTIONS,
    ("Merge Request Hook", "object_attributes.state"): ("opened", "closed", "merged", "locked"),
    ("Issue Hook", "object_attributes.action"): ("open", "close", "reopen", "update"),
    ("Issue Hook", "object_attributes.state"): ("opened", "closed"),
    ("Pipeline Hook", "object_attributes.status"): _PIPELINE,
    ("Job Hook", "build_status"): _PIPELINE,
    ("Note Hook", "object_attributes.noteable_type"): ("Commit", "MergeRequest", "Issue", "Snippet"),
    ("Release Hook", "action"): ("create", "update", "delete"),
}
_GITEA: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("pull_request", "action"): (
        *("opened", "closed", "reopened", "edited", "assigned", "unassigned", "label_updated", "label_cleared"),
        *("synchronized", "milestoned", "demilestoned", "reviewed", "review_requested", "review_request_removed"),
    ),
    ("issues", "action"): (
        *("opened", "closed", "reopened", "edited", "deleted", "assigned", "unassigned", "label_updated", "label_cleared"),
        *("milestoned", "demilestoned", "pinned", "unpinned"),
    ),
    ("issue_comment", "action"): ("created", "edited", "deleted"),
    ("release", "action"): ("published", "updated", "deleted"),
    ("pull_request", "pull_request.state"): ("open", "closed"),
    ("issues", "issue.state"): ("open", "closed"),
}
_PAGERDUTY: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("", "event.data.urgency"): ("high", "low"),
    ("", "event.data.status"): ("triggered", "acknowledged", "resolved"),
}
_STRIPE: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("payment_intent.", "data.object.status"): (
        *("requires_payment_method", "requires_confirmation", "requires_action", "processing", "requires_capture"),
        *("canceled", "succeeded"),
    ),
    ("charge.dispute.", "data.object.status"): (
        *("warning_needs_response", "warning_under_review", "warning_closed", "needs_response", "under_review", "won", "lost"),
        "prevented",
    ),
    ("invoice.", "data.object.status"): ("draft", "open", "paid", "uncollectible", "void"),
    ("customer.subscription.", "data.object.status"): (
        *("incomplete", "incomplete_expired", "trialing", "active", "past_due", "canceled", "unpaid", "paused"),
    ),
    ("checkout.session.", "data.object.payment_status"): ("paid", "unpaid", "no_payment_required"),
    ("checkout.session.", "data.object.status"): ("open", "complete", "expired"),
    ("payout.", "data.object.status"): ("paid", "pending", "in_transit", "canceled", "failed"),
    ("refund.", "data.object.status"): ("pending", "requires_action", "succeeded", "failed", "canceled"),
}
_LINEAR: Mapping[tuple[str, str], tuple[str, ...]] = {("", "action"): ("create", "update", "remove")}
_JIRA: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("", "webhookEvent"): (
        *("jira:issue_created", "jira:issue_updated", "jira:issue_deleted", "comment_created", "comment_updated"),
        *("comment_deleted", "worklog_created", "worklog_updated", "worklog_deleted", "issuelink_created"),
        *("issuelink_deleted", "sprint_created", "sprint_started", "sprint_closed", "jira:version_released"),
    ),
}
# The sender of a webhook with `scheme: hmac`, by its signature header.
_BY_HEADER = {"linear-signature": "linear"}
_WORDS: Mapping[str, Mapping[tuple[str, str], tuple[str, ...]]] = {
    "gitlab": _GITLAB,
    "gitea": _GITEA,
    "pagerduty": _PAGERDUTY,
    "stripe": _STRIPE,
    "linear": _LINEAR,
    "jira": _JIRA,
}
# Words of other senders, in the order in which they are tried.
_MEANT = {
    **dict.fromkeys(("opened", "created", "create", "new", "open"), ("open", "opened", "create", "created")),
    **dict.fromkeys(("closed", "close", "done"), ("close", "closed", "complete")),
    **dict.fromkeys(("reopened", "reopen"), ("reopen", "reopened")),
    **dict.fromkeys(("merged", "merge"), ("merge", "merged")),
    **dict.fromkeys(("updated", "edited", "synchronize", "pushed"), ("synchronized", "update", "edited", "updated")),
    **dict.fromkeys(("labeled", "label"), ("label_updated",)),
    **dict.fromkeys(("unlabeled",), ("label_cleared",)),
    **dict.fromkeys(("failure", "error", "fail", "broken"), ("failed",)),
    **dict.fromkeys(("success", "successful", "succeeded", "passed", "ok"), ("succeeded", "success", "paid")),
    **dict.fromkeys(("cancelled", "canceled"), ("canceled",)),
    **dict.fromkeys(("completed", "complete"), ("succeeded", "complete", "success")),
    **dict.fromkeys(("trial",), ("trialing",)),
    **dict.fromkeys(("overdue", "late"), ("past_due",)),
    **dict.fromkeys(("open", "active", "firing"), ("triggered", "active")),
    **dict.fromkeys(("closed", "ok"), ("resolved",)),
}
# Fields that are true or false wherever a sender has them, and objects whose members are texts of their author.
BOOLEANS = frozenset(
    {
        *("draft", "work_in_progress", "wip", "confidential", "merged", "locked", "private", "archived", "fork", "livemode"),
        *("prerelease", "deleted", "created", "forced", "captured", "paid", "refunded", "disputed", "cancel_at_period_end"),
        *("closed", "allow_failure", "tag", "is_bot", "resolved"),
    }
)
_NAMES_BY_AUTHOR = frozenset({"metadata", "labels", "annotations", "commonLabels", "groupLabels", "tags", "custom_fields"})
_NUMBERS = (
    r"(?:project_id|user_id|author_id|iid|number|total_commits_count|comments|additions|deletions|changed_files|amount"
    r"|amount_(?:due|paid|refunded|remaining|total|received)|total|subtotal|quantity|attempt_count)"
)
KINDS: Mapping[str, str] = {
    "gitlab": rf"(?:object_attributes\.id|user\.id|project\.id|(?:.*\.)?{_NUMBERS})",
    "gitea": rf"(?:(?:.*\.)?(?:id|{_NUMBERS}))",
    "stripe": rf"(?:data\.object\.{_NUMBERS}|created)",
    "pagerduty": r"event\.data\.number",
}
# The field that the items of a list are named by, and that of an object.
_ITEMS: Mapping[str, Mapping[str, str]] = {
    "gitlab": {"labels": "title", "assignees": "username", "reviewers": "username"},
    "gitea": {"labels": "name", "assignees": "login"},
}
_NAMED_OBJECTS: Mapping[str, Mapping[str, str]] = {
    "pagerduty": {f"event.data.{name}": "summary" for name in ("priority", "service", "escalation_policy")},
    "gitlab": {"user": "username", "project": "path_with_namespace"},
    "gitea": {"sender": "login", "repository": "full_name", "issue.user": "login", "pull_request.user": "login"},
}
_SLACK_IDS = {"channel": "C024BE91L", "user": "U024BE7LH"}
# The kind of the object in GitLab's events.
_GITLAB_KINDS = {
    "Push Hook": "push", "Tag Push Hook": "tag_push", "Issue Hook": "issue", "Note Hook": "note", "Job Hook": "build",
    "Merge Request Hook": "merge_request", "Pipeline Hook": "pipeline", "Release Hook": "release",
    "Wiki Page Hook": "wiki_page", "Deployment Hook": "deployment",
}  # fmt: skip
# Where a sender names the event in the body.
_NAMED_BY = {"stripe": "type", "pagerduty": "event.event_type", "slack": "event.type"}
# The outer `type` of what Slack sends to a URL.
_SLACKS_ENVELOPES = ("event_callback", "url_verification", "app_rate_limited")
_BRANCH = r"(?:source_branch|target_branch|default_branch|head\.ref|base\.ref|head_branch|master_branch)"


def check(task: ResolvedTask, route: Route, config: WebhookConfig, questions: list[Question]) -> Iterator[Diagnostic]:
    """Report at most one finding for each comparison."""
    for question in questions:
        if question.asked not in ("==", "!=") or question.path[0] != "@" or not isinstance(question.value, str):
            continue
        if config.scheme == "slack" and question.steps[-1:] in (("channel",), ("user",)) and question.value[:1] in ("#", "@"):
            message = f"`{question.path}` is an id, and never a name such as `{question.value}`"
            span = task.document.inside(route, question.start, question.end)
            yield task.at("OPT426", message, route, hint=f"write the id, such as `{_SLACK_IDS[question.steps[-1]]}`", span=span)
            continue
        found = _text(task, question, config) or _branch(question, config) or _form(question, config) or _word(question, config)
        if found is None:
            continue
        message, meant = found
        whole, span = config.when or "", task.document.inside(route, question.start, question.end)
        better = f"{whole[: question.start]}{meant}{whole[question.end :]}"
        yield task.at("OPT426", message, route, hint=f"write `{meant}`", span=span, value=better, safe=False)


def _text(task: ResolvedTask, question: Question, config: WebhookConfig) -> tuple[str, str] | None:
    """Return message and cure for a number, a boolean or null in quotes."""
    given, steps = str(question.value), question.steps
    if not steps or not _NAMES_BY_AUTHOR.isdisjoint(steps[:-1]) or is_in_samples(task, steps):
        return None
    path, asked = question.path, question.asked
    if given.lower() in NOTHING:
        return f"`{path}` is compared with the text `{given}`, and not with `null`", f"{path} {asked} null"
    if config.scheme == "github":
        return None
    if given.lower() in ("true", "false") and steps[-1] in BOOLEANS:
        return f"`{path}` is true or false, and never the text `'{given}'`", f"{path} {asked} {given.lower()}"
    numbers = KINDS.get(config.scheme)
    if numbers is not None and re.fullmatch(r"-?[0-9]{1,18}", given) and re.fullmatch(numbers, ".".join(steps)):
        return f"`{path}` is a number, and never the text `'{given}'`", f"{path} {asked} {int(given)}"
    return None


def _form(question: Question, config: WebhookConfig) -> tuple[str, str] | None:
    """Return message and cure for a text where the sender has an object, a list, or the text in another form."""
    path, given, asked, steps = question.path, str(question.value), question.asked, question.steps
    no, scheme, events = "!" if asked == "!=" else "", config.scheme, config.events or []
    field = _ITEMS.get(scheme, {}).get(steps[-1]) if steps else None
    if field is not None:
        return f"`{path}` is a list, and never the text `'{given}'`", f"{no}{path}[?@.{field} == '{given}']"
    named = _NAMED_OBJECTS.get(scheme, {}).get(".".join(steps))
    if named is not None:
        return f"`{path}` is an object, and never the text `'{given}'`", f"{path}.{named} {asked} '{given}'"
    if scheme == "stripe" and steps[-1:] == ("currency",) and given != given.lower():
        return f"`{given}` never matches: Stripe writes currencies in small letters", f"{path} {asked} '{given.lower()}'"
    if scheme == "slack" and events == ["app_mention"] and path == "@.event.text" and re.fullmatch(r"[\w -]+", given):
        return f"`{path}` holds the mention, as in `<@U024BE7LH> {given}`", f"{no}search({path}, '{given}')"
    kinds = sorted({_GITLAB_KINDS.get(event, "") for event in events})
    if scheme == "gitlab" and steps == ("object_kind",) and kinds and all(kinds) and given not in kinds:
        return f"`{path}` is `{kinds[0]}` in a delivery of `{events[0]}`, and never `{given}`", f"{path} {asked} '{kinds[0]}'"
    return None


def _branch(question: Question, config: WebhookConfig) -> tuple[str, str] | None:
    """Return message and cure for a branch that is written as a whole ref."""
    given = str(question.value)
    events = set(config.events or ()) if config.scheme == "github" and question.path == "@.ref" else set()
    if events and events <= {"create", "delete"} and given.startswith(("refs/heads/", "refs/tags/")):
        name, kind = given.split("/", 2)[2], "tag" if given.startswith("refs/tags/") else "branch"
        both = f"@.ref {question.asked} '{name}'" + (f" && @.ref_type == '{kind}'" if question.asked == "==" else "")
        return f"`@.ref` is the name alone in `{min(events)}`, such as `{name}`", both
    is_pipelines = config.scheme == "gitlab" and question.steps == ("object_attributes", "ref")
    if given.startswith("refs/heads/") and (is_pipelines or re.search(rf"\.{_BRANCH}\Z", question.path)):
        name = given.removeprefix("refs/heads/")
        return f"`{question.path}` is the name alone, such as `{name}`", f"{question.path} {question.asked} '{name}'"
    return None


def _word(question: Question, config: WebhookConfig) -> tuple[str, str] | None:
    """Return message and cure for a word that no event of the webhook has in this field."""
    path, given = ".".join(question.steps), str(question.value)
    sender = _BY_HEADER.get((config.signature_header or "").lower(), "jira" if path == "webhookEvent" else "")
    table = _WORDS.get(config.scheme if config.scheme != "hmac" else sender, {})
    events = config.events or [""]
    if path == _NAMED_BY.get(config.scheme) and config.events and given not in config.events:
        name = suggest(given, config.events) or config.events[0]
        message = f"`{question.path}` is the event's name, one of {', '.join(config.events)} here, never `{given}`"
        return message, f"{question.path} {question.asked} '{name}'"
    if config.scheme == "slack" and path == "type" and given not in _SLACKS_ENVELOPES:
        message = f"`{question.path}` is `event_callback` in each event of Slack: the event's own type stands in `event.type`"
        return message, f"@.event.type {question.asked} '{given}'"
    fields = [(begins, words) for (begins, field), words in table.items() if field == path]
    lists = [words for event in events for begins, words in fields if event.startswith(begins)]
    known = list(dict.fromkeys(word for words in lists for word in words))
    if len(lists) < len(events) or given in known:
        return None
    meant = next((word for word in known if word.casefold() == given.casefold().replace(" ", "_").replace("-", "_")), None)
    meant = meant or next((word for word in _MEANT.get(given.lower(), ()) if word in known), None) or suggest(given, known)
    if meant is None:
        return None
    message = f"`{question.path}` is one of {', '.join(known)}, never `{given}`"
    return message, f"{question.path} {question.asked} '{meant}'"
