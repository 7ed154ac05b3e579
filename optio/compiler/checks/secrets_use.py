"""Check the use of secrets: names that commands and variables use without being granted, placeholders of other systems in them,
and the combination of untrusted text, secrets and open egress."""

import re
from collections.abc import Iterator
from typing import NamedTuple

from optio.compiler.checks import shell
from optio.compiler.checks.trust import shell_texts
from optio.compiler.checks.untrusted_input import untrusted_parameters
from optio.compiler.conversions.known_keys import CREDENTIAL_NAME
from optio.compiler.diagnostics import Diagnostic
from optio.compiler.param_schema.declared import declared_parameters
from optio.compiler.resolved_task import ResolvedTask
from optio.compiler.suggest import suggest
from optio.model.prompt import PLACEHOLDER
from optio.model.route import Route
from optio.model.runtimes import service_of
from optio.model.trigger import WebhookTrigger
from optio.model.untrusted import unbounded_params

SECRETS: Route = ("environment", "secrets")
# Credentials that each agent reads by itself.
RUNTIME_KEYS = frozenset(
    {
        *("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN", "CODEX_API_KEY", "OPENAI_API_KEY"),
        *("COPILOT_PROVIDER_API_KEY", "COPILOT_GITHUB_TOKEN", "GEMINI_API_KEY", "GOOGLE_API_KEY", "OPENROUTER_API_KEY"),
        "GOOGLE_GENERATIVE_AI_API_KEY",
    }
)
# `${{ ... }}` of GitHub Actions and GitLab, and expressions of Airflow, Argo, Kestra, Prefect, Tekton and Terraform. Others
# (`{{.State}}`, `${project.version}`) belong to programs that fill them in themselves.
_EXPRESSION = (
    r"(?a)\$\{\{\s{0,9}(?:secrets\.(?P<secret>\w{1,200})|[^{}\n]{0,200}?)\s{0,9}\}\}"
    r"|\{\{\s{0,9}(?:secrets\.(?P<vault>\w{1,200})|(?:prev_|next_)?(?:ds|ts)(?:_nodash)?|execution_date|logical_date"
    r"|data_interval_\w{3,5}|(?:var|conn|params|inputs|workflow|outputs|flow|execution|taskrun|trigger|steps|dag_run)"
    r"\.(?P<path>[\w.-]{1,100}))\s{0,9}\}\}"
    r"|\$(?:\((?:params|tasks\.\w{1,50}\.results|inputs|parameters)|\{(?:var|local|module|data|each|params|inputs|parameters"
    r"|secrets))\.(?P<other>[\w.-]{1,100})[)}]"
)
# `$(NAME)`, which Kubernetes fills in where a container's arguments hold it. A shell would run a program of this name.
OF_KUBERNETES = r"\$\(([A-Z][A-Z0-9_]{1,100})\)"
_VARIABLE = r"(?a)\$(?:\{([A-Za-z_]\w*)\}|([A-Za-z_]\w*))"
# Text that a shell would expand, as the whole value or at the beginning of a path or an address.
_SHELL_WORD = r"(?a)(?:[a-z]+://)?\$(?:\{[A-Z_][A-Z0-9_]*\}|[A-Z_][A-Z0-9_]*)(?:[:/]\S*)?|\$\([^()]*\)"
# Variables that hold an address with a secret in it.
_HIDDEN_ADDRESS = (
    r"(?:^|_)(?:WEBHOOK(?:_UR[IL])?|DSN|CONNECTION_STRING"
    r"|(?:DATABASE|DB|POSTGRES|MYSQL|MONGO(?:DB)?|REDIS|AMQP|BROKER)_UR[IL])\Z"
)
# Variables that GitHub Actions, GitLab CI, CircleCI and Buildkite set for their jobs.
_OF_BUILDS = (
    r"GITHUB_(?:ACTOR|BASE_REF|ENV|EVENT|HEAD_REF|JOB|OUTPUT|PATH|REF|REPOSITORY|RUN|SHA|STATE|STEP_SUMMARY|WORK)\w*"
    r"|RUNNER_(?:TEMP|OS|ARCH|NAME|TOOL_CACHE|WORKSPACE)|(?:CIRCLE|BUILDKITE)_\w+"
    r"|CI_(?:API_V4_URL|COMMIT|DEFAULT_BRANCH|JOB|MERGE_REQUEST|PIPELINE|PROJECT|REGISTRY)\w*"
)


