"""Break one file in many small ways, and say which breaks no test notices.

    python tests/mutate.py optio/runs/admission.py                  40 mutants, chosen by chance (--seed)
    python tests/mutate.py optio/model/money.py --all               every mutant
    python tests/mutate.py optio/x.py --tests tests/x               other tests than those of the table, or those that import it

A mutant changes one operator, constant, condition or statement. It is killed when a test fails, or runs far longer than without
it. Each survivor is either a hole in the tests or a change that alters nothing: read it. The checkout is not touched: a copy is
broken. Exit status 1 means that a mutant survived, 2 that the tests fail without any.
"""

import argparse
import ast
import copy
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
# The tests that hold a file, where more than those that import it do; those that take little time come first.
TESTS = {
    "optio/runs/admission.py": ["tests/runs/test_admission.py", "tests/contracts/test_store_admission.py"],
    "optio/runs/signature.py": ["tests/runs/test_signature.py", "tests/server/test_hook_schemes.py"],
    "optio/runs/schedule.py": ["tests/runs/test_schedule.py", "tests/runs/test_zones.py"],
    "optio/runs/attempt_states.py": ["tests/runs/test_attempt_states.py", "tests/runs/test_room.py"],
    "optio/scheduling/cron.py": ["tests/scheduling/test_cron.py", "tests/scheduling/test_calendar.py"],
    "optio/model/params.py": ["tests/model/test_params.py", "tests/model/test_params_conformance.py"],
    "optio/compiler/edits/edit_yaml.py": ["tests/compiler/test_edit_yaml.py"],
    "optio/store/sql/claims.py": [
        "tests/contracts/test_store_claims.py",
        "tests/contracts/test_store_namespaces.py",
        "tests/contracts/test_store.py",
        "tests/contracts/test_store_room.py",
        "tests/contracts/test_store_reading.py",
        "tests/contracts/test_store_totals.py",
        "tests/contracts/test_store_admission.py",
        "tests/contracts/test_store_concurrent.py",
    ],
    "optio/server/auth.py": [
        "tests/server/test_sessions.py",
        "tests/server/test_browser.py",
        "tests/server/test_auth.py",
        "tests/server/test_editing_pages.py",
    ],
    "optio/server/http_guard.py": ["tests/server/test_edge.py"],
    "optio/executors/supervisor.py": [
        "tests/executors/test_process.py",
        "tests/executors/test_sandbox.py",
        "tests/executors/test_cgroup.py",
        "tests/executors/test_fighting.py",
        "tests/contracts/test_executors.py",
    ],
    "optio/model/money.py": ["tests/model/test_money.py", "tests/model/test_retry.py", "tests/runs/test_budget.py"],
}
COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
}  # fmt: skip
OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.FloorDiv, ast.FloorDiv: ast.Mult, ast.Div: ast.Mult,
    ast.Mod: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
}  # fmt: skip


class Mutant(NamedTuple):
    """The whole text of the file with one change, the line of the change, and what it is."""

    text: str
    line: int
    change: str


class Site(NamedTuple):
    """A node that can be changed: its place among all nodes of the module, and which of its changes."""

    index: int
    kind: int


def sites(source: str) -> list[Site]:
    """List what can be changed. Docstrings, annotations and log calls stay as they are; so do the flags of data classes, sizes
    of caches and imports for type checkers, which change no result."""
    tree = ast.parse(source)
    kept = {id(part) for node in ast.walk(tree) for root in _kept(node) for part in ast.walk(root)}
    nodes = [(index, node) for index, node in enumerate(ast.walk(tree)) if id(node) not in kept]
    return [Site(index, kind) for index, node in nodes for kind in range(2) if _is_changed(node, kind)]


def _is_changed(node: ast.AST, kind: int) -> bool:
    broken = copy.deepcopy(node)
    return _change(broken, kind) and ast.unparse(broken) != ast.unparse(node)


def mutant(source: str, site: Site) -> Mutant:
    """Make the change at a site."""
    tree = ast.parse(source)
    node = next(each for index, each in enumerate(ast.walk(tree)) if index == site.index)
    before, line = ast.unparse(node), getattr(node, "lineno", 0)
    _change(node, site.kind)
    change = f"{_shorten(before)} -> {_shorten(ast.unparse(node))}"
    return Mutant(ast.unparse(ast.fix_missing_locations(tree)), line, change)


def _shorten(text: str) -> str:
    first, _, more = text.partition("\n")
    return f"`{first[:90]}{' ...' if more or len(first) > 90 else ''}`"


def _kept(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module):
        first = node.body[0] if node.body else None
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
            yield first
    notes = (getattr(node, name, None) for name in ("annotation", "returns"))
    yield from (note for note in notes if isinstance(note, ast.AST))
    decorators = getattr(node, "decorator_list", ())
    yield from (each for each in decorators if re.match(r"(dataclass|lru_cache)\b", ast.unparse(each)))
    checked = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    if checked or (isinstance(node, ast.Expr) and re.match(r"(log|logger|logging)\.", ast.unparse(node))):
        yield node


