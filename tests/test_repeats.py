"""Repeated lines of the service's own log are counted, not written."""

import logging
import os
import re
import signal
import sys
import threading
from http.client import HTTPConnection
from pathlib import Path

from optio.telemetry.logs import LogHandler, Outlet, TextFormatter
from optio.telemetry.repeats import MAX_TEMPLATES, MAX_VARIANTS, WINDOW_S, RepeatCounter
from tests.support import Dev, eventually

WEBHOOK = """\
type: standalone
name: Job
agentRuntime: command
command: "true"
promptTemplate: "hello"
triggers:
  - {type: webhook, config: {path: job, secret: {name: SHORT}}}
"""
REQUESTS = 2_000


class Clock:
    def __init__(self) -> None:
        self.at = 100.0

    def __call__(self) -> float:
        return self.at


def record(
    words: str, *arguments: object, name: str = "optio.server.webhooks", level: int = logging.ERROR
) -> logging.LogRecord:
    return logging.LogRecord(name, level, __file__, 1, words, arguments, None)


def said(records: list[logging.LogRecord]) -> list[str]:
    return [each.getMessage() for each in records]


def test_ten_thousand_bad_requests_are_one_line_and_one_count(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
    handler = LogHandler(TextFormatter(), Outlet(descriptor))

    def flood() -> None:
        for _ in range(2_500):
            handler.handle(record("webhook %s: %s", "job", "the secret cannot be used"))

    threads = [threading.Thread(target=flood) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    handler.flush()

    first, count = (tmp_path / "log").read_text().splitlines()
    assert first.endswith("ERROR   webhook job: the secret cannot be used")
    assert "ERROR   webhook job: the secret cannot be used (9999 more in " in count


def test_the_count_comes_when_the_window_has_ended_and_the_next_line_is_written_again() -> None:
    clock = Clock()
    counter = RepeatCounter(clock)

    assert said(counter.select(record("full"))) == ["full"]
    assert said(counter.select(record("full"))) == []
    assert counter.is_counting()
    clock.at += WINDOW_S - 1
    assert said(counter.drain()) == []
    clock.at += 1
    assert said(counter.select(record("full"))) == ["full (1 more in 60 s)", "full"]
    clock.at += WINDOW_S
    assert said(counter.drain()) == []
    assert not counter.is_counting()


def test_the_count_of_a_flood_comes_by_itself(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
    handler = LogHandler(TextFormatter(), Outlet(descriptor), window_s=0.2)
    for _ in range(5):
        handler.handle(record("full"))

    # On a busy machine the five may fall into two windows.
    def counted() -> int:
        lines = (tmp_path / "log").read_text().splitlines()
        return sum(int(found[1]) if (found := re.search(r"full \((\d+) more in", line)) else 1 for line in lines)

    eventually(lambda: counted() == 5, what="the count")


def test_lines_that_differ_are_written_up_to_a_bound_and_counted_together_beyond_it() -> None:
    counter = RepeatCounter(Clock())

    written = [words for number in range(1_000) for words in said(counter.select(record("%s failed", f"/{number}")))]

    assert written == [f"/{number} failed" for number in range(MAX_VARIANTS)]
    assert said(counter.drain(all_windows=True)) == [f"`%s failed` with other values ({1_000 - MAX_VARIANTS} more in 0 s)"]


def test_what_is_kept_is_bounded_and_what_is_dropped_is_said() -> None:
    counter = RepeatCounter(Clock())
    for _ in range(2):
        counter.select(record("the first"))

    found = [words for number in range(MAX_TEMPLATES) for words in said(counter.select(record(f"template {number}")))]

    assert found[-2:] == ["the first (1 more in 0 s)", f"template {MAX_TEMPLATES - 1}"]
    assert len(counter._windows) == MAX_TEMPLATES


def test_another_bug_in_the_same_request_is_another_line() -> None:
    counter = RepeatCounter(Clock())

    def failed(value: str) -> logging.LogRecord:
        try:
            int(value) if value else {}["x"]
        except (ValueError, KeyError):
            return logging.LogRecord("optio.server.problems", logging.ERROR, __file__, 1, "GET / failed", (), sys.exc_info())
        raise AssertionError

    assert [len(counter.select(failed(value))) for value in ("a", "a", "", "")] == [1, 0, 1, 0]


def test_what_a_worker_does_and_what_is_no_warning_is_written_each_time() -> None:
    counter = RepeatCounter(Clock())
    run = record("run %s was lost", "1", name="optio.runs.execute")
    news = record("signed in", level=logging.INFO)

    assert [len(counter.select(each)) for each in (run, run, news, news)] == [1, 1, 1, 1]


def test_a_stranger_who_posts_to_a_webhook_whose_secret_is_too_short_writes_a_handful_of_lines(tmp_path: Path) -> None:
    server = Dev(tmp_path, environ={"OPTIO_SECRET_SHORT": "1234567"})
    server.write("job.yaml", WEBHOOK)
    server.start()
    try:
        connection = HTTPConnection("127.0.0.1", server.port, timeout=30)
        statuses = set()
        for _ in range(REQUESTS):
            connection.request("POST", "/api/hooks/job", "{}", {"X-Optio-Signature": "0" * 64})
            answer = connection.getresponse()
            answer.read()
            statuses.add(answer.status)
        connection.close()
    finally:
        assert server.process is not None
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(60)
        server.stop()

    lines = [line for line in server.output.read_text().splitlines() if " ERROR " in line and "`SHORT`" in line]
    counts = [int(found[1]) for line in lines if (found := re.search(r"\((\d+) more in", line))]
    assert statuses <= {401, 429}
    assert 2 <= len(lines) <= 8
    assert sum(counts) + len(lines) - len(counts) == REQUESTS
