"""`compile_tree` in several processes, for trees with many files: the same compilation, sooner. The server uses it at start."""

from collections.abc import Sequence
from dataclasses import replace

from optio.check_cache.options import CheckOptions
from optio.check_cache.process_pool import map_in_forks
from optio.compiler.layers import Bases
from optio.compiler.pipeline import Compilation, CompiledFile, TreePolicy, assemble, compile_file
from optio.compiler.source_tree import SourceTree

_DEFAULT_OPTIONS = CheckOptions()


def compile_in_parallel(tree: SourceTree, how: CheckOptions = _DEFAULT_OPTIONS) -> Compilation:
    """Compile a tree in as many processes as `options` allow. Never raises for the content of a file."""
    paths = list(tree.task_files())
    bases, policy = Bases(tree), TreePolicy(tree)

    def made(share: Sequence[str]) -> list[CompiledFile]:
        # The resolved task is not needed here, and can be as large as its file.
        return [replace(compile_file(path, tree, bases, policy), task=None) for path in share]

    parts = map_in_forks(paths, how.jobs_for(len(paths)), made)
    files = {file.path: file for part in parts for file in part}
    return assemble((files[path] for path in paths), levels=policy.levels)
