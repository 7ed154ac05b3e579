#!/usr/bin/python3 -IS
"""The first process of the egress proxy: looks at what it was given, writes which addresses are private, becomes Squid.

EGRESS_ALLOW_PRIVATE: networks, separated by commas, that are not private here: a company's own services, say. What names
resolve to beyond them is refused, whoever lists the name.
"""

import ipaddress
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
from allow import key

SHORTEST_KEY = 32
STATE = "/tmp/private-networks"  # noqa: S108 - the one directory that can be written, and nobody else is here
# The same as in optio/executors/pods/network.py, from which agents are kept by their policies.
PRIVATE = (
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "168.63.129.16/32",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "224.0.0.0/3",
)
# In IPv6 all but 2000::/3, and what carries an IPv4 address. Squid keeps those in ::ffff:0:0/96, which is therefore not here.
PRIVATE6 = ("::/96", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "2001::/32", "2002::/16", "4000::/2", "8000::/1")
# What hands out a machine's credentials is never let through.
METADATA = (
    "169.254.169.254",
    "169.254.170.2",
    "169.254.170.23",
    "fd00:ec2::254",
    "fd00:ec2::23",
    "100.100.100.200",
    "168.63.129.16",
)


def private(allowed):
    """All networks that are private, without those that the operator allows; in the order of their addresses."""
    found = [ipaddress.ip_network(text) for text in PRIVATE + PRIVATE6]
    for network in allowed:
        found = without(found, network)
    for text in METADATA:
        single = ipaddress.ip_network(text)
        if not any(single.version == one.version and single.subnet_of(one) for one in found):
            found.append(single)
    return sorted(found, key=lambda network: (network.version, network))


def without(networks, hole):
    """The networks less one."""
    left = []
    for network in networks:
        if network.version != hole.version or not network.overlaps(hole):
            left.append(network)
        elif not network.subnet_of(hole):
            left += network.address_exclude(hole)
    return left


def allowed(text):
    """What the operator allows; raises ValueError with the entry that is none."""
    found = []
    for entry in filter(None, (part.strip() for part in text.split(","))):
        try:
            found.append(ipaddress.ip_network(entry, strict=False))
        except ValueError:
            raise ValueError(f"EGRESS_ALLOW_PRIVATE: `{entry}` is no address or network: write 10.1.0.0/16,10.2.3.4") from None
    return found


def own_stdout():
    """Put a pipe of ours before standard output: Squid opens /dev/stdout, which who is not root may not if root made it."""
    read, write = os.pipe()
    if os.fork() == 0:
        os.dup2(read, 0)
        os.close(read)
        os.close(write)
        # Ends when Squid, the only writer, has ended.
        os.execv("/bin/cat", ["cat"])  # noqa: S606
    os.dup2(write, 1)
    os.close(read)
    os.close(write)


def main():
    try:
        if len(key()) < SHORTEST_KEY:
            sys.exit(f"OPTIO_EGRESS_KEY has fewer than {SHORTEST_KEY} characters: give it the value that the workers have")
        networks = private(allowed(os.environ.get("EGRESS_ALLOW_PRIVATE", "")))
        with open(STATE, "w") as file:
            file.write("".join(f"{network}\n" for network in networks))
    except OSError as err:
        sys.exit(f"{err.filename}: {err.strerror}")
    except ValueError as err:
        sys.exit(str(err))
    own_stdout()
    configuration = os.path.join(os.path.dirname(os.path.realpath(__file__)), "squid.conf")
    os.execv("/usr/sbin/squid", ["squid", "-N", "-d", "1", "-f", configuration])  # noqa: S606


if __name__ == "__main__":
    main()
