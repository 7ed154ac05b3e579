"""Fixtures that several test packages share."""

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

from optio.settings import Settings
from optio.wiring import Services, build
from tests.executors.pods.standin import StandIn
from tests.servers import PostgresServer, RedisServer
from tests.stub_model import StubModel
from tests.support import CLAUDE, Dev

# A machine that is busy is no fault of what is tested.
PATIENT: dict[str, Any] = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
hypothesis_settings.register_profile("ci", derandomize=True, print_blob=True, **PATIENT)
hypothesis_settings.register_profile("dev", **PATIENT)
hypothesis_settings.load_profile("ci" if os.environ.get("CI") else "dev")


# In the background of a shell, or below nohup, these are ignored, also by all that the tests start. Who has a handler, though
# it does nothing, starts others with the default.
for number in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, lambda *_: None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A connection to the cluster that is being opened when its executor closes is left to the garbage collector by asyncio."""
    for item in items:
        if "pods" in item.nodeid or "standin" in item.nodeid:
            item.add_marker(pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"))


@pytest.fixture(scope="session", autouse=True)
def _temporary_files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What killed processes leave among the temporary files goes with the last test."""
    tmp_path_factory.getbasetemp()  # stays where it is: it is kept for a while
    with tempfile.TemporaryDirectory(prefix="optio-tests-", ignore_cleanup_errors=True) as path:
        Path(path).chmod(0o711)  # PostgreSQL and others run as users of their own
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("TMPDIR", path)
            patch.setattr(tempfile, "tempdir", None)
            yield


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests see only the settings that they make."""
    for name in list(os.environ):
        if name.startswith("OPTIO_"):
            monkeypatch.delenv(name)


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    """Real services on a fresh data directory: SQLite, local broker, process executor."""
    made = build(Settings.load({"OPTIO_DATA_DIR": str(tmp_path / "data"), "OPTIO_TASKS": str(tmp_path / "tasks.d")}))
    yield made
    made.close()


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
    assert CLAUDE.exists(), "run tests/setup.sh: it installs Claude Code"
    with StubModel() as running:
        yield running
