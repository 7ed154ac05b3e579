"""Edits of task files: what was wanted is said, and every other line stays as it was, byte for byte."""

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from optio.compiler.edits.edit_yaml import CannotEdit, plan_edits, rewrite_file
from optio.compiler.edits.text_edits import apply_edits
from optio.compiler.source import SourceFile
from optio.compiler.yaml.document import parse
from optio.compiler.yaml.emit import flow
from optio.model.registry import canonical
from optio.model.route import Route
from tests.compiler.values import values

# Shrinking files line by line takes minutes; a busy machine is no failure.
PATIENT = settings(
    max_examples=120,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=list(HealthCheck),
    deadline=None,
)


class Line(NamedTuple):
    """A line of a file, and the value it belongs to; `whole` when it says that value from end to end."""

    text: str
    owner: Route
    whole: bool = False


def read(data: bytes) -> Any:
    document, found = parse(SourceFile("a.yaml", data))
    assert document is not None, (data.decode(), [d.message for d in found])
    return document.value


def edit_or_none(data: bytes, wanted: dict[str, Any]) -> bytes | None:
    """Without anchors, only comments that would lose their place are a reason to refuse."""
    try:
        return rewrite_file("a.yaml", data, wanted)
    except CannotEdit as refused:
        if "there is a comment" not in str(refused):
            raise
        return None


def changed(text: str, change: Callable[[Any], object]) -> str:
    wanted = read(text.encode())
    change(wanted)
    return rewrite_file("a.yaml", text.encode(), wanted).decode()


class Writer:
    """Writes a value the way people do: some of it between braces, with comments, blank lines and indents of their own."""

    def __init__(self, draw: Callable[[st.SearchStrategy[Any]], Any]) -> None:
        self.draw, self.count = draw, 0

    def comment(self) -> str:
        self.count += 1
        return f"# comment: {self.count} - 'x"

    def chance(self, percent: int) -> bool:
        return bool(self.draw(st.integers(0, 99)) < percent)

    def lines(self, value: Any, route: Route, indent: int) -> list[Line]:
        found: list[Line] = []
        pairs = list(value.items()) if isinstance(value, dict) else list(enumerate(value))
        for key, inner in pairs:
            here = (*route, key)
            if self.chance(20):
                found.append(Line(self.draw(st.sampled_from(["", " " * indent + self.comment(), self.comment()])), route))
            lead = " " * indent + (f"{flow(key)}:" if isinstance(value, dict) else "-")
            found += self.value(lead, inner, here, indent, in_list=isinstance(value, list))
        return found

    def value(self, lead: str, value: Any, route: Route, indent: int, *, in_list: bool) -> list[Line]:
        behind = f"  {self.comment()}" if self.chance(20) else ""
        if isinstance(value, (dict, list)) and value and self.chance(70):
            deeper = indent + (
                0 if isinstance(value, list) and not in_list and self.chance(40) else self.draw(st.integers(2, 4))
            )
            below = self.lines(value, route, deeper)
            if (
                in_list
                and not behind
                and self.chance(70)
                and below[0].text.strip()
                and not below[0].text.lstrip().startswith("#")
            ):
                head = lead + " " * (deeper - indent - 1) + below[0].text.lstrip(" ")
                return [below[0]._replace(text=head), *below[1:]]
            return [Line(lead + behind, route), *below]
        if isinstance(value, str) and value.strip() == value and value.isalnum() and self.chance(30):
            body = " " * (indent + 2)
            style = self.draw(st.sampled_from(["|-", ">-"]))
            return [Line(f"{lead} {style}{behind}", route), Line(f"{body}{value}", route)]
        return [Line(f"{lead} {flow(value)}{behind}", route, whole=True)]


@st.composite
def files(draw: Callable[[st.SearchStrategy[Any]], Any]) -> tuple[list[Line], dict[str, Any]]:
    value = draw(st.dictionaries(st.sampled_from(["a", "b b", "c", "triggers"]), values(), min_size=1))
    return [*Writer(draw).lines(value, (), 0), *draw(st.sampled_from([[], [Line("# the end", ())]]))], value


def routes(value: Any, route: Route = ()) -> list[Route]:
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [route, *(found for key, inner in pairs for found in routes(inner, (*route, key)))]


