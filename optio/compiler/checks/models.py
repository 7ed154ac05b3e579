"""Check `model` against the names that the service of the agent offers. Lists of models are never complete, so only clear
mistakes are reported: another maker's model, and, as a suspicion, names close to a known one."""

import re
from collections.abc import Iterable, Iterator

from optio.compiler.diagnostics import Diagnostic
from optio.compiler.resolved_task import ResolvedTask
from optio.compiler.suggest import suggest
from optio.model.prompt import PLACEHOLDER
from optio.model.route import Route
from optio.model.runtimes import DECLARED, ModelService, declaration_of, service_of

# The name becomes a command-line argument of the agent, and must not look like an option.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+\[\]-]{0,255}")
# The provider of a model, by the beginning of its name, as OpenCode calls it.
_PROVIDERS = {
    "anthropic": ("claude", "sonnet", "opus", "haiku"),
    "openai": ("gpt", "chatgpt", "codex", "o1", "o3", "o4"),
    "google": ("gemini",),
    "mistral": ("mistral", "codestral", "devstral", "magistral"),
    "deepseek": ("deepseek",),
    "xai": ("grok",),
}
_MAKERS = {"anthropic": "Anthropic", "openai": "OpenAI", "google": "Google"}
# Aliases that Claude Code resolves itself, in any case.
_ALIASES = ("sonnet", "opus", "haiku", "default", "opusplan")
# A variable with such a name points the agent to another service, with its own model names.
_ELSEWHERE = ("BASE_URL", "API_BASE", "ENDPOINT", "_USE_BEDROCK", "_USE_VERTEX", "_USE_FOUNDRY")
# The ends of addresses to which requests are sent.
_ENDPOINT = r"(?<=[\w:])/(?:chat/completions|completions|responses|messages|v1/messages|embeddings|models|v1beta/models)/?\Z"
# Names that begin like a credential and are none.
_NO_CREDENTIAL = r"ANTHROPIC_(?:KEY|TOKEN|API|APIKEY|API_TOKEN|LOG|\w*MODEL\w*)|OPENCODE_\w*(?:KEY|TOKEN)"
# Other providers of OpenCode, whose key is `<PROVIDER>_API_KEY`.
_KEYED_PROVIDERS = frozenset({"openrouter", "groq", "mistral", "deepseek", "xai"})


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
        yield _malformed(task)
        return
    if not (task.is_known(("model",)) and task.is_known(("agentRuntime",))):
        return
    if spec.agent_runtime == "opencode":
        yield from _provider_of(task, model)
    is_elsewhere = any(name.endswith(_ELSEWHERE) for name in (*spec.environment.env, *spec.environment.secrets))
    if runtime is not None and runtime.service is not None and not is_elsewhere and not task.has_model_service:
        yield from _of_service(task, model, runtime.service)


def _malformed(task: ResolvedTask) -> Diagnostic:
    hint = "write a name such as `sonnet`: letters, digits and, behind the first, `.`, `_`, `-`, `:`, `/`, `@` and `+`"
    return task.at("OPT105", "`model` is not a valid model name", ("model",), hint=hint)


def _of_service(task: ResolvedTask, model: str, service: ModelService) -> Iterator[Diagnostic]:
    """Report a model that the service of the agent does not offer."""
    runtime, maker, examples = task.spec.agent_runtime, service.maker, service.models
    if model in examples or (maker == "Anthropic" and model.lower() in _ALIASES):
        return
    other_maker = _MAKERS.get(_provider(model) or "")
    if other_maker is not None and other_maker != maker:
        message = f"`{model}` is a model of {other_maker}, and `{runtime}` asks {maker}"
        yield task.at("OPT607", message, ("model",), hint=_other_agent(task, model, service))
    elif (similar := _similar(model, _known_models(examples))) is not None:
        message = f"`{model}` is not among the known models of `{runtime}`"
        yield task.at("OPT621", message, ("model",), hint=f"did you mean `{similar}`?", value=similar, safe=False)


def _known_models(examples: Iterable[str]) -> list[str]:
    """Return the examples, and the models with a price."""
    from optio.model.prices import price_list  # imported only for a model that is none of the examples

    return [*examples, *(name.removesuffix("*") for name in price_list())]


def _similar(model: str, models: list[str]) -> str | None:
    """Return the known model that another spelling stands for: `Claude Sonnet 4.5`, `claude-4-5-sonnet`, `claude-sonet-4-5`.
    A name that differs by its version alone is a model that is not known here."""
    model, words = model.lower().partition("[")[0], _words(model.lower().partition("[")[0])
    namesake = next((name for name in models if _words(name) == words), None)
    if namesake is not None:
        return namesake if namesake != model else None
    families = {_family(name) for name in models}
    return suggest(model, models) if _family(model) not in families else None


def _words(model: str) -> list[str]:
    """Return the words and numbers of a name, without their order and those that tell no two models apart."""
    return sorted(word for word in re.findall(r"[a-z]+|\d+", model) if word not in ("claude", "latest"))


def _family(model: str) -> str:
    return "".join(word for word in _words(model) if not word.isdigit())


def _provider(model: str) -> str | None:
    return next((name for name, begins in _PROVIDERS.items() if model.lower().startswith(begins)), None)


def _other_agent(task: ResolvedTask, model: str, service: ModelService) -> str:
    """Return the hint for a model of another maker than that of the agent's service."""
    agent, own_model = _agent_of(model), f"a model of {service.maker} such as `{service.models[0]}`"
    if agent is None:
        return f"write {own_model}"
    if _has_key(task, agent):
        return f"write `agentRuntime: {agent}`, whose credential the task has, or {own_model}"
    return f"write {own_model}, or `agentRuntime: {agent}` with its own credential"


