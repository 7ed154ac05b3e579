"""Check that `environment.network.egress` covers the hosts that the task itself names: addresses in its commands and
variables, the registries of its package managers, and the model service of its agent. What an agent or a program chooses at
run time is not known here, and the prompt is not read. `run` calls it only for tasks with such a list."""

import re
from collections.abc import Iterator
from ipaddress import ip_network
from typing import NamedTuple

from optio.compiler.diagnostics import Diagnostic
from optio.compiler.resolved_task import ResolvedTask
from optio.model import egress
from optio.model.egress import Block, Entry, Host
from optio.model.route import Route
from optio.model.runtimes import PROVIDERS, declaration_of, service_of

ROUTE: Route = ("environment", "network", "egress")
_READ: tuple[Route, ...] = (ROUTE, ("environment", "env"), ("environment", "secrets"), ("environment", "setupCommands"))
# All patterns are texts, because most tasks need none of them: `re` compiles one where it is used first.
_PROXY = r"HTTPS?_PROXY"
# A listed host that may serve the model: the server can point all agents to it (OPTIO_ANTHROPIC_BASE_URL).
_GATEWAY = r"(?:^|[.-])(?:ai|anthropic|bedrock[\w-]*|claude|gateway|litellm|llm|models?|proxy)[.:-]"
# Names in a pod or in its cluster.
_PRIVATE_ENDS = ("localhost", ".svc", ".local")
_PRIVATE = r"(?:^|\.)localhost\Z|\.svc(?:\.cluster\.local)?\Z|\.cluster\.local\Z"
# Hosts of the makers that serve people, and no model.
_OF_PEOPLE = r"(?:[\w-]+\.)?claude\.(?:ai|com)|(?:www\.|console\.)?anthropic\.com|(?:www\.|platform\.)?openai\.com"
_URL = (
    r"(?<![\w.@/<|(:])(?:git\+)?https://(?:[^\s/@\"'`<>]{1,200}@)?([\w.-]+|\[[0-9a-fA-F:]+\])(?::(\d+))?(?=[/?#\s\"'`;&|)]|\Z)"
)
_LOCAL = r"localhost|127\..*|\[::1\]|[\w-]+|.*\.(?:svc|localhost|invalid|test)(?:\..*)?|(?:www\.)?example\.(?:com|org|net)"
# Variables whose address is a name for something, and is not opened.
_IDENTIFIER = r"AUDIENCE|ISSUER|LINK|NAMESPACE|ORIGIN|REALM|REFERER|SCOPE|SCHEMA|HTTP_REFERER|TITLE|HOMEPAGE"
# Variables whose host is the program's own.
_LISTENS = r"VIRTUAL|LISTEN|BIND|SERVER|LOCAL|APP_|WEB_|(?:^|_)HTTP_|^HOST"
# The usual ports of services, by the beginning of their variables and by the schemes of their addresses.
_PORTS = {
    **dict.fromkeys(("pg", "postgres", "postgresql"), "5432"),
    **dict.fromkeys(("redis", "rediss"), "6379"),
    "mysql": "3306",
    "mongodb": "27017",
    "amqp": "5672",
    "amqps": "5671",
}
_ADDRESS = rf"({'|'.join(_PORTS)})://(?:[^\s/@]{{1,200}}@)?([\w.-]+)(?::(\d{{1,5}}))?(?=[/?\s]|\Z)"
_NOT_OPENED = r"\s*(?:echo|printf|#)"
# Repetitions are bounded: a hostile command of 128 KiB must not take long.
_AT = r"(?:^|[;&|(\n]|\b(?:sudo|then|do|exec|time)\s)[ \t]{0,80}(?:\w{1,80}=\S{0,200}[ \t]{1,9}){0,9}(?:[\w.~/-]{0,80}/)?"
_PIP = r"(?:python3?\s{1,9}-m\s{1,9})?pip3?\s{1,9}(?:-\S{1,80}\s{1,9}){0,9}(?:install|download)"
_PIP += r"|uv\s{1,9}(?:pip\s{1,9}(?:install|sync)|sync|add)"
_PIP += r"|uv\s{1,9}tool\s{1,9}(?:install|run)|uvx|pipx\s{1,9}(?:install|run)"
_NPM = r"npm\s{1,9}(?:ci|install|i|add|exec)|npx|pnpm\s{1,9}(?:i|install|add|dlx)"


class _PackageManager(NamedTuple):
    """A package manager: words of which each call has one, how it is called, the hosts that it needs, hosts that serve it as
    well, and the options and variables that name other ones."""

    words: tuple[str, ...]
    called: str
    hosts: tuple[str, ...]
    also: tuple[str, ...]
    otherwise: str


