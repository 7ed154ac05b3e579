"""The task tree as another git revision has it, without a checkout."""

import os
import subprocess
from pathlib import Path

import pytest

from optio.cli.revision import tree_at
from optio.compiler.pipeline import compile_tree
from optio.compiler.tree import Unreadable
from optio.errors import SettingsError
from tests.support import COMMAND_TASK

JOB = COMMAND_TASK.format(name="Job", command='["true"]').replace('promptTemplate: "hello"', "promptFile: texts/job.md")


def git(directory: Path, *arguments: str) -> str:
    who = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main"]
    done = subprocess.run(["git", "-C", str(directory), *who, *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with a task directory in it, of which the second commit has left nothing."""
    tmp_path = tmp_path_factory.mktemp("repository")
    git(tmp_path, "init", "-q")
    root = tmp_path / "some" / "tasks.d"
    (root / "texts").mkdir(parents=True)
    (root / "job.yaml").write_text(JOB)
    (root / "texts" / "job.md").write_text("Grüße\n")
    (root / ".hidden.yaml").write_text("no: task")
    (root / "bytes.bin").write_bytes(bytes(range(256)))
    (tmp_path / "elsewhere.yaml").write_text("no: task")
    os.symlink("job.yaml", root / "texts" / "outside")
    os.symlink("texts/job.md", root / "linked.md")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-qm", "one")
    git(tmp_path, "tag", "good")
    for path in root.rglob("*.*"):
        path.unlink()
    git(tmp_path, "commit", "-qam", "two")
    return root


def test_a_tree_is_what_it_was_at_a_revision(repository: Path) -> None:
    tree, commit = tree_at(repository, "good")

    assert commit == git(repository, "rev-parse", "good")
    assert list(tree.task_files()) == ["job.yaml"]
    assert tree.read("texts/job.md") == tree.read("linked.md") == "Grüße\n".encode()
    assert tree.read("bytes.bin") == bytes(range(256))
    compilation = compile_tree(tree)
    assert compilation.ok
    assert compilation.registry.tasks["job"].prompt == "Grüße\n"


@pytest.mark.parametrize("revision", ["HEAD", "main", "HEAD~0"])
def test_the_newest_revision_is_empty(repository: Path, revision: str) -> None:
    tree, _ = tree_at(repository, revision)

    assert list(tree.task_files()) == []


def test_a_link_that_leads_nowhere_is_no_file(repository: Path) -> None:
    tree, _ = tree_at(repository, "good")

    with pytest.raises(Unreadable):
        tree.read("texts/outside")


def test_the_root_of_a_repository_may_be_the_tree(repository: Path) -> None:
    tree, _ = tree_at(repository.parent.parent, "good")

    assert list(tree.task_files()) == ["elsewhere.yaml", "some/tasks.d/job.yaml"]


def test_nothing_is_checked_out_or_changed(repository: Path) -> None:
    before = git(repository, "status", "--porcelain", "--ignored")

    tree_at(repository, "good")

    assert list(repository.iterdir()) == [repository / "texts"]
    assert git(repository, "status", "--porcelain", "--ignored") == before


@pytest.mark.parametrize(
    "revision", ["--output=x", "-h", "", " ", "nope", "good:some", "good..main", "good main", "\x00", "../x", "good^{tree}"]
)
def test_what_is_no_revision_is_refused(repository: Path, revision: str) -> None:
    with pytest.raises(SettingsError, match=r"revision|git"):
        tree_at(repository, revision)
    assert not (repository / "x").exists()


def test_a_directory_without_git_is_said(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"git cannot read .*not a git repository"):
        tree_at(tmp_path, "HEAD")
    with pytest.raises(SettingsError, match="no task directory"):
        tree_at(tmp_path / "missing", "HEAD")


def test_a_machine_without_git_is_said(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")

    with pytest.raises(SettingsError, match="not installed"):
        tree_at(repository, "good")


def test_a_task_file_that_is_too_large_there_is_said(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    for name in ("huge.bin", "huge.yaml"):
        (tmp_path / name).write_bytes(b"#" * (1 << 20) + b"\n")
        git(tmp_path, "add", name)
        git(tmp_path, "commit", "-qm", name)

    tree_at(tmp_path, "HEAD~1")
    with pytest.raises(SettingsError, match=r"huge\.yaml"):
        tree_at(tmp_path, "HEAD")
