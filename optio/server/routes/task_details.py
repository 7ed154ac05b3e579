"""Routes of what the file of a task says beyond its definition: who wrote each value, and its tests, which are run."""

import asyncio

from litestar import Controller, get
from litestar.di import NamedDependency
from litestar.params import FromPath

from optio.compiler.layers import Bases, value_origins
from optio.compiler.pipeline import TreePolicy, compile_file
from optio.compiler.resolved_task import ResolvedTask
from optio.compiler.source_tree import DirectoryTree
from optio.errors import Conflict
from optio.model.registry import CompiledTask
from optio.model.route import pointer, value_at
from optio.server.auth import role
from optio.server.bodies.task_details import TestFailureBody, TestListBody, TestResultBody, ValueOriginBody, ValueOriginListBody
from optio.server.dependencies import Hub
from optio.testing.run import run_task_tests

MAX_TESTS = 200


class TaskDetailController(Controller):
    """Routes of `/api/tasks/{id}/origins` and `/api/tasks/{id}/tests`."""

    tags = ("tasks",)

    @get("/api/tasks/{task_id:str}/origins", opt=role("viewer"), problems=("conflict",))
    async def list_origins(self, task_id: FromPath[str], hub: NamedDependency[Hub]) -> ValueOriginListBody:
        """List the values of a task, each with the file and the line that set it: the task's own file, a template, or the
        defaults of a directory. The files are those of the answering server."""
        return await asyncio.to_thread(read_origins, hub, hub.snapshot.registry.task(task_id))

    @get("/api/tasks/{task_id:str}/tests", opt=role("viewer"), problems=("conflict",))
    async def run_tests(self, task_id: FromPath[str], hub: NamedDependency[Hub]) -> TestListBody:
        """Run the tests that the file of a task has under `tests`, as `optio test` does, and show their results. No run is
        started. The files are those of the answering server."""
        return await asyncio.to_thread(run_tests_of, hub, hub.snapshot.registry.task(task_id))


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
    chosen = {id(example) for example in resolved.spec.tests[:MAX_TESTS]}
    found = run_task_tests(resolved, tree, lambda task_id, path, example: id(example) in chosen)
    return TestListBody(
        path=task.origin.path,
        items=[
            TestResultBody(
                name=result.name,
                line=result.line,
                passed=result.passed,
                failures=[
                    TestFailureBody(path=each.path, line=each.line, message=each.message, diff=list(each.diff))
                    for each in result.failures
                ],
            )
            for result in found.results
        ],
        left=max(0, len(resolved.spec.tests) - MAX_TESTS),
    )


def _resolved(hub: Hub, task: CompiledTask, tree: DirectoryTree) -> ResolvedTask:
    """Return the task as its file is now. Raises Conflict if that has errors or is gone."""
    path = task.origin.path
    found = compile_file(path, tree, Bases(tree), TreePolicy(tree)).task
    if found is None or task.id in hub.snapshot.kept:
        raise Conflict(f"the file `{path}` has errors or is gone, so only its last good definition is known")
    return found