def _provider_of(task: ResolvedTask, model: str) -> Iterator[Diagnostic]:
    """Report a model for OpenCode that names no provider, one such as `antropic`, or that of another maker."""
    prefix, slash, name = model.partition("/")
    provider = _provider(name if slash else model)
    # A task with the key of another provider may mean that one, which has names of its own.
    is_routed = "OPENROUTER_API_KEY" in task.spec.environment.secrets
    code, message, better = "OPT607", "", None
    if not slash:
        message = f"`{model}` names no provider: OpenCode takes `PROVIDER/MODEL`"
        better = None if provider is None or is_routed or model in _ALIASES else f"{provider}/{model}"
    elif not any(variable.endswith(_ELSEWHERE) for variable in task.spec.environment.env):
        providers = (*_MAKERS, *sorted(_KEYED_PROVIDERS))
        similar = suggest(prefix.lower(), providers) if prefix not in providers else None
        if prefix in _MAKERS and provider not in (None, prefix):
            message, better = f"`{name}` is a model of another provider than `{prefix}`", f"{provider}/{name}"
        elif similar is not None and _provider(name) in (None, similar):
            code, better = "OPT621", f"{similar}/{name}"
            message = f"`{prefix}` is not among the known providers of `opencode`"
    if message:
        hint = f"write `{better}`" if better else "write its provider before it, as in `anthropic/claude-sonnet-4-5`"
        yield task.at(code, message, ("model",), hint=hint, value=better, safe=False)


def _whole_endpoint(task: ResolvedTask) -> Iterator[Diagnostic]:
    """Report an address of a model service that ends in what its clients add themselves."""
    for name, address in task.spec.environment.env.items():
        match = re.search(_ENDPOINT, address) if name.endswith(("BASE_URL", "API_BASE")) else None
        tail = None if match is None else match[0].rstrip("/")
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
    if address is None:
        return
    if "//api.anthropic.com" in address and kind is None:
        message = "`copilot` takes the service to speak OpenAI's chat completions, and Anthropic's does not"
        yield task.at("OPT607", message, route, key=True, hint="add `COPILOT_PROVIDER_TYPE: anthropic` beside it")
    if task.spec.model is None:
        message = "`copilot` asks this service for a model that the task does not name"
        example = "claude-sonnet-4-5" if kind == "anthropic" else "gpt-5"
        yield task.at("OPT607", message, route, key=True, hint=f"add `model: {example}` to the task, or another name")


def check_credential(task: ResolvedTask) -> Iterator[Diagnostic]:
    """Report a task without a credential for the model service of its agent, and without a variable that may name another
    service."""
    environment, runtime = task.spec.environment, task.spec.agent_runtime
    names = {*environment.secrets, *environment.env}
    usual = _usual_credential(task, names)
    if usual is None:
        return
    key, credentials = usual
    fitting = [name for name in names if re.match(credentials, name) and not re.fullmatch(_NO_CREDENTIAL, name)]
    routes: tuple[Route, ...] = (("agentRuntime",), ("environment", "secrets"), ("environment", "env"))
    is_known = all(task.is_known(route) for route in routes)
    if fitting or not is_known or _is_signed_in_elsewhere(task) or task.has_model_service:
        return
    agent = declaration_of(runtime)
    title = runtime if agent is None else agent.title
    list_text = ", ".join(dict.fromkeys([key, *environment.secrets]))
    hint = f"add `environment: {{secrets: [{list_text}]}}`, or another credential of {title}"
    if environment.secrets:
        hint = f"write `secrets: [{list_text}]`, or add another credential of {title}"
    message = f"no credential of this task lets {title} reach its model"
    yield task.at("OPT525", message, ("environment", "secrets"), key=True, hint=hint)


def _usual_credential(task: ResolvedTask, names: set[str]) -> tuple[str, str] | None:
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
        address = spec.environment.env.get("COPILOT_PROVIDER_BASE_URL")
        is_githubs = address is None and not names.isdisjoint(("GITHUB_TOKEN", "GH_TOKEN"))
        if address is None or re.match(r"https://[\w-]+\.(?!svc\b|local\b|internal\b)", address):
            key = "COPILOT_GITHUB_TOKEN" if is_githubs else "COPILOT_PROVIDER_API_KEY"
            return key, r"COPILOT_(?:PROVIDER_(?:API_KEY|BEARER_TOKEN)|GITHUB_TOKEN)$"
    return None


def _is_signed_in_elsewhere(task: ResolvedTask) -> bool:
    """Return True if the model belongs to another agent, whose credential the task has: then the agent is the mistake."""
    other_agent, agent = _agent_of(task.spec.model or ""), declaration_of(task.spec.agent_runtime)
    if other_agent is None or agent is None or agent.service is None:
        return False
    return other_agent != task.spec.agent_runtime and _has_key(task, other_agent)


def _agent_of(model: str) -> str | None:
    """Return the agent that asks the maker of a model, by the beginning of the model's name."""
    maker = _MAKERS.get(_provider(model) or "")
    agents = (agent.name for agent in DECLARED.values() if agent.service is not None and agent.service.maker == maker)
    return next(agents, None) if maker is not None else None


def _has_key(task: ResolvedTask, agent: str) -> bool:
    service = DECLARED[agent].service
    return service is not None and any(re.match(service.credentials, name) for name in task.spec.environment.secrets)
