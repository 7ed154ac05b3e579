"""What the network lets a pod reach: policies against golden files, and the way to the egress proxy.

`REWRITE_GOLDEN=1 pytest tests/executors/pods/test_network.py` writes the expected policies anew; read the difference before you
commit it.
"""

import base64
import hashlib
import hmac
import ipaddress
import json
import os
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies_environment, proxy_bypass_environment

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optio.errors import LaunchFailed, SettingsError
from optio.executors.pods import network
from optio.executors.pods.network import (
    Proxy,
    Resolver,
    credentials,
    digest,
    egress_gate,
    egress_of,
    gateway_of,
    host_aliases,
    policy,
    proxy_of,
    resolvers_of,
    variables,
)
from optio.model.egress import METADATA, as_text, parse
from optio.model.mask import MIN_VALUE_LENGTH, Masker
from optio.model.task import Network
from tests.executors.pods.image import program

GOLDEN = Path(__file__).parent / "golden"
PROXY = Proxy(host="optio-egress.optio.svc", port=3128, namespace="optio")
AT = PROXY.at("10.96.3.4")
KEY = b"0123456789abcdef0123456789abcdef"
LISTS: dict[str, list[str] | None] = {
    "public": None,
    "nothing": [],
    "names": ["api.github.com", "*.example.com:8443"],
    "addresses": ["10.1.2.3:5432", "192.168.0.0/16:5432", "2001:db8::/32"],
    "everything": ["0.0.0.0/0", "::/0", "api.github.com"],
}


SERVICE = gateway_of("http://optio-gateway.optio.svc:8100").at(["10.96.5.6"])


def made(entries: list[str] | None, gateway: network.GatewayAddress | None = None) -> network.Egress:
    return egress_of(None if entries is None else Network(egress=entries), gateway)


@pytest.mark.parametrize("name", LISTS)
def test_the_policy_is_the_golden_one(name: str) -> None:
    path = GOLDEN / f"policy-{name}.json"

    text = json.dumps(policy(made(LISTS[name]), "optio-runs", "acme", PROXY), indent=2) + "\n"

    if os.environ.get("REWRITE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text()


def test_the_gate_is_the_golden_one() -> None:
    path = GOLDEN / "gate.json"
    gate = egress_gate(made([]), "registry.example/egress@sha256:" + "0" * 64, AT)

    text = json.dumps([gate.container, gate.volume, gate.mount], indent=2) + "\n"

    if os.environ.get("REWRITE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text()


@pytest.mark.parametrize(("name", "looks"), [("nothing", True), ("names", True), ("public", False), ("addresses", False)])
def test_a_gate_looks_at_the_clusters_api_where_no_rule_could_allow_it(name: str, looks: bool) -> None:
    gate = egress_gate(made(LISTS[name]), "egress:1", AT)

    assert ("--api" in gate.container["command"]) is looks


def allowed(entries: list[str] | None, address: str, port: int) -> bool:
    """Whether the policy lets a packet out, by the words of the NetworkPolicy API."""
    wanted = ipaddress.ip_address(address)
    for rule in policy(made(entries), "optio-runs", "acme", PROXY)["spec"]["egress"]:
        if "ports" in rule and port not in [p["port"] for p in rule["ports"]]:
            continue
        for peer in rule["to"]:
            block = peer.get("ipBlock")
            networks = [ipaddress.ip_network(text) for text in (block["cidr"], *block.get("except", []))] if block else []
            if networks and wanted in networks[0] and not any(wanted in excepted for excepted in networks[1:]):
                return True
    return False


@pytest.mark.parametrize(
    "address",
    [
        *(
            "10.96.0.1",
            "10.244.0.7",
            "172.31.0.1",
            "192.168.1.1",
            "100.64.0.1",
            "169.254.169.254",
            "168.63.129.16",
            "127.0.0.1",
        ),
        *("0.0.0.0", "224.0.0.1", "255.255.255.255", "198.18.0.1", "::1", "fe80::1", "fd00:ec2::254", "fc00::1", "ff02::1"),
        *("::ffff:10.0.0.1", "64:ff9b::a00:1", "2002:a00:1::", "::"),
    ],
)
def test_without_a_list_nothing_private_is_reached(address: str) -> None:
    assert not any(allowed(None, address, port) for port in (22, 53, 80, 443, 6443))


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "9.255.255.255", "172.15.0.1", "172.32.0.1", "223.255.255.255", "2606:4700::1111"]
)
def test_without_a_list_all_that_is_public_is_reached(address: str) -> None:
    assert allowed(None, address, 443)
    assert allowed(None, address, 22)


