"""Input that is made to hurt is refused in a moment, and opens no file and no socket."""

import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from optio.compiler.pipeline import compile_tree
from optio.compiler.source_tree import MemoryTree

BASE = "name: A\nagentRuntime: claude-code\npromptTemplate: Say {{A}}\n"
OPEN = BASE + "paramsSchema:\n  type: object\n"
HOOK = "triggers:\n  - type: webhook\n    config: {path: scan, secret: {name: S}, paramMapping: %s}\n"


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Of this process's own work: how busy the machine is else says nothing about the compiler."""
    start = time.process_time()
    yield
    assert time.process_time() - start < seconds


def codes(text: str | bytes) -> set[str]:
    return {d.code for d in compile_tree(MemoryTree({"a.yaml": text})).diagnostics}


def laughs(levels: int, width: int) -> str:
    lines = ["a0: &a0 x"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * width)}]" for i in range(1, levels)]
    return "\n".join(lines) + "\n"


def numbered(form: str, count: int, separator: str = "") -> str:
    """The form once for each number, which stands in it as `#`; the next number as `+`."""
    return separator.join(form.replace("#", str(i)).replace("+", str(i + 1)) for i in range(count))


SCHEMA = OPEN + "  additionalProperties: false\n  required: [A]\n"
PROPERTIES = "  properties: {" + numbered("P#: {}", 1_500, ", ") + "}\n"
PROMPT = "name: A\nagentRuntime: claude-code\npromptTemplate: |\n"
CLOSED = "paramsSchema: {type: object, properties: {}, additionalProperties: false}\n"
MERGES = "m0: &m0 {<<: [{a: 1}]}\n" + "".join(f"m{i}: &m{i} {{<<: [{', '.join([f'*m{i - 1}'] * 10)}]}}\n" for i in range(1, 9))
ALTERNATIVES = numbered("a#{1,1000}", 20_000, "|")
DOUBLING = numbered("    n#: {allOf: [{$ref: '#/$defs/n+'}, {$ref: '#/$defs/n+'}]}\n".replace("'#/", "'%/"), 700).replace(
    "%", "#"
)
CIRCLE = numbered("    n#: {$ref: '%/$defs/n+'}\n", 1_500).replace("%", "#") + "    n1500: {$ref: '#/$defs/n0'}\n"

