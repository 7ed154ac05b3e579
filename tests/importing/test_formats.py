"""What each format means in a task: values that are carried, and those that a person must decide on."""

from typing import Any

import pytest

from optio.importing.agent_call import AgentCall, read_agent_call
from optio.importing.converters import CONVERTERS
from optio.importing.counterparts import counterparts
from optio.importing.draft import NoteKind, SourceKey, TaskDraft
from optio.importing.formats import Format, read_drafts
from optio.importing.github_expressions import Uncertain, to_filter
from optio.importing.outcome import ImportedTask, compile_drafts
from optio.model.jsonpath import parse

WORKFLOW = """\
name: Review
on: {{{events}}}
jobs:
  review:
    if: {condition}
    steps:
      - uses: anthropics/claude-code-action@v1
        with: {{prompt: "{prompt}", anthropic_api_key: "${{{{ secrets.ANTHROPIC_API_KEY }}}}"}}
"""


def imported(text: str, named: Format | None = None, path: str = "file.yaml") -> list[ImportedTask]:
    (file,) = compile_drafts([(path, *read_drafts(path, text, named))])
    assert [task.errors for task in file.tasks if task.errors] == []
    return list(file.tasks)


def draft_of(text: str, named: Format | None = None, path: str = "file.yaml") -> TaskDraft:
    _, (draft,) = read_drafts(path, text, named)
    return draft


def questions(draft: TaskDraft) -> str:
    return "\n".join(note.text for note in draft.notes if note.kind is NoteKind.DECIDE)


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("github.event.action == 'opened'", "@.action == 'opened'"),
        ("${{ github.event.pull_request.draft == false }}", "@.pull_request.draft == false"),
        ("github.actor != 'dependabot[bot]'", "@.sender.login != 'dependabot[bot]'"),
        ("contains(github.event.comment.body, '@claude')", "search(@.comment.body, '(?i)@claude')"),
        ("startsWith(github.event.comment.body, '/plan.')", "search(@.comment.body, '(?i)^/plan[.]')"),
        ("contains(github.event.issue.labels.*.name, 'bug')", "@.issue.labels[?@.name == 'bug']"),
        ("github.event.issue.pull_request && (github.event_name == 'issue_comment')",
         "@.issue.pull_request && ((@.issue && @.comment))"),
        ("!contains(github.event.issue.title, 'wip') || github.event.issue.number > 3", None),
        ("!github.event.pull_request.draft", None),
        ("!github.event.action == 'opened'", None),
        ("needs.gate.outputs.ok == 'true'", None),
        ("github.event.action == null", None),
        ("always()", None),
        ("contains(github.event.comment.body, '^x')", None),
    ],
)  # fmt: skip
def test_a_condition_becomes_a_filter_where_it_means_the_same(condition: str, expected: str | None) -> None:
    if expected is None:
        with pytest.raises(Uncertain):
            to_filter(condition)
    else:
        assert to_filter(condition) == expected
        parse(f"$[?{expected}]")


@pytest.mark.parametrize(
    ("payload", "passes"),
    [
        ({"action": "created", "issue": {}, "comment": {"body": "Hi @Claude"}}, True),
        ({"action": "created", "issue": {}, "comment": {"body": "Hi"}}, False),
        ({"action": "deleted", "issue": {}, "comment": {"body": "@claude"}}, False),
        ({"action": "opened", "issue": {"body": "@claude"}}, False),
    ],
)
def test_the_filter_of_a_workflow_lets_the_same_deliveries_through(payload: dict[str, Any], passes: bool) -> None:
    text = WORKFLOW.format(
        events="issue_comment: {types: [created]}, issues: {types: [opened]}",
        condition="github.event_name == 'issue_comment' && contains(github.event.comment.body, '@claude')",
        prompt="Do it",
    )

    (trigger,) = draft_of(text).triggers

    assert bool(parse(f"$[?{trigger['config']['when']}]").find([payload])) is passes


def test_a_pull_request_without_types_starts_on_the_actions_of_github() -> None:
    text = WORKFLOW.format(events="pull_request: null", condition="github.actor != 'bot'", prompt="Review it")

    (trigger,) = draft_of(text).triggers

    assert "@.action == 'opened' || @.action == 'synchronize' || @.action == 'reopened'" in trigger["config"]["when"]


def test_what_github_computes_keeps_the_triggers_off() -> None:
    text = WORKFLOW.format(
        events="push: null", condition="github.actor != 'bot'", prompt="Look at ${{ steps.diff.outputs.text }}"
    )

    (task,) = imported(text)

    assert "enabled: false" in str(task.text)
    assert "# decide: jobs.review.steps[0].with.prompt: `steps.diff.outputs.text` is not known to a run" in str(task.text)


