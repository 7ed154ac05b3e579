"""Decode a connection's own file, and explain what is wrong in it. Used by `connections`; imported only for a tree that has
connections."""

import posixpath
import re
import shlex
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

from optio.compiler.checks.commands import LOCAL_HOST, is_reserved
from optio.compiler.checks.pinned import unpinned_program
from optio.compiler.checks.plaintext_secrets import looks_chosen, names_secret
from optio.compiler.conversions.known_keys import suggest_secret_name
from optio.compiler.conversions.quantities import suggest_duration, unit_hint
from optio.compiler.diagnostics import Diagnostic, Fix, diagnostic
from optio.compiler.json_schema_texts import EXAMPLES
from optio.compiler.suggest import suggest
from optio.compiler.token_shapes import EXPOSED, match_tokens
from optio.compiler.validation import LIST, TEXT, ValidationIssue, find_issues
from optio.compiler.yaml.document import Document
from optio.compiler.yaml.emit import flow
from optio.model.connection import (
    DIRECTORY,
    ID,
    KINDS,
    SECRET,
    TRANSPORTS,
    Connection,
    ConnectionSpec,
    HttpConnection,
    McpConnection,
    ModelConnection,
    Stdio,
    templates,
)
from optio.model.route import Route, show, value_at
from optio.model.spec import names_of
from optio.model.text import slug

_KINDS = ", ".join(f"`{kind}`" for kind in KINDS)
_LOOPBACK = re.compile(r"(localhost|127(\.\d+){3}|\[::1\])(:\d+)?\Z")
# Headers that belong to one connection of HTTP, and those that the gateway sets itself.
OF_THE_GATEWAY = frozenset(
    {
        *("connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer", "transfer-encoding"),
        *("upgrade", "host", "content-length", "accept-encoding", "expect"),
    }
)
_METHODS = "GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS"
# Where a file of another system has a secret: `$NAME`, `${NAME}`, `${env:NAME}`, `${input:name}`, `${{ secrets.NAME }}`,
# `{{NAME}}`.
_PLACEHOLDER = re.compile(
    r"\$?\{\{\s{0,9}(?:secrets?\s{0,9}[.:]\s{0,9}|env\.)?(?P<braces>[A-Za-z_][\w-]{0,99})\s{0,9}\}\}"
    r"|\$\{(?:(?:env|input|secret|secrets)[:.])?(?P<variable>[A-Za-z_][\w-]{0,99})(?::-[^}]{0,99})?\}"
    r"|\$(?P<plain>[A-Z][A-Z0-9_]{2,99})\b",
    re.ASCII,
)
_TRANSPORT_WORDS = {
    **dict.fromkeys(("http", "https", "streamablehttp", "streamable", "remote", "url"), "streamable-http"),
    **dict.fromkeys(("local", "command", "process", "program", "npx"), "stdio"),
}
_KIND_WORDS = {
    **dict.fromkeys(("rest", "api", "https", "openapi", "web"), "http"),
    **dict.fromkeys(("llm", "openai", "anthropic", "provider"), "model"),
    **dict.fromkeys(("server", "tools", "tool", "stdio", "sse", "streamable-http"), "mcp"),
}
_CLASS_WORDS = {
    **dict.fromkeys(("readonly", "read-only", "read_only", "r", "ro"), "read"),
    **dict.fromkeys(("readwrite", "read-write", "read_write", "rw", "w", "admin", "destructive"), "write"),
}
# Keys of others for a credential.
_CREDENTIAL_KEYS = frozenset(
    {"token", "auth", "apikey", "api_key", "key", "secret", "secrets", "authorization", "bearer", "password", "credentials"}
)
_CREDENTIAL_HEADER = re.compile(r"(?i)(?:proxy-)?authorization|cookie|(?:x-)?(?:[a-z]+-)?(?:api-?key|(?:auth-?)?token)")
_HEADER_EXAMPLE = 'headers: {Authorization: "Bearer {{secret:NAME}}"}'


