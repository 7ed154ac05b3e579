"""What is shown of the place under the pointer."""

from datetime import UTC, datetime
from pathlib import Path

from optio.lsp.hover import hover
from optio.lsp.markdown import code_block, inline_code
from tests.lsp.opened import FILES, HERE, TASK, opened, pointed

NOW = datetime(2026, 10, 23, 12, tzinfo=UTC)


def shown(root: Path, text: str, path: str = "task.yaml") -> str:
    """The text that is shown."""
    page, offset = opened(root, text, path, FILES)
    found = hover(page, offset, NOW)
    return "" if found is None else found.text


def test_a_key_tells_what_it_is_for_what_may_stand_there_and_what_holds_otherwise(tmp_path: Path) -> None:
    assert shown(tmp_path, pointed("maxRetries")) == (
        "**`maxRetries`**: a number, 0 or more\n\n"
        "How often a failed run is tried again, after 5 s, 10 s, 20 s and so on, while some of its budget is left."
        "\n\nDefault: `1`"
    )
    assert "- `opencode`: OpenCode" in shown(tmp_path, pointed("agentRuntime"))
    assert shown(tmp_path, pointed("claude-code")) == "`claude-code`: Claude Code"


def test_a_schedule_tells_its_next_fires_and_what_odd_nights_do_to_them(tmp_path: Path) -> None:
    text = shown(tmp_path, pointed("30 2"))

    assert text.startswith(
        "At 02:30 every day (Europe/Berlin)\n\n- Sat 2026-10-24 02:30 CEST\n- Sun 2026-10-25 02:30 CEST: the first"
    )
    assert text.count("\n- ") == 5


def test_a_broken_schedule_is_no_crash(tmp_path: Path) -> None:
    assert "invalid cron expression `99 2 * * *`" in shown(tmp_path, pointed("99 2", text=TASK.replace("30 2", "99 2")))


def test_a_parameter_tells_its_default_and_who_gives_it(tmp_path: Path) -> None:
    expected = (
        "**`REPO`**: string, required\n\nWhich repository\n\n"
        '- from the schedule: `optio`\n- from the webhook: `$.repository.name`\n- `{"maxLength": 200}`'
    )
    assert shown(tmp_path, pointed("{{REPO}}")) == expected
    assert shown(tmp_path, pointed("REPO", 1)) == expected
    assert shown(tmp_path, pointed("REPO", 2)) == expected
    assert shown(tmp_path, pointed("REPO: $")) == expected
    assert '- default: `"CVEs"`' in shown(tmp_path, pointed("FOCUS"))


def test_a_prompt_is_shown_as_a_test_of_the_task_makes_it(tmp_path: Path) -> None:
    text = shown(tmp_path, pointed("promptTemplate"))

    assert text.endswith(
        "The prompt, as the test `webhook payloads/push.json` makes it:\n\n```\nScan hello \N{GRINNING FACE} for CVEs.\n```"
    )


def test_a_prompt_without_tests_is_shown_with_the_defaults(tmp_path: Path) -> None:
    text = shown(tmp_path, pointed("promptTemplate", text=TASK[: TASK.index("tests:")]))

    assert text.endswith(
        "The prompt, with its defaults; a run gives `REPO`:\n\n```\nScan {{REPO}} \N{GRINNING FACE} for CVEs.\n```"
    )


def test_a_prompt_that_would_come_out_too_long_is_shown_as_it_stands(tmp_path: Path) -> None:
    text = (
        "name: A\nagentRuntime: claude-code\npromptTemplate: '" + "{{A}}" * 1_000 + "'\nparamsSchema:\n  type: object\n"
        f"  properties: {{A: {{type: string, default: {'x' * 2_000}}}}}\n"
    )

    assert "The prompt, as it stands; a run gives `A`" in shown(tmp_path, pointed("promptTemplate", text=text))


def test_a_path_tells_what_it_finds_in_the_samples(tmp_path: Path) -> None:
    assert shown(tmp_path, pointed("$.repository")) == 'In `payloads/push.json` it finds `"hello"`'
    lost = shown(tmp_path, pointed("$.repo.name", text=TASK.replace("$.repository.name", "$.repo.name")))
    assert lost.startswith("In `payloads/push.json` it finds nothing.")
    assert "OPT413" in lost


def test_a_budget_tells_the_worst_case(tmp_path: Path) -> None:
    lines = shown(tmp_path, pointed("budgetUsd")).splitlines()

    assert lines[-3:-1] == [
        "A run costs $2.50 at most, with all its retries.",
        "- in any 30 days: 31 runs, $77.50 at most, by its schedule",
    ]
    assert lines[-1] == "- by its webhook: any number of runs; add `startLimit` to bound them"


def test_a_finding_tells_why_it_is_one(tmp_path: Path) -> None:
    text = shown(tmp_path, pointed("maxTurn", text=TASK + "maxTurn: 3\n"))

    assert text.startswith("`OPT101`")


def test_what_was_known_of_a_task_is_shown_while_its_text_is_broken(tmp_path: Path) -> None:
    page, _ = opened(tmp_path, TASK, files=FILES)
    broken, offset = opened(tmp_path, pointed("{{REPO}}").replace("maxRetries: 2", "maxRetries: [2"))
    assert hover(broken, offset, NOW) is None
    broken._last_task = page.task

    found = hover(broken, offset, NOW)

    assert found is not None
    assert found.text.startswith("**`REPO`**: string, required")


def test_defaults_and_policies_have_keys_of_their_own(tmp_path: Path) -> None:
    assert shown(tmp_path, f"mod{HERE}el: sonnet\n", "_defaults.yaml").startswith("**`model`**")
    assert shown(tmp_path, f"type: policy\nceilings: {{month{HERE}Usd: '5'}}\n", "_policy.yaml").startswith("**`monthUsd`**")
    assert "The prompt does not use" not in shown(tmp_path, f"type: policy\nrules: {{OPT2{HERE}02: off}}\n", "_policy.yaml")
    assert shown(tmp_path, f"type: policy\nrules: {{OPT202: o{HERE}ff}}\n", "_policy.yaml") == "`off`: not reported"


def test_a_place_with_nothing_to_tell_is_silent(tmp_path: Path) -> None:
    assert shown(tmp_path, HERE) == ""
    assert shown(tmp_path, f"# com{HERE}ment\n") == ""
    assert shown(tmp_path, pointed("Scan")) == ""


def test_no_text_of_a_file_leaves_its_block() -> None:
    assert code_block("a\n```\nb") == "````\na\n```\nb\n````"
    assert inline_code("a `b` c") == "`` a `b` c ``"
