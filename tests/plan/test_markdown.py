"""A comment on a pull request: nothing that a file holds breaks out of its code, and it never is too long."""

import re
from datetime import UTC, datetime

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from optio.compiler.source_tree import MemoryTree
from optio.plan import markdown, report
from optio.plan.compare import Plan, compare_sides
from optio.plan.effect import Forecast
from optio.plan.side import compile_side
from optio.plan.words import brief
from tests.plan.test_changes import NAMES, planned, seen

NOW = datetime(2026, 1, 2, 12, tzinfo=UTC)
HOSTILE = "x\n```\n</details>\n<img src=x> @somebody #1 ![](http://x)\n~~~\n````diff\n</details>"


def of_prompts(*prompts: tuple[str, str]) -> Plan:
    def files(which: int) -> dict[str, str]:
        return {
            f"{number}.yaml": f"name: Task {number}\nagentRuntime: claude-code\npromptFile: {number}.md\n"
            for number in range(len(prompts))
        } | {f"{number}.md": prompt[which] for number, prompt in enumerate(prompts)}

    return compare_sides(compile_side(MemoryTree(files(0))), compile_side(MemoryTree(files(1))), Forecast(now=NOW))


def without_code(text: str) -> str:
    """What is left when code is taken out, as CommonMark reads it: fenced blocks first, then spans."""
    kept: list[str] = []
    fence = ""
    for line in text.splitlines():
        opening = re.fullmatch(r" {0,3}(`{3,})(\w*)", line)
        if not fence and opening:
            fence = opening[1]
        elif fence and opening and len(opening[1]) >= len(fence) and not opening[2]:
            fence = ""
        elif not fence:
            kept.append(line)
    assert not fence, "a block does not end"
    return re.sub(r"(?<!`)(`+)(?!`).*?(?<!`)\1(?!`)", "", "\n".join(kept))


@given(st.text(st.sampled_from("`~<>@#!|\\ \n\r\ta[]()"), min_size=1, max_size=60))
@example(HOSTILE)
@example("`")
@example("``` ```` `````")
@settings(max_examples=150)
def test_nothing_in_a_prompt_breaks_out(prompt: str) -> None:
    plan = of_prompts(("calm", f"a{prompt}"))

    left = without_code(markdown.render_markdown(plan, seen))

    assert left.count("<details") == left.count("</details>") == 1
    assert not re.search(r"@|#1|!\[|<img|~~~", left)


def test_what_stands_in_a_line_is_in_a_span_that_holds_it() -> None:
    for text in ("plain", "a `b` c", "``", "`", "a\nb", "a|b", " "):
        shown = markdown.code(text)
        fence = re.match("`+", shown)
        assert fence
        assert shown.endswith(fence[0])
        assert "\n" not in shown
        assert fence[0] not in shown[len(fence[0]) : -len(fence[0])].replace("`" * (len(fence[0]) + 1), "")


VALUES = ["@somebody", "org/repo#1", "#1", "GH-1", "deadbeef", "1234567", "www.x.org", "https://x.org", "<b>", "a@b.c"]
PLAIN = re.compile(r"(\(?([A-Za-z]+(['-][A-Za-z]+)*|\d{1,3}(,\d{3})*|->|/)?[),.;:]*( |$))*")


@given(
    st.lists(
        st.one_of(
            st.sampled_from([*VALUES, ":smile:", "`", "``", "word", "12", "1.", "5)", "(", ")", "->", "-", "*", "$1", "`a b`"]),
            st.text(st.sampled_from("`~<>@#!|\\ \n\t[]().:;-_*+&$0aA\u202eü"), max_size=8),
        ),
        max_size=12,
    ),
    st.sampled_from(["", " "]),
)
@example(["1. x @a"], "")
@example(["`@a", "b` @c"], " ")
@example(["(`@a`)", "`b`@c", "`", "`d`"], " ")
@settings(max_examples=500)
def test_a_sentence_has_plain_words_and_counts_and_all_else_in_code(words: list[str], between: str) -> None:
    shown = markdown.prose(between.join(words))

    left = re.sub(r"(?<!`)(`+)(?!`).*?(?<!`)\1(?!`)", "", shown)
    assert PLAIN.fullmatch(left), left
    assert not re.match(r"\d+[.)]", shown)
    assert not re.search(r"\b[a-f]{7,}\b|\d{4}", left, re.IGNORECASE)
    assert [c for c in shown if c not in "` "] == [c for c in brief(between.join(words), 400) if c not in "` "]


