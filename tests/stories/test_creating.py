"""Creating a standalone task."""

import pytest

from tests.support import SEED, Dev


def test_the_documents_own_task_is_created_by_its_own_body(optio: Dev) -> None:
    answer = optio.post("/api/tasks", SEED)

    served = optio.get("/api/tasks/weekly-security-report").json
    assert answer.status == 201, answer.body
    assert answer.json["id"] == "weekly-security-report"
    assert {key: served[key] for key in SEED} == SEED
    assert list(optio.tasks.rglob("*weekly-security-report*")), "what the API writes stands in a file"


def test_a_definition_may_name_everything_the_document_lists(optio: Dev) -> None:
    optio.write(
        "complete.yaml",
        "type: standalone\nname: Complete\ndescription: All of it\nagentRuntime: claude-code\nmodel: sonnet\n"
        'promptTemplate: "Look at {{A}}"\nparamsSchema: {type: object, properties: {A: {type: string}}, required: [A]}\n'
        "environment:\n  image: ghcr.io/acme/agent:1.4\n  setupCommands: ['true']\n  secrets: [ANTHROPIC_API_KEY]\n"
        "  network: {egress: [api.anthropic.com]}\n"
        'maxTurns: 7\nbudgetUsd: "1.50"\nmaxConcurrent: 3\nmaxRetries: 4\n',
    )

    served = optio.until_served("complete")

    assert (served["name"], served["description"], served["agentRuntime"]) == ("Complete", "All of it", "claude-code")
    assert served["environment"]["image"] == "ghcr.io/acme/agent:1.4"
    assert served["environment"]["secrets"] == ["ANTHROPIC_API_KEY"]
    assert served["environment"]["network"] == {"egress": ["api.anthropic.com"]}
    assert (served["maxTurns"], served["budgetUsd"], served["maxConcurrent"], served["maxRetries"]) == (7, "1.50", 3, 4)


@pytest.mark.parametrize("runtime", ["claude-code", "codex", "copilot", "gemini", "opencode"])
def test_each_agent_runtime_can_be_chosen(optio: Dev, runtime: str) -> None:
    optio.write(f"{runtime}.yaml", f'type: standalone\nname: By {runtime}\nagentRuntime: {runtime}\npromptTemplate: "x"\n')

    assert optio.until_served(f"by-{runtime}")["agentRuntime"] == runtime


def test_a_task_that_is_wrong_is_refused_with_every_fault(optio: Dev) -> None:
    answer = optio.post("/api/tasks", {**SEED, "name": "Wrong", "maxTurn": 3, "maxRetries": "two"})

    assert answer.status == 422
    assert {error["pointer"] for error in answer.json["errors"]} == {"/maxTurn", "/maxRetries"}
    assert optio.get("/api/tasks/wrong").status == 404
