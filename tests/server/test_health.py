"""`/readyz` says what is true at the moment it is asked."""

import contextlib
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from optio.errors import StoreUnavailable
from tests.server.api import Api


def test_a_store_that_fails_is_noticed_by_the_next_request_and_so_is_its_return(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away() -> None:
        raise StoreUnavailable("secret words of the driver")

    assert api.get("/readyz").status == 200
    with monkeypatch.context() as broken:
        broken.setattr(api.services.store, "check", away)
        answer = api.get("/readyz")
        assert answer.status == 503
        assert answer.json == {"status": "unavailable", "problems": ["the store cannot be used"]}
        assert api.get("/healthz").status == 200
    assert api.get("/readyz").status == 200


def test_a_database_that_was_replaced_is_noticed_by_the_next_request(served: Callable[..., Api]) -> None:
    api = served()
    database = api.services.settings.database
    assert database is not None
    assert api.get("/readyz").status in (200, 503)
    Path(f"{database}.new").write_bytes(database.read_bytes())
    os.replace(f"{database}.new", database)

    assert "the store cannot be used" in api.get("/readyz").json["problems"]


def test_a_writer_that_does_not_come_to_its_end_keeps_no_reader_waiting(api: Api) -> None:
    database = api.services.settings.database
    assert database is not None
    token = api.token("viewer")
    with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as writing:
        writing.execute("BEGIN EXCLUSIVE")
        writing.execute("DELETE FROM tokens")

        assert api.get("/readyz").status == 200
        assert api.get("/api/tasks", Authorization=f"Bearer {token}").status == 200
        writing.execute("COMMIT")

    assert api.get("/api/tasks", Authorization=f"Bearer {token}").status == 401
