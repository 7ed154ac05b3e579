"""Convert conditions of other systems to a filter of deliveries: lists of rules, event patterns, and triples of field, operator
and value. Imported only for a file with such a key."""

import re
from collections.abc import Sequence
from typing import Any

from optio.compiler.payloads.queries import suggest_filter
from optio.compiler.yaml.emit import flow

_CLAUSES = ("if", "condition", "when", "expression", "filter", "expr", "rule", "cel", "script")
_FIELDS = (
    "path",
    "field",
    "fact",
    "lhs",
    "key",
    "attribute",
    "variable",
    "property",
    "name",
    "left",
    "lhs",
    "jsonpath",
    "value1",
)
_OPERATORS = ("operator", "comparator", "op", "operation", "comparison", "condition", "type")
_VALUES = ("value", "values", "equals", "eq", "right", "rhs", "in", "oneof", "value2")
_SIGNS = {
    **dict.fromkeys(("!=", "ne", "neq", "notequal", "notequals", "isnot", "notin", "not"), "!="),
    **{word: sign for sign, words in {">": "> gt greaterthan", ">=": ">= gte", "<": "< lt lessthan", "<=": "<= lte"}.items()
       for word in words.split()},
}  # fmt: skip
# Operators on a text, with the pattern that a path is searched for, and whether the test is denied.
_SEARCHED = {
    **dict.fromkeys(("contains", "includes", "textcontains", "stringcontains", "like"), ("{}", "")),
    **dict.fromkeys(("notcontains", "doesnotcontain", "textdoesnotcontain", "excludes"), ("{}", "!")),
    **dict.fromkeys(("startswith", "beginswith", "textstartswith", "prefix"), ("^{}", "")),
    **dict.fromkeys(("endswith", "textendswith", "suffix"), ("{}$", "")),
}
_PRESENT = {
    **dict.fromkeys(("exists", "isset", "isnotempty", "notempty", "isnotnull", "present"), ""),
    **dict.fromkeys(("doesnotexist", "notexists", "isempty", "empty", "isnull", "absent"), "!"),
}
_LITERALS = {"true": True, "false": False}
# A comparison of Azure Pipelines, and several that are joined.
_CALL = r"(eq|ne|gt|ge|lt|le)\(\s*([\w.-]+)\s*,\s*('[^'\\]*'|-?\d+(?:\.\d+)?|true|false)\s*\)"
_CALLS = rf"(and|or)\(\s*({_CALL}(?:\s*,\s*{_CALL})*)\s*\)"
_OF_CALLS = {"eq": "==", "ne": "!=", "gt": ">", "ge": ">=", "lt": "<", "le": "<="}
_MAX_DEPTH, _MAX_TESTS = 6, 12
_ALL, _ANY = " && ", " || "


def condition(value: Any) -> str | None:
    """Return a filter in quotes for the conditions, or None where one of them is not understood."""
    made = _rules(value) if isinstance(value, list) else _of_mapping(value) if isinstance(value, dict) else _text(value)
    return None if made is None else flow(made)


def branches(names: list[str], path: str, prefix: str = "") -> str | None:
    """Return the test that a path is one of these names, in which `*` stands for any characters."""
    tests = []
    for name in names:
        if not re.fullmatch(r"[\w./*+-]{1,100}", name):
            return None
        pattern = re.sub(r"\*+", ".*", re.sub(r"[.+]", lambda sign: f"[{sign[0]}]", name))
        tests.append(f"match({path}, '{prefix}{pattern}')" if "*" in name else f"{path} == '{prefix}{name}'")
    return _joined(tests, _ANY)


# Where an event has its branch and its labels.
_BRANCHES = {
    "pull_request": "@.pull_request.base.ref", "pull_request_review": "@.pull_request.base.ref",
    "pull_request_target": "@.pull_request.base.ref", "workflow_run": "@.workflow_run.head_branch",
    "check_suite": "@.check_suite.head_branch", "Merge Request Hook": "@.object_attributes.target_branch",
    "Pipeline Hook": "@.object_attributes.ref",
}  # fmt: skip
_LABELS = {"pull_request": "@.pull_request.labels", "issues": "@.issue.labels", "issue_comment": "@.issue.labels"}
_NAME = r"[\w./*@+\[\] -]{1,100}"


