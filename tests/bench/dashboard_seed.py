"""A large store for the pages: thousands of tasks, a million runs over 60 days, one run with a million lines, a transcript of
300 turns, and a queue with every reason to wait. `bench_dashboard` makes it, starts a server on it and measures the pages.

Runs that have ended are inserted by SQL, with times, costs and outcomes computed from their number; the others by the store's
own operations.
"""

import asyncio
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from optio.model.agent_event import ToolCall, ToolKind, ToolResult, TurnEnd
from optio.model.namespace import ALL_TASKS
from optio.model.registry import CompiledTask, Registry
from optio.model.run import LogKind, LogLine
from optio.model.usage import Meter
from optio.processes.scheduler import new_id
from optio.server.auth import token_hash
from optio.settings import Settings
from optio.store.postgres import postgres_store
from optio.store.sql import schema
from optio.store.sql.store import SqlStore
from optio.store.sql.transaction import Transaction, to_micros
from optio.store.values import NewRun
from optio.tree.reload import Reloader
from optio.tree.served import ServedRegistry
from optio.wiring import build
from tests.store.build import BAD, OK, end

DAYS = 60
TOKENS = {role: f"optio_{role}_of_the_bench" for role in ("viewer", "operator", "admin")}
TOKEN = TOKENS["admin"]
_RUNS_PER_STATEMENT = 50_000
_LINES_PER_STATEMENT = 100_000
_LEASE = timedelta(days=3650)
_TASK = """\
type: standalone
id: task-{n}
name: {name} {n}
description: "Looks at {what} and writes what it finds"
owner: team-{team}
agentRuntime: {runtime}
model: {model}
promptTemplate: "Look at {what} of {{{{REPO}}}}"
paramsSchema:
  type: object
  properties: {{REPO: {{type: string, default: acme/widgets}}}}
budgetUsd: "2.50"
startLimit: {{count: 100, per: 24h}}
enabled: {enabled}
triggers:
  - type: manual
{schedule}
"""
_SCHEDULE = """\
  - type: schedule
    config: {{cronExpression: "{minute} {hour} * * {day}", timezone: {zone}}}
"""
_NAMES = ("Nightly report", "Dependency audit", "Pull request review", "Alert triage", "Release notes", "Flaky tests")
_WHATS = ("the dependencies", "the open pull requests", "the alerts of the night", "the failed tests", "the changes")
_ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata")
_RUNTIMES = (("claude-code", "sonnet"), ("codex", "gpt-5"), ("gemini", "gemini-2.5-pro"))
_QUEUE = {
    "w-paused": "",
    "w-one": "maxConcurrent: 1\n",
    "w-limited": "maxConcurrent: 5\nstartLimit: {count: 3, per: 168h}\n",
    "w-keyed": 'dedupe: {key: "{{REPO}}"}\nmaxConcurrent: 10\n',
    "w-many": "maxConcurrent: 50\n",
    "big-log": "",
    "transcript": "",
}
_SPECIAL = """\
type: standalone
id: {id}
name: {name}
owner: team-queue
agentRuntime: claude-code
model: sonnet
promptTemplate: "Look at {{{{REPO}}}}"
paramsSchema:
  type: object
  properties: {{REPO: {{type: string, default: acme/widgets}}}}
budgetUsd: "2.50"
{extra}"""
# Half of all runs are of the first hundred tasks. 88 of 100 complete, 8 fail, 4 are cancelled. Every number comes from `i`.
_RUNS = """
WITH RECURSIVE n (i) AS (SELECT {first} UNION ALL SELECT i + 1 FROM n WHERE i < {last}),
mixed AS (SELECT i, i * 2654435761 / 65536 AS x FROM n),
plain AS (
    SELECT i, CASE WHEN i % 2 = 0 THEN 1 + x % 100 ELSE 1 + x % {tasks} END AS task,
        {begin} + i * {step} AS created, x / 100 % 100 AS fate, 5 + x / 7 % 300 + (x % 23) * (x % 7) * 4 AS seconds,
        1000 + x / 3 % 9000 AS price
    FROM mixed
)
INSERT INTO runs (
    id, task_id, task_name, digest, generation, state, reason, message, run_trigger, params, prompt, max_concurrent,
    max_retries, attempt, fence, created_at, queued_at, not_before, started_at, ended_at, result_text, turns, tool_calls, usage,
    cost, cost_source, last_event
)
SELECT {id}, t.task_id, 'Task ' || task, t.digest, 1,
    CASE WHEN fate < 88 THEN 'completed' WHEN fate < 96 THEN 'failed' ELSE 'cancelled' END,
    CASE WHEN fate < 88 THEN 'ok' WHEN fate < 91 THEN 'exit_code' WHEN fate < 94 THEN 'timeout' WHEN fate < 96 THEN 'budget'
        ELSE 'cancelled' END,
    CASE WHEN fate < 88 THEN '' ELSE 'message of run ' || i END,
    CASE i % 5 WHEN 0 THEN 'manual' WHEN 1 THEN 'schedule' ELSE 'webhook' END,
    '{{"REPO":"acme/widgets"}}', 'Look at the dependencies of acme/widgets', 2, 1, 1, 1,
    created, created, created, created + 1000000, created + 1000000 + seconds * 1000000,
    CASE WHEN fate < 88 THEN 'Nothing found.' END, 12, 7,
    '{{"fresh":' || price || ',"cached":' || (price * 6) || ',"cacheWrite":0,"output":' || (price / 4) || ',"reasoning":0}}',
    '0.' || price, CASE WHEN i % 3 = 0 THEN 'prices' ELSE 'cli' END, 2
FROM plain JOIN tasks t ON t.task_id = 'task-' || task ORDER BY i
"""
_ATTEMPTS = """
INSERT INTO attempts (run_id, number, worker, started_at, agent_started_at, ended_at, ok, reason, message, exit_code,
    result_text, turns, tool_calls, usage, cost, cost_source)
SELECT id, 1, 'bench', started_at, started_at, ended_at, CASE WHEN state = 'completed' THEN 1 ELSE 0 END, reason, message, 0,
    result_text, turns, tool_calls, usage, cost, cost_source
FROM runs WHERE seq > :after AND seq <= :upto
"""
_EVENTS = """
INSERT INTO events (run_id, seq, from_state, to_state, reason, message, actor, at)
SELECT id, 1, NULL, 'queued', run_trigger, '', 'bench', created_at FROM runs WHERE seq > :after AND seq <= :upto
UNION ALL
SELECT id, 2, 'running', state, reason, message, 'bench', ended_at FROM runs WHERE seq > :after AND seq <= :upto
"""
_LINES = """
WITH RECURSIVE n (i) AS (SELECT {first} UNION ALL SELECT i + 1 FROM n WHERE i < {last})
INSERT INTO log_lines (run_id, seq, attempt, kind, at, data)
SELECT '{run}', i, 1, 'output', {begin} + i * 1000,
    {bytes}('line ' || i || ' of the log: the quick brown fox reads the log of the agent, and finds ' || ((i * 7919) % 1000))
FROM n
"""
_AS_UTF8 = {"bytes": "convert_to('", "end": ", 'UTF8')"}
# Over the days before now; every verdict that a gate can give.
_DELIVERIES = """
WITH RECURSIVE n (i) AS (SELECT {first} UNION ALL SELECT i + 1 FROM n WHERE i < {last})
INSERT INTO deliveries (
    id, path, task_id, delivery_key, received_at, headers, body, body_sha256, verdict, status, detail, run_id
)
SELECT 'delivery-' || i, 'push-' || (i % 20), 'task-' || (1 + i % 100), 'key-' || i, {begin} + i * {step},
    '{{"content-type": "application/json", "x-github-event": "push", "x-github-delivery": "key-' || i || '"}}',
    {bytes}{{"ref": "refs/heads/main", "repository": {{"full_name": "acme/widgets"}}, "after": "' || i || '"}}'{end},
    'digest of ' || i, verdict,
    CASE WHEN verdict IN ('accepted', 'filtered') THEN 202 WHEN verdict = 'invalid' THEN 422 ELSE 401 END,
    CASE WHEN verdict = 'invalid' THEN 'REPO is required' END, NULL
FROM (
    SELECT i, CASE WHEN i % 10 < 7 THEN 'accepted' WHEN i % 10 < 8 THEN 'filtered' WHEN i % 10 < 9 THEN 'unsigned'
        ELSE 'invalid' END AS verdict FROM n
) AS each_one
"""
_SAME_KEY = """
INSERT INTO runs (
    id, task_id, task_name, digest, state, reason, run_trigger, params, prompt, max_concurrent, max_retries, created_at,
    queued_at, not_before, dedupe_key, last_event
)
SELECT :id, task_id, task_name, digest, 'queued', 'webhook', run_trigger, params, prompt, max_concurrent, max_retries,
    created_at, queued_at, not_before, dedupe_key, 0
FROM runs WHERE id = :running
"""


