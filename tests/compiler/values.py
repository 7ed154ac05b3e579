"""Values that a task file may hold, hostile ones among them."""

from typing import Any

from hypothesis import strategies as st

from optio.model.registry import canonical

HOSTILE = [
    "", " ", "~", "null", "Null", "true", "no", "NO", "on", "Off", "yes", "y", "010", "0o7", "0x1F", "1e3", "1.5", ".5",
    "5.", ".inf", ".nan", "-", "--", "---", "...", "- a", "? a", ": a", "a: b", "a :b", "a:", ":", "#", "# a", "a #b",
    "a# b", "'", '"', "''", "it's", '"a"', "a'b\"c", "[", "]", "{", "}", "{{X}}", "{{ X }}", "[a]", "{a: b}", "a, b",
    ",", "&a", "*a", "!a", "!!str a", "|", ">", "|-", "%a", "@a", "`a`", '\\', '\\n', "22:22", "2024-01-01", "1_000",
    "<<", "=", "\n", "\n\n", "a\n", "a\n\n", "\na", " a\n b", "a\n b\n", "a \n", "a\n \nb", "\ta", "a\tb", "a\t",
    "a\n\tb\n", "\ta\nb", "a\rb", "a\r\nb", "\u0085", "\u2028a", "\ufeffa", "\u00a0", "\u200b", "\u0007", "\u007f",
    "\u001b[31m", "\u00e9", "\u65e5\u672c\u8a9e", "\U0001f600", "- x\n- y\n",
    "a: |\n  b\n", "#!/bin/sh\necho 1\n", "x\n# y\n", "---\na\n", "...\nb", "a\n...\n", "whsec_...", "0 9 * * 1",
    "$.a['b c'][0]", "$..a", "@.a == 'b' && @.c > 1", "ghcr.io/a/b@sha256:0f", "pip install x==2.9.0",
    "https://a.example/?b=c&d=e#f", "+1", "-1", "+", "-.inf", "1__0", "0b1", "0.0.1", "1,000", "12e03", "a\u3000b",
    "\u202e",
]  # fmt: skip


def texts() -> st.SearchStrategy[str]:
    """Texts that YAML readers stumble over, and any others; no NUL, which no task file may hold."""
    free = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
    lines = st.lists(st.sampled_from(["a", " b", "", "# c", "- d", "e: f", "\tg", "h ", "..."]), max_size=6).map("\n".join)
    long = st.sampled_from(["a", "word "]).map(lambda text: text * 900)
    return st.sampled_from(HOSTILE) | free | lines | long


def values() -> st.SearchStrategy[Any]:
    """What JSON can say."""
    numbers = st.integers(-(10**20), 10**20) | st.floats(allow_nan=False, allow_infinity=False)
    return st.recursive(
        st.none() | st.booleans() | numbers | texts(),
        lambda inner: st.lists(inner, max_size=3, unique_by=canonical) | st.dictionaries(keys(), inner, max_size=3),
        max_leaves=12,
    )


def keys() -> st.SearchStrategy[str]:
    """Keys as they are, and as nobody would want them. YAML itself ends a key after 1,024 characters."""
    return st.sampled_from(["name", "config", "paramMapping", "a b", "type"]) | st.sampled_from(HOSTILE)


def documents() -> st.SearchStrategy[dict[str, Any]]:
    """A mapping that is not empty."""
    return st.dictionaries(keys(), values(), min_size=1, max_size=4)
