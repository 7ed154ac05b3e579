"""The corpus: clean task files as people write them, and mistakes as changes to them.

A mistake in `mistakes/*.txt` reads like a patch:

    ## OPT101 a misspelt limit
    @ reports/weekly-security.yaml
    -maxTurns: 20
    +⟦maxTurn⟧: 20

`-` and blank lines stand in the file, once; `+` lines take the place of the `-` lines. `~` begins another change to the same
file, and `@` another file; a change of `+` lines alone goes to the end of a file, or makes a new one. The brackets are where
the one finding must be; they are taken out. `<U+0007>` is that character, `<0xE9>` that byte.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from optio.compiler.source import Position

HERE = Path(__file__).parent
CLEAN = HERE / "clean"
_SPECIAL = re.compile(r"<(?:U\+([0-9A-F]{4,6})|0x([0-9A-F]{2}))>")


@dataclass(frozen=True)
class Mistake:
    """A change to clean files, the one finding that must come of it, and where."""

    code: str
    name: str
    files: Mapping[str, bytes]
    changed: tuple[str, ...]
    path: str
    start: Position
    end: Position | None


@dataclass
class _Entry:
    code: str
    name: str
    hunks: list[tuple[str, list[str]]] = field(default_factory=list)


def clean_files() -> dict[str, bytes]:
    """Every file of the clean tree."""
    return {p.relative_to(CLEAN).as_posix(): p.read_bytes() for p in sorted(CLEAN.rglob("*")) if p.is_file()}


def companions(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """What tasks are made from but is no task: prompts, samples, defaults and templates."""
    return {
        path: data
        for path, data in files.items()
        if not path.endswith((".yaml", ".yml"))
        or path.endswith("_defaults.yaml")
        or path.startswith("connections/")
        or b"\ntype: template" in b"\n" + data
    }


def mistakes() -> Iterator[Mistake]:
    """All of `mistakes/`, in the order of the files."""
    clean = clean_files()
    shared = companions(clean)
    for source in sorted((HERE / "mistakes").glob("*.txt")):
        for entry in _entries(source.read_text(encoding="utf-8")):
            yield _made(entry, clean, shared)


def _entries(text: str) -> Iterator[_Entry]:
    entry: _Entry | None = None
    for number, line in enumerate(text.split("\n"), 1):
        if line.startswith("## "):
            if entry is not None:
                yield entry
            code, _, name = line[3:].partition(" ")
            entry = _Entry(code, name)
        elif not line or line.startswith("# "):
            continue
        elif entry is None:
            raise ValueError(f"line {number}: no mistake has begun")
        elif line.startswith("@ "):
            entry.hunks.append((line[2:], []))
        elif line == "~":
            entry.hunks.append((entry.hunks[-1][0], []))
        elif line[0] in "-+ ":
            entry.hunks[-1][1].append(line)
        else:
            raise ValueError(f"line {number}: {line!r}")
    if entry is not None:
        yield entry


def _made(entry: _Entry, clean: Mapping[str, bytes], shared: Mapping[str, bytes]) -> Mistake:
    texts: dict[str, str] = {}
    for path, lines in entry.hunks:
        if path not in texts:
            texts[path] = clean.get(path, b"").decode().replace("\r\n", "\n")
        texts[path] = _changed(texts[path], lines, f"{entry.code} {entry.name}")
    marked = [path for path, text in texts.items() if "⟦" in text]
    if len(marked) != 1:
        raise ValueError(f"{entry.code} {entry.name}: {len(marked)} places are marked")
    start = _position(texts[marked[0]], "⟦")
    end = _position(texts[marked[0]].replace("⟦", ""), "⟧")
    files = dict(shared)
    for path, text in texts.items():
        text = text.replace("⟦", "").replace("⟧", "")
        if b"\r\n" in clean.get(path, b""):
            text = text.replace("\n", "\r\n")
        files[path] = text.encode("utf-8", "surrogateescape")
    if start is None:
        raise ValueError(f"{entry.code} {entry.name}: no place is marked")
    return Mistake(entry.code, entry.name, files, tuple(texts), marked[0], start, end)


def _changed(text: str, lines: list[str], name: str) -> str:
    old = [line[1:] for line in lines if line[0] in "- "]
    new = [_SPECIAL.sub(_character, line[1:]) for line in lines if line[0] in "+ "]
    if not old:
        return text + "".join(line + "\n" for line in new)
    before = "\n" + text
    wanted = "\n" + "".join(line + "\n" for line in old)
    if before.count(wanted) != 1:
        raise ValueError(f"{name}: its lines stand {before.count(wanted)} times in the file")
    return before.replace(wanted, "\n" + "".join(line + "\n" for line in new))[1:]


def _character(found: re.Match[str]) -> str:
    if found[1]:
        return chr(int(found[1], 16))
    return bytes([int(found[2], 16)]).decode("utf-8", "surrogateescape")


def _position(text: str, mark: str) -> Position | None:
    """Line and column of a mark, as an editor counts them."""
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), 1):
        if mark in line:
            return Position(number, line.index(mark) + 1)
    return None
