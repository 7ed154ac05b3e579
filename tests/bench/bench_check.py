"""How long `optio check` takes, whole process, against peers that are measured in the same run.

    python tests/bench/bench_check.py [FILES]

One file: beside a bare interpreter, and one that only imports what the compiler stands on, as any script imports it: with
garbage collected, plugins of pydantic looked for, and an exit in good order, all of which a check leaves out. A file loads
what it needs, so there are three: the design's example (parameters, plain paths: no query language), one with a filter
and a path that are not plain (its peer imports that library too), and the smallest task (its peer imports no JSON Schema).
A thousand files, a quarter of each path below: beside yamllint, which reads the same YAML and knows nothing of tasks.
"""

import compileall
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

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
  network: {{egress: [api.anthropic.com, api.github.com]}}
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
FOUNDATION = "import yaml\nfrom pydantic import BaseModel\nclass A(BaseModel):\n    x: int\n"
WITH_PARAMETERS = FOUNDATION + "import jsonschema_rs\n"
WITH_QUERIES = WITH_PARAMETERS + "import jsonpath_rfc9535\n"


def write_tasks(directory: Path, count: int) -> None:
    """The design's example, each file a little different."""
    for n in range(count):
        variation = {
            "n": n,
            "turns": n % 50 + 1,
            "length": 100 + n % 100,
            "minute": n % 60,
            "hour": n % 24,
            "digest": f"{n:064x}",
        }
        text = TASK.format(zone=ZONES[n % len(ZONES)], path=PATHS[n % len(PATHS)], **variation)
        (directory / f"task-{n:05}.yaml").write_text(text)


def with_queries(task: str) -> str:
    """The same task, with what cannot be judged without the query language."""
    path = f"paramMapping: {{REPO_NAME: {PATHS[0]}}}"
    assert path in task
    return task.replace(path, 'when: "@.pull_request && !@.draft"\n      paramMapping: {REPO_NAME: "$.repository[ \'name\' ]"}')


class Took(NamedTuple):
    """Medians of a whole process, in seconds; on a busy machine look at the CPU time."""

    wall: float
    cpu: float


def alternating(commands: Sequence[Sequence[str]], runs: int) -> list[Took]:
    """One run of each after the other, so that a busy moment meets them all; the first round warms the disk cache."""
    rounds = [[_run(command) for command in commands] for _ in range(runs + 1)]
    return [Took(*map(statistics.median, zip(*column, strict=True))) for column in zip(*rounds[1:], strict=True)]


def _run(command: Sequence[str]) -> Took:
    start = time.perf_counter()
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)  # it was waited for: Popen need not
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return Took(wall, used.ru_utime + used.ru_stime)


def main() -> None:
    """Print the table."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000
    compileall.compile_dir(ROOT / "optio", quiet=2)
    check = [sys.executable, "-m", "optio", "check", "--format", "concise"]
    yamllint = shutil.which("yamllint", path=str(Path(sys.executable).parent)) or shutil.which("yamllint")
    with tempfile.TemporaryDirectory() as scratch:
        one, queries, smallest, many = (Path(scratch, name) for name in ("one", "queries", "smallest", "many"))
        for directory in (one, queries, smallest, many):
            directory.mkdir()
        write_tasks(one, 1)
        write_tasks(many, count)
        task = next(one.iterdir()).read_text()
        (queries / "task.yaml").write_text(with_queries(task))
        (smallest / "task.yaml").write_text(SMALLEST)
        kinds = [
            ("pydantic, PyYAML", FOUNDATION, "smallest", smallest),
            ("and jsonschema-rs", WITH_PARAMETERS, "the design's example", one),
            ("and jsonpath-rfc9535", WITH_QUERIES, "with JSONPath queries", queries),
        ]
        commands = [[sys.executable, "-c", "pass"]]
        for _, imports, _, directory in kinds:
            commands += [[sys.executable, "-c", imports], [*check, str(directory)]]
        bare, *singles = alternating(commands, 15)
        [whole] = alternating([[*check, str(many)]], 5)
        lint = [[yamllint, "-d", "relaxed", "--no-warnings", str(many)]] if yamllint else []
        peers = alternating(lint, 1)
    rows = [("bare interpreter", bare, "")]
    for (libraries, _, what, _), imported, single in zip(kinds, singles[::2], singles[1::2], strict=True):
        rows.append((f"{libraries} imported", imported, f"{imported.cpu / bare.cpu:.1f} x bare"))
        note = f"{single.cpu / bare.cpu:.1f} x bare, {single.cpu / imported.cpu:.2f} x imports"
        rows.append((f"optio check, 1 file, {what}", single, note))
    more = (whole.cpu - singles[3].cpu) / count * 1e6
    rows.append((f"optio check, {count:,} files", whole, f"{more:.0f} us a file after the first"))
    rows += [(f"yamllint, {count:,} files", peer, f"{peer.cpu / whole.cpu:.1f} x optio check") for peer in peers]
    print(f"{'':<46} {'wall':>8} {'CPU':>11}")
    for name, took, note in rows:
        print(f"{name:<46} {took.wall * 1000:5.0f} ms {took.cpu * 1000:8.0f} ms   {note}")


if __name__ == "__main__":
    main()
