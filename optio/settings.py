"""Settings: every `OPTIO_*` variable, read once when a command starts. Flags override variables, and variables override
defaults. Used by all commands of the CLI and by `optio.wiring`."""

import os
import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import Any, cast, get_args
from urllib.parse import parse_qsl, urlsplit

from optio.errors import SettingsError
from optio.model.defaults import MAX_WORKFLOW_CONCURRENT
from optio.model.namespace import ALL_TASKS, WorkerScope
from optio.model.pool import parse_quantity
from optio.model.removal_limit import DEFAULT_REMOVAL_LIMIT, RemovalLimit
from optio.model.runtimes import DECLARED
from optio.model.text import parse_duration
from optio.store.values import Role

LOOPBACK = ("127.0.0.1", "localhost", "::1")
_ROLES: tuple[Role, ...] = get_args(Role)
# A group's name may have commas and equals signs, as in LDAP: an entry ends with its role.
_ROLE_WITHIN = re.compile(rf"=\s*({'|'.join(_ROLES)})\b")
_GROUP_ROLE = re.compile(rf"\s*(\S.*?)\s*=\s*({'|'.join(_ROLES)})\s*(?:,\s*|\Z)")


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting: its default as text, the function that parses it, and a help text for the manual and `--help`."""

    default: str | None
    read: Callable[[str], Any]
    help: str


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) < 2**31:
        raise ValueError("a whole number from 1 up")
    return int(text)


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > 65535:
        raise ValueError("a port from 0 to 65535")
    return int(text)


def _span(text: str) -> timedelta:
    return parse_duration(text)


def _short_span(text: str) -> timedelta:
    span = parse_duration(text)
    if not timedelta(0) < span <= timedelta(minutes=1):
        raise ValueError("a span of a minute at most, such as 10s")
    return span


def _command(text: str) -> str:
    try:
        words = shlex.split(text)
    except ValueError as err:
        raise ValueError("a program and its arguments, with quotes that are closed") from err
    if not words or "\0" in text:
        raise ValueError("a program and its arguments")
    return text


def _keep(text: str) -> timedelta:
    days = re.fullmatch(r"(\d{1,5})d", text, re.ASCII)
    try:
        span = parse_duration(text) if days is None else timedelta(days=int(days[1]))
    except ValueError:
        span = timedelta(0)
    if not span:
        raise ValueError("a span such as 90d, 36h or 30m")
    return span


def _choice(*allowed: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in allowed:
            raise ValueError("one of " + ", ".join(allowed))
        return text

    return read


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _secret_names(text: str) -> tuple[str, ...]:
    names = _names(text)
    if not all(re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,127}", name) for name in names):
        raise ValueError("names of secrets, such as `ANTHROPIC_API_KEY`, separated by commas, and not their values")
    return names


def _label(text: str) -> str:
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", text):
        raise ValueError("up to 63 lower-case letters, digits and `-` that begin and end with a letter or digit")
    return text


def _paths(text: str) -> tuple[str, ...]:
    paths = _names(text)
    if not all(path.startswith("/") for path in paths):
        raise ValueError("absolute paths, separated by commas")
    return paths


def _users(text: str) -> tuple[int, int]:
    numbers = re.fullmatch(r"(\d{1,10})-(\d{1,10})", text, re.ASCII)
    if numbers is None or not 1000 <= int(numbers[1]) < int(numbers[2]) < (1 << 32) - 2:
        raise ValueError("`FIRST-LAST`, two numbers of users from 1000 on that nobody else has, such as 60578-61183")
    return int(numbers[1]), int(numbers[2])


def _ports(text: str) -> tuple[str, ...]:
    ports = _names(text)
    for port in ports:
        _port(port)
    return ports


def _bytes(text: str) -> int:
    amount = parse_quantity(text)
    if amount is None or not 1 << 20 <= amount < 1 << 60:
        raise ValueError("an amount of at least 1Mi, such as `512Mi` or `4Gi`")
    return int(amount)


def _quantity(text: str) -> str:
    if not parse_quantity(text):
        raise ValueError("an amount above 0, such as `500m` or `2Gi`")
    return text


def _pairs(text: str) -> Mapping[str, str]:
    pairs = [pair.partition("=") for pair in _names(text)]
    if not all(name and equals for name, equals, _ in pairs):
        raise ValueError("`label=value`, several of them separated by commas")
    return {name: value for name, _, value in pairs}


_REDIS_TLS = {
    "ssl_ca_certs": ".+",
    "ssl_certfile": ".+",
    "ssl_keyfile": ".+",
    "ssl_cert_reqs": "required|optional|none",
    "ssl_check_hostname": "true|false",
}


def _database(text: str) -> str:
    if not re.match(r"sqlite:///.|postgres(ql)?://", text):
        raise ValueError("`sqlite:///PATH` or `postgresql://USER:PASSWORD@HOST/DATABASE`")
    return text


def _redis(text: str) -> str:
    """Return the URL in full, with port and database number; raise ValueError, which says what is expected."""
    wanted = "`redis://:PASSWORD@HOST:PORT/0`, or `rediss://` for TLS"
    try:
        url = urlsplit(text)
        port = 6379 if url.port is None else url.port
    except ValueError as err:
        raise ValueError(f"{wanted} (in a password write `%2F` for `/`, and so on)") from err
    number, options = url.path.strip("/") or "0", parse_qsl(url.query, keep_blank_values=True)
    if url.scheme not in ("redis", "rediss") or not url.hostname or not port:
        raise ValueError(f"{wanted}; Unix sockets are not supported")
    if url.fragment or not number.isascii() or not number.isdigit():
        raise ValueError(f"{wanted} (what follows the port is the number of a database; in a password write `%23` for `#`)")
    if url.username and not url.password:
        raise ValueError(f"{wanted}: a password stands after a colon")
    if options and url.scheme != "rediss":
        raise ValueError(f"{wanted}: only `rediss://` has options")
    for name, value in options:
        if not re.fullmatch(_REDIS_TLS.get(name, "(?!)"), value):
            known = ", ".join(key if allowed == ".+" else f"{key}={allowed}" for key, allowed in _REDIS_TLS.items())
            raise ValueError(f"{wanted}, and its only options are {known}")
    login, at, _ = url.netloc.rpartition("@")
    host = f"[{url.hostname}]" if ":" in url.hostname else url.hostname
    return f"{url.scheme}://{login}{at}{host}:{port}/{number}{'?' if options else ''}{url.query}"


def _http(text: str) -> str:
    if not re.match(r"https?://[^/]", text):
        raise ValueError("a URL that begins with http:// or https://")
    if not re.fullmatch(r"[!-~]+", text):
        raise ValueError("a URL, in which blanks, and what is not ASCII, are written as `%20`")
    try:
        _ = urlsplit(text).port
    except ValueError as err:
        raise ValueError("a URL of a host, and of a port up to 65535") from err
    return text


def _issuer(text: str) -> str:
    wanted = "a URL that begins with https://, such as `https://login.example.com/realms/acme` (http:// only on this machine)"
    try:
        url = urlsplit(_http(text))
    except ValueError as err:
        raise ValueError(wanted) from err
    if url.scheme != "https" and url.hostname not in LOOPBACK:
        raise ValueError(wanted)
    if not url.hostname or url.username is not None or url.query or url.fragment:
        raise ValueError(f"{wanted}, without a name, a query or a fragment")
    return text


def _group_roles(text: str) -> Mapping[str, Role]:
    roles: dict[str, Role] = {}
    place = 0
    while place < len(text):
        entry = _GROUP_ROLE.match(text, place)
        if entry is None or entry[1] in roles or _ROLE_WITHIN.search(entry[1]):
            raise ValueError(f"`GROUP=ROLE`, separated by commas, each group once; roles are {', '.join(_ROLES)}")
        roles[entry[1]] = cast(Role, entry[2])
        place = entry.end()
    return roles


def _scopes(text: str) -> tuple[str, ...]:
    scopes = _names(text)
    if "openid" not in scopes or not all(re.fullmatch(r"[!#-\[\]-~]+", scope) for scope in scopes):
        raise ValueError("scopes separated by commas, `openid` among them")
    return scopes


def _domains(text: str) -> tuple[str, ...]:
    domains = tuple(domain.lower() for domain in _names(text))
    if not all(re.fullmatch(r"[a-z0-9-]+(\.[a-z0-9-]+)+", domain) for domain in domains):
        raise ValueError("domains of e-mail addresses, such as `example.com`, separated by commas")
    return domains


def _session(text: str) -> timedelta:
    span = _keep(text)
    if not timedelta(minutes=1) <= span <= timedelta(days=30):
        raise ValueError("a span from 1m to 30d, such as 12h")
    return span


def _token(text: str) -> str:
    if not re.fullmatch(r"[!-~]+", text):
        raise ValueError("a token, which has no blanks and is ASCII")
    return text


SETTINGS: Mapping[str, Setting] = {
    "tasks": Setting("tasks.d", Path, "directory of the task files"),
    "removal_limit": Setting(
        DEFAULT_REMOVAL_LIMIT,
        RemovalLimit.parse,
        "tasks whose files may go at once: a share or a number; a larger removal is held until it is released",
    ),
    "data_dir": Setting(".optio", Path, "directory of the database, secrets and attempts; on a local disk"),
    "database_url": Setting(
        None, _database, "`postgresql://...`, or `sqlite:///PATH`; by default SQLite in `optio.db` in the data directory"
    ),
    "migrate": Setting(
        "auto", _choice("auto", "manual"), "migrate the schema at each start (`auto`), or only by `optio db migrate` (`manual`)"
    ),
    "reserve_bytes": Setting(
        str(16 << 20),
        _count,
        "disk space held for SQLite, a sixteenth of the disk at most: with less free beside it, new runs are refused",
    ),
    "redis_url": Setting(
        None, _redis, "`redis://:PASSWORD@HOST:PORT/0`, or `rediss://`: hints, live logs and rate windows of many machines"
    ),
    "host": Setting("127.0.0.1", str, "address to listen on"),
    "port": Setting("8000", _port, "port to listen on"),
    "allowed_hosts": Setting("", _names, "further names allowed in the Host header, separated by commas"),
    "oidc_issuer": Setting(None, _issuer, "OpenID provider by which people sign in to the dashboard, such as a Keycloak realm"),
    "oidc_client_id": Setting(None, str, "the name of this server at the provider"),
    "oidc_client_secret": Setting(None, str, "its secret there"),
    "oidc_roles": Setting(
        None, _group_roles, "`GROUP=ROLE`, separated by commas: who may enter; of several groups the highest role counts"
    ),
    "oidc_claim": Setting("groups", str, "claim with a person's groups, or its path, such as `realm_access.roles`"),
    "oidc_scopes": Setting("openid,profile,email", _scopes, "scopes that are asked for, separated by commas"),
    "oidc_domains": Setting("", _domains, "domains of verified e-mail addresses that may enter; by default all"),
    "oidc_session": Setting("12h", _session, "how long a person stays signed in, 30d at most"),
    "executor": Setting(
        "process", _choice("process", "kubernetes"), "where agents run: processes here, or pods of a cluster (`kubernetes`)"
    ),
    "sandbox": Setting(
        None,
        _choice("namespaces", "bwrap", "landlock", "none"),
        "sandbox of agents as processes: `namespaces`, `bwrap`, `landlock` or `none`; by default the first that works here",
    ),
    "sandbox_uids": Setting(
        "60578-61183",
        _users,
        "users of attempts as processes if the worker is root, `FIRST-LAST`; the first is the group of all",
    ),
    "sandbox_read": Setting("", _paths, "further paths that agents may read and execute, separated by commas"),
    "sandbox_write": Setting("", _paths, "further paths that agents may read and write, separated by commas"),
    "sandbox_ports": Setting(None, _ports, "TCP ports that agents of tasks without `network` may connect to; by default all"),
    "attempt_disk": Setting("4Gi", _bytes, "disk space that an attempt as a process may use in total, and in one file"),
    "attempt_files": Setting("500000", _count, "files and directories that an attempt as a process may have at once"),
    "attempt_processes": Setting(
        None, _count, "processes, with their threads, that an attempt as a process may have at once; by default 4096"
    ),
    "kube_namespace": Setting(
        "optio",
        _label,
        "namespace of the pods of tasks without one, in the cluster of KUBECONFIG or the one that Optio runs in",
    ),
    "team_namespace": Setting(
        None,
        _label,
        "namespace of a team: this worker's pods run there, and it takes only runs of tasks that the policy puts there",
    ),
    "kube_install": Setting(
        "optio", _label, "name of this installation, which tells its pods from another's in the same namespace"
    ),
    "kube_image": Setting(None, str, "image of agents whose task names none"),
    "kube_egress": Setting(
        None, str, "the egress proxy, as `SERVICE.NAMESPACE.svc:PORT`: with it the network of every pod is closed"
    ),
    "kube_egress_image": Setting(None, str, "image of the gate that waits in each pod until its network policy is in place"),
    "egress_key": Setting(None, str, "key that workers and the egress proxy share"),
    "kube_dns": Setting(
        "kube-system/k8s-app=kube-dns,169.254.20.10",
        str,
        "name servers for pods without an egress list: `NAMESPACE/LABEL=VALUE:PORT` or addresses; port 53 by default",
    ),
    "pod_cpu": Setting("1", _quantity, "CPU limit of a pod whose task sets none"),
    "pod_memory": Setting("2Gi", _quantity, "memory limit of a pod whose task sets none"),
    "pod_cpu_request": Setting("100m", _quantity, "CPU request of a pod whose task sets none"),
    "pod_memory_request": Setting("256Mi", _quantity, "memory request of a pod whose task sets none"),
    "pod_disk": Setting("4Gi", str, "disk space that a pod may use in total, and in each of its directories"),
    "pod_start": Setting("5m", _span, "how long a pod may take to start, its image included"),
    "pod_node_selector": Setting("", _pairs, "`label=value`, separated by commas, of the nodes that pods may run on"),
    "pod_runtime_class": Setting(None, _label, "the runtime class of the pods, such as gVisor's"),
    "pod_template": Setting(
        None,
        Path,
        "file with additions to every pod: pull secrets, tolerations, affinity, priority, labels, volumes",
    ),
    "pod_warm_age": Setting("1h", _span, "age at which a waiting warm pod is replaced"),
    "pod_warm_limit": Setting("20", _count, "most warm pods of all tasks together"),
    "max_workflow_concurrent": Setting(
        str(MAX_WORKFLOW_CONCURRENT), _count, "runs at the same time, over all tasks; each namespace has this many of its own"
    ),
    "max_queued": Setting("100000", _count, "runs that may be queued; further triggers are answered with 429"),
    "worker_concurrent": Setting(None, _count, "runs at the same time on one worker; by default as many as over all tasks"),
    "orphan_timeout": Setting(
        "15m",
        _span,
        "time without the database after which a machine's agents have ended themselves, and other workers repeat their runs",
    ),
    "webhook_rate_per_minute": Setting(
        "60",
        _count,
        "requests in any minute for each webhook path, of senders whose signature is valid",
    ),
    "max_body_bytes": Setting(str(1 << 20), _count, "largest request body"),
    "writes": Setting(
        "deny",
        _choice("files", "deny"),
        "whether the API may change task files: `files` or `deny`; `optio dev` uses `files`",
    ),
    "credentials": Setting(
        "",
        _secret_names,
        "names of secrets by which agents sign in whose task names none, such as `ANTHROPIC_API_KEY`",
    ),
    "secrets_dir": Setting(None, Path, "a file for each secret; by default `secrets` in the data directory"),
    "secret_command": Setting(
        None,
        _command,
        "program, with arguments, that prints a secret which is neither a variable nor a file; its last argument is the name",
    ),
    "secret_timeout": Setting("10s", _short_span, "how long that program may take, a minute at most"),
    "secret_cache": Setting("60s", _span, "how long its values are used before it is asked again"),
    "docs": Setting(None, Path, "directory of the built documentation, served at `/docs`; by default the one in the package"),
    "lease": Setting("10s", _span, "time without a renewal after which another worker takes a worker's runs over"),
    "default_timeout": Setting("1h", _span, "time limit of a run whose task names none"),
    "anthropic_base_url": Setting(None, _http, "endpoint for Claude Code, such as a gateway"),
    "program_claude_code": Setting(None, str, "path of the Claude Code program, if it is not on PATH as `claude`"),
    "endpoint_codex": Setting(None, _http, "endpoint for Codex, such as a gateway; it speaks OpenAI's Responses"),
    "program_codex": Setting(None, str, "path of the Codex program, if it is not on PATH as `codex`"),
    "endpoint_copilot": Setting(None, _http, "endpoint for Copilot instead of GitHub; it speaks OpenAI's chat completions"),
    "program_copilot": Setting(None, str, "path of the Copilot program, if it is not on PATH as `copilot`"),
    "endpoint_gemini": Setting(None, _http, "endpoint for Gemini, such as a gateway; it speaks Google's `generateContent`"),
    "program_gemini": Setting(None, str, "path of the Gemini program, if it is not on PATH as `gemini`"),
    "endpoint_opencode": Setting(None, _http, "endpoint for the provider of an OpenCode task's model, such as a gateway"),
    "program_opencode": Setting(None, str, "path of the OpenCode program, if it is not on PATH as `opencode`"),
    "prices": Setting(None, Path, "file of model prices that count before those that Optio brings"),
    "log_format": Setting("text", _choice("text", "json"), "format of the service's own log on standard error"),
    "metrics_port": Setting(
        "0", _port, "port of each process for `/metrics`, `/healthz` and `/readyz`, without a token; 0 disables it"
    ),
    "metrics_host": Setting("127.0.0.1", str, "address of that port; anyone who can reach it can read the metrics"),
    "keep_runs": Setting(None, _keep, "how long runs are kept after their end, such as `90d`; by default for ever"),
    "keep_logs": Setting(None, _keep, "how long their log lines are kept; by default as long as the runs"),
    "keep_deliveries": Setting(None, _keep, "how long webhook requests are kept, 7 days at least; by default as long as runs"),
    "url": Setting(None, _http, "server that the command line talks to; by default the one on OPTIO_HOST and OPTIO_PORT"),
    "token": Setting(None, _token, "API token that the command line sends"),
}
_SECRET = ("token", "egress_key", "oidc_client_secret")
# Settings with a credential may be read from a file that `<VARIABLE>_FILE` names.
_FROM_FILE = ("database_url", "redis_url", "token", "egress_key", "oidc_client_secret")
_OIDC_REQUIRED = ("oidc_issuer", "oidc_client_id", "oidc_client_secret", "oidc_roles")
# Up to the last `@`, so that a password with an unencoded `/` or `@` is masked too.
_CREDENTIALS = re.compile(r"//.*@")
# Variables that are not settings: those of the command line, and those of runs.
_OTHER_VARIABLES = {
    *("OPTIO_DEBUG", "OPTIO_CONTEXT"),
    *("OPTIO_RUN_ID", "OPTIO_TASK_ID", "OPTIO_ATTEMPT", "OPTIO_DEADLINE", "OPTIO_RESULT_FILE"),
}
# What one would expect beside the settings of other agents.
_EXPECTED = {"OPTIO_ENDPOINT_CLAUDE_CODE": "OPTIO_ANTHROPIC_BASE_URL"}


def unknown_variables(environ: Mapping[str, str]) -> Iterator[tuple[str, str | None]]:
    """Yield variables that begin with `OPTIO_` but are not settings, each with the setting that was probably meant."""
    known = {f"OPTIO_{name.upper()}" for name in SETTINGS} | {f"OPTIO_{name.upper()}_FILE" for name in _FROM_FILE}
    for name in sorted(environ):
        if name.startswith("OPTIO_") and not name.startswith("OPTIO_SECRET_") and name not in known | _OTHER_VARIABLES:
            near = next(iter(get_close_matches(name, known, n=1, cutoff=0.85)), None)
            yield name, _EXPECTED.get(name, near)


_PROCESS_ONLY = (
    *("sandbox", "sandbox_uids", "sandbox_read", "sandbox_write", "sandbox_ports"),
    *("attempt_disk", "attempt_files", "attempt_processes"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The parsed values of `SETTINGS`, under the same names; `origins` says where each comes from: a variable, a flag or the
    default."""

    tasks: Path
    removal_limit: RemovalLimit
    data_dir: Path
    database_url: str | None
    migrate: str
    reserve_bytes: int
    redis_url: str | None
    host: str
    port: int
    allowed_hosts: tuple[str, ...]
    oidc_issuer: str | None
    oidc_client_id: str | None
    oidc_client_secret: str | None
    oidc_roles: Mapping[str, Role] | None
    oidc_claim: str
    oidc_scopes: tuple[str, ...]
    oidc_domains: tuple[str, ...]
    oidc_session: timedelta
    executor: str
    sandbox: str | None
    sandbox_uids: tuple[int, int]
    sandbox_read: tuple[str, ...]
    sandbox_write: tuple[str, ...]
    sandbox_ports: tuple[str, ...] | None
    attempt_disk: int
    attempt_files: int
    attempt_processes: int | None
    kube_namespace: str
    team_namespace: str | None
    kube_install: str
    kube_image: str | None
    kube_egress: str | None
    kube_egress_image: str | None
    egress_key: str | None
    kube_dns: str
    pod_cpu: str
    pod_memory: str
    pod_cpu_request: str
    pod_memory_request: str
    pod_disk: str
    pod_start: timedelta
    pod_node_selector: Mapping[str, str]
    pod_runtime_class: str | None
    pod_template: Path | None
    pod_warm_age: timedelta
    pod_warm_limit: int
    max_workflow_concurrent: int
    max_queued: int
    worker_concurrent: int | None
    orphan_timeout: timedelta
    webhook_rate_per_minute: int
    max_body_bytes: int
    writes: str
    credentials: tuple[str, ...]
    secrets_dir: Path | None
    secret_command: str | None
    secret_timeout: timedelta
    secret_cache: timedelta
    docs: Path | None
    lease: timedelta
    default_timeout: timedelta
    anthropic_base_url: str | None
    program_claude_code: str | None
    endpoint_codex: str | None
    program_codex: str | None
    endpoint_copilot: str | None
    program_copilot: str | None
    endpoint_gemini: str | None
    program_gemini: str | None
    endpoint_opencode: str | None
    program_opencode: str | None
    prices: Path | None
    log_format: str
    metrics_port: int
    metrics_host: str
    keep_runs: timedelta | None
    keep_logs: timedelta | None
    keep_deliveries: timedelta | None
    url: str | None
    token: str | None
    origins: Mapping[str, str]

    @classmethod
    def load(
        cls,
        environ: Mapping[str, str] | None = None,
        flags: Mapping[str, str | None] | None = None,
        defaults: Mapping[str, str] | None = None,
    ) -> "Settings":
        """Read all settings; raise SettingsError for a value that cannot be used. `defaults` are those of one command, such as
        `optio dev`."""
        environ = os.environ if environ is None else environ
        values: dict[str, Any] = {}
        origins: dict[str, str] = {}
        text: str | None
        for name, setting in SETTINGS.items():
            variable = "OPTIO_" + name.upper()
            flag = (flags or {}).get(name)
            if flag is not None:
                text, origin = flag, f"--{name.replace('_', '-')}"
            elif environ.get(variable):
                text, origin = environ[variable], variable
                if name in _FROM_FILE and environ.get(f"{variable}_FILE"):
                    raise SettingsError(f"{variable} and {variable}_FILE are both set: unset one")
            elif name in _FROM_FILE and environ.get(f"{variable}_FILE"):
                origin = f"{variable}_FILE"
                text = _contents(origin, environ[origin])
            else:
                text, origin = (defaults or {}).get(name) or setting.default, "default"
            try:
                values[name] = None if text is None else setting.read(text)
            except ValueError as err:
                # Whoever mistakes names for values gives a key.
                hidden = origin.endswith("_FILE") or name in (*_SECRET, "credentials")
                shown = "its content" if hidden else f"`{_CREDENTIALS.sub('//***@', text or '')}`"
                raise SettingsError(f"{origin}: {shown} cannot be used: it must be {err}") from err
            origins[name] = origin
        _refuse_conflicts(values, origins)
        made = cls(**values, origins=origins)
        for name, directory in (("data_dir", made.data_dir), ("secrets_dir", made.secrets)):
            if _is_served(made.tasks, directory):
                raise SettingsError(
                    f"OPTIO_{name.upper()} ({directory}) lies in the task directory {made.tasks}, where prompts could read it: "
                    "move it, or let its name begin with a dot"
                )
        return made

    @property
    def database(self) -> Path | None:
        """Return the path of the SQLite file; None when the database is PostgreSQL."""
        if self.database_url is not None and not self.database_url.startswith("sqlite:"):
            return None
        if self.database_url is not None:
            return Path(self.database_url.removeprefix("sqlite:///"))
        return self.data_dir / "optio.db"

    @property
    def programs(self) -> dict[str, str]:
        """Return the configured program of each runtime that has one."""
        return self._by_runtime("program_{}")

    @property
    def endpoints(self) -> dict[str, str]:
        """Return the configured endpoint of each runtime that has one."""
        own = {"claude-code": self.anthropic_base_url} if self.anthropic_base_url else {}
        return self._by_runtime("endpoint_{}") | own

    def _by_runtime(self, field: str) -> dict[str, str]:
        found = {name: getattr(self, field.format(name.replace("-", "_")), None) for name in DECLARED}
        return {name: value for name, value in found.items() if value}

    @property
    def pod_namespace(self) -> str:
        """Return the Kubernetes namespace in which this worker's pods run."""
        return self.team_namespace or self.kube_namespace

    @property
    def scope(self) -> WorkerScope:
        """Return the tasks whose runs this worker takes: those of its team's namespace, or all."""
        return ALL_TASKS if self.executor == "process" else WorkerScope(self.team_namespace or "")

    @property
    def secrets(self) -> Path:
        """Return the directory of secrets, `secrets` in the data directory unless set."""
        return self.secrets_dir or self.data_dir / "secrets"

    @property
    def server_url(self) -> str:
        """Return the URL at which the command line finds the server."""
        host = f"[{self.host}]" if ":" in self.host else "127.0.0.1" if self.host == "0.0.0.0" else self.host  # noqa: S104
        return (self.url or f"http://{host}:{self.port}").rstrip("/")

    def shown(self) -> list[tuple[str, str, str, str]]:
        """Return (variable, value, origin, help) of every setting, for people; secrets are masked."""
        rows = []
        for field in fields(self):
            if field.name == "origins":
                continue
            value = getattr(self, field.name)
            text = _text(value)
            if field.name in _SECRET and text:
                text = "***"
            help_text = SETTINGS[field.name].help
            rows.append((f"OPTIO_{field.name.upper()}", text, self.origins[field.name], help_text))
        return rows


