"""Queries that cannot be read: what is wrong in our words, and the filter that somebody meant who wrote another language's."""

import re

from optio.compiler.checks import plain
from optio.model.mapping import PathSyntax, compile_when

_QUOTED = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"")
_KEPT = "\x00"
# Signs and words of other languages, outside quotes, and what stands for them here; the order counts.
_MEANT = (
    (r"(?i)\s+and\s+|\s*(?<!&)&(?!&)\s*", " && "),
    (r"(?i)\s+or\s+|\s*(?<!\|)\|(?!\|)\s*", " || "),
    (r"(?i)\bnot\s+", "!"),
    (r"<>|!==", "!="),
    (r"=>", ">="),
    (r"=<", "<="),
    (r"(?<![=!<>])={1,3}(?!=)", "=="),
    (r"\bTrue\b", "true"),
    (r"\bFalse\b", "false"),
    (r"\b(?:None|nil|NULL)\b", "null"),
    # A name without its `@.` before a comparison, and a word without its quotes behind one.
    (r"(^|&&|\|\||[(!])(\s*)([A-Za-z_][\w.]*)(?=\s*(?:[=!<>]=|[<>]))", r"\1\2@.\3"),
    (r"([=!]=)\s*(?!(?:true|false|null)\b)([A-Za-z_][\w/-]*)(?=\s*(?:$|&&|\|\||\)))", r"\1 '\2'"),
)
# What others have around the payload, or around a path into it.
_AROUND = re.compile(
    r"(?<![\w.])(?:github\.event|\$json\.body|\$json|trigger\.body|body|payload|request\.body|req\.body|event\.body)\.(?=[A-Za-z_])"
)
_BRACES = re.compile(r"\$?\{\{\s{0,9}(.*?)\s{0,9}\}\}", re.DOTALL)
_DASHED = re.compile(r"\.([A-Za-z_]\w*-[\w-]*)")
_LONGEST = 500


def fault(text: str, err: PathSyntax) -> str:
    """What is wrong there."""
    said, rest = str(err), text[err.index :]
    if "unclosed string" in said:
        return "a quote is not closed"
    if said.startswith("unbalanced"):
        return "a bracket is not closed"
    if said.startswith("empty bracketed"):
        return "nothing stands between the brackets"
    if said.startswith("bald"):
        return "a name is missing behind `..`"
    if said.startswith("filter expression literals"):
        return "a value alone is no condition"
    if said.startswith(("unexpected", "expected '")):
        word = re.match(r"\w+|\S", rest.strip())
        return f"`{word[0]}` cannot stand here" if word else "it ends too early"
    return said.replace("`", "'").rstrip(".").lower() or "cannot be read"


def path_meant(source: str) -> str | None:
    """The path of names and indices that somebody means who writes it without its root, or as a template has it."""
    braces = _BRACES.fullmatch(source) if len(source) <= _LONGEST else None
    whole = braces[1] if braces else source
    bare = whole if whole.startswith("$json.") else whole.lstrip("$@.")
    rooted = "$." + _AROUND.sub("", bare, count=1)
    return rooted if plain.is_path(rooted) else None


def event_meant(text: str) -> str | None:
    """The event that a filter asks for, where it can only be asked for beside it."""
    found = re.search(r"event_name\s{0,9}={1,3}\s{0,9}['\"](\w{1,60})['\"]", text)
    return found[1] if found else None


def filter_meant(text: str, scheme: str) -> str | None:
    """The filter in our signs, when that is one. No name that GitHub sends has a dash."""
    if len(text) > _LONGEST or _KEPT in text or "event_name" in text:
        return None
    meant = _BRACES.sub(r"\1", text)
    quoted = _QUOTED.findall(meant)
    bare = _AROUND.sub("", _QUOTED.sub(_KEPT, meant))
    for wrong, right in _MEANT:
        bare = re.sub(wrong, right, bare)
    bare = _DASHED.sub(lambda name: name[0].replace("-", "_") if scheme == "github" else f"['{name[1]}']", bare)
    meant = re.sub(_KEPT, lambda _: quoted.pop(0), bare).strip()
    try:
        compile_when(meant)
    except PathSyntax:
        return None
    return None if meant == text else meant
