"""Read MCP servers from the configuration of a client, or from a `server.json` of the MCP registry, as connections.

Clients differ in the spelling of the same few keys, so one table gives each key its meaning, whoever wrote it. A value that may
be a secret becomes `{{secret:NAME}}` and is never repeated. A server whose configuration says more than a connection can is
refused, with the reason. Pure: used by `optio connection import`.
"""

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from optio.compiler.conversions.known_keys import CREDENTIAL_NAME
from optio.compiler.diagnostics import Severity
from optio.compiler.pipeline import compile_tree
from optio.compiler.source_tree import MemoryTree
from optio.compiler.token_shapes import match_tokens
from optio.compiler.yaml.emit import dump
from optio.importing.source import SourceError
from optio.model.connection import DIRECTORY, Connection, McpConnection
from optio.model.text import slug

# Where clients keep their servers: a mapping by name. `mcp` may hold the servers itself, or below `servers`.
_CONTAINERS = ("mcpServers", "mcp_servers", "servers", "mcp")
# The meaning of each key of a server, in the spellings of clients.
_KEYS = {
    "url": "url",
    "httpUrl": "url",
    "serverUrl": "url",
    "type": "transport",
    "transport": "transport",
    "command": "command",
    "args": "args",
    "env": "env",
    "environment": "env",
    "env_vars": "forwarded",
    "headers": "headers",
    "http_headers": "headers",
    "env_http_headers": "header variables",
    "bearer_token_env_var": "bearer variable",
    "tools": "tools",
    "enabled_tools": "tools",
    "includeTools": "tools",
    "description": "description",
    "tool_timeout_sec": "timeout",
    "enabled": "enabled",
    "disabled": "disabled",
}
# Keys that change what a server is, and that a connection cannot say.
_REFUSED = {
    "cwd": "a program of a connection has no working directory: name files by absolute paths",
    "envFile": "write the variables of that file into `env`",
    **dict.fromkeys(
        ("oauth", "auth", "authProviderType", "oauth_resource", "scopes"),
        "nobody can sign in at a gateway: make a token for it, and write it as a header",
    ),
}
_TRANSPORTS = {
    **dict.fromkeys(("http", "streamable-http", "streamableHttp", "streamable_http", "remote"), "streamable-http"),
    "sse": "sse",
    **dict.fromkeys(("stdio", "local"), "stdio"),
}
# How packages of a `server.json` are started, by the registry that has them.
_LAUNCHERS = {"npm": ("npx", "-y", "{}@{}"), "pypi": ("uvx", "{}@{}")}
# `${VAR}`, `${VAR:-default}`, `${env:VAR}`, `${input:id}`, `$VAR`, and `{env:VAR}`.
_PLACEHOLDER = re.compile(
    r"\$\{(?:env:|input:)?([A-Za-z_][\w.-]{0,127})(?::-([^}]{0,200}))?\}"
    r"|(?<![\w$])\$([A-Z_][A-Z0-9_]*)|\{env:([A-Za-z_]\w*)\}",
    re.ASCII,
)
# Of a `server.json`: `{name}`, whose `variables` say what it is.
_VARIABLE = re.compile(r"\{([A-Za-z_][\w.-]*)\}", re.ASCII)
_SCHEME = re.compile(r"((?:Bearer|Basic|Token)\s+)(.+)", re.IGNORECASE | re.DOTALL)
_CREDENTIAL_HEADER = re.compile(r"authorization|cookie|key|token|secret|password|credential", re.IGNORECASE)
_CREDENTIAL_ARGUMENT = re.compile(rf"(?:{_CREDENTIAL_HEADER.pattern})[\w-]{{0,40}}\s{{0,5}}[:=]\s*\S", re.IGNORECASE)
# What is not closed goes to the end, so that no text is searched twice.
_STRING = r'("(?:[^"\\]|\\.|\\\Z)*(?:"|\Z))'
_COMMENTS = re.compile(rf"{_STRING}|//[^\n]*|/\*.*?(?:\*/|\Z)", re.DOTALL)
_TRAILING_COMMAS = re.compile(rf"{_STRING}|,(?=\s*[}}\]])", re.DOTALL)


