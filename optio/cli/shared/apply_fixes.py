"""Write the fixes of `optio check --fix`, or render them as the patch of `--diff`."""

import difflib
import io
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path


def diff_fixes(root: Path, judged: Mapping[str, bytes], files: Mapping[str, bytes]) -> Iterator[str]:
    """Yield the lines of a patch that `git apply` accepts. `judged` are the contents before, `files` after the fixes."""
    for path, after in sorted(files.items()):
        name = os.path.relpath(root / path)
        # Git ends a line at LF and nowhere else.
        before, now = (io.StringIO(data.decode("utf-8"), newline="\n").readlines() for data in (judged[path], after))
        for line in difflib.unified_diff(before, now, _quoted(f"a/{name}"), _quoted(f"b/{name}")):
            yield line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"


def _quoted(name: str) -> str:
    """Quote a name with a tab or line break as git does."""
    if name.isprintable():
        return name
    return '"' + "".join(chr(b) if 32 <= b < 127 and b not in b'"\\' else f"\\{b:03o}" for b in os.fsencode(name)) + '"'


def write_fixes(root: Path, files: Mapping[str, bytes], judged: Mapping[str, bytes] | None = None) -> list[str]:
    """Replace each file atomically; links stay links, permissions stay. Files that are no longer as they were `judged` are left
    alone; returns their paths."""
    unwritten = []
    for path, data in files.items():
        real = os.path.realpath(root / path)
        now = None if judged is None else _content(real)
        if judged is not None and now != judged[path]:
            unwritten += [path] if now != data else []  # someone else may have made the same fix
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
    return unwritten


def _content(path: str) -> bytes | None:
    try:
        return Path(path).read_bytes()
    except OSError:
        return None