def test_braces_that_a_prompt_has_itself_are_asked_about() -> None:
    draft = draft_of(WORKFLOW.format(events="push: null", condition="github.actor != 'bot'", prompt="Fill in {{NAME}}"))

    assert "`{{NAME}}` in the prompt is the placeholder of a parameter here" in questions(draft)


def test_what_a_system_does_by_default_is_written_out() -> None:
    draft = draft_of("CRON_TZ=UTC\n0 1 * * * /bin/a\n", path="tab")

    assert draft.values["maxRetries"] == 0
    assert draft.schedule["misfire"] == "skip"


def test_two_files_of_one_name_get_ids_and_webhooks_of_their_own() -> None:
    text = WORKFLOW.format(events="push: null", condition="github.actor != 'bot'", prompt="Look")

    files = compile_drafts([("a.yml", *read_drafts("a.yml", text)), ("b.yml", *read_drafts("b.yml", text))])

    assert [(task.path, task.errors) for file in files for task in file.tasks] == [("review.yaml", ()), ("review-2.yaml", ())]


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("claude -p 'Say hello' --model sonnet", ("claude-code", "Say hello", {"model": "sonnet"})),
        ("/usr/bin/claude --print --max-turns 3 \"It's time\" >> /var/log/a.log 2>&1",
         ("claude-code", "It's time", {"maxTurns": 3})),
        (["codex", "exec", "--full-auto", "Review"], ("codex", "Review", {})),
        ("gemini -y -p 'Sum up'", ("gemini", "Sum up", {})),
        ("opencode run -m openai/gpt-5 'Sum up'", ("opencode", "Sum up", {"model": "openai/gpt-5"})),
        ("claude -p \"Today is $(date)\"", None),
        ("cd /repo && claude -p 'Say hello'", None),
        ("claude -p 'Say hello' --resume 7", None),
        ("claude -p 'one' 'two'", None),
        ("claude --max-turns many -p x", None),
        ("claude mcp list | claude -p x", None),
        ("codex login", None),
        ("./claude.sh -p x", None),
    ],
)  # fmt: skip
def test_a_command_is_an_agent_only_where_that_is_certain(command: str | list[str], expected: tuple[Any, ...] | None) -> None:
    call = read_agent_call(command)

    assert (None if call is None else (call.runtime, call.prompt, call.values)) == expected


def test_an_option_that_changes_what_an_agent_does_is_asked_about() -> None:
    call = read_agent_call("claude -p x --append-system-prompt 'Be short'")

    assert isinstance(call, AgentCall)
    assert call.questions == ["--append-system-prompt Be short"]


@pytest.mark.parametrize(
    ("converter", "value", "expected"),
    [
        ("minutes", 90, "1h30m"),
        ("minutes", "15", "15m"),
        ("seconds", 0, None),
        ("seconds", "1h", False),
        ("iso", "P1DT30M", "24h30m"),
        ("iso", "20m", False),
        ("attempts", 3, 2),
        ("attempts", 0, False),
        ("positive", 0, False),
        ("off", True, False),
        ("text", "${{ matrix.image }}", False),
        ("zone", "Mars/Olympus", None),
        ("cron", "61 * * * *", None),
        ("cron", "@midnight", "@daily"),
    ],
)
def test_a_converter_carries_a_value_asks_or_leaves_it(converter: str, value: Any, expected: Any) -> None:
    draft = TaskDraft("x")

    is_understood = CONVERTERS[converter](draft, SourceKey("key", 1), "timeout", value)

    assert draft.values.get("timeout") == (None if expected is False and not is_understood else expected)
    assert bool(draft.notes) is (is_understood and value != 0)


def test_every_row_of_the_table_names_a_converter_that_exists() -> None:
    def rows(table: Any) -> list[str]:
        return [row for each in table.values() for row in (rows(each) if isinstance(each, dict) else [each])]

    table = {name: part for name, part in counterparts().items() if name != "agents"}
    targets = [row.removeprefix("-> ").partition(": ")[2] for row in rows(table) if row.startswith("-> ")]

    assert {converter for converter in targets if converter} <= CONVERTERS.keys()
    assert len(rows(table)) > 200


@pytest.mark.parametrize(
    ("line", "command", "prompt"),
    [
        ("0 1 * * * /bin/a --day \\%d", "/bin/a --day %d", None),
        ("0 1 * * * /bin/mail x%Dear%all", "/bin/mail x", "Dear\nall"),
        ("@daily cd / && run-parts d", "cd / && run-parts d", None),
    ],
)
def test_a_line_of_a_crontab_runs_what_cron_would_run(line: str, command: str, prompt: str | None) -> None:
    draft = draft_of(f"CRON_TZ=UTC\n{line}\n", path="tab")

    assert (draft.values["command"], draft.values.get("promptTemplate")) == (command, prompt)
    assert draft.schedule["timezone"] == "UTC"
    assert not any(note.blocks for note in draft.notes)


