"""A long run by hand: `python -m tests.fuzz.long SECONDS SEED`. Prints what broke, with the seed that shows it again."""

import random
import sys
import time
import traceback
from collections import Counter

from tests.fuzz.always import compares, compiles, prints
from tests.fuzz.fixing import mends
from tests.fuzz.mutations import damaged, once
from tests.fuzz.seeds import drawn, trees

MOST_WORK = 1.0


def main(seconds: float, seed: int) -> int:
    """0 when everything held."""
    end, count, fixes, broken = time.monotonic() + seconds, 0, 0, 0
    slowest: list[tuple[float, int]] = []
    codes: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    while time.monotonic() < end and broken < 500:
        number = seed * 10_000_000 + count
        rng = random.Random(number)
        files = drawn(rng)
        count += 1
        try:
            compilation, work = compiles(files, pedantic=rng.random() < 0.2)
            codes.update({d.code for d in compilation.diagnostics})
            slowest = sorted([*slowest, (work, number)])[-3:]
            if rng.random() < 0.2:
                prints(compilation, files)
            if rng.random() < 0.1:
                compares(files, {path: damaged(rng, data) for path, data in files.items()})
            if rng.random() < 0.1:
                whole = dict(rng.choice(trees()))
                compares(whole, {path: once(rng, data) for path, data in whole.items()})
            if rng.random() < 0.2:
                before, _ = compiles(files)
                fixes += mends(files, before, unsafe=rng.random() < 0.5)
        except Exception:
            broken += 1
            last = traceback.format_exc().strip()
            kind = last.rpartition("\n")[2][:90]
            if kind not in kinds:
                print(f"seed {number}\n{last[-1500:]}\n", flush=True)
            kinds[kind] += 1
    print(f"{count} trees, {fixes} fixes, {broken} broken, {len(codes)} rules met, slowest {slowest}")
    return 1 if broken or slowest[-1][0] > MOST_WORK else 0


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), int(sys.argv[2])))
