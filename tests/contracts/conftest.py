"""The drivers that every contract test runs against. Another driver is another entry, and no change to a test."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from optio.store.base import Store
from optio.store.postgres import postgres_store
from optio.store.sqlite import sqlite_store
from tests.servers import PostgresServer
from tests.store.build import Clock

STORES = ("sqlite", "postgres")


@pytest.fixture
def clock() -> Clock:
    """The clock of every store of the test."""
    return Clock()


@pytest.fixture(params=STORES)
def stores(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Iterator[Callable[[], Store]]:
    """Opens a store on the test's one database, as often as it is called: each is another process's."""
    opened: list[Store] = []
    url = ""
    if request.param == "postgres":
        server: PostgresServer = request.getfixturevalue("postgres_server")
        url = server.schema()

    def another() -> Store:
        if url:
            opened.append(postgres_store.open_store(url, clock=clock))
        else:
            opened.append(sqlite_store.open_store(tmp_path / "optio.db", clock=clock))
        return opened[-1]

    yield another
    for store in opened:
        store.close()


@pytest.fixture
def store(stores: Callable[[], Store]) -> Store:
    """An empty store."""
    return stores()
