"""The pages in `docs/` and those beside README.md hold together: indexes, headings, links, names of files and of functions."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.support import ROOT

DESIGN = ROOT / "docs" / "design"
INDEX = DESIGN / "decisions" / "README.md"
RECORDS = sorted(path for path in INDEX.parent.glob("*.md") if path != INDEX)
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
LINK = re.compile(r"\]\(([^)#\s]*)(#[^)\s]*)?\)")
SOURCE = re.compile(r"`((?:optio|tests|deploy)/[\w./-]+(?:\.(?:py|sh|md|yaml)|/))`")


def prose(page: Path) -> str:
    """The text without fenced blocks, whose brackets are no links."""
    return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S)


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", prose(page), re.M)
    return {"#" + re.sub(r"[^a-z0-9 _-]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_index_of_decisions_lists_each_record_once_in_order() -> None:
    listed = re.findall(r"^\| \[(\d{3})\]\((\S+\.md)\) \| (.+?) \| .+ \|$", INDEX.read_text(), re.M)
    numbered = [(name.name[:3], name.name, name.read_text().partition("\n")[0]) for name in RECORDS]

    assert len(RECORDS) > 60
    assert [(number, file, f"# {number}. {title}") for number, file, title in listed] == numbered
    assert [int(number) for number, _, _ in numbered] == list(range(1, len(numbered) + 1))


def test_a_decision_says_its_context_what_was_decided_and_what_follows() -> None:
    for record in RECORDS:
        parts = re.split(r"^## (.*)$", record.read_text(), flags=re.M)
        headings, texts = parts[1::2], parts[2::2]

        assert headings[:3] == ["Context", "Decision", "Consequence"], record
        assert headings[3:] in ([], ["Figure"]), record
        assert all(text.strip() for text in texts), record


def test_a_relative_link_leads_to_a_file_and_a_heading_in_it() -> None:
    wrong = []
    for page in PAGES:
        for path, anchor in LINK.findall(prose(page)):
            if ":" in path:
                continue  # an address
            target = (page.parent / path).resolve() if path else page
            if not target.exists() or (anchor and anchor not in anchors(target)):
                wrong.append(f"{page.relative_to(ROOT)}: {path}{anchor}")

    assert wrong == []


def test_a_file_that_a_page_names_exists() -> None:
    named = {(page.name, path) for page in PAGES for path in SOURCE.findall(prose(page))}

    assert [each for each in sorted(named) if not (ROOT / each[1]).exists()] == []


def test_a_function_that_a_page_names_stands_in_the_file_that_it_names() -> None:
    wrong = []
    for page in PAGES:
        for name, path in re.findall(r"`(\w+(?:\.\w+)?)` in `(optio/[\w/]+\.py)`", " ".join(prose(page).split())):
            if name not in set(defined(ROOT / path)):
                wrong.append(f"{page.relative_to(ROOT)}: {name} in {path}")

    assert wrong == []


def test_the_architecture_answers_a_score_of_questions_each_with_a_file() -> None:
    text = (DESIGN / "architecture.md").read_text()
    questions = re.findall(r"^\| (.+\?) \| (.+) \|$", text, re.M)

    assert len(questions) >= 20
    assert [question for question, answer in questions if not SOURCE.search(answer)] == []


def defined(path: Path) -> Iterator[str]:
    """The functions, classes, methods and constants of a module."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        if isinstance(node, ast.ClassDef):
            for each in node.body:
                if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef):
                    yield f"{node.name}.{each.name}"


def test_the_glossary_is_in_order_and_says_each_word_in_two_lines_at_most() -> None:
    entries = re.findall(r"^- (.*(?:\n  .*)*)", (DESIGN / "glossary.md").read_text(), re.M)
    found = [re.match(r"\*\*([a-z -]+)\*\*: \S", entry) for entry in entries]
    words = [match[1] for match in found if match is not None]

    assert len(words) == len(entries) > 80
    assert words == sorted(set(words))
    assert [entry for entry in entries if entry.count("\n") > 1] == []


def test_the_changelog_has_the_groups_of_keep_a_changelog_in_their_order() -> None:
    known = ["Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"]
    versions = re.split(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(), flags=re.M)[1:]

    assert versions[0] == "Unreleased"
    for changes in versions[1::2]:
        groups = re.findall(r"^### (.*)$", changes, re.M)
        assert groups == [group for group in known if group in groups]
