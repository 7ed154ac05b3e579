"""The documentation site: it builds without a warning, loads nothing from elsewhere, and has what the hook generates."""

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import pytest

from optio.cli import COMMANDS
from optio.compiler.rules.codes import RULES
from tests.support import ROOT

# What a browser loads by itself, unlike a link that a person follows.
LOADED = re.compile(r"<(?:script|img|source|iframe|link(?![^>]*rel=\"?canonical))\b[^>]*(?:src|href)=\"?(?:https?:)?//[^>]*>")


def build(config: Path, to: Path) -> subprocess.CompletedProcess[str]:
    """Build the pages as the image does. With `--quiet`, MkDocs would accept broken links in spite of `--strict`."""
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--config-file", str(config), "--site-dir", str(to)],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built pages, as the wheel and the image have them."""
    made = tmp_path_factory.mktemp("site")
    done = build(ROOT / "mkdocs.yml", made)
    assert (done.returncode, [line for line in done.stderr.splitlines() if not line.startswith("INFO ")]) == (0, [])
    return made


def test_each_broken_link_fails_the_build(tmp_path: Path) -> None:
    links = ["none.md", "#none", "none.png", "/docs/none"]
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text("# A page\n\n" + "".join(f"A [link]({link}).\n" for link in links))
    config = tmp_path / "mkdocs.yml"
    config.write_text(f"INHERIT: {ROOT / 'mkdocs.yml'}\ndocs_dir: docs\nnav: [index.md]\nhooks: []\nextra_css: []\n")

    done = build(config, tmp_path / "site")

    assert done.returncode == 1
    assert [link for link in links if not re.search(f"WARNING.*'{link}'", done.stderr)] == []
    assert "Aborted with 4 warnings in strict mode" in done.stdout


def test_no_page_loads_anything_from_another_host(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))

    assert len(pages) > 60
    assert {str(page): found for page in pages if (found := LOADED.findall(page.read_text()))} == {}


def test_a_page_that_loads_a_script_from_another_host_is_found() -> None:
    assert LOADED.findall('<script src="https://cdn.example.com/x.js">')
    assert LOADED.findall('<link rel="stylesheet" href="//cdn.example.com/x.css">')
    assert not LOADED.findall('<a href="https://example.com/">')


def test_every_link_of_the_built_pages_leads_to_a_file_and_a_place_in_it(site: Path) -> None:
    pages = {path: path.read_text() for path in sorted(site.rglob("*.html")) if path.name != "404.html"}
    places = {path: set(re.findall(r'\bid="?([^"\s>]+)', text)) for path, text in pages.items()}
    links = [
        (path, *found) for path, text in pages.items() for found in re.findall(r'(?:href|src)="([^"#]*)(?:#([^"]*))?"', text)
    ]
    broken = []
    for path, address, anchor in links:
        if ":" in address:
            continue  # another host, or an image that stands in the page
        target = (path.parent / unquote(address)).resolve() if address else path
        target = target / "index.html" if target.is_dir() else target
        if not target.is_file() or (anchor and target in places and unquote(anchor) not in places[target]):
            broken.append(f"{path.relative_to(site)}: {address}#{anchor}")

    assert len(links) > 1_000
    assert broken == []


def test_every_rule_has_a_section_that_a_link_can_name(site: Path) -> None:
    page = (site / "reference" / "rules.html").read_text()

    assert re.findall(r'<h3 id="(opt\d+)">', page) == [code.lower() for code in RULES]


def test_every_command_has_its_options(site: Path) -> None:
    page = re.sub(r"<[^>]+>", "", (site / "reference" / "cli.html").read_text())

    for name in COMMANDS:
        assert f"usage: optio {name}" in page, name
    assert "usage: optio runs logs" in page


def test_a_search_finds_the_manual_before_the_design(site: Path) -> None:
    documents = json.loads((site / "search" / "search_index.json").read_text())["docs"]
    design = [each for each in documents if each["location"].startswith("design/")]

    assert {each.get("boost") for each in design} == {0.2}
    assert {each.get("boost") for each in documents if each not in design} == {None}


def test_a_link_out_of_the_pages_becomes_the_name_of_the_file() -> None:
    spec = importlib.util.spec_from_file_location("hooks", ROOT / "docs" / "_build" / "hooks.py")
    assert spec is not None
    assert spec.loader is not None
    hooks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hooks)

    assert hooks.inward("see [SECURITY.md](../../SECURITY.md#x)", "docs/operating") == "see `SECURITY.md`"
    assert hooks.inward("[how](../CONTRIBUTING.md)", "docs") == "how (`CONTRIBUTING.md` in the repository)"
    assert hooks.inward("[keys](../tasks/keys.md#tests)", "docs/guides") == "[keys](../tasks/keys.md#tests)"
