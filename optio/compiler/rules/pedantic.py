"""Rules that are checked only with `--strict` or `--verbose`, or where the policy gives them a severity: valid settings that a
reviewer would ask about."""

from optio.compiler.rules.rule import INFO, SUSPECTS, WARNING, Rule

_WHOLE = (
    "description: Says hello\nowner: platform\nmodel: claude-sonnet-4-5-20250929\nmaxTurns: 20\nbudgetUsd: '1.00'\n"
    "timeout: 20m\nenvironment: {secrets: [ANTHROPIC_API_KEY], network: {egress: [api.anthropic.com]}}\n"
    "triggers: [{type: manual}]\n"
)
_OWN = "  secrets: [ANTHROPIC_API_KEY]\n  network: {egress: [api.anthropic.com]}\n"
_TOOLS = (
    f"# file: task.yaml\n{_WHOLE}connections: [github]\n# file: connections/github.yaml\n"
    "---\ntype: connection\nkind: mcp\ntransport: {type: streamable-http, url: 'https://api.githubcopilot.com/mcp/'}\n"
    "tools: {get_issue: read}\n"
)


def _without(key: str, instead: str = "") -> str:
    return "".join(line + "\n" for line in _WHOLE.splitlines() if not line.startswith(f"{key}:")) + instead


def _hook(more: str = "") -> str:
    return _without("triggers", f"triggers:\n  - type: webhook\n    config: {{path: hello, secret: {{name: S}}}}\n{more}")


def _setting_up(command: str) -> str:
    network = "  secrets: [ANTHROPIC_API_KEY]\n  network: {egress: [api.anthropic.com, pypi.org, files.pythonhosted.org]}\n"
    return _without("environment", f"environment:\n  setupCommands: [{command}]\n{network}")


def _signed(more: str) -> str:
    config = f"{{path: hello, secret: {{name: S}}, {more}}}"
    return _without("triggers", f"triggers:\n  - type: webhook\n    config: {config}\nstartLimit: {{count: 50, per: 24h}}\n")


def _mapped(path: str) -> str:
    """Return a task whose prompt has the value at this path of a delivery."""
    config = f"{{path: hello, secret: {{name: S}}, replayWindow: 10m, paramMapping: {{WHAT: {path}}}}}"
    return (
        _without("triggers", f"triggers:\n  - type: webhook\n    config: {config}\nstartLimit: {{count: 50, per: 24h}}\n")
        + "promptTemplate: Report on {{WHAT}}\nparamsSchema:\n  type: object\n  properties:\n"
        + "    WHAT: {type: string, maxLength: 200}\n  required: [WHAT]\n  additionalProperties: false\n"
    )


def _fetching(egress: str) -> str:
    config = "{path: pages, secret: {name: S}, paramMapping: {PAGE: $.page.url}}"
    network = f"environment: {{secrets: [ANTHROPIC_API_KEY], network: {{egress: [{egress}]}}}}"
    return "".join(
        f"{line}\n"
        for line in (
            *(line for line in _WHOLE.splitlines() if not line.startswith(("environment", "triggers"))),
            f"triggers: [{{type: webhook, config: {config}}}]",
            "startLimit: {count: 50, per: 24h}",
            network,
            "promptTemplate: Read {{PAGE}}",
            "paramsSchema:\n  type: object\n  properties:\n    PAGE: {type: string, maxLength: 200}",
            "  required: [PAGE]\n  additionalProperties: false",
        )
    )


