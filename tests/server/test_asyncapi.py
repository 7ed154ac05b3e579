"""The AsyncAPI document of live logs: valid by the schema that AsyncAPI publishes, and held against real messages."""

import json
import re
import urllib.request
from typing import Any

import jsonschema_rs
import pytest

from tests.server.api import Api
from tests.support import tool

PUBLISHED = "clients/node_modules/@asyncapi/specs/schemas/3.0.0-without-$id.json"


@pytest.fixture
def document(api: Api) -> dict[str, Any]:
    found: dict[str, Any] = api.get("/schema/asyncapi.json").json
    return found


def fits(document: dict[str, Any], channel: str, message: str, value: Any) -> bool:
    payload = document["channels"][channel]["messages"][message]["payload"]
    return jsonschema_rs.validator_for({"components": document["components"], **payload}).is_valid(value)


def test_it_fits_the_published_schema_of_asyncapi_3(document: dict[str, Any]) -> None:
    published = jsonschema_rs.validator_for(json.loads(tool(PUBLISHED).read_text()))

    assert [str(error) for error in published.iter_errors(document)] == []
    document["channels"]["socket"]["adress"] = "misspelt"
    assert not published.is_valid(document)


def test_every_reference_leads_to_something(document: dict[str, Any]) -> None:
    found = re.findall(r'"\$ref": "#/([^"]+)"', json.dumps(document))

    assert len(found) > 6
    for reference in found:
        place: Any = document
        for step in reference.split("/"):
            place = place[step]
        assert place, reference


def test_the_messages_of_a_socket_are_what_it_says(api: Api, document: dict[str, Any]) -> None:
    writer = api.started()
    writer.log("one", "two")
    writer.end(ok=False)

    with api.connect(f"/ws/workflow-runs/{writer.id}/logs") as socket:
        *lines, end = [json.loads(message) for message in socket]

    assert [line["text"] for line in lines] == ["one", "two"]
    assert all(fits(document, "socket", "line", line) for line in lines)
    assert fits(document, "socket", "end", end)
    assert not fits(document, "socket", "end", lines[0])
    assert not fits(document, "socket", "line", {**lines[0], "kind": "noise"})


def test_the_events_of_a_stream_are_what_it_says(api: Api, document: dict[str, Any]) -> None:
    writer = api.started()
    writer.log("one", "two")
    writer.end()
    request = urllib.request.Request(
        f"http://127.0.0.1:{api.port}/api/workflow-runs/{writer.id}/logs",
        headers={**api.credentials, "Accept": "text/event-stream"},
    )

    with urllib.request.urlopen(request, timeout=30) as response:
        blocks = response.read().decode().strip().split("\n\n")[1:]

    events = [dict(line.split(": ", 1) for line in block.splitlines()) for block in blocks]
    assert [event["event"] for event in events] == ["line", "line", "end"]
    for event in events:
        assert fits(document, "events", event["event"], json.loads(event["data"])), event
    assert [event.get("id") for event in events] == [str(json.loads(event["data"]).get("seq")) for event in events[:2]] + [None]
    assert not fits(document, "events", "end", {"state": "asleep", "reason": "ok"})
