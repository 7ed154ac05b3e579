"""Convert a list or mapping that stands in the place of a text, and the other way round: `image: {repository: a, tag: b}`
becomes `a:b`. Imported only for a file with a value of the wrong type."""

import re
import shlex
from collections.abc import Callable
from ipaddress import ip_address, ip_network
from typing import Any

from optio.compiler.conversions import values as to
from optio.compiler.conversions.known_keys import suggest_referred_secret
from optio.compiler.source import SourceFile
from optio.compiler.yaml.document import parse
from optio.compiler.yaml.emit import flow
from optio.model.route import Route

# Keys that hold the name in mappings of other systems; the first one present is used.
_NAMES = (
    *("name", "value", "id", "text", "content", "expression", "cron", "email", "login", "url", "path", "key", "label", "title"),
    *("default", "type"),
)
_COMMANDS = ("run", "command", "script", "cmd", "shell", "commands")
_HOSTS = ("cidr", "host", "hostname", "domain", "fqdn", "dnsName", "matchName", "address", "url", "ip", "name", "pattern")
_FIELDS = 5
_SHELL = re.compile(r"(?:/(?:usr/)?bin/)?(?:ba|da|z|k|a)?sh")
# Texts that must keep all items of a list, joined by this.
_JOINED = {"when": " && ", "description": " ", "owner": ", ", "promptTemplate": "\n"}
_STARTS = re.compile(r"(\d{1,5})\s*(?:/|per|every|a|in)\s*(.+)", re.IGNORECASE)
_WINDOWS = {
    "s": "1s",
    "second": "1s",
    "m": "1m",
    "min": "1m",
    "minute": "1m",
    "h": "1h",
    "hour": "1h",
    "d": "24h",
    "day": "24h",
}


def convert_to_text(route: Route, value: Any) -> str | None:
    """Return the text that a list or a mapping stands for at this route of a task, or None."""
    if not isinstance(value, (list, dict)) or not value:
        return None
    found: Any
    if route[:2] == ("environment", "setupCommands"):
        found = _command(value)
    elif "egress" in route:
        found = _host(value)
    elif route[:2] == ("environment", "secrets") and isinstance(value, dict):
        found = suggest_referred_secret(value)
    elif route[-1:] == ("image",):
        found = _image(value)
    elif route[-1:] == ("when",) and not (isinstance(value, list) and all(isinstance(each, str) for each in value)):
        made = to.condition(value)
        found = None if made is None else parsed(made)
    elif route[-1:] == ("cronExpression",):
        found = _cron(value)
    elif route == ("promptTemplate",) and _is_conversation(value):
        found = "\n\n".join(each["content"].strip() for each in value)
    elif isinstance(value, list) and route[-1] in _JOINED and all(isinstance(each, str) for each in value):
        several = len(value) > 1 and route[-1] == "when"
        found = _JOINED[str(route[-1])].join(f"({each})" if several and "||" in each else each for each in value)
    else:
        found = _named(value, _NAMES)
    if isinstance(found, bool) or not isinstance(found, (str, int, float)) or not str(found).strip():
        return None
    return str(found).strip()


def _cron(value: Any) -> str | None:
    """Return the expression of a list with one schedule, of several at the same minute, or of a mapping with a start."""
    listed = value if isinstance(value, list) else [value]
    texts = [to.cron(each) for each in listed]
    if any(text is None for text in texts):
        made = (
            to.clock({re.sub(r"[_-]", "", str(key)).lower(): inner for key, inner in value.items()})
            if isinstance(value, dict)
            else None
        )
        return None if made is None else made.strip('"')
    fields = [str(text).strip('"').split() for text in texts]
    if len(fields) == 1:
        return " ".join(fields[0])
    alike = {(minute, *days) for minute, _, *days in fields} if all(len(each) == _FIELDS for each in fields) else set()
    hours = sorted({int(each[1]) for each in fields if each[1].isdigit()}) if len(alike) == 1 else []
    return " ".join([fields[0][0], ",".join(map(str, hours)), *fields[0][2:]]) if len(hours) == len(fields) else None


def _is_conversation(value: Any) -> bool:
    """Return True for a list of messages, each with its role and its text."""
    return isinstance(value, list) and all(isinstance(each, dict) and isinstance(each.get("content"), str) for each in value)


def convert_to_mapping(route: Route, value: Any) -> str | None:
    """Return the mapping, as YAML on one line, that a text, a number or a list stands for at this route, or None."""
    if route[-1:] == ("config",) and isinstance(value, str) and (expression := to.cron(value)) is not None:
        return f"{{cronExpression: {expression}}}" if len(value.split()) == _FIELDS or value[:1] == "@" else None
    if route[-1:] == ("paramMapping",) and isinstance(value, list):
        return to.named_values(value)
    convert = _MAPPINGS.get(route)
    return None if convert is None else convert(value)


def parsed(text: str) -> str:
    """Return the text that a YAML scalar on one line stands for."""
    document, _ = parse(SourceFile("", f"it: {text}\n".encode()))
    return str(document.value["it"]) if document is not None else text


