"""Definitions, references and symbols."""

from datetime import UTC, datetime
from pathlib import Path

from optio.lsp.hover import hover
from optio.lsp.links import definition, references
from optio.lsp.symbols import symbols
from tests.lsp.opened import FILES, HERE, TASK, opened, pointed


def test_a_placeholder_leads_to_its_declaration(tmp_path: Path) -> None:
    page, offset = opened(tmp_path, pointed("{{FOCUS}}"), files=FILES)

    (found,) = definition(page, offset)

    assert (found.path, found.span.start) == ("task.yaml", (9, 5))


def test_a_parameter_of_a_template_is_found_there(tmp_path: Path) -> None:
    base = "type: template\nparamsSchema:\n  type: object\n  properties:\n    WHO: {type: string, default: x}\n"
    text = f"name: x\nextends: greet.yaml\nagentRuntime: claude-code\npromptTemplate: Say {{{{W{HERE}HO}}}}\n"
    page, offset = opened(tmp_path, text, files={"greet.yaml": base})

    (found,) = definition(page, offset)

    assert (found.path, found.span.start) == ("greet.yaml", (5, 5))


def test_a_file_leads_to_itself_and_a_missing_one_nowhere(tmp_path: Path) -> None:
    page, offset = opened(tmp_path, pointed("payloads"), files=FILES)
    assert [each.path for each in definition(page, offset)] == ["payloads/push.json"]
    page, offset = opened(tmp_path, f"name: x\npromptFile: mis{HERE}sing.md\n")
    assert definition(page, offset) == []
    page, offset = opened(tmp_path, f"name: x\npromptFile: ../../../{HERE}etc/passwd\n")
    assert definition(page, offset) == []


def test_all_places_of_a_parameter_are_found(tmp_path: Path) -> None:
    page, offset = opened(tmp_path, pointed("REPO", 1), files=FILES)

    found = [each.span.start for each in references(page, offset)]

    assert sorted(found) == [(4, 10), (8, 5), (10, 14), (19, 22), (25, 9), (28, 23)]


def test_a_prompt_in_a_file_of_its_own_knows_its_tasks(tmp_path: Path) -> None:
    schema = "paramsSchema: {type: object, properties: {REPO: {type: string, default: x}}, additionalProperties: false}\n"
    task = "name: P\nagentRuntime: claude-code\npromptFile: prompts/p.md\n" + schema
    page, offset = opened(tmp_path, f"Look at {{{{R{HERE}EPO}}}}\n", "prompts/p.md", {"p.yaml": task})

    found = hover(page, offset, datetime.now(UTC))

    assert found is not None
    assert found.text.startswith("**`REPO`**: string")
    assert [(each.path, each.span.start.line) for each in references(page, offset)] == [("p.yaml", 4), ("prompts/p.md", 1)]


def test_symbols_are_nested_as_the_values_are(tmp_path: Path) -> None:
    page, _ = opened(tmp_path, TASK, files=FILES)

    top = {each.name: each for each in symbols(page)}

    assert top["name"].detail == "Scan"
    assert [each.name for each in top["triggers"].below] == ["schedule", "webhook"]
    schema = top["paramsSchema"]
    assert page.text[schema.start : schema.end].endswith("additionalProperties: false")
