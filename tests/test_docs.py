"""The README and the pages say what the code does: blocks compile, tables are complete, sentences are short.

`test_docs_run.py` runs the pages, `test_docs_site.py` builds them; `test_design_docs.py` is for `docs/design`.
"""

import argparse
import ast
import configparser
import json
import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterable, Iterator
from decimal import ROUND_UP, Decimal
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import prometheus_client
import pytest
import yaml

from optio import wiring
from optio.cli import COMMANDS
from optio.cli.shared.contexts import read_contexts
from optio.cli.shared.parser import CommandParser
from optio.compiler.checks.scheme import SIGNED_IN
from optio.compiler.pipeline import compile_tree
from optio.compiler.source_tree import MemoryTree
from optio.model import prices
from optio.model.effect import EffectKind
from optio.model.policy import Allow, Ceilings, Fleet, PolicySpec
from optio.model.prompt import MAX_PROMPT_LENGTH
from optio.model.reasons import meanings_of
from optio.model.retry import HOPELESS
from optio.model.runtimes import DECLARED, PROVIDERS
from optio.model.senders import SENDERS, InHeader
from optio.model.spec import names_of
from optio.model.task import Amounts, Environment, Network, Resources, TaskSpec
from optio.model.trigger import ScheduleConfig, WebhookConfig
from optio.runtimes import RUNTIMES
from optio.runtimes.base import BY_STATUS
from optio.runtimes.command import _EXITS
from optio.server.problems import STATUSES
from optio.settings import SETTINGS, Settings, unknown_variables
from optio.telemetry.metrics import Metrics
from tests.pages import BLOCKS, DOCS, PAGES, WRITTEN, Block, is_plan, names, of, page, place, rows
from tests.support import ROOT

GUIDES = sorted((DOCS / "guides").glob("*.md"))
MAX_WORDS = 30
PROSE = sorted(
    [*ROOT.glob("*.md"), *(page for place in ("docs", "deploy", "examples") for page in (ROOT / place).rglob("*.md"))]
)
MAX_README_BYTES = 6_000
# What a new reader begins with.
BEGINNINGS = ("index", "quickstart", "concepts", "guides/systemd", "guides/compose", "guides/cluster")


# Blocks that compile


def of_another_system(block: Block) -> bool:
    """Return whether a YAML block is a file of something else: rules of Prometheus, a CI, a CronJob, a DAG."""
    return bool(block.title) and not block.title.startswith("tasks.d/")


TASKS = [block for block in of("yaml") if not of_another_system(block)]


@pytest.mark.parametrize("block", [b for b in TASKS if "extends:" not in b.text], ids=place)
def test_a_task_file_compiles_without_a_finding(block: Block) -> None:
    name = block.title.removeprefix("tasks.d/") or ("_policy.yaml" if "type: policy" in block.text else "task.yaml")
    beside = {
        other.title.removeprefix("tasks.d/"): other.text
        for other in BLOCKS
        if other.page == block.page and (other.language == "json" or other.title.startswith("tasks.d/connections/"))
    }
    compilation = compile_tree(MemoryTree({**beside, name: block.text}), is_whole=False)

    is_no_task = re.search(r"type: (policy|template|connection)|^_", f"{name}\n{block.text}")
    assert [d.message for d in compilation.diagnostics] == []
    assert len(compilation.registry.tasks) == (0 if is_no_task else 1)


