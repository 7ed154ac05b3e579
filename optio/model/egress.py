"""One entry of `environment.network.egress`: a host name, an address or a network, each with an optional port.

    api.github.com   *.example.com:8443   10.1.2.3   10.0.0.0/8:5432   2001:db8::1   [2001:db8::/32]:8443

The port is 443 unless given. `*.example.com` stands for every name below `example.com`, at any depth, and not for `example.com`
itself. The module is imported only where a task has such a list, because `ipaddress` costs start time and most tasks have none.
"""

import ipaddress
import re
from collections.abc import Iterable
from functools import lru_cache

from msgspec import Struct

HTTPS_PORT = 443
# The most characters of a list as text: it travels as the user name of a proxy, whose length programs limit.
MAX_LIST_LENGTH = 5900
# Addresses at which clouds serve the credentials and secrets of a machine; the last two are not link-local.
METADATA = (
    "169.254.169.254",
    "169.254.170.2",
    "169.254.170.23",
    "fd00:ec2::254",
    "fd00:ec2::23",
    "100.100.100.200",
    "168.63.129.16",
)
# A network that contains one of these is too wide. The others lie in networks that people have reasons to list.
_NEVER_WITHIN = ("169.254.169.254", "fd00:ec2::254")
_METADATA_NAMES = ("metadata.google.internal", "metadata.goog")
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_NAME = re.compile(rf"(?:\*\.)?(?=.{{1,253}}\Z)(?:{_LABEL}\.)*{_LABEL}")
# Programs read such a name as an address: 127.1, 0x7f000001.
_NUMBER = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)")
_ADDRESS = re.compile(r"[0-9a-fA-F.:]+(?:/[0-9.]+)?")
_PORT = r"[1-9][0-9]{0,4}"
_SCHEMES = {"http": ":80", "https": "", "": ""}
_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")


class BadEntry(ValueError):
    """An entry that names no host or network, or one that no agent may reach. `hint` is the cure; `meant` is the corrected
    entry where there is one, for a quick fix."""

    def __init__(self, message: str, hint: str, suggestion: str | None = None) -> None:
        super().__init__(message)
        self.hint, self.meant = (hint if suggestion is None else f"write `{suggestion}`"), suggestion


class Host(Struct, frozen=True):
    """A host name in lower case, or `*.` and a name: then every name that ends with it."""

    name: str
    port: int = HTTPS_PORT

    def __str__(self) -> str:
        return self.name if self.port == HTTPS_PORT else f"{self.name}:{self.port}"


class Block(Struct, frozen=True):
    """An address or a network in CIDR form, such as `10.1.2.3/32`, with the one port that is open on it."""

    network: str
    port: int = HTTPS_PORT

    def __str__(self) -> str:
        if self.port == HTTPS_PORT:
            return self.network
        return f"[{self.network}]:{self.port}" if ":" in self.network else f"{self.network}:{self.port}"


Entry = Host | Block


_MAX_NETWORK_BITS = 24


@lru_cache(maxsize=1024)
def parse(text: str) -> Entry:
    """Return the host or network that an entry stands for; raise BadEntry, with a cure, for anything else."""
    if "://" in text:
        raise _url_error(text)
    host, port = _split(text)
    if host.lower().rstrip(".") in _METADATA_NAMES:
        raise _metadata_error(host)
    network = _network(host)
    if network is None:
        if "/" in text:
            raise _url_error(text)
        name = host.lower()
        if not _NAME.fullmatch(name) or _NUMBER.fullmatch(name):
            raise BadEntry(f"`{text}` is not a host name", _hint(name), _suggestion(name, port))
        return Host(name, _number(text, port))
    if network.num_addresses == 1 and str(network.network_address) in METADATA:
        raise _metadata_error(host)
    # `0.0.0.0/0` is allowed: it plainly means everything, and nobody takes it for a narrow list.
    if network.prefixlen > 0 and any(_contains(network, address) for address in _NEVER_WITHIN):
        raise BadEntry(f"`{host}` contains a cloud's metadata address", "leave 169.254.169.254 out")
    return Block(str(network), _number(text, port))


def as_text(entries: Iterable[Entry]) -> str:
    """Return a list of entries as the egress proxy reads it: sorted, without duplicates, so that equal lists give equal
    text."""
    return ",".join(sorted({str(entry) for entry in entries}))


def metadata_within(network: str) -> list[str]:
    """Return the cloud metadata addresses that lie within a network, which the network policy must except."""
    parsed = ipaddress.ip_network(network)
    return [address for address in METADATA if _contains(parsed, address)]


