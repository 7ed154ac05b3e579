"""The task tree of another git revision, read with the git program. Nothing is checked out, fetched or written. Used by `optio
plan` and by replays of deliveries."""

import os
import posixpath
import subprocess
import tempfile
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from signal import SIGKILL
from threading import Timer
from typing import NamedTuple

from optio.compiler.source_tree import ESCAPES, MAX_FILE_BYTES, SUFFIXES, MemoryTree, Unreadable
from optio.errors import SettingsError
from optio.plan.words import brief

# Limits of one tree: files, and bytes in all.
_MAX_FILES, _MAX_BYTES = 100_000, 256 << 20
# A link may lead to a link, and in the end back to itself.
_MAX_LINKS = 10
_GIT_TIMEOUT_S = 60
_CHUNK_BYTES = 1 << 16
# Git only reads here, prompts for nothing, and fetches nothing.
_QUIET = {"GIT_OPTIONAL_LOCKS": "0", "GIT_NO_LAZY_FETCH": "1", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C.UTF-8"}
_FILE, _LINK = "100", "120000"


class RevisionTree(MemoryTree):
    """The files of a revision in memory. Entries that cannot be read raise the same errors as those of a directory."""

    def __init__(self, files: Mapping[str, bytes], unreadable: Mapping[str, Unreadable]) -> None:
        super().__init__({**dict.fromkeys(unreadable, b""), **files})
        self._unreadable = unreadable

    def read(self, path: str) -> bytes:
        """Return the file's bytes. Raises Unreadable."""
        reason = self._unreadable.get(posixpath.normpath(path))
        if reason is not None:
            raise Unreadable(reason.code, reason.message, reason.hint)
        return super().read(path)


@dataclass(frozen=True)
class TreeLocation:
    """A task directory within its repository. `way` is the path from the repository's top as written, because in another
    revision the directory may be missing, or a link. `here` is an existing directory in which git can run."""

    root: Path
    here: Path
    way: str

    @property
    def name(self) -> str:
        """Return the directory as messages name it."""
        return brief(str(self.root))


def locate_tree(root: Path) -> TreeLocation:
    """Return the location of a task directory, which need not exist. Raises SettingsError outside of a repository."""
    directory, rest = root if root.is_dir() else Path(os.path.abspath(root)), ""
    while not directory.is_dir():
        directory, rest = directory.parent, posixpath.join(directory.name, rest)
    try:
        answer = _git(TreeLocation(root, directory, ""), "rev-parse", "--show-toplevel", "--show-prefix")
    except _GitFailed as err:
        raise (missing_directory(root) if rest else err) from err
    top, prefix, *_ = answer.decode("utf-8", "surrogateescape").split("\n")
    path = Path(os.path.abspath(root))
    for parent in (path, *path.parents):
        if parent.is_dir() and os.path.samefile(parent, top):
            return TreeLocation(root, parent, _directory(path.relative_to(parent).as_posix()))
    return TreeLocation(root, directory, prefix + rest)  # a link from elsewhere leads here


def _directory(path: str) -> str:
    return "" if path in ("", ".") else f"{path}/"


def missing_directory(root: Path, place: str = "") -> SettingsError:
    """Return the error for a task directory that does not exist."""
    return SettingsError(f"there is no task directory `{brief(str(root))}`{place}: --tasks names another")


def tree_at(root: Path, revision: str) -> tuple[RevisionTree, str]:
    """Return the tree below `root` at a revision, and the full commit id. Raises SettingsError."""
    place = locate_tree(root)
    commit = commit_of(place, revision)
    tree = tree_of(place, commit)
    if tree is None and not root.is_dir():
        raise missing_directory(root)
    return tree or RevisionTree({}, {}), commit


def commit_of(place: TreeLocation, revision: str) -> str:
    """Return the commit that a revision names. Raises SettingsError."""
    if not revision.strip() or revision.startswith("-"):
        raise SettingsError(f"invalid revision `{brief(revision)}`: name a branch, a tag or a commit")
    try:
        answer = _git(place, "rev-parse", "--verify", "--quiet", "--end-of-options", revision + "^{commit}")
    except _GitFailed as err:
        message = f"the repository of `{place.name}` has no revision `{brief(revision)}`"
        raise SettingsError(message + (f": {_SHALLOW}" if _is_shallow(place) else "")) from err
    return answer.decode().strip()


def merge_base(place: TreeLocation, first: str, second: str) -> str:
    """Return the newest commit that both revisions have in their history. Raises SettingsError if there is none."""
    commits = commit_of(place, first), commit_of(place, second)
    try:
        return _git(place, "merge-base", *commits).decode().strip()
    except _GitFailed as err:
        cure = _SHALLOW if _is_shallow(place) else "name two branches of one history, or compare them as they are with `..`"
        raise SettingsError(f"`{brief(first)}` and `{brief(second)}` have no commit in common here: {cure}") from err


_SHALLOW = "the clone is shallow: `git fetch --unshallow` brings the history (`fetch-depth: 0` for `actions/checkout`)"


def _is_shallow(place: TreeLocation) -> bool:
    return _git(place, "rev-parse", "--is-shallow-repository").strip() == b"true"


def _why_incomplete(place: TreeLocation, commit: str) -> SettingsError:
    """Return an error that says why not all objects can be read, with the cure."""
    try:
        _git(place, "config", "--get-regexp", r"^(extensions\.partialclone|remote\..*\.promisor)$")
    except _GitFailed:
        return SettingsError(
            f"the repository of `{place.name}` lacks objects of {commit[:12]}, or they are damaged: `git fsck` tells which"
        )
    cure = "`git fetch --refetch --no-filter` brings them, or clone without `--filter`"
    return SettingsError(f"the clone of `{place.name}` is partial, and lacks objects of {commit[:12]}: {cure}")


class _GitFailed(SettingsError):
    """Raised when the git program fails."""


def _git(place: TreeLocation, *arguments: str, data: bytes | None = None) -> bytes:
    try:
        process = subprocess.run(
            ["git", "-C", str(place.here), *arguments],
            input=data if data is not None else b"",
            capture_output=True,
            env={**os.environ, **_QUIET},
            timeout=_GIT_TIMEOUT_S,
            check=False,
        )
    except FileNotFoundError as err:
        raise _not_installed() from err
    except (subprocess.TimeoutExpired, ValueError, OSError) as err:
        raise SettingsError(f"git could not be asked: {brief(str(err), 300)}") from err
    if process.returncode != 0:
        raise _failed(place, process.returncode, process.stderr)
    return process.stdout


def _not_installed() -> SettingsError:
    return SettingsError("a revision needs the git program, which is not installed")


def _failed(place: TreeLocation, code: int, stderr: bytes) -> _GitFailed:
    lines = stderr.decode("utf-8", "replace").strip().splitlines()
    words = brief(lines[0], 300) if lines else f"exit code {code}"
    if "not a git repository" in words:
        words = "it is not in a git repository: run `git init` there and commit the files, or name a directory to compare with"
    return _GitFailed(f"git cannot read `{place.name}`: {words}")


class _TreeEntry(NamedTuple):
    mode: str
    name: str
    size: str
    path: str


def _entries(place: TreeLocation, commit: str, way: str) -> Generator[_TreeEntry, None, None]:
    """Yield the entries below a directory of a commit, as git lists them. The caller may stop early."""
    path_arguments = ["--", way] if way else []
    command = ["git", "-C", str(place.here), "ls-tree", "-r", "-z", "--long", "--full-tree", commit, *path_arguments]
    with tempfile.TemporaryFile() as errors:
        try:
            git = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, env={**os.environ, **_QUIET})
        except FileNotFoundError as err:
            raise _not_installed() from err
        patience = Timer(_GIT_TIMEOUT_S, git.kill)
        patience.start()
        try:
            yield from map(_entry, _parts(git))
            code = git.wait()
        finally:
            patience.cancel()
            git.kill()
            git.communicate()
        if code == -SIGKILL:
            raise SettingsError(f"git could not list {commit[:12]} in {_GIT_TIMEOUT_S} seconds")
        if code != 0:
            errors.seek(0)
            raise _failed(place, code, errors.read())


