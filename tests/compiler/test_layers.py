"""Templates and defaults: what a task takes from them, and who is told of what."""

import os
from pathlib import Path
from typing import Any

import pytest

from optio.compiler.incremental import IncrementalCompiler
from optio.compiler.layers import Bases, value_origins
from optio.compiler.pipeline import Compilation, TreePolicy, compile_file, compile_tree
from optio.compiler.source_tree import MemoryTree
from optio.model.route import show
from optio.model.task import TaskSpec

TASK = "name: A\nagentRuntime: claude-code\npromptTemplate: Say hello\n"
BASE = """\
type: template
agentRuntime: claude-code
description: of the template
promptTemplate: Report on {{REPO}}
maxTurns: 20
budgetUsd: "2.50"
paramsSchema:
  type: object
  additionalProperties: false
  properties:
    REPO: {type: string, maxLength: 200}
  required: [REPO]
environment:
  env: {LEVEL: info, COLOUR: never}
  setupCommands: [one, two]
startLimit: {count: 5, per: 1h}
"""


def compiled(files: dict[str, str]) -> Compilation:
    return compile_tree(MemoryTree(files))


def spec(files: dict[str, str], path: str = "task.yaml") -> TaskSpec:
    done = compiled(files)
    assert [d.message for d in done.diagnostics if d.severity == "error"] == []
    (task,) = [task for task in done.registry.tasks.values() if task.origin.path == path]
    return task.spec


def found(files: dict[str, str]) -> list[str]:
    return [f"{d.path}:{d.span.start.line}:{d.span.start.column} {d.code} {d.message}" for d in compiled(files).diagnostics]


def test_a_task_has_what_its_template_has_and_its_own_wins() -> None:
    made = spec({"base.yaml": BASE, "task.yaml": "name: A\nextends: base.yaml\nmaxTurns: 3\n"})

    assert (made.agent_runtime, made.max_turns, made.budget_usd, made.description) == ("claude-code", 3, "2.50", "")
    assert (made.type, made.extends, made.name) == ("standalone", None, "A")


def test_mappings_are_merged_and_lists_and_units_are_replaced() -> None:
    own = "environment:\n  env: {LEVEL: debug}\n  setupCommands: [three]\nstartLimit: {count: 1, per: 60s}\n"
    made = spec({"base.yaml": BASE, "task.yaml": f"name: A\nextends: base.yaml\n{own}"})

    assert made.environment.env == {"LEVEL": "debug", "COLOUR": "never"}
    assert made.environment.setup_commands == ["three"]
    assert made.start_limit is not None
    assert (made.start_limit.count, made.start_limit.per) == (1, "60s")


def test_required_parameters_of_both_are_required() -> None:
    schema = "paramsSchema:\n  properties: {BRANCH: {type: string}}\n  required: [BRANCH, REPO]\n"
    own = "promptTemplate: '{{REPO}} and {{BRANCH}}'\n" + schema
    made = spec({"base.yaml": BASE, "task.yaml": f"name: A\nextends: base.yaml\n{own}"})

    assert made.params_schema is not None
    assert made.params_schema["required"] == ["REPO", "BRANCH"]
    assert set(made.params_schema["properties"]) == {"REPO", "BRANCH"}


def test_null_takes_away_and_a_prompt_takes_away_the_other_kind() -> None:
    made = spec(
        {
            "base.yaml": BASE,
            "task.yaml": "name: A\nextends: base.yaml\nbudgetUsd: null\nparamsSchema: null\npromptFile: p.md\n",
            "p.md": "Say hello",
        }
    )

    assert (made.budget_usd, made.params_schema, made.prompt_template, made.prompt_file) == (None, None, None, "p.md")


@pytest.mark.parametrize(
    "removal",
    ["environment: null", "environment: {env: null}", "environment: {env: {LEVEL: null}}", "maxConcurrent: null"],
)
@pytest.mark.parametrize(
    "above", ["environment: {env: {LEVEL: debug}}\nmaxConcurrent: 3\n", "owner: us\n"], ids=["set", "unset"]
)
def test_null_in_nearer_defaults_takes_away_what_farther_ones_say(removal: str, above: str) -> None:
    files = {"_defaults.yaml": above, "team/_defaults.yaml": f"{removal}\n", "team/task.yaml": TASK}

    assert found(files) == []
    made, plain = spec(files, "team/task.yaml"), spec({"task.yaml": TASK})
    if "environment" in removal:
        assert made.environment == plain.environment
    else:
        assert made.max_concurrent == plain.max_concurrent


@pytest.mark.parametrize(
    "text",
    ["modle: null", "environment: {imag: null}", "startLimit: {count: null, per: 1h}", "environment: {setupCommands: [null]}"],
)
def test_null_in_defaults_where_it_takes_nothing_away_is_an_error(text: str) -> None:
    assert [each for each in found({"_defaults.yaml": f"{text}\n", "task.yaml": TASK}) if each.startswith("_defaults.yaml:1:")]


