"""What others may rely on: the command line, HTTP and the files. `import optio` itself is empty and quick."""

import ast
import subprocess
import sys
from collections.abc import Iterator

from tests.support import ROOT

DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
PROGRAM = "import sys; before = set(sys.modules); import optio; print(*sorted(set(sys.modules) - before))"


def test_importing_the_package_loads_nothing_else() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, check=True)

    assert done.stdout.split() == ["optio"]


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
