"""Other layouts of a task file, and slips of the kind that a fix cures, drawn from a seeded generator.

A mutation of `mutations` mostly breaks a file. These mostly leave it readable: the same values in other quotes, between
brackets or below them, with comments, anchors, other line ends and foreign keys around what a fix will change.
"""

import contextlib
import random
import re
from collections.abc import Callable
from typing import Any

import yaml

from optio.compiler.yaml.emit import block, flow

FOREIGN = [
    *("cron: '0 9 * * 1'", "schedule: '0 9 * * *'", "on: push", "on: {push: {branches: [main]}}", "jobs: {a: {steps: []}}"),
    *("prompt: Say hello", "promt: Say hello", "max_turns: '20'", "maxTurn: 20", "timeout_minutes: 5", "timeout: PT20M"),
    *("retries: 3", "disabled: true", "enabled: no", "notify: [a@example.com]", "env: {A: b}", "secrets: [TOKEN]"),
    *("image: python:3", "runtime: claude", "agent: codex", "budget: 2.5", "budgetUsd: 2.50", "budgetUsd: $3", "uses: a/b@v1"),
    *("description: NO", "description: 010", "model: opus ", "name: 12", "priority: high", "timezone: europe/berlin"),
    *("secret: TOKEN", "path: /A b", "paramMapping: {A: labels[0]}", "maxRetries: '2'", "timeout: 20 min", "timeout: 5 m"),
    *("repoUrl: x", "namespace: a", "status: done", "concurrency: 1", "type: Standalone", "if: github.ref", "needs: [a]"),
    *("egress: ['https://a.example.com/']", "required: true", "memory: 512m", "variables: {A: b}", "extends: base"),
]  # fmt: skip
COMMENTS = [
    *("# why", "#12", "# optio: ignore[OPT201] why", "# optio: ignore[OPT106, OPT999]", "#: x", "# a: b", "# 'it''s' \"so\""),
    *("# {{A}}", "# [a, b", "# \u00e4\U0001f680", "#", "# " + "long " * 60),
]  # fmt: skip
_EVENTS = ["pull_request.opened", "pull-request", "issues.opend", "Push", "pull_requst"]
_WORDS = [
    *("{{ A }}", "{{a}}", "${A}", "$A", "0 */15 * * * *", "@midnight", "0 22-2 * * *", "*/7 * * * *", "0 9 * * MON"),
    *("europe/berlin", "Berlin", "CET", "https://api.example.com/x", "labels[0]", "$.labels[0]", "$['a b']", "$.a-b", "512m"),
    *("yes", "NO", "010", "1_000", "22:22", "~", "claude", "cluade-code", "20 minutes", "1.50 $", "@.action == opened"),
    *("@.action = 'opened'", "a, b", "a: b", "a # b", "[a]", "{a}", "*a", "&a", "!a", "- a", "? a", "'a", '"a', "a'b", 'a"b'),
    *("\\d", "a\\b", " a", "a ", "", "\u00e4", "e\u0301", "\u200b", *_EVENTS),
]  # fmt: skip

Layout = Callable[[random.Random, str], str]


