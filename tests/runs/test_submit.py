"""Submit: what cannot become a run is refused with a place for each fault; what can arrives byte for byte."""

import hashlib
import json
import tracemalloc
from datetime import UTC, datetime
from typing import Any

import pytest

from optio.errors import Invalid
from optio.model.prompt import MAX_PROMPT_LENGTH
from optio.model.runtimes import DECLARED, Declaration, PromptTraits
from optio.runs.schedule import plan_step
from optio.runs.submit import prepare_run
from optio.wiring import Services
from tests.runs.support import execute
from tests.support import compiled

TASK = """\
type: standalone
name: Job
agentRuntime: command
command: {command}
promptTemplate: {prompt}
paramsSchema:
  type: object
  properties:
    A: {{type: string}}
    OTHER: {{type: string, default: other}}
    N: {{type: [integer, object, array]}}
"""


def task(prompt: str = "'{{A}}'", command: str = "[cat]") -> Any:
    return compiled(TASK.format(prompt=prompt, command=command))


def refused(params: Any, **given: Any) -> list[tuple[str, str]]:
    with pytest.raises(Invalid) as caught:
        prepare_run(task(**given), params, new_id="r", trigger="manual", actor="me")
    return [(problem.pointer, problem.message) for problem in caught.value.problems] or [("", str(caught.value))]


@pytest.mark.parametrize("blank", ["", " ", "\n\t\u2003 ", "\ufeff", " \ufeff\n"])
def test_a_prompt_that_comes_out_blank_is_refused(blank: str) -> None:
    assert refused({"A": blank}) == [("", "the rendered prompt is blank")]


def test_a_prompt_that_comes_out_too_long_is_refused_with_its_length() -> None:
    assert refused({"A": "x" * (MAX_PROMPT_LENGTH + 1)}) == [
        ("", "the rendered prompt has 1,048,577 characters, more than 1,048,576: give the agent a file or a URL to read")
    ]


@pytest.mark.parametrize(
    ("traits", "fits", "exceeds", "says"),
    [
        (PromptTraits(max_characters=3), "äöü", "four", "4 characters, more than 3"),
        (PromptTraits(max_bytes=4), "äö", "äöü", "6 bytes, more than 4"),
        (PromptTraits(max_bytes=4), "four", "fives", "5 bytes, more than 4"),
    ],
)
def test_a_prompt_that_is_too_long_for_its_agent_is_refused_with_that_limit(
    monkeypatch: pytest.MonkeyPatch, traits: PromptTraits, fits: str, exceeds: str, says: str
) -> None:
    limited: dict[str, Declaration] = {**DECLARED, "command": DECLARED["command"]._replace(prompt=traits, title="It")}
    monkeypatch.setattr("optio.model.runtimes.DECLARED", limited)

    prepare_run(task(), {"A": fits}, new_id="r", trigger="manual", actor="me")

    why = f"the rendered prompt has {says}, the most that It takes: give the agent a file or a URL to read"
    assert refused({"A": exceeds}) == [("", why)]


def test_a_slot_whose_prompt_is_too_long_for_the_agent_starts_nothing_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    limited = {**DECLARED, "command": DECLARED["command"]._replace(prompt=PromptTraits(max_characters=3), title="It")}
    monkeypatch.setattr("optio.model.runtimes.DECLARED", limited)
    cron = '{cronExpression: "0 9 * * *", paramMapping: {A: four}}'
    scheduled = compiled(TASK.format(prompt="'{{A}}'", command="[cat]") + f"triggers: [{{type: schedule, config: {cron}}}]\n")
    slot = datetime(2026, 5, 4, 9, tzinfo=UTC)

    step = plan_step(scheduled, slot, slot, lambda: "r")

    assert [each.verdict for each in step.firing.verdicts] == ["invalid"]
    assert "has 4 characters, more than 3, the most that It takes: give the agent a file" in step.notes[0]