@pytest.mark.parametrize("page", WRITTEN, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_task_files_of_a_page_compile_together(page: Path) -> None:
    found = [b for b in BLOCKS if b.page == str(page.relative_to(ROOT)) and b.title.startswith("tasks.d/")]
    compilation = compile_tree(MemoryTree({b.title.removeprefix("tasks.d/"): b.text for b in found if "policy" not in b.title}))

    assert [d.message for d in compilation.diagnostics if d.severity == "error"] == []


def test_a_template_of_pods_can_be_used(tmp_path: Path) -> None:
    (block,) = [block for block in BLOCKS if block.title == "pod-template.yaml"]
    (tmp_path / "template.yaml").write_text(block.text)

    made = wiring.pod_settings(Settings.load({"OPTIO_POD_TEMPLATE": str(tmp_path / "template.yaml")})).template

    assert (bool(made.labels), bool(made.spec), bool(made.mounts)) == (True, True, True)


def sources(*words: str, below: Iterable[str] = (".",)) -> Iterator[str]:
    """The modules that have one of these words: to parse all of them takes a second."""
    texts = (path.read_text() for part in below for path in (ROOT / "optio" / part).rglob("*.py"))
    return (text for text in texts if any(word in text for word in words))


@cache
def metrics() -> dict[str, set[str]]:
    """Every metric with its labels: counters and histograms as they are made, gauges as the source names them."""
    found: dict[str, set[str]] = {}
    for each in Metrics().registry._collector_to_names:
        if isinstance(each, prometheus_client.metrics.MetricWrapperBase):
            suffix = "_total" if isinstance(each, prometheus_client.Counter) else ""
            found[each._name + suffix] = set(each._labelnames)
    for text in sources("Gauge("):
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Gauge":
                suffix = "_total" if any(keyword.arg == "counts" for keyword in node.keywords) else ""
                labels = node.args[3] if len(node.args) > 3 else ast.Dict()
                keys = [ast.literal_eval(key) for key in getattr(labels, "keys", []) if key is not None]
                found.setdefault(f"optio_{ast.literal_eval(node.args[0])}{suffix}", set()).update(keys)
    # Their labels are made before the call.
    found["optio_generation_info"], found["optio_build_info"] = {"digest", "commit"}, {"version", "python"}
    return found


def test_every_metric_has_a_row_with_its_labels() -> None:
    table = {
        row[0].strip("`"): set(filter(None, row[1].split(", "))) for row in rows(page("operating/metrics.md")) if len(row) == 3
    }
    del table["metric"]

    assert table == metrics()


def test_every_type_of_problem_has_a_row_with_its_status() -> None:
    table = {row[0].strip("`"): int(row[1]) for row in rows(page("reference/http.md")) if row[1].isdigit()}

    assert table == STATUSES


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.title.endswith("rules.yml")], ids=place)
def test_a_rule_of_prometheus_asks_for_metrics_and_labels_that_exist(block: Block) -> None:
    known = metrics()

    for group in yaml.safe_load(block.text)["groups"]:
        for rule in group["rules"]:
            asked = re.findall(r"(optio_\w+)(?:\{([^}]*)\})?", rule["expr"])
            for name, filters in asked:
                assert set(re.findall(r"(\w+)=", filters)) <= known[name], rule["alert"]
            for labels in re.findall(r"by \(([^)]*)\)", rule["expr"]):
                assert set(labels.split(", ")) <= known[asked[0][0]], rule["alert"]
            assert rule["annotations"]["summary"]
            assert rule["expr"].count("(") == rule["expr"].count(")")


@pytest.mark.parametrize("block", [b for b in of("yaml") if of_another_system(b)], ids=place)
def test_a_file_of_another_system_is_yaml_and_its_commands_exist(block: Block) -> None:
    document = yaml.safe_load(block.text)

    assert isinstance(document, dict)
    for line in re.findall(r"^ *- (optio .*)$", block.text, re.M):
        parse(shlex.split(line.partition(" > ")[0]))


@pytest.mark.parametrize("block", of("json"), ids=place)
def test_json_is_json(block: Block) -> None:
    json.loads(block.text)


@pytest.mark.parametrize("block", of("python"), ids=place)
def test_python_is_python(block: Block) -> None:
    ast.parse(block.text)


CONTEXTS = [block for block in of("toml") if "[contexts." in block.text]
ENTRY_POINTS = [block for block in of("toml") if "[project.entry-points" in block.text]