_NO_NETWORK = r"--no-index|--offline|--help|--version"
_NPMS = rf"--registry\b|--no(?:-install)?\b|(?i:npm_config_\w+|yarn_\w*registry\w*)|{_NO_NETWORK}"
_GOS = rf"\bGO(?:PROXY|FLAGS|PRIVATE|NOSUMDB|NOSUMCHECK|SUMDB|NOPROXY|ENV)\b|\s\./|{_NO_NETWORK}"
_PROGRAMS = (
    _PackageManager(
        ("pip", "uv"),
        rf"{_AT}({_PIP})(?![\w-])([^;&|\n]*)",
        ("pypi.org", "files.pythonhosted.org"),
        (),
        rf"--(?:default-)?index(?:-url)?\b|\s-i\s|\b(?:PIP|UV)_\w*(?:INDEX|CONFIG)|{_NO_NETWORK}",
    ),
    _PackageManager(
        ("npm", "npx"), rf"{_AT}({_NPM})(?![\w-])([^;&|\n]*)", ("registry.npmjs.org",), ("registry.yarnpkg.com",), _NPMS
    ),
    _PackageManager(
        ("cargo",),
        rf"{_AT}(cargo\s{{1,9}}(?:install|fetch|add))(?![\w-])([^;&|\n]*)",
        ("index.crates.io", "static.crates.io"),
        (),
        rf"--index\b|--registry\b|--path\b|--git\b|--frozen\b|CARGO_(?:REGISTR|SOURCE|NET|HOME)\w*|{_NO_NETWORK}",
    ),
    # What `go mod download` reads has its sums in the project.
    _PackageManager(("go ",), rf"{_AT}(go\s{{1,9}}mod\s{{1,9}}download)(?![\w-])([^;&|\n]*)", ("proxy.golang.org",), (), _GOS),
    _PackageManager(
        ("go ",),
        rf"{_AT}(go\s{{1,9}}(?:install|get))(?![\w-])([^;&|\n]*)",
        ("proxy.golang.org", "sum.golang.org"),
        (),
        _GOS,
    ),
    _PackageManager(
        ("gem ", "bundle"),
        rf"{_AT}(gem\s{{1,9}}install|bundle\s{{1,9}}(?:install|update|add))(?![\w-])([^;&|\n]*)",
        ("rubygems.org",),
        (),
        rf"--source\b|--local\b|\bBUNDLE_\w+|{_NO_NETWORK}",
    ),
    _PackageManager(
        ("yarn",),
        rf"{_AT}(yarn(?:\s{{1,9}}(?:install|add|dlx)(?![\w-]))?)(?:(?<=yarn)\s*(?=[;&|\n]|\Z)|(?<!yarn)[^;&|\n]*)",
        ("registry.yarnpkg.com",),
        ("registry.npmjs.org",),
        _NPMS,
    ),
)
_PUBLIC = frozenset({*(host for program in _PROGRAMS for host in (*program.hosts, *program.also))})
# A host of this kind may be a registry of the author's own, to which a file of the image points the programs.
_REGISTRY = (
    r"(?:^|[.-])(?:registry|npm|pypi|devpi|artifactory|nexus|mirrors?|proxy|packages|pkgs|apt|deb|jfrog|verdaccio)(?:[.-]|$)"
)
_MAX_SHOWN = 150
# Services that nobody runs himself, by a word in the names of their tokens.
_SERVICES = {
    "SLACK": "slack.com", "STRIPE": "api.stripe.com", "LINEAR": "api.linear.app", "NOTION": "api.notion.com",
    "PAGERDUTY": "api.pagerduty.com",
}  # fmt: skip
# An IPv6 address whose last group is the usual port of a service. Without brackets it is a part of the address.
_PORT_AS_GROUP = (
    r"(?P<address>[0-9a-fA-F:]*:[0-9a-fA-F:]*):(?P<port>80|443|1883|3306|3389|5432|5672|6379|8000|8080|8443|9000|9092|9200)"
)


