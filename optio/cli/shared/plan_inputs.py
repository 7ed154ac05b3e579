"""The two trees that a plan compares: revisions, directories, the working tree, or what a server serves."""

from dataclasses import dataclass, replace
from pathlib import Path

from optio.cli.shared.client import Client
from optio.cli.shared.display_path import display_path
from optio.cli.shared.served_tree import fetch_registry
from optio.compiler.incremental import IncrementalCompiler
from optio.compiler.pipeline import TreePolicy
from optio.compiler.source_tree import DirectoryTree, MemoryTree, SourceTree
from optio.errors import SettingsError
from optio.model.policy import PolicySpec
from optio.plan.compare import DisplayPath
from optio.plan.side import Side, compile_side
from optio.plan.words import brief
from optio.tree.revision import commit_of, locate_tree, merge_base, missing_directory, tree_of

_SHORT_HASH_LENGTH = 12
_EMPTY_TREE = MemoryTree({})


@dataclass(frozen=True, kw_only=True)
class PlanInputs:
    """Both sides with their names to show; `tree` is the newer one, `seen` gives its paths to show. `gate` is the current
    policy of the target branch if that has moved on since the branches diverged."""

    before: Side
    after: Side
    tree: SourceTree
    names: tuple[str, str]
    seen: DisplayPath
    gate: PolicySpec | None = None


def read_revisions(root: Path, text: str) -> PlanInputs:
    """Read `A..B`, `A...B`, or `A` against the working tree; raises SettingsError. A missing directory on one side counts as
    empty, for a change may add or delete it."""
    first, dots, second = parse_revisions(text)
    place = locate_tree(root)
    tip = commit_of(place, first)
    base = merge_base(place, first, second) if dots == "..." else tip
    head = commit_of(place, second) if dots else None
    before = tree_of(place, base)
    after = tree_of(place, head) if head is not None else DirectoryTree(root) if root.is_dir() else None
    if before is None and after is None:
        raise missing_directory(
            root, f", neither in {base[:_SHORT_HASH_LENGTH]} nor in {head[:_SHORT_HASH_LENGTH]}" if head is not None else ""
        )
    names = f"{base[:_SHORT_HASH_LENGTH]}:{root}", f"{head[:_SHORT_HASH_LENGTH]}:{root}" if head is not None else str(root)
    compiler = IncrementalCompiler()
    old, tree = compile_side(before or _EMPTY_TREE, compiler), after or _EMPTY_TREE
    gate = None
    if tip != base:
        policies = TreePolicy(tree_of(place, tip) or _EMPTY_TREE)
        if policies.unreadable:
            raise SettingsError(f"the policy in {brief(first)} cannot be read, so it allows nothing: fix it there first")
        gate = policies.spec
    return PlanInputs(
        before=old, after=compile_side(tree, compiler), tree=tree, names=names, seen=DisplayedPaths(root, root), gate=gate
    )


def parse_revisions(text: str) -> tuple[str, str, str]:
    """Return both revisions and the dots between them (empty for a single one). Unlike git, neither may be left out: with an
    unset variable, HEAD against HEAD would pass every gate. Raises SettingsError."""
    dots = "..." if "..." in text else ".." if ".." in text else ""
    first, _, second = text.partition(dots) if dots else (text, "", "")
    for revision, side in ((first, "before"), *([(second, "after")] if dots else [])):
        if not revision.strip():
            place = f" {side} `{dots}`" if dots else ""
            raise SettingsError(
                f"missing revision{place} in `{brief(text)}`: is a variable unset? write `HEAD` if you mean that"
            )
    return first, dots, second


def read_directories(first: str, second: str) -> PlanInputs:
    """Read two trees on disk; raises SettingsError."""
    for directory in (first, second):
        if not directory.strip():
            raise SettingsError("empty directory name: is a variable unset?")
        if not Path(directory).is_dir():
            raise SettingsError(f"`{brief(directory)}` is not a directory: give two directories, or revisions as `BASE..HEAD`")
    compiler = IncrementalCompiler()
    before = compile_side(DirectoryTree(Path(first)), compiler)
    return compare_with_directory(Path(second), before, first, Path(first), compiler)


def compare_with_directory(
    root: Path, before: Side, name: str, place: Path, compiler: IncrementalCompiler | None = None
) -> PlanInputs:
    """Compare a side with the directory as it is now; raises SettingsError."""
    if not root.is_dir():
        raise missing_directory(root)
    tree = DirectoryTree(root)
    return PlanInputs(
        before=before, after=compile_side(tree, compiler), tree=tree, names=(name, str(root)), seen=DisplayedPaths(root, place)
    )


def read_served(root: Path, server: Client) -> PlanInputs:
    """Compare what a server serves with the directory. The server's policy is unknown, so it is taken to be the tree's own."""
    inputs = compare_with_directory(root, Side(registry=fetch_registry(server)), server.base, Path())
    return replace(inputs, before=replace(inputs.before, policy=inputs.after.policy))


@dataclass(frozen=True)
class DisplayedPaths:
    """Paths as `optio check` prints them."""

    root: Path
    gone: Path

    def __call__(self, path: str, *, gone: bool = False) -> str:
        """Return the path to show of a file in the newer tree, or with `gone` in the older one."""
        return display_path(self.gone if gone else self.root, path)