def at(value: Any, route: Route) -> Any:
    for step in route:
        value = value[step]
    return value


@st.composite
def edits(draw: Callable[[st.SearchStrategy[Any]], Any]) -> tuple[list[Line], dict[str, Any], set[Route]]:
    """A file, what it shall say, and the routes whose lines may change."""
    lines, value = draw(files())
    wanted = copy.deepcopy(value)
    route = draw(st.sampled_from(routes(value)))
    target = at(wanted, route)
    may_change = {route}
    if isinstance(target, dict) and target and draw(st.booleans()):
        target[draw(st.sampled_from(["new", "x y"]))] = draw(values())
        may_change = set()
    elif isinstance(target, list) and target and draw(st.booleans()):
        target.insert(draw(st.integers(0, len(target))), draw(values()))
        may_change = set()
    elif route:
        parent = at(wanted, route[:-1])
        if draw(st.booleans()) and (len(parent) > 1 or len(route) > 1):
            del parent[route[-1]]
            may_change = {route} if parent else {route[:-1]}
        else:
            parent[route[-1]] = draw(values())
    return lines, wanted, may_change


@PATIENT
@given(edits())
def test_one_edit_says_what_was_wanted_and_leaves_every_other_line(case: tuple[list[Line], dict[str, Any], set[Route]]) -> None:
    lines, wanted, may_change = case
    text = "\n".join(line.text for line in lines) + "\n"
    value = read(text.encode())

    edited = edit_or_none(text.encode(), wanted)
    if edited is None:
        return
    after = edited.decode()

    assert canonical(read(edited)) == canonical(wanted)
    left = iter(after.split("\n"))
    affected = may_change | set(touched(value, wanted))
    for line in lines:
        below = any(line.owner[: len(route)] == route for route in may_change)
        around = line.whole and any(route[: len(line.owner)] == line.owner for route in affected)
        assert below or around or any(same(line.text, other) for other in left), (text, after, line)


def same(line: str, other: str) -> bool:
    """The same line, or one that has come to stand behind its list's own dash, because what stood there has gone, or has left
    it, because something else stands there now."""
    item, left = line.lstrip(), other.lstrip()
    behind = item.startswith("-") and other.endswith(f" {item}")
    return line == other or behind or (left.startswith("-") and line.endswith(f" {left}"))


def touched(old: Any, new: Any, route: Route = ()) -> list[Route]:
    """The containers that something was added to or taken from."""
    if type(old) is not type(new) or not isinstance(old, (dict, list)):
        return []
    if (old.keys() != new.keys()) if isinstance(old, dict) else (len(old) != len(new)):
        return [route]
    pairs = old.items() if isinstance(old, dict) else enumerate(old)
    return [found for key, inner in pairs for found in touched(inner, new[key], (*route, key))]


@PATIENT
@given(files(), st.data())
def test_many_edits_at_once_say_what_was_wanted(file: tuple[list[Line], dict[str, Any]], data: st.DataObject) -> None:
    lines, value = file
    text = "\n".join(line.text for line in lines) + data.draw(st.sampled_from(["", "\n", "\n\n# end\n"]))
    wanted = copy.deepcopy(value)
    for _ in range(data.draw(st.integers(1, 4))):
        route = data.draw(st.sampled_from(routes(wanted)[1:] or [()]))
        if route and data.draw(st.booleans()):
            del at(wanted, route[:-1])[route[-1]]
        elif route:
            at(wanted, route[:-1])[route[-1]] = data.draw(values())
    kept = wanted.keys() & value.keys()
    wanted.update({} if kept else value)

    crlf = data.draw(st.booleans())
    raw = ("\ufeff" + text.replace("\n", "\r\n")).encode() if crlf else text.encode()
    after = edit_or_none(raw, wanted)
    if after is None:
        return

    assert canonical(read(after)) == canonical(wanted)
    assert b"\n" not in raw or after.count(b"\r\n") == (after.count(b"\n") if crlf else 0)


