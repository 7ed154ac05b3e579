"""Rules OPT540 to OPT545 and OPT547: connections, and the tasks that name them. OPT546 is advice (`pedantic`)."""

from optio.compiler.rules.rule import ERROR, INFO, PROVES, SUSPECTS, WARNING, Rule

_GITHUB = (
    "# file: connections/github.yaml\n"
    "---\ntype: connection\nkind: mcp\n"
    "transport: {type: streamable-http, url: 'https://api.githubcopilot.com/mcp/'}\n"
    "tools: {get_issue: read, create_issue: write}\n"
)
_USING_STATUS = "# file: task.yaml\nconnections: [status]\n"
_STATUS = "# file: connections/status.yaml\n---\ntype: connection\nkind: http\nurl: https://status.example.com\n"
_OPENROUTER = (
    "# file: connections/openrouter.yaml\n"
    "---\ntype: connection\nkind: model\nurl: https://openrouter.ai/api\nkey: OPENROUTER_API_KEY\n"
)


def _triage(tools: str) -> str:
    """Return a task that strangers write to by the titles of their issues."""
    return (
        f"# file: task.yaml\npromptTemplate: Sort the issue named {{{{TITLE}}}}\n"
        "paramsSchema:\n  type: object\n  properties: {TITLE: {type: string, maxLength: 200}}\n"
        "  required: [TITLE]\n  additionalProperties: false\n"
        f"connections: [{{id: github, tools: [{tools}]}}]\n"
        "triggers:\n  - type: webhook\n    config:\n      path: issues\n      secret: {name: HOOK_SECRET}\n"
        "      paramMapping:\n        TITLE: $.issue.title  # optio: ignore[OPT414] the agent is told to take it as data\n"
        f"{_GITHUB}"
    )


RULES = (
    Rule(
        "OPT540",
        "bad-connection",
        ERROR,
        PROVES,
        "a connection that cannot be read",
        "No task can name it, and those that do are not served.",
        f"{_STATUS}alow: [GET /v1/**]\n",
        f"{_USING_STATUS}{_STATUS}allow: [GET /v1/**]\n",
    ),
    Rule(
        "OPT541",
        "unknown-connection",
        ERROR,
        PROVES,
        "a connection that the tree does not have",
        "A task that depends on a connection must not run without it.",
        "connections: [github]\n",
        f"# file: task.yaml\nconnections: [github]\n{_GITHUB}",
    ),
    Rule(
        "OPT542",
        "unknown-tool",
        ERROR,
        PROVES,
        "tools that the connection does not have, or has not pinned",
        "An agent is offered the tools that its task names, and no others.",
        f"# file: task.yaml\nconnections: [{{id: github, tools: [close_issue]}}]\n{_GITHUB}",
        f"# file: task.yaml\nconnections: [{{id: github, tools: [create_issue]}}]\n{_GITHUB}",
    ),
    Rule(
        "OPT543",
        "strangers-write",
        INFO,
        SUSPECTS,
        "a tool or request that changes something, in a task whose prompt strangers write to",
        "The author of the text can ask the agent to use it. The service sees your credential, and not who asked.",
        _triage("get_issue, create_issue"),
        _triage("get_issue"),
        strict=WARNING,
    ),
    Rule(
        "OPT544",
        "unusable-model-service",
        ERROR,
        PROVES,
        "a connection of kind `model` that the task cannot use",
        "A run has one model service, which its agent must be able to call, and which must have its model.",
        f"# file: task.yaml\nagentRuntime: command\ncommand: [make, report]\nconnections: [openrouter]\n{_OPENROUTER}",
        f"# file: task.yaml\nagentRuntime: codex\nmodel: gpt-5\nconnections: [openrouter]\n{_OPENROUTER}",
    ),
    Rule(
        "OPT545",
        "two-addresses",
        ERROR,
        PROVES,
        "a variable in which a run finds the address of a connection, and another value for it",
        "The run has one variable of that name, so one of both values has no effect.",
        "# file: task.yaml\nconnections: [status]\nenvironment: {env: {STATUS_URL: 'https://status.example.com'}}\n"
        f"{_STATUS}allow: [GET /v1/**]\n",
        f"{_USING_STATUS}{_STATUS}allow: [GET /v1/**]\n",
    ),
    Rule(
        "OPT547",
        "unused-connection",
        INFO,
        SUSPECTS,
        "a connection that no task names",
        "It may be a leftover, or the task that needs it names another one.",
        f"{_STATUS}allow: [GET /v1/**]\n",
        f"{_USING_STATUS}{_STATUS}allow: [GET /v1/**]\n",
    ),
)
