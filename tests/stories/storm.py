"""The crash ledger of `test_ledger` at any size, with one line for each seed.

`python -m tests.stories.storm --kind kills|freezes|clock|all --driver sqlite|postgres --seeds 5 --runs 500 --duplicates 10`
"""

import argparse
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.stories.test_ledger import crash

# One fault for so many runs.
RUNS_PER_FAULT = 12
# Much, for a machine that has other work to do.
PATIENCE_S = 300.0
KINDS = ("kills", "freezes", "clock", "all")
# Printed whatever they are; every other count of `Verdict.bad` only when it is not zero.
ALWAYS = ("lost", "doubled", "stuck")


def storm(kind: str, driver: str, seed: int, runs: int, faults: int, duplicates: int) -> bool:
    """Print one line, and the details of what went wrong; return whether nothing did."""
    kinds = KINDS[:3] if kind == "all" else (kind,)
    kills, stops, jumps = (faults // len(kinds) if each in kinds else 0 for each in KINDS[:3])
    directory = Path(tempfile.mkdtemp(prefix="optio-storm-"))
    began = time.monotonic()
    found, chaos, made = crash(
        directory, runs, kills, stops, seed,
        sqlite=driver == "sqlite", jumps=jumps, duplicates=duplicates, patience=PATIENCE_S,
    )  # fmt: skip
    took = time.monotonic() - began
    harm: Counter[str] = Counter()
    for what, count in chaos.harm.items():
        harm[what.partition(" ")[0]] += count
    figures = {
        "accepted": found.seen["accepted"],
        **{name: found.bad[name] for name in ALWAYS},
        "kills": harm["kill"], "freezes": harm["stop"], "jumps": harm["jump"],
        "duplicates": found.seen["repeated"], "adoptions": found.seen["adoptions"],
        **{name: count for name, count in found.bad.items() if count and name not in ALWAYS},
    }  # fmt: skip
    words = ", ".join(f"{count} {name}" for name, count in figures.items())
    print(f"{kind} {driver} seed {seed}: {words}, {took:.0f} s", flush=True)
    # Without its store a process does not start: 2 says so.
    unexpected = sorted({line for line in made.fell if "ended with 2" not in line})
    good = found.good and found.seen["accepted"] == runs and not unexpected
    if good:
        shutil.rmtree(directory, ignore_errors=True)
    else:
        print(*found.details, *unexpected, f"see {directory}", sep="\n", flush=True)
    return good


def main() -> None:
    """Run the seeds one after the other; the exit code is 1 if anything was lost, doubled, stuck or otherwise wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.stories.storm")
    parser.add_argument("--kind", choices=KINDS, default="all")
    parser.add_argument("--driver", choices=("sqlite", "postgres"), default="sqlite")
    parser.add_argument("--seeds", type=int, default=5, help="how many")
    parser.add_argument("--first", type=int, default=1, help="the first seed")
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--duplicates", type=int, default=10, help="percent of the requests that are sent twice at once")
    parser.add_argument("--faults", type=int, help=f"one for {RUNS_PER_FAULT} runs by default")
    given = parser.parse_args()
    faults = given.runs // RUNS_PER_FAULT if given.faults is None else given.faults
    seeds = range(given.first, given.first + given.seeds)
    results = [storm(given.kind, given.driver, seed, given.runs, faults, given.duplicates) for seed in seeds]
    sys.exit(not all(results))


if __name__ == "__main__":
    main()
