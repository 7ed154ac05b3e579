"""Write `optio/compiler/payloads/deliveries.json`: what senders put into the deliveries of each event.

    python tests/deliveries/generate.py SCHEMAS EXAMPLES

`SCHEMAS` is the directory `payload-schemas/api.github.com` of `octokit/webhooks` (MIT), `EXAMPLES` the directory `testdata` of
`go-playground/webhooks` (MIT). Only names, types and closed sets of words are taken over, and no payload. `facts.json` beside
this file has what neither of them says: newer fields, and the events and words of the senders' documentation.

A type is `string`, `integer`, `number`, `boolean`, `object`, `any`, `[TYPE]` for a list, `@NAME` for an object of the table,
`=a|b` for a closed set of words, or `string:FORMAT`. Behind it, `?` says that the value may be null, and `~` that the field may
be missing.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

TARGET = Path(__file__).parents[2] / "optio" / "compiler" / "payloads" / "deliveries.json"
FACTS = json.loads(Path(__file__).with_name("facts.json").read_text())
Fields = dict[str, str]
_SHA = r"sha|after|before|\w+_sha|commit_id|checkout_sha"


def with_format(sender: str, name: str, kind: str, typed: str) -> str:
    """Return the type of a text with its format, where the name of the field says it."""
    if not re.fullmatch(r"string[?~]*", typed):
        return typed
    form = "sha" if re.fullmatch(_SHA, name) or (name == "id" and re.search(r"commit\Z", kind)) else ""
    form = "full_name" if name == "full_name" and sender in ("github", "gitea") else form
    form = "branch" if name in ("default_branch", "master_branch", "head_branch", "source_branch", "target_branch") else form
    return typed.replace("string", f"string:{form}") if form else typed


def joined(first: str, second: str) -> str:
    """Return the type of a field that has either of two types."""
    null = "?" if "?" in (first + second) else ""
    missing = "~" if "~" in (first + second) else ""
    first, second = first.rstrip("?~"), second.rstrip("?~")
    if first == second or second in ("null", ""):
        whole = first
    elif first in ("null", ""):
        whole = second
    elif first[0] == second[0] == "=":
        whole = "=" + "|".join(sorted({*first[1:].split("|"), *second[1:].split("|")}))
    elif {first, second} == {"integer", "number"}:
        whole = "number"
    elif all(each[0] == "=" or each.partition(":")[0] == "string" for each in (first, second)):
        whole = "string"
    elif {first, second} == {"[any]", first if first[0] == "[" else second}:
        whole = first if second == "[any]" else second
    else:
        whole = "any"
    return whole + null + missing


def add(table: dict[str, Fields], kind: str, fields: Fields) -> None:
    """Add fields to an object that may be there already; a field that only one of both has may be missing."""
    there = table.get(kind)
    if there is None:
        table[kind] = dict(fields)
        return
    for name in {*there, *fields}:
        if name in there and name in fields:
            there[name] = joined(there[name], fields[name])
        else:
            its = there.get(name) or fields[name]
            there[name] = its if its.endswith("~") else f"{its}~"


class Schemas:
    """The JSON Schemas of GitHub's deliveries, as fields with types."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.objects: dict[str, Fields] = {}
        self._read: set[str] = set()

    def events(self) -> dict[str, Any]:
        """Return the fields of each event that all of its deliveries have, and those of each action."""
        events: dict[str, Any] = {}
        for directory in sorted(each for each in self.root.iterdir() if each.is_dir() and each.name != "common"):
            actions: dict[str, Fields] = {}
            for file in sorted(directory.glob("*.schema.json")):
                schema = json.loads(file.read_text())
                table: dict[str, Fields] = {}
                for each in schema.get("oneOf", [schema]):
                    add(table, "", self._fields(directory.name, each))
                fields = table[""]
                action = fields.pop("action", "")
                actions[action[1:] if action.startswith("=") else ""] = fields
            same = {
                name: its
                for name, its in next(iter(actions.values())).items()
                if all(fields.get(name, "").rstrip("~") == its.rstrip("~") for fields in actions.values())
            }
            for name in same:
                same[name] = same[name].rstrip("~") + ("~" if any(a[name].endswith("~") for a in actions.values()) else "")
            more = {name: {f: its for f, its in fields.items() if f not in same} for name, fields in actions.items()}
            events[directory.name] = {"fields": same, "actions": {} if list(more) == [""] else more}
        return events

    def _fields(self, kind: str, schema: dict[str, Any]) -> Fields:
        required = schema.get("required", ())
        return {
            name: with_format("github", name, kind, self._type(f"{kind}.{name}", sub)) + ("" if name in required else "~")
            for name, sub in schema.get("properties", {}).items()
        }

    def _type(self, kind: str, sub: dict[str, Any]) -> str:
        if "$ref" in sub:
            name = sub["$ref"].rpartition("/")[2].removesuffix(".schema.json").replace("-", "_")
            target = json.loads((self.root / "common" / (sub["$ref"].rpartition("/")[2])).read_text())
            return self._object(name, target, shared=True) if target.get("type") == "object" else self._type(kind, target)
        if "allOf" in sub:
            base = self._type(kind, sub["allOf"][0])
            if base.startswith("@"):
                for more in sub["allOf"][1:]:
                    known = self.objects[base[1:]]
                    for name, its in self._fields(base[1:], more).items():
                        known.setdefault(name, its.rstrip("~") + "~")
            return base
        for word in ("oneOf", "anyOf"):
            if word in sub:
                types = [self._type(kind, each) for each in sub[word]]
                whole = types[0]
                for each in types[1:]:
                    whole = joined(whole, each)
                return whole
        if "const" in sub or "enum" in sub:
            words = sub.get("enum", [sub.get("const")])
            null = "?" if None in words else ""
            texts = [each for each in words if isinstance(each, str)]
            if texts and len(texts) + len(null) == len(words):
                return "=" + "|".join(texts) + null
            return {bool: "boolean", int: "integer"}.get(type(words[0]), "any") + null
        types = sub.get("type", "any")
        types = [types] if isinstance(types, str) else types
        null, real = "?" if "null" in types else "", [each for each in types if each != "null"]
        if len(real) != 1:
            return ("any" if real else "null") + null
        if real[0] == "array":
            items = sub.get("items")
            return f"[{self._type(kind, items) if isinstance(items, dict) else 'any'}]{null}"
        if real[0] == "object":
            return (self._object(kind, sub) if sub.get("properties") else "object") + null
        return ("string:time" if sub.get("format") == "date-time" else real[0]) + null

    def _object(self, name: str, schema: dict[str, Any], *, shared: bool = False) -> str:
        if not (shared and name in self._read):
            self._read.add(name)
            self.objects.setdefault(name, {}) if shared else None
            fields = self._fields(name, schema)
            if shared:
                self.objects[name].update(fields)
            else:
                add(self.objects, name, fields)
        return f"@{name}"


