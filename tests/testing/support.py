"""A task with everything that tests can try, and its tree in memory."""

import json
from typing import Any

from optio.compiler.source_tree import MemoryTree
from optio.testing.run import ExampleResult, TreeReport, run_tests

TRIAGE = """\
name: Triage
agentRuntime: command
command: [/bin/cat]
promptTemplate: "#{{NUMBER}} {{TITLE}} ({{LABEL}})"
paramsSchema:
  type: object
  properties:
    NUMBER: {type: integer}
    TITLE: {type: string, maxLength: 30}
    LABEL: {type: string, default: none, maxLength: 100}
  required: [NUMBER, TITLE]
  additionalProperties: false
triggers:
  - type: manual
  - type: schedule
    config: {cronExpression: "30 2 * * *", timezone: Europe/Berlin, paramMapping: {NUMBER: 1, TITLE: nightly}}
  - type: webhook
    config:
      path: triage
      scheme: github
      secret: {name: HOOK}
      events: [issues]
      when: "@.action == 'opened'"
      paramMapping: {NUMBER: $.issue.number, TITLE: $.issue.title, LABEL: $.issue.state}
"""
OPENED: dict[str, Any] = {"action": "opened", "issue": {"number": 7, "title": "Slow", "state": "bug"}}
HEADERS = {"X-GitHub-Event": "issues"}


def tree(*tests: dict[str, Any], task: str = TRIAGE, **payloads: Any) -> MemoryTree:
    """The task with these tests, and its payloads by name: JSON values, or bytes as they are."""
    files = {name: data if isinstance(data, bytes) else json.dumps(data) for name, data in payloads.items()}
    written = "".join(f"  - {json.dumps(test)}\n" for test in tests)
    return MemoryTree({"triage.yaml": task + (f"tests:\n{written}" if tests else ""), "opened": json.dumps(OPENED), **files})


def report(*tests: dict[str, Any], **payloads: Any) -> TreeReport:
    """All of it run."""
    return run_tests(tree(*tests, **payloads))


def result(test: dict[str, Any], **payloads: Any) -> ExampleResult:
    """The only test, run; the task has no other errors."""
    found = report(test, **payloads)
    assert found.compilation.ok, found.compilation.diagnostics
    (only,) = found.results
    return only


def delivery(**more: Any) -> dict[str, Any]:
    """A test with the payload that is wanted, by the event that is."""
    return {"webhook": "opened", "headers": HEADERS, "expect": {}, **more}
