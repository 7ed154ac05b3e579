"""The agent CLIs that there are, as data: how each is found and installed, the service of its models, and who enforces its
limits. The compiler, the executors, `doctor` and the manual read it; `optio.runtimes` runs them."""

from collections.abc import Mapping
from typing import Literal, NamedTuple

from optio import plugins


class Program(NamedTuple):
    """The executable of an agent CLI: its name on PATH, the npm package that installs it, and the version that the tests run.

    `natives` are the places of the native program below `node_modules`, with `{arch}` (`x64`, `arm64`) or
    `{machine}` (`x86_64`, `aarch64`) for the processor. npm
    puts a launcher on PATH, which ends before the agent does and passes no signals on.
    """

    name: str
    package: str
    tested: str
    natives: tuple[str, ...] = ()

    @property
    def install(self) -> str:
        """Return the command that installs the program."""
        return f"npm install -g {self.package}"


class ModelService(NamedTuple):
    """The service that an agent CLI asks by itself: the maker of its models with examples of their names, its host, and how the
    CLI signs in.

    `provider` is its name in traces, after OpenTelemetry's conventions, and `keys` are the variables of an API key, the usual
    one first. Two regular expressions are for names of variables: `credentials`, matched at the beginning, for all by which the
    CLI may sign in, and `elsewhere`, for a whole name, for those that point it to another service. `root` is where the paths
    begin that the CLI appends to an endpoint.
    """

    maker: str
    provider: str
    models: tuple[str, ...]
    host: str
    keys: tuple[str, ...]
    credentials: str
    elsewhere: str
    root: str = ""

    @property
    def url(self) -> str:
        """Return the endpoint that the CLI asks by itself."""
        return f"https://{self.host}{self.root}"

    @property
    def key(self) -> str:
        """Return the variable of the usual credential."""
        return self.keys[0]


# Who ends a run at a limit: the CLI itself; Optio, after the model call that exceeds it; or Optio by what a program reports.
Enforcer = Literal["cli", "meter", "report"]


# The JSON Schemas to which an agent CLI holds its answer: those of common keywords, or those that OpenAI calls strict.
SchemaKind = Literal["common", "strict"]
# What an agent CLI does not pass on as text: a prompt that begins with `/` is a command to it, and `@path` stands for the text
# of a file. Its runtime prevents both.
Misreading = Literal["command", "mention"]


class PromptTraits(NamedTuple):
    """The longest prompt that an agent CLI takes, in characters or in bytes of UTF-8, None where no limit is known, and what it
    misreads in a prompt that it is given as it is. A run with a longer prompt is refused before it exists."""

    max_characters: int | None = None
    max_bytes: int | None = None
    misreads: tuple[Misreading, ...] = ()

    def why_too_long(self, prompt: str) -> str | None:
        """Return the limit that the prompt exceeds, in words; None if it exceeds none."""
        if self.max_characters is not None and len(prompt) > self.max_characters:
            return f"{len(prompt):,} characters, more than {self.max_characters:,}"
        # No character has more than four bytes.
        if self.max_bytes is not None and 4 * len(prompt) > self.max_bytes:
            size = len(prompt.encode("utf-8", "surrogatepass"))
            return f"{size:,} bytes, more than {self.max_bytes:,}" if size > self.max_bytes else None
        return None


class Capabilities(NamedTuple):
    """The abilities of an agent CLI: who enforces `maxTurns` and `budgetUsd`, whether it tells its cost itself, whether a new
    process can `resume` the session of one that broke off (see `AttemptContext.session`), and which `schema` for its answer it
    takes, if any."""

    max_turns: Enforcer
    budget: Enforcer
    tells_cost: bool
    resume: bool = False
    schema: SchemaKind | None = None


class Declaration(NamedTuple):
    """The facts of a runtime. `title` is its name for people. `program` is None where a task names its own; `service` is None
    where the agent asks whichever service it is told. `prompt` says which prompts it takes. A run is refused if one of its
    secrets has fewer characters than `shortest_secret`."""

    name: str
    title: str
    program: Program | None
    service: ModelService | None
    capabilities: Capabilities
    shortest_secret: int = 0
    prompt: PromptTraits = PromptTraits()


