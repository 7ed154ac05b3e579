"""The policy of a tree: it holds after every merge, and for what nobody wrote."""

import pytest

from optio.compiler.incremental import IncrementalCompiler
from optio.compiler.pipeline import Compilation, compile_tree
from optio.compiler.source_tree import MemoryTree

TASK = "name: A\nagentRuntime: claude-code\npromptTemplate: Say hello\n"
OPEN = "paramsSchema: {type: object, properties: {P: {type: string, x-optio-used-by: me}}}\n"


def compiled(policy: str, task: str = TASK, **more: str) -> Compilation:
    files = {name.replace("__", "."): text for name, text in more.items()}
    return compile_tree(MemoryTree({"_policy.yaml": f"type: policy\n{policy}", "task.yaml": task, **files}))


def found(policy: str, task: str = TASK, **more: str) -> list[str]:
    return [
        f"{d.path}:{d.span.start.line} {d.severity} {d.code} {d.message}" for d in compiled(policy, task, **more).diagnostics
    ]


@pytest.mark.parametrize(
    ("policy", "task", "message"),
    [
        ('ceilings: {budgetUsd: "5.00"}', "", "no `budgetUsd`: the policy allows at most 5.00"),
        ("ceilings: {maxTurns: 20}", "maxTurns: 21\n", "`maxTurns` is 21, but the policy allows at most 20"),
        ("ceilings: {timeout: 1h}", "timeout: 61m\n", "`timeout` is 61m, but the policy allows at most 1h"),
        ("ceilings: {maxRetries: 0}", "", "`maxRetries` is 1, but the policy allows at most 0"),
        ("ceilings: {maxConcurrent: 1}", "", "`maxConcurrent` is 2, but the policy allows at most 1"),
        ("ceilings: {warmPoolSize: 0}", "warmPoolSize: 1\n", "`warmPoolSize` is 1, but the policy allows at most 0"),
        ("allow: {runtimes: [codex]}", "", "the policy does not allow `claude-code`"),
        ("allow: {models: [sonnet]}", "", "no `model`, but the policy allows only some"),
        ("allow: {models: ['claude-*']}", "model: gpt-5\n", "the policy does not allow `gpt-5`"),
        (
            "allow: {images: ['ghcr.io/acme/*']}",
            "environment: {image: 'docker.io/x:1'}\n",
            "the policy does not allow `docker.io/x:1`",
        ),
        ("allow: {egress: ['*.acme.com']}", "", "no list of hosts, but the policy allows only some"),
        (
            "allow: {egress: ['*.acme.com']}",
            "environment: {network: {egress: [a.acme.com, acme.org]}}\n",
            "the policy does not allow `acme.org`",
        ),
        ("allow: {secrets: ['ACME_*']}", "environment: {secrets: [ACME_KEY, OTHER]}\n", "the policy does not allow `OTHER`"),
        ("require: [timeout]", "", "the policy requires `timeout`"),
        ("budget: enforce", 'budgetUsd: "1.00"\nbudget: report\n', "the policy does not allow `budget: report`"),
    ],
)
def test_what_the_policy_does_not_allow_is_an_error(policy: str, task: str, message: str) -> None:
    done = compiled(policy, TASK + task)

    assert [d.message for d in done.diagnostics if d.severity == "error"] == [message]
    assert dict(done.registry.tasks) == {}


@pytest.mark.parametrize(
    ("policy", "task"),
    [
        ('ceilings: {budgetUsd: "5.00", maxTurns: 20}', 'budgetUsd: "4.99"\nmaxTurns: 20\n'),
        ("ceilings: {timeout: 1h}", "timeout: 60m\n"),
        (
            "allow: {models: ['claude-*'], egress: ['*.acme.com', api.anthropic.com], secrets: []}",
            "model: claude-x\nenvironment: {network: {egress: [a.acme.com, api.anthropic.com]}}\n",
        ),
        ("require: [description]", "description: Says hello\n"),
        ("failOn: [danger, money-up]", ""),
    ],
)
def test_what_it_allows_is_served(policy: str, task: str) -> None:
    assert found(policy, TASK + task) == []


def test_it_holds_after_templates_and_defaults_and_points_at_who_wrote_the_value() -> None:
    lines = found(
        "ceilings: {maxTurns: 20, maxRetries: 1}",
        TASK + "extends: base.yaml\n",
        base__yaml="type: template\nmaxTurns: 50\n",
        _defaults__yaml="maxRetries: 9\n",
    )

    assert lines == [
        "_defaults.yaml:1 error OPT613 `maxRetries` is 9, but the policy allows at most 1",
        "base.yaml:2 error OPT613 `maxTurns` is 50, but the policy allows at most 20",
    ]


def test_a_program_has_no_turns_and_no_budget_of_its_own() -> None:
    task = "name: A\nagentRuntime: command\ncommand: [cat]\npromptTemplate: x\n"

    assert found('ceilings: {budgetUsd: "5.00", maxTurns: 20}\nallow: {models: [sonnet]}', task) == []


def test_it_grades_rules_up_down_and_off() -> None:
    assert [line.split()[1] for line in found("rules: {OPT215: error}", TASK + OPEN)] == ["error"]
    assert [line.split()[1] for line in found("rules: {OPT215: info}", TASK + OPEN)] == ["info"]
    assert found("rules: {OPT215: off}", TASK + OPEN) == []


def test_it_turns_on_what_is_otherwise_only_asked_with_strict_and_nothing_else_of_that() -> None:
    assert [line.split()[1:3] for line in found("rules: {OPT601: error}", TASK)] == [["error", "OPT601"]]
    assert found("rules: {OPT601: off}", TASK) == []


