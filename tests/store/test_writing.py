"""What waits to be written: how much of it is one batch."""

from typing import Any

import pytest

from optio.store.sql.group_commit import WriteQueue
from optio.store.sql.transaction import Transaction


class Heavy:
    """An operation that does the work of several."""

    def __init__(self, weight: int) -> None:
        self.weight = weight

    def __call__(self, tx: Transaction) -> None:
        """Nothing."""


def light(tx: Transaction) -> None:
    """Counts as one."""


@pytest.mark.parametrize(
    ("waiting", "batches"),
    [
        ([light] * 5, [4, 1]),
        ([Heavy(9), Heavy(9), light], [1, 1, 1]),
        ([light, light, Heavy(9), light], [3, 1]),
        ([Heavy(2), Heavy(2), Heavy(1)], [2, 1]),
    ],
)
def test_an_operation_counts_for_as_many_as_it_does_the_work_of(waiting: list[Any], batches: list[int]) -> None:
    queue = WriteQueue(4)
    for operation in waiting:
        queue.put(operation)
    queue.close()

    assert [len(batch) for batch in queue.batches()] == batches
