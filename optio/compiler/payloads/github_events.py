"""GitHub's less common events: top-level fields, actions and object fields of their deliveries. Generated from the JSON schemas
of `@octokit/webhooks-schemas` 7.6.1 (MIT); `github_fields` holds the common ones by hand. Imported only for such an event."""

from functools import lru_cache

# Top-level fields of every delivery of the event, and behind `|` those of some; without `sender` and other common fields.
_TOPS = """
branch_protection_configuration: action repository sender
branch_protection_rule: action repository rule sender
check_run: action check_run repository sender | requested_action
check_suite: action check_suite repository sender
code_scanning_alert: action alert commit_oid ref repository sender
commit_comment: action comment repository sender
create: description master_branch pusher_type ref ref_type repository sender
custom_property: action definition
custom_property_values: action new_property_values old_property_values repository sender
delete: pusher_type ref ref_type repository sender
dependabot_alert: action alert repository sender
deploy_key: action key repository sender
deployment: action deployment repository sender workflow workflow_run
deployment_protection_rule: action repository sender | deployment deployment_callback_url environment event pull_requests
deployment_review: action repository sender since workflow_run | approver comment environment requestor reviewers
  workflow_job_run workflow_job_runs
deployment_status: action deployment deployment_status repository sender | check_run workflow workflow_run
discussion: action discussion repository sender | answer label old_answer
discussion_comment: action comment discussion repository sender
fork: forkee repository sender
github_app_authorization: action sender
gollum: pages repository sender
installation: action sender | repositories requester
installation_repositories: action repositories_added repositories_removed repository_selection requester sender
installation_target: account action target_type | repository
label: action label repository sender
marketplace_purchase: action effective_date marketplace_purchase sender | previous_marketplace_purchase
member: action member repository sender
membership: action member scope sender team
merge_group: action merge_group repository sender | reason
meta: action hook hook_id repository sender
milestone: action milestone repository sender
org_block: action blocked_user sender
organization: action sender | invitation membership user
package: action package repository sender
page_build: build id repository sender
ping: hook hook_id zen | repository
project: action project repository sender
project_card: action project_card sender | repository
project_column: action project_column sender | repository
projects_v2_item: action projects_v2_item sender
public: repository sender
pull_request_review: action pull_request repository review sender
pull_request_review_comment: action comment pull_request repository sender
pull_request_review_thread: action pull_request repository sender thread
registry_package: action registry_package repository sender
repository: action repository sender
repository_dispatch: action branch client_payload repository sender
repository_import: repository sender status
repository_vulnerability_alert: action alert repository sender
secret_scanning_alert: action alert repository
secret_scanning_alert_location: action alert location repository sender
security_advisory: action security_advisory
sponsorship: action sender sponsorship | effective_date
star: action repository sender starred_at
status: branches commit context created_at description id name repository sender sha state target_url updated_at | avatar_url
team: action sender team | repository
team_add: repository sender team
watch: action repository sender
workflow_dispatch: inputs ref repository sender workflow
workflow_job: action repository sender workflow_job | deployment
"""
_ACTIONS = """
branch_protection_configuration: disabled enabled
branch_protection_rule: created deleted edited
check_run: completed created requested_action rerequested
check_suite: completed requested rerequested
code_scanning_alert: appeared_in_branch closed_by_user created fixed reopened reopened_by_user
commit_comment: created
custom_property: created deleted
custom_property_values: updated
dependabot_alert: created dismissed fixed reintroduced reopened
deploy_key: created deleted
deployment: created
deployment_protection_rule: requested
deployment_review: approved rejected requested
deployment_status: created
discussion: answered category_changed created deleted edited labeled locked pinned transferred unanswered unlabeled unlocked
  unpinned
discussion_comment: created deleted edited
github_app_authorization: revoked
installation: created deleted new_permissions_accepted suspend unsuspend
installation_repositories: added removed
installation_target: renamed
label: created deleted edited
marketplace_purchase: cancelled changed pending_change pending_change_cancelled purchased
member: added edited removed
membership: added removed
merge_group: checks_requested destroyed
meta: deleted
milestone: closed created deleted edited opened
org_block: blocked unblocked
organization: deleted member_added member_invited member_removed renamed
package: published updated
project: closed created deleted edited reopened
project_card: converted created deleted edited moved
project_column: created deleted edited moved
projects_v2_item: archived converted created deleted edited reordered restored
pull_request_review: dismissed edited submitted
pull_request_review_comment: created deleted edited
pull_request_review_thread: resolved unresolved
registry_package: published updated
repository: archived created deleted edited privatized publicized renamed transferred unarchived
repository_vulnerability_alert: create dismiss reopen resolve
secret_scanning_alert: created reopened resolved revoked
secret_scanning_alert_location: created
security_advisory: performed published updated withdrawn
sponsorship: cancelled created edited pending_cancellation pending_tier_change tier_changed
star: created deleted
team: added_to_repository created deleted edited removed_from_repository
watch: started
workflow_job: completed in_progress queued waiting
"""
# Fields with their types, `?` if null or absent is possible; behind `|` fields of other types.
_FIELDS = """
answer: author_association:string body:string child_comment_count:integer created_at:string discussion_id:integer
  html_url:string id:integer node_id:string repository_url:string updated_at:string user:@user | parent_id
build: commit:string created_at:string duration:integer status:string updated_at:string url:string | error pusher
check_run: completed_at:string? conclusion:string? details_url:string? external_id:string head_sha:string html_url:string
  id:integer name:string node_id:string? pull_requests:array started_at:string status:string url:string | app check_suite
  deployment output
check_suite: after:string? before:string? check_runs_url:string conclusion:string? created_at:string head_branch:string?
  head_sha:string id:integer latest_check_runs_count:integer node_id:string pull_requests:array rerequestable:boolean?
  runs_rerequestable:boolean? status:string? updated_at:string url:string | app head_commit
definition: allowed_values:array? default_value:string? description:string? property_name:string required:boolean?
  value_type:string values_editable_by:string?
deployment: created_at:string creator:@user description:string? environment:string id:integer node_id:string
  original_environment:string production_environment:boolean? ref:string repository_url:string sha:string statuses_url:string
  task:string transient_environment:boolean? updated_at:string url:string | payload performed_via_github_app
deployment_status: created_at:string creator:@user deployment_url:string description:string environment:string
  environment_url:string? id:integer log_url:string? node_id:string repository_url:string state:string target_url:string
  updated_at:string url:string | performed_via_github_app
discussion: active_lock_reason:string? answer_chosen_at:string? answer_html_url:string? author_association:string body:string
  comments:integer created_at:string html_url:string id:integer locked:boolean node_id:string number:integer
  repository_url:string state:string title:string updated_at:string user:@user | answer_chosen_by category reactions
hook: active:boolean app_id:integer? created_at:string deliveries_url:string events:array id:integer name:string
  ping_url:string test_url:string? type:string updated_at:string url:string | config last_response
key: created_at:string id:integer key:string read_only:boolean title:string url:string verified:boolean
merge_group: base_ref:string base_sha:string head_ref:string head_sha:string | head_commit
package: created_at:string description:string? ecosystem:string html_url:string id:integer name:string namespace:string
  package_type:string updated_at:string | owner package_version registry
review: author_association:string body:string? commit_id:string html_url:string id:integer node_id:string
  pull_request_url:string state:string submitted_at:string? user:@user | _links
security_advisory: cve_id:string? cwes:array description:string ghsa_id:string identifiers:array published_at:string
  references:array severity:string summary:string updated_at:string vulnerabilities:array withdrawn_at:string? | cvss
sponsorship: created_at:string node_id:string privacy_level:string | sponsor sponsorable tier
team: description:string? html_url:string id:integer members_url:string name:string node_id:string
  notification_setting:string? permission:string privacy:string repositories_url:string slug:string url:string | parent
thread: comments:array node_id:string
workflow: badge_url:string created_at:string html_url:string id:integer name:string node_id:string path:string state:string
  updated_at:string url:string
workflow_job: check_run_url:string completed_at:string? conclusion:string? created_at:string head_branch:string?
  head_sha:string html_url:string id:integer labels:array name:string node_id:string run_attempt:integer run_url:string
  runner_group_id:integer? runner_group_name:string? runner_id:integer? runner_name:string? started_at:string status:string
  steps:array url:string workflow_name:string? | run_id
"""


def _lines(table: str) -> dict[str, tuple[list[str], list[str]]]:
    """Parse a table: each name with its words before and behind `|`. An indented line continues the line above."""
    found: dict[str, tuple[list[str], list[str]]] = {}
    for line in table.strip().replace("\n  ", " ").split("\n"):
        name, _, words = line.partition(": ")
        first, _, second = words.partition(" | ")
        found[name] = first.split(), second.split()
    return found


@lru_cache(maxsize=1)
def tops() -> dict[str, tuple[str, ...]]:
    """Return the top-level fields of each event's delivery."""
    return {event: (*every, *some) for event, (every, some) in _lines(_TOPS).items()}


@lru_cache(maxsize=1)
def actions() -> dict[str, frozenset[str]]:
    """Return the actions of each event, by event name."""
    return {event: frozenset(names) for event, (names, _) in _lines(_ACTIONS).items()}


@lru_cache(maxsize=1)
def fields() -> dict[str, dict[str, str]]:
    """Return the fields of each object with their types; types without a table are empty texts."""
    return {
        kind: {**dict(word.split(":") for word in typed), **dict.fromkeys(others, "")}
        for kind, (typed, others) in _lines(_FIELDS).items()
    }
