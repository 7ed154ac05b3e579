"""`optio hook capture`: turn a delivery that the server keeps into a test of its task, with its payload and today's outcome."""

import argparse
import base64
from pathlib import Path
from typing import Any

from optio import wiring
from optio.cli import FAILED, OK
from optio.cli.shared import apply_fixes, client, flags, ids, render_run, write_file
from optio.compiler.diagnostics import Severity
from optio.compiler.edits.edit_yaml import CannotEdit
from optio.compiler.layers import resolve_path
from optio.compiler.pipeline import compile_tree
from optio.compiler.report import render_concise
from optio.compiler.source_tree import MAX_FILE_BYTES, DirectoryTree, OverlayTree
from optio.compiler.suggest import suggest
from optio.compiler.yaml.emit import dump
from optio.errors import Conflict, Invalid, Malformed, SettingsError
from optio.model.registry import CompiledTask, Registry
from optio.secrets.base import secret_names
from optio.testing.capture import CapturedTest, add_test, capture_delivery
from optio.testing.redact import Redactor
from optio.testing.run import run_tests as run_tests

_MAX_REDACTIONS = 20


def run(args: argparse.Namespace) -> int:
    """Run the command. Returns 1 if the task file cannot be edited; raises Conflict and Invalid if the delivery cannot become a
    test, SettingsError for an unknown task."""
    settings = flags.read_settings(args)
    root = settings.tasks
    if not root.is_dir():
        raise SettingsError(f"there is no task directory `{root}` to write the test into: name another with --tasks")
    server = client.Client(settings)
    path = f"/api/deliveries/{client.quoted(ids.delivery_id(server, args.delivery))}"
    delivery = server.request("GET", path, query={"body": "base64"})
    if delivery["bodyBase64"] is None:
        raise Conflict("the body of this delivery is not stored: its sender was not verified, or its retention has ended")
    tree = DirectoryTree(root)
    task = _task(compile_tree(tree).registry, delivery["path"], args.task)
    secrets = wiring.secrets(settings)
    redact = Redactor([value for name in secret_names(task) if (value := secrets.get(name))], args.redact_emails)
    assert task.spec.webhook is not None  # noqa: S101 - `_task` looked
    try:
        captured = capture_delivery(
            task, task.spec.webhook.config, delivery, base64.b64decode(delivery["bodyBase64"]), redact, args.name
        )
    except Malformed as err:
        raise Conflict(f"{err}: it cannot be redacted, so write this test by hand") from err
    return _write_test(root, tree, task, captured, dry_run=args.dry_run)


def _task(registry: Registry, path: str, name: str | None) -> CompiledTask:
    """Return the error-free task to write the test for; raises SettingsError."""
    hooks = {task.id: task for task in registry.tasks.values() if task.spec.webhook is not None}
    if name is None:
        candidates = [task for task in hooks.values() if task.spec.webhook and task.spec.webhook.config.path == path]
        if not candidates:
            raise SettingsError(f"no error-free task has the webhook `{path}`: name the task with --task")
        return candidates[0]
    if name not in hooks:
        suggestion = suggest(name, hooks)
        paths = ", ".join(hooks) or "none"
        hint = f"did you mean `{suggestion}`?" if suggestion else f"there are {paths}"
        raise SettingsError(f"no error-free task `{name}` with a webhook: {hint}")
    return hooks[name]


def _write_test(root: Path, tree: DirectoryTree, task: CompiledTask, captured: CapturedTest, *, dry_run: bool) -> int:
    path = task.origin.path
    payload_path = resolve_path(path, captured.payload_name)
    if len(captured.payload) > MAX_FILE_BYTES:
        raise Conflict(f"the payload is larger than {MAX_FILE_BYTES >> 20} MiB, the maximum for a file of a tree")
    try:
        edited = add_test(path, tree.read(path), captured.entry)
    except CannotEdit as err:
        print(f"{root / path}:{err.line}: cannot be edited: {err}. Add this to its `tests:`, and save the payload yourself:\n")
        print(dump([captured.entry]))
        return FAILED
    overlay = OverlayTree(tree, {path: edited, payload_path: captured.payload})
    wrong = _problem_with(overlay, path, captured.entry)
    if wrong:
        raise Invalid(f"the test would fail, so nothing was written:\n{wrong}")
    redacted = [f"redacted {_place(redaction.route)}: {redaction.kind}" for redaction in captured.redactions]
    if len(redacted) > _MAX_REDACTIONS:
        redacted = [*redacted[:_MAX_REDACTIONS], f"redacted {len(redacted) - _MAX_REDACTIONS:,} places more"]
    if dry_run:
        print(f"{root / payload_path}:\n{captured.payload.decode()}")
        print("".join(apply_fixes.diff_fixes(root, {path: tree.read(path)}, {path: edited})), end="")
    else:
        write_file.write_file(root, payload_path, captured.payload)
        write_file.write_file(root, path, edited)
        print(f"wrote {root / payload_path}\nadded to {root / path}: {render_run.safe(captured.entry['name'])}")
    print(
        "\n".join(
            [*redacted, "review the payload before you commit it: it may hold private data that Optio does not recognise"]
        )
    )
    return OK


def _problem_with(tree: OverlayTree, path: str, entry: dict[str, Any]) -> str:
    """Return the errors or failures that the new test would cause; empty if there are none."""
    report = run_tests(tree, lambda task_id, test_path, example: test_path == path and example.webhook == entry["webhook"])
    errors = [d for d in report.compilation.diagnostics if d.path == path and d.severity is Severity.ERROR]
    failures = [f"{f.path}:{f.line}: {f.message}" for result in report.results for f in result.failures]
    return "\n".join([*render_concise(errors), *failures])


def _place(route: tuple[int | str, ...]) -> str:
    return render_run.safe("$" + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in route))
