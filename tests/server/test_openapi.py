"""The OpenAPI document. `contract` holds every answer that a test gets against it, `test_schemathesis.py` the server itself."""

import json
import re
from collections.abc import Iterator
from typing import Any, get_args

import jsonschema_rs
import pytest
from msgspec.json import schema_components

from optio.errors import ProblemType
from optio.model.run import RunState, RunTrigger
from optio.runs.admission import HoldReason
from optio.server import schemas
from optio.server.problems import STATUSES
from optio.store.values import DeliveryVerdict, SlotOutcome
from tests.server import contract
from tests.server.api import JOB, Api

HOOKED = JOB + "triggers: [{type: webhook, config: {path: job, unsigned: true}}]\n"
OPERATIONS = {
    "listTasks", "createTask", "getTask", "updateTask", "deleteTask", "pauseTask", "resumeTask", "getDefinition", "listSlots",
    "getOverview", "getQueue", "getCosts", "bulkRuns",
    "getTaskFile", "putTaskFile", "checkDraft", "forecastRun", "tryWebhook", "enableTrigger",
    "listTriggers", "addTrigger", "getTrigger",
    "deleteTrigger", "startRun", "listTaskRuns", "listRuns", "getRun",
    "deleteRun", "cancelRun", "retryRun", "rerunRun", "getLog", "searchLog", "getTranscript", "find", "explainFailure",
    "listCalls", "getCall",
    "receiveWebhook", "listConnections", "listDeliveries", "getDelivery",
    "getDeliveryTest", "replayDelivery", "listPools", "planPools", "getRegistry", "releaseRemoval", "listDiagnostics",
    "getCalendar", "listFires", "listOrigins", "runTests",
    "listGenerations", "getGeneration", "getInstallation", "listSettings", "getHealth", "getReadiness", "getMetrics",
}  # fmt: skip


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    made = Api(tmp_path_factory.mktemp("openapi"), environ={"OPTIO_WEBHOOK_RATE_PER_MINUTE": "100000"})
    made.serve_task(HOOKED)
    writer = made.started()
    writer.log("a line")
    writer.end(ok=False)
    made.post("/api/hooks/job", {})
    yield made
    made.close()


@pytest.fixture(scope="module")
def document(api: Api) -> dict[str, Any]:
    found: dict[str, Any] = api.get("/schema/openapi.json").json
    return found