RULES = (
    Rule(
        "OPT323", "no-trigger", INFO, SUSPECTS, "no trigger starts the task",
        "Only the API and the command line can start it. A reader of the file will look for the trigger that is missing.",
        _without("triggers"), _WHOLE,
        strict=INFO, pedantic=True,
    ),
    Rule(
        "OPT414", "untrusted-prompt", INFO, SUSPECTS, "text from a stranger reaches the prompt",
        "An agent may follow instructions in the text that it reads, and a signature does not prove who wrote it.",
        _mapped("$.issue.title"), _mapped("$.repository.name"),
        strict=WARNING, pedantic=True,
    ),
    Rule(
        "OPT418", "no-replay-guard", INFO, SUSPECTS, "a repeated delivery starts another run",
        "Senders repeat a delivery that got no answer. Without a time stamp or a delivery id, the repetition cannot be "
        "recognised.",
        _signed("scheme: hmac, replayWindow: none"), _signed("scheme: hmac, replayWindow: 10m"),
        strict=WARNING, pedantic=True,
    ),
    Rule(
        "OPT419", "no-filter", INFO, SUSPECTS, "every event of a sender starts a run",
        "GitHub sends a ping, and every action of every event that the hook subscribes to. Each run may cost up to its budget.",
        _signed("scheme: github"), _signed("scheme: github, events: [push]"),
        strict=WARNING, pedantic=True,
    ),
    Rule(
        "OPT423", "ssrf-url", INFO, SUSPECTS, "a URL from outside, and a network that lets the agent fetch it",
        "The sender can make the agent fetch any page and follow the instructions on it.",
        _fetching("'0.0.0.0/0'"), _fetching("api.anthropic.com"),
        strict=WARNING, pedantic=True,
    ),
    Rule(
        "OPT501", "unpinned-image", INFO, SUSPECTS, "the image may change",
        "A tag can be moved: the image that runs tomorrow, with your secrets, may differ from the one that was reviewed.",
        _without("environment", "environment:\n  image: ghcr.io/acme/agent:1.4\n" + _OWN),
        _without(
            "environment",
            f"environment:\n  image: ghcr.io/acme/agent:1.4@sha256:{'0123456789abcdef' * 4}\n" + _OWN,
        ),
        strict=WARNING, pedantic=True,
    ),
    Rule(
        "OPT510", "open-network", INFO, SUSPECTS, "the agent may reach every public address",
        "An agent that was manipulated can send data to any host that the attacker names.",
        _without("environment", "environment: {secrets: [ANTHROPIC_API_KEY]}\n"), _WHOLE,
        strict=WARNING, pedantic=True,
    ),
    Rule(
        "OPT514", "unused-secret", INFO, SUSPECTS, "a secret that the task does not use",
        "An agent cannot leak a secret that it does not have.",
        _without("environment", "environment:\n" + _OWN.replace("[ANTHROPIC_API_KEY]", "[ANTHROPIC_API_KEY, WIKI_TOKEN]")),
        _without("environment", "environment:\n" + _OWN),
        strict=WARNING, pedantic=True,
    ),
    Rule(
        "OPT521", "unpinned-package", INFO, SUSPECTS, "a package is installed without a version",
        "The version that is installed tomorrow, with your secrets, may differ from the one that was tested.",
        _setting_up("pip install pip-audit"), _setting_up("pip install pip-audit==2.9.0"),
        strict=WARNING, pedantic=True,
    ),
    Rule(
        "OPT546", "unpinned-tools", INFO, SUSPECTS, "the tools of an MCP server have no pin",
        "With `pin`, no run begins whose server offers its tools with other schemas than those that you have read.",
        _TOOLS, f"{_TOOLS}pin: {{get_issue: schema={'0' * 32} text={'0' * 32}}}\n",
        strict=WARNING, pedantic=True,
    ),
    Rule(
        "OPT601", "no-budget", INFO, SUSPECTS, "a run has no budget",
        "An agent that loops keeps spending until somebody stops it.",
        _without("budgetUsd"), _WHOLE,
        strict=WARNING, pedantic=True,
    ),
    Rule(
        "OPT602", "no-turn-limit", INFO, SUSPECTS, "an agent has no turn limit",
        "A turn limit stops an agent that loops, even where its runtime does not report costs.",
        _without("maxTurns"), _WHOLE,
        strict=WARNING, pedantic=True,
    ),
    Rule(
        "OPT605", "no-timeout", INFO, SUSPECTS, "a run has no time limit of its own",
        "The server's default timeout applies. It was chosen for all tasks, and a stuck run holds its slot that long.",
        _without("timeout"), _WHOLE,
        strict=WARNING, pedantic=True,
    ),
    Rule(
        "OPT608", "floating-model", INFO, SUSPECTS, "the model may change",
        "An alias can point to another model, at another price, from one day to the next.",
        _without("model", "model: sonnet\n"), _WHOLE,
        strict=INFO, pedantic=True,
    ),
    Rule(
        "OPT611", "no-day-cap", INFO, SUSPECTS, "a webhook may start any number of runs",
        "A sender that repeats itself, or a stranger with the secret, can spend the day's money within an hour.",
        _hook(), _hook("startLimit: {count: 50, per: 24h}\n"),
        strict=WARNING, pedantic=True,
    ),
    Rule(
        "OPT712", "doc-gap", INFO, SUSPECTS, "the task has no description or no owner",
        "People who do not know the file need to see what the task is for, and whom to ask when it fails.",
        _without("description"), _WHOLE,
        strict=INFO, pedantic=True,
    ),
    Rule(
        "OPT525", "no-credential", INFO, SUSPECTS, "a `claude-code` task without a credential",
        "A run does not use the login of its worker. Without a credential of its own it ends before the first turn.",
        _without("environment", "environment: {network: {egress: [api.anthropic.com]}}\n"), _WHOLE,
        strict=WARNING, pedantic=True,
    ),
)  # fmt: skip
