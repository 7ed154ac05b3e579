"""Trees of files that tests change, and what must come of them."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from optio.cli.shared.parallel_compile import CheckResult
from optio.compiler.pipeline import compile_tree
from optio.compiler.source_tree import DirectoryTree, OverlayTree

TASK = "name: {name}\nagentRuntime: claude-code\npromptTemplate: Say {word}\n"
FROM_FILE = "name: {name}\nagentRuntime: claude-code\npromptFile: prompts/{word}.md\n"
HOOK = TASK + "triggers:\n  - type: webhook\n    config: {{path: {word}, unsigned: true}}\n"
IGNORING = (
    TASK
    + "triggers:  # optio: ignore[OPT403] nobody knows it\n  - {{type: webhook, config: {{path: {word}, unsigned: true}}}}\n"
)
TIMED = TASK + "budgetUsd: '2.50'\ntriggers: [{{type: schedule, config: {{cronExpression: 0 9 * * *}}}}]\n"
EXTENDING = "name: {name}\nextends: base.yaml\n"
SAMPLE = HOOK + "tests: [{{webhook: prompts/{word}.md}}]\n"
TEXTS = [TASK, FROM_FILE, HOOK, IGNORING, TIMED, EXTENDING, SAMPLE, "", "name: [\n", "nmae: {name}\n", "- {word}\n"]
TEMPLATES = ["type: template\nagentRuntime: claude-code\npromptTemplate: Hi {word}\n", TASK, "type: template\nmaxTurn: 1\n"]
DEFAULTS = ["maxTurns: {turns}\n", "maxTurn: {turns}\n", "timeout: [\n"]
POLICIES = [
    "type: policy\nceilings: {{maxTurns: {turns}}}\n",
    "type: policy\nrules: {{OPT403: info}}\nrequire: [description]\n",
    "type: policy\nfleet: {{dayUsd: '{turns}'}}\n",
    "type: [\n",
]


def write(root: Path, path: str, text: str) -> None:
    """The file holds this."""
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")


def fill(root: Path, count: int) -> None:
    """So many tasks, some of which are wrong, alone or with others."""
    for n in range(count):
        text = TEXTS[n % len(TEXTS)]
        write(root, f"t{n % 3}/task-{n:04}.yaml", text.format(name=f"Task {n % 40}", word=["red", "blue"][n % 2]))
    for n in range(3):
        write(root, f"t{n}/prompts/red.md", "Say red to {{WHOM}}\n")
        write(root, f"t{n}/base.yaml", TEMPLATES[0].format(word="there"))
    write(root, "t1/_defaults.yaml", "maxTurns: 3\n")


def check_plainly(root: Path, *, pedantic: bool = False, typed: Mapping[str, bytes] = MappingProxyType({})) -> CheckResult:
    """Return the result of a check by `compile_tree`, in one process."""
    tree = OverlayTree(DirectoryTree(root), typed)
    compilation = compile_tree(tree, pedantic=pedantic)
    return CheckResult(tuple(tree.task_files()), len(compilation.registry.tasks), compilation.diagnostics)
