"""Wiring: the only module that chooses drivers for the database, the broker, the executor and telemetry, according to the
settings. Optional drivers are imported here and nowhere else."""

import logging
import os
import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, cast

from optio import private_files
from optio.broker.base import Broker
from optio.broker.local import LocalBroker
from optio.errors import SettingsError, StoreFull, StoreUnavailable
from optio.executors.base import Executor
from optio.executors.process import ProcessExecutor, choose_sandbox
from optio.executors.sandbox import SandboxOptions
from optio.identity.base import IdentityProvider
from optio.limits.base import RateWindow
from optio.limits.local import LocalRateWindow
from optio.model.probe_result import ProbeResult
from optio.runs.execution_context import ExecutionContext
from optio.runs.gateway_access import GatewayMode, GatewayRoute
from optio.runtimes import RUNTIMES
from optio.secrets.base import Secrets
from optio.secrets.command import SecretCommand
from optio.secrets.local import LocalSecrets
from optio.settings import Settings
from optio.store.base import Store
from optio.store.sqlite import examine as sqlite_examine
from optio.store.sqlite import sqlite_store
from optio.telemetry.base import SILENT, Exposition, Listener, PartFailed, Telemetry, are_traces_enabled
from optio.telemetry.liveness import Liveness
from optio.version import how_to_install

if TYPE_CHECKING:
    from optio.executors.pods.manifest import PodSettings
    from optio.executors.pods.template import Template
    from optio.gateway.app import Gateway
    from optio.gateway.programs import StartProgram

log = logging.getLogger(__name__)

