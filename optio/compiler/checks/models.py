"""Check `model` against the names that the service of the agent offers. Lists of models are never complete, so only clear
mistakes are reported: another maker's model, and names close to a known one."""

import re
from collections.abc import Iterator

from optio.compiler.checks.plaintext_secrets import is_secret
from optio.compiler.diagnostics import Diagnostic
from optio.compiler.layers import MergedDocument
from optio.compiler.resolved_task import ResolvedTask
from optio.compiler.suggest import suggest
from optio.model.prompt import PLACEHOLDER
from optio.model.route import Route
from optio.model.runtimes import DECLARED, ModelService, declaration_of, service_of

# The name becomes a command-line argument of the agent, and must not look like an option.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+\[\]-]{0,255}")
# The maker of a model, by the beginning of its name.
_MAKERS = (
    ("Anthropic", ("claude", "sonnet", "opus", "haiku")),
    ("OpenAI", ("gpt", "chatgpt", "codex", "o1", "o3", "o4")),
    ("Google", ("gemini",)),
)
# OpenCode's provider of a model, by the beginning of its name.
_PROVIDERS = (
    ("anthropic", ("claude",)),
    ("openai", ("gpt", "chatgpt", "codex", "o1", "o3", "o4")),
    ("google", ("gemini",)),
    ("mistral", ("mistral", "codestral", "devstral", "magistral")),
    ("deepseek", ("deepseek",)),
    ("xai", ("grok",)),
)
# Aliases that Claude Code resolves itself, in any case.
_ALIASES = ("sonnet", "opus", "haiku", "default", "opusplan")
# Anthropic's model names need a family.
_UNNAMED = r"(?i)claude(?:[-_ ]?v?[3-9](?:[.-][0-9])?)?(?:[-_]?latest)?"
# A variable with such a name points the agent to another service, with its own model names.
_ELSEWHERE = ("BASE_URL", "API_BASE", "ENDPOINT", "_USE_BEDROCK", "_USE_VERTEX", "_USE_FOUNDRY")
# The ends of addresses to which requests are sent.
_ENDPOINT = r"(?<=[\w:])/(?:chat/completions|completions|responses|messages|v1/messages|embeddings|models|v1beta/models)/?\Z"
# Names that begin like a credential and are none.
_NO_CREDENTIAL = r"ANTHROPIC_(?:KEY|TOKEN|API|APIKEY|API_TOKEN|LOG|\w*MODEL\w*)|OPENCODE_\w*(?:KEY|TOKEN)"
# The most letters by which a misspelt provider may be longer or shorter.
_MAX_SLIP = 2
# What people write for the kinds of service that Copilot knows.
_KINDS_OF_COPILOT = {
    **{kind: kind for kind in ("openai", "azure", "anthropic")},
    **dict.fromkeys(("claude", "anthropic-messages"), "anthropic"),
    **dict.fromkeys(("openai-compatible", "openai_compatible", "gpt", "chat"), "openai"),
    **dict.fromkeys(("azure-openai", "azureopenai"), "azure"),
}
# Other providers of OpenCode, whose key is `<PROVIDER>_API_KEY`.
_KEYED_PROVIDERS = frozenset({"openrouter", "groq", "mistral", "deepseek", "xai"})
_ANY_PROVIDER = ("anthropic", "openai", "google", *sorted(_KEYED_PROVIDERS))
# Anthropic's models as Amazon Bedrock and Google's Vertex AI name them.
_CLOUD_NAME = r"(?:[a-z]{2,6}\.)?anthropic\.(claude-[a-z0-9-]+?)(?:-20\d{6})?(?:-v\d(?::\d)?)?|(claude-[a-z0-9-]+?)@\d{8}"