@pytest.mark.parametrize("block", [block for block in of("toml") if block not in CONTEXTS + ENTRY_POINTS], ids=place)
def test_toml_is_toml_and_starts_a_command(block: Block) -> None:
    server = tomllib.loads(block.text)["language-server"]["optio"]

    parse([server["command"], *server["args"]])


def test_a_package_names_its_runtime_as_the_one_that_the_tests_install() -> None:
    shown = [tomllib.loads(block.text)["project"]["entry-points"] for block in ENTRY_POINTS]
    installed = tomllib.loads((ROOT / "tests/data/acme-runtime/pyproject.toml").read_text())["project"]["entry-points"]

    assert shown == [installed]


@pytest.mark.parametrize("block", CONTEXTS, ids=place)
def test_contexts_can_be_read(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "optio").mkdir()
    (tmp_path / "optio" / "config.toml").write_text(block.text)

    found = read_contexts()

    assert found.default in found.by_name


@pytest.mark.parametrize("block", of("lua"), ids=place)
def test_an_editor_starts_a_command_that_exists(block: Block) -> None:
    (command,) = re.findall(r"cmd = \{([^}]*)\}", block.text)

    parse([word.strip(" '") for word in command.split(",")])


@pytest.mark.parametrize("block", of("caddyfile"), ids=place)
def test_a_proxy_leads_webhooks_to_the_port_of_the_server(block: Block) -> None:
    assert "handle /api/hooks/* {" in block.text
    assert f"reverse_proxy 127.0.0.1:{SETTINGS['port'].default}\n" in block.text
    assert block.text.count("{") == block.text.count("}")


@pytest.mark.parametrize("block", of("ini"), ids=place)
def test_a_drop_in_of_systemd_sets_what_exists(block: Block) -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.read_string(block.text)

    assert unit.sections() == ["Service"]
    assert block.title.startswith("/etc/systemd/system/optio-")
    assert [key for key in unit["Service"] if key not in ("environment", "loadcredential")] == []
    variable, _, _ = unit["Service"]["Environment"].strip('"').partition("=")
    assert list(unknown_variables({variable: "x"})) == []


def test_every_block_is_of_a_kind_that_is_tried() -> None:
    assert {block.language for block in BLOCKS} == {
        *("yaml", "sh", "text", "json", "python", "ts", "toml", "lua", "caddyfile", "ini"),
    }


# Commands


def parse(words: list[str]) -> None:
    """Parse a command line of `optio` with its own parser. Raises AssertionError if that refuses it."""
    name = words[1]
    assert name in COMMANDS, words
    command = import_module(f"optio.cli.{COMMANDS[name][0]}")
    parser = CommandParser(prog=f"optio {name}")
    command.add_arguments(parser)
    try:
        parser.parse_args(words[2:])
    except SystemExit as err:
        raise AssertionError(f"refused: {words}") from err


def commands(text: str) -> Iterator[list[str]]:
    """Yield the command lines of `optio` in a shell block."""
    for line in text.splitlines():
        for part in re.split(r" && | \|\| | \| |; ", line):
            words = shlex.split(re.sub(r"\s*(<|>|>>)\s*\S+$", "", part.strip()), comments=True)
            while words and re.match(r"\w+=", words[0]):
                words.pop(0)
            if words[:1] == ["optio"]:
                yield words


@pytest.mark.parametrize("block", of("sh"), ids=place)
def test_a_shell_block_is_shell_and_its_commands_take_what_they_are_given(block: Block) -> None:
    subprocess.run(["sh", "-n"], input=block.text, text=True, check=True)

    for words in commands(block.text):
        parse(words)
    for path in re.findall(r"examples/\S+", block.text):
        assert list(ROOT.glob(path)), path


def test_a_flag_that_does_not_exist_is_found() -> None:
    with pytest.raises(AssertionError, match="refused"):
        parse(["optio", "check", "--nothing"])
    assert list(commands("A=1 optio check && optio nothing > x")) == [["optio", "check"], ["optio", "nothing"]]


