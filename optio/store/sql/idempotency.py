"""Idempotency keys: the stored first answer to a request, which its repeats get too."""

from optio.errors import Conflict
from optio.store.sql.transaction import Transaction
from optio.store.values import IdempotencyKey


def recall(tx: Transaction, key: IdempotencyKey) -> str | None:
    """Return the stored answer (`Store.recall`); raise Conflict when the key came with another body."""
    row = tx.one(
        "SELECT body_sha256, result FROM once WHERE scope = :scope AND once_key = :key", {"scope": key.scope, "key": key.key}
    )
    if row is None:
        return None
    if row["body_sha256"] != key.body_sha256:
        raise Conflict("this key was used with another body")
    result: str = row["result"]
    return result


def take(tx: Transaction, key: IdempotencyKey, result: str) -> bool:
    """Store an answer unless the key has one; return whether this was the first."""
    is_first = tx.run(
        "INSERT INTO once (scope, once_key, body_sha256, result, at) VALUES (:scope, :key, :sha, :result, :now) "
        "ON CONFLICT (scope, once_key) DO NOTHING",
        {"scope": key.scope, "key": key.key, "sha": key.body_sha256, "result": result, "now": tx.now},
    )
    return is_first == 1


def settle(tx: Transaction, key: IdempotencyKey, result: str | None) -> None:
    """Replace the answer of a key that was taken in this transaction; None frees the key."""
    row = {"scope": key.scope, "key": key.key, "result": result}
    if result is None:
        tx.run("DELETE FROM once WHERE scope = :scope AND once_key = :key", row)
    else:
        tx.run("UPDATE once SET result = :result WHERE scope = :scope AND once_key = :key", row)
