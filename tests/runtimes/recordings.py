"""Recordings of agent CLIs, and what a reader must make of one."""

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TypeVar

from optio.model.money import ZERO_USD, RunBudget
from optio.model.registry import CompiledTask
from optio.model.run import Outcome
from optio.runs.runtime_guard import GuardedReader
from optio.runs.spending_limits import SpendingLimits
from optio.runtimes import RUNTIMES
from optio.runtimes.base import OutputReader, ProcessEnd

NOW = datetime(2026, 1, 1, tzinfo=UTC)
R = TypeVar("R", bound=OutputReader)
# Exit code; reason, again and the beginning of the outcome's words; fresh, cached and output tokens; turns and tool calls.
Row = tuple[int, str, bool, str, int, int, int, int | None, int]


def recorded(directory: Path, name: str) -> list[tuple[str, bytes]]:
    """The lines of its files, for agents that have such, then those that it printed, each with its stream."""
    files = {"side": f"{name}.side.ndjson", "telemetry": f"{name}.telemetry.json", "stdout": f"{name}.ndjson"}
    found = {stream: directory / file for stream, file in files.items() if stream == "stdout" or (directory / file).exists()}
    return [(stream, line) for stream, path in found.items() for line in path.read_bytes().splitlines()]


def names(directory: Path) -> set[str]:
    return {path.stem for path in directory.glob("*.ndjson") if not path.stem.endswith(".side")}


def feed(reader: R, lines: list[tuple[str, bytes]]) -> R:
    for stream, line in lines:
        reader.line(stream, line, NOW)
    return reader


def guarded(task: CompiledTask, lines: list[tuple[str, bytes]]) -> GuardedReader:
    """A reader as a run has it, after these lines."""
    return feed(GuardedReader(RUNTIMES[task.spec.agent_runtime], task), lines)


def limits(task: CompiledTask, spent: Decimal = ZERO_USD) -> SpendingLimits:
    """What a run of the task is held to."""
    return SpendingLimits(task, RunBudget.of(task.spec, spent))


def stopped(task: CompiledTask, lines: list[tuple[str, bytes]], spent: Decimal = ZERO_USD) -> Outcome | None:
    """How a run is stopped after these lines."""
    return limits(task, spent).stop_reason(guarded(task, lines))


def assert_told(reader: OutputReader, row: Row) -> None:
    code, reason, again, words, fresh, cached, output, turns, tools = row
    found = reader.outcome(ProcessEnd(code=code, signal=None))

    assert (found.ok, found.reason, found.again) == (reason == "ok", reason, again)
    assert ((found.text if found.ok else found.message) or "").startswith(words)
    usage = reader.meter.usage
    assert (usage.fresh, usage.cached, usage.cache_write, usage.output) == (fresh, cached, 0, output)
    assert (reader.meter.turns, reader.meter.tool_calls) == (turns, tools)
