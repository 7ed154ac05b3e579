"""The ledger: what was asked for, what really ran, and whether the two agree.

Requests are repeated, sent to two servers at once, and left without waiting for the answer. What ran is told by the agents
themselves, in one file that they append to, and by /proc; never by the database that is being tested.
"""

import hashlib
import hmac
import http.client
import json
import os
import queue
import random
import socket
import threading
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from tests.stories.cluster import Cluster

GLOBAL_LIMIT = 8
SECRET = "secret of the ledger"
_SETTINGS = {
    "OPTIO_MAX_WORKFLOW_CONCURRENT": str(GLOBAL_LIMIT),
    "OPTIO_WEBHOOK_RATE_PER_MINUTE": "1000000",
    "OPTIO_SECRET_LEDGER_SECRET": SECRET,
    "OPTIO_LEASE": "2s",
}
# An append of less than a page is whole, whoever else writes: the order of the lines is the order of what happened.
_AGENT = """\
echo "start $OPTIO_RUN_ID $OPTIO_ATTEMPT $OPTIO_TASK_ID $$" >> "$MARKS"
i=0
while [ $i -lt $1 ]; do i=$((i+1)); echo "line $i"; sleep $2; done
echo "end $OPTIO_RUN_ID $OPTIO_ATTEMPT $OPTIO_TASK_ID $$" >> "$MARKS"
"""
_TASK = """\
type: standalone
name: {name}
agentRuntime: command
command: ["/bin/sh", "{agent}", "{lines}", "{pause}"]
promptTemplate: "go"
maxConcurrent: {most}
maxRetries: 0
environment:
  env: {{MARKS: "{marks}", LEDGER: "{token}"}}
triggers:
"""
_HOOK = """\
  - type: webhook
    config: {{path: "{name}", secret: {{name: LEDGER_SECRET}}, paramMapping: {{}}}}
"""
_EACH_MINUTE = """\
  - type: schedule
    config: {cronExpression: "* * * * *", misfire: all, maxCatchUp: 100}
"""


@dataclass(frozen=True)
class Job:
    """A task of the load: its agent says `lines` lines with a pause after each."""

    name: str
    lines: int
    pause: float
    most: int
    share: int


JOBS = (
    Job("short", 1, 0.02, 4, 40),
    Job("quick", 4, 0.05, 3, 30),
    Job("middle", 6, 0.1, 3, 18),
    Job("long", 15, 0.1, 3, 9),
    Job("longest", 40, 0.1, 3, 3),  # longer than the lease
)
TICKS = tuple(Job(f"tick-{n}", 1, 0.02, 2, 0) for n in range(4))
LIMITS = {job.name: job.most for job in JOBS + TICKS} | {"": GLOBAL_LIMIT}


def cluster(directory: Path, **changes: Any) -> Cluster:
    """A cluster that serves the tasks of the load."""
    agent = directory / "agent.sh"
    sandbox = {"OPTIO_SANDBOX": "namespaces", "OPTIO_SANDBOX_READ": str(agent), "OPTIO_SANDBOX_WRITE": str(directory / "marks")}
    made = Cluster(directory, environ={**_SETTINGS, **sandbox, **changes.pop("environ", {})}, **changes)
    agent.write_text(_AGENT)
    (directory / "marks").touch()
    (directory / "marks").chmod(0o666)
    token = uuid.uuid4().hex
    (directory / "token").write_text(token)
    for job in JOBS + TICKS:
        text = _TASK.format(
            name=job.name, agent=agent, lines=job.lines, pause=job.pause, most=job.most, marks=directory / "marks", token=token
        )
        made.write(f"{job.name}.yaml", text + (_HOOK.format(name=job.name) if job in JOBS else _EACH_MINUTE))
    return made


# Asking


@dataclass
class Ledger:
    """What was asked for, and what the answers were."""

    accepted: dict[str, set[str]] = field(default_factory=dict)  # key -> run ids that were given for it
    requests: int = 0
    unknown: int = 0  # requests without an answer
    repeated: int = 0  # keys that were sent twice at once
    left: int = 0  # requests whose answer was not waited for
    refused: Counter[int] = field(default_factory=Counter)
    odd: list[str] = field(default_factory=list)  # answers that no client should get
    unanswered: list[str] = field(default_factory=list)
    slowest: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)


@dataclass(frozen=True)
class Request:
    """One thing that is asked for; sent again, it is the same request."""

    key: str
    path: str
    body: bytes
    headers: Mapping[str, str]