def decode(document: Document) -> tuple[ConnectionSpec | None, list[Diagnostic]]:
    """Return the connection as its file states it, None where that is wrong, and the findings."""
    value: dict[str, Any] = document.value
    kind = value.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        return None, [_wrong_kind(document, kind)]
    model = KINDS[kind]
    try:
        spec = model.of(value)
    except ValueError:
        return None, [_wrong(document, issue) for issue in find_issues(value, model)]
    findings = [*_empty(document, spec), *_unfilled(document, spec), *_headers(document, spec)]
    return None if findings else spec, findings


def check_connection(document: Document, *, pedantic: bool = False) -> list[Diagnostic]:
    """Return the findings about a connection's own file."""
    spec, findings = decode(document)
    findings += _place(document, spec)
    if spec is not None:
        findings += [*_likely_secrets(document, spec), *_plain_http(document, spec)]
    if pedantic and isinstance(spec, McpConnection):
        findings += _unpinned(document, spec)
    return findings


def _at(
    document: Document, code: str, message: str, route: Route, hint: str, *, key: bool = False, fix: Fix | None = None
) -> Diagnostic:
    span = document.key_span(route) if key else document.span(route)
    return diagnostic(code, message, path=document.path, span=span, route=route, hint=hint, fix=fix)


def _place(document: Document, spec: ConnectionSpec | None) -> Iterator[Diagnostic]:
    """Report a file that no task can name, or whose name makes no variable."""
    directory, name = posixpath.split(document.path)
    stem = posixpath.splitext(name)[0]
    if directory != DIRECTORY:
        message = f"a connection is a file of `{DIRECTORY}/` at the top of the task directory, so no task finds this one"
        yield _at(document, "OPT540", message, ("type",), f"move it to `{DIRECTORY}/{name}`")
    elif ID.fullmatch(stem) is None:
        message = f"tasks name a connection by its file, and `{stem}` is not a valid name"
        hint = f"rename it to `{slug(stem) or 'my-service'}.yaml`: a-z, 0-9 and single dashes"
        yield _at(document, "OPT540", message, ("type",), hint)
    elif isinstance(spec, HttpConnection):
        variable = Connection(id=stem, spec=spec).variable
        if variable[0].isdigit() or is_reserved(variable):
            message = f"a run would find this service in the variable `{variable}`, which a task cannot have"
            yield _at(document, "OPT540", message, ("type",), "rename the file, for instance to `my-service.yaml`")


def _wrong_kind(document: Document, kind: object) -> Diagnostic:
    keys = document.value
    if "kind" in keys:
        word = str(kind).lower()
        near = _KIND_WORDS.get(word) or suggest(word, KINDS)
        hint = f"did you mean `{near}`? allowed: {_KINDS}" if near else f"write one of {_KINDS}"
        return _at(document, "OPT540", f"unknown kind of connection `{kind}`", ("kind",), hint)
    fitting = "mcp" if keys.keys() & {"transport", "tools"} else "http" if "allow" in keys else None
    hint = f"add `kind: {fitting}`" if fitting else f"add `kind:` with one of {_KINDS}"
    return _at(document, "OPT540", "`kind` is missing", ("type",), hint)


def _wrong(document: Document, issue: ValidationIssue) -> Diagnostic:
    """Explain one mismatch between the file and the model of its kind."""
    route = issue.route
    if issue.kind == "missing":
        place = route[:-1] or ("type",)
        return _at(document, "OPT540", f"`{show(route)}` is missing", place, f"add `{_example(document, route)}`", key=True)
    if issue.kind == "unknown":
        return _at(document, "OPT540", f"unknown key `{show(route)}`", route, _hint_for_unknown_key(document, route), key=True)
    last = route[-1]
    repair = _REPAIRS.get(str(route[-2] if isinstance(last, int) or _is_entry(route) else last))
    message, hint, write = f"`{show(route)}` cannot be read", f"write it as in `{_example(document, route)}`", None
    if issue.kind in ("word", "variant"):
        message = f"`{show(route)}` is `{issue.value}`" if isinstance(issue.value, str) else f"`{show(route)}` cannot be read"
        hint = f"write one of {', '.join(f'`{word}`' for word in issue.wanted or TRANSPORTS)}"
    elif issue.kind == "type":
        message = f"`{show(route)}` must be {issue.wanted}"
        is_scalar = issue.wanted == TEXT and not isinstance(issue.value, list | dict)
        hint = "put quotes around it" if is_scalar and issue.value is not None else hint
    elif issue.kind == "least":
        message = f"`{show(route)}` must be {issue.wanted} or more"
    if repair is not None:
        message, hint, write = repair(issue) or (message, hint, None)
    fix = None if write is None else document.rewritten(route, write, safe=False)
    is_key = _is_entry(route) and issue.value == last
    return _at(document, "OPT540", message, route, hint, key=is_key, fix=fix)


