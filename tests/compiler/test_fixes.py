"""Fixes: what a finding can mend by itself, and that nothing else is touched."""

import re
from functools import cache

import pytest

from optio.compiler.diagnostics import Diagnostic, Edit, Severity, apply_strict
from optio.compiler.edits import proofs
from optio.compiler.edits.text_edits import apply_edits
from optio.compiler.fixes import FixedTree, fix_tree
from optio.compiler.pipeline import compile_tree
from optio.compiler.source import Position, Span
from optio.compiler.source_tree import MemoryTree, OverlayTree
from tests.compiler.test_cases import CASES, INPUTS

FILES = {
    case.relative_to(CASES).as_posix(): {
        p.relative_to(case.parent if case.is_file() else case).as_posix(): p.read_bytes()
        for p in ([case] if case.is_file() else case.rglob("*"))
        if p.is_file()
    }
    for case in INPUTS
}
FAMILIES = sorted({name[:4] for name in FILES})  # OPT1, and so on
TASK = """\
# A task

name:   Weekly   # with odd blanks
agentRuntime: "claude-code"
max_turns: "20"          # quoted
budgetUsd: 2.50
description: NO

promptTemplate: |
  Hello {{ WHO }},
    and bye.
paramsSchema: {type: object, additionalProperties: false, properties: {WHO: {type: string, default: you}}}
"""


@cache
def findings(name: str) -> tuple[Diagnostic, ...]:
    return compile_tree(MemoryTree(FILES[name])).diagnostics


@cache
def fixable(family: str) -> tuple[str, ...]:
    """The cases of a family in which something can be fixed."""
    names = sorted(name for name in FILES if name.startswith(family))
    return tuple(name for name in names if any(d.fix for d in findings(name)))


def written(text: str, *, unsafe: bool = False) -> str:
    done = fix_tree(MemoryTree({"task.yaml": text}), unsafe=unsafe)
    return done.files.get("task.yaml", text.encode()).decode()


def test_what_is_not_wrong_stays_as_it_is_to_the_last_blank() -> None:
    assert written(TASK) == (
        TASK.replace('max_turns: "20"', "maxTurns: 20")
        .replace("2.50", '"2.50"')
        .replace("description: NO", "description: 'NO'")
        .replace("{{ WHO }}", "{{WHO}}")
    )


@pytest.mark.parametrize(
    ("text", "unsafe"), [("agentRuntime: claud-code\n", True), ("agentRuntime: claude-code\nmaxTurn: 3\n", True)]
)
def test_a_guess_is_made_only_where_guesses_are_wanted(text: str, unsafe: bool) -> None:
    text = f"name: Example\npromptTemplate: Say hello\n{text}"

    assert written(text) == text
    assert compile_tree(MemoryTree({"task.yaml": written(text, unsafe=True)})).diagnostics == ()


def test_a_fix_that_would_bring_errors_is_left_out() -> None:
    schema = "paramsSchem: {type: object, properties: {A: {type: strin}, B: {type: strin}}}\n"
    text = f"name: Example\nagentRuntime: claude-code\npromptTemplate: Say hello\n{schema}"

    assert written(text, unsafe=True) == text


def test_what_is_left_out_of_one_file_changes_nothing_that_is_said_of_the_others() -> None:
    schema = "paramsSchem: {type: object, properties: {A: {type: strin}, B: {type: strin}}}\n"
    task = "name: {}\nagentRuntime: claude-code\npromptTemplate: Say hello\n"
    tree = MemoryTree({"a.yaml": task.format("A") + schema, "b.yaml": task.format("B") + "maxTurn: 3\n"})

    done = fix_tree(tree, unsafe=True)

    assert done.files == {"b.yaml": (task.format("B") + "maxTurns: 3\n").encode()}
    assert done.compilation.diagnostics == compile_tree(OverlayTree(tree, dict(done.files))).diagnostics


