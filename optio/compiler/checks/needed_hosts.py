"""Check that `environment.network.egress` covers the hosts that the task itself names: the model service of its agent,
addresses in its variables and commands, and the registries of its package managers. What an agent or a program chooses at run
time is not known here, and the prompt is not read."""

import re
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import ip_network

from optio.compiler.checks import shell
from optio.compiler.checks.trust import shell_texts
from optio.compiler.diagnostics import Diagnostic
from optio.compiler.resolved_task import ResolvedTask
from optio.compiler.yaml.emit import flow
from optio.model import egress
from optio.model.egress import Block, Entry, Host
from optio.model.route import Route
from optio.model.runtimes import PROVIDERS, declaration_of, service_of

ROUTE: Route = ("environment", "network", "egress")
_SOURCES: tuple[Route, ...] = (ROUTE, ("environment", "env"), ("environment", "secrets"), ("environment", "setupCommands"))
_MAX_SHOWN = 150
# A listed host that may serve the model: the server can point all agents to it (OPTIO_ANTHROPIC_BASE_URL).
_GATEWAY = r"(?:^|[.-])(?:ai|anthropic|bedrock[\w-]*|claude|gateway|litellm|llm|models?|proxy)[.:-]"
# Hosts of the makers that serve people, and no model.
_WEBSITES = r"(?:[\w-]+\.)?claude\.(?:ai|com)|(?:www\.|console\.)?anthropic\.com|(?:www\.|platform\.)?openai\.com"
_PRIVATE = r"(?:^|\.)localhost\Z|\.svc(?:\.cluster\.local)?\Z|\.cluster\.local\Z"
_LOCAL = (
    r"localhost|127\..*|0\.0\.0\.0|\[.*\]|[\w-]+|.*\.(?:svc|localhost|invalid|test)(?:\..*)?|(?:www\.)?example\.(?:com|org|net)"
)
# The ports of services, by the schemes of their addresses.
_PORTS = {
    "https": 443, "git+https": 443, "redis": 6379, "rediss": 6379, "postgres": 5432, "postgresql": 5432, "mysql": 3306,
    "mongodb": 27017, "amqp": 5672, "amqps": 5671,
}  # fmt: skip
_ADDRESS = (
    rf"({'|'.join(map(re.escape, _PORTS))})://(?:[^\s/@]{{1,200}}@)?([\w.-]+|\[[0-9a-fA-F:]+\])(?::(\d{{1,5}}))?(?=[/?#]|\Z)"
)
# Variables whose address is a name for something, and is not opened.
_IDENTIFIER = r"AUDIENCE|ISSUER|LINK|NAMESPACE|ORIGIN|REALM|REFERER|SCOPE|SCHEMA|TITLE|HOMEPAGE"
# Programs that open each address among their arguments.
_CLIENTS = frozenset({"curl", "wget", "git", "pip", "pip3", "uv"})


# What calls a package manager, the public hosts that it then needs, and the beginnings of options and of variables that lead it
# to others.
_REGISTRIES = (
    ("pip install,pip download,pip3 install,pip3 download,uv pip install,uv pip sync,uv sync,uv add,uv tool install,uvx",
     ("pypi.org", "files.pythonhosted.org"), ("--index", "--default-index", "-i", "--no-index", "--offline"), ("PIP_", "UV_")),
    ("npm ci,npm install,npm i,npm add,npm exec,npx,pnpm install,pnpm i,pnpm add,pnpm dlx", ("registry.npmjs.org",),
     ("--registry", "--no", "--offline"), ("NPM_CONFIG_", "npm_config_")),
    ("yarn install,yarn add", ("registry.yarnpkg.com",), ("--registry", "--offline"), ("YARN_", "NPM_CONFIG_")),
    ("cargo install,cargo fetch,cargo add", ("index.crates.io", "static.crates.io"),
     ("--index", "--registry", "--path", "--git", "--offline", "--frozen"), ("CARGO_",)),
    ("go mod download", ("proxy.golang.org",), (), ("GO",)),
    ("go install,go get", ("proxy.golang.org", "sum.golang.org"), ("./",), ("GO",)),
    ("gem install,bundle install,bundle update", ("rubygems.org",), ("--source", "--local"), ("BUNDLE_",)),
)  # fmt: skip
_PUBLIC = frozenset(host for _, hosts, _, _ in _REGISTRIES for host in hosts)
# A host of this kind may be a registry of the author's own, to which a file of the image points the programs.
_OWN_REGISTRY = (
    r"(?:^|[.-])(?:registry|npm|pypi|devpi|artifactory|nexus|mirrors?|proxy|packages|pkgs|apt|deb|jfrog|verdaccio)(?:[.-]|$)"
)


def check(task: ResolvedTask) -> Iterator[Diagnostic]:
    """Report the hosts that the list does not open, in one finding with the list to write."""
    network = task.spec.environment.network
    if network is None or not all(task.is_known(route) for route in _SOURCES):
        return
    try:
        entries = [egress.parse(entry) for entry in network.egress]
    except egress.BadEntry:
        return  # `environment` has reported it, and which host it means is not known
    yield from _unreachable(task, entries)
    reasons: dict[str, str] = {}
    for host, reason in (*_model_service(task, entries), *_addresses(task, entries), *_registries(task, entries)):
        if not any(_covers(entry, egress.parse(host), host) for entry in entries):
            reasons.setdefault(host, reason)
    if not reasons:
        return
    by_reason: dict[str, list[str]] = {}
    for host, reason in reasons.items():
        by_reason.setdefault(reason, []).append(f"`{host}`")
    facts = "; and ".join(f"{' and '.join(hosts)}, which {reason} needs" for reason, hosts in by_reason.items())
    notes = "".join(dict.fromkeys(_near(host, network.egress) for host in reasons))
    cure = f"egress: {flow([*network.egress, *reasons])}"
    hint = f"write `{cure}`" if len(cure) <= _MAX_SHOWN else f"add {' and '.join(f'`{host}`' for host in reasons)} to the list"
    yield task.at("OPT527", f"`egress` lacks {facts}{notes}", ROUTE, key=True, hint=hint)


