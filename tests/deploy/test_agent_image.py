"""`deploy/images/agent/`: what is in an image is said by files here, to the byte."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from optio.executors.pods import manifest
from optio.model.runtimes import DECLARED
from tests.support import ROOT

FOLDER = ROOT / "deploy" / "images" / "agent"
CLIS = sorted(path.parent.name for path in FOLDER.glob("*/package.json"))
DOCKERFILE = (FOLDER / "Dockerfile").read_text()


def stages() -> dict[str, list[str]]:
    """Stage -> its instructions, each in one line; the first word of a stage's list is what it is made from."""
    found: dict[str, list[str]] = {}
    current: list[str] = []
    joined = re.sub(r"\\\n\s*", "", re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.M))
    for line in filter(None, joined.splitlines()):
        if line.startswith("FROM "):
            _, base, _, name = line.split()
            current = found.setdefault(name, [base])
        else:
            current.append(line)
    return found


STAGES = stages()


def read(cli: str, name: str) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads((FOLDER / cli / name).read_text())
    return parsed


def wanted(cli: str) -> dict[str, str]:
    package = read(cli, "package.json")
    return {**package.get("dependencies", {}), **package.get("optionalDependencies", {})}


def version_of(entry: str) -> str:
    """The version of a package, without the machine that its name may have behind it."""
    return entry.rpartition("@")[2].partition("-")[0]


def locked(cli: str) -> dict[str, dict[str, Any]]:
    return {name: entry for name, entry in read(cli, "package-lock.json")["packages"].items() if name}


def test_there_is_a_target_for_every_runtime_with_a_cli_and_one_with_all() -> None:
    assert {name for name, runtime in DECLARED.items() if runtime.program is not None} <= set(CLIS)
    for cli in CLIS:
        assert STAGES[cli][0] == "tools"
        assert f"COPY --from={cli}-files /out /" in STAGES[cli]
        assert f"COPY --from={cli}-files /out /" in STAGES["all"]
    assert list(STAGES)[-1] == "all", "what is built when no target is named"


@pytest.mark.parametrize("cli", [cli for cli in CLIS if cli in DECLARED])
def test_a_cli_has_the_name_on_path_that_its_runtime_calls_it_by(cli: str) -> None:
    wanted = DECLARED[cli].program
    assert wanted is not None
    program = re.escape(wanted.name)

    assert any(re.search(rf"/out/usr/local/bin/{program}\b", line) for line in STAGES[f"{cli}-files"])


@pytest.mark.parametrize("cli", CLIS)
def test_every_package_is_named_by_its_exact_version(cli: str) -> None:
    for name, version in wanted(cli).items():
        assert re.fullmatch(r"(npm:@[\w-]+/[\w-]+@)?\d+\.\d+\.\d+(-[\w-]+)?", version), (name, version)


@pytest.mark.parametrize("cli", CLIS)
def test_a_lock_file_has_all_that_is_wanted_with_its_digest_and_no_address(cli: str) -> None:
    entries = locked(cli)

    root = read(cli, "package-lock.json")["packages"][""]
    assert {**root.get("dependencies", {}), **root.get("optionalDependencies", {})} == wanted(cli)
    for name, version in wanted(cli).items():
        assert entries[f"node_modules/{name}"]["version"] == version.rpartition("@")[2]
    for name, entry in entries.items():
        assert entry["integrity"].startswith("sha512-"), name
        assert "resolved" not in entry, name
    assert "://" not in (FOLDER / cli / "package-lock.json").read_text()


@pytest.mark.parametrize("cli", CLIS)
def test_a_cli_is_of_the_version_that_the_tests_run(cli: str) -> None:
    program = DECLARED[cli].program
    installed = dict(re.findall(r"^(\w+)_version=(\S+)$", (ROOT / "tests" / "setup.sh").read_text(), re.M))

    assert program is not None
    versions = {version_of(each) for name, each in wanted(cli).items() if not name.startswith("node-")}
    assert versions == {program.tested} == {installed[cli.partition("-")[0]]}


def test_gemini_has_the_node_that_it_wants_and_that_the_tests_run_it_by() -> None:
    installed = re.search(r"^gemini_node_version=(\S+)$", (ROOT / "tests" / "setup.sh").read_text(), re.M)
    wants = re.fullmatch(r">=(\d+)", locked("gemini")["node_modules/@google/gemini-cli"]["engines"]["node"])

    assert installed is not None
    assert wants is not None
    assert {each for name, each in wanted("gemini").items() if name.startswith("node-")} == {installed[1]}
    assert int(installed[1].partition(".")[0]) >= int(wants[1])


@pytest.mark.parametrize("target", [*CLIS, "all"])
def test_an_image_runs_as_the_user_that_pods_have_and_its_clis_do_not_update_themselves(target: str) -> None:
    user = str(manifest._USER)
    instructions = [*STAGES["tools"], *STAGES[target][1:]]
    settings = " ".join(line for line in instructions if line.startswith("ENV "))

    assert [line for line in instructions if line.startswith("USER ")] == [f"USER {user}:{user}"]
    for switch in ("DISABLE_AUTOUPDATER=1", "COPILOT_AUTO_UPDATE=false", "OPENCODE_DISABLE_AUTOUPDATE=1"):
        assert switch in settings
    assert "COPY etc /etc" in instructions
    assert (FOLDER / "etc/codex/config.toml").read_text() == "check_for_update_on_startup = false\n"
    gemini = json.loads((FOLDER / "etc/gemini-cli/settings.json").read_text())["general"]
    assert gemini == {"enableAutoUpdate": False, "enableAutoUpdateNotification": False}


def test_nothing_is_fetched_but_by_the_lock_files_and_from_debian() -> None:
    fetching = re.findall(r"\b(npm (?:i|install|ci|exec)|npx|curl (?=http)|wget|pip install|ADD \S+:)", DOCKERFILE)
    script = [line for line in (FOLDER / "fetch.sh").read_text().splitlines() if line.startswith("npm ")]

    assert fetching == []
    assert len(script) == 1
    assert script[0].startswith("npm ci --ignore-scripts ")
    for cli in CLIS:
        assert f"COPY {cli} ./" in STAGES[f"{cli}-files"]
        assert "RUN --mount=type=secret,id=ca fetch" in STAGES[f"{cli}-files"]


def test_the_page_beside_it_names_the_versions_that_are_in_it() -> None:
    page = (Path(FOLDER) / "README.md").read_text()

    for cli in CLIS:
        plain = version_of(next(iter(v for n, v in wanted(cli).items() if not n.startswith("node-"))))
        assert re.search(rf"^\| `{cli}` \| {re.escape(plain)} \|", page, re.M), (cli, plain)