def _change(node: ast.AST, kind: int) -> bool:
    """Change the node in place; False where there is no such change of it."""
    match node:
        case ast.Compare() if kind == 0 and type(node.ops[0]) in COMPARISONS:
            node.ops[0] = COMPARISONS[type(node.ops[0])]()
        case ast.BoolOp() if kind == 0:
            node.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        case ast.BoolOp() if kind == 1:
            node.values.pop()
            if len(node.values) == 1:
                node.values.append(ast.Constant(isinstance(node.op, ast.And)))
        case ast.BinOp() if kind == 0 and type(node.op) in OPERATORS and not isinstance(node.left, ast.JoinedStr):
            node.op = OPERATORS[type(node.op)]()
        case ast.If() | ast.While() | ast.IfExp() if kind == 0:
            node.test = ast.UnaryOp(ast.Not(), node.test)
        case ast.Constant(value=bool()) if kind == 0:
            node.value = not node.value
        case ast.Constant(value=int() | float()) if kind == 0:
            node.value = node.value + 1
        case ast.Return(value=ast.expr()) if kind == 0 and not isinstance(node.value, ast.Constant):
            node.value = ast.Constant(None)
        case ast.Expr(value=ast.Call()) if kind == 0:
            node.value = ast.Constant(None)
        case ast.Raise() if kind == 0:
            node.exc, node.cause = ast.Name("KeyError"), None
        case ast.Assign() | ast.AugAssign() if kind == 0 and isinstance(_target(node), ast.Attribute):
            node.value = _target(node) if isinstance(node, ast.Assign) else ast.Constant(0)
        case _:
            return False
    return True


def _target(node: ast.Assign | ast.AugAssign) -> ast.expr:
    target = node.targets[0] if isinstance(node, ast.Assign) else node.target
    loaded = copy.deepcopy(target)
    for part in ast.walk(loaded):
        if hasattr(part, "ctx"):
            part.ctx = ast.Load()
    return loaded


def held_by(file: str) -> list[str]:
    """The tests that hold a file: those of the table, or every test file that imports it."""
    if file in TESTS:
        return TESTS[file]
    module = file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    package, _, name = module.rpartition(".")
    wanted = re.compile(rf"^(from {re.escape(module)} import|from {re.escape(package)} import .*\b{name}\b)", re.MULTILINE)
    found = [path for path in sorted((ROOT / "tests").rglob("test_*.py")) if wanted.search(path.read_text())]
    return [str(path.relative_to(ROOT)) for path in found]


def is_killed(checkout: Path, tests: list[str], limit: float | None = None) -> bool:
    """Run the tests of a checkout; whether one fails, or they take longer than `limit` seconds."""
    argv = [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "-p", "no:randomly", *tests]
    environ = {**os.environ, "PYTHONPATH": str(checkout), "PYTHONDONTWRITEBYTECODE": "1"}
    running = subprocess.Popen(
        argv, cwd=checkout, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        return running.wait(limit) != 0
    except subprocess.TimeoutExpired:
        return True
    finally:
        if running.poll() is None:
            os.killpg(running.pid, 9)
            running.wait()


def copied(root: Path, to: Path) -> Path:
    """A copy of what git knows of the checkout, with its tools."""
    names = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, check=True).stdout.decode().split("\0")
    for name in filter(None, names):
        if (root / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, to / name)
    if (root / ".tools").exists():
        (to / ".tools").symlink_to(root / ".tools")
    return to


def main(argv: list[str] | None = None) -> int:
    """Run the sample and print each survivor; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", help="the file to break, below the checkout")
    parser.add_argument("--tests", nargs="+", help="the tests to run")
    parser.add_argument("--sample", type=int, default=40, help="how many mutants to try (40)")
    parser.add_argument("--all", action="store_true", help="try every mutant")
    parser.add_argument("--seed", type=int, default=1, help="which ones are chosen (1)")
    options = parser.parse_args(argv)
    file = str(Path(options.file).resolve().relative_to(ROOT))
    tests = options.tests or held_by(file)
    source = (ROOT / file).read_text()
    found = sites(source)
    chosen = found if options.all else random.Random(options.seed).sample(found, min(options.sample, len(found)))
    print(f"{file}: {len(chosen)} of {len(found)} mutants, held by {' '.join(tests) or 'no test'}", flush=True)
    with tempfile.TemporaryDirectory(prefix="optio-mutants-") as directory:
        checkout = copied(ROOT, Path(directory))
        # One by one, so that a mutant that hangs takes five times as long as one of them, and not as all.
        limits = {}
        for path in tests:
            began = time.monotonic()
            if is_killed(checkout, [path]):
                print(f"{path} fails without any mutant: mend it first, or name others with --tests")
                return 2
            limits[path] = 5 * (time.monotonic() - began) + 20
        survivors = []
        for number, site in enumerate(sorted(chosen), 1):
            broken = mutant(source, site)
            (checkout / file).write_text(broken.text)
            if not any(is_killed(checkout, [path], limit) for path, limit in limits.items()):
                survivors.append(broken)
                print(f"survived  {file}:{broken.line}: {broken.change}", flush=True)
            elif sys.stderr.isatty():
                print(f"\r{number}/{len(chosen)}", end="", file=sys.stderr)
    killed = len(chosen) - len(survivors)
    print(f"{file}: {killed} of {len(chosen)} killed ({killed / max(1, len(chosen)):.0%})")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
