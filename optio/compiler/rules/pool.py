"""Rule OPT606: warm pods."""

from optio.compiler.rules.rule import WARNING, Rule

RULES = (
    Rule(
        "OPT606", "idle-pool", WARNING, "warm pods that hardly any run will use",
        "A waiting pod costs as much as a working one, and it saves a run a few seconds.",
        'warmPoolSize: 3\ntriggers:\n  - type: schedule\n    config: {cronExpression: "0 9 * * 1"}\n',
        'warmPoolSize: 1\ntriggers:\n  - type: schedule\n    config: {cronExpression: "*/10 * * * *"}\n',
    ),
)  # fmt: skip
