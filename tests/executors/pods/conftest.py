"""Where the tests of pods run. What needs a cluster, a real one or any, is no test where there is none."""

import re
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from optio.executors.pods.executor import PodExecutor
from optio.executors.pods.manifest import PodSettings
from tests.executors.pods.place import CLUSTER, IMAGE, NAMESPACE

Make = Callable[..., PodExecutor]
_ANY = ("test_attempts.py", "test_faults.py", "test_warm.py", "test_watching.py")
# Those that mostly wait, or are like others: on a real cluster only.
_LONG = re.compile(
    r"test_an_agent_whose_log_is_silent_from_its_start|test_a_launch_(that_breaks_off|whose_answer_is_lost|that_the_cluster_refuses)"
    r"|test_an_attempt_on_a_node_that_is_lost|test_whatever_becomes_of_the_watch.*\[(bookmarks only|silence)\]"
    r"|test_agents_go_on_while_nobody_answers|test_a_cluster_that_refuses_everything|test_a_watch_that_ends_at_once"
    r"|test_one_very_long_line|test_a_run_costs|test_a_log_that_breaks_off.*\[(cut-0|cut-30|end-0|end-3000|status-\d+)\]"
    r"|test_what_an_agent_said_is_read_to_its_end(?!.*'cut': 3000)|test_output_that_the_kubelet_has_thrown_away"
)
collect_ignore = [*([] if CLUSTER else ("test_addresses.py", "test_cluster.py", "test_egress.py")), *([] if IMAGE else _ANY)]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The stand-in is for every change: what takes long there is left out."""
    long = [] if CLUSTER else [each for each in items if each.path.name in _ANY and _LONG.match(each.name)]
    items[:] = [each for each in items if each not in long]
    config.hook.pytest_deselected(items=long)


@pytest.fixture(autouse=True)
def _cluster(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stand-in, for who wants a cluster where none is."""
    if not CLUSTER and request.path.name in _ANY:
        monkeypatch.setenv("KUBECONFIG", str(request.getfixturevalue("standin").kubeconfig))


@pytest.fixture
def install() -> str:
    return f"t{uuid.uuid4().hex[:12]}"


@pytest.fixture
def make(install: str) -> Iterator[Make]:
    """Executors of one installation."""
    made: list[PodExecutor] = []

    def executor(*, start_s: float = 60.0, **changes: Any) -> PodExecutor:
        sizes = {"cpu": "50m", "memory": "64Mi", "disk": "256Mi", "image": IMAGE, **changes}
        made.append(PodExecutor(PodSettings(namespace=NAMESPACE, install=install, **sizes), {}, start_s=start_s))
        return made[-1]

    yield executor
    for each in made:
        for run_id, attempt in each.attempts():
            each.remove(run_id, attempt)
        each.close()