@pytest.mark.parametrize("block", [b for b in of("text") if is_plan(b)], ids=place)
def test_a_plan_is_shown_as_it_is_printed(block: Block) -> None:
    plans = (path.read_text() for path in (ROOT / "tests" / "plan" / "changes").glob("*/expected.txt"))

    assert any(plan.startswith(block.text) for plan in plans)


def test_the_commands_that_install_use_what_is_there() -> None:
    (block,) = [b for b in of("sh") if b.page == "docs/quickstart.md" and "pip install" in b.text]
    script = (ROOT / ".ci" / "run").read_text()

    assert block.text.splitlines() == [
        "python3 -m venv .venv",
        ".venv/bin/pip install -q --require-hashes -r requirements.lock",
        ".venv/bin/pip install -q --no-deps --no-build-isolation -e .",
    ]
    assert (ROOT / "requirements.lock").exists()
    assert "bash tests/setup.sh\n" in script
    assert "\n.ci/tests " in script


def test_a_command_that_the_page_of_alerts_names_can_be_typed_as_it_stands() -> None:
    text = re.sub(r"^```.*?^```$", "", page("operating/alerts.md"), flags=re.M | re.S)
    named = re.findall(r"`(optio [^`]+)`", text)

    assert "optio tasks release DIGEST" in named
    for command in named:
        parse(shlex.split(command))


def test_no_page_installs_the_other_project_called_optio() -> None:
    for path in PAGES:
        assert not re.search(r"pip install (-\S+ )*['\"]?optio(?!-taskrunner)\b", path.read_text()), path


# Tables


_ENFORCERS = {"cli": "the agent", "meter": "Optio, by its meter", "report": "Optio, if the program reports"}


def test_the_table_of_agents_is_what_the_runtimes_declare() -> None:
    found = {row[1].strip("`"): row for row in rows(page("tasks/agents.md")) if len(row) == 5 and row[0] != "agent"}
    limits = {row[0].strip("`"): row for row in rows(page("tasks/agents.md")) if len(row) == 4 and row[0] != "agent"}

    assert set(found) == set(limits) == set(DECLARED)
    for name, runtime in DECLARED.items():
        title, _, *others = found[name]
        program = runtime.program
        assert title == runtime.title
        assert others == (["", "", ""] if program is None else [f"`{program.name}`", f"`{program.package}`", program.tested])
        _, turns, budget, cost = limits[name]
        assert turns.startswith(_ENFORCERS[runtime.capabilities.max_turns])
        assert budget.startswith(_ENFORCERS[runtime.capabilities.budget])
        assert (cost == "its own figure") == runtime.capabilities.tells_cost


def test_the_table_of_prompts_is_what_the_runtimes_declare() -> None:
    prompts = page("tasks/agents.md").partition("## Prompts")[2].partition("## Limits")[0]
    told = {row[0].strip("`"): row[1:] for row in rows(prompts) if len(row) == 3 and row[0] != "agent"}
    words = {"command": "commands", "mention": "files"}

    assert set(told) == set(DECLARED)
    for name, runtime in DECLARED.items():
        traits = runtime.prompt
        limits = {"characters": traits.max_characters, "bytes": traits.max_bytes}
        longest = "".join(f"{limit:,} {unit}" for unit, limit in limits.items() if limit is not None)
        assert told[name] == [longest, ", ".join(words[each] for each in traits.misreads)], name
    assert f"more than {MAX_PROMPT_LENGTH:,}\ncharacters" in prompts


def test_the_table_of_schemas_is_what_the_runtimes_declare() -> None:
    told = {name: row[1] for row in rows(page("tasks/results.md")) if len(row) == 2 for name in names(row[0])}

    for name, runtime in DECLARED.items():
        own = "in the prompt" if runtime.program is not None else "in the file"
        assert told[name].startswith(own if runtime.capabilities.schema is None else "by its option"), name