def _parts(git: "subprocess.Popen[bytes]") -> Iterator[bytes]:
    """Yield the pieces of git's output between NULs."""
    if git.stdout is None:
        raise ValueError("nothing to read from")
    rest = b""
    while chunk := git.stdout.read1(_CHUNK_BYTES):  # type: ignore[attr-defined]
        *parts, rest = (rest + chunk).split(b"\0")
        yield from parts


def _entry(part: bytes) -> _TreeEntry:
    head, _, path = part.decode("utf-8", "surrogateescape").partition("\t")
    mode, _, name, size = head.split()
    return _TreeEntry(mode, name, size, path)


def tree_of(place: TreeLocation, commit: str) -> RevisionTree | None:
    """Return the tree of a commit, or None if it has no such directory. Raises SettingsError."""
    try:
        contents = _tree(place, commit, place.way)
        if contents is None:
            way = _resolve_links(place, commit)
            contents = None if way is None else _tree(place, commit, way)
    except _GitFailed as err:
        raise _why_incomplete(place, commit) from err
    return contents


def _resolve_links(place: TreeLocation, commit: str) -> str | None:
    """Return where the path leads through the symbolic links of a commit; None without links, or if one leaves the
    repository."""
    parts, resolved, links = place.way.rstrip("/").split("/"), "", 0
    while parts:
        path = posixpath.normpath(posixpath.join(resolved, parts.pop(0)))
        if path == ".." or path.startswith(("../", "/")):
            return None
        entry = b"" if path == "." else _git(place, "ls-tree", "-z", "--full-tree", commit, "--", path)
        if not entry.startswith(_LINK.encode()):
            resolved = path
            continue
        links += 1
        if links > _MAX_LINKS:
            return None
        target = _git(place, "cat-file", "blob", entry.split()[2].decode()).decode("utf-8", "surrogateescape")
        parts = [*(["/"] if target.startswith("/") else []), *target.split("/"), *parts]
    return _directory(resolved) if links else None


