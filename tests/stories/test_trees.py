"""Two servers of one database with unlike directories: what a run says of its generation and its definition is true.

`python -m tests.stories.test_trees TRIGGERS [SEED]` prints figures.
"""

import http.client
import json
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from optio.store.base import Store
from optio.store.values import RunFilter
from tests.stories import ledger
from tests.stories.cluster import Cluster, Place
from tests.stories.ledger import Request
from tests.support import eventually

TASKS = 4
_TASK = """\
type: standalone
name: {name}
agentRuntime: command
command: ["/bin/cat"]
promptTemplate: "{name} as of {version}"
maxConcurrent: 100
triggers:
  - type: webhook
    config: {{path: {name}, unsigned: true, paramMapping: {{}}}}
  - type: schedule
    config: {{cronExpression: "* * * * *"}}
"""
_SETTINGS = {"OPTIO_WEBHOOK_RATE_PER_MINUTE": "1000000", "OPTIO_REMOVAL_LIMIT": "100%", "OPTIO_WRITES": "files"}


@dataclass
class Found:
    """What happened, and which runs say something that is not so."""

    answers: Counter[int] = field(default_factory=Counter)
    events: Counter[str] = field(default_factory=Counter)
    runs: Counter[str] = field(default_factory=Counter)  # by trigger
    generations: int = 0
    degraded: int = 0  # times that a server was seen to say that its directory differs
    untrue: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"{sum(self.runs.values())} runs {dict(self.runs)} of {self.generations} generations, {dict(self.events)}, "
            f"answers {dict(self.answers)}, {self.degraded} times degraded: {len(self.untrue)} untrue, {len(self.lost)} lost"
        )


class Trees:
    """The servers, each with a directory of its own, and what is done to them."""

    def __init__(self, directory: Path, seed: int, *, sqlite: bool) -> None:
        self.cluster = Cluster(directory, sqlite=sqlite, schedulers=1, workers=(Place("a"),), environ=_SETTINGS)
        self.dice = random.Random(seed)
        self.found = Found()
        self.roots = [directory / f"tree-{n}" for n in range(2)]
        self.version = 0
        for root, server in zip(self.roots, self.cluster.servers, strict=True):
            root.mkdir()
            server.environ = {**server.environ, "OPTIO_TASKS": str(root)}
            for number in range(TASKS):
                self.write(root, number)

    def write(self, root: Path, number: int) -> None:
        """Another version of a task. No two directories ever have the same but by a copy."""
        self.version += 1
        draft = root / ".draft"
        draft.write_text(_TASK.format(name=f"job-{number}", version=self.version))
        draft.replace(root / f"job-{number}.yaml")

    def trigger(self, key: str) -> str | None:
        """Ask for a run at any server, by the API or the webhook; its id."""
        task, server = f"job-{self.dice.randrange(TASKS)}", self.dice.randrange(2)
        path = self.dice.choice((f"/api/tasks/{task}/runs", f"/api/hooks/{task}"))
        body = json.dumps({} if path.startswith("/api/tasks") else {"delivery": key}).encode()
        headers = {"Idempotency-Key": key, "Authorization": f"Bearer {self.cluster.token}"}
        status, answer, _ = ledger.post(self.cluster.ports[server], Request(key, path, body, headers))
        self.found.answers[status] += 1
        return answer["runId"] if status == 202 else None

    def happen(self) -> None:
        """Something that an operator does, or that befalls one."""
        what = self.dice.choice(("edit", "edit", "edit", "delete", "copy", "both", "stop", "kill", "patch"))
        here = self.dice.randrange(2)
        self.found.events[what] += 1
        if what == "edit":
            self.write(self.roots[here], self.dice.randrange(TASKS))
        elif what == "delete":
            (self.roots[here] / f"job-{self.dice.randrange(TASKS)}.yaml").unlink(missing_ok=True)
        elif what == "copy":
            self.copy(here)
        elif what == "both":  # at one moment, each another one
            for root in self.roots:
                self.write(root, self.dice.randrange(TASKS))
        elif what == "patch":
            self.patch(here)
        else:
            self.restart(here, kill=what == "kill")

    def copy(self, here: int) -> None:
        """Put the files of one server where the other's are."""
        there = self.roots[1 - here]
        for path in there.glob("*.yaml"):
            if not (self.roots[here] / path.name).exists():
                path.unlink()
        for path in self.roots[here].glob("*.yaml"):
            draft = there / ".draft"
            shutil.copy(path, draft)
            draft.replace(there / path.name)

    def patch(self, here: int) -> None:
        """Change a task through the API: refused where the directory differs."""
        self.version += 1
        body = json.dumps({"promptTemplate": f"patched to {self.version}"}).encode()
        status, _ = _ask(self.cluster, here, "PATCH", f"/api/tasks/job-{self.dice.randrange(TASKS)}", body)
        self.found.events[f"patch {status}"] += 1

    def restart(self, here: int, *, kill: bool) -> None:
        server = self.cluster.servers[here]
        with server.lock:
            if kill:
                server.kill()
            else:
                server.stop()
            if self.dice.random() < 0.5:
                self.write(self.roots[here], self.dice.randrange(TASKS))
            server.start()
        self.cluster.until_ready(server.name)

    def registry(self, server: int) -> dict[str, Any]:
        """What a server says that it serves."""
        status, answer = _ask(self.cluster, server, "GET", "/api/registry")
        assert status == 200, (status, answer)
        self.found.degraded += answer["drift"] is not None
        return answer

    def agree(self) -> bool:
        one, two = self.registry(0), self.registry(1)
        return one["generation"] == two["generation"]

    def judge(self, store: Store, accepted: list[str]) -> None:
        """Hold each run against the generation that it names."""
        after, tasks = 0, dict[int, Any]()
        while rows := store.generations(since=datetime(2026, 1, 1, tzinfo=UTC), after=after):
            tasks |= {row.id: row.tasks for row in rows}
            after = rows[-1].id
        self.found.generations = len(tasks)
        seen, cursor = set[str](), None
        while True:
            page = store.runs(RunFilter(), cursor=cursor, limit=200)
            for run in page.items:
                seen.add(run.id)
                self.found.runs[run.trigger] += 1
                definition = store.definition(run.digest)
                says = tasks.get(run.generation or 0, {}).get(run.task_id)
                if says != run.digest or store.prompt(run.id) != definition.prompt:
                    self.found.untrue.append(f"{run.id}: {run.task_id} of generation {run.generation}: {run.digest}, {says}")
            cursor = page.next
            if cursor is None:
                break
        self.found.lost = sorted(set(accepted) - seen)


