"""Check many files: take the valid entries from the cache, compile the rest in forks, and write the cache back."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import NamedTuple

from optio.check_cache.cache_file import CacheDirectory
from optio.check_cache.cache_key import cache_key
from optio.check_cache.entries import CachedChecker, CacheEntry
from optio.check_cache.file_stamps import FileStamps
from optio.check_cache.options import CheckOptions
from optio.check_cache.process_pool import map_in_forks
from optio.compiler.pipeline import FileResult
from optio.compiler.source_tree import SourceTree


class CheckedFiles(NamedTuple):
    """The verdicts in the order of the paths, the severities set by the policy, and the reason why nothing was cached, if
    so."""

    verdicts: list[FileResult]
    levels: Mapping[str, str]
    unkept: str | None


def check_changed(
    root: Path, tree: SourceTree, paths: Sequence[str], how: CheckOptions, *, whole: bool, typed: AbstractSet[str]
) -> CheckedFiles:
    """Return the verdicts on these paths. If they are the `whole` tree, entries of files that are gone are dropped from the
    cache; otherwise entries of other files stay. Nothing computed from a `typed` (unsaved) file is written."""
    store = _open_cache(how)
    maker = CachedChecker(tree, FileStamps(root, without=typed), pedantic=how.pedantic, executor=how.executor)
    before = store.load(root) if store is not None else {}
    now = {path: kept for path in paths if (kept := before.get(path)) is not None and maker.holds(path, kept)}
    open_questions = [path for path in paths if path not in now]

    def answered(share: Sequence[str]) -> dict[str, CacheEntry]:
        return {path: (path in before and maker.renewed(path, before[path])) or maker.make(path) for path in share}

    for part in map_in_forks(open_questions, how.jobs_for(len(open_questions)), answered):
        now |= part
    unkept = None if store is not None or how.place is None else "the versions of the installed libraries are unknown"
    stays = now if not typed else {path: each for path, each in now.items() if not each.is_of(typed)}
    if store is not None and (not stays.keys().isdisjoint(open_questions) or (whole and not typed and len(before) > len(now))):
        unkept = store.save(root, stays if whole and not typed else before | stays)
    return CheckedFiles([now[path].verdict(path) for path in paths], maker.levels, unkept)


def _open_cache(how: CheckOptions) -> CacheDirectory | None:
    made = cache_key() if how.place is not None else None
    if how.place is None or made is None:
        return None
    return CacheDirectory(how.place, made + (b" pedantic" if how.pedantic else b"") + f" {how.executor}".encode())
