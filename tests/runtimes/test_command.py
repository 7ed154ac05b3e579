"""The command runtime: exit codes, the result file, and which of the two is believed."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optio.model.result_file import MAX_WARNINGS
from optio.model.run import Outcome
from optio.model.usage import CostSource, Usage
from optio.runtimes.base import AttemptContext, ProcessEnd
from optio.runtimes.command import Command, CommandReader
from tests.runtimes.recordings import guarded, limits, stopped
from tests.support import command_task

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def reader(*entries: Any, task: Any = None) -> CommandReader:
    """A reader that has seen these lines of the result file."""
    made = Command().reader(task or command_task("true"))
    for entry in entries:
        made.line("result", entry if isinstance(entry, bytes) else json.dumps(entry).encode(), NOW)
    return made


def ended(*entries: Any, code: int | None = 0, signal: int | None = None, **fields: Any) -> Outcome:
    return reader(*entries).outcome(ProcessEnd(code=code, signal=signal, **fields))


@pytest.mark.parametrize(
    ("code", "signal", "reason", "again"),
    [
        (75, None, "temporary", True),
        (77, None, "auth", False),
        (64, None, "config", False),
        (78, None, "config", False),
        (126, None, "not_executable", False),
        (127, None, "command_not_found", False),
        (137, None, "signal", True),
        (143, None, "signal", True),
        (None, 9, "signal", True),
        (None, 11, "signal", True),
        (1, None, "exit_code", True),
        (42, None, "exit_code", True),
        (255, None, "exit_code", True),
    ],
)
def test_each_exit_code_has_its_reason(code: int | None, signal: int | None, reason: str, again: bool) -> None:
    found = ended(code=code, signal=signal)

    assert (found.ok, found.reason, found.again) == (False, reason, again)


def test_a_failed_program_is_explained_by_the_last_line_of_its_standard_error() -> None:
    made = reader()
    for line in (b"trying", b"curl: (22) The requested URL returned error: 403", b""):
        made.line("stderr", line, NOW)

    assert (
        made.outcome(ProcessEnd(code=22, signal=None)).message
        == "exit code 22: curl: (22) The requested URL returned error: 403"
    )
    made.line("result", json.dumps(error(text="the forge refused the comment")).encode(), NOW)
    assert made.outcome(ProcessEnd(code=22, signal=None)).message == "exit code 22: the forge refused the comment"


OK = {"type": "result", "status": "ok", "text": "fine"}


def error(**fields: Any) -> dict[str, Any]:
    return {"type": "result", "status": "error", **fields}


@pytest.mark.parametrize(
    ("entry", "code", "expected"),
    [
        (OK, 0, (True, "ok", False)),
        (OK, 3, (False, "exit_code", True)),
        (OK, 77, (False, "auth", False)),
        (error(), 0, (False, "failed", True)),
        (error(reason="rate_limit", retryable=True), 0, (False, "rate_limit", True)),
        (error(reason="auth"), 0, (False, "auth", False)),
        (error(reason="auth", retryable=True), 0, (False, "auth", True)),
        (error(reason="mine", retryable=False), 3, (False, "mine", False)),
        (error(reason="mine"), 3, (False, "mine", True)),
        (error(reason="rate_limit", retryable=False), 75, (False, "rate_limit", True)),
        (error(reason="mine", retryable=True), 77, (False, "auth", False)),
        (error(reason="mine", retryable=True), 127, (False, "command_not_found", False)),
        (error(reason="No Word!"), 0, (False, "failed", True)),
        (error(reason=7, retryable="no"), 0, (False, "failed", True)),
    ],
)
def test_of_the_exit_code_and_the_file_the_worse_one_wins(entry: Any, code: int, expected: tuple[bool, str, bool]) -> None:
    found = ended(entry, code=code)

    assert (found.ok, found.reason, found.again) == expected


def test_the_last_valid_result_counts() -> None:
    first, last = {**OK, "text": "first"}, {**OK, "text": "last"}

    assert ended(first, last, {"type": "result", "status": "maybe"}, b'{"type": "res').text == "last"


@pytest.mark.parametrize(("wait", "seconds"), [(30, 30.0), (1.5, 1.5), (-1, 0.0), (1e9, 0.0), ("30", 0.0), (True, 0.0)])
def test_a_pause_is_believed_when_it_is_a_sane_number(wait: Any, seconds: float) -> None:
    assert ended(error(reason="rate_limit", retryAfterS=wait)).not_before_s == seconds


def usage(**fields: Any) -> dict[str, Any]:
    return {"type": "usage", "model": "m", **fields}


def line(entry: dict[str, Any]) -> tuple[str, bytes]:
    return "result", json.dumps(entry).encode()


def test_usage_is_cumulative_and_the_last_line_of_each_model_counts() -> None:
    meter = reader(
        usage(input=10, output=1, costUsd="0.0100"),
        usage(input=20, output=2, costUsd="0.0250"),
        usage(model="n", input=5, cached=1, cacheWrite=2, output=3, reasoning=1, costUsd="0.1"),
        {"type": "turn"},
        {"type": "turn"},
    ).meter

    assert meter.usage == Usage(fresh=25, cached=1, cache_write=2, output=5, reasoning=1)
    assert (meter.cost, meter.cost_source, meter.turns) == (Decimal("0.1250"), CostSource.CLI, 2)


@pytest.mark.parametrize(
    ("cost", "counted"),
    [
        (1.5, "1.5"),
        (2, "2"),
        ("1.50", "1.5"),
        (0.0123456, "0.012346"),
        ("0.00000001", "0.000001"),
        (1e-9, "0.000001"),
        (0, "0"),
    ],
)
def test_a_cost_is_text_or_a_number_and_is_never_counted_for_less(cost: Any, counted: str) -> None:
    assert reader(usage(costUsd=cost)).meter.cost == Decimal(counted)


def test_a_key_of_usage_that_nobody_reads_is_named_on_one_line_and_the_rest_counts() -> None:
    made = reader()

    (said,) = made.line("result", json.dumps(usage(input=3, **{"\x1b[2J\nforged": 1})).encode(), NOW)

    assert said.data.startswith(b'result file: usage: "\\u001b[2J\\nforged" is ignored, its keys are model, input, ')
    assert made.meter.usage == Usage(fresh=3)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (error(costUsd=1.5), "the cost in a result is not counted: report it in a line of the type `usage`"),
        (
            {"type": "result", "status": "failed"},
            'a result with the status "failed" was ignored: it is `ok`, `error` or `no_work`',
        ),
    ],
)
def test_a_result_says_which_part_of_it_does_not_count(line: Any, said: str) -> None:
    made = reader()

    (told,) = made.line("result", json.dumps(line).encode(), NOW)

    assert told.data.decode() == f"result file: {said}"
    assert made.meter.cost is None


def test_usage_without_a_cost_is_priced_where_the_model_is_known() -> None:
    known = reader(usage(model="claude-sonnet-4-5", input=1_000_000)).meter
    unknown = reader(usage(input=1_000_000)).meter

    assert (known.cost, known.cost_source) == (Decimal(3), CostSource.PRICES)
    assert (unknown.cost, unknown.cost_source) == (None, None)


@pytest.mark.parametrize(
    "line",
    [
        usage(input=-1), usage(input=1.0), usage(input="1"), usage(input=True), usage(input=10**12), usage(input=9),
        usage(input=None), usage(model=7), usage(model="x" * 300), usage(input=11, costUsd="-1"), usage(input=11, costUsd=-1),
        usage(input=11, costUsd="NaN"), usage(input=11, costUsd="Infinity"), usage(input=11, costUsd=True),
        usage(input=10, cost=1),
        usage(input=11, costUsd="0.01"), usage(input=11, costUsd="1e30"), b'{"type": "usage", "input": NaN}', b"no json", b"[]",
        b"null", b'{"type": "of tomorrow"}', b'"turn"', b"\xff", b"[" * 50_000, b'{"type": "turn"' + b" " * (1 << 20) + b"}",
    ],
)  # fmt: skip
def test_lines_that_cannot_be_believed_are_said_and_change_nothing(line: Any) -> None:
    made = reader(usage(input=10, costUsd="0.02"))
    before = made.meter

    said = made.line("result", line if isinstance(line, bytes) else json.dumps(line).encode(), NOW)

    assert made.meter == before
    assert [each.data.startswith(b"result file: ") for each in said] == [True]


def test_warnings_end_and_are_counted() -> None:
    made = Command().reader(command_task("true"))

    said = [line for _ in range(5000) for line in made.line("result", b"x", NOW)]

    assert len(said) == MAX_WARNINGS
    assert b"more lines were ignored" in made.closing(NOW)[0].data


def test_standard_output_is_never_believed() -> None:
    made = Command().reader(command_task("true"))

    made.line("stdout", json.dumps(error(reason="forged")).encode(), NOW)
    found = made.outcome(ProcessEnd(code=0, signal=None))

    assert (found.ok, found.text) == (True, json.dumps(error(reason="forged")))


@pytest.mark.parametrize(
    ("how", "reason", "again"),
    [
        ({"code": 4, "phase": "setup"}, "setup", True),
        ({"code": 127, "error": "ENOENT"}, "command_not_found", False),
        ({"code": 126, "error": "EACCES"}, "not_executable", False),
        ({"code": 126, "error": "E2BIG"}, "environment", False),
    ],
)
def test_what_went_wrong_before_the_program_is_told_apart(how: dict[str, Any], reason: str, again: bool) -> None:
    found = ended(OK, **how)

    assert (found.ok, found.reason, found.again) == (False, reason, again)


def test_a_limit_that_something_was_reported_for_is_not_complained_about() -> None:
    task = command_task("true", extra='budgetUsd: "1.00"\nmaxTurns: 3\n')

    silent, speaks = guarded(task, []), guarded(task, [line(usage(costUsd="0.1")), line({"type": "turn"})])

    assert (len(limits(task).unenforced(silent)), limits(task).unenforced(speaks)) == (2, [])


def test_a_program_with_a_budget_is_stopped_at_the_first_usage_that_nobody_can_price() -> None:
    task = command_task("true", extra='budgetUsd: "1.00"\n')
    priced, unpriced = line(usage(model="a", costUsd="0.1")), line(usage(model="our-own", input=1))
    cases = ([priced], [priced, unpriced], [line({"type": "turn"})], [line(usage(model="gpt-5", input=9))])

    assert [getattr(stopped(task, lines), "reason", None) for lines in cases] == [None, "unpriced", None, None]
    found = stopped(task, cases[1])
    assert found is not None
    assert found.message.endswith("`our-own`")


def test_what_earlier_attempts_have_spent_counts() -> None:
    task = command_task("true", extra='budgetUsd: "2.00"\n')

    for cost, reason in (("0.5000", None), ("0.5001", "budget")):
        stop = stopped(task, [line(usage(costUsd=cost))], Decimal("1.50"))
        assert (stop.reason if stop else None) == reason
    assert stop is not None
    assert stop.message == "stopped at $2.0001 of $2.00"


def test_limits_are_told_to_the_program() -> None:
    task = command_task(["prog", "--x"], extra='budgetUsd: "1.50"\nmaxTurns: 3\n')

    call = Command().invoke(task, "the prompt", {"A": "ä"}, AttemptContext())

    assert (call.argv, call.stdin) == (("prog", "--x"), b"the prompt")
    assert call.env == {"OPTIO_BUDGET_USD": "1.50", "OPTIO_MAX_TURNS": "3"}
    assert json.loads(call.files[call.file_env["OPTIO_PARAMS_FILE"]]) == {"A": "ä"}
    assert Command().invoke(task, "", {}, AttemptContext(spent=Decimal("1.0125"))).env["OPTIO_BUDGET_USD"] == "0.4875"
    assert Command().invoke(command_task("a | b"), "", {}, AttemptContext()).argv == ("/bin/sh", "-c", "a | b")


@given(st.lists(st.binary(max_size=60)), st.integers(0, 255))
def test_no_bytes_whatsoever_break_the_reader(lines: list[bytes], code: int) -> None:
    made = Command().reader(command_task("true"))

    for n, line in enumerate(lines):
        made.line(("stdout", "stderr", "result")[n % 3], line, NOW)

    assert made.outcome(ProcessEnd(code=code, signal=None)).ok == (code == 0)
    assert made.meter.usage.total >= 0
