"""Submit: what cannot become a run is refused with a place for each fault; what can arrives byte for byte."""

import hashlib
import json
import tracemalloc
from typing import Any

import pytest

from optio.errors import Invalid
from optio.runs.submit import MAX_PROMPT_LENGTH, prepare_run
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


@pytest.mark.parametrize("blank", ["", " ", "\n\t\u2003 "])
def test_a_prompt_that_comes_out_blank_is_refused(blank: str) -> None:
    assert refused({"A": blank}) == [("", "the rendered prompt is blank")]


def test_a_prompt_that_comes_out_too_long_is_refused_with_its_length() -> None:
    assert refused({"A": "x" * (MAX_PROMPT_LENGTH + 1)}) == [
        ("", "the rendered prompt has 1,048,577 characters, more than 1,048,576")
    ]


def test_a_prompt_or_a_key_that_would_come_out_larger_than_memory_is_refused_before_it_is_made() -> None:
    many = "'" + "{{A}}" * 20_000 + "'"
    keyed = compiled(TASK.format(prompt="x", command="[cat]") + f"dedupe: {{key: {many}}}\n")
    given = {"A": "x" * 1_000_000}
    tracemalloc.start()

    assert refused(given, prompt=many) == [("", "the rendered prompt has 20,000,000,000 characters, more than 1,048,576")]
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
