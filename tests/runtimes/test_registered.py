"""Which runtimes there are."""

from typing import get_args

from optio.compiler.checks.runtime import RUNNABLE
from optio.model.task import Runtime
from optio.runtimes import RUNTIMES


def test_the_compiler_warns_of_exactly_the_runtimes_that_cannot_be_run() -> None:
    assert set(RUNNABLE) == set(RUNTIMES)
    assert set(RUNNABLE) <= set(get_args(Runtime))
