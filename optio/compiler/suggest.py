"""Did-you-mean suggestions: the known word closest to a misspelt one. The work is bounded for each file, because a hostile file
may hold thousands of unknown names."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from itertools import islice
from operator import eq

MAX_COMPARED_WORDS, MAX_COMPARED_LENGTH = 1_000, 100
# Letters read plus pairs of letters compared: half a second of work.
MAX_COMPARED_LETTERS = 2_000_000
_MAX_CANDIDATES, _MIN_RATIO = 20, 0.7
_letters_left: ContextVar[list[int] | None] = ContextVar("left", default=None)


@contextmanager
def suggestion_budget() -> Iterator[None]:
    """Bound all calls of `suggest` inside the context together; the pipeline opens one for each file."""
    token = _letters_left.set([MAX_COMPARED_LETTERS])
    try:
        yield
    finally:
        _letters_left.reset(token)


def suggest(word: str, words: Iterable[str]) -> str | None:
    """Return the known word that is closest to `word`, or None if none is close or the budget is used up."""
    from difflib import SequenceMatcher  # imported only for a file with a mistake

    budget, word = _letters_left.get() or [MAX_COMPARED_LETTERS], word[:MAX_COMPARED_LENGTH]
    folded_word = word.casefold()
    if budget[0] <= 0:
        return None
    near: list[tuple[float, int, str]] = []
    matcher, letters = SequenceMatcher(None, "", word), frozenset(word)
    for candidate in islice(words, MAX_COMPARED_WORDS):
        budget[0] -= 1
        if candidate.casefold() == folded_word:
            return candidate
        least = _MIN_RATIO * (len(candidate) + len(word)) / 2
        if min(len(candidate), len(word)) < least:
            continue
        budget[0] -= len(candidate)
        # Most words have too few of its letters, which is seen sooner than how often each is in both.
        if sum(map(letters.__contains__, candidate)) < least:
            continue
        matcher.set_seq1(candidate)
        if (ratio := matcher.quick_ratio()) >= _MIN_RATIO:
            near.append((ratio, sum(map(eq, candidate, word)), candidate))
    # Among equal ratios, prefer the word with the most letters in place.
    best = (_MIN_RATIO, -1, "")
    for ratio, in_place, candidate in sorted(near, reverse=True)[:_MAX_CANDIDATES]:
        if ratio < best[0]:
            break
        budget[0] -= len(candidate) * len(word)
        matcher.set_seq1(candidate)
        best = max(best, (matcher.ratio(), in_place, candidate))
    return best[2] or None


@lru_cache(maxsize=8192)  # a file is compiled several times, to prove its fixes
def rank_by_likeness(word: str, words: tuple[str, ...], limit: int) -> list[str]:
    """Return up to `most` known words, the most similar to `word` first."""
    from difflib import SequenceMatcher  # imported only for a file with a mistake

    word = word[:MAX_COMPARED_LENGTH].casefold()
    return sorted(words, key=lambda candidate: -SequenceMatcher(None, candidate.casefold(), word).ratio())[:limit]
