"""The drivers that every contract test runs against. Another driver is another entry, and no change to a test."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from optio.store.base import Store
from optio.store.sqlite import open_store
from tests.store.build import Clock

Opener = Callable[[Path, Clock], Store]
STORES: dict[str, Opener] = {"sqlite": lambda directory, clock: open_store(directory / "optio.db", clock=clock)}


@pytest.fixture
def clock() -> Clock:
    """The clock of every store of the test."""
    return Clock()


@pytest.fixture(params=list(STORES))
def stores(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Iterator[Callable[[], Store]]:
    """Opens a store on the test's one database, as often as it is called: each is another process's."""
    opened: list[Store] = []

    def another() -> Store:
        opened.append(STORES[request.param](tmp_path, clock))
        return opened[-1]

    yield another
    for store in opened:
        store.close()


@pytest.fixture
def store(stores: Callable[[], Store]) -> Store:
    """An empty store."""
    return stores()
