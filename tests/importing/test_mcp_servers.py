"""MCP servers of other clients as connections: their spellings, their secrets, and what a connection cannot say."""

import contextlib
import json
from typing import Any

import pytest

from optio.compiler.pipeline import compile_tree
from optio.compiler.source import SourceFile
from optio.compiler.source_tree import MemoryTree
from optio.compiler.yaml.document import parse
from optio.importing.mcp_servers import ImportedServer, read_servers
from optio.importing.source import SourceError
from optio.model.connection import McpConnection
from optio.model.spec import to_json

TOKEN = "ghp_" + "a1B2" * 9
WIKI = "https://wiki.example.org/mcp"
BEARER = {"Authorization": "Bearer {{secret:WIKI_TOKEN}}"}


def transport_of(server: ImportedServer) -> dict[str, Any]:
    """The transport as the file says it; the file compiles."""
    assert server.text is not None, server.refused
    assert [each for each in compile_tree(MemoryTree({server.path: server.text})).diagnostics if each.severity == "error"] == []
    document, _ = parse(SourceFile(server.path, server.text.encode()))
    assert document is not None
    spec = McpConnection.of(document.value)
    return {"type": spec.transport.type, **to_json(spec.transport, defaults=False)}


def one(value: Any) -> ImportedServer:
    """The one server of a configuration: TOML as a text, or JSON."""
    (server,) = read_servers(value if isinstance(value, str) else json.dumps(value))
    return server


