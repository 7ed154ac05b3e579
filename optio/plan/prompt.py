"""Effects on the prompt: its size, and a diff."""

from collections.abc import Iterator

from optio.model.effect import EffectKind, EffectWeight
from optio.model.registry import CompiledTask
from optio.plan.effect import Effect
from optio.plan.lines import diff_size, line_diff

_BYTES_PER_TOKEN = 4


def estimate_tokens(text: str) -> int:
    """Return about how many tokens a text has: a quarter of its bytes, rounded up. Exact counts need the model's tokenizer."""
    return -(-len(text.encode("utf-8", "surrogatepass")) // _BYTES_PER_TOKEN)


def effects(before: CompiledTask | None, after: CompiledTask | None) -> Iterator[Effect]:
    """Yield one effect if the prompt differs; only information if nothing but white space does."""
    if before is None or after is None or before.prompt == after.prompt:
        return
    old, new = before.prompt, after.prompt
    route = ("promptFile",) if after.spec.prompt_file is not None else ("promptTemplate",)
    was, now = f"about {estimate_tokens(old):,} tokens", f"about {estimate_tokens(new):,} tokens"
    if old.split() == new.split():
        text = "the prompt differs in white space only"
        yield Effect(kind=EffectKind.PROMPT_CHANGED, text=text, weight=EffectWeight.INFO, before=was, after=now, route=route)
        return
    diff = line_diff([old], [new], around=2)
    lines = f", {diff_size(diff)}" if diff else ", too many lines to show how they differ"
    sizes = " -> ".join(dict.fromkeys(f"{estimate_tokens(prompt):,}" for prompt in (old, new)))
    text = f"prompt: about {sizes} tokens (bytes / {_BYTES_PER_TOKEN}){lines}"
    yield Effect(kind=EffectKind.PROMPT_CHANGED, text=text, before=was, after=now, route=route, diff=diff)