def test_defaults_hold_below_their_directory_the_nearest_first_and_templates_win_over_them() -> None:
    files = {
        "_defaults.yaml": "maxTurns: 1\ntimeout: 1m\nmaxRetries: 0\n",
        "team/_defaults.yaml": "maxTurns: 2\ntimeout: 2m\n",
        "team/base.yaml": "type: template\nmaxTurns: 3\n",
        "team/task.yaml": TASK + "extends: base.yaml\n",
        "other.yaml": TASK.replace("A", "B"),
    }

    team, other = spec(files, "team/task.yaml"), spec(files, "other.yaml")

    assert (team.max_turns, team.timeout, team.max_retries) == (3, "2m", 0)
    assert (other.max_turns, other.timeout, other.max_retries) == (1, "1m", 0)


def test_templates_extend_templates_and_their_files_are_found_beside_them() -> None:
    files = {
        "bases/root.yaml": "type: template\nagentRuntime: claude-code\npromptFile: say.md\nmaxTurns: 1\n",
        "bases/say.md": "Say hello",
        "bases/mid.yaml": "type: template\nextends: root.yaml\nmaxTurns: 2\n",
        "tasks/task.yaml": "name: A\nextends: ../bases/mid.yaml\n",
    }

    made = compiled(files).registry.tasks["a"]

    assert (made.prompt, made.spec.max_turns) == ("Say hello", 2)


def test_a_task_is_the_same_wherever_its_values_stand() -> None:
    merged = compiled({"base.yaml": BASE, "task.yaml": "name: A\nextends: base.yaml\n"}).registry.tasks["a"]
    flat = BASE.replace("type: template\n", "name: A\n").replace("description: of the template\n", "")

    assert merged.digest == compiled({"task.yaml": flat}).registry.tasks["a"].digest


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (
            {"base.yaml": BASE.replace("maxTurns: 20", "maxTurns: many"), "task.yaml": "name: A\nextends: base.yaml\n"},
            ["base.yaml:5:11 OPT103 `maxTurns` must be a whole number, not text"],
        ),
        (
            {"base.yaml": BASE, "task.yaml": "name: A\nextends: base.yaml\nenvironment:\n  env: {LEVEL: 3}\n"},
            ["task.yaml:4:16 OPT103 `environment.env.LEVEL` must be text, not a number"],
        ),
        (
            {"base.yaml": BASE.replace("{{REPO}}", "{{REPOS}}"), "task.yaml": "name: A\nextends: base.yaml\n"},
            ["base.yaml:4:27 OPT201 `{{REPOS}}` has no parameter and stays as it is"],
        ),
        ({"task.yaml": TASK + "extends: no.yaml\n"}, ["task.yaml:4:10 OPT115 `no.yaml` does not exist"]),
        ({"task.yaml": TASK + "extends: ../no.yaml\n"}, ["task.yaml:4:10 OPT115 `../no.yaml` does not exist"]),
        (
            {"task.yaml": TASK + "extends: b.yaml\n", "b.yaml": TASK.replace("A", "B")},
            ["task.yaml:4:10 OPT703 `b.yaml` is not a template"],
        ),
        (
            {"task.yaml": TASK + "extends: b.yaml\n", "b.yaml": "type: template\nmaxTurns: 'x\n"},
            [
                "b.yaml:2:11 OPT001 the quote that begins here is not closed",
                "task.yaml:4:10 OPT703 `b.yaml` cannot be read",
            ],
        ),
        (
            {
                "a.yaml": "type: template\nextends: b.yaml\n",
                "b.yaml": "type: template\nextends: a.yaml\n",
                "task.yaml": TASK + "extends: a.yaml\n",
            },
            ["b.yaml:2:10 OPT703 templates extend each other in a circle: a.yaml -> b.yaml -> a.yaml"],
        ),
        (
            {"_defaults.yaml": "- 1\n", "task.yaml": TASK},
            [
                "_defaults.yaml:1:1 OPT103 a task is a mapping, not a list",
                "task.yaml:1:1 OPT703 `_defaults.yaml` cannot be read, and applies to this task",
            ],
        ),
        (
            {"_defaults.yaml": "name: B\ntriggers: []\nmaxTurn: 3\n", "task.yaml": TASK},
            [
                "_defaults.yaml:1:1 OPT120 `name` in defaults: each task has its own",
                "_defaults.yaml:2:1 OPT120 `triggers` in defaults: each task has its own",
                "_defaults.yaml:3:1 OPT101 unknown key `maxTurn`",
            ],
        ),
        (
            {
                "base.yaml": BASE + "triggers:\n  - type: schedule\n    config: {cronExpression: 0 9 * * 1, timezone: UTC}\n",
                "task.yaml": "name: A\nextends: base.yaml\n",
            },
            ["base.yaml:19:5 OPT308 the schedule gives no value for `REPO`"],
        ),
        (
            {"_defaults.yaml": "startLimit: {count: 5}\n", "task.yaml": TASK},
            ["_defaults.yaml:1:1 OPT102 `startLimit.per` is missing"],
        ),
    ],
)
def test_a_mistake_is_told_where_it_was_written_and_once(files: dict[str, str], expected: list[str]) -> None:
    assert found(files) == expected