def test_what_an_agent_is_told_about_its_result_counts_as_its_prompt() -> None:
    keys = "agentRuntime: codex\nresult: {schema: {type: object}}\n"
    longest = "x" * MAX_PROMPT_LENGTH
    told = compiled(TASK.format(prompt="'{{A}}'", command="[cat]").replace("agentRuntime: command\ncommand: [cat]\n", keys))

    with pytest.raises(Invalid, match=r"with what the agent is told about its result has 1,048,[0-9]+ characters"):
        prepare_run(told, {"A": longest}, new_id="r", trigger="manual", actor="me")


def test_a_byte_order_mark_is_no_part_of_a_prompt() -> None:
    run = prepare_run(task(), {"A": "\ufeff\ufeffx\ufeff"}, new_id="r", trigger="manual", actor="me")

    assert run.prompt == "x\ufeff"


def test_a_prompt_or_a_key_that_would_come_out_larger_than_memory_is_refused_before_it_is_made() -> None:
    many = "'" + "{{A}}" * 20_000 + "'"
    keyed = compiled(TASK.format(prompt="x", command="[cat]") + f"dedupe: {{key: {many}}}\n")
    given = {"A": "x" * 1_000_000}
    tracemalloc.start()

    assert refused(given, prompt=many) == [
        (
            "",
            "the rendered prompt has 20,000,000,000 characters, more than 1,048,576: give the agent a file or a URL to read",
        )
    ]
    with pytest.raises(Invalid, match="has 20,000,000,000 characters"):
        prepare_run(keyed, given, new_id="r", trigger="manual", actor="me")
    assert tracemalloc.get_traced_memory()[1] < 50_000_000
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("params", "pointers"),
    [
        ({"A": "a\0b"}, ["/params/A"]),
        ({"A": "x", "N": {"deep": ["ok", "\0"]}}, ["/params/N/deep/1"]),
        ({"A": "\ud800"}, ["/params/A"]),
        ({"A": "\0", "OTHER": "\0"}, ["/params/A", "/params/OTHER"]),
        ({"A": "x", "a\0b": 1}, ["/params"]),
    ],
)
def test_text_that_no_agent_can_be_given_is_a_problem_at_its_place(params: Any, pointers: list[str]) -> None:
    assert [pointer for pointer, _ in refused(params)] == pointers


def test_nesting_without_end_is_a_problem_and_not_a_crash() -> None:
    deep: Any = 1
    for _ in range(5000):
        deep = [deep]

    assert "nested deeper" in refused({"A": "x", "N": deep})[0][1]


def test_defaults_are_filled_in_and_null_is_no_parameters() -> None:
    run = prepare_run(task(prompt="'{{OTHER}} {{MISSING}}'"), None, new_id="r", trigger="manual", actor="me")

    assert (run.prompt, run.params) == ("other {{MISSING}}", {"OTHER": "other"})


@pytest.mark.parametrize(
    "value",
    [
        "$(id) `id` ; id",
        "{{OTHER}} {{A}} %s %(x)s {0} ${X} $X",
        "--flag -rf\n'\"\\ \r\n trailing  ",
        "/clear",
        "@/etc/passwd",
        "Zoë 😀 \u202e \x1b[31m",
        "x" * 200_000,
    ],
    ids=["shell", "placeholders", "quotes", "slash", "file", "unicode", "200 kB"],
)
def test_a_value_arrives_at_the_agent_byte_for_byte(services: Services, value: str) -> None:
    source = """
import hashlib, json, os, sys
prompt = sys.stdin.buffer.read()
params = json.load(open(os.environ["OPTIO_PARAMS_FILE"]))
print(hashlib.sha256(prompt).hexdigest(), hashlib.sha256(params["A"].encode()).hexdigest(), len(sys.argv))
"""
    run = execute(services, task(prompt="'>{{A}}<'", command=json.dumps(["python3", "-c", source])), {"A": value})

    prompt, parameter = (hashlib.sha256(text.encode()).hexdigest() for text in (f">{value}<", value))
    assert run.text == f"{prompt} {parameter} 1"
