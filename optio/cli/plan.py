"""Show what a change to task files will do: fires, webhooks, callers, prompts, secrets, hosts, money. Nothing is started.

optio plan                  the working tree against HEAD
optio plan main             the working tree against `main`
optio plan main..feature    one revision against another
optio plan main...feature   `feature` against where it branched off: the change of a pull request
optio plan OLD NEW          two directories
optio plan --server         the working tree against what the server serves
"""

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from optio.cli import FAILED, OK, print_error
from optio.cli.shared import contexts, flags, render_run, terminal
from optio.cli.shared.client import Client
from optio.cli.shared.plan_inputs import PlanInputs, read_directories, read_revisions, read_served
from optio.cli.shared.served_tree import fetch_history
from optio.compiler import exchange
from optio.compiler.diagnostics import Diagnostic, Severity, apply_severities
from optio.compiler.report import render_concise
from optio.compiler.suggest import suggest
from optio.errors import SettingsError
from optio.model.effect import EffectKind, EffectWeight
from optio.plan import document, markdown, report
from optio.plan.compare import Plan, Status, compare_sides
from optio.plan.effect import Effect, Forecast
from optio.plan.findings import plan_diagnostics
from optio.plan.history import RunHistory, add_expected_spend, add_recent_runs
from optio.plan.side import Side
from optio.plan.words import brief, pluralize
from optio.settings import Settings

FORMATS = ("text", "markdown", "json", "sarif", "github")
_MAX_ERRORS = 20
_MAX_REASONS = 10

