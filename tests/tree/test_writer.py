"""Writing task files: whole or not at all, by one at a time, and never over what somebody else has just saved."""

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from optio.compiler.pipeline import compile_tree
from optio.compiler.source_tree import DirectoryTree
from optio.errors import Conflict, Invalid, StoreUnavailable
from optio.model.registry import Registry
from optio.secrets.local import LocalSecrets
from optio.tree.writer import TaskFileWriter, merge

SMALL = {"name": "Small", "agentRuntime": "codex", "promptTemplate": "Say hello"}
HOOK = {"type": "webhook", "config": {"path": "hit", "secret": "the first secret"}}


class Place:
    """A tree, its secrets, and a writer."""

    def __init__(self, directory: Path) -> None:
        self.root = directory / "tasks.d"
        self.root.mkdir()
        self.directory = directory
        self.secrets = LocalSecrets(directory / "secrets", {})
        self.files = self.writer()

    def writer(self) -> TaskFileWriter:
        return TaskFileWriter(self.root, self.secrets, deny=False, lock=self.directory / "lock")

    @property
    def registry(self) -> Registry:
        return compile_tree(DirectoryTree(self.root)).registry

    def tree(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.root.iterdir()}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.mark.parametrize(
    ("value", "patch", "result"),
    [  # the table of RFC 7396, appendix A
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_a_merge_patch_does_what_its_standard_says(value: Any, patch: Any, result: Any) -> None:
    assert merge(value, patch) == result


@pytest.mark.parametrize(
    ("number", "error"), [(errno.ENOSPC, StoreUnavailable), (errno.EROFS, Conflict), (errno.EACCES, Conflict)]
)
@pytest.mark.parametrize("change", ["create", "patch"])
def test_a_write_that_fails_half_way_leaves_everything_as_it_was(
    place: Place, monkeypatch: pytest.MonkeyPatch, number: int, error: type[Exception], change: str
) -> None:
    place.files.create({**SMALL, "triggers": [HOOK]}, Registry())
    before, task = place.tree(), place.registry.tasks["small"]
    other_secret = {"type": "webhook", "config": {"path": "hit", "secret": "the second secret"}}
    kept = os.fsync

    def full(descriptor: int) -> None:
        if "secrets" not in os.readlink(f"/proc/self/fd/{descriptor}"):
            raise OSError(number, os.strerror(number))
        kept(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    act: dict[str, Callable[[], object]] = {
        "create": lambda: place.files.create({**SMALL, "name": "Other"}, place.registry),
        "patch": lambda: place.files.patch(task, {"maxTurns": 3, "triggers": [other_secret]}, None),
    }
    with pytest.raises(error):
        act[change]()

    assert place.tree() == before
    assert place.secrets.get("SMALL__HIT") == "the first secret"


def test_a_file_saved_by_hand_in_the_very_moment_is_not_overwritten(place: Place) -> None:
    place.files.create(SMALL, Registry())
    task = place.registry.tasks["small"]
    by_hand = b"name: Small\nagentRuntime: codex\npromptTemplate: by hand\n"

    class Slow(LocalSecrets):
        def put(self, name: str, value: str) -> None:
            super().put(name, value)
            (place.root / "small.yaml").write_bytes(by_hand)

    place.files._secrets = Slow(place.directory / "secrets", {})
    with pytest.raises(Conflict, match="at the same time"):
        place.files.add_trigger(task, HOOK)

    assert place.tree() == {"small.yaml": by_hand}


def test_writers_in_several_processes_take_turns(place: Place) -> None:
    place.files.create(SMALL, Registry())
    task = place.registry.tasks["small"]

    def change(number: int) -> None:
        place.writer().patch(task, {"environment": {"env": {f"V{number}": "x"}}}, None)

    threads = [threading.Thread(target=change, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(place.registry.tasks["small"].spec.environment.env) == 12


def test_what_a_killed_writer_left_behind_is_no_task_and_hinders_nobody(place: Place) -> None:
    (place.root / ".small.yaml.optio").write_text("half")

    place.files.create(SMALL, Registry())

    assert set(place.registry.tasks) == {"small"}
    assert list(place.tree()) == ["small.yaml"]


def test_a_draft_that_is_a_link_is_not_followed(place: Place, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (place.root / ".small.yaml.optio").symlink_to(victim)

    with pytest.raises(StoreUnavailable):
        place.files.create(SMALL, Registry())

    assert victim.read_text() == "precious"


@pytest.mark.parametrize(
    ("one", "other"),
    [(("a-b", "c"), ("a", "b-c")), (("a" * 79 + "b", "b" * 64), ("a" * 80, "b" * 63 + "c")), (("1", "x"), ("2", "y"))],
)
def test_different_webhooks_keep_different_secrets(place: Place, one: tuple[str, str], other: tuple[str, str]) -> None:
    for (task_id, path), value in {one: "the first secret", other: "the second secret"}.items():
        hook = {"type": "webhook", "config": {"path": path, "secret": value}}
        place.files.create({**SMALL, "id": task_id, "triggers": [hook]}, place.registry)

    for (task_id, _), value in {one: "the first secret", other: "the second secret"}.items():
        webhook = place.registry.tasks[task_id].spec.webhook
        assert webhook is not None
        assert webhook.config.secret is not None
        assert place.secrets.get(webhook.config.secret.name) == value


@pytest.mark.parametrize("value", ["ends with a line\n", "a\nb", "ünï", "x" * 1000])
def test_a_secret_is_kept_byte_for_byte_or_refused(place: Place, value: str) -> None:
    hook = {"type": "webhook", "config": {"path": "hit", "secret": value}}
    try:
        place.files.create({**SMALL, "triggers": [hook]}, Registry())
    except Invalid as err:
        assert [problem.pointer for problem in err.problems] == ["/triggers/0/config/secret"]  # noqa: PT017
        assert place.tree() == {}
    else:
        assert place.secrets.get("SMALL__HIT") == value
