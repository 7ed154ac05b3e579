"""Pages of documents for tests: `|` in a text, written as the sign below, is where the pointer stands."""

from pathlib import Path

from optio.lsp.pages import Page
from optio.lsp.positions import Lines
from optio.lsp.trees import Options, TaskTree

HERE = "\N{BLACK DOWN-POINTING SMALL TRIANGLE}"


def opened(
    root: Path, text: str, path: str = "task.yaml", files: dict[str, str] | None = None, **options: bool
) -> tuple[Page, int]:
    """The page of a document that is open in a tree, and the offset of the sign in it."""
    for name, content in (files or {}).items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    offset = max(text.find(HERE), 0)
    lines = Lines(text.replace(HERE, ""))
    tree = TaskTree(root)
    tree.type(path, lines.raw.encode())
    page = Page((root / path).as_uri(), root / path, 1, lines, tree)
    page.read(Options(**options))
    tree.compile(Options(**options))
    return page, offset