@dataclass(frozen=True)
class Seed:
    """The size of a store, where it is kept, and its database's URL (None: SQLite in the directory)."""

    directory: Path
    url: str | None = None
    tasks: int = 10_000
    runs: int = 1_000_000
    lines: int = 1_000_000
    deliveries: int = 300_000
    waiting: int = 400
    generations: int = 30

    def environ(self) -> dict[str, str]:
        """Return the settings of a process that uses it."""
        names = {"OPTIO_TASKS": str(self.directory / "tasks.d"), "OPTIO_DATA_DIR": str(self.directory / "data")}
        return names if self.url is None else {**names, "OPTIO_DATABASE_URL": self.url}


def fill(seed: Seed) -> None:
    """Write the tasks of a seed, serve them, and fill its store. It must be empty."""
    _say(f"{seed.tasks:,} task files")
    _write_tasks(seed)
    services = build(Settings.load(seed.environ()))
    store = services.store
    if seed.url is not None:  # statements of a minute are no trouble here
        store = postgres_store.open_store(seed.url, patience=600)
    assert isinstance(store, SqlStore)
    for role, secret in TOKENS.items():
        store.add_token(f"tok_bench_{role}", token_hash(secret), role, role, None)  # type: ignore[arg-type]
    _say("serving them")
    live = ServedRegistry(store)
    reloader = Reloader(seed.directory / "tasks.d", live, services.broker)
    snapshot = asyncio.run(reloader.load())
    wrong = [each.to_json() for each in snapshot.diagnostics if each.severity == "error"]
    assert not wrong, wrong[:3]
    _say(f"{seed.runs:,} runs")
    _insert_runs(store, seed)
    _say(f"a run of {seed.lines:,} lines")
    _write_long_log(store, snapshot.registry, seed)
    _say("a transcript of 300 turns")
    _write_transcript(store, snapshot.registry)
    _say(f"{seed.deliveries:,} deliveries")
    _insert_deliveries(store, seed)
    _say(f"{seed.generations} generations")
    for number in range(2, seed.generations + 1):
        _edit(seed, number)
        asyncio.run(reloader.load())
    _say("a queue")
    _fill_queue(store, snapshot.registry, seed)
    _say("statistics of the database")
    _change(store, "ANALYZE")
    store.close()
    services.close()
    _say("done")


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')}  {text}", flush=True)


