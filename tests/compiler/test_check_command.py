"""`optio check`: what it prints, how it ends, and what it does not load."""

import argparse
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from optio.cli import check
from optio.compiler.fixes import FixedTree, fix_tree
from optio.compiler.source_tree import SourceTree
from tests.compiler.trees import fill

# A finding that is ignored without a reason.
IGNORED = (
    "paramsSchema:  # optio: ignore[OPT215]\n  type: object\n  properties: {P: {type: string, x-optio-used-by: a script}}\n"
)
GOOD = "name: {}\nagentRuntime: claude-code\npromptTemplate: Say hello\n"
PARAMETERS = "paramsSchema: {type: object, properties: {REPO: {type: string}}, additionalProperties: false}\n"
WEBHOOK = "triggers: [{type: webhook, config: {path: a, secret: {name: S}, "
NOT_FOR_CHECK = {
    *("litestar", "sqlalchemy", "redis", "dramatiq", "kubernetes", "lightkube", "rich", "structlog", "asyncio", "watchfiles"),
    *("uvicorn", "sqlite3", "limits", "psycopg", "opentelemetry", "prometheus_client"),
    *("concurrent", "multiprocessing", "subprocess", "logging", "http", "ssl", "tempfile", "zipfile", "importlib.metadata"),
}
FOR_SOME_TASKS = {"jsonschema_rs", "jsonpath_rfc9535", "re2", "cronsim"}
FOR_MISTAKES = {"difflib", "optio.compiler.rules.codes", "optio.compiler.rules"}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPTIO_TASKS", raising=False)
    return tmp_path


def write(path: str, text: str) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text, encoding="utf-8")


def run(*argv: str) -> int:
    parser = argparse.ArgumentParser("optio check")
    check.add_arguments(parser)
    return check.run(parser.parse_args(argv))


def test_a_clean_tree_ends_with_0(capsys: pytest.CaptureFixture[str]) -> None:
    write("tasks.d/a.yaml", GOOD.format("A"))

    assert run() == 0
    assert capsys.readouterr().out == "no findings in 1 file\n"


def test_an_error_ends_with_1_and_its_path_can_be_clicked(capsys: pytest.CaptureFixture[str]) -> None:
    write("tasks.d/sub/a.yaml", GOOD.format("A") + "maxTurn: 1\n")

    assert run("--format", "concise") == 1
    assert capsys.readouterr().out.startswith("tasks.d/sub/a.yaml:4:1: error: unknown key `maxTurn`")


def test_a_warning_alone_ends_with_0(capsys: pytest.CaptureFixture[str]) -> None:
    write("tasks.d/a.yaml", "# nothing yet\n")

    assert run() == 0
    assert "1 warning in 1 file" in capsys.readouterr().out


def test_information_is_printed_when_it_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    write("tasks.d/a.yaml", GOOD.format("A") + IGNORED)

    assert run() == 0
    assert capsys.readouterr().out == "no findings in 1 file\n"
    assert run("--verbose") == 0
    assert "OPT710" in capsys.readouterr().out


def test_strictly_a_warning_may_be_an_error_and_information_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    write("tasks.d/a.yaml", GOOD.format("A") + IGNORED)
    write("tasks.d/b.yaml", GOOD.format("B").replace("hello", "{{ P }}") + IGNORED)

    assert run("--strict", "--format", "concise") == 1
    said = capsys.readouterr().out
    assert ("a.yaml:4:16: warning" in said, "b.yaml:3:21: error" in said) == (True, True)


