"""Compiled tasks and generations: equal content, equal name."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optio.errors import NotFound
from optio.model.registry import CompiledTask, Origin, Registry, canonical, digest_of
from tests.support import command_task, compiled

HOOK = """\
type: standalone
name: {name}
enabled: {enabled}
agentRuntime: command
command: ["true"]
promptTemplate: x
triggers:
  - {{type: webhook, enabled: {trigger}, config: {{path: {path}, unsigned: true}}}}
"""

scalars = st.none() | st.booleans() | st.integers() | st.text(max_size=5)
json_values = scalars | st.lists(scalars, max_size=3) | st.dictionaries(st.text(max_size=5), scalars, max_size=3)


@given(st.dictionaries(st.text(max_size=5), json_values, max_size=5))
def test_the_order_of_keys_changes_no_digest(value: dict[str, object]) -> None:
    backwards = dict(reversed(list(value.items())))

    assert digest_of(backwards) == digest_of(value)
    assert canonical(backwards) == canonical(value)


def test_a_task_survives_json_with_its_digest() -> None:
    task = command_task(["a", "b"], "Größe", "maxConcurrent: 3\n")

    again = CompiledTask.from_json(task.to_json())

    assert (again, again.digest, again.origin) == (task, task.digest, task.origin)


def test_a_definition_keeps_its_digest_when_another_version_would_compute_another() -> None:
    kept = {**command_task("true").to_json(), "digest": "sha256:older"}

    task = CompiledTask.from_json(kept)

    assert task.digest == "sha256:older"
    assert replace(task, prompt="new").digest != "sha256:older"


def test_the_digest_covers_what_a_task_does_and_not_where_it_stands() -> None:
    task = command_task("true")

    moved = replace(task, origin=Origin(path="elsewhere.yaml", line=9))
    others = [replace(task, id="other"), replace(task, prompt="other"), command_task("true", extra="maxRetries: 7\n")]

    assert moved.digest == task.digest
    assert len({task.digest, *(other.digest for other in others)}) == 4


def test_equal_trees_are_equal_generations_in_any_order() -> None:
    one, two = command_task("true", "One"), command_task("true", "Two")

    forward, backward = Registry.of({"one": one, "two": two}), Registry.of({"two": two, "one": one})

    assert forward.digest == backward.digest
    assert list(forward.tasks) == list(backward.tasks) == ["one", "two"]
    assert Registry.of({"one": one}).digest != forward.digest


def test_a_registry_cannot_be_changed() -> None:
    tasks = {"one": command_task("true", "One")}
    registry = Registry.of(tasks)
    tasks.clear()

    with pytest.raises(TypeError):
        registry.tasks["two"] = command_task("true")  # type: ignore[index]

    assert list(registry.tasks) == ["one"]


SERVED = [("true", "true", True), ("false", "true", False), ("true", "false", False)]


@pytest.mark.parametrize(("enabled", "trigger", "served"), SERVED)
def test_only_enabled_webhooks_of_enabled_tasks_are_there(enabled: str, trigger: str, served: bool) -> None:
    task = compiled(HOOK.format(name="Hook", path="in", enabled=enabled, trigger=trigger))

    assert ("in" in Registry.of({task.id: task}).hooks) is served


def test_a_misspelt_task_is_answered_with_the_one_that_was_meant() -> None:
    registry = Registry.of({task.id: task for task in (command_task(["true"], name="Weekly Report"),)})

    with pytest.raises(NotFound, match=r"did you mean `weekly-report`\?"):
        registry.task("weekly-reports")
    with pytest.raises(NotFound, match=r"no task `other`$"):
        registry.task("other")


def test_a_key_that_older_versions_do_not_know_stands_in_a_definition_only_where_it_says_something() -> None:
    silent, loud = command_task("true", extra="priority: 0\n"), command_task("true", extra="priority: 3\n")

    assert silent.digest == command_task("true").digest
    assert "priority" not in silent.document["spec"]
    assert {"startLimit", "dedupe"} & set(silent.document["spec"]) == set()
    assert CompiledTask.from_json(silent.to_json()).spec.priority == 0
    assert CompiledTask.from_json(loud.to_json()).spec.priority == 3


def test_a_task_without_a_result_reads_as_it_did_before_there_were_any() -> None:
    assert "result" not in command_task(["a"]).document["spec"]
    assert command_task(["a"], "A", "result: {schema: {}}\n").document["spec"]["result"] == {"schema": {}, "required": True}
