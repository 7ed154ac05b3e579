"""OPT501 to OPT511: where the agent runs."""

from optio.compiler.rule import ERROR, WARNING, Rule

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
        "OPT511", "bad-host", ERROR, "no host name or network in `egress`",
        "What cannot be enforced must not look as if it were.",
        "environment:\n  network: {egress: [https://api.github.com/]}\n",
        "environment:\n  network: {egress: [api.github.com]}\n",
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
        "OPT613", "over-ceiling", ERROR, "more than the policy allows",
        "A ceiling is for what has a figure: budget, turns, time, retries, runs at a time, pods kept ready.",
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
