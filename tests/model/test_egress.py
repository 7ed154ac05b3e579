"""What one entry of `network.egress` stands for."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optio.model.egress import MAX_LIST_LENGTH, METADATA, BadEntry, Block, Host, as_text, metadata_within, parse


@pytest.mark.parametrize(
    ("text", "entry"),
    [
        ("api.github.com", Host("api.github.com", 443)),
        ("API.GitHub.com:8443", Host("api.github.com", 8443)),
        ("*.example.com:80", Host("*.example.com", 80)),
        ("localhost", Host("localhost", 443)),
        ("xn--bcher-kva.example", Host("xn--bcher-kva.example", 443)),
        ("3com.example", Host("3com.example", 443)),
        ("10.0.0.5", Block("10.0.0.5/32", 443)),
        ("10.0.0.5:5432", Block("10.0.0.5/32", 5432)),
        ("10.0.0.5/8:5432", Block("10.0.0.0/8", 5432)),
        ("10.0.0.0/255.0.0.0", Block("10.0.0.0/8", 443)),
        ("0.0.0.0/0", Block("0.0.0.0/0", 443)),
        ("::/0", Block("::/0", 443)),
        ("2001:DB8:0::1", Block("2001:db8::1/128", 443)),
        ("[2001:db8::1]", Block("2001:db8::1/128", 443)),
        ("[2001:db8::/32]:65535", Block("2001:db8::/32", 65535)),
    ],
)
def test_an_entry_is_a_host_or_a_network_and_a_port(text: str, entry: Host | Block) -> None:
    assert parse(text) == entry
    assert parse(str(entry)) == entry


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "*", "*.", "a..b", ".a", "-a", "a-", "a_b", "a.*.b", "*.*.com", "a b", "a\n", "a\x00", "%61"),
        *("a" * 64, "a." * 127 + "a"),
        *("a:", "a:0", "a:00", "a:080", "a:65536", "a:-1", "a:+1", "a: 1", "a:1\n", "a:\u0661", "a:x", "a:1:2", ":443"),
        *("127.1", "1", "0x7f000001", "1.2.3.256", "0x", "a.1", "1.2.3.4.", "10.0.0.0/33", "1.2.3.4/a", "/", "/8"),
        *("[a]", "[a]:1", "[1.2.3.4]", "[2001:db8::1", "2001:db8::1]:1", "[2001:db8::1]x", "[2001:db8::1]:0"),
        *("[]", "[:]", "fe80::1%eth0"),
        *("http://a", "https://a:1/b", "//a", "a/b", "a:1/b", "u@a", "u:p@a", "://"),
        *("::ffff:10.0.0.1", "[::ffff:0:0/96]:1", "::ffff:a9fe:a9fe", "b\u00fccher.example", "\uff41.example", "a\u3002b"),
    ],
)  # fmt: skip
def test_anything_else_is_refused_with_a_cure(text: str) -> None:
    with pytest.raises(BadEntry) as caught:
        parse(text)

    assert caught.value.hint


@pytest.mark.parametrize("address", METADATA)
def test_an_address_that_hands_out_credentials_is_refused_however_it_is_written(address: str) -> None:
    forms = ("{}", "[{}]", "[{}]:80", "{}/128") if ":" in address else ("{}", "{}:80", "{}/32", "{}/32:80")
    for form in forms:
        with pytest.raises(BadEntry):
            parse(form.format(address))


@pytest.mark.parametrize("text", ["metadata.google.internal", "METADATA.google.internal.:80", "metadata.goog"])
def test_so_is_a_name_of_it(text: str) -> None:
    with pytest.raises(BadEntry, match="metadata"):
        parse(text)


@pytest.mark.parametrize(
    "text", ["169.254.0.0/16", "169.0.0.0/8:80", "128.0.0.0/1", "fd00::/8", "[fd00:ec2::/32]:80", "8000::/1"]
)
def test_a_network_that_holds_it_is_refused(text: str) -> None:
    with pytest.raises(BadEntry, match="contains a cloud's metadata address"):
        parse(text)


def test_what_a_wide_network_holds_of_it_is_known() -> None:
    assert metadata_within("0.0.0.0/0") == [a for a in METADATA if ":" not in a]
    assert metadata_within("::/0") == [a for a in METADATA if ":" in a]
    assert metadata_within("100.64.0.0/10") == ["100.100.100.200"]
    assert metadata_within("10.0.0.0/8") == []


@given(st.ip_addresses(), st.integers(0, 128), st.integers(1, 65535))
def test_every_network_is_read_as_it_is_written(address: ipaddress.IPv4Address, prefix: int, port: int) -> None:
    network = ipaddress.ip_network((address, min(prefix, address.max_prefixlen)), strict=False)
    try:
        entry = parse(str(Block(str(network), port)))
    except BadEntry:
        return

    assert entry == Block(str(network), port)


@given(st.text(max_size=40))
def test_no_text_breaks_it(text: str) -> None:
    try:
        entry = parse(text)
    except BadEntry:
        return

    assert parse(str(entry)) == entry
    assert str(entry).isascii()


def test_a_list_is_one_text_whatever_its_order() -> None:
    entries = [parse(text) for text in ("b.example", "10.0.0.0/8", "A.example:80", "b.EXAMPLE:443")]

    assert as_text(entries) == as_text(reversed(entries)) == "10.0.0.0/8,a.example:80,b.example"
    assert as_text([]) == ""


def test_two_hundred_ordinary_names_fit() -> None:
    assert len(as_text(Host(f"service-{n}.region.example.com") for n in range(180))) < MAX_LIST_LENGTH
