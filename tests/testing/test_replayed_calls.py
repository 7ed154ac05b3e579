"""How requests of a repeated run find their recorded calls, and what of them counts as a difference."""

import asyncio
from typing import Any

import pytest

from optio.gateway.asgi import AnswerBroke
from optio.gateway.protocols.dialects import DIALECTS
from optio.model.mask import Masker
from optio.model.model_call import CallRecording
from optio.testing.replay_server import ReplayServer
from optio.testing.replayed_calls import ReplayedCalls
from optio.testing.volatile import VOLATILE, steady
from tests.pages import page, rows

UUID, OTHER = "01a23b19-386e-7631-9b7e-74d79b77a82e", "c1a23b19-386e-4631-9b7e-74d79b77a82f"


def recording(*messages: str, **changes: Any) -> CallRecording:
    request = {"model": "m", "messages": [{"role": "user", "content": text} for text in messages]}
    return CallRecording(
        **{
            "path": "/v1/messages",
            "status": 200,
            "content_type": "text/event-stream",
            "is_whole": True,
            "request": request,
            "answer": b"event: a\ndata: {}\n\nevent: b\ndata: {}\n\n",
            **changes,
        }
    )


def calls(*recordings: CallRecording) -> ReplayedCalls:
    return ReplayedCalls(dict(enumerate(recordings, 1)), Masker(["optio-replay-KEY"]))


def ask(replayed: ReplayedCalls, *messages: str) -> CallRecording | None:
    return replayed.take("/v1/messages", recording(*messages).request)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (f"/work/data/attempts/{UUID}/2/work/a.py", f"/tmp/optio-replay-x1/data/attempts/{OTHER}/1/work/a.py"),
        (f"-work-data-attempts-{UUID}-2-work", f"-tmp-replay-{OTHER}-1-work"),
        (f"user_1_session_{UUID}", f"user_1_session_{OTHER}"),
        ("in /tmp/abc/x", "in /tmp/def/x"),
        ("at http://127.0.0.1:8100/x", "at http://127.0.0.1:41234/x"),
        ("commit 0123456789abcdef01", "commit fedcba9876543210ff"),
        ("Chunk ID: b2c125", "Chunk ID: f19617"),
        ("run_shell_command_1796288021992_0", "run_shell_command_1796288148727_0"),
        ("2026-12-03T08:29:14.123Z", "2027-01-01T00:00:00Z"),
        ("Today's date is 2026-12-03.", "Today's date is 2026-12-04."),
        ("Thu Dec  3 08:29:14 UTC 2026", "Fri Jan 1 00:00:00 UTC 2026"),
        ("Thursday, December 3, 2026", "Friday, January 1, 2027"),
        ("at 8:29 PM", "at 12:00 AM"),
        ("Wall time: 0.0521 seconds", "Wall time: 1.2 seconds"),
    ],
)
def test_what_differs_from_run_to_run_is_no_difference(before: str, after: str) -> None:
    assert steady([{"text": before}]) == steady([{"text": after}])


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("fix the bug", "fix the bugs"),
        (f"/x/{UUID}/1/work/a.py", f"/x/{UUID}/1/work/b.py"),
        ("3 files", "4 files"),
        ("exit code 0", "exit code 1"),
        ("version 2.1.332", "version 2.1.333"),
        ("port 8080", "port 9090"),
    ],
)
def test_what_an_author_or_a_program_changes_is_one(before: str, after: str) -> None:
    assert steady(before) != steady(after)


def test_the_manual_lists_what_is_no_difference() -> None:
    documented = {row[0] for row in rows(page("tasks/testing.md"))}

    assert {row.kind for row in VOLATILE} <= documented


def test_calls_side_by_side_get_their_answers_in_any_order() -> None:
    replayed = calls(recording("title"), recording("hello"), recording("hello", "result"))

    answers = [ask(replayed, "hello"), ask(replayed, "hello", "result"), ask(replayed, "title")]

    assert answers == [recording("hello"), recording("hello", "result"), recording("title")]
    assert [request.call for request in replayed.requests] == [2, 3, 1]
    assert all(request.is_same for request in replayed.requests)
    assert replayed.missing == []


