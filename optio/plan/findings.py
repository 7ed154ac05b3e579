"""The plan as diagnostics OPT801 to OPT811, placed at the lines that cause the effects: for SARIF and for annotations on
GitHub."""

from collections.abc import Iterator, Mapping
from contextlib import suppress

from optio.compiler import policy
from optio.compiler.diagnostics import Diagnostic, diagnostic, sort_diagnostics
from optio.compiler.layers import POLICY, Bases
from optio.compiler.pipeline import TreePolicy, compile_file
from optio.compiler.resolved_task import ResolvedTask
from optio.compiler.source import START, SourceFile
from optio.compiler.source_tree import SourceTree, Unreadable
from optio.compiler.yaml.document import parse
from optio.model.effect import EffectKind, EffectWeight
from optio.model.policy import PolicySpec
from optio.plan.compare import Plan, Status, TaskChange
from optio.plan.effect import Effect
from optio.plan.words import brief, pluralize

# A change may remove this share of the tasks, or of a small tree this number.
_MASS_DELETE_SHARE, _MASS_DELETE_MIN = 0.2, 2
_TRUST_KINDS = frozenset(
    {
        EffectKind.FILTER_CHANGED,
        EffectKind.STRANGERS_WORDS,
        EffectKind.SECRET_ADDED,
        EffectKind.EGRESS_OPENED,
        EffectKind.CONNECTIONS_CHANGED,
        EffectKind.WEBHOOK_UNSIGNED,
        EffectKind.IMAGE_CHANGED,
    }
)
_BEHAVIOUR_KINDS = frozenset(
    {
        EffectKind.PROMPT_CHANGED,
        EffectKind.MODEL_CHANGED,
        EffectKind.RUNTIME_CHANGED,
        EffectKind.COMMAND_CHANGED,
        EffectKind.IMAGE_CHANGED,
    }
)
_SENDER_KINDS = frozenset({EffectKind.WEBHOOK_MOVED, EffectKind.WEBHOOK_REMOVED, EffectKind.SIGNATURE_CHANGED})
_HINTS = {
    "OPT801": "tell the senders, or keep the old webhook in a second task until they have changed",
    "OPT802": "keep accepting the old parameters, or tell everyone who starts the task",
    "OPT803": "keep it with `enabled: false` until it is unused",
    "OPT804": "if you mean it, add `--allow-prune`",
    "OPT805": "have it approved by whoever is responsible for that",
    "OPT806": "a lower `budgetUsd`, fewer starts, or `startLimit: {count: 50, per: 24h}`",
    "OPT807": "try it with `optio test`, or with `optio run` in a tree of your own",
    "OPT808": "tell everyone who relies on the time",
    "OPT809": "nothing to do",
    "OPT810": "keep it with `enabled: false` while it may still be needed",
    "OPT811": "have it approved by whoever is responsible for the policy",
}
_DEFAULT_HINT = "give it a `default`, or tell everyone who starts the task"


def plan_diagnostics(
    plan: Plan,
    tree: SourceTree,
    *,
    gate: PolicySpec | None = None,
    busy: Mapping[str, int] | None = None,
    allow_prune: bool = False,
) -> list[Diagnostic]:
    """Return the diagnostics of a plan in files of the newer tree; for removed tasks, in the file of the older one. `gate` is a
    policy that the tree's own check did not apply; `busy` counts the recent runs of removed tasks, as a server knows them."""
    in_use = list(_busy_diagnostics(plan, busy or {}))
    reported_paths = {diagnostic.path for diagnostic in in_use}
    diagnostics = [
        diagnostic
        for diagnostic in _task_diagnostics(plan, tree, gate)
        if diagnostic.code != "OPT810" or diagnostic.path not in reported_paths
    ]
    return sort_diagnostics(
        [*diagnostics, *_policy_diagnostics(plan, tree), *mass_deletion(plan, allow_prune=allow_prune), *in_use]
    )


