"""The operator's credential for agents whose task names none: who gets it, and who must not."""

import pytest

from optio.compiler.pipeline import compile_tree
from optio.compiler.source_tree import MemoryTree
from optio.model.credential import default_credential
from optio.model.registry import CompiledTask

OFFERED = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY", "ANTHROPIC_AUTH_TOKEN")


def compiled(keys: str, policy: str = "") -> CompiledTask:
    files = {"job.yaml": f"name: Job\npromptTemplate: hi\n{keys}"}
    found = compile_tree(MemoryTree({**files, **({"_policy.yaml": f"type: policy\n{policy}"} if policy else {})}))
    assert found.ok, found.diagnostics
    return found.registry.task("job")


@pytest.mark.parametrize(
    ("keys", "name"),
    [
        ("agentRuntime: claude-code\n", "ANTHROPIC_API_KEY"),
        ("agentRuntime: codex\n", "OPENAI_API_KEY"),
        ("agentRuntime: gemini\n", "GEMINI_API_KEY"),
        ("agentRuntime: opencode\nmodel: anthropic/claude-sonnet-4-5\n", "ANTHROPIC_API_KEY"),
        ("agentRuntime: opencode\nmodel: acme/one\n", None),
        ("agentRuntime: command\ncommand: [cat]\n", None),
        ("agentRuntime: claude-code\nenvironment: {secrets: [OTHER_KEY]}\n", "ANTHROPIC_API_KEY"),
        ("agentRuntime: claude-code\nenvironment: {secrets: [CLAUDE_CODE_OAUTH_TOKEN]}\n", None),
        ("agentRuntime: claude-code\nenvironment: {env: {ANTHROPIC_BASE_URL: 'https://gateway.example.com'}}\n", None),
        ("agentRuntime: codex\nenvironment: {env: {OPENAI_BASE_URL: 'https://gateway.example.com'}}\n", None),
    ],
)
def test_an_agent_gets_the_first_by_which_it_signs_in_unless_its_task_says_how_or_where(keys: str, name: str | None) -> None:
    assert default_credential(compiled(keys), OFFERED) == name
    assert default_credential(compiled(keys), ()) is None


@pytest.mark.parametrize(
    ("patterns", "name"),
    [("[ANTHROPIC_*]", "ANTHROPIC_API_KEY"), ("['*_TOKEN']", "ANTHROPIC_AUTH_TOKEN"), ("[TEAM_*]", None), ("[]", None)],
)
def test_a_policy_that_lists_secrets_decides_over_the_operators_too(patterns: str, name: str | None) -> None:
    task = compiled("agentRuntime: claude-code\n", f"allow: {{secrets: {patterns}}}\n")

    assert default_credential(task, OFFERED) == name
    assert default_credential(CompiledTask.from_json(task.to_json()), OFFERED) == name


def test_a_task_with_a_credential_has_the_digest_that_it_had_without_such_a_policy() -> None:
    keys = "agentRuntime: claude-code\nenvironment: {secrets: [ANTHROPIC_API_KEY]}\n"

    assert compiled(keys).digest == compiled(keys, "allow: {secrets: [ANTHROPIC_*]}\n").digest
