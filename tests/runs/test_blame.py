"""Crash blame: workers die at any step, by a run's output or from outside, and only the former is held against a run."""

import random
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optio.runs.blame import MAX_READ_CRASHES, ReadTrial, Turn, without_counts

SILENT, SPEAKING, POISON = "silent", "speaking", "poison"


@dataclass
class Model:
    """Runs whose worker is started again whenever it dies. An execution's steps are `note`, `read`, `restore`, as in
    `Following.read`; those of different runs happen in any order. `hits` counts, from outside, the deaths in a row in which a
    run had a count in the store that its own reading had put there."""

    kinds: Mapping[str, str]
    parts: int
    dice: random.Random
    stored: dict[str, dict[str, int]] = field(default_factory=dict)
    blamed: set[str] = field(default_factory=set)
    hits: Counter[str] = field(default_factory=Counter)
    fresh: set[str] = field(default_factory=set)
    deaths: int = 0

    def __post_init__(self) -> None:
        self.fresh = set(self.kinds)

    def live(self, outside: float) -> bool:
        """One worker's life; whether it died. `outside` is the chance of a kill from outside at each step."""
        trials = {}
        for name in set(self.kinds) - self.blamed:
            trial = ReadTrial(self.stored.get(name, {}), adopted=name not in self.fresh)
            if trial.is_to_blame:
                self.blamed.add(name)
            else:
                trials[name] = trial
        self.fresh -= set(trials)
        left = {name: 0 if self.kinds[name] == SILENT else self.parts for name in trials}
        reading: set[str] = set()
        holder = None
        running = set(trials)
        while running:
            name = self.dice.choice(sorted(running))
            trial = trials[name]
            if self.dice.random() < outside:
                return self._die(reading, trials)
            if name in reading:
                if self.kinds[name] == POISON and left[name] == 1:
                    return self._die(reading, trials)
                left[name] -= 1
                reading.discard(name)
                holder = None if holder == name else holder
                trial.end_part() if left[name] else trial.acquit()
                if not left[name]:
                    self.hits[name] = 0
            elif left[name]:
                if trial.is_suspect and holder not in (None, name):
                    continue
                if trial.is_suspect:
                    holder = name
                if trial.is_open:
                    trial.start_part()
                reading.add(name)
            else:
                trial.acquit()
                running.discard(name)
            if trial.is_changed:
                self.stored[name] = {"stdout": 7, **trial.entry()}
        return False

    def _die(self, reading: set[str], trials: Mapping[str, ReadTrial]) -> bool:
        self.deaths += 1
        for name in reading:
            self.hits[name] += trials[name].is_open
        return True


KINDS = st.lists(st.sampled_from([SILENT, SPEAKING, POISON]), min_size=1, max_size=7)


def model(kinds: list[str], parts: int, seed: int) -> Model:
    return Model({f"{kind}-{n}": kind for n, kind in enumerate(kinds)}, parts, random.Random(seed))


@settings(max_examples=300, deadline=None)
@given(KINDS, st.integers(1, 4), st.integers(0, 2**32))
def test_runs_that_kill_their_readers_are_found_one_after_the_other_and_no_other_run_is_blamed(
    kinds: list[str], parts: int, seed: int
) -> None:
    made = model(kinds, parts, seed)
    poison = {name for name, kind in made.kinds.items() if kind == POISON}

    while made.live(outside=0.0):
        assert made.deaths <= 1 + len(poison) * (MAX_READ_CRASHES + 1)

    assert made.blamed == poison


@settings(max_examples=300, deadline=None)
@given(KINDS, st.integers(1, 4), st.integers(0, 2**32), st.floats(0.01, 0.9))
def test_kills_from_outside_blame_no_run_that_was_not_being_read_each_time(
    kinds: list[str], parts: int, seed: int, outside: float
) -> None:
    made = model(kinds, parts, seed)

    for _ in range(60):
        before = set(made.blamed)
        made.live(outside)
        for name in made.blamed - before:
            assert made.kinds[name] != SILENT
            # The first may have hit a pause between two parts: only suspects restore the count after each.
            assert made.hits[name] >= MAX_READ_CRASHES - 1


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 4), st.integers(0, 2**32))
def test_a_silent_run_is_never_blamed(parts: int, seed: int) -> None:
    made = model([SILENT], parts, seed)

    for _ in range(50):
        made.live(outside=0.5)

    assert (made.blamed, made.stored) == (set(), {})


def test_counts_of_older_versions_are_not_read_and_do_not_get_among_the_offsets() -> None:
    offsets = {"stdout": 7, "deaths": 9, "readCrashes": 2}

    assert not ReadTrial({"deaths": 9}, adopted=True).is_to_blame
    assert without_counts(offsets) == {"stdout": 7}


def test_a_worker_that_lets_go_in_good_order_takes_back_its_own_count_and_no_more() -> None:
    trial = ReadTrial({"readCrashes": 2}, adopted=True)
    trial.start_part()
    counted = trial.entry()

    trial.withdraw()

    assert (counted, trial.entry()) == ({"readCrashes": 3}, {"readCrashes": 2})


def test_suspects_read_one_at_a_time_and_a_leaving_worker_does_not_wait() -> None:
    lock = threading.Lock()
    first, second = Turn(lock), Turn(lock)
    first.take(lambda: False)
    asked = iter((False, True))

    second.take(lambda: next(asked))
    second.end()  # has nothing to give back
    taken = lock.locked()
    first.end()
    second.take(lambda: False)

    assert (taken, lock.locked()) == (True, True)


def test_a_reader_that_hangs_does_not_keep_others_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("optio.runs.blame.MAX_TURN_WAIT_S", 0.0)
    lock = threading.Lock()
    with lock:
        Turn(lock).take(lambda: False)
        assert lock.locked()