class _CannotConnect(Exception):
    """A server that cannot be written as a connection; the text says why and what to do."""


@dataclass(frozen=True, kw_only=True)
class ImportedServer:
    """A server as a connection. `text` is its file, None for one that is `refused`, which says why. `notes` are what a person
    has to know, and `secrets` the names that need a value."""

    id: str
    name: str
    text: str | None = None
    refused: str | None = None
    notes: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()

    @property
    def path(self) -> str:
        """Return the place of the file below the task directory."""
        return f"{DIRECTORY}/{self.id}.yaml"


def read_servers(text: str) -> list[ImportedServer]:
    """Return the servers of a configuration. Raises SourceError for a text that has none."""
    servers = list(_servers_of(_parse(text)))
    if not servers:
        containers = ", ".join(f"`{name}`" for name in _CONTAINERS)
        raise SourceError("the file has no MCP servers", f"name a file with one of {containers}, or a `server.json`")
    secret_values: dict[str, str] = {}
    results: list[ImportedServer] = []
    for name, entry in servers:
        id = slug(name.rpartition("/")[2])
        if id in {result.id for result in results}:
            refusal = f"another server of the file has the id `{id}`, too: rename one of them"
            results.append(ImportedServer(id=id, name=name, refused=refusal))
        else:
            results.append(_ServerReader(id, name, secret_values).read(entry))
    return results


def _parse(text: str) -> Any:
    """Return the value of JSON, with comments and trailing commas as editors allow them, or of TOML."""
    text = text.lstrip("\ufeff")
    try:
        if not text.lstrip().startswith(("{", "//", "/*")):
            return tomllib.loads(text)
        bare = _COMMENTS.sub(lambda match: match[1] or "\n" * match[0].count("\n"), text)
        return json.loads(_TRAILING_COMMAS.sub(lambda match: match[1] or "", bare))
    except tomllib.TOMLDecodeError as err:
        line = re.search(r"line (\d+)", str(err))
        raise SourceError(f"invalid TOML: {err}", "correct the file", int(line[1]) if line else 1) from err
    except json.JSONDecodeError as err:
        raise SourceError(f"invalid JSON: {err.msg}", "correct the file", err.lineno) from err
    except RecursionError as err:
        raise SourceError("it is nested too deeply", "name the configuration of an MCP client") from err


