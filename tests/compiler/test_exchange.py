"""The forms that other programs read."""

import json
from xml.etree.ElementTree import fromstring

from optio.compiler.diagnostics import Diagnostic, apply_strict
from optio.compiler.edits.text_edits import BOM
from optio.compiler.exchange import github, junit, manual_url, sarif
from optio.compiler.fixes import fix_tree
from optio.compiler.pipeline import compile_tree
from optio.compiler.rules.codes import RULES
from optio.compiler.source_tree import MemoryTree
from tests.support import ROOT

FILES = {
    "a.yaml": "name: A\nagentRuntime: claude-code\npromptTemplate: Say\nmax_turns: 3\nmaxRetrie: 1\n",
    "b.yaml": "name: a\nagentRuntime: claude-code\npromptTemplate: |\n  Greet {{ WHO }}\n  100%, {{NAM}}\n"
    "paramsSchema: {type: object, additionalProperties: false, properties: {WHO: {type: string, default: x}}}\n",
    "c.yaml": "name: C\nagentRuntime: claude-code\npromptTemplate: Say\n",
}
FOUND: list[Diagnostic] = list(compile_tree(MemoryTree(FILES)).diagnostics)


def test_sarif_names_each_rule_once_and_counts_from_one() -> None:
    (run,) = json.loads(sarif(FOUND))["runs"]

    rules, results = run["tool"]["driver"]["rules"], run["results"]
    assert (
        [rules[each["ruleIndex"]]["id"] for each in results] == [each["ruleId"] for each in results] == [d.code for d in FOUND]
    )
    assert [rule["id"] for rule in rules] == sorted({d.code for d in FOUND})
    assert results[0]["locations"] == [
        {
            "physicalLocation": {
                "artifactLocation": {"uri": "a.yaml"},
                "region": {"startLine": 4, "startColumn": 1, "endLine": 4, "endColumn": 10},
            }
        }
    ]
    assert run["columnKind"] == "unicodeCodePoints"


def test_sarif_offers_the_fixes_that_are_safe_and_no_others() -> None:
    results = json.loads(sarif(FOUND))["runs"][0]["results"]

    fixes = {each["ruleId"]: each["fixes"][0]["artifactChanges"][0] for each in results if "fixes" in each}

    assert fixes["OPT111"] == {
        "artifactLocation": {"uri": "a.yaml"},
        "replacements": [
            {
                "deletedRegion": {"startLine": 4, "startColumn": 1, "endLine": 4, "endColumn": 10},
                "insertedContent": {"text": "maxTurns"},
            }
        ],
    }
    assert set(fixes) == {"OPT111", "OPT203"}


def offset(text: str, line: int, column: int) -> int:
    return sum(len(each) + 1 for each in text.split("\n")[: line - 1]) + column - 1


def apply_fixes(text: str, log: str) -> str:
    """What another program makes of the fixes in a log: all that do not overlap, from the last to the first."""
    taken: list[list[tuple[int, int, str]]] = []
    for result in json.loads(log)["runs"][0]["results"]:
        for fix in result.get("fixes", ()):
            (change,) = fix["artifactChanges"]
            assert change["artifactLocation"] == {"uri": "a.yaml"}
            edits = [
                (
                    offset(text, region["startLine"], region["startColumn"]),
                    offset(text, region["endLine"], region["endColumn"]),
                    each["insertedContent"]["text"],
                )
                for each in change["replacements"]
                for region in [each["deletedRegion"]]
            ]
            others = [each for other in taken if other != edits for each in other]
            if not any((a < d and c < b) or a == c for a, b, _ in edits for c, d, _ in others):
                taken.append(edits)
    for begin, end, new in sorted({edit for edits in taken for edit in edits}, reverse=True):
        text = text[:begin] + new + text[end:]
    return text


def test_the_fixes_of_sarif_make_the_same_text_as_those_of_the_command_line() -> None:
    compared = 0
    for path in sorted((ROOT / "tests" / "cases").glob("*/*.yaml")):
        data = path.read_bytes()
        done = fix_tree(MemoryTree({"a.yaml": data}), unsafe=False)
        # A fix that would bring an error is left out by the command line alone, which tries it.
        if not done.count or done.left_out or data.startswith(BOM.encode()):
            continue
        for ending in ("\n", "\r\n"):
            text, before = data.decode().replace("\n", ending), ""
            while text != before:
                before, found = text, compile_tree(MemoryTree({"a.yaml": text})).diagnostics
                text = apply_fixes(text, sarif(found))
            # A line that a fix brings ends as its own text says.
            assert text.replace("\r\n", "\n") == done.files["a.yaml"].decode(), path
        compared += 1

    assert compared >= 40


