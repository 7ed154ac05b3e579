"""Parameters of `optio run` and `optio render`: from flags, files and standard input."""

import json

import pytest

from tests.cli.conftest import ECHO, Shell
from tests.support import Dev

TASK = ECHO.replace("properties:\n", "properties:\n    N: {type: integer}\n    NOTE: {type: string}\n").replace(
    "Hello", "{{N}} {{NOTE}}"
)


def effective(shell: Shell, *arguments: str, stdin: str | None = None) -> object:
    shell.write("tasks.d/echo.yaml", TASK)
    done = shell("render", "echo", "--json", *arguments, stdin=stdin)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["params"]


@pytest.mark.parametrize("text", ["# of the run\nWHO: you\nN: 3\n", '{"WHO": "you", "N": 3}', "{WHO: you, N: 3}"])
def test_a_file_or_standard_input_gives_parameters_with_their_types(shell: Shell, text: str) -> None:
    path = str(shell.write("params", text))

    assert effective(shell, "--params-file", path, "-p", "NOTE=x") == {"WHO": "you", "N": 3, "NOTE": "x"}
    assert effective(shell, "--params-file", "-", stdin=text) == {"WHO": "you", "N": 3}


def test_an_at_sign_reads_a_file_byte_for_byte_and_two_of_them_are_one(shell: Shell) -> None:
    path = shell.write("note.md", "- ä\n\n")

    assert effective(shell, "-p", f"NOTE=@{path}", "-p", "WHO=@@x") == {"NOTE": "- ä\n\n", "WHO": "@x"}
    assert effective(shell, "-p", "NOTE=@-", stdin="typed\n") == {"NOTE": "typed\n", "WHO": "world"}
    assert effective(shell, "-p", "NOTE=a@b") == {"NOTE": "a@b", "WHO": "world"}


@pytest.mark.parametrize(
    ("text", "arguments", "said"),
    [
        (None, ["--params-file", "file"], "the parameter file, `file`, cannot be read: No such file or directory: name a file"),
        ("- WHO\n", ["--params-file", "file"], "file is not a mapping of parameters: write a line `NAME: value` for each"),
        ("WHO: [\n", ["--params-file", "file"], "file:1:1: error: "),
        ("WHO: a\nWHO: b\n", ["--params-file", "file"], "file:2:1: error: `WHO` appears twice"),
        ('{"WHO": 1, "WHO": 2}', ["--params-file", "file"], "file: the key `WHO` is given twice: leave one out"),
        (
            "WHO: a\n",
            ["--params-file", "file", "-p", "WHO=b"],
            "`WHO` is given twice, by --params-file file and by -p: leave one",
        ),
        ("x", ["-p", "WHO=a", "-P", 'WHO="b"'], "`WHO` is given twice, by -p and by -P: leave one out"),
        ("x", ["--params-file", "-", "-p", "WHO=@-"], "standard input is read once"),
        (
            None,
            ["-p", "WHO=@file"],
            "the file of `WHO`, `file`, cannot be read: No such file or directory: write @@ for a text",
        ),
        ("x", ["-p", "WHO=@"], "the value of `WHO` is `@` without a file: write @FILE, or @@"),
        ("\udcff", ["-p", "WHO=@file"], "the file of `WHO`, `file`, is not UTF-8 text at byte 0: convert it"),
        ("x" * ((1 << 20) + 1), ["-p", "WHO=@file"], "`file`, is larger than 1 MiB"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_with_a_cure(
    shell: Shell, text: str | None, arguments: list[str], said: str
) -> None:
    if text is not None:
        (shell.directory / "file").write_bytes(text.encode("utf-8", "surrogateescape"))
    shell.write("tasks.d/echo.yaml", TASK)

    done = shell("render", "echo", *arguments, stdin="")

    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr


@pytest.mark.parametrize(
    ("name", "hint"), [("WHOM", "did you mean `WHO`?"), ("who", "did you mean `WHO`?"), ("RECIPIENT", "the task has `WHO`")]
)
def test_an_unknown_parameter_names_the_one_that_was_meant(served: Dev, name: str, hint: str) -> None:
    done, answer = served.cli("run", "echo", "-p", f"{name}=x"), served.post("/api/tasks/echo/runs", {"params": {name: "x"}})

    assert done.returncode == 1
    assert f"/params/{name}: is not a parameter of this task ({hint})" in done.stderr
    assert answer.json["errors"][0]["hint"] == hint


def test_a_run_takes_parameters_from_a_file(served: Dev) -> None:
    done = served.cli("run", "echo", "--params-file", "-", "--wait", input=b"WHO: file\n")

    assert (done.returncode, done.stdout) == (0, "Hello, file!\n")