_Repair = tuple[str, str, str | None]
"""A message, a hint, and the YAML that a fix writes in the value's place."""


def _is_entry(route: Route) -> bool:
    """Return whether a route leads to an entry of a mapping whose keys are the author's."""
    return len(route) > 1 and route[-2] in ("tools", "headers", "env", "pin")


def _example(document: Document, route: Route) -> str:
    """Return the key at a route, or of the list or mapping that it is in, with an example."""
    route = route[:-1] if isinstance(route[-1], int) or _is_entry(route) else route
    key = str(route[-1])
    examples = EXAMPLES.get(_model_name(document, route[:-1]), {}).get(key)
    return f"{key}: {flow(examples[0])}" if examples else f"{key}:"


def _model_name(document: Document, route: Route) -> str:
    if route == ("transport",):
        model = TRANSPORTS.get(str(value_at(document.value, (*route, "type"))))
        return "StreamableHttp" if model is None else model.__name__
    return KINDS[document.value["kind"]].__name__


def _hint_for_unknown_key(document: Document, route: Route) -> str:
    key, kind = str(route[-1]), document.value["kind"]
    transport = TRANSPORTS.get(str(value_at(document.value, ("transport", "type"))))
    in_transport = route[:-1] == ("transport",)
    known = names_of(transport) if in_transport and transport is not None else names_of(KINDS[kind])
    if (near := suggest(key, known)) is not None:
        return f"did you mean `{near}`?"
    if kind == "mcp" and not in_transport and any(key in names_of(model) for model in TRANSPORTS.values()):
        return "write it below `transport`"
    if in_transport and key in names_of(McpConnection):
        return "write it beside `transport`, not below it"
    if key.lower() in _CREDENTIAL_KEYS and kind != "model":
        is_program = kind == "mcp" and (transport is Stdio or (not in_transport and transport is None))
        return 'write `env: {NAME: "{{secret:NAME}}"}` below `transport`' if is_program else f"write `{_HEADER_EXAMPLE}`"
    return f"allowed here: {', '.join(known)}: write one of these, or delete it"


def _repair_url(issue: ValidationIssue) -> _Repair | None:
    if not isinstance(issue.value, str):
        return None
    value, name = issue.value.strip(), show(issue.route)
    scheme, has_scheme, rest = value.rpartition("://") if "://" in value else ("", "", value)
    write: str | None = None
    if "@" in rest.partition("/")[0]:
        return f"`{name}` has a user or password", f"take them out, and write `{_HEADER_EXAMPLE}`", None
    if "?" in value or "#" in value:
        return f"`{name}` has a query or fragment", f"take it out; a credential belongs in `{_HEADER_EXAMPLE}`", None
    if not has_scheme and re.match(r"[\w.-]+\.\w+(?:[:/]|\Z)", value):
        message, write = f"`{name}` has no scheme", f"https://{value}"
    elif scheme.lower() in ("ws", "wss", "mcp", "sse", "http", "https"):
        message, write = f"`{name}` must begin with `https://`", f"https://{rest}"
    else:
        return f"`{name}` is not a URL", "write it as in `https://api.example.com`", None
    return message, f"write `{write}`", flow(write) if _is_plain_url(write) else None


def _is_plain_url(text: str) -> bool:
    return re.fullmatch(r"https://[A-Za-z0-9.:-]+(?:/[^\s?#{}$]*)?", text) is not None


