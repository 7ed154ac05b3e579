"""The commands that bring a launch into a pod, or find out that none came, run by the shells that images have. Their directory
is one of the test's own instead of `/optio`."""

import os
import shutil
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Self

import pytest

from optio.executors.base import Launch
from optio.executors.pods import launch_script
from tests.executors.support import shell
from tests.support import eventually

SHELLS = [words for words in (["dash"], ["bash", "--posix"], ["busybox", "sh"]) if shutil.which(words[0])]


Inside = Callable[[str], list[str]]


@pytest.fixture(params=SHELLS, ids=lambda words: words[0])
def inside(request: pytest.FixtureRequest, tmp_path: Path) -> Inside:
    """The words of a command for this shell, in a directory as the supervisor has prepared it."""
    for name in ("home", "work", "result", "private"):
        (tmp_path / name).mkdir()
    os.mkfifo(tmp_path / "launch")
    return lambda script: [*request.param, "-c", script.replace(launch_script.CONTROL, str(tmp_path))]


def look(inside: Inside) -> int:
    return subprocess.run(inside(launch_script.LOOK), timeout=20, check=False).returncode


class Launcher:
    """The command that takes a launch, under way. `words` is what the supervisor is told."""

    def __init__(self, inside: Inside, directory: Path, *, heard: bool = True, **env: str) -> None:
        command = inside(launch_script.COMMAND[-1])
        self._directory = directory
        self._process = subprocess.Popen(
            [shutil.which(command[0]) or "", *command[1:]],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, **env},
        )  # fmt: skip
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._stdin, self.stdout = self._process.stdin, self._process.stdout
        self._reading = threading.Thread(target=self._read, args=(directory / "launch",), daemon=True)
        self.words: list[str] = []
        if heard:
            self._reading.start()
        assert self.stdout.readline() == b"\n"

    def _read(self, fifo: Path) -> None:
        self.words.append(fifo.read_text())

    def send(self, launch: Launch, begin: int = 0, end: int | None = None) -> None:
        """Of its parcel this part."""
        text = launch_script.parcel(launch, orphan_s=60).replace(launch_script.CONTROL.encode(), os.fsencode(self._directory))
        self._stdin.write(text[begin:end])
        self._stdin.flush()

    def end(self) -> int:
        """What it says when all was sent: 0 for a launch that is on its way."""
        self._stdin.close()
        return 0 if self.stdout.readline() == launch_script.GONE_ON else self._process.wait(20)

    def told(self) -> list[str]:
        """What the supervisor has heard by now, which waits for a word until there is one."""
        self._reading.join(0.5)
        return self.words

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._stdin.close()
        self.stdout.close()
        if self._reading.is_alive():  # there will be no word
            os.close(os.open(self._directory / "launch", os.O_RDWR))
            self._reading.join(5)


def test_a_pod_without_a_launch_says_so_however_often_it_is_asked(inside: Inside) -> None:
    assert [look(inside) for _ in range(3)] == [launch_script.NEVER] * 3


def test_a_launch_that_comes_after_the_verdict_sees_it_and_unpacks_nothing(inside: Inside, tmp_path: Path) -> None:
    assert look(inside) == launch_script.NEVER

    with Launcher(inside, tmp_path) as late:
        late.send(shell("echo ran", stdin=b"secret"))

        assert (late.end(), late.told()) == (launch_script.NEVER, [])
    assert list((tmp_path / "private").iterdir()) == []
    assert look(inside) == launch_script.NEVER


def test_a_launch_that_is_under_way_when_the_verdict_falls_does_not_go_on(inside: Inside, tmp_path: Path) -> None:
    launch = shell("echo ran", stdin=b"x" * 100_000)
    with Launcher(inside, tmp_path) as late:
        late.send(launch, 0, 50_000)

        verdicts = [look(inside), look(inside)]
        late.send(launch, 50_000)

        assert (verdicts, late.end(), look(inside), late.told()) == (
            [launch_script.NEVER] * 2,
            launch_script.NEVER,
            launch_script.NEVER,
            [],
        )


