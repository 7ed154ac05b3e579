"""Delete what is older than its retention setting, as the scheduler does every hour: ended runs with logs, deliveries, old
keys."""

import argparse
from collections import Counter
from contextlib import closing

from optio.cli import OK
from optio.cli.shared import flags, output
from optio.processes.retention import retention_of
from optio.store.values import RetentionPolicy
from optio.wiring import open_store

_KIND_TEXTS = {
    "runs": "ended runs",
    "log_lines": "log lines",
    "deliveries": "deliveries",
    "counts": "counts of refused and repeated webhook requests",
    "keys": "keys of repeated requests",
    "slots": "slots of schedules",
    "generations": "generations",
    "definitions": "definitions",
    "sessions": "sessions that ended",
    "totals": "totals of tasks and days, which are kept for 400 days",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    mode = parser.add_mutually_exclusive_group(required=True)
    mode.add_argument("--dry-run", action="store_true", help="only count what would be deleted")
    mode.add_argument("--yes", action="store_true", help="delete it")
    output.add_arguments(parser, (output.TABLE, output.JSON, output.YAML))
    flags.add_setting_flags(parser, "data_dir", "keep_runs", "keep_logs", "keep_deliveries")


def run(args: argparse.Namespace) -> int:
    """Run the command. Returns 0; raises StoreUnavailable and StoreMismatch (exit code 2)."""
    settings = flags.read_settings(args)
    keep = retention_of(settings)
    counts: Counter[str] = Counter()
    with closing(open_store(settings)) as store:
        if args.dry_run:
            counts.update(store.prunable(keep))
        else:
            for kind, count in store.prune(keep):
                counts[kind] += count
    if output.is_document(args):
        summary = {"dryRun": args.dry_run, "counts": {_key(kind): counts[kind] for kind in _KIND_TEXTS}}
        print(output.document(args.output, summary))
        return OK
    lines = [f"{counts[kind]:>9,} {words}" for kind, words in _KIND_TEXTS.items() if counts[kind]]
    print(
        "\n".join([f"{'would be deleted' if args.dry_run else 'deleted'}:", *lines])
        if lines
        else "nothing to delete: everything is within its retention"
    )
    if keep == RetentionPolicy():
        print("runs, logs and deliveries are kept for ever: set OPTIO_KEEP_RUNS, such as 90d, to limit that")
    return OK


def _key(kind: str) -> str:
    return "logLines" if kind == "log_lines" else kind
