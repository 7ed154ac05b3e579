"""Check the use of secrets: names that commands and variables use without being granted, granted secrets that nothing uses, and
the combination of untrusted text, secrets and open egress."""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from optio.compiler.checks.trust import shell_texts
from optio.compiler.checks.untrusted_input import untrusted_parameters
from optio.compiler.conversions.known_keys import CREDENTIAL_NAME
from optio.compiler.diagnostics import Diagnostic, report_first
from optio.compiler.param_schema.declared import declared_parameters
from optio.compiler.resolved_task import ResolvedTask
from optio.compiler.suggest import suggest
from optio.model.prompt import PLACEHOLDER
from optio.model.route import Route
from optio.model.trigger import WebhookTrigger
from optio.model.untrusted import unbounded_params

if TYPE_CHECKING:
    from optio.compiler.checks.shell import Variable

SECRETS: Route = ("environment", "secrets")
# Credentials that each agent reads by itself.
RUNTIME_KEYS = frozenset(
    {
        *("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN", "CODEX_API_KEY", "OPENAI_API_KEY"),
        *("COPILOT_PROVIDER_API_KEY", "COPILOT_GITHUB_TOKEN", "GEMINI_API_KEY", "GOOGLE_API_KEY", "OPENROUTER_API_KEY"),
        "GOOGLE_GENERATIVE_AI_API_KEY",
    }
)
_IN_TEXT = r"(?a)\$(?:\{([A-Za-z_]\w*)\}|([A-Za-z_]\w*))|\{\{([A-Za-z_]\w*)\}\}"
# Variables that a shell fills in from the machine.
_OF_MACHINES = frozenset({"HOSTNAME", "HOST", "USER", "LOGNAME", "PWD", "UID", "RANDOM", "DATE"})
# Expressions of GitHub Actions, which Optio does not fill in.
_EXPRESSION = r"(?a)\$\{\{\s{0,9}(?:secrets\.(\w{1,200})|[^{}\n]{0,200}?)\s{0,9}\}\}|\{\{\s{0,9}secrets\.(\w{1,200})\s{0,9}\}\}"
# Expressions of Airflow, Argo, Kestra, Prefect, Tekton and Terraform. Others (`{{.State}}`, `${project.version}`) belong to
# programs that fill them in themselves.
_OF_WORKFLOWS = (
    r"(?a)\{\{-?\s{0,9}(?:(?P<date>(?:prev_|next_|yesterday_|tomorrow_)?(?:ds|ts)(?:_nodash)?|execution_date|logical_date|data_interval_\w{3,5}"
    r"|macros\.\w{1,30}|now\(\))|(?:var|conn|params|inputs|workflow|outputs|flow|execution|taskrun|trigger|steps|dag_run)"
    r"\.(?P<name>[\w.-]{1,100}))[^{}\n]{0,100}\}\}"
    r"|\$(?:\((?:params|tasks\.\w{1,50}\.results|inputs|parameters)|\{(?:var|local|module|data|each|params|inputs|parameters|secrets))"
    r"\.(?P<other>[\w.-]{1,100})[)}]"
)
# `$(NAME)`, which Kubernetes fills in where a container's arguments hold it. A shell would run a program of this name.
OF_KUBERNETES = r"\$\(([A-Z][A-Z0-9_]{1,100})\)"
# Text that a shell would expand, as the whole value or at the beginning of a path or an address.
_SHELLS_WORD = r"(?a)(?:[a-z]+://)?\$(?:\{[A-Z_][A-Z0-9_]*\}|[A-Z_][A-Z0-9_]*)(?:[:/]\S*)?|\$\([^()]*\)"
# Words in names of secrets that do not tell the purpose of the secret.
_ANY_SECRET = frozenset({"token", "key", "api", "secret", "url", "webhook", "access", "id", "password", "auth", "my", "user"})
# Variables that hold an address with a secret in it.
_HIDDEN_ADDRESS = (
    r"(?:^|_)(?:WEBHOOK(?:_UR[IL])?|DSN|CONNECTION_STRING"
    r"|(?:DATABASE|DB|POSTGRES|MYSQL|MONGO(?:DB)?|REDIS|AMQP|BROKER)_UR[IL])\Z"
)
# The hosts of services, by a word in the names of their secrets.
_HOSTS = {
    **dict.fromkeys(("GITHUB", "GH"), "api.github.com"),
    **dict.fromkeys(("GITLAB", "GL"), "gitlab.com"),
    "SLACK": "slack.com",
    "STRIPE": "api.stripe.com",
    "LINEAR": "api.linear.app",
    "NOTION": "api.notion.com",
    "SENTRY": "sentry.io",
    "PAGERDUTY": "api.pagerduty.com",
    "NPM": "registry.npmjs.org",
}
# Variables that systems of builds set for their jobs.
_OF_BUILDS = {
    "GitHub Actions": (
        r"GITHUB_(?:OUTPUT|ENV|PATH|STATE|STEP_SUMMARY|WORKSPACE|ACTION|ACTOR|API_URL|BASE_REF|HEAD_REF|REF|REF_NAME|REF_TYPE"
        r"|EVENT_NAME|EVENT_PATH|JOB|REPOSITORY|REPOSITORY_OWNER|RUN_ATTEMPT|RUN_ID|RUN_NUMBER|SERVER_URL|SHA|WORKFLOW)"
        r"|RUNNER_(?:TEMP|OS|ARCH|NAME|TOOL_CACHE|WORKSPACE)"
    ),
    "GitLab CI": (
        r"CI_(?:API_V4_URL|BUILDS_DIR|COMMIT_\w+|COMMITTER_\w+|CONCURRENT_ID|DEFAULT_BRANCH|ENVIRONMENT_\w+|JOB_\w+"
        r"|MERGE_REQUEST_\w+|NODE_\w+|PAGES_\w+|PIPELINE_\w+|PROJECT_\w+|REGISTRY(?:_IMAGE|_USER)?|RUNNER_\w+|SERVER_\w+)"
    ),
    "CircleCI": r"CIRCLE_(?:BRANCH|BUILD_NUM|JOB|PR_NUMBER|PROJECT_\w+|REPOSITORY_URL|SHA1|TAG|WORKFLOW_\w+|WORKING_DIRECTORY)",
    "Buildkite": r"BUILDKITE_(?:BRANCH|BUILD_\w+|COMMIT|JOB_ID|MESSAGE|PIPELINE_\w+|PULL_REQUEST|REPO|TAG)",
    "Bitbucket Pipelines": r"BITBUCKET_(?:BRANCH|BUILD_NUMBER|CLONE_DIR|COMMIT|PR_ID|REPO_\w+|TAG|WORKSPACE)",
    "Azure Pipelines": r"BUILD_(?:SOURCESDIRECTORY|BUILDID|SOURCEBRANCH|SOURCEVERSION|ARTIFACTSTAGINGDIRECTORY)",
}


