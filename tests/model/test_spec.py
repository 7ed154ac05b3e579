"""Spec: what all models have in common."""

import subprocess
import sys
from collections.abc import Iterator
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import pytest
from msgspec import Meta

from optio.model.policy import PolicySpec
from optio.model.spec import Spec, keys_of, names_of, to_json
from optio.model.task import TaskSpec
from optio.model.trigger import WebhookTrigger

TASK: dict[str, Any] = {
    "name": "A",
    "agentRuntime": "codex",
    "maxRetries": 1,
    "paramsSchema": {"properties": {"A": {"default": None}}},
    "environment": {"env": {"A": "b"}, "image": None},
    "triggers": [{"type": "manual"}],
}


def test_what_is_read_can_be_written_and_read_again() -> None:
    spec = TaskSpec.of(TASK)

    assert TaskSpec.of(to_json(spec)) == spec
    assert TaskSpec.of(to_json(spec, defaults=False)) == spec


def test_nothing_that_is_none_is_written_except_inside_free_values() -> None:
    written = to_json(TaskSpec.of(TASK))

    assert "model" not in written
    assert "image" not in written["environment"]
    assert written["paramsSchema"] == {"properties": {"A": {"default": None}}}


def test_without_defaults_only_what_differs_is_written() -> None:
    assert to_json(TaskSpec.of(TASK), defaults=False) == {
        "name": "A",
        "agentRuntime": "codex",
        "paramsSchema": {"properties": {"A": {"default": None}}},
        "environment": {"env": {"A": "b"}},
        "triggers": [{"type": "manual"}],
    }


def test_the_kind_of_a_mapping_is_the_first_of_its_keys() -> None:
    assert names_of(WebhookTrigger) == ["type", "enabled", "config"]


def unions(annotation: Any) -> Iterator[tuple[Any, ...]]:
    if isinstance(annotation, type) and issubclass(annotation, Spec):
        for key in keys_of(annotation):
            yield from unions(key.annotation)
    if get_origin(annotation) in (Union, UnionType):
        yield get_args(annotation)
    for part in get_args(annotation):
        yield from unions(part)


@pytest.mark.parametrize("model", [TaskSpec, PolicySpec])
def test_what_may_be_a_text_or_a_list_has_no_pattern(model: type[Spec]) -> None:
    for members in unions(model):
        bounded = [part for part in members if get_origin(part) is Annotated and isinstance(get_args(part)[1], Meta)]
        assert not bounded or not any(get_origin(part) in (list, dict) for part in members), members


def test_an_interpreter_that_has_read_a_task_ends_in_good_order() -> None:
    program = f"from optio.model.task import TaskSpec\nTaskSpec.of({TASK!r})"

    codes = [subprocess.run([sys.executable, "-c", program], check=False).returncode for _ in range(12)]

    assert codes == [0] * 12


MET_TWICE = """
import threading, time
from optio.model.spec import Spec
begun, go, found = threading.Event(), threading.Event(), []
def slow():
    begun.set()
    go.wait(20)
    return int
class Inner(Spec):
    value: "slow()"
class Outer(Spec):
    inner: Inner
def read():
    found.append(Outer.of({"inner": {"value": 1}}).inner.value)
threads = [threading.Thread(target=read) for _ in range(2)]
threads[0].start()
begun.wait(20)
threads[1].start()
time.sleep(0.3)  # without a lock it crashes at once
go.set()
for each in threads:
    each.join()
print(found)
"""


def test_a_type_that_several_threads_meet_for_the_first_time_crashes_nobody() -> None:
    done = subprocess.run([sys.executable, "-c", MET_TWICE], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (0, "[1, 1]\n"), done.stderr