def test_private_is_what_python_takes_for_private() -> None:
    """Where the table of the standard library and ours differ, it is for a reason."""
    ours = [ipaddress.IPv4Network(text) for text in network.PRIVATE]
    near = [int(edge) + step for one in ours for edge in (one.network_address, one.broadcast_address) for step in (-1, 0, 1)]
    edges = {ipaddress.IPv4Address(number) for number in near if 0 <= number < 1 << 32}

    differ = {str(edge) for edge in edges if any(edge in one for one in ours) == (edge.is_global and not edge.is_multicast)}

    # Azure's machines ask this one for their secrets. The others are the rest of a block that holds two public services: Python
    # takes all of it for private up to 3.11.3, and none of that rest later.
    assert differ - {"192.0.0.254", "192.0.0.255"} == {"168.63.129.16"}


def test_the_egress_proxy_takes_the_same_for_private() -> None:
    start = program("start")

    assert start.PRIVATE == network.PRIVATE
    assert start.METADATA == METADATA


def test_what_is_listed_is_reached_and_nothing_beside_it() -> None:
    entries = ["10.1.2.3:5432", "192.168.0.0/16:5432", "100.64.0.0/10"]

    assert allowed(entries, "10.1.2.3", 5432)
    assert allowed(entries, "192.168.9.9", 5432)
    assert allowed(entries, "100.64.0.1", 443)
    assert not allowed(entries, "10.1.2.3", 443)
    assert not allowed(entries, "10.1.2.4", 5432)
    assert not allowed(entries, "1.1.1.1", 443)
    assert not allowed(entries, "100.100.100.200", 443)


def test_everything_has_no_metadata_in_it() -> None:
    assert allowed(["0.0.0.0/0", "::/0"], "10.0.0.1", 443)
    assert allowed(["0.0.0.0/0", "::/0"], "2606:4700::1111", 443)
    assert not any(allowed(["0.0.0.0/0", "::/0"], address, 443) for address in ("169.254.169.254", "fd00:ec2::254"))


def test_only_a_task_without_a_list_has_names_resolved() -> None:
    with_dns = [
        name for name, entries in LISTS.items() if '"kube-dns"' in json.dumps(policy(made(entries), "r", "acme", PROXY))
    ]

    assert with_dns == ["public"]


def test_names_may_be_resolved_elsewhere() -> None:
    proxy = proxy_of(
        "optio-egress.optio.svc:3128", "openshift-dns/dns.operator.openshift.io/daemonset-dns=default:5353, 10.0.0.2"
    )

    rules = policy(made(None), "r", "acme", proxy)["spec"]["egress"]

    assert [rule["ports"][0]["port"] for rule in rules if "ports" in rule] == [3128, 5353, 53]
    assert rules[1]["to"][0]["namespaceSelector"] == {"matchLabels": {"kubernetes.io/metadata.name": "openshift-dns"}}
    assert rules[1]["to"][0]["podSelector"] == {"matchLabels": {"dns.operator.openshift.io/daemonset-dns": "default"}}
    assert rules[2]["to"] == [{"ipBlock": {"cidr": "10.0.0.2/32"}}]


