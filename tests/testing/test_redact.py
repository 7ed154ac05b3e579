"""What a captured payload does not hold."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optio.testing.redact import REDACTED, Redactor

TOKEN = "ghp_" + "a1B2" * 9
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.sampled_from([TOKEN, "s3cr3t-value", "a@corp.io"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)


@pytest.mark.parametrize(
    ("payload", "redacted", "kinds"),
    [
        ({"note": f"use {TOKEN} now"}, {"note": f"use {REDACTED} now"}, ["a GitHub token"]),
        ({"a": ["x s3cr3t-value"]}, {"a": [f"x {REDACTED}"]}, ["the value of a secret of the task"]),
        ({"access_token": "abc"}, {"access_token": REDACTED}, ["a credential, by its name"]),
        ({"clientSecret": "abc"}, {"clientSecret": REDACTED}, ["a credential, by its name"]),
        ({"X-Api-Key": "abc"}, {"X-Api-Key": REDACTED}, ["a credential, by its name"]),
        (
            {"secrets": {"password": ["a", "b"]}},
            {"secrets": {"password": [REDACTED, REDACTED]}},
            ["a credential, by its name"] * 2,
        ),
        (
            {"SubscribeURL": "https://sns.io/?Action=Confirm&Token=2336412f37&x=1#a"},
            {"SubscribeURL": f"https://sns.io/?Action=Confirm&Token={REDACTED}&x=1#a"},
            ["a credential in a URL"],
        ),
        ({"note": f"Bearer {'ab1.' * 5}"}, {"note": f"Bearer {REDACTED}"}, ["a credential of HTTP"]),
        ({"jwt": "x eyJhbGciOiJI.eyJzdWIiOiIx.c2ln y"}, {"jwt": f"x {REDACTED} y"}, ["a JSON Web Token"]),
        ({"url": "https://me:pw@ci.io/x"}, {"url": f"https://{REDACTED}@ci.io/x"}, ["a URL with a password"]),
    ],
)
def test_what_is_secret_is_taken_out_and_told(payload: Any, redacted: Any, kinds: list[str]) -> None:
    redact = Redactor(["s3cr3t-value"])

    assert redact(payload) == redacted
    assert [each.kind for each in redact.found] == kinds


@pytest.mark.parametrize(
    "payload",
    [
        {"token_count": 5, "tokens": "12", "author": "ada", "keyboard": "qwerty", "secret": None, "secret_scanning": "on"},
        {"has_password": True, "password": ""},
        {"mail": "ada@corp.io", "url": "https://ci.io/?page=2&design=x", "note": "a basic understanding of tokens"},
        [1, 1.5, None, "plain"],
    ],
)
def test_all_else_stays(payload: Any) -> None:
    redact = Redactor(["s3cr3t-value"])

    assert redact(payload) == payload
    assert redact.found == []


def test_an_address_becomes_another_one_and_the_same_wherever_it_stands() -> None:
    redact = Redactor(emails=True)

    found = redact(
        {
            "by": "Ada <ada@corp.io>, bob@corp.io.",
            "to": "ADA@corp.io",
            "clone": "git@github.com:acme/shop.git",
            "us": "me@example.com",
            "url": "https://me:pw@ci.corp.io/x",
        }
    )

    assert found == {
        "by": "Ada <person1@example.com>, person2@example.com.",
        "to": "person1@example.com",
        "clone": "git@github.com:acme/shop.git",
        "us": "me@example.com",
        "url": f"https://{REDACTED}@ci.corp.io/x",
    }


@given(VALUES)
def test_no_secret_is_left_and_the_shape_stays(payload: Any) -> None:
    left = Redactor(["s3cr3t-value"], emails=True)(payload)

    text = json.dumps(left)
    assert TOKEN not in text
    assert "s3cr3t-value" not in text
    assert "a@corp.io" not in text
    assert shape(left) == shape(payload)


def shape(value: Any) -> Any:
    if isinstance(value, dict):
        return [shape(each) for each in value.values()]
    return [shape(each) for each in value] if isinstance(value, list) else type(value)
