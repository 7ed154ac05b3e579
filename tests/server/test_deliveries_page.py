"""The pages of webhook deliveries over HTTP, and the gates and tests that the API has of them."""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml

from tests.server.api import Api
from tests.server.test_hooks import HOOK, post, prepared, run_count
from tests.server.test_pages import HOSTILE, Browser, Tags, html, text_of
from tests.server.test_replay import GOOD, TWICE, delivered
from tests.support import Answer, eventually

ORDER = ["path", "signature", "rate", "body", "filter", "mapping", "params", "dedupe", "start"]
PAGES = ["", "/replay", "/test"]


@pytest.fixture
def api(served: Callable[..., Api]) -> Api:
    return prepared(served(environ={"OPTIO_WEBHOOK_RATE_PER_MINUTE": "1000", "OPTIO_MAX_BODY_BYTES": str(16 << 20)}))


class Reader(Browser):
    """A browser, without the token that the test's own requests bear."""

    def _send(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> Answer:
        kept, self.api.credentials = self.api.credentials, {}
        try:
            return super()._send(method, path, body, headers)
        finally:
            self.api.credentials = kept


def foreign_tags(answer: Answer) -> list[tuple[str, dict[str, str | None]]]:
    """Images, and scripts that are not of this server."""
    return [
        (tag, attrs)
        for tag, attrs in Tags(answer).found
        if tag == "img" or (tag == "script" and not (attrs.get("src") or "").startswith("/static/"))
    ]


def gates(api: Api, delivery: str) -> list[dict[str, str]]:
    found: list[dict[str, str]] = api.get(f"/api/deliveries/{delivery}").json["gates"]
    return found


def stops(api: Api, body: bytes, **headers: str) -> tuple[str, str]:
    """The gate that stops a request, and why; those before were passed, those behind not reached."""
    found = gates(api, delivered(api, body, **headers))
    assert [gate["name"] for gate in found] == ORDER
    (place,) = [number for number, gate in enumerate(found) if gate["outcome"] == "stopped"]
    assert {gate["outcome"] for gate in found[:place]} <= {"passed"}
    assert {gate["outcome"] for gate in found[place + 1 :]} <= {"unreached"}
    return found[place]["name"], found[place]["detail"]


# Gates


def test_each_refusal_names_the_gate_that_stopped_the_request_and_why(api: Api) -> None:
    name, why = stops(api, GOOD, X_Optio_Signature="0" * 64)
    assert (name, "does not fit" in why) == ("signature", True)
    assert stops(api, b"{")[0] == "body"
    assert stops(api, GOOD, Content_Type="text/xml") == ("body", "send application/json")
    assert stops(api, b'{"action": "closed"}') == ("filter", "the `when` filter does not hold")
    assert stops(api, b'{"repository": {"name": 7}}') == ("params", "/params/REPO must be a string")


def test_a_query_that_cannot_be_applied_is_the_mapping_s(api: Api) -> None:
    api.serve_task(HOOK.replace("$.repository.name", "'$.items[?count($..a) > 1].name'"))

    name, why = stops(api, json.dumps({"items": [{"a": number} for number in range(5000)]}).encode())
    assert (name, "searches the whole payload" in why) == ("mapping", True)


def test_an_accepted_request_passed_all_gates_and_its_run_says_what_it_waits_for(api: Api) -> None:
    delivery = delivered(api)
    found = gates(api, delivery)

    assert [gate["outcome"] for gate in found] == ["passed"] * 8 + ["waiting"]
    assert found[4]["detail"] == "when: @.action != 'closed'"
    assert found[8]["detail"] == "no worker is running: start one with `optio worker`"


def test_a_request_that_was_joined_to_a_run_by_its_business_key_ends_at_dedupe(api: Api) -> None:
    api.serve_task(HOOK + 'dedupe: {key: "{{REPO}}"}\n')
    first = api.get(f"/api/deliveries/{delivered(api)}").json["runId"]

    assert stops(api, GOOD + b" ") == ("dedupe", f"run {first} has the same business key, and stands for this request too")


# Pages


def test_deliveries_are_listed_by_path_verdict_task_and_time_and_by_pages(api: Api) -> None:
    good, bad = delivered(api), delivered(api, b"{")
    browser = Reader(api, "viewer")

    def shown(query: str) -> list[str]:
        return re.findall(r'href="/deliveries/([0-9a-f-]{36})"', html(browser.get(f"/deliveries?{query}")))

    assert shown("") == [bad, good]
    assert shown("verdict=accepted&path=push&task=push") == [good]
    assert shown("verdict=accepted&path=other") == shown("until=2020-01-01T00:00") == []
    assert shown("since=2020-01-01T00:00") == [bad, good]
    wrong = browser.get("/deliveries?since=yesterday")
    assert (wrong.status, "must be a time" in text_of(wrong)) == (422, True)
    for number in range(50):
        post(api, json.dumps({"repository": {"name": f"r{number}"}}).encode())
    (more,) = re.findall(r'rel="next" href="([^"]*)"', html(browser.get("/deliveries?path=push")))
    assert re.findall(r'href="/deliveries/([0-9a-f-]{36})"', html(browser.get(more))) == [bad, good]


def test_requests_beyond_a_rate_have_no_delivery_but_are_told(served: Callable[..., Api]) -> None:
    api = prepared(served(environ={"OPTIO_WEBHOOK_RATE_PER_MINUTE": "1"}))
    post(api)
    assert post(api).status == 429

    def told() -> bool:
        return "push : 1 rate" in text_of(Reader(api, "viewer").get("/deliveries"))

    eventually(told, what="the count")


def test_a_request_is_shown_with_its_gates_headers_and_its_body_laid_out(api: Api) -> None:
    delivery = delivered(api, b'{"repository":{"name":"optio"},"b":1}', X_Odd=HOSTILE, X_Api_Key="hidden")
    shown = Reader(api, "viewer").get(f"/deliveries/{delivery}")

    assert '{ "repository": { "name": "optio" }, "b": 1 }' in text_of(shown)
    assert HOSTILE in text_of(shown)
    assert "hidden" not in text_of(shown)
    assert "img" not in {tag for tag, _ in Tags(shown).found}
    assert "✓ passed params" in text_of(shown)
    assert "base64" not in html(shown)


@pytest.mark.parametrize(
    "body",
    [
        json.dumps({"repository": {"name": HOSTILE[:20]}, "x": HOSTILE, "\u202e": "\u202egnp.exe"}).encode(),
        b'{"repository": {"name": "\\ud800"}, "x": "\\ud83d"}',
        b'{"repository": {"name": "optio"}, "x": "' + b"y" * (9 << 20) + b'"}',
        b"\xff\xfe not UTF-8 <img onerror=alert(1)>",
        b'{"a": ' * 5000,
        b"",
    ],
    ids=["markup", "half a character", "9 MB", "not UTF-8", "nested", "empty"],
)
def test_a_hostile_body_breaks_no_page_and_none_is_large(api: Api, body: bytes) -> None:
    delivery = delivered(api, body)
    browser = Reader(api, "operator")

    answers = [browser.get(f"/deliveries/{delivery}{page}") for page in PAGES]

    for answer in answers:
        assert answer.status in (200, 409), answer.body
        assert len(answer.body) < 300_000
        assert foreign_tags(answer) == []
    assert answers[0].status == 200


# Replay


def test_a_replay_shows_what_differs_first_and_starts_a_run_by_its_button(api: Api) -> None:
    delivery = delivered(api)
    api.serve_task(TWICE)
    browser = Reader(api, "operator")

    dry = browser.get(f"/deliveries/{delivery}/replay")
    assert run_count(api) == 1
    bare = browser.submit(f"/deliveries/{delivery}/replay")
    started = browser.submit(f"/deliveries/{delivery}/replay", again="yes")

    assert "prompt differs from then" in text_of(dry)
    assert "+Look twice at optio 1" in text_of(dry)
    assert 'name="again" value="yes"' in html(dry)
    assert bare.status == 409
    assert (started.status, run_count(api)) == (303, 2)
    run = api.services.store.run(started.headers["location"].removeprefix("/runs/"))
    assert (run.trigger, run.params) == ("webhook", {"REPO": "optio", "SIZE": 1})
    assert browser.submit(f"/deliveries/{delivery}/replay", again="yes").headers["location"] == started.headers["location"]


def test_a_replay_that_would_start_nothing_has_no_button_and_starts_nothing(api: Api) -> None:
    delivery = delivered(api, b'{"action": "closed"}')
    browser = Reader(api, "operator")

    assert "Start" not in text_of(browser.get(f"/deliveries/{delivery}/replay"))
    assert browser.submit(f"/deliveries/{delivery}/replay").status == 409
    assert run_count(api) == 0


def test_viewers_see_no_links_that_replay_a_delivery_or_make_a_test(api: Api) -> None:
    delivery = delivered(api)
    viewer, operator = Reader(api, "viewer"), Reader(api, "operator")

    def has_links(browser: Reader) -> bool:
        return f"/deliveries/{delivery}/replay" in html(browser.get(f"/deliveries/{delivery}"))

    assert [has_links(viewer), has_links(operator)] == [False, True]


# Tests


def entries(text: str) -> Iterator[dict[str, Any]]:
    yield from yaml.safe_load(text)["tests"]


def test_a_delivery_becomes_a_test_with_its_secrets_redacted(api: Api) -> None:
    delivery = delivered(api, b'{"repository": {"name": "optio"}, "token": "abc", "x": "key of the hook"}')

    made = api.get(f"/api/deliveries/{delivery}/test").json
    shown = text_of(Reader(api, "operator").get(f"/deliveries/{delivery}/test"))

    (entry,) = entries(made["tests"])
    assert entry["expect"] == {"params": {"REPO": "optio", "SIZE": 1}}
    assert (made["taskId"], made["file"], made["payloadFile"]) == ("push", "job.yaml", entry["webhook"])
    assert json.loads(made["payload"]) == {"repository": {"name": "optio"}, "token": "REDACTED", "x": "REDACTED"}
    assert made["redacted"] == ["/token: a credential, by its name", "/x: the value of a secret of the task"]
    assert "1. Add this to job.yaml" in shown
    assert "key of the hook" not in shown
