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
        for _, listed_rule in sorted(RULES.items()):
            print(
                f"{listed_rule.code}  {listed_rule.severity:<7}  {listed_rule.certainty:<8}  {listed_rule.name:<24}  "
                f"{listed_rule.title}"
            )
        return 0
    names = [rule.name for rule in RULES.values()]
    code = args.code.strip()
    old = next((retired for retired, name in RETIRED.items() if code.lower() in (retired.lower(), name)), None)
    if old is not None:
        print(f"{old} {RETIRED[old]} (retired)\n")
        print("No finding has this code any more. Comments and policies may still name it, without effect.")
        return 0
    sure, near = suggest_code(code)
    rule = RULES.get(sure or "")
    if rule is None:
        near = near or suggest(code.lower(), names)
        print_error(
            f"optio explain: no rule `{code}`" + (f": did you mean `{near}`?" if near else ": `optio explain` lists them")
        )
        return 2
    strict = f"; {rule.strict} with --strict" if rule.strict and rule.strict != rule.severity else ""
    condition = "; only with --strict or --verbose, or where the policy names it" if rule.pedantic else ""
    print(f"{rule.code} {rule.name} ({rule.certainty}, {rule.severity}{strict}{condition})\n\n{rule.title}\n{rule.why}")
    for heading, example in (("Wrong", rule.wrong), ("Right", rule.right)):
        if example:
            print(f"\n{heading}:\n{_indented(example)}")
    return 0


def _indented(example: str) -> str:
    """Indent an example, with bytes that are not UTF-8 as escapes and long lines cut."""
    printable = example.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    lines = (line if len(line) <= 120 else line[:100] + " ..." for line in printable.rstrip("\n").split("\n"))
    return "\n".join("  " + "".join(c if c.isprintable() or c == "\t" else f"\\x{ord(c):02x}" for c in line) for line in lines)
