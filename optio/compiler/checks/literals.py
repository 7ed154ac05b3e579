"""Secrets in plain text: known shapes of tokens anywhere in the file."""

import re
from collections.abc import Iterator

from optio.compiler.diagnostics import Diagnostic, finding
from optio.compiler.resolve import ResolvedTask
from optio.compiler.source import span_at

# One search over the whole text finds out whether there is anything to look at.
_TOKENS = re.compile(
    r"(?P<github>\bgh[pousr]_[A-Za-z0-9]{36,}|\bgithub_pat_[A-Za-z0-9_]{40,})"
    r"|(?P<gitlab>\bglpat-[A-Za-z0-9_-]{20,})"
    r"|(?P<anthropic>\bsk-ant-[A-Za-z0-9_-]{20,})"
    r"|(?P<openai>\bsk-(?:proj-)?[A-Za-z0-9_-]{32,})"
    r"|(?P<aws>\b(?:AKIA|ASIA)[0-9A-Z]{16}\b)"
    r"|(?P<google>\bAIza[0-9A-Za-z_-]{35}\b)"
    r"|(?P<slack>\bxox[abprs]-[A-Za-z0-9-]{20,})"
    r"|(?P<stripe>\b[rs]k_live_[A-Za-z0-9]{20,})"
    r"|(?P<webhook>\bwhsec_[A-Za-z0-9+/=]{24,})"
    r"|(?P<npm>\bnpm_[A-Za-z0-9]{36}\b)"
    r"|(?P<key>-----BEGIN [A-Z ]*PRIVATE KEY-----)"
    r"|(?P<url>[a-z][a-z0-9+]*://[^\s/:@'\"{}$]+:(?P<password>[^\s/@'\"{}$]+)@)"
)
_HINTS = ("gh", "glpat-", "sk-", "AKIA", "ASIA", "AIza", "xox", "k_live_", "whsec_", "npm_", "PRIVATE KEY", "://")
_KINDS = {
    "github": "a GitHub token", "gitlab": "a GitLab token", "anthropic": "an Anthropic API key", "openai": "an API key",
    "aws": "an AWS access key", "google": "a Google API key", "slack": "a Slack token", "stripe": "a Stripe key",
    "webhook": "a webhook secret", "npm": "an npm token", "key": "a private key", "url": "a URL with a password",
}  # fmt: skip


def check(task: ResolvedTask) -> Iterator[Diagnostic]:
    """The value itself is never repeated."""
    yield from _search(task.path, task.document.text)
    if task.prompt_path is not None:
        yield from _search(task.prompt_path, task.prompt)


def _search(path: str, text: str) -> Iterator[Diagnostic]:
    if not any(hint in text for hint in _HINTS):
        return
    for found in _TOKENS.finditer(text):
        yield finding(
            "OPT503", f"{_KINDS[found.lastgroup or 'key'] if found.lastgroup != 'password' else _KINDS['url']} in plain text",
            path=path, span=span_at(text, found.start(), found.end()),
            hint="rotate it: it is known now; name it under `environment.secrets`",
        )  # fmt: skip