def test_fixes_are_written_and_told(capsys: pytest.CaptureFixture[str]) -> None:
    write("tasks.d/a.yaml", GOOD.format("A") + "max_turns: 1\nmaxRetrie: 2\n")
    Path("tasks.d/a.yaml").chmod(0o640)

    assert run("--fix") == 1

    assert Path("tasks.d/a.yaml").read_text() == GOOD.format("A") + "maxTurns: 1\nmaxRetrie: 2\n"
    assert Path("tasks.d/a.yaml").stat().st_mode & 0o777 == 0o640
    assert [p.name for p in Path("tasks.d").iterdir()] == ["a.yaml"]
    assert capsys.readouterr().out.startswith("fixed 1 finding in 1 file\n")
    assert run("--fix", "--unsafe-fixes") == 0
    assert Path("tasks.d/a.yaml").read_text() == GOOD.format("A") + "maxTurns: 1\nmaxRetries: 2\n"


def test_a_file_that_is_saved_while_fixes_are_made_keeps_what_was_saved(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = GOOD.format("A") + "max_turns: 1\n"
    for name in ("alike", "apart", "gone", "same"):
        write(f"tasks.d/{name}.yaml", wrong.replace("name: A", f"name: {name}"))
    mended = Path("tasks.d/alike.yaml").read_text().replace("max_turns", "maxTurns")

    def meanwhile(tree: SourceTree, *, unsafe: bool, pedantic: bool) -> FixedTree:
        done = fix_tree(tree, unsafe=unsafe, pedantic=pedantic)
        write("tasks.d/alike.yaml", mended)
        write("tasks.d/apart.yaml", "# mine\n")
        Path("tasks.d/gone.yaml").unlink()
        return done

    monkeypatch.setattr("optio.compiler.fixes.fix_tree", meanwhile)

    assert run("--fix") == 1

    said = capsys.readouterr()
    assert said.out.startswith("fixed 2 findings in 2 files\n")
    assert said.err == "".join(
        f"optio check: `tasks.d/{name}.yaml` changed during the check and was not fixed: try again\n"
        for name in ("apart", "gone")
    )
    assert Path("tasks.d/apart.yaml").read_text() == "# mine\n"
    assert sorted(p.name for p in Path("tasks.d").iterdir()) == ["alike.yaml", "apart.yaml", "same.yaml"]


def test_a_link_stays_a_link_when_its_file_is_fixed() -> None:
    write("tasks.d/sub/a.yaml", GOOD.format("A") + "max_turns: 1\n")
    Path("tasks.d/b.yaml").symlink_to("sub/a.yaml")

    run("tasks.d/b.yaml", "--fix")

    assert Path("tasks.d/b.yaml").is_symlink()
    assert Path("tasks.d/sub/a.yaml").read_text().endswith("maxTurns: 1\n")


def test_a_dash_is_told_how_standard_input_is_checked(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("-") == 2

    assert "`--stdin-filename PATH`" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["a\tb", "a\nb", 'a"b', "a\x1b\\b", "ü"])
def test_a_diff_applies_to_a_file_of_any_name_and_with_any_line_end(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    write(f"tasks.d/{name}.yaml", GOOD.format("A") + "description: 'a\u2028b'\nmax_turns: 1\n")

    assert run("--diff") == 1

    subprocess.run(["git", "apply", "-"], input=capsys.readouterr().out, text=True, check=True)
    assert Path(f"tasks.d/{name}.yaml").read_text().endswith("maxTurns: 1\n")


def test_a_diff_is_a_patch_and_changes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    before = GOOD.format("A") + "max_turns: 1"
    write("tasks.d/a.yaml", before)

    assert run("--diff") == 1

    patch = capsys.readouterr().out
    assert Path("tasks.d/a.yaml").read_text() == before
    subprocess.run(["git", "apply", "-"], input=patch, text=True, check=True)
    assert Path("tasks.d/a.yaml").read_text() == GOOD.format("A") + "maxTurns: 1"
    assert (run("--diff"), capsys.readouterr().out) == (0, "")


def test_a_diff_of_fixes_that_are_also_asked_for_changes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    before = GOOD.format("A") + "max_turns: 1\n"
    write("tasks.d/a.yaml", before)

    assert run("--fix", "--diff") == 1
    assert "+maxTurns: 1" in capsys.readouterr().out
    assert Path("tasks.d/a.yaml").read_text() == before
    assert run("--diff", "--stdin-filename", "a.yaml") == 2
    assert "give --stdin-filename or --diff, not both" in capsys.readouterr().err


def test_a_file_on_standard_input_is_checked_in_its_tree(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write("tasks.d/a.yaml", GOOD.format("A") + "maxTurn: 1\n")
    write("tasks.d/b.yaml", GOOD.format("B"))
    write("tasks.d/prompt.md", "Say hello")
    text = "name: b\nagentRuntime: claude-code\npromptFile: prompt.md\n"
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))

    assert run("--stdin-filename", "tasks.d/c.yaml") == 1

    assert capsys.readouterr().out == (
        "tasks.d/c.yaml:1:7: error: the id `b` is taken by tasks.d/b.yaml [OPT701 duplicate-name]\n"
        " 1 | name: b\n"
        "   |       ^ give one of them another name, or add `id: b-2`\n"
        "   tasks.d/b.yaml:1:7: also here\n"
        "\n"
        "1 error in 1 file\n"
    )


def test_a_file_on_standard_input_stands_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--stdin-filename", "tasks.d/c.yaml", "tasks.d") == 2
    assert "not both" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("form", "word"), [("sarif", '"version": "2.1.0"'), ("github", "::error file=tasks.d/a.yaml"), ("junit", "<testsuites")]
)
def test_other_programs_get_their_own_forms(form: str, word: str, capsys: pytest.CaptureFixture[str]) -> None:
    write("tasks.d/a.yaml", GOOD.format("A") + "maxTurn: 1\n")

    assert run("--format", form) == 1
    assert word in capsys.readouterr().out


