from collections.abc import Iterator

import pytest

from tests.secrets.vault import Vault, serving


@pytest.fixture
def vault() -> Iterator[Vault]:
    with serving() as served:
        yield served