def _servers_of(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the servers with their names, wherever the file keeps them."""
    if not isinstance(value, dict):
        return
    if isinstance(value.get("server"), dict):  # as the registry's API answers
        value = value["server"]
    if isinstance(value.get("name"), str) and ("remotes" in value or "packages" in value):
        yield value["name"], value
        return
    for container in _CONTAINERS:
        servers = value.get(container)
        if isinstance(servers, dict) and isinstance(servers.get("servers"), dict):
            servers = servers["servers"]
        if isinstance(servers, dict):
            yield from ((str(name), entry) for name, entry in servers.items())
        elif isinstance(servers, list):
            for each in servers:
                yield from _servers_of(each)


@dataclass
class _ServerReader:
    """One server on its way to a connection. `secret_values` are the literal secrets of all servers of the file by their
    names, so that two with one name and different values get two names."""

    id: str
    name: str
    secret_values: dict[str, str]
    notes: list[str] = field(default_factory=list)

    def read(self, entry: Any) -> ImportedServer:
        """Return the connection, or why there is none."""
        try:
            if not self.id:
                raise _CannotConnect("its name has no letter or digit: rename it")
            if not isinstance(entry, dict):
                raise _CannotConnect("it must be a mapping with `url` or `command`")
            is_registry_entry = "remotes" in entry or "packages" in entry
            spec = self._registry_spec(entry) if is_registry_entry else self._client_spec(entry)
            document = {"type": "connection", "kind": "mcp", **spec}
            text = self._text(document)
        except _CannotConnect as refused:
            return ImportedServer(id=self.id, name=self.name, refused=str(refused))
        secrets = Connection(id=self.id, spec=McpConnection.of(document)).secrets
        return ImportedServer(id=self.id, name=self.name, text=text, notes=tuple(self.notes), secrets=secrets)

    def _text(self, document: dict[str, Any]) -> str:
        text = dump(document)
        if any(True for _ in match_tokens(text)):
            raise _CannotConnect("it holds a token in an argument or in its address: give it as a variable or a header")
        path = f"{DIRECTORY}/{self.id}.yaml"
        problems = compile_tree(MemoryTree({path: text})).diagnostics
        errors = [problem for problem in problems if problem.severity is Severity.ERROR]
        if errors:
            raise _CannotConnect(f"{errors[0].message}: {errors[0].hint}")
        if not document["tools"]:
            command = f"optio connection pin {self.id} --tools"
            self.notes.append(f"no task can use it without tools: `{command}` writes them as long as there are none")
        return "".join(f"# {note}\n" for note in self.notes) + text

    def _client_spec(self, entry: Mapping[str, Any]) -> dict[str, Any]:
        values: dict[str, Any] = {}
        left_out = []
        for key, value in entry.items():
            if key in _REFUSED and value not in (None, "", {}, []):
                raise _CannotConnect(f"`{key}` cannot be carried: {_REFUSED[key]}")
            meaning = _KEYS.get(key)
            if meaning is None:
                left_out.append(key)
            elif meaning in values:
                raise _CannotConnect(f"`{key}` says the same as another key: delete one of them")
            else:
                values[meaning] = value
        if left_out:
            self.notes.append(f"not carried: {', '.join(f'`{_printable(key)}`' for key in left_out)}")
        if values.get("enabled") is False or values.get("disabled") is True:
            self.notes.append("it was switched off where it came from")
        description, tools, timeout = values.get("description"), values.get("tools"), values.get("timeout")
        has_timeout = isinstance(timeout, int) and 1 <= timeout < 10**5
        return {
            **({"description": description} if isinstance(description, str) else {}),
            "transport": self._transport(values, "httpUrl" in entry),
            "tools": self._tools(tools),
            **({"timeout": f"{timeout}s"} if has_timeout else {}),
        }

    def _transport(self, values: Mapping[str, Any], is_streamable: bool) -> dict[str, Any]:
        url, command = values.get("url"), values.get("command")
        written = values.get("transport")
        if isinstance(written, dict):
            written = written.get("type")
        if written is not None and written not in _TRANSPORTS:
            raise _CannotConnect(f"its transport `{_printable(str(written))}` is none of streamable HTTP, SSE and stdio")
        if isinstance(url, str) and not command:
            kind = _TRANSPORTS.get(str(written)) or ("sse" if url.rstrip("/").endswith("/sse") else "streamable-http")
            if written is None and not is_streamable:
                self.notes.append(f"its transport was not written: `{kind}` is taken by its address")
            headers = self._headers(values)
            return {"type": kind, "url": self._address(url), **({"headers": headers} if headers else {})}
        words = [command] if isinstance(command, str) else command
        args = values.get("args") or []
        if url is None and isinstance(words, list) and words and isinstance(args, list):
            env = self._variables(values)
            return {"type": "stdio", "command": self._words([*words, *args]), **({"env": env} if env else {})}
        raise _CannotConnect("it has neither `url` nor `command`" if url is None else "it has both `url` and `command`")

    def _tools(self, tools: Any) -> dict[str, str]:
        names = [name for name in tools if isinstance(name, str)] if isinstance(tools, list) else []
        if not names or names == ["*"]:
            return {}
        self.notes.append("each tool has the class `write`: change it to `read` for those that change nothing")
        return dict.fromkeys(names, "write")

    def _headers(self, values: Mapping[str, Any]) -> dict[str, str]:
        headers = {name: self._value(name, text, is_header=True) for name, text in _texts(values.get("headers"))}
        for name, variable in _texts(values.get("header variables")):
            headers[name] = self._secret(variable)
        if isinstance(bearer := values.get("bearer variable"), str):
            headers["Authorization"] = f"Bearer {self._secret(bearer)}"
        return headers

    def _variables(self, values: Mapping[str, Any]) -> dict[str, str]:
        variables = {name: self._value(name, text) for name, text in _texts(values.get("env"))}
        forwarded = values.get("forwarded")
        for each in forwarded if isinstance(forwarded, list) else []:
            name = each.get("name") if isinstance(each, dict) else each
            if isinstance(name, str):
                variables[name] = self._secret(name)
        return variables

    def _value(self, name: str, text: str, *, is_header: bool = False, is_secret: bool = False) -> str:
        """Return the value of a header or variable, with secrets by their names."""
        if _PLACEHOLDER.search(text):
            return _PLACEHOLDER.sub(lambda match: self._secret(match[1] or match[3] or match[4]), text)
        if "{file:" in text:
            raise _CannotConnect(f"`{_printable(name)}` is read from a file: store its content as a secret")
        pattern = _CREDENTIAL_HEADER if is_header else re.compile(CREDENTIAL_NAME)
        if not (is_secret or pattern.search(name) or any(True for _ in match_tokens(text))) or not text:
            return text
        scheme = _SCHEME.fullmatch(text) if is_header else None
        prefix, literal = ("", text) if scheme is None else (str(scheme[1]), str(scheme[2]))
        base = ("TOKEN" if name.lower() == "authorization" else name) if is_header else name
        secret = _secret_name(f"{self.id}_{base}" if is_header else base)
        if self.secret_values.setdefault(secret, literal) != literal:
            secret = _secret_name(f"{self.id}_{base}")
            self.secret_values[secret] = literal
        self.notes.append(f"`{_printable(name)}` was written in plain text: set it as the secret {secret}, and make a new one")
        return prefix + self._secret(secret)

    def _secret(self, name: str) -> str:
        return f"{{{{secret:{_secret_name(name)}}}}}"

    def _address(self, url: str) -> str:
        """Return the address with the defaults of its variables."""
        if "?" in url or "#" in url or re.search(r"//[^/]*@", url):
            raise _CannotConnect("its address holds a query, a fragment or a user: write the credential as a header")
        return self._words([url])[0]

    def _words(self, words: list[Any]) -> list[str]:
        """Return words of a command, which hold no secrets."""
        texts: list[str] = []
        for word in map(str, words):
            is_named = bool(texts) and texts[-1].startswith("-") and _CREDENTIAL_HEADER.search(texts[-1])
            if is_named or _CREDENTIAL_ARGUMENT.search(word):
                raise _CannotConnect("an argument is a credential, which others can see: give it by `env` or a header")
            for match in _PLACEHOLDER.finditer(word):
                if match[2] is None:
                    name = match[1] or match[3] or match[4]
                    raise _CannotConnect(f"an address or argument holds the variable `{name}`: write its value, or use `env`")
            texts.append(_PLACEHOLDER.sub(lambda match: match[2] or "", word))
        return texts

    def _registry_spec(self, entry: Mapping[str, Any]) -> dict[str, Any]:
        """Return the connection of a `server.json`: its first address, or else its first package that a program can start."""
        description = {"description": entry["description"]} if isinstance(entry.get("description"), str) else {}
        remotes = [each for each in entry.get("remotes") or [] if isinstance(each, dict)]
        packages = [each for each in entry.get("packages") or [] if isinstance(each, dict)]
        if len(remotes) + len(packages) > 1:
            self.notes.append("the first of several ways to reach it is taken")
        for remote in remotes:
            kind = _TRANSPORTS.get(str(remote.get("type")))
            if kind is None or not isinstance(remote.get("url"), str):
                raise _CannotConnect("its address has no known type")
            url = self._fixed(remote, remote["url"])
            headers = self._inputs(remote.get("headers"), is_header=True)
            transport = {"type": kind, "url": self._address(url), **({"headers": headers} if headers else {})}
            return {**description, "transport": transport, "tools": {}}
        for package in packages:
            launcher = _LAUNCHERS.get(str(package.get("registryType")))
            own = package.get("transport")
            if launcher and (not isinstance(own, dict) or own.get("type", "stdio") == "stdio"):
                return {**description, "transport": self._package(package, launcher), "tools": {}}
        raise _CannotConnect(f"it has no address, and no package of {' or '.join(_LAUNCHERS)}: write `command` by hand")

    def _package(self, package: Mapping[str, Any], launcher: tuple[str, ...]) -> dict[str, Any]:
        *words, pattern = launcher
        identifier = pattern.format(package.get("identifier"), package.get("version"))
        arguments = [*self._arguments(package.get("runtimeArguments")), identifier]
        command = self._words([*words, *arguments, *self._arguments(package.get("packageArguments"))])
        env = self._inputs(package.get("environmentVariables"))
        return {"type": "stdio", "command": command, **({"env": env} if env else {})}

    def _arguments(self, arguments: Any) -> Iterator[str]:
        for each in arguments if isinstance(arguments, list) else []:
            value = each.get("value") or each.get("default") if isinstance(each, dict) else None
            if isinstance(value, str) and not each.get("isSecret"):
                yield from ([each["name"]] if each.get("type") == "named" else [])
                yield self._fixed(each, value)
            elif isinstance(each, dict) and each.get("isRequired"):
                name = _printable(str(each.get("name") or each.get("valueHint") or "an argument"))
                raise _CannotConnect(f"`{name}` needs a value that is not written: write the connection by hand")

    def _fixed(self, place: Mapping[str, Any], text: str) -> str:
        """Return a text with the fixed values of its variables."""

        def value_of(match: re.Match[str]) -> str:
            variable = (place.get("variables") or {}).get(match[1]) or {}
            value = variable.get("value") or variable.get("default")
            if not isinstance(value, str) or variable.get("isSecret"):
                raise _CannotConnect(f"an address or argument has the variable `{match[1]}`: write its value, or use a header")
            return value

        return _VARIABLE.sub(value_of, text)

    def _inputs(self, inputs: Any, *, is_header: bool = False) -> dict[str, str]:
        """Return headers or variables. Those without a value become secrets, if they are secret or required."""
        values: dict[str, str] = {}
        for each in inputs if isinstance(inputs, list) else []:
            if not isinstance(each, dict) or not isinstance(each.get("name"), str):
                continue
            name, value = each["name"], each.get("value") or each.get("default")
            own_name = f"{self.id}_{name}" if is_header else name
            if isinstance(value, str):
                text = _VARIABLE.sub(lambda match: f"${{{self.id}_{match[1]}}}" if is_header else f"${{{match[1]}}}", value)
                values[name] = self._value(name, text, is_header=is_header, is_secret=each.get("isSecret") is True)
            elif each.get("isSecret") or each.get("isRequired"):
                values[name] = self._secret(own_name)
                if is_header and name.lower() == "authorization":
                    self.notes.append(f"the secret {_secret_name(own_name)} is the whole header, such as `Bearer ...`")
            else:
                self.notes.append(f"not carried, as it has no value: `{_printable(name)}`")
        return values


def _texts(value: Any) -> Iterator[tuple[str, str]]:
    for name, text in value.items() if isinstance(value, dict) else ():
        if isinstance(text, str | int | float):
            yield str(name), str(text).lower() if isinstance(text, bool) else str(text)


def _secret_name(text: str) -> str:
    name = re.sub(r"\W", "_", text.upper(), flags=re.ASCII)[:128]
    return name if not name[:1].isdigit() else f"_{name[:127]}"


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text[:80])
