"""Rules OPT701 to OPT710: the tree as a whole, and ignore comments."""

from optio.compiler.rules.rule import ERROR, INFO, PROVES, WARNING, Rule


def _fleet(budget: str) -> str:
    schedule = 'triggers:\n  - type: schedule\n    config: {cronExpression: "0 9 * * *"}\n'
    return (
        f'# file: a.yaml\nname: A\nmaxRetries: 0\nbudgetUsd: "1.00"\n{schedule}'
        f'# file: b.yaml\nname: B\nmaxRetries: 0\nbudgetUsd: "{budget}"\n{schedule}'
        '# file: _policy.yaml\n---\ntype: policy\nfleet: {monthUsd: "60.00"}\n'
    )


RULES = (
    Rule(
        "OPT701", "duplicate-name", ERROR, PROVES, "two tasks with the same id",
        "Runs, URLs and logs find a task by its id. The first file in path order keeps it, and the other task is not served.",
        "# file: a.yaml\nname: Weekly Report\n# file: b.yaml\nname: weekly report\n",
        "# file: a.yaml\nname: Weekly Report\n# file: b.yaml\nname: Daily Report\n",
    ),
    Rule(
        "OPT702", "ignored-file", WARNING, PROVES, "a file that the server does not read",
        "The server reads `report.yaml` and `report.yml`. `report.json` is never served.",
        "",
        "",
    ),
    Rule(
        "OPT703", "extends-cycle", ERROR, PROVES, "a template that cannot be used",
        "Without its template a task is incomplete: the budget, for instance, may be in that file.",
        "# file: task.yaml\nextends: base.yaml\n# file: base.yaml\n---\ntype: template\nextends: base.yaml\n",
        "# file: task.yaml\nextends: base.yaml\n# file: base.yaml\n---\ntype: template\nmaxTurns: 20\n",
    ),
    Rule(
        "OPT705", "case-clash", WARNING, PROVES, "two paths that differ only by case",
        "Many laptops have disks on which both are the same file, so a checkout there loses one of the tasks.",
        "# file: Report.yaml\nname: Report\n# file: report.yaml\nname: New Report\n",
        "# file: report.yaml\nname: Report\n# file: new-report.yaml\nname: New Report\n",
    ),
    Rule(
        "OPT706", "symlink-escape", ERROR, PROVES, "a file that cannot be read safely",
        "Optio reads only regular files below the task directory. It does not read links that lead out of it, devices or "
        "pipes.",
        "",
        "",
    ),
    Rule(
        "OPT708", "fleet-budget", ERROR, PROVES, "all tasks together may spend more than the policy allows",
        "Each task is within its own limits, but their sum is above the limit of the policy.",
        _fleet("2.00"), _fleet("1.00"),
    ),
    Rule(
        "OPT709", "unused-ignore", WARNING, PROVES, "a comment that ignores nothing",
        "An unused comment would hide the next mistake of this kind. Errors cannot be silenced, because a task with an error "
        "is not served.",
        "maxTurns: 20  # optio: ignore[OPT105] a round number\n",
        "maxTurns: 20\n",
    ),
    Rule(
        "OPT710", "ignore-no-reason", INFO, PROVES, "a finding is ignored without a reason",
        "Without a reason, the next reader of the file has to find out again whether the finding matters.",
        "promptTemplate: Greet {{WHOM}}  # optio: ignore[OPT201]\nparamsSchema: {type: object, properties: {}}\n",
        "promptTemplate: Greet {{WHOM}}  # optio: ignore[OPT201] the agent fills it in\n"
        "paramsSchema: {type: object, properties: {}}\n",
        strict=WARNING,
    ),
)  # fmt: skip
