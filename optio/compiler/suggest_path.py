"""Suggest the file that was probably meant by a path that leads to none. Imported only for a file with such a path."""

import posixpath
from collections.abc import Iterable, Iterator
from dataclasses import replace

from optio.compiler.diagnostics import Diagnostic
from optio.compiler.source_tree import SourceTree, Unreadable
from optio.compiler.suggest import suggest
from optio.model.text import slug

_DIRECTORIES = (
    *("", "payloads", "samples", "fixtures", "tests", "prompts", "templates"),
    *("../payloads", "../templates", "../prompts", ".."),
)
_SUFFIXES = ("", ".json", ".yaml", ".yml", ".md", ".txt")
# A payload is no template, and neither is a prompt.
_KINDS = {".json": "payload", ".yaml": "template", ".yml": "template"}


def suggest_file(tree: SourceTree, path: str, name: str) -> str | None:
    """Return the path as the file at `path` would write it: the same name in another usual directory, or with another
    suffix of its kind, else the name of the file at `path`, which itself is never meant."""
    kind, suffix = _kind(name), posixpath.splitext(name)[1]
    own = posixpath.splitext(posixpath.basename(path))[0]
    for each in (*_tries(name), *(posixpath.join(directory, own + suffix) for directory in _DIRECTORIES)):
        if each == name or (suffix and posixpath.splitext(each)[1] and _kind(each) != kind):
            continue
        there = posixpath.normpath(posixpath.join(posixpath.dirname(path), each))
        if there != path and _is_there(tree, there):
            return each
    return None


def suggest_template(finding: Diagnostic, name: str, paths: Iterable[str]) -> Diagnostic:
    """Return the finding about the missing template `name` with a hint that names the most similar YAML file of the tree."""
    # `relpath` asks for the working directory, which may be gone, unless both paths begin at the root.
    beside = posixpath.join("/", posixpath.dirname(finding.path))
    known = [posixpath.relpath(posixpath.join("/", each), beside) for each in paths if each != finding.path]
    same = [each for each in known if _stem(each) == _stem(name)]
    near = same[0] if len(same) == 1 else suggest(name, known)
    return finding if near is None else replace(finding, hint=f"did you mean `{near}`?")


def _stem(path: str) -> str:
    """Return a file's name without its suffix, in the form in which names of tasks become ids."""
    return slug(posixpath.splitext(posixpath.basename(path))[0])


def _kind(name: str) -> str:
    return _KINDS.get(posixpath.splitext(name)[1], "prompt")


def _tries(name: str) -> Iterator[str]:
    bare, suffix = posixpath.splitext(name)
    others = [each for each in _SUFFIXES if each != suffix]
    yield from (bare + each for each in others)
    if suffix:
        yield from (name + each for each in others if each)
    yield from (posixpath.join(each, posixpath.basename(name)) for each in _DIRECTORIES)
    stem = posixpath.basename(bare).partition(".")[0]
    if stem:  # the suffix, too: `templates/report.md.j2` for `prompts/report.md`
        yield from (posixpath.join(directory, stem + each) for each in _SUFFIXES for directory in _DIRECTORIES)


def _is_there(tree: SourceTree, path: str) -> bool:
    if path.startswith(("..", "/", "~")):
        return False
    try:
        tree.read(path)
    except Unreadable:
        return False
    return True
