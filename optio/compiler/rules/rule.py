"""The data type of a rule."""

from enum import StrEnum
from typing import NamedTuple


class Certainty(StrEnum):
    """The kind of a rule's findings. A rule that `PROVES` states what the format says of the file: it contradicts itself,
    something in it has no effect, or a run will be refused or fail. A rule that `SUSPECTS` guesses or advises, and the file may
    be exactly what its author wants. Such a rule is information, and a warning with `--strict` at most."""

    PROVES = "proves"
    SUSPECTS = "suspects"


class Rule(NamedTuple):
    """A rule of the catalogue. `wrong` and `right` are YAML examples, which the tests compile after adding the required keys
    that they lack. `strict` is the severity under `--strict` if it differs. A `pedantic` rule is checked only with `--strict`
    or `--verbose`, or where the policy gives it a severity, and a rule `by_executor` only by `optio check` with a known
    executor."""

    code: str
    name: str
    severity: str
    certainty: Certainty
    title: str
    why: str
    wrong: str
    right: str
    strict: str = ""
    pedantic: bool = False
    by_executor: bool = False


ERROR, WARNING, INFO = "error", "warning", "info"
PROVES, SUSPECTS = Certainty.PROVES, Certainty.SUSPECTS
