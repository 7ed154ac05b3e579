"""Prompt templates and parameters."""

import json

from tests.stories.conftest import echo_task, started
from tests.stories.test_webhooks import send, signature
from tests.support import Dev, eventually

TICKETS = "Summarize the latest {{COUNT}} support tickets for {{TEAM}}.\\nOutput as markdown."
SCHEMA = (
    "paramsSchema:\n  type: object\n  properties:\n    COUNT: {type: integer, minimum: 1}\n    TEAM: {type: string}\n"
    "  required: [COUNT, TEAM]\n"
)


def test_each_placeholder_is_replaced_by_its_parameter(optio: Dev) -> None:
    task = echo_task(optio, "Tickets", TICKETS, SCHEMA)

    run = optio.until_ended(started(optio, task, {"COUNT": 20, "TEAM": "billing"}))

    assert run["prompt"] == "Summarize the latest 20 support tickets for billing.\nOutput as markdown."
    assert run["output"] == run["prompt"]


def test_unmatched_placeholders_are_left_as_they_are(optio: Dev) -> None:
    task = echo_task(optio, "Unmatched", "{{A}} and {{B}} and {{ A }}")

    run = optio.until_ended(started(optio, task, {"A": "{{B}}"}))

    assert run["prompt"] == "{{B}} and {{B}} and {{ A }}"


def test_parameters_are_validated_before_a_run_exists(optio: Dev) -> None:
    task = echo_task(optio, "Validated", TICKETS, SCHEMA)

    answer = optio.post(f"/api/tasks/{task}/runs", {"params": {"COUNT": 0}})

    assert answer.status == 422
    assert {error["pointer"] for error in answer.json["errors"]} == {"/params/COUNT", "/params/TEAM"}
    assert optio.get(f"/api/tasks/{task}/runs").json["items"] == []


def test_a_prompt_that_comes_out_too_long_is_refused_with_the_limit_before_a_run_exists(optio: Dev) -> None:
    hook = "triggers: [{type: webhook, config: {path: longest, secret: {name: STORY_SECRET}}}]\n"
    task = echo_task(optio, "Longest", "{{A}}{{A}}", hook)
    why = "the rendered prompt has 1,200,000 characters, more than 1,048,576: give the agent a file or a URL to read"
    params = {"A": "x" * 600_000}
    body = json.dumps(params).encode()

    by_hand = optio.post(f"/api/tasks/{task}/runs", {"params": params})
    by_hook = send(optio, "longest", body, **{"X-Optio-Signature": signature(body)})

    assert (by_hand.status, by_hand.json["detail"]) == (422, why)
    assert (by_hook.status, by_hook.json["detail"]) == (422, why)
    (delivery,) = eventually(lambda: optio.get("/api/deliveries?path=longest").json["items"], what="the delivery")
    assert (delivery["verdict"], delivery["detail"]) == ("invalid", why)
    assert optio.get(f"/api/tasks/{task}/runs").json["items"] == []


def test_without_a_schema_any_parameters_are_taken(optio: Dev) -> None:
    task = echo_task(optio, "Free", "{{ANY}}")

    run = optio.until_ended(started(optio, task, {"ANY": [1, None], "OTHER": True}))

    assert (run["state"], run["output"]) == ("completed", "[1,null]")


def test_an_agent_gets_the_prompt_of_a_file_and_what_its_task_inherits(optio: Dev) -> None:
    optio.write("team/prompts/greet.md", "Hello {{WHO}}, from a file.\n")
    optio.write("team/_defaults.yaml", "environment: {env: {PLACE: defaults, FROM: defaults}}\n")
    optio.write("team/base.yaml", "type: template\nname: Base\nagentRuntime: command\nenvironment: {env: {FROM: template}}\n")
    optio.write(
        "team/inheriting.yaml",
        "name: Inheriting\nextends: base.yaml\npromptFile: prompts/greet.md\n"
        'command: cat; echo "$PLACE $FROM $OWN"\nenvironment: {env: {OWN: task}}\n',
    )
    optio.until_served("inheriting")

    run = optio.until_ended(started(optio, "inheriting", {"WHO": "you"}))

    assert (run["state"], run["output"]) == ("completed", "Hello you, from a file.\ndefaults template task")
