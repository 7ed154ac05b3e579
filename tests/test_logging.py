"""The service's own log: what a line looks like, that none can be forged, and that nobody has to read it."""

import contextlib
import fcntl
import json
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from optio.telemetry.base import log_context
from optio.telemetry.logs import _FIELDS, MAX_WAITING_BYTES, JsonFormatter, LogHandler, Outlet, TextFormatter
from tests import forked
from tests.pages import of, page, rows
from tests.runs.support import accept, done, opened
from tests.support import COMMAND_TASK, ROOT, Dev, command_task, eventually

SECRET = "correct-horse-battery-staple"


def record(message: str, *arguments: Any, **extra: Any) -> logging.LogRecord:
    made = logging.LogRecord("optio.test", logging.INFO, __file__, 1, message, arguments, None)
    for name, value in extra.items():
        setattr(made, name, value)
    return made


# What a line looks like


def test_a_line_of_text_has_time_level_and_words() -> None:
    line = TextFormatter().format(record("run %s %s", "r1", "completed"))

    assert line[8:] == " INFO    run r1 completed"
    assert time.strptime(line[:8], "%H:%M:%S")


def test_a_line_of_json_is_one_object_that_names_what_it_is_about() -> None:
    with log_context(run_id="r1", task_id="job", worker="w"):
        entry = json.loads(JsonFormatter().format(record("ended", event="run_finished")))

    assert entry.pop("time").endswith("Z")
    assert entry == {
        "level": "info",
        "logger": "optio.test",
        "message": "ended",
        "event": "run_finished",
        "run_id": "r1",
        "task_id": "job",
        "worker": "w",
    }


def test_a_line_about_a_run_names_it_even_where_the_words_do_not() -> None:
    with log_context(run_id="r1"):
        silent, saying = TextFormatter().format(record("a bug")), TextFormatter().format(record("run r1: a bug"))

    assert silent.endswith("a bug (run r1)")
    assert saying.endswith("run r1: a bug")


def test_what_a_line_says_of_itself_wins_over_what_is_being_done() -> None:
    with log_context(run_id="outer"), log_context(task_id="job"):
        entry = json.loads(JsonFormatter().format(record("x", run_id="inner")))

    assert (entry["run_id"], entry["task_id"]) == ("inner", "job")


EVIL = "evil\n12:00:00 INFO    run r9 completed\r\x1b[2J\x1b]0;title\x07\x00\x85\u2028\u202egnp.exe\ud800\u200b"


@pytest.mark.parametrize("formatter", [TextFormatter(), JsonFormatter()])
def test_nothing_in_a_message_looks_like_another_line_or_drives_a_terminal(formatter: logging.Formatter) -> None:
    try:
        raise ValueError(EVIL)
    except ValueError:
        made = record("task %s", EVIL, run_id=EVIL)
        made.exc_info = sys.exc_info()

    text = formatter.format(made)

    lines = text.encode("utf-8", "backslashreplace").decode().split("\n")
    if isinstance(formatter, JsonFormatter):
        (line,) = lines
        assert json.loads(line)["message"].startswith("task evil\\x0a12:00:00 INFO")
    else:
        assert all(line.startswith("    | ") for line in lines[1:])
    assert all(character.isprintable() or character == "\n" for character in text)


def test_words_in_other_scripts_stay_what_they_are() -> None:
    assert json.loads(JsonFormatter().format(record("Über 漢字 🙂")))["message"] == "Über 漢字 🙂"


@pytest.mark.parametrize(
    "words",
    [
        f"postgresql://optio:{SECRET}@db/optio cannot be used",
        f"redis://:{SECRET}@cache:6379/0",
        f"password={SECRET} host=db",
        f"Authorization: Bearer {SECRET}",
        f"the token optio_{SECRET} is not known",
    ],
)
def test_credentials_in_a_message_are_masked(words: str) -> None:
    assert SECRET not in TextFormatter().format(record("%s", words))
    assert "***" in TextFormatter().format(record("%s", words))


def test_arguments_that_do_not_fit_their_message_cost_the_line_and_nothing_else(tmp_path: Path) -> None:
    target = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
    outlet = Outlet(target)
    handler = LogHandler(TextFormatter(), outlet)

    handler.handle(record("%d", "no number"))
    handler.handle(record("next"))
    outlet.flush()

    assert outlet.lost == 1
    assert (tmp_path / "log").read_text().splitlines()[-1].endswith("next")


# Real processes


# Parts of a line that differ from one run to the next.
VARYING = (
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"), "TIME"),
    (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}"), "RUN"),
    (re.compile(r'"[^"/]+/[0-9a-f]{12}/\d+:\d+:\d+"'), '"WORKER"'),
)


def normalised(line: str) -> str:
    for pattern, instead in VARYING:
        line = pattern.sub(instead, line)
    return line


def test_a_line_about_a_run_is_the_one_that_the_page_shows(tmp_path: Path) -> None:
    dev = Dev(tmp_path, environ={"OPTIO_LOG_FORMAT": "json", "OPTIO_DEBUG": "1"})
    dev.write("report.yaml", COMMAND_TASK.format(name="Nightly Report", command='"true"'))
    dev.start()
    try:
        run_id = dev.post("/api/tasks/nightly-report/runs").json["runId"]
        dev.until_ended(run_id)
        lines = eventually(lambda: [line for line in dev.output.read_text().splitlines() if '"run_finished"' in line])
    finally:
        dev.stop()

    (example,) = [block.text.strip() for block in of("json") if block.page == "docs/operating/logs.md"]
    assert len(lines) == 1
    assert json.loads(lines[0])["run_id"] == run_id
    assert normalised(lines[0]) == normalised(example)
    assert normalised(example).count("RUN") == 2


