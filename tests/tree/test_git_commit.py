"""The commit of a checkout, as git and a server tell it."""

import subprocess
from pathlib import Path

import pytest

from optio.tree.git_commit import checked_out_commit
from optio.wiring import Services
from tests.support import COMMAND_TASK, eventually
from tests.tree.test_reload import Watched

TASK = COMMAND_TASK.format(name="One", command='["/bin/cat"]')


def git(root: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", "-c", "user.name=A", "-c", "user.email=a@b.c", *words], cwd=root, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A directory of tasks in a checkout with one commit."""
    git(tmp_path, "init", "-q", ".")
    tree = tmp_path / "tasks.d"
    tree.mkdir()
    (tree / "one.yaml").write_text(TASK)
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "One")
    return tree


def test_a_clean_checkout_is_named_by_its_commit(tree: Path) -> None:
    assert checked_out_commit(tree) == git(tree, "rev-parse", "HEAD")


@pytest.mark.parametrize("name", ["one.yaml", "two.yaml", "below/it.yaml"])
def test_a_file_that_is_changed_or_new_makes_it_dirty(tree: Path, name: str) -> None:
    (tree / name).parent.mkdir(exist_ok=True)
    (tree / name).write_text(TASK + "# more\n")

    assert checked_out_commit(tree) == git(tree, "rev-parse", "HEAD") + "+dirty"


def test_files_elsewhere_in_the_repository_do_not_make_it_dirty(tree: Path) -> None:
    (tree.parent / "README.md").write_text("more")

    assert checked_out_commit(tree) == git(tree, "rev-parse", "HEAD")


def test_without_a_checkout_or_a_commit_there_is_none(tmp_path: Path) -> None:
    assert checked_out_commit(tmp_path) is None

    git(tmp_path, "init", "-q", ".")

    assert checked_out_commit(tmp_path) is None
    assert checked_out_commit(tmp_path / "missing") is None


def test_a_checkout_that_git_refuses_has_no_commit_and_starts_no_program(tree: Path) -> None:
    git(tree.parent, "config", "core.fsmonitor", "touch ran; false")
    assert checked_out_commit(tree) == git(tree, "-c", "core.fsmonitor=false", "rev-parse", "HEAD")
    assert not list(tree.parent.rglob("ran"))

    (tree.parent / ".git" / "HEAD").write_text("nonsense")

    assert checked_out_commit(tree) is None


def test_a_server_tells_the_commit_and_follows_it_when_no_task_file_changes(tree: Path, services: Services) -> None:
    with Watched(tree, services) as watched:

        def served() -> str | None:
            generation = watched.live.current.generation
            return None if generation is None else generation.commit

        assert served() == git(tree, "rev-parse", "HEAD")
        (tree / "two.yaml").write_text(TASK.replace("One", "Two"))
        eventually(lambda: (served() or "").endswith("+dirty"), what="the dirty checkout being told")
        # From here on no file is looked at for its own sake: it was changed too lately for its stamp to tell.
        eventually(lambda: None not in watched.reloader._stamps.values(), what="stamps that tell")
        git(tree.parent, "add", ".")
        git(tree.parent, "commit", "-qm", "Two")

        eventually(lambda: served() == git(tree, "rev-parse", "HEAD"), within=30, what="the new commit being told")
        assert watched.ids == {"one", "two"}
