"""The OpenAPI document, and the application held against it."""

from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance, status_code_conformance

from tests.server.api import JOB, Api

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
HOOKED = JOB + "triggers: [{type: webhook, config: {path: job, unsigned: true}}]\n"
# What asks for a run is answered from what exists; the operations are known by these.
OPERATIONS = {
    ("/api/tasks", "get"),
    ("/api/tasks/{task_id}", "get"),
    ("/api/tasks/{task_id}/triggers", "get"),
    ("/api/tasks/{task_id}/runs", "post"),
    ("/api/tasks/{task_id}/runs", "get"),
    ("/api/workflow-runs/{run_id}", "get"),
    ("/api/workflow-runs/{run_id}/logs", "get"),
    ("/api/workflow-runs/{run_id}/retry", "post"),
    ("/api/workflow-runs/{run_id}/cancel", "post"),
    ("/api/hooks/{path}", "post"),
    ("/api/deliveries", "get"),
    ("/api/deliveries/{delivery_id}", "get"),
    ("/api/diagnostics", "get"),
    ("/api/registry", "get"),
    ("/api/runs", "get"),
    ("/healthz", "get"),
    ("/readyz", "get"),
}


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


def test_it_is_openapi_3_1_and_has_every_operation(document: dict[str, Any]) -> None:
    found = {(path, method) for path, operations in document["paths"].items() for method in operations}

    assert document["openapi"].startswith("3.1.")
    assert OPERATIONS - found == set()


def test_every_operation_is_described_tagged_and_says_who_may(document: dict[str, Any]) -> None:
    tags = {tag["name"] for tag in document["tags"]}

    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            where = f"{method} {path}"
            assert operation.get("description"), where
            assert set(operation["tags"]) <= tags, where
            public = path in ("/healthz", "/readyz") or path.startswith("/api/hooks/")
            assert operation.get("security") == ([] if public else None), where
    assert document["security"] == [{"bearer": []}]
    assert document["components"]["securitySchemes"]["bearer"] == {"type": "http", "scheme": "bearer"}


def test_every_error_is_a_problem(document: dict[str, Any]) -> None:
    for operations in document["paths"].values():
        for operation in operations.values():
            for status, response in operation["responses"].items():
                if status >= "4" and not operation["operationId"].startswith("Readyz"):
                    assert set(response["content"]) == {"application/problem+json"}, (operation["operationId"], status)


@pytest.mark.parametrize(("path", "method"), [("/api/tasks/{task_id}/runs", "post"), ("/api/hooks/{path}", "post")])
def test_examples_fit_the_schemas_that_they_stand_beside(document: dict[str, Any], path: str, method: str) -> None:
    operation = document["paths"][path][method]

    for part in (operation["requestBody"], operation["responses"]["202"]):
        content = part["content"]["application/json"]
        assert content["examples"]
        for example in content["examples"].values():
            jsonschema_rs.validate(content["schema"], example["value"])


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


def test_random_requests_are_answered_as_the_document_says(api: Api, document: dict[str, Any]) -> None:
    tried = 0
    real = {
        "task_id": "job",
        "path": "job",
        "kind": "webhook",
        "digest": api.get("/api/tasks/job").json["digest"],
        "run_id": api.get("/api/runs?state=failed").json["items"][0]["id"],
        "delivery_id": api.get("/api/deliveries").json["items"][0]["id"],
    }

    for found in schemathesis.openapi.from_dict(document).get_all_operations():

        @settings(max_examples=10, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
        @given(case=found.ok().as_strategy())
        def hold(case: Any) -> None:
            nonlocal tried
            tried += 1
            if tried % 2:
                case.path_parameters = {name: real[name] for name in case.path_parameters or {}}
            case.validate_response(case.call(base_url=f"http://127.0.0.1:{api.port}"), checks=CHECKS)

        hold()

    assert tried >= 100
