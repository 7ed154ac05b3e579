"""Operations that are cheaper in company: what a driver gathers in one commit is done by kind, not one by one."""

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

from optio.store.sql.transaction import Transaction


def perform(tx: Transaction, operations: Sequence[Callable[[Transaction], Any]]) -> list[Any]:
    """The results of all operations, in order. A class of operations may have `together(tx, operations)`, which does several
    of them at once and gives their results in order."""
    results: list[Any] = []
    for kind, group in groupby(operations, type):
        same = list(group)
        together = getattr(kind, "together", None)
        if together is not None and len(same) > 1:
            results += together(tx, same)
        else:
            results += [operation(tx) for operation in same]
    return results