def check(task: ResolvedTask) -> Iterator[Diagnostic]:
    """Report misused secrets of one task. `run` calls it only for tasks with secrets or with a `$` in a command or variable."""
    if not task.is_known(SECRETS):
        return
    yield from _in_commands(task)
    yield from _in_variables(task)
    if task.spec.environment.secrets:
        yield from _in_prompt(task)
        yield from _of_the_server(task)
        yield from _three_together(task)


def _in_commands(task: ResolvedTask) -> Iterator[Diagnostic]:
    environment = task.spec.environment
    if not environment.setup_commands and task.spec.command is None:
        return
    from optio.compiler.checks import shell

    secrets, known = set(environment.secrets), {*environment.secrets, *environment.env}
    for index, text in enumerate(environment.setup_commands):
        route: Route = ("environment", "setupCommands", index)
        yield from _expressions(task, route, text)
        for each in shell.unset_variables(text):
            if each.name in secrets - set(environment.env) and environment.setup_ahead and not each.guarded:
                message = (
                    f"`setupAhead` runs the commands before any run, without the secrets of the task: `{each.text}` is empty"
                )
                hint = "delete it, or let the agent do the steps that need the secret"
                yield task.at("OPT504", message, ("environment", "setupAhead"), key=True, hint=hint)
            elif (unknown := _unknown(task, route, each, known)) is not None:
                yield unknown
    yield from _templates(task)
    given = declared_parameters(task)
    parameters = set(given.properties) - known if given is not None else set()
    for route, text in shell_texts(task.spec.command):
        yield from _expressions(task, route, text)
        # Reported as a command from outside.
        run = {each.source for each in shell.evaluated(text)}
        for each in shell.unset_variables(text):
            if each.text in run and each.name in unbounded_params(task.spec):
                continue
            if each.name in parameters and not each.guarded:
                yield _parameter(task, route, each, text)
            elif (unknown := _unknown(task, route, each, known)) is not None:
                yield unknown