def mass_deletion(plan: Plan, *, allow_prune: bool) -> Iterator[Diagnostic]:
    """Yield OPT804 if a change removes all tasks, or more than a fifth of them and more than two."""
    removals = [change for change in plan.changes if change.status is Status.REMOVED]
    if (
        allow_prune
        or not removals
        or (len(removals) < plan.known and len(removals) <= max(_MASS_DELETE_MIN, _MASS_DELETE_SHARE * plan.known))
    ):
        return
    path = min(_origin(change) for change in removals)
    yield diagnostic(
        "OPT804",
        f"{len(removals):,} of {pluralize(plan.known, 'task')} would be removed",
        path=path,
        hint=_HINTS["OPT804"],
    )


def _policy_diagnostics(plan: Plan, tree: SourceTree) -> Iterator[Diagnostic]:
    """Yield OPT811 for a policy that gives something up. Errors of the policy have diagnostics of their own."""
    looser = [
        effect
        for effect in plan.policy
        if effect.kind is EffectKind.POLICY_CHANGED and effect.weight is EffectWeight.DANGER and effect.route
    ]
    document = None
    with suppress(Unreadable):
        document, _ = parse(SourceFile(POLICY, tree.read(POLICY))) if looser else (None, [])
    for effect in looser:
        span = START if document is None else document.span(effect.route)
        yield diagnostic("OPT811", brief(effect.text, 300), path=POLICY, span=span, route=effect.route, hint=_HINTS["OPT811"])


def _origin(change: TaskChange) -> str:
    return change.task.origin.path


def _busy_diagnostics(plan: Plan, busy: Mapping[str, int]) -> Iterator[Diagnostic]:
    for change in plan.changes:
        if change.status is Status.REMOVED and busy.get(change.task.id):
            many = pluralize(busy[change.task.id], "run")
            message = f"`{change.task.id}` is removed: {many} began in the last 30 days"
            yield diagnostic("OPT803", message, path=_origin(change), hint=_HINTS["OPT803"])


def _task_diagnostics(plan: Plan, tree: SourceTree, gate: PolicySpec | None) -> Iterator[Diagnostic]:
    bases, policies = Bases(tree), TreePolicy(tree)
    paths = set(tree.task_files())

    def resolved(path: str) -> ResolvedTask | None:
        return compile_file(path, tree, bases, policies).task if path in paths else None

    for change in plan.changes:
        task = resolved(_origin(change)) if change.after is not None else None
        if task is not None and gate is not None:
            yield from policy.check(task, gate)
        for effect in change.effects:
            for code in rule_codes(effect):
                yield _diagnostic(code, change, effect, task)
    for path in plan.cosmetic:
        message, hint = f"`{path.id}` behaves the same: only its file differs", _HINTS["OPT809"]
        yield diagnostic("OPT809", message, path=path.origin.path, hint=hint)


def rule_codes(effect: Effect) -> Iterator[str]:
    """Yield the codes of the rules that report an effect; most effects have none."""
    danger = effect.weight is EffectWeight.DANGER
    if effect.kind is EffectKind.TASK_REMOVED:
        yield "OPT810"
    if effect.kind in _SENDER_KINDS and danger:
        yield "OPT801"
    if effect.kind is EffectKind.CALLERS_BREAK:
        yield "OPT802"
    if effect.kind in _TRUST_KINDS and danger:
        yield "OPT805"
    elif effect.kind in _BEHAVIOUR_KINDS:
        yield "OPT807"
    if effect.kind is EffectKind.MONEY_UP:
        yield "OPT806"
    if effect.kind is EffectKind.FIRES_CHANGED and any(line.startswith("next: ") for line in effect.lines):
        yield "OPT808"


def _diagnostic(code: str, change: TaskChange, effect: Effect, task: ResolvedTask | None) -> Diagnostic:
    hint = _DEFAULT_HINT if code == "OPT802" and effect.route[-1:] == ("required",) else _HINTS[code]
    message = f"{change.task.id}: {brief(effect.text, 300)}"
    if code == "OPT808":
        message = f"{change.task.id}: {effect.lines[0]}"
    if task is None:
        return diagnostic(code, message, path=_origin(change), hint=hint)
    return task.at(code, message, effect.route, hint=hint)