def check(task: ResolvedTask) -> Iterator[Diagnostic]:
    """Report a model that the agent's service cannot have. Unknown names pass, and so does every name where a variable sends
    the agent to another service."""
    spec = task.spec
    yield from _whole_endpoint(task)
    if spec.agent_runtime == "copilot" and task.is_known(("agentRuntime",)):
        yield from _service_of_copilot(task)
    model, runtime = spec.model, declaration_of(spec.agent_runtime)
    if model is None or PLACEHOLDER.search(model):
        return
    if not _NAME.fullmatch(model):
        yield _malformed(task, model)
        return
    if not (task.is_known(("model",)) and task.is_known(("agentRuntime",))):
        return
    if spec.agent_runtime == "opencode":
        yield from _provider_of(task, model)
    elsewhere = any(name.endswith(_ELSEWHERE) for name in (*spec.environment.env, *spec.environment.secrets))
    if runtime is not None and runtime.service is not None and not elsewhere:
        yield from _of_service(task, model, runtime.service)


def _malformed(task: ResolvedTask, model: str) -> Diagnostic:
    message, bare = "`model` is not a valid model name", model.strip(" ;,.'\"`")
    if " " in bare and re.search("sonnet|opus|haiku", bare, re.IGNORECASE):
        bare = _spelled(re.sub(r"\s+", "-", bare))
    if bare != model and _NAME.fullmatch(bare):
        return task.at("OPT105", message, ("model",), hint=f"write `{bare}`", value=bare, safe=False)
    hint = "write a name such as `sonnet`: letters, digits and, behind the first, `.`, `_`, `-`, `:`, `/`, `@` and `+`"
    return task.at("OPT105", message, ("model",), hint=hint)


def _of_service(task: ResolvedTask, model: str, service: ModelService) -> Iterator[Diagnostic]:
    """Report a model that the service of the agent does not offer."""
    runtime, maker, examples = task.spec.agent_runtime, service.maker, service.models
    if model in examples or (maker == "Anthropic" and model.lower() in _ALIASES):
        return
    known = next((name for name, begins in _MAKERS if model.lower().startswith(begins)), None)
    meant: str | None
    if known is not None and known != maker:
        message = f"`{model}` is a model of {known}, and `{runtime}` asks {maker}"
        yield task.at("OPT607", message, ("model",), hint=_other_agent(task, model, service))
    elif known is not None and re.fullmatch(_UNNAMED, model):
        hint = "write `sonnet`, `opus` or `haiku`, or the whole name of a model such as `claude-sonnet-4-5`"
        yield task.at("OPT607", f"`{model}` does not name a model family of Claude", ("model",), hint=hint)
    elif known is None and maker == "Anthropic" and (cloud := re.fullmatch(_CLOUD_NAME, model)) is not None:
        message, meant = f"`{model}` is the name of another cloud, and `{runtime}` asks Anthropic", cloud[1] or cloud[2]
        yield task.at("OPT607", message, ("model",), hint=f"write `{meant}`", value=meant, safe=False)
    else:
        meant = _spelled(model) if known else _priced_like(model, maker) or suggest(model.lower(), examples)
        if meant is not None and meant != model:
            message, hint = f"`{runtime}` knows no model `{model}`", f"did you mean `{meant}`?"
            yield task.at("OPT607", message, ("model",), hint=hint, value=meant, safe=False)


def _other_agent(task: ResolvedTask, model: str, service: ModelService) -> str:
    """Return the hint for a model of another maker than that of the agent's service."""
    its, other = _agent_of(model), f"a model of {service.maker}"
    if its is None:
        return f"write {other} such as `{service.models[0]}`"
    if _has_key(task, its):
        return f"write `agentRuntime: {its}`, whose credential the task has, or {other} with its own credential"
    keys = [name for name in task.spec.environment.secrets if re.match(service.credentials, name)]
    asked = DECLARED[its].service
    swapped = f", with `{asked.key}` in the place of `{keys[0]}` under `secrets`" if keys and asked else ""
    return f"write {other} such as `{service.models[0]}`, or `agentRuntime: {its}`{swapped}"


def _priced_like(model: str, maker: str) -> str | None:
    """Return the first model of Google that a short name such as `flash` stands for."""
    short = {"flash": "gemini-2.5-flash", "pro": "gemini-2.5-pro", "flash-lite": "gemini-2.5-flash-lite"}
    return short.get(model.lower().removeprefix("2.5-")) if maker == "Google" else None


