"""How long `optio check` takes, whole process, against peers that are measured in the same run.

    python -m tests.bench.bench_check [FILES [MORE_FILES]] [--peer CHECKOUT]

With `--peer` every new check is also one of another checkout, such as an older one, run by run in turns.

One file: beside a bare interpreter, and one that only imports what the compiler stands on, as any script imports it: with
garbage collected and an exit in good order, which a check leaves out. A file loads what it needs, so there are three: the
design's example (parameters, plain paths: no query language), one with a filter and a path that are not plain (its peer
imports that library too), and the smallest task (its peer imports no JSON Schema).

A thousand files, each a little different, some with a prompt in a file, a template, or a finding: beside their YAML read by
PyYAML's C parser into nodes and no further, which is what any reader pays; yamllint, which knows nothing of tasks; and
check-jsonschema with the schema of tasks, which knows their shape alone (from the PATH, or $CHECK_JSONSCHEMA). Ten thousand:
in a new process, and with one that has changed in a running one.

The compiler is measured from a copy, as this one may be worked on. Figures are the least of several runs; on a busy machine
compare CPU times.
"""

import argparse
import compileall
import gc
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from optio.compiler.incremental import IncrementalCompiler
from optio.compiler.source_tree import SUFFIXES, DirectoryTree, OverlayTree
from optio.tree.scan import scan_directory

ROOT = Path(__file__).resolve().parents[2]
TASK = """\
# yaml-language-server: $schema=../schemas/task.schema.json
type: standalone
name: Weekly Security Report {n}
description: Scans dependencies and generates a vulnerability summary
agentRuntime: claude-code
model: sonnet
promptTemplate: |
  Analyze the dependency list for {{{{REPO_NAME}}}} and produce a security report.
  Focus on: {{{{FOCUS_AREAS}}}}
paramsSchema:
  type: object
  properties:
    REPO_NAME: {{type: string, maxLength: {length}}}
    FOCUS_AREAS: {{type: string, default: "CVEs, outdated packages, license issues"}}
  required: [REPO_NAME]
  additionalProperties: false
maxTurns: {turns}
budgetUsd: "2.50"
maxConcurrent: 1
maxRetries: 2
timeout: 20m
warmPoolSize: 0
environment:
  image: ghcr.io/acme/agent@sha256:{digest}
  setupCommands: ["pip install pip-audit==2.9.0"]
  env: {{LOG_LEVEL: info}}
  secrets: [ANTHROPIC_API_KEY]
  network: {{egress: [api.anthropic.com, api.github.com, pypi.org, files.pythonhosted.org]}}
  resources: {{cpu: "1", memory: 2Gi}}
triggers:
  - type: manual
  - type: schedule
    config: {{cronExpression: "{minute} {hour} * * 1", timezone: {zone}, paramMapping: {{REPO_NAME: optio}}}}
  - type: webhook
    config:
      path: security-scan-{n}
      secret: {{name: SECURITY_SCAN_SECRET}}
      paramMapping: {{REPO_NAME: {path}}}
"""
ZONES = ("Europe/Berlin", "America/New_York", "UTC", "Asia/Tokyo")
PATHS = ("$.repository.name", "$.repository.full_name", "\"$.project['path-with-namespace']\"", '"$.commits[0].id"')
SMALLEST = "name: Hello\nagentRuntime: claude-code\npromptTemplate: Say hello\ntriggers: [{type: manual}]\n"
FOUNDATION = "import yaml, msgspec\nclass A(msgspec.Struct):\n    x: int\n"
WITH_PARAMETERS = FOUNDATION + "import jsonschema_rs\n"
WITH_QUERIES = WITH_PARAMETERS + "import jsonpath_rfc9535\n"


TEMPLATE = """\
type: template
agentRuntime: claude-code
maxTurns: 20
budgetUsd: "2.50"
environment: {secrets: [ANTHROPIC_API_KEY], network: {egress: [api.anthropic.com]}}
"""
EXTENDING = """\
name: Dependency Update {n}
extends: base.yaml
promptTemplate: Update what is older than {turns} days.
triggers:
  - type: schedule
    config: {{cronExpression: "{minute} {hour} * * *", timezone: {zone}}}
"""
PARSE = """\
import sys, pathlib
from yaml._yaml import CParser
class Nodes(CParser):
    def resolve(self, *_): pass
    def descend_resolver(self, *_): pass
    def ascend_resolver(self): pass
for path in sorted(pathlib.Path(sys.argv[1]).glob("*.yaml")):
    loader = Nodes(path.read_text())
    while loader.check_node():
        loader.get_node()
"""


