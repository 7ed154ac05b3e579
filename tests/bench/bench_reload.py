"""Save -> served, against the bare file event that it cannot beat; and the compiler's share of it.

    python tests/bench/bench_reload.py [SAVES]

The registry is looked at in the server's own process. `event` is what watchfiles, asked as hot reload asks it, needs to tell of
the same kind of save in the same tree; `served / event` is what Optio adds: waiting until the file is at rest (20 ms),
compiling, keeping the generation in SQLite (one fsync) and swapping it in.
"""

import asyncio
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import watchfiles

from optio.compiler.incremental import IncrementalCompiler
from optio.compiler.pipeline import compile_tree
from optio.compiler.source_tree import DirectoryTree
from optio.settings import Settings
from optio.tree.reload import Reloader
from optio.tree.scan import scan_directory
from optio.tree.served import ServedRegistry
from optio.wiring import build

TASK = """\
type: standalone
name: Task {number}
description: "{text}"
agentRuntime: claude-code
model: sonnet
promptTemplate: |
  Analyze the dependency list for {{{{REPO_NAME}}}} and produce a security report.
paramsSchema:
  type: object
  properties:
    REPO_NAME: {{type: string, maxLength: 200}}
  required: [REPO_NAME]
  additionalProperties: false
maxTurns: 20
budgetUsd: "2.50"
triggers:
  - type: schedule
    config: {{cronExpression: "0 9 * * 1", paramMapping: {{REPO_NAME: optio}}}}
  - type: webhook
    config:
      path: hook-{number}
      secret: {{name: SECRET_{number}}}
      paramMapping: {{REPO_NAME: $.repository.name}}
"""


def save(root: Path, number: int, text: str, *, rename: bool) -> None:
    path = root / f"{number}.yaml"
    if rename:
        draft = root / f".{number}.tmp"
        draft.write_text(TASK.format(number=number, text=text))
        draft.replace(path)
    else:
        path.write_text(TASK.format(number=number, text=text))


@contextmanager
def loop(main: Callable[[asyncio.Event], object]) -> Iterator[None]:
    """An event loop on a thread, as long as the block lasts."""
    ready = threading.Event()
    made: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def run() -> None:
        made.append((asyncio.get_running_loop(), asyncio.Event()))
        ready.set()
        await main(made[0][1])  # type: ignore[misc]

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    ready.wait()
    yield
    made[0][0].call_soon_threadsafe(made[0][1].set)
    thread.join()


def measured(saves: int, act: Callable[[int], None], seen: Callable[[int], bool]) -> list[float]:
    """Milliseconds from the end of each save until it is seen."""
    taken = []
    for turn in range(saves):
        time.sleep(0.15)
        act(turn)
        began = time.perf_counter()
        while not seen(turn):
            time.sleep(0.0005)
            if time.perf_counter() - began > 20:
                raise SystemExit("a save was never seen")
        taken.append((time.perf_counter() - began) * 1000)
    return taken


def events(root: Path, saves: int, *, rename: bool) -> list[float]:
    count = [0]

    async def main(stop: asyncio.Event) -> None:
        async for _ in watchfiles.awatch(root, step=10, debounce=50, rust_timeout=1000, watch_filter=None, stop_event=stop):
            count[0] += 1

    with loop(main):
        time.sleep(1)
        before = [0]

        def act(turn: int) -> None:
            before[0] = count[0]
            save(root, 0, f"event {turn} {rename}", rename=rename)

        return measured(saves, act, lambda turn: count[0] > before[0])


def served(root: Path, saves: int, *, rename: bool) -> list[float]:
    with tempfile.TemporaryDirectory() as data:
        services = build(Settings.load({"OPTIO_DATA_DIR": data, "OPTIO_TASKS": str(root)}))
        live = ServedRegistry(services.store)
        reloader = Reloader(root, live, services.broker, on_change=lambda snapshot: None)

        async def main(stop: asyncio.Event) -> None:
            await reloader.load()
            await reloader.watch(stop)

        with loop(main):
            while "task-0" not in live.current.registry.tasks:
                time.sleep(0.01)
            time.sleep(2)
            found = measured(
                saves,
                lambda turn: save(root, 0, f"served {turn} {rename}", rename=rename),
                lambda turn: live.current.registry.tasks["task-0"].spec.description == f"served {turn} {rename}",
            )
        services.close()
    return found


def percentile(values: list[float], percent: int) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]


def best(act: Callable[[], object], times: int = 5) -> float:
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        act()
        taken.append((time.perf_counter() - began) * 1000)
    return statistics.median(taken)


def compiled(root: Path) -> tuple[float, float, float, float]:
    """Milliseconds: all files; one changed, others known by their bytes; the same by their signs; one look."""
    tree = DirectoryTree(root)
    everything = best(lambda: compile_tree(tree), 3)
    incremental = IncrementalCompiler()
    incremental.compile(tree)
    turn = iter(range(1000))

    def by_bytes() -> None:
        incremental.compile(tree)

    def by_signs() -> None:
        save(root, 0, f"compiled {next(turn)}", rename=True)
        signs = {path: sign for path, sign in scan_directory(root).stamps.items() if path != "0.yaml"}
        incremental.compile(tree, signs)

    bytes_taken = best(by_bytes)
    by_signs()
    return everything, bytes_taken, best(by_signs), best(lambda: scan_directory(root))


def main() -> None:
    saves = int(sys.argv[1]) if len(sys.argv) > 1 else 60
    print(f"{'files':>6} {'save':>9} {'event p50':>10} {'p99':>7} {'served p50':>11} {'p99':>7} {'ratio p50':>10}")
    for files in (10, 1000):
        with tempfile.TemporaryDirectory() as directory:
            root = Path(directory) / "tasks.d"
            root.mkdir()
            for number in range(files):
                save(root, number, "first", rename=False)
            for rename in (False, True):
                bare, full = events(root, saves, rename=rename), served(root, saves, rename=rename)
                b50, s50 = statistics.median(bare), statistics.median(full)
                print(
                    f"{files:>6} {'rename' if rename else 'in place':>9} {b50:>8.1f}ms {percentile(bare, 99):>5.0f}ms "
                    f"{s50:>9.1f}ms {percentile(full, 99):>5.0f}ms {s50 / b50:>10.1f}"
                )
            everything, by_bytes, by_signs, one_look = compiled(root)
            print(
                f"{files:>6} compile: all {everything:.0f} ms, nothing changed {by_bytes:.1f} ms, "
                f"one changed {by_signs:.1f} ms (1/{everything / by_signs:.0f} of all), a look {one_look:.1f} ms"
            )


if __name__ == "__main__":
    main()
