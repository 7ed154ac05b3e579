"""Prompt templates: `{{NAME}}` placeholders and the text that parameters become in them. There is no other syntax."""

import json
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

# The longest prompt of any agent, in characters.
MAX_PROMPT_LENGTH = 1 << 20
PLACEHOLDER = re.compile(r"\{\{([A-Za-z0-9_]+)\}\}")


def placeholders(text: str) -> list[str]:
    """Return the names of the placeholders in a prompt, in order of appearance, each once."""
    return list(dict.fromkeys(PLACEHOLDER.findall(text)))


def render(text: str, params: Mapping[str, Any]) -> str:
    """Replace each placeholder by its parameter, in one pass: a value that contains `{{OTHER}}` stays as it is. Text is
    inserted as it is, everything else as JSON; unknown placeholders stay."""
    return PLACEHOLDER.sub(lambda match: as_text(params[match[1]]) if match[1] in params else match[0], text)


def length(text: str, params: Mapping[str, Any]) -> int:
    """Return how many characters `render` would give, without making the text, which may be more than memory holds."""
    counts = Counter(PLACEHOLDER.findall(text))
    longer = {name: len(as_text(params[name])) - len(f"{{{{{name}}}}}") for name in counts if name in params}
    return len(text) + sum(counts[name] * added for name, added in longer.items())


def as_text(value: Any) -> str:
    """Return a parameter's value as it appears in a prompt: text as it is, anything else as compact JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
