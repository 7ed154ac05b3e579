"""What is kept is for one compiler, with its libraries."""

import re
import sys
import tomllib
from pathlib import Path

import pytest

from optio.check_cache import cache_key as making
from optio.check_cache.cache_key import LIBRARIES, cache_key
from tests.support import ROOT


def test_the_same_compiler_says_the_same() -> None:
    assert cache_key() == cache_key() is not None


def test_another_version_of_a_library_is_another_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = cache_key()
    (tmp_path / "PyYAML-9.9.dist-info").mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])

    assert cache_key() not in (None, before)


def test_nothing_is_kept_where_a_library_is_not_known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in sorted(LIBRARIES)[1:]:
        (tmp_path / f"{name}-1.0.dist-info").mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path)])

    assert cache_key() is None


def test_another_rule_is_another_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in making.SOURCES:
        (tmp_path / name).mkdir()
    for name in making.MODULES:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    rule = tmp_path / "compiler" / "rule.py"
    rule.write_text("x = 1")
    monkeypatch.setattr(making, "PACKAGE", tmp_path)
    before = cache_key()

    rule.write_text("x = 2")

    assert cache_key() not in (None, before)


def test_other_zones_are_another_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zoneinfo.TZPATH", (str(tmp_path),))
    before = cache_key()

    (tmp_path / "tzdata.zi").write_text("# version 2027a")

    assert cache_key() not in (None, before)


def test_every_library_that_findings_depend_on_is_asked_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = {re.split(r"[<>=]", line)[0].replace("-", "_") for line in project["dependencies"]}

    assert LIBRARIES | {"tzdata"} == names
