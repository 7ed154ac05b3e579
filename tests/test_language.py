"""The words of the code, as far as a program can hold them. CONTRIBUTING.md has all the rules, under "The words"."""

import ast
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import NamedTuple

import pytest

from tests.support import ROOT

DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
HEADLESS = re.compile(r"(What|Who|Whether|Where|How|Of|As|So|See|Which|That|When|Why)\b")
# "There is no task `x`", "is no longer served" and "the agent is told to" are plain.
PRIVATE_WORDS = re.compile(r"(?i)(?<!there )\b(is|are) no (?!longer\b|more than\b)|\bnone of ours\b|(?<!agent )\bis told\b")
SUPERLATIVES = {"MOST", "LONGEST", "DEEPEST", "WIDEST", "LARGEST", "FEWEST", "SHORTEST"}
OF_TIME = {"TIMEOUT", "WAIT", "PAUSE", "INTERVAL", "PERIOD", "EVERY", "GRACE", "PATIENCE", "AGE"}
# A share of a time has no unit.
UNITS = ("_S", "_MS", "_US", "_NS", "_SHARE")


class Module(NamedTuple):
    """A parsed file of `optio/` with all its nodes, and its path for people."""

    place: str
    tree: ast.Module
    nodes: tuple[ast.AST, ...]

    @classmethod
    def of(cls, place: str, text: str) -> "Module":
        tree = ast.parse(text)
        return cls(place, tree, tuple(ast.walk(tree)))


@cache
def modules() -> tuple[Module, ...]:
    paths = sorted((ROOT / "optio").rglob("*.py"))
    return tuple(Module.of(str(path.relative_to(ROOT)), path.read_text()) for path in paths)


def public(node: ast.AST, place: str) -> Iterator[tuple[str, ast.AST]]:
    """The node and what it defines, down to methods, without names that begin with an underscore. A dunder is private, too."""
    yield place, node
    for child in getattr(node, "body", ()) if isinstance(node, (ast.Module, ast.ClassDef)) else ():
        if isinstance(child, DOCUMENTED) and not child.name.startswith("_"):
            yield from public(child, f"{place.partition(':')[0]}:{child.lineno}")


def headless_docstrings(read: Iterable[Module]) -> Iterator[str]:
    for module in read:
        for place, node in public(module.tree, f"{module.place}:1"):
            text = ast.get_docstring(node) if isinstance(node, DOCUMENTED) else None
            if text is not None and HEADLESS.match(text):
                yield f"{place}: begin with a verb or a noun: {text.splitlines()[0]}"


def messages_in_private_words(read: Iterable[Module]) -> Iterator[str]:
    for module in read:
        # Docstrings, those of attributes too: texts that are statements.
        apart = {id(node.value) for node in module.nodes if isinstance(node, ast.Expr)}
        for node in module.nodes:
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in apart:
                found = PRIVATE_WORDS.search(node.value)
                if found is not None:
                    yield f"{module.place}:{node.lineno}: `{found[0].strip()}` in {node.value!r}"


def class_names_that_stand_twice(read: Iterable[Module]) -> Iterator[str]:
    places = defaultdict(list)
    for module in read:
        for node in module.nodes:
            if isinstance(node, ast.ClassDef):
                places[node.name.lstrip("_")].append(f"{module.place}:{node.lineno}")
    yield from (f"{name}: {', '.join(where)}" for name, where in places.items() if len(where) > 1)


def constants(module: Module) -> Iterator[tuple[str, ast.expr, str]]:
    """Name, value and place of what a module assigns in capitals, also several at once."""
    for node in module.tree.body:
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value is not None:
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                pairs = [(target, node.value)]
                if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                    pairs = list(zip(target.elts, node.value.elts, strict=True))
                for name, value in pairs:
                    if isinstance(name, ast.Name) and name.id.isupper():
                        yield name.id, value, f"{module.place}:{node.lineno}"


