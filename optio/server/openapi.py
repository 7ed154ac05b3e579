"""The OpenAPI 3.1 document: what Litestar derives from the handlers, completed by hand.

Webhooks and WebSockets are plain ASGI, bodies are read raw, and every error is an RFC 9457 problem. The examples are those of
the documentation. The pages load nothing from elsewhere, so they work without internet.
"""

import json
from html import escape
from typing import Any

from litestar import Request, Router
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import OpenAPIRenderPlugin, YamlRenderPlugin
from litestar.openapi.spec import Tag

from optio.server.auth import role
from optio.version import __version__

_TASK = {
    "type": "standalone",
    "name": "Weekly Security Report",
    "description": "Scans dependencies and generates a vulnerability summary",
    "agentRuntime": "claude-code",
    "model": "sonnet",
    "promptTemplate": (
        "Analyze the dependency list for {{REPO_NAME}} and produce a security report. Focus on: {{FOCUS_AREAS}}"
    ),
    "paramsSchema": {
        "type": "object",
        "properties": {
            "REPO_NAME": {"type": "string"},
            "FOCUS_AREAS": {"type": "string", "default": "CVEs, outdated packages, license issues"},
        },
        "required": ["REPO_NAME"],
    },
    "maxTurns": 20,
    "maxRetries": 2,
    "maxConcurrent": 1,
}
_START = {"params": {"REPO_NAME": "optio", "FOCUS_AREAS": "CVEs, outdated packages"}}
_SCHEDULE = {"type": "schedule", "config": {"cronExpression": "0 9 * * 1", "paramMapping": {"REPO_NAME": "optio"}}}
_WEBHOOK = {
    "type": "webhook",
    "config": {"path": "security-scan", "secret": "whsec_...", "paramMapping": {"REPO_NAME": "$.repository.name"}},
}
# Example requests of the documentation, by operation.
_BODIES: dict[tuple[str, str], dict[str, Any]] = {
    ("/api/tasks", "post"): {"weekly": {"value": _TASK}},
    ("/api/tasks/{task_id}", "patch"): {"limits": {"value": {"maxTurns": 10, "description": None}}},
    ("/api/tasks/{task_id}/pause", "post"): {"why": {"value": {"reason": "the API is down"}}, "nothing": {"value": {}}},
    ("/api/registry/removal/release", "post"): {"seen": {"value": {"digest": "5d0c1f9a77e2"}}},
    ("/api/tasks/{task_id}/runs", "post"): {"manual": {"value": _START}, "nothing": {"value": {}}},
    ("/api/tasks/{task_id}/triggers", "post"): {"schedule": {"value": _SCHEDULE}, "webhook": {"value": _WEBHOOK}},
    ("/api/hooks/{path}", "post"): {"push": {"value": {"repository": {"name": "optio"}}}},
    ("/api/deliveries/{delivery_id}/replay", "post"): {"try": {"value": {"dryRun": True}}, "again": {"value": {"again": True}}},
}
_ID = "019b8f2e-6d1c-7a41-9a52-0c5b7f6f1c11"
_ANSWERS: dict[tuple[str, str], tuple[str, Any]] = {
    ("/api/tasks/{task_id}/runs", "post"): (
        "202",
        {"runId": _ID, "id": _ID, "taskId": "weekly-security-report", "state": "queued"},
    ),
    ("/api/hooks/{path}", "post"): ("202", {"runId": _ID, "status": "accepted"}),
}
_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "Makes the request repeatable: the same key with the same body gives the same answer",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
}
_REPEATABLE = {
    ("/api/tasks", "post"): "201",
    ("/api/tasks/{task_id}/triggers", "post"): "201",
    ("/api/tasks/{task_id}/runs", "post"): "202",
}
_IF_MATCH = {
    "name": "If-Match",
    "in": "header",
    "required": False,
    "description": "Only if the task is still this one: the `ETag` that it was answered with, or `*`",
    "schema": {"type": "string", "pattern": '^("sha256:[0-9a-f]{64}"|[*])$'},
}
_TAGS = {
    "tasks": "Tasks and their triggers, as they are served",
    "runs": "Executions: started, listed, shown, cancelled, retried",
    "logs": "Agent output: paged, exported, live",
    "webhooks": "Signed requests that start runs, and what became of each",
    "pools": "Warm pools: pods that are kept ready for runs, and how many are worth their cost",
    "health": "Health, and what is served",
}
_PROBLEM = {
    "type": "object",
    "description": "RFC 9457",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "runId": {"type": "string", "description": "the run that stands for the same business key"},
        "errors": {
            "type": "array",
            "description": "one entry per fault",
            "items": {
                "type": "object",
                "required": ["pointer", "message"],
                "properties": {
                    "pointer": {
                        "type": "string",
                        "description": "JSON Pointer (RFC 6901) into the body, or /NAME of a parameter",
                    },
                    "message": {"type": "string"},
                    "code": {"type": "string"},
                    "hint": {"type": "string"},
                },
            },
        },
    },
}
_MEANING = {
    "400": "The request cannot be read",
    "401": "The token is missing, unknown, expired or revoked",
    "403": "The token's role is not sufficient, or the request comes from a page of another site",
    "404": "No object has this id",
    "408": "The body took too long",
    "409": "The current state does not allow it",
    "412": "The task has another digest than `If-Match` names",
    "413": "The body is too large",
    "415": "The body is not JSON",
    "422": "The request is invalid: one entry per fault",
    "429": "Too many requests, or too many queued runs: see Retry-After",
    "503": "The store is unavailable: nothing was changed",
}
_HOOK = {
    "tags": ["webhooks"],
    "operationId": "ReceiveWebhook",
    "summary": "Start a run by webhook",
    "description": (
        "Answers at once with the run's id; the run executes asynchronously. Signed over the raw body by the scheme that the "
        "task names: by default `X-Optio-Signature: <hex>` or `sha256=<hex>`, an HMAC-SHA256 keyed by the secret's bytes as "
        "written; with `X-Optio-Timestamp: <Unix seconds>` it is over `timestamp.body`. A delivery id that was received before "
        "(`X-Optio-Delivery` or `Idempotency-Key`) gives the first run's id. The same signed body "
        "under another id within the `replayWindow` does, too, and the `reason` says it."
    ),
    "security": [],
    "parameters": [{"name": "path", "in": "path", "required": True, "schema": {"type": "string"}}]
    + [
        {"name": name, "in": "header", "required": False, "schema": {"type": "string", "pattern": "^[!-~]+$"}}
        for name in ("X-Optio-Signature", "X-Optio-Timestamp", "X-Optio-Delivery")
    ],
    "responses": {
        "200": {
            "description": "The sender's challenge, by which Slack verifies the URL (`scheme: slack`): no run is started",
            "content": {
                "application/json": {
                    "schema": {"type": "object", "required": ["challenge"], "properties": {"challenge": {"type": "string"}}}
                }
            },
        },
        "202": {
            "description": (
                "Accepted. `runId` is null when the task's filter does not want it (`status: filtered`), and an earlier run's "
                "when that stands for the same business key (`status: duplicate`)"
            ),
            "content": {
                "application/json": {
                    "schema": {
                        "type": "object",
                        "required": ["runId", "status"],
                        "properties": {
                            "runId": {"type": ["string", "null"]},
                            "status": {"enum": ["accepted", "filtered", "duplicate"]},
                            "duplicate": {"type": "boolean"},
                            "reason": {"type": "string"},
                        },
                    }
                }
            },
        },
    },
}


