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
    results_by_index: dict[int, Any] = {}
    places = sorted(range(len(operations)), key=lambda place: not getattr(operations[place], "independent", False))
    for kind, group in groupby(places, lambda place: type(operations[place])):
        alike = list(group)
        run_together = getattr(kind, "together", None)
        if run_together is not None and len(alike) > 1:
            results = run_together(tx, [operations[place] for place in alike])
        else:
            results = [operations[place](tx) for place in alike]
        results_by_index.update(zip(alike, results, strict=True))
    request_counts.write(tx)
    daily_totals.write(tx)
    return [results_by_index[place] for place in range(len(operations))]
