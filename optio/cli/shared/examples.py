"""Examples at the end of each command's `--help`, read only when somebody asks for it. A test runs every one of them."""

from collections.abc import Iterator

# (command line, comment)
EXAMPLES = (
    ("optio init", "a first task in tasks.d/, and the schemas for your editor"),
    ("optio init billing", "the same in the directory billing/"),
    ("optio dev", "serve tasks.d/ with hot reload"),
    ("optio dev --max-workflow-concurrent 2", "two runs at the same time, at most"),
    ("optio completion bash > optio.bash", "then, in ~/.bashrc: source optio.bash"),
    ("optio check", "every mistake in tasks.d/, with its cure"),
    ("optio check --diff", "what `optio check --fix` would change"),
    ("optio check --strict --format sarif tasks.d > optio.sarif", "for code scanning"),
    ("optio compile", "the digest of every task, and of them all"),
    ("optio compile --json > registry.json", "equal bytes from equal trees"),
    ("optio plan", "what your uncommitted changes will do"),
    ("optio plan --format markdown main...HEAD", "what a pull request will do"),
    ("optio plan --server", "what the server will serve differently"),
    ("optio explain OPT101", "one rule, with a wrong and a right example"),
    ("optio explain", "every rule in one line"),
    ("optio schema", "the JSON Schema of a task file"),
    ("optio schema --write schemas", "all of them, for your editor"),
    ("optio lsp", "your editor starts it and talks to it on standard input"),
    ("optio test", "the tests of every task, offline"),
    ("optio test report --coverage", "those of one task, and what none of them covers"),
    ("optio render hello -p WHO=you", "the prompt that a run would get"),
    ("optio render hello --explain", "every value, and the file that sets it"),
    ("optio schedule", "the next fires of every task"),
    ("optio schedule --calendar --days 7", "a week, day by day"),
    ("optio schedule report --past", "past slots, each with its run"),
    ("optio run hello -p WHO=you --wait", "start a run and follow its log"),
    ("optio run hello --params-file params.yaml", "parameters from a file"),
    ("optio run hello -p WHO=@name.txt -o name", "the text of a file; print the run's id alone"),
    ("optio rerun hello@latest --current", "run a task's newest run again, as the task is now"),
    ("optio runs list --since 2h --state failed", "failures of the last two hours"),
    ("optio runs logs -f @latest", "follow the newest run"),
    ("optio runs why hello@latest", "why a task's newest run waits, or how it ended"),
    ("optio tasks list -o wide", "every task, with its triggers, model and file"),
    ("optio tasks show hello", "one task as it is served"),
    ('optio tasks pause hello --reason "the API is down"', "start none of its runs for now"),
    ("optio pool --since 7d", "the pools, and how many starts of a week found a pod ready"),
    ("optio pool plan hello", "which size a task's pool should have"),
    ("optio hook send report payload.json --wait", "sign and post a payload, follow its run"),
    ("optio hook list --since 2h", "the deliveries of two hours"),
    ("optio hook replay --since 2h --diff", "which of them your tasks now judge differently"),
    ("optio login https://optio.example.org", "asks for the token, and keeps it"),
    ("optio login https://optio.example.org --context prod --token-file -", "in a script"),
    ("optio context", "all names, the default one with a star"),
    ("optio context use prod", "commands talk to it from now on"),
    ("optio logout --context prod", "forget it again"),
    ("optio server", "the API; beside it `optio worker` and `optio scheduler`"),
    ("optio worker", "execute queued runs"),
    ("optio scheduler", "fire schedules"),
    ("optio prune --dry-run", "count what is older than its retention"),
    ("OPTIO_KEEP_RUNS=90d optio prune --yes", "delete runs that ended 90 days ago"),
    ("optio audit triggers --since 24h", "every slot and delivery of a day has one verdict"),
    ("optio db check", "can Optio work with this database?"),
    ("optio db migrate --wait 2m", "upgrade the schema of a database that is still starting"),
    ("optio db backup backup.db", "copy SQLite while it is in use"),
    ("optio token create --role operator --label ci --expires 720h", "printed once"),
    ("optio token list", "all of them, without their secrets"),
    ("optio doctor", "what to fix first, and every setting with its origin"),
    ("optio version", "the version of this installation"),
)


def examples_of(prog: str) -> Iterator[str]:
    """Yield the examples of a command or verb, such as `optio runs list`, as the lines of a shell, comments aligned."""
    found = [(line, words) for line, words in EXAMPLES if f"{prog} " in f"{line} "]
    width = max((len(line) for line, _ in found), default=0)
    yield from (f"{line:<{width}}  # {words}" for line, words in found)
