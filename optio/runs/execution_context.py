"""The collaborators and settings that all executions of one worker share. `wiring` makes them."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from optio.broker.base import Broker
from optio.executors.base import Executor
from optio.runs.gateway_access import GatewayRoute
from optio.runtimes.base import Runtime
from optio.secrets.base import Secrets
from optio.store.base import ExecutionStore
from optio.telemetry.base import SILENT, Telemetry


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionContext:
    """The collaborators and settings of an execution. `endpoints` maps a runtime to the model service that the operator set for
    it, and `credentials` are the operator's secrets for agents whose task names none. `gateway` is how
    agents reach their models. `suspects` is held by the one execution
    that reads the output of a suspect (see `runs.blame`)."""

    store: ExecutionStore
    broker: Broker
    executor: Executor
    runtimes: Mapping[str, Runtime]
    secrets: Secrets
    default_timeout: timedelta
    orphan_timeout: timedelta
    endpoints: Mapping[str, str]
    credentials: Sequence[str] = ()
    gateway: GatewayRoute | None = None
    telemetry: Telemetry = SILENT
    suspects: threading.Lock = field(default_factory=threading.Lock)