def _refuse_conflicts(values: Mapping[str, Any], origins: Mapping[str, str]) -> None:
    """Raise SettingsError for settings that do not go together."""
    if values["orphan_timeout"] < 2 * values["lease"]:
        raise SettingsError(
            f"OPTIO_ORPHAN_TIMEOUT ({_text(values['orphan_timeout'])}) must be at least twice OPTIO_LEASE "
            f"({_text(values['lease'])}): agents would end between two renewals"
        )
    if values["executor"] != "process":
        given = [f"OPTIO_{name.upper()}" for name in _PROCESS_ONLY if origins[name] != "default"]
        if given:
            raise SettingsError(
                f"{', '.join(given)}: applies to OPTIO_EXECUTOR=process only, since a pod is a sandbox of its own: unset it"
            )
    elif values["team_namespace"] is not None:
        raise SettingsError(
            "OPTIO_TEAM_NAMESPACE: applies to OPTIO_EXECUTOR=kubernetes only, since processes have no namespace: unset it"
        )
    given = [origins[name] for name in SETTINGS if name.startswith("oidc_") and origins[name] != "default"]
    lacking = [f"OPTIO_{name.upper()}" for name in _OIDC_REQUIRED if values[name] is None]
    if given and lacking:
        raise SettingsError(f"{', '.join(given)}: people can sign in only if {', '.join(lacking)} is set too: set or unset all")
    for name in ("pod_cpu", "pod_memory"):
        request = f"{name}_request"
        least, most = (parse_quantity(values[each]) or 0 for each in (request, name))
        if least > most and origins[request] != "default":
            raise SettingsError(
                f"{origins[request]} ({values[request]}) is more than the limit OPTIO_{name.upper()} ({values[name]}): "
                "lower the request, or raise the limit"
            )


def _is_served(tasks: Path, directory: Path) -> bool:
    """Return whether a task file could refer to files in the directory: it lies in the tree and is not hidden."""
    below = os.path.relpath(os.path.realpath(directory), os.path.realpath(tasks)).split(os.sep)
    return below[0] != ".." and not any(part.startswith(".") and part != "." for part in below)


def _contents(variable: str, path: str) -> str:
    try:
        text = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as err:
        reason = err.strerror if isinstance(err, OSError) else "it is not UTF-8 text"
        raise SettingsError(f"{variable}: the file {path} cannot be read: {reason}") from err
    if not text:
        raise SettingsError(f"{variable}: the file {path} is empty")
    return text


def _text(value: Any) -> str:
    """Return a value as it would be written in a variable, without credentials in URLs."""
    if value is None:
        return ""
    if isinstance(value, tuple):
        return "-".join(map(str, value)) if value and isinstance(value[0], int) else ",".join(value)
    if isinstance(value, Mapping):
        return ",".join(f"{name}={each}" for name, each in value.items())
    if isinstance(value, timedelta):
        return f"{value.total_seconds():.0f}s"
    return _CREDENTIALS.sub("//***@", str(value))
