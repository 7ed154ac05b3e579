"""Answers about the file of a task beyond its definition: the origin of each value, and the results of its tests."""

from optio.compiler.layers import Bases, value_origins
from optio.compiler.pipeline import TreePolicy, compile_file
from optio.compiler.resolved_task import ResolvedTask
from optio.compiler.source_tree import DirectoryTree
from optio.errors import Conflict
from optio.model.registry import CompiledTask
from optio.model.route import pointer, value_at
from optio.server.bodies.tasks import TestListBody, TestResultBody, ValueOriginBody, ValueOriginListBody
from optio.server.dependencies import Hub
from optio.server.serializers import to_body
from optio.testing.run import run_task_tests

MAX_TESTS = 200


def read_origins(hub: Hub, task: CompiledTask) -> ValueOriginListBody:
    """Return the values of a task with their origins. Raises Conflict while its file has errors."""
    document = _resolved(hub, task, DirectoryTree(hub.services.settings.tasks)).document
    return ValueOriginListBody(
        items=[
            ValueOriginBody(pointer=pointer(route), value=value_at(document.value, route), path=path, line=line)
            for route, path, line in value_origins(document)
        ]
    )


def run_tests_of(hub: Hub, task: CompiledTask) -> TestListBody:
    """Run the tests of a task. Raises Conflict while its file has errors."""
    tree = DirectoryTree(hub.services.settings.tasks)
    resolved = _resolved(hub, task, tree)
    example_ids = {id(example) for example in resolved.spec.tests[:MAX_TESTS]}
    report = run_task_tests(resolved, tree, lambda task_id, path, example: id(example) in example_ids)
    return TestListBody(
        path=task.origin.path,
        items=[to_body(TestResultBody, result) for result in report.results],
        left=max(0, len(resolved.spec.tests) - MAX_TESTS),
    )


def _resolved(hub: Hub, task: CompiledTask, tree: DirectoryTree) -> ResolvedTask:
    """Return the task as its file is now. Raises Conflict if that has errors or is gone."""
    path = task.origin.path
    resolved = compile_file(path, tree, Bases(tree), TreePolicy(tree)).task
    if resolved is None or task.id in hub.snapshot.kept:
        raise Conflict(f"the file `{path}` has errors or is gone, so only its last good definition is known")
    return resolved
