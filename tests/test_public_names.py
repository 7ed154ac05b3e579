"""What others may rely on: the command line, HTTP, the files and a few names of Python. `import optio` itself is quick."""

import ast
import inspect
import subprocess
import sys
from collections.abc import Iterator

import pytest

import optio
from optio import python_api
from tests.support import ROOT

DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
PROGRAM = "import sys; before = set(sys.modules); import optio; print(*sorted(set(sys.modules) - before))"


def test_importing_the_package_loads_nothing_else() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, check=True)

    assert done.stdout.split() == ["optio"]


SIGNATURES = {
    "compile_tree": "(source: str | pathlib.Path | collections.abc.Mapping[str, str | bytes], *, strict: bool = False, "
    "executor: str | None = None) -> optio.compiler.pipeline.Compilation",
    "render": "(task: optio.model.registry.CompiledTask, "
    "params: collections.abc.Mapping[str, typing.Any] | None = None) -> str",
    "plan_change": "(before: str | pathlib.Path | collections.abc.Mapping[str, str | bytes], "
    "after: str | pathlib.Path | collections.abc.Mapping[str, str | bytes], *, now: datetime.datetime | None = None) "
    "-> dict[str, typing.Any]",
}
MEMBERS = {
    "Compilation": {"ok", "registry", "diagnostics", "broken"},
    "Registry": {"tasks", "task", "hooks", "digest"},
    "CompiledTask": {"id", "spec", "prompt", "digest", "to_json"},
    "Diagnostic": {"code", "rule", "severity", "message", "hint", "path", "span", "to_json"},
}


def test_the_python_api_keeps_its_names_and_their_parameters() -> None:
    functions = {name: str(inspect.signature(getattr(optio, name))) for name in SIGNATURES}

    assert functions == SIGNATURES
    assert set(optio.__all__) == {*SIGNATURES, *MEMBERS, "Invalid"} == set(python_api.__all__)
    for name, members in MEMBERS.items():
        kind = getattr(optio, name)
        assert members - {*dir(kind), *kind.__dataclass_fields__} == set(), name
    assert issubclass(optio.Invalid, Exception)


def test_the_page_of_the_python_api_names_all_of_it() -> None:
    page = (ROOT / "docs" / "reference" / "python.md").read_text()

    assert [name for name in optio.__all__ if f"| `{name}" not in page] == []
    assert [each for members in MEMBERS.values() for each in members if f"`{each}" not in page] == []


def test_what_the_package_does_not_have_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match=r"module `optio` has no attribute `compile_trees`"):
        _ = optio.compile_trees  # type: ignore[attr-defined]


def test_the_version_stands_in_one_place() -> None:
    from optio.version import __version__

    done = subprocess.run([sys.executable, "-m", "optio", "--version"], cwd=ROOT, capture_output=True, text=True, check=True)

    assert done.stdout == f"optio {__version__}\n"


def test_every_module_class_and_function_that_others_see_says_what_it_is() -> None:
    assert sorted(undocumented()) == []


def node_name(node: ast.stmt) -> str:
    return getattr(node, "name", "")


def undocumented() -> Iterator[str]:
    for path in sorted((ROOT / "optio").rglob("*.py")):
        tree = ast.parse(path.read_text())
        place = path.relative_to(ROOT)
        if ast.get_docstring(tree) is None:
            yield f"{place}:1"
        for node in tree.body:
            is_hook = place.parent.name == "cli" and node_name(node) == "add_arguments"  # every command has it, for one purpose
            if isinstance(node, DEFINITIONS) and not node.name.startswith("_") and not is_hook and not ast.get_docstring(node):
                yield f"{place}:{node.lineno}: {node.name}"
