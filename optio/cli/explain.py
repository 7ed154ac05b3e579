"""`optio explain CODE`: what a rule reports, why it matters, and a wrong and a right example."""

import argparse
import io
import sys

from optio.cli import print_error
from optio.cli.shared import terminal
from optio.compiler.rules.codes import RETIRED, RULES, suggest_code
from optio.compiler.suggest import suggest


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = "Explain a rule with a wrong and a right example, or list all rules."
    parser.add_argument("code", nargs="?", metavar="CODE", help="a code or name, such as OPT101 or unknown-key; none lists all")
    terminal.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command. Returns 2 for a rule that does not exist, else 0."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    if args.code is None:
        for _, rule in sorted(RULES.items()):
            print(f"{rule.code}  {rule.severity:<7}  {rule.name:<24}  {rule.title}")
        return 0
    names = [rule.name for rule in RULES.values()]
    wanted = args.code.strip()
    old = next((code for code, name in RETIRED.items() if wanted.lower() in (code.lower(), name)), None)
    if old is not None:
        print(f"{old} {RETIRED[old]} (retired)\n")
        print("No finding has this code any more. Comments and policies may still name it, without effect.")
        return 0
    sure, near = suggest_code(wanted)
    found = RULES.get(sure or "")
    if found is None:
        near = near or suggest(wanted.lower(), names)
        print_error(
            f"optio explain: no rule `{wanted}`" + (f": did you mean `{near}`?" if near else ": `optio explain` lists them")
        )
        return 2
    strict = f"; {found.strict} with --strict" if found.strict and found.strict != found.severity else ""
    asked = "; only with --strict or --verbose, or where the policy names it" if found.pedantic else ""
    print(f"{found.code} {found.name} ({found.severity}{strict}{asked})\n\n{found.title}\n{found.why}")
    for heading, example in (("Wrong", found.wrong), ("Right", found.right)):
        if example:
            print(f"\n{heading}:\n{_indented(example)}")
    return 0


def _indented(example: str) -> str:
    """Indent an example, with bytes that are not UTF-8 as escapes and long lines cut."""
    shown = example.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    lines = (line if len(line) <= 120 else line[:100] + " ..." for line in shown.rstrip("\n").split("\n"))
    return "\n".join("  " + "".join(c if c.isprintable() or c == "\t" else f"\\x{ord(c):02x}" for c in line) for line in lines)