def _change(store: SqlStore, sql: str, params: Mapping[str, object] | None = None) -> int:
    def operation(tx: Transaction) -> int:
        if tx.lateral:
            tx.run("SET LOCAL statement_timeout = 0")
        return tx.run(sql, params or {})

    return store._engine.change(operation)


def _write_tasks(seed: Seed) -> None:
    root = seed.directory / "tasks.d"
    for n in range(1, seed.tasks + 1):
        folder = root / f"team-{n % 20}"
        folder.mkdir(parents=True, exist_ok=True)
        zone, (runtime, model) = _ZONES[n % len(_ZONES)], _RUNTIMES[n % len(_RUNTIMES)]
        schedule = "" if n % 3 == 0 else _SCHEDULE.format(minute=n % 60, hour=n % 24, day="1-5" if n % 2 else "*", zone=zone)
        text = _TASK.format(
            n=n, name=_NAMES[n % len(_NAMES)], what=_WHATS[n % len(_WHATS)], team=n % 20, runtime=runtime, model=model,
            enabled="false" if n % 97 == 0 else "true", schedule=schedule,
        )  # fmt: skip
        (folder / f"task-{n}.yaml").write_text(text)
    for task_id, extra in _QUEUE.items():
        (root / f"{task_id}.yaml").write_text(_SPECIAL.format(id=task_id, name=task_id, extra=extra))