def _provider_of(task: ResolvedTask, model: str) -> Iterator[Diagnostic]:
    """Report a model for OpenCode that names no provider, one such as `antropic`, or that of another maker."""
    provider, slash, name = model.partition("/")
    if not slash:
        message, value = f"`{model}` names no provider: OpenCode takes `PROVIDER/MODEL`", _with_provider(task, model)
        hint = f"write `{value}`" if value else "write its provider before it, as in `anthropic/claude-sonnet-4-5`"
        yield task.at("OPT607", message, ("model",), hint=hint, value=value, safe=False)
        return
    if any(each.endswith(_ELSEWHERE) for each in task.spec.environment.env):
        return
    maker = next((each for each, begins in _PROVIDERS if name.lower().startswith(begins)), None)
    if provider in ("anthropic", "openai", "google"):
        if maker is not None and maker != provider:
            message = f"`{name}` is a model of another provider than `{provider}`"
            better = f"{maker}/{name}"
            yield task.at("OPT607", message, ("model",), hint=f"write `{better}`", value=better, safe=False)
    elif provider not in _ANY_PROVIDER:
        meant = suggest(provider.lower(), _ANY_PROVIDER)
        if meant is not None and abs(len(meant) - len(provider)) <= _MAX_SLIP:
            better = f"{meant}/{name}"
            message = f"`opencode` knows no provider `{provider}`"
            yield task.at("OPT607", message, ("model",), hint=f"did you mean `{better}`?", value=better, safe=False)


def _whole_endpoint(task: ResolvedTask) -> Iterator[Diagnostic]:
    """Report an address of a model service that ends in what its clients add themselves."""
    for name, address in task.spec.environment.env.items():
        found = re.search(_ENDPOINT, address) if name.endswith(("BASE_URL", "API_BASE")) else None
        tail = None if found is None else found[0].rstrip("/")
        if tail is None and name == "ANTHROPIC_BASE_URL" and re.search(r"//[^/]+(?:/[^?#]*)?/v1/?\Z", address):
            tail = "/v1"
        if tail is not None and task.is_known(("environment", "env", name)):
            better = address.rstrip("/").removesuffix(tail)
            if name == "ANTHROPIC_BASE_URL":
                better = better.removesuffix("/v1")
            message = f"`{name}` ends in `{tail}`, which the agent adds itself"
            route: Route = ("environment", "env", name)
            yield task.at("OPT607", message, route, hint=f"write `{better}`", value=better, safe=False)


def _service_of_copilot(task: ResolvedTask) -> Iterator[Diagnostic]:
    """Report variables of Copilot's model service that do not fit each other."""
    env = task.spec.environment.env
    address, kind = env.get("COPILOT_PROVIDER_BASE_URL"), env.get("COPILOT_PROVIDER_TYPE")
    route: Route = ("environment", "env", "COPILOT_PROVIDER_BASE_URL")
    if kind is not None and (meant := _KINDS_OF_COPILOT.get(kind.lower(), kind)) != kind:
        message = f"`COPILOT_PROVIDER_TYPE` is `{kind}`, which Copilot does not know"
        hint = f"write `{meant}`"
        yield task.at("OPT607", message, ("environment", "env", "COPILOT_PROVIDER_TYPE"), hint=hint, value=meant, safe=False)
    if address is None:
        return
    if "//api.anthropic.com" in address and kind is None:
        message = "`copilot` takes the service to speak OpenAI's chat completions, and Anthropic's does not"
        yield task.at("OPT607", message, route, key=True, hint="add `COPILOT_PROVIDER_TYPE: anthropic` beside it")
    if task.spec.model is None:
        message = "`copilot` asks this service for a model that the task does not name"
        example = "claude-sonnet-4-5" if kind == "anthropic" else "gpt-5"
        yield task.at("OPT607", message, route, key=True, hint=f"add `model: {example}` to the task, or another name")


