"""Rules OPT425 and OPT428 to OPT430: a task's own tests."""

from optio.compiler.rules.rule import ERROR, PROVES, WARNING, Rule

_TASK = (
    "promptTemplate: Report on {{REPO}}\nparamsSchema:\n  type: object\n  additionalProperties: false\n"
    "  properties:\n    REPO: {type: string, maxLength: 200}\n  required: [REPO]\ntests:\n"
)
_MONDAYS = 'triggers:\n  - type: schedule\n    config: {cronExpression: "0 9 * * 1"}\n'
_PUSHES = (
    "# file: task.yaml\n"
    "triggers:\n  - type: webhook\n    config: {path: push, scheme: github, secret: {name: HOOK_SECRET}, events: [push]}\n"
)
_PUSH = '# file: push.json\n{"ref": "refs/heads/main"}\n'

RULES = (
    Rule(
        "OPT425", "impossible-test", ERROR, PROVES, "a test that cannot run, or that expects an impossible result",
        "The test would always fail or always pass, whatever the task does.",
        _TASK + "  - params: {}\n    expect: {verdict: invalid, params: {REPO: hello}}\n",
        _TASK + "  - params: {}\n    expect: {verdict: invalid, error: /params/REPO}\n",
    ),
    Rule(
        "OPT428", "test-without-fire", WARNING, PROVES, "a test at a time at which the schedule does not fire",
        "`optio test` cannot run it. The time is in the schedule's own zone, unless it has an offset.",
        _MONDAYS + "tests:\n  - schedule: 2026-07-07T09:00\n    expect: {promptContains: hello}\n",
        _MONDAYS + "tests:\n  - schedule: 2026-07-06T09:00\n    expect: {promptContains: hello}\n",
        strict=ERROR,
    ),
    Rule(
        "OPT429", "partial-params", WARNING, PROVES, "a test whose `params` are not those of its run",
        "`optio test` compares all parameters of the run, with their defaults, so the test fails.",
        _TASK + "  - params: {REPO: hello}\n    expect: {params: {}}\n",
        _TASK + "  - params: {REPO: hello}\n    expect: {params: {REPO: hello}}\n",
        strict=ERROR,
    ),
    Rule(
        "OPT430", "other-result", WARNING, PROVES, "a test that expects another verdict or prompt than it gets",
        "`optio test` fails. `events` reads the event from a header or from the payload, and `when` reads the payload.",
        _PUSHES + "tests:\n  - webhook: push.json\n    expect: {promptContains: hello}\n" + _PUSH,
        _PUSHES + "tests:\n  - webhook: push.json\n    headers: {X-GitHub-Event: push}\n"
        "    expect: {promptContains: hello}\n" + _PUSH,
        strict=ERROR,
    ),
)  # fmt: skip