def check(task: ResolvedTask) -> Iterator[Diagnostic]:
    """Report the hosts that the list lacks, in one finding at the list, with the list to write."""
    network = task.spec.environment.network
    if network is None or not all(task.is_known(route) for route in _READ):
        return
    try:
        entries = [egress.parse(entry) for entry in network.egress]
    except egress.BadEntry:
        return  # `environment` has reported it, and nobody knows which host was meant
    lacking: dict[str, str] = {}
    for index, each in enumerate(entries):
        if isinstance(each, Host) and each.name.endswith(_PRIVATE_ENDS) and re.search(_PRIVATE, each.name):
            message = f"`{each.name}` is a name of a private address, which no list opens: the proxy of pods refuses it"
            hint = "write the address or its network, such as `10.96.0.0/12:8080`, or delete it"
            yield task.at("OPT527", message, (*ROUTE, index), hint=hint)
    yield from _ports_as_groups(task, network.egress)
    needs: set[str] = set()
    for needed, why in _needed(task, entries):
        needs.add(needed)
        if needed not in lacking and not _is_open(entries, needed):
            lacking[needed] = why
    if not lacking:
        return
    whys = dict.fromkeys(lacking.values())
    facts = [f"{_names([host for host in lacking if lacking[host] == why])}, which {why} needs" for why in whys]
    message = f"`egress` lacks {'; and '.join(facts)}"
    below = next((host for host in lacking for entry in entries if str(entry) == f"*.{host}"), None)
    if below is not None:
        message += f": `*.{below}` stands only for the names below it"
    from optio.compiler.yaml.emit import flow  # imported only for a file with a mistake

    listed, added, at = list(network.egress), list(lacking), None
    for host in lacking:
        for text in listed:
            there = _on_port(text, host)
            if isinstance(there, Block) and _is_open([there], host):
                listed[listed.index(text)] = str(there)
                added.remove(host)
                message += f": `{text}` opens port 443 only"
                break
            if isinstance(there, Host) and str(there) == host and text not in needs:
                # Nothing needs the host at 443.
                at, listed[listed.index(text)] = listed.index(text), host
                added.remove(host)
                message += f": `{text}` opens port 443 only"
                break
    whole = f"egress: {flow([*listed, *added])}"
    hint = f"write `{whole}`" if len(whole) <= _MAX_SHOWN else f"add {_names(list(lacking))} to the list"
    if below is not None and len(lacking) == 1:
        entry = next(index for index, each in enumerate(entries) if str(each) == f"*.{below}")
        yield task.at("OPT527", message, (*ROUTE, entry), hint=hint)
    elif at is not None and len(lacking) == 1:
        yield task.at("OPT527", message, (*ROUTE, at), hint=hint)
    else:
        yield task.at("OPT527", message, ROUTE, key=True, hint=hint)


def _ports_as_groups(task: ResolvedTask, listed: list[str]) -> Iterator[Diagnostic]:
    """Report `2001:db8::5:5432`, which is one address, with port 443."""
    for index, text in enumerate(listed):
        found = re.fullmatch(_PORT_AS_GROUP, text) if text.count(":") > 1 else None
        if found is None:
            continue
        meant = f"[{found['address']}]:{found['port']}"
        try:
            egress.parse(meant)
        except egress.BadEntry:
            continue  # the whole text is one full address
        message = f"`{text}` is one address at port 443: without brackets `:{found['port']}` is a part of it"
        hint = f'write `"{meant}"`; if it is the address, write `"[{text}]"`'
        yield task.at("OPT527", message, (*ROUTE, index), hint=hint, value=meant, safe=False)


def _on_port(text: str, needed: str) -> Entry | None:
    """Return an entry without a port with the port of the needed host, or None for an entry with its own."""
    port = egress.parse(needed).port
    if re.search(r":\d{1,5}\Z", text) or port == egress.HTTPS_PORT:
        return None
    return egress.parse(f"{text}:{port}")


def _names(hosts: list[str]) -> str:
    return " and ".join(f"`{host}`" for host in hosts)


def _may_serve_models(entry: str) -> bool:
    """Return whether a listed host could be a gateway: its name says so, and it is neither a maker's own nor for people."""
    own = {service.host for service in PROVIDERS.values()}
    return bool(re.search(_GATEWAY, entry)) and entry not in own and not re.fullmatch(_OF_PEOPLE, entry)


def _needed(task: ResolvedTask, entries: list[Entry]) -> Iterator[tuple[str, str]]:
    """Yield each host, with a port other than 443, and what needs it."""
    spec, environment = task.spec, task.spec.environment
    names = [*environment.env, *environment.secrets]
    service = service_of(spec.agent_runtime, spec.model)
    if (
        service is not None
        and task.is_known(("agentRuntime",))
        and not _is_open(entries, service.host)
        and not any(re.fullmatch(f"{service.elsewhere}|{_PROXY}", name) for name in names)
        and not any(_may_serve_models(str(entry)) for entry in entries)
    ):
        agent = declaration_of(spec.agent_runtime)
        yield service.host, spec.agent_runtime if agent is None else agent.title
    commands = list(environment.setup_commands)
    if spec.command is not None:
        parts = [spec.command] if isinstance(spec.command, str) else spec.command
        # A list may hold a whole script, for `sh -c`.
        commands += [" ".join(parts), *(part for part in parts[1:] if " " in part)]
    called = (each for each in _PROGRAMS if any(word in text for text in commands for word in each.words))
    # Most lists have the hosts of the programs that the commands call.
    programs = [each for each in called if not all(_is_open(entries, host) for host in each.hosts)]
    for text in commands:
        for line in text.splitlines() if "://" in text else ():
            for found in re.finditer(_URL, line):
                if not re.match(_NOT_OPENED, line) and _is_argument(line, found.start()):
                    yield from _host(found)
        for program in programs:
            call = re.search(program.called, text) if any(word in text for word in program.words) else None
            if call is None or re.search(program.otherwise, f"{call[0]} {' '.join(names)}"):
                continue
            if any(_is_open(entries, host) for host in program.also) or (
                not any(_is_open(entries, host) for host in program.hosts) and _has_own_registry(entries)
            ):
                continue
            yield from ((host, f"`{' '.join(call[1].split())}`") for host in program.hosts)
    yield from _services(environment.env, entries)
    yield from _of_secrets(environment.secrets, list(environment.env), entries)
    for name, text in environment.env.items():
        whole = re.match(_URL, text) if "://" in text else None
        if whole is not None and not re.search(_IDENTIFIER, name):
            yield from ((host, f"`{name}`") for host, _ in _host(whole))


