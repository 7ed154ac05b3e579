"""README.md and the other pages say what the code does: blocks compile and run, tables are complete."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from optio import wiring
from optio.cli import COMMANDS
from optio.compiler.pipeline import compile_tree
from optio.compiler.source_tree import MemoryTree
from optio.model.senders import SENDERS, InHeader
from optio.model.spec import names_of
from optio.model.task import Environment, TaskSpec
from optio.model.trigger import ScheduleConfig, WebhookConfig
from optio.settings import SETTINGS, Settings
from tests.support import ROOT, Dev, eventually

README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", *sorted((ROOT / "examples").glob("*/README.md"))]


class Block(NamedTuple):
    """A fenced block: its language, text and the page with the line where it begins."""

    language: str
    text: str
    place: str


def blocks() -> Iterator[Block]:
    for page in PAGES:
        text = page.read_text()
        for found in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.M | re.S):
            line = text[: found.start()].count("\n") + 1
            yield Block(found[1], found[2], f"{page.relative_to(ROOT)}:{line}")


def section(title: str) -> str:
    return README.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def rows(title: str) -> list[list[str]]:
    """Cells of a section's tables, without their heads."""
    lines = [line for line in section(title).splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def names(text: str) -> set[str]:
    return set(re.findall(r"`([^`]+)`", text))


BLOCKS = list(blocks())
QUICKSTART = [block for block in BLOCKS if block.text in section("Quickstart")]


YAML = [block for block in BLOCKS if block.language == "yaml"]
TEMPLATES = [block for block in YAML if block.text.startswith("metadata:\n")]


@pytest.mark.parametrize("block", TEMPLATES, ids=lambda block: block.place)
def test_a_template_of_pods_can_be_used(block: Block, tmp_path: Path) -> None:
    (tmp_path / "template.yaml").write_text(block.text)

    made = wiring.pod_settings(Settings.load({"OPTIO_POD_TEMPLATE": str(tmp_path / "template.yaml")})).template

    assert (bool(made.labels), bool(made.spec), bool(made.mounts)) == (True, True, True)


@pytest.mark.parametrize("block", [b for b in YAML if b not in TEMPLATES], ids=lambda block: block.place)
def test_a_yaml_block_compiles_without_a_finding(block: Block) -> None:
    policy = "type: policy" in block.text
    compilation = compile_tree(MemoryTree({"_policy.yaml" if policy else "task.yaml": block.text}))

    assert [d.message for d in compilation.diagnostics] == []
    assert len(compilation.registry.tasks) == (0 if policy else 1)


def test_every_block_is_of_a_kind_that_is_tried() -> None:
    assert {block.language for block in BLOCKS} == {"yaml", "sh", "text"}


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language == "text"], ids=lambda block: block.place)
def test_a_plan_is_shown_as_it_is_printed(block: Block) -> None:
    plans = (path.read_text() for path in (ROOT / "tests" / "plan" / "changes").glob("*/expected.txt"))

    assert any(plan.startswith(block.text) for plan in plans)


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language == "sh"], ids=lambda block: block.place)
def test_commands_in_a_shell_block_exist_and_so_do_the_files_they_name(block: Block) -> None:
    for line in block.text.splitlines():
        if line.startswith("optio "):
            assert line.split()[1] in COMMANDS, line
        for path in re.findall(r"examples/\S+", line):
            assert (ROOT / path).exists(), line


