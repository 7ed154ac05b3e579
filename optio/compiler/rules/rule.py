"""The data type of a rule."""

from typing import NamedTuple


class Rule(NamedTuple):
    """A rule of the catalogue. `wrong` and `right` are YAML examples, which the tests compile after adding the required keys
    that they lack. `strict` is the severity under `--strict` if it differs. A `pedantic` rule is checked only with `--strict`
    or `--verbose`, or where the policy gives it a severity, and a rule `by_executor` only by `optio check` with a known
    executor."""

    code: str
    name: str
    severity: str
    title: str
    why: str
    wrong: str
    right: str
    strict: str = ""
    pedantic: bool = False
    by_executor: bool = False


ERROR, WARNING, INFO = "error", "warning", "info"