def _templates(task: ResolvedTask) -> Iterator[Diagnostic]:
    """Report `{{ ds }}` or `{{ inputs.file }}` in a command, unless single quotes keep it from the shell."""
    from optio.compiler.checks import shell

    command, known = task.spec.command, declared_parameters(task)
    places: list[tuple[Route, str]] = [(("command",), command)] if isinstance(command, str) else []
    places += [(("command", index), text) for index, text in enumerate(command if isinstance(command, list) else ())]
    places += [
        (("environment", "setupCommands", index), text) for index, text in enumerate(task.spec.environment.setup_commands)
    ]
    for route, text in places:
        found = re.search(_OF_WORKFLOWS, text) if "{{" in text or "$" in text else None
        is_shells = route[0] == "environment" or len(route) == 1
        if found is None or (is_shells and shell.is_in_ranges(shell.single_quoted_ranges(text), found.start())):
            continue
        name = (found["name"] or found["other"] or "").rpartition(".")[2]
        hint = "write the value itself"
        if found["date"]:
            hint = "write `$(date +%F)`" + (
                ", and the command as one text, which a shell runs" if route[1:] and route[0] == "command" else ""
            )
        elif route[0] == "command" and known is not None and name in known.properties:
            hint = f"delete it here, and let the program read `{name}` from the JSON file that `OPTIO_PARAMS_FILE` names"
            hint += ", or from standard input" if task.prompt.strip() == f"{{{{{name}}}}}" else ""
        message = f"`{found[0]}` is not filled in: a command has no placeholders"
        yield task.at("OPT504", message, route, hint=hint, span=task.document.find(route, found[0]))


def _expressions(task: ResolvedTask, route: Route, text: str) -> Iterator[Diagnostic]:
    """Report `${{ secrets.NAME }}` in a command. Between single quotes it may be meant, for instance in a workflow that is
    written."""
    from optio.compiler.checks import shell

    def tell(found: re.Match[str]) -> Diagnostic:
        secret = found[1] or found[2]
        hint = f"write `${secret}`, and name `{secret}` under `environment.secrets`" if secret else "write the value itself"
        message = f"`{found[0]}` is not valid in a shell"
        return task.at("OPT504", message, route, hint=hint, span=task.document.find(route, found[0]))

    if "$(" in text:
        quoted, known = shell.single_quoted_ranges(text), {*task.spec.environment.env, *task.spec.environment.secrets}
        runs = (found for found in re.finditer(OF_KUBERNETES, text) if found[1] in known or found[1].startswith("OPTIO_"))
        yield from report_first(
            (found for found in runs if not shell.is_in_ranges(quoted, found.start())),
            lambda found: task.at(
                "OPT504",
                f"`{found[0]}` runs a program of this name: the variable is `${found[1]}`",
                route,
                hint=f'write `"${found[1]}"`',
                span=task.document.find(route, found[0]),
            ),
        )
    if "{{" in text:
        quoted = shell.single_quoted_ranges(text)
        yield from report_first(
            (found for found in re.finditer(_EXPRESSION, text) if not shell.is_in_ranges(quoted, found.start())), tell
        )


