"""The data directory's disk is full for a while: what was accepted runs once all the same. `disk` does it at any size."""

from pathlib import Path

import pytest

from tests.stories import disk

pytestmark = [pytest.mark.skipif(not disk.can_mount(), reason="takes root, to mount a tmpfs"), pytest.mark.timeout(300)]


def test_agents_that_end_while_the_disk_is_full_have_their_outcome_and_are_not_repeated(tmp_path: Path) -> None:
    found = disk.end_while_full(tmp_path, agents=6)

    assert found.good, str(found)


def test_an_agent_that_fills_the_disk_stops_others_for_no_longer_than_it_runs(tmp_path: Path) -> None:
    found = disk.flood(tmp_path, seconds=4)

    assert found.good, str(found)
