"""Only regular files below the root are read."""

import os
from pathlib import Path

import pytest

from optio.compiler.pipeline import compile_tree
from optio.compiler.source_tree import DirectoryTree, MemoryTree, OverlayTree, Unreadable
from optio.tree.scan import scan_directory

TASK = "name: {}\nagentRuntime: claude-code\npromptTemplate: Say hello\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    below = tmp_path / "tasks.d"
    below.mkdir()
    (tmp_path / "secret.yaml").write_text("password: hunter2\n")
    return below


def codes(root: Path) -> list[str]:
    return [d.code for d in compile_tree(DirectoryTree(root)).diagnostics]


def test_yaml_files_are_found_below_in_order_and_hidden_ones_are_passed_over(root: Path) -> None:
    for name in ("b.yaml", "a/c.yml", ".git/x.yaml", ".hidden.yaml", "notes.md"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(TASK.format(name))

    assert list(DirectoryTree(root).task_files()) == ["a/c.yml", "b.yaml"]


def test_a_link_out_of_the_tree_is_refused(root: Path) -> None:
    (root / "a.yaml").symlink_to("../secret.yaml")

    found = compile_tree(DirectoryTree(root))

    assert [d.code for d in found.diagnostics] == ["OPT706"]
    assert "hunter2" not in str(found.diagnostics)


def test_a_link_inside_the_tree_is_followed(root: Path) -> None:
    (root / "prompts").mkdir()
    (root / "prompts" / "real.md").write_text("Say hello")
    (root / "prompts" / "link.md").symlink_to("real.md")
    (root / "a.yaml").write_text("name: A\nagentRuntime: claude-code\npromptFile: prompts/link.md\n")

    assert codes(root) == []


def test_a_prompt_behind_a_linked_directory_outside_is_refused(root: Path, tmp_path: Path) -> None:
    (root / "outside").symlink_to(tmp_path)
    (root / "a.yaml").write_text("name: A\nagentRuntime: claude-code\npromptFile: outside/secret.yaml\n")

    assert [(d.path, d.code) for d in compile_tree(DirectoryTree(root)).diagnostics] == [
        ("a.yaml", "OPT706"),
        ("outside", "OPT706"),
    ]


@pytest.mark.parametrize(
    ("link", "leads_to", "prompt"),
    [
        ("prompts/a.md", "../.optio/secrets/KEY", "prompts/a.md"),
        ("prompts/all", "../.optio/secrets", "prompts/all/KEY"),
        ("all", ".optio", "all/secrets/KEY"),
        ("b.md", "prompts/a.md", "b.md"),
    ],
)
def test_a_link_to_what_is_hidden_is_refused(root: Path, link: str, leads_to: str, prompt: str) -> None:
    (root / "prompts").mkdir()
    (root / ".optio" / "secrets").mkdir(parents=True)
    (root / ".optio" / "secrets" / "KEY").write_text("hunter2")
    (root / "prompts" / "a.md").symlink_to("../.optio/secrets/KEY")
    if not os.path.lexists(root / link):
        (root / link).symlink_to(leads_to)
    (root / "a.yaml").write_text(f"name: A\nagentRuntime: claude-code\npromptFile: {prompt}\n")

    found = compile_tree(DirectoryTree(root))

    assert ("a.yaml", "OPT706") in [(d.path, d.code) for d in found.diagnostics]
    assert not found.registry.tasks
    assert "hunter2" not in str(found.diagnostics)


def test_links_of_a_mounted_configmap_are_followed(root: Path) -> None:
    version = root / "..2026_11_28"
    version.mkdir()
    (version / "a.yaml").write_text("name: A\nagentRuntime: claude-code\npromptFile: a.md\n")
    (version / "a.md").write_text("Say hello")
    (root / "..data").symlink_to(version.name)
    for name in ("a.yaml", "a.md"):
        (root / name).symlink_to(f"..data/{name}")

    assert codes(root) == []


def test_a_hidden_file_that_is_checked_by_its_name_reads_what_stands_beside_it(root: Path) -> None:
    (root / ".github").mkdir()
    (root / ".github" / "a.yaml").write_text("name: A\nagentRuntime: claude-code\npromptFile: a.md\n")
    (root / ".github" / "a.md").write_text("Say hello")

    assert compile_tree(DirectoryTree(root, [".github/a.yaml"])).diagnostics == ()


def linked_directories(root: Path, tmp_path: Path) -> None:
    for directory in (tmp_path / "shared", root / "real", root / ".hidden"):
        directory.mkdir()
        (directory / "a.yaml").write_text(TASK.format(directory.name.strip(".")))
    for link, to in (("out", "../shared"), ("veiled", ".hidden"), ("again", "real"), ("loop", "."), ("nowhere", "gone")):
        (root / link).symlink_to(to)


def test_a_linked_directory_whose_files_are_not_read_is_told_of(root: Path, tmp_path: Path) -> None:
    linked_directories(root, tmp_path)

    found = compile_tree(DirectoryTree(root))

    assert [(d.path, d.code) for d in found.diagnostics] == [("out", "OPT706"), ("veiled", "OPT706")]
    assert list(found.registry.tasks) == ["real"]


def test_hot_reload_looks_at_the_same_files(root: Path, tmp_path: Path) -> None:
    linked_directories(root, tmp_path)

    assert scan_directory(root).task_files == list(DirectoryTree(root).task_files()) == ["out", "real/a.yaml", "veiled"]


@pytest.mark.parametrize("name", ["../secret.yaml", "/etc/passwd", "~/x", "a/../../secret.yaml", "gone.md", "a.yaml/x", ""])
def test_a_prompt_outside_or_nowhere_is_refused(root: Path, name: str) -> None:
    (root / "a.yaml").write_text(f"name: A\nagentRuntime: claude-code\npromptFile: '{name}'\n")

    assert codes(root) == ["OPT115"] if name else ["OPT106"]


def test_a_pipe_and_a_device_do_not_block(root: Path) -> None:
    os.mkfifo(root / "a.yaml")
    (root / "b.yaml").symlink_to("/dev/zero")

    assert codes(root) == ["OPT706", "OPT706"]


def test_a_directory_with_a_yaml_name_is_a_directory(root: Path) -> None:
    (root / "a.yaml").mkdir()
    (root / "a.yaml" / "b.yaml").write_text(TASK.format("B"))

    assert list(DirectoryTree(root).task_files()) == ["a.yaml/b.yaml"]


def test_a_large_file_is_refused_unread(root: Path) -> None:
    with (root / "a.yaml").open("wb") as file:
        file.truncate(100 << 20)

    assert codes(root) == ["OPT014"]


def test_a_large_payload_is_refused_with_what_the_server_would_answer(root: Path) -> None:
    hook = "triggers: [{type: webhook, config: {path: x, secret: {name: S}}}]\n"
    (root / "a.yaml").write_text(TASK.format("A") + hook + "tests: [{webhook: large.json, expect: {}}]\n")
    (root / "large.json").write_text("[" + " " * (1 << 20) + "]")

    (found,) = (d for d in compile_tree(DirectoryTree(root)).diagnostics if d.code == "OPT014")

    assert (found.message, found.hint) == (
        "`large.json` is larger than 1 MiB",
        "give a smaller one: the server refuses such a body (413)",
    )


def test_an_overlay_shows_the_tree_after_a_change() -> None:
    below = MemoryTree({"a.yaml": TASK.format("A"), "b.yaml": TASK.format("B")})
    tree = OverlayTree(below, {"a.yaml": None, "c.yaml": TASK.format("C").encode()})

    assert list(compile_tree(tree).registry.tasks) == ["b", "c"]
    with pytest.raises(Unreadable):
        tree.read("a.yaml")


@pytest.mark.parametrize("name", ["a\\0b.md", "x" * 300 + ".md"])
def test_a_name_that_no_file_can_have_is_refused(root: Path, name: str) -> None:
    (root / "a.yaml").write_text(f'name: A\nagentRuntime: claude-code\npromptFile: "{name}"\n')

    assert {"OPT115", "OPT706"} & set(codes(root))


def test_a_link_to_itself_is_refused(root: Path) -> None:
    (root / "a.yaml").symlink_to("a.yaml")

    assert codes(root) == ["OPT706"]


def nest(root: Path, name: str, count: int) -> None:
    """Directories in directories, and a task in the last; such a path can be too long to be written down at once."""
    at = os.open(root, os.O_RDONLY)
    for _ in range(count):
        os.mkdir(name, dir_fd=at)
        below = os.open(name, os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    file = os.open("a.yaml", os.O_WRONLY | os.O_CREAT, dir_fd=at)
    os.write(file, TASK.format("A").encode())
    os.close(file)
    os.close(at)


def test_what_lies_in_too_many_directories_is_refused_and_not_passed_over(root: Path) -> None:
    nest(root, "d", 300)

    assert codes(root) == ["OPT014"]


def test_what_lies_in_many_directories_is_read(root: Path) -> None:
    nest(root, "d", 60)

    assert list(compile_tree(DirectoryTree(root)).registry.tasks) == ["a"]


def test_a_directory_whose_path_is_too_long_is_refused_and_not_passed_over(root: Path) -> None:
    nest(root, "d" * 200, 30)

    assert codes(root) == ["OPT706"]


def test_a_directory_that_may_not_be_looked_into_is_refused_and_not_passed_over(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "closed").mkdir()
    look = os.scandir

    def refuse(path: str) -> object:
        if path.endswith("closed"):
            raise PermissionError(13, "Permission denied")
        return look(path)

    with monkeypatch.context() as patched:
        patched.setattr(os, "scandir", refuse)

        assert codes(root) == ["OPT706"]
