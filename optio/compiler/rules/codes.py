"""The catalogue of all rules, by code. Codes and names are stable; `optio explain CODE` prints an entry."""

from optio.compiler.rules import (
    across,
    changes,
    connections,
    dedupe,
    environment,
    files,
    params,
    pedantic,
    pool,
    prompt,
    schedule,
    structure,
    tests,
    webhook,
)
from optio.compiler.rules.rule import Rule
from optio.compiler.suggest import suggest

RULES: dict[str, Rule] = {
    rule.code: rule
    for part in (
        files,
        structure,
        prompt,
        params,
        dedupe,
        schedule,
        webhook,
        tests,
        environment,
        connections,
        pool,
        across,
        pedantic,
        changes,
    )
    for rule in part.RULES
}
RETIRED: dict[str, str] = {
    "OPT023": "tab-in-prompt-indent",
    "OPT117": "not-yet",
    "OPT312": "herd",
    "OPT314": "overlap",
    "OPT315": "far-future",
    "OPT316": "cron-dialect",
    "OPT431": "constant-body",
    "OPT433": "answers-itself",
    "OPT604": "over-global",
    "OPT617": "result-line",
    "OPT618": "reversed-priority",
    "OPT619": "budget-below-call",
}
"""Rules of earlier versions, by code. Nothing reports them; comments and policies may still name them, without effect."""
_LETTERS_FOR_DIGITS = str.maketrans("OIL", "011")


def suggest_code(text: str) -> tuple[str | None, str | None]:
    """Return the rule's code for another spelling of it or for the rule's name, and otherwise the most similar code."""
    code = text.upper().replace("-", "").replace("_", "")
    code = code[:3] + code[3:].translate(_LETTERS_FOR_DIGITS)
    named = next((rule.code for rule in RULES.values() if rule.name == text.lower().replace("_", "-")), None)
    sure = code if code in RULES else named
    return sure, None if sure else suggest(text.upper(), RULES)