TASK = """\
# Who reads this: the security team.
name:   Weekly Report   # shown in the dashboard
agentRuntime: 'claude-code'

promptTemplate: |   # the prompt
  Look at {{REPO}}.

  Be brief.

# Limits
maxTurns: 20 # enough
environment: {env: {LOG: info}, setupCommands: [echo]}
triggers:
- type: manual
  # by hand
- type: schedule
  config:
      cronExpression: "0 9 * * 1"   # Mondays
      paramMapping: {REPO: optio}
# the end
"""


def _set(*route: str | int) -> Callable[[Any], Callable[[Any], object]]:
    def to(value: Any) -> Callable[[Any], object]:
        return lambda doc: at(doc, route[:-1]).__setitem__(route[-1], value)

    return to


@pytest.mark.parametrize(
    ("change", "gone", "new"),
    [
        (_set("maxTurns")(30), ["maxTurns: 20 # enough"], ["maxTurns: 30 # enough"]),
        (_set("name")("no"), ["name:   Weekly Report   # shown in the dashboard"], ["name:   'no'   # shown in the dashboard"]),
        (
            _set("promptTemplate")("One\nTwo\n"),
            ["  Look at {{REPO}}.", "", "  Be brief."],
            ["  One", "  Two"],
        ),
        (
            _set("promptTemplate")("One"),
            ["promptTemplate: |   # the prompt", "  Look at {{REPO}}.", "", "  Be brief."],
            ["promptTemplate: One   # the prompt"],
        ),
        (
            _set("triggers", 1, "config", "cronExpression")("0 8 * * 1"),
            ['      cronExpression: "0 9 * * 1"   # Mondays'],
            ["      cronExpression: '0 8 * * 1'   # Mondays"],
        ),
        (_set("triggers", 1, "config", "timezone")("Europe/Berlin"), [], ["      timezone: Europe/Berlin"]),
        (
            lambda doc: doc["triggers"].append({"type": "webhook", "config": {"path": "x", "unsigned": True}}),
            [],
            ["- type: webhook", "  config:", "    path: x", "    unsigned: true"],
        ),
        (lambda doc: doc["triggers"].pop(0), ["- type: manual"], []),
        (lambda doc: doc.pop("maxTurns"), ["maxTurns: 20 # enough"], []),
        (lambda doc: doc.update(budgetUsd="2.50"), [], ["budgetUsd: '2.50'"]),
        (
            _set("environment", "env", "LOG")("debug"),
            ["environment: {env: {LOG: info}, setupCommands: [echo]}"],
            ["environment: {env: {LOG: debug}, setupCommands: [echo]}"],
        ),
        (
            lambda doc: doc["environment"].pop("env"),
            ["environment: {env: {LOG: info}, setupCommands: [echo]}"],
            ["environment: {setupCommands: [echo]}"],
        ),
        (
            _set("maxTurns")({"odd": [1, {"b": 2}]}),
            ["maxTurns: 20 # enough"],
            ["maxTurns: # enough", "  odd:", "    - 1", "    - b: 2"],
        ),
    ],
)
def test_an_edit_of_a_real_task_changes_these_lines_only(
    change: Callable[[Any], object], gone: list[str], new: list[str]
) -> None:
    after = changed(TASK, change)

    before, now = TASK.split("\n"), after.split("\n")
    assert sorted([*now, *gone]) == sorted([*before, *new])
    left = iter(now)
    assert all(line in left for line in before if line not in gone)


def test_what_comes_behind_a_list_that_becomes_shorter_stands_on_a_line_of_its_own() -> None:
    text = "a:\n-\n  # first\n  - - 1\n    - 2\n  - 3\nb: {}\n"

    assert changed(text, lambda doc: doc.update(a=[[[1]], 4])) == "a:\n-\n  # first\n  - - 1\n- 4\nb: {}\n"
    assert changed(text, lambda doc: doc.update(a=[[[1], 3], 4])) == text.replace("    - 2\n", "").replace("b:", "- 4\nb:")
    both = changed(text, lambda doc: doc.update(a=[[[1, 2], 3], 4]))
    assert changed(both, lambda doc: doc.update(a=[[[1]], 4, 5])) == "a:\n-\n  # first\n  - - 1\n- 4\n- 5\nb: {}\n"