def _with_provider(task: ResolvedTask, model: str) -> str | None:
    """Return a model's name with OpenCode's provider before it, which is its maker. A task with the key of another provider may
    mean that one, which has names of its own."""
    name = {"sonnet": "claude-sonnet-4-5", "opus": "claude-opus-4-5", "haiku": "claude-haiku-4-5"}.get(model, _spelled(model))
    maker = next((provider for provider, begins in _PROVIDERS if name.lower().startswith(begins)), None)
    return None if maker is None or "OPENROUTER_API_KEY" in task.spec.environment.secrets else f"{maker}/{name}"


def _spelled(model: str) -> str:
    """Return the model's name in its maker's spelling: lower case with dashes, such as `claude-sonnet-4-5`, or the family name
    alone (`sonnet`) where the version is not recognised."""
    name = model.lower()
    family = re.search(r"sonnet|opus|haiku", name)
    # A date has eight digits.
    dated = re.fullmatch(r"(claude-(?:sonnet|opus|haiku)(?:-[0-9]){1,2})-20(?:\d{2,5}|\d{7,9}|[\d-]{8})", name)
    if dated is not None:
        return dated[1]
    exact = re.fullmatch(r"(?:claude-)?(sonnet|opus|haiku)-?([0-9])[.-]([0-9].*)", name)
    if exact is not None:
        return f"claude-{exact[1]}-{exact[2]}-{exact[3]}"
    turned = re.fullmatch(r"claude-([4-9])(?:-([0-9]))?-(sonnet|opus|haiku)((?:-20\d{6})?)", name)
    if turned is not None:
        return "-".join(filter(None, ("claude", turned[3], turned[1], turned[2]))) + turned[4]
    if family is not None and re.search(r"^(?:sonnet|opus|haiku)-?[0-9]|[0-9]\.[0-9]|^claude-[a-z]+-latest$", name):
        return family[0]
    return re.sub(r"^(gpt|gemini)(?=[0-9])", r"\1-", name)


def is_credential_replaced(task: ResolvedTask) -> bool:
    """Return True if a template or defaults list an agent's credential in `secrets` that the task's own list replaces."""
    below = task.document.replaced(("environment", "secrets")) if isinstance(task.document, MergedDocument) else None
    if not isinstance(below, list):
        return False
    from optio.compiler.checks.secrets_use import RUNTIME_KEYS

    return any(isinstance(name, str) and name in RUNTIME_KEYS and name not in task.spec.environment.secrets for name in below)


def check_credential(task: ResolvedTask) -> Iterator[Diagnostic]:
    """Report a task without a credential for the model service of its agent, and without a variable that may name another
    service. The pipeline calls it for pods, and `pedantic` for every executor."""
    environment, runtime = task.spec.environment, task.spec.agent_runtime
    named = {*environment.secrets, *environment.env}
    wanted = _wanted_credential(task, named)
    if wanted is None:
        return
    key, credentials = wanted
    fitting = [name for name in named if re.match(credentials, name) and not re.fullmatch(_NO_CREDENTIAL, name)]
    if any(name in environment.secrets for name in fitting):
        return
    known = all(task.is_known(route) for route in (("agentRuntime",), ("environment", "secrets"), ("environment", "env")))
    if not known or _is_signed_in_elsewhere(task):
        return
    from optio.compiler.checks.secrets_use import RUNTIME_KEYS, is_mentioned  # imported only for a file with a mistake

    agent = declaration_of(runtime)
    title = runtime if agent is None else agent.title
    if fitting:
        yield from _written_out(task, fitting, title)
        return
    message = f"no credential: {title} cannot reach its model"
    others = {name for name in environment.secrets if name in RUNTIME_KEYS and not is_mentioned(task, name)}
    others |= {name for name in environment.secrets if _is_meant(name, key, title)}
    if runtime == "copilot":  # its variables name the service of another agent, and not that agent's key
        others |= RUNTIME_KEYS - {key}
        others |= {name for name in ("GITHUB_TOKEN", "GH_TOKEN") if key == "COPILOT_GITHUB_TOKEN" and name not in task.prompt}
    secrets = ", ".join([key, *(name for name in environment.secrets if name not in others)])
    hint = f"add `environment: {{secrets: [{secrets}]}}`, or another credential of {title}"
    if environment.secrets:
        hint = f"write `secrets: [{secrets}]`, or add another credential of {title}"
    yield task.at("OPT525", message, ("environment", "secrets"), key=True, hint=hint)