def trigger(made: Cluster, key: str, task: str, *, hook: bool) -> Request:
    """A run of the task, asked for by a signed webhook or through the API."""
    if not hook:
        headers = {"Idempotency-Key": key, "Authorization": f"Bearer {made.token}"}
        return Request(key, f"/api/tasks/{task}/runs", b'{"params": {}}', headers)
    body = json.dumps({"delivery": key}).encode()
    signature = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    return Request(key, f"/api/hooks/{task}", body, {"Idempotency-Key": key, "X-Optio-Signature": signature})


class Clients:
    """Ask for runs, on some threads, patiently."""

    def __init__(
        self, made: Cluster, ledger: Ledger, seed: int, *, threads: int = 10, patience: float = 120.0, duplicates: int = 10
    ) -> None:
        """`duplicates` of 100 requests are sent twice at once."""
        self._cluster, self.ledger, self._seed, self._patience = made, ledger, seed, patience
        self._duplicates = duplicates
        self._queue: queue.Queue[int | None] = queue.Queue(threads * 2)
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    def ask(self, number: int) -> None:
        """Queue the request of this number; waits while the clients have too much to do."""
        self._queue.put(number)

    def finish(self) -> None:
        """Wait until all was asked for."""
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while (number := self._queue.get()) is not None:
            dice = random.Random(f"{self._seed}-{number}")
            job = dice.choices(JOBS, [job.share for job in JOBS])[0]
            request = trigger(self._cluster, f"{self._seed}-{number}", job.name, hook=dice.random() < 0.5)
            server = dice.randrange(len(self._cluster.ports))
            if dice.randrange(10) == 0:
                self._leave(request, server, dice)
                server = dice.randrange(len(self._cluster.ports))
            if dice.randrange(100) < self._duplicates:
                with self.ledger.lock:
                    self.ledger.repeated += 1
                second = threading.Thread(target=self._until_answered, args=(request, server + 1))
                second.start()
                self._until_answered(request, server)
                second.join()
            else:
                self._until_answered(request, server)

    def _until_answered(self, request: Request, server: int) -> None:
        limit = time.monotonic() + self._patience
        while time.monotonic() < limit:
            began = time.monotonic()
            status, answer, _ = post(self._cluster.ports[server % len(self._cluster.ports)], request)
            took = time.monotonic() - began
            with self.ledger.lock:
                self.ledger.requests += 1
                if status in (200, 202):
                    self.ledger.slowest = max(self.ledger.slowest, took)
                    self.ledger.accepted.setdefault(request.key, set()).add(answer["runId"])
                    return
                if status == 0:
                    self.ledger.unknown += 1
                else:
                    self.ledger.refused[status] += 1
                    if status != 503:
                        self.ledger.odd.append(f"{request.key} {request.path}: {status} {answer}")
            server += 1
            time.sleep(0.1)
        with self.ledger.lock:
            self.ledger.unanswered.append(request.key)

    def _leave(self, request: Request, server: int, dice: random.Random) -> None:
        """Send it all and go away."""
        with self.ledger.lock:
            self.ledger.left += 1
        head = [f"POST {request.path} HTTP/1.1", "Host: 127.0.0.1", "Content-Type: application/json"]
        head += [f"{name}: {value}" for name, value in request.headers.items()] + [
            f"Content-Length: {len(request.body)}",
            "",
            "",
        ]
        try:
            with socket.create_connection(("127.0.0.1", self._cluster.ports[server]), 5) as sock:
                sock.sendall("\r\n".join([*head, "", ""]).encode() + request.body)
                time.sleep(dice.choice((0.0, 0.002, 0.01, 0.05)))
        except OSError:
            return  # it was down: the request was never made