def test_a_key_is_not_renamed_to_one_that_is_there() -> None:
    text = "name: Example\nagentRuntime: claude-code\npromptTemplate: Say hello\nmax_turns: 3\nmaxTurns: 4\n"

    assert written(text, unsafe=True) == text


@cache
def mended(name: str) -> FixedTree:
    """All fixes of the files of a case."""
    return fix_tree(MemoryTree(FILES[name]), unsafe=True)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_fix_mends_its_finding_and_brings_no_error(family: str) -> None:
    assert {name: wrong for name in fixable(family) if (wrong := wrong_with_the_fixes_of(name))} == {}


def wrong_with_the_fixes_of(name: str) -> list[str]:
    """That a second time fixes nothing more is in `tests/fuzz/fixing.py`."""
    before = findings(name)
    done = mended(name)
    errors = [sum(d.severity is Severity.ERROR for d in each) for each in (before, done.compilation.diagnostics)]
    could_not_be_read = any(d.code in ("OPT001", "OPT005") for d in before)
    left = [d for d in done.compilation.diagnostics if d in before and d.fix and done.files and d.path not in done.files]
    wrong = {
        "nothing is fixed": done.count < 1,
        "there are more errors": errors[1] > errors[0] and not could_not_be_read,
        "a finding is left": left != [],
    }
    return [what for what, holds in wrong.items() if holds]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("ends", ["\r\n", "\r"])
def test_line_ends_and_byte_order_marks_stay(family: str, ends: str) -> None:
    def other(data: bytes) -> bytes:
        return b"\xef\xbb\xbf" + data.replace(b"\n", ends.encode())

    # A fix writes the line ends that the reader found, whichever they are: of the old ones one case of a rule is enough.
    names = fixable(family) if ends == "\r\n" else {name.partition("/")[0]: name for name in fixable(family)}.values()
    for name in names:
        if re.search("byte-order|bom", name):
            continue
        tasks = {path: data for path, data in FILES[name].items() if path.endswith(".yaml")}
        rest = {path: data for path, data in FILES[name].items() if path not in tasks}
        done = mended(name)

        same = fix_tree(MemoryTree({**rest, **{path: other(data) for path, data in tasks.items()}}), unsafe=True)

        expected = {path: other(data) if path in tasks else data for path, data in done.files.items()}
        assert (name, same.files) == (name, expected)


def test_edits_that_overlap_are_refused() -> None:
    one = Edit(Span(Position(1, 1), Position(1, 5)), "x")
    other = Edit(Span(Position(1, 3), Position(1, 7)), "y")

    with pytest.raises(ValueError, match="overlap"):
        apply_edits(b"some text\n", [one, other])
    assert apply_edits(b"some text\n", [one, one]) == b"x text\n"


def test_strictly_some_warnings_are_errors_and_the_rest_stays() -> None:
    found = compile_tree(MemoryTree({"task.yaml": TASK})).diagnostics

    strict = apply_strict(found)

    changed = {d.code for d, e in zip(found, strict, strict=True) if d.severity != e.severity}
    assert changed == {"OPT203"}
    assert {d.severity for d in strict if d.code == "OPT203"} == {Severity.ERROR}


def test_marks_and_line_ends_go_where_information_is_asked_for() -> None:
    text = b"\xef\xbb\xbfname: Example\r\nagentRuntime: claude-code\rpromptTemplate: Say hello\n"
    tree = MemoryTree({"task.yaml": text})

    assert fix_tree(tree, unsafe=True).files == {}
    assert fix_tree(tree, unsafe=False, pedantic=True).files == {
        "task.yaml": text[3:].replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    }


