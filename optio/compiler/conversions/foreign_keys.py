"""Say what to write for an unknown key: its value converted by the table of other systems' keys, a missing or similar key of
the same mapping, or a key of another mapping. Imported only for a file with such a key."""

import re
import shlex
from difflib import SequenceMatcher
from functools import partial
from typing import Any, NamedTuple

from optio.compiler.conversions import values
from optio.compiler.conversions.entries import example_of
from optio.compiler.conversions.key_table import (
    CLOCK,
    CONDITION,
    DEDUPE,
    ENVIRONMENT,
    EXAMPLES,
    EXPECT,
    HOOKS,
    IMPORT,
    JOBS,
    KEY,
    LIMIT,
    MOVE_UP,
    NETWORK,
    NO_PAUSE,
    NOTIFY,
    ONE_SCHEDULE,
    OR_PROGRAM,
    ORDER,
    OUTPUT,
    PLACED,
    RESOURCES,
    RESULT,
    RIGHTS,
    RUNNER,
    SCHEDULE,
    STEMS,
    TASK,
    TEST,
    TOOLS,
    TRIGGER,
    VERDICTS,
    WEBHOOK,
    WORDS,
    KeyRow,
    find_row,
    names_at,
)
from optio.compiler.conversions.known_keys import CREDENTIAL_NAME, TRIGGERS, fold_key, key_places, known_keys, model_at
from optio.compiler.conversions.suggest_text import convert_to_mapping, convert_to_text, parsed
from optio.compiler.payloads.deliveries import event_names
from optio.compiler.source import SourceFile
from optio.compiler.suggest import suggest
from optio.compiler.token_shapes import find_tokens
from optio.compiler.validation import find_issues, required_keys
from optio.compiler.yaml.document import parse
from optio.compiler.yaml.emit import flow
from optio.model.route import Route, show, value_at
from optio.model.spec import Spec, keys_of, names_of
from optio.model.text import slug

_LEVELS: dict[Route, str] = {
    (): TASK, ("environment",): ENVIRONMENT, ("environment", "network"): NETWORK, ("environment", "resources"): RESOURCES,
    ("environment", "resources", "requests"): RESOURCES, ("environment", "resources", "limits"): RESOURCES,
    ("startLimit",): LIMIT, ("dedupe",): DEDUPE, ("result",): RESULT,
}  # fmt: skip
_NEW_TRIGGERS = {
    "schedule": {"cronExpression": '"0 9 * * 1"'},
    "webhook": {"path": "my-path", "secret": "{name: NAME}"},
}
_NO_POD = "no pod of a run stays unless `keepFailed` says so: delete this line"
# Proofs of a sender that are sent as they are, and so are no signatures.
_PASSWORDS = r"(?:http)?(?:basic|header|bearer|jwt|apikey|token|query|digest)(?:auth|token)?|none"
_SIGNED = (
    "a sender proves itself by a signature, and by no password or token: write `scheme: hmac` if it can sign, or delete this "
    "line and write `unsigned: true` in the place of `secret`"
)
_ASKED_BY_PROGRAM = "let the program ask first, and end with exit code 0 where there is nothing to do; then delete this line"
_ASKED_BY_AGENT = "only a webhook has a condition: say in the prompt when there is nothing to do, and delete this line"
_ANYBODY = "delete this line, and write `unsigned: true` in the place of `secret`"
# What an advice says of the prompt, and what of a program instead.
_FOR_PROGRAMS = (
    ("say in the prompt whom to inform", "let the program inform them"),
    ("put it into the prompt", "put it into the program"),
    ("say in the prompt what to write", "let the program print it"),
    ("one agent with one prompt: write each job", "one program: let it do these steps itself, or write each job"),
    (", with its steps in the prompt", ""),
    ("the agent's last message is", "the end of what a program prints is"),
    ("say in the prompt when there is nothing to do", "let the program end where there is nothing to do"),
)
_PROMPTED = (
    "a task with a prompt starts its agent, and no other program: put what comes first into `environment.setupCommands`, and "
    "delete this line"
)
_PROGRAM = KeyRow(TASK, "entrypoint", "command", values.program, "with `agentRuntime: command`")
_CONFIG = ("triggers", 0, "config")
# Declarations of parameters or triggers are shown whole: a part of one would be another task.
MAX_SHOWN, MAX_WHOLE = 200, 600
_OPEN_FORMS = {
    "startLimit": "{count: ..., per: ...}", "secret": "{name: ...}", "previousSecret": "{name: ...}", "secrets": "[NAME]",
    **dict.fromkeys(("setupCommands", "egress", "events", "triggers", "tests"), "[...]"),
}  # fmt: skip
_NAMES_OF_AGENTS = ("type", "id", "name", "engine", "runtime", "cli", "provider")
_MAX_SPLIT = 5
_SECRETS = re.compile(r"(?:token|password|passwd|apikey|secret)['\"]?[:=]")
# Keys for commands that run before the program itself.
_RUNNERS = ("runson", "runner", "from")
_PREPARES = re.compile(r"pre|before|init|setup|install|boot|package|require")
# Senders whose events are called as `invoice.paid` is.
_DOTS = ("stripe", "pagerduty", "standard-webhooks", "hmac")
_DOTTED_EVENT = r"(?!(?:body|payload|event|data|request)\.)[a-z_]+(?:\.[a-z_]+)+"
_SECRET_LISTS = ("secrets", "secret", "secretsinherit", "inheritsecrets", "envfrom", "contexts")
_MAY_HOLD_ONE = ("key", "secret", "previoussecret")
# Shorter words resemble too many others.
_MIN_GUESSED = 5
# From here on a word is taken for a slip of a foreign one; below it, `rules` would be `roles`.
_SAME_WORD = 0.86


