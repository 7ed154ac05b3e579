"""Rules OPT301 to OPT322 and OPT603: triggers, schedules, and what they may spend."""

from optio.compiler.rules.rule import ERROR, INFO, PROVES, SUSPECTS, WARNING, Rule

_PARAMS = (
    "promptTemplate: Report on {{REPO_NAME}} with {{COUNT}} items\n"
    "paramsSchema:\n  type: object\n  additionalProperties: false\n"
    "  properties:\n    REPO_NAME: {type: string}\n    COUNT: {type: integer, default: 3}\n  required: [REPO_NAME]\n"
)


def _schedule(config: str) -> str:
    return f"triggers:\n  - type: schedule\n    config: {{{config}}}\n"


def _capped(ceiling: str, expression: str) -> str:
    return (
        '# file: task.yaml\nbudgetUsd: "1.00"\n'
        + _schedule(f'cronExpression: "{expression}"')
        + f"# file: _policy.yaml\n---\ntype: policy\nceilings: {{{ceiling}}}\n"
    )


RULES = (
    Rule(
        "OPT301", "cron-syntax", ERROR, PROVES, "a schedule that cannot be parsed",
        "A schedule has five fields: minute, hour, day of month, month, day of week.",
        _schedule('cronExpression: "60 * * * *"'),
        _schedule('cronExpression: "0 * * * *"'),
    ),
    Rule(
        "OPT302", "cron-never", ERROR, PROVES, "a schedule that never fires",
        "None of its months has such a day.",
        _schedule('cronExpression: "0 0 30 2 *"'),
        _schedule('cronExpression: "0 0 28 2 *"'),
    ),
    Rule(
        "OPT303", "cron-too-often", ERROR, PROVES, "a schedule with seconds or years",
        "Schedules have five fields. Some programs read a sixth as seconds, and others as years.",
        _schedule('cronExpression: "0 */10 * * * *"'),
        _schedule('cronExpression: "*/10 * * * *"'),
    ),
    Rule(
        "OPT304", "cron-dom-dow", INFO, SUSPECTS, "both day fields are set",
        "Cron fires when either field matches, which is rarely intended.",
        _schedule('cronExpression: "0 9 13 * 5"'),
        _schedule('cronExpression: "0 9 * * 5"'),
    ),
    Rule(
        "OPT305", "cron-uneven", INFO, SUSPECTS, "a step that does not divide its field",
        "The step starts again at each full hour or day, so the last gap is another than the others.",
        _schedule('cronExpression: "*/7 * * * *"'),
        _schedule('cronExpression: "*/6 * * * *"'),
    ),
    Rule(
        "OPT306", "bad-timezone", ERROR, PROVES, "an unknown time zone",
        "Time zones are IANA names. An offset or an abbreviation does not follow daylight saving time.",
        _schedule('cronExpression: "0 9 * * 1", timezone: PST'),
        _schedule('cronExpression: "0 9 * * 1", timezone: America/Los_Angeles'),
    ),
    Rule(
        "OPT307", "dst-gap", WARNING, PROVES, "a time that changes of the clocks skip or repeat",
        "On one night of the year it fires at another time, not at all, or twice. `optio schedule --calendar` shows the dates.",
        _schedule('cronExpression: "30 2 * * *", timezone: Europe/Berlin'),
        _schedule('cronExpression: "30 3 * * *", timezone: Europe/Berlin'),
    ),
    Rule(
        "OPT308", "schedule-missing-param", ERROR, PROVES, "a schedule does not give a required parameter",
        "The parameters of each run would be invalid, so every fire would fail.",
        _PARAMS + _schedule('cronExpression: "0 9 * * 1", paramMapping: {COUNT: 5}'),
        _PARAMS + _schedule('cronExpression: "0 9 * * 1", paramMapping: {REPO_NAME: optio}'),
    ),
    Rule(
        "OPT309", "schedule-bad-value", ERROR, PROVES, "a schedule gives a value that does not fit the parameter's schema",
        "The parameters of each run would be invalid, so every fire would fail.",
        _PARAMS + _schedule('cronExpression: "0 9 * * 1", paramMapping: {REPO_NAME: optio, COUNT: many}'),
        _PARAMS + _schedule('cronExpression: "0 9 * * 1", paramMapping: {REPO_NAME: optio, COUNT: 5}'),
    ),
    Rule(
        "OPT310", "mapping-unknown-param", ERROR, PROVES, "a schedule gives a parameter that the task does not have",
        "The value would never be used.",
        _PARAMS + _schedule('cronExpression: "0 9 * * 1", paramMapping: {REPO_NAME: optio, COUNTS: 5}'),
        _PARAMS + _schedule('cronExpression: "0 9 * * 1", paramMapping: {REPO_NAME: optio, COUNT: 5}'),
    ),
    Rule(
        "OPT311", "jsonpath-on-schedule", INFO, SUSPECTS,
        "a schedule's value looks like a JSONPath, a template or the day of the run",
        "A schedule has no payload and fills in no placeholders, so the text itself becomes the value.",
        _PARAMS + _schedule('cronExpression: "0 9 * * 1", paramMapping: {REPO_NAME: $.repository.name}'),
        _PARAMS + _schedule('cronExpression: "0 9 * * 1", paramMapping: {REPO_NAME: optio}'),
    ),
    Rule(
        "OPT313", "month-cost", ERROR, PROVES, "triggers may spend more in 30 days than the policy allows",
        "Each run counts with its whole budget plus one model call, because the cost of a call is known only after it.",
        _capped('monthUsd: "50.00"', "*/30 9-17 * * *"), _capped('monthUsd: "30.00"', "0 9 * * *"),
    ),
    Rule(
        "OPT317", "cron-long-step", WARNING, PROVES, "a step that is longer than its field",
        "The step starts again in each hour, day, month, year or week, so only the first value of the field is left.",
        _schedule('cronExpression: "*/90 * * * *"'),
        _schedule('cronExpression: "0 */2 * * *"'),
    ),
    Rule(
        "OPT318", "cron-each-minute", INFO, SUSPECTS, "a schedule that names an hour and no minute",
        "`*` means every minute: sixty runs where usually one is meant.",
        _schedule('cronExpression: "* 3 * * *"'),
        _schedule('cronExpression: "0 3 * * *"'),
    ),
    Rule(
        "OPT319", "cron-other-times", INFO, SUSPECTS, "a schedule that some of its months leave out",
        "A month without the day is skipped without a word: `L` is the last day of each month.",
        _schedule('cronExpression: "0 9 31 3,6,9,12 *"'),
        _schedule('cronExpression: "0 9 30 3,6,9,12 *"'),
    ),
    Rule(
        "OPT320", "duplicate-trigger", ERROR, PROVES, "two triggers of one type",
        "A task has at most one trigger of each type.",
        "triggers:\n  - type: manual\n  - type: manual\n",
        "triggers:\n  - type: manual\n",
    ),
    Rule(
        "OPT321", "unknown-trigger", ERROR, PROVES, "an unknown trigger type",
        "A standalone task is started manually, by a schedule or by a webhook.",
        "triggers:\n  - type: ticket\n",
        "triggers:\n  - type: manual\n",
    ),
    Rule(
        "OPT322", "mapping-place", ERROR, PROVES, "`paramMapping` beside `config`",
        "`paramMapping` is read only inside `config`.",
        'triggers:\n  - type: schedule\n    paramMapping: {}\n    config: {cronExpression: "0 9 * * 1"}\n',
        'triggers:\n  - type: schedule\n    config: {cronExpression: "0 9 * * 1", paramMapping: {}}\n',
    ),
    Rule(
        "OPT324", "limit-below-fires", WARNING, PROVES, "a schedule that fires more often than `startLimit` allows",
        "The runs wait in the queue, which grows as long as the schedule fires.",
        "startLimit: {count: 10, per: 24h}\n" + _schedule('cronExpression: "0 * * * *"'),
        "startLimit: {count: 24, per: 24h}\n" + _schedule('cronExpression: "0 * * * *"'),
    ),
    Rule(
        "OPT325", "costly-schedule", INFO, SUSPECTS, "a schedule whose budgets add up to more than $1,000 in 30 days",
        "Each fire may spend the whole budget of its run. Without `ceilings.monthUsd` in the policy nothing limits the month.",
        'budgetUsd: "2.00"\n' + _schedule('cronExpression: "*/5 * * * *"'),
        'budgetUsd: "2.00"\n' + _schedule('cronExpression: "0 9 * * 1-5"'),
        strict=WARNING,
    ),
    Rule(
        "OPT603", "worst-case", ERROR, PROVES, "triggers may spend more in 24 hours than the policy allows",
        "Each run counts with its whole budget plus one model call, on days when the clocks change as well.",
        _capped('dayUsd: "5.00"', "*/30 9-17 * * *"), _capped('dayUsd: "5.00"', "0 9 * * *"),
    ),
)  # fmt: skip