def _unreachable(task: ResolvedTask, entries: list[Entry]) -> Iterator[Diagnostic]:
    """Report names in a cluster."""
    for index, entry in enumerate(entries):
        if isinstance(entry, Host) and re.search(_PRIVATE, entry.name):
            message = f"`{entry.name}` is a name of a private address, which no list opens: the proxy of pods refuses it"
            hint = "write the address or its network, such as `10.96.0.0/12:8080`, or delete it"
            yield task.at("OPT527", message, (*ROUTE, index), hint=hint)


def _near(host: str, texts: list[str]) -> str:
    """Return why an entry of nearly the same name does not open the host, or an empty text."""
    name = host.partition(":")[0]
    if name in texts:
        return f": `{name}` opens port 443 only"
    return f": `*.{name}` stands only for the names below it" if f"*.{name}" in texts else ""


def _model_service(task: ResolvedTask, entries: list[Entry]) -> Iterator[tuple[str, str]]:
    """Yield the host of the agent's model, unless a variable or a listed gateway may lead to another one. With an empty list
    nothing but the installation's own gateway can lead to a model."""
    spec, environment = task.spec, task.spec.environment
    service, agent = service_of(spec.agent_runtime, spec.model), declaration_of(spec.agent_runtime)
    if service is None or not entries or not task.is_known(("agentRuntime",)) or task.has_model_service:
        return
    redirects = f"{service.elsewhere}|HTTPS?_PROXY"
    makers = {maker.host for maker in PROVIDERS.values()}
    listed_hosts = [text for entry in entries if (text := str(entry)) not in makers and not re.fullmatch(_WEBSITES, text)]
    if any(re.fullmatch(redirects, name) for name in (*environment.env, *environment.secrets)):
        return
    if not any(re.search(_GATEWAY, text) for text in listed_hosts):
        yield service.host, spec.agent_runtime if agent is None else agent.title


def _commands(task: ResolvedTask) -> Iterator[list[str]]:
    """Yield the simple commands of the task, each as its words."""
    command = task.spec.command
    for text in (*task.spec.environment.setup_commands, *(text for _, text in shell_texts(command))):
        yield from shell.simple_commands(text)
    if isinstance(command, list):
        yield command


def _addresses(task: ResolvedTask, entries: list[Entry]) -> Iterator[tuple[str, str]]:
    """Yield the hosts of addresses that commands open and that variables hold, each with what names it."""
    for words in _commands(task):
        call = shell.call_of(words)
        for word in call if call[:1] and call[0] in _CLIENTS else ():
            yield from _host(word, f"`https://{word.partition('://')[2].partition('/')[0].partition(':')[0]}`")
    env = task.spec.environment.env
    # The usual port, unless the list shows that the task uses others.
    ports = {} if any(entry.port != egress.HTTPS_PORT for entry in entries) else {"PGHOST": "5432"}
    for name, value in env.items():
        if "://" in value and not re.search(_IDENTIFIER, name):
            yield from _host(value, f"`{name}`")
        elif name.endswith("HOST") and (port := env.get(f"{name[:-4]}PORT", ports.get(name))):
            yield from _host(f"https://{value}:{port}", f"`{name}`")


def _host(address: str, reason: str) -> Iterator[tuple[str, str]]:
    match = re.match(_ADDRESS, address)
    if match is None or re.fullmatch(_LOCAL, match[2].lower()):
        return
    port = int(match[3] or _PORTS[match[1]])
    with suppress(egress.BadEntry):
        egress.parse(host := match[2].lower().rstrip(".") + (f":{port}" if port != egress.HTTPS_PORT else ""))
        yield host, reason


def _registries(task: ResolvedTask, entries: list[Entry]) -> Iterator[tuple[str, str]]:
    """Yield the registries of the package managers that commands call, unless something may lead them to another one."""
    texts = [str(entry) for entry in entries]
    if any(re.search(_OWN_REGISTRY, text) and text not in _PUBLIC for text in texts):
        return
    variables = [*task.spec.environment.env, *task.spec.environment.secrets]
    for words in _commands(task):
        call = shell.call_of(words)
        line = " ".join(call)
        for calls, hosts, options, names in _REGISTRIES:
            start = next((start for start in calls.split(",") if f"{line} ".startswith(f"{start} ")), None)
            if start is None or any(name.startswith(names) for name in (*variables, *words[: len(words) - len(call)])):
                continue
            if not any(word.startswith(options) for word in call):
                yield from ((host, f"`{start}`") for host in hosts)


def _covers(entry: Entry, needed_entry: Entry, name: str) -> bool:
    """Return True if the entry opens the other one. A network may contain what a name stands for, but no public registry."""
    if entry == needed_entry or entry.port != needed_entry.port:
        return entry == needed_entry
    if isinstance(entry, Block):
        network = ip_network(entry.network)
        if isinstance(needed_entry, Block):
            return ip_network(needed_entry.network).network_address in network
        return network.prefixlen == 0 or name not in _PUBLIC
    return isinstance(needed_entry, Host) and entry.name.startswith("*.") and needed_entry.name.endswith(entry.name[1:])
