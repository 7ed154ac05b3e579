"""Signs: what may be relied on without reading a file."""

import os
import time
from pathlib import Path

import pytest

from optio.check_cache.file_stamps import FileStamps


def later() -> int:
    """A clock by which everything has been at rest for long."""
    return time.time_ns() + 60_000_000_000


def sign(root: Path, path: str) -> object:
    return FileStamps(root, later).of(path)


def pause_for_another_tick(root: Path) -> None:
    """Until the clock of the file system goes on."""
    probe = root / "probe"
    probe.touch()
    first = probe.stat().st_ctime_ns
    while probe.stat().st_ctime_ns == first:
        probe.touch()


@pytest.mark.parametrize("change", ["written", "replaced", "moved", "mode"])
def test_no_change_leaves_a_sign_though_size_and_time_of_change_are_put_back(tmp_path: Path, change: str) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("name: A")
    status = file.stat()
    before = sign(tmp_path, "a.yaml")
    pause_for_another_tick(tmp_path)

    if change == "written":
        file.write_text("name: B")
    elif change == "mode":
        file.chmod(0o600)
    else:
        other = tmp_path / "b.yaml"
        other.write_text("name: B")
        os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
        other.replace(file) if change == "replaced" else (file.unlink(), other.rename(file))
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))

    assert file.stat().st_mtime_ns == status.st_mtime_ns
    assert file.stat().st_size == status.st_size
    assert before is not None
    assert sign(tmp_path, "a.yaml") not in (None, before)


def test_what_is_at_rest_keeps_its_sign(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.yaml").write_text("name: A")

    assert sign(tmp_path, "sub/a.yaml") == sign(tmp_path, "sub/a.yaml") is not None


def test_what_has_just_changed_has_no_sign(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("name: A")
    aged = time.time_ns() - 3_600_000_000_000
    os.utime(tmp_path / "a.yaml", ns=(aged, aged))

    assert FileStamps(tmp_path).of("a.yaml") is None


def test_what_a_link_leads_to_has_no_sign(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.yaml").write_text("name: A")
    (tmp_path / "file.yaml").symlink_to("real/a.yaml")
    (tmp_path / "directory").symlink_to("real")
    (tmp_path / "root").symlink_to(".")

    signs = [sign(tmp_path, path) for path in ("file.yaml", "directory/a.yaml", "real/../real/a.yaml", "none.yaml", "real", "")]

    assert signs == [None] * 6
    assert sign(tmp_path / "root", "real/a.yaml") == sign(tmp_path, "real/a.yaml") is not None


def test_a_file_whose_content_is_elsewhere_has_no_sign(tmp_path: Path) -> None:
    for name in ("a.yaml", "b.yaml"):
        (tmp_path / name).write_text("name: A")

    signs = FileStamps(tmp_path, later, without=["a.yaml"])

    assert signs.of("a.yaml") is None
    assert signs.of("b.yaml") is not None