def superlative_constants(read: Iterable[Module]) -> Iterator[str]:
    for module in read:
        for name, _, place in constants(module):
            if SUPERLATIVES & set(name.split("_")):
                yield f"{place}: {name}: call it MAX_ or MIN_"


def is_number(value: ast.expr) -> bool:
    if isinstance(value, ast.BinOp):
        return is_number(value.left) and is_number(value.right)
    return isinstance(value, ast.Constant) and isinstance(value.value, (int, float))


def times_without_a_unit(read: Iterable[Module]) -> Iterator[str]:
    for module in read:
        for name, value, place in constants(module):
            if OF_TIME & set(name.split("_")) and is_number(value) and not name.endswith(UNITS):
                yield f"{place}: {name}: end in {', '.join(UNITS[:4])}, or be a timedelta"


def test_a_public_docstring_begins_with_a_verb_or_a_noun() -> None:
    assert list(headless_docstrings(modules())) == []


def test_a_message_says_its_problem_in_plain_words() -> None:
    assert list(messages_in_private_words(modules())) == []


def test_a_class_name_stands_for_one_thing() -> None:
    assert list(class_names_that_stand_twice(modules())) == []


def test_a_bound_is_called_by_max_or_min() -> None:
    assert list(superlative_constants(modules())) == []


def test_a_number_that_is_a_time_says_its_unit() -> None:
    assert list(times_without_a_unit(modules())) == []


def glossary() -> list[str]:
    return re.findall(r"^- \*\*(.+?)\*\*:", (ROOT / "docs" / "design" / "glossary.md").read_text(), re.M)


def unused_words(words: Iterable[str], text: str) -> list[str]:
    """Words that stand nowhere, in no case and number, and also not as the name of a class or a function."""
    return [word for word in words if not re.search(r"(?i)\b" + re.sub(r"[ -]", r"[\\s_-]*", word), text)]


def test_the_glossary_has_only_words_that_are_used() -> None:
    files = [path for path in (ROOT / "optio").rglob("*") if path.suffix in (".py", ".sql", ".sh")]
    text = "\n".join(path.read_text() for path in [ROOT / "README.md", *files])

    assert len(glossary()) > 50
    assert unused_words(glossary(), text) == []


@pytest.mark.parametrize(
    ("check", "wrong", "right"),
    [
        (headless_docstrings, '"""Where things are."""', '"""Places of things."""'),
        (headless_docstrings, 'class A:\n    def b(self):\n        """See `C.b`."""', 'def _a():\n    """See `b`."""'),
        (messages_in_private_words, 'raise E(f"{x} is no duration")', '"""`x` is no duration."""'),
        (messages_in_private_words, 'say("none of ours")', 'say(f"there is no task `{x}`")'),
        (messages_in_private_words, 'say("the worker is told")', 'say("`x` is no longer served")'),
        (class_names_that_stand_twice, "class Claim: ...\nclass _Claim: ...", "class Claim: ...\nclass Claimed: ..."),
        (superlative_constants, "_MOST_ROWS = 3", "_MAX_ROWS = 3"),
        (times_without_a_unit, "_A, LEAVE_TIMEOUT = 1, 2 * 4.0", "LEAVE_TIMEOUT_S = 8.0\nMAX_AGE = timedelta(days=1)"),
    ],
)  # fmt: skip
def test_a_check_finds_what_it_is_for_and_nothing_else(
    check: Callable[[Iterable[Module]], Iterator[str]], wrong: str, right: str
) -> None:
    assert len(list(check([Module.of("optio/x.py", wrong)]))) == 1
    assert list(check([Module.of("optio/x.py", right)])) == []


def test_a_word_of_the_glossary_is_found_in_the_name_of_a_class_and_missed_where_it_is_not() -> None:
    assert unused_words(["warm pool", "fence"], "class WarmPoolDemand: ...") == ["fence"]
