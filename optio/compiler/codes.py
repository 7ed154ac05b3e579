"""The rule catalogue: one entry per code, in order. Codes and names are stable; `optio explain CODE` prints an entry."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule. `wrong` and `right` are YAML; both are run by the tests."""

    code: str
    name: str
    severity: str
    title: str
    why: str
    wrong: str = ""
    right: str = ""


_ENTRIES = (
    Rule("OPT001", "yaml-syntax", "error", "the file is no YAML", "Nothing else can be said about a file that does not parse."),
    Rule("OPT002", "encoding", "error", "the file is not UTF-8", "Other encodings read differently on every machine."),
    Rule("OPT004", "duplicate-key", "error", "a key stands twice in one mapping", "Most readers keep the last value silently."),
    Rule("OPT007", "yaml-tag", "error", "an explicit YAML tag", "Nothing is ever executed or included by a tag."),
    Rule("OPT008", "alias-expansion", "error", "aliases expand to too many nodes", "A short file must not become gigabytes."),
    Rule("OPT009", "recursive-alias", "error", "an alias inside its own anchor", "Such a value has no end."),
    Rule("OPT013", "empty-document", "error", "more than one document in a file", "One file, one task."),
    Rule("OPT014", "size-depth", "error", "the file is too large or too deep", "Limits keep the compiler fast for everyone."),
    Rule("OPT017", "key-type", "error", "a key that is no text", "Keys are compared as text everywhere else."),
    Rule("OPT018", "empty-file", "warning", "the file holds no task", "An empty file is usually a save that went wrong."),
    Rule("OPT101", "unknown-key", "error", "a key that does not exist here", "A misspelt limit is a limit that does not hold."),
    Rule("OPT102", "missing-key", "error", "a required key is absent", "The task cannot run without it."),
    Rule("OPT103", "wrong-type", "error", "a value of the wrong type", "Values are never coerced."),
    Rule("OPT104", "bad-enum", "error", "a value that is not one of the allowed words", "Only these words have a meaning."),
    Rule("OPT105", "out-of-range", "error", "a number or text outside its limits", "The limit is what the server can honour."),
    Rule("OPT106", "blank-text", "error", "a text that is empty after trimming", "A blank prompt or name says nothing."),
    Rule("OPT107", "bad-name", "error", "a name that leads to no id", "The id is the slug of the name."),
    Rule("OPT108", "exclusive-keys", "error", "two keys that exclude each other", "Only one of them can be honoured."),
    Rule("OPT110", "unknown-type", "error", "an unknown document type", "Only `standalone` tasks are known."),
    Rule("OPT115", "file-not-found", "error", "a file that is missing or outside the tree", "The prompt cannot be read."),
    Rule(
        "OPT321",
        "unknown-trigger",
        "error",
        "an unknown trigger type",
        "A standalone task has manual, schedule and webhook triggers.",
    ),
    Rule("OPT701", "duplicate-name", "error", "two tasks with one id", "Runs, URLs and logs are found by the task's id."),
    Rule(
        "OPT706",
        "unreadable-file",
        "error",
        "a file that cannot be read safely",
        "Only regular files inside the tree are read.",
    ),
)

RULES = {rule.code: rule for rule in _ENTRIES}
