"""The corpus: `changes/<name>/{before,after}/` are two trees, `expected.txt` is what `optio plan -v` prints of them.

The kinds of effects stand here as well, so that a text that was written anew cannot hide one that is missing or too many.
`REWRITE_CHANGES=1 pytest tests/plan/test_changes.py` writes the texts anew; read the difference before you commit it.
"""

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from optio.compiler.source_tree import DirectoryTree
from optio.model.effect import EffectKind
from optio.plan import report
from optio.plan.compare import Plan, compare_sides
from optio.plan.effect import Forecast
from optio.plan.side import compile_side

CHANGES = Path(__file__).parent / "changes"
NAMES = sorted(path.name for path in CHANGES.iterdir())
NOW = datetime(2026, 1, 2, 12, tzinfo=UTC)

KINDS = {
    "a-connection-taken-away": "connections-changed egress-closed secret-removed",
    "a-connection-that-leads-elsewhere": "connections-changed egress-closed secret-added secret-removed",
    "a-tool-more-in-a-task": "connections-changed",
    "a-tool-that-counts-as-read": "connections-changed",
    "connections-added": "connections-changed egress-opened secret-added",
    "requests-and-limits-of-a-connection": "connections-changed",
    "words-about-a-connection": "",
    "a-bound-loosened": "params-widened",
    "a-bound-tightened": "callers-break",
    "a-budget-and-retries": "budget-changed money-up retries-changed",
    "a-budget-doubled": "budget-changed money-up",
    "a-budget-lowered": "budget-changed money-down",
    "a-budget-more-taken-away": "budget-changed money-up",
    "a-budget-of-a-program-taken-away": "budget-changed money-up",
    "a-budget-taken-away": "budget-changed money-up",
    "a-business-key": "dedupe-changed",
    "a-default": "default-changed",
    "a-description": "",
    "a-few-of-many-removed": "task-removed",
    "a-file-moved": "",
    "a-file-with-errors": "task-broken",
    "a-file-with-errors-mended": "egress-opened task-broken",
    "a-header-for-deliveries": "repeats-changed",
    "a-host-more": "egress-opened",
    "a-larger-pod": "resources-changed",
    "a-list-of-hosts": "egress-closed egress-opened",
    "a-manual-trigger": "",
    "a-mapping": "mapping-changed",
    "a-model-in-the-defaults-of-programs": "",
    "a-name": "name-changed",
    "a-narrower-network": "egress-closed",
    "another-owner": "owner-changed",
    "a-namespace-for-a-team": "namespace-changed policy-changed",
    "a-task-moved-to-another-team": "namespace-changed",
    "a-parameter-gone": "callers-break prompt-changed",
    "a-parameter-new": "params-widened prompt-changed",
    "a-parameter-required": "callers-break default-changed",
    "a-policy-loosened": "policy-changed",
    "a-policy-tightened": "policy-changed",
    "a-program-becomes-an-agent": "command-changed egress-closed model-changed money-up prompt-changed runtime-changed",
    "a-program-without-a-budget": "egress-opened fires-changed task-added",
    "a-prompt": "prompt-changed",
    "a-result": "result-changed",
    "the-same-result-in-other-words": "",
    "a-prompt-moved-into-a-file": "",
    "a-schedule-switched-off": "fires-changed",
    "a-schedule-taken-away": "fires-changed",
    "a-scheduled-task-added": "egress-opened fires-changed money-up task-added",
    "a-schema-that-cannot-be-compared": "params-changed",
    "a-secret-less": "secret-removed",
    "a-secret-more": "secret-added",
    "a-secret-rotated": "signature-changed",
    "a-start-limit": "money-up start-limit-changed",
    "a-start-limit-taken-away": "money-up start-limit-changed",
    "a-task-added": "egress-opened task-added",
    "a-task-removed": "task-removed",
    "a-task-renamed": "task-renamed",
    "a-task-renamed-and-moved": "task-renamed",
    "a-task-renamed-moved-and-changed": "prompt-changed task-renamed",
    "a-task-replaced-by-another": "egress-opened task-added task-removed",
    "a-task-switched-off": "fires-changed money-down task-disabled webhook-removed",
    "a-task-switched-on": "fires-changed money-up task-enabled webhook-added",
    "a-test": "",
    "a-type-narrowed": "callers-break",
    "a-type-widened": "params-widened",
    "a-value-gone-and-another-new": "callers-break params-widened",
    "a-variable": "env-changed",
    "a-webhook-added": "money-up webhook-added",
    "a-webhook-moved": "webhook-moved",
    "a-webhook-taken-away": "money-down webhook-removed",
    "a-webhook-without-a-signature": "webhook-unsigned",
    "a-whole-task-removed": "fires-changed money-down task-removed webhook-removed",
    "a-wider-network": "egress-opened",
    "all-tasks-removed": "task-removed",
    "a-webhook-of-another-task": "money-down webhook-moved webhook-removed",
    "an-ignore-comment-taken-away": "turns-changed",
    "an-image-from-elsewhere": "image-changed",
    "another-hour": "fires-changed",
    "another-model": "model-changed money-up",
    "another-program": "command-changed",
    "another-runtime": "command-changed model-changed runtime-changed",
    "another-scheme": "signature-changed",
    "another-secret-for-a-webhook": "signature-changed",
    "another-tag": "image-changed",
    "another-zone": "fires-changed",
    "another-zone-with-the-same-clocks": "",
    "blanks-in-a-prompt": "prompt-changed",
    "catch-up": "catch-up-changed",
    "comments-and-blanks": "",
    "defaults-for-all": "retries-changed",
    "events-and-a-filter": "filter-changed",
    "every-day": "fires-changed",
    "every-host": "egress-closed egress-opened",
    "failed-pods-kept": "kept-changed",
    "every-minute": "fires-changed",
    "further-parameters-taken": "params-widened",
    "more-of-several-things": "egress-opened fires-changed money-up retries-changed secret-added",
    "order-of-keys": "",
    "order-of-lists-without-one": "",
    "parameters-of-a-schedule": "schedule-params-changed",
    "pods-kept-ready": "pool-changed",
    "priority": "priority-changed",
    "quotes-and-flow": "",
    "remarks-in-a-schema": "",
    "retries": "retries-changed",
    "runs-at-one-time": "concurrency-changed",
    "set-up-ahead": "setup-changed",
    "set-up-commands": "setup-changed",
    "the-other-half-of-the-year": "fires-changed",
    "the-same-in-other-words": "",
    "time": "time-changed",
    "turns": "turns-changed",
    "values-instead-of-any-text": "callers-break",
    "values-moved-into-a-template": "",
    "another-program-at-its-end": "command-changed",
    "two-webhooks-swapped": "signature-changed webhook-moved",
    "a-filter-taken-away": "filter-changed",
    "a-filter-turned-round": "filter-changed",
    "a-filter-that-is-always-true": "filter-changed",
    "a-condition-of-a-filter-gone": "filter-changed",
    "a-filter-that-takes-less": "filter-changed",
    "the-same-filter-in-other-words": "",
    "a-filter-that-takes-something-else": "filter-changed",
    "every-event-instead-of-some": "filter-changed",
    "the-same-mapping-in-other-words": "",
    "two-webhooks-exchange-their-paths": "webhook-moved",
    "the-same-schema-in-other-words": "",
    "an-exclusive-bound-of-a-number": "params-widened",
    "a-default-of-a-schedule-written-out": "",
    "missed-times-are-caught-up": "catch-up-changed money-up",
    "more-than-a-ceiling-allows": "task-broken",
    "a-new-task-beyond-a-ceiling": "money-up",
    "more-than-the-fleet-may-spend": "egress-opened fires-changed money-up secret-added task-added",
    "a-webhook-without-a-limit-under-a-fleet": "money-up start-limit-changed",
    "a-dear-task-added": "egress-opened fires-changed money-up secret-added task-added",
    "a-dear-task-that-the-policy-expects": "egress-opened fires-changed money-up secret-added task-added",
    "a-dear-task-and-a-policy-that-expects-it": "egress-opened fires-changed money-up policy-changed secret-added task-added",
    "a-dear-task-switched-on": "fires-changed money-up task-enabled",
    "a-policy-that-cannot-be-read": "policy-changed",
    "a-policy-that-can-be-read-again": "egress-opened fires-changed money-up policy-changed secret-added task-broken",
    "into-an-hour-that-clocks-skip": "fires-changed",
    "another-zone-that-parts-in-spring": "fires-changed money-down",
    "a-policy-without-its-executor": "policy-changed",
    "a-policy-without-its-sandbox": "policy-changed",
    "the-same-size-in-other-words": "",
    "a-header-of-the-scheme-written-out": "",
    "words-of-strangers": "mapping-changed strangers-words",
    "words-of-strangers-and-an-ignore-comment": "mapping-changed strangers-words",
}


def seen(path: str, *, gone: bool = False) -> str:
    return path


def planned(name: str) -> Plan:
    before, after = (compile_side(DirectoryTree(CHANGES / name / which)) for which in ("before", "after"))
    return compare_sides(before, after, Forecast(now=NOW))


@pytest.mark.parametrize("name", NAMES)
def test_a_change_has_these_effects_and_no_others(name: str) -> None:
    assert sorted({effect.kind.value for effect in planned(name).effects}) == KINDS[name].split()


def test_every_kind_of_effect_is_shown_by_a_change() -> None:
    shown = {kind for kinds in KINDS.values() for kind in kinds.split()}

    assert set(EffectKind) == shown
    assert set(KINDS) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_change_has_the_text_that_stands_beside_it(name: str) -> None:
    expected = CHANGES / name / "expected.txt"

    found = "".join(line + "\n" for line in report.render_lines(planned(name), seen, verbose=True))

    if os.environ.get("REWRITE_CHANGES"):
        expected.write_text(found, encoding="utf-8")
    assert found == expected.read_text(encoding="utf-8")