UNFILLED = "is not filled in: parameters are filled into the prompt only"


@pytest.mark.parametrize(
    ("base", "expected"),
    [
        (
            "environment: {setupCommands: ['git clone {{REPO}}']}\n",
            f"base.yaml:2:42 OPT415 `{{{{REPO}}}}` in `environment.setupCommands[0]` {UNFILLED}",
        ),
        ("model: '{{REPO}}'\n", f"base.yaml:2:9 OPT416 `{{{{REPO}}}}` in `model` {UNFILLED}"),
        (f"environment: {{env: {{A: ghp_{'a' * 36}}}}}\n", "base.yaml:2:24 OPT503 a GitHub token in plain text"),
        (
            "paramsSchema: {properties: {REPO: {$ref: 'https://example.com/x'}}}\n",
            "base.yaml:2:42 OPT214 `https://example.com/x` leads out of the schema",
        ),
    ],
)
def test_what_is_forbidden_is_forbidden_in_a_template(base: str, expected: str) -> None:
    schema = "paramsSchema: {type: object, additionalProperties: false, properties: {REPO: {maxLength: 9}}, required: [REPO]}\n"
    task = f"name: A\nextends: base.yaml\nagentRuntime: claude-code\npromptFile: p.md\n{schema}"
    files = {"base.yaml": f"type: template\n{base}", "task.yaml": task, "p.md": "Report on {{REPO}}"}

    done = compiled(files)

    assert found(files) == [expected]
    assert dict(done.registry.tasks) == {}


def test_who_inherits_an_error_is_not_served_and_others_are() -> None:
    files = {
        "base.yaml": BASE.replace("maxTurns: 20", "maxTurns: many"),
        "task.yaml": "name: A\nextends: base.yaml\n",
        "own.yaml": TASK.replace("name: A", "name: B"),
    }

    done = compiled(files)

    assert (set(done.registry.tasks), done.broken) == ({"b"}, {"base.yaml", "task.yaml"})


def test_a_comment_in_a_template_covers_what_its_tasks_find_there() -> None:
    base = BASE.replace(
        "promptTemplate: Report on {{REPO}}", "promptTemplate: '{{REPO}} {{NO}}'  # optio: ignore[OPT201] filled in"
    )
    files = {"base.yaml": base, "task.yaml": "name: A\nextends: base.yaml\n"}

    assert found(files) == []


def test_where_each_value_comes_from_is_known() -> None:
    tree = MemoryTree(
        {
            "_defaults.yaml": "timeout: 5m\n",
            "base.yaml": BASE,
            "task.yaml": "name: A\nextends: base.yaml\nenvironment: {env: {LEVEL: debug}}\nparamsSchema: {required: [B]}\n",
        }
    )
    task = compile_file("task.yaml", tree, Bases(tree), TreePolicy(tree)).task
    assert task is not None

    known = {show(route): (path, line) for route, path, line in value_origins(task.document)}

    assert known["timeout"] == ("_defaults.yaml", 1)
    assert known["environment.env.LEVEL"] == ("task.yaml", 3)
    assert known["environment.env.COLOUR"] == ("base.yaml", 14)
    assert known["paramsSchema.properties.REPO.type"] == ("base.yaml", 11)
    assert known["name"] == ("task.yaml", 1)


def test_a_changed_template_changes_its_tasks_and_no_others() -> None:
    files = {
        "base.yaml": BASE,
        "task.yaml": "name: A\nextends: base.yaml\n",
        "own.yaml": TASK.replace("name: A", "name: B"),
    }
    compiler = IncrementalCompiler()
    before = compiler.compile(MemoryTree(files)).registry.tasks

    def again(**changes: str) -> dict[str, Any]:
        files.update({name.replace("__", "."): text for name, text in changes.items()})
        return dict(compiler.compile(MemoryTree(files)).registry.tasks)

    after = again(base__yaml=BASE.replace("maxTurns: 20", "maxTurns: 7"))
    assert (after["a"].spec.max_turns, after["b"] is before["b"]) == (7, True)
    assert again(_defaults__yaml="timeout: 3m\n")["b"].spec.timeout == "3m"


def test_a_task_that_becomes_a_template_is_not_waited_for() -> None:
    compiler = IncrementalCompiler()
    done = compiler.compile(
        MemoryTree({"a.yaml": "type: template\nmaxTurns: 3\n", "_defaults.yaml": "", "b.yaml": "name: B\n"})
    )

    assert compiler.unserved(done) == {"_defaults.yaml": None, "b.yaml": "b"}


def test_a_missing_template_is_suggested_where_the_working_directory_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    os.rmdir(tmp_path)

    task = TASK.encode() + b"extends: ../shared/bases.yaml\n"
    found = compile_tree(MemoryTree({"team/a.yaml": task, "shared/base.yaml": BASE.encode()})).diagnostics

    assert [d.hint for d in found if d.route == ("extends",)] == ["did you mean `../shared/base.yaml`?"]
