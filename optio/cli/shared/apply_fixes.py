"""What `optio check --fix` writes, and what `--diff` prints instead."""

import difflib
import io
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path


def diff_fixes(root: Path, judged: Mapping[str, bytes], files: Mapping[str, bytes]) -> Iterator[str]:
    """A patch, as `git apply` takes it."""
    for path, after in sorted(files.items()):
        name = os.path.relpath(root / path)
        # Git ends a line at LF and nowhere else.
        before, now = (io.StringIO(data.decode("utf-8"), newline="\n").readlines() for data in (judged[path], after))
        for line in difflib.unified_diff(before, now, _quoted(f"a/{name}"), _quoted(f"b/{name}")):
            yield line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"


def _quoted(name: str) -> str:
    """A name with a tab or a line end, as git writes it."""
    if name.isprintable():
        return name
    return '"' + "".join(chr(b) if 32 <= b < 127 and b not in b'"\\' else f"\\{b:03o}" for b in os.fsencode(name)) + '"'


def write_fixes(root: Path, files: Mapping[str, bytes], judged: Mapping[str, bytes] | None = None) -> list[str]:
    """Each file is replaced as a whole, or left as it is; links stay links, and who may read it stays. What is no longer as it
    was `judged` is left, and told."""
    left = []
    for path, data in files.items():
        real = os.path.realpath(root / path)
        now = None if judged is None else _content(real)
        if judged is not None and now != judged[path]:
            left += [path] if now != data else []  # somebody else may have mended it alike
            continue
        descriptor, temporary = tempfile.mkstemp(dir=os.path.dirname(real), prefix=".optio-")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
            os.chmod(temporary, os.stat(real).st_mode & 0o7777)
            os.replace(temporary, real)
        except BaseException:
            os.unlink(temporary)
            raise
    return left


def _content(path: str) -> bytes | None:
    try:
        return Path(path).read_bytes()
    except OSError:
        return None
