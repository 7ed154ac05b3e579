"""Where a SQLite file must not be."""

from pathlib import Path

import pytest

from optio.errors import StoreUnavailable
from optio.store.sqlite import mounts
from optio.store.sqlite.sqlite_store import open_store

INFO = """\
22 1 254:0 / / rw,relatime - ext4 /dev/root rw
31 22 0:27 / /home rw,relatime shared:9 - nfs4 server:/home rw,vers=4.2
32 31 254:1 / /home/ann/local\\040disk rw - xfs /dev/sdb rw
40 22 0:30 / /mnt rw - ext4 /dev/sdc rw
41 22 0:31 / /mnt rw - cifs //server/share rw
50 22 0:32 / /homer rw - tmpfs tmpfs rw
nonsense
""".splitlines()


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/lib/optio.db", "ext4"),
        ("/home/ann/optio.db", "nfs4"),
        ("/home/ann/local disk/optio.db", "xfs"),
        ("/mnt/optio.db", "cifs"),
        ("/homer/optio.db", "tmpfs"),
    ],
)
def test_the_deepest_and_last_mount_counts(path: str, kind: str) -> None:
    assert mounts.type_of(Path(path), INFO) == kind


def test_a_network_file_system_is_refused_with_the_cure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "mountinfo"
    info.write_text(f"22 1 254:0 / / rw - ext4 /dev/root rw\n31 22 0:27 / {tmp_path.resolve()} rw - nfs4 server:/home rw\n")
    monkeypatch.setattr(mounts, "_MOUNTS", info)

    with pytest.raises(StoreUnavailable, match=r"nfs4.*OPTIO_DATA_DIR"):
        open_store(tmp_path / "data" / "optio.db")

    assert not (tmp_path / "data" / "optio.db").exists()


def test_a_system_that_does_not_say_is_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mounts, "_MOUNTS", tmp_path / "nothing")

    open_store(tmp_path / "optio.db").close()