def _insert_runs(store: SqlStore, seed: Seed) -> None:
    """Insert runs that have ended, and count them as the migration counts those of a database from before."""
    now = to_micros(store.now())
    step = DAYS * 86_400_000_000 // max(1, seed.runs)
    begin = now - (seed.runs + 1) * step
    # The ids are those of UUID version 7, whose first digits are the time.
    id_sqlite = "printf('%08x-%04x-7000-8000-%012x', (created / 1000) >> 16, (created / 1000) & 65535, i)"
    id_postgres = (
        "lpad(to_hex((created / 1000) >> 16), 8, '0') || '-' || lpad(to_hex((created / 1000) & 65535), 4, '0') || "
        "'-7000-8000-' || lpad(to_hex(i), 12, '0')"
    )
    run_id = id_sqlite if store.local else id_postgres
    for first in range(1, seed.runs + 1, _RUNS_PER_STATEMENT):
        after = _last_seq(store)
        # Numbers of 64 bits, also where a literal has 32.
        parts = {"first": f"CAST({first} AS bigint)", "last": min(seed.runs, first + _RUNS_PER_STATEMENT - 1)}
        _change(store, _RUNS.format(**parts, begin=begin, step=step, id=run_id, tasks=seed.tasks))
        span = {"after": after, "upto": _last_seq(store)}
        _change(store, _ATTEMPTS, span)
        _change(store, _EVENTS, span)
    for statement in list(schema.statements(schema.migrations()[19].script, "sqlite" if store.local else "postgres"))[2:]:
        _change(store, statement)


def _insert_deliveries(store: SqlStore, seed: Seed) -> None:
    step = DAYS * 86_400_000_000 // max(1, seed.deliveries)
    begin = to_micros(store.now()) - (seed.deliveries + 1) * step
    parts = {"begin": begin, "step": step, **({"bytes": "CAST('", "end": " AS BLOB)"} if store.local else _AS_UTF8)}
    for first in range(1, seed.deliveries + 1, _RUNS_PER_STATEMENT):
        last = min(seed.deliveries, first + _RUNS_PER_STATEMENT - 1)
        _change(store, _DELIVERIES.format(first=f"CAST({first} AS bigint)", last=last, **parts))


def _edit(seed: Seed, number: int) -> None:
    """Change a few tasks, as a pull request does: a limit, a budget, a prompt, a schedule."""
    for task in range(number, number + 3):
        path = seed.directory / f"tasks.d/team-{task % 20}/task-{task}.yaml"
        text = path.read_text().replace("count: 100", f"count: {100 + number}").replace('"2.50"', f'"{number}.50"')
        path.write_text(text.replace("Look at the", f"Look again, for the {number}th time, at the"))


def _last_seq(store: SqlStore) -> int:
    return int(store._engine.peek(lambda tx: tx.one("SELECT COALESCE(MAX(seq), 0) AS n FROM runs"))["n"])


def _start(store: SqlStore, task: CompiledTask, **more: object) -> str:
    fields = {
        "params": {"REPO": "acme/widgets"},
        "prompt": "Look at acme/widgets",
        "trigger": "webhook",
        "actor": "bench",
        **more,
    }
    return str(store.accept(NewRun(id=new_id(), task=task, **fields)).result(60).run_id)  # type: ignore[arg-type]


def _write_long_log(store: SqlStore, registry: Registry, seed: Seed) -> None:
    run_id = _start(store, registry.task("big-log"))
    (claim,) = store.claim("bench", _LEASE, lambda view: [run_id])
    insert_lines(store, run_id, seed.lines)
    end(store, claim, OK)


