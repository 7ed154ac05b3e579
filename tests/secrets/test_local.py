"""Secrets by name: where values come from, and what is no name."""

import errno
import stat
from pathlib import Path

import pytest

from optio.errors import Invalid, SecretUnavailable
from optio.secrets.base import is_missing, value_at_hand
from optio.secrets.local import LocalSecrets
from tests.support import eventually


def test_the_environment_comes_before_the_file(tmp_path: Path) -> None:
    (tmp_path / "KEY").write_text("from the file\n")

    secrets = LocalSecrets(tmp_path, {"OPTIO_SECRET_KEY": "from the environment", "KEY": "no secret"})

    assert (secrets.get("KEY"), LocalSecrets(tmp_path, {}).get("KEY")) == ("from the environment", "from the file")


@pytest.mark.parametrize(
    ("content", "value"), [(b"v\n", "v"), (b"v\n\n", "v\n"), (b" v ", " v "), (b"a\nb\n", "a\nb"), (b"", "")]
)
def test_one_last_newline_of_a_file_is_the_editor_s(tmp_path: Path, content: bytes, value: str) -> None:
    (tmp_path / "KEY").write_bytes(content)

    assert LocalSecrets(tmp_path, {}).get("KEY") == value


@pytest.mark.parametrize("name", ["../KEY", "a/b", "", ".", "..", "KEY\n", "1KEY", "K-Y", "K" * 200, "ÄKEY"])
def test_what_is_no_name_reads_no_file_and_is_not_kept(tmp_path: Path, name: str) -> None:
    (tmp_path / "KEY").write_text("value")
    secrets = LocalSecrets(tmp_path / "below", {})

    assert secrets.get(name) is None
    with pytest.raises(Invalid):
        secrets.put(name, "value")


def test_a_value_that_is_kept_is_private_and_can_be_read_again(tmp_path: Path) -> None:
    secrets = LocalSecrets(tmp_path / "secrets", {})

    secrets.put("KEY", "first")
    secrets.put("KEY", "line\nline\n")

    path = tmp_path / "secrets" / "KEY"
    assert LocalSecrets(tmp_path / "secrets", {}).get("KEY") == "line\nline"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [p.name for p in path.parent.iterdir()] == ["KEY"]


def test_a_file_that_cannot_be_read_is_no_value_and_the_cure_names_both_ways(tmp_path: Path) -> None:
    (tmp_path / "BYTES").write_bytes(b"\xff\xfe")
    (tmp_path / "FOLDER").mkdir()
    secrets = LocalSecrets(tmp_path, {})

    assert [secrets.get(name) for name in ("BYTES", "FOLDER", "MISSING")] == [None, None, None]
    assert secrets.where("MISSING") == f"set OPTIO_SECRET_MISSING, or write the value to {tmp_path / 'MISSING'}"


def test_a_value_that_is_changed_in_its_file_counts_soon(tmp_path: Path) -> None:
    secrets = LocalSecrets(tmp_path, {})
    (tmp_path / "KEY").write_text("before")
    assert secrets.get("KEY") == "before"

    (tmp_path / "KEY").write_text("after")

    assert eventually(lambda: secrets.get("KEY") == "after", within=10)


def test_a_file_that_is_new_counts_at_once_and_one_that_is_gone_soon(tmp_path: Path) -> None:
    secrets = LocalSecrets(tmp_path, {})
    assert secrets.get("KEY") is None

    (tmp_path / "KEY").write_text("new")
    assert secrets.get("KEY") == "new"
    (tmp_path / "KEY").unlink()
    assert eventually(lambda: secrets.get("KEY") is None, within=10)


def test_a_value_that_is_put_counts_at_once(tmp_path: Path) -> None:
    secrets = LocalSecrets(tmp_path, {})
    assert secrets.get("KEY") is None
    secrets.put("KEY", "before")
    assert secrets.get("KEY") == "before"

    secrets.put("KEY", "after")

    assert secrets.get("KEY") == "after"


def test_a_directory_that_was_read_and_is_away_is_no_missing_secret(tmp_path: Path) -> None:
    directory = tmp_path / "secrets"
    directory.mkdir()
    (directory / "KEY").write_text("value")
    secrets = LocalSecrets(directory, {})

    before = secrets.get("OTHER"), secrets.get("KEY")
    directory.rename(tmp_path / "away")
    with pytest.raises(SecretUnavailable, match=r"the secret `OTHER` cannot be read: the directory .*/secrets is away"):
        secrets.get("OTHER")
    at_hand, missing = value_at_hand(secrets, "OTHER"), is_missing(secrets, "OTHER")
    (tmp_path / "away").rename(directory)

    assert before == (None, "value")
    assert (at_hand, missing) == (None, False)
    assert (secrets.get("OTHER"), is_missing(secrets, "OTHER"), secrets.get("KEY")) == (None, True, "value")


def test_a_directory_that_never_was_is_away_only_if_it_must_exist(tmp_path: Path) -> None:
    assert LocalSecrets(tmp_path / "none", {}).get("KEY") is None
    assert LocalSecrets(tmp_path / "none", {"OPTIO_SECRET_KEY": "value"}, must_exist=True).get("KEY") == "value"
    with pytest.raises(SecretUnavailable, match="is away"):
        LocalSecrets(tmp_path / "none", {}, must_exist=True).get("KEY")


def test_a_file_that_cannot_be_read_is_no_missing_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> str:
        raise OSError(errno.EIO, "Input/output error")

    secrets = LocalSecrets(tmp_path, {})
    monkeypatch.setattr(Path, "read_text", broken)

    with pytest.raises(SecretUnavailable, match="KEY: Input/output error"):
        secrets.get("KEY")
    assert secrets.is_at_hand("KEY")


def test_a_directory_that_is_no_longer_mounted_is_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "KEY").write_text("value")
    mounted = [True]
    monkeypatch.setattr("os.path.ismount", lambda _: mounted[0])
    secrets = LocalSecrets(tmp_path, {})

    found = secrets.get("KEY"), secrets.get("OTHER")
    mounted[0] = False

    assert found == ("value", None)
    with pytest.raises(SecretUnavailable, match="is no longer mounted"):
        secrets.get("OTHER")
