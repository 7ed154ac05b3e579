"""The common events of GitHub: their top-level fields, actions, and the fields of their objects with types. A `?` behind a type
means that the value may be null, and `@` names another kind of object. Data only."""

# Kinds of objects: a field's type, `@kind` for an object of a kind; `?` where it may be null.
KINDS: dict[str, dict[str, str]] = {
    "repository": {
        "id": "integer", "node_id": "string", "name": "string", "full_name": "string", "private": "boolean", "owner": "@owner",
        "html_url": "string", "description": "string?", "fork": "boolean", "url": "string", "homepage": "string?",
        "size": "integer", "stargazers_count": "integer", "language": "string?", "archived": "boolean",
        "forks_count": "integer", "open_issues_count": "integer", "default_branch": "string", "topics": "array",
        "visibility": "string", "clone_url": "string", "ssh_url": "string",
    },
    "owner": {"login": "string", "id": "integer", "html_url": "string", "type": "string"},
    "user": {"login": "string", "id": "integer", "html_url": "string", "type": "string", "site_admin": "boolean"},
    "pusher": {"name": "string"},
    "commit": {"id": "string", "message": "string", "timestamp": "string", "author": "@author", "committer": "@author"},
    "author": {"name": "string"},
    "issue": {
        "id": "integer", "number": "integer", "title": "string", "body": "string?", "state": "string", "html_url": "string",
        "user": "@user", "labels": "array", "locked": "boolean", "assignee": "@user?", "assignees": "array",
        "milestone": "@milestone?", "comments": "integer", "created_at": "string", "updated_at": "string",
        "closed_at": "string?", "author_association": "string",
    },
    "milestone": {"id": "integer", "number": "integer", "title": "string", "description": "string?"},
    "comment": {"id": "integer", "body": "string", "html_url": "string", "user": "@user", "created_at": "string"},
    "pull_request": {
        "id": "integer", "number": "integer", "title": "string", "body": "string?", "state": "string", "html_url": "string",
        "diff_url": "string", "user": "@user", "labels": "array", "draft": "boolean", "merged": "boolean", "locked": "boolean",
        "assignee": "@user?", "assignees": "array", "milestone": "@milestone?", "head": "@branch", "base": "@branch",
        "merged_at": "string?", "merged_by": "@user?", "merge_commit_sha": "string?", "closed_at": "string?",
        "created_at": "string", "updated_at": "string", "commits": "integer", "additions": "integer", "deletions": "integer",
        "changed_files": "integer", "comments": "integer", "author_association": "string",
    },
    "branch": {"label": "string", "ref": "string", "sha": "string", "repo": "@repository?"},
    "release": {
        "id": "integer", "tag_name": "string", "target_commitish": "string", "name": "string?", "body": "string?",
        "draft": "boolean", "prerelease": "boolean", "html_url": "string", "author": "@user", "assets": "array",
    },
    "workflow_run": {
        "id": "integer", "name": "string", "head_branch": "string", "head_sha": "string", "event": "string",
        "status": "string", "conclusion": "string?", "run_number": "integer", "run_attempt": "integer",
        "workflow_id": "integer", "html_url": "string", "path": "string", "display_title": "string", "actor": "@user",
        "pull_requests": "array",
    },
    "organization": {"login": "string", "id": "integer", "description": "string?"},
    "installation": {"id": "integer"},
    "label": {"id": "integer", "name": "string", "color": "string", "default": "boolean", "description": "string?"},
    "": {
        "action": "string", "number": "integer", "ref": "string", "before": "string", "after": "string", "created": "boolean",
        "deleted": "boolean", "forced": "boolean", "base_ref": "string?", "compare": "string", "commits": "array",
        "head_commit": "@commit?", "pusher": "@pusher", "repository": "@repository", "sender": "@user", "issue": "@issue",
        "comment": "@comment", "pull_request": "@pull_request", "release": "@release", "workflow_run": "@workflow_run",
        "organization": "@organization", "installation": "@installation", "label": "@label",
    },
}  # fmt: skip
# Top-level fields of the event's deliveries. Hooks of organizations, enterprises and apps add one field.
EVENTS: dict[str, tuple[str, ...]] = {
    "push": (
        *("ref", "before", "after", "created", "deleted", "forced", "base_ref", "compare", "commits", "head_commit"),
        *("repository", "pusher", "sender"),
    ),
    "pull_request": ("action", "number", "pull_request", "repository", "sender"),
    "issues": ("action", "issue", "repository", "sender"),
    "issue_comment": ("action", "issue", "comment", "repository", "sender"),
    "release": ("action", "release", "repository", "sender"),
    "workflow_run": ("action", "workflow", "workflow_run", "repository", "sender"),
}
ALWAYS = frozenset(
    {"organization", "enterprise", "installation", "changes", "assignee", "label", "milestone", "requested_reviewer"}
)
# Names of an object's other fields. A name in neither table is never sent.
FURTHER: dict[str, tuple[str, ...]] = {
    kind: tuple(names.split())
    for kind, names in {
        "repository": """
            allow_auto_merge allow_forking allow_merge_commit allow_rebase_merge allow_squash_merge allow_update_branch
            archive_url assignees_url blobs_url branches_url collaborators_url comments_url commits_url compare_url
            contents_url contributors_url created_at custom_properties delete_branch_on_merge deployments_url disabled
            downloads_url events_url forks forks_url git_commits_url git_refs_url git_tags_url git_url has_discussions
            has_downloads has_issues has_pages has_projects has_pull_requests has_wiki hooks_url is_template
            issue_comment_url issue_events_url issues_url keys_url labels_url languages_url license master_branch
            merge_commit_message merge_commit_title merges_url milestones_url mirror_url network_count notifications_url
            open_issues organization parent permissions public pulls_url pushed_at releases_url role_name
            security_and_analysis source squash_merge_commit_message squash_merge_commit_title stargazers stargazers_url
            statuses_url subscribers_count subscribers_url subscription_url svn_url tags_url teams_url temp_clone_token
            template_repository trees_url updated_at use_squash_pr_title_as_default watchers watchers_count
            web_commit_signoff_required
        """,
        "user": """
            avatar_url bio blog company created_at email events_url followers followers_url following following_url
            gists_url gravatar_id hireable location name node_id organizations_url public_gists public_repos
            received_events_url repos_url starred_at starred_url subscriptions_url twitter_username updated_at url
            user_view_type
        """,
        "pusher": """
            date email username
        """,
        "commit": """
            added distinct modified removed tree_id url
        """,
        "author": """
            date email username
        """,
        "issue": """
            active_lock_reason closed_by comments_url draft events_url issue_dependencies_summary labels_url node_id
            parent_issue_url performed_via_github_app pull_request reactions repository_url state_reason sub_issues_summary
            timeline_url type url
        """,
        "milestone": """
            closed_at closed_issues created_at creator due_on html_url labels_url node_id open_issues state updated_at url
        """,
        "comment": """
            _links author_association body_html body_text child_comment_count commit_id diff_hunk discussion_id
            in_reply_to_id issue_url line node_id original_commit_id original_line original_position original_start_line
            parent_id path performed_via_github_app pin position pull_request_review_id pull_request_url reactions
            repository_url side start_line start_side subject_type updated_at url
        """,
        "pull_request": """
            _links active_lock_reason auto_merge comments_url commits_url issue_url maintainer_can_modify mergeable
            mergeable_state node_id patch_url rebaseable requested_reviewers requested_teams review_comment_url
            review_comments review_comments_url statuses_url url
        """,
        "branch": """
            user
        """,
        "release": """
            assets_url created_at discussion_url immutable mentions_count node_id published_at reactions tarball_url
            updated_at upload_url url zipball_url
        """,
        "workflow_run": """
            artifacts_url cancel_url check_suite_id check_suite_node_id check_suite_url created_at head_commit
            head_repository jobs_url logs_url node_id previous_attempt_url referenced_workflows repository rerun_url
            run_started_at triggering_actor updated_at url workflow_url
        """,
        "organization": """
            archived_at avatar_url blog company created_at email events_url has_organization_projects
            has_repository_projects hooks_url html_url is_verified issues_url location members_url name node_id
            public_members_url public_repos repos_url type updated_at url
        """,
        "label": """
            node_id url
        """,
        "installation": """
            access_tokens_url account app_id app_slug client_id created_at events has_multiple_single_files html_url node_id
            permissions repositories_url repository_selection single_file_name single_file_paths suspended_at suspended_by
            target_id target_type updated_at
        """,
    }.items()
}
FURTHER["owner"] = FURTHER["user"]
# All events that a repository, an organization or an app can ask for.
NAMES = frozenset(
    {
        "branch_protection_configuration", "branch_protection_rule", "check_run", "check_suite", "code_scanning_alert",
        "commit_comment", "create", "custom_property", "custom_property_values", "delete", "dependabot_alert",
        "deploy_key", "deployment", "deployment_protection_rule", "deployment_review", "deployment_status", "discussion",
        "discussion_comment", "fork", "github_app_authorization", "gollum", "installation", "installation_repositories",
        "installation_target", "issue_comment", "issue_dependencies", "issues", "label", "marketplace_purchase", "member",
        "membership", "merge_group", "meta", "milestone", "org_block", "organization", "package", "page_build",
        "personal_access_token_request", "ping", "project", "project_card", "project_column", "projects_v2",
        "projects_v2_item", "projects_v2_status_update", "public", "pull_request", "pull_request_review",
        "pull_request_review_comment", "pull_request_review_thread", "push", "registry_package", "release", "repository",
        "repository_advisory", "repository_dispatch", "repository_import", "repository_ruleset",
        "repository_vulnerability_alert", "secret_scanning_alert", "secret_scanning_alert_location",
        "secret_scanning_scan", "security_advisory", "security_and_analysis", "sponsorship", "star", "status",
        "sub_issues", "team", "team_add", "watch", "workflow_dispatch", "workflow_job", "workflow_run",
    }
)  # fmt: skip
# Fields with a closed set of words.
_ASSOCIATIONS = frozenset(
    {"COLLABORATOR", "CONTRIBUTOR", "FIRST_TIMER", "FIRST_TIME_CONTRIBUTOR", "MANNEQUIN", "MEMBER", "NONE", "OWNER"}
)
_ACCOUNTS = frozenset({"Bot", "User", "Organization", "Mannequin"})
WORDS_OF: dict[tuple[str, str], frozenset[str]] = {
    **dict.fromkeys(
        (("issue", "author_association"), ("pull_request", "author_association"), ("comment", "author_association")),
        _ASSOCIATIONS,
    ),
    ("user", "type"): _ACCOUNTS,
    ("owner", "type"): _ACCOUNTS,
    ("issue", "state"): frozenset({"open", "closed"}),
    ("issue", "state_reason"): frozenset({"completed", "reopened", "not_planned", "duplicate"}),
    ("pull_request", "state"): frozenset({"open", "closed"}),
    ("review", "state"): frozenset({"approved", "changes_requested", "commented", "dismissed", "pending"}),
    **dict.fromkeys(
        (("check_run", "status"), ("check_suite", "status")),
        frozenset({"queued", "in_progress", "completed", "requested", "waiting", "pending"}),
    ),
    **dict.fromkeys(
        (("check_run", "conclusion"), ("check_suite", "conclusion")),
        frozenset(
            {
                *("success", "failure", "neutral", "cancelled", "timed_out", "action_required", "stale", "skipped"),
                "startup_failure",
            }
        ),
    ),
    ("deployment_status", "state"): frozenset(
        {"error", "failure", "inactive", "in_progress", "pending", "queued", "success", "waiting"}
    ),
    ("", "ref_type"): frozenset({"branch", "tag"}),
    ("repository", "visibility"): frozenset({"public", "private", "internal"}),
    ("workflow_run", "status"): frozenset({"requested", "in_progress", "completed", "queued", "pending", "waiting"}),
    ("workflow_run", "conclusion"): frozenset(
        {"success", "failure", "neutral", "cancelled", "timed_out", "action_required", "stale", "skipped", "startup_failure"}
    ),
}
# Words of `action`, which people use as names of events.
ACTIONS = frozenset(
    {
        *("opened", "closed", "reopened", "synchronize", "edited", "assigned", "labeled", "unlabeled", "ready_for_review"),
        *("review_requested", "created", "deleted", "published", "released", "prereleased", "submitted", "dismissed"),
        *("requested", "completed", "in_progress", "queued", "merged"),
    }
)
# All actions of the events in the tables above.
ACTIONS_OF: dict[str, frozenset[str]] = {
    event: frozenset(names.split())
    for event, names in {
        "pull_request": """
            assigned auto_merge_disabled auto_merge_enabled closed converted_to_draft demilestoned dequeued edited enqueued
            labeled locked milestoned opened ready_for_review reopened review_request_removed review_requested synchronize
            unassigned unlabeled unlocked
        """,
        "issues": """
            assigned closed deleted demilestoned edited labeled locked milestoned opened pinned reopened transferred typed
            unassigned unlabeled unlocked unpinned untyped
        """,
        "issue_comment": "created deleted edited pinned unpinned",
        "release": "created deleted edited prereleased published released unpublished",
        "workflow_run": "completed in_progress requested",
    }.items()
}
# The field by which the objects of a list are named.
ITEMS = {"labels": "name", "assignees": "login", "assets": "name", "commits": "id", "pull_requests": "number"}
# Top-level fields of other events.
TOPS = frozenset(
    {
        "alert", "answer", "approver", "account", "avatar_url", "blocked_issue", "blocked_user", "blocking_issue",
        "branches", "build", "check_run", "check_suite", "client_payload", "commit", "content_reference", "context",
        "created_at", "definition", "deployment", "deployment_callback_url", "deployment_status", "description",
        "discussion", "effective_date", "environment", "event", "forkee", "hook", "hook_id", "id", "inputs", "invitation",
        "issue_type", "key", "location", "marketplace_purchase", "master_branch", "member", "membership", "merge_group",
        "name", "new_property_values", "old_answer", "old_property_values", "package", "pages", "parent_issue",
        "personal_access_token_request", "previous_marketplace_purchase", "project", "project_card", "project_column",
        "projects_v2", "projects_v2_item", "projects_v2_status_update", "pusher_type", "reason", "ref_type",
        "registry_package", "repositories", "repositories_added", "repositories_removed", "repository_advisory",
        "repository_ruleset", "repository_selection", "requested_action", "requested_team", "requester", "requestor",
        "review", "reviewers", "rule", "scan", "scope", "security_advisory", "sha", "since", "sponsorship", "starred_at",
        "state", "status", "sub_issue", "target_type", "target_url", "team", "thread", "updated_at", "user", "workflow",
        "workflow_job", "workflow_job_run", "workflow_job_runs", "zen",
    }
)  # fmt: skip