def _split(text: str) -> tuple[str, str | None]:
    """Return host and port; an IPv6 address needs brackets to have a port."""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if bracket and ":" in host and (not rest or rest.startswith(":")):
            return host, rest[1:] if rest else None
        return text, None
    if text.count(":") == 1:
        host, _, port = text.partition(":")
        return host, port
    return text, None


def _network(host: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    if not _ADDRESS.fullmatch(host):
        return None
    try:
        network = ipaddress.ip_network(host, strict=False)
    except ValueError:
        return None
    if isinstance(network, ipaddress.IPv6Network) and network.subnet_of(_MAPPED):
        bits = int(network.network_address) & 0xFFFF_FFFF
        plain = ipaddress.IPv4Network((bits, network.prefixlen - _MAPPED.prefixlen))
        raise BadEntry(f"`{host}` is an IPv4 address in IPv6 form", "", str(plain))
    return network


def _contains(network: ipaddress.IPv4Network | ipaddress.IPv6Network, address: str) -> bool:
    return ipaddress.ip_address(address) in network


def _number(text: str, port: str | None) -> int:
    if port is None:
        return HTTPS_PORT
    if not re.fullmatch(_PORT, port) or int(port) > 65535:
        several = re.match(r"[0-9]+(?=[-,])", port)
        hint = "write `host:8443`; without a port it is 443"
        if port.lower() in _SCHEMES and port:
            hint = f"write `{text[: -len(port) - 1]}{_SCHEMES[port.lower()]}`"
        if several is not None:
            hint = f"write `{text[: -len(port)]}{several[0]}`, and an entry for each further port"
        raise BadEntry(f"`{text}` needs a port from 1 to 65535", hint)
    return int(port)


def _url_error(text: str) -> BadEntry:
    scheme, _, rest = text.rpartition("://")
    bare = rest.split("/", 1)[0].split("@")[-1]
    if ":" not in bare:
        bare += _SCHEMES.get(scheme.lower(), "") if bare else ""
    masked = re.sub(r"//[^/@]*@", "//***@", text)
    return BadEntry(f"`{masked}` is not a host name", "write the host's name alone", bare or None)


def _metadata_error(host: str) -> BadEntry:
    return BadEntry(f"`{host}` is a cloud's metadata address", "delete it: it hands out the node's credentials")


def _hint(name: str) -> str:
    if name.strip("*.") == "":
        return "delete `environment.network`, which opens every public address, or name the hosts"
    if "*" in name:
        rest = name.rpartition("*")[2].lstrip("-.")
        return f"a wildcard stands first: write `*.{rest if _NAME.fullmatch(rest) and '.' in rest else 'example.com'}`"
    if "-" in name and (network := _smallest_network(*name.split("-", 1))) is not None:
        return f"write `{network}`, the network that contains these addresses"
    return "write a host name, such as `api.example.com`, or an address such as `10.0.0.0/8`"


def _smallest_network(first: str, last: str) -> str | None:
    """Return the smallest network that holds both addresses; None where either is not an IPv4 address, or the network would be
    wider than a /8."""
    try:
        low, high = ipaddress.IPv4Address(first), ipaddress.IPv4Address(last)
    except ValueError:
        return None
    bits = (int(low) ^ int(high)).bit_length()
    return str(ipaddress.IPv4Network((int(low) >> bits << bits, 32 - bits))) if bits <= _MAX_NETWORK_BITS else None


def _suggestion(name: str, port: str | None) -> str | None:
    if (match := re.fullmatch(rf"([0-9a-f:]*:[0-9a-f:]*):({_PORT})", name)) is not None and _network(match[1]) is not None:
        return f"[{match[1]}]:{match[2]}"
    bare = re.sub(r"\A[^\w*]+|[^\w]+\Z", "", name.rpartition("@")[2])
    if name.startswith(".") and _NAME.fullmatch(bare):  # every name below it, as in lists of proxies
        bare = f"*.{bare}"
    plain = bare if bare.isascii() else _ascii(bare)
    if plain is None or plain == name or not _NAME.fullmatch(plain) or _NUMBER.fullmatch(plain):
        return None
    return plain if port is None else f"{plain}:{port}"


def _ascii(name: str) -> str | None:
    """Return a name in the ASCII form of the DNS (IDNA); None if it has none."""
    if len(name) > 253:
        return None
    try:
        plain = name.encode("idna").decode()
    except UnicodeError:
        return None
    return plain if _NAME.fullmatch(plain) else None