def insert_lines(store: SqlStore, run_id: str, lines: int) -> None:
    """Give a run without a log so many lines."""
    begin = to_micros(store.now())
    as_bytes = "" if store.local else "convert_to"
    for first in range(1, lines + 1, _LINES_PER_STATEMENT):
        last = min(lines, first + _LINES_PER_STATEMENT - 1)
        sql = _LINES.format(first=f"CAST({first} AS bigint)", last=last, run=run_id, begin=begin, bytes=as_bytes)
        if not store.local:
            sql = sql.replace("% 1000))\n", "% 1000), 'UTF8')\n")
        else:
            sql = sql.replace("    (", "    CAST(", 1).replace("% 1000))\n", "% 1000) AS BLOB)\n")
        _change(store, sql)
    _change(store, "UPDATE runs SET last_line = :last WHERE id = :id", {"last": lines, "id": run_id})


def _write_transcript(store: SqlStore, registry: Registry) -> None:
    run_id = _start(store, registry.task("transcript"))
    (claim,) = store.claim("bench", _LEASE, lambda view: [run_id])
    for turn in range(1, 301):
        store.append_log(claim.run.lease, list(_turn(turn)), {}, Meter(turns=turn))
    end(store, claim, BAD)


def _turn(turn: int) -> Iterator[LogLine]:
    """Yield a model call with three tool calls, whose results come in another order; the result of one is 2 MB."""
    at = datetime.now(UTC)

    def line(kind: LogKind, text: str, event: object = None) -> LogLine:
        return LogLine(kind=kind, data=text.encode(), at=at, turn=turn, event=event)  # type: ignore[arg-type]

    yield line(LogKind.TEXT, f"Turn {turn}: I read the code, and run the tests beside it.")
    command, edit = (
        {"command": f"pytest -q tests/part_{turn}"},
        {"file_path": "src/a.py", "old_string": "a\nb", "new_string": "a\nc"},
    )
    calls = (
        ("Bash", ToolKind.EXECUTE, command),
        ("Read", ToolKind.READ, {"file_path": "src/a.py"}),
        ("Edit", ToolKind.EDIT, edit),
    )
    for name, kind, given in calls:
        yield line(
            LogKind.TOOL, f"{name} {json.dumps(given)}", ToolCall(id=f"{turn}-{name}", name=name, kind=kind, input=given)
        )
    for name, _, _ in reversed(calls):
        ok = not (name == "Bash" and turn % 10 == 0)
        text = "x" * 79 + "\n"
        answer = text * 26_000 if name == "Read" and turn == 150 else text * 3
        result = ToolResult(id=f"{turn}-{name}", ok=ok, size=len(answer), exit_code=None if name != "Bash" else int(not ok))
        yield line(LogKind.RESULT, answer, result)
    usage = TurnEnd(model="sonnet", fresh=900, cached=12_000, cache_write=300, output=410, reasoning=0, cost_usd="0.0123")
    yield line(LogKind.TURN, "900 + 12,300 -> 410 tokens", usage)


def _fill_queue(store: SqlStore, registry: Registry, seed: Seed) -> None:
    share = max(1, seed.waiting // 5)
    store.note_worker("bench", ALL_TASKS)
    limited = [_start(store, registry.task("w-limited")) for _ in range(3)]
    for claim in store.claim("bench", _LEASE, lambda view: limited):
        end(store, claim)
    running = [_start(store, registry.task("w-one")), _start(store, registry.task("w-keyed"), dedupe_key="acme/widgets")]
    running += [_start(store, registry.task("w-many")) for _ in range(3)]
    claimed = store.claim("bench", _LEASE, lambda view: running)
    assert len(claimed) == len(running)
    for _ in range(share):
        _start(store, registry.task("w-one"))
        _start(store, registry.task("w-paused"))
        _start(store, registry.task("w-limited"))
        _start(store, registry.task("w-many"))
    for n in range(share):
        _start(store, registry.task(f"task-{n % seed.tasks + 1}"))
    # Requests with a key that is held join its run: runs that wait for a key came before it was taken again by a retry.
    for _ in range(5):
        _change(store, _SAME_KEY, {"id": new_id(), "running": running[1]})
    store.pause("w-paused", "the provider has an incident", "bench")
