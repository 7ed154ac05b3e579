"""How long commands take that need no server, whole process, beside a bare interpreter in the same run.

python tests/bench/bench_cli.py [ROUNDS]
"""

import compileall
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = (
    ["--version"],
    ["--help"],
    ["run", "--help"],
    ["explain", "OPT101"],
    ["schema"],
    ["check"],
    ["compile", "--json"],
    ["render", "hello"],
    ["dev", "--help"],
)


def took(command: list[str], directory: str) -> float:
    """Milliseconds."""
    begin = time.perf_counter()
    subprocess.run(command, cwd=directory, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    return (time.perf_counter() - begin) * 1000


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 9
    compileall.compile_dir(str(ROOT / "optio"), quiet=2)
    with tempfile.TemporaryDirectory() as directory:
        optio = [sys.executable, "-m", "optio"]
        subprocess.run([*optio, "init"], cwd=directory, stdout=subprocess.DEVNULL, check=True)
        rows = {"python -c pass": [sys.executable, "-c", "pass"], **{f"optio {' '.join(c)}": [*optio, *c] for c in COMMANDS}}
        medians = {name: statistics.median(took(command, directory) for _ in range(rounds)) for name, command in rows.items()}
    bare = medians["python -c pass"]
    print(f"{'command':<24}{'median':>10}{'ratio':>8}")
    for name, median in medians.items():
        print(f"{name:<24}{median:>7.0f} ms{median / bare:>8.1f}")


if __name__ == "__main__":
    main()