def _nodes(text: str) -> list[tuple[Any, bool, bool]]:
    """(node, whether it is a key, whether it is within brackets) of everything written out, by place."""
    try:
        root = yaml.compose(text, Loader=yaml.CSafeLoader)
    except (yaml.YAMLError, ValueError):
        return []
    found: dict[int, tuple[Any, bool, bool]] = {}
    stack = [(root, False, False)] if root is not None else []
    while stack:
        node, is_key, inside = stack.pop()
        if id(node) in found:
            continue
        found[id(node)] = (node, is_key, inside)
        within = inside or bool(getattr(node, "flow_style", False))
        if isinstance(node, yaml.MappingNode):
            stack += [(part, part is pair[0], within) for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            stack += [(part, False, within) for part in node.value]
    return sorted(found.values(), key=lambda each: (each[0].start_mark.index, -each[0].end_mark.index))


def _scalars(text: str) -> list[tuple[Any, bool, bool]]:
    return [
        each
        for each in _nodes(text)
        if isinstance(each[0], yaml.ScalarNode) and each[0].end_mark.index > each[0].start_mark.index
    ]


def _put(text: str, node: Any, new: str) -> str:
    start, end = node.start_mark.index, node.end_mark.index
    return text[:start] + new + text[start + len(text[start:end].rstrip()) :]


def _value(node: Any) -> Any:
    if isinstance(node, yaml.MappingNode):
        return {str(key.value): _value(value) for key, value in node.value}
    return [_value(each) for each in node.value] if isinstance(node, yaml.SequenceNode) else node.value


def _quoted(rng: random.Random, value: str) -> str:
    return rng.choice(
        (
            value,
            "'" + value.replace("'", "''") + "'",
            '"' + value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"',
            '"' + "".join(f"\\x{ord(c):02x}" if c in "aAe" else c for c in value.replace("\\", "/").replace('"', "")) + '"',
        )
    )


def requoted(rng: random.Random, text: str) -> str:
    """A scalar in other quotes, in none, or as a text below its key."""
    scalars = _scalars(text)
    if not scalars:
        return text
    node, is_key, inside = rng.choice(scalars)
    if not is_key and not inside and rng.random() < 0.25:
        margin = " " * (
            len(text[: node.start_mark.index].rpartition("\n")[2])
            - len(text[: node.start_mark.index].rpartition("\n")[2].lstrip(" -"))
            + 2
        )
        lines = "\n".join(margin + line if line else "" for line in node.value.split("\n"))
        return _put(text, node, rng.choice(("|", "|-", ">", ">-", "|2-", "| # why")) + "\n" + lines)
    return _put(text, node, _quoted(rng, node.value))


def between(rng: random.Random, text: str) -> str:
    """A mapping or list in block style between brackets, or the other way round."""
    found = [each for each in _nodes(text)[1:] if not isinstance(each[0], yaml.ScalarNode) and each[0].value]
    if not found:
        return text
    node, _, inside = rng.choice(found)
    if not node.flow_style:
        new = flow(_value(node))
        if rng.random() < 0.3:
            new = new.replace(", ", rng.choice((",", " , ", ",\n          ")))
        return _put(text, node, new)
    if inside:
        return _put(text, node, flow(_value(node)))
    before = text[: node.start_mark.index].rpartition("\n")[2]
    margin = len(before) - len(before.lstrip(" -")) + rng.choice((1, 2, 4))
    return _put(text, node, "\n" + "\n".join(" " * margin + line for line in block(_value(node))))


def commented(rng: random.Random, text: str) -> str:
    """A comment behind a line or on one of its own."""
    lines = text.split("\n")
    at, comment = rng.randrange(len(lines)), rng.choice(COMMENTS)
    if rng.random() < 0.6:
        lines[at] += rng.choice((" ", "  ", "\t")) + comment
    else:
        lines.insert(at, " " * rng.choice((0, 0, 2, 4)) + comment)
    return "\n".join(lines)


def anchored(rng: random.Random, text: str) -> str:
    """A value gets a name, with an alias for the next value that is the same, or for none."""
    nodes = [node for node, is_key, _ in _nodes(text)[1:] if not is_key]
    if not nodes:
        return text
    first = rng.choice(nodes)
    at = first.start_mark.index
    same = [n for n in nodes if n.start_mark.index > first.end_mark.index and _value(n) == _value(first)]
    if same and rng.random() < 0.8:
        text = _put(text, rng.choice(same), "*q")
    block_below = not isinstance(first, yaml.ScalarNode) and not first.flow_style
    if block_below:
        head = text[:at].rstrip(" \n")
        return head + " &q" + text[len(head) :] if head.endswith(":") else text
    return text[:at] + rng.choice(("&q ", "&q ", "&q  ", "&an:chor ", "! ", "!!str ")) + text[at:]


def foreign(rng: random.Random, text: str) -> str:
    """A key of another tool, or a slip in one of ours, in one of the mappings."""
    mappings = [(node, inside) for node, _, inside in _nodes(text) if isinstance(node, yaml.MappingNode) and node.value]
    if not mappings:
        return text
    node, _ = rng.choice(mappings)
    key = rng.choice([pair[0] for pair in node.value])
    start, new = key.start_mark.index, rng.choice(FOREIGN)
    if node.flow_style:
        return text[:start] + new + ", " + text[start:]
    column = start - (text.rfind("\n", 0, start) + 1)
    return text[:start] + new + "\n" + " " * column + text[start:]


def twice(rng: random.Random, text: str) -> str:
    """A key stands once more."""
    mappings = [node for node, _, _ in _nodes(text) if isinstance(node, yaml.MappingNode) and node.value]
    if not mappings:
        return text
    node = rng.choice(mappings)
    key, value = rng.choice(node.value)
    start = key.start_mark.index
    new = f"{key.value}: {flow(_value(value))}"
    column = start - (text.rfind("\n", 0, start) + 1)
    return text[:start] + new + (", " if node.flow_style else "\n" + " " * column) + text[start:]


def valued(rng: random.Random, text: str) -> str:
    """A scalar has the value of another, or one that somebody would write there."""
    scalars = [each for each in _scalars(text) if not each[1]]
    if not scalars:
        return text
    node, _, _ = rng.choice(scalars)
    value = rng.choice(_WORDS) if rng.random() < 0.6 else rng.choice(scalars)[0].value
    return _put(text, node, _quoted(rng, value))


def wrapped(rng: random.Random, text: str) -> str:
    """A value alone in a list or mapping, or with another in one."""
    scalars = [each for each in _scalars(text) if not each[1] and each[0].style not in ("|", ">")]
    if not scalars:
        return text
    node, _, _ = rng.choice(scalars)
    old = text[node.start_mark.index : node.end_mark.index]
    return _put(
        text, node, rng.choice(("[{}]", "[{}, {}]", "{{value: {}}}", "[[{}]]", "{{name: {}, }}", "[{}, ]")).format(old, old)
    )


def misspelt(rng: random.Random, text: str) -> str:
    """A key or a word in another spelling."""
    scalars = [each for each in _scalars(text) if each[0].value and each[0].style not in ("|", ">")]
    if not scalars:
        return text
    keys = [each for each in scalars if each[1]]
    node, _, _ = rng.choice(keys if keys and rng.random() < 0.7 else scalars)
    word = node.value
    at = rng.randrange(len(word))
    new = rng.choice(
        (
            re.sub(r"([A-Z])", lambda m: "_" + m[1].lower(), word),
            re.sub(r"([A-Z])", lambda m: "-" + m[1].lower(), word),
            word.lower(),
            word.upper(),
            word.capitalize(),
            word[:at] + word[at + 1 :],
            word[:at] + word[at] + word[at:],
            word + "s",
        )
    )
    old = text[node.start_mark.index : node.end_mark.index]
    return _put(text, node, old.replace(word, new) if word in old else new)


def spaced(rng: random.Random, text: str) -> str:
    """Blanks, tabs and line breaks where they may stand, or nearly."""
    lines = text.split("\n")
    at = rng.randrange(len(lines))
    match rng.randrange(7):
        case 0:
            lines[at] += rng.choice(("  ", "\t"))
        case 1:
            lines[at] = lines[at].replace(": ", rng.choice((":   ", ":\t", " : ")), 1)
        case 2:
            lines.insert(at, rng.choice(("", "   ", "\t")))
        case 3:
            return text.rstrip("\n")
        case 4:
            lines[at] = lines[at].replace("  ", rng.choice(("\t", "\u00a0 ")), 1)
        case 5:
            lines[at] = (
                lines[at].replace(" ", "\n" + " " * 8, 1)
                if ": " not in lines[at]
                else lines[at].replace(": ", ":\n        ", 1)
            )
        case _:
            return "\n".join("  " + line if line.startswith((" ", "-")) else line for line in lines)
    return "\n".join(lines)


def lettered(rng: random.Random, text: str) -> str:
    """A letter that is not seen, looks like another, or is wide."""
    at = rng.randrange(len(text) + 1)
    return (
        text[:at]
        + rng.choice(("\u00e4", "\U0001f680", "\u200b", "\u00a0", "\u0430", "\u2028", "e\u0301", "\ufeff"))
        + text[at:]
    )


def long(rng: random.Random, text: str) -> str:
    """A scalar of several hundred letters."""
    scalars = [each for each in _scalars(text) if not each[1] and each[0].style not in ("|", ">")]
    if not scalars:
        return text
    node = rng.choice(scalars)[0]
    return _put(text, node, _quoted(rng, node.value + " and more" * rng.choice((20, 60))))


LAYOUTS: list[Layout] = [
    requoted, requoted, between, between, commented, commented, anchored, foreign, foreign, twice, valued, valued, wrapped,
    misspelt, misspelt, spaced, lettered, long,
]  # fmt: skip


def relaid(rng: random.Random, data: bytes) -> bytes:
    """The file after one to four of them; sometimes with other line ends or a byte order mark."""
    text = data.decode("utf-8", "replace")
    for _ in range(rng.choice((1, 1, 2, 2, 3, 4))):
        with contextlib.suppress(RecursionError):  # a value may hold itself
            text = rng.choice(LAYOUTS)(rng, text)[:100_000]
    done = text.encode("utf-8", "surrogatepass")
    ends = rng.random()
    if ends < 0.06:
        done = done.replace(b"\n", b"\r\n" if ends < 0.04 else b"\r")
    return b"\xef\xbb\xbf" + done if rng.random() < 0.03 else done
