"""The forms that other programs read."""

import json
from xml.etree.ElementTree import fromstring

from optio.compiler.diagnostics import Diagnostic, apply_strict
from optio.compiler.exchange import github, junit, sarif
from optio.compiler.pipeline import compile_tree
from optio.compiler.source_tree import MemoryTree

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