HEAD = "name: Example\nagentRuntime: claude-code\npromptTemplate: Say {{A}}\n"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("environment:\n\u00a0 env: {A: b}\n", "environment:\n  env: {A: b}\n"),
        ("environment:\n\tenv:\n\t\tA: b\nmaxTurns: 3\n", "environment:\n  env:\n    A: b\nmaxTurns: 3\n"),
        (
            "paramsSchema:\n  type: object\n  properties: {A: {}}  # all\n  required: [A]\n",
            "paramsSchema:\n  type: object\n  additionalProperties: false\n  properties: {A: {}}  # all\n  required: [A]\n",
        ),
        (
            "paramsSchema: {type: object, properties: {A: {}}, required: [A]}\n",
            "paramsSchema: {type: object, additionalProperties: false, properties: {A: {}}, required: [A]}\n",
        ),
        (
            "paramsSchema: {properties: {A: {enum: [a, b, a]}}, type: object, required: [A], additionalProperties: false}\n",
            "paramsSchema: {properties: {A: {enum: [a, b]}}, type: object, required: [A], additionalProperties: false}\n",
        ),
        ("model:\nmaxTurns: 3\n", "maxTurns: 3\n"),
        ("maxTurns: 3\nmodel: # why", "maxTurns: 3\n"),
        (
            "triggers: [{type: webhook, config: {path: /A b, secret: {name: S}}}]\n",
            "triggers: [{type: webhook, config: {path: a-b, secret: {name: S}}}]\n",
        ),
    ],
)
def test_whole_keys_and_items_come_and_go(before: str, after: str) -> None:
    assert written(HEAD + before, unsafe=True) == HEAD + after


@pytest.mark.parametrize(
    ("path", "better"),
    [("repository.name", "$.repository.name"), ("$.detail.build-status", "\"$.detail['build-status']\""), ("main", "main")],
)
def test_a_path_is_mended_where_it_can_only_be_one(path: str, better: str) -> None:
    config = "triggers:\n  - type: webhook\n    config: {path: scan, secret: {name: S}, paramMapping: {A: %s}}\n"

    assert written(HEAD + config % path, unsafe=True) == HEAD + config % better


def test_a_careful_reviewer_may_have_the_limits_written() -> None:
    tree = MemoryTree({"task.yaml": HEAD.replace("{{A}}", "hello")})

    done = fix_tree(tree, unsafe=True, pedantic=True)

    assert b'budgetUsd: "1.00"\n' in done.files["task.yaml"]
    assert b"timeout: 20m\n" in done.files["task.yaml"]
    assert fix_tree(tree, unsafe=False, pedantic=True).files == {}


def test_a_fix_is_made_in_the_text_in_which_its_mistake_was_found() -> None:
    class Changing(MemoryTree):
        reads = 0

        def read(self, path: str) -> bytes:
            data = super().read(path)
            self.reads += path == "task.yaml"
            return b"# once more\n" * (self.reads - 1) + data if path == "task.yaml" else data

    done = fix_tree(Changing({"task.yaml": TASK}), unsafe=False)

    assert done.before == {"task.yaml": TASK.encode()}
    assert done.files == {"task.yaml": written(TASK).encode()}


def test_what_stands_beside_the_config_of_a_trigger_moves_into_it_with_its_value() -> None:
    text = (
        "name: A\nagentRuntime: claude-code\npromptTemplate: Say {{A}}\n"
        "paramsSchema: {type: object, properties: {A: {type: string}}, required: [A], additionalProperties: false}\n"
        "triggers:\n  - type: webhook\n    secret: {name: A}\n    path: scan\n"
        "    paramMapping:\n      A: $.action\n\n"
        '  - type: schedule\n    paramMapping: {A: x}\n    config: {cronExpression: "0 9 * * 1"} # why\n'
    )

    assert written(text).partition("triggers:\n")[2] == (
        "  - type: webhook\n    config:\n      secret:\n        name: A\n      path: scan\n"
        "      paramMapping:\n        A: $.action\n\n"
        '  - type: schedule\n    config: {cronExpression: "0 9 * * 1", paramMapping: {A: x}} # why\n'
    )


