"""Rules OPT227 to OPT230: the deduplication key."""

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
        "OPT227", "dedupe-placeholder", ERROR, "a placeholder in `dedupe.key` without a parameter",
        "The text would be the same in every run, so unrelated runs would count as duplicates.",
        _HEAD + 'dedupe: {key: "{{REPO}}#{{NUMBER}}"}\n',
        _HEAD + 'dedupe: {key: "{{REPO}}#{{PR}}"}\n',
    ),
    Rule(
        "OPT228", "dedupe-unset", WARNING, "an optional parameter without a default in `dedupe.key`",
        "Without a value there is no key, and a run without a key is refused.",
        _OPTIONAL + '  required: [REPO]\n  additionalProperties: false\ndedupe: {key: "{{REPO}}#{{PR}}"}\n',
        _OPTIONAL + '  required: [REPO, PR]\n  additionalProperties: false\ndedupe: {key: "{{REPO}}#{{PR}}"}\n',
    ),
    Rule(
        "OPT229", "dedupe-window", ERROR, "`window` with `onDuplicate: replace`",
        "A window is the time in which later runs are joined or refused. With `replace` none is: each new run takes the old "
        "one's place.",
        _HEAD + 'dedupe: {key: "{{REPO}}#{{PR}}", window: 10m, onDuplicate: replace}\n',
        _HEAD + 'dedupe: {key: "{{REPO}}#{{PR}}", onDuplicate: replace}\n',
    ),
    Rule(
        "OPT230", "dedupe-constant", WARNING, "a `dedupe.key` without a placeholder",
        "Every run has the same key: while one is queued or running, all others count as its duplicates.",
        _HEAD + "dedupe: {key: review}\n",
        _HEAD + 'dedupe: {key: "review {{PR}}"}\n',
    ),
)  # fmt: skip