def _command(value: Any) -> str | None:
    """Return a command: the last argument of a shell call, or all arguments of another program."""
    if isinstance(value, dict):
        found = _named(value, _COMMANDS)
        return found if isinstance(found, str) else _command(found) if isinstance(found, list) else None
    words = [str(word) for word in value if isinstance(word, (str, int, float))]
    if not words or len(words) != len(value):
        return None
    if _SHELL.fullmatch(words[0]) and len(words) > 2 and words[1].startswith("-"):
        return words[-1]
    return shlex.join(words)


def _host(value: Any) -> str | None:
    """Return a host or an address, with its port if one is given."""
    if isinstance(value, list):
        if not value:
            return None
        return _host(value[0]) if isinstance(value[0], dict) else str(value[0])
    inner = next(
        (value[key] for key in ("to", "ipBlock", "toFQDNs", "toCIDR") if isinstance(value.get(key), (list, dict, str))), None
    )
    host = _named(value, _HOSTS)
    if host is None and inner is not None:
        host = inner if isinstance(inner, str) else _host(inner)
    port = value.get("port", value.get("ports"))
    if isinstance(port, (list, dict)) and port:
        port = _named(port, ("port", "number"))
    if not isinstance(host, str):
        return None
    host = to.bare_host(host)
    return host if port is None or isinstance(port, (list, dict)) or str(port) == "443" else f"{host}:{port}"


def with_port(host: str, value: Any, root: Any) -> str:
    """Return the host or network of a rule without ports, which opens all of them, with the port of the only such address that
    the task names: `10.0.0.0/8` becomes `10.0.0.0/8:9090` beside `http://10.1.2.3:9090`."""
    given = [value, *(value.get("to", ()) if isinstance(value.get("to"), list) else ())] if isinstance(value, dict) else []
    if not given or ":" in host or any(key in each for each in given if isinstance(each, dict) for key in ("port", "ports")):
        return host
    named = re.findall(r"//(?:[^\s/@'\"]{1,100}@)?([\w.-]{1,255}):(\d{1,5})\b", str(root))
    ports = {port for address, port in named if _is_in(address, host)}
    return f"{host}:{ports.pop()}" if len(ports) == 1 and ports != {"443"} else host


def _is_in(address: str, host: str) -> bool:
    try:
        return ip_address(address) in ip_network(host, strict=False)
    except ValueError:
        return address == host or (host.startswith("*.") and address.endswith(host[1:]))


def _image(value: Any) -> str | None:
    if isinstance(value, list):
        return _image(value[0]) if isinstance(value[0], dict) else str(value[0])
    name = _named(value, ("repository", "image", "name", "url", "ref"))
    if not isinstance(name, str):
        return None
    registry, tag, digest = value.get("registry"), value.get("tag", value.get("version")), value.get("digest")
    whole = f"{registry}/{name}" if isinstance(registry, str) and not name.startswith(registry) else name
    return f"{whole}@{digest}" if digest else whole if tag is None else f"{whole}:{tag}"


def _named(value: Any, keys: tuple[str, ...]) -> Any:
    """Return the value under the first of these keys; for a list, of its first item."""
    for _ in range(4):
        if isinstance(value, list):
            value = next(iter(value), None)
        elif isinstance(value, dict):
            value = next((value[key] for key in keys if key in value), None)
        else:
            break
        if keys is _COMMANDS and isinstance(value, list):
            break
    return value


def _egress(value: Any) -> str | None:
    if value is False or (isinstance(value, str) and value.lower() in ("none", "deny", "off", "disabled", "false")):
        return "{egress: []}"
    listed = to.hosts(value)
    return None if listed is None else f"{{egress: {listed}}}"


def _start_limit(value: Any) -> str | None:
    found = _STARTS.fullmatch(str(value).strip())
    if found is not None:
        per = (
            _WINDOWS.get(found[2].lower().rstrip("s").strip() or found[2])
            or _WINDOWS.get(found[2].lower())
            or to.seconds(found[2])
        )
        return None if per is None else f"{{count: {int(found[1])}, per: {per}}}"
    return to.starts_a_day(value) if isinstance(value, int) and not isinstance(value, bool) else None


def _dedupe(value: Any) -> str | None:
    if isinstance(value, list):
        value = "#".join(str(each) for each in value)
    if not isinstance(value, str):
        return None
    key = value if "{{" in value else "#".join(f"{{{{{name}}}}}" for name in re.findall(r"\w+", value))
    return f"{{key: {flow(key)}}}" if key else None


def _amounts(value: Any) -> str | None:
    found = re.fullmatch(r"\s*(\d{1,6})\s*(Gi?|Mi?)B?\s*", str(value))
    return None if found is None else f"{{memory: {found[1]}{found[2][0]}i}}"


def _environment(value: Any) -> str | None:
    """Return a mapping of variables from a list of names and values, or None."""
    variables = to.mapping_of_texts(value) if isinstance(value, list) and value else None
    return None if variables is None else f"{{env: {variables}}}"


_MAPPINGS: dict[Route, Callable[[Any], str | None]] = {
    ("environment",): _environment,
    ("environment", "env"): to.mapping_of_texts,
    ("environment", "network"): _egress,
    ("environment", "resources"): _amounts,
    ("startLimit",): _start_limit,
    ("dedupe",): _dedupe,
    ("paramsSchema",): to.schema,
}
