"""OPT101 to OPT119: keys and the types of their values; OPT610: money."""

from optio.compiler.rules.rule import ERROR, WARNING, Rule

RULES = (
    Rule(
        "OPT101", "unknown-key", ERROR, "a key that does not exist here",
        "A misspelt limit is a limit that does not hold.",
        "maxTurn: 20\n",
        "maxTurns: 20\n",
    ),
    Rule(
        "OPT102", "missing-key", ERROR, "a required key is absent",
        "The task cannot run without it.",
        "---\nname: Weekly Report\npromptTemplate: Write the report\n",
        "---\nname: Weekly Report\nagentRuntime: claude-code\npromptTemplate: Write the report\n",
    ),
    Rule(
        "OPT103", "wrong-type", ERROR, "a value of the wrong type",
        "Values are never converted: what is written is what is meant.",
        'maxTurns: "20"\n',
        "maxTurns: 20\n",
    ),
    Rule(
        "OPT104", "bad-enum", ERROR, "a word that is not one of the allowed ones",
        "Only these words have a meaning.",
        "agentRuntime: claude\n",
        "agentRuntime: claude-code\n",
    ),
    Rule(
        "OPT105", "out-of-range", ERROR, "a number or text outside its limits",
        "The limit is what the server can honour.",
        "maxRetries: -1\n",
        "maxRetries: 0\n",
    ),
    Rule(
        "OPT106", "blank-text", ERROR, "a text that is empty after trimming",
        "A blank name or prompt says nothing.",
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
        "Only one of them could be honoured, and nobody can tell which.",
        "promptTemplate: Say hello\npromptFile: hello.md\n",
        "promptTemplate: Say hello\n",
    ),
    Rule(
        "OPT109", "repo-on-standalone", ERROR, "a repository key on a standalone task",
        "A task with a repository is a Repo Task; a standalone task has none, and the key would do nothing.",
        "repoUrl: https://github.com/acme/app\n",
        "description: works on no repository\n",
    ),
    Rule(
        "OPT110", "unknown-type", ERROR, "a type of document that is not known or not supported yet",
        "`standalone` is a task; `template` and `policy` are read, too, and connections are not supported yet.",
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
        "It says nothing: the default holds, as it would without the key.",
        "model:\n",
        "model: sonnet\n",
    ),
    Rule(
        "OPT114", "schema-version", ERROR, "an unknown version of the format",
        "Another version may mean something else by the same keys.",
        "apiVersion: optio/v9\n",
        "apiVersion: optio/v1\n",
    ),
    Rule(
        "OPT115", "file-not-found", ERROR, "a file that is missing, hidden or outside the tree",
        "Files are read from below the task directory. Hidden ones may hold secrets, which every reader of the task would see.",
        "promptFile: prompts/hello.md\n",
        "# file: task.yaml\npromptFile: prompts/hello.md\n# file: prompts/hello.md\nSay hello\n",
    ),
    Rule(
        "OPT116", "reserved-key", ERROR, "a key that Optio sets itself",
        "It is computed from the file and cannot be chosen.",
        "digest: sha256:0000\n",
        "id: example\n",
    ),
    Rule(
        "OPT117", "not-yet", ERROR, "a key whose feature is not supported yet",
        "A task that counts on a connection must not run without it.",
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
        "OPT119", "runtime-not-yet", WARNING, "a runtime that this version cannot run",
        "The file is right and is served, but each of its runs fails with `runtime_unavailable`.",
        "agentRuntime: codex\n",
        "agentRuntime: claude-code\n",
    ),
    Rule(
        "OPT120", "not-inherited", ERROR, "a key that each task has for itself",
        "Two tasks of one name, or with one webhook, are one too many.",
        "# file: _defaults.yaml\n---\nname: All\n",
        "# file: _defaults.yaml\n---\nmaxTurns: 20\n",
    ),
    Rule(
        "OPT121", "bad-policy", ERROR, "a policy that cannot be read",
        "Nobody knows then what is allowed, so nothing is: `type: policy`, with `ceilings`, `require`, `allow`, `namespaces`.",
        "# file: _policy.yaml\n---\ntype: policy\nceiling: {maxTurns: 20}\n",
        "# file: _policy.yaml\n---\ntype: policy\nceilings: {maxTurns: 20}\n",
    ),
    Rule(
        "OPT122", "unused-namespace", WARNING, "a pattern of `namespaces` that no task has its namespace by",
        "Where it is misspelt, the tasks that it means run in another namespace, beside those of other teams.",
        "# file: team-a/report.yaml\nmaxTurns: 20\n# file: _policy.yaml\n---\ntype: policy\nnamespaces: {team-a: runs-a}\n",
        "# file: team-a/report.yaml\nmaxTurns: 20\n"
        '# file: _policy.yaml\n---\ntype: policy\nnamespaces: {"team-a/*": runs-a}\n',
    ),
    Rule(
        "OPT704", "dead-override", WARNING, "something is taken away that is not there",
        "Whoever reads `null` looks for the value below it, which another file may have had once.",
        "# file: task.yaml\nextends: base.yaml\nmodel: null\n# file: base.yaml\n---\ntype: template\nmaxTurns: 20\n",
        "# file: task.yaml\nextends: base.yaml\n# file: base.yaml\n---\ntype: template\nmaxTurns: 20\n",
    ),
    Rule(
        "OPT614", "stall-after-timeout", WARNING, "`stallTimeout` is no shorter than `timeout`",
        "An attempt is ended by `timeout` before it can have been silent for that long.",
        "timeout: 20m\nstallTimeout: 30m\n",
        "timeout: 20m\nstallTimeout: 5m\n",
    ),
    Rule(
        "OPT610", "bad-money", ERROR, "an amount of money that is no decimal text",
        "A binary fraction cannot hold most amounts, so money is text with at most four decimals.",
        "budgetUsd: 2.50\n",
        'budgetUsd: "2.50"\n',
    ),
)  # fmt: skip