def test_a_repeated_request_gets_the_answers_in_their_order() -> None:
    first, second = recording("hello", status=529), recording("hello")
    replayed = calls(first, second)

    assert [ask(replayed, "hello"), ask(replayed, "hello")] == [first, second]


def test_the_first_difference_is_told_with_its_place() -> None:
    replayed = calls(recording("x" * 200 + " before " + "y" * 200, "same"))

    ask(replayed, "x" * 200 + " after " + "y" * 200, "other")

    (request,) = replayed.requests
    assert request.difference is not None
    assert not request.is_same
    assert (request.difference.count, request.difference.place) == (2, "messages[0].content")
    assert "x before y" in request.difference.before
    assert "x after y" in request.difference.after
    assert len(request.difference.before) < 130


@pytest.mark.parametrize(
    ("before", "after", "is_same"),
    [
        ({"messages": ["a\nb"]}, {"messages": ["b\na"]}, True),
        ({"messages": ["keep a"]}, {"messages": ["a keep"]}, False),
        ({"messages": ["a", "b"]}, {"messages": ["b", "a"]}, True),
        (
            {"tools": [{"enum": ["a", "b"], "about": "one of 'a', 'b'"}]},
            {"tools": [{"enum": ["b", "a"], "about": "one of 'b', 'a'"}]},
            True,
        ),
        ({"tools": ["a"]}, {"tools": ["a", "b"]}, False),
        ({"tools": [1]}, {"tools": [2]}, False),
    ],
)
def test_an_order_is_told_and_does_not_count(before: dict[str, Any], after: dict[str, Any], is_same: bool) -> None:
    replayed = calls(recording(request=before))

    replayed.take("/v1/messages", after)

    (request,) = replayed.requests
    assert request.difference is not None
    assert (request.difference.is_order, request.is_same) == (is_same, is_same)


def test_calls_that_are_missing_or_more_are_told() -> None:
    replayed = calls(recording("hello"), recording("never"))
    assert ask(replayed, "hello") is not None
    assert replayed.missing == [2]

    ask(replayed, "x")
    assert ask(replayed, "y") is None
    assert replayed.requests[-1].call is None
    assert not replayed.requests[-1].is_same


def test_what_stands_for_a_secret_is_masked_like_the_secret() -> None:
    replayed = calls(recording("the key is ***"))

    ask(replayed, "the key is optio-replay-KEY")

    assert replayed.requests[0].difference is None


def served(replayed: ReplayedCalls, path: str, body: bytes, method: str = "POST") -> tuple[int, list[bytes]]:
    """The status and the pieces of an answer, the last of which is empty unless it broke off."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request", "body": body}

    server = ReplayServer(replayed, DIALECTS["Anthropic Messages"])
    scope = {"type": "http", "method": method, "path": path, "headers": [], "query_string": b""}
    try:
        asyncio.run(server(scope, receive, send))
    except AnswerBroke:
        sent.append({"body": b"(broken)"})
    return sent[0]["status"], [message["body"] for message in sent[1:]]


def test_a_stream_is_replayed_as_a_stream() -> None:
    status, pieces = served(calls(recording("hello")), "/model/v1/messages", b"{}")

    assert status == 200
    assert pieces == [b"event: a\ndata: {}\n\n", b"event: b\ndata: {}\n\n", b""]


def test_an_answer_that_broke_off_breaks_off_again() -> None:
    _, pieces = served(calls(recording("hello", is_whole=False)), "/model/v1/messages", b"{}")

    assert pieces[-1] == b"(broken)"


def test_what_is_no_recorded_call_is_refused_in_the_makers_shape() -> None:
    replayed = calls(recording("hello"))

    assert served(replayed, "/model/v1/messages/count_tokens", b"{}")[0] == 404
    assert served(replayed, "/model/v1/models", b"", "GET")[0] == 404
    assert replayed.requests == []
    served(replayed, "/model/v1/messages", b"{}")
    status, (body, *_) = served(replayed, "/model/v1/messages", b"{}")
    assert status == 402
    assert b'"type":"billing_error"' in body
