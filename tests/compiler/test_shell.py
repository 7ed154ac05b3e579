"""Shell commands: what is said of them agrees with a shell that reads them and runs nothing."""

import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optio.compiler.checks import shell

PIECES = st.sampled_from(
    [*"'\"\\()a |;#\n`<", "$(", "&&", "||", "$A", "${B}", "${C#x}", "$'", "$((1+2))", "echo ", "case x in ", "a)", ";;", "esac"]
)


@settings(max_examples=300, deadline=None)
@given(st.lists(PIECES, max_size=9).map("".join))
def test_what_is_called_unreadable_no_shell_reads(text: str) -> None:
    if shell.find_shell_error(text) is not None:
        assert subprocess.run(["/bin/sh", "-n", "-c", text], capture_output=True).returncode != 0


@pytest.mark.parametrize("text", ["#|\n", "true #;\n#||\n", "a`#||'`", '`a)"&&;`', "$'\\' $A\n"])
def test_where_shells_differ_or_a_comment_ends_the_command_nothing_is_said(text: str) -> None:
    assert shell.find_shell_error(text) is None


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("echo $A ${B} ${C:-none} \\$D '$E' \"$F\" \\\\$G", ["A", "B", "C", "F", "G"]),
        ("A=1; export B=2; for C in x; do read D; echo $A $B $C $D $X; done", ["X"]),
        ("echo $1 $? $$ $(date) $((1+2))", []),
        ("echo \"it's $A\" 'and $B'", ["A"]),
        ('echo "$(echo \'$A\' "$B")"', ["B"]),
    ],
)
def test_variables_are_those_that_the_shell_fills_in(text: str, names: list[str]) -> None:
    assert [each.name for each in shell.unset_variables(text)] == names


def test_a_variable_with_something_instead_is_guarded() -> None:
    assert [each.guarded for each in shell.unset_variables("echo $A ${B} ${C:-x} ${D?no}")] == [False, False, True, True]
