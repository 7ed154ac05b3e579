"""Squid's helper: is this list of hosts one that a worker wrote, and is that destination on it?

Squid starts it twice, as `allow.py user` and as `allow.py listed`, and sends one line for each question: the channel's number,
then percent-encoded words. The answer is the number and OK or ERR. A user is the list itself in URL-safe base64, `1,` and then
the entries of `environment.network.egress`, separated by commas; his password is its HMAC-SHA256 by OPTIO_EGRESS_KEY, which the
workers have too. So the proxy knows no task, and keeps nothing.
"""

import base64
import hmac
import ipaddress
import os
import re
import sys
from functools import lru_cache
from urllib.parse import unquote_to_bytes

CONTEXT = b"optio egress list\n"
HTTPS = 443
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"(?=.{{1,253}}\Z)(?:{_LABEL}\.)*{_LABEL}")
# Squid, like most programs, reads such a name as an address: 127.1, 0x7f000001, 2130706433.
_NUMBER = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)")
_PORT = re.compile(r"[1-9][0-9]{0,4}")


def key() -> bytes:
    """OPTIO_EGRESS_KEY, or the content of the file that OPTIO_EGRESS_KEY_FILE names."""
    path = os.environ.get("OPTIO_EGRESS_KEY_FILE")
    if path:
        with open(path, "rb") as file:
            return file.read().strip()
    return os.environ.get("OPTIO_EGRESS_KEY", "").strip().encode()


def genuine(user: str, password: str, secret: bytes) -> bool:
    """Whether a worker wrote this list."""
    expected = base64.urlsafe_b64encode(hmac.digest(secret, CONTEXT + user.encode(), "sha256")).rstrip(b"=")
    return hmac.compare_digest(password.encode(), expected)


def listed(user: str, host: str, port: str) -> bool:
    """Whether the list has this destination."""
    if not _PORT.fullmatch(port):
        return False
    names, networks = entries(user)
    wanted = int(port)
    name = host.lower().removesuffix(".")
    address = _address(name)
    if address is not None:
        return any(wanted == number and address in network for network, number in networks)
    if not _NAME.fullmatch(name) or _NUMBER.fullmatch(name):
        return False
    if (name, wanted) in names:
        return True
    labels = name.split(".")
    return any(("*." + ".".join(labels[at:]), wanted) in names for at in range(1, len(labels)))


@lru_cache(maxsize=512)
def entries(user):
    """(names with ports, networks with ports) of a list; nothing for what is no list."""
    names, networks = set(), []
    try:
        version, _, rest = base64.b64decode(user + "=" * (-len(user) % 4), b"-_", validate=True).decode("ascii").partition(",")
    except ValueError:
        return names, networks
    if version != "1":
        return names, networks
    for entry in filter(None, rest.split(",")):
        host, port = _split(entry)
        try:
            networks.append((ipaddress.ip_network(host), port))
        except ValueError:
            names.add((host, port))
    return names, networks


def _split(entry):
    if entry.startswith("["):
        host, _, port = entry[1:].partition("]:")
    elif entry.count(":") == 1:
        host, _, port = entry.partition(":")
    else:
        host, port = entry, ""
    return host, int(port) if port else HTTPS


def _address(host):
    try:
        address = ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        return None
    if getattr(address, "scope_id", None):
        return None
    return getattr(address, "ipv4_mapped", None) or address


def answer(question: str, line: bytes, secret: bytes) -> bytes:
    """The answer to one line of Squid's."""
    channel, *words = line.rstrip(b"\r\n").split(b" ")
    try:
        # What a helper is told besides, if anything, is a dash.
        first, *rest = [unquote_to_bytes(word).decode("ascii") for word in words if word != b"-"]
        if question == "user":
            (password,) = rest
            good = genuine(first, password, secret)
        else:
            host, port = rest
            good = listed(first, host, port)
    except ValueError:
        good = False
    return channel + (b" OK\n" if good else b" ERR\n")


def main() -> None:
    """Answer until Squid closes the pipe."""
    question, secret = sys.argv[1], key()
    for line in sys.stdin.buffer:
        sys.stdout.buffer.write(answer(question, line, secret))
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