def test_a_key_moves_for_sure_only_where_its_mapping_is_not_misspelt_beside_it() -> None:
    trigger = "name: A\nagentRuntime: claude-code\npromptTemplate: Hi\ntriggers:\n  - type: schedule\n    %s:\n"
    stray = '      cronExpression: "0 9 * * *"\n    timezone: Europe/Berlin\n'
    whole = '      cronExpression: "0 9 * * *"\n      timezone: Europe/Berlin\n'

    assert written(trigger % "cnfig" + stray) == trigger % "cnfig" + stray
    assert written(trigger % "config" + stray) == trigger % "config" + whole
    assert written(trigger % "cnfig" + stray, unsafe=True) == trigger % "config" + whole


def test_of_keys_that_belong_elsewhere_all_move_or_none() -> None:
    config = 'cronExpression: "0 9 * * 1", timezone: UTC, # of the office\n    paramMapping: {A: x}'
    text = f"{HEAD}triggers:\n  - {{type: schedule, {config}}}\n"

    assert written(text) == text


@pytest.mark.parametrize(
    ("mapping", "config"),
    [
        ("\n      # of the sender\n      A: $.action", "{path: scan, secret: {name: A}}"),
        ("{A: $.action}", "{path: scan, secret: {name: A}, paramMapping: {A: $.x}}"),
        ("{A: $.action}", "scan"),
    ],
    ids=["a comment would go", "one is there", "no mapping"],
)
def test_what_cannot_be_moved_whole_stays_where_it_is(mapping: str, config: str) -> None:
    text = (
        "name: A\nagentRuntime: claude-code\npromptTemplate: Hi\n"
        f"triggers:\n  - type: webhook\n    paramMapping: {mapping}\n    config: {config}\n"
    )

    assert written(text) == text


HOOK = """\
name: Example
agentRuntime: claude-code
promptTemplate: Say hello
triggers:
  - type: webhook
    config:
      path: x
      secret: {name: S}
      scheme: github
"""


@pytest.mark.parametrize(
    "more", ["      events: [pull_request.opened, push]\n", "      events: [issues.opened]\n      when: '@.a'\n"]
)
def test_an_action_is_not_filtered_where_that_would_leave_out_others(more: str) -> None:
    assert written(HOOK + more, unsafe=True) == HOOK + more


WEBHOOK = HEAD + (
    "paramsSchema: {type: object, properties: {A: {type: string}}, required: [A], additionalProperties: false}\n"
    "triggers:\n  - type: webhook\n    config: {path: scan, secret: {name: S}, paramMapping: {A: %s}}\n"
)
SCHEDULE = (
    "name: A\nagentRuntime: claude-code\npromptTemplate: Hi\ntriggers:\n  - type: schedule\n    config: {cronExpression: %s}\n"
)
PROPERTIES = HEAD + "paramsSchema:\n  type: object\n  additionalProperties: false\n  properties:\n    A: {type: string%s}\n"
ENVIRONMENT = "name: A\nagentRuntime: claude-code\npromptTemplate: Hi\nenvironment: {%s}\n"


@pytest.mark.parametrize(
    ("form", "before", "after"),
    [
        (WEBHOOK, "labels[0]", '"labels[0]"'),
        (WEBHOOK, "$.labels[0]", '"$.labels[0]"'),
        (WEBHOOK, '"labels[0]"', '"$.labels[0]"'),
        (SCHEDULE, '"0 */15 * * * *"', '"*/15 * * * *"'),
        (SCHEDULE, "'@midnight'", "'@daily'"),
        (SCHEDULE, '"0 22-2 * * *"', '"0 22-23,0-2 * * *"'),
        (SCHEDULE, "*/5 * * * *", '"*/5 * * * *"'),
        (SCHEDULE, '"0 9 * * *", timezone: "europe/berlin"', '"0 9 * * *", timezone: "Europe/Berlin"'),
        (SCHEDULE, '"0 9 * * *", timezone: Berlin', '"0 9 * * *", timezone: Europe/Berlin'),
        (ENVIRONMENT, 'network: {egress: ["https://api.example.com/v1"]}', 'network: {egress: ["api.example.com"]}'),
        (ENVIRONMENT, "network: {egress: [http://a.example.com]}", "network: {egress: ['a.example.com:80']}"),
        (PROPERTIES, ", required: false", ""),
        ("name: A\nagentRuntime: claude-code\npromptTemplate: %s\n", "{{A}} and more  # why", '"{{A}} and more"  # why'),
        ("name: %s\nagentRuntime: claude-code\npromptTemplate: Hi\n", "Fix: it", '"Fix: it"'),
    ],
)
def test_what_a_hint_spells_out_is_written(form: str, before: str, after: str) -> None:
    once = apply_all(form % before)

    assert form % after in once


