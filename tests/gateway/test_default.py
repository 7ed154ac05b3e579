"""The gateway of `optio dev` by default, and what a log says of agents that it does not lead."""

from unittest import mock

import pytest

from optio.cli import dev
from optio.cli.shared.gateway_server import listening_for_agents
from optio.cli.shared.listening import listen
from optio.model.fleet import FleetState, ProcessKind, find_problems
from optio.model.money import RunBudget
from optio.model.runtimes import DECLARED
from optio.runs.gateway_access import GatewayRoute, direct_note
from optio.settings import Settings
from tests.model.test_fleet import ALL, NOW, row
from tests.support import compiled


@pytest.mark.parametrize(
    ("environ", "is_installed", "mode"),
    [
        ({}, True, "preferred"),
        ({}, False, "off"),
        ({"OPTIO_EXECUTOR": "kubernetes"}, True, "off"),
        ({"OPTIO_GATEWAY": "required"}, False, "required"),
        ({"OPTIO_GATEWAY": "off"}, True, "off"),
    ],
)
def test_dev_prefers_the_gateway_where_it_can_serve_one(environ: dict[str, str], is_installed: bool, mode: str) -> None:
    with mock.patch.object(dev, "has_gateway", return_value=is_installed):
        settings = dev._with_gateway(Settings.load(environ, defaults={"gateway": "preferred"}))

    assert settings.gateway == mode


def test_a_default_port_that_is_in_use_is_replaced_by_a_free_one() -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        settings = Settings.load({}, defaults={"gateway": "preferred", "gateway_port": str(port)})
        with listening_for_agents(settings) as (found, sock):
            assert sock is not None
            assert found.gateway_port == sock.getsockname()[1] != port


@pytest.mark.parametrize(("agent", "who"), [("claude-code", "the agent ends it"), ("copilot", "Optio, after a call, ends it")])
def test_the_log_says_who_holds_an_agent_that_is_not_led_to_its_budget(agent: str, who: str) -> None:
    made = compiled(
        f"name: A\nagentRuntime: {agent}\nmodel: sonnet\npromptTemplate: Hi\nbudgetUsd: '1.00'\ntriggers: [{{type: manual}}]\n"
    )
    route, budget = GatewayRoute("http://127.0.0.1:8100", "preferred"), RunBudget.of(made.spec)

    (note,) = direct_note(route, made, budget, [], {agent: "https://models.example"}, DECLARED[agent])

    problem = "it has no API key that the gateway could add for it: name one in `environment.secrets`"
    assert note == f"not led through the gateway: {problem}; {who} at its budget of $1.00"
    assert direct_note(None, made, budget, [], {}, DECLARED[agent]) == []


def test_running_agents_that_need_a_gateway_miss_one() -> None:
    lost = FleetState(now=NOW, processes=ALL, queued={}, metered=2)
    led = FleetState(now=NOW, processes=(*ALL, row(ProcessKind.GATEWAY)), queued={}, metered=2)

    assert [(found.code, found.kind) for found in find_problems(lost)] == [("missing", ProcessKind.GATEWAY)]
    assert find_problems(led) == []
