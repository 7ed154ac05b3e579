"""The files of other projects that pages load: made from pinned packages, and the same bytes wherever they are made."""

import hashlib
import json
import shutil
import subprocess
from pathlib import Path

from tests.support import ROOT, tool

PAGES = ROOT / "optio" / "server" / "pages"
VENDOR = PAGES / "static" / "vendor"


def test_the_files_are_those_that_their_sources_make(tmp_path: Path) -> None:
    # Its modules are found beside the script.
    shutil.copytree(PAGES / "build", tmp_path / "build", ignore=shutil.ignore_patterns("node_modules"))
    (tmp_path / "build" / "node_modules").symlink_to(tool("pages/node_modules"))

    subprocess.run(["node", "--preserve-symlinks", "build.mjs", tmp_path / "vendor"], cwd=tmp_path / "build", check=True)

    made, kept = ({each.name: each.read_bytes() for each in place.iterdir()} for place in (tmp_path / "vendor", VENDOR))
    assert made.keys() == kept.keys()
    assert [name for name in made if made[name] != kept[name]] == []


def test_the_manifest_names_each_file_its_digest_and_the_pinned_versions_in_it() -> None:
    manifest = json.loads((VENDOR / "manifest.json").read_text())
    lock = json.loads((PAGES / "build" / "package-lock.json").read_text())["packages"]

    scripts = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in VENDOR.glob("*.js")}
    assert {name: each["sha256"] for name, each in manifest.items()} == scripts
    licences = (VENDOR / "licences.txt").read_text()
    for each in (package for file in manifest.values() for package in file["packages"]):
        locked = lock[f"node_modules/{each['name']}"]
        assert (each["version"], each["license"]) == (locked["version"], locked["license"])
        assert each["name"] in licences


def test_only_pinned_versions_are_asked_for() -> None:
    package = json.loads((PAGES / "build" / "package.json").read_text())

    assert all(version[0].isdigit() for version in (package["dependencies"] | package["devDependencies"]).values())