def apply_all(text: str) -> list[str]:
    """The text after each round of fixes."""
    tree, texts = {"task.yaml": text.encode()}, []
    for _ in range(5):
        found = [d for d in compile_tree(MemoryTree(tree)).diagnostics if d.fix is not None]
        if not found:
            break
        assert found[0].fix is not None
        tree["task.yaml"] = apply_edits(tree["task.yaml"], found[0].fix.edits)
        texts.append(tree["task.yaml"].decode())
    return texts


def test_a_parameter_that_says_it_is_required_is_listed() -> None:
    assert written(PROPERTIES % ", required: true", unsafe=True) == PROPERTIES % "" + "  required:\n    - A\n"


def test_the_spelling_of_a_time_zone_is_no_guess() -> None:
    assert written(SCHEDULE % '"0 9 * * *", timezone: europe/berlin') == SCHEDULE % '"0 9 * * *", timezone: Europe/Berlin'


@pytest.mark.parametrize(
    "text",
    [
        "name: A\nagentRuntime: |\n  claude-cod\npromptTemplate: Hi\n",
        "name: A\nagentRuntime: claude-code\nmodel: &m sonnt\npromptTemplate: Hi\ndescription: *m\n",
    ],
    ids=["below a sign", "named for others"],
)
def test_a_value_that_no_single_place_holds_is_left_to_its_author(text: str) -> None:
    assert written(text, unsafe=True) == text


@pytest.mark.parametrize(
    "text",
    ["name: A\n\tagentRuntime: claude-code\npromptTemplate: Hi: you\n", "\t# nothing at all\n"],
    ids=["another slip", "no task"],
)
def test_a_file_that_cannot_be_read_is_fixed_whole_or_not_at_all(text: str) -> None:
    done = fix_tree(MemoryTree({"task.yaml": text}), unsafe=True)

    assert done.files == {}
    assert done.count == 0


def test_a_fix_that_would_bring_an_error_to_another_file_is_left_out() -> None:
    task = "name: {}\nagentRuntime: claude-code\npromptTemplate: Say hello\n"
    files = {
        "a.yaml": task.format("A") + "idd: same\n",
        "b.yaml": task.format("B") + "id: same\n",
        "c.yaml": task.format("C") + "maxTurn: 3\n",
    }

    done = fix_tree(MemoryTree(files), unsafe=True)

    assert done.files == {"c.yaml": (task.format("C") + "maxTurns: 3\n").encode()}


def test_a_fix_that_would_bring_an_error_elsewhere_in_its_file_is_left_out() -> None:
    schema = "{type: object, properties: {A: {type: string}}, required: [A], additionalProperties: false}"
    text = HEAD + f"paramsSchemas: {schema}\ntriggers:\n  - type: schedule\n    config: {{cronExpression: '0 9 * * *'}}\n"

    assert written(text, unsafe=True) == text


def test_what_stands_below_a_misspelt_key_may_come_to_light_with_it() -> None:
    text = HEAD.replace("{{A}}", "hello") + "Environment:\n  conc: 1\n"

    assert written(text) == text.replace("Environment", "environment")


def test_a_key_without_which_there_is_no_task_is_not_deleted() -> None:
    text = "name: A\nagentRuntime: claude-code\npromptTemplate:\n"

    assert written(text, unsafe=True) == text


