"""What is wrong is left out; everything else is still checked and served."""

import pytest

from optio.compiler.diagnostics import Severity
from optio.compiler.layers import Bases
from optio.compiler.pipeline import Compilation, TreePolicy, compile_file, compile_tree
from optio.compiler.source_tree import MemoryTree

GOOD = "name: {name}\nagentRuntime: claude-code\npromptTemplate: Say hello\n"


def compiled(**files: str) -> Compilation:
    return compile_tree(MemoryTree({f"{name}.yaml": text for name, text in files.items()}))


def codes(compilation: Compilation) -> list[str]:
    return [d.code for d in compilation.diagnostics]


def test_a_task_with_an_error_is_not_served_and_the_others_are() -> None:
    found = compiled(a=GOOD.format(name="A"), b=GOOD.format(name="B") + "maxTurns: 0\n")

    assert list(found.registry.tasks) == ["a"]
    assert found.broken == {"b.yaml"}
    assert not found.ok


def test_a_task_with_a_warning_is_served() -> None:
    found = compiled(
        a=GOOD.format(name="A") + "paramsSchema: {type: object, properties: {X: {type: string, x-optio-used-by: y}}}\n"
    )

    assert codes(found) == ["OPT215"]
    assert found.ok
    assert list(found.registry.tasks) == ["a"]


def test_all_mistakes_of_a_file_are_reported_at_once() -> None:
    text = GOOD.format(name="A") + (
        "maxTurn: 3\nmaxRetries: -1\nenvironment: {image: 'https://x'}\n"
        "triggers:\n  - {type: schedule, config: {cronExpression: '61 * * * *', timezone: PST}}\n  - {type: ticket}\n"
    )

    assert sorted(codes(compiled(a=text))) == ["OPT101", "OPT105", "OPT301", "OPT306", "OPT321", "OPT502"]


def test_two_mistakes_in_one_mapping_hide_nothing_of_the_rest() -> None:
    text = (
        GOOD.format(name="A")
        + "startLimit: {count: 1, colour: red}\ntriggers: [{type: schedule, config: {cronExpression: '61 * * * *'}}]\n"
    )

    assert codes(compiled(a=text)) == ["OPT102", "OPT101", "OPT301"]


def test_nothing_is_said_about_what_was_already_wrong() -> None:
    text = "name: A\nagentRuntime: claude-code\npromptTemplate: '{{A}} {{B}}'\nparamsSchema: [A]\n"

    assert codes(compiled(a=text)) == ["OPT103"]


def test_an_error_in_a_prompts_own_file_keeps_its_task_from_being_served() -> None:
    schema = "paramsSchema: {type: object, properties: {A: {type: string}}, required: [A], additionalProperties: false}\n"
    tree = MemoryTree(
        {
            "t.yaml": "name: T\nagentRuntime: claude-code\npromptFile: p.md\n" + schema,
            "p.md": "{{A}} {{a}}",
            "_policy.yaml": "type: policy\nrules: {OPT204: error}\n",
        }
    )

    found = compile_tree(tree)

    assert [(d.path, d.code) for d in found.diagnostics] == [("p.md", "OPT204")]
    assert found.broken == {"t.yaml"}
    assert not found.registry.tasks


def test_the_first_file_keeps_an_id_even_when_a_later_one_wants_it() -> None:
    found = compiled(a=GOOD.format(name="Same"), b=GOOD.format(name="same!"))

    assert codes(found) == ["OPT701"]
    assert found.registry.tasks["same"].origin.path == "a.yaml"
    assert found.diagnostics[0].related[0].path == "a.yaml"


def test_a_misspelt_name_takes_no_id_from_others() -> None:
    found = compiled(a="nam: Same\nagentRuntime: claude-code\npromptTemplate: x\n", b=GOOD.format(name="unnamed"))

    assert codes(found) == ["OPT101"]
    assert list(found.registry.tasks) == ["unnamed"]


def test_findings_come_in_the_order_of_the_text() -> None:
    found = compiled(a=GOOD.format(name="A") + "zzz: 1\nyyy: 1\nxxx: 1\n")

    assert [d.span.start.line for d in found.diagnostics] == [4, 5, 6]


@pytest.mark.parametrize("count", [21, 50, 4_000])
def test_one_rule_is_told_of_twenty_times_a_file_at_most_and_then_how_often_more(count: int) -> None:
    found = compiled(a=GOOD.format(name="A") + "".join(f"unknown{i}: 1\n" for i in range(count))).diagnostics

    assert [(d.code, d.span.start.line, d.more) for d in found[:20]] == [("OPT101", line, 0) for line in range(4, 24)]
    (last,) = found[20:]
    shown = (
        "1 more like this in the file is not shown"
        if count == 21
        else f"{count - 20:,} more like this in the file are not shown"
    )
    assert (last.code, last.message, last.count, last.fix) == ("OPT101", shown, count - 20, None)
    assert sum(d.count for d in found) == count


