"""The bodies of the API about the file of a task: who wrote each value, and the results of its tests."""

from typing import Any

from optio.server.bodies.base import Body


class ValueOriginBody(Body, frozen=True, kw_only=True):
    """A value of a task, and the line that sets it."""

    pointer: str
    """A JSON Pointer into the task."""
    value: Any
    path: str
    """The file: that of the task, a template, or the defaults of a directory; relative to the tree."""
    line: int


class ValueOriginListBody(Body, frozen=True, kw_only=True):
    """The values of a task by the files of the answering server."""

    items: list[ValueOriginBody]


class TestFailureBody(Body, frozen=True, kw_only=True):
    """A failure of a test."""

    path: str
    """The file, relative to the tree."""
    line: int
    message: str
    diff: list[str]
    """A unified diff of the prompt, where that differs."""


class TestResultBody(Body, frozen=True, kw_only=True):
    """The result of a test."""

    name: str
    line: int
    """The line of the test in the task's file."""
    passed: bool
    failures: list[TestFailureBody]


class TestListBody(Body, frozen=True, kw_only=True):
    """The results of the tests of a task, by the files of the answering server."""

    path: str
    """The file of the task, relative to the tree."""
    items: list[TestResultBody]
    left: int
    """How many tests were not run, because there are too many for one answer."""
