"""The argument parser of all commands: flags are never abbreviated, and an error says what was probably meant."""

import argparse
import re
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, NoReturn

# `add_argument` makes a formatter, too. One that asks for the terminal's width loads `shutil` and all its compression.
_WITHOUT_TERMINAL = partial(argparse.HelpFormatter, width=78)
_CHOICE = r"(?s)(argument .*: invalid choice: )'(.*)' \(choose from (.*)\)"


class _Verbs(argparse._SubParsersAction):  # type: ignore[type-arg]
    """The verbs of a command. Each is described by its line in the help of the command, unless it has more to say."""

    def add_parser(self, name: str, **options: Any) -> Any:
        words = options.get("help", "")
        return super().add_parser(name, **{"description": words[:1].upper() + words[1:] + ".", **options})


class CommandParser(argparse.ArgumentParser):
    """An ArgumentParser with these rules. Its subparsers are of this class too."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, allow_abbrev=False, formatter_class=_WITHOUT_TERMINAL)
        self.register("action", "parsers", _Verbs)

    def parse_args(  # type: ignore[override] # one form of those that the library's stub lists
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> Any:
        """Return the arguments. Words that are left over are an error of the verb, not of the command."""
        parsed, rest = self.parse_known_args(args, namespace)
        if rest:
            parser = self
            for action in self._actions:
                if isinstance(action, argparse._SubParsersAction) and getattr(parsed, action.dest, None) in action.choices:
                    parser = action.choices[getattr(parsed, action.dest)]
            parser.error(f"unrecognized arguments: {' '.join(rest)}")
        return parsed

    def format_usage(self) -> str:
        """Measure the terminal, and fill its lines."""
        self._measure()
        return super().format_usage()

    def format_help(self) -> str:
        """Measure the terminal, fill its lines, and add the examples."""
        from optio.cli.shared.examples import examples_of

        self._measure()
        examples = [f"  {line}" for line in examples_of(self.prog)]
        return super().format_help() + ("\n".join(["", "examples:", *examples, ""]) if examples else "")

    def _measure(self) -> None:
        if self.formatter_class is _WITHOUT_TERMINAL:
            self.formatter_class = argparse.HelpFormatter

    def error(self, message: str) -> NoReturn:
        """Print the message, what was probably meant, and where help is; exit with 2."""
        from optio.cli.shared.render_run import safe

        cure = self._cure(message)
        self.exit(2, safe(f"{self.prog}: {message}{cure and ': ' + cure}\n`{self.prog} --help` describes it\n"))

    def _cure(self, message: str) -> str:
        """Return what was probably meant, or nothing."""
        choice = re.fullmatch(_CHOICE, message)
        if choice is not None:
            return _suggest(choice[2], re.findall(r"'([^']*)'", choice[3]))
        if message.endswith("are required: VERB"):
            verbs = (action.choices for action in self._actions if isinstance(action, argparse._SubParsersAction))
            return f"write one of {', '.join(f'`{verb}`' for each in verbs for verb in each)}"
        words = message.removeprefix("unrecognized arguments: ")
        if words == message or not words:
            return ""
        first = words.split()[0]
        flags = self._option_string_actions
        if "=" in first and not first.startswith("-") and "-p" in flags:
            return f"write `-p` before a parameter, such as `-p {first}`"
        if first.startswith("-"):
            flag = first.partition("=")[0]
            if any(action.dest == flag.lstrip("-") for action in self._actions if not action.option_strings):
                return f"write its value without `{flag}`"
            return _suggest(flag, flags)
        return f"write `--task {first}`" if "--task" in flags else ""


def whole_number(maximum: int) -> Callable[[str], int]:
    """Return a reader of whole numbers from 1 to a maximum, for `type` of an argument."""

    def read(text: str) -> int:
        if not text.isascii() or not text.isdigit() or len(text) > 9 or not 1 <= int(text) <= maximum:
            raise argparse.ArgumentTypeError(f"invalid number `{text}`: give a whole number from 1 to {maximum:,}")
        return int(text)

    return read


def _suggest(word: str, choices: Iterable[str]) -> str:
    from difflib import get_close_matches  # imported only for a mistake

    near = get_close_matches(word[:100], list(choices), n=1)
    return f"did you mean `{near[0]}`?" if near else ""
