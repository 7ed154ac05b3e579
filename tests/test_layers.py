"""Who may import whom: the one line in `optio/__init__.py`, read from there and held against every module's source."""

import ast
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest

import optio
from optio import compiler
from tests.support import ROOT

PACKAGE = ROOT / "optio"
# Anyone may use it, it uses nobody.
FREE = {"version", "__init__", "__main__"}
# Third parties have one home each.
HOMES = {
    "yaml": ("compiler.yaml", "compiler.edits.edit_yaml"),
    "jsonschema_rs": ("model.params",),
    "jsonpath_rfc9535": ("model.jsonpath",),
    "re2": ("model.jsonpath",),
    "cronsim": ("scheduling.cron",),
    "litestar": ("server",),
    "minijinja": ("server.pages.rendering",),
    "mcp": ("gateway",),
    "httpx2": ("gateway", "executors.pods.api_client", "executors.pods.exec", "identity.oidc"),
    "pygls": ("lsp.connection", "lsp.wire"),
    "lsprotocol": ("lsp.server", "lsp.connection", "lsp.answers", "lsp.wire"),
    "jwt": ("identity.oidc",),
    "lightkube": ("executors.pods.api_client",),
    "msgspec": (
        *(
            "model",
            "compiler.validation",
            "compiler.json_schema",
            "compiler.payloads.deliveries",
            "compiler.conversions",
            "gateway.protocols.base",
            "server",
            "store.sql.transaction",
        ),
    ),
    "uvicorn": ("cli.shared.serving", "cli.shared.listening", "cli.shared.gateway_server"),
    "uvloop": ("cli.shared.listening",),
    "watchfiles": ("tree.reload",),
    "sqlite3": ("store.sqlite",),
    "psycopg": ("store.postgres",),
    "redis": ("broker.redis", "broker.connection", "broker.dramatiq", "broker.examine", "limits.redis"),
    "dramatiq": ("broker.dramatiq",),
    "uuid_utils": ("processes.scheduler",),
    "prometheus_client": ("telemetry.metrics",),
    "opentelemetry": ("telemetry.tracing",),
}
CORE = {"yaml", "jsonschema_rs", "jsonpath_rfc9535", "re2", "cronsim", "msgspec", "tzdata"}
# What a pure package has no use for: the clock, chance, and the world outside.
IMPURE = {"os", "time", "random", "secrets", "socket", "subprocess", "threading", "asyncio", "tempfile", "shutil", "logging"}
PURE = ("scheduling", "model", "compiler", "runtimes", "plan", "importing")
READS_FILES = {"compiler.source_tree"}
LOCKS = {"model.spec"}


class Import(NamedTuple):
    """One import: who, whom, and where it stands."""

    importer: str
    imported: str
    place: str


def modules() -> Iterator[tuple[str, Path]]:
    """`store.sql.runs` and its file; a package's own module has the package's name."""
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = list(path.relative_to(PACKAGE).with_suffix("").parts)
        if parts[-1] == "__init__" and len(parts) > 1:
            parts.pop()
        yield ".".join(parts), path


def imports() -> Iterator[Import]:
    """Every import, also those inside functions."""
    names = {f"optio.{name}" for name, _ in modules()}
    for name, path in modules():
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Import | ast.ImportFrom):
                continue
            place = f"{path.relative_to(ROOT)}:{node.lineno}"
            if isinstance(node, ast.Import):
                yield from (Import(name, alias.name, place) for alias in node.names)
            else:
                assert node.module is not None, f"{place}: relative import"
                assert node.level == 0, f"{place}: relative import"
                for alias in node.names:
                    whole = f"{node.module}.{alias.name}"
                    yield Import(name, whole if whole in names else node.module, place)


def ranks(package: ModuleType) -> dict[str, int]:
    """Name -> place in the order, as the package's docstring draws it. Members of one brace share a place."""
    assert package.__doc__ is not None
    (order,) = [block for block in package.__doc__.split("\n\n") if " } < " in block]
    found: dict[str, int] = {}
    for rank, group in enumerate(order.split("<")):
        for name in re.findall(r"[a-z_]+", group):
            assert name not in found, f"`{name}` stands twice in the order"
            found[name] = rank
    return found


@cache
def everything() -> tuple[Import, ...]:
    """Every import, read once: reading takes seconds, so it waits for the first test that asks."""
    return tuple(imports())


@cache
def ours() -> tuple[Import, ...]:
    """The imports of the package itself."""
    return tuple(i for i in everything() if i.imported.split(".")[0] == "optio" and i.imported != "optio")


def within(module: str, homes: tuple[str, ...]) -> bool:
    return any(module == home or module.startswith(home + ".") for home in homes)


# The package, and how many names stand before that of a part of it.
ORDERED = [pytest.param(optio, 0, id="optio"), pytest.param(compiler, 1, id="compiler")]


def part_of(package: ModuleType, depth: int, name: str) -> str | None:
    """The part of the package that a module is in: `checks` for `compiler.checks.prompt`."""
    within_package = f"optio.{name}".startswith(f"{package.__name__}.")
    return name.split(".")[depth] if within_package and name not in FREE else None


