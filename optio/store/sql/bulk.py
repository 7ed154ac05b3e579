"""Running a batch: the operations of one group commit, with those of a kind run together and all counts written last."""

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

from optio.store.sql import daily_totals, request_counts
from optio.store.sql.transaction import Transaction


def run_batch(tx: Transaction, operations: Sequence[Callable[[Transaction], Any]]) -> list[Any]:
    """Return the results of all operations, in order.

    A class of operations may have `together(tx, operations)`, which runs several consecutive ones at once and returns their
    results in order. Classes marked `independent` of everything else in a commit come first, all together, so that every
    process locks rows in the same order.
    """
    found: dict[int, Any] = {}
    places = sorted(range(len(operations)), key=lambda place: not getattr(operations[place], "independent", False))
    for kind, group in groupby(places, lambda place: type(operations[place])):
        same = list(group)
        together = getattr(kind, "together", None)
        if together is not None and len(same) > 1:
            results = together(tx, [operations[place] for place in same])
        else:
            results = [operations[place](tx) for place in same]
        found.update(zip(same, results, strict=True))
    request_counts.write(tx)
    daily_totals.write(tx)
    return [found[place] for place in range(len(operations))]