@pytest.mark.parametrize(
    ("setting", "where", "port"),
    [
        ("kube-system/k8s-app=kube-dns", ("kube-system", "k8s-app", "kube-dns"), 53),
        ("10.0.0.2", "10.0.0.2/32", 53),
        ("10.0.0.2:10053", "10.0.0.2/32", 10053),
        ("fd00::443", "fd00::443/128", 53),
        ("[fd00::443]:5353", "fd00::443/128", 5353),
    ],
)
def test_a_resolver_is_pods_or_an_address(setting: str, where: tuple[str, str, str] | str, port: int) -> None:
    assert resolvers_of(setting) == (Resolver(where, port),)


@pytest.mark.parametrize(
    "setting", ["kube-dns", "kube-system/k8s-app", "kube-system/k8s-app=x:0", "a/b=c:99999", "dns.example", "1.2.3.4:x"]
)
def test_any_other_resolver_is_refused_with_an_example(setting: str) -> None:
    with pytest.raises(SettingsError, match="OPTIO_KUBE_DNS has"):
        resolvers_of(setting)


def test_tasks_that_differ_in_names_share_a_policy() -> None:
    assert (
        digest(made(["a.example"]), "acme", PROXY)
        == digest(made(["b.example:1"]), "acme", PROXY)
        == digest(made([]), "acme", PROXY)
    )


def test_what_makes_other_rules_makes_another_policy() -> None:
    other = Proxy(host="optio-egress.other.svc", port=3128, namespace="other")
    digests = [
        digest(made(None), "acme", PROXY),
        digest(made([]), "acme", PROXY),
        digest(made([]), "other", PROXY),
        digest(made([]), "acme", other),
        digest(made(["10.0.0.0/8"]), "acme", PROXY),
        digest(made(["10.0.0.0/8:80"]), "acme", PROXY),
    ]

    assert len(set(digests)) == len(digests)


@given(st.permutations(["10.0.0.0/8", "10.0.0.0/8", "a.example", "A.EXAMPLE:443", "2001:db8::1"]))
def test_neither_order_nor_repetition_matters(entries: list[str]) -> None:
    first = ["10.0.0.0/8", "a.example", "2001:db8::1"]

    assert policy(made(entries), "r", "acme", PROXY) == policy(made(first), "r", "acme", PROXY)
    assert variables(made(entries), KEY, AT) == variables(made(first), KEY, AT)


def test_without_a_list_programs_go_their_way_directly() -> None:
    assert variables(made(None), KEY, AT) == {}


@pytest.mark.parametrize("name", ["nothing", "names", "addresses", "everything"])
def test_the_proxys_url_carries_the_list_and_its_proof(name: str) -> None:
    found = variables(made(LISTS[name]), KEY, AT)

    url = urlsplit(found["HTTPS_PROXY"])
    assert url.username
    assert url.password
    assert (url.scheme, url.hostname, url.port) == ("http", "10.96.3.4", 3128)
    entries = base64.urlsafe_b64decode(url.username + "=" * (-len(url.username) % 4)).decode()
    assert entries == "1," + as_text(parse(entry) for entry in LISTS[name] or [])
    proof = hmac.new(KEY, b"optio egress list\n" + url.username.encode(), hashlib.sha256).digest()
    assert url.password == base64.urlsafe_b64encode(proof).rstrip(b"=").decode()
    assert {found[n] for n in ("HTTP_PROXY", "http_proxy", "https_proxy")} == {found["HTTPS_PROXY"]}


def test_the_proxy_understands_what_the_worker_wrote() -> None:
    allow = program("allow")
    url = urlsplit(variables(made(LISTS["names"]), KEY, AT)["https_proxy"])

    assert allow.genuine(url.username, url.password, KEY)
    assert not allow.genuine(url.username, url.password, KEY[::-1])
    assert allow.listed(url.username, "api.github.com", "443")
    assert not allow.listed(url.username, "api.github.com", "80")