def _ask(made: Cluster, server: int, method: str, path: str, body: bytes | None = None) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", made.ports[server], timeout=30)
    try:
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {made.token}"}
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def cross(directory: Path, triggers: int, seed: int, *, sqlite: bool = False, every: int = 12) -> Found:
    """The whole story: so many triggers, and something happens after each `every` of them."""
    trees = Trees(directory, seed, sqlite=sqlite)
    accepted: list[str] = []
    with trees.cluster as made:
        for number in range(triggers):
            run_id = trees.trigger(f"key-{seed}-{number}")
            accepted += [] if run_id is None else [run_id]
            if number % every == every - 1:
                trees.happen()
                trees.registry(trees.dice.randrange(2))
        eventually(trees.agree, within=40, what="both servers serving one generation")
        trees.copy(0)
        eventually(
            lambda: all(trees.registry(n)["drift"] is None for n in range(2)), within=60, what="both servers being in sync"
        )
        store = made.store()
        try:
            trees.judge(store, accepted)
        finally:
            store.close()
    return trees.found


@pytest.mark.timeout(300)
def test_each_run_names_the_generation_and_the_definition_that_it_was_made_by(tmp_path: Path) -> None:
    found = cross(tmp_path, 90, random.randrange(1 << 30), every=6)

    assert (found.untrue, found.lost) == ([], []), str(found)
    assert found.answers[202] > 60, str(found)


def main() -> None:
    """The figures, at any size, on both databases."""
    triggers = int(sys.argv[1])
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(1 << 30)
    for sqlite in (False, True):
        directory = Path(tempfile.mkdtemp(prefix="optio-trees-"))
        began = time.monotonic()
        found = cross(directory, triggers, seed, sqlite=sqlite)
        print(f"{'sqlite' if sqlite else 'postgres'}, seed {seed}, {time.monotonic() - began:.0f} s: {found}")
        print(*found.untrue[:10], *found.lost[:10], sep="\n")
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
