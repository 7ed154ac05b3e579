"""What tests of executors share: a directory that the users of attempts reach, as an installation's is."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from optio.executors.trees import delete_tree
from tests.executors.support import make_reached_path


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    path = make_reached_path()
    yield path
    delete_tree(str(path))
