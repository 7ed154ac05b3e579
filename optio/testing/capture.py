"""Turn a delivery that a server received into a test: its redacted payload beside the task file, and today's outcome as the
expectation. Used by `optio hook capture`; writing the files is up to the command."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from optio.compiler.edits.edit_yaml import CannotEdit, rewrite_file
from optio.compiler.source import SourceFile
from optio.compiler.yaml.document import parse
from optio.errors import Invalid
from optio.model import json_body
from optio.model.example import Example
from optio.model.registry import CompiledTask
from optio.model.text import slug
from optio.model.trigger import WebhookConfig
from optio.runs import webhook_decision
from optio.runs.signature import event_header, event_name
from optio.testing.redact import Redaction, Redactor
from optio.testing.trial import try_example


@dataclass(frozen=True, slots=True)
class CapturedTest:
    """A new test: its payload with the file name beside the task file, the entry for `tests:`, and what was redacted."""

    payload_name: str
    payload: bytes
    entry: dict[str, Any]
    redactions: tuple[Redaction, ...]


def capture_delivery(
    task: CompiledTask, config: WebhookConfig, delivery: Mapping[str, Any], data: bytes, redact: Redactor, name: str | None
) -> CapturedTest:
    """Build the test from a delivery as the API shows it and its raw bytes. Raises Malformed for a payload that is not JSON,
    and Invalid for a delivery that cannot be captured."""
    payload = redact(json_body.decode(data))
    text = json.dumps(payload, indent=2, ensure_ascii=False) + "\n"
    header = webhook_decision.kept_header_lookup(delivery["headers"])
    names = [name for name in (event_header(config), "Content-Type") if name is not None]
    headers = {name: value for name in names for value in header(name.lower())}
    if json_body.is_json(headers.get("Content-Type", "application/json")):
        headers.pop("Content-Type", None)
    event = event_name(config, header, payload)
    words = [task.id, *([slug(event)] if event and slug(event) else []), delivery["id"].replace("-", "")[-8:]]
    payload_name = ".".join(words) + ".json"
    entry: dict[str, Any] = {
        "name": name or f"{event or 'delivery'} of {delivery['receivedAt'][:16].replace('T', ' ')}",
        "webhook": payload_name,
        **({"headers": headers} if headers else {}),
    }
    entry["expect"] = _expectation(task, entry, text.encode())
    return CapturedTest(payload_name, text.encode(), entry, tuple(redact.found))


def _expectation(task: CompiledTask, entry: Mapping[str, Any], payload: bytes) -> dict[str, Any]:
    trial = try_example(task, Example.of({**entry, "expect": {}}), payload)
    decision = trial.judgement
    if decision.verdict == "accepted":
        return {"params": dict(decision.params or {})}
    if decision.verdict != "invalid":
        return {"verdict": decision.verdict}
    reasons = [f"{problem.pointer} {problem.message}" for problem in trial.problems] or [decision.detail or ""]
    return {"error": reasons[0] if len(reasons) == 1 else reasons}


def add_test(path: str, data: bytes, entry: Mapping[str, Any]) -> bytes:
    """Return the task file with one more test, formatted as before. Raises CannotEdit, and Invalid when it has this test
    already."""
    document, diagnostics = parse(SourceFile(path, data))
    if document is None:
        raise CannotEdit(diagnostics[0].message, diagnostics[0].span.start.line)
    tests = document.value.get("tests") or []
    if any(isinstance(test, dict) and test.get("webhook") == entry["webhook"] for test in tests):
        raise Invalid(f"`{path}` already has a test with `{entry['webhook']}`: this delivery was captured before")
    return rewrite_file(path, data, {**document.value, "tests": [*tests, dict(entry)]})
