"""What an installation keeps is for its user alone, whatever the umask and the mode of the directory."""

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from optio import private_files
from optio.secrets.local import LocalSecrets
from optio.settings import Settings
from optio.store.sqlite import examine, sqlite_store
from optio.wiring import build
from tests.cli.conftest import ECHO
from tests.support import Dev, as_nobody, directory_open_to_all

AS_NOBODY = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@pytest.fixture
def open_directory() -> Iterator[Path]:
    with directory_open_to_all() as made:
        yield made


def exposed(directory: Path) -> list[str]:
    """Regular files that another user could read, in directories that he may enter."""
    found = []
    for folder, names, files in os.walk(directory):
        names[:] = [name for name in names if (Path(folder) / name).stat().st_mode & 0o011]
        paths = [Path(folder) / name for name in files]
        found += [str(path) for path in paths if not path.is_symlink() and path.stat().st_mode & 0o044]
    return [os.path.relpath(path, directory) for path in found]


SIGNED = {
    "type": "standalone",
    "name": "Signed",
    "agentRuntime": "command",
    "command": "true",
    "triggers": [{"type": "webhook", "config": {"path": "signed", "secret": "whsec_of_the_test"}}],
}


def test_another_user_reads_nothing_of_a_data_directory_that_is_open_to_all(open_directory: Path) -> None:
    dev = Dev(open_directory)
    dev.data.mkdir()
    dev.write("echo.yaml", ECHO)
    dev.start()
    try:
        assert dev.post("/api/tasks", SIGNED).status == 201
        assert dev.cli("run", "echo", "--wait").returncode == 0
        assert dev.cli("db", "backup", str(dev.data / "copy.db")).returncode == 0
        files = {path.name for path in dev.data.rglob("*") if path.is_file()}
        found = exposed(dev.data)
    finally:
        dev.stop()

    assert {"optio.db", "optio.db-wal", "optio.db-shm", "dev.token", "SIGNED__SIGNED", "copy.db"} <= files
    assert sorted(found) == [".gitignore", "place"]


@AS_NOBODY
def test_another_user_reads_neither_database_nor_secret(open_directory: Path) -> None:
    services = build(
        Settings.load({"OPTIO_DATA_DIR": str(open_directory / "data"), "OPTIO_TASKS": str(open_directory / "tasks")})
    )
    services.secrets.put("KEY", "v")
    for each in (open_directory / "data", open_directory / "data" / "secrets"):
        each.chmod(0o755)
    names = ("optio.db", "optio.db-wal", "optio.db-shm", "secrets/KEY")
    try:
        read = as_nobody(lambda: [os.access(open_directory / "data" / name, os.R_OK) for name in names])
    finally:
        services.close()

    assert read == [False] * 4


def test_a_new_data_directory_is_for_its_user_alone(open_directory: Path) -> None:
    build(Settings.load({"OPTIO_DATA_DIR": str(open_directory / "a" / "data")})).close()

    assert stat.S_IMODE((open_directory / "a" / "data").stat().st_mode) == 0o700


def test_files_of_an_older_version_are_narrowed_at_the_start(open_directory: Path) -> None:
    path = open_directory / "optio.db"
    sqlite_store.open_store(path).close()
    first = sqlite_store.open_store(path)
    for end in ("", "-wal", "-shm"):
        Path(f"{path}{end}").chmod(0o664)
    secrets = open_directory / "secrets"
    secrets.mkdir()
    (secrets / "KEY").write_text("v")

    second = build(Settings.load({"OPTIO_DATA_DIR": str(open_directory)}))

    assert sorted(exposed(open_directory)) == [".gitignore"]
    second.close()
    first.close()


def test_a_database_behind_a_link_is_narrowed_where_it_lies(open_directory: Path) -> None:
    (open_directory / "elsewhere").mkdir()
    (open_directory / "optio.db").symlink_to(open_directory / "elsewhere" / "real.db")

    store = sqlite_store.open_store(open_directory / "optio.db")
    names = sorted(path.name for path in (open_directory / "elsewhere").iterdir())
    store.close()

    assert names == ["real.db", "real.db-shm", "real.db-wal"]
    assert exposed(open_directory) == []


