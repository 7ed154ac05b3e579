"""Create, list and revoke API tokens, and list and revoke sessions of people who signed in at a provider. A token is shown
once, when it is created; the database keeps only its hash."""

import argparse
import re
import secrets
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from optio.cli import OK
from optio.cli.shared import flags, ids, output
from optio.errors import Conflict, SettingsError
from optio.model.text import parse_duration
from optio.server.auth import ROLES, token_hash
from optio.store.base import TokenStore
from optio.store.values import Role, Token
from optio.wiring import open_store

_STRONG_TOKEN = re.compile(r"[A-Za-z0-9._-]{32,200}", re.ASCII)
_COLUMNS = (
    output.Column("ID", "id"),
    output.Column("KIND", "kind", drop=4),
    output.Column("ROLE", "role"),
    output.Column("LABEL", lambda token: token["label"] or "-", free=True),
    output.Column("STATE", "state"),
    output.Column("CREATED", lambda token: token["createdAt"] or "-", drop=2),
    output.Column("EXPIRES", lambda token: token["expiresAt"] or "-", drop=1),
    output.Column("LAST USED", lambda token: token["lastUsedAt"] or "-", drop=3),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    create = verbs.add_parser("create", help="create a token and print it")
    create.add_argument("--role", choices=ROLES, required=True, help="what it may do: read, also start runs, or everything")
    create.add_argument("--label", default="", help="what it is for")
    create.add_argument("--expires", metavar="DURATION", help="such as 720h; by default it does not expire")
    create.add_argument(
        "--from-file", type=Path, metavar="FILE", help="use the token in this file; do nothing if it exists already"
    )
    verbs.add_parser("list", help="list every token and session, without its secret")
    revoke = verbs.add_parser("revoke", help="revoke a token, or end a session, at once")
    revoke.add_argument("id", metavar="ID", help="the token's id, or its unique beginning")
    for sub in verbs.choices.values():
        flags.add_setting_flags(sub, "data_dir")
        # The name of a new token alone would lose its secret.
        output.add_arguments(sub, (output.TABLE, output.JSON, output.YAML) if sub is create else output.FORMATS)


def run(args: argparse.Namespace) -> int:
    """Run the verb and return its exit code."""
    with closing(open_store(flags.read_settings(args))) as store:
        if args.verb == "create":
            _create(store, args)
        elif args.verb == "revoke":
            token_id = ids.token_id(store.tokens(), args.id)
            store.revoke_token(token_id)
            output.show(args.output, {"id": token_id, "state": "revoked"}, lambda: f"{token_id} is revoked", [token_id])
        else:
            tokens = [_document(token) for token in store.tokens()]
            as_text = lambda: output.listing(_COLUMNS, {"items": tokens}, "no tokens", wide=args.output == output.WIDE)  # noqa: E731
            output.show(args.output, tokens, as_text, (str(token["id"]) for token in tokens))
    return OK


def _create(store: TokenStore, args: argparse.Namespace) -> None:
    try:
        expires = datetime.now(UTC) + parse_duration(args.expires) if args.expires else None
    except ValueError as err:
        raise SettingsError(f"--expires: {err}") from err
    if args.from_file is not None:
        _create_known(store, args.from_file, args.role, args.label, expires, args.output)
        return
    secret = "optio_" + secrets.token_urlsafe(32)
    token = store.add_token("tok_" + secrets.token_hex(6), token_hash(secret), args.role, args.label, expires)
    output.show(args.output, {"id": token.id, "role": token.role, "token": secret}, lambda: secret, [token.id])


def _create_known(store: TokenStore, file: Path, role: Role, label: str, expires: datetime | None, format: str) -> None:
    """Create the token of a file unless it exists, so that many processes can do it at each start. The token is not printed."""
    try:
        secret = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as err:
        reason = err.strerror if isinstance(err, OSError) else "it is not text"
        raise SettingsError(f"--from-file: {file} cannot be read: {reason}") from err
    if not _STRONG_TOKEN.fullmatch(secret):
        raise SettingsError(f"--from-file: invalid token in {file}: write 32 to 200 random letters, digits, `-`, `_` or `.`")
    sha = token_hash(secret)
    id = f"tok_{sha[:12]}"
    is_created = True
    try:
        store.add_token(id, sha, role, label, expires)
    except Conflict:
        is_created = False
    token = next(token for token in store.tokens() if token.id == id)
    if store.token(sha) is None:
        raise SettingsError(f"--from-file: the token in {file} is revoked or expired ({id}): write a new one")
    if token.role != role:
        raise SettingsError(f"--from-file: the token in {file} already has the role {token.role} ({id}): write another token")
    text = f"{id} {'is created' if is_created else 'exists'}"
    output.show(format, {"id": id, "role": role, "made": is_created}, lambda: text, [id])


def _document(token: Token) -> dict[str, str | None]:
    is_over = token.expires_at is not None and token.expires_at <= datetime.now(UTC)
    return {
        "id": token.id,
        "kind": "session" if token.is_session else "token",
        "role": token.role,
        "label": token.label,
        "state": "revoked" if token.revoked_at else "expired" if is_over else "living",
        "createdAt": _time_text(token.created_at),
        "expiresAt": _time_text(token.expires_at),
        "lastUsedAt": _time_text(token.last_used_at),
    }


def _time_text(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat(timespec="seconds")
