"""The pages of the manual as tests read them: files, fenced blocks, tables."""

import re
from collections.abc import Iterator
from typing import NamedTuple

from tests.support import ROOT

DOCS = ROOT / "docs"
# The manual, and with the design and the examples all pages whose blocks are tried. Decisions show what was, and are left out.
WRITTEN = [ROOT / "README.md", *(page for page in sorted(DOCS.rglob("*.md")) if "design" not in page.parts)]
PAGES = [*WRITTEN, *sorted((DOCS / "design").glob("*.md")), *sorted((ROOT / "examples").glob("*/README.md"))]


class Block(NamedTuple):
    """A fenced block: its language, the file that its title names, its text, and the page with the line where it begins."""

    language: str
    title: str
    text: str
    page: str
    line: int


def place(block: Block) -> str:
    return f"{block.page}:{block.line}"


def blocks() -> Iterator[Block]:
    for page in PAGES:
        text = page.read_text()
        for found in re.finditer(r'^```(\w*)(?: title="([^"]+)")?\n(.*?)^```$', text, re.M | re.S):
            line = text[: found.start()].count("\n") + 1
            yield Block(found[1], found[2] or "", found[3], str(page.relative_to(ROOT)), line)


BLOCKS = list(blocks())


def of(language: str) -> list[Block]:
    return [block for block in BLOCKS if block.language == language]


def is_plan(block: Block) -> bool:
    """Whether a block shows a plan, which tests/plan/changes has."""
    return bool(re.match(r"\d+ tasks? (changed|added|removed)", block.text))


def page(name: str) -> str:
    return (DOCS / name).read_text()


def rows(text: str) -> list[list[str]]:
    """Cells of all tables of a page, with their heads."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def names(text: str) -> set[str]:
    return set(re.findall(r"`([^`]+)`", text))
