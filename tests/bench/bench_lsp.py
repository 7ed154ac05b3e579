"""A keystroke -> its findings in the editor, over the real pipes of `optio lsp`, in a tree of many tasks.

    python -m tests.bench.bench_lsp [FILES]

`echo` is a request that the server refuses unread: the way there and back, which no answer can beat. `typed` is a change of
the open file to the findings of that file; `across` one that another file suffers from, whose findings come when the whole
tree has been judged again, which waits for the hands to rest.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.bench.bench_reload import TASK
from tests.lsp import editor
from tests.lsp.editor import Editor

_ROUNDS = 30
_PAUSE = 0.6


def write_tree(root: Path, files: int) -> None:
    for number in range(files):
        directory = root / "tasks.d" / f"team{number % 100:02}"
        directory.mkdir(parents=True, exist_ok=True)
        text = f"Scans dependencies, {number}"
        (directory / f"task{number}.yaml").write_text(TASK.format(number=number, text=text))


def median_ms(act: Callable[[int], None]) -> tuple[float, float]:
    """The median and the largest, in milliseconds."""
    took = []
    for count in range(_ROUNDS):
        began = time.perf_counter()
        act(count)
        took.append((time.perf_counter() - began) * 1000)
        time.sleep(_PAUSE)
    return statistics.median(took), max(took)


def main(files: int) -> None:
    editor.WAIT = 300.0
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        write_tree(root, files)
        with Editor(root) as client:
            began = time.perf_counter()
            path = root / "tasks.d" / "team00" / "task0.yaml"
            text = path.read_text()
            uri, other = (
                client.open("tasks.d/team00/task0.yaml", text + "maxTurn: 3\n"),
                client.uri("tasks.d/team01/task1.yaml"),
            )
            client.codes(uri, ["OPT101"])
            print(f"first answer after {(time.perf_counter() - began) * 1000:.0f} ms, while the tree is read")
            client.until(
                lambda: any(m["method"] == "$/progress" and m["params"]["value"]["kind"] == "end" for m in client.seen)
            )
            print(f"{files:,} files read after {time.perf_counter() - began:.1f} s")

            def typed(count: int) -> None:
                client.seen.clear()
                version = client.type(uri, text + f"maxTurn: {count}\n")
                client.until(lambda: any(message["params"].get("version") == version for message in client.seen))

            def across(count: int) -> None:
                client.seen.clear()
                client.type(uri, text if count % 2 else text.replace("name: Task 0\n", "name: Task 1\n"))
                client.until(lambda: client.told(other) is not None)

            echo = median_ms(lambda _: client.request("optio/nothing") and None)
            for name, (median, most) in (("echo", echo), ("typed", median_ms(typed)), ("across", median_ms(across))):
                print(f"{name:<8} median {median:7.1f} ms   most {most:7.1f} ms   {median / echo[0]:6.1f} x echo")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)