@AS_NOBODY
def test_a_file_of_another_user_is_left_and_warned_of(open_directory: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = open_directory / "optio.db"
    path.touch()
    os.chown(path, 65534, 65534)
    path.chmod(0o644)

    sqlite_store.open_store(path).close()

    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert f"other users may read or write {path}" in caplog.text


def test_a_secrets_directory_of_its_own_keeps_its_modes(open_directory: Path) -> None:
    shared = open_directory / "shared"
    shared.mkdir()
    (shared / "KEY").write_text("v")
    (shared / "KEY").chmod(0o640)

    build(Settings.load({"OPTIO_DATA_DIR": str(open_directory / "data"), "OPTIO_SECRETS_DIR": str(shared)})).close()

    assert stat.S_IMODE((shared / "KEY").stat().st_mode) == 0o640


def test_a_backup_and_a_secret_are_private_whatever_was_in_their_place(open_directory: Path) -> None:
    sqlite_store.open_store(open_directory / "optio.db").close()
    examine.backup(open_directory / "optio.db", open_directory / "copy.db")
    (open_directory / "KEY").write_text("old")
    LocalSecrets(open_directory, {}).put("KEY", "new")

    assert exposed(open_directory) == []
    assert (open_directory / "KEY").read_text() == "new"


# Who could read a file


def a_file(path: Path, mode: int) -> Path:
    path.write_text("x")
    path.chmod(mode)
    return path


@pytest.mark.parametrize(
    ("mode", "who"), [(0o600, None), (0o640, None), (0o604, "every user"), (0o644, "every user"), (0o622, None)]
)
def test_a_file_is_read_by_whom_its_mode_says(open_directory: Path, mode: int, who: str | None) -> None:
    assert private_files.readers(a_file(open_directory / "file", mode)) == who


def test_a_file_in_a_closed_directory_is_read_by_nobody(open_directory: Path) -> None:
    (open_directory / "closed").mkdir(mode=0o700)

    assert private_files.readers(a_file(open_directory / "closed" / "file", 0o644)) is None


@AS_NOBODY
def test_a_group_with_other_members_is_named(open_directory: Path) -> None:
    file = a_file(open_directory / "file", 0o640)
    os.chown(file, 0, 65534)

    assert private_files.readers(file) == "the group nogroup"


@AS_NOBODY
def test_a_file_of_another_user_is_his_to_close(open_directory: Path) -> None:
    file = a_file(open_directory / "file", 0o644)
    os.chown(file, 65534, 65534)

    assert private_files.readers(file) is None


@AS_NOBODY
def test_a_mounted_secret_of_a_cluster_is_no_exposure(open_directory: Path) -> None:
    """Kubernetes mounts root's files of mode 0644 behind links; the container's user is another one."""
    version = open_directory / "..2026_01_01"
    version.mkdir(mode=0o755)
    a_file(version / "KEY", 0o644)
    (open_directory / "..data").symlink_to(version.name)
    (open_directory / "KEY").symlink_to("..data/KEY")

    assert private_files.readers(open_directory / "KEY") == "every user"  # for root, who could close it
    assert as_nobody(lambda: private_files.readers(open_directory / "KEY")) is None


def test_what_is_not_there_is_read_by_nobody(open_directory: Path) -> None:
    assert private_files.readers(open_directory / "nothing") is None


# What `optio doctor` says


def doctor(directory: Path, **environ: str) -> list[tuple[str, str, str | None]]:
    done = Dev(directory, environ=environ).cli("doctor", "--json")
    return [(c["status"], c["detail"], c["hint"]) for c in json.loads(done.stdout)["checks"] if c["name"] == "private"]


def test_doctor_names_what_others_can_read_and_the_cure(open_directory: Path) -> None:
    data = open_directory / "data"
    (data / "secrets").mkdir(parents=True, mode=0o700)
    token = a_file(open_directory / "token", 0o644)
    token.write_text("optio_x")
    a_file(data / "secrets" / "KEY", 0o644)

    before = doctor(open_directory, OPTIO_TOKEN_FILE=str(token))
    data.chmod(0o700)
    token.chmod(0o600)
    after = doctor(open_directory, OPTIO_TOKEN_FILE=str(token))

    assert before == [
        ("warning", f"every user can read {data}", f"chmod 700 {data}"),
        ("warning", f"every user can read {token}", f"chmod 600 {token}"),
    ]
    assert after == [("ok", "no other user can read the data directory, database or secrets", None)]


def test_doctor_names_a_secret_that_others_can_read(open_directory: Path) -> None:
    secrets = open_directory / "secrets"
    secrets.mkdir(mode=0o755)
    a_file(secrets / "KEY", 0o644)

    found = doctor(open_directory, OPTIO_SECRETS_DIR=str(secrets))

    assert ("warning", f"every user can read {secrets / 'KEY'}", f"chmod 600 {secrets / 'KEY'}") in found
