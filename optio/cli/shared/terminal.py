"""The terminal that a command writes to: whether it gets colour, a pager for long output, and progress on standard error.

`optio check` imports this for its colours, so libraries are imported where they are needed.
"""

import argparse
import io
import os
import shlex
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

_QUIET_S, _INTERVAL_S = 1.0, 0.5


def wants_colour(stream: TextIO | None = None) -> bool:
    """Return whether to write colours to a stream, standard output by default. NO_COLOR goes before FORCE_COLOR and
    CLICOLOR_FORCE, and these go before the question whether it is a terminal that knows colours."""
    if os.environ.get("NO_COLOR"):
        return False
    if any(os.environ.get(name, "0") not in ("", "0") for name in ("FORCE_COLOR", "CLICOLOR_FORCE")):
        return True
    return os.environ.get("TERM") != "dumb" and (stream or sys.stdout).isatty()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add `--no-pager` to a command whose output is paged on a terminal."""
    default = argparse.SUPPRESS if parser.argument_default is argparse.SUPPRESS else True
    parser.add_argument(
        "--no-pager",
        dest="pager",
        action="store_false",
        default=default,
        help="do not page output longer than the screen",
    )


class _PagedOutput(io.StringIO):
    """Standard output of a command that is held until it ends. Looks like the terminal that it is for."""

    encoding, errors = "utf-8", "backslashreplace"

    def __init__(self, terminal: TextIO) -> None:
        super().__init__()
        self._terminal = terminal

    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._terminal.fileno()


def run_paged(run: Callable[[argparse.Namespace], int], args: argparse.Namespace) -> int:
    """Run a command and return its exit code. Its output is paged if it has `--no-pager`, that is not given, and it writes to a
    terminal. Output that goes on until somebody ends it is not paged."""
    endless = any(getattr(args, name, False) for name in ("watch", "follow"))
    words = _command() if getattr(args, "pager", False) and not endless and sys.stdout.isatty() else []
    if not words:
        return run(args)
    terminal, output = sys.stdout, _PagedOutput(sys.stdout)
    sys.stdout = output
    try:
        return run(args)
    finally:
        sys.stdout = terminal
        _page(output.getvalue(), words)


def _page(text: str, command: list[str]) -> None:
    """Show a text in the pager if it is longer than the screen, else as it is. Ctrl-C belongs to the pager."""
    import subprocess

    if text.count("\n") >= (os.get_terminal_size(sys.stdout.fileno()).lines or 24):
        environ = {"LESS": "FRX", "LV": "-c", **os.environ}
        with suppress(OSError):  # it cannot be run: no pager
            process = subprocess.Popen(command, stdin=subprocess.PIPE, env=environ)
            with suppress(KeyboardInterrupt):
                process.communicate(text.encode(errors="backslashreplace"))
            while process.poll() is None:
                with suppress(KeyboardInterrupt):
                    process.wait()
            return
    sys.stdout.write(text)
    sys.stdout.flush()


def _command() -> list[str]:
    import shutil

    text = os.environ.get("PAGER")
    with suppress(ValueError):
        words = shlex.split("less" if text is None else text)
        if words and words != ["cat"] and os.environ.get("TERM") != "dumb" and shutil.which(words[0]):
            return words
    return []


class Progress:
    """One line on standard error that says what goes on, and for how long already."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._is_drawn = False

    def draw(self, seconds: float) -> None:
        """Write the line in the place of the one before."""
        # By the descriptor: a fork must not inherit a lock of the stream.
        os.write(sys.stderr.fileno(), f"\r\x1b[K{self.text} ... {seconds:.0f} s".encode(errors="backslashreplace"))
        self._is_drawn = True

    def clear(self) -> None:
        """Remove the line, before something else is written."""
        if self._is_drawn:
            os.write(sys.stderr.fileno(), b"\r\x1b[K")
            self._is_drawn = False


@contextmanager
def progress(text: str) -> Iterator[Progress]:
    """Show what goes on if the block lasts longer than a second and standard error is a terminal. Set `what` as it goes on."""
    display = Progress(text)
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield display
        return

    stop_event = threading.Event()
    started_at = time.monotonic()

    def tell() -> None:
        pause = _QUIET_S
        while not stop_event.wait(pause):
            display.draw(time.monotonic() - started_at)
            pause = _INTERVAL_S

    teller = threading.Thread(target=tell, name="progress", daemon=True)
    teller.start()
    try:
        yield display
    finally:
        stop_event.set()
        teller.join()
        display.clear()
