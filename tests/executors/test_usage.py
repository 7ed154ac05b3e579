"""What an agent uses up: bytes and files of the disk, processes. However it hides that, it ends with the reason."""

import os
from pathlib import Path

import pytest

from optio.executors.process import ProcessExecutor
from optio.executors.sandbox import SandboxOptions
from tests.executors.support import Ended, python, run
from tests.executors.test_sandbox import CONFINED, as_user

_MANY = "import os, time\n"
_WRITE = "open(f'{where}f{n}', 'wb').write(bytes(1 << 20))"
_FILLED = {
    "in one file": "f = open('f', 'wb')\nwhile True: f.write(bytes(1 << 20))",
    "in many files": f"n, where = 0, ''\nwhile True: n += 1; {_WRITE}",
    "in /tmp": f"import tempfile\nn, where = 0, tempfile.gettempdir() + '/'\nwhile True: n += 1; {_WRITE}",
    "in files without a name": (
        "held = []\nwhile True: f = open('f', 'wb'); os.unlink('f'); f.write(bytes(1 << 20)); f.flush(); held.append(f)"
    ),
    "in mapped files without a name": (
        "import mmap\nheld = []\nwhile True:\n f = open('f', 'w+b'); os.unlink('f'); f.write(bytes(1 << 20)); f.flush()\n"
        " held.append(mmap.mmap(f.fileno(), 4096)); f.close()"
    ),
    "in a closed directory": (
        f"os.mkdir('d')\nn, where = 0, 'd/'\nwhile True: n += 1; os.chmod('d', 0o300); {_WRITE}; os.chmod('d', 0)"
    ),
    "by directories alone": "n = 0\nwhile True: n += 1; os.mkdir(f'd{n}')",
    "by links": "n = 0\nwhile True: n += 1; os.symlink('x' * 200, f'l{n}')",
    "deep down": "while True: os.mkdir('d' * 200); os.chdir('d' * 200); open('f', 'wb').write(bytes(1 << 16))",
}


def filled(kind: str, home: Path, source: str) -> list[str | None]:
    executor = ProcessExecutor(
        home / "data" / "attempts", sandbox=SandboxOptions(kind=kind), disk_quota=24 << 20, disk_files=3000
    )
    try:
        ended: Ended = run(executor, python(_MANY + source, timeout_s=60.0))
        return [ended.exit.stopped_by, ended.stderr.decode()[-300:], str(sorted(os.listdir(home / "data" / "attempts")))]
    finally:
        executor.close()


@pytest.mark.parametrize("user", [60_123, 0], ids=["an ordinary user", "root"])
@pytest.mark.parametrize("kind", CONFINED)
@pytest.mark.parametrize("way", _FILLED)
def test_whatever_fills_the_disk_ends_and_leaves_nothing(way: str, kind: str, user: int) -> None:
    stopped_by, said, left = as_user(lambda home: filled(kind, home, _FILLED[way]), user)

    assert stopped_by in ("disk_quota", "disk_files"), said
    assert left == "[]"


@pytest.mark.parametrize("user", [60_123, 0], ids=["an ordinary user", "root"])
@pytest.mark.parametrize("kind", CONFINED)
@pytest.mark.parametrize(
    "source",
    [
        "while True:\n try:\n  if os.fork() == 0: time.sleep(60)\n except OSError: pass",
        "from threading import Thread\nwhile True:\n try: Thread(target=time.sleep, args=[9]).start()\n except RuntimeError: 0",
    ],
    ids=["processes", "threads"],
)
def test_whoever_starts_too_many_processes_or_threads_ends_by_that(source: str, kind: str, user: int) -> None:
    def work(home: Path) -> str | None:
        executor = ProcessExecutor(home / "data" / "attempts", sandbox=SandboxOptions(kind=kind))
        executor._processes = None
        try:
            handle = run(executor, python(_MANY + source, timeout_s=60.0))
            return handle.exit.stopped_by
        finally:
            executor.close()

    assert as_user(work, user) == "processes"
