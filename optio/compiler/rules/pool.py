"""OPT606: pods that are kept ready."""

from optio.compiler.rules.rule import WARNING, Rule

RULES = (
    Rule(
        "OPT606", "idle-pool", WARNING, "pods are kept ready that hardly any run will need",
        "A waiting pod costs what a working one does; it saves its run a few seconds.",
        'warmPoolSize: 3\ntriggers:\n  - type: schedule\n    config: {cronExpression: "0 9 * * 1"}\n',
        'warmPoolSize: 1\ntriggers:\n  - type: schedule\n    config: {cronExpression: "*/10 * * * *"}\n',
    ),
)  # fmt: skip