def _tree(place: TreeLocation, commit: str, way: str) -> RevisionTree | None:
    blobs: dict[str, str] = {}
    links: dict[str, str] = {}
    unreadable: dict[str, Unreadable] = {}
    entry_count, total = 0, 0
    with closing(_entries(place, commit, way)) as entries:
        for entry in entries:
            entry_count += 1
            if entry_count > _MAX_FILES:
                raise _too_many(commit, f"more than {_MAX_FILES:,} files")
            path = entry.path.removeprefix(way)
            if not entry.mode.startswith(_FILE) and entry.mode != _LINK:
                continue  # another repository
            if path.endswith(SUFFIXES) and any(part.startswith(".") for part in path.split("/")):
                continue  # hidden, as on a disk
            if not entry.size.isdecimal():  # `BAD`
                raise _why_incomplete(place, commit)
            if int(entry.size) > MAX_FILE_BYTES:
                unreadable[path] = Unreadable("OPT014", f"is larger than {MAX_FILE_BYTES >> 20} MiB", "split it")
                continue
            total += int(entry.size)
            if total > _MAX_BYTES:
                raise _too_many(commit, f"more than {_MAX_BYTES >> 20:,} MiB")
            (links if entry.mode == _LINK else blobs)[path] = entry.name
    texts = _contents(place, commit, [*blobs.values(), *links.values()])
    files = {path: texts[name] for path, name in blobs.items()}
    targets = {path: texts[name].decode("utf-8", "surrogateescape") for path, name in links.items()}
    contents = dict(files)
    for path in targets:
        end = _link_target(path, targets)
        if end in files:
            contents[path] = files[end]
        else:
            unreadable[path] = _unusable_link(end)
    return RevisionTree(contents, unreadable) if entry_count else None


def _too_many(commit: str, noun: str) -> SettingsError:
    return SettingsError(f"{commit[:12]} has {noun} in the task directory: too much to be compared at once")


def _link_target(path: str, targets: Mapping[str, str]) -> str:
    """Return the target of a link, through further links."""
    for _ in range(_MAX_LINKS):
        if path not in targets:
            break
        path = posixpath.normpath(posixpath.join(posixpath.dirname(path), targets[path]))
    return path


def _unusable_link(target: str) -> Unreadable:
    if target.startswith(("/", "../")) or target == "..":
        return Unreadable("OPT706", ESCAPES, "copy the file into the tree")
    return Unreadable("OPT115", "is a link to something that is not a file of the tree", "copy the file to its place")


def _contents(place: TreeLocation, commit: str, names: list[str]) -> dict[str, bytes]:
    """Return the contents of git objects by their names."""
    data = _git(place, "cat-file", "--batch", data="".join(f"{name}\n" for name in names).encode())
    contents: dict[str, bytes] = {}
    at = 0
    for name in names:
        end = data.index(b"\n", at)
        _, *kind = data[at:end].split()
        if len(kind) != 2:  # `missing`
            raise _why_incomplete(place, commit)
        size = int(kind[1])
        contents[name] = data[end + 1 : end + 1 + size]
        at = end + 1 + size + 1
    return contents
