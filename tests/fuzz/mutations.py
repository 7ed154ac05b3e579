"""Damage to task files, drawn from a seeded generator: what a slipping hand, a bad merge or a hostile author makes of them."""

import random
from collections.abc import Callable

TOKENS = [
    *("{{", "}}", "{{A}}", "{", "}", "[", "]", ": ", "- ", "? ", "|", ">", "|2-", ">+", "'", '"', "#", " #", "&a "),
    *("*a", "!x ", "!!str ", "<<: ", "---", "...", "%YAML 1.2", "@", "`", "\\", "\\x00", "\\u0000", "\t", "\xa0"),
    *("\u2028", "\x85", "\ufeff", "\x00", "\x07", "\u202e", "\u200b", "\U000e0041", "\U0001f680", "e\u0301", "NO"),
    *("on", "~", "null", "010", "1e400", "0x1F", ".nan", ".inf", "22:22", "2026-01-01", "1_000", "-0", "$.a", "$..*"),
    *("$[?@.a == 1]", "$['a']", "*/7 * * * *", "@daily", "60 * * * *", "0 0 30 2 *", "$ref", "#/$defs/a", "#"),
    *("https://example.com/x", "(a+)+$", "(?=a)", "[", "../x", "/etc/passwd", "# optio: ignore[OPT201] why"),
    *("# optio: ignore[]", "# optio:", "<<<<<<< HEAD", "=======", ">>>>>>> b", "\r", "\r\n"),
]  # fmt: skip
KEYS = [
    *("type", "name", "id", "extends", "agentRuntime", "model", "command", "promptTemplate", "promptFile"),
    *("paramsSchema", "properties", "required", "default", "enum", "pattern", "allOf", "$defs", "maxTurns"),
    *("budgetUsd", "timeout", "triggers", "config", "path", "secret", "when", "paramMapping", "cronExpression"),
    *("timezone", "environment", "env", "secrets", "network", "egress", "setupCommands", "dedupe", "key", "window"),
    *("startLimit", "tests", "webhook", "expect", "ceilings", "rules"),
]  # fmt: skip

OTHER_KINDS = ["", "[]", "{}", "0", "-1", "true", '""', "[[1]]", "{a: {b: c}}", "99999999999999999999", "1.5"]

Mutation = Callable[[random.Random, str], str]


def token(rng: random.Random, text: str) -> str:
    """A token that means something, anywhere; something else may go for it."""
    at = rng.randrange(len(text) + 1)
    return text[:at] + rng.choice(TOKENS) + text[at + rng.choice((0, 0, 1, 3, 9)) :]


def word(rng: random.Random, text: str) -> str:
    """A key or value of the file, or of the language, in the place of another word."""
    words = text.split()
    if not words:
        return rng.choice(KEYS)
    old = rng.choice(words)
    new = rng.choice([*KEYS, *words, *TOKENS])
    at = text.find(old, rng.randrange(len(text)))
    return text.replace(old, new, 1) if at < 0 else text[:at] + new + text[at + len(old) :]


def lines(rng: random.Random, text: str) -> str:
    """A line twice, gone, elsewhere, commented out or joined with the next."""
    parts = text.split("\n")
    at, other = rng.randrange(len(parts)), rng.randrange(len(parts))
    match rng.randrange(6):
        case 0:
            parts.insert(at, parts[at])
        case 1:
            del parts[at]
        case 2:
            parts[at], parts[other] = parts[other], parts[at]
        case 3:
            parts[at] = "# " + parts[at]
        case 4:
            parts[at : at + 2] = [" ".join(parts[at : at + 2])]
        case _:
            block = parts[at : at + rng.randrange(1, 8)]
            parts[other:other] = block
    return "\n".join(parts)


def indentation(rng: random.Random, text: str) -> str:
    """Some lines further in or out, or indented by something odd."""
    parts = text.split("\n")
    at = rng.randrange(len(parts))
    shift = rng.choice((" ", "  ", "    ", "\t", "\u00a0", ""))
    for index in range(at, min(len(parts), at + rng.choice((1, 1, 2, 5)))):
        parts[index] = shift + (parts[index] if shift else parts[index][rng.choice((1, 2, 4)) :])
    return "\n".join(parts)


def truncated(rng: random.Random, text: str) -> str:
    """The end, or the beginning, is missing."""
    at = rng.randrange(len(text) + 1)
    return text[:at] if rng.random() < 0.8 else text[at:]


def characters(rng: random.Random, text: str) -> str:
    """Any characters at all."""
    at = rng.randrange(len(text) + 1)
    new = "".join(
        chr(rng.choice((rng.randrange(32, 127), rng.randrange(0xD800), rng.randrange(0xE000, 0x110000)))) for _ in range(3)
    )
    return text[:at] + new + text[at + rng.randrange(3) :]


def nesting(rng: random.Random, text: str) -> str:
    """Brackets in brackets, about as deep as is allowed or far deeper."""
    at = rng.randrange(len(text) + 1)
    depth = rng.choice((5, 60, 63, 64, 65, 200))
    opening, closing = rng.choice((("[", "]"), ("{a: ", "}"), ("- ", ""), ("{{", "}}")))
    return text[:at] + opening * depth + "x" + closing * rng.choice((depth, depth, depth - 1)) + text[at:]


def anchors(rng: random.Random, text: str) -> str:
    """A value is named, and its name stands elsewhere."""
    parts = [at for at in range(len(text)) if text.startswith(": ", at)]
    if len(parts) < 2:
        return text + "x: &x {y: *x}\n"
    first, second = sorted(rng.sample(parts, 2))
    return (
        text[: first + 2] + "&q " + text[first + 2 : second + 2] + rng.choice(("*q ", "*q\n", "{<<: *q} ")) + text[second + 2 :]
    )


def nothing(rng: random.Random, text: str) -> str:
    """A key loses its value, or gets one of another kind."""
    parts = text.split("\n")
    with_value = [index for index, line in enumerate(parts) if ": " in line]
    if not with_value:
        return text
    at = rng.choice(with_value)
    key = parts[at].split(": ", 1)[0]
    parts[at] = f"{key}: {rng.choice(OTHER_KINDS)}"
    return "\n".join(parts)


MUTATIONS: list[Mutation] = [
    token, token, word, word, lines, lines, indentation, truncated, characters, nesting, anchors, nothing, nothing
]  # fmt: skip


def once(rng: random.Random, data: bytes) -> bytes:
    """The file after one accident, of the kind that often leaves a task."""
    return rng.choice((word, lines, nothing))(rng, data.decode("utf-8", "replace")).encode("utf-8", "surrogatepass")


def damaged(rng: random.Random, data: bytes) -> bytes:
    """The file after one to four accidents, the last of which may be one of bytes."""
    text = data.decode("utf-8", "replace")
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 4))):
        text = rng.choice(MUTATIONS)(rng, text)[:200_000]
    done = text.encode("utf-8", "surrogatepass")
    if rng.random() < 0.1:
        at = rng.randrange(len(done) + 1)
        done = done[:at] + rng.randbytes(rng.randrange(4)) + done[at + rng.randrange(4) :]
    if rng.random() < 0.05:
        done = done.replace(b"\n", b"\r\n")
    return done