def test_the_quickstart_works_as_it_is_written(tmp_path: Path) -> None:
    dev = Dev(tmp_path)
    dev.tasks.rmdir()
    dev.data = tmp_path / ".optio"
    said = {}
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "optio"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m optio "$@"\n')
    program.chmod(0o755)
    environ = {**dev.environment(), "PATH": f"{program.parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    try:
        for block in QUICKSTART:
            if block.language == "yaml":
                dev.write(block.text.splitlines()[0].removeprefix("# tasks.d/"), block.text)
                eventually(lambda: "+ greet" in dev.output.read_text(), what="`+ greet`")
                continue
            for line in block.text.splitlines():
                if line == "optio dev":
                    dev.start()
                    continue
                done = subprocess.run(
                    ["sh", "-ec", line.replace(":8000", f":{dev.port}")],
                    cwd=tmp_path,
                    env=environ,
                    capture_output=True,
                    text=True,
                    timeout=60,
                )
                assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
                said[line] = done.stdout
    finally:
        dev.stop()
    assert said["optio run hello -p WHO=you --wait"] == "Hello, you!\n"
    (listed,) = (text for line, text in said.items() if line.startswith("curl "))
    assert [task["id"] for task in json.loads(listed)["items"]] == ["hello"]
    assert said['optio render greet -p WHO=ada -p TITLE="a title"'] == "ada opened a title"
    assert said["optio hook send issues payload.json --wait"] == "ada opened Coupons compare too slowly\n"


def test_every_setting_stands_in_the_table_with_its_default_and_meaning() -> None:
    documented = [row for row in rows("Settings") if row[0].startswith("`OPTIO_")]

    assert documented == [
        [f"`OPTIO_{name.upper()}`", f"`{setting.default}`" if setting.default else "", setting.help]
        for name, setting in SETTINGS.items()
    ]


def test_every_key_of_a_task_file_stands_in_the_tables() -> None:
    tables = " ".join(" ".join(row) for row in rows("Task files"))

    for model in (TaskSpec, Environment, ScheduleConfig, WebhookConfig):
        for key in names_of(model):
            assert re.search(rf"[`{{.]{key}[`:.]", tables), f"{model.__name__}.{key}"


def test_every_scheme_stands_in_the_table_with_its_header_event_and_delivery_id() -> None:
    table = {row[0].strip("`"): row[1:] for row in rows("Task files") if len(row) == 4}

    for scheme, sender in SENDERS.items():
        signature, event, delivery = table[scheme]
        assert scheme == "hmac" or f"`{sender.header}" in signature
        events = () if scheme == "hmac" else sender.event[:1]
        for sources, cell in ((events, event), (sender.delivery, delivery)):
            assert {each.name if isinstance(each, InHeader) else each.path for each in sources} <= names(cell), scheme
    assert set(SENDERS) <= set(table)


def test_every_command_stands_in_the_table() -> None:
    documented = {name.split()[1] for row in rows("Command line") for name in names(row[0]) if name.startswith("optio ")}

    assert documented == set(COMMANDS)


def test_every_route_stands_in_the_table() -> None:
    table = " ".join(row[0] for row in rows("HTTP"))
    sources = "".join(path.read_text() for path in (ROOT / "optio" / "server").rglob("*.py"))
    routes = re.findall(r"@(?:get|post|patch|delete)\(\s*\"([^\"]+)\"", sources)

    assert len(routes) > 10
    for route in routes:
        path = (
            re.sub(r"\{\w+:str\}", "{id}", route).replace("{path:path}", "{path}").replace("triggers/{id}", "triggers/{type}")
        )
        short = "..." + path[path.rindex("/") :]
        assert f" {path}`" in table or f"`{short}`" in table, route


def test_the_set_up_commands_use_what_is_there() -> None:
    first, second = re.findall(r"^    (.*)$", section("Set up"), re.M)

    assert first.startswith("python3 -m venv .venv && ")
    assert first.endswith(" && .venv/bin/optio dev")
    assert "--require-hashes -r requirements.lock" in first
    assert second == "bash tests/setup.sh && .venv/bin/pytest --all"
    script = (ROOT / ".ci" / "run").read_text()
    assert "bash tests/setup.sh\n" in script
    assert ".venv/bin/pytest -q --durations=15 --all" in script


def test_every_story_in_the_table_is_a_test() -> None:
    table = (ROOT / "tests" / "stories" / "README.md").read_text()
    wanted = re.findall(r"(test_\w+): ([\w.]+(?:, [\w.]+)*)", table)

    assert len(wanted) > 15
    for module, stories in wanted:
        source = (ROOT / "tests" / "stories" / f"{module}.py").read_text()
        for story in stories.split(", "):
            assert story.strip(".") in source, f"{module}: {story}"


def test_links_inside_the_readme_lead_somewhere() -> None:
    headings = {re.sub(r"[^a-z0-9 -]", "", h.lower()).replace(" ", "-") for h in re.findall(r"^#+ (.*)$", README, re.M)}

    assert set(re.findall(r"\]\(#([^)]+)\)", README)) <= headings