Failing = Sequence[tuple[str, Effect]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("what", nargs="*", metavar="WHAT", help="BASE..HEAD, BASE...HEAD, BASE, or two directories")
    parser.add_argument("--format", choices=FORMATS, default="text", help="how it is printed (default: text)")
    fail_on = "exit 1 for an effect of this kind or weight (info, notice, danger), in addition to the policy's `failOn`"
    parser.add_argument("--fail-on", action="append", default=[], metavar="EFFECT", help=fail_on)
    parser.add_argument("--kinds", action="store_true", help="list the kinds of effects and exit")
    parser.add_argument("--allow-prune", action="store_true", help="allow the removal of many tasks")
    parser.add_argument(
        "-v", "--verbose", action="store_true", help="also list tasks whose files differ but which behave the same"
    )
    parser.add_argument("--server", action="store_true", help="compare with what the server serves, instead of a revision")
    history = "estimate the spend of changed tasks from the server's runs of the last 30 days"
    parser.add_argument("--history", action="store_true", help=history)
    flags.add_setting_flags(parser, "tasks")
    flags.add_setting_flags(parser, "url", "token")
    contexts.add_arguments(parser)
    terminal.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command. Returns 1 if a file has errors, or for an effect that the policy or --fail-on names, else 0. Raises
    SettingsError."""
    if args.kinds:
        print("\n".join(_kinds()))
        return OK
    _check_kinds(args.fail_on)
    settings = flags.read_settings(args, with_context=args.server or args.history)
    with terminal.progress("comparing task files") as doing:
        return _plan(args, settings, doing)


def _plan(args: argparse.Namespace, settings: Settings, doing: terminal.Progress) -> int:
    inputs = _read_sides(args, settings)
    forecast = Forecast(now=datetime.now(UTC).replace(second=0, microsecond=0))
    for side, name in zip((inputs.after, inputs.before), reversed(inputs.names), strict=True):
        for line in _errors(side, name):
            print_error(line)
    plan = compare_sides(inputs.before, inputs.after, forecast)
    # A change must not relax its own gate, so `failOn` of every policy applies.
    policies = [policy for policy in (inputs.gate, inputs.before.policy, inputs.after.policy) if policy is not None]
    failing = plan.failing([*args.fail_on, *(name for policy in policies for name in policy.fail_on)])
    histories = _run_histories(plan, args, settings)
    plan = add_recent_runs(add_expected_spend(plan, histories) if args.history else plan, histories)
    busy = {task_id: history.runs for task_id, history in histories.items()}
    findings = plan_diagnostics(plan, inputs.tree, gate=inputs.gate, busy=busy, allow_prune=args.allow_prune)
    findings = apply_severities(findings, policies[0].rules, pedantic=True) if policies else findings
    errors = [finding for finding in findings if finding.severity is Severity.ERROR]
    doing.clear()
    sys.stdout.writelines(_output_lines(plan, findings, args, inputs, failing))
    for line in _reasons(failing, errors, inputs):
        print_error(line)
    return FAILED if inputs.after.errors or failing or errors else OK


def _kinds() -> Iterator[str]:
    width = max(map(len, EffectKind))
    yield from (f"{kind:<{width}}  {kind.says}" for kind in EffectKind)
    yield ""
    yield "each has a weight: info, notice, or danger, which needs a review"


def _check_kinds(names: Sequence[str]) -> None:
    kinds = [*EffectWeight, *EffectKind]
    for name in names:
        if name not in kinds:
            suggestion = suggest(name, kinds)
            hint = f"did you mean `{suggestion}`?" if suggestion else "`optio plan --kinds` lists all"
            raise SettingsError(f"--fail-on: unknown effect `{brief(name)}`: {hint}")


def _read_sides(args: argparse.Namespace, settings: Settings) -> PlanInputs:
    revisions, root = args.what, settings.tasks
    if len(revisions) > 2:
        raise SettingsError("give BASE..HEAD, BASE, or two directories")
    for name in ("url", "token", "context"):
        if getattr(args, name) is not None and not (args.server or args.history):
            raise SettingsError(f"--{name} needs --server or --history")
    if args.server and revisions:
        raise SettingsError("--server already names what to compare with: leave out the revision or directory")
    if args.server:
        return read_served(root, Client(settings))
    if len(revisions) == 2:
        if args.tasks is not None:
            raise SettingsError("both directories are named: leave out --tasks")
        return read_directories(*revisions)
    if revisions and os.path.isdir(revisions[0]) and (".." not in revisions[0] or "/" in revisions[0]):
        raise SettingsError(f"`{brief(revisions[0])}` is a directory: name a second one to compare it with, or a revision")
    return read_revisions(root, revisions[0] if revisions else "HEAD")


def _run_histories(plan: Plan, args: argparse.Namespace, settings: Settings) -> dict[str, RunHistory]:
    """Fetch run histories by task id: of changed tasks with --history; of removed tasks if the server is known."""
    task_ids = [
        change.before.id
        for change in plan.changes
        if change.before is not None and (args.history or (args.server and change.status is Status.REMOVED))
    ]
    return {task_id: fetch_history(Client(settings), task_id, plan.outlook.now) for task_id in task_ids}


def _errors(side: Side, name: str) -> Iterator[str]:
    for line in render_concise(side.errors[:_MAX_ERRORS]):
        yield f"{brief(name)}/{line}"
    if len(side.errors) > _MAX_ERRORS:
        yield f"... and {pluralize(len(side.errors) - _MAX_ERRORS, 'error')} more in {name}"


def _output_lines(
    plan: Plan, findings: list[Diagnostic], args: argparse.Namespace, inputs: PlanInputs, failing: Failing
) -> Iterator[str]:
    if args.format == "markdown":
        errors = [*inputs.after.errors, *(finding for finding in findings if finding.severity is Severity.ERROR)]
        yield markdown.render_markdown(plan, inputs.seen, _with_display_paths(errors, inputs), failing)
    elif args.format == "json":
        text = json.dumps(_document(plan, findings, inputs, failing), indent=2, ensure_ascii=False)
        yield "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text) + "\n"
    elif args.format == "text":
        yield from (line + "\n" for line in report.render_lines(plan, inputs.seen, paint=_paint, verbose=args.verbose))
    else:
        displayed = _with_display_paths(
            [*inputs.after.errors, *(finding for finding in findings if args.verbose or finding.code != "OPT809")], inputs
        )
        log = (
            [exchange.sarif(displayed, manual=exchange.manual_url(os.environ))]
            if args.format == "sarif"
            else exchange.github(displayed)
        )
        yield from (line + "\n" for line in log)


def _paint(text: str, style: str) -> str:
    return render_run.coloured(text, style) if style != "0" else text


def _document(plan: Plan, findings: list[Diagnostic], inputs: PlanInputs, failing: Failing) -> dict[str, object]:
    errors = {
        side: [replace(finding, path=f"{name}/{finding.path}").to_json() for finding in side_input.errors]
        for side, side_input, name in zip(("before", "after"), (inputs.before, inputs.after), inputs.names, strict=True)
    }
    return {
        "before": inputs.names[0],
        "after": inputs.names[1],
        **document.plan_document(plan, inputs.seen),
        "errors": errors,
        "findings": [finding.to_json() for finding in _with_display_paths(findings, inputs)],
        "failing": [{"taskId": task or None, "kind": effect.kind.value, "text": effect.text} for task, effect in failing],
    }


def _reasons(failing: Failing, errors: Sequence[Diagnostic], inputs: PlanInputs) -> Iterator[str]:
    """Yield why the exit code is 1 although the files have no errors."""
    if failing:
        yield f"optio plan: {pluralize(len(failing), 'effect')} listed in `failOn`:"
        for task, effect in failing[:_MAX_REASONS]:
            yield f"  {task or 'the policy'}: {effect.kind}: {brief(effect.text, 200)}"
        if len(failing) > _MAX_REASONS:
            yield f"  ... and {len(failing) - _MAX_REASONS} more"
    if inputs.gate is not None and (failing or errors):
        yield "the target branch has moved on since this branch began: its current policy applies too"
    yield from render_concise(_with_display_paths(errors, inputs))


def _with_display_paths(findings: Sequence[Diagnostic], inputs: PlanInputs) -> list[Diagnostic]:
    """Return the findings with paths to show; those in a removed file take the path of the older tree."""
    removed_paths = inputs.before.texts.keys() - inputs.after.texts.keys()
    return [replace(finding, path=inputs.seen(finding.path, gone=finding.path in removed_paths)) for finding in findings]