def test_a_mapping_with_a_comment_in_it_is_not_replaced_by_its_only_value() -> None:
    text = "name: A\nagentRuntime: gemini\nowner:\n  value: platform%s\npromptTemplate: x\n"

    def mended(comment: str) -> dict[str, bytes]:
        return dict(fix_tree(MemoryTree({"a.yaml": text % comment}), unsafe=True).files)

    assert mended("") == {"a.yaml": b"name: A\nagentRuntime: gemini\nowner:\n  platform\npromptTemplate: x\n"}
    assert mended("  # the pilot starts in spring") == {}


def test_a_template_keeps_its_own_keys_where_another_moves() -> None:
    text = "type: template\nsecrets: [TOKEN]\ndescription: What reviews share\nenvironment:\n  env: {LANG: C.UTF-8}\n"

    done = fix_tree(MemoryTree({"base.yaml": text.encode()}), unsafe=True).files["base.yaml"]

    assert done.decode() == text.replace("secrets: [TOKEN]\n", "") + "  secrets:\n    - TOKEN\n"


def test_a_key_beside_one_that_stands_twice_is_not_moved() -> None:
    text = HEAD + "secrets: [TOKEN]\nenvironment:\nenvironment: {env: {A: b}}\n"

    assert written(text, unsafe=True) == text


def test_an_alias_that_is_twice_in_a_list_is_left() -> None:
    schema = "{type: object, additionalProperties: false, required: [A], properties: {A: {enum: [&q a, b, *q]}}}"
    text = HEAD + f"paramsSchema: {schema}\n"

    assert written(text, unsafe=True) == text


def test_a_conversion_that_brings_another_error_is_not_offered() -> None:
    task = "name: A\nagentRuntime: claude-code\npromptTemplate: Say hello\ncontainer: A B\n"

    (found,) = compile_tree(MemoryTree({"a.yaml": task.encode()})).diagnostics

    assert (found.code, found.fix) == ("OPT101", None)
    assert found.hint == "the nearest key is `environment.image`: write it if you mean that, and delete this key"


def test_a_conversion_is_offered_beside_one_that_is_not_and_one_that_was_not_tried_is_only_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tree = MemoryTree({
        "a.yaml": b"name: A\nagentRuntime: claude-code\npromptTemplate: Say hello\ncontainer: A B\ntimeoutMinutes: 5\n"
    })  # fmt: skip

    container, timeout = compile_tree(tree).diagnostics

    assert container.fix is None
    assert timeout.fix is not None
    assert [edit.text for edit in timeout.fix.edits] == ["timeout: 5m"]

    monkeypatch.setattr(proofs, "MAX_TRIALS", 2)
    _, timeout = compile_tree(tree).diagnostics

    assert (timeout.code, timeout.fix) == ("OPT101", None)
    assert timeout.hint == "the nearest key is `timeout`: write it if you mean that, and delete this key"


def test_a_file_that_is_cut_off_while_it_is_compiled_is_no_fault() -> None:
    class Shrinking(MemoryTree):
        def read(self, path: str) -> bytes:
            data = super().read(path)
            self._files = {path: b""}
            return data

    tree = Shrinking({"a.yaml": b"name: A\nagentRuntime: claude-code\npromptTemplate: Say hello\ntimeoutMinutes: 5\n"})

    (found,) = compile_tree(tree).diagnostics

    assert (found.code, found.fix is None) == ("OPT101", False)


def test_a_conversion_of_a_list_that_would_lose_an_item_is_not_offered() -> None:
    task = 'name: A\nagentRuntime: claude-code\npromptTemplate: Say hello\ncron: ["0 9 * * *", "0 18 * * *"]\n'

    (found,) = compile_tree(MemoryTree({"a.yaml": task.encode()})).diagnostics

    assert (found.code, found.fix) == ("OPT101", None)
