"""Good task files in five languages, by which no rule was made: they have no finding but information."""

import re

from optio.compiler.diagnostics import Severity
from optio.compiler.pipeline import compile_tree
from optio.compiler.source_tree import MemoryTree
from tests.corpus.corpus import HERE


def good_files() -> dict[str, bytes]:
    """Every task of `good/*.txt`, where a line `=== PATH` begins a file."""
    files = {}
    for book in sorted((HERE / "good").glob("*.txt")):
        parts = re.split(r"(?m)^=== (.+)\n", book.read_text(encoding="utf-8"))
        files |= {f"{book.stem}/{path}": text.encode() for path, text in zip(parts[1::2], parts[2::2], strict=True)}
    return files


def test_good_files_have_no_error_and_no_warning() -> None:
    compilation = compile_tree(MemoryTree(good_files()))

    assert [f"{d.path}: {d.code} {d.message}" for d in compilation.diagnostics if d.severity is not Severity.INFO] == []
    assert len(compilation.registry.tasks) == 100
