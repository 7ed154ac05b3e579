"""Whatever is typed, and wherever is asked: an answer, and never a crash."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optio.compiler.rules.codes import RULES
from optio.lsp.actions import diagnostic_actions, fix_all
from optio.lsp.complete import complete
from optio.lsp.hover import hover
from optio.lsp.links import definition, references
from optio.lsp.pages import OpenPage
from optio.lsp.positions import DocumentLines
from optio.lsp.symbols import symbols
from optio.lsp.trees import LspOptions, TaskTree
from tests.examples_of_rules import example_files
from tests.lsp.opened import FILES, TASK

NOW = datetime(2026, 10, 23, 12, tzinfo=UTC)
STRICT = LspOptions(strict=True, verbose=True)
PATHS = ["task.yaml", "_defaults.yaml", "_policy.yaml", "teams/deep/task.yml", "prompts/p.md", "payloads/push.json"]
PIECES = [
    "\n",
    "  ",
    "- ",
    ": ",
    "{",
    "}",
    "[",
    "]",
    "'",
    '"',
    "|",
    "&a ",
    "*a",
    "!!x ",
    "{{",
    "}}",
    "$.",
    "#",
    "\t",
    "null",
    "1e9",
]
ODD = ["\N{GRINNING FACE}", "\udcff", "\x00", "\r", "\ufeff", "\u2028"]
WORDS = ["type: template", "type: policy", "extends: task.yaml", "promptFile: task.yaml", "extends: [1]", "tests: {a: 1}"]
ELSE = ["triggers: 5", "paramsSchema: [x]", "rules: {OPT101: 1}", "name: null", "budgetUsd: -1", "dedupe: {key: '{{'}"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tree")
    for path, text in FILES.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return root


def page_of(root: Path, text: str, path: str) -> OpenPage:
    tree = TaskTree(root)
    tree.type(path, text.encode("utf-8", "surrogatepass"))
    page = OpenPage("file:///x", root / path, 1, DocumentLines(text), tree)
    page.read(STRICT)
    tree.compile(STRICT)
    return page


def ask_everything(page: OpenPage, offsets: Iterator[int]) -> None:
    for offset in offsets:
        hover(page, offset, NOW)
        complete(page, offset, snippets=True)
        definition(page, offset)
        references(page, offset)
    symbols(page)
    list(diagnostic_actions(page, page.alone, STRICT))
    fix_all(page)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_no_text_is_too_odd_to_be_asked_about(root: Path, data: st.DataObject) -> None:
    text = TASK
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(text)))
        new = data.draw(st.sampled_from(["", *PIECES, *ODD]) | st.sampled_from([*WORDS, *ELSE]).map(lambda word: f"\n{word}\n"))
        text = text[:at] + new + text[at + data.draw(st.integers(0, 20)) :]
    page = page_of(root, text, data.draw(st.sampled_from(PATHS)))

    ask_everything(page, iter(data.draw(st.lists(st.integers(0, len(page.text)), min_size=1, max_size=6))))


@pytest.mark.parametrize("code", RULES)
def test_what_is_wrong_in_the_catalogue_can_be_asked_about(root: Path, code: str) -> None:
    for path, data in example_files(RULES[code].wrong).items():
        text = data.decode("utf-8", "surrogateescape")
        page = page_of(root, text, path)
        ask_everything(page, iter(range(0, min(len(page.text), 600) + 1, 41)))
