"""The OpenAPI 3.1 document. Litestar derives the operations from the handlers, msgspec the schemas from `optio.server.bodies`.

Added here are what handlers declare beside their types: request bodies that are read raw (`body`), problems (`problems`),
repeatable requests (`idempotent`), headers of answers (`answers_with`) and further forms of an answer (`media`). The pages load
nothing from elsewhere, so they work without internet.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from html import escape
from http import HTTPStatus
from typing import Annotated, Any, get_args

from litestar import Controller, Litestar, Request, Router, post
from litestar.handlers import HTTPRouteHandler
from litestar.openapi import OpenAPIConfig
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.plugins import OpenAPIRenderPlugin, YamlRenderPlugin
from litestar.openapi.spec import Tag
from litestar.params import FromPath, HeaderParameter
from litestar.routes import HTTPRoute
from litestar.types import Method

from optio.errors import ProblemType
from optio.server import asyncapi, schemas
from optio.server.auth import PUBLIC, role
from optio.server.bodies.deliveries import ChallengeBody, WebhookAnswerBody
from optio.server.problems import MEDIA_TYPE, STATUSES
from optio.version import __version__

Document = dict[str, Any]
_TAGS = {
    "tasks": "Tasks and their triggers, as they are served",
    "runs": "Executions: started, listed, shown, cancelled, retried",
    "logs": "Agent output: paged, exported, live",
    "webhooks": "Signed requests that start runs, and what became of each",
    "connections": "Services that runs reach through the gateway",
    "pools": "Warm pools: pods that are kept ready for runs, and how many are worth their cost",
    "health": "Health, and what is served",
}
_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "Makes the request repeatable: the same key with the same body gives the same answer",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
}
_IF_MATCH = {
    "name": "If-Match",
    "in": "header",
    "required": False,
    "description": "Only if the task is still this one: the `ETag` that it was answered with, or `*`",
    "schema": {"type": "string", "pattern": '^("sha256:[0-9a-f]{64}"|[*])$'},
}
_GENERIC = {HTTPStatus(status).description for status in (200, 201, 202)}
_RETRY_AFTER = {"Retry-After": {"description": "Seconds until the next try", "schema": {"type": "integer"}}}
# Unknown Host names, pages of other sites and unknown parameters are refused on every route.
_EVERYWHERE: set[ProblemType] = {"bad-host", "forbidden", "invalid", "store-unavailable"}
_OF_BODIES: set[ProblemType] = {"malformed", "too-slow", "too-large", "unsupported"}
_OF_WRITES: set[ProblemType] = {"commit-unknown", "store-full"}


class WebhookDocument(Controller):
    """The description of webhooks, which `optio.server.webhooks` receives without a framework. Nothing calls it."""

    tags = ("webhooks",)

    @post(
        "/api/hooks/{path:str}",
        status_code=202,
        opt=role(PUBLIC),
        body=Any,
        examples=[{"repository": {"name": "optio"}}],
        body_required=True,
        responses={
            200: ResponseSpec(
                ChallengeBody,
                description="The sender's challenge, by which Slack verifies the URL: no run is started",
                generate_examples=False,
            )
        },
        problems=(
            "unauthorized",
            "conflict",
            "duplicate",
            "rate-limited",
            "too-many-unsigned",
            "queue-full",
            "secret-unavailable",
        ),
    )
    async def receive_webhook(
        self,
        path: FromPath[str],
        signature: Annotated[str | None, HeaderParameter(name="X-Optio-Signature")] = None,
        timestamp: Annotated[str | None, HeaderParameter(name="X-Optio-Timestamp")] = None,
        delivery: Annotated[str | None, HeaderParameter(name="X-Optio-Delivery")] = None,
    ) -> WebhookAnswerBody:
        """Start a run by webhook. The answer has the run's id at once; the run executes asynchronously. The request is signed
        over the raw body by the scheme that the task names: by default `X-Optio-Signature: <hex>` or `sha256=<hex>`, an
        HMAC-SHA256 keyed by the secret's bytes as written; with `X-Optio-Timestamp: <Unix seconds>` it is over
        `timestamp.body`. A delivery id that was received before (`X-Optio-Delivery` or `Idempotency-Key`) gives the first run's
        id. The same signed body under another id within the `replayWindow` does, too, and the `reason` says it."""
        raise NotImplementedError


# Headers of answers, which handlers name under `answers_with`.
_HEADERS = {
    "ETag": "The digest of the task, for `If-Match`",
    "Location": "The path of what was made",
    "Idempotency-Replayed": "`true` where an earlier request with this key decided the answer",
}


def complete_document(document: Document, app: Litestar) -> Document:
    """Return Litestar's document with schemas, request bodies, problems and security added."""
    webhooks = Litestar([WebhookDocument], openapi_config=config())
    document = json.loads(json.dumps(document))
    document["paths"] |= json.loads(json.dumps(webhooks.openapi_schema.to_schema()))["paths"]
    document["components"] = {
        "schemas": schemas.components(),
        "responses": {
            _phrase(status): {
                "description": HTTPStatus(status).phrase,
                "content": {MEDIA_TYPE: {"schema": schemas.reference("Problem")}},
                **({"headers": _RETRY_AFTER} if status in (429, 503) else {}),
            }
            for status in sorted(set(STATUSES.values()) - {405, 500})
        },
        "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
    }
    document["security"] = [{"bearer": []}]
    handlers = {operation_id(handler): handler for router in (app, webhooks) for handler in _handlers(router)}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            _complete(path, method, operation, handlers[operation["operationId"]], document["components"]["schemas"])
    return schemas.tidy(document)


