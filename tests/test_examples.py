"""Each example compiles without a finding and runs; agents are the real CLI on a model that answers by script."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from optio.compiler.pipeline import compile_tree
from optio.compiler.source_tree import DirectoryTree
from optio.model.registry import CompiledTask
from optio.testing.coverage import coverage
from optio.testing.run import run_tests
from tests.stub_model import TEXT, StubModel
from tests.support import CLAUDE, ROOT, Dev

EXAMPLES = sorted(path for path in (ROOT / "examples").iterdir() if path.is_dir())
TREES = [ROOT / "tasks.d", *(example / "tasks.d" for example in EXAMPLES)]
PARAMS: dict[str, dict[str, str]] = {
    "weekly-security-report": {"REPO_NAME": "optio"},
    "word-count": {"TEXT": "four words in all"},
    "disk-report": {},
    "changelog": {"LINES": "add a"},
    "push-review": {"REPO": "acme/storefront", "WHO": "ada", "COMMIT": "0" * 40, "MESSAGE": "Mend it"},
}
OUTPUT = {"changelog": "add a", "word-count": "4", "disk-report": "Filesystem"}


def tasks(example: Path) -> list[CompiledTask]:
    return list(compile_tree(DirectoryTree(example / "tasks.d")).registry.tasks.values())


def payload(example: Path) -> Path | None:
    """The delivery that its README sends, which is the first that its tests try."""
    (task,) = run_tests(DirectoryTree(example / "tasks.d")).tested
    names = [test.webhook for test in task.task.spec.tests if test.webhook is not None]
    return example / "tasks.d" / names[0] if names else None


@pytest.mark.parametrize("tree", TREES, ids=lambda tree: tree.parent.name)
def test_a_tree_of_ours_compiles_without_a_finding(tree: Path) -> None:
    compilation = compile_tree(DirectoryTree(tree))

    assert [d.to_json() for d in compilation.diagnostics] == []
    assert compilation.registry.tasks


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_an_example_explains_itself_and_has_what_its_webhook_needs(example: Path) -> None:
    hooks = [task for task in tasks(example) if task.spec.webhook is not None]

    assert (example / "README.md").read_text().startswith("# ")
    assert (payload(example) is not None) == bool(hooks)


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory, scripted_model: StubModel) -> Iterator[Dev]:
    """All examples at once."""
    process = Dev(
        tmp_path_factory.mktemp("examples"),
        environ={
            "OPTIO_PROGRAM_CLAUDE_CODE": str(CLAUDE),
            "OPTIO_SANDBOX": "namespaces",  # without one the CLI does not run unattended as root
            "OPTIO_ANTHROPIC_BASE_URL": scripted_model.url,
            "OPTIO_SECRET_ANTHROPIC_API_KEY": "sk-example",
            "OPTIO_SECRET_GITHUB_PUSH_SECRET": "a secret of ours",
            "OPTIO_SECRET_SECURITY_SCAN_SECRET": "another secret of ours",
        },
    )
    for example in EXAMPLES:
        for path in (example / "tasks.d").rglob("*.*"):
            if path.is_file():
                process.write(path.relative_to(example / "tasks.d").as_posix(), path.read_text())
    process.start()
    yield process
    process.stop()


@pytest.mark.parametrize("tree", TREES, ids=lambda tree: tree.parent.name)
def test_the_own_tests_of_a_tree_pass_and_leave_nothing_out(tree: Path) -> None:
    report = run_tests(DirectoryTree(tree))

    assert [(result.name, result.failures) for result in report.results if not result.passed] == []
    assert {each.task.id: coverage(each).missing for each in report.tested} == {each.task.id: [] for each in report.tested}


def test_every_example_is_run_here() -> None:
    assert {task.id for example in EXAMPLES for task in tasks(example)} == set(PARAMS)


@pytest.mark.parametrize("task_id", sorted(PARAMS))
def test_an_example_runs(serving: Dev, task_id: str) -> None:
    parameters = [word for name, value in PARAMS[task_id].items() for word in ("-p", f"{name}={value}")]

    done = serving.cli("run", task_id, *parameters, "--wait")

    assert done.returncode == 0, done.stdout + done.stderr
    assert OUTPUT.get(task_id, TEXT) in done.stdout


@pytest.mark.parametrize("example", [path for path in EXAMPLES if payload(path) is not None], ids=lambda path: path.name)
def test_an_examples_payload_starts_its_run(serving: Dev, example: Path) -> None:
    (task,) = tasks(example)

    done = serving.cli("hook", "send", task.id, str(payload(example)), "--wait")

    assert done.returncode == 0, done.stdout + done.stderr