HTTP = {"type": "streamable-http", "url": WIKI, "headers": BEARER}
STDIO = {"type": "stdio", "command": ["npx", "-y", "wiki"], "env": {"MODE": "all", "WIKI_TOKEN": "{{secret:WIKI_TOKEN}}"}}
FORMS = {
    "an .mcp.json": (
        {"mcpServers": {"wiki": {"type": "http", "url": WIKI, "headers": {"Authorization": "Bearer ${WIKI_TOKEN}"}}}},
        HTTP,
    ),
    "a desktop's configuration": (
        {"mcpServers": {"wiki": {"command": "npx", "args": ["-y", "wiki"], "env": {"MODE": "all", "WIKI_TOKEN": "abc"}}}},
        STDIO,
    ),
    "an editor's mcp.json": (
        {
            "inputs": [{"id": "wiki_token", "type": "promptString", "password": True}],
            "servers": {"wiki": {"type": "http", "url": WIKI, "headers": {"Authorization": "Bearer ${input:wiki_token}"}}},
        },
        HTTP,
    ),
    "an editor's settings.json": (
        {"mcp": {"servers": {"wiki": {"command": "npx", "args": ["-y", "wiki"], "env": {"MODE": "all", "WIKI_TOKEN": "x"}}}}},
        STDIO,
    ),
    "a settings.json with httpUrl": (
        {"mcpServers": {"wiki": {"httpUrl": WIKI, "headers": {"Authorization": "Bearer $WIKI_TOKEN"}, "trust": True}}},
        HTTP,
    ),
    "a config.toml, remote": (f'[mcp_servers.wiki]\nurl = "{WIKI}"\nbearer_token_env_var = "WIKI_TOKEN"\n', HTTP),
    "a config.toml, local": (
        '[mcp_servers.wiki]\ncommand = "npx"\nargs = ["-y", "wiki"]\nenv_vars = ["WIKI_TOKEN"]\nenv = {MODE = "all"}\n',
        STDIO,
    ),
    "an opencode.json, remote": (
        {"mcp": {"wiki": {"type": "remote", "url": WIKI, "headers": {"Authorization": "Bearer {env:WIKI_TOKEN}"}}}},
        HTTP,
    ),
    "an opencode.json, local": (
        {
            "mcp": {
                "wiki": {
                    "type": "local",
                    "command": ["npx", "-y", "wiki"],
                    "environment": {"MODE": "all", "WIKI_TOKEN": "{env:WIKI_TOKEN}"},
                }
            }
        },
        STDIO,
    ),
    "a server.json with an address": (
        {
            "name": "org.example/wiki",
            "description": "A wiki",
            "remotes": [
                {
                    "type": "streamable-http",
                    "url": "https://{place}.example.org/mcp",
                    "variables": {"place": {"default": "wiki"}},
                    "headers": [
                        {"name": "Authorization", "value": "Bearer {token}", "variables": {"token": {"isSecret": True}}}
                    ],
                }
            ],
        },
        HTTP,
    ),
    "a server.json with a package, as the registry answers": (
        {
            "server": {
                "name": "org.example/wiki",
                "packages": [
                    {
                        "registryType": "npm",
                        "identifier": "wiki",
                        "version": "1.2.3",
                        "transport": {"type": "stdio"},
                        "packageArguments": [{"type": "named", "name": "--mode", "value": "all"}],
                        "environmentVariables": [
                            {"name": "WIKI_TOKEN", "isSecret": True, "isRequired": True},
                            {"name": "MODE", "default": "all"},
                        ],
                    }
                ],
            }
        },
        {
            "type": "stdio",
            "command": ["npx", "-y", "wiki@1.2.3", "--mode", "all"],
            "env": {"WIKI_TOKEN": "{{secret:WIKI_TOKEN}}", "MODE": "all"},
        },
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_each_form_of_a_configuration_becomes_the_same_connection(form: str) -> None:
    value, transport = FORMS[form]

    server = one(value)

    assert (server.id, transport_of(server), server.secrets) == ("wiki", transport, ("WIKI_TOKEN",))


@pytest.mark.parametrize(
    ("name", "value", "written"),
    [
        ("Authorization", f"Bearer {TOKEN}", "Bearer {{secret:WIKI_TOKEN}}"),
        ("Authorization", TOKEN, "{{secret:WIKI_TOKEN}}"),
        ("X-Api-Key", "abc", "{{secret:WIKI_X_API_KEY}}"),
        ("X-Note", TOKEN, "{{secret:WIKI_X_NOTE}}"),
        ("X-Region", "eu", "eu"),
    ],
)
def test_a_literal_secret_becomes_a_name_and_is_not_repeated(name: str, value: str, written: str) -> None:
    server = one({"mcpServers": {"wiki": {"url": WIKI, "headers": {name: value}}}})

    assert transport_of(server)["headers"] == {name: written}
    assert TOKEN not in repr(server)
    assert ("plain text" in repr(server.notes)) == (written != value)


def test_two_servers_with_one_variable_and_two_values_get_two_secrets() -> None:
    entries = {name: {"command": name, "env": {"API_KEY": value}} for name, value in (("a", "1"), ("b", "1"), ("c", "2"))}

    servers = read_servers(json.dumps({"mcpServers": entries}))

    assert [server.secrets for server in servers] == [("API_KEY",), ("API_KEY",), ("C_API_KEY",)]


@pytest.mark.parametrize(
    ("entry", "refusal"),
    [
        ({"command": "x", "cwd": "/srv"}, "`cwd` cannot be carried"),
        ({"command": "x", "envFile": ".env"}, "write the variables of that file into `env`"),
        ({"url": WIKI, "oauth": {"clientId": "x"}}, "nobody can sign in at a gateway"),
        ({"url": f"{WIKI}?key=abc"}, "its address holds a query"),
        ({"url": "https://me:abc@wiki.example.org"}, "its address holds a query, a fragment or a user"),
        ({"url": "https://${HOST}/mcp"}, "holds the variable `HOST`"),
        ({"command": "x", "args": ["--api-key", "abc"]}, "an argument is a credential"),
        ({"command": "x", "args": ["--header", "Authorization: Bearer abc"]}, "an argument is a credential"),
        ({"command": "x", "args": [TOKEN]}, "it holds a token in an argument"),
        ({"command": "x", "args": ["${HOME}/x"]}, "holds the variable `HOME`"),
        ({"url": WIKI, "command": "x"}, "it has both `url` and `command`"),
        ({"url": WIKI, "httpUrl": WIKI}, "says the same as another key"),
        ({"url": WIKI, "type": "websocket"}, "`websocket` is none of"),
        ({"url": WIKI, "headers": {"X-Key": "{file:./key}"}}, "store its content as a secret"),
        ({"url": "wiki.example.org"}, "has no scheme"),
        ({}, "it has neither `url` nor `command`"),
        ("x", "it must be a mapping"),
    ],
)
def test_what_a_connection_cannot_say_is_refused_with_the_reason(entry: Any, refusal: str) -> None:
    server = one({"mcpServers": {"wiki": entry}})

    assert server.text is None
    assert refusal in (server.refused or "")
    assert TOKEN not in repr(server)


@pytest.mark.parametrize(
    ("package", "refusal"),
    [
        ({"registryType": "oci", "identifier": "x"}, "no package of npm or pypi"),
        (
            {
                "registryType": "npm",
                "identifier": "x",
                "version": "1",
                "packageArguments": [{"name": "dir", "isRequired": True}],
            },
            "`dir` needs a value",
        ),
    ],
)
def test_a_package_that_cannot_be_started_as_it_is_is_refused(package: dict[str, Any], refusal: str) -> None:
    assert refusal in (one({"name": "org.example/wiki", "packages": [package]}).refused or "")


def test_what_is_not_carried_and_what_is_left_to_do_is_said_in_the_file() -> None:
    entry = {"url": WIKI, "disabled": True, "timeout": 5000, "tools": ["find", "write"]}

    server = one({"mcpServers": {"wiki": entry}})
    bare = one({"mcpServers": {"wiki": {"url": f"{WIKI}/sse"}}})

    text = server.text or ""
    assert "# not carried: `timeout`\n" in text
    assert "# it was switched off where it came from\n" in text
    assert "tools:\n  find: write\n  write: write\n" in text
    assert bare.notes[0] == "its transport was not written: `sse` is taken by its address"
    assert "`optio connection pin wiki --tools` writes them" in (bare.text or "")


def test_json_may_have_comments_and_trailing_commas_as_editors_allow_them() -> None:
    text = '{ // mine\n "mcpServers": { /* all */ "wiki": {"url": "https://wiki.example.org//mcp,}",},\n },\n}'

    assert "wiki.example.org//mcp,}" in (one(text).text or one(text).refused or "")


def test_names_that_lead_to_one_id_are_refused_but_for_the_first() -> None:
    servers = read_servers(json.dumps({"mcpServers": {"My Wiki": {"url": WIKI}, "my-wiki": {"url": WIKI}, "!": {"url": WIKI}}}))

    assert [(server.id, server.refused) for server in servers] == [
        ("my-wiki", None),
        ("my-wiki", "another server of the file has the id `my-wiki`, too: rename one of them"),
        ("", "its name has no letter or digit: rename it"),
    ]


@pytest.mark.parametrize(
    "text",
    [
        *("[]", "{}", '{"mcpServers": []}', '{"mcpServers": {}}', "a = 1", "\ufeff{}", "x"),
        *("[" * 100_000, "a = " + "[" * 100_000, '{"a":' * 100_000),
    ],
)
def test_a_text_without_servers_is_an_error_with_a_cure(text: str) -> None:
    with pytest.raises(SourceError) as error:
        read_servers(text)

    assert error.value.cure


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "text",
    [
        "{" + "/*" * 500_000,
        '{"' + '\\"' * 500_000,
        *(
            json.dumps({"mcpServers": {"wiki": entry}})
            for entry in (
                {"command": "x", "args": ["key" * 300_000]},
                {"command": "x", "env": {"A": "${a:-" * 200_000}},
                {"url": WIKI, "headers": {"A": "{a" * 400_000}},
            )
        ),
    ],
    ids=["comments", "strings", "arguments", "defaults", "variables"],
)
def test_a_large_file_that_is_made_to_be_slow_is_read_in_time(text: str) -> None:
    with contextlib.suppress(SourceError):
        read_servers(text)
