"""Hot reload while people read: no answer ever shows a state that the tree never had, and no task goes that nobody removed.

`OPTIO_EDITS` sets how many edits are made (100 unless it is set); `python -m tests.stories.test_reload_under_load 1000` tells
how long each burst of edits took to be served.
"""

import contextlib
import http.client
import json
import os
import random
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support import Dev, eventually

EDITS = 100
# So many edits may delete half of the tasks within a minute, which is not what is tried here.
ENVIRON = {"OPTIO_REMOVAL_LIMIT": "100%"}
READERS = 4
TASK = 'name: {name}\nid: {name}\nagentRuntime: command\ncommand: ["/bin/cat"]\npromptTemplate: "{version}"\n'
State = dict[str, set[str]]


@dataclass
class Model:
    """Every state that the tree ever had: task -> the versions that may be served then (several while its file is broken)."""

    states: list[State] = field(default_factory=lambda: [{}])

    def allows(self, answer: dict[str, str], since: int) -> int | None:
        """The first state not before `since` that the answer can show."""
        for index in range(since, len(self.states)):
            state = self.states[index]
            if answer.keys() == state.keys() and all(version in state[task] for task, version in answer.items()):
                return index
        return None


class Reader(threading.Thread):
    """Asks for all tasks, again and again; time never runs backwards for it."""

    def __init__(self, dev: Dev, model: Model, stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self.dev, self.model, self.stop = dev, model, stop
        self.at, self.answers, self.generation = 0, 0, 0
        self.wrong: list[object] = []

    def run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.dev.port, timeout=60)
        with contextlib.closing(connection):
            self._read(connection)

    def _read(self, connection: http.client.HTTPConnection) -> None:
        while not self.stop.is_set():
            connection.request("GET", "/api/tasks", headers=self.dev.credentials)
            answer = json.loads(connection.getresponse().read())
            shown = {item["id"]: item["promptTemplate"] for item in answer["items"]}
            index = self.model.allows(shown, self.at)
            if index is None or answer["generation"] < self.generation:
                self.wrong.append((self.at, len(self.model.states), answer["generation"], shown))
                return
            self.at, self.generation = index, answer["generation"]
            self.answers += 1
            time.sleep(0.01)


class Author:
    """Edits a tree at random, each edit in one stroke, and notes in the model what is about to be true."""

    def __init__(self, dev: Dev, model: Model, chance: random.Random) -> None:
        self.dev, self.model, self.chance = dev, model, chance
        self.files: dict[str, Path] = {}
        self.served: set[str] = set()
        self.broken: set[str] = set()
        self.count = 0

    def edit(self) -> None:
        self.count += 1
        state = {task: set(versions) for task, versions in self.model.states[-1].items()}
        whole = sorted(self.files.keys() - self.broken)
        kind = self.chance.choices(["write", "create", "break", "delete", "move", "swap"], [40, 15, 15, 8, 10, 12])[0]
        if kind == "create" or len(whole) < 3:
            self._create(state)
        elif kind == "break" and self.served & set(whole):
            task = self.chance.choice(sorted(self.served & set(whole)))
            self.broken.add(task)
            self._put(state, self.files[task], self.chance.choice(["", "name: [\n", "- 1\n", TASK[:20]]))
        elif kind == "delete":
            task = self.chance.choice(whole)
            del state[task]
            self.model.states.append(state)
            self.served.discard(task)
            self.files.pop(task).unlink()
        elif kind == "move":
            task = self.chance.choice(whole)
            target = self._path()
            self.model.states.append(state)
            # Moved and broken in one go, it would be a task that is gone and a file that nobody knows.
            self.served.discard(task)
            self.files[task].rename(target)
            self.files[task] = target
        else:
            task = self.chance.choice(sorted(self.files))
            # A broken file kept the version that was served last: any since then.
            state[task] = {f"v{self.count}"}
            self.broken.discard(task)
            self._put(state, self.files[task], TASK.format(name=task, version=f"v{self.count}"))

    def _create(self, state: State) -> None:
        task = f"t{self.count}"
        state[task] = {f"v{self.count}"}
        self.files[task] = self._path()
        self._put(state, self.files[task], TASK.format(name=task, version=f"v{self.count}"))

    def _path(self) -> Path:
        path = self.dev.tasks / self.chance.choice([".", "a", "b/c"]) / f"f{self.count}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def _put(self, state: State, path: Path, text: str) -> None:
        draft = path.with_name(".draft")
        draft.write_text(text)
        for task in self.broken:
            if self.files[task] == path:
                state[task] = set().union(*(s.get(task, set()) for s in self.model.states))
        self.model.states.append(state)
        draft.replace(path)

    def until_served(self) -> float:
        """Seconds until the newest state is what is served."""
        began = time.monotonic()
        newest = self.model.states[-1]

        def look() -> bool:
            shown = {item["id"]: item["promptTemplate"] for item in self.dev.get("/api/tasks").json["items"]}
            return shown.keys() == newest.keys() and all(version in newest[task] for task, version in shown.items())

        eventually(look, within=90, what=f"state {len(self.model.states)} being served")
        self.served = set(newest) - self.broken
        return time.monotonic() - began