def _repair_allow(issue: ValidationIssue) -> _Repair | None:
    if issue.wanted == LIST and isinstance(issue.value, str):
        return f"`{show(issue.route)}` must be a list", f"write `[{issue.value}]`", f"[{flow(issue.value)}]"
    if not isinstance(issue.value, str):
        return None
    value, name = issue.value.strip(), show(issue.route)
    method, _, path = value.partition(" ") if " " in value else ("", "", value)
    if "?" in path or "#" in path:
        return f"`{name}` has a query, and requests are compared by their paths", f"write `{value.partition('?')[0]}`", None
    path = re.sub(r"\Ahttps?://[^/\s]+", "", path.strip())
    path = path if path.startswith("/") else f"/{path}" if method else path
    if method.upper() in _METHODS.split("|") and path.startswith("/") and " " not in path:
        write = f"{method.upper()} {path}"
        return f"`{name}` must be a method in capitals and a path", f"write `{write}`", flow(write)
    if method.upper() in ("ANY", "ALL", "*"):
        return f"`{name}` names no method", f"write a line for each that is needed, such as `GET {path}`", None
    if path.startswith("/") and not method:
        return f"`{name}` has no method", f"write `GET {path}`, or the method that is needed", flow(f"GET {path}")
    return f"`{name}` is not a request", "write a method and a path, such as `GET /v1/items/*`", None


def _repair_command(issue: ValidationIssue) -> _Repair | None:
    if not isinstance(issue.value, str):
        return None
    try:
        write = flow(shlex.split(issue.value))
    except ValueError:
        return None
    return f"`{show(issue.route)}` must be a list: no shell reads it", f"write `{write}`", write


def _repair_tools(issue: ValidationIssue) -> _Repair | None:
    value, name = issue.value, show(issue.route)
    if isinstance(value, list):
        names = [str(item) for item in value if isinstance(item, str | int)] or ["search"]
        text = flow(dict.fromkeys(names, "read"))
        hint = f"write `tools: {text}`, and `write` in place of `read` for each that changes something"
        return f"`{name}` must be a mapping: each tool has a class", hint, None
    if issue.kind == "word":
        word = _CLASS_WORDS.get(str(value).lower()) or suggest(str(value), ("read", "write"))
        hint = "write `read` for a tool that changes nothing, and `write` for any other"
        hint = f"did you mean `{word}`?" if word else hint
        return f"unknown class `{value}` of the tool `{issue.route[-1]}`", hint, word
    return None


def _repair_pairs(issue: ValidationIssue) -> _Repair | None:
    """Repair headers or variables that are a list of texts, such as `["X-A: b"]` and `[A=b]`."""
    items = issue.value if isinstance(issue.value, list) else [issue.value]
    pairs = [re.fullmatch(r"([A-Za-z0-9_-]+)\s*[:=]\s*(.*)", item) for item in items if isinstance(item, str)]
    if issue.kind == "pattern":
        return f"`{issue.value}` is not the name of a header", "use letters, digits and dashes, such as `X-Api-Key`", None
    if (len(issue.route) > 1 and _is_entry(issue.route)) or not pairs or len(pairs) != len(items) or not all(pairs):
        return None
    # The values may be secrets, so they are not shown.
    text = flow({match[1]: "..." for match in pairs if match is not None})
    return f"`{show(issue.route)}` must be a mapping", f"write `{issue.route[-1]}: {text}`", None


def _repair_key(issue: ValidationIssue) -> _Repair | None:
    match = SECRET.fullmatch(str(issue.value)) or _PLACEHOLDER.fullmatch(str(issue.value))
    name = suggest_secret_name(issue.value) or (match and _secret_in(match))
    hint = f"write `{name}`" if name else f"write the name of a secret, such as `OPENAI_API_KEY`; if this was one, {EXPOSED}"
    return "`key` must be the name of a secret", hint, name


def _repair_timeout(issue: ValidationIssue) -> _Repair | None:
    if type(issue.value) is int:
        return "`timeout` must be text, with a unit", unit_hint(issue.value), None
    suggestion = suggest_duration(str(issue.value))
    return (f"invalid duration `{issue.value}`", f"write `{suggestion}`", suggestion) if suggestion else None


