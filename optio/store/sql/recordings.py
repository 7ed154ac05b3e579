"""Recordings of model calls: what the gateway keeps of requests and answers, masked before it comes here.

An agent sends its whole conversation with each call. So a request is stored in parts, the members of its lists among them, and
a part that several calls of a run share is stored once.
"""

import hashlib
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from optio.errors import NotFound
from optio.model.model_call import AttemptKey, CallRecording
from optio.store.sql.transaction import Row, Transaction, dump_json

# What the recording of a run may use of the database.
MAX_RUN_BYTES = 32 << 20
# A smaller value is no part of its own.
_MIN_PART_BYTES = 256
_INSERT = """
INSERT INTO recorded_calls (run_id, number, id, path, status, content_type, is_whole, omitted, request, answer, bytes)
VALUES (:run_id, :number, :id, :path, :status, :content_type, :is_whole, :omitted, :request, :answer, :bytes)
ON CONFLICT DO NOTHING
"""
_INSERT_PART = """
INSERT INTO recorded_parts (run_id, digest, data) VALUES (:run_id, :digest, :data) ON CONFLICT DO NOTHING
"""
_CALL = "SELECT 1 AS one FROM model_calls WHERE run_id = :run_id AND number = :number AND id = :id"
_FIND = """
SELECT * FROM recorded_calls WHERE run_id = :run_id AND number = :number AND id = :id
"""


@dataclass(frozen=True, slots=True)
class EncodedRecording:
    """A recording as it is stored: `request` is JSON in which digests stand for `parts`. All are compressed."""

    recording: CallRecording
    request: bytes
    parts: dict[str, bytes]
    answer: bytes


def encode(recording: CallRecording) -> EncodedRecording:
    """Return the recording as it is stored."""
    parts: dict[str, bytes] = {}

    def part(value: Any) -> Any:
        text = dump_json(value).encode()
        if len(text) < _MIN_PART_BYTES:
            return {"value": value}
        digest = hashlib.sha256(text).hexdigest()
        parts[digest] = zlib.compress(text)
        return {"part": digest}

    request = recording.request if isinstance(recording.request, dict) else {}
    outline = {
        name: {"list": [part(item) for item in value]} if isinstance(value, list) else part(value)
        for name, value in request.items()
    }
    return EncodedRecording(recording, zlib.compress(dump_json(outline).encode()), parts, zlib.compress(recording.answer))


def add(tx: Transaction, key: AttemptKey, call_id: str, encoded: EncodedRecording) -> None:
    """Store the recording of a call (`Store.record_call`)."""
    place = {"run_id": key.run_id, "number": key.attempt}
    # A deletion of the run takes this row first, so nothing is left of a run that is deleted meanwhile.
    held = tx.hold("SELECT 1 AS one FROM attempt_keys WHERE run_id = :run_id AND number = :number", place)
    if held is None or tx.one(_CALL, {**place, "id": call_id}) is None:
        return
    known = {row["digest"] for row in tx.all("SELECT digest FROM recorded_parts WHERE run_id = :run_id", place)}
    used = tx.one("SELECT COALESCE(SUM(bytes), 0) AS used FROM recorded_calls WHERE run_id = :run_id", place)["used"]
    recording = encoded.recording
    parts = {digest: data for digest, data in encoded.parts.items() if digest not in known}
    size = len(encoded.request) + len(encoded.answer) + sum(map(len, parts.values()))
    omitted = recording.omitted or ("size" if int(used) + size > MAX_RUN_BYTES else None)
    row = {
        **place,
        "id": call_id,
        "path": recording.path,
        "status": recording.status,
        "content_type": recording.content_type,
        "is_whole": int(recording.is_whole),
        "omitted": omitted,
        "request": None if omitted else encoded.request,
        "answer": None if omitted else encoded.answer,
        "bytes": 0 if omitted else size,
    }
    tx.run(_INSERT, row)
    if omitted is None:
        tx.many(_INSERT_PART, [{**place, "digest": digest, "data": data} for digest, data in parts.items()])


def get(tx: Transaction, run_id: str, attempt: int, call_id: str) -> CallRecording | None:
    """Return the recording of a call (`Store.recording`)."""
    row = tx.one(_FIND, {"run_id": run_id, "number": attempt, "id": call_id})
    return None if row is None else _recording(tx, row)


def delete(tx: Transaction, run_id: str) -> None:
    """Delete what is recorded of a run."""
    for table in ("recorded_calls", "recorded_parts"):
        tx.run(f"DELETE FROM {table} WHERE run_id = :run_id", {"run_id": run_id})  # noqa: S608 - names are ours


def _recording(tx: Transaction, row: Row) -> CallRecording:
    request = None
    if row["omitted"] is None:
        outline = json.loads(zlib.decompress(row["request"]))
        values = {digest: _part(tx, row["run_id"], digest) for digest in set(_digests(outline))}
        request = {
            name: [_value(item, values) for item in entry["list"]] if "list" in entry else _value(entry, values)
            for name, entry in outline.items()
        }
    return CallRecording(
        path=row["path"],
        status=row["status"],
        content_type=row["content_type"],
        is_whole=bool(row["is_whole"]),
        request=request,
        answer=b"" if row["answer"] is None else zlib.decompress(row["answer"]),
        omitted=row["omitted"],
    )


def _digests(outline: dict[str, Any]) -> Iterator[str]:
    for entry in outline.values():
        yield from (item["part"] for item in entry.get("list", [entry]) if "part" in item)


def _value(item: dict[str, Any], values: dict[str, Any]) -> Any:
    return values[item["part"]] if "part" in item else item["value"]


def _part(tx: Transaction, run_id: str, digest: str) -> Any:
    sql = "SELECT data FROM recorded_parts WHERE run_id = :run_id AND digest = :digest"
    row = tx.one(sql, {"run_id": run_id, "digest": digest})
    if row is None:  # deleted since
        raise NotFound("run", run_id)
    return json.loads(zlib.decompress(row["data"]))
