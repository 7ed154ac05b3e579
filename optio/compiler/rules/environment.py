"""Rules OPT502 to OPT533, OPT607, OPT613, OPT621 and OPT713: the environment of the agent, and the limits of the policy."""

from optio.compiler.rules.rule import ERROR, INFO, PROVES, SUSPECTS, WARNING, Rule


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


def _signed(secrets: str) -> str:
    return (
        f"environment: {{secrets: {secrets}}}\n"
        "triggers:\n  - type: webhook\n    config: {path: scan, secret: {name: HOOK_SECRET}, paramMapping: {}}\n"
    )


RULES = (
    Rule(
        "OPT502", "bad-image", ERROR, PROVES, "an invalid reference to a container image",
        "The pod could never start.",
        "environment: {image: https://ghcr.io/acme/agent}\n",
        "environment: {image: ghcr.io/acme/agent:1.4}\n",
    ),
    Rule(
        "OPT503", "secret-literal", ERROR, PROVES, "a token or key in plain text",
        "Anyone who can read the repository, now or later, can use it.",
        "environment:\n  env: {TOKEN: ghp_0123456789abcdefghijABCDEFGHIJ012345}\n",
        "environment:\n  secrets: [TOKEN]\n",
    ),
    Rule(
        "OPT504", "unknown-secret", WARNING, PROVES, "a secret or variable is used that the task does not have",
        "The variable is empty, or the text `$NAME` stays, and the command fails late with an unclear message.",
        'environment:\n  setupCommands: ["git config --global url.https://$GIT_TOKEN@example.com/.insteadOf https://example.com/"]\n',
        'environment:\n  secrets: [GIT_TOKEN]\n'
        '  setupCommands: ["git config --global url.https://$GIT_TOKEN@example.com/.insteadOf https://example.com/"]\n',
        strict=ERROR,
    ),
    Rule(
        "OPT505", "secret-in-prompt", WARNING, PROVES, "a placeholder for a secret in the prompt",
        "Prompts are stored, shown and sent to a model, so secrets are never filled in there. The agent has the secret as a "
        "variable.",
        'promptTemplate: Sign in with {{WIKI_TOKEN}} and list the pages\nenvironment: {secrets: [WIKI_TOKEN]}\n',
        'promptTemplate: Sign in with $WIKI_TOKEN and list the pages\nenvironment: {secrets: [WIKI_TOKEN]}\n',
        strict=ERROR,
    ),
    Rule(
        "OPT506", "bad-env-name", ERROR, PROVES, "an invalid name of an environment variable",
        "Shells and programs cannot read a variable with such a name.",
        "environment:\n  env: {MY-VAR: x}\n",
        "environment:\n  env: {MY_VAR: x}\n",
    ),
    Rule(
        "OPT507", "reserved-env", ERROR, PROVES, "a variable that a task cannot set",
        "Optio sets the variable for every run, or the system would load it into every program.",
        "environment:\n  env: {OPTIO_RUN_ID: mine}\n",
        "environment:\n  env: {MY_RUN_ID: mine}\n",
    ),
    Rule(
        "OPT508", "curl-pipe-shell", INFO, SUSPECTS, "a download is run without a check",
        "Anyone who controls the server, today or later, can run commands beside your secrets.",
        'environment:\n  setupCommands: ["curl -fsSL https://example.com/install.sh | sh"]\n',
        'environment:\n  setupCommands: ["pip install pip-audit==2.9.0"]\n',
        strict=WARNING,
    ),
    Rule(
        "OPT509", "setup-syntax", ERROR, PROVES, "a set-up command that no shell can read",
        "The command would fail in each run, after its pod was started. Each entry of the list is a complete command.",
        'environment:\n  setupCommands: ["cd /srv/app &&", "npm ci"]\n',
        'environment:\n  setupCommands: ["cd /srv/app && npm ci"]\n',
    ),
    Rule(
        "OPT511", "bad-host", ERROR, PROVES, "an invalid host name or network in `egress`",
        "An entry that cannot be enforced must not look as if it were.",
        "environment:\n  network: {egress: [api.anthropic.com, https://api.github.com/]}\n",
        "environment:\n  network: {egress: [api.anthropic.com, api.github.com]}\n",
    ),
    Rule(
        "OPT513", "resources", ERROR, PROVES, "an invalid amount of cpu or memory",
        "`m` means a thousandth, also of a byte; memory without a unit counts bytes; a request must not exceed its limit.",
        "environment:\n  resources: {memory: 512m}\n",
        "environment:\n  resources: {memory: 512Mi, cpu: 500m}\n",
    ),
    Rule(
        "OPT516", "lethal-trio", INFO, SUSPECTS, "untrusted text, a secret and an open network in one task",
        "The author of the text can ask the agent to send the secret anywhere. The agent's own key does not count.",
        _trio(""), _trio("  network: {egress: [api.anthropic.com, api.github.com]}\n"),
        strict=WARNING,
    ),
    Rule(
        "OPT518", "plain-http", INFO, SUSPECTS, "plain http to a public address, or with a secret",
        "Anyone on the way can read and change what is sent.",
        "environment:\n  env: {API: http://api.example.com/v1}\n",
        "environment:\n  env: {API: https://api.example.com/v1, NEAR: http://localhost:8080}\n",
        strict=WARNING,
    ),
    Rule(
        "OPT519", "not-allowed", ERROR, PROVES, "something that the policy does not allow",
        "The policy applies to the final task, after templates and defaults, so no file can opt out.",
        "# file: task.yaml\nmodel: opus\n# file: _policy.yaml\n---\ntype: policy\nallow: {models: [sonnet, haiku]}\n",
        "# file: task.yaml\nmodel: sonnet\n# file: _policy.yaml\n---\ntype: policy\nallow: {models: [sonnet, haiku]}\n",
    ),
    Rule(
        "OPT520", "lost-effect", WARNING, PROVES, "a set-up command without a lasting effect",
        "Each command has its own shell: a directory, variable or option that it sets is gone before the next command.",
        'environment:\n  setupCommands: ["cd /opt/tools", "npm ci"]\n',
        'environment:\n  setupCommands: ["cd /opt/tools && npm ci"]\n',
    ),
    Rule(
        "OPT523", "not-applied", WARNING, PROVES,
        "an image, a network, resources or `keepFailed` that the executor does not apply",
        "A process runs in this machine's system: at most its network ports are closed, and resource limits need a cgroup.",
        "environment: {image: ghcr.io/acme/agent:1.4}\n",
        "# file: task.yaml\nenvironment: {image: ghcr.io/acme/agent:1.4, secrets: [ANTHROPIC_API_KEY]}\n"
        "# file: _policy.yaml\n---\ntype: policy\nexecutor: kubernetes\n",
        by_executor=True,
    ),
    Rule(
        "OPT524", "not-isolated", ERROR, PROVES, "the executor does not apply what the policy demands",
        "A policy that lists images or hosts demands that they are applied. A process would use others, so its runs are "
        "refused.",
        "# file: task.yaml\nenvironment: {network: {egress: [api.anthropic.com]}}\n"
        "# file: _policy.yaml\n---\ntype: policy\nallow: {egress: [api.anthropic.com]}\n",
        "# file: task.yaml\nenvironment: {secrets: [ANTHROPIC_API_KEY], network: {egress: [api.anthropic.com]}}\n"
        "# file: _policy.yaml\n---\ntype: policy\nexecutor: kubernetes\nallow: {egress: [api.anthropic.com]}\n",
        by_executor=True,
    ),
    Rule(
        "OPT526", "shell-sign", WARNING, PROVES, "shell syntax in a list of arguments",
        "A list is a program and its arguments. No shell reads them, so `>` and `$NAME` reach the program unchanged.",
        'agentRuntime: command\ncommand: [make, report, ">", report.txt]\n',
        "agentRuntime: command\ncommand: 'make report > report.txt'\n",
    ),
    Rule(
        "OPT527", "uncovered-host", INFO, SUSPECTS, "`egress` does not cover a host that the task seems to need",
        "A run reaches only the listed hosts, unless its image leads programs to others. `*.a.com` does not cover `a.com`.",
        "environment:\n  setupCommands: [pip install sqlfluff==3.3.0]\n  network: {egress: [api.anthropic.com]}\n",
        "environment:\n  setupCommands: [pip install sqlfluff==3.3.0]\n"
        "  network: {egress: [api.anthropic.com, pypi.org, files.pythonhosted.org]}\n",
        strict=WARNING,
    ),
    Rule(
        "OPT528", "needs-root", INFO, SUSPECTS, "a set-up command that seems to need root",
        "No command of a run is root, and all but its own directories is read-only, so such a command fails.",
        'environment:\n  setupCommands: ["apt-get update && apt-get install -y jq"]\n',
        "environment:\n  setupCommands: [pip install jq==1.11.0]\n",
    ),
    Rule(
        "OPT529", "no-ssh-key", INFO, SUSPECTS, "a git address over SSH without a key",
        "The home directory of a run is new: git can sign in only if the image has an SSH key and knows the host.",
        'environment:\n  setupCommands: ["git clone git@github.com:acme/site.git"]\n',
        'environment:\n  setupCommands: ["git clone https://github.com/acme/site.git"]\n',
    ),
    Rule(
        "OPT530", "shared-secret", INFO, SUSPECTS, "a webhook's secret that the agent gets, too",
        "Only the server verifies deliveries. Anyone who has the secret can forge them, and its sender knows whatever it is.",
        _signed("[ANTHROPIC_API_KEY, HOOK_SECRET]"),
        _signed("[ANTHROPIC_API_KEY]"),
        strict=WARNING,
    ),
    Rule(
        "OPT531", "shell-fails", WARNING, PROVES, "a set-up command that needs the files of a project",
        "A run begins in an empty directory, without a checkout, so the command fails.",
        "environment:\n  setupCommands: [npm ci]\n",
        "environment:\n  setupCommands: [git clone https://github.com/acme/app.git app && cd app && npm ci]\n",
    ),
    Rule(
        "OPT532", "bad-variable", WARNING, PROVES, "`TZ` is not a time zone",
        "Programs take a zone that they do not know for UTC.",
        "environment:\n  env: {TZ: Berlin}\n",
        "environment:\n  env: {TZ: Europe/Berlin}\n",
    ),
    Rule(
        "OPT533", "likely-secret", INFO, SUSPECTS,
        "a variable or header that is named after a secret and holds what looks like one",
        "If it is one, anyone who can read the repository, now or later, can use it.",
        "environment:\n  env: {DB_PASSWORD: hunter2hunter3}\n",
        "environment:\n  secrets: [DB_PASSWORD]\n",
        strict=WARNING,
    ),
    Rule(
        "OPT607", "model-runtime", WARNING, PROVES, "a model that the agent's service does not offer",
        "The first call of each run would fail. Nothing is reported if a variable points the agent to another service.",
        "model: gpt-5\n",
        "model: sonnet\n",
        strict=ERROR,
    ),
    Rule(
        "OPT621", "similar-model", INFO, SUSPECTS, "a model whose name resembles a known one",
        "Lists of models are never complete: the name may be misspelt, or new.",
        "model: claude-sonet-4-5\n",
        "model: claude-sonnet-4-5\n",
    ),
    Rule(
        "OPT613", "over-ceiling", ERROR, PROVES, "more than the policy allows",
        "Ceilings limit numbers: budget, turns, time, retries, concurrent runs, warm pods, and how long failed pods are kept.",
        '# file: task.yaml\nbudgetUsd: "9.00"\n# file: _policy.yaml\n---\ntype: policy\nceilings: {budgetUsd: "5.00"}\n',
        '# file: task.yaml\nbudgetUsd: "5.00"\n# file: _policy.yaml\n---\ntype: policy\nceilings: {budgetUsd: "5.00"}\n',
    ),
    Rule(
        "OPT713", "required-by-policy", ERROR, PROVES, "a key that the policy requires is missing",
        "Organisations require keys, such as `owner`, to know who is responsible for every task.",
        "# file: task.yaml\nname: Report\n# file: _policy.yaml\n---\ntype: policy\nrequire: [description]\n",
        "# file: task.yaml\ndescription: Reports\n# file: _policy.yaml\n---\ntype: policy\nrequire: [description]\n",
    ),
)  # fmt: skip