class KeyCure(NamedTuple):
    """The cure for an unknown key: the hint, and for a fix the key `meant`, the mapping `into` which it moves, or the whole
    `entry` to write (see `UnknownKey`)."""

    hint: str
    meant: str | None = None
    into: str | None = None
    entry: str | None = None


def explain_foreign_key(root: Any, route: Route) -> KeyCure | None:
    """Return the cure for the unknown key at the route. In order of preference: the table of other systems, a similar key of
    this mapping, a missing key of this mapping, and a key of another mapping. Returns None if none applies."""
    key, parent = str(route[-1]), route[:-1]
    level, folded = level_of(root, parent), fold_key(key)
    emptied = [name for name in ("secret", "previousSecret") if value_at(root, parent).get(name, "") is None]
    if level == "webhook" and key == "name" and emptied:
        return KeyCure(f"indent it deeper than `{emptied[0]}`, to which it belongs")
    if len(route) == 1 and folded in _SECRET_LISTS and (found := _of_all_secrets(root, route)) is not None:
        return found
    if level in (TASK, ENVIRONMENT) and (found := _of_program(root, route)) is not None:
        return found
    if (found := _by_table(root, route, level, folded)) is not None:
        return found
    if level == ENVIRONMENT and re.fullmatch(r"[A-Z][A-Z0-9_]*", key):
        return _variable(root, route)
    known = known_keys(root, parent)
    about = next((stem.row for stem in STEMS if stem.pattern.search(folded)), None)
    if (near := suggest(key, known)) is not None:
        # A word with more in it than a slip is another word: its value may need another form.
        if (
            about is not None
            and about.ours in known
            and fold_key(about.ours) in folded
            and about.convert is not values.unchanged
        ):
            return _cure(root, route, about, ())
        return KeyCure(f"did you mean `{near}`?", near)
    if (missing := _missing(root, parent, folded)) is not None:
        return KeyCure(f"did you mean `{missing}`?", missing)
    if (elsewhere := _elsewhere(root, route, key)) is not None:
        return elsewhere
    if level != TASK and (row := find_row(TASK, folded)) is not None:
        return _cure(root, route, row, ())
    guessed = suggest(folded, names_at(level)) if len(folded) >= _MIN_GUESSED else None
    if guessed is not None and SequenceMatcher(None, folded, guessed).ratio() < _SAME_WORD:
        guessed = None
    if guessed is not None and (found := _by_table(root, route, level, guessed)) is not None:
        return found
    return None if about is None else _by_part(root, route, about)


def _by_part(root: Any, route: Route, row: KeyRow) -> KeyCure:
    """Return the cure for a key of which only a part was recognised: it names Optio's key, and converts no value, because the
    rest of the name may say that the value is something else."""
    if not row.ours:
        return _cure(root, route, row, ())
    kind, _, place = row.ours.rpartition(":")
    *outer, last = place.split(".")
    where = f" in the `config` of a {kind}" if kind else f" below `{outer[0]}`" if outer else ""
    after = f": {row.advice}" if row.advice else ""
    return KeyCure(f"the nearest key is `{last}`{where}: write it if you mean that, and delete this line{after}")


def level_of(root: Any, parent: Route) -> str:
    """Return the level of the table (`key_table`) that a mapping belongs to, such as `environment`."""
    if parent[:1] == ("tests",):
        return EXPECT if parent[-1] == "expect" else TEST
    if parent[:1] == ("triggers",) and len(parent) == 3:
        return str(value_at(root, (*parent[:-1], "type")))
    return TRIGGER if parent[:1] == ("triggers",) and len(parent) == 2 else _LEVELS.get(parent, "")


def _by_table(root: Any, route: Route, level: str, folded: str) -> KeyCure | None:
    parent = route[:-1]
    if level == SCHEDULE and folded in CLOCK.split() and (found := _of_clock(root, route)) is not None:
        return found
    if level == WEBHOOK:
        asks = (row := find_row(level, folded)) is not None and row.ours == "when"
        if asks and "events" not in value_at(root, parent) and _are_events(value_at(root, route), value_at(root, parent)):
            return _cure(root, route, KeyRow(WEBHOOK, folded, "events", values.names), parent)
        from optio.compiler.conversions.conditions import of_webhook

        if (made := of_webhook(folded, value_at(root, route), value_at(root, parent))) is not None:
            return _cure(root, route, KeyRow(WEBHOOK, folded, "when", partial(_made, flow(made))), parent)
    if (row := find_row(level, folded)) is not None:
        return _cure(root, route, row, parent)
    if level == TRIGGER:
        kind = str(value_at(root, (*parent, "type")))
        below = find_row(kind, folded)
        return None if below is None else _cure(root, route, below, (*parent, "config"))
    if level in _NEW_TRIGGERS:
        other = next(kind for kind in _NEW_TRIGGERS if kind != level)
        there = find_row(other, folded)
        ours = there.ours if there is not None and there.ours.isidentifier() else None
        ours = str(route[-1]) if str(route[-1]) in names_of(TRIGGERS[other]) else ours
        if ours is not None and there is not None:
            text = _shown(there, root, route) or _left_open(ours)
            return KeyCure(f"a {level} has no such key: write `- {_new_trigger(other, ours, text)}` as its own trigger")
    return None