# Variables of this process that name files with credentials. Certificates of authorities are none: agents need those.
_CREDENTIAL_FILE = re.compile(r"(?!.*CERT)\w+_FILE")
_CREDENTIALS = frozenset(
    {"KUBECONFIG", "GOOGLE_APPLICATION_CREDENTIALS", "PGPASSFILE", "PGSERVICEFILE", "CREDENTIALS_DIRECTORY"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """The opened drivers that a process works with, made by `build`. `refusals` are the reasons (`room.PLACE_REFUSALS`) for
    which the worker of this process starts no agents now, while runs wait; or `room.SECRET_SOURCE`, for those of some tasks."""

    settings: Settings
    store: Store
    broker: Broker
    rate: RateWindow
    executor: Executor
    secrets: Secrets
    telemetry: Telemetry = SILENT
    metrics: Exposition | None = None
    gateway: GatewayRoute | None = None
    pulses: Liveness = field(default_factory=Liveness)
    refusals: set[str] = field(default_factory=set)

    def parts(self) -> ExecutionContext:
        """Return the services that executions need, in the form that `optio.runs` takes. Raise SettingsError for a gateway
        that agents cannot reach."""
        if self.gateway is not None and self.settings.executor == "kubernetes" and self.settings.gateway_url is None:
            raise SettingsError(
                f"OPTIO_GATEWAY={self.gateway.mode}, and agents in pods do not reach {self.gateway.url}: set "
                "OPTIO_GATEWAY_URL to its address for them, such as http://optio-gateway.optio.svc:8100"
            )
        return ExecutionContext(
            store=self.store,
            broker=self.broker,
            executor=self.executor,
            runtimes=RUNTIMES,
            secrets=self.secrets,
            default_timeout=self.settings.default_timeout,
            orphan_timeout=self.settings.orphan_timeout,
            endpoints=self.settings.endpoints,
            credentials=self.settings.credentials,
            gateway=self.gateway,
            telemetry=self.telemetry,
        )

    def close(self) -> None:
        """Close all services in the order in which they depend on each other."""
        self.executor.close()
        self.broker.close()
        self.store.close()
        self.telemetry.close()


def data_directory(settings: Settings) -> Path:
    """Return the data directory. It is made if it is missing, for its owner alone, and kept out of commits. Raise
    StoreUnavailable."""
    directory = settings.data_dir
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        ignore = directory / ".gitignore"
        if not ignore.exists():
            ignore.write_text("*\n")
    except OSError as err:
        raise StoreUnavailable(f"the data directory {directory} cannot be used: {err.strerror}") from err
    return directory


def _narrow_secrets(settings: Settings) -> None:
    """Remove other users' rights from secrets in the data directory, and from their directory. One set by `OPTIO_SECRETS_DIR`
    may be shared on purpose."""
    if settings.secrets_dir is not None:
        return
    with suppress(OSError):
        settings.secrets.chmod(0o700)
        wide = [str(path) for path in sorted(settings.secrets.iterdir()) if not private_files.narrow(path)]
        if wide:
            log.warning("other users may read or write %s: let their owner run `chmod 600` on them", ", ".join(wide))


def secrets(settings: Settings) -> LocalSecrets:
    """Return the secrets of this machine; raise SettingsError when the program that reads them cannot be executed."""
    command = None
    if settings.secret_command is not None:
        command = SecretCommand(
            shlex.split(settings.secret_command),
            timeout_s=settings.secret_timeout.total_seconds(),
            cache_s=settings.secret_cache.total_seconds(),
            environ=os.environ,
        )
    return LocalSecrets(settings.secrets, os.environ, command, must_exist=settings.secrets_dir is not None)


def open_store(settings: Settings, *, migrated: bool | None = None) -> Store:
    """Open the store alone, for commands that need nothing else. The schema is migrated as the settings say, unless `migrated`
    overrides it. Raise StoreUnavailable, StoreMismatch, and SettingsError when a driver is not installed."""
    migrated = settings.migrate == "auto" if migrated is None else migrated
    if settings.database is not None:
        data_directory(settings)
        return sqlite_store.open_store(settings.database, migrated=migrated, reserve=settings.reserve_bytes)
    with _extra("postgres", settings.origins["database_url"]):
        from optio.store.postgres import postgres_store
    return postgres_store.open_store(settings.database_url or "", migrated=migrated)


def examine_store(settings: Settings, *, thorough: bool = False) -> Iterator[ProbeResult]:
    """Yield the checks of the database for `optio doctor`. `thorough` may read all of it. Raise SettingsError."""
    if settings.database is not None:
        yield from sqlite_examine.examine(settings.database, thorough=thorough)
        return
    with _extra("postgres", settings.origins["database_url"]):
        from optio.store.postgres import examine as pg_examine
    yield from pg_examine.examine(settings.database_url or "")


def examine_broker(settings: Settings) -> Iterator[ProbeResult]:
    """Yield the checks of Redis for `optio doctor`, none where it is not used. Raise SettingsError."""
    if settings.redis_url is None:
        return
    with _extra("redis", settings.origins["redis_url"]):
        from optio.broker import examine
    try:
        yield from examine.examine(settings.redis_url)
    except ValueError:
        raise SettingsError(f"{settings.origins['redis_url']}: the URL cannot be read") from None


def examine_cluster(settings: Settings) -> Iterator[ProbeResult]:
    """Yield the checks of the Kubernetes cluster for `optio doctor`. Raise SettingsError."""
    with _extra("kubernetes", "--cluster"):
        from optio.executors.pods import examine
    yield from examine.examine(pod_settings(settings))


def backup(settings: Settings, target: Path) -> int:
    """Copy the SQLite database while it is in use, and return the size of the copy in bytes. Raise SettingsError and
    StoreUnavailable."""
    assert settings.database is not None  # noqa: S101 - the caller looks
    return sqlite_examine.backup(settings.database, target)


def recover(settings: Settings) -> sqlite_examine.Recovery | None:
    """Move the damaged log of the SQLite database aside and salvage what it holds; None if it is sound. Raise
    StoreUnavailable."""
    assert settings.database is not None  # noqa: S101 - the caller looks
    return sqlite_examine.recover(settings.database)


def backup_command(settings: Settings, file: str) -> list[str]:
    """Return the program that backs PostgreSQL up (`pg_dump`), with its arguments. Raise SettingsError."""
    with _extra("postgres", settings.origins["database_url"]):
        from optio.store.postgres import examine as pg_examine
    return pg_examine.backup_command(settings.database_url or "", file)


@contextmanager
def _extra(name: str, setting: str) -> Iterator[None]:
    """Turn an ImportError of an optional driver into a SettingsError that names the package to install."""
    try:
        yield
    except ImportError as err:
        raise SettingsError(f"{setting} needs a library that is not installed ({err}): {how_to_install(name)}") from err


def identity(settings: Settings) -> IdentityProvider | None:
    """Return the provider by which people sign in, if one is set. Raise SettingsError when its library is not installed."""
    if settings.oidc_issuer is None:
        return None
    with _extra("oidc", settings.origins["oidc_issuer"]):
        from optio.identity.oidc import OpenIdProvider
    return OpenIdProvider(
        settings.oidc_issuer,
        settings.oidc_client_id or "",
        settings.oidc_client_secret or "",
        claim=settings.oidc_claim,
        scopes=settings.oidc_scopes,
        domains=settings.oidc_domains,
    )


def executor(settings: Settings, *, is_open: bool = False) -> Executor:
    """Return the executor that runs agents: as processes, or as pods. Where no sandbox works, processes are confined by nothing
    with `is_open`, and otherwise SettingsError is raised."""
    if settings.executor == "process":
        attempts = settings.data_dir / "attempts"
        return ProcessExecutor(
            attempts,
            settings.programs,
            sandbox=_sandbox(settings, is_open=is_open),
            disk_quota=settings.attempt_disk,
            disk_files=settings.attempt_files,
            processes=settings.attempt_processes,
        )
    with _extra("kubernetes", "OPTIO_EXECUTOR=kubernetes"):
        from optio.executors.pods.executor import PodExecutor
    return PodExecutor(pod_settings(settings), settings.programs, start_s=settings.pod_start.total_seconds())


def _sandbox(settings: Settings, *, is_open: bool) -> SandboxOptions:
    """Return the sandbox of agents as processes. It hides the data directory, the secrets, the database, and files with
    credentials that variables of this process name, for settings and for the program of `OPTIO_SECRET_COMMAND`."""
    values = [text for name, text in os.environ.items() if name in _CREDENTIALS or _CREDENTIAL_FILE.fullmatch(name)]
    files = [path for text in values for path in text.split(":") if path.startswith("/") or Path(path).is_file()]
    database = settings.database
    hidden = [settings.data_dir, settings.secrets, *map(Path, files)]
    hidden += [] if database is None else [Path(f"{database}{suffix}") for suffix in ("", "-wal", "-shm", "-journal")]
    return replace(
        choose_sandbox(settings.sandbox, is_open=is_open),
        read=[Path(path) for path in settings.sandbox_read],
        write=[Path(path) for path in settings.sandbox_write],
        ports=None if settings.sandbox_ports is None else [int(port) for port in settings.sandbox_ports],
        hidden=[path.absolute() for path in hidden],
        users=settings.sandbox_uids,
    )


def pod_settings(settings: Settings) -> "PodSettings":
    """Return the operator's settings for every pod; raise SettingsError for combinations that cannot work."""
    from optio.executors.pods.manifest import Fence, PodSettings
    from optio.executors.pods.network import proxy_of

    fence = None
    if settings.kube_egress is not None:
        if settings.kube_egress_image is None or settings.egress_key is None:
            raise SettingsError("OPTIO_KUBE_EGRESS needs OPTIO_KUBE_EGRESS_IMAGE and OPTIO_EGRESS_KEY too")
        key = settings.egress_key.strip().encode()
        fence = Fence(proxy=proxy_of(settings.kube_egress, settings.kube_dns), image=settings.kube_egress_image, key=key)
    template = _template(settings)
    for word, other in (("nodeSelector", "pod_node_selector"), ("runtimeClassName", "pod_runtime_class")):
        if word in template.spec and getattr(settings, other):
            raise SettingsError(f"OPTIO_POD_TEMPLATE has `spec.{word}`, and OPTIO_{other.upper()} is set: keep one of them")
    return PodSettings(
        namespace=settings.pod_namespace,
        is_team=settings.team_namespace is not None,
        install=settings.kube_install,
        image=settings.kube_image,
        cpu=settings.pod_cpu,
        memory=settings.pod_memory,
        cpu_request=settings.pod_cpu_request,
        memory_request=settings.pod_memory_request,
        disk=settings.pod_disk,
        node_selector=settings.pod_node_selector,
        runtime_class=settings.pod_runtime_class,
        warm_age_s=settings.pod_warm_age.total_seconds(),
        warm_most=settings.pod_warm_limit,
        orphan_s=settings.orphan_timeout.total_seconds(),
        fence=fence,
        template=template,
    )


def _template(settings: Settings) -> "Template":
    from optio.compiler.source import SourceFile
    from optio.compiler.yaml.document import parse
    from optio.executors.pods.template import Template, faults

    path, origin = settings.pod_template, settings.origins["pod_template"]
    if path is None:
        return Template()
    try:
        data = path.read_bytes()
    except OSError as err:
        raise SettingsError(f"{origin}: the file {path} cannot be read: {err.strerror}") from err
    document, diagnostics = parse(SourceFile(str(path), data))
    problems = [(finding.span, finding.message, finding.hint) for finding in diagnostics if finding.severity == "error"]
    if document is not None and not problems:
        for fault in faults(document.value):
            span = document.key_span(fault.route) if fault.key else document.span(fault.route)
            problems.append((span, fault.message, fault.cure))
    lines = [
        f"{path}:{span.start.line}:{span.start.column}: {message}" + (f" ({cure})" if cure else "")
        for span, message, cure in problems
    ]
    if lines:
        raise SettingsError(f"{origin}: {'; '.join(lines)}")
    if document is None:
        raise SettingsError(f"{origin}: the file {path} holds nothing: write `metadata:` or `spec:`, or unset it")
    return Template.of(document.value)


def _shared(settings: Settings, telemetry: Telemetry) -> tuple[Broker, RateWindow]:
    """Return the broker and the rate windows: over Redis where it is configured, else within this machine."""
    if settings.redis_url is None:
        try:
            return LocalBroker(settings.data_dir / "bus"), LocalRateWindow(settings.webhook_rate_per_minute)
        except OSError as err:
            raise StoreUnavailable(f"the data directory {settings.data_dir} cannot be used: {err}") from err
    with _extra("redis", settings.origins["redis_url"]):
        from optio.broker.redis import RedisBroker
        from optio.limits.redis import RedisRateWindow
    try:
        broker = RedisBroker(settings.redis_url, failed=lambda: telemetry.tell(PartFailed("broker")))
        rate = RedisRateWindow(
            settings.redis_url, settings.webhook_rate_per_minute, failed=lambda: telemetry.tell(PartFailed("rate"))
        )
        return broker, rate
    except ValueError as err:
        raise SettingsError(f"{settings.origins['redis_url']}: the URL cannot be used: {err}") from err


def _telemetry(part: str) -> tuple[Telemetry, Exposition | None]:
    """Return telemetry with metrics where their library is installed, and traces where OpenTelemetry's own variables ask for
    them."""
    metrics: Exposition | None = None
    listeners: list[Listener] = []
    with suppress(ImportError):
        from optio.telemetry.metrics import Metrics

        counting = metrics = Metrics()
        listeners.append(counting)
    try:
        if not are_traces_enabled(os.environ):
            return Telemetry(*listeners), metrics
        from optio.telemetry.tracing import Tracing
    except ImportError as err:
        words = "no traces are sent, though OTEL_EXPORTER_OTLP_ENDPOINT asks for it: %s: %s"
        log.error(words, err, how_to_install("tracing"))
    except ValueError as err:
        log.error("no traces are sent: %s", err)
    else:
        tracing = Tracing(part)
        if metrics is not None:
            metrics.add(tracing.readings)
        return Telemetry(*listeners, tracing, traceparent=tracing.traceparent, close=tracing.close), metrics
    return Telemetry(*listeners), metrics


def build(settings: Settings, part: str = "dev") -> Services:
    """Open all services; raise StoreUnavailable or StoreMismatch. `part` names this process in traces."""
    data_directory(settings)
    _narrow_secrets(settings)
    opened_secrets = secrets(settings)
    places = executor(settings, is_open=part == "dev")
    store = open_store(settings)
    telemetry, metrics = _telemetry(part)
    store.watch(lambda: telemetry.tell(PartFailed("store")))
    try:
        try:
            store.check()
        except StoreFull as err:
            log.warning("%s", err)  # it still serves reads, and lets runs end
        broker, rate = _shared(settings, telemetry)
    except BaseException:
        store.close()
        telemetry.close()
        raise
    return Services(
        settings=settings,
        store=store,
        broker=broker,
        rate=rate,
        executor=places,
        secrets=opened_secrets,
        telemetry=telemetry,
        metrics=metrics,
        gateway=gateway_route(settings),
    )


def has_gateway() -> bool:
    """Return whether the library of the gateway is installed."""
    return find_spec("httpx2") is not None


def gateway_app(services: Services) -> "Gateway":
    """Return the gateway as an ASGI application. Raise SettingsError when its library is not installed."""
    with _extra("gateway", "OPTIO_GATEWAY"):
        from optio.gateway.app import Gateway
    start = start_program(services.settings, services.executor)
    # It logs what servers of tools send, with tracebacks; the gateway says what is wrong with one by itself.
    logging.getLogger("mcp").setLevel(logging.CRITICAL)
    gateway = Gateway(
        services.store,
        services.secrets,
        telemetry=services.telemetry,
        is_recording=services.settings.gateway_record == "runs",
        start_program=start,
        max_programs=services.settings.gateway_programs,
    )
    if services.metrics is not None:
        services.metrics.add(gateway.readings)
    return gateway


def start_program(settings: Settings, place: Executor | None = None) -> "StartProgram":
    """Return the function that starts a program beside this process, confined as agents are; where those are pods, as agents
    would be here. It raises LaunchFailed and SettingsError."""

    @lru_cache
    def here() -> ProcessExecutor:
        found = place if isinstance(place, ProcessExecutor) else executor(replace(settings, executor="process"))
        assert isinstance(found, ProcessExecutor)  # noqa: S101
        return found

    return lambda command, variables: here().attach(command, variables)


def gateway_route(settings: Settings) -> GatewayRoute | None:
    """Return how agents reach the gateway: as the settings say, or on this machine. None where it is off."""
    if settings.gateway == "off":
        return None
    host = settings.gateway_host
    host = "127.0.0.1" if host in ("0.0.0.0", "::") else f"[{host}]" if ":" in host else host  # noqa: S104 - compared
    here = f"http://{host}:{settings.gateway_port}"
    return GatewayRoute(settings.gateway_url or here, cast(GatewayMode, settings.gateway))
