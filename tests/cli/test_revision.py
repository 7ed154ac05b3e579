"""The task tree as another git revision has it, without a checkout."""

import os
import subprocess
from pathlib import Path

import pytest

from optio.compiler.pipeline import compile_tree
from optio.compiler.source_tree import Unreadable
from optio.errors import SettingsError
from optio.tree.revision import TreeLocation, commit_of, tree_at, tree_of
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
    with pytest.raises(SettingsError, match=r"git cannot read .*not in a git repository: run `git init`"):
        tree_at(tmp_path, "HEAD")
    with pytest.raises(SettingsError, match="no task directory"):
        tree_at(tmp_path / "missing", "HEAD")


def test_a_machine_without_git_is_said(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")

    with pytest.raises(SettingsError, match="not installed"):
        tree_at(repository, "good")


def test_a_task_file_that_is_too_large_there_is_unreadable(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    for name in ("huge.bin", "huge.yaml"):
        (tmp_path / name).write_bytes(b"#" * (1 << 20) + b"\n")
        git(tmp_path, "add", name)
        git(tmp_path, "commit", "-qm", name)

    assert list(tree_at(tmp_path, "HEAD~1")[0].task_files()) == []
    tree, _ = tree_at(tmp_path, "HEAD")
    (found,) = compile_tree(tree).diagnostics
    assert (found.code, found.path, found.message) == ("OPT014", "huge.yaml", "is larger than 1 MiB")


def test_links_are_followed_over_others_and_not_out_of_the_tree_nor_in_a_circle(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    (tmp_path / "z.yaml").write_text("z")
    for name, target in (("a", "b"), ("b", "z.yaml"), ("c", "c"), ("d", "../x"), ("e", "/etc/passwd"), ("f", "nope")):
        (tmp_path / f"{name}.yaml").symlink_to(target if "/" in target or "." in target else f"{target}.yaml")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-qm", "links")

    tree, _ = tree_at(tmp_path, "HEAD")

    assert tree.read("a.yaml") == tree.read("b.yaml") == b"z"
    for name, code in (("c", "OPT115"), ("d", "OPT706"), ("e", "OPT706"), ("f", "OPT115")):
        with pytest.raises(Unreadable) as caught:
            tree.read(f"{name}.yaml")
        assert caught.value.code == code


def test_a_directory_is_found_over_the_links_that_a_revision_has_in_its_way(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    (tmp_path / "deep" / "tasks.d").mkdir(parents=True)
    (tmp_path / "deep" / "tasks.d" / "a.yaml").write_text("a")
    links = {"one": "deep", "two": "one", "deep/up": "../two/tasks.d", "out": "../x", "etc": "/etc", "self": "self/self"}
    for name, target in links.items():
        (tmp_path / name).symlink_to(target)
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-qm", "links")

    for path in ("deep/tasks.d", "one/tasks.d", "two/tasks.d", "deep/up", "one/up", "two/up"):
        assert tree_at(tmp_path / path, "HEAD")[0].read("a.yaml") == b"a"
    for path in ("self", "self/x", "one/nope"):
        with pytest.raises(SettingsError, match="no task directory"):
            tree_at(tmp_path / path, "HEAD")
    for path in ("out", "etc/x"):
        place = TreeLocation(tmp_path, tmp_path, f"{path}/")
        assert tree_of(place, commit_of(place, "HEAD")) is None


def committed(directory: Path) -> Path:
    git(directory, "init", "-q")
    git(directory, "config", "uploadpack.allowFilter", "true")
    for text in ("one", "two"):
        (directory / "a.yaml").write_text(text)
        git(directory, "add", "-A")
        git(directory, "commit", "-qm", text)
    return directory


@pytest.mark.parametrize("damage", ["", "damaged"])
def test_a_repository_that_lacks_an_object_is_said(tmp_path: Path, damage: str) -> None:
    name = git(committed(tmp_path), "rev-parse", "HEAD:a.yaml")
    object_ = tmp_path / ".git" / "objects" / name[:2] / name[2:]
    object_.unlink()
    if damage:
        object_.write_text(damage)

    with pytest.raises(SettingsError, match=r"lacks objects of [0-9a-f]{12}, or they are damaged: `git fsck` tells which"):
        tree_at(tmp_path, "HEAD")
    assert tree_at(tmp_path, "HEAD~1")[0].read("a.yaml") == b"one"


def test_a_clone_without_all_objects_or_revisions_is_told_what_brings_them(tmp_path: Path) -> None:
    for name in ("there", "partial", "shallow"):
        (tmp_path / name).mkdir()
    url = committed(tmp_path / "there").as_uri()
    git(tmp_path, "clone", "-q", "--no-checkout", "--filter=blob:none", url, "partial")
    git(tmp_path, "clone", "-q", "--depth=1", url, "shallow")

    with pytest.raises(SettingsError, match=r"is partial, .*`git fetch --refetch --no-filter` brings them"):
        tree_at(tmp_path / "partial", "HEAD")
    git(tmp_path / "partial", "fetch", "-q", "--refetch", "--no-filter")
    assert tree_at(tmp_path / "partial", "HEAD")[0].read("a.yaml") == b"two"

    with pytest.raises(SettingsError, match=r"no revision `HEAD~1`: the clone is shallow: `git fetch --unshallow`"):
        tree_at(tmp_path / "shallow", "HEAD~1")
    git(tmp_path / "shallow", "fetch", "-q", "--unshallow")
    assert tree_at(tmp_path / "shallow", "HEAD~1")[0].read("a.yaml") == b"one"


def test_of_a_tree_of_very_many_files_no_more_is_listed_than_is_taken(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    (tmp_path / "a.yaml").write_text("")
    git(tmp_path, "add", "-A")
    tree = git(tmp_path, "write-tree")
    # 10 to the power of 20: git itself would list it for ever.
    for _ in range(20):
        entries = "".join(f"040000 tree {tree}\td{number}\n" for number in range(10))
        made = subprocess.run(["git", "-C", str(tmp_path), "mktree"], input=entries, capture_output=True, text=True, check=True)
        tree = made.stdout.strip()
    git(tmp_path, "update-ref", "HEAD", git(tmp_path, "commit-tree", "-m", "bomb", tree))

    with pytest.raises(SettingsError, match=r"[0-9a-f]{12} has more than 100,000 files in the task directory: too much"):
        tree_at(tmp_path, "HEAD")