def operations(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [operation for methods in document["paths"].values() for operation in methods.values()]


def test_it_is_openapi_3_1_and_each_operation_has_a_name_that_reads(document: dict[str, Any]) -> None:
    names = [operation["operationId"] for operation in operations(document)]

    assert document["openapi"].startswith("3.1.")
    assert document["info"]["title"] == "Optio"
    assert sorted(names) == sorted(OPERATIONS)


def test_every_operation_is_described_tagged_and_says_who_may(document: dict[str, Any]) -> None:
    tags = {tag["name"] for tag in document["tags"]}

    for path, methods in document["paths"].items():
        for operation in methods.values():
            where = operation["operationId"]
            assert operation["description"].startswith(operation["summary"]), where
            assert "\n" not in operation["summary"], where
            assert len(operation["tags"]) == 1, where
            assert set(operation["tags"]) <= tags, where
            public = path in ("/healthz", "/readyz") or path.startswith("/api/hooks/")
            assert operation.get("security") == ([] if public else None), where
    assert document["security"] == [{"bearer": []}]
    assert document["components"]["securitySchemes"]["bearer"] == {"type": "http", "scheme": "bearer"}


def json_bodies(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The schema of each JSON body, of requests and of answers that are no problems."""
    found = {}
    for operation in operations(document):
        parts = {"body": operation.get("requestBody", {}), **operation["responses"]}
        for name, part in parts.items():
            if (name == "body" or name < "3") and "application/json" in part.get("content", {}):
                found[f"{operation['operationId']} {name}"] = part["content"]["application/json"]["schema"]
    return found


def test_every_body_is_an_object_with_described_members(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    found = json_bodies(document)
    # What a webhook carries is the sender's own.
    assert found.pop("receiveWebhook body") == {}

    for where, schema in found.items():
        options = schema.get("oneOf", schema.get("anyOf", [schema]))
        for option in options:
            named = schemas[option["$ref"].rpartition("/")[2]]
            assert named["type"] == "object", where
            assert named["properties"], where
            assert named["description"], where
    assert len(found) > 40


def test_every_reference_leads_to_something_and_everything_is_referred_to(document: dict[str, Any]) -> None:
    referred = set(re.findall(r'"#/components/(\w+/\w+)"', json.dumps(document)))
    there = {f"{kind}/{name}" for kind in ("schemas", "responses") for name in document["components"][kind]}

    assert referred - there == set()
    assert there - referred == set()


def test_each_schema_has_one_class(document: dict[str, Any]) -> None:
    _, derived = schema_components(
        [kind for module in schemas.BODIES for _, kind in schemas.structs(module)], ref_template="{name}"
    )

    names = [name.removesuffix("Body") for name in derived]
    assert sorted(names) == sorted(set(names))
    assert all(jsonschema_rs.meta.is_valid(schema) for schema in document["components"]["schemas"].values())


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("RunState", list(RunState)),
        ("RunTrigger", get_args(RunTrigger)),
        ("HoldReason", get_args(HoldReason)),
        ("SlotOutcome", get_args(SlotOutcome)),
        ("DeliveryVerdict", [word for part in get_args(DeliveryVerdict) for word in get_args(part)]),
        ("ProblemType", [f"urn:optio:problem:{name}" for name in get_args(ProblemType)]),
    ],
)
def test_a_closed_vocabulary_is_an_enumeration_that_says_what_each_value_means(
    document: dict[str, Any], name: str, values: list[str]
) -> None:
    schema = document["components"]["schemas"][name]

    assert schema["enum"] == list(values)
    assert re.match(r"\w[^\n]+\n\n- ", schema["description"])
    assert re.findall(r"^- `([\w-]+)`: \S", schema["description"], re.M) == [value.rpartition(":")[2] for value in values]


def test_no_enumeration_stands_where_its_vocabulary_could(document: dict[str, Any]) -> None:
    text = json.dumps(document["paths"])

    assert '"enum": ["completed"' not in text
    assert '"$ref": "#/components/schemas/RunState"' in text
    assert '"$ref": "#/components/schemas/DeliveryVerdict"' in text


def test_every_error_is_a_problem_whose_types_are_listed(document: dict[str, Any]) -> None:
    types = set(get_args(ProblemType))
    for operation in operations(document):
        for status, response in operation["responses"].items():
            if "$ref" in response:
                shared = document["components"]["responses"][response["$ref"].rpartition("/")[2]]
                named = re.findall(r"`([\w-]+)`", response["description"])
                assert set(shared["content"]) == {"application/problem+json"}
                assert named, (operation["operationId"], status)
                assert {STATUSES[name] for name in named} == {int(status)}
                assert set(named) <= types
            else:
                assert status < "4" or operation["operationId"] in ("getHealth", "getReadiness")


def test_examples_fit_the_schemas_that_they_stand_beside(document: dict[str, Any]) -> None:
    tried = 0
    for operation in operations(document):
        content = operation.get("requestBody", {}).get("content", {}).get("application/json", {"examples": {}})
        for example in content["examples"].values():
            tried += 1
            assert contract.faults(content["schema"], example["value"]) == []
    assert tried == 20


def test_the_documented_example_of_a_run_is_what_the_url_takes(api: Api, document: dict[str, Any]) -> None:
    content = document["paths"]["/api/tasks/{task_id}/runs"]["post"]["requestBody"]["content"]["application/json"]

    for example in content["examples"].values():
        assert api.post("/api/tasks/job/runs", example["value"]).status == 202


def test_the_pages_need_nothing_from_another_place(api: Api) -> None:
    page, yaml = api.get("/schema"), api.get("/schema/openapi.yaml")

    assert page.headers["content-type"].startswith("text/html")
    assert b"/api/hooks/{path}" in page.body
    for outside in (b"http://", b"https://", b"<script", b"<link", b"<img"):
        assert outside not in page.body
    assert b"openapi: 3.1" in yaml.body
