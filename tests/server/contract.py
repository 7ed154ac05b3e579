"""The OpenAPI document as a contract: what a server answers must be what the document says of its operation."""

import json
import re
from functools import cache
from typing import Any, NamedTuple

import jsonschema_rs

from optio.server.app import rest
from optio.server.openapi import complete_document
from tests.support import Answer


@cache
def document() -> dict[str, Any]:
    """The document of this version. Nothing in it depends on an installation."""
    return complete_document(rest().openapi_schema.to_schema(), rest())


class _Path(NamedTuple):
    template: str
    pattern: re.Pattern[str]


@cache
def _paths() -> list[_Path]:
    """Templates, those with the fewest variables first."""
    found = sorted(document()["paths"], key=lambda path: path.count("{"))
    return [_Path(path, re.compile(re.sub(r"\{\w+\}", "[^/]+", path))) for path in found]


@cache
def _validator(reference: str) -> jsonschema_rs.Draft202012Validator:
    return jsonschema_rs.Draft202012Validator(
        {"components": document()["components"], "$ref": reference}, validate_formats=True
    )


@cache
def _inline_validator(schema: str) -> jsonschema_rs.Draft202012Validator:
    return jsonschema_rs.Draft202012Validator({"components": document()["components"], **json.loads(schema)})


def faults(schema: dict[str, Any], value: Any) -> list[str]:
    """What of a value does not fit a schema of the document."""
    validator = _validator(schema["$ref"]) if set(schema) == {"$ref"} else _inline_validator(json.dumps(schema))
    return [f"{'/'.join(map(str, error.instance_path))}: {error}" for error in validator.iter_errors(value)]


def operation(method: str, path: str) -> dict[str, Any] | None:
    """The operation that a request asks for; None for a path or method that the document does not have."""
    path = path.partition("?")[0]
    for template, pattern in _paths():
        if pattern.fullmatch(path):
            found: dict[str, Any] | None = document()["paths"][template].get(method.lower())
            return found
    return None


def breach(method: str, path: str, answer: Answer) -> str | None:
    """How an answer breaks the document; None where it does not, or where the document has no such operation."""
    asked = operation(method, path)
    # A path in another spelling is refused before any operation is looked up. Bugs that tests make, and the redirect that takes
    # a browser's token out of its address, are documented nowhere.
    if asked is None or answer.status in (303, 405, 500) or (answer.status == 404 and "404" not in asked["responses"]):
        return None
    where = f"{method} {path}: {answer.status}"
    response = asked["responses"].get(str(answer.status))
    if response is None:
        return f"{where} is not documented: {answer.body[:500]!r}"
    problems = re.findall(r"`([\w-]+)`", response["description"])
    if "$ref" in response:
        response = document()["components"]["responses"][response["$ref"].rpartition("/")[2]]
    unsaid = {"etag", "location", "idempotency-replayed"} & {name.lower() for name in answer.headers}
    unsaid -= {name.lower() for name in response.get("headers", ())}
    if unsaid:
        return f"{where} has headers that are not documented: {sorted(unsaid)}"
    if not answer.body:
        return f"{where} has no body" if response.get("content") else None
    kind = next(value for name, value in answer.headers.items() if name.lower() == "content-type").partition(";")[0]
    content = response["content"].get(kind)
    if content is None:
        return f"{where} has the type {kind}"
    if not kind.endswith("json"):
        return None
    value = json.loads(answer.body)
    wrong = faults(content["schema"], value)
    if wrong:
        return f"{where} does not fit: {wrong[:3]}"
    if kind == "application/problem+json" and value["type"].rpartition(":")[2] not in problems:
        return f"{where} is the problem {value['type']}, documented are {problems}"
    return None