def _unknown(task: ResolvedTask, route: Route, each: "Variable", known: set[str]) -> Diagnostic | None:
    if each.name in known or each.guarded or each.name in RUNTIME_KEYS or each.name.startswith("OPTIO_"):
        return None
    if (system := _set_by(each.name)) is not None and not re.search(CREDENTIAL_NAME, each.name):
        message = f"`${each.name}` is set by {system}, and a run of Optio does not have it"
        hint = _in_its_place(each.name, in_setup=route[0] == "environment")
        return task.at("OPT504", message, route, hint=hint, span=task.document.find(route, each.text))
    meant = suggest(each.name, known)
    if meant is None and not re.search(CREDENTIAL_NAME, each.name) and not re.search(_HIDDEN_ADDRESS, each.name):
        return None  # the image may provide it
    hint = f"add `{each.name}` to `environment.secrets`"
    if meant is not None:
        hint = f"did you mean `${meant}`? If not, {hint}"
    message = f"`{each.text}` is neither a secret nor a variable of this task"
    span = task.document.find(route, each.text)
    return task.at("OPT504", message, route, hint=hint, span=span)


def _set_by(name: str) -> str | None:
    """Return the system of builds that sets a variable of this name for its jobs, or None."""
    return next((system for system, names in _OF_BUILDS.items() if re.fullmatch(names, name)), None)


def _in_its_place(name: str, *, in_setup: bool) -> str:
    """Return what a run has in the place of a variable of a system of builds."""
    if re.search(r"_(?:OUTPUT|STEP_SUMMARY)\Z", name):
        line = '{"type": "result", "status": "ok", "text": "..."}'
        return "print it, which the run's log keeps" if in_setup else f"append a line such as `{line}` to `$OPTIO_RESULT_FILE`"
    if name in ("GITHUB_ENV", "GITHUB_PATH", "BASH_ENV"):
        return "set the variable under `environment.env`, or by `export` in this command"
    if re.search(r"_(?:WORKSPACE|PROJECT_DIR|CLONE_DIR|WORKING_DIRECTORY|TEMP|BUILD_CHECKOUT_PATH)\Z|SOURCESDIRECTORY\Z", name):
        return "write `.`: a command begins in the directory of its run"
    if re.search(r"_(?:RUN|JOB|PIPELINE|BUILD)_(?:ID|NUMBER|IID|NUM)\Z|_BUILDID\Z", name):
        return "write `$OPTIO_RUN_ID`, which names the run"
    if in_setup:
        return "write the value itself, or name the variable under `environment.env`"
    return (
        "write the value itself, or declare a parameter, map it from the payload, and read it from the file that "
        "`OPTIO_PARAMS_FILE` names"
    )


def _parameter(task: ResolvedTask, route: Route, each: "Variable", text: str) -> Diagnostic:
    hint = f'write `$(jq -r .{each.name} "$OPTIO_PARAMS_FILE")`, or let the program read the JSON object in that file'
    if task.prompt.strip() == f"{{{{{each.name}}}}}":
        read = re.search(r"\bread\s+(?:-\w+\s+)*([A-Za-z_]\w*)", text)
        hint = (
            f"write `${read[1]}`, which `read` takes from standard input" if read else f"{hint}; it is also the standard input"
        )
    message = f"`{each.text}` is empty: a parameter is not a variable of the command"
    return task.at("OPT504", message, route, hint=hint, span=task.document.find(route, each.text))


def _in_variables(task: ResolvedTask) -> Iterator[Diagnostic]:
    """Report `$NAME` and template expressions in variables: a variable's value is literal, and no shell reads it."""
    for name, text in task.spec.environment.env.items():
        found = _to_fill_in(task, name, text) if "$" in text or "{{" in text else None
        if found is not None:
            written, hint = found
            route: Route = ("environment", "env", name)
            message = f"`{written}` is not filled in: the value of a variable is literal"
            yield task.at("OPT504", message, route, hint=hint, span=task.document.find(route, written))