def test_what_is_listed_by_address_is_reached_directly() -> None:
    found = variables(made(["10.1.2.3:5432", "192.168.0.0/16", "2001:db8::1", "a.example"]), KEY, AT)

    assert found["NO_PROXY"] == "localhost,127.0.0.1,::1,10.1.2.3,192.168.0.0/16,2001:db8::1"
    assert found["no_proxy"] == found["NO_PROXY"]


def test_python_understands_the_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in variables(made(["10.1.2.3", "a.example"]), KEY, AT).items():
        monkeypatch.setenv(name, value)

    assert getproxies_environment()["https"].endswith("@10.96.3.4:3128")
    assert proxy_bypass_environment("10.1.2.3")
    assert not proxy_bypass_environment("a.example")


# The gateway


@pytest.mark.parametrize("name", LISTS)
def test_an_agent_that_is_led_through_the_gateway_reaches_its_pods_at_their_port_and_nothing_else_more(name: str) -> None:
    without, led = (policy(made(LISTS[name], gateway), "optio-runs", "acme", PROXY) for gateway in (None, SERVICE))

    more = [rule for rule in led["spec"]["egress"] if rule not in without["spec"]["egress"]]
    assert len(led["spec"]["egress"]) == len(without["spec"]["egress"]) + 1
    assert more == [
        {
            "to": [
                {
                    "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "optio"}},
                    "podSelector": {"matchLabels": {"optio.dev/gateway": "optio-gateway"}},
                }
            ],
            "ports": [{"protocol": "TCP", "port": 8100}],
        }
    ]
    assert led["metadata"]["name"] != without["metadata"]["name"]
    assert led["spec"]["ingress"] == []


@pytest.mark.parametrize(
    ("url", "service", "port"),
    [
        ("http://optio-gateway.optio.svc:8100", ("optio", "optio-gateway"), 8100),
        ("http://gateway-a.ai.svc.cluster.local:8100/", ("ai", "gateway-a"), 8100),
        ("https://optio-gateway.optio.svc", ("optio", "optio-gateway"), 443),
        ("http://gateway.svc.example.com", None, 80),
        ("https://gateway.example.com", None, 443),
        ("http://gateway.internal:8100", None, 8100),
        ("http://10.1.2.3:8100", None, 8100),
    ],
)
def test_a_service_of_the_cluster_is_told_from_other_hosts(url: str, service: tuple[str, str] | None, port: int) -> None:
    found = gateway_of(url)

    assert (found.service, found.port) == (service, port)


def test_a_gateway_outside_of_the_cluster_is_opened_by_each_of_its_addresses() -> None:
    gateway = gateway_of("https://gateway.example.com").at(["192.0.2.7", "2001:db8::7", "192.0.2.7"])

    (rule,) = policy(made([], gateway), "optio-runs", "acme", PROXY)["spec"]["egress"][1:]

    assert rule["to"] == [{"ipBlock": {"cidr": "192.0.2.7/32"}}, {"ipBlock": {"cidr": "2001:db8::7/128"}}]
    assert rule["ports"] == [{"protocol": "TCP", "port": 443}]
    again = gateway_of("https://gateway.example.com").at(["2001:db8::7", "192.0.2.7"])
    assert digest(made([], again), "acme", PROXY) == digest(made([], gateway), "acme", PROXY), "the order is the resolver's"


def test_the_name_of_the_gateway_is_found_without_a_resolver_and_reached_without_the_proxy() -> None:
    egress = made([], SERVICE)

    found = variables(egress, KEY, AT)

    assert host_aliases(egress) == [{"ip": "10.96.5.6", "hostnames": ["optio-gateway.optio.svc"]}]
    assert "optio-gateway.optio.svc" in found["NO_PROXY"].split(",")
    assert proxy_bypass_environment("optio-gateway.optio.svc:8100", {"no": found["no_proxy"]})
    assert not proxy_bypass_environment("other.optio.svc:8100", {"no": found["no_proxy"]})
    assert credentials(egress, KEY) == credentials(made([]), KEY), "the proxy opens it to nobody"


