"""Cache entries: the verdict on one file together with every file it was computed from. The entry is valid as long as all of
them have the same content, which their file stamps usually prove without reading them."""

from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from hashlib import sha256
from typing import Any, NamedTuple

import msgspec

from optio.check_cache.file_stamps import FileStamps
from optio.compiler.diagnostics import Diagnostic
from optio.compiler.facts import TaskFacts
from optio.compiler.ignores import IgnoreComment
from optio.compiler.incremental import Stamp
from optio.compiler.layers import POLICY, Bases
from optio.compiler.pipeline import FileResult, TreePolicy, compile_file
from optio.compiler.source_tree import SourceTree, Unreadable

# Bytes of shared files (templates, defaults, prompts) kept in memory; beyond that they are read again for each task.
_MAX_SHARED_BYTES = 16 << 20


class FileRead(NamedTuple):
    """A file as it was read: the digest of its bytes, or the reason it could not be read. `sign` is its file stamp, or None
    when the stamp cannot be relied on (see `file_stamps`)."""

    path: str
    held: bytes
    sign: Stamp | None


class CacheEntry(NamedTuple):
    """A cached verdict. `reads` are the files it was computed from; `around` are the directory defaults and the policy, which
    apply to the file without being named in it."""

    claim: TaskFacts | None
    diagnostics: list[Diagnostic]
    ignores: tuple[IgnoreComment, ...]
    around: tuple[str, ...]
    reads: tuple[FileRead, ...]

    def is_of(self, paths: AbstractSet[str]) -> bool:
        """Return whether the verdict was computed from one of these paths."""
        return not paths.isdisjoint(self.around) or any(read.path in paths for read in self.reads)

    def verdict(self, path: str) -> FileResult:
        """Return the entry in the form that `pipeline.judge` takes."""
        return FileResult(path, self.diagnostics, self.claim, self.ignores)


class CachedChecker:
    """Compiles the files of one tree into entries, and decides which existing entries are still valid. Reads shared files
    once."""

    def __init__(self, tree: SourceTree, signs: FileStamps, *, pedantic: bool, executor: str | None = None) -> None:
        self._source = _RecordingTree(tree, signs)
        self._signs = signs
        self._pedantic, self._executor = pedantic, executor
        self._bases, self._policy = Bases(self._source), TreePolicy(self._source)
        self._around: dict[str, tuple[str, ...]] = {}

    @property
    def levels(self) -> Mapping[str, str]:
        """The severities that the policy sets, by rule code."""
        return self._policy.levels

    def make(self, path: str) -> CacheEntry:
        """Compile one file from its content, recording everything that it reads."""
        holding = self._holding(path)
        self._source.begin(path)
        file = compile_file(path, self._source, self._bases, self._policy, pedantic=self._pedantic, executor=self._executor)
        return CacheEntry(file.facts, file.diagnostics, file.comments, holding, tuple(self._source.seen.values()))

    def holds(self, path: str, kept: CacheEntry) -> bool:
        """Return whether file stamps alone prove the entry valid; False means that its contents must be compared."""
        if kept.around != self._holding(path):
            return False
        return all(read.sign is not None and read.sign == self._signs.of(read.path) for read in kept.reads)

    def renewed(self, path: str, kept: CacheEntry) -> CacheEntry | None:
        """Return the entry with today's stamps if every file still has the same content, else None: the file must be compiled
        again."""
        if kept.around != self._holding(path):
            return None
        self._source.begin(path)
        reads = tuple(self._source.held(read.path) for read in kept.reads)
        same = all(now.held == then.held for now, then in zip(reads, kept.reads, strict=True))
        return kept._replace(reads=reads) if same else None

    def _holding(self, path: str) -> tuple[str, ...]:
        directory = path.rpartition("/")[0]
        known = self._around.get(directory)
        if known is None:
            policy = (POLICY,) if self._policy.there else ()
            known = self._around[directory] = (*self._bases.defaults(path), *policy)
        return known


class _RecordingTree:
    """A source tree that records what each file is compiled from. Files that several tasks share are read once, so all of them
    see the same content."""

    def __init__(self, tree: SourceTree, signs: FileStamps) -> None:
        self._tree, self._signs = tree, signs
        self.seen: dict[str, FileRead] = {}
        self._own = ""
        self._shared: dict[str, tuple[bytes | Unreadable, FileRead]] = {}
        self._size = 0

    def begin(self, path: str) -> None:
        """Start recording for this file; reads before the next call count as its sources."""
        self._own, self.seen = path, {}

    def task_files(self) -> Iterator[str]:
        return self._tree.task_files()

    def read(self, path: str) -> bytes:
        data, self.seen[path] = self._look(path)
        if isinstance(data, Unreadable):
            raise data
        return data

    def held(self, path: str) -> FileRead:
        return self._look(path)[1]

    def _look(self, path: str) -> tuple[bytes | Unreadable, FileRead]:
        known = self._shared.get(path)
        if known is not None:
            return known
        # The stamp comes first: a change after it leads to another stamp.
        sign = self._signs.of(path)
        data: bytes | Unreadable
        try:
            data = self._tree.read(path)
        except Unreadable as err:
            data, read = (
                err.with_traceback(None),
                FileRead(path, f"unreadable: {err.code} {err.message}".encode("utf-8", "replace"), None),
            )
        else:
            read = FileRead(path, sha256(data).digest(), sign)
        size = len(data) if isinstance(data, bytes) else 0
        if path != self._own and self._size + size <= _MAX_SHARED_BYTES:
            self._size += size
            self._shared[path] = data, read
        return data, read


def pack_entries(kept: Mapping[str, CacheEntry]) -> bytes:
    """Encode entries for the disk, without those that hold text that is not valid Unicode, such as an odd file name."""
    encoder = msgspec.msgpack.Encoder(enc_hook=_pack_range)

    def is_encodable(item: tuple[str, CacheEntry]) -> bool:
        try:
            return bool(encoder.encode(item))
        except UnicodeEncodeError:
            return False

    try:
        return encoder.encode(kept)
    except UnicodeEncodeError:
        return encoder.encode(dict(filter(is_encodable, kept.items())))


def unpack_entries(data: bytes) -> dict[str, CacheEntry]:
    """Decode what `pack_entries` wrote; raises ValueError for anything else."""
    try:
        return _DECODER.decode(data)
    except msgspec.DecodeError as err:
        raise ValueError(str(err)) from err


def _pack_range(value: Any) -> Any:
    if isinstance(value, range):
        return value.start, value.stop
    raise NotImplementedError


def _unpack_range(kind: type, value: Any) -> Any:
    if kind is range:
        start, stop = value
        return range(int(start), int(stop))
    raise NotImplementedError


_DECODER = msgspec.msgpack.Decoder(dict[str, CacheEntry], dec_hook=_unpack_range)
