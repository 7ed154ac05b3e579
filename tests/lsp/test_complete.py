"""What is offered at a place."""

from pathlib import Path

from optio.lsp.complete import CompletionKind, complete
from optio.model.senders import SENDERS
from tests.lsp.opened import FILES, HERE, TASK, opened


def labels(root: Path, text: str, path: str = "task.yaml") -> list[str]:
    page, offset = opened(root, text, path, FILES)
    return [item.label for item in complete(page, offset, snippets=True) if item.sort is not CompletionKind.SNIPPET]


def inserted(root: Path, text: str, label: str, *, snippets: bool = True) -> str:
    """The text of the document when this proposal is taken."""
    page, offset = opened(root, text, "task.yaml", FILES)
    (item,) = [item for item in complete(page, offset, snippets=snippets) if item.label == label]
    return page.text[: item.start] + item.text + page.text[item.end :]


def test_keys_that_are_there_are_not_offered_again(tmp_path: Path) -> None:
    found = labels(tmp_path, TASK + HERE)

    assert "maxTurns" in found
    assert not {"name", "triggers", "budgetUsd"} & set(found)


def test_a_key_that_is_being_written_is_offered(tmp_path: Path) -> None:
    assert "maxRetries" in labels(tmp_path, TASK.replace("maxRetries: 2", f"maxR{HERE}"))
    assert inserted(tmp_path, f"name: x\nagentR{HERE}", "agentRuntime").startswith("name: x\nagentRuntime: ${1|claude-code,")


def test_a_trigger_has_the_keys_of_its_type(tmp_path: Path) -> None:
    webhook = labels(tmp_path, TASK.replace("      path: scan", f"      path: scan\n      {HERE}"))
    schedule = labels(tmp_path, TASK.replace("      timezone:", f"      {HERE}\n      timezone:"))

    assert {"scheme", "when"} <= set(webhook)
    assert "misfire" not in webhook
    assert {"misfire", "overlap"} <= set(schedule)
    assert "when" not in schedule


def test_whole_triggers_are_offered_at_a_dash(tmp_path: Path) -> None:
    text = inserted(tmp_path, f"name: x\ntriggers:\n  - {HERE}", "webhook trigger")

    assert text.endswith("  - type: webhook\nconfig:\n  path: ${1:path}\n  secret:\n    name: ${2:WEBHOOK_SECRET}")


def test_choices_tell_what_they_mean(tmp_path: Path) -> None:
    page, offset = opened(tmp_path, TASK.replace("      path: scan", f"      path: scan\n      scheme: g{HERE}"), files=FILES)

    found = {item.label: item.markdown for item in complete(page, offset, snippets=True)}

    assert list(found) == list(SENDERS)
    assert found["github"] == "`X-Hub-Signature-256`, as GitHub signs"


def test_two_braces_offer_the_parameters(tmp_path: Path) -> None:
    assert labels(tmp_path, TASK.replace("{{REPO}}", "{{" + HERE)) == ["REPO", "FOCUS"]
    assert "Scan {{FOCUS}} " in inserted(tmp_path, TASK.replace("{{REPO}}", "{{F" + HERE), "FOCUS")
    assert "Scan {{FOCUS}} " in inserted(tmp_path, TASK.replace("{{REPO}}", "{{" + HERE + "}}"), "FOCUS")


def test_a_mapping_offers_the_parameters_that_it_does_not_give_yet(tmp_path: Path) -> None:
    assert labels(tmp_path, TASK.replace("REPO: $.repository.name", HERE)) == ["REPO", "FOCUS"]
    assert labels(tmp_path, TASK.replace("{REPO: optio}", "{REPO: optio, " + HERE + "}")) == ["FOCUS"]


def test_a_value_of_a_mapping_offers_the_paths_of_the_samples(tmp_path: Path) -> None:
    found = labels(tmp_path, TASK.replace("$.repository.name", HERE))

    assert {"$.repository.name", "$.commits[0].id"} <= set(found)