def operation_id(handler: HTTPRouteHandler, method: Method | None = None, path: Any = None) -> str:
    """Return the name of an operation in camelCase, such as `startRun`."""
    return re.sub(r"_([a-z])", lambda match: match[1].upper(), handler.handler_name)


def _handlers(app: Litestar) -> Iterator[HTTPRouteHandler]:
    return (handler for route in app.routes if isinstance(route, HTTPRoute) for handler in route.route_handlers)


def _complete(path: str, method: str, operation: Document, handler: HTTPRouteHandler, components: Document) -> None:
    text = " ".join(operation["description"].split())
    operation["description"] = text
    operation["summary"] = re.split(r"\.(?: |$)", text)[0]
    if handler.opt["role"] == PUBLIC:
        operation["security"] = []
    parameters = operation.setdefault("parameters", [])
    responses = operation["responses"]
    if "body" in handler.opt:
        examples = {f"example{n}": {"value": example} for n, example in enumerate(handler.opt["examples"], 1)}
        content = {"schema": schemas.of(handler.opt["body"]), "examples": examples}
        operation["requestBody"] = {
            "content": {"application/json": content},
            "required": bool(handler.opt.get("body_required")),
        }
    if handler.opt.get("idempotent"):
        parameters.append(_KEY)
    if "stale-task" in handler.opt.get("problems", ()):
        parameters.append(_IF_MATCH)
    for kind in handler.opt.get("media", ()):
        responses["200"]["content"][kind] = {"schema": {"type": "string"}}
    for response in responses.values():
        kind = response.get("content", {}).get("application/json", {}).get("schema", {}).get("$ref", "").rpartition("/")[2]
        if kind and response["description"] in _GENERIC:
            response["description"] = components[kind]["description"]
        if response.get("content") and handler.opt.get("answers_with"):
            response["headers"] = {
                name: {"description": _HEADERS[name], "schema": {"type": "string"}} for name in handler.opt["answers_with"]
            }
    # The framework's own error schema is not used by this API.
    responses.pop("400", None)
    by_status = defaultdict(list)
    for problem in _problems(path, method, handler):
        by_status[str(STATUSES[problem])].append(problem)
    for status, problems in sorted(by_status.items()):
        if status not in responses:
            names = ", ".join(f"`{problem}`" for problem in problems)
            responses[status] = {"$ref": f"#/components/responses/{_phrase(int(status))}", "description": names}
    if not parameters:
        del operation["parameters"]


def _problems(path: str, method: str, handler: HTTPRouteHandler) -> list[ProblemType]:
    types: set[ProblemType] = {*_EVERYWHERE, *handler.opt.get("problems", ())}
    if handler.opt["role"] != PUBLIC:
        types.add("unauthorized")
    if "{" in path:
        types.add("not-found")
    if method in ("post", "put", "patch"):
        types |= _OF_BODIES
    if method != "get":
        types |= _OF_WRITES
    return [problem for problem in get_args(ProblemType) if problem in types]


def _phrase(status: int) -> str:
    return re.sub(r"\W", "", HTTPStatus(status).phrase)


def _document(request: Request[Any, Any, Any], derived: Document) -> Document:
    """Return the completed document of the application, made once."""
    state = request.app.state
    if "document" not in state:
        state["document"] = complete_document(derived, request.app)
    document: Document = state["document"]
    return document


class _Json(OpenAPIRenderPlugin):
    def render(self, request: Request[Any, Any, Any], openapi_schema: Document) -> bytes:
        return self.render_json(request, _document(request, openapi_schema))


class _Yaml(YamlRenderPlugin):
    def render(self, request: Request[Any, Any, Any], openapi_schema: Document) -> bytes:
        return super().render(request, _document(request, openapi_schema))


class _AsyncApi(OpenAPIRenderPlugin):
    def render(self, request: Request[Any, Any, Any], openapi_schema: Document) -> bytes:
        return self.render_json(request, asyncapi.document())


class _OperationsPage(OpenAPIRenderPlugin):
    """A page that lists every operation, without scripts."""

    def render(self, request: Request[Any, Any, Any], openapi_schema: Document) -> bytes:
        rows = [
            f"<tr><td><code>{method.upper()}</code></td><td><code>{escape(path)}</code></td>"
            f"<td>{escape(operation['description'])}</td></tr>"
            for path, operations in sorted(_document(request, openapi_schema)["paths"].items())
            for method, operation in operations.items()
        ]
        return _PAGE.replace("ROWS", "\n".join(rows)).encode()


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Optio API</title></head><body>
<h1>Optio API</h1>
<p>OpenAPI 3.1: <a href="/schema/openapi.json">openapi.json</a>, <a href="/schema/openapi.yaml">openapi.yaml</a>;
AsyncAPI 3.0 of live logs: <a href="/schema/asyncapi.json">asyncapi.json</a></p>
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
        operation_id_creator=operation_id,
        render_plugins=[
            _OperationsPage(path="/"),
            _Json(path="/openapi.json", media_type="application/vnd.oai.openapi+json"),  # type: ignore[arg-type]
            _Yaml(),
            _AsyncApi(path="/asyncapi.json", media_type="application/vnd.aai.asyncapi+json"),  # type: ignore[arg-type]
        ],
        openapi_router=Router(path="/schema", route_handlers=[], opt=role("viewer"), include_in_schema=False),
    )
