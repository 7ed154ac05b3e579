"""OPT425: a task's own tests."""

from optio.compiler.rules.rule import ERROR, Rule

_TASK = (
    "promptTemplate: Report on {{REPO}}\nparamsSchema:\n  type: object\n  additionalProperties: false\n"
    "  properties:\n    REPO: {type: string, maxLength: 200}\n  required: [REPO]\ntests:\n"
)

RULES = (
    Rule(
        "OPT425", "impossible-test", ERROR, "a test that cannot be run as it is written, or expects what cannot be",
        "It would fail whatever the task does, or hold whatever the task does.",
        _TASK + "  - params: {}\n    expect: {verdict: invalid, params: {REPO: hello}}\n",
        _TASK + "  - params: {}\n    expect: {verdict: invalid, error: /params/REPO}\n",
    ),
)  # fmt: skip