def test_fixes_that_are_left_out_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    write("tasks.d/a.yaml", GOOD.format("A") + "idd: same\n")
    write("tasks.d/b.yaml", GOOD.format("B") + "id: same\n")

    assert run("--fix", "--unsafe-fixes") == 1

    assert capsys.readouterr().out.startswith("skipped 1 fix: a file would get an error, or could not be read\n")


def test_a_patch_has_no_other_form(capsys: pytest.CaptureFixture[str]) -> None:
    write("tasks.d/a.yaml", GOOD.format("A"))

    assert run("--diff", "--format", "json") == 2
    assert capsys.readouterr().err == "optio check: --diff prints a patch: leave out --format json\n"


def test_unsafe_fixes_alone_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    write("tasks.d/a.yaml", GOOD.format("A"))

    assert run("--unsafe-fixes") == 2
    assert "add --fix or --diff" in capsys.readouterr().err


def test_a_directory_around_the_task_directory_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    write("shop/tasks.d/_policy.yaml", "type: policy\nrequire: [owner]\n")
    write("shop/tasks.d/a.yaml", "owner: me\n" + GOOD.format("A"))

    assert run("shop") == 2
    told = "optio check: `shop` is not the task directory, it holds one: write `optio check shop/tasks.d`\n"
    assert capsys.readouterr().err == told
    assert run("shop/tasks.d") == 0


def test_a_policy_that_cannot_be_read_is_one_finding(capsys: pytest.CaptureFixture[str]) -> None:
    write("tasks.d/_policy.yaml", "type: policy\nallow: [\n")
    for name in ("a", "b"):
        write(f"tasks.d/{name}.yaml", GOOD.format(name))

    assert run("--format", "concise") == 1
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()] == ["tasks.d/_policy.yaml"]
    assert run("--format", "concise", "tasks.d/a.yaml") == 1
    assert "cannot be read, so it allows nothing" in capsys.readouterr().out


def test_a_path_that_does_not_exist_ends_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("nowhere") == 2
    assert capsys.readouterr().err == "optio check: `nowhere` does not exist\n"


def test_without_a_task_directory_the_way_out_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 2
    assert "give a PATH, or set OPTIO_TASKS" in capsys.readouterr().err


