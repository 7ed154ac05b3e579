"""Fixtures that several test packages share."""

import gc
import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

from optio.settings import Settings
from optio.wiring import Services, build
from tests.executors.pods.standin import StandIn
from tests.secrets.vault import Vault, serving
from tests.servers import PostgresServer, RedisServer
from tests.store.empty import put_empty_database
from tests.stub_model import StubModel
from tests.support import CLAUDE, Dev

# A machine that is busy is no fault of what is tested.
PATIENT: dict[str, Any] = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
hypothesis_settings.register_profile("ci", derandomize=True, print_blob=True, **PATIENT)
hypothesis_settings.register_profile("dev", max_examples=15, **PATIENT)
hypothesis_settings.load_profile("ci" if os.environ.get("CI") else "dev")


# In the background of a shell, or below nohup, these are ignored, also by all that the tests start. Who has a handler, though
# it does nothing, starts others with the default.
for number in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, lambda *_: None)


REAL_AGENTS = tuple(
    f"runtimes/test_real_{name}.py" for name in ("matrix", "agents", "results", "sessions", "gateway", "replay")
)
# What `pytest` leaves out when it is asked for nothing, by what its tests do. `pytest --all` runs everything, and a path that
# is named runs all that is below it.
LEFT_OUT = {
    "start processes of Optio": (
        "cli", "deploy", "executors", "processes", "server", "stories", "tree", "runs/test_execute.py", "runs/test_budget.py",
        "runs/test_blame.py", "runs/test_room.py", "contracts/test_executors.py",
        "testing/test_as_served.py",
        "testing/test_hostile.py", "test_logging.py", "lsp/test_server.py", "test_examples.py", "test_thin_slice.py",
        "test_private_files.py", "test_tracing.py", "test_metrics.py", "test_docs_run.py",
    ),
    "start PostgreSQL or Redis": ("broker", "store", "limits/test_redis.py"),
    "run a real agent CLI": REAL_AGENTS,
    "compile thousands of files": ("corpus", "fuzz", "compiler/test_hostile.py", "compiler/test_hostile_command.py"),
}  # fmt: skip
_LEFT_OUT = tuple(name for names in LEFT_OUT.values() for name in names)
# Where tests run on every driver: of these, tests that need a server are left out one by one.
CONTRACTS = ("contracts",)
# Where few tests take long: they begin first where several processes share all tests, so that none of them comes last.
LONG = (
    *("stories", *REAL_AGENTS, "executors", "processes", "runs", "store"),
    *("contracts", "tree", "deploy", "lsp", "server", "cli", "test_docs_run.py", "test_ci.py"),
)
# Many processes that are killed and frozen, what becomes of them, and how soon others go on: these are marked `heavy`, and CI
# runs few of them at a time, those that take longest first.
HEAVY = (
    *("stories/test_takeover.py", "stories/test_ledger.py", "stories/test_disk.py", "stories/test_reload_under_load.py"),
    *("stories/test_schedulers.py", "stories/test_rolling.py", "stories/test_crash.py"),
)
# Where tests are marked `alone`: while they run, others could start neither a process nor a thread.
ALONE = ("contracts/test_executors.py", "executors/test_fighting.py")
# The files of the parts of CI, by what it asks for.
PARTS: dict[str, Callable[[Path], bool]] = {
    "quick": lambda path: not _is_of(path, _LEFT_OUT),
    "not quick and not heavy and not alone": lambda path: _is_of(path, _LEFT_OUT + CONTRACTS) and not _is_of(path, HEAVY),
    "heavy": lambda path: _is_of(path, HEAVY),
    "alone": lambda path: _is_of(path, ALONE),
}
# Fixtures of the tests that are left out one by one.
SERVERS = {"postgres_server", "redis_server", "scripted_model", "standin", "dev"}
TESTS = Path(__file__).parent


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--all`."""
    parser.addoption("--all", action="store_true", help="run every test, also those that start servers and take long")


def _is_quick(config: pytest.Config) -> bool:
    """Whether somebody asked for nothing in particular, and gets what takes three minutes."""
    inherited: dict[str, bool] | None = getattr(config, "workerinput", None)
    if inherited is not None:
        return inherited["is_quick"]
    return not config.option.all and config.args_source is pytest.Config.ArgsSource.TESTPATHS


def pytest_configure_node(node: Any) -> None:
    """A worker of pytest-xdist does not see how pytest was called."""
    node.workerinput["is_quick"] = _is_quick(node.config)


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """The quick tests share all cores; all tests, and those of a path that is named, run one by one: those that measure how
    soon something happens would have less of the machine. `.ci/tests` lets the others share it."""
    return os.cpu_count() or 1 if _is_quick(config) else 0


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave files and directories out: what is not asked for need not be read either."""
    if _is_quick(config) and _is_of(collection_path, _LEFT_OUT):
        return True
    is_in_part = PARTS.get(config.option.markexpr)
    return True if is_in_part is not None and collection_path.is_file() and not is_in_part(collection_path) else None


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Search for no garbage while tests are read: there is none, and the search takes a third of the time. What is read then
    stays to the end, so it is never searched again. What tests make is searched less often than by default: at the default
    the compiler's tests take a tenth longer."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.set_threshold(50_000)
        gc.enable()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark tests for CI's parts, and leave single ones out that need a server. A connection to the cluster that is being opened
    when its executor closes is left to the garbage collector by asyncio."""
    for item in items:
        if not _is_of(item.path, _LEFT_OUT) and not _needs_a_server(item):
            item.add_marker(pytest.mark.quick)
    if _is_quick(config):
        left_out = {item for item in items if not item.get_closest_marker("quick")}
        config.hook.pytest_deselected(items=list(left_out))
        items[:] = [item for item in items if item not in left_out]
    items.sort(key=lambda item: (_place(item.path, LONG), _place(item.path, HEAVY)))
    for item in items:
        if _is_of(item.path, HEAVY):
            item.add_marker(pytest.mark.heavy)
        if "pods" in item.nodeid or "standin" in item.nodeid:
            item.add_marker(pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"))


@cache
def _place(path: Path, names: tuple[str, ...]) -> int:
    """Which of the names, a file or a directory, the path is or is below; their number if none."""
    above = {path, *path.parents}
    return next((place for place, name in enumerate(names) if TESTS / name in above), len(names))


def _is_of(path: Path, names: tuple[str, ...]) -> bool:
    return _place(path, names) < len(names)


def _needs_a_server(item: pytest.Item) -> bool:
    if not _is_of(item.path, CONTRACTS):
        return False
    call = getattr(item, "callspec", None)
    drivers = {value for value in call.params.values() if isinstance(value, str)} if call is not None else set()
    return bool(SERVERS & set(getattr(item, "fixturenames", ())) or drivers & {"postgres", "redis", "pods"})


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say what was left out."""
    if _is_quick(config):
        terminalreporter.section("left out")
        for what, names in LEFT_OUT.items():
            terminalreporter.write_line(f"tests that {what}: {', '.join(f'tests/{name}' for name in names)}")
        terminalreporter.write_line("`pytest --all` runs them too, and `pytest PATH` all tests below a path")


@pytest.fixture(scope="session", autouse=True)
def _temporary_files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What killed processes leave among the temporary files goes with the last test."""
    base = tmp_path_factory.getbasetemp()  # stays where it is: it is kept for a while
    PostgresServer.shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    with tempfile.TemporaryDirectory(prefix="optio-tests-", ignore_cleanup_errors=True) as path:
        Path(path).chmod(0o711)  # PostgreSQL and others run as users of their own
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("TMPDIR", path)
            patch.setattr(tempfile, "tempdir", None)
            yield


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests see only the settings that they make, and no repository but the one that they are in: git exports `GIT_DIR` to what
    it runs."""
    for name in list(os.environ):
        if name.startswith("OPTIO_") or name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
            monkeypatch.delenv(name)


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    """Real services on a fresh data directory: SQLite, local broker, process executor."""
    put_empty_database(tmp_path / "data" / "optio.db")
    settings = {"OPTIO_DATA_DIR": str(tmp_path / "data"), "OPTIO_TASKS": str(tmp_path / "tasks.d"), "OPTIO_SANDBOX": "none"}
    made = build(Settings.load(settings))
    yield made
    made.close()


@pytest.fixture
def vault() -> Iterator[Vault]:
    """A vault on this machine."""
    with serving() as served:
        yield served


@pytest.fixture
def dev(tmp_path: Path) -> Iterator[Dev]:
    """A real `optio dev` process on an empty tree and a free port."""
    process = Dev(tmp_path)
    process.start()
    yield process
    process.stop()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """One PostgreSQL for all tests that do it no harm: each makes a schema of its own."""
    with PostgresServer() as running:
        yield running


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """One Redis for all tests that do it no harm: each takes keys of its own."""
    with RedisServer() as running:
        yield running


@pytest.fixture(scope="session")
def standin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIn]:
    """One stand-in of a cluster for all tests: each has an installation of its own."""
    with StandIn(tmp_path_factory.mktemp("standin")) as running:
        yield running


@pytest.fixture(scope="session")
def scripted_model() -> Iterator[StubModel]:
    """A model's API that answers by script: real agent CLIs run on it, without a network, a key or a bill."""
    assert CLAUDE.exists(), f"{CLAUDE} is missing: run `bash tests/setup.sh`, which installs it"
    with StubModel() as running:
        yield running
