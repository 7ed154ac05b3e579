"""`optio check` over a directory that is made to hurt, with little memory and time: a finding for each file, and no more."""

import json
import os
import resource
import subprocess
import sys
import zoneinfo
from pathlib import Path

import pytest

import optio

MEMORY, SECONDS = 600 << 20, 20
BASE = "name: {}\nagentRuntime: claude-code\npromptTemplate: Say {{{{A}}}}\n"
SCHEMA = "paramsSchema:\n  type: object\n  additionalProperties: false\n  required: [A]\n"
HOOK = "triggers:\n  - type: webhook\n    config: {path: scan, secret: {name: S}, paramMapping: {A: $.a}}\n"
LAUGHS = "\n".join(["a0: &a0 x"] + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 30)])


def task(name: str, *more: str) -> str:
    return BASE.format(name) + "".join(more)


def param(name: str, schema: str) -> str:
    return task(name, SCHEMA, f"  properties: {{A: {schema}}}\n")


def prompt_from(name: str, path: str) -> str:
    return f'name: {name}\nagentRuntime: claude-code\npromptFile: "{path}"\n'


FILES: dict[str, tuple[str, str | bytes]] = {
    "laughs": ("OPT008", LAUGHS),
    "endless": ("OPT009", "a: &a [*a]\n"),
    "ten-thousand-brackets": ("OPT014", "[" * 10_000),
    "ten-thousand-closed": ("OPT014", "[" * 10_000 + "]" * 10_000),
    "ten-thousand-braces": ("OPT014", "{a: " * 10_000),
    "ten-thousand-dashes": ("OPT014", "- " * 10_000 + "a"),
    "ten-thousand-questions": ("OPT014", "? " * 10_000 + "a"),
    "seven-hundred-levels": ("OPT014", "".join(" " * i + "a:\n" for i in range(700))),
    "many-keys": ("OPT014", "".join(f"k{i}: 1\n" for i in range(80_000))),
    "python": ("OPT007", "a: !!python/object/apply:os.system [touch pwned]\n"),
    "two-documents": ("OPT013", task("Two") + "---\n" + task("More")),
    "not-utf-8": ("OPT002", b"name: \xff\xfe\n"),
    "utf-16": ("OPT002", task("Wide").encode("utf-16")),
    "nothing-but-nul": ("OPT015", b"\0" * 500_000),
    "half-a-surrogate": ("OPT001", 'name: "\\ud800"\n'),
    "endless-number": ("OPT105", task("Number", "maxTurns: " + "9" * 100_000 + "\n")),
    "quantifiers": ("OPT207", param("Quantifiers", f"{{type: string, pattern: '(a+)+$', default: '{'a' * 9_000}!'}}")),
    "repeats": ("OPT212", param("Repeats", "{type: string, pattern: '((a{1,1000}){1,1000}){1,1000}'}")),
    "look-around": ("OPT212", param("Look Around", "{type: string, pattern: '(?<=a)b'}")),
    "five-thousand-groups": ("OPT212", param("Groups", "{type: string, pattern: '" + "(" * 5_000 + "'}")),
    "reference-to-the-net": ("OPT214", param("Net", "{$ref: 'http://127.0.0.1:9/x.json'}")),
    "reference-to-a-file": ("OPT214", param("File", "{$ref: 'file:///etc/passwd'}")),
    "reference-to-itself": ("OPT214", param("Itself", "{$ref: '#/properties/A'}")),
    "dialect-of-the-net": ("OPT205", task("Dialect", SCHEMA, "  properties: {A: {}}\n", "  $schema: http://127.0.0.1:9/x\n")),
    "eight-thousand-evaluations": (
        "OPT415",
        'name: Evaluations\nagentRuntime: command\ncommand: |\n  eval "$(jq -r .A "$OPTIO_PARAMS_FILE")"\n'
        + "".join(f'  eval "$A{n}"\n' for n in range(8_000))
        + SCHEMA
        + "  properties: {A: {type: string}}\n"
        + HOOK.replace("scan", "evaluations"),
    ),
    "zone-of-a-file": (
        "OPT306",
        task("Zone", "triggers: [{type: schedule, config: {cronExpression: 0 0 1 * *, timezone: ../../../etc/passwd}}]\n"),
    ),
    "prompt-outside": ("OPT115", prompt_from("Outside", "../secret.md")),
    "prompt-absolute": ("OPT115", prompt_from("Absolute", "/etc/passwd")),
    "prompt-at-home": ("OPT115", prompt_from("Home", "~/.ssh/id_rsa")),
    "prompt-through-a-link": ("OPT706", prompt_from("Link", "up/secret.md")),
    "prompt-in-a-circle": ("OPT706", prompt_from("Circle", "circle")),
    "prompt-of-a-device": ("OPT706", prompt_from("Device", "zero")),
    "prompt-of-a-pipe": ("OPT706", prompt_from("Pipe", "pipe")),
    "template-of-a-pipe": ("OPT706", "extends: pipe\nname: Template\nagentRuntime: claude-code\npromptTemplate: Say hello\n"),
    "sample-of-a-pipe": (
        "OPT706",
        task("Sample", SCHEMA, "  properties: {A: {type: string}}\n", HOOK, "tests: [{webhook: pipe, expect: {}}]\n"),
    ),
}  # fmt: skip
ON_DISK = {"link-out": "OPT706", "link-to-itself": "OPT706", "is-a-pipe": "OPT706", "is-a-device": "OPT706", "huge": "OPT014"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    below = tmp_path / "tasks.d"
    below.mkdir()
    (tmp_path / "secret.md").write_text("hunter2")
    for name, (_, text) in FILES.items():
        (below / f"{name}.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    os.mkfifo(below / "pipe")
    os.mkfifo(below / "is-a-pipe.yaml")
    for name, target in (
        ("up", ".."), ("circle", "circle"), ("zero", "/dev/zero"), ("round", "."), ("link-out.yaml", "../secret.md"),
        ("link-to-itself.yaml", "link-to-itself.yaml"), ("is-a-device.yaml", "/dev/zero"),
    ):  # fmt: skip
        (below / name).symlink_to(target)
    with (below / "huge.yaml").open("wb") as file:
        file.truncate(100 << 20)
    return below


def little() -> None:
    """For the child: so much memory and so much time, or it is killed."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))


def check(root: Path, *command: str, form: str = "json") -> "subprocess.CompletedProcess[str]":
    arguments = ["check", "tasks.d", "--format", form]
    return subprocess.run(
        [sys.executable, *command, *arguments], cwd=root.parent, capture_output=True, text=True, timeout=120, preexec_fn=little
    )


def test_each_hostile_file_has_its_finding_and_the_command_ends(root: Path) -> None:
    done = check(root, "-m", "optio")

    assert (done.returncode, done.stderr) == (1, "")
    found = {(Path(d["path"]).stem, d["code"]) for d in json.loads(done.stdout)["diagnostics"]}
    wanted = {(name, code) for name, (code, _) in FILES.items()} | set(ON_DISK.items())
    assert wanted - found == set()
    assert "hunter2" not in done.stdout
    assert not (root.parent / "pwned").exists()


@pytest.mark.parametrize("form", ["full", "concise", "sarif", "github", "junit"])
def test_every_form_of_report_is_printed_and_shows_nothing_of_what_must_not_be_read(root: Path, form: str) -> None:
    done = check(root, "-m", "optio", form=form)

    assert (done.returncode, done.stderr) == (1, "")
    assert "is-a-pipe.yaml" in done.stdout
    assert "hunter2" not in done.stdout


WATCHED = """
import os, sys
def look(event, about):
    if event == "open" and isinstance(about[0], str):
        os.write(2, f"{about[0]}\\n".encode())
    elif event.split(".")[0] in ("socket", "subprocess", "ctypes", "urllib") or event in ("os.system", "os.exec"):
        os.write(2, f"! {event}\\n".encode())
sys.addaudithook(look)
from optio.cli import main
main()
"""


def test_nothing_outside_is_opened_and_nobody_is_called(root: Path) -> None:
    done = check(root, "-c", WATCHED)

    seen = done.stderr.splitlines()
    package = str(Path(optio.__file__).parents[1])
    own = ("tasks.d/", f"{root}/", package, sys.prefix, sys.base_prefix, "/dev/null", *zoneinfo.TZPATH)
    assert [path for path in seen if not path.startswith(own)] == []
    assert len([path for path in seen if path.startswith("tasks.d/")]) > len(FILES)