def _repair_type(issue: ValidationIssue) -> _Repair | None:
    """Repair the type of a transport, of which the whole mapping is reported."""
    value = issue.value
    if not isinstance(value, dict):
        # The value may be an address with a secret in it, so it is not shown.
        example = flow(EXAMPLES["McpConnection"]["transport"][0])
        return "`transport` must be a mapping", f"write it as in `transport: {example}`", None
    word = str(value.get("type", ""))
    folded = re.sub(r"[^a-z]", "", word.lower())
    names = {re.sub(r"[^a-z]", "", name): name for name in TRANSPORTS}
    near = names.get(folded) or _TRANSPORT_WORDS.get(folded) or suggest(word, TRANSPORTS)
    near = near or ("stdio" if "command" in value else "streamable-http" if "url" in value else None)
    message = f"unknown transport `{word}`" if word else "`transport.type` is missing"
    allowed = ", ".join(TRANSPORTS)
    return message, f"write `type: {near}`; allowed: {allowed}" if near else f"write one of {allowed}", None


def _repair_pin(issue: ValidationIssue) -> _Repair | None:
    name = show(issue.route)
    return f"`{name}` is not what `optio connection pin` writes", "delete `pin`, and run `optio connection pin ID`", None


_REPAIRS: dict[str, Callable[[ValidationIssue], _Repair | None]] = {
    "url": _repair_url,
    "allow": _repair_allow,
    "command": _repair_command,
    "tools": _repair_tools,
    "headers": _repair_pairs,
    "env": _repair_pairs,
    "key": _repair_key,
    "timeout": _repair_timeout,
    "transport": _repair_type,
    "pin": _repair_pin,
}


def _secret_in(match: re.Match[str]) -> str:
    """Return the secret that a placeholder of another system names, as the name of a secret here."""
    name = next(filter(None, match.groups()))
    return name if re.fullmatch(r"\w+", name) and "-" not in name else re.sub(r"\W", "_", name).upper()


def _empty(document: Document, spec: ConnectionSpec) -> Iterator[Diagnostic]:
    """Report a connection that opens nothing."""
    if isinstance(spec, McpConnection) and isinstance(spec.transport, Stdio) and not spec.transport.command:
        yield _at(document, "OPT540", "`transport.command` is empty", ("transport", "command"), "write `[program, argument]`")
    if isinstance(spec, HttpConnection) and not spec.allow:
        yield _at(document, "OPT540", "`allow` is empty, so no request passes", ("allow",), "name them: `[GET /v1/**]`")


def _templates_route(spec: ConnectionSpec) -> Route:
    if isinstance(spec, McpConnection):
        return ("transport", "env" if isinstance(spec.transport, Stdio) else "headers")
    return ("headers",)


def _unfilled(document: Document, spec: ConnectionSpec) -> Iterator[Diagnostic]:
    """Report placeholders that nothing fills in: those of other systems, and secrets where the gateway fills in none."""
    route = _templates_route(spec)
    for name, value in templates(spec).items():
        rest = SECRET.sub(lambda match: " " * len(match[0]), value)
        if (found := _PLACEHOLDER.search(rest)) is not None:
            place, write = (*route, name), f"{{{{secret:{_secret_in(found)}}}}}"
            repaired = document.restyled(place, value.replace(found[0], write))
            message = f"`{found[0]}` in `{show(place)}` is not filled in"
            yield _at(document, "OPT540", message, place, f"write `{write}`", fix=document.rewritten(place, repaired))
    fixed_texts: list[tuple[Route, str]] = []
    hint = f"write a secret into a header: `{_HEADER_EXAMPLE}`"
    if isinstance(spec, McpConnection) and isinstance(spec.transport, Stdio):
        fixed_texts = [(("transport", "command", index), word) for index, word in enumerate(spec.transport.command)]
        hint = 'no shell reads a command: write `env: {NAME: "{{secret:NAME}}"}`, or start a program that reads the variable'
    elif isinstance(spec, McpConnection) and not isinstance(spec.transport, Stdio):
        fixed_texts = [(("transport", "url"), spec.transport.url)]
    elif not isinstance(spec, McpConnection):
        fixed_texts = [(("url",), spec.url)]
        hint = "write the address itself" if isinstance(spec, ModelConnection) else f"write the address itself; {hint}"
    for place, text in fixed_texts:
        if (found := SECRET.search(text) or _PLACEHOLDER.search(text)) is not None:
            yield _at(document, "OPT540", f"`{found[0]}` in `{show(place)}` is not filled in", place, hint)