def test_what_it_makes_an_error_cannot_be_ignored() -> None:
    ignored = OPEN.replace("paramsSchema:", "# optio: ignore[OPT215] why not\nparamsSchema:")

    assert found("rules: {}", TASK + ignored) == []
    assert [line.split()[2] for line in found("rules: {OPT215: error}", TASK + ignored)] == ["OPT709", "OPT215"]


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ("rules: {OPT101: warning}", "OPT101 is an error, and its severity cannot be changed"),
        ("rules: {OPT999: off}", "unknown rule `OPT999`"),
        ("rules: {OPT215: loud}", "`rules.OPT215` cannot be read"),
        ("ceilings: {budgetUsd: 5}", "`ceilings.budgetUsd` cannot be read"),
        ("ceilings: {monthUsd: 5}", "`ceilings.monthUsd` cannot be read"),
        ("fleet: {day: 5}", "unknown key `fleet.day`"),
        ("failOn: [dangr]", "unknown effect `dangr`"),
        ("failOn: [[danger]]", "`failOn[0]` cannot be read"),
        ("allows: {}", "unknown key `allows`"),
        ("require: [budget]", "`require[0]` cannot be read"),
        ("a: [", None),
    ],
)
def test_a_policy_that_cannot_be_read_allows_nothing(policy: str, message: str | None) -> None:
    done = compiled(policy)

    first, *rest = done.diagnostics
    assert first.path == "_policy.yaml"
    assert message in (None, first.message)
    assert [(d.path, d.code) for d in rest] == [("task.yaml", "OPT121")]
    assert dict(done.registry.tasks) == {}


def test_a_policy_elsewhere_is_sent_to_its_place() -> None:
    done = compile_tree(MemoryTree({"team/_policy.yaml": "type: policy\n", "task.yaml": TASK}))

    assert [(d.path, d.code) for d in done.diagnostics] == [("team/_policy.yaml", "OPT110")]


def test_a_new_policy_is_held_against_every_file_and_goes_with_its_file() -> None:
    compiler, files = IncrementalCompiler(), {"task.yaml": TASK}
    assert set(compiler.compile(MemoryTree(files)).registry.tasks) == {"a"}

    strict = {**files, "_policy.yaml": "type: policy\nrequire: [timeout]\n"}
    assert set(compiler.compile(MemoryTree(strict)).registry.tasks) == set()
    assert set(compiler.compile(MemoryTree({**strict, "_policy.yaml": "type: policy\n"})).registry.tasks) == {"a"}
    assert set(compiler.compile(MemoryTree(files)).registry.tasks) == {"a"}


TEAMS = 'namespaces: {"team-a/*": runs-a, "*/nightly-*": runs-night, "team-b/*": runs-b}\n'


@pytest.mark.parametrize(
    ("path", "namespace"),
    [
        ("team-a/x.yaml", "runs-a"),
        ("team-a/deep/nightly-x.yaml", "runs-a"),
        ("team-b/nightly-x.yaml", "runs-night"),
        ("team-b/x.yaml", "runs-b"),
        ("team-c/x.yaml", None),
        ("x.yaml", None),
    ],
)
def test_a_task_has_the_namespace_of_the_first_pattern_that_fits_its_path(path: str, namespace: str | None) -> None:
    done = compile_tree(MemoryTree({"_policy.yaml": f"type: policy\n{TEAMS}", path: TASK}))

    assert [task.namespace for task in done.registry.tasks.values()] == [namespace]


def test_the_namespace_is_part_of_the_definition_and_of_no_other() -> None:
    plain, teamed = (
        compile_tree(MemoryTree({"_policy.yaml": f"type: policy\n{policy}", "team-a/x.yaml": TASK, "y.yaml": TASK + "id: y\n"}))
        for policy in ("", TEAMS)
    )

    same = {name: plain.registry.tasks[name].digest == teamed.registry.tasks[name].digest for name in ("a", "y")}
    assert same == {"a": False, "y": True}


def test_a_task_cannot_name_a_namespace() -> None:
    assert [line.partition(" ")[2] for line in found("", TASK + "namespace: runs-a\n")] == [
        "error OPT116 `namespace` is set by the policy"
    ]


def test_a_moved_file_and_another_policy_are_noticed() -> None:
    compiler = IncrementalCompiler()
    trees = (
        {"_policy.yaml": f"type: policy\n{TEAMS}", "team-a/x.yaml": TASK},
        {"_policy.yaml": f"type: policy\n{TEAMS}", "team-b/x.yaml": TASK},
        {"_policy.yaml": 'type: policy\nnamespaces: {"team-b/*": other}\n', "team-b/x.yaml": TASK},
    )

    assert [compiler.compile(MemoryTree(tree)).registry.tasks["a"].namespace for tree in trees] == ["runs-a", "runs-b", "other"]


def test_a_policy_gives_tasks_with_a_budget_the_way_in_which_it_holds_and_leaves_others_as_they_are() -> None:
    limited, unpriced = (
        TASK + 'budgetUsd: "1.00"\n',
        'name: B\nagentRuntime: codex\nmodel: own\npromptTemplate: x\nbudgetUsd: "1.00"\n',
    )
    plain, reported = (compiled(policy, limited, free__yaml=TASK.replace("A", "F")) for policy in ("", "budget: report"))
    enforced = compiled("budget: report", limited + "budget: enforce\n")

    assert {task_id: task.spec.budget for task_id, task in reported.registry.tasks.items()} == {"a": "report", "f": None}
    assert enforced.registry.tasks["a"].digest == plain.registry.tasks["a"].digest != reported.registry.tasks["a"].digest
    assert reported.registry.tasks["f"].digest == plain.registry.tasks["f"].digest
    assert [line for line in found("", unpriced) if "OPT616" in line]
    assert not [line for line in found("budget: report", unpriced) if "OPT616" in line]
