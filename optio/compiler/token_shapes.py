"""Find secrets in plain text by the shapes of well-known tokens (`ghp_...`, `AKIA...`). Findings never repeat the value."""

import re
from collections.abc import Iterator
from functools import lru_cache

from optio.compiler.diagnostics import Diagnostic, diagnostic, report_first
from optio.compiler.source import span_at

# Many tasks share the text of a template or of defaults.
_CACHE_SIZE = 32
EXPOSED = "make a new one where it came from: this one has been exposed"
"""The first half of a cure for a secret in plain text."""


# (text in every token of the kind, kind, shape). Searching for the text first is almost free.
_TOKENS = (
    ("gh", "a GitHub token", r"gh(?:[pousr]_[A-Za-z0-9]{36,}|ithub_pat_[A-Za-z0-9_]{40,})"),
    ("glpat-", "a GitLab token", r"glpat-[A-Za-z0-9_-]{20,}"),
    ("sk-", "an API key", r"\bsk-(?:ant-|proj-)?[A-Za-z0-9_-]{32,}"),
    ("AKIA", "an AWS access key", r"AKIA[0-9A-Z]{16}\b"),
    ("AIza", "a Google API key", r"AIza[0-9A-Za-z_-]{35}\b"),
    ("xox", "a Slack token", r"xox[abprs]-[A-Za-z0-9-]{20,}"),
    ("k_live_", "a Stripe key", r"(?<![A-Za-z0-9])[rs]k_live_[A-Za-z0-9]{20,}"),
    ("whsec_", "a webhook secret", r"whsec_[A-Za-z0-9+/=]{24,}"),
    ("npm_", "an npm token", r"npm_[A-Za-z0-9]{36}\b"),
    ("ntn_", "a Notion token", r"\bntn_[A-Za-z0-9]{30,}"),
    ("hf_", "a Hugging Face token", r"\bhf_[A-Za-z0-9]{30,}\b"),
    ("SG.", "a SendGrid key", r"\bSG\.[A-Za-z0-9_-]{20,}\.[A-Za-z0-9_-]{30,}"),
    ("shp", "a Shopify token", r"\bshp(?:at|ca|pa|ss)_[a-f0-9]{32}\b"),
    ("lin_api_", "a Linear key", r"\blin_api_[A-Za-z0-9]{30,}"),
    ("glsa_", "a Grafana token", r"\bglsa_[A-Za-z0-9_]{30,}"),
    ("pypi-", "a PyPI token", r"\bpypi-AgEI[A-Za-z0-9_-]{50,}"),
    ("PRIVATE KEY", "a private key", r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----"),
    ("://", "a URL with a password", r"://[^\s/:@'\"{}$]{1,200}:[^\s/@'\"{}$]{1,200}@"),
)


def find_tokens(path: str, text: str, *, in_connection: bool = False) -> Iterator[Diagnostic]:
    """Report the tokens in the text of one file, a connection's own or another. Cached, because many tasks share a template."""
    yield from _found(path, text, in_connection)


@lru_cache(maxsize=_CACHE_SIZE)
def _found(path: str, text: str, in_connection: bool) -> tuple[Diagnostic, ...]:
    def tell(token: tuple[str, re.Match[str]]) -> Diagnostic:
        kind, match = token
        span = span_at(text, match.start(), match.end())
        variable = re.search(
            r"\b([A-Z][A-Z0-9_]{2,60})['\"]?[:=] {0,9}['\"]?(?:[a-z][a-z0-9+]{1,20})?\Z", text[: match.start()][-100:]
        )
        step = f"delete the entry, and add `{variable[1]}`" if variable else "delete it here, and add its name"
        hint = f"{EXPOSED}; then {step} to `environment.secrets`"
        if in_connection:
            hint = f"{EXPOSED}; then write `{{{{secret:NAME}}}}` in its place, in a header or a variable"
        elif "webhook" in kind:
            hint = f"{EXPOSED}; then write `secret: {{name: NAME}}`, and set `OPTIO_SECRET_NAME` for the server"
        return diagnostic("OPT503", f"{kind} in plain text", path=path, span=span, hint=hint)

    return tuple(report_first(sorted(match_tokens(text), key=lambda token: token[1].start()), tell))


def match_tokens(text: str) -> Iterator[tuple[str, re.Match[str]]]:
    """Yield each match that has the shape of a token, with a description such as `a GitHub token`."""
    for sign, kind, shape in _TOKENS:
        if sign in text:
            yield from ((kind, match) for match in re.finditer(shape, text))
