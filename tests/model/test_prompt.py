"""Prompts: one pass, byte for byte."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optio.model.prompt import PLACEHOLDER, as_text, length, placeholders, render

HOSTILE = [
    "$(id)",
    "`id`",
    "; id",
    "line\nline",
    "nul\0nul",
    "'\"",
    "--flag",
    "${X}",
    "{{OTHER}}",
    "%s",
    "\\1",
    "\\g<0>",
    "\U0001f680",
    "{{NAME}}",
    "{{",
    "}}",
    "x" * 200_000,
    "\r\n",
    "\u2028",
    "{% raw %}",
    "{{ 7 * 7 }}",
    "",
]


@pytest.mark.parametrize("value", HOSTILE, ids=lambda v: repr(v)[:20])
def test_a_value_appears_as_it_is(value: str) -> None:
    assert render("a {{NAME}} b {{NAME}}", {"NAME": value, "OTHER": "expanded"}) == f"a {value} b {value}"


def test_what_no_parameter_names_stays_as_it_is() -> None:
    text = "{{MISSING}} {{ NAME }} {NAME} ${NAME} {{NAME {{a-b}} {{}} {{NÄME}}"

    assert render(text, {"NAME": "x"}) == text


def test_braces_around_a_placeholder_are_kept() -> None:
    assert render("{{{NAME}}} {{{{NAME}}}}", {"NAME": "x"}) == "{x} {{x}}"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (5, "5"),
        (1.5, "1.5"),
        (True, "true"),
        (None, "null"),
        ([1, "a"], '[1,"a"]'),
        ({"k": "\u00e9"}, '{"k":"\u00e9"}'),
        ("s", "s"),
    ],
)
def test_what_is_no_text_reads_as_json(value: object, text: str) -> None:
    assert as_text(value) == text
    assert render("{{V}}", {"V": value}) == text


def test_names_come_in_order_and_once() -> None:
    assert placeholders("{{B}} {{A}} {{B}} {{a_1}}") == ["B", "A", "a_1"]


def test_twenty_thousand_placeholders_take_a_moment() -> None:
    text = "word {{A}} " * 20_000
    start = time.process_time()

    assert render(text, {"A": "b"}).count("b") == 20_000
    assert time.process_time() - start < 1.0


@given(st.text(), st.text())
def test_a_template_without_placeholders_is_kept_whatever_the_parameters_are(text: str, value: str) -> None:
    if not PLACEHOLDER.search(text):
        assert render(text, {"A": value}) == text


@given(st.lists(st.sampled_from(["{{A}}", "{{B}}", "{{C}}", "{", "}}", "x"])).map("".join), st.text(), st.integers())
def test_the_length_is_known_before_it_is_rendered(text: str, a: str, b: int) -> None:
    given = {"A": a, "B": b}

    assert length(text, given) == len(render(text, given))


@given(st.text(alphabet="{}AB \n"), st.text())
def test_rendering_is_one_pass(text: str, value: str) -> None:
    parts = PLACEHOLDER.split(text)
    expected = "".join(value if i % 2 and part == "A" else f"{{{{{part}}}}}" if i % 2 else part for i, part in enumerate(parts))

    assert render(text, {"A": value}) == expected
