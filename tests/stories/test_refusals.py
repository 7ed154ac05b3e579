"""The account of pods, and a worker's Role, are away for a moment under queued runs, on a real cluster: no run fails.
`pods_refusals` does it at any length, and with all else that a cluster may take away."""

import pytest

from tests.executors.pods.place import CLUSTER
from tests.stories import pods_refusals

pytestmark = [pytest.mark.skipif(not CLUSTER, reason="takes a real cluster"), pytest.mark.timeout(300)]


@pytest.mark.parametrize(("part", "said"), [("account", "service account"), ("role", "refuses the worker's account")])
def test_runs_that_are_queued_while_a_right_or_account_is_away_all_complete_when_it_is_back(part: str, said: str) -> None:
    found = pods_refusals.refused(part, 5.0, runs=12)

    assert found.is_harmless, found
    assert said in found.why, found.why
