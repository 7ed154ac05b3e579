"""OPT502 to OPT526: where the agent runs."""

from optio.compiler.rules.rule import ERROR, WARNING, Rule


def _trio(network: str) -> str:
    ignored = "# optio: ignore[OPT414] the agent is told to take it as data"
    return (
        "promptTemplate: Sort the issue named {{TITLE}} with `gh`\n"
        "paramsSchema:\n  type: object\n  properties: {TITLE: {type: string, maxLength: 200}}\n"
        "  required: [TITLE]\n  additionalProperties: false\n"
        f"environment:\n  secrets: [ANTHROPIC_API_KEY, GITHUB_TOKEN]\n{network}"
        "triggers:\n  - type: webhook\n    config:\n      path: issues\n      secret: {name: HOOK_SECRET}\n"
        f"      paramMapping:\n        TITLE: $.issue.title  {ignored}\n"
    )


RULES = (
    Rule(
        "OPT502", "bad-image", ERROR, "no reference to a container image",
        "The pod could never start.",
        "environment: {image: https://ghcr.io/acme/agent}\n",
        "environment: {image: ghcr.io/acme/agent:1.4}\n",
    ),
    Rule(
        "OPT503", "secret-literal", ERROR, "a token or key in plain text",
        "Whoever can read the repository knows it, for ever.",
        "environment:\n  env: {TOKEN: ghp_0123456789abcdefghijABCDEFGHIJ012345}\n",
        "environment:\n  secrets: [TOKEN]\n",
    ),
    Rule(
        "OPT504", "unknown-secret", WARNING, "a secret or another value is used that is not there",
        "The variable is empty, or holds the text `$NAME`, and what needs it fails late and says little.",
        'environment:\n  setupCommands: ["git config --global url.https://$GIT_TOKEN@example.com/.insteadOf https://example.com/"]\n',
        'environment:\n  secrets: [GIT_TOKEN]\n'
        '  setupCommands: ["git config --global url.https://$GIT_TOKEN@example.com/.insteadOf https://example.com/"]\n',
        strict=ERROR,
    ),
    Rule(
        "OPT505", "secret-in-prompt", WARNING, "a secret stands in the prompt as if it were filled in",
        "Prompts are stored, shown and sent to a model, so no secret is ever put there; the agent has it as a variable.",
        'promptTemplate: Sign in with $WIKI_TOKEN and list the pages\nenvironment: {secrets: [WIKI_TOKEN]}\n',
        'promptTemplate: List the pages; `$WIKI_TOKEN` signs in\nenvironment: {secrets: [WIKI_TOKEN]}\n',
        strict=ERROR,
    ),
    Rule(
        "OPT506", "bad-env-name", ERROR, "no name of an environment variable",
        "Shells and programs cannot read any other name.",
        "environment:\n  env: {MY-VAR: x}\n",
        "environment:\n  env: {MY_VAR: x}\n",
    ),
    Rule(
        "OPT507", "reserved-env", ERROR, "a variable that is not a task's to set",
        "Optio sets it for every run, or it would be loaded into every program of it.",
        "environment:\n  env: {OPTIO_RUN_ID: mine}\n",
        "environment:\n  env: {MY_RUN_ID: mine}\n",
    ),
    Rule(
        "OPT508", "curl-pipe-shell", WARNING, "a download is run unseen",
        "Whoever holds the other end, today or next year, runs commands beside your secrets.",
        'environment:\n  setupCommands: ["curl -fsSL https://example.com/install.sh | sh"]\n',
        'environment:\n  setupCommands: ["pip install pip-audit==2.9.0"]\n',
        strict=ERROR,
    ),
    Rule(
        "OPT509", "setup-syntax", ERROR, "a set-up command that no shell can read",
        "It would fail in each run, after the pod was started for it. Each entry of the list is a whole command.",
        'environment:\n  setupCommands: ["apt-get update &&", "apt-get install -y jq"]\n',
        'environment:\n  setupCommands: ["apt-get update && apt-get install -y jq"]\n',
    ),
    Rule(
        "OPT511", "bad-host", ERROR, "no host name or network in `egress`",
        "What cannot be enforced must not look as if it were.",
        "environment:\n  network: {egress: [https://api.github.com/]}\n",
        "environment:\n  network: {egress: [api.github.com]}\n",
    ),
    Rule(
        "OPT513", "resources", ERROR, "an amount of cpu or memory that cannot be meant",
        "The pod could never start: `m` is a thousandth, also of a byte, memory without a unit is bytes; a request is at most "
        "its limit.",
        "environment:\n  resources: {memory: 512m}\n",
        "environment:\n  resources: {memory: 512Mi, cpu: 500m}\n",
    ),
    Rule(
        "OPT516", "lethal-trio", WARNING, "strangers' words, a secret and an open network in one task",
        "Whoever writes those words can ask the agent to send the secret anywhere; the key of the agent itself does not count.",
        _trio(""), _trio("  network: {egress: [api.anthropic.com, api.github.com]}\n"),
        strict=ERROR,
    ),
    Rule(
        "OPT518", "plain-http", WARNING, "plain http to another machine",
        "What comes that way can be changed on the way, and what is sent that way is read.",
        "environment:\n  env: {API: http://api.example.com/v1}\n",
        "environment:\n  env: {API: https://api.example.com/v1, NEAR: http://localhost:8080}\n",
        strict=ERROR,
    ),
    Rule(
        "OPT519", "not-allowed", ERROR, "something that the policy does not allow",
        "The policy holds after every merge of templates and defaults, whoever wrote the value.",
        "# file: task.yaml\nmodel: opus\n# file: _policy.yaml\n---\ntype: policy\nallow: {models: [sonnet, haiku]}\n",
        "# file: task.yaml\nmodel: sonnet\n# file: _policy.yaml\n---\ntype: policy\nallow: {models: [sonnet, haiku]}\n",
    ),
    Rule(
        "OPT520", "lost-effect", WARNING, "a set-up command whose effect ends with it",
        "Each command has a shell of its own: a directory, a variable or an option that it sets is gone before the next.",
        'environment:\n  setupCommands: ["cd /opt/tools", "npm ci"]\n',
        'environment:\n  setupCommands: ["cd /opt/tools && npm ci"]\n',
    ),
    Rule(
        "OPT523", "not-applied", WARNING, "an image, a network, resources or `keepFailed` that the executor does not apply",
        "As a process, an agent runs in this machine's system. Of its network at most ports are closed, and resources take a "
        "cgroup.",
        "environment: {image: ghcr.io/acme/agent:1.4}\n",
        "# file: task.yaml\nenvironment: {image: ghcr.io/acme/agent:1.4}\n"
        "# file: _policy.yaml\n---\ntype: policy\nexecutor: kubernetes\n",
        by_executor=True,
    ),
    Rule(
        "OPT524", "not-isolated", ERROR, "what the policy demands is not applied by the executor",
        "A policy that lists images or hosts demands that they are applied. A process would use others, so runs are refused.",
        "# file: task.yaml\nenvironment: {network: {egress: [api.github.com]}}\n"
        "# file: _policy.yaml\n---\ntype: policy\nallow: {egress: [api.github.com]}\n",
        "# file: task.yaml\nenvironment: {network: {egress: [api.github.com]}}\n"
        "# file: _policy.yaml\n---\ntype: policy\nexecutor: kubernetes\nallow: {egress: [api.github.com]}\n",
        by_executor=True,
    ),
    Rule(
        "OPT526", "shell-sign", WARNING, "a sign, a variable or a whole line of the shell in a list",
        "A list is a program and its arguments: no shell reads them, so `>` and `$NAME` reach the program as they stand.",
        'agentRuntime: command\ncommand: [make, report, ">", report.txt]\n',
        "agentRuntime: command\ncommand: 'make report > report.txt'\n",
    ),
    Rule(
        "OPT607", "model-runtime", WARNING, "a model that the agent's service does not offer",
        "The first call of each run would be refused. Nothing is said where the agent is sent to another service.",
        "model: gpt-5\n",
        "model: sonnet\n",
        strict=ERROR,
    ),
    Rule(
        "OPT613", "over-ceiling", ERROR, "more than the policy allows",
        "A ceiling is for what has a figure: budget, turns, time, retries, runs at a time, pods kept ready or kept for a look.",
        '# file: task.yaml\nbudgetUsd: "9.00"\n# file: _policy.yaml\n---\ntype: policy\nceilings: {budgetUsd: "5.00"}\n',
        '# file: task.yaml\nbudgetUsd: "5.00"\n# file: _policy.yaml\n---\ntype: policy\nceilings: {budgetUsd: "5.00"}\n',
    ),
    Rule(
        "OPT713", "required-by-policy", ERROR, "a key that the policy asks for",
        "An organisation asks for what it needs to know of every task.",
        "# file: task.yaml\nname: Report\n# file: _policy.yaml\n---\ntype: policy\nrequire: [description]\n",
        "# file: task.yaml\ndescription: Reports\n# file: _policy.yaml\n---\ntype: policy\nrequire: [description]\n",
    ),
)  # fmt: skip
