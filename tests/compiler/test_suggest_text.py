"""What is proposed where somebody wrote a list or a mapping: following it leaves no error there."""

from typing import Any

import pytest

from optio.compiler.conversions import values
from optio.compiler.conversions.suggest_text import convert_to_text
from optio.model.egress import parse

PLACE = ("environment", "network", "egress", 0)


@pytest.mark.parametrize(
    ("value", "proposed"),
    [
        ({"host": "https://api.github.com", "port": 443}, "api.github.com"),
        ({"url": "https://api.github.com:8443/v3/repos"}, "api.github.com:8443"),
        ({"host": "api.github.com/repos"}, "api.github.com"),
        ({"cidr": "10.0.0.0/8", "port": 5432}, "10.0.0.0/8:5432"),
        ([{"to": [{"ipBlock": {"cidr": "10.1.0.0/16"}}], "ports": [{"port": 443}]}], "10.1.0.0/16"),
    ],
)
def test_an_egress_entry_made_of_a_mapping_can_be_written_as_it_is_proposed(value: Any, proposed: str) -> None:
    found = convert_to_text(PLACE, value)

    assert found == proposed
    parse(found)


def test_a_network_among_hosts_keeps_its_length() -> None:
    assert values.hosts(["https://pypi.org/simple", "10.0.0.0/8"]) == "[pypi.org, '10.0.0.0/8']"