def test_an_unknown_option_ends_with_2() -> None:
    with pytest.raises(SystemExit) as stop:
        run("--strict-ish")

    assert stop.value.code == 2


def test_an_empty_directory_ends_with_0_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    Path("tasks.d").mkdir()

    assert run() == 0
    assert capsys.readouterr().out == "no task files in `tasks.d`\n"


def test_the_directory_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    write("elsewhere/a.yaml", GOOD.format("A"))
    monkeypatch.setenv("OPTIO_TASKS", "elsewhere")

    assert run() == 0
    assert "1 file" in capsys.readouterr().out


def test_a_file_inside_the_task_directory_is_checked_in_that_tree(capsys: pytest.CaptureFixture[str]) -> None:
    write("tasks.d/prompts/p.md", "Say hello")
    write("tasks.d/sub/a.yaml", "name: A\nagentRuntime: claude-code\npromptFile: ../prompts/p.md\n")
    write("tasks.d/sub/b.yaml", "broken: [\n")

    assert run("tasks.d/sub/a.yaml") == 0


def test_a_file_elsewhere_is_its_own_tree(capsys: pytest.CaptureFixture[str]) -> None:
    write("other/p.md", "Say hello")
    write("other/a.yaml", "name: A\nagentRuntime: claude-code\npromptFile: p.md\n")
    write("other/b.yaml", "name: B\nagentRuntime: claude-code\npromptFile: ../up.md\n")

    assert run("other/a.yaml") == 0
    assert run("other/b.yaml") == 1


def test_files_and_directories_can_be_mixed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write("one/a.yaml", GOOD.format("A"))
    write("two/a.yaml", GOOD.format("A") + "maxTurn: 1\n")
    write("two/b.yaml", GOOD.format("B") + "maxTurn: 1\n")

    assert run("one", "two/a.yaml", str(tmp_path / "two/b.yaml"), "--format", "json") == 1
    document = json.loads(capsys.readouterr().out)
    assert [d["path"] for d in document["diagnostics"]] == ["two/a.yaml", "two/b.yaml"]
    assert document["summary"] == {"files": 3, "tasks": 1, "errors": 2, "warnings": 0, "infos": 0}


def test_a_flood_of_findings_is_cut_and_counted(capsys: pytest.CaptureFixture[str]) -> None:
    for i in range(30):
        write(f"tasks.d/t{i:02}.yaml", GOOD.format(f"T{i}") + "".join(f"unknown{j}: 1\n" for j in range(10)))

    assert run("--format", "concise") == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 201
    assert lines[-1] == "... and 100 more"


def process(*argv: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **variables}
    return subprocess.run([sys.executable, *argv], capture_output=True, text=True, check=False, env=environment)


def loaded_by_check() -> set[str]:
    """Every module that a check of the task directory loads, however it is imported."""
    program = (
        "import os, sys\n"
        "from optio.cli import main\n"
        "os._exit = lambda code: (print(*sys.modules, file=sys.stderr), sys.exit(code))\n"
        "main(['check'])\n"
    )
    ended = process("-c", program)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return set(ended.stderr.split())


def among(names: set[str], modules: set[str]) -> set[str]:
    """Those of the modules that are one of the names, or stand below one."""
    return {module for module in modules for name in names if f"{module}.".startswith(f"{name}.")}


def test_only_the_compiler_is_loaded() -> None:
    write("tasks.d/a.yaml", GOOD.format("A") + "triggers: [{type: schedule, config: {cronExpression: '0 9 * * 1'}}]\n")

    loaded = loaded_by_check()

    assert {"optio.compiler.pipeline", "msgspec", "cronsim"} <= loaded
    assert among(NOT_FOR_CHECK, loaded) == set()
    ours = {
        "optio.cli",
        "optio.compiler",
        "optio.model",
        "optio.scheduling",
        "optio.plugins",
        "optio.errors",
    }
    assert among({"optio"}, loaded) - {"optio"} == among(ours, loaded)
    assert {"optio.cli.shared.process_pool", "pickle"} & loaded == set()


