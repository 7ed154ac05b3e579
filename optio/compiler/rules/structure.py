"""Rules OPT101 to OPT122, and some of others' numbers: keys, and the types of their values."""

from optio.compiler.rules.rule import ERROR, INFO, WARNING, Rule

RULES = (
    Rule(
        "OPT101", "unknown-key", ERROR, "an unknown key",
        "A misspelt limit would not apply.",
        "maxTurn: 20\n",
        "maxTurns: 20\n",
    ),
    Rule(
        "OPT102", "missing-key", ERROR, "a required key is missing",
        "The task cannot run without it.",
        "---\nname: Weekly Report\npromptTemplate: Write the report\n",
        "---\nname: Weekly Report\nagentRuntime: claude-code\npromptTemplate: Write the report\n",
    ),
    Rule(
        "OPT103", "wrong-type", ERROR, "a value of the wrong type",
        "Values are never converted, so that a file means exactly what it says.",
        'maxTurns: "20"\n',
        "maxTurns: 20\n",
    ),
    Rule(
        "OPT104", "bad-enum", ERROR, "a word outside the allowed ones",
        "Other words have no meaning here.",
        "agentRuntime: claude\n",
        "agentRuntime: claude-code\n",
    ),
    Rule(
        "OPT105", "out-of-range", ERROR, "a number or text outside its limits",
        "The server can only honour values within the limits.",
        "maxRetries: -1\n",
        "maxRetries: 0\n",
    ),
    Rule(
        "OPT106", "blank-text", ERROR, "a blank text",
        "A blank name or prompt carries no information.",
        'promptTemplate: "  "\n',
        "promptTemplate: Say hello\n",
    ),
    Rule(
        "OPT107", "bad-name", ERROR, "a name that cannot be used",
        "URLs, logs and the command line find a task by its id, which is the slug of its name.",
        'name: "///"\n',
        'name: "///"\nid: slashes\n',
    ),
    Rule(
        "OPT108", "exclusive-keys", ERROR, "two keys that exclude each other",
        "Only one of them could apply, and the file does not say which.",
        "promptTemplate: Say hello\npromptFile: hello.md\n",
        "promptTemplate: Say hello\n",
    ),
    Rule(
        "OPT109", "repo-on-standalone", ERROR, "a repository key on a standalone task",
        "Tasks with a repository are Repo Tasks. In a standalone task the key would have no effect.",
        "repoUrl: https://github.com/acme/app\n",
        "description: works on no repository\n",
    ),
    Rule(
        "OPT110", "unknown-type", ERROR, "a type of document that is not known or not supported yet",
        "`standalone` is a task; `template` and `policy` are supported, too. Connections are not supported yet.",
        "type: standalon\n",
        "type: standalone\n",
    ),
    Rule(
        "OPT111", "key-case", ERROR, "a known key in another spelling",
        "Keys are written in camelCase, as in the API.",
        "max_turns: 20\n",
        "maxTurns: 20\n",
    ),
    Rule(
        "OPT113", "null-value", WARNING, "a key without a value",
        "The key has no effect: the default applies, as it would without the key.",
        "model:\n",
        "model: sonnet\n",
    ),
    Rule(
        "OPT114", "schema-version", ERROR, "an unknown version of the format",
        "The same keys may mean something else in another version.",
        "apiVersion: optio/v9\n",
        "apiVersion: optio/v1\n",
    ),
    Rule(
        "OPT115", "file-not-found", ERROR, "a file that is missing, hidden or outside the tree",
        "Files are read from below the task directory only. Hidden files may hold secrets, which every reader of the task "
        "would see.",
        "promptFile: prompts/hello.md\n",
        "# file: task.yaml\npromptFile: prompts/hello.md\n# file: prompts/hello.md\nSay hello\n",
    ),
    Rule(
        "OPT116", "reserved-key", ERROR, "a key that Optio sets itself",
        "Optio computes the value from the file, so you cannot choose it.",
        "digest: sha256:0000\n",
        "id: example\n",
    ),
    Rule(
        "OPT117", "not-yet", ERROR, "a key whose feature is not supported yet",
        "A task that depends on a connection must not run without it.",
        "connections: [slack-alerts]\n",
        "connections: []\n",
    ),
    Rule(
        "OPT118", "command-runtime", ERROR, "`command` and `agentRuntime` do not go together",
        "`agentRuntime: command` runs the program in `command`; every other runtime brings its own.",
        "agentRuntime: claude-code\ncommand: [cat]\n",
        "agentRuntime: command\ncommand: [cat]\n",
    ),
    Rule(
        "OPT120", "not-inherited", ERROR, "a key that a template or defaults cannot set",
        "Each task needs its own: two tasks with the same name or webhook would conflict.",
        "# file: _defaults.yaml\n---\nname: All\n",
        "# file: _defaults.yaml\n---\nmaxTurns: 20\n",
    ),
    Rule(
        "OPT121", "bad-policy", ERROR, "a policy that cannot be read",
        "Nothing is allowed until the policy can be read: `type: policy`, with `ceilings`, `require`, `allow` or `namespaces`.",
        "# file: _policy.yaml\n---\ntype: policy\nceiling: {maxTurns: 20}\n",
        "# file: _policy.yaml\n---\ntype: policy\nceilings: {maxTurns: 20}\n",
    ),
    Rule(
        "OPT122", "unused-namespace", WARNING, "a pattern of `namespaces` that matches no task",
        "If the pattern is misspelt, its tasks run in another namespace, beside those of other teams.",
        "# file: team-a/report.yaml\nmaxTurns: 20\n# file: _policy.yaml\n---\ntype: policy\nnamespaces: {team-a: runs-a}\n",
        "# file: team-a/report.yaml\nmaxTurns: 20\n"
        '# file: _policy.yaml\n---\ntype: policy\nnamespaces: {"team-a/*": runs-a}\n',
    ),
    Rule(
        "OPT704", "dead-override", WARNING, "`null` for a key that nothing sets",
        "A reader looks for the value that `null` removes, and there is none.",
        "# file: task.yaml\nextends: base.yaml\nmodel: null\n# file: base.yaml\n---\ntype: template\nmaxTurns: 20\n",
        "# file: task.yaml\nextends: base.yaml\n# file: base.yaml\n---\ntype: template\nmaxTurns: 20\n",
    ),
    Rule(
        "OPT614", "stall-after-timeout", WARNING, "`stallTimeout` is longer than `timeout`",
        "`timeout` ends an attempt before `stallTimeout` can apply. An agent has a limit of its own, which an equal one lifts.",
        "agentRuntime: command\ncommand: [make]\ntimeout: 20m\nstallTimeout: 30m\n",
        "timeout: 20m\nstallTimeout: 20m\n",
    ),
    Rule(
        "OPT615", "no-effect", WARNING, "a value that another one takes the place of",
        "A secret replaces its variable, `misfire` decides about `maxCatchUp`, and exit code 78 about `maxRetries`.",
        "triggers:\n  - type: schedule\n    config: {cronExpression: '0 5 * * *', misfire: last, maxCatchUp: 24}\n",
        "triggers:\n  - type: schedule\n    config: {cronExpression: '0 5 * * *', misfire: all, maxCatchUp: 24}\n",
    ),
    Rule(
        "OPT616", "no-price", WARNING, "a budget that nobody can enforce, so that no run starts, or that no run can keep",
        "Optio has no price of the model here. A worker with a price list of its own (OPTIO_PRICES) may know it.",
        'agentRuntime: codex\nmodel: our-own-model\nbudgetUsd: "2.50"\n',
        "agentRuntime: codex\nmodel: our-own-model\nmaxTurns: 20\n",
        strict=ERROR,
    ),
    Rule(
        "OPT619", "budget-below-call", INFO, "a budget far below what one call of the model may cost",
        "A run may spend its budget and one call. A budget below a fiftieth of the dearest call is reported.",
        'agentRuntime: claude-code\nmodel: opus\nbudgetUsd: "0.05"\n',
        'agentRuntime: claude-code\nmodel: haiku\nbudgetUsd: "0.05"\n',
    ),
    Rule(
        "OPT610", "bad-money", ERROR, "an invalid amount of money",
        "Binary fractions cannot hold most amounts, so write money as text with at most four decimals.",
        "budgetUsd: 2.50\n",
        'budgetUsd: "2.50"\n',
    ),
)  # fmt: skip
