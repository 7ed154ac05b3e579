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
    stem = posixpath.splitext(posixpath.basename(path))[0]
    for candidate in (*_tries(name), *(posixpath.join(directory, stem + suffix) for directory in _DIRECTORIES)):
        if candidate == name or (suffix and posixpath.splitext(candidate)[1] and _kind(candidate) != kind):
            continue
        candidate_path = posixpath.normpath(posixpath.join(posixpath.dirname(path), candidate))
        if candidate_path != path and _is_there(tree, candidate_path):
            return candidate
    return None


def suggest_template(finding: Diagnostic, name: str, paths: Iterable[str]) -> Diagnostic:
    """Return the finding about the missing template `name` with a hint that names the most similar YAML file of the tree."""
    # `relpath` asks for the working directory, which may be gone, unless both paths begin at the root.
    directory = posixpath.join("/", posixpath.dirname(finding.path))
    relative_paths = [posixpath.relpath(posixpath.join("/", path), directory) for path in paths if path != finding.path]
    same_stem = [path for path in relative_paths if _stem(path) == _stem(name)]
    near = same_stem[0] if len(same_stem) == 1 else suggest(name, relative_paths)
    return finding if near is None else replace(finding, hint=f"did you mean `{near}`?")


def suggest_connection(finding: Diagnostic, name: str, paths: Iterable[str]) -> Diagnostic:
    """Return the finding about the missing connection in the file `name` with a hint that names the connections of the tree."""
    directory = posixpath.dirname(name)
    known = [_stem(path) for path in sorted(paths) if posixpath.dirname(path) == directory]
    near = suggest(_stem(name), known)
    if near is not None:
        return replace(finding, hint=f"did you mean `{near}`?")
    return replace(finding, hint=f"{finding.hint}; there are {', '.join(known)}") if known else finding


def _stem(path: str) -> str:
    """Return a file's name without its suffix, in the form in which names of tasks become ids."""
    return slug(posixpath.splitext(posixpath.basename(path))[0])


def _kind(name: str) -> str:
    return _KINDS.get(posixpath.splitext(name)[1], "prompt")


def _tries(name: str) -> Iterator[str]:
    bare, suffix = posixpath.splitext(name)
    other_suffixes = [part for part in _SUFFIXES if part != suffix]
    yield from (bare + part for part in other_suffixes)
    if suffix:
        yield from (name + part for part in other_suffixes if part)
    yield from (posixpath.join(part, posixpath.basename(name)) for part in _DIRECTORIES)
    stem = posixpath.basename(bare).partition(".")[0]
    if stem:  # the suffix, too: `templates/report.md.j2` for `prompts/report.md`
        yield from (posixpath.join(directory, stem + part) for part in _SUFFIXES for directory in _DIRECTORIES)


def _is_there(tree: SourceTree, path: str) -> bool:
    if path.startswith(("..", "/", "~")):
        return False
    try:
        tree.read(path)
    except Unreadable:
        return False
    return True
