"""Import an agentic workflow of GitHub: Markdown whose front matter has triggers, engine and limits, and whose text is the
prompt."""

import re
from collections.abc import Iterator

from optio.importing.converters import complete_draft, put_prompt
from optio.importing.draft import SourceKey, TaskDraft
from optio.importing.github_expressions import Parameters
from optio.importing.github_triggers import Triggers
from optio.importing.github_workflow import CHECKOUT
from optio.importing.source import Section, SourceError, read_document
from optio.model.runtimes import DECLARED

_FRONT_MATTER = re.compile(r"---[ \t]*\n(.*?)^---[ \t]*$\n?", re.DOTALL | re.MULTILINE)
_ENGINES = {"claude": "claude-code", "codex": "codex", "copilot": "copilot", "gemini": "gemini", "opencode": "opencode"}
_HOST = re.compile(r"(?:\*\.)?[a-z0-9-]+(?:\.[a-z0-9-]+)+", re.IGNORECASE)
_IN_PROMPT = re.compile(r"(?m)^@(?:include|import)\b|\{\{#(?:if|import|runtime-import)\b")


def is_agentic_workflow(text: str) -> bool:
    """Return whether a text is Markdown below front matter with triggers."""
    match = _FRONT_MATTER.match(text)
    return match is not None and re.search(r"(?m)^[\"']?on[\"']?:", match[1]) is not None and bool(text[match.end() :].strip())


def read_agentic_workflow(path: str, text: str) -> Iterator[TaskDraft]:
    """Yield the draft of the workflow. Raises SourceError for a text without front matter."""
    match = _FRONT_MATTER.match(text)
    document = None if match is None else read_document(path, "\n" + match[1])
    if match is None or document is None or not isinstance(document.value, dict):
        raise SourceError("the file has no front matter", "begin with a line `---`, the keys, and another line `---`")
    draft = TaskDraft(path.rpartition("/")[2].partition(".")[0] or "workflow")
    front = Section(document, (), draft, "gh-aw")
    front.name_draft("name")
    _put_engine(front, draft)
    triggers = Triggers(draft, Parameters(draft))
    triggers.read(front, "gh-aw.on")
    body = text[match.end() :]
    origin = SourceKey("the text", text.count("\n", 0, match.end()) + 1 + len(body) - len(body.lstrip("\n")))
    put_prompt(draft, origin, triggers.parameters.fill(origin, body.strip("\n") + "\n"), body)
    if _IN_PROMPT.search(body):
        draft.block(origin, "the prompt includes files or has conditions, which nothing fills in here: write the text")
    draft.block(origin, CHECKOUT)
    if (condition := front.text("if")) is not None:
        triggers.add_condition(front.origin("if"), condition)
    _put_network(front, draft)
    front.finish()
    triggers.complete()
    complete_draft(draft, front.origin("engine"))
    yield draft


def _put_engine(front: Section, draft: TaskDraft) -> None:
    origin = front.origin("engine")
    section = front.section("engine")
    written = section.text("id") if section.is_mapping else front.text("engine")
    name = written or "copilot"
    if name in _ENGINES:
        draft.carry(origin, "agentRuntime", _ENGINES[name], "" if written else "the default of agentic workflows")
    else:
        draft.refuse(origin, f"no agent here is called `{name}`: choose one of {', '.join(sorted(_ENGINES))}")


def _put_network(front: Section, draft: TaskDraft) -> None:
    origin, value = front.origin("network"), front.take("network")
    if value is None:
        return
    allowed = value.get("allowed") if isinstance(value, dict) else None
    hosts = allowed if isinstance(allowed, list) else [str(value)]
    names = ", ".join(f"`{host}`" for host in hosts if not isinstance(host, str) or not _HOST.fullmatch(host))
    if names:
        question = f"{names} is a list of GitHub's: name all hosts that the agent needs under `environment.network.egress`"
        draft.decide(origin, question)
        return
    service = DECLARED[draft.values["agentRuntime"]].service if "agentRuntime" in draft.values else None
    listed = list(dict.fromkeys([*([] if service is None else [service.host]), *hosts]))
    draft.carry(origin, "environment.network.egress", listed, "with the host of the model")
