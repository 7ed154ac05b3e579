"""The two trees that a plan compares: revisions, directories, the working tree, or what a server serves."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from optio.cli.client import Client
from optio.cli.revision import commit_of, merge_base, tree_at
from optio.compiler.tree import DirectoryTree, SourceTree
from optio.errors import SettingsError
from optio.model.registry import CompiledTask, Origin, Registry
from optio.model.task import TaskSpec
from optio.plan.side import Side, side

_SHORT = 12
# What the API adds to a task's keys.
_ADDED = ("digest", "origin", "stale", "paused", "links", "priority")


@dataclass(frozen=True, kw_only=True)
class Sides:
    """Both sides, with their names for people; `tree` is the newer one, and `seen` a path of it as people see it."""

    before: Side
    after: Side
    tree: SourceTree
    names: tuple[str, str]
    seen: Callable[[str], str]


def of_revisions(root: Path, what: str) -> Sides:
    """`A..B`, `A...B`, or `A` for A against the working tree; a side that is left out is HEAD. Raises SettingsError."""
    parted = "..." in what
    one, dots, other = what.partition("..." if parted else "..")
    one, other = one or "HEAD", other or "HEAD"
    base = merge_base(root, one, other) if parted else commit_of(root, one)
    before, commit = tree_at(root, base)
    name = f"{commit[:_SHORT]}:{root}"
    if not dots:
        return against(root, side(before), name)
    after, head = tree_at(root, other)
    return Sides(before=side(before), after=side(after), tree=after, names=(name, f"{head[:_SHORT]}:{root}"), seen=_seen(root))


def of_directories(one: Path, other: Path) -> Sides:
    """Two trees on the disk; raises SettingsError."""
    for each in (one, other):
        if not each.is_dir():
            raise SettingsError(f"`{each}` is no directory: give two of them, or revisions as `BASE..HEAD`")
    return against(other, side(DirectoryTree(one)), str(one))


def against(root: Path, before: Side, name: str) -> Sides:
    """Something against the directory as it is now; raises SettingsError."""
    if not root.is_dir():
        raise SettingsError(f"there is no task directory `{root}`: --tasks names another")
    tree = DirectoryTree(root)
    return Sides(before=before, after=side(tree), tree=tree, names=(name, str(root)), seen=_seen(root))


def of_server(root: Path, server: Client) -> Sides:
    """What is served against the directory. The server's policy is not known, so the tree's own is no change."""
    answer = server.request("GET", "/api/tasks")
    tasks = [_task(item, server.base) for item in answer["items"]]
    sides = against(root, Side(registry=Registry.of({task.id: task for task in tasks})), server.base)
    return replace(sides, before=replace(sides.before, policy=sides.after.policy))


def _task(item: dict[str, Any], where: str) -> CompiledTask:
    spec = {key: value for key, value in item.items() if key not in _ADDED}
    if item.get("priority"):
        spec["priority"] = item["priority"]
    spec["triggers"] = [
        {key: value for key, value in each.items() if key not in ("url", "unsigned")} for each in item["triggers"]
    ]
    prompt = spec["promptTemplate"]
    if not prompt:
        del spec["promptTemplate"]
    try:
        read = TaskSpec.model_validate(spec)
    except ValidationError as err:
        message = f"the task `{item['id']}` of {where} cannot be read: another version of Optio serves it"
        raise SettingsError(message) from err
    return CompiledTask(id=item["id"], spec=read, prompt=prompt, origin=Origin(**item["origin"]))


def _seen(root: Path) -> Callable[[str], str]:
    """As `optio check` prints paths: from where one is, if it is below."""
    inside = root.absolute().is_relative_to(Path.cwd())
    return lambda path: os.path.relpath(root / path) if inside else os.path.join(root, path)
