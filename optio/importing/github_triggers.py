"""Turn the `on` of a workflow into triggers: schedules, inputs, and events of GitHub as a webhook. Used for workflows of GitHub
Actions and for agentic workflows."""

import re
from dataclasses import dataclass, field
from typing import Any

from optio.compiler.payloads.deliveries import event_names
from optio.importing.converters import CONVERTERS, as_text, put_parameters, webhook_secret
from optio.importing.draft import SourceKey, TaskDraft
from optio.importing.github_expressions import EVENT_TESTS, Parameters, Uncertain, to_filter
from optio.importing.source import Section
from optio.model.text import slug

_TYPES = {"number": "number", "boolean": "boolean"}
# A pull request of these actions starts a workflow that names none.
_DEFAULT_ACTIONS = ("opened", "synchronize", "reopened")
_ALIASES = {"pull_request_target": "pull_request"}
_CALLS = ("workflow_call", "repository_dispatch")


@dataclass
class Triggers:
    """The triggers of a draft while its workflow is read. `actions` has the events of GitHub, each with its actions, none for
    all."""

    draft: TaskDraft
    parameters: Parameters
    actions: dict[str, tuple[str, ...]] = field(default_factory=dict)
    filters: list[str] = field(default_factory=list)
    is_dispatched: bool = False
    origin: SourceKey | None = None

    def read(self, workflow: Section, place: str) -> None:
        """Read `on`, which is a name, a list of names, or a mapping."""
        value = workflow.peek("on")
        self.origin = workflow.origin("on")
        if isinstance(value, (str, list)):
            workflow.take("on")
            for name in [value] if isinstance(value, str) else value:
                self._read_event(as_text(name), self.origin, None)
            return
        section = workflow.section("on", place)
        for name in section.names():
            if name not in ("schedule", "workflow_dispatch") and (
                _ALIASES.get(name, name) in event_names("github") or name in _CALLS
            ):
                origin, event = section.origin(name), section.section(name, "github-workflow.event")
                section.take(name)
                self._read_event(name, origin, event.take("types"))
                if name in _CALLS:
                    event.drop()
        self._read_dispatch(section)
        self._read_schedules(section)

    def _read_schedules(self, section: Section) -> None:
        origin = section.origin("schedule")
        entries = section.sections("schedule", "github-workflow.schedule")
        text = None if entries else section.text("schedule")
        if text is not None and len(text.split()) == 5:
            CONVERTERS["cron"](self.draft, origin, "schedule.cronExpression", text)
        elif text is not None:
            self.draft.block(origin, f"`{text}` leaves the time to GitHub: add a schedule with `cronExpression`")
        for entry in entries[1:]:
            question = f"a task has one schedule: copy it for `{entry.text('cron')}`, or join both in one expression"
            self.draft.decide(entry.origin("cron"), question)
            entry.drop()
        if entries:
            entries[0].finish()

    def _read_dispatch(self, section: Section) -> None:
        if "workflow_dispatch" not in section.names():
            return
        self.is_dispatched = True
        self.draft.carried(section.origin("workflow_dispatch"), "triggers")
        dispatch = section.section("workflow_dispatch", "github-workflow.event")
        section.take("workflow_dispatch")
        inputs = dispatch.section("inputs", "github-workflow.inputs")
        for name in inputs.names():
            entry = inputs.section(name, "github-workflow.input")
            inputs.take(name)
            kind = _TYPES.get(entry.text("type") or "", "string")
            default, options, is_required = entry.take("default"), entry.take("options"), entry.take("required") is True
            values = list(map(as_text, options)) if isinstance(options, list) else None
            if default is not None:
                default = as_text(default) if kind == "string" else default
            elif not is_required and values is None:
                default = {"string": "", "boolean": False}.get(kind)
            schema = {"type": kind, "enum": values, "description": entry.text("description"), "default": default}
            parameter = name.replace("-", "_")
            self.parameters.inputs[parameter] = {key: value for key, value in schema.items() if value is not None}
            self.draft.carried(entry.origin(), f"paramsSchema.properties.{parameter}")

    def _read_event(self, written: str, origin: SourceKey, types: Any) -> None:
        name = _ALIASES.get(written, written)
        if name == "workflow_dispatch":
            self.is_dispatched = True
        elif name in _CALLS:
            self.draft.decide(origin, "a call starts it: call `POST /api/tasks/ID/runs` in its place")
        elif name not in event_names("github"):
            self.draft.block(origin, f"GitHub sends no webhook for `{written}`: start the task in another way")
        else:
            default: tuple[str, ...] = _DEFAULT_ACTIONS if name == "pull_request" else ()
            names = [types] if isinstance(types, str) else types
            if isinstance(names, list):
                default = tuple(action for action in map(str, names) if re.fullmatch(r"[a-z_]+", action))
            self.actions[name] = default
            self.draft.carried(origin, "triggers[].config.events", "" if types is None else "its `types` as `when`")

    def add_condition(self, origin: SourceKey, condition: str) -> None:
        """Let only deliveries through for which a condition of the workflow holds. Runs of a schedule have none."""
        try:
            self.filters.append(to_filter(condition))
        except Uncertain:
            question = "the condition has no exact counterpart: write a filter in `when`, or let the prompt check it"
            self.draft.block(origin, question)
            return
        if self.actions:
            self.draft.carried(origin, "triggers[].config.when", "letters of `==` count with their case")
        if "cronExpression" in self.draft.schedule or not self.actions:
            question = "the condition holds for webhooks only: other triggers start the task in any case"
            self.draft.block(origin, question)

    def complete(self) -> None:
        """Add the triggers and the parameters to the draft."""
        is_scheduled, origin = "cronExpression" in self.draft.schedule, self.origin or SourceKey("on", 1)
        only_webhook = bool(self.actions) and not is_scheduled and not self.is_dispatched
        properties = self.parameters.properties(only_webhook=only_webhook)
        without = [name for name, schema in properties.items() if "default" not in schema]
        is_alone = only_webhook or not (self.actions or is_scheduled)
        put_parameters(self.draft, properties, without if is_alone else [])
        if without and not is_alone:
            listed = ", ".join(f"`{name}`" for name in without)
            self.draft.block(origin, f"not every trigger gives a value for {listed}: write a `default`")
        repository = [name for name in self.parameters.paths if name.startswith("REPOSITORY")]
        if repository and is_scheduled:
            listed = ", ".join(f"`{name}`" for name in repository)
            question = f"a schedule has no repository: write a value for {listed} under `paramMapping` of the schedule"
            self.draft.block(origin, question)
        if self.is_dispatched:
            self.draft.triggers.append({"type": "manual"})
        if self.actions:
            self._add_webhook(origin)

    def _add_webhook(self, origin: SourceKey) -> None:
        path, secret = slug(self.draft.name) or "github", webhook_secret(self.draft)
        config: dict[str, Any] = {"path": path, "scheme": "github", "secret": {"name": secret}, "events": list(self.actions)}
        try:
            conditions = [text for text in (self._action_filter(), *self.filters) if text]
        except Uncertain:
            conditions = []
            question = "the events have other actions each, and their deliveries no common mark: write a filter in `when`"
            self.draft.block(origin, question)
        if conditions:
            config["when"] = conditions[0] if len(conditions) == 1 else " && ".join(f"({text})" for text in conditions)
        config["paramMapping"] = {name: f"$.{source}" for name, source in self.parameters.paths.items()}
        self.draft.triggers.append({"type": "webhook", "config": config})
        question = (
            f"add a webhook for the `path` of this one at GitHub, and store the secret that you enter there as `{secret}`"
        )
        self.draft.decide(origin, question)

    def _action_filter(self) -> str:
        """Return the filter for the actions of the events; raise Uncertain if a delivery does not tell its event."""
        tests = {event: " || ".join(f"@.action == '{action}'" for action in names) for event, names in self.actions.items()}
        if len(set(tests.values())) == 1:
            return next(iter(tests.values()))
        if not tests.keys() <= EVENT_TESTS.keys():
            raise Uncertain(", ".join(tests))
        return " || ".join(f"({EVENT_TESTS[event]}{f' && ({test})' if test else ''})" for event, test in tests.items())