def test_the_agents_whose_sessions_go_on_are_those_that_the_pages_name() -> None:
    (going_on,) = re.findall(r"^- The agent is (.*?), and", page("tasks/limits.md"), re.M)
    (repeated,) = re.findall(r"^With (.*?), and in pods, the attempt is repeated", page("tasks/results.md"), re.M)

    assert names(going_on) == {name for name, runtime in DECLARED.items() if runtime.capabilities.resume}
    assert names(repeated) == DECLARED.keys() - names(going_on)


def test_the_limit_of_silence_is_that_of_the_runtimes() -> None:
    (told,) = [row[2] for row in rows(page("tasks/keys.md")) if row[0] == "`stallTimeout`"]
    stalls = {name: RUNTIMES[name].stall for name in DECLARED}

    assert stalls.pop("command") is None
    (limit,) = {stall for stall in stalls.values() if stall is not None}
    assert told.startswith(f"`{limit.seconds // 60}m`; none for a `command`;")


def test_the_table_of_hosts_and_secrets_is_what_the_check_knows() -> None:
    table = {row[0]: row[1:] for row in rows(page("tasks/agents.md").partition("## Hosts and secrets")[2])}
    services = {f"`{name}`": runtime.service for name, runtime in DECLARED.items()}
    services |= {f"`opencode` with `{name}/...`": service for name, service in PROVIDERS.items()}

    assert len(services) > 7
    for name, service in services.items():
        if service is not None:
            host, secrets = table[name]
            assert host == f"`{service.host}`", name
            assert service.key in names(secrets), name
            assert [each for each in names(secrets) if not re.match(service.credentials, each)] == [], name


def test_every_setting_stands_in_a_table_with_its_default_and_meaning() -> None:
    found = [row for row in rows(page("operating/settings.md")) if len(row) == 3 and row[0].startswith("`OPTIO_")]

    assert sorted(found) == sorted(
        [f"`OPTIO_{name.upper()}`", f"`{setting.default}`" if setting.default else "", setting.help]
        for name, setting in SETTINGS.items()
    )


def test_every_key_of_a_task_file_has_a_row() -> None:
    first = {name for row in rows(page("tasks/keys.md")) for name in names(row[0])}
    keys = [
        *names_of(TaskSpec),
        *(f"environment.{key}" for key in names_of(Environment)),
        *(f"environment.network.{key}" for key in names_of(Network)),
        *(f"environment.resources.{key}" for key in names_of(Resources)),
        *names_of(ScheduleConfig),
        *names_of(WebhookConfig),
    ]

    assert [key for key in keys if key not in first] == []
    assert names_of(Amounts) == ["cpu", "memory"]


def test_a_default_in_the_table_of_keys_is_that_of_the_schema() -> None:
    schema = json.loads((ROOT / "schemas" / "task.schema.json").read_text())
    properties = {**schema["properties"], **schema["$defs"]["ScheduleConfig"]["properties"]}
    properties.update(schema["$defs"]["WebhookConfig"]["properties"])
    table = {key: row[2] for row in rows(page("tasks/keys.md")) if len(row) == 4 for key in names(row[0])}
    wanted = {key: value["default"] for key, value in properties.items() if "default" in value}

    assert len(wanted) > 10
    for key, default in wanted.items():
        assert table[key] == f"`{json.dumps(default).strip(chr(34))}`", key


def test_every_key_of_a_policy_has_a_row() -> None:
    table = {key: row[1] for row in rows(page("tasks/templates-and-policy.md")) if len(row) == 2 for key in names(row[0])}

    assert set(names_of(PolicySpec)) <= set(table)
    for key, model in (("ceilings", Ceilings), ("fleet", Fleet), ("allow", Allow)):
        assert names(table[key]) == set(names_of(model)), key