DECLARED: Mapping[str, Declaration] = {
    declaration.name: declaration
    for declaration in (
        Declaration(
            name="claude-code",
            title="Claude Code",
            program=Program(
                name="claude",
                package="@anthropic-ai/claude-code",
                tested="2.1.331",
                natives=("@anthropic-ai/claude-code-linux-{arch}/claude",),
            ),
            service=ModelService(
                maker="Anthropic",
                provider="anthropic",
                models=("sonnet", "opus", "haiku", "default", "opusplan", "claude-sonnet-4-5", "claude-opus-4-5"),
                host="api.anthropic.com",
                keys=("ANTHROPIC_API_KEY",),
                credentials=r"ANTHROPIC_|CLAUDE_CODE_(?:OAUTH_TOKEN|USE_)|AWS_",
                elsewhere=r"ANTHROPIC_\w*BASE_URL|CLAUDE_CODE_USE_\w+|ANTHROPIC_(?:FOUNDRY|VERTEX|BEDROCK)\w*",
            ),
            capabilities=Capabilities(max_turns="cli", budget="cli", tells_cost=True, resume=True, schema="common"),
            prompt=PromptTraits(misreads=("command", "mention")),
        ),
        Declaration(
            name="codex",
            title="Codex",
            program=Program(
                name="codex",
                package="@openai/codex",
                tested="0.169.0",
                natives=("@openai/codex-linux-{arch}/vendor/{machine}-unknown-linux-musl/bin/codex",),
            ),
            service=ModelService(
                maker="OpenAI",
                provider="openai",
                models=("gpt-5", "gpt-5-codex"),
                host="api.openai.com",
                keys=("OPENAI_API_KEY",),
                credentials=r"(?:CODEX|OPENAI)_API_KEY$",
                elsewhere=r"OPENAI_BASE_URL",
                root="/v1",
            ),
            capabilities=Capabilities(max_turns="meter", budget="meter", tells_cost=False, resume=True, schema="strict"),
            prompt=PromptTraits(max_characters=1 << 20),
        ),
        Declaration(
            name="copilot",
            title="Copilot",
            program=Program(
                name="copilot",
                package="@github/copilot",
                tested="1.0.102",
                natives=("@github/copilot-linux-{arch}/copilot",),
            ),
            service=None,
            capabilities=Capabilities(max_turns="meter", budget="meter", tells_cost=False, resume=True),
            # It replaces the value of its key wherever that stands in its events, in the names of their fields too.
            shortest_secret=8,
            # Its limit is the model's window, 128,000 tokens for a model that it does not know: those cannot be counted here.
            prompt=PromptTraits(misreads=("command",)),
        ),
        Declaration(
            name="gemini",
            title="Gemini",
            program=Program(name="gemini", package="@google/gemini-cli", tested="0.61.0"),
            service=ModelService(
                maker="Google",
                provider="gcp.gemini",
                models=("gemini-2.5-pro", "gemini-2.5-flash"),
                host="generativelanguage.googleapis.com",
                keys=("GEMINI_API_KEY",),
                credentials=r"GEMINI_API_KEY$",
                elsewhere=r"GOOGLE_GEMINI_BASE_URL",
            ),
            capabilities=Capabilities(max_turns="cli", budget="meter", tells_cost=False, resume=True),
            # It cuts a longer one off, and ends well without asking the model.
            prompt=PromptTraits(max_bytes=8 << 20, misreads=("command", "mention")),
        ),
        Declaration(
            name="opencode",
            title="OpenCode",
            program=Program(
                name="opencode",
                package="opencode-ai",
                tested="1.18.33",
                # The first runs on processors without AVX2 as well, and is as quick.
                natives=("opencode-linux-{arch}-baseline/bin/opencode", "opencode-linux-{arch}/bin/opencode"),
            ),
            service=None,
            capabilities=Capabilities(max_turns="meter", budget="meter", tells_cost=True, resume=True),
        ),
        Declaration(
            name="command",
            title="a program of your own",
            program=None,
            service=None,
            capabilities=Capabilities(max_turns="report", budget="report", tells_cost=True),
        ),
    )
}


def _provider(runtime: str, root: str, *keys: str) -> ModelService:
    service = DECLARED[runtime].service
    assert service is not None  # noqa: S101
    # Variables that begin with OPENCODE_ give it other settings and logins.
    return service._replace(
        keys=keys, credentials=f"(?:{'|'.join(keys)})$|OPENCODE_", elsewhere=r"\w+_BASE_URL|OPENCODE_\w+", root=root
    )


# The services of the providers whose protocol and credential OpenCode knows by itself. `model` names one before its slash.
PROVIDERS: Mapping[str, ModelService] = {
    "anthropic": _provider("claude-code", "/v1", "ANTHROPIC_API_KEY"),
    "openai": _provider("codex", "/v1", "OPENAI_API_KEY"),
    "google": _provider("gemini", "/v1beta", "GEMINI_API_KEY", "GOOGLE_API_KEY", "GOOGLE_GENERATIVE_AI_API_KEY"),
}


def service_of(runtime: str, model: str | None) -> ModelService | None:
    """Return the service that an agent asks by itself, for OpenCode by the provider of its model; None where none is known."""
    if runtime == "opencode":
        return PROVIDERS.get((model or "").partition("/")[0])
    agent = declaration_of(runtime)
    return None if agent is None else agent.service


def provider_key(model: str) -> str:
    """Return the variable in which OpenCode looks for the key of a provider that it does not list."""
    provider = model.partition("/")[0]
    return "".join(c if c.isalnum() else "_" for c in provider).upper() + "_API_KEY"


def key_pattern(runtime: str, model: str | None) -> str | None:
    """Return a pattern for the names of variables by which an agent signs in at the endpoint of its model; None where it is not
    known."""
    service = service_of(runtime, model)
    if service is not None:
        return service.credentials
    if runtime == "copilot":
        return "COPILOT_PROVIDER_API_KEY$"
    return None if runtime != "opencode" or model is None else f"{provider_key(model)}$"


def key_variables(runtime: str, model: str | None) -> tuple[str, ...]:
    """Return the variables in which an agent looks for the API key of its model's endpoint; none where that is not known."""
    service = service_of(runtime, model)
    if service is not None:
        return service.keys
    if runtime == "copilot":
        return ("COPILOT_PROVIDER_API_KEY",)
    return () if runtime != "opencode" or model is None else (provider_key(model),)


def is_known(name: str) -> bool:
    """Return whether Optio or an installed package brings a runtime of this name."""
    return name in DECLARED or name in plugins.names()


def known_names() -> tuple[str, ...]:
    """Return the names of all runtimes, those of installed packages at the end."""
    return (*DECLARED, *(name for name in plugins.names() if name not in DECLARED))


def declaration_of(name: str) -> Declaration | None:
    """Return the facts of a runtime; None for one that is unknown or cannot be loaded."""
    if name in DECLARED or name not in plugins.names():
        return DECLARED.get(name)
    try:
        declaration: Declaration = plugins.load(name).declaration
    except plugins.BrokenPlugin:
        return None
    return declaration