@pytest.mark.parametrize("value", VALUES)
def test_what_a_page_would_link_or_mention_is_code(value: str) -> None:
    assert markdown.prose(f"owner: {value} -> platform ({value}), by {value}.") == (
        f"owner: `{value}` -> platform (`{value}`), by `{value}`."
    )


def test_values_beside_each_other_share_a_span() -> None:
    assert markdown.prose("next: Mon 2026-01-05 09:00 CET; `a b` in 1,500 days") == (
        "next: Mon `2026-01-05 09:00` CET; `a b` in 1,500 days"
    )


def test_the_errors_of_a_broken_file_are_told_and_nothing_in_them_breaks_out() -> None:
    key = "'@somebody ` </details> #1'"
    tree = MemoryTree({"a.yaml": f"name: A\nagentRuntime: claude-code\npromptTemplate: x\n{key}: 1\n"})
    broken = compile_side(tree)

    shown = markdown.render_markdown(
        compare_sides(compile_side(MemoryTree({})), broken, Forecast(now=NOW)), seen, broken.errors
    )

    assert shown.startswith("### no effect in the files without errors; 1 error\n\n- :x: `a.yaml:4:1` unknown key ")
    assert shown.endswith("`OPT101 unknown-key`\n")
    assert not re.search(r"@|#1|</", without_code(shown))


def test_of_very_many_errors_some_are_shown_and_the_others_counted() -> None:
    broken = compile_side(MemoryTree({f"{number}.yaml": "no: task" for number in range(30)}))

    shown = markdown.render_markdown(
        compare_sides(compile_side(MemoryTree({})), broken, Forecast(now=NOW)), seen, broken.errors
    )

    assert shown.count("- :x: ") == 20
    assert f"- ... and {len(broken.errors) - 20} errors more: `optio check` shows all" in shown


def test_it_is_never_too_long_and_says_what_is_left_out() -> None:
    long = "\n".join(f"line {number} " + "x" * 300 for number in range(100))
    plan = of_prompts(*[(f"one {number}", f"{long} {number}") for number in range(150)])

    shown = markdown.render_markdown(plan, seen)

    assert len(shown) <= 65_536
    assert "150 tasks changed" in shown
    assert re.search(r"and \d+ tasks more, which would make this too long|lines of diff left out", shown)
    assert without_code(shown).count("<details") == without_code(shown).count("</details>")


def test_of_very_many_effects_the_dangers_are_shown() -> None:
    def files(length: int, host: str) -> dict[str, str]:
        parameters = "".join(f"    P{number}: {{type: string, maxLength: {length}}}\n" for number in range(300))
        head = "name: A\nagentRuntime: claude-code\npromptTemplate: x\nparamsSchema:\n  type: object\n  properties:\n"
        return {"a.yaml": f"{head}{parameters}environment: {{network: {{egress: [{host}]}}}}\n"}

    plan = compare_sides(
        compile_side(MemoryTree(files(3, "a.com"))), compile_side(MemoryTree(files(4, "b.com"))), Forecast(now=NOW)
    )

    assert len(plan.effects) == 302
    for shown in (markdown.render_markdown(plan, seen), "\n".join(report.render_lines(plan, seen))):
        assert re.search(r"reaches `?b\.com`?, which it did not", shown)
        assert "... and 242 effects more" in shown or "... 242 effects more: `--format json` has all" in shown


def test_every_change_of_the_corpus_has_its_kinds_in_the_table() -> None:
    for name in NAMES:
        plan = planned(name)
        shown = markdown.render_markdown(plan, seen)
        assert shown.startswith(f"### {plan.summary}\n")
        assert all(effect.kind in shown for effect in plan.effects)