def _has_own_registry(entries: list[Entry]) -> bool:
    return any(re.search(_REGISTRY, str(entry)) and str(entry) not in _PUBLIC for entry in entries)


def _services(variables: dict[str, str], entries: list[Entry]) -> Iterator[tuple[str, str]]:
    """Yield the hosts of services other than websites: of pairs of variables such as `PGHOST` and `PGPORT`, and of addresses
    such as `redis://cache.example.com`."""
    for name, text in variables.items():
        called = re.fullmatch(r"(\w*?)HOST(?:NAME)?", name) if "HOST" in name else None
        if called is not None and not re.search(_LISTENS, name):
            host, port, usual = text, variables.get(f"{called[1]}PORT"), _PORTS.get(called[1].rstrip("_").lower())
        elif "://" in text and (address := re.match(_ADDRESS, text)) is not None:
            host, port, usual = address[2], address[3], _PORTS[address[1]]
        else:
            continue
        if ":" in host or re.fullmatch(_LOCAL, host.lower()):
            continue
        try:
            there = egress.parse(f"{host}:{port or usual or egress.HTTPS_PORT}")
            # Without a port in the task, the program may have another one than the usual.
            others = [] if port else [entry for entry in entries if entry.port != egress.HTTPS_PORT and _is_at(entry, host)]
        except egress.BadEntry:
            continue
        if (port or usual) and not others:
            yield (f"{host.lower()}:{there.port}" if there.port != egress.HTTPS_PORT else host.lower()), f"`{name}`"


def _of_secrets(secrets: list[str], variables: list[str], entries: list[Entry]) -> Iterator[tuple[str, str]]:
    """Yield the hosts of services whose token the agent has, unless a listed host or a variable names the service, or a network
    or a proxy may lead to it."""
    for name in secrets:
        words = name.split("_")
        service = next((word for word in words if word in _SERVICES), None)
        if service is None or not {"SIGNING", "HOOK", "WEBHOOK"}.isdisjoint(words):
            continue
        is_named = any(service in each for each in (*variables, *(str(entry).upper() for entry in entries)))
        is_led = any(isinstance(entry, Block) for entry in entries) or any(re.fullmatch(_PROXY, each) for each in variables)
        if not is_named and not is_led:
            yield _SERVICES[service], f"the secret `{name}`"


def _is_at(entry: Entry, host: str) -> bool:
    """Return True if an entry opens some port of the host."""
    return _is_open([entry], f"{host}:{entry.port}")


def _is_argument(line: str, at: int) -> bool:
    """Return True if the address begins a word of the command, and is no part of a quoted sentence or of JSON."""
    before = line[:at]
    opened = before.rstrip("\"'")
    if opened.rstrip().endswith((":", ",", "[", "{")):
        return False
    return before != opened or (before.count('"') % 2 == 0 and before.count("'") % 2 == 0)


def _host(found: re.Match[str]) -> Iterator[tuple[str, str]]:
    name, port = found[1].lower().rstrip("."), found[2]
    if re.fullmatch(_LOCAL, name):
        return
    try:
        entry = egress.parse(f"{name}:{port or egress.HTTPS_PORT}")
    except egress.BadEntry:
        return
    yield str(entry), f"`https://{found[1]}`"


def _is_open(entries: list[Entry], needed: str) -> bool:
    """Return True if one of the entries opens the host. A network may contain what a name stands for, but no public
    registry."""
    other = egress.parse(needed)
    return other in entries or any(_covers(entry, other, needed) for entry in entries)


def _covers(entry: Entry, other: Entry, needed: str) -> bool:
    if entry.port != other.port:
        return False
    if isinstance(entry, Block):
        network = ip_network(entry.network)
        if isinstance(other, Block):
            return ip_network(other.network).network_address in network
        return network.prefixlen == 0 or needed not in _PUBLIC
    if isinstance(other, Block):
        return False
    return other.name.endswith(entry.name[1:]) if entry.name.startswith("*.") else other.name == entry.name