def _to_fill_in(task: ResolvedTask, name: str, text: str) -> tuple[str, str] | None:
    """Return the first part of a value that its author expects to be filled in, with the hint; a lone `$` or brace is none."""
    secrets, known = set(task.spec.environment.secrets), declared_parameters(task)
    line = "the entry" if len(task.spec.environment.env) > 1 else "`env`"
    as_secret = f"delete {line}, and add `{name}` to `environment.secrets`"
    if name in secrets:
        as_secret = f"delete {line}: the run has the secret `{name}` anyway"
    is_named_so = re.search(CREDENTIAL_NAME, name) is not None
    if expression := re.search(_EXPRESSION, text):
        return expression[0], as_secret if is_named_so or any(expression.groups()) else "write the value itself"
    if template := re.search(_OF_WORKFLOWS, text):
        return template[0], as_secret if is_named_so else "write the value itself"
    known_values = {each: value for each, value in task.spec.environment.env.items() if each != name and "$" not in value}

    def filled(variable: re.Match[str]) -> str:
        return known_values.get(variable[1] or variable[2] or "", variable[0])

    for found in re.finditer(_IN_TEXT, text):
        meant = found[1] or found[2] or found[3]
        if meant in secrets or re.search(CREDENTIAL_NAME, meant):
            return found[0], as_secret
        if found[3] and known is not None and meant in known.properties:
            return found[0], f"delete {line}, or write the value itself: parameters are filled into the prompt only"
        if found[1] in _OF_MACHINES and meant not in task.spec.environment.env:
            return found[0], "write the value itself, or let the program ask for it"
        if (found[1] or found[2]) in known_values:
            whole = re.sub(_IN_TEXT, filled, text)
            return found[0], f"write the value itself: `{name}: {whole}`"
    if name == "PATH" and (own := re.search(r"\$\{?PATH\}?", text)) is not None:
        whole = text.replace(own[0], "/usr/local/bin:/usr/bin:/bin")
        return own[0], f"write `PATH: {whole}`"
    if re.fullmatch(_SHELLS_WORD, text):
        if re.match(r"\$\{?(?:HOME|TMPDIR)\b", text):
            return text, f"delete {line}: each run has directories of its own, which the program asks for itself"
        return text, "write the value itself"
    if (variable := re.search(OF_KUBERNETES, text)) is not None:
        if variable[1] in secrets or re.search(CREDENTIAL_NAME, variable[1]):
            return variable[0], as_secret
        value = task.spec.environment.env.get(variable[1], "$")
        better = "" if "$" in value else f": `{name}: {text.replace(variable[0], value)}`"
        return variable[0], f"write the value itself{better}"
    return None


def _in_prompt(task: ResolvedTask) -> Iterator[Diagnostic]:
    """Report placeholders that name a secret. `$NAME` is right: it names the variable that the agent has."""
    if not (task.is_known(("promptTemplate",)) and task.is_known(("promptFile",))):
        return
    is_program = task.spec.agent_runtime == "command"
    known = declared_parameters(task)
    secrets = set(task.spec.environment.secrets).difference(known.properties if known is not None else ())
    if "$" in task.prompt and not is_program:
        yield from _ungranted(task)
    named = any(name in task.prompt for name in secrets)
    for found in PLACEHOLDER.finditer(task.prompt) if named else ():
        if found[1] in secrets:
            message = f"`{found[0]}` is not filled in: secrets never go into the prompt"
            hint = f"name the variable for the agent to use: `${found[1]}`"
            if is_program:
                hint = f"delete it: the program has the variable `{found[1]}`"
            write = None if is_program else f"${found[1]}"
            yield task.in_prompt("OPT505", message, *found.span(), hint=hint, write=write, safe=False)


def _ungranted(task: ResolvedTask) -> Iterator[Diagnostic]:
    """Report `$GITHUB_TOKEN` in a prompt of a task that names secrets, and not this one."""
    known = {*task.spec.environment.secrets, *task.spec.environment.env}
    for found in re.finditer(r"(?<![\\$\w])\$\{?([A-Z][A-Z0-9_]{3,60})\b", task.prompt):
        name = found[1]
        if name not in known and re.search(CREDENTIAL_NAME, name) and not name.startswith("OPTIO_"):
            message = f"`${name}` in the prompt is neither a secret nor a variable of this task"
            hint = f"add `{name}` to `environment.secrets`"
            yield task.in_prompt("OPT504", message, *found.span(), hint=hint)
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
                own = f"{re.sub(r'[^A-Z0-9]', '_', config.path.upper())}_SECRET"
                message = f"`{ref.name}` is the key of the agent's model, and the sender would know it"
                hint = f"write a secret that only signs, such as `{key}: {{name: {own}}}`"
                yield task.at("OPT530", message, ("triggers", index, "config", key, "name"), hint=hint)
            elif not any(re.search(rf"\$\{{?{ref.name}\b", text) for text in (*_texts(task), str(task.spec.command))):
                message = f"`{ref.name}` signs the webhook's deliveries, and the agent gets it, too"
                place = (*SECRETS, task.spec.environment.secrets.index(ref.name))
                yield task.at("OPT530", message, place, hint="delete it here: only the server needs it")


