"""API tokens: roles, labels and expiry, with the hash of each secret and never the secret itself."""

from datetime import datetime

from optio.errors import NotFound
from optio.store.sql.rows import from_row
from optio.store.sql.transaction import Transaction, to_micros
from optio.store.values import Role, Token


def add(tx: Transaction, token_id: str, secret_sha256: str, role: Role, label: str, expires_at: datetime | None) -> Token:
    """Store a token (`Store.add_token`)."""
    tx.run(
        "INSERT INTO tokens (id, secret_sha256, role, label, created_at, expires_at) "
        "VALUES (:id, :sha, :role, :label, :now, :expires)",
        {
            "id": token_id,
            "sha": secret_sha256,
            "role": role,
            "label": label,
            "now": tx.now,
            "expires": None if expires_at is None else to_micros(expires_at),
        },
    )
    return from_row(Token, tx.one("SELECT * FROM tokens WHERE id = :id", {"id": token_id}))


def living(tx: Transaction, secret_sha256: str) -> Token | None:
    """Return the token with this hash that is neither expired nor revoked (`Store.token`)."""
    row = tx.one(
        "SELECT * FROM tokens WHERE secret_sha256 = :sha AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > :now)",
        {"sha": secret_sha256, "now": tx.now},
    )
    return None if row is None else from_row(Token, row)


def every(tx: Transaction) -> list[Token]:
    """Return all tokens, newest first (`Store.tokens`)."""
    return [from_row(Token, row) for row in tx.all("SELECT * FROM tokens ORDER BY created_at DESC")]


def revoke(tx: Transaction, token_id: str) -> None:
    """Revoke a token (`Store.revoke_token`)."""
    if not tx.run("UPDATE tokens SET revoked_at = :now WHERE id = :id AND revoked_at IS NULL", {"id": token_id, "now": tx.now}):
        raise NotFound("living token", token_id)


def touch(tx: Transaction, token_id: str) -> None:
    """Record a token's use (`Store.touch_token`)."""
    tx.run("UPDATE tokens SET last_used_at = :now WHERE id = :id", {"id": token_id, "now": tx.now})