def test_of_thousands_of_one_rule_in_a_file_a_thousand_are_kept_and_all_are_counted() -> None:
    text = GOOD.format(name="A") + "environment: {env: {" + "".join(f"K{i}: [], " for i in range(4_000)) + "}}\n"
    commands = ", ".join(f"'echo $A{i}_TOKEN'" for i in range(3_000))
    variables = GOOD.format(name="B") + f"environment: {{setupCommands: [{commands}]}}\n"
    tree = MemoryTree({"a.yaml": text, "b.yaml": variables})
    kept = compile_file("b.yaml", tree, Bases(tree), TreePolicy(tree)).diagnostics

    assert len([d for d in kept if d.code == "OPT504"]) == 1_001
    assert sum(d.count for d in kept if d.code == "OPT504") == 3_000
    assert sum(d.count for d in compile_tree(tree).diagnostics if d.code == "OPT504") == 3_000
    assert sum(d.count for d in compile_tree(tree).diagnostics if d.code == "OPT103") == 4_000


def test_of_many_placeholders_the_first_by_their_place_are_told_of_and_the_others_counted() -> None:
    prompt = "promptTemplate: |\n" + "".join(f"  {{{{B{i}}}}} {{{{B{i}}}}}\n" for i in range(25))
    closed = "paramsSchema: {type: object, additionalProperties: false, properties: {}}\n"
    found = compiled(a=f"name: A\nagentRuntime: claude-code\n{prompt}{closed}").diagnostics

    assert [d.span.start.line for d in found] == [*range(4, 24), 23]
    assert found[-1].more == 5


def test_a_comment_that_ignores_the_findings_in_a_text_ignores_those_that_are_only_counted() -> None:
    prompt = "promptTemplate: |  # optio: ignore[OPT201] filled in by the agent\n" + "".join(
        f"  {{{{B{i}}}}}\n" for i in range(25)
    )
    closed = "paramsSchema: {type: object, additionalProperties: false, properties: {}}\n"

    assert compiled(a=f"name: A\nagentRuntime: claude-code\n{prompt}{closed}").diagnostics == ()


def test_what_is_counted_beyond_twenty_keeps_its_severity_and_what_a_policy_makes_of_it() -> None:
    prompt = "promptTemplate: '" + "".join(f"{{{{B{i}}}}}" for i in range(25)) + "'\n"
    closed = "paramsSchema: {type: object, additionalProperties: false, properties: {}}\n"
    task = f"name: A\nagentRuntime: claude-code\n{prompt}{closed}"

    assert {d.severity for d in compiled(a=task).diagnostics} == {Severity.WARNING}
    policy = "type: policy\nrules: {OPT201: %s}\n"
    assert {d.severity for d in compiled(a=task, _policy=policy % "error").diagnostics} == {Severity.ERROR}
    assert compiled(a=task, _policy=policy % '"off"').diagnostics == ()


def test_a_secret_is_never_repeated() -> None:
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    text = GOOD.format(name="A") + f"triggers: [{{type: webhook, config: {{path: scan, secret: {secret}}}}}]\n"
    text += f"environment: {{secrets: ['{secret}!'], env: {{A: ghp_{'a1' * 20}}}}}\n"

    found = compiled(a=text)

    assert {"OPT405", "OPT503"} <= set(codes(found))
    assert secret not in str([d.to_json() for d in found.diagnostics])
    assert "a1a1" not in str([d.to_json() for d in found.diagnostics])


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85"])
def test_a_key_that_hides_behind_a_character_that_nobody_sees_is_told_of(separator: str) -> None:
    found = compiled(a=GOOD.format(name="A") + f"model: opus  # the best{separator}enabled: false\n")

    assert [(d.code, d.span.start) for d in found.diagnostics] == [("OPT016", (4, 24))]
    assert not found.registry.tasks["a"].spec.enabled


def test_a_misplaced_key_without_a_value_in_the_defaults_is_told_where_it_stands() -> None:
    tree = MemoryTree({"_defaults.yaml": "env:\n", "a.yaml": GOOD.format(name="A")})

    assert {(d.path, d.code) for d in compile_tree(tree).diagnostics} >= {("_defaults.yaml", "OPT101")}