def write_tasks(directory: Path, count: int) -> None:
    """The design's example, each file a little different; of ten, one has its prompt in a file, one extends a template, and
    one has something to find."""
    for n in range(count):
        variation = {
            "n": n,
            "turns": n % 50 + 1,
            "length": 100 + n % 100,
            "minute": n % 60,
            "hour": n % 24,
            "digest": f"{n:064x}",
        }
        kind = EXTENDING if n % 10 == 7 else TASK
        text = kind.format(zone=ZONES[n % len(ZONES)], path=PATHS[n % len(PATHS)], **variation)
        if n % 10 == 3:
            start, end = text.index("promptTemplate: |"), text.index("paramsSchema:")
            prompt = text[start:end].replace("promptTemplate: |\n", "").replace("\n  ", "\n").lstrip()
            text = f"{text[:start]}promptFile: prompts/{n}.md\n{text[end:]}"
            (directory / "prompts").mkdir(exist_ok=True)
            (directory / "prompts" / f"{n}.md").write_text(prompt)
        elif n % 10 == 5:
            text = text.replace("@sha256:" + variation["digest"], ":latest")
        (directory / f"task-{n:05}.yaml").write_text(text)
    if count > 1:
        (directory / "base.yaml").write_text(TEMPLATE)


def with_queries(task: str) -> str:
    """The same task, with what cannot be judged without the query language."""
    path = f"paramMapping: {{REPO_NAME: {PATHS[0]}}}"
    assert path in task
    return task.replace(path, 'when: "@.pull_request && !@.draft"\n      paramMapping: {REPO_NAME: "$.repository[ \'name\' ]"}')


class Took(NamedTuple):
    """The least of a whole process, in seconds; on a busy machine look at the CPU time."""

    wall: float
    cpu: float


class Peer(list[str]):
    """A command that is run from the other checkout's copy."""


def least(commands: Sequence[Sequence[str]], runs: int, environment: Mapping[str, str]) -> list[Took]:
    """One run of each after the other, so that a busy moment meets them all; a first round warms the disk's cache."""
    peer = {**environment, "PWD": environment.get("PEER", "")}
    rounds = [
        [run(command, peer if isinstance(command, Peer) else environment) for command in commands] for _ in range(runs + 1)
    ]
    return [Took(*map(min, zip(*column, strict=True))) for column in zip(*rounds[1:], strict=True)]


def run(command: Sequence[str], environment: Mapping[str, str]) -> Took:
    """One run; what its children took is counted in."""
    start = time.perf_counter()
    process = subprocess.Popen(command, cwd=environment["PWD"], stdout=subprocess.DEVNULL, env=dict(environment))
    _, status, used = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)  # it was waited for: Popen need not
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return Took(wall, used.ru_utime + used.ru_stime)


class Table:
    """Rows of what was measured."""

    def __init__(self) -> None:
        print(f"{'':<52} {'wall':>8} {'CPU':>11}")

    def row(self, name: str, took: Took, note: str = "") -> None:
        """As soon as it is known."""
        print(f"{name:<52} {took.wall * 1000:5.0f} ms {took.cpu * 1000:8.0f} ms   {note}", flush=True)


def against(took: Took, peer: Took, name: str) -> str:
    """How many times longer the peer takes."""
    return f"{name} takes {peer.wall / took.wall:.1f} x the time, {peer.cpu / took.cpu:.1f} x the CPU"


def one_file(scratch: Path, table: Table, environment: Mapping[str, str]) -> None:
    """Each kind of file beside what it must import."""
    kinds = [
        ("msgspec, PyYAML", FOUNDATION, "smallest", SMALLEST),
        ("and jsonschema-rs", WITH_PARAMETERS, "the design's example", ""),
        ("and jsonpath-rfc9535", WITH_QUERIES, "with JSONPath queries", ""),
    ]
    commands = [[sys.executable, "-c", "pass"]]
    for number, (_, imports, _, text) in enumerate(kinds):
        directory = scratch / str(number)
        directory.mkdir()
        write_tasks(directory, 1)
        task = directory / "task-00000.yaml"
        task.write_text(text or (task.read_text() if number == 1 else with_queries(task.read_text())))
        commands += [[sys.executable, "-c", imports], [*CHECK, str(directory)]]
    peers = [Peer(command) for command in commands[2::2]] if "PEER" in environment else []
    bare, *singles = least([*commands, *peers], 15, environment)
    table.row("bare interpreter", bare)
    others = singles[len(commands) - 1 :]
    singles = singles[: len(commands) - 1]
    for (libraries, _, what, _), imported, single in zip(kinds, singles[::2], singles[1::2], strict=True):
        table.row(f"{libraries} imported", imported, f"{imported.cpu / bare.cpu:.1f} x bare")
        note = f"{single.cpu / bare.cpu:.1f} x bare, {single.cpu / imported.cpu:.2f} x imports"
        table.row(f"optio check, 1 file, {what}", single, note)
    for (_, _, what, _), other, single in zip(kinds, others, singles[1::2], strict=False):
        table.row(f"the peer's optio check, 1 file, {what}", other, against(single, other, "it"))