def _three_together(task: ResolvedTask) -> Iterator[Diagnostic]:
    """Report a task with untrusted text in its prompt, secrets, and egress to anywhere. Any two of the three are harmless."""
    own = [(i, name) for i, name in enumerate(task.spec.environment.secrets) if name not in RUNTIME_KEYS]
    words = next(iter(untrusted_parameters(task).values()), None) if own else None
    if words is None or not can_send_anywhere(task):
        return
    index, name = own[0]
    others = f" (of {len(own)})" if len(own) > 1 else ""
    message = f"the secret `{name}`{others}, an open network and text from strangers (`{words}`) meet in this task"
    from optio.compiler.yaml.emit import flow  # imported only for a file with a mistake

    hosts = flow(_hosts(task, [each for _, each in own]))
    hint = f"write `network: {{egress: {hosts}}}` below `environment`, and all hosts that it needs in the list"
    yield task.at("OPT516", message, (*SECRETS, index), hint=hint)


def _hosts(task: ResolvedTask, secrets: list[str]) -> list[str]:
    """Return the hosts of the model, of and of the services that the secrets are named after."""
    from optio.model.runtimes import service_of  # imported only for a file with a mistake

    service = service_of(task.spec.agent_runtime, task.spec.model)
    words = [word for name in secrets for word in name.split("_")]
    found = [] if service is None else [service.host]
    found += [_HOSTS[word] for word in words if word in _HOSTS]
    return list(dict.fromkeys(found)) or ["api.example.com"]


def can_send_anywhere(task: ResolvedTask) -> bool:
    """Return True if the agent may reach hosts that the task does not list."""
    network = task.spec.environment.network
    if not task.is_known(("environment", "network")):
        return False
    return network is None or any(re.fullmatch(r"(?:0\.0\.0\.0|\[?::)/0\]?(?::\d+)?", entry) for entry in network.egress)


def check_unused(task: ResolvedTask) -> Iterator[Diagnostic]:
    """Report secrets that nothing in the task mentions. Part of the pedantic checks."""
    webhook = task.spec.webhook
    refs = (webhook.config.secret, webhook.config.previous_secret) if webhook is not None else ()
    signing = {ref.name for ref in refs if ref is not None}  # reported by `_of_the_server`
    told = {word for text in _texts(task) for name in re.findall(r"\w+", text.casefold()) for word in (name, *name.split("_"))}
    for index, name in enumerate(task.spec.environment.secrets):
        route = (*SECRETS, index)
        if task.spec.agent_runtime != "command" and name not in RUNTIME_KEYS | signing and not _is_mentioned(name, told):
            message = f"nothing in this task names `{name}`"
            hint = f"delete it, or mention it in the prompt: `${name}`"
            yield task.at("OPT514", message, route, hint=hint)


def of_other_agents(task: ResolvedTask) -> set[str]:
    """Return the credentials of agents among the task's secrets that nothing in the task mentions."""
    told = {word for text in _texts(task) for name in re.findall(r"\w+", text.casefold()) for word in (name, *name.split("_"))}
    return {name for name in task.spec.environment.secrets if name in RUNTIME_KEYS and not _is_mentioned(name, told)}


def _is_mentioned(name: str, told: set[str]) -> bool:
    """Return True if the words mention the secret or its service: "Slack" for `SLACK_TOKEN`."""
    words = {word for word in name.casefold().split("_") if len(word) > 1}
    return name.casefold() in told or bool((words - _ANY_SECRET) & told)


def _texts(task: ResolvedTask) -> Iterator[str]:
    environment = task.spec.environment
    yield task.prompt
    yield task.spec.description
    yield from environment.setup_commands
    yield from environment.env.values()
    # Programs such as `gh` read the secret for their host by themselves.
    yield from environment.network.egress if environment.network is not None else ()
