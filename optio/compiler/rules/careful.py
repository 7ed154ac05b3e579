"""What is asked only with `--strict` or `--verbose`."""

from collections.abc import Callable

from optio.compiler.rules.rule import INFO, WARNING, Rule

_WHOLE = (
    "description: Says hello\nowner: platform\nmodel: claude-sonnet-4-5-20250929\nmaxTurns: 20\nbudgetUsd: '1.00'\n"
    "timeout: 20m\nenvironment: {secrets: [ANTHROPIC_API_KEY], network: {egress: [api.anthropic.com]}}\n"
    "triggers: [{type: manual}]\n"
)
_OWN = "  secrets: [ANTHROPIC_API_KEY]\n  network: {egress: [api.anthropic.com]}\n"


def _without(key: str, instead: str = "") -> str:
    return "".join(line + "\n" for line in _WHOLE.splitlines() if not line.startswith(f"{key}:")) + instead


def _hook(more: str = "") -> str:
    return _without("triggers", f"triggers:\n  - type: webhook\n    config: {{path: hello, secret: {{name: S}}}}\n{more}")


def _herd(minute: Callable[[int], int]) -> str:
    return "".join(
        f"# file: task-{place}.yaml\nname: Task {place}\n"
        + _without("triggers", f'triggers:\n  - type: schedule\n    config: {{cronExpression: "{minute(place)} 4 * * *"}}\n')
        for place in range(10)
    )


def _setting_up(command: str) -> str:
    network = "  secrets: [ANTHROPIC_API_KEY]\n  network: {egress: [pypi.org]}\n"
    return _without("environment", f"environment:\n  setupCommands: [{command}]\n{network}")


def _signed(more: str) -> str:
    config = f"{{path: hello, secret: {{name: S}}, {more}}}"
    return _without("triggers", f"triggers:\n  - type: webhook\n    config: {config}\nstartLimit: {{count: 50, per: 24h}}\n")


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
        "OPT312", "herd", INFO, "ten tasks or more start in one minute",
        "Few of them begin then and the rest wait, while the minutes beside it are empty.",
        _herd(lambda place: 0), _herd(lambda place: 6 * place),
        strict=INFO, careful=True,
    ),
    Rule(
        "OPT323", "no-trigger", INFO, "nothing starts the task",
        "The API and the command line still do; whoever reads the file looks for the trigger that was forgotten.",
        _without("triggers"), _WHOLE,
        strict=INFO, careful=True,
    ),
    Rule(
        "OPT418", "no-replay-guard", INFO, "a delivery that is sent again starts another run",
        "Senders repeat what they got no answer to, and a scheme without a time stamp or a number cannot tell.",
        _signed("scheme: hmac, replayWindow: none"), _signed("scheme: hmac, replayWindow: 10m"),
        strict=WARNING, careful=True,
    ),
    Rule(
        "OPT419", "no-filter", INFO, "every event of a sender starts a run",
        "GitHub sends a ping, and each action of each event that the hook was set up for; each run costs up to its budget.",
        _signed("scheme: github"), _signed("scheme: github, events: [push]"),
        strict=WARNING, careful=True,
    ),
    Rule(
        "OPT423", "ssrf-url", INFO, "a URL from outside, and a network that lets the agent go there",
        "Whoever sends it makes the agent fetch a page, and do what it finds there.",
        _fetching("'0.0.0.0/0'"), _fetching("api.anthropic.com"),
        strict=WARNING, careful=True,
    ),
    Rule(
        "OPT501", "unpinned-image", INFO, "the image may change",
        "A tag can be moved: what runs tomorrow, with your secrets, need not be what was reviewed.",
        _without("environment", "environment:\n  image: ghcr.io/acme/agent:1.4\n" + _OWN),
        _without(
            "environment",
            f"environment:\n  image: ghcr.io/acme/agent:1.4@sha256:{'0123456789abcdef' * 4}\n" + _OWN,
        ),
        strict=WARNING, careful=True,
    ),
    Rule(
        "OPT510", "open-network", INFO, "the agent may reach every public address",
        "What an agent was talked into sending away goes where it was told to.",
        _without("environment", "environment: {secrets: [ANTHROPIC_API_KEY]}\n"), _WHOLE,
        strict=WARNING, careful=True,
    ),
    Rule(
        "OPT514", "unused-secret", INFO, "a secret that the task has no use for",
        "Nobody can talk an agent out of what it does not have; and whoever has a signing secret can forge deliveries.",
        _without("environment", "environment:\n" + _OWN.replace("[ANTHROPIC_API_KEY]", "[ANTHROPIC_API_KEY, WIKI_TOKEN]")),
        _without("environment", "environment:\n" + _OWN),
        strict=WARNING, careful=True,
    ),
    Rule(
        "OPT521", "unpinned-package", INFO, "a package is installed in any version",
        "What a name stands for tomorrow, with your secrets, need not be what was tried today.",
        _setting_up("pip install pip-audit"), _setting_up("pip install pip-audit==2.9.0"),
        strict=WARNING, careful=True,
    ),
    Rule(
        "OPT601", "no-budget", INFO, "a run may cost whatever it comes to",
        "An agent that goes round in circles is paid for until somebody looks.",
        _without("budgetUsd"), _WHOLE,
        strict=WARNING, careful=True,
    ),
    Rule(
        "OPT602", "no-turn-limit", INFO, "an agent may take any number of turns",
        "Turns end an agent in circles where its runtime does not know what it costs.",
        _without("maxTurns"), _WHOLE,
        strict=WARNING, careful=True,
    ),
    Rule(
        "OPT604", "over-global", INFO, "more runs at a time than all tasks together may have",
        "The rest of them wait in the queue, in the places of other tasks; only a server that is set up for more runs them.",
        _WHOLE + "maxConcurrent: 50\n", _WHOLE + "maxConcurrent: 5\n",
        strict=WARNING, careful=True,
    ),
    Rule(
        "OPT605", "no-timeout", INFO, "a run has no time limit of its own",
        "The server's default was chosen for all tasks, and holds a slot for that long.",
        _without("timeout"), _WHOLE,
        strict=WARNING, careful=True,
    ),
    Rule(
        "OPT608", "floating-model", INFO, "the model may change",
        "An alias stands for another model from one day to the next, at another price.",
        _without("model", "model: sonnet\n"), _WHOLE,
        strict=INFO, careful=True,
    ),
    Rule(
        "OPT611", "no-day-cap", INFO, "a webhook may start any number of runs",
        "A sender that repeats itself, or a stranger with the secret, spends the whole day's money in an hour.",
        _hook(), _hook("startLimit: {count: 50, per: 24h}\n"),
        strict=WARNING, careful=True,
    ),
    Rule(
        "OPT712", "doc-gap", INFO, "the task has no description, or nobody who answers for it",
        "People who have never seen the file read what it is for, and ask somebody when it goes wrong.",
        _without("description"), _WHOLE,
        strict=INFO, careful=True,
    ),
    Rule(
        "OPT525", "no-credential", INFO, "a `claude-code` task without a credential",
        "A run has no login of its worker: without one of its own it ends before its first turn.",
        _without("environment", "environment: {network: {egress: [api.anthropic.com]}}\n"), _WHOLE,
        strict=WARNING, careful=True,
    ),
)  # fmt: skip