@pytest.mark.parametrize(("package", "depth"), ORDERED)
def test_every_package_and_module_has_a_place_in_the_order(package: ModuleType, depth: int) -> None:
    parts = {part_of(package, depth, name) for name, _ in modules()} - {None}

    assert set(ranks(package)) == parts


@pytest.mark.parametrize(("package", "depth"), ORDERED)
def test_imports_point_to_the_left_only(package: ModuleType, depth: int) -> None:
    order = ranks(package)

    wrong = []
    for found in ours():
        importer = part_of(package, depth, found.importer)
        imported = part_of(package, depth, found.imported.removeprefix("optio."))
        if importer is not None and imported is not None and importer != imported and order[imported] >= order[importer]:
            wrong.append(f"{found.place}: {importer} imports {imported}")

    assert wrong == []


def test_no_file_imports_itself_by_way_of_others() -> None:
    below: dict[str, set[str]] = {}
    for found in ours():
        below.setdefault(found.importer, set()).add(found.imported.partition(".")[2])

    # What imports nothing that is left is taken away; what cannot be taken away imports itself in the end.
    while leaves := {name for name, needs in below.items() if not needs & (below.keys() - {name})}:
        below = {name: needs for name, needs in below.items() if name not in leaves}

    assert below == {}


def test_use_cases_see_the_seams_only() -> None:
    seams = ("runtimes", "store", "broker", "limits", "executors", "telemetry")

    wrong = [
        f"{found.place}: {found.imported}"
        for found in ours()
        if found.importer.split(".")[0] == "runs"
        and found.imported.split(".")[1] in seams
        and found.imported.split(".")[2:] not in (["base"], ["values"])
    ]

    assert wrong == []


def test_pages_and_routes_show_answers_and_do_not_know_each_other() -> None:
    stranger = {"server.pages": ("server.routes",), "server.routes": ("server.pages",)}
    stranger |= {"server.answers": ("server.routes", "server.pages"), "server.read_models": ("server.routes", "server.pages")}

    wrong = [
        f"{found.place}: {found.imported}"
        for found in ours()
        for folder, strangers in stranger.items()
        if within(found.importer, (folder,)) and within(found.imported.removeprefix("optio."), strangers)
    ]

    assert wrong == []


def test_drivers_are_picked_by_wiring_alone() -> None:
    drivers = {
        "store.sqlite.sqlite_store",
        "store.postgres.postgres_store",
        "broker.local",
        "broker.redis",
        "limits.local",
        "limits.redis",
        "executors.process",
        "executors.pods",
        "identity.oidc",
        "telemetry.metrics",
        "telemetry.tracing",
    }

    wrong = [
        f"{found.place}: {found.imported}"
        for found in ours()
        if found.imported.partition(".")[2] in drivers
        and found.importer.split(".")[0] not in ("wiring", found.imported.split(".")[1])
    ]

    assert wrong == []


@pytest.mark.parametrize("library", sorted(HOMES))
def test_a_library_has_one_home(library: str) -> None:
    users = [found for found in everything() if found.imported.split(".")[0] == library]

    strays = [found.place for found in users if not within(found.importer, HOMES[library])]

    assert users, f"nobody uses {library} any more"
    assert strays == []


def test_every_library_is_one_we_chose() -> None:
    known = set(sys.stdlib_module_names) | set(HOMES) | {"optio"}

    strangers = [f"{found.place}: {found.imported}" for found in everything() if found.imported.split(".")[0] not in known]

    assert strangers == []


def test_pure_packages_touch_no_clock_no_chance_and_no_disk() -> None:
    wrong = [
        f"{found.place}: {found.imported}"
        for found in everything()
        if found.importer.split(".")[0] in PURE
        and found.importer not in READS_FILES
        and found.imported.split(".")[0] in IMPURE
        and not (found.importer in LOCKS and found.imported == "threading")
    ]

    assert wrong == []


def test_pure_packages_do_not_ask_for_the_time() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for name, path in modules()
        if name.split(".")[0] in PURE
        if re.search(r"\bdate(time)?\.", text := path.read_text())
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Attribute)
        and node.attr in ("now", "utcnow", "today", "open")
        and isinstance(node.ctx, ast.Load)
        if isinstance(node.value, ast.Name) and node.value.id in ("datetime", "date")
    ]

    assert wrong == []


def reached_from(command: str, *, without: str = "") -> set[str]:
    reached, ahead = {without}, [command]
    while ahead:
        name = ahead.pop()
        if name in reached:
            continue
        reached.add(name)
        packages = [name.rpartition(".")[0]] if "." in name else []
        ahead += packages
        ahead += [found.imported.partition(".")[2] for found in ours() if found.importer == name]
    return reached


def test_test_needs_no_server_but_for_a_replay() -> None:
    reached = reached_from("cli.test", without="cli.shared.replay_run") - {"cli.shared.replay_run"}

    libraries = {found.imported.split(".")[0] for found in everything() if found.importer in reached}
    assert libraries & set(HOMES) <= CORE | {"msgspec"}


def test_check_needs_the_core_libraries_only() -> None:
    reached = reached_from("cli.check")

    libraries = {found.imported for found in everything() if found.importer in reached}
    assert {name.split(".")[0] for name in libraries} & set(HOMES) <= CORE
    assert libraries & {"asyncio", "socket", "sqlite3", "logging", "urllib.request", "http.client", "inspect"} == set()
