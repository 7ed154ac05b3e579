"""The task tree as another revision of its git repository has it, read by the git program; nothing is checked out."""

import os
import posixpath
import subprocess
from pathlib import Path

from optio.compiler.tree import MAX_FILE_BYTES, SUFFIXES, MemoryTree
from optio.errors import SettingsError

# Of one tree so much is read at most.
_MOST_FILES, _MOST_BYTES = 100_000, 256 << 20
_PATIENCE_S = 60
# It only reads, asks nobody, and fetches nothing.
_QUIET = {"GIT_OPTIONAL_LOCKS": "0", "GIT_NO_LAZY_FETCH": "1", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C.UTF-8"}
_FILE, _LINK = "100", "120000"


def tree_at(root: Path, revision: str) -> tuple[MemoryTree, str]:
    """The tree below `root` as it was at a revision, and the commit that this is; raises SettingsError."""
    commit = commit_of(root, revision)
    prefix = _git(root, "rev-parse", "--show-prefix").decode("utf-8", "surrogateescape").rstrip("\n")
    return MemoryTree(_files(root, commit, prefix)), commit


def commit_of(root: Path, revision: str) -> str:
    """The commit that a revision names in the repository of `root`; raises SettingsError."""
    if not root.is_dir():
        raise SettingsError(f"there is no task directory `{root}`: --tasks names another")
    if not revision.strip() or revision.startswith("-"):
        raise SettingsError(f"`{revision}` is no revision: give a branch, a tag or a commit")
    # First of all: whoever is in no repository, or in another's, wants to read that.
    _git(root, "rev-parse", "--show-prefix")
    try:
        wanted = _git(root, "rev-parse", "--verify", "--quiet", "--end-of-options", revision + "^{commit}")
    except _Failed as err:
        raise SettingsError(f"the repository of `{root}` has no revision `{revision}`") from err
    return wanted.decode().strip()


def merge_base(root: Path, one: str, other: str) -> str:
    """The newest commit that both have in their history; raises SettingsError when there is none."""
    commits = commit_of(root, one), commit_of(root, other)
    try:
        return _git(root, "merge-base", *commits).decode().strip()
    except _Failed as err:
        raise SettingsError(
            f"`{one}` and `{other}` have no commit in common here: fetch more of their history (`git fetch --unshallow`)"
        ) from err


class _Failed(SettingsError):
    """The git program said no."""


def _git(root: Path, *arguments: str, data: bytes | None = None) -> bytes:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments],
            input=data if data is not None else b"",
            capture_output=True,
            env={**os.environ, **_QUIET},
            timeout=_PATIENCE_S,
            check=False,
        )
    except FileNotFoundError as err:
        raise SettingsError("a revision needs the git program, which is not installed") from err
    except (subprocess.TimeoutExpired, ValueError, OSError) as err:
        raise SettingsError(f"git could not be asked: {err}") from err
    if done.returncode != 0:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise _Failed(f"git cannot read `{root}`: {said[0] if said else f'exit code {done.returncode}'}")
    return done.stdout


def _files(root: Path, commit: str, prefix: str) -> dict[str, bytes]:
    """Texts by their path below the root."""
    where = ["--", prefix] if prefix else []
    listed = _git(root, "ls-tree", "-r", "-z", "--long", "--full-tree", commit, *where)
    blobs: dict[str, str] = {}
    links: dict[str, str] = {}
    total = 0
    for entry in listed.decode("utf-8", "surrogateescape").split("\0"):
        head, _, path = entry.partition("\t")
        if not head:
            continue
        mode, _, name, size = head.split()
        path = path.removeprefix(prefix)
        if not mode.startswith(_FILE) and mode != _LINK:
            continue  # another repository
        if path.endswith(SUFFIXES) and any(part.startswith(".") for part in path.split("/")):
            continue  # hidden, as on a disk
        if int(size) > MAX_FILE_BYTES:
            if path.endswith(SUFFIXES):
                raise SettingsError(f"`{path}` is larger than {MAX_FILE_BYTES >> 20} MiB there")
            continue
        total += int(size)
        (links if mode == _LINK else blobs)[path] = name
    if len(blobs) > _MOST_FILES or total > _MOST_BYTES:
        raise SettingsError(f"{len(blobs):,} files with {total >> 20:,} MiB are too many to be tried at once")
    texts = _contents(root, [*blobs.values(), *links.values()])
    found = {path: texts[name] for path, name in blobs.items()}
    for path, name in links.items():
        target = posixpath.normpath(posixpath.join(posixpath.dirname(path), texts[name].decode("utf-8", "surrogateescape")))
        if target in found:
            found[path] = found[target]
    return found


def _contents(root: Path, names: list[str]) -> dict[str, bytes]:
    """Objects by name."""
    data = _git(root, "cat-file", "--batch", data="".join(f"{name}\n" for name in names).encode())
    found: dict[str, bytes] = {}
    place = 0
    for name in names:
        end = data.index(b"\n", place)
        size = int(data[place:end].split()[2])
        found[name] = data[end + 1 : end + 1 + size]
        place = end + 1 + size + 1
    return found
