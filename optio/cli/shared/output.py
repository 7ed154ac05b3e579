"""Output formats (`-o table|wide|json|yaml|name`) and the layout of tables, for every command that lists or shows.

Text from outside is escaped in each of them. A table fits the terminal: free text is cut, columns that can be missed are left
out, and an id is never cut. In a pipe, and with `-o wide`, nothing is left out.
"""

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple
from unicodedata import combining, east_asian_width

from optio.cli.shared.render_run import as_json, safe
from optio.compiler.yaml.emit import dump

TABLE, WIDE, JSON, YAML, NAME = FORMATS = ("table", "wide", "json", "yaml", "name")
_HELP = {TABLE: "table", WIDE: "wide (more columns)", JSON: "json", YAML: "yaml", NAME: "name (ids alone, one a line)"}
_MIN_CELL = 8
_GAP = "  "


class Column(NamedTuple):
    """A column of a table. `cell` is the key of an item, or a function that returns its cell; `right` aligns numbers; `free` is
    text that may be cut; columns with a `drop` are left out of a terminal that is too narrow, the highest number first; `wide`
    ones are for `-o wide`."""

    title: str
    cell: str | Callable[[Any], str] = ""
    right: bool = False
    free: bool = False
    drop: int = 0
    wide: bool = False


def add_arguments(parser: argparse.ArgumentParser, formats: Sequence[str] = FORMATS, default: str = TABLE) -> None:
    """Add `-o` with these formats, and `--json`; the format is in `args.output`."""
    words = [_HELP[format_name] if format_name != default else f"{_HELP[format_name]} (the default)" for format_name in formats]
    text = ", ".join(words[:-1]) + " or " + words[-1]
    # A subparser with `argument_default=SUPPRESS` leaves what stands before its verb as it is.
    default = argparse.SUPPRESS if parser.argument_default is argparse.SUPPRESS else default
    parser.add_argument("-o", "--output", metavar="FORMAT", choices=formats, default=default, help=text)
    parser.add_argument("--json", dest="output", action="store_const", const=JSON, default=argparse.SUPPRESS, help="-o json")


def is_document(args: argparse.Namespace) -> bool:
    """Return whether the output is for programs: JSON or YAML."""
    return args.output in (JSON, YAML)


def document(output: str, value: Any) -> str:
    """Return a value of JSON types as JSON or YAML, without a line break at the end."""
    if output != YAML:
        return as_json(value)

    text = dump(value).rstrip("\n")
    return safe(text) if sys.stdout.isatty() else text


def show(output: str, value: Any, text: Callable[[], str], names: Iterable[str] = ()) -> None:
    """Print a value in the format asked for: a document, the names of its parts, or the text for people."""
    if output == NAME:
        for name in names:
            print(safe(name))
    else:
        print(document(output, value) if output in (JSON, YAML) else text())


def table(
    columns: Sequence[Column | str], rows: Sequence[Sequence[str]], *, wide: bool = False, width: int | None = None
) -> str:
    """Return rows in columns, as wide as their longest cell, or less to fit `width` (by default the terminal's)."""
    specs = [column if isinstance(column, Column) else Column(column) for column in columns]
    indexes = [i for i, column in enumerate(specs) if wide or not column.wide]
    cells = [[column.title for column in specs], *[[_one_line(cell) for cell in row] for row in rows]]
    widths = [max(_length(row[i]) for row in cells) for i in range(len(specs))]
    room = terminal_width() if width is None else width
    if room is not None and not wide:
        indexes = _fit(specs, indexes, widths, room)
    return "\n".join(
        _GAP.join(_pad(_cut(row[i], widths[i]), widths[i], right=specs[i].right) for i in indexes).rstrip() for row in cells
    )


def listing(columns: Sequence[Column], page: Mapping[str, Any], empty: str, *, wide: bool = False) -> str:
    """Return the items of a page as a table, with the flag that continues it; `empty` is the text for no items."""
    if not page["items"]:
        return empty
    continuation = [f"more: --cursor {page['next']}"] if page.get("next") else []
    return "\n".join([table(columns, rows_of(columns, page["items"]), wide=wide), *continuation])


def rows_of(columns: Sequence[Column], items: Iterable[Any]) -> list[list[str]]:
    """Return the cells of items, a row each."""
    return [[compact(item[c.cell]) if isinstance(c.cell, str) else c.cell(item) for c in columns] for item in items]


def terminal_width() -> int | None:
    """Return the width of the terminal that standard output is, or None for a pipe or a file."""
    if not sys.stdout.isatty():
        return None
    import shutil

    return shutil.get_terminal_size().columns


def _fit(specs: Sequence[Column], indexes: list[int], widths: list[int], room: int) -> list[int]:
    """Narrow `widths` of free text, the widest first, until the columns fit; then leave columns out. Return those that stay."""
    while True:
        excess = sum(widths[i] for i in indexes) + len(_GAP) * (len(indexes) - 1) - room
        free = [i for i in indexes if specs[i].free and widths[i] > max(_MIN_CELL, len(specs[i].title))]
        if excess > 0 and free:
            widest = max(free, key=lambda i: widths[i])
            widths[widest] -= 1
        elif excess > 0 and any(specs[i].drop for i in indexes):
            indexes = [i for i in indexes if i != max(indexes, key=lambda i: specs[i].drop)]
        else:
            return indexes


def _one_line(text: str) -> str:
    return re.sub(r"[\t\n]+", " ", safe(text))


def _length(text: str) -> int:
    """Return the number of terminal cells that a text takes."""
    if text.isascii():
        return len(text)

    return sum(0 if combining(c) else 2 if east_asian_width(c) in "WF" else 1 for c in text)


def _cut(text: str, width: int) -> str:
    if _length(text) <= width:
        return text
    while _length(text) > width - 1:
        text = text[:-1]
    return text + "…"


def _pad(text: str, width: int, *, right: bool) -> str:
    space = " " * (width - _length(text))
    return space + text if right else text + space


def compact(value: Any) -> str:
    """Return a value as a cell: nothing for None, a list with commas, other values as JSON."""
    if value is None:
        return ""
    if isinstance(value, list):
        return ", ".join(map(compact, value))
    return value if isinstance(value, str) else json.dumps(value)


def seconds_cell(milliseconds: int | None) -> str:
    """Return a duration as `1.5 s`."""
    return "" if milliseconds is None else f"{milliseconds / 1000:.1f} s"


def time_cell(text: str | None) -> str:
    """Return a time of the API as `2026-01-05 08:00:00`."""
    return "" if text is None else text[:19].replace("T", " ")