def test_every_scheme_stands_in_the_table_with_its_header_event_and_delivery_id() -> None:
    table = {row[0].strip("`"): row[1:] for row in rows(page("reference/signatures.md")) if len(row) == 4}

    for scheme, sender in SENDERS.items():
        signature, event, delivery = table[scheme]
        assert scheme == "hmac" or f"`{sender.header}" in signature
        events = () if scheme == "hmac" else sender.event[:1]
        for sources, cell in ((events, event), (sender.delivery, delivery)):
            assert {each.name if isinstance(each, InHeader) else each.path for each in sources} <= names(cell), scheme
    assert set(SENDERS) <= set(table)


def test_the_schemes_whose_signatures_can_be_stale_are_named() -> None:
    (said,) = re.findall(r"Only\s+(.*?)\s+have a time stamp", page("tasks/testing.md"), re.S)

    assert names(said) == {scheme for scheme, sender in SENDERS.items() if sender.can_be_stale}


def test_every_command_and_every_verb_stands_in_the_table() -> None:
    documented = {tuple(name.split()[1:3]) for row in rows(page("reference/cli.md")) for name in names(row[0])}
    wanted = set()
    for name, (module, _) in COMMANDS.items():
        parser = CommandParser(prog=name)
        import_module(f"optio.cli.{module}").add_arguments(parser)
        verbs = [verb for each in parser._actions if isinstance(each, argparse._SubParsersAction) for verb in each.choices]
        wanted |= {(name, verb) for verb in verbs} or {(name,)}

    assert {words[0] for words in documented if words} >= set(COMMANDS)
    assert [words for words in sorted(wanted) if not any(shown[: len(words)] == words for shown in documented)] == []


def test_every_route_stands_in_the_table() -> None:
    table = " ".join(row[0] for row in rows(page("reference/http.md")))
    sources = "".join(path.read_text() for path in (ROOT / "optio" / "server" / "routes").glob("*.py"))
    routes = re.findall(r"@(?:get|post|patch|delete)\(\s*\"([^\"]+)\"", sources)

    assert len(routes) > 10
    for route in routes:
        path = re.sub(
            r"\{path:\w+\}|\{\w+:(?:str|int)\}", lambda found: "{path}" if "{path" in found[0] else "{id}", route
        ).replace("triggers/{id}", "triggers/{type}")
        short = "..." + path[path.rindex("/") :]
        assert f" {path}`" in table or f"`{short}`" in table, route


def test_every_variable_of_a_program_has_a_row() -> None:
    files = ("runs/launching.py", "runtimes/command.py", "executors/process.py")
    sources = "".join((ROOT / "optio" / name).read_text() for name in files)
    settings = {f"OPTIO_{name.upper()}" for name in SETTINGS}
    given = set(re.findall(r"\"(OPTIO_\w+)\"(?::|\]|,)", sources)) - settings
    table = {name for row in rows(page("tasks/command.md")) for name in names(row[0])}

    assert given == {name for name in table if name.startswith("OPTIO_")}
    assert len(given) >= 8


def reasons() -> set[str]:
    """Reasons as the code gives them: to outcomes, ends, delays, holds and failed launches, and from its tables."""
    found = {reason for reason, _ in (*BY_STATUS.values(), *_EXITS.values())} | HOPELESS
    givers = ("Outcome", "Exit", "Delay", "Hold", "GiveUp", "LaunchFailed")
    for text in sources(*(f"{name}(" for name in givers), below=("runs", "runtimes", "executors", "model", "store")):
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in givers:
                words = [each.value for each in node.keywords if each.arg == "reason"]
                words += node.args[:1] if node.func.id in ("LaunchFailed", "Hold") else []
                found |= {str(each.value) for each in words if isinstance(each, ast.Constant) and each.value}
    return found


def test_every_reason_has_a_row() -> None:
    table = {name for row in rows(page("reference/reasons.md")) for name in names(row[0])} | {"supervisor_killed", "ok"}

    assert len(reasons()) > 40
    assert sorted(reasons() - table) == []


def test_every_kind_of_effect_has_a_row() -> None:
    table = [name for row in rows(page("reference/effects.md")) for name in names(row[0])]

    assert sorted(table) == sorted(EffectKind)


