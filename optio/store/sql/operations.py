"""Binding of operations to the transactions of an engine: each function returns a method of the store that is one operation,
with the operation's parameters."""

from collections.abc import Callable
from concurrent.futures import Future
from typing import Concatenate, ParamSpec, TypeVar

from optio.store.sql.engine import Engine
from optio.store.sql.group_commit import DiskLimited, DiskUse
from optio.store.sql.transaction import Transaction

P = ParamSpec("P")
T = TypeVar("T")


class Operations:
    """A store whose methods are made by `peek`, `read`, `change` and `write`."""

    _engine: Engine


def peek(operation: Callable[Concatenate[Transaction, P], T]) -> Callable[Concatenate[Operations, P], T]:
    """Return the method that reads by one statement."""
    return lambda store, /, *args, **kwargs: store._engine.peek(lambda tx: operation(tx, *args, **kwargs))


def read(operation: Callable[Concatenate[Transaction, P], T]) -> Callable[Concatenate[Operations, P], T]:
    """Return the method that reads in one snapshot."""
    return lambda store, /, *args, **kwargs: store._engine.read(lambda tx: operation(tx, *args, **kwargs))


def change(
    operation: Callable[Concatenate[Transaction, P], T], disk_use: DiskUse = DiskUse.ALL
) -> Callable[Concatenate[Operations, P], T]:
    """Return the method that writes, and returns when the change is durable."""
    return lambda store, /, *args, **kwargs: store._engine.change(
        DiskLimited(disk_use, lambda tx: operation(tx, *args, **kwargs))
    )


def write(operation: Callable[Concatenate[Transaction, P], T]) -> Callable[Concatenate[Operations, P], Future[T]]:
    """Return the method that writes in one transaction with others, and returns the future of its result."""
    return lambda store, /, *args, **kwargs: store._engine.write(lambda tx: operation(tx, *args, **kwargs))
