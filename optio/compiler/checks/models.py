"""Check `model` against the names that the service of the agent offers. Lists of models are never complete, so only clear
mistakes are reported: another maker's model, and names close to a known one."""

import re
from collections.abc import Iterator

from optio.compiler.diagnostics import Diagnostic
from optio.compiler.resolved_task import ResolvedTask
from optio.compiler.suggest import suggest
from optio.model.prompt import PLACEHOLDER
from optio.model.runtimes import DECLARED, declaration_of, service_of

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


def check(task: ResolvedTask) -> Iterator[Diagnostic]:
    """Report a model that the agent's service cannot have. Unknown names pass, and so does every name where a variable sends
    the agent to another service."""
    spec = task.spec
    if spec.model is None or PLACEHOLDER.search(spec.model):
        return
    if not _NAME.fullmatch(spec.model):
        bare = spec.model.strip(" ;,.'\"`")
        if " " in bare and re.search("sonnet|opus|haiku", bare, re.IGNORECASE):
            bare = _spelled(re.sub(r"\s+", "-", bare))
        if bare != spec.model and _NAME.fullmatch(bare):
            yield task.at(
                "OPT105", "`model` is not a valid model name", ("model",), hint=f"write `{bare}`", value=bare, safe=False
            )
            return
        hint = "write a name such as `sonnet`: letters, digits and, behind the first, `.`, `_`, `-`, `:`, `/`, `@` and `+`"
        yield task.at("OPT105", "`model` is not a valid model name", ("model",), hint=hint)
        return
    runtime = declaration_of(spec.agent_runtime)
    if not (task.is_known(("model",)) and task.is_known(("agentRuntime",))):
        return
    if spec.agent_runtime == "opencode" and "/" not in spec.model:
        message, value = f"`{spec.model}` names no provider: OpenCode takes `PROVIDER/MODEL`", _with_provider(task, spec.model)
        hint = f"write `{value}`" if value else "write its provider before it, as in `anthropic/claude-sonnet-4-5`"
        yield task.at("OPT607", message, ("model",), hint=hint, value=value, safe=False)
    if runtime is None or runtime.service is None:
        return
    maker, examples = runtime.service.maker, runtime.service.models
    if spec.model in examples or (maker == "Anthropic" and spec.model.lower() in _ALIASES):
        return
    known = next((name for name, begins in _MAKERS if spec.model.lower().startswith(begins)), None)
    elsewhere = any(name.endswith(_ELSEWHERE) for name in (*spec.environment.env, *spec.environment.secrets))
    if elsewhere:
        return
    if known == maker:
        if re.fullmatch(_UNNAMED, spec.model):
            hint = "write `sonnet`, `opus` or `haiku`, or the whole name of a model such as `claude-sonnet-4-5`"
            yield task.at("OPT607", f"`{spec.model}` does not name a model family of Claude", ("model",), hint=hint)
        elif (spelled := _spelled(spec.model)) != spec.model:
            message = f"`{spec.agent_runtime}` knows no model `{spec.model}`"
            yield task.at("OPT607", message, ("model",), hint=f"did you mean `{spelled}`?", value=spelled, safe=False)
    elif known is not None:
        its = next((each.name for each in DECLARED.values() if each.service is not None and each.service.maker == known), None)
        message = f"`{spec.model}` is a model of {known}, and `{spec.agent_runtime}` asks {maker}"
        hint = f"write a model of {maker} such as `{examples[0]}`"
        hint += f", or `agentRuntime: {its}`" if its is not None else ""
        yield task.at("OPT607", message, ("model",), hint=hint)
    elif (meant := suggest(spec.model.lower(), examples)) is not None:
        message = f"`{spec.agent_runtime}` knows no model `{spec.model}`"
        yield task.at("OPT607", message, ("model",), hint=f"did you mean `{meant}`?", value=meant, safe=False)


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
    exact = re.fullmatch(r"(?:claude-)?(sonnet|opus|haiku)-?([0-9])[.-]([0-9].*)", name)
    if exact is not None:
        return f"claude-{exact[1]}-{exact[2]}-{exact[3]}"
    if family is not None and re.search(r"^(?:sonnet|opus|haiku)-?[0-9]|[0-9]\.[0-9]", name):
        return family[0]
    return re.sub(r"^(gpt|gemini)(?=[0-9])", r"\1-", name)


def check_credential(task: ResolvedTask) -> Iterator[Diagnostic]:
    """Report a task without a credential for the model service of its agent, and without a variable that may name another
    service. The pipeline calls it for pods, and `pedantic` for every executor."""
    environment = task.spec.environment
    service = service_of(task.spec.agent_runtime, task.spec.model)
    if service is None:
        return
    known = all(task.is_known(route) for route in (("agentRuntime",), ("environment", "secrets"), ("environment", "env")))
    named = [*environment.secrets, *environment.env]
    if known and not any(re.match(service.credentials, name) for name in named):
        from optio.compiler.checks.secrets_use import of_other_agents  # imported only for a file with a mistake

        agent = declaration_of(task.spec.agent_runtime)
        title = task.spec.agent_runtime if agent is None else agent.title
        message = f"no credential: {title} cannot reach its model"
        others = of_other_agents(task)
        secrets = ", ".join([service.key, *(name for name in environment.secrets if name not in others)])
        hint = f"add `environment: {{secrets: [{secrets}]}}`, or another credential of {title}"
        if environment.secrets:
            hint = f"write `secrets: [{secrets}]`, or add another credential of {title}"
        yield task.at("OPT525", message, ("environment", "secrets"), key=True, hint=hint)