def test_the_meanings_of_reasons_are_those_of_the_page() -> None:
    told = {}
    for row in rows(page("reference/reasons.md").partition("## A further attempt")[2]):
        cells = [re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", cell).strip() for cell in row[1:]]
        for name in names(row[0]):
            told.setdefault(name, []).append((cells[0], cells[1] if len(cells) > 1 else ""))
    good = {"ok", "no_work"}

    assert len(told) > 50
    assert {name: [(each.meaning, each.cure) for each in meanings_of(name)] for name in told if name not in good} == {
        name: each for name, each in told.items() if name not in good
    }


def test_the_price_of_the_longest_call_is_that_of_the_list() -> None:
    cost = prices.max_call_cost("sonnet")

    assert f"(${cost} with `sonnet`" in page("tasks/limits.md")
    assert f"one call of the model at ${cost}\n" in page("guides/pull-requests.md")


def test_the_table_of_calls_has_the_figure_of_each_model_with_a_price() -> None:
    table = {
        name: row[1] for row in rows(page("tasks/agents.md")) if len(row) == 2 and row[1][:1] == "$" for name in names(row[0])
    }

    assert {name.replace(".", "-") for name in table} == {*prices.price_list(), "sonnet", "opus", "haiku"}
    for name, figure in table.items():
        assert figure == f"${(prices.max_call_cost(name) or Decimal(0)).quantize(Decimal('0.01'), ROUND_UP)}", name


def test_the_senders_with_their_own_headers_are_those_that_the_check_knows() -> None:
    part = page("reference/signatures.md").partition("### Senders with")[2].partition("\n## ")[0]
    table = {row[0]: {each.rpartition(" ")[2].lower() for cell in row for each in names(cell)} for row in rows(part)}

    for header, (sender, signature) in SIGNED_IN.items():
        if sender != "WooCommerce":
            assert {header, signature.lower()} <= table[sender], sender


def test_every_exit_code_of_the_contract_is_that_of_the_code() -> None:
    for name in ("tasks/command.md", "reference/exit-codes.md"):
        table = {code: row for row in rows(page(name)) for code in re.findall(r"\b\d+\b", row[0])}
        for code, (reason, again) in _EXITS.items():
            assert f"`{reason}`" in table[str(code)][1], (name, code)
            assert table[str(code)][2] == ("yes" if again else "no"), (name, code)


# Language


def sentences(text: str) -> Iterator[str]:
    """Yield the sentences of a page, without code, tables and addresses."""
    text = re.sub(r"^```.*?^```$|<!--.*?-->", "", text, flags=re.M | re.S)
    text = re.sub(r"^\|.*$", "", text, flags=re.M)
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"`[^`]*`", "code", text)
    # A heading and an item of a list are paragraphs of their own.
    text = re.sub(r"^ *(#+|[-*]|\d+\.) (.*)$", r"\n\2", re.sub(r"^(#+ .*)$", r"\1\n", text, flags=re.M), flags=re.M)
    for paragraph in re.split(r"\n\s*\n", text):
        yield from (each for each in re.split(r"(?<=[.!?])[\"*)]*\s+", " ".join(paragraph.split())) if each)


@pytest.mark.parametrize("page", PROSE, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_sentence_is_longer_than_thirty_words(page: Path) -> None:
    assert [each for each in sentences(page.read_text()) if len(each.split()) > MAX_WORDS] == []


def test_a_long_sentence_is_found_across_lines_and_in_a_list() -> None:
    long = " ".join(["word"] * 20)

    assert max(len(each.split()) for each in sentences(f"# Head\n- {long}\n  {long}. Short.")) == 40
    assert max(len(each.split()) for each in sentences(f"{long}.\n{long}.\n- {long}\n\n| {long} | {long} |")) == 20


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.stem)
def test_a_guide_speaks_to_you(guide: Path) -> None:
    assert len(re.findall(r"\b[Yy]our?\b", guide.read_text())) >= 3