@pytest.mark.parametrize("gateway", [None, gateway_of("http://10.1.2.3:8100").at(["10.1.2.3"])])
def test_no_name_needs_no_line_in_the_pods_hosts(gateway: network.GatewayAddress | None) -> None:
    assert host_aliases(made([], gateway)) == []


def test_a_proxy_may_have_an_ipv6_address() -> None:
    assert urlsplit(variables(made([]), KEY, PROXY.at("fd00::7"))["HTTPS_PROXY"]).hostname == "fd00::7"


@pytest.mark.parametrize(
    ("setting", "host", "port", "namespace"),
    [
        ("optio-egress.optio.svc:3128", "optio-egress.optio.svc", 3128, "optio"),
        ("optio-egress.optio.svc.cluster.local:3128", "optio-egress.optio.svc.cluster.local", 3128, "optio"),
        ("optio-egress.optio.svc=10.96.3.4:3128", "10.96.3.4", 3128, "optio"),
        ("optio-egress.optio=[fd00::7]:3128", "fd00::7", 3128, "optio"),
    ],
)
def test_the_setting_names_service_and_port(setting: str, host: str, port: int, namespace: str) -> None:
    assert proxy_of(setting) == Proxy(host=host, port=port, namespace=namespace)


def test_the_address_is_known_where_the_setting_has_it() -> None:
    assert proxy_of("optio-egress.optio.svc=10.96.3.4:3128").address == "10.96.3.4"
    assert proxy_of("optio-egress.optio.svc:3128").address is None


@pytest.mark.parametrize(
    "setting",
    [
        *("", "optio-egress", "optio-egress:3128", "optio-egress.optio.svc", "10.96.3.4:3128", "a.b:0", "a.b:65535", "a.b:x"),
        *("a.b=c.d:3128", "a.b=10.0.0.1", "http://a.b:3128", "A.B:1", "a.b :1", "a.b:1\n", "=1.2.3.4:1", "1.2.3.4=1.2.3.4:1"),
    ],
)
def test_any_other_setting_is_refused_with_an_example(setting: str) -> None:
    with pytest.raises(SettingsError, match="OPTIO_KUBE_EGRESS is"):
        proxy_of(setting)


@pytest.mark.parametrize("entry", ["{{HOST}}", "169.254.169.254", "https://a.example", "a.example:0"])
def test_what_cannot_be_enforced_does_not_start(entry: str) -> None:
    with pytest.raises(LaunchFailed, match=r"environment\.network\.egress") as caught:
        made(["a.example", entry])

    assert caught.value.reason == "network"
    assert not caught.value.temporary


def test_a_list_that_no_program_could_carry_does_not_start() -> None:
    with pytest.raises(LaunchFailed, match="a list of 9449 characters, of which 5900 can be enforced"):
        made([f"name-{n:04}.of.example" for n in range(450)])


@pytest.mark.parametrize("name", ["nothing", "names", "addresses"])
def test_a_log_shows_nothing_that_opens_the_proxy_and_everything_else(name: str) -> None:
    """What `env` and `curl -v` print."""
    found = variables(made(LISTS[name]), KEY, AT)
    user, password = credentials(made(LISTS[name]), KEY)
    basic = base64.b64encode(f"{user}:{password}".encode()).decode()
    rest = f"NO_PROXY={found['NO_PROXY']} {' '.join(LISTS[name] or ())} http proxy localhost Basic user password"
    said = "\n".join([*(f"{key}={value}" for key, value in found.items()), f"Proxy-Authorization: Basic {basic}"])

    mask = Masker((user, password))

    shown = mask(said.encode()).decode()
    assert password not in shown
    assert len(user) < MIN_VALUE_LENGTH or user not in shown
    assert basic[-20:-4] not in shown
    assert mask(rest.encode()).decode() == rest
