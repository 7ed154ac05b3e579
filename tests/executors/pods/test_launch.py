"""The commands that bring a launch into a pod, or find out that none came, run by the shells that images have. Their directory
is one of the test's own instead of `/optio`."""

import os
import shutil
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from optio.executors.base import Launch
from optio.executors.pods import plan
from tests.executors.support import shell

SHELLS = [words for words in (["dash"], ["bash", "--posix"], ["busybox", "sh"]) if shutil.which(words[0])]


@pytest.fixture(params=SHELLS, ids=lambda words: words[0])
def inside(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], list[str]]:
    """The words of a command for this shell, in a directory as the supervisor has prepared it."""
    for name in ("home", "work", "result", "private"):
        (tmp_path / name).mkdir()
    os.mkfifo(tmp_path / "launch")
    return lambda script: [*request.param, "-c", script.replace(plan.CONTROL, str(tmp_path))]


def look(inside: Callable[[str], list[str]]) -> int:
    return subprocess.run(inside(plan.LOOK), timeout=20, check=False).returncode


class Launcher:
    """The command that takes a launch, under way. `words` is what the supervisor is told."""

    def __init__(self, inside: Callable[[str], list[str]], launch: Launch, directory: Path) -> None:
        self._process = subprocess.Popen(inside(plan.command(launch)[-1]), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._reading = threading.Thread(target=self._read, args=(directory / "launch",), daemon=True)
        self.words: list[str] = []
        self._reading.start()
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"\n"

    def _read(self, fifo: Path) -> None:
        self.words.append(fifo.read_text())

    def send(self, data: bytes) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(data)
        self._process.stdin.flush()

    def end(self) -> int:
        """Its exit code, when all was sent."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        return self._process.wait(20)

    def told(self) -> list[str]:
        """What the supervisor has heard by now, which waits for a word until there is one."""
        self._reading.join(0.5)
        return self.words


def test_a_pod_without_a_launch_says_so_however_often_it_is_asked(inside: Callable[[str], list[str]]) -> None:
    assert [look(inside) for _ in range(3)] == [plan.NEVER] * 3


def test_a_launch_that_comes_after_the_verdict_sees_it_and_unpacks_nothing(
    inside: Callable[[str], list[str]], tmp_path: Path
) -> None:
    launch = shell("echo ran", stdin=b"secret")
    assert look(inside) == plan.NEVER

    late = Launcher(inside, launch, tmp_path)
    late.send(plan.parcel(launch, orphan_s=60))

    assert (late.end(), late.told()) == (plan.NEVER, [])
    assert list((tmp_path / "private").iterdir()) == []
    assert look(inside) == plan.NEVER


def test_a_launch_that_is_under_way_when_the_verdict_falls_does_not_go_on(
    inside: Callable[[str], list[str]], tmp_path: Path
) -> None:
    launch = shell("echo ran", stdin=b"x" * 100_000)
    data = plan.parcel(launch, orphan_s=60)
    late = Launcher(inside, launch, tmp_path)
    late.send(data[: len(data) // 2])

    verdicts = [look(inside), look(inside)]
    late.send(data[len(data) // 2 :])

    assert (verdicts, late.end(), look(inside)) == ([plan.NEVER] * 2, plan.NEVER, plan.NEVER)
    # The supervisor waits for one word alone: that there will be none ends it.
    assert late.told() == [""]


def test_a_launch_that_went_on_its_way_is_one_however_often_it_is_looked_for(
    inside: Callable[[str], list[str]], tmp_path: Path
) -> None:
    launch = shell("echo ran")
    first = Launcher(inside, launch, tmp_path)
    first.send(plan.parcel(launch, orphan_s=60))

    assert (first.end(), first.told()) == (0, ["go\n"])
    assert [look(inside) for _ in range(3)] == [plan.LAUNCHED] * 3


def test_a_second_launch_into_the_same_pod_is_told_of_the_first(inside: Callable[[str], list[str]], tmp_path: Path) -> None:
    launch = shell("echo ran")
    first, second = Launcher(inside, launch, tmp_path), Launcher(inside, launch, tmp_path)
    first.send(plan.parcel(launch, orphan_s=60))
    assert first.end() == 0

    second.send(plan.parcel(launch, orphan_s=60))

    assert second.end() == plan.TAKEN


@pytest.mark.parametrize("left_out", [1, 2, 5, 50, 900])
def test_a_launch_of_which_a_part_is_missing_starts_nothing(
    inside: Callable[[str], list[str]], tmp_path: Path, left_out: int
) -> None:
    launch = shell("echo ran", stdin=b"whole")
    broken = Launcher(inside, launch, tmp_path)

    broken.send(plan.parcel(launch, orphan_s=60)[:-left_out])

    assert broken.end() not in (0, plan.TAKEN, plan.NEVER)
    assert (look(inside), broken.told()) == (plan.NEVER, [])
