"""Compare `priority` with what the task says of its own turn: people who know `nice` write a high number for a task that comes
last. Imported only for a task with a priority."""

import re
from collections.abc import Iterator

from optio.compiler.checks.schedule_texts import comments_beside
from optio.compiler.diagnostics import Diagnostic
from optio.compiler.resolved_task import ResolvedTask
from optio.model.route import Route

_ROUTE: Route = ("priority",)
# Where a word ends what is said of the task itself: "low-priority tickets" and "urgent alerts" are what it works on.
_END = r"(?=\s*(?:[.,;:!)\n]|\Z|(?:and|but|so)\b)|\s+(?:task|job|run|work)\b)"
_OTHERS = r"(?:every|all|any|each)(?: the)? (?:others|other (?:task|job|run)s?)"
_FIRST = r"(?:must |should |may |can |have to |has to )?(?:always )?(?:goe?s?|comes?|runs?|starts?|is|are|be)"
_LAST_WORDS = (
    rf"(?i)\bin the background{_END}|\b(?:low(?:est)?|least) ?-?prio(?:rity)?{_END}|\bafter {_OTHERS}{_END}"
    rf"|\b{_OTHERS} {_FIRST} first\b|\b(?:when|while|if) nothing else (?:waits|runs|is waiting|is running)\b"
    rf"|\b(?:must|should|may|can|always) (?:come|go|run|start|be) last\b|\b(?:this|it|which) can wait{_END}"
)
_FIRST_WORDS = (
    rf"(?i)\bhigh(?:est)? ?-?prio(?:rity)?{_END}|\b(?:before|ahead of) {_OTHERS}{_END}|\b{_FIRST} first of all\b"
    rf"|\b(?:must|should|always) (?:come|go|run|start|be) first\b|\b(?:is|very|most|always) urgent{_END}|\A\s*urgent(?=[:!,.])"
)
# Beside the number a word is enough.
_LAST_BESIDE = rf"(?i)\bnice(?:ness)?\b|\b(?:last|background|low(?:est)?|can wait){_END}"
_FIRST_BESIDE = rf"(?i)\b(?:urgent|first|high(?:est)?|most important){_END}"
# What a comment says of the rule, not of the task, and what turns a word round.
_OF_NUMBERS = r"(?i)\b(?:number|value|higher|lower)s?\b|\bdefault\b"
_NOT = r"(?i)(?:\b(?:not|never|no|less|nothing|others?)|n't)\s+(?:\w+\s+)?\Z"


def check(task: ResolvedTask) -> Iterator[Diagnostic]:
    """Report a priority above 0 of a task that says it comes last, and one below 0 of a task that says it comes first."""
    rank = task.spec.priority
    if not task.is_known(_ROUTE) or task.document.path_at(_ROUTE) != task.path:
        return
    about = (task.spec.name, task.spec.description)
    beside = comments_beside(task, _ROUTE)
    last, first = (_said(*words, about, beside) for words in ((_LAST_WORDS, _LAST_BESIDE), (_FIRST_WORDS, _FIRST_BESIDE)))
    said = last if rank > 0 else first
    if said is None or (last and first):
        return
    where = "first" if rank > 0 else "last"
    message = f"`priority: {rank}` starts this task {where}, and its own words are `{said}`: the highest starts first"
    yield task.at("OPT618", message, _ROUTE, hint=f"write `priority: {-rank}`", write=str(-rank), safe=False)


def _said(words: str, words_beside: str, about: tuple[str, ...], beside: str) -> str | None:
    """Return what the texts say of the task's turn, or None."""
    places = [(words, text) for text in (*about, beside)]
    if re.search(_OF_NUMBERS, beside) is None:
        places.append((words_beside, beside))
    all_found = ((found, text) for pattern, text in places for found in re.finditer(pattern, text))
    return next((" ".join(found[0].split()) for found, text in all_found if not re.search(_NOT, text[: found.start()])), None)