class Examples:
    """Published example deliveries of one sender, as fields with types."""

    def __init__(self, sender: str) -> None:
        self.sender = sender
        self.objects: dict[str, Fields] = {}
        self.events: dict[str, Any] = {}

    def read(self, event: str, payload: dict[str, Any]) -> None:
        """Add one example of an event."""
        add(self.objects, event, {name: self._type(f"{event}.{name}", name, event, value) for name, value in payload.items()})
        self.events[event] = {"fields": {}, "actions": {}}

    def _type(self, kind: str, name: str, parent: str, value: Any) -> str:
        if isinstance(value, dict):
            if not value:
                return "object"
            add(self.objects, kind, {key: self._type(f"{kind}.{key}", key, kind, each) for key, each in value.items()})
            return f"@{kind}"
        if isinstance(value, list):
            whole = ""
            for each in value:
                whole = joined(whole, self._type(kind, name, parent, each))
            return f"[{whole.rstrip('?') or 'any'}]"
        plain = {bool: "boolean", int: "integer", float: "number", str: "string"}.get(type(value), "null?")
        return with_format(self.sender, name, parent, plain)

    def table(self) -> tuple[dict[str, Any], dict[str, Fields]]:
        """Return the events and the objects."""
        for event, its in self.events.items():
            its["fields"] = self.objects.pop(event)
        return self.events, self.objects


def _set_type(events: dict[str, Any], objects: dict[str, Fields], event: str, path: str, typed: str) -> None:
    """Give the field at a path of an event a type, and make the objects above it where they are new."""
    *above, last = path.split(".")
    fields = events.setdefault(event, {"fields": {}, "actions": {}})["fields"]
    for index, step in enumerate(above):
        kind = f"{event}.{'.'.join(above[: index + 1])}"
        if not fields.get(step, "").startswith("@"):
            fields[step] = f"@{kind}"
        fields = objects.setdefault(fields[step].strip("@?~"), {})
    mark = "?" if "?" in fields.get(last, "") else ""
    fields[last] = typed if typed.endswith("?") else typed + mark


def main(schemas: Path, examples: Path) -> None:
    """Write the table anew."""
    github = Schemas(schemas)
    events = github.events()
    table: dict[str, Any] = {}
    for sender, facts in FACTS["senders"].items():
        read = Examples(sender)
        if sender == "github":
            objects = github.objects
        else:
            for file, event in facts.get("files", {}).items():
                read.read(event, json.loads((examples / sender / file).read_text()))
            events, objects = read.table()
        for kind, fields in facts.get("objects", {}).items():
            for name, typed in fields.items():
                objects.setdefault(kind, {}).setdefault(name, typed)
        for kind, fields in facts.get("corrections", {}).items():
            objects[kind].update(fields)
        for event, more in facts.get("deliveries", {}).items():
            its = events.setdefault(event, {"fields": {}, "actions": {}})
            its["fields"] = {**more.get("fields", {}), **its["fields"]}
            for action in more.get("actions", "").split():
                its["actions"].setdefault(action, {})
        for event, typed_paths in facts.get("types", {}).items():
            for path, typed in typed_paths.items():
                for each in [event] if event != "*" else list(events):
                    _set_type(events, objects, each, path, typed)
        for name, typed in facts.get("everywhere", {}).items():
            for its in events.values():
                its["fields"].setdefault(name, typed)
        for name in facts.get("names", "").split(","):
            if name.strip():
                events.setdefault(name.strip(), None)
        for shape, fields in facts.get("shapes", {}).items():
            objects[f"{shape} delivery"] = fields
        for shape, names in facts.get("events", {}).items():
            events.update(dict.fromkeys(names.split(), f"{shape} delivery"))
        rows = [its for its in events.values() if isinstance(its, dict)]
        for fields in (*objects.values(), *(each for its in rows for each in (its["fields"], *its["actions"].values()))):
            fields.update({name: its.replace("null", "any") for name, its in fields.items() if "null" in its.strip("[]")[:4]})
        table[sender] = {"complete": facts["complete"], "closed": facts.get("closed", []), "events": events, "objects": objects}
    lines = []
    for sender, rows in table.items():
        parts = [f' "{name}": {json.dumps(rows[name])}' for name in ("complete", "closed")]
        for section in ("events", "objects"):
            body = ",\n".join(f"  {json.dumps(name)}: {json.dumps(its)}" for name, its in sorted(rows[section].items()))
            parts.append(f' "{section}": {{\n{body}\n }}')
        lines.append(f"{json.dumps(sender)}: {{\n" + ",\n".join(parts) + "\n}")
    TARGET.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
