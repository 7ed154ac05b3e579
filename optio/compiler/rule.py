"""A rule of the compiler, as data."""

from typing import NamedTuple


class Rule(NamedTuple):
    """`wrong` and `right` are YAML; the tests run both. What they leave out (name, runtime, prompt) is filled in. `strict` is
    the severity under `--strict`, where it is another; what is only for a `careful` reviewer is looked for on demand."""

    code: str
    name: str
    severity: str
    title: str
    why: str
    wrong: str
    right: str
    strict: str = ""
    careful: bool = False


ERROR, WARNING, INFO = "error", "warning", "info"
