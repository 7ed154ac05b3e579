"""Rules OPT540 to OPT542: connections, and the tasks that name them."""

from optio.compiler.rules.rule import ERROR, PROVES, Rule

_GITHUB = (
    "# file: connections/github.yaml\n"
    "type: connection\n"
    "kind: mcp\n"
    "transport: {type: streamable-http, url: 'https://api.githubcopilot.com/mcp/'}\n"
    "tools: {get_issue: read, create_issue: write}\n"
)

_STATUS = "# file: connections/status.yaml\n---\ntype: connection\nkind: http\nurl: https://status.example.com\n"
RULES = (
    Rule(
        "OPT540",
        "bad-connection",
        ERROR,
        PROVES,
        "a connection that cannot be read",
        "No task can name it, and those that do are not served.",
        f"{_STATUS}alow: [GET /v1/**]\n",
        f"{_STATUS}allow: [GET /v1/**]\n",
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
        "tools that the connection does not have",
        "An agent is offered the tools that its task names, and no others.",
        f"# file: task.yaml\nconnections: [{{id: github, tools: [close_issue]}}]\n{_GITHUB}",
        f"# file: task.yaml\nconnections: [{{id: github, tools: [create_issue]}}]\n{_GITHUB}",
    ),
)
