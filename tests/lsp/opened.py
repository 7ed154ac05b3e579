"""Pages of documents for tests. A sign in the text is where the pointer stands."""

import json
from pathlib import Path

from optio.lsp.pages import OpenPage
from optio.lsp.positions import DocumentLines
from optio.lsp.trees import LspOptions, TaskTree

HERE = "\N{BLACK DOWN-POINTING SMALL TRIANGLE}"

TASK = """\
name: Scan
agentRuntime: claude-code
promptTemplate: |
  Scan {{REPO}} \N{GRINNING FACE} for {{FOCUS}}.
paramsSchema:
  type: object
  properties:
    REPO: {type: string, maxLength: 200, description: Which repository}
    FOCUS: {type: string, default: CVEs, maxLength: 100}
  required: [REPO]
  additionalProperties: false
maxRetries: 2
budgetUsd: "2.50"
triggers:
  - type: schedule
    config:
      cronExpression: "30 2 * * *"
      timezone: Europe/Berlin
      paramMapping: {REPO: optio}
  - type: webhook
    config:
      path: scan
      secret: {name: SCAN_SECRET}
      paramMapping:
        REPO: $.repository.name
tests:
  - webhook: payloads/push.json
    expect: {params: {REPO: hello}}
"""
PAYLOAD = json.dumps({"repository": {"name": "hello"}, "commits": [{"id": "1"}]})
FILES = {
    "payloads/push.json": PAYLOAD,
    "prompts/p.md": "Look at {{REPO}}\n",
    "base.yaml": "type: template\nagentRuntime: claude-code\n",
    "teams/other.yaml": "name: Other\nagentRuntime: claude-code\npromptTemplate: Say\n",
}


def opened(
    root: Path, text: str, path: str = "task.yaml", files: dict[str, str] | None = None, **options: bool
) -> tuple[OpenPage, int]:
    """The page of a document that is open in a tree, and the offset of the sign in it."""
    for name, content in (files or {}).items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    offset = max(text.find(HERE), 0)
    lines = DocumentLines(text.replace(HERE, ""))
    tree = TaskTree(root)
    tree.type(path, lines.raw.encode())
    page = OpenPage((root / path).as_uri(), root / path, 1, lines, tree)
    page.read(LspOptions(**options))
    tree.compile(LspOptions(**options))
    return page, offset


def pointed(needle: str, nth: int = 0, text: str = TASK) -> str:
    """The text with the pointer behind the first character of the needle."""
    at = -1
    for _ in range(nth + 1):
        at = text.index(needle, at + 1)
    return text[: at + 1] + HERE + text[at + 1 :]
