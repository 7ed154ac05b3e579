"""Hooks of the documentation site: what MkDocs cannot take from a page as it stands in the repository.

A page asks for a generated part by a comment, `<!-- generated: rules -->`, so that the part is never older than the code. A link
to a file outside of `docs/` becomes the file's name, because the site has no such page.
"""

import argparse
import posixpath
import re
from collections.abc import Iterator
from importlib import import_module
from typing import Any

from optio.cli import COMMANDS
from optio.cli.shared.parser import CommandParser
from optio.compiler.rules.codes import RULES
from optio.compiler.rules.rule import Rule

_PART = re.compile(r"^<!-- generated: (\w+) -->$", re.M)
_OUTWARD = re.compile(r"\[([^\]]+)\]\(((?:\.\./)+[^)#\s]+)(?:#[^)\s]*)?\)")


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Return the text of a page with its generated parts, and without links that leave `docs/`."""
    if page.file.src_uri.startswith("design/"):
        page.meta["search"] = {"boost": 0.2}  # behind the manual, which has the same words
    folder = posixpath.dirname(posixpath.join("docs", page.file.src_uri))
    return _PART.sub(lambda found: "\n".join(PARTS[found[1]]()), inward(markdown, folder))


def inward(markdown: str, folder: str) -> str:
    """Replace links that lead from `folder` out of `docs/` by the path in the repository."""

    def replace(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(folder, link[2]))
        if target == "docs" or target.startswith("docs/"):
            return link[0]
        text = link[1].strip("`")
        return f"`{target}`" if text == target else f"{link[1]} (`{target}` in the repository)"

    return _OUTWARD.sub(replace, markdown)


def rules() -> Iterator[str]:
    """Yield the catalogue of the compiler's rules, a section each, in the order of their codes."""
    for rule in RULES.values():
        yield f"### {rule.code} {rule.name} {{#{rule.code.lower()}}}\n"
        yield f"*{_severity(rule)}.* {_sentence(rule.title)}\n\n{_sentence(rule.why)}\n"
        for heading, example in (("Wrong", rule.wrong), ("Right", rule.right)):
            if example:
                yield f"{heading}:\n\n{_fenced(example)}\n"


def _severity(rule: Rule) -> str:
    strict = f"; {rule.strict} with `--strict`" if rule.strict not in ("", rule.severity) else ""
    pedantic = "; only with `--strict` or `--verbose`, or where the policy names it" if rule.pedantic else ""
    return f"{rule.certainty.capitalize()}; {rule.severity}{strict}{pedantic}"


def _sentence(text: str) -> str:
    text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "!", "?", "`.")) else text + "."


def _fenced(text: str) -> str:
    shown = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace").rstrip("\n")
    lines = (line if len(line) <= 120 else line[:100] + " ..." for line in shown.split("\n"))
    plain = "\n".join("".join(c if c.isprintable() or c == "\t" else f"\\x{ord(c):02x}" for c in line) for line in lines)
    return f"````yaml\n{plain}\n````"


def options() -> Iterator[str]:
    """Yield the help of every command and of every verb of one."""
    for name, (module, summary) in COMMANDS.items():
        command = import_module(f"optio.cli.{module}")
        parser = CommandParser(prog=f"optio {name}", description=command.__doc__ or summary)
        command.add_arguments(parser)
        yield f"### `optio {name}`\n"
        for each in (parser, *verbs(parser)):
            yield f"```text\n{each.format_help().strip()}\n```\n"


def verbs(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """Yield the parsers of the verbs of a command, such as `optio runs list`."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield from action.choices.values()


PARTS = {"rules": rules, "options": options}
