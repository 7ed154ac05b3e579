"""A rule of the compiler, as data."""

from typing import NamedTuple


class Rule(NamedTuple):
    """`wrong` and `right` are YAML; the tests run both. What they leave out (name, runtime, prompt) is filled in. `strict` is
    the severity under `--strict`, where it is another; what is only for a `careful` reviewer is looked for on demand. A rule
    `by_executor` is checked by `optio check` alone, for one that says where runs are executed."""

    code: str
    name: str
    severity: str
    title: str
    why: str
    wrong: str
    right: str
    strict: str = ""
    careful: bool = False
    by_executor: bool = False


ERROR, WARNING, INFO = "error", "warning", "info"
