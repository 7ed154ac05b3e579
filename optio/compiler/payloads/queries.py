"""Explain queries (JSONPath and filters) that do not parse, and suggest the query that was probably meant in another language,
such as `github.event.action == "opened" and ...`."""

import re
from functools import partial
from typing import TYPE_CHECKING

from optio.compiler.payloads import query_fast_path
from optio.model.mapping import PathSyntax, compile_when

if TYPE_CHECKING:  # the table is loaded for a filter that does not parse
    from optio.compiler.payloads.deliveries import SentField

_QUOTED = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"")
_KEPT = "\x00"
# Operators of other languages outside quotes, and their JSONPath form; the order matters.
_MEANT = (
    (r"(?i)\s+and\s+|\s*(?<!&)&(?!&)\s*", " && "),
    (r"(?i)\s+or\s+|\s*(?<!\|)\|(?!\|)\s*", " || "),
    # Behind `is`, other words are tests of a template, such as `is defined`.
    (r"(?i)\s+is\s+not\s+(?=true\b|false\b|null\b|none\b|nil\b|\x00|-?\d)", " != "),
    (r"(?i)\s+is\s+(?=true\b|false\b|null\b|none\b|nil\b|\x00|-?\d)", " == "),
    (r"(?i)\bnot\s+(@(?:\.\w+)+)(?=\s*(?:$|&&|\|\||\)))", r"\1 == false"),
    (r"(?i)\bnot\s+", "!"),
    (r"@{2,}", "@"),
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
# Quotes of word processors and of templates.
_TYPOGRAPHIC = str.maketrans(dict.fromkeys("\u2018\u2019\u201c\u201d`", "'"))
# Wrappers that other systems put around the payload or a path.
_AROUND = re.compile(
    r"(?<![\w.])(?:github\.event|\$json\.body|\$json|(?:steps\.)?trigger\.(?:event|outputs)\.body|trigger\.body|body|payload"
    r"|(?:request|req|event|inputs?|msg)\.(?:body|payload)|\d{1,3})\.(?=[A-Za-z_])"
)
# Context names of GitHub Actions, and the path of the same value in a delivery.
_CONTEXT = {
    "repository": "repository.full_name",
    "repository_owner": "repository.owner.login",
    "actor": "sender.login",
    "triggering_actor": "sender.login",
    "ref": "ref",
    "head_ref": "pull_request.head.ref",
    "base_ref": "pull_request.base.ref",
}
_OF_CONTEXT = re.compile(rf"(?<![\w.])github\.({'|'.join(_CONTEXT)})\b(?!\.)")
_BRACES = re.compile(r"=?\$?\{\{\s{0,9}(.*?)\s{0,9}\}\}", re.DOTALL)
# A test on a text, written as a function, a method or an infix word, with the path before the text.
_PATH, _TEXT = r"(?P<path>[@$\w.*\[\]]{1,200})", r"(?P<text>'[^'\\^]{1,200}'|\"[^\"\\^]{1,200}\")"
_ON_TEXT = (
    re.compile(rf"\b(?P<name>[a-z_]{{1,20}})\(\s*{_PATH}\s*,\s*{_TEXT}\s*\)", re.IGNORECASE),
    re.compile(rf"{_PATH}\.(?P<name>[a-z_]{{1,20}})\(\s*{_TEXT}\s*\)", re.IGNORECASE),
    re.compile(rf"{_PATH}\s+(?P<name>contains|startswith|endswith)\s+{_TEXT}", re.IGNORECASE),
)
_OF_TEXTS = re.compile(
    rf"{_PATH}\s+(?P<no>not\s+)?in\s+[\[(]\s*(?P<texts>'[^'\\\\]{{1,100}}'(?:\s*,\s*'[^'\\\\]{{1,100}}'){{0,20}})\s*[\])]",
    re.IGNORECASE,
)
_PATTERNS = {
    **dict.fromkeys(("contains", "includes"), "{}"),
    **dict.fromkeys(("startswith", "starts_with"), "^{}"),
    **dict.fromkeys(("endswith", "ends_with"), "{}$"),
}
# A path alone: elsewhere it tests for true, and here only for presence.
_FLAG = re.compile(
    r"(^|&&|\|\||\(|\band\b|\bor\b)(\s*)(!?|not\s)\s*((?:github\.event|\$json\.body|\$json|body|payload|event|@)(?:\.\w+)+)"
    r"(?=\s*(?:$|&&|\|\||\)|\band\b|\bor\b))"
)
# Subscripts of a program on the variable that holds the payload: `payload['data']['id']`.
_SUBSCRIPTS = re.compile(r"(?:(?:request|req|event|msg)\.)?(?:body|payload|json)(\[.*)")
# A JSON Pointer.
_POINTER = re.compile(r"\$?/[A-Za-z_]\w*(?:/[A-Za-z_]\w*)*", re.ASCII)
# A name in brackets without quotes.
_IN_BRACKETS = re.compile(r"\[([A-Za-z_]\w*)\]", re.ASCII)
_MAX_LENGTH = 500


def explain_query_error(text: str, err: PathSyntax) -> str:
    """Return what is wrong with the query, as the end of a message; `err` is the parser's exception."""
    parser_text, rest = str(err), text[err.index :]
    if "unclosed string" in parser_text:
        return "a quote is not closed"
    if parser_text.startswith("unbalanced"):
        return "a bracket is not closed"
    if parser_text.startswith("empty bracketed"):
        return "the brackets are empty"
    if parser_text.startswith("bald"):
        return "a name is missing behind `..`"
    if parser_text.startswith("filter expression literals"):
        return "a value alone is not a condition"
    if parser_text.startswith(("unexpected", "expected '")):
        word = re.match(r"\w+|\S", rest.strip())
        return f"`{word[0]}` cannot stand here" if word else "it ends unexpectedly"
    return parser_text.replace("`", "'").rstrip(".").lower() or "cannot be read"


def suggest_query_path(source: str) -> str | None:
    """Return the JSONPath for a path without its root, in template or program syntax, or with names that need brackets."""
    if len(source) > _MAX_LENGTH:
        return None
    source = source.removeprefix("=")  # an expression of n8n
    if _POINTER.fullmatch(source):
        return "$." + source.strip("$/").replace("/", ".")
    braces = _BRACES.fullmatch(source)
    expression = _OF_CONTEXT.sub(lambda match: _CONTEXT[match[1]], (braces[1] if braces else source).strip())
    if (subscripts := _SUBSCRIPTS.fullmatch(expression)) is not None:
        return "$" + subscripts[1] if query_fast_path.is_path("$" + subscripts[1]) else None
    bare = expression if expression.startswith("$json.") else expression.lstrip("$@.#")
    rooted = "$." + _AROUND.sub("", bare, count=1)
    unquoted = None if ".." in source else "$" + _IN_BRACKETS.sub(r".\1", rooted[1:]).replace("..", ".")
    tries = [rooted, unquoted]
    if source[:1] == "$" or re.fullmatch(r"[A-Za-z_]\w*(?:\.\d+|\.[A-Za-z_][\w-]*)*\.[A-Za-z_][\w-]*", source):
        tries.append(_as_steps(rooted))
    sound = (path for path in tries if path is not None and path != source and query_fast_path.is_path(path))
    return next((path for path in sound if not path.startswith(("$.github.", "$.json["))), None)


def _as_steps(path: str) -> str | None:
    """Put numbers and odd names into brackets; drop a trailing dot, `?.` and method calls."""
    plainer = re.sub(r"(?:\.[a-z]\w*\([^()]*\))+$", "", path.replace("?.", ".")).rstrip(". ")
    if re.search(r"[\[\](){}'\"\\|*@?:;,<>=!&]|\.\.|\s[-+/%]\s", plainer[2:]):
        return None
    steps = [step.strip() for step in plainer[2:].split(".")]
    if not all(re.fullmatch(r"\w+(?:[ -]\w+)*", step) for step in steps):
        return None
    return "$" + "".join(
        f"[{step}]" if step.isdigit() else f".{step}" if re.fullmatch(r"[A-Za-z_]\w*", step, re.ASCII) else f"['{step}']"
        for step in steps
    )


def suggest_event(text: str) -> str | None:
    """Return the event that a filter asks for, if it can only be asked for under `events`."""
    match = re.search(r"event_name\s{0,9}={1,3}\s{0,9}['\"](\w{1,60})['\"]", text)
    return match[1] if match else None


def suggest_filter(text: str, scheme: str) -> str | None:
    """Return the filter in Optio's syntax, if the result parses."""
    if len(text) > _MAX_LENGTH or _KEPT in text or "event_name" in text:
        return None
    query = _OF_CONTEXT.sub(lambda match: "@." + _CONTEXT[match[1]], _BRACES.sub(r"\1", text.translate(_TYPOGRAPHIC)))
    query = re.sub(r"(^|&&|\|\||[(!])(\s*)\.(?=[A-Za-z_]\w*)", r"\1\2@.", query)
    query = re.sub(r"(?<![\w.@$])event\.(?=[A-Za-z_])", "@.", query) if scheme == "github" else query
    query = _FLAG.sub(_flagged, query) if scheme == "github" else query
    for form in _ON_TEXT:
        query = form.sub(partial(_matched, scheme=scheme), query)
    query = _OF_TEXTS.sub(_one_of, query)
    literals = _QUOTED.findall(query)
    bare = _AROUND.sub("", _QUOTED.sub(_KEPT, query))
    for wrong, right in _MEANT:
        bare = re.sub(wrong, right, bare)
    query = re.sub(_KEPT, lambda _: literals.pop(0), bare).strip()
    try:
        compile_when(query)
    except PathSyntax:
        return None
    return None if query == text else query


def _flagged(match: re.Match[str]) -> str:
    """Return the comparison that a lone path means, by the type of GitHub's field."""
    before, blank, no, path = match.groups()
    field = _field_of(_rooted(path))
    place = f"{before}{blank}{'!' if no else ''}{_rooted(path)}"
    if field is not None and field.kind == "boolean":
        return f"{before}{blank}{_rooted(path)} == {'false' if no else 'true'}"
    if field is not None and field.null:
        return f"{before}{blank}{_rooted(path)} {'==' if no else '!='} null"
    # Only issues that are pull requests have the field `pull_request`.
    return place if field is not None and field.kind == "object" else match[0]


def _field_of(path: str) -> "SentField | None":
    """Return the field at a path of GitHub's deliveries."""
    from optio.compiler.payloads.deliveries import field_of

    return field_of("github", tuple(path[2:].split(".")))


def _item_of(path: str) -> str | None:
    """Return the field by which the items of a list of GitHub are named, or None for a path to anything else."""
    from optio.compiler.payloads.deliveries import table_of

    field, table = _field_of(path), table_of("github")
    fields = table.fields_of(field.item[1:]) if field is not None and table is not None and field.item[:1] == "@" else {}
    return next((name for name in ("login", "name", "number", "id") if name in fields), None)


def _rooted(path: str) -> str:
    return path if path[0] in "@$" else "@." + _AROUND.sub("", path, count=1)


def _one_of(match: re.Match[str]) -> str:
    sign, joined = ("!=", " && ") if match.groupdict().get("no") else ("==", " || ")
    tests = [f"{_rooted(match['path'])} {sign} {text}" for text in _QUOTED.findall(match["texts"])]
    return tests[0] if len(tests) == 1 else f"({joined.join(tests)})"


def _matched(match: re.Match[str], scheme: str) -> str:
    """Return the test of a text by a pattern, or of a list by a filter of its items."""
    name, quoted = match["name"].lower(), match["text"]
    if name not in _PATTERNS:
        return match[0]
    rooted = _rooted(match["path"])
    if scheme == "github" and _PATTERNS[name] == "{}" and (item := _item_of(rooted)) is not None:
        return f"{rooted}[?@.{item} == {quoted}]"
    if "*" in rooted:
        items, _, field = rooted.partition("[*]" if "[*]" in rooted else ".*")
        return f"{items}[?@{field} == {quoted}]" if _PATTERNS[name] == "{}" else match[0]
    literal = re.sub(r"[.+*?()\[\]{}|$]", lambda sign: f"[{sign[0]}]", quoted[1:-1])
    return f"search({rooted}, {quoted[0]}{_PATTERNS[name].format(literal)}{quoted[0]})"
