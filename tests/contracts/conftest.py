"""The drivers that every contract test runs against. Another driver is another entry, and no change to a test."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from optio.store.base import Store
from optio.store.postgres import postgres_store
from optio.store.sqlite import sqlite_store
from tests.servers import PostgresServer
from tests.store.build import Clock
from tests.store.empty import put_empty_database

STORES = ("sqlite", "postgres")


@pytest.fixture
def clock() -> Clock:
    """The clock of every store of the test."""
    return Clock()


@pytest.fixture(params=STORES)
def stores(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Iterator[Callable[[], Store]]:
    """Opens a store on the test's one database, as often as it is called: each is another process's."""
    with ExitStack() as stack:
        path = tmp_path / "optio.db"
        if request.param == "postgres":
            server: PostgresServer = request.getfixturevalue("postgres_server")
            url = stack.enter_context(server.lent_schema())
        else:
            put_empty_database(path)

        def another() -> Store:
            made: Store
            if request.param == "postgres":
                made = postgres_store.open_store(url, clock=clock)
            else:
                made = sqlite_store.open_store(path, clock=clock)
            return stack.enter_context(closing(made))

        yield another


@pytest.fixture
def store(stores: Callable[[], Store]) -> Store:
    """An empty store."""
    return stores()
