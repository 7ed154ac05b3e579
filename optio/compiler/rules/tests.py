"""Rule OPT425: a task's own tests."""

from optio.compiler.rules.rule import ERROR, Rule

_TASK = (
    "promptTemplate: Report on {{REPO}}\nparamsSchema:\n  type: object\n  additionalProperties: false\n"
    "  properties:\n    REPO: {type: string, maxLength: 200}\n  required: [REPO]\ntests:\n"
)

RULES = (
    Rule(
        "OPT425", "impossible-test", ERROR, "a test that cannot run, or that expects an impossible result",
        "The test would always fail or always pass, whatever the task does.",
        _TASK + "  - params: {}\n    expect: {verdict: invalid, params: {REPO: hello}}\n",
        _TASK + "  - params: {}\n    expect: {verdict: invalid, error: /params/REPO}\n",
    ),
)  # fmt: skip
