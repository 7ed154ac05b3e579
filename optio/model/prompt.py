"""Prompt templates: `{{NAME}}`, replaced once, and left as it stands when no parameter has that name."""

import json
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

PLACEHOLDER = re.compile(r"\{\{([A-Za-z0-9_]+)\}\}")


def placeholders(text: str) -> list[str]:
    """Names in order of appearance, each once."""
    return list(dict.fromkeys(PLACEHOLDER.findall(text)))


def render(text: str, params: Mapping[str, Any]) -> str:
    """One pass: a value that contains `{{OTHER}}` stays as it is. Text goes in as it is, everything else as JSON."""
    return PLACEHOLDER.sub(lambda found: as_text(params[found[1]]) if found[1] in params else found[0], text)


def length(text: str, params: Mapping[str, Any]) -> int:
    """How many characters `render` gives, which may be more than memory holds."""
    counts = Counter(PLACEHOLDER.findall(text))
    longer = {name: len(as_text(params[name])) - len(f"{{{{{name}}}}}") for name in counts if name in params}
    return len(text) + sum(counts[name] * more for name, more in longer.items())


def as_text(value: Any) -> str:
    """How a parameter's value reads in a prompt."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