def test_a_clean_task_does_not_load_what_only_others_need() -> None:
    write("tasks.d/a.yaml", GOOD.format("A") + "triggers: [{type: manual}]\n")

    assert among(FOR_SOME_TASKS | FOR_MISTAKES, loaded_by_check()) == set()


def test_parameters_and_plain_queries_load_the_validator_but_not_the_query_language() -> None:
    queries = "when: \"@.action == 'opened' && @.draft != true\", paramMapping: {REPO: \"$.a['b-c'][-1]\"}}}]\n"
    write("tasks.d/a.yaml", GOOD.format("A") + PARAMETERS + WEBHOOK + queries)

    assert {module.split(".")[0] for module in among(FOR_SOME_TASKS, loaded_by_check())} == {"jsonschema_rs"}


def test_another_filter_loads_the_query_language_but_not_its_patterns() -> None:
    write("tasks.d/a.yaml", GOOD.format("A") + WEBHOOK + "when: \"search(@.action, '^open')\"}}]\n")

    loaded = loaded_by_check()

    assert "jsonpath_rfc9535" in loaded
    assert among({"re2", "jsonschema_rs"}, loaded) == set()


@pytest.mark.parametrize(("command", "said"), [("check", "no findings in 1 file\n"), ("compile", "1 task, generation")])
def test_the_compiler_is_not_kept_waiting_by_a_search_for_garbage(command: str, said: str) -> None:
    write("tasks.d/a.yaml", GOOD.format("A"))
    program = (
        "import gc, sys\n"
        "from optio.cli import main\n"
        "gc.collect()\n"
        "gc.callbacks.append(lambda phase, info: print(phase, file=sys.stderr))\n"
        f"main(['{command}'])\n"
    )

    ended = process("-c", program)

    assert said in ended.stdout
    assert (ended.returncode, ended.stderr) == (0, "")


def test_piped_output_has_no_colour() -> None:
    write("tasks.d/a.yaml", GOOD.format("A") + "maxTurn: 1\n")

    ended = process("-m", "optio", "check")

    assert ended.returncode == 1
    assert "^^^^^^^ did you mean `maxTurns`?" in ended.stdout
    assert "\x1b" not in ended.stdout


def test_a_terminal_that_cannot_show_the_text_is_no_bug() -> None:
    write("tasks.d/a.yaml", GOOD.format("A") + "na\u00efve: \U0001f680\n")
    Path(os.fsdecode(b"tasks.d/\xff.yaml")).write_text(GOOD.format("B") + "maxTurn: 1\n")

    for form in ("full", "concise", "json"):
        ended = process("-m", "optio", "check", "--format", form, PYTHONIOENCODING="ascii")
        assert ended.returncode == 1
        assert ended.stderr == ""
        assert "na\\xefve" in ended.stdout or form == "json"


@pytest.mark.parametrize("number", ["0", "-1", "many", "1.5", "\u00b2"])
def test_a_number_of_processes_that_is_none_is_refused(number: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run(f"--jobs={number}")

    assert ended.value.code == 2
    assert f"invalid number of processes `{number}`: give 1 or more" in capsys.readouterr().err


@pytest.mark.parametrize("form", check.FORMATS)
def test_what_is_printed_does_not_depend_on_the_number_of_processes(
    form: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(here / "tasks.d", 220)
    before = sorted(here.rglob("*"))

    def printed(*options: str) -> str:
        assert run("--format", form, "--verbose", *options) == 1
        return capsys.readouterr().out

    assert printed("--jobs", "1") == printed("--jobs", "2") == printed()
    assert sorted(here.rglob("*")) == before


def test_the_option_for_a_cache_is_unknown(here: Path) -> None:
    write("tasks.d/a.yaml", GOOD.format("A"))

    ended = process("-m", "optio", "check", "--no-cache")

    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("optio check: unrecognized arguments: --no-cache\n")