def test_the_readme_is_short_and_leads_to_the_pages() -> None:
    readme = (ROOT / "README.md").read_text()

    assert len(readme.encode()) <= MAX_README_BYTES
    assert {"docs/index.md", "docs/quickstart.md", "docs/tasks/keys.md", "docs/operating/settings.md"} <= set(
        re.findall(r"\]\(([^)#]+)", readme)
    )


def pages_of(nav: Any) -> set[str]:
    """Return the pages of a part of the site's navigation: a page, or a list or mapping of such parts."""
    parts = nav.values() if isinstance(nav, dict) else nav
    return {nav} if isinstance(nav, str) else {name for part in parts for name in pages_of(part)}


def test_the_index_links_every_page_of_the_navigation() -> None:
    listed = pages_of(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"])

    assert len(listed) > 45
    assert listed - set(re.findall(r"\]\(([^)#]+)", page("index.md"))) == {"index.md"}


@pytest.mark.parametrize("name", ["README.md", *(f"docs/{each}.md" for each in BEGINNINGS)])
def test_a_page_of_beginners_leads_to_the_dashboard(name: str) -> None:
    text = (ROOT / name).read_text()

    assert "dashboard.md)" in text
    assert name in ("docs/index.md", "docs/concepts.md") or re.search(r"`dashboard`|http://127\.0\.0\.1:8000/`", text)


def test_every_page_of_the_dashboard_has_a_row() -> None:
    sources = "".join(path.read_text() for path in sorted((ROOT / "optio" / "server" / "pages").glob("*.py")))
    routes = {re.sub(r"{(\w+):str}", r"{id}", each) for each in re.findall(r"@get\(\s*\"([^\"]+)\"", sources)}
    table = {re.sub("ID|NUMBER", "{id}", name) for row in rows(page("guides/dashboard.md")) for name in names(row[0])}

    others = {"/", "/costs.csv", "/login/provider", "/static/{name:path}"}
    assert {each for each in table if each.startswith("/")} == routes - others


def test_no_page_of_the_dashboard_is_listed_as_not_there_yet() -> None:
    menu = (ROOT / "optio" / "server" / "pages" / "templates" / "base.html").read_text()
    shown = set(re.findall(r'<a href="/(\w+)"', menu)) - {"docs"}
    items = [item for item in re.split(r"^- ", page("reference/not-yet.md"), flags=re.M) if "dashboard" in item.lower()]

    assert {"tasks", "queue", "costs"} < shown
    assert [name for name in shown for item in items if re.search(rf"\b{name}\b", item, re.I)] == []


def test_every_story_in_the_table_is_a_test() -> None:
    table = (ROOT / "tests" / "stories" / "README.md").read_text()
    wanted = re.findall(r"(test_\w+): ([\w.]+(?:, [\w.]+)*)", table)

    assert len(wanted) > 15
    for module, stories in wanted:
        source = (ROOT / "tests" / "stories" / f"{module}.py").read_text()
        for story in stories.split(", "):
            assert story.strip(".") in source, f"{module}: {story}"


def test_the_page_of_upgrades_names_every_image_of_others() -> None:
    named: dict[str, set[str]] = {}
    for path in sorted((ROOT / "deploy").rglob("*")):
        if path.name == "Dockerfile" or path.suffix in (".yaml", ".yml"):
            for image in re.findall(r"^(?: *image: |ARG BASE=|FROM )([a-z0-9./-]+:[\w.-]+)", path.read_text(), re.M):
                if not image.startswith("optio"):
                    named.setdefault(image, set()).add(str(path.relative_to(ROOT)))

    told: dict[str, set[str]] = {}
    for images, files, _ in (row for row in rows(page("operating/upgrade.md")) if len(row) == 3):
        for image in names(images):
            told.setdefault(image, set()).update(names(files))

    assert named.keys() == told.keys()
    for image, files in named.items():
        assert {each for each in files if not any(each.startswith(known) for known in told[image])} == set(), image
