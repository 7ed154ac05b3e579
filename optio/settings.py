"""Settings: every `OPTIO_*` variable, read once when a command starts. Flags override variables, and variables override
defaults. Used by all commands of the CLI and by `optio.wiring`."""

import os
import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from datetime import timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar, cast, get_args
from urllib.parse import parse_qsl, urlsplit

from optio.errors import SettingsError
from optio.model.defaults import MAX_WORKFLOW_CONCURRENT
from optio.model.namespace import ALL_TASKS, WorkerScope
from optio.model.pool import parse_quantity
from optio.model.removal_limit import DEFAULT_REMOVAL_LIMIT, RemovalLimit
from optio.model.runtimes import DECLARED
from optio.model.text import parse_duration
from optio.store.values import Role

# ruff: noqa: RUF009 - a call of `_setting` declares a field and is no default

LOOPBACK = ("127.0.0.1", "localhost", "::1")
_ROLES: tuple[Role, ...] = get_args(Role)
# A group's name may have commas and equals signs, as in LDAP: an entry ends with its role.
_ROLE_WITHIN = re.compile(rf"=\s*({'|'.join(_ROLES)})\b")
_GROUP_ROLE = re.compile(rf"\s*(\S.*?)\s*=\s*({'|'.join(_ROLES)})\s*(?:,\s*|\Z)")


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Setting:
    """Declaration of one field of `Settings`: its default as text, the function that parses it, and a text for the manual and
    `--help`."""

    default: str | None
    read: Callable[[str], Any]
    help: str
    # Never shown, and like `from_file`.
    secret: bool = False
    # Has a credential, so it may be read from a file that `<VARIABLE>_FILE` names.
    from_file: bool = False
    # Not quoted in an error: whoever mistakes names for values gives a key.
    unquoted: bool = False
    # Applies to `OPTIO_EXECUTOR=process`.
    process_only: bool = False


def _setting(default: str | None, read: Callable[[str], T], help_text: str, **traits: bool) -> T:
    """Declare a field of `Settings`. To a type checker it has the type of the parsed value."""
    return cast("T", field(metadata={"setting": Setting(default, read, help_text, **traits)}))


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
    expected = "`redis://:PASSWORD@HOST:PORT/0`, or `rediss://` for TLS"
    try:
        url = urlsplit(text)
        port = 6379 if url.port is None else url.port
    except ValueError as err:
        raise ValueError(f"{expected} (in a password write `%2F` for `/`, and so on)") from err
    number, options = url.path.strip("/") or "0", parse_qsl(url.query, keep_blank_values=True)
    if url.scheme not in ("redis", "rediss") or not url.hostname or not port:
        raise ValueError(f"{expected}; Unix sockets are not supported")
    if url.fragment or not number.isascii() or not number.isdigit():
        raise ValueError(f"{expected} (what follows the port is the number of a database; in a password write `%23` for `#`)")
    if url.username and not url.password:
        raise ValueError(f"{expected}: a password stands after a colon")
    if options and url.scheme != "rediss":
        raise ValueError(f"{expected}: only `rediss://` has options")
    for name, value in options:
        if not re.fullmatch(_REDIS_TLS.get(name, "(?!)"), value):
            known = ", ".join(key if allowed == ".+" else f"{key}={allowed}" for key, allowed in _REDIS_TLS.items())
            raise ValueError(f"{expected}, and its only options are {known}")
    login, separator, _ = url.netloc.rpartition("@")
    host = f"[{url.hostname}]" if ":" in url.hostname else url.hostname
    return f"{url.scheme}://{login}{separator}{host}:{port}/{number}{'?' if options else ''}{url.query}"


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
    expected = "a URL that begins with https://, such as `https://login.example.com/realms/acme` (http:// only on this machine)"
    try:
        url = urlsplit(_http(text))
    except ValueError as err:
        raise ValueError(expected) from err
    if url.scheme != "https" and url.hostname not in LOOPBACK:
        raise ValueError(expected)
    if not url.hostname or url.username is not None or url.query or url.fragment:
        raise ValueError(f"{expected}, without a name, a query or a fragment")
    return text