def test_sarif_links_each_rule_to_the_pages_of_a_server_where_one_is_known() -> None:
    def links(environ: dict[str, str]) -> set[str | None]:
        (run,) = json.loads(sarif(FOUND, manual=manual_url(environ)))["runs"]
        return {rule.get("helpUri") for rule in run["tool"]["driver"]["rules"] if rule["id"] == "OPT203"}

    (run,) = json.loads(sarif(FOUND, manual="https://optio.example.com/docs"))["runs"]
    assert run["tool"]["driver"]["informationUri"] == "https://optio.example.com/docs/"
    assert links({}) == {None}
    assert links({"OPTIO_URL": "https://optio.example.com/"}) == {"https://optio.example.com/docs/reference/rules/#opt203"}


def test_sarif_explains_a_rule_with_its_examples() -> None:
    (rule,) = [each for each in json.loads(sarif(FOUND))["runs"][0]["tool"]["driver"]["rules"] if each["id"] == "OPT111"]

    assert rule["help"]["text"].startswith(f"{RULES['OPT111'].why}\n\nWrong:\n{RULES['OPT111'].wrong.rstrip()}\n\nRight:\n")
    assert rule["help"]["markdown"].count("````yaml\n") == 2


def test_sarif_leads_to_the_other_place_and_has_the_severity_that_was_asked_for() -> None:
    results = json.loads(sarif(apply_strict(FOUND)))["runs"][0]["results"]

    (twice,) = [each for each in results if each["ruleId"] == "OPT701"]
    assert twice["relatedLocations"][0]["physicalLocation"]["artifactLocation"] == {"uri": "a.yaml"}
    assert {each["level"] for each in results if each["ruleId"] == "OPT203"} == {"error"}


def test_sarif_writes_paths_as_references() -> None:
    def uri(path: str) -> str:
        (result,) = json.loads(sarif([Diagnostic(code="OPT101", message="m", path=path)]))["runs"][0]["results"]
        return str(result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"])

    assert uri("teams/a b.yaml") == "teams/a%20b.yaml"
    assert uri("c:100%.yaml") == "c%3A100%25.yaml"
    assert uri("/tasks/\N{SNOWMAN}.yaml") == "file:///tasks/%E2%98%83.yaml"
    assert uri("odd\udcff.yaml") == "odd%FF.yaml"


def test_a_workflow_command_carries_its_place_and_escapes_what_it_must() -> None:
    lines = list(github(FOUND))

    assert lines[0] == (
        "::error file=a.yaml,line=4,endLine=4,title=OPT111 key-case,col=1,endColumn=9::"
        "`max_turns` is not the correct spelling: write `maxTurns`"
    )
    odd = Diagnostic(code="OPT101", message="100% of\nit", path="a,b:c.yaml")
    assert list(github([odd])) == [
        "::error file=a%2Cb%3Ac.yaml,line=1,endLine=1,title=OPT101 unknown-key,col=1,endColumn=1::100%25 of%0Ait"
    ]


def test_junit_has_a_case_for_each_file_and_fails_those_with_errors() -> None:
    suite = fromstring(junit(FOUND, ["a.yaml", "b.yaml", "c.yaml"])).find("testsuite")  # noqa: S314

    assert suite is not None
    cases = {case.get("name"): [part.tag for part in case] for case in suite}
    assert cases == {"a.yaml": ["failure"], "b.yaml": ["failure", "system-out"], "c.yaml": []}
    assert (suite.get("tests"), suite.get("failures")) == ("3", "2")


def test_junit_is_xml_whatever_a_message_holds() -> None:
    odd = Diagnostic(code="OPT101", message="<a> & \x00\x1b]", path="x\x01.yaml")

    case = fromstring(junit([odd], [])).find("testsuite/testcase")  # noqa: S314

    assert case is not None
    assert case.get("name") == "x\ufffd.yaml"
