"""Rules OPT201 to OPT204, OPT217 to OPT219, OPT231 and OPT234: the prompt and its placeholders."""

from optio.compiler.rules.rule import ERROR, INFO, PROVES, SUSPECTS, WARNING, Rule

_SCHEMA = (
    "paramsSchema:\n  type: object\n  properties: {REPO_NAME: {type: string}}\n"
    "  required: [REPO_NAME]\n  additionalProperties: false\n"
)

RULES = (
    Rule(
        "OPT201", "undeclared-placeholder", WARNING, PROVES, "a placeholder without a parameter",
        "The agent sees the placeholder itself.",
        "promptTemplate: Report on {{REPO_NAME}} and {{REPO}}\n" + _SCHEMA,
        "promptTemplate: Report on {{REPO_NAME}}\n" + _SCHEMA,
        strict=ERROR,
    ),
    Rule(
        "OPT202", "unused-param", WARNING, PROVES, "a parameter that the prompt never uses",
        "Callers give a value that has no effect.",
        "promptTemplate: Report on the project\n" + _SCHEMA,
        "promptTemplate: Report on {{REPO_NAME}}\n" + _SCHEMA,
    ),
    Rule(
        "OPT203", "placeholder-syntax", WARNING, PROVES, "a parameter in double braces that is not a placeholder",
        "Only `{{NAME}}` with letters, digits and `_` is replaced. Blanks, paths and conditions stay as they are.",
        "promptTemplate: Report on {{REPO_NAME}}, that is {{ REPO_NAME }}\n" + _SCHEMA,
        "promptTemplate: Report on {{REPO_NAME}}\n" + _SCHEMA,
        strict=ERROR,
    ),
    Rule(
        "OPT204", "placeholder-case", WARNING, PROVES, "a placeholder that differs from a parameter only by case",
        "Names are case-sensitive, so the placeholder is not replaced.",
        "promptTemplate: Report on {{REPO_NAME}}, also called {{repo_name}}\n" + _SCHEMA,
        "promptTemplate: Report on {{REPO_NAME}}, also called {{REPO_NAME}}\n" + _SCHEMA,
    ),
    Rule(
        "OPT217", "maybe-unset", WARNING, PROVES, "an optional parameter without a default in the prompt",
        "If a caller gives no value, the agent sees the placeholder itself.",
        "promptTemplate: Report on {{TEAM}}\n"
        "paramsSchema:\n  type: object\n  properties: {TEAM: {type: string}}\n  additionalProperties: false\n",
        "promptTemplate: Report on {{TEAM}}\n"
        "paramsSchema:\n  type: object\n  properties: {TEAM: {type: string, default: everyone}}\n"
        "  additionalProperties: false\n",
    ),
    Rule(
        "OPT218", "prompt-size", ERROR, PROVES, "the prompt is larger than 256 KiB",
        "Agents cannot read that much at once, and every run would store it again.",
        "# file: task.yaml\npromptFile: long.md\n# file: long.md\n" + "word " * 60_000 + "\n",
        "# file: task.yaml\npromptFile: short.md\n# file: short.md\nSay hello\n",
    ),
    Rule(
        "OPT219", "caller-owned-prompt", INFO, SUSPECTS, "the whole prompt is one parameter",
        "Anyone who may start the task can make an agent with its secrets do anything.",
        'promptTemplate: "{{REPO_NAME}}"\n' + _SCHEMA,
        "promptTemplate: Report on {{REPO_NAME}}\n" + _SCHEMA,
        strict=WARNING,
    ),
    Rule(
        "OPT234", "foreign-placeholder", INFO, SUSPECTS, "text that other systems would fill in",
        "Paths, filters and conditions in double braces stay as they are, if no parameter has such a name.",
        "promptTemplate: Report on {{REPO_NAME}} of {{ repository.owner }}\n" + _SCHEMA,
        "promptTemplate: Report on {{REPO_NAME}}\n" + _SCHEMA,
    ),
    Rule(
        "OPT231", "prompt-is-path", INFO, SUSPECTS, "the prompt looks like the name of a file",
        "The agent gets the name itself as its prompt. Only `promptFile` reads a file.",
        "promptTemplate: prompts/review.md\n",
        "promptTemplate: Review the diff as prompts/review.md says.\n",
    ),
)  # fmt: skip