def tell(dev: Dev, edits: int, seed: int) -> tuple[list[Reader], list[float], Model]:
    """The whole story; what the readers saw, and how long each burst took to be served."""
    model, chance, stop = Model(), random.Random(seed), threading.Event()
    author = Author(dev, model, chance)
    readers = [Reader(dev, model, stop) for _ in range(READERS)]
    for reader in readers:
        reader.start()
    taken = []
    try:
        while author.count < edits:
            for _ in range(chance.randint(1, 8)):
                author.edit()
                time.sleep(chance.choice([0, 0, 0.002, 0.02]))
            if chance.random() < 0.6:
                taken.append(author.until_served())
            else:
                time.sleep(chance.uniform(0.3, 0.6))
        taken.append(author.until_served())
        time.sleep(0.1)
    finally:
        stop.set()
    for reader in readers:
        reader.join()
    return readers, taken, model


@pytest.fixture
def dev(tmp_path: Path) -> Iterator[Dev]:
    """A real `optio dev` process on an empty tree, which holds no removal."""
    process = Dev(tmp_path, environ=ENVIRON)
    process.start()
    yield process
    process.stop()


@pytest.mark.timeout(300)
def test_readers_see_states_of_the_tree_and_nothing_else(dev: Dev) -> None:
    edits = int(os.environ.get("OPTIO_EDITS", EDITS))

    readers, _, _ = tell(dev, edits, seed=7)

    assert [reader.wrong for reader in readers] == [[]] * READERS
    assert all(reader.answers > 20 for reader in readers)


SLOW = """\
name: Slow
agentRuntime: command
command: ["/bin/sh", "-c", "sleep 0.7; echo {word}"]
promptTemplate: x
maxConcurrent: 1
triggers:
  - type: webhook
    config: {{path: slow, unsigned: true}}
  - type: schedule
    config: {{cronExpression: "0 0 1 1 *"}}
"""


@pytest.mark.parametrize("change", ["edited", "broken", "deleted"])
def test_runs_end_on_the_definition_that_they_started_with(dev: Dev, change: str) -> None:
    dev.write("slow.yaml", SLOW.format(word="old"))
    before = dev.until_served("slow")
    runs = [dev.post("/api/hooks/slow", {}).json["runId"] for _ in range(2)]
    path = dev.tasks / "slow.yaml"

    if change == "deleted":
        path.unlink()
        eventually(lambda: dev.get("/api/tasks/slow").status == 404)
        assert dev.post("/api/hooks/slow", {}).status == 404
        assert dev.post("/api/tasks/slow/runs").status == 404
    elif change == "edited":
        dev.write("slow.yaml", SLOW.format(word="new"))
        dev.until_served("slow", digest_other_than=before["digest"])
        runs.append(dev.post("/api/hooks/slow", {}).json["runId"])
    else:
        path.write_text("name: [\n")
        eventually(lambda: dev.get("/api/registry").json["stale"] == ["slow"])
        runs.append(dev.post("/api/hooks/slow", {}).json["runId"])

    ended = [dev.until_ended(run) for run in runs]
    assert [run["state"] for run in ended] == ["completed"] * len(runs)
    words = {"deleted": ["old", "old"], "edited": ["old", "old", "new"], "broken": ["old", "old", "old"]}[change]
    assert [run["output"].strip() for run in ended] == words


def test_a_write_is_served_in_its_own_answer_while_files_are_edited_by_hand(dev: Dev) -> None:
    stop, count = threading.Event(), [0]

    def by_hand() -> None:
        while not stop.is_set():
            count[0] += 1
            dev.write(f"hand{count[0] % 3}.yaml", TASK.format(name=f"hand{count[0] % 3}", version=f"v{count[0]}"))
            time.sleep(0.01)

    author = threading.Thread(target=by_hand, daemon=True)
    author.start()
    seen = []
    for number in range(12):
        body = {"name": f"Api {number}", "agentRuntime": "codex", "promptTemplate": "one"}
        made = dev.post("/api/tasks", body)
        changed = dev.request("PATCH", f"/api/tasks/api-{number}", {"promptTemplate": "two"})
        shown = dev.get(f"/api/tasks/api-{number}").json["promptTemplate"]
        gone = dev.request("DELETE", f"/api/tasks/api-{number}") if number % 2 else None
        after = dev.get(f"/api/tasks/api-{number}").status
        seen.append((made.status, changed.status, shown, gone and gone.status, after))
    stop.set()
    author.join(10)

    assert seen == [(201, 200, "two", 204 if number % 2 else None, 404 if number % 2 else 200) for number in range(12)]
    last = f"hand{count[0] % 3}"
    eventually(lambda: dev.get(f"/api/tasks/{last}").json.get("promptTemplate") == f"v{count[0]}")
    assert len(dev.get("/api/tasks").json["items"]) == 6 + 3


def main() -> None:
    edits = int(sys.argv[1])
    with tempfile.TemporaryDirectory() as directory:
        dev = Dev(Path(directory), environ=ENVIRON)
        dev.start()
        try:
            readers, taken, model = tell(dev, edits, seed=int(sys.argv[2]) if len(sys.argv) > 2 else 7)
        finally:
            dev.stop()
    taken.sort()
    wrong = [reader.wrong for reader in readers if reader.wrong]
    print(f"{edits} edits, {len(model.states)} states, {sum(r.answers for r in readers)} answers, wrong: {wrong or 'none'}")
    p50, p99 = taken[len(taken) // 2], taken[len(taken) * 99 // 100]
    print(f"burst to served: p50 {p50:.2f} s, p99 {p99:.2f} s, most {taken[-1]:.2f} s")


if __name__ == "__main__":
    main()