def _of_all_secrets(root: Any, route: Route) -> KeyCure | None:
    """Return the cure for `secrets: inherit`: a run gets only the secrets that it names."""
    from optio.compiler.conversions.used_secrets import asks_for_all, missing_secrets_hint

    by_name = fold_key(str(route[-1])) == "contexts"  # of CircleCI
    return KeyCure(missing_secrets_hint(root)) if by_name or asks_for_all(value_at(root, route)) else None


def _of_program(root: Any, route: Route) -> KeyCure | None:
    """Return the cure for a key that names a part of the task's program."""
    from optio.compiler.conversions.programs import explain_program_key, starts_program

    if (cure := explain_program_key(root, route)) is not None:
        is_renamed = cure.entry is not None or cure.hint == "write `command:`"
        return KeyCure(cure.hint, "command" if is_renamed else None, entry=cure.entry)
    if fold_key(str(route[-1])) == "entrypoint" and starts_program(value_at(root, route)):
        return KeyCure(_PROMPTED) if {"promptTemplate", "promptFile"} & set(root) else _cure(root, route, _PROGRAM, ())
    return None


def _are_events(value: Any, config: dict[str, Any]) -> bool:
    """Return True for names of events, as the webhook's sender spells them."""
    scheme, listed = config.get("scheme"), value if isinstance(value, list) else [value]
    if not listed or not all(isinstance(each, str) for each in listed):
        return False
    if scheme in ("github", "gitea"):
        return all(each in event_names("github") for each in listed)
    form = r"(?:[A-Z]\w+ )+Hook" if scheme == "gitlab" else _DOTTED_EVENT if scheme in _DOTS else None
    return form is not None and all(re.fullmatch(form, each) for each in listed)


def _of_clock(root: Any, route: Route) -> KeyCure | None:
    """Return the cron expression for a time and days that stand as separate keys."""
    config = value_at(root, route[:-1])
    parts = {folded: key for key in config if (folded := fold_key(str(key))) in CLOCK.split()}
    made = values.clock({folded: config[key] for folded, key in parts.items()})
    if made is None or "cronExpression" in config:
        return None
    first, *others = parts.values()
    if route[-1] != first:
        return KeyCure(f"delete it: `cronExpression: {made}`, in the place of `{first}`, has the same meaning")
    entry = f"cronExpression: {made}"
    return KeyCure(
        f"write `{entry}`" + (f", and delete {' and '.join(f'`{each}`' for each in others)}" if others else ""),
        "cronExpression",
        entry=entry,
    )


def _cure(root: Any, route: Route, row: KeyRow, base: Route) -> KeyCure:
    """Return the cure that writes Optio's key with the converted value, at its place as seen from `base`."""
    value = value_at(root, route)
    if len(route) == 1 and row.ours not in root and _has_form(row.ours, value):
        return KeyCure(f"write `{row.ours}:`", row.ours)
    cure = _cure_in_webhook(root, route, row, base, value)
    if cure is not None:
        return cure
    text = _without_entry(root, row, value) or _by_parts(root, route, row, value)
    if text is not None:
        return KeyCure(text)
    if row.names == "metadata" and "name" in root:
        row = KeyRow(TASK, "", advice=WORDS)
    row, base = _by_value(route, row, base, value)
    if not row.ours:
        return KeyCure(_advice(root, row, base, value))
    row = _by_use(root, route, row, base, value)
    is_agent = isinstance(root, dict) and bool({"promptTemplate", "promptFile"} & root.keys())
    if row.advice == OR_PROGRAM and is_agent:
        row = row._replace(advice="")
    after = f": {row.advice}" if row.advice else _unused(root, route, row)
    if row.convert is values.seconds and type(value) is int and "sec" not in fold_key(str(route[-1])):
        after += f"; or `{row.ours.rpartition('.')[2].lstrip('/^')}: {value}m`, if that counts minutes"
    kind, _, last = row.ours.rpartition(":")
    if kind:
        return _in_trigger(root, route, row, kind, last)
    where: Route = () if last.startswith("/") else base[:-1] if last.startswith("^") else base
    *outer, last = last.lstrip("/^").split(".")
    return _with_entry(root, route, row, (*where, *outer, last), after)


def _cure_in_webhook(root: Any, route: Route, row: KeyRow, base: Route, value: Any) -> KeyCure | None:
    """Return the cure for a condition, and for how a webhook's deliveries are signed, answered and tested."""
    if row.advice == CONDITION:
        listed = value_at(root, ("triggers",))
        kinds = {str(each.get("type")) for each in (listed if isinstance(listed, list) else ()) if isinstance(each, dict)}
        if kinds and WEBHOOK not in kinds:
            return KeyCure(_ASKED_BY_PROGRAM if root.get("agentRuntime") == "command" else _ASKED_BY_AGENT)
        if WEBHOOK in kinds and (made := values.condition(value)) is not None:
            return _in_trigger(root, route, KeyRow(TASK, "", "webhook:when", partial(_made, made)), WEBHOOK, "when")
    if row.convert is values.scheme and "scheme" in value_at(root, base):
        return KeyCure("`scheme` and `secret` say how deliveries are signed: delete this line")
    if row.convert is values.scheme and re.fullmatch(_PASSWORDS, fold_key(str(value))):
        return KeyCure(_SIGNED if fold_key(str(value)) != "none" else _ANYBODY)
    if row.convert is values.verdict and str(value) in ("200", "202") and "webhook" in value_at(root, route[:-2]):
        return KeyCure(VERDICTS)
    is_event = level_of(root, base) == TEST and fold_key(str(route[-1])).startswith("event") and isinstance(value, str)
    if is_event and "webhook" in value_at(root, base) and (header := _event_header(root)) is not None:
        return KeyCure(f"write `headers: {flow({header: value})}`")
    return None