def post(port: int, request: Request, *, within: float = 10) -> tuple[int, Any, Mapping[str, str]]:
    """(status, answer, headers); status 0 when there was none within these seconds."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=within)
    try:
        connection.request("POST", request.path, request.body, {"Content-Type": "application/json", **request.headers})
        response = connection.getresponse()
        data = response.read()
        return response.status, json.loads(data), {name.lower(): value for name, value in response.getheaders()}
    except (OSError, http.client.HTTPException, ValueError):
        return 0, None, {}
    finally:
        connection.close()


def get(made: Cluster, path: str) -> Any:
    """What a server says, asked until one answers."""
    limit = time.monotonic() + 60
    while True:
        for port in made.ports:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            try:
                connection.request("GET", path, headers={"Authorization": f"Bearer {made.token}"})
                response = connection.getresponse()
                data = response.read()
                if response.status == 200:
                    return json.loads(data)
            except (OSError, http.client.HTTPException, ValueError):
                pass
            finally:
                connection.close()
        assert time.monotonic() < limit, f"nobody answers {path}"
        time.sleep(0.1)


# What really runs


# A process that was no agent for so many looks will not become one.
_SURE = 20


class Sampler:
    """Looks which agents live, in /proc, every 50 ms."""

    def __init__(self, directory: Path, limits: Mapping[str, int] = LIMITS) -> None:
        self._limits = limits
        self._mark = f"LEDGER={(directory / 'token').read_text()}".encode()
        self.most: dict[str, int] = {}
        self.excess: list[str] = []
        self.samples = 0
        self._others: dict[str, int] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, daemon=True)
        self._thread.start()

    def _loop(self) -> None:
        while not self._stop.wait(0.05):
            living = self.living()
            self.samples += 1
            count = Counter(task for _, _, task in living)
            count[""] = len(living)
            for name, number in count.items():
                self.most[name] = max(self.most.get(name, 0), number)
                if number > self._limits.get(name, number):
                    self.excess.append(f"{number} of {name or 'all'}: {sorted(living)}")
            runs = Counter(run for run, _, _ in living)
            self.excess += [f"{run} lives {number} times: {sorted(living)}" for run, number in runs.items() if number > 1]

    def living(self) -> set[tuple[str, str, str]]:
        """(run, attempt, task) of every agent that has a process."""
        return set(self.processes().values())

    def processes(self) -> dict[int, tuple[str, str, str]]:
        """The same by process."""
        found, others = {}, {}
        for entry in os.listdir("/proc"):
            looks = self._others.get(entry, 0)
            if not entry.isdigit() or looks > _SURE:
                others[entry] = looks
                continue
            try:
                environment = Path(f"/proc/{entry}/environ").read_bytes().split(b"\0")
            except OSError:
                continue
            if self._mark in environment:
                names = dict(each.decode().partition("=")[::2] for each in environment if each.startswith(b"OPTIO_"))
                found[int(entry)] = (names["OPTIO_RUN_ID"], names["OPTIO_ATTEMPT"], names["OPTIO_TASK_ID"])
            else:
                others[entry] = looks + 1
        self._others = others  # who is gone is forgotten: its number may be another's
        return found

    def close(self) -> None:
        self._stop.set()
        self._thread.join()


@dataclass(frozen=True)
class Mark:
    """A line that an agent wrote."""

    kind: str
    run: str
    attempt: int
    task: str
    pid: int


def marks(directory: Path) -> list[Mark]:
    """In the order in which they were made."""
    found = []
    for line in (directory / "marks").read_text().splitlines():
        kind, run, attempt, task, pid = line.split()
        found.append(Mark(kind, run, int(attempt), task, int(pid)))
    return found


def most_at_once(found: list[Mark]) -> dict[str, int]:
    """The highest number of agents between their two marks, in all and of each task, at any instant."""
    whole = {(mark.run, mark.attempt) for mark in found if mark.kind == "end"}
    level: Counter[str] = Counter()
    most: Counter[str] = Counter()
    for mark in found:
        if (mark.run, mark.attempt) in whole:  # a killed one has no second mark
            for name in ("", mark.task):
                level[name] += 1 if mark.kind == "start" else -1
                most[name] = max(most[name], level[name])
    return dict(most)


# The verdict


@dataclass(frozen=True)
class Verdict:
    """Counts; `bad` must be all zero."""

    bad: Mapping[str, int]
    seen: Mapping[str, int]
    details: list[str]

    @property
    def good(self) -> bool:
        return not any(self.bad.values())

    def __str__(self) -> str:
        parts = [f"{value} {name}" for name, value in self.seen.items()]
        return ", ".join(parts) + " | " + ", ".join(f"{value} {name}" for name, value in self.bad.items())


def listed(made: Cluster, query: str = "") -> Iterator[dict[str, Any]]:
    """Every run that a server knows."""
    cursor = ""
    while cursor is not None:
        page = get(made, f"/api/runs?limit=200{query}{cursor and '&cursor=' + cursor}")
        yield from page["items"]
        cursor = page["next"]


def until_quiet(made: Cluster, patience: float = 60.0) -> list[dict[str, Any]]:
    """Wait until no run waits or runs; those that still do when nothing has ended for so long."""
    moved, before = time.monotonic(), -1
    while True:
        active = [run for state in ("queued", "running") for run in listed(made, f"&state={state}")]
        if len(active) != before:
            moved, before = time.monotonic(), len(active)
        if not active or time.monotonic() > moved + patience:
            return active
        time.sleep(0.3)


def judge(made: Cluster, ledger: Ledger, sampler: Sampler, harmed: Mapping[str, int], *, patience: float = 60.0) -> Verdict:
    """Compare. `harmed` are runs whose supervisor was killed: so often they may begin again. Runs are stuck when none has
    ended for `patience` seconds."""
    stuck = until_quiet(made, patience)
    sampler.close()
    found = marks(made.directory)
    starts, ends = (Counter(mark.run for mark in found if mark.kind == kind) for kind in ("start", "end"))
    runs = {run["id"]: run for run in listed(made)}
    asked = {run for ids in ledger.accepted.values() for run in ids}
    scheduled = {run["id"] for run in runs.values() if run["trigger"] == "schedule"}
    wanted = asked | scheduled
    details: list[str] = []

    def count(name: str, bad: list[str]) -> int:
        details.extend(f"{name}: {each} {json.dumps(runs.get(each), default=str)}" for each in bad[:5])
        return len(bad)

    begun = Counter((mark.run, mark.attempt) for mark in found if mark.kind == "start")
    slots, missing = _slots(runs, scheduled)
    active = {each["id"] for each in stuck}
    torn, adoptions = [], 0
    for run in sorted(wanted & set(runs)):
        whole, adopted = _log(made, runs[run])
        adoptions += adopted
        if not whole and run not in harmed and run not in active:
            torn.append(run)
    top = most_at_once(found)
    exceeded = [f"{number} of {name or 'all'}" for name, number in top.items() if number > LIMITS[name]]
    bad = {
        "lost": count("lost", sorted(run for run in wanted - active if ends[run] == 0 or run not in runs)),
        "doubled": count(
            "doubled",
            sorted({run for run, number in starts.items() if number > 1 + harmed.get(run, 0)})
            + sorted(f"{run}-{attempt}" for (run, attempt), number in begun.items() if number > 1),
        ),
        "stuck": count("stuck", sorted(active)),
        "not completed": count(
            "not completed", sorted(run for run in wanted - active if runs.get(run, {}).get("state") != "completed")
        ),
        "not asked for": count("not asked for", sorted((set(starts) | set(runs)) - wanted)),
        "several ids": count("several ids", [key for key, ids in ledger.accepted.items() if len(ids) > 1]),
        "shared ids": sum(len(ids) for ids in ledger.accepted.values()) - len(asked),
        "never answered": count("never answered", ledger.unanswered),
        "slots missing": count("slots missing", missing),
        "slots doubled": count("slots doubled", [slot for slot, number in slots.items() if number > 1]),
        "logs torn": count("logs torn", torn),
        "odd answers": count("odd answers", ledger.odd),
        "over a limit": count("over a limit", exceeded + sampler.excess),
    }
    seen = {
        "accepted": len(ledger.accepted), "scheduled": len(scheduled), "repeated": ledger.repeated, "left": ledger.left,
        "requests": ledger.requests, "unknown answers": ledger.unknown, "503": ledger.refused[503],
        "adoptions": adoptions,
        "repeated attempts": sum(run["attempt"] - 1 for run in runs.values()),
        "at most at once": max(sampler.most.get("", 0), top.get("", 0)), "samples": sampler.samples,
    }  # fmt: skip
    return Verdict(bad, seen, details)


def _slots(runs: Mapping[str, Mapping[str, Any]], scheduled: set[str]) -> tuple[Counter[str], list[str]]:
    """How often each slot has fired, and those between the first and the last of a task that did not."""
    found: dict[str, list[str]] = defaultdict(list)
    for run in scheduled:
        found[runs[run]["taskId"]].append(runs[run]["slot"])
    missing = []
    for task, slots in found.items():
        at = datetime.fromisoformat(min(slots))
        last = max(datetime.fromisoformat(slot) for each in found.values() for slot in each)
        there = {datetime.fromisoformat(slot) for slot in slots}
        while at <= last:
            if at not in there:
                missing.append(f"{task} {at.isoformat()}")
            at += timedelta(minutes=1)
    return Counter(f"{task} {slot}" for task, slots in found.items() for slot in slots), missing


def _log(made: Cluster, run: Mapping[str, Any]) -> tuple[bool, int]:
    """Whether the log has every line of the agent once and in order, and how often another worker went on with it."""
    lines = next(job.lines for job in JOBS + TICKS if job.name == run["taskId"])
    found = get(made, f"/api/workflow-runs/{run['id']}/logs?limit=1000")["items"]
    said = [line["text"] for line in found if line["kind"] == "output" and line["attempt"] == run["attempt"]]
    adopted = sum(line["kind"] == "system" and line["text"].startswith("found again") for line in found)
    return said == [f"line {n}" for n in range(1, lines + 1)], adopted


def paced(count: int, ask: Callable[[int], None], progress: Callable[[], float]) -> None:
    """Ask for so many, spread over what else goes on."""
    for number in range(count):
        ask(number)
        while progress() * count < number:
            time.sleep(0.02)