@pytest.mark.parametrize(
    ("text", "items", "after"),
    [
        ("b:\n  - q  # one\n  - r\n", ["p", "q", "r"], "b:\n  - p\n  - q  # one\n  - r\n"),
        ("a: 1\nb:\n- q\n", ["o", "p", "q"], "a: 1\nb:\n- o\n- p\n- q\n"),
        ("b:\n  - q\n  - r\n  - s\nc: 1\n", ["q", "s"], "b:\n  - q\n  - s\nc: 1\n"),
        ("b:\n- |+\n  q\n- r\nc: 1\n", ["r"], "b:\n- r\nc: 1\n"),
        ("b:\n- |+\n  q\n\n- r\n# c\n", ["r"], "b:\n- r\n# c\n"),
        ("b: [q, r,  s]\n", ["q", "r"], "b: [q, r]\n"),
        ("b: [q, r,  s]\n", ["r", "s"], "b: [r,  s]\n"),
        ("b: [q, r,  s]\n", ["q"], "b: [q]\n"),
        ("b: [r]\n", ["q", "r", "s"], "b: [q, r, s]\n"),
        ("b: [q, r]\n", ["q", "r", "s"], "b: [q, r, s]\n"),
        ("b: [q, r]\n", ["o", "p", "q", "r"], "b: [o, p, q, r]\n"),
        ("b:\n  - q\n  - r\n", [{"a": 1, "c": 2}, "r"], "b:\n  - a: 1\n    c: 2\n  - r\n"),
        ("b: ['#1', r]\n", ["r"], "b: [r]\n"),
        ("b: [q,\n    r]\n", ["r"], "b: [r]\n"),
    ],
)  # fmt: skip
def test_an_item_that_comes_or_goes_takes_its_own_lines_and_commas_only(text: str, items: list[Any], after: str) -> None:
    assert changed(text, lambda doc: doc.update(b=items)) == after


@pytest.mark.parametrize(
    ("text", "wanted", "after"),
    [
        ("b: {a: 1}\n", {"b": {"a": 1, "c": 2, "d": 3}}, "b: {a: 1, c: 2, d: 3}\n"),
        ("b: {a: 1, c: 2, d: 3}\n", {"b": {"a": 1}}, "b: {a: 1}\n"),
        ("b: {a: 1, c: 2, d: 3}\n", {"b": {"a": 1, "e": 2}}, "b: {a: 1, e: 2}\n"),
        ("b: {a: 1, c: 2, d: 3, e: 4}\n", {"b": {"d": 3}}, "b: {d: 3}\n"),
        ("a:\nb: 1\n", {"a": "x", "b": 1}, "a: x\nb: 1\n"),
        ("a:  # why\n  b: 1\nc: 2\n", {"a": 5, "c": 2}, "a: 5  # why\nc: 2\n"),
        ("a:\n  b: 1\nc: 2\n", {"a": {"d": 5}, "c": 2}, "a:\n  d: 5\nc: 2\n"),
        ("a:\n  'x'\nb: 1\n", {"a": 5, "b": 1}, "a:\n  5\nb: 1\n"),
        ("a: {b: 1}  # why\nc: 2\n", {"a": 5, "c": 2}, "a: 5  # why\nc: 2\n"),
        ("a: {}  # why\nc: 2\n", {"a": {"d": 5}, "c": 2}, "a:  # why\n  d: 5\nc: 2\n"),
        ("b: []  # none\nc: 1\n", {"b": ["q"], "c": 1}, "b:  # none\n  - q\nc: 1\n"),
        ("x:\n- a: 1\n  b: 2\n", {"x": [{"b": 2}]}, "x:\n- \n  b: 2\n"),
        ("b:\n- p\n- q\n\nc: 1\n", {"b": ["p", "q", "y\n\n"], "c": 1}, 'b:\n- p\n- q\n- "y\\n\\n"\n\nc: 1\n'),
        ("b: {a: , c: 1}\n", {"b": {"a": 2, "c": 1}}, "b: {a: 2 , c: 1}\n"),
        ("a:   {b: 1}\n", {"a": 5}, "a:   5\n"),
        ("a: |\n  x\n", {"a": "z"}, "a: z\n"),
        ("a: 1\n", {"a": 1, "b": 2}, "a: 1\nb: 2\n"),
        ("\na: 1\nb: 2\n", {"b": 2}, "\nb: 2\n"),
        ("a: x\nb: 1\n", {"a": "y\n\n", "b": 1}, "a: |+\n  y\n\nb: 1\n"),
        ("b:\n- - q\n  - r\n  - s\n", {"b": [["r", "s"]]}, "b:\n- - r\n  - s\n"),
        ("'<<': 1\nb: 2\n", {"b": 2}, "b: 2\n"),
        ("a: &x 1\nc: {d: *x, e: 2}\n", {"a": 1, "c": {"d": 1}}, "a: &x 1\nc: {d: *x}\n"),
        ("a: 1\r\nb:\r\n- c\r\n- d\r\n", {"a": 1, "b": ["d"]}, "a: 1\r\nb:\r\n- d\r\n"),
    ],
)
def test_a_value_of_another_shape_leaves_what_stands_around_it(text: str, wanted: dict[str, Any], after: str) -> None:
    assert rewrite_file("a.yaml", text.encode(), wanted).decode() == after