def _wanted_credential(task: ResolvedTask, named: set[str]) -> tuple[str, str] | None:
    """Return the variable of the agent's usual credential, and a pattern for all that it takes; None where none is known."""
    spec = task.spec
    service = service_of(spec.agent_runtime, spec.model)
    if service is not None:
        return service.key, service.credentials
    if spec.agent_runtime == "opencode":
        provider = (spec.model or "").partition("/")[0]
        key = f"{provider.upper()}_API_KEY"
        return (key, f"{key}$|OPENCODE_") if provider in _KEYED_PROVIDERS else None
    if spec.agent_runtime == "copilot":
        at = spec.environment.env.get("COPILOT_PROVIDER_BASE_URL")
        is_githubs = at is None and not named.isdisjoint(("GITHUB_TOKEN", "GH_TOKEN"))
        if at is None or re.match(r"https://[\w-]+\.(?!svc\b|local\b|internal\b)", at):
            key = "COPILOT_GITHUB_TOKEN" if is_githubs else "COPILOT_PROVIDER_API_KEY"
            return key, r"COPILOT_(?:PROVIDER_(?:API_KEY|BEARER_TOKEN)|GITHUB_TOKEN)$"
    return None


def _is_signed_in_elsewhere(task: ResolvedTask) -> bool:
    """Return True if the model belongs to another agent, whose credential the task has: then the agent is the mistake."""
    its, agent = _agent_of(task.spec.model or ""), declaration_of(task.spec.agent_runtime)
    if its is None or agent is None or agent.service is None:
        return False
    return its != task.spec.agent_runtime and _has_key(task, its)


def _agent_of(model: str) -> str | None:
    """Return the agent that asks the maker of a model, by the beginning of the model's name."""
    maker = next((name for name, begins in _MAKERS if model.lower().startswith(begins)), None)
    found = (each.name for each in DECLARED.values() if each.service is not None and each.service.maker == maker)
    return next(found, None) if maker is not None else None


def _has_key(task: ResolvedTask, agent: str) -> bool:
    service = DECLARED[agent].service
    return service is not None and any(re.match(service.credentials, name) for name in task.spec.environment.secrets)


def _written_out(task: ResolvedTask, fitting: list[str], title: str) -> Iterator[Diagnostic]:
    """Report a credential that only stands under `env`, with a word in its place such as `my-key`."""
    env, secrets = task.spec.environment.env, task.spec.environment.secrets
    if len(fitting) > 1 or not (name := fitting[0]).endswith(("_KEY", "_TOKEN")):
        return
    value = env[name]
    if any(each.endswith(_ELSEWHERE) for each in env) or not re.fullmatch(r"[\w.<>-]{0,40}", value) or is_secret(value):
        return
    message = f"`{name}` is the text `{value}`: {title} cannot reach its model"
    listed = ", ".join([name, *secrets])
    hint = f"delete the line, and write `secrets: [{listed}]` under `environment`: its value goes into the secrets directory"
    yield task.at("OPT525", message, ("environment", "env", name), hint=hint)


def _is_meant(name: str, key: str, title: str) -> bool:
    """Return True if the name of a secret is a misspelling of the credential, such as `CLAUDE_API_KEY`."""
    words = {title.partition(" ")[0].upper(), key.partition("_")[0]}
    return name.upper() == key or re.fullmatch(rf"(?i)(?:{'|'.join(sorted(words))})_?(?:API_?)?(?:KEY|TOKEN)", name) is not None