class _Expression(NamedTuple):
    """A placeholder of another system: as it is written, the secret that it names, and the last name of its path."""

    text: str
    start: int
    secret: str | None
    name: str


def check(task: ResolvedTask) -> Iterator[Diagnostic]:
    """Report misused secrets of one task."""
    if not task.is_known(SECRETS):
        return
    yield from _in_commands(task)
    yield from _in_variables(task)
    if task.spec.environment.secrets:
        yield from _in_prompt(task)
        yield from _of_the_server(task)
        yield from _three_together(task)


def _expression(text: str) -> _Expression | None:
    match = re.search(_EXPRESSION, text) if "{{" in text or "$" in text else None
    if match is None:
        return None
    name = (match["path"] or match["other"] or "").rpartition(".")[2]
    return _Expression(match[0], match.start(), match["secret"] or match["vault"], name)


def _in_commands(task: ResolvedTask) -> Iterator[Diagnostic]:
    """Report variables that no command has, and placeholders that nothing fills in."""
    environment, command = task.spec.environment, task.spec.command
    for index, word in enumerate(command if isinstance(command, list) else ()):
        yield from _placeholder(task, ("command", index), word, [])
    texts: list[tuple[Route, str]] = [
        (("environment", "setupCommands", index), text) for index, text in enumerate(environment.setup_commands)
    ]
    for route, text in (*texts, *shell_texts(command)):
        if "$" not in text and "{{" not in text:
            continue
        quoted_ranges = shell.single_quoted_ranges(text)
        if len(route) != 2:  # a word of a list has been read
            yield from _placeholder(task, route, text, quoted_ranges)
        yield from _program_of_a_variable(task, route, text, quoted_ranges)
        evaluated = {part.source for part in shell.evaluated(text)}  # reported as a command from outside
        for variable in shell.unset_variables(text):
            if not variable.guarded and not (variable.text in evaluated and variable.name in unbounded_params(task.spec)):
                yield from _variable(task, route, variable)


def _placeholder(task: ResolvedTask, route: Route, text: str, quoted_ranges: list[tuple[int, int]]) -> Iterator[Diagnostic]:
    """Report the first `{{ inputs.file }}` or `${{ secrets.NAME }}` of a command. Between single quotes it may be meant, for
    instance in a workflow that the command writes."""
    expression, parameters = _expression(text), declared_parameters(task)
    if expression is None or shell.is_in_ranges(quoted_ranges, expression.start):
        return
    hint = "write the value itself"
    if expression.secret is not None:
        hint = f"write `${expression.secret}`, and name `{expression.secret}` under `environment.secrets`"
    elif route[0] == "command" and parameters is not None and expression.name in parameters.properties:
        hint = f"delete it, and let the program read `{expression.name}` from the JSON file that `OPTIO_PARAMS_FILE` names"
    message = f"`{expression.text}` is not filled in: a command has no placeholders"
    yield task.at("OPT504", message, route, hint=hint, span=task.document.find(route, expression.text))


def _program_of_a_variable(
    task: ResolvedTask, route: Route, text: str, quoted_ranges: list[tuple[int, int]]
) -> Iterator[Diagnostic]:
    environment = task.spec.environment
    for match in re.finditer(OF_KUBERNETES, text) if "$(" in text else ():
        is_variable = match[1] in environment.env or match[1] in environment.secrets or match[1].startswith("OPTIO_")
        if is_variable and not shell.is_in_ranges(quoted_ranges, match.start()):
            message = f"`{match[0]}` runs a program of this name: the variable is `${match[1]}`"
            yield task.at("OPT504", message, route, hint=f'write `"${match[1]}"`', span=task.document.find(route, match[0]))
            return