def test_a_newline_that_a_file_needs_at_its_end_is_like_its_others() -> None:
    edited = rewrite_file("a.yaml", b"a: 1\r\nb: 2", {"a": 1, "b": "x\n"})

    assert edited == b"a: 1\r\nb: |\r\n  x\r\n"


def test_a_text_with_blank_lines_at_its_end_does_not_take_those_below_for_its_own() -> None:
    text = "name: A\ndescription: x  # what for\n\nmodel: sonnet\n"

    after = changed(text, lambda doc: doc.update(description="y\n\n"))

    assert after == 'name: A\ndescription: "y\\n\\n"  # what for\n\nmodel: sonnet\n'


def test_a_key_is_added_to_a_task_without_any_list_before_the_closing_comment() -> None:
    text = "name: A\npromptTemplate: |+\n  x\n\n# end"

    after = changed(text, lambda doc: doc.update(triggers=[{"type": "manual"}]))

    assert after == "name: A\npromptTemplate: |+\n  x\n\ntriggers:\n  - type: manual\n# end"


@pytest.mark.parametrize(
    ("text", "change"),
    [
        ("a: &x {b: 1}\nc: *x\n", _set("a", "b")(2)),
        ("a: &x {b: 1}\nc: *x\n", _set("c", "b")(2)),
        ("a: &x 1\nc: *x\n", lambda doc: doc.pop("a")),
        ("a: &x {b: 1}\nc:\n  <<: *x\n  d: 1\n", lambda doc: doc["c"].pop("b")),
        ("a:\n- &x b\n- *x\n", lambda doc: doc["a"].append("c")),
        ("? a\n: 1\nb: 2\n", _set("a")(3)),
        ("a: 1\n", lambda doc: (doc.pop("a"), doc.update(b=2))),
        ("a: {b: 1, # why\n  c: 2}\n", lambda doc: doc["a"].pop("b")),
        ("a: [\n", None),
    ],
)
def test_what_cannot_be_edited_well_is_refused(text: str, change: Callable[[Any], object] | None) -> None:
    wanted = {"a": 1} if change is None else read(text.encode())
    if change is not None:
        change(wanted)

    with pytest.raises(CannotEdit) as refused:
        rewrite_file("a.yaml", text.encode(), wanted)

    assert refused.value.line >= 1


@pytest.mark.parametrize("items", ["\n- *x\n- c\n", " [*x, c]\n", "\n- c\n- *x\n- d\n", "\n- &y c\n- *y\n"])
def test_a_list_with_an_alias_is_refused_as_such(items: str) -> None:
    with pytest.raises(CannotEdit) as refused:
        changed(f"a: &x b\nc:{items}", lambda doc: doc["c"].append("e"))

    assert (str(refused.value), refused.value.line) == ("the list holds aliases", 2 if "[" in items else 3)


TIED = "anchors, aliases or an unusual layout tie these lines to others"