def complete_document(document: dict[str, Any]) -> dict[str, Any]:
    """Return Litestar's document with webhooks, request bodies, examples, problems and security added."""
    document = json.loads(json.dumps(document))
    document["paths"]["/api/hooks/{path}"] = {"post": json.loads(json.dumps(_HOOK))}
    components = document.setdefault("components", {})
    components.setdefault("schemas", {})["Problem"] = _PROBLEM
    components["securitySchemes"] = {"bearer": {"type": "http", "scheme": "bearer"}}
    document["security"] = [{"bearer": []}]
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            _complete(path, method, operation)
    return document


def _complete(path: str, method: str, operation: dict[str, Any]) -> None:
    examples = _BODIES.get((path, method))
    if examples is not None:
        content = operation.setdefault("requestBody", {}).setdefault("content", {})
        content.setdefault("application/json", {"schema": {"type": "object"}})["examples"] = examples
    status, example = _ANSWERS.get((path, method), ("", None))
    if status:
        operation["responses"][status]["content"]["application/json"]["examples"] = {"first": {"value": example}}
    if path in ("/healthz", "/readyz"):
        operation["security"] = []
    if path == "/readyz":
        operation["responses"]["503"] = {**operation["responses"]["200"], "description": "Not ready: `problems` says why"}
    repeatable = _REPEATABLE.get((path, method))
    if repeatable is not None:
        operation.setdefault("parameters", []).append(_KEY)
        operation["responses"]["200"] = {
            **operation["responses"][repeatable],
            "description": "The earlier result for this key",
        }
    # Unknown Host names, and pages of other sites, are refused on every route.
    statuses = {"400", "403", "503"}
    if operation.get("security") is None:
        statuses.add("401")
    if "{" in path:
        statuses.add("404")
    if operation.get("parameters") or method != "get":
        statuses.add("422")
    if method != "get":
        statuses |= {"408", "409", "413", "415"}
    if path.startswith("/api/tasks/") and method in ("patch", "delete"):
        operation["parameters"].append(_IF_MATCH)
        statuses.add("412")
    if path.startswith("/api/hooks/"):
        statuses |= {"401", "429"}
    if path.endswith("/runs") and method == "post":
        statuses.add("429")
    # The framework's own error schema is not used by this API.
    operation["responses"].pop("400", None)
    for each in sorted(statuses - set(operation["responses"])):
        schema = {"$ref": "#/components/schemas/Problem"}
        operation["responses"][each] = {
            "description": _MEANING[each],
            "content": {"application/problem+json": {"schema": schema}},
        }