def of_webhook(word: str, value: Any, config: Any) -> str | None:
    """Return the filter for a folded key of another system's trigger, such as `branches`, by the events that are taken."""
    listed = [str(each) for each in (value if isinstance(value, list) else [value]) if isinstance(each, (str, int))]
    events = config.get("events") if isinstance(config, dict) else None
    event = str(events[0]) if isinstance(events, list) and len(events) == 1 else "push" if not events else ""
    if not listed or not all(re.fullmatch(_NAME, each) for each in listed) or len(listed) > _MAX_TESTS:
        return None
    if word in ("branches", "branch", "branchesignore", "ignorebranches", "excludebranches", "targetbranch", "branchfilter"):
        path, prefix = _BRANCHES.get(event, "@.ref"), "" if event in _BRANCHES else "refs/heads/"
        asked = branches([each.removeprefix("refs/heads/") for each in listed], path, prefix)
        return _denied(asked) if "ignore" in word or "exclude" in word else asked
    if word in ("only", "except") and event in ("push", "Push Hook"):
        asked = branches(listed, "@.ref", "refs/heads/")
        return asked if word == "only" else _denied(asked)
    if word == "tags" and event in ("push", "Push Hook", "Tag Push Hook"):
        return branches(listed, "@.ref", "refs/tags/")
    if word in ("labels", "label", "excludelabels", "ignorelabels", "labelsignore") and event in _LABELS:
        tests = [f"{_LABELS[event]}[?@.name == '{each}']" for each in listed]
        return _denied(_joined(tests, _ANY)) if word not in ("labels", "label") else _joined(tests, _ANY)
    if word in ("repository", "repo", "repositories", "repos") and all("/" in each for each in listed):
        return branches(listed, "@.repository.full_name")
    if word in ("user", "users", "actor", "actors", "author", "authors", "sender", "senders", "allowedusers", "usernames"):
        return _joined([f"@.sender.login == '{each}'" for each in listed], _ANY)
    if word in ("ignoreusers", "excludeusers", "ignoreauthors", "excludeauthors"):
        return _joined([f"@.sender.login != '{each}'" for each in listed], _ALL)
    if word in ("paths", "path_filter", "includepaths") and event == "push":
        return _joined([f"@.commits[*]['added','modified','removed'][?search(@, '{_glob(each)}')]" for each in listed], _ANY)
    if word in ("workflows", "workflow") and event == "workflow_run":
        return branches(listed, "@.workflow_run.name")
    if word in ("ignorebots", "skipbots") and value is True:
        return "@.sender.type != 'Bot'"
    return None


def _denied(test: str | None) -> str | None:
    return None if test is None else f"!({test})"


def _glob(text: str) -> str:
    """A path with stars as a pattern of a part of it."""
    bare = re.sub(r"\*\*/?$", "", text)
    pattern = re.sub(r"\*+/?", ".*", re.sub(r"[.+\[\]]", lambda sign: f"[{sign[0]}]", bare))
    return f"{'' if text.startswith('*') else '^'}{pattern.removeprefix('.*')}{'' if bare != text else '$'}"


def _rules(value: list[Any]) -> str | None:
    """Join rules by "or"; the field, operator and value of each rule are joined by "and"."""
    if not value or len(value) > _MAX_TESTS:
        return None
    triples = all(isinstance(each, dict) and _triple(each) is not None for each in value)
    made = [_of_mapping(each) if isinstance(each, dict) else _text(each) for each in value]
    return _joined(made, _ALL if triples else _ANY)


def _of_mapping(value: dict[Any, Any]) -> str | None:
    if (found := _triple(value)) is not None:
        return found
    folded = {str(key).lower(): inner for key, inner in value.items()}
    if (clause := next((folded[name] for name in _CLAUSES if isinstance(folded.get(name), str)), None)) is not None:
        return _text(clause)
    if len(value) == 1 and (inner := next((folded[name] for name in _CLAUSES if isinstance(folded.get(name), dict)), None)):
        return _of_mapping(inner)
    for names, sign in ((("all", "and", "allof", "filters", "conditions", "data"), _ALL), (("any", "or", "anyof"), _ANY)):
        inner = next((folded[name] for name in names if isinstance(folded.get(name), list)), None)
        if inner is not None:
            return _joined([_of_mapping(each) if isinstance(each, dict) else _text(each) for each in inner], sign)
    branch = folded.get("branch", folded.get("branches"))
    if branch is not None and len(value) == 1:
        return branches([str(each) for each in (branch if isinstance(branch, list) else [branch])], "@.ref", "refs/heads/")
    return None if {"event", "events", "branch", "branches", "status"} & set(folded) else _pattern(value, "@", 0)


def _text(value: Any) -> str | None:
    if not isinstance(value, str) or not value.strip():
        return None
    from optio.model.mapping import PathSyntax, compile_when

    bare = value.strip()
    if (called := _of_calls(bare)) is not None:
        return called
    try:
        compile_when(bare)
    except PathSyntax:
        return suggest_filter(bare, "github")
    return bare if "@" in bare else suggest_filter(bare, "github")


def _of_calls(text: str) -> str | None:
    """Return the test for `eq(body.status, 'failed')`, alone or within one `and(...)` or `or(...)`."""
    joined = re.fullmatch(_CALLS, text)
    if joined is None and re.fullmatch(_CALL, text) is None:
        return None
    tests = [
        f"{_step('@', re.sub('^(?:body|payload|data|event)[.]', '', path).split('.'))} {_OF_CALLS[word]} {told}"
        for word, path, told in re.findall(_CALL, text)
    ]
    return _joined(tests, _ANY if joined is not None and joined[1] == "or" else _ALL)