@pytest.mark.parametrize(
    ("text", "wanted", "why"),
    [
        ("a:\n  # why\n  b: 1\nc: 2\n", {"a": 5, "c": 2}, ("there is a comment before the value", 3)),
        ("b:\n- - q  # one\n  - r\n  - s\n", {"b": [["r", "s"]]}, ("there is a comment behind the item", 2)),
        ("a: {b: 1, # why\n  c: 2}\n", {"a": {"c": 2}}, ("there is a comment between braces", 1)),
        ("a: &x {b: 1}\nc: *x\n", {"a": {"b": 1}, "c": {"b": 2}}, ("`c` comes through an alias", 2)),
        ("? a\n: 1\nb: 2\n", {"a": 3, "b": 2}, ("`a` is written without a colon on its line", 1)),
        ("a:\n- b\n-", {"a": ["b"]}, ("the list is written in an unusual way", 2)),
        ("a: 1\n", {"b": 2}, ("the edit would replace the whole file", 1)),
        ("\na: &x {b: 1}\nc: {<<: *x, d: 1}\n", {"a": {"b": 1}, "c": {"d": 1}}, (TIED, 1)),
    ],
)
def test_an_edit_that_would_change_more_than_its_value_is_refused_by_the_line(
    text: str, wanted: dict[str, Any], why: tuple[str, int]
) -> None:
    with pytest.raises(CannotEdit) as refused:
        rewrite_file("a.yaml", text.encode(), wanted)

    assert (str(refused.value), refused.value.line) == why


def planned(text: str, change: Callable[[Any], object]) -> str:
    """The text after the edits that a fix would propose."""
    document, _ = parse(SourceFile("a.yaml", text.encode()))
    assert document is not None
    wanted = copy.deepcopy(document.value)
    change(wanted)
    return apply_edits(text.encode(), plan_edits(document, wanted)).decode()


@pytest.mark.parametrize(
    "change",
    [
        _set("maxTurns")(30),
        _set("environment", "env", "LOG")("debug"),
        lambda doc: doc["triggers"].append({"type": "webhook"}),
        lambda doc: doc["environment"].pop("env"),
    ],
)
def test_the_edits_of_a_fix_make_of_a_file_what_a_rewrite_makes(change: Callable[[Any], object]) -> None:
    assert planned(TASK, change) == changed(TASK, change)


@pytest.mark.parametrize(
    ("text", "change", "line", "why"),
    [
        ("a: 1\nb: 2  # two\n", lambda doc: doc.pop("b"), 2, "a comment would be lost"),
        ("a: 1\nb: &x {c: 1}\nd: *x\n", _set("b", "c")(2), 2, "anchors"),
    ],
)
def test_a_fix_that_would_harm_other_lines_is_refused_at_the_first(
    text: str, change: Callable[[Any], object], line: int, why: str
) -> None:
    with pytest.raises(CannotEdit, match=why) as refused:
        planned(text, change)

    assert refused.value.line == line


def test_a_value_that_came_by_a_merge_can_be_overridden_and_aliases_elsewhere_do_no_harm() -> None:
    text = "a: &x {b: 1}\nc:\n  <<: *x\n  d: 1\ne: 5\n"

    after = changed(text, lambda doc: (doc["c"].update(b=2), doc.update(e=6)))

    assert after == "a: &x {b: 1}\nc:\n  <<: *x\n  d: 1\n  b: 2\ne: 6\n"
    assert changed(text, lambda doc: doc["c"].pop("d")) == "a: &x {b: 1}\nc:\n  <<: *x\ne: 5\n"


@pytest.mark.parametrize("text", ["a: null", "a: null  # why", "\ufeffa: null  # why", "a: null\n"])
def test_lines_that_end_a_file_get_the_newline_that_it_lacks(text: str) -> None:
    for value in ("x\n", "x\n\n", "x\ny"):
        after = rewrite_file("a.yaml", text.encode(), {"a": value})

        document, found = parse(SourceFile("a.yaml", after))
        assert document is not None, found
        assert document.value == {"a": value}


def test_an_item_comes_before_the_first_of_a_list_that_begins_behind_another_dash() -> None:
    text = 'tests:\n  -  - "x"  # first\n     - y\n'

    assert changed(text, lambda value: value["tests"][0].insert(0, {"a": 1, "b": [2]})) == (
        'tests:\n  -  - a: 1\n       b:\n         - 2\n     - "x"  # first\n     - y\n'
    )
