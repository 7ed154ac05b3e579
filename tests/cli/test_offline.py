"""`init`, `render` and `compile`: the commands that need no server."""

import json
import re

import pytest

from tests.cli.conftest import ECHO, Shell


def test_init_makes_a_tree_that_is_clean(shell: Shell) -> None:
    made = shell("init", "project")

    checked = shell("check", "project/tasks.d", "--format", "json")

    assert made.returncode == 0
    assert "optio dev" in made.stdout
    assert json.loads(checked.stdout)["diagnostics"] == []
    assert json.loads(checked.stdout)["summary"]["tasks"] == 1


def test_init_writes_the_schemas_that_its_task_names_for_editors(shell: Shell) -> None:
    shell("init", "--tasks", "agents/tasks")

    first = (shell.directory / "agents" / "tasks" / "hello.yaml").read_text().splitlines()[0]

    assert first == "# yaml-language-server: $schema=../../schemas/task.schema.json"
    assert shell("schema", "--check").returncode == 0


def test_init_never_overwrites(shell: Shell) -> None:
    mine = shell.write("tasks.d/hello.yaml", "mine")
    notes = shell.write("tasks.d/README.md", "mine too")

    done = shell("init")

    assert done.returncode == 0
    assert (mine.read_text(), notes.read_text()) == ("mine", "mine too")


def test_init_adds_no_task_to_a_tree_that_has_some(shell: Shell) -> None:
    shell.write("tasks.d/team/echo.yaml", ECHO)

    shell("init")

    assert not (shell.directory / "tasks.d" / "hello.yaml").exists()


def test_render_prints_the_prompt_byte_for_byte(shell: Shell) -> None:
    shell.write("tasks.d/echo.yaml", ECHO.replace('"Hello, {{WHO}}!"', '"{{WHO}} costs 5 \\u20ac, {{LEFT}}\\n\\n"'))

    done = shell("render", "echo", "-p", "WHO={{LEFT}} \\1")

    assert done.stdout == "{{LEFT}} \\1 costs 5 \u20ac, {{LEFT}}\n\n"
    assert "not filled in: {{LEFT}}" in done.stderr


def test_render_fills_in_defaults_and_finds_a_task_by_its_file(shell: Shell) -> None:
    shell.write("tasks.d/echo.yaml", ECHO)

    done = shell("render", "tasks.d/echo.yaml", "--json")

    shown = json.loads(done.stdout)
    assert (shown["taskId"], shown["params"], shown["prompt"]) == ("echo", {"WHO": "world"}, "Hello, world!")


def test_render_explains_who_wrote_each_value(shell: Shell) -> None:
    shell.write("tasks.d/echo.yaml", ECHO + "extends: base.yaml\n")
    shell.write("tasks.d/base.yaml", "type: template\nenvironment:\n  env: {LEVEL: info}\n")
    shell.write("tasks.d/_defaults.yaml", "timeout: 5m\n")

    done = shell("render", "echo", "--explain")

    said = dict(reversed(re.split("  +", line, maxsplit=1)) for line in done.stdout.splitlines())
    assert said['timeout: "5m"'] == "_defaults.yaml:1"
    assert said['environment.env.LEVEL: "info"'] == "base.yaml:3"
    assert shell("render", "echo", "--explain", "-p", "WHO=x").returncode == 2


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("WHO=" + "x" * 21, "WHO: is longer than 20 characters"),
        ("WHOM=x", "WHOM: is not a parameter of this task"),
    ],
)
def test_render_refuses_parameters_that_do_not_fit(shell: Shell, flag: str, words: str) -> None:
    shell.write("tasks.d/echo.yaml", ECHO)

    done = shell("render", "echo", "-p", flag)

    assert (done.returncode, done.stdout) == (1, "")
    assert words in done.stderr


def test_render_of_a_broken_file_shows_what_is_wrong(shell: Shell) -> None:
    shell.write("tasks.d/echo.yaml", ECHO + "nme: x\n")

    done = shell("render", "echo")

    assert (done.returncode, done.stdout) == (1, "")
    assert "tasks.d/echo.yaml:11:1: error: unknown key `nme`" in done.stderr


def test_compile_gives_equal_bytes_for_equal_tasks(shell: Shell) -> None:
    shell.write("a/echo.yaml", ECHO)
    shell.write("b/deeper/other.yaml", "# a comment\n" + ECHO)

    first, second = shell("compile", "a", "--json"), shell("compile", "b", "--json")

    assert first.returncode == 0
    assert first.stdout == second.stdout
    assert json.loads(first.stdout)["tasks"]["echo"]["digest"].startswith("sha256:")


def test_compile_digests_follow_the_content(shell: Shell) -> None:
    shell.write("a/echo.yaml", ECHO)
    shell.write("b/echo.yaml", ECHO.replace("world", "moon"))

    first, second = json.loads(shell("compile", "a", "--json").stdout), json.loads(shell("compile", "b", "--json").stdout)

    assert first["digest"] != second["digest"]


def test_compile_prints_no_registry_when_a_file_is_broken(shell: Shell) -> None:
    shell.write("tasks.d/good.yaml", ECHO)
    shell.write("tasks.d/bad.yaml", "type: standalone\n")

    done = shell("compile", "--json")

    assert (done.returncode, done.stdout) == (1, "")
    assert "tasks.d/bad.yaml:1:1: error:" in done.stderr
    assert "errors in 2 files" in done.stderr
