"""Rule OPT606: warm pods."""

from optio.compiler.rules.rule import PROVES, WARNING, Rule

RULES = (
    Rule(
        "OPT606", "idle-pool", WARNING, PROVES, "more warm pods than runs at once",
        "`maxConcurrent` limits the runs, so no run can use the other pods, and each costs as much as a working one.",
        'warmPoolSize: 3\ntriggers:\n  - type: schedule\n    config: {cronExpression: "0 9 * * 1"}\n',
        'warmPoolSize: 1\ntriggers:\n  - type: schedule\n    config: {cronExpression: "*/10 * * * *"}\n',
    ),
)  # fmt: skip
