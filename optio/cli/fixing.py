"""What `optio check --fix` writes, and what `--diff` prints instead."""

import difflib
import io
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from optio.compiler.tree import SourceTree


def differences(root: Path, tree: SourceTree, files: Mapping[str, bytes]) -> Iterator[str]:
    """A patch, as `git apply` takes it."""
    for path, after in sorted(files.items()):
        name = os.path.relpath(root / path)
        # Git ends a line at LF and nowhere else.
        before, now = (io.StringIO(data.decode("utf-8"), newline="\n").readlines() for data in (tree.read(path), after))
        for line in difflib.unified_diff(before, now, _quoted(f"a/{name}"), _quoted(f"b/{name}")):
            yield line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"


def _quoted(name: str) -> str:
    """A name with a tab or a line end, as git writes it."""
    if name.isprintable():
        return name
    return '"' + "".join(chr(b) if 32 <= b < 127 and b not in b'"\\' else f"\\{b:03o}" for b in os.fsencode(name)) + '"'


def write(root: Path, files: Mapping[str, bytes]) -> None:
    """Each file is replaced as a whole, or left as it is; links stay links, and who may read it stays."""
    for path, data in files.items():
        real = os.path.realpath(root / path)
        descriptor, temporary = tempfile.mkstemp(dir=os.path.dirname(real), prefix=".optio-")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
            os.chmod(temporary, os.stat(real).st_mode & 0o7777)
            os.replace(temporary, real)
        except BaseException:
            os.unlink(temporary)
            raise