def _variable(task: ResolvedTask, route: Route, variable: shell.Variable) -> Iterator[Diagnostic]:
    """Report a variable that the task does not have, if its name shows that the image does not set it."""
    environment, parameters = task.spec.environment, declared_parameters(task)
    name, is_setup = variable.name, route[0] == "environment"
    variables = {*environment.secrets, *environment.env}
    if name in environment.secrets and name not in environment.env and is_setup and environment.setup_ahead:
        message = f"`setupAhead` runs the commands before any run, without the secrets of the task: `{variable.text}` is empty"
        hint = "delete it, or let the agent do the steps that need the secret"
        yield task.at("OPT504", message, ("environment", "setupAhead"), key=True, hint=hint)
    if name in variables or name in RUNTIME_KEYS or name.startswith("OPTIO_"):
        return
    similar = suggest(name, variables)
    is_credential = re.search(CREDENTIAL_NAME, name) is not None
    if not is_setup and parameters is not None and name in parameters.properties:
        message = f"`{variable.text}` is empty: a parameter is not a variable of the command"
        hint = f'write `$(jq -r .{name} "$OPTIO_PARAMS_FILE")`, or let the program read the JSON object in that file'
    elif re.fullmatch(_OF_BUILDS, name) and not is_credential:
        message = f"`${name}` is set by build systems for their jobs, and a run of Optio does not have it"
        hint = "delete it, write the value itself, or name the variable under `environment.env`"
    elif similar is not None:
        message = f"`{variable.text}` is neither a secret nor a variable of this task"
        hint = f"did you mean `${similar}`? If not, add `{name}` to `environment.secrets`"
    elif is_credential or re.search(_HIDDEN_ADDRESS, name):
        message = f"`{variable.text}` is neither a secret nor a variable of this task"
        hint = f"add `{name}` to `environment.secrets`"
    else:
        return  # the image may provide it
    yield task.at("OPT504", message, route, hint=hint, span=task.document.find(route, variable.text))


def _in_variables(task: ResolvedTask) -> Iterator[Diagnostic]:
    """Report `$NAME` and placeholders in variables: a variable's value is literal, and no shell reads it."""
    environment = task.spec.environment
    for name, text in environment.env.items():
        unfilled_text = _unfilled(task, name, text) if "$" in text or "{{" in text else None
        if unfilled_text is None:
            continue
        route: Route = ("environment", "env", name)
        expression = _expression(text)
        names = [match for groups in re.findall(rf"{_VARIABLE}|{OF_KUBERNETES}", unfilled_text) for match in groups if match]
        names += PLACEHOLDER.findall(unfilled_text)
        hint = "write the value itself"
        if any(re.search(CREDENTIAL_NAME, variable) or variable in environment.secrets for variable in (name, *names)) or (
            expression is not None and expression.secret is not None
        ):
            hint = f"delete this entry, and add `{name}` to `environment.secrets`"
            if name in environment.secrets:
                hint = f"delete this entry: the run has the secret `{name}` anyway"
        message = f"`{unfilled_text}` is not filled in: the value of a variable is literal"
        yield task.at("OPT504", message, route, hint=hint, span=task.document.find(route, unfilled_text))


def _unfilled(task: ResolvedTask, name: str, text: str) -> str | None:
    """Return the first part of a variable's value that is written to be filled in; a lone `$` or brace is not."""
    environment, parameters = task.spec.environment, declared_parameters(task)
    if (expression := _expression(text)) is not None:
        return expression.text
    variables = {*environment.secrets, *environment.env} - {name}
    for match in re.finditer(f"{_VARIABLE}|{OF_KUBERNETES}", text):
        variable = match[1] or match[2] or match[3]
        if variable in variables or re.search(CREDENTIAL_NAME, variable) or (variable == name == "PATH"):
            return match[0]
    for match in PLACEHOLDER.finditer(text):
        if match[1] in environment.secrets or (parameters is not None and match[1] in parameters.properties):
            return match[0]
        if re.search(CREDENTIAL_NAME, match[1]):
            return match[0]
    return text if re.fullmatch(_SHELL_WORD, text) else None


def _in_prompt(task: ResolvedTask) -> Iterator[Diagnostic]:
    """Report placeholders that name a secret, and a `$GITHUB_TOKEN` that the task does not have. `$NAME` is right for a secret:
    it names the variable that the agent has."""
    if not (task.is_known(("promptTemplate",)) and task.is_known(("promptFile",))):
        return
    is_program, parameters = task.spec.agent_runtime == "command", declared_parameters(task)
    secrets = set(task.spec.environment.secrets).difference(parameters.properties if parameters is not None else ())
    if "$" in task.prompt and not is_program:
        yield from _ungranted(task)
    for match in PLACEHOLDER.finditer(task.prompt):
        if match[1] in secrets:
            message = f"`{match[0]}` is not filled in: secrets never go into the prompt"
            hint = f"name the variable for the agent to use: `${match[1]}`"
            if is_program:
                hint = f"delete it: the program has the variable `{match[1]}`"
            write = None if is_program else f"${match[1]}"
            yield task.in_prompt("OPT505", message, *match.span(), hint=hint, write=write, safe=False)


