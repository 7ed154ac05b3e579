"""Rules OPT227 to OPT230 and OPT232: the deduplication key."""

from optio.compiler.rules.rule import ERROR, INFO, PROVES, SUSPECTS, WARNING, Rule

_HEAD = (
    "promptTemplate: Review {{REPO}} {{PR}}\n"
    "paramsSchema:\n  type: object\n  properties: {REPO: {type: string}, PR: {type: integer}}\n"
    "  required: [REPO, PR]\n  additionalProperties: false\n"
)
_OPTIONAL = (
    "promptTemplate: Review {{REPO}}\n"
    "paramsSchema:\n  type: object\n  properties: {REPO: {type: string}, PR: {type: integer}}\n"
)

_SHOP = (
    "promptTemplate: Check {{SHOP}}\n"
    "paramsSchema:\n  type: object\n  properties: {SHOP: {type: string, maxLength: 20}}\n"
    "  required: [SHOP]\n  additionalProperties: false\n"
    "triggers:\n  - type: schedule\n    config: {cronExpression: '0 * * * *', paramMapping: {SHOP: de}}\n"
)

RULES = (
    Rule(
        "OPT227", "dedupe-placeholder", ERROR, PROVES, "a placeholder in `dedupe.key` without a parameter",
        "The text would be the same in every run, so unrelated runs would count as duplicates.",
        _HEAD + 'dedupe: {key: "{{REPO}}#{{NUMBER}}"}\n',
        _HEAD + 'dedupe: {key: "{{REPO}}#{{PR}}"}\n',
    ),
    Rule(
        "OPT228", "dedupe-unset", WARNING, PROVES, "an optional parameter without a default in `dedupe.key`",
        "Without a value there is no key, and a run without a key is refused.",
        _OPTIONAL + '  required: [REPO]\n  additionalProperties: false\ndedupe: {key: "{{REPO}}#{{PR}}"}\n',
        _OPTIONAL + '  required: [REPO, PR]\n  additionalProperties: false\ndedupe: {key: "{{REPO}}#{{PR}}"}\n',
    ),
    Rule(
        "OPT229", "dedupe-window", ERROR, PROVES, "`window` with `onDuplicate: replace`",
        "A window is the time in which later runs are joined or refused. With `replace` none is: each new run takes the old "
        "one's place.",
        _HEAD + 'dedupe: {key: "{{REPO}}#{{PR}}", window: 10m, onDuplicate: replace}\n',
        _HEAD + 'dedupe: {key: "{{REPO}}#{{PR}}", onDuplicate: replace}\n',
    ),
    Rule(
        "OPT230", "dedupe-constant", INFO, SUSPECTS, "a `dedupe.key` without a placeholder",
        "Every run has the same key: while one is queued or running, all others count as its duplicates.",
        _HEAD + "dedupe: {key: review}\n",
        _HEAD + 'dedupe: {key: "review {{PR}}"}\n',
    ),
    Rule(
        "OPT232", "dedupe-schedule", WARNING, PROVES, "a `dedupe.window` that a schedule fires in again",
        "A schedule has the same parameters at each fire, and so the same key: a fire within the window starts no run.",
        _SHOP + "dedupe: {key: '{{SHOP}}', window: 24h}\n",
        _SHOP + "dedupe: {key: '{{SHOP}}', window: 30m}\n",
        strict=ERROR,
    ),
)  # fmt: skip
