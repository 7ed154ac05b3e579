"""Rules OPT101 to OPT122, and some of others' numbers: keys, and the types of their values."""

from optio.compiler.rules.rule import ERROR, INFO, PROVES, SUSPECTS, WARNING, Rule

RULES = (
    Rule(
        "OPT101", "unknown-key", ERROR, PROVES, "an unknown key",
        "A misspelt limit would not apply.",
        "maxTurn: 20\n",
        "maxTurns: 20\n",
    ),
    Rule(
        "OPT102", "missing-key", ERROR, PROVES, "a required key is missing",
        "The task cannot run without it.",
        "---\nname: Weekly Report\npromptTemplate: Write the report\n",
        "---\nname: Weekly Report\nagentRuntime: claude-code\npromptTemplate: Write the report\n",
    ),
    Rule(
        "OPT103", "wrong-type", ERROR, PROVES, "a value of the wrong type",
        "Values are never converted, so that a file means exactly what it says.",
        'maxTurns: "20"\n',
        "maxTurns: 20\n",
    ),
    Rule(
        "OPT104", "bad-enum", ERROR, PROVES, "a word outside the allowed ones",
        "Other words have no meaning here.",
        "agentRuntime: claude\n",
        "agentRuntime: claude-code\n",
    ),
    Rule(
        "OPT105", "out-of-range", ERROR, PROVES, "a number or text outside its limits",
        "The server can only honour values within the limits.",
        "maxRetries: -1\n",
        "maxRetries: 0\n",
    ),
    Rule(
        "OPT106", "blank-text", ERROR, PROVES, "a blank text",
        "A blank name or prompt carries no information.",
        'promptTemplate: "  "\n',
        "promptTemplate: Say hello\n",
    ),
    Rule(
        "OPT107", "bad-name", ERROR, PROVES, "a name that cannot be used",
        "URLs, logs and the command line find a task by its id, which is the slug of its name.",
        'name: "///"\n',
        'name: "///"\nid: slashes\n',
    ),
    Rule(
        "OPT108", "exclusive-keys", ERROR, PROVES, "two keys that exclude each other",
        "Only one of them could apply, and the file does not say which.",
        "promptTemplate: Say hello\npromptFile: hello.md\n",
        "promptTemplate: Say hello\n",
    ),
    Rule(
        "OPT109", "repo-on-standalone", ERROR, PROVES, "a repository key on a standalone task",
        "Tasks with a repository are Repo Tasks. In a standalone task the key would have no effect.",
        "repoUrl: https://github.com/acme/app\n",
        "description: works on no repository\n",
    ),
    Rule(
        "OPT110", "unknown-type", ERROR, PROVES, "a type of document that is not known or not supported yet",
        "`standalone` is a task; `template` and `policy` are supported, too. Connections are not supported yet.",
        "type: standalon\n",
        "type: standalone\n",
    ),
    Rule(
        "OPT111", "key-case", ERROR, PROVES, "a known key in another spelling",
        "Keys are written in camelCase, as in the API.",
        "max_turns: 20\n",
        "maxTurns: 20\n",
    ),
    Rule(
        "OPT113", "null-value", WARNING, PROVES, "a key without a value",
        "The key has no effect: the default applies, as it would without the key.",
        "model:\n",
        "model: sonnet\n",
    ),
    Rule(
        "OPT114", "schema-version", ERROR, PROVES, "an unknown version of the format",
        "The same keys may mean something else in another version.",
        "apiVersion: optio/v9\n",
        "apiVersion: optio/v1\n",
    ),
    Rule(
        "OPT115", "file-not-found", ERROR, PROVES, "a file that is missing, hidden or outside the tree",
        "Files are read from below the task directory only. Hidden files may hold secrets, which every reader of the task "
        "would see.",
        "promptFile: prompts/hello.md\n",
        "# file: task.yaml\npromptFile: prompts/hello.md\n# file: prompts/hello.md\nSay hello\n",
    ),
    Rule(
        "OPT116", "reserved-key", ERROR, PROVES, "a key that Optio sets itself",
        "Optio computes the value from the file, so you cannot choose it.",
        "digest: sha256:0000\n",
        "id: example\n",
    ),
    Rule(
        "OPT118", "command-runtime", ERROR, PROVES, "`command` and `agentRuntime` do not go together",
        "`agentRuntime: command` runs the program in `command`; every other runtime brings its own.",
        "agentRuntime: claude-code\ncommand: [cat]\n",
        "agentRuntime: command\ncommand: [cat]\n",
    ),
    Rule(
        "OPT120", "not-inherited", ERROR, PROVES, "a key that a template or defaults cannot set",
        "Each task needs its own: two tasks with the same name or webhook would conflict.",
        "# file: _defaults.yaml\n---\nname: All\n",
        "# file: _defaults.yaml\n---\nmaxTurns: 20\n",
    ),
    Rule(
        "OPT121", "bad-policy", ERROR, PROVES, "a policy that cannot be read",
        "Nothing is allowed until the policy can be read: `type: policy`, with `ceilings`, `require`, `allow` or `namespaces`.",
        "# file: _policy.yaml\n---\ntype: policy\nceiling: {maxTurns: 20}\n",
        "# file: _policy.yaml\n---\ntype: policy\nceilings: {maxTurns: 20}\n",
    ),
    Rule(
        "OPT122", "unused-namespace", INFO, SUSPECTS, "a pattern of `namespaces` that matches no task",
        "If the pattern is misspelt, its tasks run in another namespace, beside those of other teams.",
        "# file: team-a/report.yaml\nmaxTurns: 20\n# file: _policy.yaml\n---\ntype: policy\nnamespaces: {team-a: runs-a}\n",
        "# file: team-a/report.yaml\nmaxTurns: 20\n"
        '# file: _policy.yaml\n---\ntype: policy\nnamespaces: {"team-a/*": runs-a}\n',
    ),
    Rule(
        "OPT704", "dead-override", WARNING, PROVES, "`null` for a key that nothing sets",
        "A reader looks for the value that `null` removes, and there is none.",
        "# file: task.yaml\nextends: base.yaml\nmodel: null\n# file: base.yaml\n---\ntype: template\nmaxTurns: 20\n",
        "# file: task.yaml\nextends: base.yaml\n# file: base.yaml\n---\ntype: template\nmaxTurns: 20\n",
    ),
    Rule(
        "OPT614", "stall-after-timeout", WARNING, PROVES, "`stallTimeout` is longer than `timeout`",
        "`timeout` ends an attempt before `stallTimeout` can apply. An agent has a limit of its own, which an equal one lifts.",
        "agentRuntime: command\ncommand: [make]\ntimeout: 20m\nstallTimeout: 30m\n",
        "timeout: 20m\nstallTimeout: 20m\n",
    ),
    Rule(
        "OPT615", "no-effect", WARNING, PROVES, "a value that another one takes the place of",
        "A secret replaces its variable, and `misfire` decides about `maxCatchUp`.",
        "triggers:\n  - type: schedule\n    config: {cronExpression: '0 5 * * *', misfire: last, maxCatchUp: 24}\n",
        "triggers:\n  - type: schedule\n    config: {cronExpression: '0 5 * * *', misfire: all, maxCatchUp: 24}\n",
    ),
    Rule(
        "OPT616", "no-price", INFO, SUSPECTS, "a budget for a model without a known price",
        "A run whose cost cannot be measured does not start with a budget. A worker with OPTIO_PRICES may know the model.",
        'agentRuntime: codex\nmodel: our-own-model\nbudgetUsd: "2.50"\n',
        "agentRuntime: codex\nmodel: our-own-model\nmaxTurns: 20\n",
        strict=WARNING,
    ),
    Rule(
        "OPT620", "zero-budget", WARNING, PROVES, "a budget of 0 for an agent",
        "The first call of the model spends it, so no run can do its work. 0 does not mean that there is no limit.",
        'agentRuntime: claude-code\nmodel: haiku\nbudgetUsd: "0"\n',
        'agentRuntime: claude-code\nmodel: haiku\nbudgetUsd: "0.50"\n',
    ),
    Rule(
        "OPT610", "bad-money", ERROR, PROVES, "an invalid amount of money",
        "Binary fractions cannot hold most amounts, so write money as text with at most four decimals.",
        "budgetUsd: 2.50\n",
        'budgetUsd: "2.50"\n',
    ),
)  # fmt: skip
