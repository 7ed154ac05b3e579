"""A value that YAML 1.2 and 1.1 read differently counts as YAML 1.2 reads it, as the manual says."""

from optio.compiler.diagnostics import Severity
from optio.compiler.pipeline import compile_tree
from optio.compiler.source_tree import MemoryTree

TASK = """\
name: Example
description: yes
agentRuntime: claude-code
promptTemplate: Say hello
maxTurns: 010
environment: {env: {COUNTRY: NO, off: 22:22}}
"""


def test_a_task_with_values_that_other_readers_read_differently_is_served_as_the_manual_says() -> None:
    compilation = compile_tree(MemoryTree({"a.yaml": TASK.encode()}))

    found = [(d.code, d.severity) for d in compilation.diagnostics if d.code == "OPT006"]
    spec = compilation.registry.tasks["example"].spec
    assert found == [("OPT006", Severity.WARNING)] * 5
    assert (spec.description, spec.max_turns, spec.environment.env) == ("yes", 10, {"COUNTRY": "NO", "off": "22:22"})


def test_a_value_of_another_type_than_its_key_has_stays_an_error() -> None:
    compilation = compile_tree(MemoryTree({"a.yaml": TASK.replace("NO", "010").encode()}))

    found = [d.severity for d in compilation.diagnostics if d.code == "OPT006"]
    assert found.count(Severity.ERROR) == 1
    assert compilation.registry.tasks == {}