def _triple(value: dict[Any, Any]) -> str | None:
    """Return the test for `{field: action, operator: equals, value: opened}`, or None."""
    folded = {str(key).lower(): inner for key, inner in value.items()}
    field = next((folded[name] for name in _FIELDS if isinstance(folded.get(name), str)), None)
    told = next((folded[name] for name in _VALUES if name in folded), None)
    word = re.sub(r"[_\s-]", "", str(next((folded[name] for name in _OPERATORS if name in folded), ""))).lower()
    if field is None or (told is None and word not in _PRESENT) or isinstance(told, dict):
        return None
    steps = re.sub(r"^(?:\$\.|@\.|\.)?(?:(?:body|payload|data|event)\.)?", "", field.strip("{}= "))
    if not re.fullmatch(r"[\w-]+(?:\.[\w-]+)*", steps):
        return None
    if word in _PRESENT:
        return f"{_PRESENT[word]}{_step('@', steps.split('.'))}"
    if word in _SEARCHED:
        return _searched(_step("@", steps.split(".")), told, *_SEARCHED[word])
    sign = _SIGNS.get(word, "==")
    if str(folded.get("type")).lower() in ("bool", "boolean", "number"):
        told = [_LITERALS.get(str(each).lower(), each) for each in (told if isinstance(told, list) else [told])]
    tests = [_test(_step("@", steps.split(".")), sign, each) for each in (told if isinstance(told, list) else [told])]
    return _joined(tests, _ALL if sign == "!=" else _ANY)


def _searched(path: str, told: Any, pattern: str, sign: str) -> str | None:
    listed = told if isinstance(told, list) else [told]
    if not all(isinstance(each, str) and re.fullmatch(r"[^'\"\\^]{1,200}", each) for each in listed):
        return None
    literals = [re.sub(r"[.+*?()\[\]{}|$]", lambda found: f"[{found[0]}]", each) for each in listed]
    return _joined([f"{sign}search({path}, '{pattern.format(each)}')" for each in literals], _ALL if sign else _ANY)


def _step(path: str, steps: list[str]) -> str:
    return path + "".join(f".{each}" if re.fullmatch(r"[A-Za-z_]\w*", each, re.ASCII) else f"['{each}']" for each in steps)


def _test(path: str, sign: str, value: Any) -> str | None:
    if value is None or isinstance(value, bool):
        return f"{path} {sign} {({None: 'null', True: 'true', False: 'false'})[value]}"
    if isinstance(value, (int, float)):
        return f"{path} {sign} {value}"
    if not isinstance(value, str) or "'" in value or "\\" in value:
        return None
    return f"{path} {sign} '{value}'"


def _pattern(value: dict[Any, Any], path: str, depth: int) -> str | None:
    """Return the test for an event pattern: all keys must match, and each list names the allowed values."""
    if not value or depth > _MAX_DEPTH:
        return None
    tests: list[str | None] = []
    for key, inner in value.items():
        if not isinstance(key, str) or not re.fullmatch(r"[\w.-]{1,80}", key):
            return None
        there = _step(path, key.split("."))
        if isinstance(inner, dict):
            tests.append(_pattern(inner, there, depth + 1))
        else:
            listed = inner if isinstance(inner, list) else [inner]
            tests.append(_joined([_matcher(there, each) for each in listed], _ANY))
    return _joined(tests, _ALL)


def _matcher(path: str, value: Any) -> str | None:
    if not isinstance(value, dict):
        return _test(path, "==", value)
    word, inner = next(((str(key).lower(), each) for key, each in value.items()), ("", None))
    if word == "exists":
        return path if inner is True else f"!{path}"
    listed = inner if word == "numeric" and isinstance(inner, list) and len(inner) % 2 == 0 else []
    if listed and all(each in ("=", ">", ">=", "<", "<=") for each in listed[::2]):
        pairs = zip(listed[::2], listed[1::2], strict=True)
        return _joined([_test(path, "==" if sign == "=" else sign, each) for sign, each in pairs], _ALL)
    if word == "anything-but":
        return _joined([_test(path, "!=", each) for each in (inner if isinstance(inner, list) else [inner])], _ALL)
    if word in ("prefix", "suffix") and isinstance(inner, str) and re.fullmatch(r"[\w/ -]{1,100}", inner):
        return f"search({path}, '{'^' if word == 'prefix' else ''}{inner}{'' if word == 'prefix' else '$'}')"
    return None


def _joined(tests: Sequence[str | None], sign: str) -> str | None:
    known = [each for each in tests if each is not None]
    if len(known) != len(tests) or not known or len(known) > _MAX_TESTS:
        return None
    other = _ANY if sign == _ALL else _ALL
    return sign.join(f"({each})" if len(known) > 1 and other in each else each for each in known)