def test_the_page_has_every_field_and_every_event() -> None:
    tables = rows(page("operating/logs.md"))
    events = set()
    for path in (ROOT / "optio").rglob("*.py"):
        events |= set(re.findall(r'extra(?:=| = )\{"event": "(\w+)"', path.read_text()))
    try:
        raise ValueError
    except ValueError:
        made = record("x", **dict.fromkeys(_FIELDS, "x"))
        made.exc_info = sys.exc_info()

    assert len(events) > 5
    assert {row[0].strip("`") for row in tables if len(row) == 3} - {"field"} == {
        *json.loads(JsonFormatter().format(made)),
        *events,
    }


def test_a_format_that_is_none_is_refused(tmp_path: Path) -> None:
    worker = Dev(tmp_path, command="worker", environ={"OPTIO_LOG_FORMAT": "xml"})
    worker.start(ready=False)
    assert worker.process is not None

    assert worker.process.wait(60) == 2
    assert "OPTIO_LOG_FORMAT: `xml` cannot be used: it must be one of text, json" in worker.output.read_text()


@contextlib.contextmanager
def worker_with_a_log_that_nobody_reads(directory: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A real worker whose standard error is a pipe that is full already; the pipe's other end."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writer, b"x" * 4096)
    os.set_blocking(writer, True)
    clean = {name: text for name, text in os.environ.items() if not name.startswith("OPTIO_")}
    with open(os.devnull) as nothing:
        environ = {**clean, "OPTIO_DATA_DIR": str(directory / "data")}
        process = forked.start(["worker"], ROOT, environ, (nothing.fileno(), writer, writer))
    os.close(writer)
    try:
        yield process, reader
    finally:
        os.close(reader)
        process.kill()
        process.wait()


def test_a_log_that_nobody_reads_stops_nothing(tmp_path: Path) -> None:
    """It is full, then read again, then its reader is gone; runs go on, and so does the log where it can."""
    task = command_task("true")
    with opened(tmp_path) as services, worker_with_a_log_that_nobody_reads(tmp_path) as (process, reader):
        for _ in range(20):
            run_id = accept(services, task)
            done(services, run_id)
        said = b""

        def read() -> bool:
            nonlocal said
            said += os.read(reader, 65536)
            return f"run {run_id} completed".encode() in said

        eventually(read, what="the line about the run")
        os.dup2(os.open(os.devnull, os.O_RDONLY), reader)
        for _ in range(3):
            done(services, accept(services, task))

        process.send_signal(signal.SIGTERM)

        assert process.wait(60) == 0


def test_a_worker_whose_log_nobody_reads_can_be_stopped(tmp_path: Path) -> None:
    with opened(tmp_path) as services, worker_with_a_log_that_nobody_reads(tmp_path) as (process, _):
        done(services, accept(services, command_task("true")))

        process.send_signal(signal.SIGTERM)

        assert process.wait(60) == 0


def test_a_disk_that_is_full_costs_the_lines_and_says_so_later(tmp_path: Path) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    outlet = Outlet(full)
    handler = LogHandler(TextFormatter(), outlet)
    for number in range(5):
        handler.handle(record("line %d", number))
    eventually(lambda: outlet.lost == 5, what="the loss")
    with (tmp_path / "log").open("wb") as file:
        os.dup2(file.fileno(), full)

    handler.handle(record("there is room again"))
    outlet.flush()

    first, second = (tmp_path / "log").read_text().splitlines()
    assert first.endswith("WARNING 5 lines of this log were lost: they could not be written")
    assert second.endswith("there is room again")


def test_what_waits_to_be_written_is_bounded_and_dropped_lines_are_counted(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    outlet = Outlet(writer)
    handler = LogHandler(TextFormatter(), outlet)
    words = "x" * 30_000
    for _ in range(300):
        handler.handle(record(words))
    most = MAX_WAITING_BYTES // 30_000

    assert 300 - most - 5 < outlet.lost < 300 - most + 5
    assert outlet._size <= MAX_WAITING_BYTES

    read = threading.Thread(target=lambda: [None for _ in iter(lambda: os.read(reader, 1 << 20), b"")], daemon=True)
    read.start()
    eventually(lambda: outlet._size == 0, what="room")
    lost = outlet.lost
    handler.handle(record("more"))

    assert outlet.lost == lost
    assert handler._reported_losses == lost
    os.close(writer)


def test_a_development_server_whose_terminal_is_stopped_goes_on(tmp_path: Path) -> None:
    """Ctrl-S, or a pager that is not scrolled: standard output takes nothing any more."""
    dev = Dev(tmp_path)
    dev.write("job.yaml", COMMAND_TASK.format(name="Job", command='"true"'))
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    with open(os.devnull) as nothing:
        dev.process = forked.start(["dev"], ROOT, dev.environment(), (nothing.fileno(), writer, writer))
    os.close(writer)
    try:
        eventually(lambda: _answers(dev), within=60, what="the server")
        for number in range(30):
            dev.until_ended(dev.post("/api/tasks/job/runs").json["runId"])
            dev.write(f"more-{number}.yaml", COMMAND_TASK.format(name=f"More {number}", command='"true"'))
        eventually(lambda: dev.get("/api/registry").json["tasks"].keys() >= {"job"}, what="the registry")
        assert len(eventually(lambda: found if len(found := dev.get("/api/registry").json["tasks"]) > 30 else None)) == 31
        code = dev.stop(within=60)
    finally:
        dev.process.kill()
        os.close(reader)

    assert code == 0


def _answers(dev: Dev) -> bool:
    with contextlib.suppress(OSError):
        return dev.get("/readyz").status == 200
    return False
