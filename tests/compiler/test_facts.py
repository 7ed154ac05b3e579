"""What a finding is about is a typed fact: no code reads it from the text of a message, a hint or an advice."""

import ast
from collections.abc import Iterator

from tests.support import ROOT

TEXTS = frozenset({"message", "hint", "advice"})
READERS = frozenset(
    {"split", "partition", "rpartition", "startswith", "endswith", "replace", "removeprefix", "removesuffix", "find", "index"}
)
PATTERNS = frozenset({"match", "search", "fullmatch", "sub", "findall", "finditer", "split"})
# Texts of other programs, which give no other facts.
OF_OTHERS = {
    "optio/cli/shared/parser.py": "argparse",
    "optio/executors/pods/exit_status.py": "the scheduler of Kubernetes",
    "optio/runtimes/codex.py": "the output of Codex",
    "optio/runtimes/copilot.py": "the output of Copilot CLI",
    "optio/runtimes/gemini.py": "the output of Gemini CLI",
    "optio/scheduling/cron.py": "cronsim",
}
# They shorten or escape a text, or show other paths in it, and decide nothing by it.
RENDERERS = {
    *(f"optio/compiler/{name}.py" for name in ("diagnostics", "report", "exchange")),
    "optio/cli/check.py",
}


def is_text(node: ast.expr) -> bool:
    """Whether an expression is such a text: `found.hint`, `hint`, `found.hint or ""`."""
    if isinstance(node, ast.BoolOp):
        return any(map(is_text, node.values))
    name = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
    return name in TEXTS


def is_absence(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def branches(tree: ast.AST) -> Iterator[int]:
    """The lines that compare, take apart or mend such a text; `is None` is no comparison of words."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            if any(map(is_text, sides)) and not any(map(is_absence, sides)):
                yield node.lineno
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            on_text = node.func.attr in READERS and is_text(node.func.value)
            by_pattern = node.func.attr in PATTERNS and any(map(is_text, node.args[:2] + node.args[2:3]))
            if on_text or by_pattern:
                yield node.lineno


def test_no_code_branches_on_the_text_of_a_finding() -> None:
    found = [
        f"{path}:{line}"
        for file in sorted((ROOT / "optio").rglob("*.py"))
        if (path := file.relative_to(ROOT).as_posix()) not in {*OF_OTHERS, *RENDERERS}
        for line in branches(ast.parse(file.read_text(encoding="utf-8")))
    ]

    assert found == []


def test_a_branch_on_a_text_is_seen() -> None:
    wrong = [
        "found.hint == MISSING",
        "'x' in d.message",
        "hint.startswith('x')",
        "re.search(p, found.hint or '')",
        "row.advice is KEY",
    ]
    right = ["found.hint is None", "message = 'x'", "f'{message}: {hint}'", "code == 'OPT101'"]

    assert [bool(list(branches(ast.parse(text)))) for text in wrong + right] == [True] * len(wrong) + [False] * len(right)
