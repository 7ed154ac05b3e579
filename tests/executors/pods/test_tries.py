"""When a launch is tried before the node has told that its pod runs."""

from typing import Any, cast

import pytest

from optio.executors.pods.start import _MAX_TRYING, _TRIES, Starter

PLACED: dict[str, Any] = {"metadata": {"name": "pod"}, "spec": {"nodeName": "node"}}
NOWHERE: dict[str, Any] = {"metadata": {"name": "pod"}, "spec": {}}


@pytest.mark.parametrize(
    ("pod", "beginning", "tries", "expected"),
    [
        (PLACED, 1, 0, True),
        (PLACED, _MAX_TRYING, 0, True),
        (PLACED, _MAX_TRYING + 1, 0, False),
        (PLACED, 1, _TRIES, False),
        (NOWHERE, 1, 0, False),
    ],
)
def test_a_pod_on_a_node_is_tried_unless_many_begin_at_once(
    pod: dict[str, Any], beginning: int, tries: int, expected: bool
) -> None:
    starter = Starter(*cast(Any, [None] * 6), start_s=60.0)
    starter._beginning = {f"pod-{n}" for n in range(beginning)}

    assert starter._tries(pod, tries) is expected
