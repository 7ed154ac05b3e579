"""What a finding offers to do about itself, without an editor."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from optio.compiler.edits.text_edits import apply_edits
from optio.lsp.actions import fix_all, ignore_comment_edit, line_edits
from optio.lsp.trees import LspOptions
from tests.lsp.opened import opened

PIECES = st.lists(st.sampled_from(["a", "b", "\n", "\n\n", "long line\n", "\N{GRINNING FACE}", "\u2028"]), max_size=12).map(
    "".join
)
BARE = "name: One\nagentRuntime: claude-code\n"


@given(PIECES, PIECES)
def test_edits_make_one_text_of_the_other(before: str, after: str) -> None:
    assert apply_edits(before.encode(), line_edits(before, after)).decode() == after


def test_edits_leave_lines_alone_that_stay() -> None:
    edits = list(line_edits("a\nb\nc\nd\n", "a\nB\nc\nd\ne\n"))

    assert [(tuple(edit.span.start), edit.text) for edit in edits] == [((2, 1), "B\n"), ((5, 1), "e\n")]


def test_all_that_is_safe_is_fixed_at_once_and_guesses_are_not(tmp_path: Path) -> None:
    page, _ = opened(tmp_path, BARE + "promptTemplate: Say\nmax_turns: 3\nmaxRetrie: 1\n")

    action = fix_all(page)

    assert action is not None
    assert [edit.text for edit in action.edits] == ["maxTurns: 3\n"]


def test_a_file_without_anything_to_fix_offers_nothing(tmp_path: Path) -> None:
    page, _ = opened(tmp_path, BARE + "promptTemplate: Say\n")

    assert fix_all(page) is None


SCHEMA = "paramsSchema:\n  type: object\n  additionalProperties: false\n  properties:\n"
OLD = "    OLD: {type: string, default: x, maxLength: 9}\n"
OTHER = "    OTHER: {type: string, default: x, maxLength: 9}\n"


def ignored(page_text: str, root: Path, code: str, path: str = "task.yaml", files: dict[str, str] | None = None) -> str:
    """The file with the comment in it."""
    page, _ = opened(root, page_text, path, files, strict=True)
    found = next(each for each in page.alone if each.code == code)
    done = ignore_comment_edit(page, found, LspOptions(strict=True))
    assert done is not None
    assert page.tree is not None
    target, edit = done
    text = apply_edits(page.tree.read(target) or b"", [edit]).decode()
    left = page.tree.alone(target, LspOptions(strict=True), text.encode())[1]
    assert all(each.message != found.message for each in left)
    return text


def test_the_comment_stands_above_the_finding_as_deep_as_it(tmp_path: Path) -> None:
    text = BARE + "promptTemplate: Say\n" + SCHEMA + OLD

    assert ignored(text, tmp_path, "OPT202") == text.replace(OLD, "    # optio: ignore[OPT202] \n" + OLD)


def test_a_comment_that_is_there_takes_the_code_in(tmp_path: Path) -> None:
    text = BARE + "promptTemplate: Say\n" + SCHEMA + "    # optio: ignore[OPT225] later\n" + OLD

    assert "    # optio: ignore[OPT225, OPT202] later\n" in ignored(text, tmp_path, "OPT202")


def test_inside_a_prompt_the_comment_stands_above_its_key(tmp_path: Path) -> None:
    schema = SCHEMA + "    WHO: {type: string, default: x, maxLength: 9}\n"
    text = BARE + "promptTemplate: |\n  Say {{WHO}}\n  and $TOKEN ${{NAME}}\n" + schema
    page, _ = opened(tmp_path, text, strict=True)
    inside = [each for each in page.alone if each.span.start.line in (4, 5) and each.severity != "error"]
    assert inside

    done = ignored(text, tmp_path, inside[0].code)

    assert f"# optio: ignore[{inside[0].code}] \npromptTemplate: |" in done