def beside_others(scratch: Path, count: int, table: Table, environment: Mapping[str, str]) -> None:
    """Many files beside what other programs make of them."""
    many = scratch / "many"
    many.mkdir()
    write_tasks(many, count)
    files = [str(path) for path in sorted(many.glob("*.yaml"))]
    commands = [[sys.executable, "-c", PARSE, str(many)], [*CHECK, str(many)]]
    commands.append([*CHECK, "--jobs", "1", str(many)])
    peers = [Peer(commands[1])] if "PEER" in environment else []
    parsed, cold, one, *others = least([*commands, *peers], 5, environment)
    table.row(f"their YAML as nodes, {count:,} files", parsed)
    note = f"{cold.wall / parsed.wall:.1f} x nodes' time, {cold.cpu / parsed.cpu:.1f} x their CPU"
    table.row(f"optio check, {count:,} files", cold, note)
    table.row(f"optio check, {count:,} files, one process", one)
    for other in others:
        table.row(f"the peer's optio check, {count:,} files", other, against(cold, other, "it"))
    beside = Path(sys.executable).parent
    yamllint = shutil.which("yamllint", path=str(beside)) or shutil.which("yamllint")
    schema = os.environ.get("CHECK_JSONSCHEMA") or shutil.which("check-jsonschema")
    if yamllint:
        took = run([yamllint, "-d", "relaxed", "--no-warnings", *files], environment)
        table.row(f"yamllint, {count:,} files", took, against(cold, took, "it"))
    if schema:
        tasks = [
            name
            for name in files
            if "extends:" not in Path(name).read_text() and "type: template" not in Path(name).read_text()
        ]
        took = run([schema, "--schemafile", str(ROOT / "schemas" / "task.schema.json"), *tasks], environment)
        took = Took(took.wall * len(files) / len(tasks), took.cpu * len(files) / len(tasks))
        table.row(f"check-jsonschema, {count:,} files", took, against(cold, took, "it"))


def most_files(scratch: Path, count: int, table: Table, environment: Mapping[str, str]) -> None:
    """Ten thousand files, and one that changes in a running process."""
    most = scratch / "most"
    most.mkdir()
    write_tasks(most, count)
    check = [*CHECK, str(most)]
    cold, *others = least([check, *([Peer(check)] if "PEER" in environment else [])], 2, environment)
    table.row(f"optio check, {count:,} files", cold, f"{cold.cpu / count * 1e6:.0f} us of CPU a file")
    for other in others:
        table.row(f"the peer's optio check, {count:,} files", other, against(cold, other, "it"))
    running(most, f"task-{count // 2:05}.yaml", table)


def running(root: Path, name: str, table: Table) -> None:
    """The compiler of a server or an editor, whose tree is in memory."""
    signs = scan_directory(root).stamps
    tree = DirectoryTree(root, sorted(path for path in signs if path.endswith(SUFFIXES)))
    compiler = IncrementalCompiler()
    gc.disable()
    compiler.compile(tree, signs)
    gc.enable()
    gc.collect()
    gc.freeze()
    text = (root / name).read_bytes()
    for what in ("by its sign", "named"):
        took = []
        for number in range(15):
            view = OverlayTree(tree, {name: text + b"# %d\n" % number})
            others = {path: sign for path, sign in signs.items() if path != name}
            wall, cpu = time.perf_counter(), time.process_time()
            compiler.compile(view, others, changed_paths=[name] if what == "named" else None)
            took.append((time.perf_counter() - wall, time.process_time() - cpu))
        table.row(f"running, {len(signs):,} files, 1 changed, {what}", Took(*map(min, zip(*took, strict=True))))


CHECK = [sys.executable, "-m", "optio", "check", "--format", "concise"]


def _copied(checkout: Path, to: Path) -> str:
    shutil.copytree(checkout / "optio", to / "optio", ignore=shutil.ignore_patterns("__pycache__"))
    compileall.compile_dir(to, quiet=2)
    return str(to)


def main() -> None:
    """Print the table."""
    options = argparse.ArgumentParser(prog="python -m tests.bench.bench_check")
    options.add_argument("files", nargs="?", type=int, default=1_000)
    options.add_argument("more", nargs="?", type=int, default=10_000)
    options.add_argument("--peer", type=Path, help="another checkout")
    args = options.parse_args()
    print(f"{len(os.sched_getaffinity(0))} processors, load {os.getloadavg()[0]:.1f} before, Python {sys.version.split()[0]}")
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        environment = {**os.environ, "PWD": _copied(ROOT, scratch / "copy")}
        environment["OPTIO_EXECUTOR"] = "kubernetes"  # which applies all that the tasks ask for: they are clean
        if args.peer is not None:
            environment["PEER"] = _copied(args.peer, scratch / "peer")
        table = Table()
        one_file(scratch, table, environment)
        beside_others(scratch, args.files, table, environment)
        most_files(scratch, args.more, table, environment)
    print(f"load {os.getloadavg()[0]:.1f} after")


if __name__ == "__main__":
    main()
