"""The documentation site: it builds without a warning, loads nothing from elsewhere, and has what the hook generates."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT

# What a browser loads by itself, unlike a link that a person follows.
LOADED = re.compile(r"<(?:script|img|source|iframe|link(?![^>]*rel=\"?canonical))\b[^>]*(?:src|href)=\"?(?:https?:)?//[^>]*>")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built pages, as the wheel and the image have them."""
    made = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(made)],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    return made


def test_no_page_loads_anything_from_another_host(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))

    assert len(pages) > 60
    assert {str(page): found for page in pages if (found := LOADED.findall(page.read_text()))} == {}


def test_a_page_that_loads_a_script_from_another_host_is_found() -> None:
    assert LOADED.findall('<script src="https://cdn.example.com/x.js">')
    assert LOADED.findall('<link rel="stylesheet" href="//cdn.example.com/x.css">')
    assert not LOADED.findall('<a href="https://example.com/">')
