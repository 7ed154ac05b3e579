"""Fixes of many trees: `python -m tests.fuzz.fixes --trees 100000 [--seed N] [--only SEED]`. Prints what broke, with the seed
that shows it again.

Trees are those of `seeds`, laid out in other ways. `--fix` alone is applied first, then `--unsafe-fixes` to the same tree.
"""

import argparse
import random
import sys
import time
import traceback
from collections import Counter

from tests.fuzz.always import compiles
from tests.fuzz.fixing import mends
from tests.fuzz.layouts import relaid
from tests.fuzz.mutations import damaged
from tests.fuzz.seeds import trees

MAX_SHOWN = 40


def drawn(seed: int) -> dict[str, bytes]:
    """A tree with one of its files in another layout; one in ten is damaged, too."""
    rng = random.Random(seed)
    files = dict(rng.choice(trees()))
    path = rng.choice(sorted(files))
    files[path] = relaid(rng, files[path])
    if rng.random() < 0.1:
        files[path] = damaged(rng, files[path])
    return files


def holds(seed: int) -> int:
    """Raises Broken where the fixes of this tree are wrong; returns how many there were."""
    files = drawn(seed)
    before, _ = compiles(files)
    return mends(files, before, unsafe=False) + mends(files, before, unsafe=True)


def main(count: int, first: int) -> int:
    """0 when everything held."""
    start, fixed, mended = time.monotonic(), 0, 0
    kinds: Counter[str] = Counter()
    for number in range(count):
        try:
            done = holds(first + number)
            fixed, mended = fixed + done, mended + bool(done)
        except Exception:
            last = traceback.format_exc().strip()
            kind = last.rpartition("\n")[2].split(": ", 2)
            name = ": ".join(kind[:2])[:90]
            kinds[name] += 1
            if kinds[name] <= 3 and len(kinds) < MAX_SHOWN:
                print(f"seed {first + number}\n{last[-6000:]}\n", flush=True)
            else:
                print(f"seed {first + number}: {name}", flush=True)
        if (number + 1) % 5_000 == 0:
            rate = (number + 1) / (time.monotonic() - start)
            print(f"{number + 1:,} trees, {mended:,} mended, {fixed:,} fixes, {dict(kinds)}, {rate:.0f} a second", flush=True)
    print(f"{count:,} trees, {mended:,} of them mended by {fixed:,} fixes, {sum(kinds.values())} broken: {dict(kinds)}")
    return 1 if kinds else 0


if __name__ == "__main__":
    options = argparse.ArgumentParser(prog="python -m tests.fuzz.fixes")
    options.add_argument("--trees", type=int, default=1_000)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--only", type=int, help="this one tree, with what broke")
    args = options.parse_args()
    if args.only is not None:
        print(holds(args.only), "fixes, and all held")
        sys.exit(0)
    sys.exit(main(args.trees, args.seed))
