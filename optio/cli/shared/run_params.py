"""The parameters of a run on the command line, for `optio run` and `optio render`: `-p`, `-P` and `--params-file`."""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from optio.errors import SettingsError

MAX_FILE_BYTES = 1 << 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the three flags, whose values `read_parameters` reads."""
    parser.add_argument(
        "-p",
        "--param",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a parameter, as text; @FILE is the text of a file (@- of standard input), @@ begins a text with @",
    )
    parser.add_argument("-P", "--param-json", action="append", default=[], metavar="NAME=JSON", help="a parameter, as JSON")
    parser.add_argument(
        "--params-file",
        action="append",
        default=[],
        metavar="FILE",
        help="parameters from a YAML or JSON mapping; - is standard input",
    )


def read_parameters(args: argparse.Namespace) -> dict[str, Any]:
    """Return the parameters of all three flags; raises SettingsError for one that is malformed, unreadable or given twice."""
    parameters: dict[str, Any] = {}
    origins: dict[str, str] = {}
    stdin = [text for text in args.params_file if text == "-"] + [text for text in args.param if text.endswith("=@-")]
    if len(stdin) > 1:
        raise SettingsError("standard input is read once: write the other values into a file")
    for name, value, origin in _pairs(args):
        if name in parameters:
            earlier_origin = origins[name]
            origin_text = earlier_origin if earlier_origin == origin else f"{earlier_origin} and by {origin}"
            raise SettingsError(f"the parameter `{name}` is given twice, by {origin_text}: leave one out")
        parameters[name], origins[name] = value, origin
    return parameters


def _pairs(args: argparse.Namespace) -> Iterator[tuple[str, Any, str]]:
    """Yield name, value and origin of each parameter."""
    for path in args.params_file:
        yield from ((name, value, f"--params-file {path}") for name, value in _mapping(path).items())
    for entry in args.param:
        name, text = _split(entry)
        yield name, _text(name, text), "-p"
    for entry in args.param_json:
        name, text = _split(entry)
        try:
            yield name, json.loads(text), "-P"
        except ValueError as err:
            raise SettingsError(f"the value of `{name}` is not valid JSON: {err}: give a text with -p") from err
        except RecursionError as err:
            raise SettingsError(f"the value of `{name}` is nested deeper than 100 levels") from err


def _split(entry: str) -> tuple[str, str]:
    name, separator, text = entry.partition("=")
    if not separator or not name:
        raise SettingsError(f"invalid parameter `{entry}`: write NAME=VALUE")
    return name, text


def _text(name: str, text: str) -> str:
    """Return the text itself, or that of the file which `@FILE` names."""
    if not text.startswith("@"):
        return text
    if text.startswith("@@"):
        return text[1:]
    if text == "@":
        raise SettingsError(f"the value of `{name}` is `@` without a file: write @FILE, or @@ for the character itself")
    return _read(text[1:], f"the file of `{name}`", "write @@ for a text that begins with @")


def _read(path: str, source: str, cure: str) -> str:
    """Return the text of a file, or of standard input for `-`; raises SettingsError."""
    try:
        if path == "-":
            data = sys.stdin.buffer.read(MAX_FILE_BYTES + 1)
        else:
            with Path(path).open("rb") as file:
                data = file.read(MAX_FILE_BYTES + 1)
        if len(data) > MAX_FILE_BYTES:
            raise SettingsError(f"{source}, `{path}`, is larger than {MAX_FILE_BYTES >> 20} MiB, the maximum for a prompt")
        return data.decode("utf-8")
    except OSError as err:
        raise SettingsError(f"{source}, `{path}`, cannot be read: {err.strerror}: {cure}") from err
    except UnicodeDecodeError as err:
        raise SettingsError(f"{source}, `{path}`, is not UTF-8 text at byte {err.start}: convert it") from err


def _mapping(path: str) -> dict[str, Any]:
    """Return the mapping in a YAML or JSON file; raises SettingsError with the line of a mistake."""
    text = _read(path, "the parameter file", "name a file, or - for standard input")
    source = "standard input" if path == "-" else path
    if text.lstrip().startswith("{"):
        try:
            return dict(json.loads(text, object_pairs_hook=_without_repeats))
        except (json.JSONDecodeError, RecursionError):
            pass  # YAML may have braces, too, and its message has the line
        except ValueError as err:
            raise SettingsError(f"{source}: {err}") from err
    # Imported here: most runs have no file.
    from optio.compiler.report import render_concise
    from optio.compiler.source import SourceFile
    from optio.compiler.yaml.document import parse

    document, diagnostics = parse(SourceFile(source, text.encode()))
    if [diagnostic.code for diagnostic in diagnostics] == ["OPT018"]:
        return {}  # empty, or comments alone
    if document is None or diagnostics:
        raise SettingsError("\n".join(render_concise(diagnostics[:1])))
    if not isinstance(document.value, dict):
        raise SettingsError(f"{source} is not a mapping of parameters: write a line `NAME: value` for each")
    return dict(document.value)


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    repeated = next((name for name in names if names.count(name) > 1), None) if len(set(names)) < len(names) else None
    if repeated is not None:
        raise ValueError(f"the key `{repeated}` is given twice: leave one out")
    return dict(pairs)