class _Json(OpenAPIRenderPlugin):
    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        return self.render_json(request, complete_document(openapi_schema))


class _Yaml(YamlRenderPlugin):
    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        return super().render(request, complete_document(openapi_schema))


class _OperationsPage(OpenAPIRenderPlugin):
    """A page that lists every operation, without scripts."""

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        rows = []
        for path, operations in sorted(complete_document(openapi_schema)["paths"].items()):
            for method, operation in operations.items():
                text = operation.get("description") or operation.get("summary", "")
                rows.append(
                    f"<tr><td><code>{method.upper()}</code></td><td><code>{escape(path)}</code></td><td>{escape(text)}</td></tr>"
                )
        return _PAGE.replace("ROWS", "\n".join(rows)).encode()


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Optio API</title></head><body>
<h1>Optio API</h1>
<p>OpenAPI 3.1: <a href="/schema/openapi.json">openapi.json</a>, <a href="/schema/openapi.yaml">openapi.yaml</a></p>
<table>
ROWS
</table>
</body></html>
"""


def config() -> OpenAPIConfig:
    """Return the configuration that serves the document at `/schema`: as a page, as JSON and as YAML."""
    return OpenAPIConfig(
        title="Optio",
        version=__version__,
        description="Agent tasks as code.",
        tags=[Tag(name=name, description=text) for name, text in _TAGS.items()],
        use_handler_docstrings=True,
        render_plugins=[
            _OperationsPage(path="/"),
            _Json(path="/openapi.json", media_type="application/vnd.oai.openapi+json"),  # type: ignore[arg-type]
            _Yaml(),
        ],
        openapi_router=Router(path="/schema", route_handlers=[], opt=role("viewer"), include_in_schema=False),
    )