def _without_entry(root: Any, row: KeyRow, value: Any) -> str | None:
    """Return the hint where the task's other keys decide: pauses, a limit of runs, an order of tasks or jobs."""
    if row.advice == NO_PAUSE and "maxRetries" in root:
        return "Optio waits 5 s, 10 s, 20 s and so on between tries: delete this line"
    if row.ours == "maxConcurrent" and values.is_skipping(value) and "maxConcurrent" not in root:
        return f"write `maxConcurrent: {values.concurrency(value)}`, and `overlap: skip` in the `config` of a schedule"
    if row.advice == ORDER:
        return _called_by_another(root)
    return _with_steps(root, value) if row.advice == JOBS else None


def _by_parts(root: Any, route: Route, row: KeyRow, value: Any) -> str | None:
    """Return the hint with an entry for each part of the value, for keys that only hold others."""
    if "matrix" in row.names.split():
        return _for_each(root, value)
    if not isinstance(value, dict):
        return None
    if row.advice == MOVE_UP or (row.names == "metadata" and "name" not in root):
        return _one_by_one(root, route, value)
    return _one_by_one(root, route, value, _NAMES_OF_AGENTS) if row.convert is values.runtime else None


def _advice(root: Any, row: KeyRow, base: Route, value: Any) -> str:
    """Return the advice of a row that has no key of Optio, in the words for an agent or a program."""
    advice = NOTIFY if _is_address(value) and row.advice in (HOOKS, WORDS, OUTPUT) else _joined(root, base, row.advice)
    if isinstance(root, dict) and root.get("agentRuntime") == "command" and "promptTemplate" not in root:
        for ours, its in _FOR_PROGRAMS:
            advice = advice.replace(ours, its)
    return advice


def _with_entry(root: Any, route: Route, row: KeyRow, place: Route, after: str) -> KeyCure:
    """Return the cure that writes the key at its place, or joins the value with what is there. `after` ends the hint."""
    value, where, last = value_at(root, route), place[:-1], str(place[-1])
    text, is_valid = _valid(model_at(root, where), last, value, _shown(row, root, route))
    if where == route[:-1] and last not in value_at(root, where) and row.convert is values.unchanged and is_valid:
        return KeyCure(f"write `{last}:`{after}", last)
    if (merged := _merged(root, route, row, place, text)) is not None:
        return KeyCure(merged)
    entry = f"{last}: {text or _left_open(last)}"
    while where and not isinstance(value_at(root, where), dict):
        entry, where = f"{where[-1]}: {{{entry}}}", where[:-1]
    if where != route[:-1]:
        return KeyCure(f"write `{entry}` {_at(route, where)}, and delete this line{after}")
    meant = entry.partition(":")[0]
    # Without a converted value the old one would be the next error below the new key.
    is_other = text is None and (isinstance(value, (dict, list)) or row.convert is not values.unchanged)
    is_free = text is not None and is_valid and meant not in value_at(root, where)
    return KeyCure(f"write `{entry}`{after}", None if is_other else meant, entry=entry if is_free else None)


def _left_open(key: str) -> str:
    """Return what stands for a value that was not understood. An example would be taken for its meaning."""
    return _OPEN_FORMS.get(key, "...")


def _event_header(root: Any) -> str | None:
    """Return the header in which the sender of the task's webhook names the event."""
    from optio.model.senders import SENDERS, InHeader

    listed = value_at(root, ("triggers",))
    for trigger in listed if isinstance(listed, list) else ():
        config = value_at(trigger, ("config",))
        if isinstance(config, dict) and isinstance(config.get("eventHeader"), str):
            return str(config["eventHeader"])
        scheme = config.get("scheme") if isinstance(config, dict) else None
        sender = next((row for name, row in SENDERS.items() if name == scheme), None)
        if sender is not None:
            return next((each.name for each in sender.event if isinstance(each, InHeader)), None)
    return None


