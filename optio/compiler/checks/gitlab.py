"""Check webhooks of GitLab: ids and counts, which are numbers in every payload, against the parameters that they fill. The
fields are those that GitLab documents for its webhook events."""

import re
from collections.abc import Iterator

from optio.compiler.checks.github import type_mismatch
from optio.compiler.diagnostics import Diagnostic
from optio.compiler.param_schema.declared import declared_parameters, declared_types
from optio.compiler.resolved_task import ResolvedTask
from optio.model.trigger import WebhookTrigger

_IDS = r"(?:id|iid|author_id|project_id|source_project_id|target_project_id)"
# `commit.id`, `last_commit.id` and `commit_id` are texts, or differ between events.
_NUMBERS = re.compile(
    rf"\$\.(?:project_id|user_id|build_id|pipeline_id|deployment_id|deployable_id|group_id|total_commits_count|runner\.id"
    rf"|object_attributes\.(?:{_IDS}|noteable_id|assignee_id|milestone_id|merge_user_id|duration|time_estimate"
    rf"|total_time_spent|awardable_id|user_id)"
    rf"|(?:merge_request|issue|snippet|milestone)\.(?:{_IDS}|assignee_id|milestone_id)"
    rf"|project\.(?:id|visibility_level)|user\.id"
    rf"|(?:assignees|reviewers|labels|builds)\[-?\d+\]\.(?:id|project_id))"
)
_WORDS = {"string": "a string", "boolean": "true or false", "array": "a list", "object": "an object"}


def check(task: ResolvedTask) -> Iterator[Diagnostic]:
    """Report the numbers that a mapping gives to parameters of another type. Samples of the task are checked instead, if it has
    some."""
    known = declared_parameters(task)
    for index, trigger in enumerate(task.spec.triggers):
        route = ("triggers", index, "config", "paramMapping")
        if not isinstance(trigger, WebhookTrigger) or trigger.config.scheme != "gitlab" or not task.is_known(route):
            continue
        for name, source in (trigger.config.param_mapping or {}).items() if known is not None and not task.samples else ():
            taken = declared_types(known.properties.get(name)) if known is not None else None
            if (
                taken is None
                or not isinstance(source, str)
                or {"integer", "number"} & set(taken)
                or not _NUMBERS.fullmatch(source)
            ):
                continue
            wanted = _WORDS.get(taken[0], taken[0])
            yield type_mismatch(task, (*route, name), wanted, source, "integer")
