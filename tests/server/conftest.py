"""A served application."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.server.api import JOB, Api


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Callable[..., Api]]:
    """Makes servers, each on a data directory of its own."""
    made: list[Api] = []

    def make(**options: Any) -> Api:
        made.append(Api(tmp_path / str(len(made)), **options))
        return made[-1]

    yield make
    for api in made:
        api.close()


@pytest.fixture
def api(served: Callable[..., Api]) -> Api:
    """A server that serves the task `job`; requests bear its token."""
    made = served()
    made.serve_task(JOB)
    return made
