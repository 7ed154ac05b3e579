"""A tree that loses its files at once: the tasks are served on, everything says so, and one command lets them go."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import Dev, eventually

HOOKED = """\
type: standalone
name: Job {number:02}
agentRuntime: command
command: ["/bin/echo", "done {number}"]
promptTemplate: "hello"
triggers:
  - type: manual
  - type: webhook
    config: {{path: hook-{number:02}, unsigned: true}}
"""


class Installation:
    """A process, `dev` or `server` (which needs a token), with a tree of tasks."""

    def __init__(self, directory: Path, command: str) -> None:
        self.process = Dev(directory, command=command)
        self.tasks = self.process.tasks
        self.headers: dict[str, str] = {}
        if command == "server":
            made = self.process.cli("token", "create", "--role", "admin")
            token = made.stdout.split()[0]
            self.headers = {"Authorization": f"Bearer {token}"}
            self.process.environ["OPTIO_TOKEN"] = token

    def fill(self, numbers: range) -> None:
        self.tasks.mkdir(exist_ok=True)
        for number in numbers:
            (self.tasks / f"job-{number:02}.yaml").write_text(HOOKED.format(number=number))

    def start(self) -> None:
        self.process.start()

    def get(self, path: str) -> Any:
        return self.process.get(path, **self.headers).json

    def post(self, path: str) -> int:
        return self.process.post(path, {}, **self.headers).status

    @property
    def ids(self) -> set[str]:
        return {task["id"] for task in self.get("/api/tasks")["items"]}

    def until_held(self, count: int) -> dict[str, Any]:
        def held() -> dict[str, Any] | None:
            removal = self.get("/api/registry")["removal"]
            return removal if removal and removal["count"] == count else None

        return eventually(held, within=60, what=f"{count} held tasks")  # type: ignore[return-value]


@pytest.fixture
def install(tmp_path: Path) -> Iterator[Callable[[str], Installation]]:
    made: list[Installation] = []

    def make(command: str) -> Installation:
        made.append(Installation(tmp_path, command))
        return made[-1]

    yield make
    for one in made:
        one.process.stop()


@pytest.mark.parametrize("command", ["server", "dev"])
def test_thirty_tasks_whose_files_are_deleted_at_once_are_served_on_until_one_command_lets_them_go(
    install: Callable[[str], Installation], command: str
) -> None:
    one = install(command)
    one.fill(range(30))
    one.start()
    assert len(one.ids) == 30

    for path in one.tasks.iterdir():
        path.unlink()
    removal = one.until_held(30)

    assert len(one.ids) == 30
    assert one.post("/api/tasks/job-03/runs") == 202
    assert one.post("/api/hooks/hook-04") == 202
    ready = one.process.get("/readyz")
    assert (ready.status, ready.json["status"]) == (200, "degraded")
    assert "30 of 30 tasks" in ready.json["problems"][0]
    assert removal["release"] == f"optio tasks release {removal['digest']}"
    assert removal["release"] in one.process.output.read_text()
    assert removal["release"] in one.process.cli("doctor").stdout

    shown = one.process.cli("tasks", "release")
    assert shown.returncode == 1
    assert "  job-29\n" in shown.stdout
    assert removal["release"] in shown.stdout

    done = one.process.cli(*removal["release"].split()[1:])

    assert done.returncode == 0, done.stderr
    assert one.ids == set()
    assert one.process.get("/readyz").json == {"status": "ok", "problems": []}
    assert one.process.cli("tasks", "release").stdout == "no removal is held\n"
    one.process.stop()
    one.start()
    assert one.ids == set()


@pytest.mark.parametrize("command", ["server", "dev"])
@pytest.mark.parametrize("tree", ["missing", "empty"])
def test_a_start_on_a_tree_that_is_missing_or_empty_serves_the_last_generation(
    install: Callable[[str], Installation], command: str, tree: str
) -> None:
    one = install(command)
    one.fill(range(5))
    one.start()
    generation = one.get("/api/registry")["generation"]
    one.process.stop()
    elsewhere = one.tasks.with_name("elsewhere")
    one.tasks.rename(elsewhere)
    if tree == "empty":
        one.tasks.mkdir()
    one.start()

    assert len(one.ids) == 5
    assert one.get("/api/registry")["generation"] == generation
    assert one.process.get("/readyz").json["status"] == "degraded"
    assert str(one.tasks) in one.process.output.read_text().replace("\n", "")

    if tree == "empty":
        one.until_held(5)
        one.tasks.rmdir()
    elsewhere.rename(one.tasks)
    eventually(lambda: one.process.get("/readyz").json["status"] == "ok", within=60, what="the tree being back")
    assert len(one.ids) == 5
