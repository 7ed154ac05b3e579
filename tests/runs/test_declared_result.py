"""Declared results: what counts as the result of a run, and how a run ends whose result is missing or does not fit."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from optio.model.registry import CompiledTask, Origin
from optio.model.result_file import MAX_IGNORED_LINES, Report
from optio.model.run import LogKind, Outcome, RunState
from optio.model.task import TaskSpec
from optio.model.usage import Meter
from optio.runs.declared_result import judge_result
from optio.runs.runtime_guard import GuardedReader
from optio.runtimes import RUNTIMES
from optio.runtimes.base import ProcessEnd
from optio.wiring import Services
from tests.runs.support import execute, log_of, opened
from tests.support import command_task

SCHEMA = {
    "type": "object",
    "required": ["labels"],
    "additionalProperties": False,
    "properties": {"labels": {"type": "array", "items": {"type": "string"}}, "due": {"type": "string", "format": "date"}},
}
LABELS = {"labels": ["bug", "urgent"]}
GOOD = json.dumps(LABELS)
NOW = datetime(2026, 1, 1, tzinfo=UTC)
BUSY = Meter(tool_calls=1)


def task(runtime: str = "codex", **result: Any) -> CompiledTask:
    declared = {"result": {"schema": SCHEMA, **result}} if result.pop("declared", True) else {}
    keys = {"name": "Label", "agentRuntime": runtime, "promptTemplate": "Label it", **declared}
    return CompiledTask(id="label", spec=TaskSpec.of(keys), prompt="Label it", origin=Origin(path="label.yaml", line=1))


def report(**entry: Any) -> Report:
    found = Report.of({"type": "result", "status": "ok", **entry})
    assert found is not None
    return found


def judged(
    text: str | None, said: Report | None = None, *, of: CompiledTask | None = None, output: Any = None, meter: Meter = BUSY
) -> Outcome:
    outcome = Outcome(ok=True, reason="ok", text=text, output=output)
    return judge_result(of or task(), outcome, said, meter, lambda words: words.replace("hunter22", "***"))


@pytest.mark.parametrize(
    "answer",
    [GOOD, f"  \n{GOOD}\n", f"```json\n{GOOD}\n```", f"```\n{GOOD}\n```\n", f"Here it is:\n\n```json\n{GOOD}\n```\nDone."],
)
def test_an_answer_is_the_result_if_it_or_its_only_fenced_block_is_json(answer: str) -> None:
    assert judged(answer) == Outcome(ok=True, reason="ok", text=answer, output=LABELS)


@pytest.mark.parametrize(
    "answer",
    [
        "I have added two labels.",
        f"Here it is: {GOOD}",
        f"```\n{GOOD}\n```\nor\n```\n{GOOD}\n```",
        GOOD[:-1],
        "[" * 100_000,
        '{"labels": NaN}',
        '"\\ud800"',
        "\ud800",
        "```\n" * 100_000,
    ],
)
def test_another_answer_is_invalid_and_stays_to_be_read(answer: str) -> None:
    found = judged(answer)

    assert (found.ok, found.reason, found.again, found.text, found.output) == (False, "result_invalid", True, answer, None)
    assert found.message.startswith("the answer is not JSON. It" if answer[0] not in "[{" else "the answer is n")
    assert len(found.message) < 300


def test_the_words_that_are_quoted_are_masked_before_they_are_cut() -> None:
    words = "x" * 76

    assert judged(f"{words}hunter22").message.endswith(f"It begins with: {words}***")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"labels": ["a", 7]}, "/labels/1 must be a string"),
        ({}, "/labels is missing"),
        ([], "the result must be an object"),
        ({"labels": [], "lables": 1}, "/lables is not in the schema"),
        ({"labels": [], "due": "soon"}, "/due is not a valid date"),
        ({"labels": ["\0"]}, "/labels/0 contains a NUL character"),
        ({"labels": list(range(9))}, "; ".join([f"/labels/{n} must be a string" for n in range(5)]) + "; and so on"),
    ],
)
def test_a_result_that_does_not_fit_says_where(value: Any, message: str) -> None:
    found = judged(json.dumps(value))

    assert (found.reason, found.message) == ("result_invalid", message)


def test_structured_output_counts_before_the_file_and_the_file_before_the_answer() -> None:
    other = {"labels": ["other"]}

    assert judged(GOOD, report(output=other), output=LABELS).output == LABELS
    assert judged(GOOD, report(output=other)).output == other
    assert judged(GOOD, report(text="words alone")).output == LABELS
    assert judged(GOOD, report(output={})).reason == "result_invalid"


def test_what_the_file_says_counts_for_a_task_that_declares_no_result_too() -> None:
    plain = task(declared=False)

    assert judged("Done.", report(output=[1], text="One."), of=plain) == Outcome(ok=True, reason="ok", text="One.", output=[1])
    assert judged(GOOD, of=plain) == Outcome(ok=True, reason="ok", text=GOOD)


@pytest.mark.parametrize("answer", [None, "", " \n"])
def test_an_empty_answer_is_a_missing_result_after_tool_calls_and_unproductive_without_any(answer: str | None) -> None:
    missing, idle = judged(answer), judged(answer, meter=Meter())

    assert (missing.reason, missing.again) == ("result_missing", True)
    assert (idle.reason, idle.again) == ("unproductive", True)
    assert judged(answer, of=task(declared=False)).ok
    assert judged(answer, of=task(declared=False), meter=Meter()).reason == "unproductive"
    assert judged(answer, report(output=LABELS), meter=Meter()).ok


def test_a_result_that_is_not_required_may_be_missing_but_not_wrong() -> None:
    optional = task(required=False)

    assert judged("Nothing to label.", of=optional) == Outcome(ok=True, reason="ok", text="Nothing to label.")
    assert judged("", of=optional).ok
    assert judged("{}", of=optional).reason == "result_invalid"


def test_no_work_ends_a_run_well_without_a_result_if_it_says_why() -> None:
    why = report(status="no_work", text=" No new issues. ")
    expected = Outcome(ok=True, reason="no_work", message="No new issues.", text="No new issues.")

    assert judged("Done.", why) == judged(None, why, meter=Meter()) == expected
    assert judged(GOOD, why, output=LABELS) == judged("Done.", why, of=task(declared=False)) == expected
    assert judged("Done.", why, of=task("command")) == expected
    for silent in (report(status="no_work"), report(status="no_work", text=" "), report(status="no_work", text=5)):
        assert (judged("Done.", silent).reason, judged("Done.", silent).again) == ("result_invalid", True)


def test_an_agent_that_reports_an_error_has_failed_for_its_reason() -> None:
    error = report(status="error", reason="quota", text="The account is empty.", retryAfterS=5)

    found = judged(GOOD, error)

    assert found == Outcome(ok=False, reason="quota", message="The account is empty.", again=False, not_before_s=5.0, text=GOOD)
    assert judged(GOOD, report(status="error", retryable=False)).again is False
    assert (judged(GOOD, report(status="error")).reason, judged(GOOD, report(status="error")).again) == ("failed", True)


def test_a_failure_stays_as_it_is_whatever_the_file_says() -> None:
    failed = Outcome(ok=False, reason="auth", message="wrong key")

    for said in (report(output=LABELS), report(status="no_work", text="x"), report(status="error"), None):
        assert judge_result(task(), failed, said, BUSY, str) == failed


def test_the_output_of_a_program_is_a_log_and_no_result() -> None:
    found = judged(GOOD, of=task("command"))

    assert (found.reason, found.text) == ("result_missing", GOOD)
    assert judged("", of=task("command", declared=False), meter=Meter()).ok


# What a program or an agent writes as a result, whatever it ran.


def read(runtime: str, *lines: bytes, stdout: bytes = b"") -> GuardedReader:
    reader = GuardedReader(RUNTIMES[runtime], task(runtime))
    for line in lines:
        reader.line("result", line, NOW)
    for line in stdout.splitlines():
        reader.line("stdout", line, NOW)
    return reader


def line(**entry: Any) -> bytes:
    return json.dumps({"type": "result", "status": "ok", **entry}).encode()


@pytest.mark.parametrize("runtime", sorted(RUNTIMES))
def test_the_last_valid_line_of_the_file_counts_for_every_runtime(runtime: str) -> None:
    hostile = (b"\xff\xfe", b"{", b"[" * 99_999, b"x" * (1 << 21), b'{"type": "result"}', b'{"type":"result","status":"fine"}')
    reader = read(runtime, line(output=1), *hostile, line(output=LABELS), *hostile, b"", b"null", b"[]")

    assert reader.file.report == report(output=LABELS)
    assert [each.text for each in reader.line("result", b"{", NOW)] == [
        "result file: a line was ignored because it is not JSON"
    ]


@pytest.mark.parametrize("runtime", sorted(RUNTIMES))
def test_a_file_of_noise_is_given_up(runtime: str) -> None:
    reader = read(runtime, *[b"?"] * (MAX_IGNORED_LINES + 5), line(output=LABELS))

    assert reader.file.report is None
    assert "result" in reader.plain
    assert [each.text for each in reader.closing(NOW) if "result file" in each.text] == [
        "result file: 980 more lines were ignored, and all that came after them"
    ]


@pytest.mark.parametrize("runtime", sorted(set(RUNTIMES) - {"command"}))
def test_the_file_cannot_say_that_an_agent_ended_well(runtime: str) -> None:
    ends = (
        {"type": "result", "subtype": "success", "is_error": False, "num_turns": 1, "result": "x", "status": "ok"},
        {"type": "turn.completed", "usage": {}},
        {"type": "result", "exitCode": 0, "status": "success"},
        {"type": "step_finish", "part": {"reason": "stop"}},
    )

    assert not read(runtime, *(json.dumps(end).encode() for end in ends)).outcome(ProcessEnd(code=0, signal=None)).ok


# Whole runs.

WRITES = "printf '%s\\n' '{line}' >> $OPTIO_RESULT_FILE; echo words"


def program(entry: dict[str, Any], extra: str = "") -> CompiledTask:
    lines = json.dumps({"type": "result", "status": "ok", **entry})
    declared = command_task(WRITES.format(line=lines), extra="maxRetries: 0\n" + extra)
    return replace(declared, spec=declared.spec.replace(result=task().spec.result))


def test_a_run_has_the_result_that_it_declares(services: Services) -> None:
    run = execute(services, program({"output": LABELS}))

    assert (run.state, run.reason, run.output, run.text) == (RunState.COMPLETED, "ok", LABELS, "words")


def test_a_run_without_the_result_that_it_declares_has_failed(services: Services) -> None:
    missing, wrong = execute(services, program({})), execute(services, program({"output": {"labels": [1]}}))

    assert (missing.state, missing.reason, missing.text) == (RunState.FAILED, "result_missing", "words")
    assert missing.message.startswith("the program wrote no `result` line with an `output` to OPTIO_RESULT_FILE")
    assert (wrong.state, wrong.reason, wrong.output) == (RunState.FAILED, "result_invalid", None)
    assert wrong.message.startswith("/labels/0 must be a string")


def test_a_run_without_work_is_complete(services: Services) -> None:
    run = execute(services, program({"status": "no_work", "text": "no new issues"}))

    assert (run.state, run.reason, run.message) == (RunState.COMPLETED, "no_work", "no new issues")
    assert (run.text, run.output) == ("no new issues", None)


def test_a_program_finds_the_schema_in_a_file(services: Services) -> None:
    declared = program({})
    asks = declared.spec.replace(command="cat $OPTIO_RESULT_SCHEMA_FILE", max_retries=0)

    run = execute(services, replace(declared, spec=asks))
    plain = execute(services, command_task("echo ${OPTIO_RESULT_SCHEMA_FILE-none}"))

    assert json.loads(log_of(services, run.id, LogKind.OUTPUT)[0]) == SCHEMA
    assert plain.text == "none"


# An agent that replaces its result file by what hurts a reader.

AGENT = """\
#!/bin/sh
cat > /dev/null
cd "$(dirname "$OPTIO_RESULT_FILE")"
{trick}
printf '%s\\n' '{{"type": "thread.started", "thread_id": "t"}}' '{{"type": "turn.started"}}'
printf '%s\\n' '{{"type": "item.completed", "item": {{"id": "0", "type": "agent_message", "text": "{answer}"}}}}'
printf '%s\\n' '{{"type": "turn.completed", "usage": {{}}}}'
"""
TRICKS = {
    "a pipe": "mkfifo result.jsonl",
    "a link to another file": "echo '{line}' > $HOME/other; ln -s $HOME/other result.jsonl",
    "a directory": "mkdir result.jsonl",
    "a gigabyte of nothing": "truncate -s 1G result.jsonl",
    "a line that never ends": "printf '%s' '{line}' | tr -d '}}' > result.jsonl; head -c 20000000 /dev/zero >> result.jsonl",
    "no text": "printf '\\377\\376\\n' > result.jsonl",
    "a deep list": "head -c 900000 /dev/zero | tr '\\0' '[' > result.jsonl",
    "no file": "true",
}


@pytest.mark.parametrize("trick", TRICKS)
def test_the_answer_counts_beside_a_file_that_cannot_be_read(tmp_path: Path, trick: str) -> None:
    program = tmp_path / "codex"
    wrong = json.dumps({"type": "result", "status": "ok", "output": {"labels": ["other"]}})
    program.write_text(AGENT.format(trick=TRICKS[trick].replace("{line}", wrong), answer=GOOD.replace('"', '\\"')))
    program.chmod(0o700)
    environ = {"OPTIO_PROGRAM_CODEX": str(program), "OPTIO_SANDBOX_READ": str(tmp_path), "OPTIO_DATA_DIR": str(tmp_path / "d")}
    with opened(tmp_path, environ) as services:
        run = execute(services, task())

    assert (run.state, run.reason, run.output) == (RunState.COMPLETED, "ok", LABELS), run.message


def test_a_result_that_is_written_twice_or_before_noise_is_the_last_that_is_valid(services: Services) -> None:
    written = [{"type": "result", "status": "ok", "output": {"labels": [name]}} for name in ("first", "last")]
    lines = "; ".join(f"printf '%s\\n' '{json.dumps(entry)}' '{{' >> $OPTIO_RESULT_FILE" for entry in written)
    declared = command_task(lines)

    run = execute(services, replace(declared, spec=declared.spec.replace(result=task().spec.result)))

    assert run.output == {"labels": ["last"]}
