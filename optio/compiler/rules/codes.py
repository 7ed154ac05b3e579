"""The catalogue of all rules, by code. Codes and names are stable; `optio explain CODE` prints an entry."""

import re

from optio.compiler.rules import (
    across,
    changes,
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
        pool,
        across,
        pedantic,
        changes,
    )
    for rule in part.RULES
}
_LETTERS_FOR_DIGITS = str.maketrans("OIL", "011")
_REST = {"name": "name: Example", "agentRuntime": "agentRuntime: claude-code", "promptTemplate": "promptTemplate: Say hello"}
_FILE = re.compile(r"^# file: (\S+)\n", re.MULTILINE)


def suggest_code(text: str) -> tuple[str | None, str | None]:
    """Return the rule's code for another spelling of it or for the rule's name, and otherwise the most similar code."""
    code = text.upper().replace("-", "").replace("_", "")
    code = code[:3] + code[3:].translate(_LETTERS_FOR_DIGITS)
    named = next((rule.code for rule in RULES.values() if rule.name == text.lower().replace("_", "-")), None)
    sure = code if code in RULES else named
    return sure, None if sure else suggest(text.upper(), RULES)


def example_files(example: str) -> dict[str, bytes]:
    """Return the files that an example stands for. `# file: PATH` begins a file and `---` a complete one; other tasks get the
    required keys that they lack.

    Bytes that are not UTF-8 are lone surrogates in the catalogue.
    """
    parts = _FILE.split(example)
    named = dict(zip(parts[1::2], parts[2::2], strict=True)) if len(parts) > 1 else {"task.yaml": example}
    return {path: _whole(path, text).encode("utf-8", "surrogateescape") for path, text in named.items()}


def _whole(path: str, text: str) -> str:
    if not path.endswith((".yaml", ".yml")) or text.startswith("---"):
        return text
    absent = [line for key, line in _REST.items() if not re.search(rf"^{key}:", text, re.MULTILINE)]
    if "promptFile:" in text and _REST["promptTemplate"] in absent:
        absent.remove(_REST["promptTemplate"])
    mark = text[:1] if text.startswith("\ufeff") else ""
    return mark + "".join(f"{line}\n" for line in absent) + text.removeprefix(mark)
