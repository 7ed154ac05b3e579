"""The table of `counterparts.toml`: what the keys of other systems are in a task, or why they have no counterpart. Data without
behaviour; the file says how its rows are written."""

import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

Table = Mapping[str, Any]


@cache
def counterparts() -> Table:
    """Return the whole table, with a row for each key. Read when something is imported."""
    return _split_keys(tomllib.loads(Path(__file__).with_name("counterparts.toml").read_text(encoding="utf-8")))


def _split_keys(table: Table) -> Table:
    rows: dict[str, Any] = {}
    for names, row in table.items():
        for name in names.split(", "):
            rows[name] = _split_keys(row) if isinstance(row, dict) else row
    return rows


def table_at(place: str) -> Table:
    """Return the table of a place, such as `cronjob.spec`; an empty one if there is none."""
    table: Any = counterparts()
    for step in place.split("."):
        table = table.get(step, {}) if isinstance(table, Mapping) else {}
    return table if isinstance(table, Mapping) else {}