def _called_by_another(root: Any) -> str | None:
    """Return the hint for a task that starts by the clock and should wait for another one, which must start it."""
    listed, name = value_at(root, ("triggers",)), value_at(root, ("name",))
    kinds = [each.get("type") for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []
    if "webhook" in kinds or "schedule" not in kinds or not isinstance(name, str) or not slug(name):
        return None
    path = slug(name)
    config = f"{{path: {path}, secret: {{name: {path.replace('-', '_').upper()}_SECRET}}}}"
    return (
        f"tasks do not wait for each other: write `- {{type: webhook, config: {config}}}` in the place of the schedule, let "
        "the first task call it at its end, signed with this secret, which it must name, too, and delete this line"
    )


def _with_steps(root: Any, steps: Any) -> str | None:
    """Return the hint for a program that other commands come before, as steps of one task."""
    command = root.get("command") if isinstance(root, dict) and root.get("agentRuntime") == "command" else None
    made = values.script(steps) if isinstance(steps, list) and steps else None
    if made is None or not isinstance(command, (str, list)):
        return None
    whole = f"{parsed(made)} && {command if isinstance(command, str) else shlex.join(map(str, command))}"
    if len(whole) > MAX_SHOWN or any(find_tokens("", whole)):
        return None
    return f"a task is one program: write `command: {flow(whole)}` in the place of the one that is there, and delete this line"


def _for_each(root: Any, value: Any) -> str | None:
    """Return the hint for a matrix of one variable: a file for each of its values."""
    inner = value.get("matrix", value) if isinstance(value, dict) else None
    lists = [(name, each) for name, each in inner.items() if isinstance(each, list)] if isinstance(inner, dict) else []
    if len(lists) != 1 or not 1 < len(lists[0][1]) <= _MAX_SPLIT or any(isinstance(each, (dict, list)) for each in lists[0][1]):
        return None
    (name, listed), declared = lists[0], value_at(root, ("paramsSchema", "properties"))
    param = next(
        (each for each in (declared if isinstance(declared, dict) else ()) if fold_key(each) == fold_key(str(name))), None
    )
    *most, last = (f"`{flow(each)}`" for each in listed)
    gives = f" and with `paramMapping: {{{param}: {flow(listed[0])}}}` in its schedule" if param else ""
    return (
        f"a task does not fan out: write one file for each of {', '.join(most)} and {last}, with a name of its own"
        f"{gives}, and delete this line"
    )


def _one_by_one(root: Any, route: Route, parts: dict[str, Any], agents: tuple[str, ...] = ("type",)) -> str | None:
    """Return the hint with the entry to write for each key below one that Optio does not have, and None where one has none.
    `agents` are the keys that may name the agent."""
    others = {key: value for key, value in root.items() if key != route[-1]}
    top, entries, without = known_keys(root, ()), [], []
    made: dict[str, Any] = {}
    for key, value in parts.items():
        if key in agents and (agent := values.runtime(value)) is not None:
            key, value = "agentRuntime", agent
        cure = None if key in top else explain_foreign_key({**others, **made, key: value}, (key,))
        text = values.unchanged(value) if cure is None else None
        if key in others or (cure is None and (key not in top or text is None)):
            return None
        if cure is None:
            entries.append(f"`{key}: {text}`")
        elif cure.entry is not None:
            entries.append(f"`{cure.entry}`")
            made[cure.entry.partition(":")[0]] = value
        else:
            without.append(f"for `{key}`: {re.sub(r'(?:[,:;] |, and |; then )delete this line', '', cure.hint)}")
    if not entries or len(without) > 1:
        return None
    told = " and ".join([", ".join(entries[:-1]), entries[-1]] if len(entries) > 1 else entries)
    return "; ".join([f"write {told} at the top of the file, and delete this line", *without])


def _by_value(route: Route, row: KeyRow, base: Route, value: Any) -> tuple[KeyRow, Route]:
    """Return the row and the base that the value calls for, where other systems give one key values of several kinds."""
    if row.ours in ("environment.keepFailed", "keepFailed") and values.seconds(value) is None and value in (0, "0"):
        return KeyRow(row.level, "", advice=_NO_POD), base
    if row.advice is KEY and (named := values.secrets_in(value)) is not None:
        return KeyRow(TASK, row.names, "environment.secrets", partial(_made, named)), ()
    if row.convert is values.runtime and isinstance(value, dict) and not {"id", "name", "type", "engine"} & set(value):
        # The value describes the machine, not the agent.
        image = values.image(value.get("docker", value if "image" in value else None))
        placed = KeyRow(TASK, "", advice=PLACED)
        return KeyRow(TASK, row.names, "environment.image", partial(_made, image)) if image else placed, ()
    if row.advice == IMPORT and isinstance(value, str) and value.endswith((".yaml", ".yml")):
        return KeyRow(TASK, row.names, "extends"), ()
    if row.advice is RIGHTS and isinstance(value, dict) and not {"allow", "deny", "ask"}.isdisjoint(value):
        return KeyRow(row.level, "", advice=TOOLS), base
    if row.advice == OUTPUT and _has_form("result", value):
        return KeyRow(TASK, row.names, "result"), ()
    if row.advice == OUTPUT and isinstance(value, dict) and (fetched := values.clone(value)) is not None:
        return KeyRow(TASK, row.names, "environment.setupCommands", partial(_made, fetched)), ()
    if row.advice == OUTPUT and (made := values.result(value)) is not None:
        return KeyRow(TASK, row.names, "result", partial(_made, made)), ()
    if row.advice == WORDS and isinstance(value, list) and all(isinstance(each, dict) for each in value):
        value = {str(each.get("key", each.get("name"))): each.get("value") for each in value}
    if row.advice == WORDS and isinstance(value, dict) and (named := values.owner_in(value)) is not None:
        return KeyRow(TASK, row.names, "owner", partial(_made, named)), ()
    if row.advice.startswith("write `dedupe:") and isinstance(value, str) and re.search(r"\{\{\w+\}\}", value):
        return KeyRow(TASK, row.names, "dedupe", partial(_made, flow({"key": value}))), ()
    if "runson" in row.names.split() and fold_key(str(route[-1])) in _RUNNERS and not re.search(r"[/:@]", str(value)):
        return KeyRow(row.level, "", advice=RUNNER), base
    return row, base


def _by_use(root: Any, route: Route, row: KeyRow, base: Route, value: Any) -> KeyRow:
    """Return the row that the task's other keys call for: commands of a program, a filter in its sender's words, an exclusive
    run."""
    if row.ours == "environment.setupCommands":
        if isinstance(root, dict) and _is_program(root) and not _PREPARES.search(fold_key(str(route[-1]))):
            if not isinstance(value, list):
                return KeyRow(row.level, row.names, "command", values.unchanged)
            if script := values.script(value):
                return KeyRow(row.level, row.names, "command", partial(_made, script))
    elif row.ours == "paramsSchema" and _is_of_a_program(root, route) and (variables := values.mapping_of_texts(value)):
        return row._replace(ours="environment.env", convert=partial(_made, variables))
    elif (
        row.ours.rpartition(":")[2] == "when" and row.convert in (values.unchanged, values.condition) and isinstance(value, str)
    ):
        from optio.compiler.payloads.queries import suggest_filter

        meant = suggest_filter(value, str(value_at(root, (*base, "scheme")) or "github"))
        made = values.condition(value) if meant is None else flow(meant)
        return row._replace(convert=values.unchanged if made is None else partial(_made, made))
    elif row.ours == "maxConcurrent" and isinstance(value, dict):
        made = values.exclusive({**value, "group": _in_repository(root, value.get("group"))})
        if made is not None:
            advice = "a run that waits is replaced, and a running one goes on"
            return row._replace(ours="dedupe", convert=partial(_made, made), advice=advice)
    return row


def _unused(root: Any, route: Route, row: KeyRow) -> str:
    """Return what to do for parameters that are declared by the cure, and that the prompt does not use."""
    prompt = root.get("promptTemplate") if isinstance(root, dict) else None
    text = _shown(row, root, route) if row.ours == "paramsSchema" else None
    document, _ = parse(SourceFile("", f"it: {text or 'null'}\n".encode()))
    names = None if document is None else value_at(document.value, ("it", "properties"))
    unused = (
        [f"`{{{{{name}}}}}`" for name in names if f"{{{{{name}}}}}" not in prompt] if isinstance(prompt, str) and names else []
    )
    return f", and write {' and '.join(unused)} into the prompt" if 0 < len(unused) <= _MAX_SPLIT else ""


def _in_repository(root: Any, group: Any) -> Any:
    """Return a group, which holds in one repository elsewhere, with the parameter that names the repository of a delivery."""
    listed = value_at(root, ("triggers",))
    for trigger in listed if isinstance(listed, list) else ():
        mapping = value_at(trigger, ("config", "paramMapping"))
        for name, path in mapping.items() if isinstance(mapping, dict) else ():
            is_keyed = isinstance(group, str) and "{{" in group and f"{{{{{name}}}}}" not in group
            if path == "$.repository.full_name" and is_keyed:
                return f"{{{{{name}}}}}-{group}"
    return group


def _merged(root: Any, route: Route, row: KeyRow, place: Route, text: str | None) -> str | None:
    """Return the hint for a value whose key is there already, or is made together with a key beside it; None if neither."""
    value, last, beside = value_at(root, route), place[-1], value_at(root, place[:-1])
    here = place[:-1] == route[:-1]
    if last == "when" and here and text is not None and isinstance(beside, dict) and isinstance(beside.get("when"), str):
        new = parsed(text)
        if "||" not in beside["when"] and new in beside["when"].split(" && "):
            return "`when` asks that already: delete this line"
        both = " && ".join(f"({each})" if "||" in each else each for each in (beside["when"], new))
        return f"write `when: {flow(both)}` in the place of the one that is there, and delete this line"
    if row.ours == "paramsSchema" and isinstance(beside, dict) and isinstance(beside.get("paramsSchema"), dict) and text:
        return _more_parameters(root, value)
    is_argument = row.ours == "command" and here and fold_key(str(route[-1])) in ("args", "argv", "arguments")
    if is_argument and (whole := _with(beside, value)):
        return f"write `command: {whole}` in the place of the one that is there, and delete this line"
    if isinstance(beside, dict) and last in beside:
        return _instead(str(last), text, beside[last], "" if here else _at(route, place[:-1]))
    return None


def _has_form(key: str, value: Any) -> bool:
    """Return True if triggers, declared parameters or a declared result have Optio's own form already, under another key."""
    if key == "triggers":
        return (
            isinstance(value, list)
            and bool(value)
            and all(isinstance(e, dict) and str(e.get("type")) in TRIGGERS for e in value)
        )
    if key == "result":
        return isinstance(value, dict) and isinstance(value.get("schema"), dict) and value.keys() <= {"schema", "required"}
    return key == "paramsSchema" and isinstance(value, dict) and isinstance(value.get("properties"), dict)


def _more_parameters(root: Any, value: Any) -> str:
    """Return the cure for parameters in another tool's form beside a `paramsSchema` that declares some already."""
    made, there = values.properties_of(value), value_at(root, ("paramsSchema", "properties"))
    if isinstance(value, dict) and isinstance(there, dict) and value.keys() <= there.keys():
        return "delete it: `paramsSchema` has these parameters"
    if isinstance(value, dict) and made is not None and all(isinstance(each, (str, int, float)) for each in value.values()):
        declared = value_at(root, ("paramsSchema", "properties"))
        if isinstance(declared, dict) and not set(value) & set(declared):
            there = value_at(root, ("environment", "env"))
            text = values.mapping_of_texts(value) or EXAMPLES["env"]
            if isinstance(there, dict) and there:
                return f"add `{text[1:-1]}` to `env` below `environment`, and delete this line"
            return f"write `env: {text}` below `environment`"
    if made is None or len(made) > MAX_WHOLE:
        return "delete it: `paramsSchema` is there"
    return f"add `{made[1:-1]}` below `paramsSchema.properties`, and delete this line"


def _is_address(value: Any) -> bool:
    """Return True if a value names people or channels to notify."""
    if isinstance(value, dict):
        return any(re.search(r"(?i)mail|slack|notif|pager|teams", str(key)) or _is_address(each) for key, each in value.items())
    return (
        isinstance(value, str)
        and re.fullmatch(r"[\w.+-]+@[\w-]+\.[\w.-]+|#[\w-]+|https://hooks\.slack\.com/.*", value) is not None
    )


def _joined(root: Any, base: Route, advice: str) -> str:
    """Extend the advice to write a condition for a webhook that already has one."""
    there, new = value_at(root, (*base, "when")) if base else None, re.search(r"write `when: \"(.*?)\"`", advice)
    if new is None or not isinstance(there, str):
        return advice
    both = f"({there}) && {new[1]}" if "||" in there else f"{there} && {new[1]}"
    return f"write `when: {flow(both)}`, and delete this line" if len(both) <= MAX_SHOWN else f"add ` && {new[1]}` to `when`"


def _in_trigger(root: Any, route: Route, row: KeyRow, kind: str, last: str) -> KeyCure:
    value = value_at(root, route)
    shown, is_valid = _valid(model_at({"triggers": [{"type": kind}]}, _CONFIG), last, value, _shown(row, root, route))
    text, more = shown or _left_open(last), ""
    if isinstance(value, list) and len(value) > 1 and last == "cronExpression":
        more = f"; {ONE_SCHEDULE}"
    triggers = value_at(root, ("triggers",))
    listed = triggers if isinstance(triggers, list) else []
    index = next((i for i, each in enumerate(listed) if isinstance(each, dict) and each.get("type") == kind), None)
    if index is None:
        rows = (
            (each, find_row(TASK, fold_key(str(each))))
            for each in root
            if kind == SCHEDULE and last != "cronExpression" and not listed
        )
        whole = next((each for each, other in rows if other is not None and other.ours == f"{kind}:cronExpression"), route[-1])
        if whole != route[-1]:
            return KeyCure(f"write `{last}: {text}` in the `config` of the trigger that takes the place of `{whole}`{more}")
        form = _new_trigger(kind, last, text)
        if listed:
            return KeyCure(f"write `- {form}` below `triggers`, and delete this line{more}")
        entry = f"triggers: [{form}]"
        is_whole = is_valid and shown is not None and not more and "..." not in entry and "triggers" not in root
        return KeyCure(f"write `{entry}`{more}", "triggers" if is_whole else None, entry=entry if is_whole else None)
    config = value_at(root, ("triggers", index, "config"))
    if isinstance(config, dict) and last in config:
        return KeyCure(_instead(last, text, config[last], f"below `triggers[{index}].config`"))
    if isinstance(config, dict):
        return KeyCure(f"write `{last}: {text}` below `triggers[{index}].config`, and delete this line{more}")
    return KeyCure(f"write `config: {{{last}: {text}}}` below `triggers[{index}]`, and delete this line{more}")


def _is_of_a_program(root: Any, route: Route) -> bool:
    """Return True for variables of a task that runs a program and has no prompt, which reads them from its environment."""
    named = fold_key(str(route[-1])) in ("vars", "variables", "var")
    return named and isinstance(root, dict) and root.get("agentRuntime") == "command" and "promptTemplate" not in root


def _is_program(root: dict[str, Any]) -> bool:
    """Return True if the task runs a program that it does not name yet."""
    return root.get("agentRuntime") == "command" and "command" not in root


def _with(beside: Any, arguments: Any) -> str | None:
    """Return the program that stands there with these arguments."""
    there = value_at(beside, ("command",))
    program = there.split() if isinstance(there, str) else there
    if not isinstance(program, list) or not isinstance(arguments, list):
        return None
    whole = flow([str(each) for each in (*program, *arguments)])
    return whole if len(whole) <= MAX_SHOWN and not any(find_tokens("", whole)) else None


def _valid(model: type[Spec] | None, last: str, value: Any, text: str | None) -> tuple[str | None, bool]:
    """Return the text to write for Optio's key, and whether it is the converted value. Otherwise it is an example, so that the
    suggestion is not the next error."""
    key = None if model is None else next((each for each in keys_of(model) if each.written == last), None)
    if text is None or key is None or model is None:
        return text, True
    if _is_taken(text, key.annotation):
        return text, True
    made = convert_to_text((last,), value)
    form = example_of(model, last)
    return next(
        (each for each in (None if made is None else flow(made), form) if each and _is_taken(each, key.annotation)), text
    ), False


def _is_taken(text: str, annotation: Any) -> bool:
    document, _ = parse(SourceFile("", f"it: {text}\n".encode()))
    return document is not None and not any(find_issues(document.value["it"], annotation))


def _new_trigger(kind: str, last: str, text: str) -> str:
    config = ", ".join(f"{key}: {value}" for key, value in {**_NEW_TRIGGERS[kind], last: text}.items())
    return f"{{type: {kind}, config: {{{config}}}}}"


def _instead(last: str, text: str | None, there: Any, where: str) -> str:
    """Return the hint for a key whose equivalent is also there, so that neither value is lost unseen."""
    if last in ("secrets", "env") and text is None and there:
        return f"add each name to `{last}`{f' {where}' if where else ''}, which is there, and delete this line"
    if last == "promptTemplate" and isinstance(there, str) and text is not None:
        return "write its text at the beginning of `promptTemplate`, and delete this line"
    if text is None or text == values.unchanged(there):
        return f"delete it: `{last}` already exists"
    place = f" {where}" if where else ""
    for kind, first in ((list, "["), (dict, "{")):
        if last in _ADDED and isinstance(there, kind) and there and text[:1] == first:
            inner = text[1:-1]
            return f"add `{inner}` to `{last}`{place}, which is there, and delete this line"
    return f"`{last}` already exists{place}: write `{last}: {text}` there if you mean that, and delete this line"


_ADDED = ("secrets", "env", "setupCommands", "egress", "events", "paramMapping")


def _variable(root: Any, route: Route) -> KeyCure:
    """Return the cure for an environment variable that stands beside `env` instead of inside it."""
    key, value = str(route[-1]), value_at(root, route)
    if re.search(CREDENTIAL_NAME, key) or isinstance(value, (dict, list)):
        return _cure(root, route, KeyRow(ENVIRONMENT, "", "secrets", partial(_made, f"[{key}]")), route[:-1])
    listed = [each for each in value_at(root, route[:-1]) if re.fullmatch(r"[A-Z][A-Z0-9_]*", each)]
    made = values.mapping_of_texts({key: value})
    cure = _cure(root, route, KeyRow(ENVIRONMENT, "", "env", partial(_made, made or "{}")), route[:-1])
    return cure if len(listed) == 1 else KeyCure(f"write `env:` with `{key}` and the other variables below it")


def _at(route: Route, place: Route) -> str:
    if not place:
        return "at the top of the file"
    return "beside `config`" if place == route[:-2] and route[-2] == "config" else f"below `{show(place)}`"


def _shown(row: KeyRow, root: Any, route: Route) -> str | None:
    """Return the converted value if it fits on one line and cannot hold a secret."""
    value = value_at(root, route)
    if fold_key(str(route[-1])) in _MAY_HOLD_ONE and row.convert is values.unchanged:
        return None
    try:
        text = None if value is None else row.convert(value)
    except (ValueError, TypeError, OverflowError, RecursionError):
        return None
    most = MAX_WHOLE if row.ours in ("triggers", "paramsSchema", "result", "result.schema") else MAX_SHOWN
    if text is None or len(text) > most or "\n" in text or _SECRETS.search(fold_key(str(value))) or any(find_tokens("", text)):
        return None
    return text


def _missing(root: Any, parent: Route, folded: str) -> str | None:
    """Return the required key of this mapping that the word resembles, in whole or in part (`promt`)."""
    model, beside = model_at(root, parent), value_at(root, parent)
    if model is None or len(folded) < _MIN_GUESSED:
        return None
    wanted = required_keys(model)
    if not parent and not {"promptTemplate", "promptFile", "command"} & set(beside):
        wanted.append("promptTemplate")
    parts = {part: name for name in wanted if name not in beside for part in _parts(name)}
    meant = suggest(folded, parts)
    return None if meant is None else parts[meant]


def _parts(name: str) -> list[str]:
    first = "".join(char if char.islower() else " " for char in name).split()[0]
    return [first, name.lower()]


def _made(text: str, _: Any) -> str:
    return text


def _elsewhere(root: Any, route: Route, key: str) -> KeyCure | None:
    """Return the cure for a key that the schema knows in another mapping."""
    for place, keys in key_places().items():
        if key in keys and place != route[:-1]:
            into = "environment" if len(route) == 1 and place == ("environment",) else None
            where = f"below `{show(place)}`" if place else "at the top of the file"
            value, at = value_at(root, route), (*place, key)
            made = None if isinstance(value, dict) and set(value) & set(known_keys(root, at)) else convert_to_mapping(at, value)
            convert = values.unchanged if made is None else partial(_made, made)
            cure = _cure(root, route, KeyRow(TASK, key, ".".join(map(str, at)), convert), ())
            shared = [each for each in root if each != key and each in keys] if len(route) == 1 and place else []
            others = f", in one `{place[0]}:` with `{shared[0]}`" if shared and place[0] not in root else ""
            return KeyCure(f"it belongs {where}: {cure.hint}{others}", into=into)
    kinds = [kind for kind in _NEW_TRIGGERS if key in known_keys({"triggers": [{"type": kind}]}, ("triggers", 0, "config"))]
    if kinds and len(route) == 1:
        listed = root.get("triggers") if isinstance(root.get("triggers"), list) else []
        used = [each.get("type") for each in listed if isinstance(each, dict)]
        kind = next((each for each in kinds if each in used), kinds[0])
        convert = values.secret if key in ("secret", "previousSecret") else values.unchanged
        return _in_trigger(root, route, KeyRow(TASK, key, f"{kind}:{key}", convert), kind, key)
    return None