def _headers(document: Document, spec: ConnectionSpec) -> Iterator[Diagnostic]:
    """Report headers that the gateway sets itself, and values that no header or variable can have."""
    route = _templates_route(spec)
    for name, value in templates(spec).items():
        if route[-1] == "headers" and name.lower() in OF_THE_GATEWAY:
            yield _at(document, "OPT540", f"the gateway sets `{name}` itself", (*route, name), "delete it", key=True)
        if re.search(r"[\x00-\x08\x0a-\x1f\x7f]", value) or value != value.strip():
            message = f"`{show((*route, name))}` has a line break or a blank at its end"
            yield _at(document, "OPT540", message, (*route, name), "write it on one line, in quotes")


def _likely_secrets(document: Document, spec: ConnectionSpec) -> Iterator[Diagnostic]:
    """Report what looks like a secret in plain text, and has not the shape of a known token."""
    route = _templates_route(spec)
    places: list[tuple[Route, str, bool]] = []
    for name, value in templates(spec).items():
        is_header = route[-1] == "headers" and _CREDENTIAL_HEADER.fullmatch(name) is not None
        bare = value.rpartition(" ")[2]
        is_secret = looks_chosen(bare) if is_header else names_secret(name.upper().replace("-", "_"), value)
        places.append(((*route, name), value, is_secret and SECRET.search(value) is None))
    if isinstance(spec, McpConnection) and isinstance(spec.transport, Stdio):
        for index, (before, word) in enumerate(pairwise(["", *spec.transport.command])):
            flag, equals, value = word.partition("=") if word.startswith("-") else (before, "=", word)
            name = flag.lstrip("-").upper().replace("-", "_") if flag.startswith("-") and equals else ""
            places.append((("transport", "command", index), word, names_secret(name, value)))
    for place, value, is_secret in places:
        if is_secret and not any(match_tokens(value)):
            hint = f"{EXPOSED}; then write `{{{{secret:NAME}}}}` in its place"
            if place[1:2] == ("command",):
                hint = f'{EXPOSED}; then write `env: {{NAME: "{{{{secret:NAME}}}}"}}` for a program that reads the variable'
            yield _at(document, "OPT533", f"`{show(place)}` looks like a secret in plain text", place, hint)


def _plain_http(document: Document, spec: ConnectionSpec) -> Iterator[Diagnostic]:
    """Report an address without TLS: of a host that is not local, or of any but this machine if a credential goes there."""
    connection = Connection(id="", spec=spec)
    url, host = connection.url or "", connection.host or ""
    if not url.startswith("http://") or _LOOPBACK.match(host):
        return
    route: Route = ("transport", "url") if isinstance(spec, McpConnection) else ("url",)
    bare = re.sub(r":\d+\Z", "", host)
    if connection.secrets:
        message = f"the secret `{connection.secrets[0]}` goes to `{host}` without encryption"
    elif re.fullmatch(LOCAL_HOST, bare):
        return
    else:
        message = f"`{url}` is not encrypted: anyone on the way can read and change it"
    yield _at(document, "OPT518", message, route, f"write `https{url[4:]}`")


def _unpinned(document: Document, spec: McpConnection) -> Iterator[Diagnostic]:
    """Report tools without a pin, and a server program that is installed without a version. This is advice of `--strict`."""
    if spec.tools and spec.pin is None:
        stem = posixpath.splitext(posixpath.basename(document.path))[0]
        message = "no `pin`: from one run to the next the server may change what its tools take and say"
        yield _at(document, "OPT546", message, ("tools",), f"run `optio connection pin {stem}`", key=True)
    if isinstance(spec.transport, Stdio) and (found := unpinned_program(spec.transport.command)) is not None:
        index, pinned = found
        route: Route = ("transport", "command", index)
        message = f"`{spec.transport.command[index]}` is installed without a version"
        yield _at(document, "OPT521", message, route, f"write `{pinned}`")
