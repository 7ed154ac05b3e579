"""Import a workflow of GitHub Actions: every step that calls an agent, by its action or by its command, becomes a task."""

from collections.abc import Iterator, Mapping
from typing import Any

from optio.compiler.yaml.document import Document
from optio.importing.agent_call import AgentCall, read_agent_call
from optio.importing.converters import complete_draft, put_agent_call, put_prompt
from optio.importing.draft import SourceKey, TaskDraft
from optio.importing.github_expressions import EXPRESSION, Parameters
from optio.importing.github_triggers import Triggers
from optio.importing.source import Section

_ACTIONS = {
    "anthropics/claude-code-action": "claude",
    "anthropics/claude-code-base-action": "claude",
    "openai/codex-action": "codex",
    "google-github-actions/run-gemini-cli": "gemini",
    "google-gemini/gemini-cli-action": "gemini",
}
_RUNTIMES = {"claude": "claude-code", "codex": "codex", "gemini": "gemini"}
_PROMPTS = ("prompt", "direct_prompt", "override_prompt")
CHECKOUT = "a run begins in an empty directory: clone the repository in `environment.setupCommands`, with a token as a secret"
_EARLIER = "the step runs before the agent: do it in `environment.setupCommands`, where it needs what a run has"
_LATER = "the step runs after the agent: let the prompt do it, or take the result from the API"
_REQUESTS = {
    **dict.fromkeys(("issue_comment", "pull_request_review_comment"), "comment.body"),
    "pull_request_review": "review.body",
    "issues": "issue.body",
    "pull_request": "pull_request.body",
}
_MENTION = (
    "the action takes its request from the text that started it, here `{}` alone: "
    "keep the events that have it, and write a filter for the phrase of the action"
)


def is_workflow(value: Any) -> bool:
    """Return whether a document is a workflow: `on`, and jobs with steps."""
    if not isinstance(value, dict) or "on" not in value or not isinstance(value.get("jobs"), dict):
        return False
    return any(isinstance(job, dict) and ("steps" in job or "uses" in job) for job in value["jobs"].values())


def read_workflow(path: str, documents: list[Document]) -> Iterator[TaskDraft]:
    """Yield a draft for each step that calls an agent; one that cannot be written if there is none."""
    for document in documents:
        value = document.value if isinstance(document.value, dict) else {}
        title = str(value.get("name") or path.rpartition("/")[2].partition(".")[0] or "workflow")
        places = list(_places_of(value.get("jobs")))
        for job, index in places:
            suffix = f" {job}" if sum(name == job for name, _ in places) == 1 else f" {job} {index + 1}"
            draft = TaskDraft(title if len(places) == 1 else title + suffix)
            _read_step(Section(document, (), draft, "github-workflow"), draft, job, index)
            yield draft
        if not places:
            draft = TaskDraft(title)
            origin = SourceKey("jobs", document.key_span(("jobs",)).start.line)
            draft.refuse(origin, "no step calls an agent, by an action that is known here or by a command")
            yield draft


def _places_of(jobs: Any) -> Iterator[tuple[str, int]]:
    for job, body in jobs.items() if isinstance(jobs, dict) else ():
        steps = body.get("steps") if isinstance(body, dict) else None
        for index, step in enumerate(steps if isinstance(steps, list) else ()):
            if isinstance(step, dict) and _agent_of(step) is not None:
                yield job, index


def _agent_of(step: Mapping[str, Any]) -> str | AgentCall | None:
    """Return the agent whose action a step uses, or the call of its command."""
    uses, command = step.get("uses"), step.get("run")
    if isinstance(uses, str):
        return _ACTIONS.get(uses.partition("@")[0].lower())
    if not isinstance(command, str):
        return None
    # An expression is filled in before the shell reads the command; here it must not look like a variable.
    call = read_agent_call(EXPRESSION.sub(lambda match: f"%{match[1]}%%", command))
    if call is not None:
        for match in EXPRESSION.finditer(command):
            call.prompt = call.prompt.replace(f"%{match[1]}%%", match[0])
    return call


def _read_step(workflow: Section, draft: TaskDraft, job_name: str, index: int) -> None:
    if workflow.take("name") is not None:
        draft.carried(workflow.origin("name"), "name")
    jobs = workflow.section("jobs", "github-workflow.jobs")
    job = jobs.section(job_name, "github-workflow.job")
    steps = job.sections("steps", "github-workflow.step")
    if not steps:
        draft.refuse(workflow.origin("jobs"), "the job has no list of steps: correct the file")
        return
    for other in jobs.names():
        draft.missing(jobs.origin(other), "another job: a task does the work of one step")
    jobs.drop()
    triggers = Triggers(draft, Parameters(draft))
    triggers.read(workflow, "github-workflow.on")
    step = steps[index]
    _put_agent(step, draft, triggers)
    for section in (job, step):
        if (condition := section.text("if")) is not None:
            triggers.add_condition(section.origin("if"), condition)
    for position, other_step in enumerate(steps):
        if position != index:
            _note_step(other_step, draft, _EARLIER if position < index else _LATER)
    workflow.finish()
    triggers.complete()
    complete_draft(draft, step.origin())


def _put_agent(step: Section, draft: TaskDraft, triggers: Triggers) -> None:
    agent = _agent_of(step.value)
    if isinstance(agent, AgentCall):
        origin = step.origin("run")
        step.take("run")
        text_of_source, agent.prompt = agent.prompt, triggers.parameters.fill(origin, agent.prompt)
        put_agent_call(draft, origin, agent, text_of_source)
        return
    assert agent is not None  # noqa: S101 - `read_workflow` chose the step for it
    draft.carry(step.origin("uses"), "agentRuntime", _RUNTIMES[agent])
    inputs = step.section("with", f"github-workflow.{agent}")
    for name in _PROMPTS:
        if "promptTemplate" not in draft.values and (text := inputs.text(name)) is not None:
            origin = inputs.origin(name)
            put_prompt(draft, origin, triggers.parameters.fill(origin, text), text)
    if "promptTemplate" in draft.values:
        return
    path = next((path for event, path in _REQUESTS.items() if event in triggers.actions), None)
    if agent == "claude" and path is not None:
        draft.put("promptTemplate", triggers.parameters.fill(step.origin(), f"${{{{ github.event.{path} }}}}"))
        draft.block(step.origin(), _MENTION.format(f"$.{path}"))
    else:
        draft.refuse(step.origin(), "the step has no prompt in this file: write the task by hand")


def _note_step(step: Section, draft: TaskDraft, question: str) -> None:
    if _agent_of(step.value) is not None:
        draft.missing(step.origin(), "another step that calls an agent: it has a task of its own")
    else:
        is_checkout = str(step.value.get("uses")).startswith("actions/checkout")
        draft.block(step.origin(), CHECKOUT if is_checkout else question)
    step.drop()
