"""Binding of operations to the transactions of an engine: what the parts of the store have in common."""

from collections.abc import Callable
from concurrent.futures import Future
from typing import Concatenate, ParamSpec, TypeVar

from optio.store.sql.engine import Engine
from optio.store.sql.transaction import Transaction

P = ParamSpec("P")
T = TypeVar("T")


class Operations:
    """A part of the store. A method that is one operation in a transaction is made by `peek`, `read`, `change` or `write`, with
    the parameters of the operation."""

    _engine: Engine


def peek(operation: Callable[Concatenate[Transaction, P], T]) -> Callable[Concatenate[Operations, P], T]:
    """Return the method that reads by one statement."""
    return lambda store, /, *args, **kwargs: store._engine.peek(lambda tx: operation(tx, *args, **kwargs))


def read(operation: Callable[Concatenate[Transaction, P], T]) -> Callable[Concatenate[Operations, P], T]:
    """Return the method that reads in one snapshot."""
    return lambda store, /, *args, **kwargs: store._engine.read(lambda tx: operation(tx, *args, **kwargs))


def change(operation: Callable[Concatenate[Transaction, P], T]) -> Callable[Concatenate[Operations, P], T]:
    """Return the method that writes, and returns when the change is durable."""
    return lambda store, /, *args, **kwargs: store._engine.change(lambda tx: operation(tx, *args, **kwargs))


def write(operation: Callable[Concatenate[Transaction, P], T]) -> Callable[Concatenate[Operations, P], Future[T]]:
    """Return the method that writes in one transaction with others, and returns the future of its result."""
    return lambda store, /, *args, **kwargs: store._engine.write(lambda tx: operation(tx, *args, **kwargs))
