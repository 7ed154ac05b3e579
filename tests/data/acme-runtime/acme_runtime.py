"""The agent of Acme, `acme --json`: it prints an event a line, `done` at the end."""

from optio.model.runtimes import Capabilities, Declaration, Program
from optio.model.usage import Meter, Usage
from optio.runtimes.base import Invocation, Outcome, common_outcome
from optio.runtimes.entries import said
from optio.runtimes.event_reader import EventReader
from optio.runtimes.json_events import token_count


class Acme:
    seam_version, side, stall = 1, None, None
    program = Program(name="acme", package="acme-agent", tested="1.0")
    declaration = Declaration("acme", "Acme's agent", program, None, Capabilities("meter", "meter", tells_cost=False))

    def invoke(self, task, prompt, params, context):
        return Invocation(argv=(context.program, "--json"), stdin=prompt.encode())

    def reader(self, task):
        return Reader(task)


class Reader(EventReader):
    meter, done = Meter(), None

    def _read(self, event):
        self._began = True
        if event["type"] == "say":
            yield said(str(event.get("text")))
        elif event["type"] == "done":
            self.done, self.meter = event, Meter(usage=Usage(output=token_count(event.get("tokens")) or 0))

    def stop(self):
        return None

    def closing(self, at):
        return []

    def outcome(self, ended):
        done = self.done or {}
        if done.get("error"):
            return Outcome(ok=False, reason=done["error"], message="Acme says so")
        early = common_outcome(ended)
        return early or (self._success(ended, str(done["text"])) if done else self._no_result(ended))