def test_a_launch_that_is_overtaken_by_the_verdict_at_the_last_moment_leaves_the_supervisor_without_a_word(
    inside: Inside, tmp_path: Path
) -> None:
    (tmp_path / "launch").unlink()  # the supervisor is not ready yet
    with Launcher(inside, tmp_path, heard=False) as late:
        late.send(shell("echo ran"))
        late._stdin.close()
        eventually(lambda: (tmp_path / "private" / "stdin").exists(), what="the unpacked launch")

        verdict = look(inside)
        os.mkfifo(tmp_path / "launch")
        with (tmp_path / "launch").open() as supervisor:
            word = supervisor.read()

        assert (verdict, late.end(), word) == (launch_script.NEVER, launch_script.NEVER, "")


def test_a_launch_that_went_on_its_way_is_one_however_often_it_is_looked_for(inside: Inside, tmp_path: Path) -> None:
    with Launcher(inside, tmp_path) as first:
        first.send(shell("echo ran"))

        assert (first.end(), first.told()) == (0, ["go\n"])
    assert [look(inside) for _ in range(3)] == [launch_script.LAUNCHED] * 3


def test_a_second_launch_into_the_same_pod_is_told_of_the_first(inside: Inside, tmp_path: Path) -> None:
    with Launcher(inside, tmp_path) as first:
        first.send(shell("echo ran"))
        assert first.end() == 0

    with Launcher(inside, tmp_path) as second:
        second.send(shell("echo ran"))

        assert second.end() == launch_script.TAKEN


@pytest.mark.parametrize("left_out", [2, 5, 12, 50, 900])
def test_a_launch_of_which_a_part_is_missing_starts_nothing(inside: Inside, tmp_path: Path, left_out: int) -> None:
    with Launcher(inside, tmp_path) as broken:
        broken.send(shell("echo ran", stdin=b"whole"), 0, -left_out)

        assert broken.end() in (1, 2)
        assert broken.told() == []


EVERY = bytes(range(256)) + "gr\u00fc\u00dfe '$(x)' \\ `y` %s \u4e2d\U0001f600".encode() + b"\0\0\n\n"


@pytest.mark.parametrize("content", [b"", EVERY, b"\n", b"\0", b"it's", EVERY * 4000], ids=lambda content: str(len(content)))
def test_every_byte_of_a_launch_arrives(inside: Inside, tmp_path: Path, content: bytes) -> None:
    files = {"plain": content, "a b/it's/deep": content}
    with Launcher(inside, tmp_path) as launcher:
        launcher.send(shell("echo ran", stdin=content, files=files))
        assert launcher.end() == 0

    assert (tmp_path / "private" / "stdin").read_bytes() == content
    assert {name: (tmp_path / "home" / name).read_bytes() for name in files} == files


def test_a_launch_needs_two_programs_beside_its_shell(inside: Inside, tmp_path: Path) -> None:
    """Each costs an agent some milliseconds of its start."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("cat", "tail"):
        (programs / name).symlink_to(str(shutil.which(name)))

    with Launcher(inside, tmp_path, PATH=str(programs)) as launcher:
        launcher.send(shell("echo ran", stdin=b"prompt"))

        assert (launcher.end(), launcher.told()) == (0, ["go\n"])


def test_what_the_agent_prints_comes_by_the_command_that_brought_its_launch(inside: Inside, tmp_path: Path) -> None:
    with Launcher(inside, tmp_path) as launcher:
        launcher.send(shell("echo ran"))
        assert launcher.end() == 0
        with (tmp_path / "stdout").open("a") as agent:
            for n in range(3):
                agent.write(f"line {n}\n")
                agent.flush()

                assert launcher.stdout.readline() == b"line %d\n" % n