def test_files_are_offered_as_the_task_names_them(tmp_path: Path) -> None:
    bare = "name: x\nagentRuntime: claude-code\n"
    assert labels(tmp_path, f"{bare}extends: {HERE}") == ["base.yaml"]
    assert labels(tmp_path, f"{bare}promptFile: {HERE}") == ["prompts/p.md"]
    assert labels(tmp_path, TASK.replace("payloads/push.json", HERE)) == ["payloads/push.json"]
    assert labels(tmp_path, f"{bare}promptFile: {HERE}", "teams/mine.yaml") == []


def test_required_offers_the_parameters(tmp_path: Path) -> None:
    assert labels(tmp_path, TASK.replace("[REPO]", f"[REPO, {HERE}]")) == ["FOCUS"]


HOOK = f"""\
name: Triage
agentRuntime: claude-code
promptTemplate: Look at {{{{TITLE}}}}
paramsSchema: {{type: object, properties: {{TITLE: {{type: string}}}}, required: [TITLE], additionalProperties: false}}
triggers:
  - type: webhook
    config:
      path: triage
      scheme: github
      secret: {{name: TRIAGE_SECRET}}
      events: [issues, check_run]
      paramMapping:
        TITLE: $.issue.{HERE}
"""


def test_events_of_a_sender_are_offered(tmp_path: Path) -> None:
    github = HOOK.replace(HERE, "title")

    assert "pull_request_review" in labels(tmp_path, github.replace("check_run", f"pu{HERE}"))
    assert '"Push Hook"' in inserted(tmp_path, github.replace("github", "gitlab").replace("check_run", HERE), "Push Hook")


def test_paths_of_what_github_sends_are_offered(tmp_path: Path) -> None:
    offered = labels(tmp_path, HOOK)

    assert {"$.issue.title", "$.issue.user.login", "$.check_run.conclusion"} <= set(offered)
    assert not any(path.startswith("$.pull_request") for path in offered)


def test_an_event_that_is_listed_is_not_offered_again(tmp_path: Path) -> None:
    offered = labels(tmp_path, HOOK.replace(HERE, "title").replace("check_run]", f"check_run, {HERE}]"))

    assert "issues" not in offered
    assert "pull_request" in offered


def test_paths_are_offered_within_a_filter(tmp_path: Path) -> None:
    filtered = HOOK.replace(HERE, "title") + f"      when: \"@.action == 'opened' && @.issue.{HERE}\"\n"

    assert "@.issue.user.login" in labels(tmp_path, filtered)
    assert '&& @.issue.user.login"' in inserted(tmp_path, filtered, "@.issue.user.login")


def test_zones_and_schedules_are_offered(tmp_path: Path) -> None:
    assert "Europe/Lisbon" in labels(tmp_path, TASK.replace("Europe/Berlin", f"Eu{HERE}"))
    assert '"0 9 * * 1"' in inserted(tmp_path, TASK.replace('"30 2 * * *"', HERE), "0 9 * * 1")


def test_an_editor_without_snippets_gets_plain_text(tmp_path: Path) -> None:
    assert inserted(tmp_path, HERE, "agentRuntime", snippets=False) == "agentRuntime: "


def test_nothing_is_offered_in_comments_and_texts(tmp_path: Path) -> None:
    assert labels(tmp_path, f"# {HERE}") == []
    assert labels(tmp_path, TASK.replace("Scan {{REPO}}", f"Scan {HERE}")) == []


def test_a_policy_offers_the_rules_by_code(tmp_path: Path) -> None:
    assert "OPT202" in labels(tmp_path, f"type: policy\nrules:\n  {HERE}", "_policy.yaml")
    assert labels(tmp_path, f"type: policy\nrules:\n  OPT101: {HERE}", "_policy.yaml") == ["error"]