def test_a_crontab_of_the_system_has_a_column_for_users() -> None:
    drafts = read_drafts("etc", "5 4 * * * root /bin/a\n6 4 * * * news /bin/b -x\n")[1]

    assert [draft.values["command"] for draft in drafts] == ["/bin/a", "/bin/b -x"]


@pytest.mark.parametrize(
    ("steps", "command", "blocks"),
    [
        ("[{command: a}]", "a", False),
        ("[{id: one, run: a}, {id: two, run: b, depends: one}]", "set -e\n(\na\n)\n(\nb\n)", False),
        ("[{id: one, run: a}, {id: two, run: b}]", "set -e\n(\na\n)\n(\nb\n)", True),
        ("[{command: a, preconditions: [{condition: x}]}]", "a", True),
        ("[a]", "a", False),
        ("{one: {command: a}}", "a", False),
        ("[{run: 'echo ${DAY}'}]", "echo ${DAY}", True),
    ],
)
def test_the_steps_of_a_dag_are_one_program(steps: str, command: str, blocks: bool) -> None:
    draft = draft_of(f"params: [DAY: today]\nsteps: {steps}\n", path="dag.yaml")

    assert draft.values["command"] == command
    assert any(note.blocks for note in draft.notes) is blocks


@pytest.mark.parametrize(
    "text",
    [
        "steps: [{action: http.request, with: {url: x}}]",
        "steps: [{command: python, script: print(1)}]",
        "steps: [{run: a}, {type: docker, command: b}]",
    ],
)
def test_a_step_of_another_kind_gives_no_task(text: str) -> None:
    draft = draft_of(text, Format.DAGU)

    assert not draft.is_writable
    assert "only commands of a shell" in questions(draft)


@pytest.mark.parametrize(
    ("pod", "question"),
    [
        ("{containers: [{image: a}]}", "entry point of the image"),
        ("{containers: [{name: a}, {name: b}]}", "this pod has 2"),
        ("{containers: []}", "this pod has 0"),
    ],
)
def test_a_cronjob_whose_program_is_not_known_gives_no_task(pod: str, question: str) -> None:
    text = f"kind: CronJob\nspec: {{schedule: '@daily', jobTemplate: {{spec: {{template: {{spec: {pod}}}}}}}}}"

    draft = draft_of(text)

    assert not draft.is_writable
    assert question in questions(draft)


def test_a_list_of_the_cluster_is_read_item_by_item() -> None:
    container = "{containers: [{command: [a, $(B)], env: [{name: B, valueFrom: {fieldRef: {fieldPath: x}}}]}]}"
    spec = f"{{schedule: '@daily', jobTemplate: {{spec: {{template: {{spec: {container}}}}}}}}}"
    job = f"{{kind: CronJob, metadata: {{name: j}}, spec: {spec}}}"

    _, drafts = read_drafts("list.yaml", f"kind: List\nitems: [{job}, {{kind: Job}}]")

    assert [(draft.name, draft.is_writable) for draft in drafts] == [("j", True), ("Job", False)]
    assert "Optio fills in no `$(NAME)`" in questions(drafts[0])


def test_a_flow_with_several_tasks_gives_no_task() -> None:
    tasks = "[{id: a, type: io.kestra.plugin.core.log.Log}, {id: b, type: io.kestra.plugin.scripts.shell.Commands}]"

    draft = draft_of(f"id: f\nnamespace: n\ntasks: {tasks}")

    assert not draft.is_writable
    assert "2 tasks (Log, Commands)" in questions(draft)


def test_a_task_of_the_api_with_a_repository_gives_no_task() -> None:
    draft = draft_of('{"name": "x", "agentRuntime": "codex", "promptTemplate": "y", "repoUrl": "https://example.com/r"}')

    assert not draft.is_writable


def test_tasks_of_the_api_come_as_a_list_with_their_triggers() -> None:
    trigger = '{"id": "9", "type": "webhook", "enabled": false, "config": {"path": "a"}}'
    keys = '"agentRuntime": "command", "command": "true", "environment": []'
    text = f'{{"tasks": [{{"name": "x", {keys}, "triggers": [{trigger}]}}]}}'

    (task,) = imported(text)

    assert "path: a" in str(task.text)
    assert "name: WEBHOOK_X_SECRET" in str(task.text)
