"""Two thousand damaged trees: each gets findings at places that are there, reports that can be read, and fixes that help."""

import random

import pytest

from tests.fuzz.always import compares, compiles, prints
from tests.fuzz.fixes import holds
from tests.fuzz.fixing import mends
from tests.fuzz.mutations import once
from tests.fuzz.seeds import drawn, trees

ROUNDS, PER_ROUND = 40, 50


@pytest.mark.parametrize("number", range(ROUNDS))
def test_damaged_files_get_findings_and_nothing_else(number: int) -> None:
    for seed in range(number * PER_ROUND, (number + 1) * PER_ROUND):
        rng = random.Random(seed)
        files = drawn(rng)

        compilation, _ = compiles(files, pedantic=seed % 5 == 0)

        if seed % 10 == 0:
            prints(compilation, files)


@pytest.mark.parametrize("number", range(20))
def test_fixes_of_damaged_files_make_nothing_worse_and_leave_nothing_to_fix(number: int) -> None:
    for seed in range(10_000 + number * 10, 10_000 + (number + 1) * 10):
        files = drawn(random.Random(seed))
        before, _ = compiles(files)

        mends(files, before, unsafe=seed % 2 == 0)


@pytest.mark.parametrize("number", range(20))
def test_fixes_of_golden_cases_can_be_read_and_bring_no_error(number: int) -> None:
    for files in trees()[number::20]:
        before, _ = compiles(files)

        mends(files, before, unsafe=False)
        mends(files, before, unsafe=True)


@pytest.mark.parametrize("number", range(10))
def test_fixes_of_other_layouts_can_be_read_and_bring_no_error(number: int) -> None:
    mended = sum(bool(holds(seed)) for seed in range(number * 50, (number + 1) * 50))

    assert mended


@pytest.mark.parametrize("number", range(20))
def test_plans_of_damaged_trees_can_be_read(number: int) -> None:
    told = 0
    for seed in range(20_000 + number * 15, 20_000 + (number + 1) * 15):
        rng = random.Random(seed)
        files = rng.choice(trees())

        told += bool(compares(files, {path: once(rng, data) for path, data in files.items()}).changes)

    assert told


def test_what_is_damaged_is_found_to_be() -> None:
    wrong = 0
    for seed in range(200):
        compilation, _ = compiles(drawn(random.Random(seed)))
        wrong += not compilation.ok

    assert 100 < wrong < 200


def test_there_are_hundreds_of_trees_to_damage() -> None:
    assert len(trees()) > 500
