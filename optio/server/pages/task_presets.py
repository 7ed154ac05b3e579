"""The texts that a new task begins with on the page: complete tasks, to be changed by hand. A test compiles each of them."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Preset:
    """A first text of a task file, and what it is for."""

    title: str
    about: str
    text: str


_KEY = "ANTHROPIC_API_KEY"
_SCHEDULED = '  - {type: schedule, config: {cronExpression: "%s", timezone: UTC}}\n'

PRESETS = {
    "blank": Preset(
        "Empty",
        "An agent with a prompt, started by hand",
        f"""\
name: New task
description: What it is for
agentRuntime: claude-code
model: sonnet
promptTemplate: |
  Say hello.
maxTurns: 20
budgetUsd: "1.00"
timeout: 20m
environment:
  secrets: [{_KEY}]
triggers:
  - type: manual
""",
    ),
    "github-review": Preset(
        "GitHub PR review",
        "Each pull request that is opened or updated starts a run",
        f"""\
name: Pull request review
description: Reads a pull request and says what a maintainer should look at first
agentRuntime: claude-code
model: sonnet
promptTemplate: |
  Review the pull request {{{{NUMBER}}}} of {{{{REPO}}}}: {{{{URL}}}}
  Say in three sentences what a maintainer should look at first.
paramsSchema:
  type: object
  properties:
    REPO: {{type: string, maxLength: 200}}
    NUMBER: {{type: integer, minimum: 1}}
    URL: {{type: string, maxLength: 500}}
  required: [REPO, NUMBER, URL]
  additionalProperties: false
maxTurns: 20
budgetUsd: "1.00"
timeout: 20m
startLimit: {{count: 20, per: 1h}}
environment:
  secrets: [{_KEY}]
triggers:
  - type: webhook
    config:
      path: pull-request-review        # the address ends with it
      scheme: github
      secret: {{name: GITHUB_WEBHOOK_SECRET}}
      events: [pull_request]
      when: "@.action == 'opened' || @.action == 'synchronize'"
      paramMapping:
        REPO: $.repository.full_name
        NUMBER: $.number
        URL: $.pull_request.html_url
""",
    ),
    "nightly-report": Preset(
        "Nightly report",
        "A schedule starts a run every night",
        f"""\
name: Nightly report
description: Writes a report every night
agentRuntime: claude-code
model: sonnet
promptTemplate: |
  Write a report about {{{{TOPIC}}}}, as Markdown, in at most one page.
paramsSchema:
  type: object
  properties:
    TOPIC: {{type: string, default: what changed since yesterday, maxLength: 200}}
  additionalProperties: false
maxTurns: 20
budgetUsd: "1.00"
timeout: 30m
environment:
  secrets: [{_KEY}]
triggers:
{_SCHEDULED % "0 0 * * *"}""",
    ),
    "alert-triage": Preset(
        "Alert triage",
        "An alert of your monitoring starts a run",
        f"""\
name: Alert triage
description: Looks at an alert and says what to do first
agentRuntime: claude-code
model: sonnet
promptTemplate: |
  The alert `{{{{ALERT}}}}` fires with the severity {{{{SEVERITY}}}}. Say what it probably means, and what to do first.
paramsSchema:
  type: object
  properties:
    ALERT: {{type: string, pattern: "^[A-Za-z0-9_.:-]+$", maxLength: 200}}
    SEVERITY: {{type: string, enum: [info, warning, critical]}}
  required: [ALERT, SEVERITY]
  additionalProperties: false
maxTurns: 20
budgetUsd: "0.50"
timeout: 10m
dedupe: {{key: "{{{{ALERT}}}}", window: 10m}}
startLimit: {{count: 20, per: 1h}}
environment:
  secrets: [{_KEY}]
triggers:
  - type: webhook
    config:
      path: alert-triage               # the address ends with it
      secret: {{name: ALERT_WEBHOOK_SECRET}}
      paramMapping:
        ALERT: $.alerts[0].labels.alertname
        SEVERITY: $.alerts[0].labels.severity
""",
    ),
    "command": Preset(
        "Command",
        "A program of your own, without any agent",
        """\
name: Disk usage
description: Says how full a disk is; a program, without any agent
agentRuntime: command
command: ["/bin/sh", "-c", "read path; df -h \\"$path\\""]    # the prompt comes on its standard input
promptTemplate: "{{PATH_TO_LOOK_AT}}\\n"
paramsSchema:
  type: object
  properties:
    PATH_TO_LOOK_AT: {type: string, pattern: "^/", maxLength: 500, default: /}
  additionalProperties: false
timeout: 1m
triggers:
  - type: manual
""",
    ),
}

# The schedules of the form: cron expression and what people call it.
SCHEDULES = {
    "0 * * * *": "every hour",
    "0 0 * * *": "daily at midnight",
    "0 9 * * 1-5": "weekdays at 9 AM",
    "0 9 * * 1": "weekly on Monday",
}
