"""The two trees that a plan compares: revisions, directories, the working tree, or what a server serves."""

import os
from dataclasses import dataclass, replace
from pathlib import Path

from optio.cli.client import Client
from optio.cli.revision import commit_of, merge_base, tree_at
from optio.cli.served import registry_of
from optio.compiler.incremental import IncrementalCompiler
from optio.compiler.tree import DirectoryTree, SourceTree
from optio.errors import SettingsError
from optio.plan.compare import Seen
from optio.plan.side import Side, side

_SHORT = 12


@dataclass(frozen=True, kw_only=True)
class Sides:
    """Both sides, with their names for people; `tree` is the newer one, and `seen` a path of it as people see it."""

    before: Side
    after: Side
    tree: SourceTree
    names: tuple[str, str]
    seen: Seen


def of_revisions(root: Path, what: str) -> Sides:
    """`A..B`, `A...B`, or `A` for A against the working tree; a side that is left out is HEAD. Raises SettingsError."""
    parted = "..." in what
    one, dots, other = what.partition("..." if parted else "..")
    one, other = one or "HEAD", other or "HEAD"
    base = merge_base(root, one, other) if parted else commit_of(root, one)
    before, commit = tree_at(root, base)
    name = f"{commit[:_SHORT]}:{root}"
    compiler = IncrementalCompiler()
    if not dots:
        return against(root, side(before, compiler), name, root, compiler)
    after, head = tree_at(root, other)
    names = name, f"{head[:_SHORT]}:{root}"
    return Sides(before=side(before, compiler), after=side(after, compiler), tree=after, names=names, seen=Places(root, root))


def of_directories(one: Path, other: Path) -> Sides:
    """Two trees on the disk; raises SettingsError."""
    for each in (one, other):
        if not each.is_dir():
            raise SettingsError(f"`{each}` is no directory: give two of them, or revisions as `BASE..HEAD`")
    compiler = IncrementalCompiler()
    return against(other, side(DirectoryTree(one), compiler), str(one), one, compiler)


def against(root: Path, before: Side, name: str, place: Path, compiler: IncrementalCompiler | None = None) -> Sides:
    """Something against the directory as it is now; raises SettingsError."""
    if not root.is_dir():
        raise SettingsError(f"there is no task directory `{root}`: --tasks names another")
    tree = DirectoryTree(root)
    return Sides(before=before, after=side(tree, compiler), tree=tree, names=(name, str(root)), seen=Places(root, place))


def of_server(root: Path, server: Client) -> Sides:
    """What is served against the directory. The server's policy is not known, so the tree's own is no change."""
    sides = against(root, Side(registry=registry_of(server)), server.base, Path())
    return replace(sides, before=replace(sides.before, policy=sides.after.policy))


@dataclass(frozen=True)
class Places:
    """Paths as `optio check` prints them: from where one is, if they are below."""

    root: Path
    gone: Path

    def __call__(self, path: str, *, gone: bool = False) -> str:
        """Of the newer tree, or of the older one."""
        root = self.gone if gone else self.root
        return os.path.relpath(root / path) if root.absolute().is_relative_to(Path.cwd()) else os.path.join(root, path)