BOMBS: dict[str, tuple[str, str | bytes]] = {
    "billion laughs": ("OPT008", laughs(30, 10)),
    "wide laughs": ("OPT008", laughs(4, 900)),
    "merge bomb": ("OPT008", MERGES),
    "a long text nine hundred times": (
        "OPT008",
        BASE + "environment:\n  env:\n    A: &a '" + "x" * 900_000 + "'\n" + numbered("    B#: *a\n", 900),
    ),
    "thirty-six thousand comments to Optio": ("OPT709", BASE + "# optio: ignore[OPT412] x\n" * 36_000),
    "a comment that ignores a hundred thousand rules": ("OPT709", BASE + f"# optio: ignore[{'OPT412,' * 100_000}] x\n"),
    "a thousand comments above a thousand others": (
        "OPT709",
        BASE
        + "# optio: ignore[OPT412] x\n" * 900
        + "#\n" * 400_000
        + "environment: {env: {"
        + numbered("K#: a, ", 4_000)
        + "}}\n",
    ),
    "five hundred long names that are nearly others": (
        "OPT209",
        OPEN
        + "  required: ["
        + numbered(f"{'A' * 100}Y#", 500, ", ")
        + "]\n  properties: {"
        + numbered(f"{'A' * 100}Z#: {{}}", 500, ", ")
        + "}\n",
    ),
    "five hundred long placeholders that are nearly others": (
        "OPT201",
        PROMPT
        + numbered(f"  {{{{{'A' * 60}Y#}}}}\n", 500)
        + "paramsSchema:\n  type: object\n  additionalProperties: false\n  properties: {"
        + numbered(f"{'A' * 60}Z#: {{}}", 500, ", ")
        + "}\n",
    ),
    "twenty thousand variables that are nearly others": (
        "OPT504",
        BASE
        + "environment:\n  setupCommands: ['"
        + numbered("$V# ", 17_000)
        + "$A_TOKEN']\n  env: {"
        + numbered("VARIABLE#: a", 900, ", ")
        + "}\n",
    ),
    "an alias of a hundred thousand letters": ("OPT010", f"a: &{'ab' * 50_000} 1\nb: *{'ba' * 50_000}\n"),
    "endless": ("OPT009", "a: &a [*a]\n"),
    "five thousand brackets": ("OPT014", "[" * 5_000),
    "five thousand levels of blocks": ("OPT014", "- " * 5_000 + "a"),
    "two megabytes": ("OPT014", b"# " + b"x" * (2 << 20)),
    "a million control characters": ("OPT015", "a: " + "\x01" * 1_000_000),
    "a hundred thousand keys": ("OPT014", numbered("#:\n", 100_000)),
    "python tag": ("OPT007", "a: !!python/object/apply:os.system [id]\n"),
    "conflict markers": ("OPT022", "<<<<<<< \n" * 100_000),
    "four thousand unknown keys": ("OPT101", BASE + numbered("maxTurn#: 1\n", 4_000)),
    "four thousand doubled keys": ("OPT004", BASE + numbered("k#: 1\nk#: 1\n", 2_000)),
    "a long word as a key": ("OPT001", BASE + "m" * 500_000 + ": 1\n"),
    "a long image": ("OPT502", BASE + "environment: {image: '" + "a-" * 200_000 + "!'}\n"),
    "a long host": ("OPT511", BASE + "environment: {network: {egress: ['" + "a." * 200_000 + "!']}}\n"),
    "a long path": ("OPT401", BASE + "triggers: [{type: webhook, config: {path: '" + "?" * 200_000 + "', unsigned: true}}]\n"),
    "a long JSONPath": ("OPT407", BASE + HOOK % ("{A: '$" + ".a" * 5_000 + "'}")),
    "a deep JSONPath": ("OPT407", BASE + HOOK % ("{A: '$[?(" + "(" * 900 + "'}")),
    "two thousand mapped names": ("OPT411", SCHEMA + PROPERTIES + HOOK % ("{" + numbered("Q#: $.a", 1_500, ", ") + "}")),
    "thousands of required names": ("OPT209", OPEN + PROPERTIES + "  required: [" + numbered("Q#", 2_500, ", ") + "]\n"),
    "twenty thousand placeholders": ("OPT201", PROMPT + numbered("  {{X#}}\n", 20_000) + CLOSED),
    "twenty thousand wrong placeholders": ("OPT234", PROMPT + numbered("  {{ X# }}\n", 20_000)),
    "braces without end": ("OPT234", PROMPT + "  " + "{{a" * 60_000 + "\n"),
    "the schema of a result, longer than a prompt should be": (
        "OPT105",
        BASE + "result: {schema: {properties: {" + numbered(f"P#: {{description: {'x' * 100}}}", 600, ", ") + "}}}\n",
    ),
    "a doubling chain of references": ("OPT214", OPEN + "  $defs:\n" + DOUBLING + "    n700: {$ref: '#/$defs/n0'}\n"),
    "a long circle of references": ("OPT214", OPEN + "  $defs:\n" + CIRCLE),
    "twenty thousand alternatives": ("OPT212", SCHEMA + f"  properties: {{A: {{type: string, pattern: '{ALTERNATIVES}'}}}}\n"),
    "a counted repeat of repeats": ("OPT212", SCHEMA + "  properties: {A: {pattern: '((a{1,1000}){1,1000}){1,1000}'}}\n"),
    "hundreds of large patterns": (
        "OPT212",
        SCHEMA + "  properties:\n" + numbered("    P#: {pattern: '\\p{L}{1,10}#'}\n", 900),
    ),
    "thousands of patterns": ("OPT212", SCHEMA + "  patternProperties:\n" + numbered("    '\\p{L}{1,9}#': true\n", 4_500)),
    "a long pattern of classes": ("OPT212", SCHEMA + "  properties: {A: {pattern: '" + "\\S" * 3_000 + "'}}\n"),
    "hundreds of defaults behind references": (
        "OPT207",
        SCHEMA
        + "  $defs: {D: {pattern: ^a$}}\n  properties:\n"
        + numbered("    P#: {$ref: %/$defs/D, default: b}\n", 900).replace("%", "'#").replace("/D,", "/D',"),
    ),
    "hundreds of defaults of a thousand alternatives": (
        "OPT207",
        (
            SCHEMA
            + "  $defs: {E: {type: integer}, D: {anyOf: ["
            + numbered("{$ref: %/$defs/E', x: #}, ", 1_400)
            + "]}}\n  properties:\n"
            + numbered("    P#: {$ref: %/$defs/D', default: b}\n", 300)
        ).replace("%", "'#"),
    ),
    "twenty thousand placeholders in a key": ("OPT227", OPEN + "dedupe: {key: '" + numbered("{{X#}}", 20_000) + "'}\n"),
    "a description of thousands of names that may be cities": (
        "OPT306",
        BASE
        + f"description: {'Some Name ' * 10_000}\n"
        + 'triggers: [{type: schedule, config: {cronExpression: "0 9 * * *", timezone: UTC+2}}]\n',
    ),
    "urls with passwords": ("OPT503", BASE + "description: '" + "://a:b@ " * 50_000 + "'\n"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_within_seconds(name: str) -> None:
    code, text = BOMBS[name]

    # Of those that were found in earnest each took ten seconds or more; machines differ by less.
    with within(3.0):
        found = codes(text)

    assert code in found


def test_aliases_may_repeat_some_long_texts() -> None:
    text = BASE + "environment:\n  env:\n    A: &a '" + "x" * 100_000 + "'\n" + numbered("    B#: *a\n", 30)
    assert "OPT008" not in codes(text)


def test_a_small_file_of_aliases_is_welcome() -> None:
    assert codes(BASE + "environment: {env: {A: &a x, B: *a, C: *a}}\n") == set()


@pytest.mark.parametrize(
    "target", ["http://127.0.0.1:9/x.json", "https://example.com/x", "file:///etc/passwd", "other.json", "//host/x"]
)
def test_a_reference_out_of_the_schema_opens_no_socket_and_no_file(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)

    assert codes(SCHEMA + f"  properties: {{A: {{$ref: '{target}'}}}}\n") == {"OPT214"}


@pytest.mark.parametrize("pattern", [r"(a+)+$", r"^(\w+\s?)*$", "^(a|a)*$"])
def test_nested_quantifiers_cost_nothing_to_compile_and_run(pattern: str) -> None:
    wrong = f"{{type: string, pattern: '{pattern}', default: '{'a' * 5000}!'}}"

    with within(1.0):
        assert codes(SCHEMA + f"  properties: {{A: {wrong}}}\n") == {"OPT207", "OPT210"}


def test_a_description_that_is_one_long_number_is_read_in_a_moment() -> None:
    schedule = "{type: schedule, config: {cronExpression: '0 9 * * *'}}"
    task = f"name: A\nagentRuntime: command\ncommand: a\ndescription: '{'1' * 50_000} time'\ntriggers: [{schedule}]\n"

    with within(3):
        assert codes(task) == set()


@pytest.mark.parametrize(
    "command", ["pip\n" + "\n" * 60_000, "pip " + ";a=" * 20_000, "pip " + "-a " * 20_000, "https://a.b " * 5_000]
)
def test_a_command_beside_a_list_of_hosts_is_read_in_a_moment(command: str) -> None:
    task = f"name: A\nagentRuntime: command\ncommand: {json.dumps(command)}\nenvironment: {{network: {{egress: [a.b]}}}}\n"

    with within(3):
        assert codes(task) == set()