def _group_roles(text: str) -> Mapping[str, Role]:
    roles: dict[str, Role] = {}
    offset = 0
    while offset < len(text):
        entry = _GROUP_ROLE.match(text, offset)
        if entry is None or entry[1] in roles or _ROLE_WITHIN.search(entry[1]):
            raise ValueError(f"`GROUP=ROLE`, separated by commas, each group once; roles are {', '.join(_ROLES)}")
        roles[entry[1]] = cast(Role, entry[2])
        offset = entry.end()
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The declarations of all settings, and their parsed values. `origins` says where each value comes from: a variable, a flag
    or the default."""

    tasks: Path = _setting("tasks.d", Path, "directory of the task files")
    removal_limit: RemovalLimit = _setting(
        DEFAULT_REMOVAL_LIMIT,
        RemovalLimit.parse,
        "tasks whose files may go at once: a share or a number; a larger removal is held until it is released",
    )
    data_dir: Path = _setting(".optio", Path, "directory of the database, secrets and attempts; on a local disk")
    database_url: str | None = _setting(
        None,
        _database,
        "`postgresql://...`, or `sqlite:///PATH`; by default SQLite in `optio.db` in the data directory",
        from_file=True,
    )
    migrate: str = _setting(
        "auto", _choice("auto", "manual"), "migrate the schema at each start (`auto`), or only by `optio db migrate` (`manual`)"
    )
    reserve_bytes: int = _setting(
        str(16 << 20),
        _count,
        "disk space reserved for SQLite, a sixteenth of the disk at most: if less is free besides, new runs are refused",
    )
    redis_url: str | None = _setting(
        None,
        _redis,
        "`redis://:PASSWORD@HOST:PORT/0`, or `rediss://`: hints, live logs and rate windows of many machines",
        from_file=True,
    )
    host: str = _setting("127.0.0.1", str, "address to listen on")
    port: int = _setting("8000", _port, "port to listen on")
    allowed_hosts: tuple[str, ...] = _setting("", _names, "further names allowed in the Host header, separated by commas")
    oidc_issuer: str | None = _setting(
        None, _issuer, "OpenID provider by which people sign in to the dashboard, such as a Keycloak realm"
    )
    oidc_client_id: str | None = _setting(None, str, "the name of this server at the provider")
    oidc_client_secret: str | None = _setting(None, str, "its secret there", secret=True)
    oidc_roles: Mapping[str, Role] | None = _setting(
        None, _group_roles, "`GROUP=ROLE`, separated by commas: who may enter; of several groups the highest role counts"
    )
    oidc_claim: str = _setting("groups", str, "claim with a person's groups, or its path, such as `realm_access.roles`")
    oidc_scopes: tuple[str, ...] = _setting("openid,profile,email", _scopes, "scopes that are asked for, separated by commas")
    oidc_domains: tuple[str, ...] = _setting(
        "", _domains, "domains of verified e-mail addresses that may enter; by default all"
    )
    oidc_session: timedelta = _setting("12h", _session, "how long a person stays signed in, 30d at most")
    executor: str = _setting(
        "process", _choice("process", "kubernetes"), "where agents run: processes here, or pods of a cluster (`kubernetes`)"
    )
    sandbox: str | None = _setting(
        None,
        _choice("namespaces", "bwrap", "landlock", "none"),
        "sandbox of agents as processes: `namespaces`, `bwrap`, `landlock` or `none`; by default the first that works here",
        process_only=True,
    )
    sandbox_uids: tuple[int, int] = _setting(
        "60578-61183",
        _users,
        "users of attempts as processes if the worker is root, `FIRST-LAST`; the first is the group of all",
        process_only=True,
    )
    sandbox_read: tuple[str, ...] = _setting(
        "", _paths, "further paths that agents may read and execute, separated by commas", process_only=True
    )
    sandbox_write: tuple[str, ...] = _setting(
        "", _paths, "further paths that agents may read and write, separated by commas", process_only=True
    )
    sandbox_ports: tuple[str, ...] | None = _setting(
        None, _ports, "TCP ports that agents of tasks without `network` may connect to; by default all", process_only=True
    )
    attempt_disk: int = _setting(
        "4Gi", _bytes, "disk space that an attempt as a process may use in total, and in one file", process_only=True
    )
    attempt_files: int = _setting(
        "500000", _count, "files and directories that an attempt as a process may have at once", process_only=True
    )
    attempt_processes: int | None = _setting(
        None,
        _count,
        "processes, with their threads, that an attempt as a process may have at once; by default 4096",
        process_only=True,
    )
    kube_namespace: str = _setting(
        "optio",
        _label,
        "namespace of the pods of tasks without one, in the cluster of KUBECONFIG or the one that Optio runs in",
    )
    team_namespace: str | None = _setting(
        None,
        _label,
        "namespace of a team: this worker's pods run there, and it takes only runs of tasks that the policy puts there",
    )
    kube_install: str = _setting(
        "optio", _label, "name of this installation, which tells its pods from another's in the same namespace"
    )
    kube_image: str | None = _setting(None, str, "image of agents whose task names none")
    kube_egress: str | None = _setting(
        None, str, "the egress proxy, as `SERVICE.NAMESPACE.svc:PORT`: with it the network of every pod is closed"
    )
    kube_egress_image: str | None = _setting(
        None, str, "image of the gate that waits in each pod until its network policy is in place"
    )
    egress_key: str | None = _setting(None, str, "key that workers and the egress proxy share", secret=True)
    kube_dns: str = _setting(
        "kube-system/k8s-app=kube-dns,169.254.20.10",
        str,
        "name servers for pods without an egress list: `NAMESPACE/LABEL=VALUE:PORT` or addresses; port 53 by default",
    )
    pod_cpu: str = _setting("1", _quantity, "CPU limit of a pod whose task sets none")
    pod_memory: str = _setting("2Gi", _quantity, "memory limit of a pod whose task sets none")
    pod_cpu_request: str = _setting("100m", _quantity, "CPU request of a pod whose task sets none")
    pod_memory_request: str = _setting("256Mi", _quantity, "memory request of a pod whose task sets none")
    pod_disk: str = _setting("4Gi", str, "disk space that a pod may use in total, and in each of its directories")
    pod_start: timedelta = _setting("5m", _span, "how long a pod may take to start, its image included")
    pod_node_selector: Mapping[str, str] = _setting(
        "", _pairs, "`label=value`, separated by commas, of the nodes that pods may run on"
    )
    pod_runtime_class: str | None = _setting(None, _label, "the runtime class of the pods, such as gVisor's")
    pod_template: Path | None = _setting(
        None, Path, "file with additions to every pod: pull secrets, tolerations, affinity, priority, labels, volumes"
    )
    pod_warm_age: timedelta = _setting("1h", _span, "age at which a waiting warm pod is replaced")
    pod_warm_limit: int = _setting("20", _count, "most warm pods of all tasks together")
    max_workflow_concurrent: int = _setting(
        str(MAX_WORKFLOW_CONCURRENT), _count, "runs at the same time, over all tasks; each namespace has this many of its own"
    )
    max_queued: int = _setting("100000", _count, "runs that may be queued; further triggers are answered with 429")
    worker_concurrent: int | None = _setting(
        None, _count, "runs at the same time on one worker; by default as many as over all tasks"
    )
    orphan_timeout: timedelta = _setting(
        "15m",
        _span,
        "time without the database after which a machine's agents have ended themselves, and other workers repeat their runs",
    )
    webhook_rate_per_minute: int = _setting(
        "60", _count, "requests with a valid signature that each webhook path accepts in any minute"
    )
    max_body_bytes: int = _setting(str(1 << 20), _count, "largest request body")
    writes: str = _setting(
        "deny", _choice("files", "deny"), "whether the API may change task files: `files` or `deny`; `optio dev` uses `files`"
    )
    credentials: tuple[str, ...] = _setting(
        "",
        _secret_names,
        "names of secrets that agents sign in with if their task names none, such as `ANTHROPIC_API_KEY`",
        unquoted=True,
    )
    secrets_dir: Path | None = _setting(None, Path, "a file for each secret; by default `secrets` in the data directory")
    secret_command: str | None = _setting(
        None,
        _command,
        "program, with arguments, that prints a secret which is neither a variable nor a file; its last argument is the name",
    )
    secret_timeout: timedelta = _setting("10s", _short_span, "how long that program may take, a minute at most")
    secret_cache: timedelta = _setting("60s", _span, "how long its values are used before it is asked again")
    docs: Path | None = _setting(
        None, Path, "directory of the built documentation, served at `/docs`; by default the one in the package"
    )
    lease: timedelta = _setting("10s", _span, "time without a renewal after which another worker takes a worker's runs over")
    default_timeout: timedelta = _setting("1h", _span, "time limit of a run whose task names none")
    gateway: str = _setting(
        "off",
        _choice("off", "preferred", "required"),
        "whether agents call their models through the gateway: `required` starts none that cannot; in `optio dev` `preferred`",
    )
    gateway_url: str | None = _setting(None, _http, "the gateway as agents reach it, such as http://127.0.0.1:8100")
    gateway_host: str = _setting("127.0.0.1", str, "address on which the gateway listens")
    gateway_port: int = _setting(
        "8100", _port, "port on which the gateway listens; `optio dev` takes a free one with 0, and where the default is in use"
    )
    gateway_record: str = _setting(
        "off",
        _choice("off", "runs"),
        "whether the gateway keeps the masked requests and answers of model calls, with their run",
    )
    gateway_programs: int = _setting("32", _count, "MCP servers that are programs (`stdio`) which may run at once")
    anthropic_base_url: str | None = _setting(None, _http, "endpoint for Claude Code, such as a gateway")
    program_claude_code: str | None = _setting(None, str, "path of the Claude Code program, if it is not on PATH as `claude`")
    endpoint_codex: str | None = _setting(None, _http, "endpoint for Codex, such as a gateway; it speaks OpenAI's Responses")
    program_codex: str | None = _setting(None, str, "path of the Codex program, if it is not on PATH as `codex`")
    endpoint_copilot: str | None = _setting(
        None, _http, "endpoint for Copilot instead of GitHub; it speaks OpenAI's chat completions"
    )
    program_copilot: str | None = _setting(None, str, "path of the Copilot program, if it is not on PATH as `copilot`")
    endpoint_gemini: str | None = _setting(
        None, _http, "endpoint for Gemini, such as a gateway; it speaks Google's `generateContent`"
    )
    program_gemini: str | None = _setting(None, str, "path of the Gemini program, if it is not on PATH as `gemini`")
    endpoint_opencode: str | None = _setting(
        None, _http, "endpoint for the provider of an OpenCode task's model, such as a gateway"
    )
    program_opencode: str | None = _setting(None, str, "path of the OpenCode program, if it is not on PATH as `opencode`")
    prices: Path | None = _setting(None, Path, "file of model prices, which override those that Optio brings")
    log_format: str = _setting("text", _choice("text", "json"), "format of the service's own log on standard error")
    metrics_port: int = _setting(
        "0", _port, "port of each process for `/metrics`, `/healthz` and `/readyz`, without a token; 0 disables it"
    )
    metrics_host: str = _setting("127.0.0.1", str, "address of that port; anyone who can reach it can read the metrics")
    keep_runs: timedelta | None = _setting(
        None, _keep, "how long runs are kept after their end, such as `90d`; by default for ever"
    )
    keep_logs: timedelta | None = _setting(None, _keep, "how long their log lines are kept; by default as long as the runs")
    keep_deliveries: timedelta | None = _setting(
        None, _keep, "how long webhook requests are kept, 7 days at least; by default as long as runs"
    )
    url: str | None = _setting(
        None, _http, "server that the command line talks to; by default the one on OPTIO_HOST and OPTIO_PORT"
    )
    token: str | None = _setting(None, _token, "API token that the command line sends", secret=True)
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
        for name, setting in SETTINGS.items():
            default = (defaults or {}).get(name) or setting.default
            text, origin = _look_up(name, setting, environ, (flags or {}).get(name), default)
            try:
                values[name] = None if text is None else setting.read(text)
            except ValueError as err:
                is_hidden = origin.endswith("_FILE") or setting.secret or setting.unquoted
                quotation = "its content" if is_hidden else f"`{_CREDENTIALS.sub('//***@', text or '')}`"
                raise SettingsError(f"{origin}: {quotation} cannot be used: it must be {err}") from err
            origins[name] = origin
        _refuse_conflicts(values, origins)
        settings = cls(**values, origins=origins)
        for name, directory in (("data_dir", settings.data_dir), ("secrets_dir", settings.secrets)):
            if _is_served(settings.tasks, directory):
                raise SettingsError(
                    f"OPTIO_{name.upper()} ({directory}) lies in the task directory {settings.tasks}, where prompts could read "
                    "it: move it, or let its name begin with a dot"
                )
        return settings

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
        return self._by_runtime("program")

    @property
    def endpoints(self) -> dict[str, str]:
        """Return the configured endpoint of each runtime that has one."""
        claude_code = {"claude-code": self.anthropic_base_url} if self.anthropic_base_url else {}
        return self._by_runtime("endpoint") | claude_code

    def _by_runtime(self, prefix: str) -> dict[str, str]:
        values = {name: getattr(self, f"{prefix}_{name.replace('-', '_')}", None) for name in DECLARED}
        return {name: value for name, value in values.items() if value}

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
        for name, setting in SETTINGS.items():
            text = _text(getattr(self, name))
            rows.append((_variable(name), "***" if text and setting.secret else text, self.origins[name], setting.help))
        return rows


SETTINGS: Mapping[str, Setting] = {
    declaration.name: declaration.metadata["setting"] for declaration in fields(Settings) if declaration.metadata
}


def unknown_variables(environ: Mapping[str, str]) -> Iterator[tuple[str, str | None]]:
    """Yield variables that begin with `OPTIO_` but are not settings, each with the setting that was probably meant."""
    variables = {_variable(name) for name in SETTINGS}
    variables |= {f"{_variable(name)}_FILE" for name, setting in SETTINGS.items() if _may_be_in_file(setting)}
    for name in sorted(environ):
        if name.startswith("OPTIO_") and not name.startswith("OPTIO_SECRET_") and name not in variables | _OTHER_VARIABLES:
            suggestion = next(iter(get_close_matches(name, variables, n=1, cutoff=0.85)), None)
            yield name, _EXPECTED.get(name, suggestion)


def _variable(name: str) -> str:
    return f"OPTIO_{name.upper()}"


def _may_be_in_file(setting: Setting) -> bool:
    return setting.secret or setting.from_file


def _look_up(
    name: str, setting: Setting, environ: Mapping[str, str], flag: str | None, default: str | None
) -> tuple[str | None, str]:
    """Return the text of a setting and its origin: of a flag, a variable, the file of a variable, or the default."""
    variable = _variable(name)
    file = environ.get(f"{variable}_FILE") if _may_be_in_file(setting) else None
    if flag is not None:
        return flag, f"--{name.replace('_', '-')}"
    if environ.get(variable):
        if file:
            raise SettingsError(f"{variable} and {variable}_FILE are both set: unset one")
        return environ[variable], variable
    if file:
        return _contents(f"{variable}_FILE", file), f"{variable}_FILE"
    return default, "default"


def _refuse_conflicts(values: Mapping[str, Any], origins: Mapping[str, str]) -> None:
    """Raise SettingsError for settings that do not go together."""
    explicit = {name for name, origin in origins.items() if origin != "default"}
    if values["orphan_timeout"] < 2 * values["lease"]:
        raise SettingsError(
            f"OPTIO_ORPHAN_TIMEOUT ({_text(values['orphan_timeout'])}) must be at least twice OPTIO_LEASE "
            f"({_text(values['lease'])}): agents would end between two renewals"
        )
    if values["executor"] != "process":
        of_processes = [_variable(name) for name, setting in SETTINGS.items() if setting.process_only and name in explicit]
        if of_processes:
            raise SettingsError(
                f"{', '.join(of_processes)}: applies to OPTIO_EXECUTOR=process only, since a pod is a sandbox of its own: "
                "unset it"
            )
    elif values["team_namespace"] is not None:
        raise SettingsError(
            "OPTIO_TEAM_NAMESPACE: applies to OPTIO_EXECUTOR=kubernetes only, since processes have no namespace: unset it"
        )
    of_provider = [origins[name] for name in SETTINGS if name.startswith("oidc_") and name in explicit]
    missing = [_variable(name) for name in _OIDC_REQUIRED if values[name] is None]
    if of_provider and missing:
        raise SettingsError(
            f"{', '.join(of_provider)}: people can sign in only if {', '.join(missing)} is set too: set or unset all"
        )
    _refuse_requests_above_limits(values, origins)


def _refuse_requests_above_limits(values: Mapping[str, Any], origins: Mapping[str, str]) -> None:
    for name in ("pod_cpu", "pod_memory"):
        request = f"{name}_request"
        minimum, limit = parse_quantity(values[request]) or 0, parse_quantity(values[name]) or 0
        if minimum > limit and origins[request] != "default":
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
        return ",".join(f"{name}={text}" for name, text in value.items())
    if isinstance(value, timedelta):
        return f"{value.total_seconds():.0f}s"
    return _CREDENTIALS.sub("//***@", str(value))