def _ungranted(task: ResolvedTask) -> Iterator[Diagnostic]:
    variables = {*task.spec.environment.secrets, *task.spec.environment.env}
    for match in re.finditer(r"(?<![\\$\w])\$\{?([A-Z][A-Z0-9_]{3,60})\b", task.prompt):
        name = match[1]
        if name not in variables and re.search(CREDENTIAL_NAME, name) and not name.startswith("OPTIO_"):
            message = f"`${name}` in the prompt is neither a secret nor a variable of this task"
            yield task.in_prompt("OPT504", message, *match.span(), hint=f"add `{name}` to `environment.secrets`")
            return


def _of_the_server(task: ResolvedTask) -> Iterator[Diagnostic]:
    """Report a secret by which a sender signs and that the agent gets, too: it could forge deliveries, or the sender could use
    the key of a model."""
    granted = set(task.spec.environment.secrets)
    for index, trigger in enumerate(task.spec.triggers):
        if not isinstance(trigger, WebhookTrigger):
            continue
        config = trigger.config
        for key, ref in (("secret", config.secret), ("previousSecret", config.previous_secret)):
            if ref is None or ref.name not in granted:
                continue
            if ref.name in RUNTIME_KEYS:
                better = f"{re.sub(r'[^A-Z0-9]', '_', config.path.upper())}_SECRET"
                message = f"`{ref.name}` is the key of the agent's model, and the sender would know it"
                hint = f"write a secret that only signs, such as `{key}: {{name: {better}}}`"
                yield task.at("OPT530", message, ("triggers", index, "config", key, "name"), hint=hint)
            elif not any(re.search(rf"\$\{{?{ref.name}\b", text) for text in _texts(task)):
                message = f"`{ref.name}` signs the webhook's deliveries, and the agent gets it, too"
                place = (*SECRETS, task.spec.environment.secrets.index(ref.name))
                yield task.at("OPT530", message, place, hint="delete it here: only the server needs it")


def _three_together(task: ResolvedTask) -> Iterator[Diagnostic]:
    """Report a task with untrusted text in its prompt, secrets, and egress to anywhere. Any two of the three are harmless."""
    places = [(index, name) for index, name in enumerate(task.spec.environment.secrets) if name not in RUNTIME_KEYS]
    path = next(iter(untrusted_parameters(task).values()), None) if places else None
    if path is None or not can_send_anywhere(task):
        return
    index, name = places[0]
    count_text = f" (of {len(places)})" if len(places) > 1 else ""
    message = f"the secret `{name}`{count_text}, an open network and text from strangers (`{path}`) meet in this task"
    service = service_of(task.spec.agent_runtime, task.spec.model)
    host = "api.example.com" if service is None else service.host
    hint = f"write `network: {{egress: [{host}]}}` below `environment`, and all hosts that it needs in the list"
    yield task.at("OPT516", message, (*SECRETS, index), hint=hint)


def can_send_anywhere(task: ResolvedTask) -> bool:
    """Return True if the agent may reach hosts that the task does not list."""
    network = task.spec.environment.network
    if not task.is_known(("environment", "network")):
        return False
    return network is None or any(re.fullmatch(r"(?:0\.0\.0\.0|\[?::)/0\]?(?::\d+)?", entry) for entry in network.egress)


def check_unused(task: ResolvedTask) -> Iterator[Diagnostic]:
    """Report secrets whose name stands nowhere else in the task. Part of the pedantic checks, as a program may read them."""
    if task.spec.agent_runtime == "command":
        return
    webhook = task.spec.webhook
    refs = (webhook.config.secret, webhook.config.previous_secret) if webhook is not None else ()
    signing = {ref.name for ref in refs if ref is not None}  # reported by `_of_the_server`
    for index, name in enumerate(task.spec.environment.secrets):
        if name not in RUNTIME_KEYS | signing and not is_mentioned(task, name):
            hint = f"delete it, or mention it in the prompt: `${name}`"
            yield task.at("OPT514", f"nothing in this task names `{name}`", (*SECRETS, index), hint=hint)


def is_mentioned(task: ResolvedTask, name: str) -> bool:
    """Return True if the name of a secret stands in the prompt, a command or a variable."""
    return any(name in text for text in _texts(task))


def _texts(task: ResolvedTask) -> Iterator[str]:
    environment = task.spec.environment
    yield from (task.prompt, task.spec.description, str(task.spec.command))
    yield from (*environment.setup_commands, *environment.env.values())
