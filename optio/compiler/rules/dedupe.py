"""OPT227 to OPT230: the business key."""

from optio.compiler.rules.rule import ERROR, WARNING, Rule

_HEAD = (
    "promptTemplate: Review {{REPO}} {{PR}}\n"
    "paramsSchema:\n  type: object\n  properties: {REPO: {type: string}, PR: {type: integer}}\n"
    "  required: [REPO, PR]\n  additionalProperties: false\n"
)
_OPTIONAL = (
    "promptTemplate: Review {{REPO}}\n"
    "paramsSchema:\n  type: object\n  properties: {REPO: {type: string}, PR: {type: integer}}\n"
)

RULES = (
    Rule(
        "OPT227", "dedupe-placeholder", ERROR, "a placeholder in `dedupe.key` that is no parameter",
        "It would stand for itself, the same in every run: runs that have nothing in common would be taken for one.",
        _HEAD + 'dedupe: {key: "{{REPO}}#{{NUMBER}}"}\n',
        _HEAD + 'dedupe: {key: "{{REPO}}#{{PR}}"}\n',
    ),
    Rule(
        "OPT228", "dedupe-unset", WARNING, "an optional parameter without a default in `dedupe.key`",
        "Without a value there is no key, and a run that cannot be told from others is refused.",
        _OPTIONAL + '  required: [REPO]\n  additionalProperties: false\ndedupe: {key: "{{REPO}}#{{PR}}"}\n',
        _OPTIONAL + '  required: [REPO, PR]\n  additionalProperties: false\ndedupe: {key: "{{REPO}}#{{PR}}"}\n',
    ),
    Rule(
        "OPT229", "dedupe-window", ERROR, "`window` with `onDuplicate: replace`",
        "A window says for how long others are joined or refused; where each new run takes the place of one, none is.",
        _HEAD + 'dedupe: {key: "{{REPO}}#{{PR}}", window: 10m, onDuplicate: replace}\n',
        _HEAD + 'dedupe: {key: "{{REPO}}#{{PR}}", onDuplicate: replace}\n',
    ),
    Rule(
        "OPT230", "dedupe-constant", WARNING, "a `dedupe.key` without a placeholder",
        "Every run has that key: while one waits or works, all others are answered with it, whatever they are about.",
        _HEAD + "dedupe: {key: review}\n",
        _HEAD + 'dedupe: {key: "review {{PR}}"}\n',
    ),
)  # fmt: skip
