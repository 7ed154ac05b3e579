"""Whatever stands in a file, the compiler answers, quickly, and points into the text."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from optio.compiler.payloads import query_fast_path
from optio.compiler.pipeline import Compilation, compile_tree
from optio.compiler.report import render_concise, render_full, render_json
from optio.compiler.rules.codes import RULES
from optio.compiler.source_tree import MemoryTree
from optio.model.mapping import compile_path, compile_when
from tests.examples_of_rules import example_files

CASES = Path(__file__).parents[1] / "cases"
TEXTS = [data for rule in RULES.values() for data in example_files(rule.right).values()]
TEXTS += [p.read_bytes() for p in sorted(CASES.glob("*/*.yaml")) if p.is_file() and p.stat().st_size < 4_000]
FRAGMENTS = [
    *(b"\t", b"\n", b"  ", b": ", b"- ", b"{{", b"}}", b"&a ", b"*a", b"!x ", b"<<: ", b"|", b">", b"'", b'"', b"[", b"]"),
    *(b"{", b"}", b"#", b"%", b"@", b"`", b"\\", b"\x00", b"\xff", b"\xc2\xa0", b"\xe2\x80\xa8", b"\xf0\x9f\x9a\x80", b"~"),
    *(
        b"NO",
        b"010",
        b"---\n",
        b"...\n",
        b"$.a",
        b"type",
        b"config",
        b"$ref",
        b"#/",
        b"1e400",
        b".nan",
        b"\xef\xbb\xbf",
        b"\r\n",
    ),
]
WORDS = [
    *("name", "agentRuntime", "promptTemplate", "promptFile", "paramsSchema", "type", "properties", "required", "default"),
    *("enum", "pattern", "$ref", "$defs", "allOf", "minimum", "maximum", "triggers", "config", "path", "secret", "when"),
    *("paramMapping", "cronExpression", "timezone", "environment", "env", "network", "egress", "command", "tests", "webhook"),
    *("expect", "id", "literal"),
]
KEYS = st.sampled_from(WORDS)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(
        ["standalone", "webhook", "schedule", "manual", "object", "string", "integer", "#", "#/properties", "$.a", "0 9 * * 1"]
    )
)
JSON = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS | st.text(max_size=8), inner, max_size=6),
    max_leaves=30,
)
RELAXED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large], max_examples=150)


def check(data: bytes) -> Compilation:
    """Compiles, reports in every form, and holds all that must always be true."""
    found = compile_tree(MemoryTree({"a.yaml": data}))
    text = data.decode("utf-8", "replace").removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    lines = text.split("\n")
    for d in found.diagnostics:
        assert 1 <= d.span.start.line <= len(lines), d
        assert 1 <= d.span.start.column <= len(lines[d.span.start.line - 1]) + 1, (d, lines[d.span.start.line - 1])
        assert d.span.start <= d.span.end, d
        assert "\n" not in d.message, d
    list(render_full(found.diagnostics, lambda _: text))
    list(render_concise(found.diagnostics))
    render_json(found.diagnostics, files=1, tasks=0).encode("utf-8", "surrogatepass")
    assert found.ok or "a.yaml" in found.broken
    return found


@RELAXED
@given(st.binary(max_size=200))
def test_any_bytes_are_answered(data: bytes) -> None:
    check(data)


@RELAXED
@given(st.text(max_size=200))
def test_any_text_is_answered(text: str) -> None:
    check(text.encode("utf-8", "surrogatepass"))


@RELAXED
@given(st.data())
def test_a_damaged_task_is_answered(data: st.DataObject) -> None:
    text = data.draw(st.sampled_from(TEXTS))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(text)))
        cut = data.draw(st.integers(0, 6))
        text = text[:at] + data.draw(st.sampled_from(FRAGMENTS) | st.binary(max_size=3)) + text[at + cut :]

    check(text)


@RELAXED
@given(JSON)
def test_any_values_are_answered(value: Any) -> None:
    check(yaml.safe_dump(value, allow_unicode=True).encode("utf-8", "surrogatepass"))


@RELAXED
@given(st.dictionaries(KEYS, JSON, max_size=8))
def test_any_values_under_known_keys_are_answered(value: dict[str, Any]) -> None:
    check(yaml.safe_dump({"name": "A", "agentRuntime": "codex", "promptTemplate": "x", **value}).encode())


@RELAXED
@given(JSON, JSON)
def test_any_schema_and_mapping_are_answered(schema: Any, mapping: Any) -> None:
    webhook = {"type": "webhook", "config": {"path": "a", "unsigned": True, "paramMapping": mapping}}
    schedule = {"type": "schedule", "config": {"cronExpression": "0 9 * * 1", "paramMapping": mapping}}
    task = {
        "name": "A",
        "agentRuntime": "codex",
        "promptTemplate": "{{a}} {{type}}",
        "paramsSchema": {"type": "object", "properties": schema},
        "triggers": [webhook, schedule],
    }

    check(yaml.safe_dump(task).encode())


@pytest.mark.parametrize(
    "path", ["$", "$.a", "$._x1", "$.a[0].b", "$[12]", "$.a[-1]", "$.a['path-with-namespace'].b", '$["a b"]']
)
def test_a_plain_path_needs_no_library_to_be_known_as_sound(path: str) -> None:
    assert query_fast_path.is_path(path)
    assert compile_path(path).singular


@settings(deadline=None)
@given(st.from_regex(query_fast_path.PATH, fullmatch=True))
def test_what_counts_as_a_plain_path_is_sound_and_singular(path: str) -> None:
    assert compile_path(path).singular


@pytest.mark.parametrize(
    "text", ["@.action == 'opened'", "@ != null", '@.a.b == -1 || @.c == "d e" && @.e != true', "@.ref == 'refs/heads/main'"]
)
def test_a_plain_filter_needs_no_library_to_be_known_as_sound(text: str) -> None:
    assert query_fast_path.is_filter(text)
    assert compile_when(text).text == text


@settings(deadline=None)
@given(st.from_regex(query_fast_path.FILTER, fullmatch=True))
def test_what_counts_as_a_plain_filter_is_sound(text: str) -> None:
    assert compile_when(text).text == text
